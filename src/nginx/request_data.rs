//! Values of the module that live as long as a main request, including its internal redirects,
//! which clear the contexts that `Request::set_context` sets.
//!
//! A value is stored in a cleanup entry of the pool, where it is found again by the entry's
//! handler.

use super::guard::guarded;
use super::pool::NoMemory;
use super::request::Request;
use nginx_sys::{ngx_pool_cleanup_add, ngx_pool_cleanup_pt};
use std::any::Any;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// The contents of an entry.
type Stored = Box<dyn Any>;

impl Request {
    /// Returns the value of this type that `keep_data` stored for the main request, if any.
    pub fn data<T: 'static>(&self) -> Option<&T> {
        // SAFETY: the main request is alive as long as the request, and so is its pool.
        let mut entry = unsafe { (*(*(*self.raw()).main).pool).cleanup };
        while !entry.is_null() {
            // SAFETY: an entry of the pool's list.
            let (handler, data, next) = unsafe { ((*entry).handler, (*entry).data, (*entry).next) };
            if is_own(handler) && !data.is_null() {
                // SAFETY: `keep_data` has stored a value there. It is never changed, and is dropped
                // with the pool.
                let stored: &Stored = unsafe { &*data.cast::<Stored>() };
                if let Some(value) = stored.downcast_ref() {
                    return Some(value);
                }
            }
            entry = next;
        }
        None
    }

    /// Stores a value for the main request.
    pub fn keep_data<T: 'static>(&self, value: T) -> Result<(), NoMemory> {
        self.keep_until_release(value).map(|_| ())
    }

    /// Stores a value for the main request, and returns its address.
    pub(super) fn keep_until_release<T: 'static>(&self, value: T) -> Result<NonNull<T>, NoMemory> {
        // SAFETY: the main request is alive, and so is its pool.
        let entry =
            unsafe { ngx_pool_cleanup_add((*(*self.raw()).main).pool, size_of::<Stored>()) };
        let entry = NonNull::new(entry).ok_or(NoMemory)?;
        // SAFETY: the entry is new and has memory for the value, which `release` drops.
        let stored: &Stored = unsafe {
            (*entry.as_ptr()).data.cast::<Stored>().write(Box::new(value));
            (*entry.as_ptr()).handler = Some(release);
            &*(*entry.as_ptr()).data.cast()
        };
        stored.downcast_ref().map(NonNull::from).ok_or(NoMemory)
    }
}

/// Whether a cleanup handler only drops a value that `keep_data` stored.
pub(super) fn is_own(handler: ngx_pool_cleanup_pt) -> bool {
    let own: unsafe extern "C" fn(*mut c_void) = release;
    handler.is_some_and(|handler| ptr::fn_addr_eq(handler, own))
}

/// Makes the code of `release` different from that of all other functions: the compiler may give
/// functions with the same code one address.
static DISTINCT: u8 = 0;

unsafe extern "C" fn release(data: *mut c_void) {
    std::hint::black_box(&raw const DISTINCT);
    // SAFETY: `keep_data` has stored a value there; the pool calls this once.
    guarded((), || unsafe { data.cast::<Stored>().drop_in_place() });
}
