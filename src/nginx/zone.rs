//! Shared memory: one zone of nginx for each hub.
//!
//! nginx's slab header stays at the zone's start, because the master looks at it when a worker
//! dies; the hub's region is one allocation of all pages behind it. A zone of the same name and
//! size is taken over at a reload; of another, nginx makes a new one beside it.

mod size;

use super::bits;
use super::core_conf::worker_processes;
use super::guard::guarded;
use super::log::{self, Level};
use super::pool::{bytes, copied, keep, NoMemory};
use crate::hub::Region;
use nginx_sys::{
    ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_int_t, ngx_pagesize, ngx_pagesize_shift,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t, ngx_str_t, NGX_ERROR,
    NGX_OK,
};
use std::ffi::c_void;
use std::rc::Rc;

/// Who lives in a zone.
pub trait ZoneOwner {
    /// Called in the master when the zone is there, before any worker of this configuration.
    fn move_in(&self, arrival: ReadyZone) -> Result<(), String>;

    /// Whether a zone of this name in the configuration before was of the same tenant.
    fn lived_in(&self, zone: &[u8]) -> bool;
}

/// A zone that is there.
pub struct ReadyZone {
    pub region: Region,
    pub found: ZoneContents,
    /// How many workers this configuration has.
    pub workers: usize,
}

/// In what state a zone is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneContents {
    /// As the configuration before left it.
    Kept,
    /// Empty, and there was none for this tenant.
    New,
    /// Empty, and another one of this tenant is left behind.
    Replaced,
}

struct Lease {
    tenant: Rc<dyn ZoneOwner>,
    cycle: *mut ngx_cycle_t,
}

/// The zone's size that leaves `room` bytes for its tenant on this machine.
pub fn size_for(room: usize) -> usize {
    // SAFETY: a plain number, which nginx sets before it reads any configuration.
    size::size_for(room, unsafe { ngx_pagesize })
}

/// Asks nginx for a zone.
///
/// # Safety
/// `cf` is the configuration that nginx is reading.
pub(super) unsafe fn add(
    cf: *mut ngx_conf_t,
    name: &str,
    size: usize,
    tenant: Rc<dyn ZoneOwner>,
) -> Result<(), NoMemory> {
    // SAFETY: the caller vouches for the configuration.
    let (pool, cycle) = unsafe { ((*cf).pool, (*cf).cycle) };
    // SAFETY: the pool lives as long as the configuration's cycle.
    let mut name = unsafe { copied(pool, name.as_bytes()) }?;
    let tag = super::this_module::this_module().cast_mut().cast();
    // SAFETY: the name lies in the cycle's pool.
    let zone = unsafe { ngx_shared_memory_add(cf, &mut name, size, tag) };
    if zone.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: the pool lives as long as the zone is in use.
    let lease = unsafe { keep(pool, Lease { tenant, cycle }) }?;
    // SAFETY: the zone was just made by nginx.
    unsafe {
        (*zone).data = lease.as_ptr().cast();
        (*zone).init = Some(init);
    }
    Ok(())
}

unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx hands over a zone that `add` set up, mapped by now.
        let (lease, log) = unsafe { (&*(*zone).data.cast::<Lease>(), (*zone).shm.log) };
        // SAFETY: as above.
        let region = match unsafe { region(zone, old) } {
            Ok(region) => region,
            Err(what) => {
                // SAFETY: the zone's log is the new cycle's.
                unsafe { log::write_to(log, Level::Emerg, format_args!("sse: {what}")) };
                return NGX_ERROR as ngx_int_t;
            }
        };
        let found = match (region.1, old_names().any(|name| lease.tenant.lived_in(name))) {
            (Age::Old, _) => ZoneContents::Kept,
            (Age::New, true) => ZoneContents::Replaced,
            (Age::New, false) => ZoneContents::New,
        };
        // SAFETY: by now nginx has read the main context of the lease's cycle.
        let workers = unsafe { worker_processes(lease.cycle) };
        match lease.tenant.move_in(ReadyZone { region: region.0, found, workers }) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(what) => {
                // SAFETY: as above.
                unsafe { log::write_to(log, Level::Emerg, format_args!("sse: {what}")) };
                NGX_ERROR as ngx_int_t
            }
        }
    })
}

enum Age {
    New,
    Old,
}

/// # Safety
/// `zone` is mapped and has a slab header.
unsafe fn region(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> Result<(Region, Age), String> {
    // SAFETY: the caller vouches for the zone.
    let slab: *mut ngx_slab_pool_t = unsafe { (*zone).shm.addr }.cast();
    // SAFETY: plain numbers that nginx has set.
    let shift = unsafe { ngx_pagesize_shift };
    // SAFETY: as above.
    let taken_over = !old.is_null() || unsafe { (*zone).shm.exists } != 0;
    if !taken_over {
        // SAFETY: nobody else knows the zone yet. All pages are free and lie in one piece; they
        // are not touched, so that memory is used only as it is filled.
        unsafe {
            bits::slab_pool::set_log_nomem(slab, 0);
            (*slab).data = ngx_slab_alloc(slab, (*slab).pfree << shift);
        }
    }
    // SAFETY: as above.
    let (start, end) = unsafe { ((*slab).data.cast::<u8>(), (*slab).end) };
    if start.is_null() {
        return Err("a zone has no free pages".to_owned());
    }
    let length = ((end as usize).saturating_sub(start as usize) >> shift) << shift;
    // SAFETY: the pages are allocated to us; nginx keeps a zone mapped as long as a cycle uses it,
    // and processes of older cycles keep their own mapping of it until they end.
    let region = unsafe { Region::from_raw(start, length) };
    Ok((region, if taken_over { Age::Old } else { Age::New }))
}

/// The names of the zones of the configuration that is still in use.
fn old_names() -> impl Iterator<Item = &'static [u8]> {
    // SAFETY: while nginx sets up a new cycle, ngx_cycle is the one before, or an empty one.
    let mut part = unsafe { &raw const (*ngx_cycle).shared_memory.part };
    let mut index = 0;
    std::iter::from_fn(move || loop {
        if part.is_null() {
            return None;
        }
        // SAFETY: a part of the list of zones.
        let (zones, count) = unsafe { ((*part).elts.cast::<ngx_shm_zone_t>(), (*part).nelts) };
        if index >= count {
            // SAFETY: as above; the last part's `next` is null.
            part = unsafe { (*part).next };
            index = 0;
            continue;
        }
        // SAFETY: the part has `count` zones, whose names live as long as their cycle.
        let name: &ngx_str_t = unsafe { &(*zones.add(index)).shm.name };
        index += 1;
        // SAFETY: as above.
        return Some(unsafe { bytes(name) });
    })
}
