//! nginx's memory pools: values of ours that live as long as one, and strings in them.

use super::guard::guarded;
use nginx_sys::{ngx_pnalloc, ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// There was no memory left in nginx's pool.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

/// Keeps a value until the pool is destroyed, then drops it; gives its place.
///
/// # Safety
/// `pool` is a living pool.
pub(super) unsafe fn keep<T: 'static>(
    pool: *mut ngx_pool_t,
    value: T,
) -> Result<NonNull<T>, NoMemory> {
    // SAFETY: the caller vouches for the pool.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool, 0) };
    let cleanup = NonNull::new(cleanup).ok_or(NoMemory)?;
    let place = NonNull::from(Box::leak(Box::new(value)));
    // SAFETY: the entry was just made; `drop_kept::<T>` fits what it is given.
    unsafe {
        (*cleanup.as_ptr()).data = place.as_ptr().cast();
        (*cleanup.as_ptr()).handler = Some(drop_kept::<T>);
    }
    Ok(place)
}

/// The bytes of a string of nginx.
///
/// # Safety
/// The string's memory outlives `'a` and is not written meanwhile.
pub(super) unsafe fn bytes<'a>(text: &ngx_str_t) -> &'a [u8] {
    if text.data.is_null() || text.len == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for the string.
    unsafe { std::slice::from_raw_parts(text.data, text.len) }
}

/// Copies bytes into a pool.
///
/// # Safety
/// `pool` is a living pool.
pub(super) unsafe fn copied(pool: *mut ngx_pool_t, text: &[u8]) -> Result<ngx_str_t, NoMemory> {
    // SAFETY: the caller vouches for the pool. nginx gives no memory for a length of nought.
    let data: *mut u8 = unsafe { ngx_pnalloc(pool, text.len().max(1)) }.cast();
    if data.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: the memory is new and long enough.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), data, text.len()) };
    Ok(ngx_str_t { len: text.len(), data })
}

unsafe extern "C" fn drop_kept<T>(data: *mut c_void) {
    // SAFETY: `keep` leaked a box of this type; the pool calls this once.
    guarded((), || drop(unsafe { Box::from_raw(data.cast::<T>()) }));
}
