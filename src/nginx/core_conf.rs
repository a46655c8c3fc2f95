//! nginx's core configuration (number of workers, shutdown timeout), the kind of the process, and
//! nginx's parsers of sizes and times.

use nginx_sys::{
    ngx_core_conf_t, ngx_core_module, ngx_cycle, ngx_cycle_t, ngx_msec_t, ngx_parse_size,
    ngx_parse_time, ngx_process, ngx_str_t, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER,
};

const UNSET: ngx_msec_t = ngx_msec_t::MAX;

/// Whether this process serves requests: it is a worker, or the only process. nginx also calls
/// modules in its cache processes, which have no clients.
pub fn serves_requests() -> bool {
    // SAFETY: an integer that nginx sets before it calls a module's `init_process`.
    let kind = unsafe { ngx_process } as u32;
    kind == NGX_PROCESS_WORKER || kind == NGX_PROCESS_SINGLE
}

/// Whether this process is the only one (`master_process off`), or has not started others yet.
pub(super) fn is_only_process() -> bool {
    // SAFETY: an integer that nginx sets before it reads any configuration.
    let kind = unsafe { ngx_process } as u32;
    kind == NGX_PROCESS_SINGLE
}

/// Returns `worker_shutdown_timeout` in ms, if it is set.
pub fn shutdown_timeout() -> Option<u64> {
    // SAFETY: in a running process, `ngx_cycle` points to the current cycle.
    let timeout = unsafe { core_conf(ngx_cycle)?.as_ref() }.shutdown_timeout;
    (timeout != UNSET && timeout != 0).then_some(timeout as u64)
}

/// Returns the number of workers of a configuration whose main context has been read.
///
/// # Safety
/// `cycle` points to a cycle that nginx is setting up or using.
pub(super) unsafe fn worker_processes(cycle: *mut ngx_cycle_t) -> usize {
    // SAFETY: the caller vouches for the cycle.
    let conf = unsafe { core_conf(cycle) };
    // SAFETY: a configuration of a living cycle.
    conf.map_or(1, |conf| unsafe { conf.as_ref() }.worker_processes.max(1) as usize)
}

/// Returns the configuration of nginx's core module, if it has been created.
///
/// # Safety
/// `cycle` points to a cycle that nginx is setting up or using.
unsafe fn core_conf(cycle: *mut ngx_cycle_t) -> Option<std::ptr::NonNull<ngx_core_conf_t>> {
    // SAFETY: the caller vouches for the cycle.
    let contexts = unsafe { (*cycle).conf_ctx };
    if contexts.is_null() {
        return None;
    }
    // SAFETY: the array has an entry for each module, and the core module is always present.
    let conf = unsafe { *contexts.add(ngx_core_module.index) };
    std::ptr::NonNull::new(conf.cast())
}

/// Parses a size in nginx's notation (`8k`, `1m`). Returns bytes.
pub fn parse_size(text: &[u8]) -> Option<usize> {
    let mut text = borrowed(text);
    // SAFETY: the function only reads the bytes of the string.
    let size = unsafe { ngx_parse_size(&mut text) };
    usize::try_from(size).ok()
}

/// Parses a time in nginx's notation (`500ms`, `1h 30m`; without a unit, seconds). Returns ms.
pub fn parse_time(text: &[u8]) -> Option<u64> {
    let mut text = borrowed(text);
    // SAFETY: the function only reads the bytes of the string.
    let time = unsafe { ngx_parse_time(&mut text, 0) };
    u64::try_from(time).ok()
}

fn borrowed(text: &[u8]) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}
