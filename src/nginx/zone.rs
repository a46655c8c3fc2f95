//! Shared memory: each hub has a zone of nginx.
//!
//! nginx's slab header stays at the start of the zone, because the master unlocks its mutex when a
//! worker dies. The hub's region is a single slab allocation of all pages behind it. On a reload,
//! nginx keeps a zone if its name and size are unchanged; otherwise, it creates a new zone.

mod size;

use super::bits;
use super::core_conf::{is_only_process, worker_processes};
use super::guard::guarded;
use super::log::{self, Level};
use super::pool::{bytes, copied, keep, NoMemory};
use crate::hub::Region;
use nginx_sys::{
    ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_int_t, ngx_pagesize, ngx_pagesize_shift,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t, NGX_ERROR, NGX_OK,
};
use std::cell::OnceCell;
use std::ffi::c_void;
use std::rc::Rc;

/// The owner of a zone.
pub trait ZoneOwner {
    /// Called in the master when the zone is mapped, before it starts the workers of this
    /// configuration.
    fn use_zone(&self, zone: ReadyZone) -> Result<(), String>;

    /// Returns whether a zone of this name in the previous configuration belonged to the same
    /// owner.
    fn owned(&self, zone: &[u8]) -> bool;
}

/// A zone that is mapped.
pub struct ReadyZone {
    pub region: Region,
    pub contents: ZoneContents,
    /// The number of workers in this configuration.
    pub workers: usize,
}

/// The state of a zone when it becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneContents {
    /// Kept from the previous configuration.
    Kept,
    /// Empty; the owner had no zone before.
    New,
    /// Empty; it replaces a zone of the same owner.
    Replaced,
}

/// The `data` of a zone.
struct ZoneData {
    owner: Rc<dyn ZoneOwner>,
    /// The zone's size in bytes.
    length: usize,
    cycle: *mut ngx_cycle_t,
    /// The pages that are allocated in the zone. They are remembered here, because the zone's own
    /// header can be damaged by the time of a reload. Empty until the zone is mapped.
    allocation: OnceCell<Region>,
}

/// Returns the size in bytes of a zone in which `usable` bytes remain for the owner on this
/// machine.
pub fn size_for(usable: usize) -> usize {
    // SAFETY: an integer that nginx sets before it reads any configuration.
    size::size_for(usable, unsafe { ngx_pagesize })
}

/// Adds a zone to the configuration (`ngx_shared_memory_add`).
///
/// # Safety
/// `cf` is the configuration that nginx is reading.
pub(super) unsafe fn add(
    cf: *mut ngx_conf_t,
    name: &str,
    size: usize,
    owner: Rc<dyn ZoneOwner>,
) -> Result<(), NoMemory> {
    // SAFETY: the caller vouches for the configuration.
    let (pool, cycle) = unsafe { ((*cf).pool, (*cf).cycle) };
    // SAFETY: the pool lives as long as the configuration's cycle.
    let mut name = unsafe { copied(pool, name.as_bytes()) }?;
    let tag = super::this_module::this_module().cast_mut().cast();
    // SAFETY: the name is in the cycle's pool.
    let zone = unsafe { ngx_shared_memory_add(cf, &mut name, size, tag) };
    if zone.is_null() {
        return Err(NoMemory);
    }
    let data = ZoneData { owner, length: size, cycle, allocation: OnceCell::new() };
    // SAFETY: the pool lives as long as the zone is in use.
    let data = unsafe { keep(pool, data) }?;
    // SAFETY: nginx has just created the zone.
    unsafe {
        (*zone).data = data.as_ptr().cast();
        (*zone).init = Some(init);
    }
    Ok(())
}

unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a zone that `add` has set up, and has mapped it.
        let (data, log) = unsafe { (&*(*zone).data.cast::<ZoneData>(), (*zone).shm.log) };
        // SAFETY: as above.
        let region = match unsafe { region(zone, old) } {
            Ok(region) => region,
            Err(what) => {
                // SAFETY: the zone's log is the new cycle's.
                unsafe { log::write_to(log, Level::Emerg, format_args!("sse: {what}")) };
                return NGX_ERROR as ngx_int_t;
            }
        };
        let _ = data.allocation.set(region.0.clone());
        let contents = match (region.1, old_names().any(|name| data.owner.owned(name))) {
            (Age::Old, _) => ZoneContents::Kept,
            (Age::New, true) => ZoneContents::Replaced,
            (Age::New, false) => ZoneContents::New,
        };
        // SAFETY: nginx has read the main context of the zone's cycle.
        let workers = unsafe { worker_processes(data.cycle) };
        match data.owner.use_zone(ReadyZone { region: region.0, contents, workers }) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(what) => {
                // SAFETY: as above.
                unsafe { log::write_to(log, Level::Emerg, format_args!("sse: {what}")) };
                NGX_ERROR as ngx_int_t
            }
        }
    })
}

/// Whether a zone was taken over from the previous configuration.
enum Age {
    New,
    Old,
}

/// Returns the hub's region in a zone. In a new zone, allocates it.
///
/// # Safety
/// `zone` is mapped and has a slab header. `old` is null, or the data of the same zone in the
/// previous configuration.
unsafe fn region(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> Result<(Region, Age), String> {
    // SAFETY: the caller vouches for it: `add` has set it, because nginx compares the tags of
    // zones.
    let known = unsafe { old.cast::<ZoneData>().as_ref() }.and_then(|old| old.allocation.get());
    if let Some(region) = known {
        return Ok((region.clone(), Age::Old));
    }
    // SAFETY: the caller vouches for the zone.
    let slab: *mut ngx_slab_pool_t = unsafe { (*zone).shm.addr }.cast();
    // SAFETY: an integer that nginx sets before it reads any configuration.
    let shift = unsafe { ngx_pagesize_shift };
    // SAFETY: as above.
    let taken_over = !old.is_null() || unsafe { (*zone).shm.exists } != 0;
    if !taken_over {
        // SAFETY: no other process knows the zone yet. All pages are free and contiguous. They are
        // not written to, so that the kernel provides memory only as the zone fills.
        unsafe {
            bits::slab_pool::set_log_nomem(slab, 0);
            (*slab).data = ngx_slab_alloc(slab, (*slab).pfree << shift);
        }
    }
    // SAFETY: as above.
    let region = unsafe { allocated(slab) }?;
    Ok((region, if taken_over { Age::Old } else { Age::New }))
}

/// Returns the pages that `region` has allocated.
///
/// # Safety
/// The slab is that of a mapped zone of this module.
unsafe fn allocated(slab: *mut ngx_slab_pool_t) -> Result<Region, String> {
    // SAFETY: an integer that nginx sets before it reads any configuration.
    let shift = unsafe { ngx_pagesize_shift };
    // SAFETY: the caller vouches for the slab.
    let (start, end) = unsafe { ((*slab).data.cast::<u8>(), (*slab).end) };
    if start.is_null() {
        return Err("a zone has no free pages".to_owned());
    }
    let length = ((end as usize).saturating_sub(start as usize) >> shift) << shift;
    // SAFETY: the pages are allocated to the module. nginx keeps a zone mapped as long as a cycle
    // uses it, and processes of older cycles keep their own mapping until they exit.
    Ok(unsafe { Region::from_raw(start, length) })
}

/// Returns the names and the memory of this module's zones in the configuration that is still in
/// use.
pub fn running() -> impl Iterator<Item = (&'static [u8], Region)> {
    own_zones().filter_map(|(name, data)| Some((name, data.allocation.get()?.clone())))
}

/// Returns the names and the data of this module's zones in the configuration that is still in use.
fn own_zones() -> impl Iterator<Item = (&'static [u8], &'static ZoneData)> {
    old_zones().filter_map(|zone| {
        let tag: *mut c_void = super::this_module::this_module().cast_mut().cast();
        if zone.tag != tag || zone.shm.addr.is_null() {
            return None;
        }
        // SAFETY: the tag shows that `add` has set the data, which lives as long as the zone's
        // cycle.
        let data = unsafe { zone.data.cast::<ZoneData>().as_ref() }?;
        // SAFETY: the name lives as long, too.
        Some((unsafe { bytes(&zone.shm.name) }, data))
    })
}

/// Whether a reload to a configuration with these zones, given by their names and sizes, would unmap
/// memory that this process uses. Without a master process (`master_process off`), nginx unmaps the
/// zones that a new configuration does not have while the same process continues to serve requests.
pub fn would_be_unmapped(kept: &[(String, usize)]) -> bool {
    let is_lost = |(name, data): (&[u8], &ZoneData)| {
        !kept.iter().any(|(kept, size)| kept.as_bytes() == name && *size == data.length)
    };
    is_only_process() && own_zones().any(is_lost)
}

/// Returns the names of the zones of the configuration that is still in use.
fn old_names() -> impl Iterator<Item = &'static [u8]> {
    // SAFETY: names of zones live as long as their cycle.
    old_zones().map(|zone| unsafe { bytes(&zone.shm.name) })
}

/// Returns the zones of the configuration that is still in use.
fn old_zones() -> impl Iterator<Item = &'static ngx_shm_zone_t> {
    // SAFETY: while nginx sets up a new cycle, `ngx_cycle` is the previous one, or an empty one.
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
        // SAFETY: the part has `count` zones, which live as long as their cycle.
        let zone = unsafe { &*zones.add(index) };
        index += 1;
        return Some(zone);
    })
}
