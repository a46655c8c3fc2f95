//! Values that nginx stores for the module as untyped pointers. Their type is stored with them and
//! checked.

use super::pool::{self, NoMemory};
use nginx_sys::ngx_pool_t;
use std::any::TypeId;
use std::ffi::c_void;
use std::ptr::NonNull;

/// A value after its type's id.
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
    let address = unsafe { pool::keep(pool, Typed { type_id: TypeId::of::<T>(), value }) }?;
    Ok(address.cast())
}

/// Returns the value at an address, if there is one and it has this type.
///
/// # Safety
/// `address` is null or comes from `store`, and its pool outlives `'a`; nothing changes the value
/// during `'a`.
pub(super) unsafe fn get<'a, T: 'static>(address: *const c_void) -> Option<&'a T> {
    if address.is_null() {
        return None;
    }
    // SAFETY: `store` has written a `Typed`, which begins with the id of its type; the rest is read
    // only if the type matches.
    unsafe {
        let type_id: TypeId = address.cast::<TypeId>().read();
        (type_id == TypeId::of::<T>()).then(|| &(*address.cast::<Typed<T>>()).value)
    }
}

/// Returns a mutable reference to the value at an address, if there is one and it has this type.
///
/// # Safety
/// `address` is null or comes from `store`, and its pool outlives `'a`; there is no other reference
/// to the value during `'a`.
pub(super) unsafe fn get_mut<'a, T: 'static>(address: *mut c_void) -> Option<&'a mut T> {
    // SAFETY: the caller vouches for the address.
    unsafe { get::<T>(address) }?;
    // SAFETY: `get` has checked that there is a value of this type.
    Some(unsafe { &mut (*address.cast::<Typed<T>>()).value })
}
