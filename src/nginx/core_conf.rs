//! What nginx's core configuration and the process say: number of workers, time to shut down, what
//! kind of process this is; and nginx's own reading of sizes and times.

use nginx_sys::{
    ngx_core_conf_t, ngx_core_module, ngx_cycle, ngx_cycle_t, ngx_msec_t, ngx_parse_size,
    ngx_parse_time, ngx_process, ngx_str_t, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER,
};

const UNSET: ngx_msec_t = ngx_msec_t::MAX;

/// Whether this process serves requests: a worker, or the only process. nginx also calls modules
/// in its cache processes, which never see a client.
pub fn serves_requests() -> bool {
    // SAFETY: a plain number that nginx sets before any module's process begins.
    let kind = unsafe { ngx_process } as u32;
    kind == NGX_PROCESS_WORKER || kind == NGX_PROCESS_SINGLE
}

/// `worker_shutdown_timeout` in ms, if there is one.
pub fn shutdown_timeout() -> Option<u64> {
    // SAFETY: in a running process ngx_cycle points to the cycle in use.
    let timeout = unsafe { core_conf(ngx_cycle)?.as_ref() }.shutdown_timeout;
    (timeout != UNSET && timeout != 0).then_some(timeout as u64)
}

/// The number of workers of a configuration whose main context has been read.
///
/// # Safety
/// `cycle` points to a cycle that nginx is setting up or using.
pub(super) unsafe fn worker_processes(cycle: *mut ngx_cycle_t) -> usize {
    // SAFETY: the caller vouches for the cycle.
    let conf = unsafe { core_conf(cycle) };
    // SAFETY: a configuration of a living cycle.
    conf.map_or(1, |conf| unsafe { conf.as_ref() }.worker_processes.max(1) as usize)
}

/// # Safety
/// As for `worker_processes`.
unsafe fn core_conf(cycle: *mut ngx_cycle_t) -> Option<std::ptr::NonNull<ngx_core_conf_t>> {
    // SAFETY: the caller vouches for the cycle.
    let contexts = unsafe { (*cycle).conf_ctx };
    if contexts.is_null() {
        return None;
    }
    // SAFETY: the array has a place for each module of the binary, the core module first of all.
    let conf = unsafe { *contexts.add(ngx_core_module.index) };
    std::ptr::NonNull::new(conf.cast())
}

/// A size as nginx reads it (`8k`, `1m`), in bytes.
pub fn parse_size(text: &[u8]) -> Option<usize> {
    let mut text = borrowed(text);
    // SAFETY: the function only reads the bytes of the string.
    let size = unsafe { ngx_parse_size(&mut text) };
    usize::try_from(size).ok()
}

/// A time as nginx reads it (`500ms`, `1h 30m`; without a unit: seconds), in ms.
pub fn parse_time(text: &[u8]) -> Option<u64> {
    let mut text = borrowed(text);
    // SAFETY: the function only reads the bytes of the string.
    let time = unsafe { ngx_parse_time(&mut text, 0) };
    u64::try_from(time).ok()
}

fn borrowed(text: &[u8]) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}
