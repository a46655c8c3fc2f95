//! Values that nginx keeps for the module behind untyped pointers, with their type stored in front.

use super::pool::{self, NoMemory};
use nginx_sys::ngx_pool_t;
use std::any::TypeId;
use std::ffi::c_void;
use std::ptr::NonNull;

/// A value with its type in front.
#[repr(C)]
struct Typed<T> {
    type_id: TypeId,
    value: T,
}

/// Stores a value in a pool and returns its address, which `get` and `get_mut` accept. The value is
/// dropped with the pool.
///
/// # Safety
/// `pool` is a living pool.
pub(super) unsafe fn store<T: 'static>(
    pool: *mut ngx_pool_t,
    value: T,
) -> Result<NonNull<c_void>, NoMemory> {
    // SAFETY: the caller vouches for the pool.
    let place = unsafe { pool::keep(pool, Typed { type_id: TypeId::of::<T>(), value }) }?;
    Ok(place.cast())
}

/// Returns the value at an address, if there is one and it has this type.
///
/// # Safety
/// `place` is null or comes from `store`, and its pool outlives `'a`; nothing changes the value meanwhile.
pub(super) unsafe fn get<'a, T: 'static>(place: *const c_void) -> Option<&'a T> {
    if place.is_null() {
        return None;
    }
    // SAFETY: `store` wrote a `Typed`, which begins with its type, by which the rest is known.
    unsafe {
        let type_id: TypeId = place.cast::<TypeId>().read();
        (type_id == TypeId::of::<T>()).then(|| &(*place.cast::<Typed<T>>()).value)
    }
}

/// Returns the value at an address for changing it, if there is one and it has this type.
///
/// # Safety
/// As for `get`; nothing else reads or changes the value meanwhile.
pub(super) unsafe fn get_mut<'a, T: 'static>(place: *mut c_void) -> Option<&'a mut T> {
    // SAFETY: the caller vouches for the address.
    unsafe { get::<T>(place) }?;
    // SAFETY: `get` has seen that there is a value of this type.
    Some(unsafe { &mut (*place.cast::<Typed<T>>()).value })
}
