//! nginx's memory pools: values that live as long as a pool, and strings.

use super::guard::guarded;
use nginx_sys::{ngx_pnalloc, ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// nginx could not allocate memory.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

/// Moves a value into a pool and returns its address. The value is dropped when the pool is
/// destroyed.
///
/// # Safety
/// `pool` is a living pool.
pub(super) unsafe fn keep<T: 'static>(
    pool: *mut ngx_pool_t,
    value: T,
) -> Result<NonNull<T>, NoMemory> {
    // nginx's pools align memory to a word.
    const { assert!(align_of::<T>() <= align_of::<usize>()) };
    // nginx allocates nothing for a size of zero.
    let size = size_of::<T>().max(1);
    // SAFETY: the caller vouches for the pool.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool, size) };
    let cleanup = NonNull::new(cleanup).ok_or(NoMemory)?;
    // SAFETY: the entry is new and has memory for the value, which `drop_kept::<T>` drops.
    unsafe {
        let address: *mut T = (*cleanup.as_ptr()).data.cast();
        address.write(value);
        (*cleanup.as_ptr()).handler = Some(drop_kept::<T>);
        NonNull::new(address).ok_or(NoMemory)
    }
}

/// Returns the bytes of an `ngx_str_t`.
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
    // SAFETY: the caller vouches for the pool. nginx allocates nothing for a length of zero.
    let data: *mut u8 = unsafe { ngx_pnalloc(pool, text.len().max(1)) }.cast();
    if data.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: the memory is new and long enough.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), data, text.len()) };
    Ok(ngx_str_t { len: text.len(), data })
}

unsafe extern "C" fn drop_kept<T>(data: *mut c_void) {
    // SAFETY: `keep` has stored a value of this type there; the pool calls this once.
    guarded((), || unsafe { data.cast::<T>().drop_in_place() });
}
