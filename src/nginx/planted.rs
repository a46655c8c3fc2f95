//! Deliberate memory errors, which `scripts/test asan` commits to prove that its build would report
//! real ones. A request names one by its argument `fault`. Compiled with the feature `sanitized`
//! only.

use super::event::Event;
use super::request::Request;
use nginx_sys::{ngx_create_pool, ngx_destroy_pool, ngx_palloc, ngx_pnalloc};
use std::ffi::c_int;
use std::hint::black_box;

extern "C" {
    /// Adds to the largest number.
    fn ngx_sse_planted_overflow(by: c_int) -> c_int;
}

/// Commits the error that the request names, if any.
pub(super) fn commit(request: &Request) {
    match request.argument("fault") {
        Some(b"freed-allocation") => use_freed_allocation(request),
        Some(b"past-allocation") => read_past_allocation(request),
        Some(b"past-vector") => write_past_vector(),
        Some(b"ended-request") => use_ended_request(request),
        Some(b"arithmetic") => overflow(request),
        Some(b"assertion") => debug_assert!(request.raw().is_null(), "planted"),
        Some(b"undefined") => {
            // SAFETY: there is none; UndefinedBehaviorSanitizer reports it and continues.
            black_box(unsafe { ngx_sse_planted_overflow(1) });
        }
        _ => {}
    }
}

/// Reads an allocation of a pool that was destroyed.
fn use_freed_allocation(request: &Request) {
    // SAFETY: there is none for the last read.
    unsafe {
        let pool = ngx_create_pool(4096, (*request.connection()).log);
        let place: *mut u64 = ngx_palloc(pool, size_of::<u64>()).cast();
        place.write(1);
        ngx_destroy_pool(pool);
        black_box(place.read_volatile());
    }
}

/// Reads the byte behind an allocation of the request's pool.
fn read_past_allocation(request: &Request) {
    // SAFETY: there is none.
    unsafe {
        let place: *mut u8 = ngx_pnalloc((*request.raw()).pool, 17).cast();
        black_box(place.add(17).read_volatile());
    }
}

/// Writes the byte behind a vector.
fn write_past_vector() {
    let mut bytes = black_box(vec![0u8; 24]);
    // SAFETY: there is none.
    unsafe { bytes.as_mut_ptr().add(24).write_volatile(1) };
}

/// Reads the request in a later turn of the event loop, when it has ended.
fn use_ended_request(request: &Request) {
    let mut event = Event::new(
        |address, _| {
            let r: *const nginx_sys::ngx_http_request_t =
                std::ptr::with_exposed_provenance(address);
            // SAFETY: there is none.
            black_box(unsafe { (&raw const (*r).main).read_volatile() });
        },
        request.raw().expose_provenance(),
    );
    event.arm(500);
    // The timer ends with the process.
    std::mem::forget(event);
}

/// Computes a number that does not fit.
fn overflow(request: &Request) {
    let length = request.argument("fault").map_or(0, <[u8]>::len) as u8;
    black_box(black_box(u8::MAX) + length);
}
