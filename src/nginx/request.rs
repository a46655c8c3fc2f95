//! Requests: what the client sent, and how a request is ended. `response` sends the response.
//!
//! A function that nginx calls creates a `Request` and lends it to the handler for the duration of
//! the call. Code that needs a request later uses `output::Client` or `deferred::DeferredResponse`,
//! which the end of the request invalidates.

use super::guard::guarded;
use super::log;
use super::pool::{self, bytes, NoMemory};
use super::this_module::this_module;
use super::typed;
use nginx_sys::{
    ngx_connection_t, ngx_http_arg, ngx_http_cleanup_add, ngx_http_cleanup_pt,
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_request_t, ngx_int_t, ngx_pool_t,
    ngx_str_t, ngx_table_elt_t, ngx_uint_t, NGX_DECLINED, NGX_DONE, NGX_ERROR, NGX_HTTP_DELETE,
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_OPTIONS, NGX_HTTP_POST, NGX_HTTP_PUT, NGX_OK,
};
use std::cell::Cell;
use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};

/// `NGX_HTTP_VERSION_30`, which nginx 1.22 does not define.
pub(super) const HTTP_3: ngx_uint_t = 3000;

/// A request that is being handled.
pub struct Request(NonNull<ngx_http_request_t>);

/// The request methods that the module distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Other,
}

/// The return value of a handler: a status or one of nginx's result codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(pub(super) ngx_int_t);

impl Outcome {
    /// The response was sent, or nginx will send the rest (`NGX_OK`).
    pub const OK: Outcome = Outcome(NGX_OK as ngx_int_t);
    /// The request continues after the handler returns (`NGX_DONE`).
    pub const DONE: Outcome = Outcome(NGX_DONE as ngx_int_t);
    /// The handler does not apply; nginx continues (`NGX_DECLINED`).
    pub const DECLINED: Outcome = Outcome(NGX_DECLINED as ngx_int_t);
    /// nginx closes the connection (`NGX_ERROR`).
    pub const ERROR: Outcome = Outcome(NGX_ERROR as ngx_int_t);

    /// Makes nginx send its own response for this status.
    pub const fn status(status: u16) -> Outcome {
        Outcome(status as ngx_int_t)
    }
}

impl Request {
    /// # Safety
    /// nginx handed over `r` for the call that is being served, and the request outlives the value.
    pub(super) unsafe fn from_raw(r: *mut ngx_http_request_t) -> Option<Request> {
        NonNull::new(r).map(Request)
    }

    pub(super) fn raw(&self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    pub(super) fn pool(&self) -> *mut ngx_pool_t {
        // SAFETY: the request is alive.
        unsafe { (*self.raw()).pool }
    }

    pub(super) fn connection(&self) -> *mut ngx_connection_t {
        // SAFETY: the request is alive and so is its connection.
        unsafe { (*self.raw()).connection }
    }

    /// Returns the configuration of nginx's core module for the request's location.
    pub(super) fn core_location(&self) -> &ngx_http_core_loc_conf_t {
        let location = self.location_slot((&raw const ngx_http_core_module).cast());
        // SAFETY: the core module has a configuration in each location.
        unsafe { &*location.cast() }
    }

    /// Returns the address of a module's configuration for the request's location.
    pub(super) fn location_slot(&self, module: *const nginx_sys::ngx_module_t) -> *mut c_void {
        // SAFETY: modules number themselves before any request is served.
        unsafe { *(*self.raw()).loc_conf.add((*module).ctx_index) }
    }

    /// Returns the request method.
    pub fn method(&self) -> Method {
        // SAFETY: the request is alive.
        match unsafe { (*self.raw()).method } as u32 {
            NGX_HTTP_GET => Method::Get,
            NGX_HTTP_HEAD => Method::Head,
            NGX_HTTP_POST => Method::Post,
            NGX_HTTP_PUT => Method::Put,
            NGX_HTTP_DELETE => Method::Delete,
            NGX_HTTP_OPTIONS => Method::Options,
            _ => Method::Other,
        }
    }

    /// Returns whether this is a subrequest (SSI, `auth_request`, `mirror`, `addition`).
    pub fn is_subrequest(&self) -> bool {
        // SAFETY: the request is alive.
        self.raw() != unsafe { (*self.raw()).main }
    }

    /// Calls `action` with the main request of this request.
    pub fn with_main<R>(&self, action: impl FnOnce(&Request) -> R) -> R {
        // SAFETY: the request is alive, and so is its main request, at least as long as the call.
        let main = unsafe { Request::from_raw((*self.raw()).main) };
        action(main.as_ref().unwrap_or(self))
    }

    /// Returns the value of the first header with this name, ignoring case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers(name).next()
    }

    /// Returns the values of all headers with this name, ignoring case.
    pub fn headers<'r, 'n>(
        &'r self,
        name: &'n str,
    ) -> impl Iterator<Item = &'r [u8]> + use<'r, 'n> {
        // SAFETY: the list is the request's own and outlives the borrow of the request.
        let mut part = unsafe { &raw const (*self.raw()).headers_in.headers.part };
        let mut index = 0;
        std::iter::from_fn(move || {
            while !part.is_null() {
                // SAFETY: a part of the list.
                let (elements, count) = unsafe { ((*part).elts, (*part).nelts) };
                let elements: *const ngx_table_elt_t = elements.cast();
                while index < count {
                    // SAFETY: the part has `count` elements.
                    let element = unsafe { &*elements.add(index) };
                    index += 1;
                    // SAFETY: keys and values of headers are in the request's memory.
                    let (key, value) = unsafe { (bytes(&element.key), bytes(&element.value)) };
                    if key.eq_ignore_ascii_case(name.as_bytes()) {
                        return Some(value);
                    }
                }
                // SAFETY: as above; the last part's `next` is null.
                part = unsafe { (*part).next };
                index = 0;
            }
            None
        })
    }

    /// Returns the host and the port that the client named, in the `Host` header or over HTTP/3 in
    /// `:authority`. nginx makes a header of the latter over HTTP/2 only.
    pub fn host(&self) -> Option<&[u8]> {
        // SAFETY: the request is alive.
        let r = unsafe { &*self.raw() };
        if let Some(host) = NonNull::new(r.headers_in.host) {
            // SAFETY: an element of the list of headers.
            return Some(unsafe { bytes(&(*host.as_ptr()).value) });
        }
        if r.http_version < HTTP_3 || r.host_start.is_null() {
            return None;
        }
        let len = (r.host_end as usize).checked_sub(r.host_start as usize)?;
        // SAFETY: nginx has set both to the beginning and the end of the value of `:authority`,
        // which is in the request's memory.
        Some(unsafe { std::slice::from_raw_parts(r.host_start, len) })
    }

    /// Returns an argument of the query string, not decoded.
    pub fn argument(&self, name: &str) -> Option<&[u8]> {
        let mut value = ngx_str_t::empty();
        let name_at = name.as_ptr().cast_mut();
        // SAFETY: nginx only reads the name; the value is a piece of the request's arguments.
        let found = unsafe { ngx_http_arg(self.raw(), name_at, name.len(), &mut value) };
        // SAFETY: as above.
        (found == NGX_OK as ngx_int_t).then(|| unsafe { bytes(&value) })
    }

    /// Returns the query string, not decoded; empty if there is none.
    pub fn query(&self) -> &[u8] {
        // SAFETY: the request is alive; the query string is in its memory.
        unsafe { bytes(&(*self.raw()).args) }
    }

    /// Writes a line to the error log; nginx adds the client and the request.
    pub fn log(&self, level: log::Level, message: fmt::Arguments<'_>) {
        // SAFETY: a connection has a log for as long as it lives.
        unsafe { log::write_to((*self.connection()).log, level, message) };
    }

    /// Writes a line to nginx's debug log, if nginx was built with one and it is enabled.
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        // SAFETY: a connection has a log for as long as it lives.
        unsafe { log::debug_to((*self.connection()).log, message) };
    }

    /// Returns whether `debug` writes anything.
    pub fn is_debugged(&self) -> bool {
        // SAFETY: a connection has a log for as long as it lives.
        unsafe { log::is_debugged((*self.connection()).log) }
    }

    /// Moves a value into the request's pool and returns its address.
    pub(super) fn keep<T: 'static>(&self, value: T) -> Result<NonNull<T>, NoMemory> {
        // SAFETY: the pool is the request's.
        unsafe { pool::keep(self.pool(), value) }
    }

    /// Returns the module's configuration of the request's location. `T` is `Module::Location`.
    #[expect(clippy::panic, reason = "cannot happen; the entry from nginx would catch it")]
    pub fn location_conf<T: 'static>(&self) -> &T {
        // SAFETY: `create_loc_conf` has set it; it lives as long as the configuration, which
        // outlives its requests.
        let conf = unsafe { typed::get(self.location_slot(this_module())) };
        conf.unwrap_or_else(|| panic!("no {} in a location", std::any::type_name::<T>()))
    }

    /// Returns the module's configuration of the `http` block. `T` is `Module::Main`.
    #[expect(clippy::panic, reason = "cannot happen; the entry from nginx would catch it")]
    pub fn main_conf<T: 'static>(&self) -> &T {
        // SAFETY: `create_main_conf` has set it; it lives as long as the configuration, which
        // outlives its requests.
        let conf = unsafe { typed::get(*(*self.raw()).main_conf.add((*this_module()).ctx_index)) };
        conf.unwrap_or_else(|| panic!("no {} in the http block", std::any::type_name::<T>()))
    }

    /// Stores a value of the module with the request until the request's memory is freed. It
    /// replaces the one before.
    pub fn set_context<T: 'static>(&self, value: T) -> Result<(), NoMemory> {
        // SAFETY: the pool is the request's.
        let context = unsafe { typed::store(self.pool(), value) }?;
        // SAFETY: the array has an entry for each http module.
        unsafe { *self.context_slot() = context.as_ptr() };
        Ok(())
    }

    /// Returns the value that `set_context` stored, if there is one of this type.
    pub fn context<T: 'static>(&self) -> Option<&T> {
        // SAFETY: the entry is null or was set by `set_context`, whose value lives as long as the
        // request.
        unsafe { typed::get(*self.context_slot()) }
    }

    fn context_slot(&self) -> *mut *mut c_void {
        // SAFETY: modules number themselves before any request is served.
        unsafe { (*self.raw()).ctx.add((*this_module()).ctx_index) }
    }

    /// Runs `action` when the request ends for any reason, before its line in the access log is
    /// written.
    pub fn on_end(&self, action: impl FnOnce() + 'static) -> Result<(), NoMemory> {
        let action: EndAction = Cell::new(Some(Box::new(action)));
        let action = self.keep_until_release(action)?;
        // SAFETY: the request is alive.
        let cleanup = unsafe { ngx_http_cleanup_add(self.raw(), 0) };
        let cleanup = NonNull::new(cleanup).ok_or(NoMemory)?;
        // SAFETY: the entry is new; the action outlives it, because the pool is destroyed last.
        unsafe {
            (*cleanup.as_ptr()).data = action.as_ptr().cast();
            (*cleanup.as_ptr()).handler = Some(ended);
        }
        Ok(())
    }
}

/// An action that runs when a request ends.
type EndAction = Cell<Option<Box<dyn FnOnce()>>>;

/// Whether a handler of a request's end only runs an action of `Request::on_end`.
pub(super) fn is_end_action(handler: ngx_http_cleanup_pt) -> bool {
    let own: unsafe extern "C" fn(*mut c_void) = ended;
    handler.is_some_and(|handler| ptr::fn_addr_eq(handler, own))
}

/// Calls a handler of the module with a request of nginx, and returns nginx's number for the
/// outcome.
///
/// # Safety
/// nginx handed over `r` for the call that is being served.
pub(super) unsafe fn handle(
    r: *mut ngx_http_request_t,
    handler: impl FnOnce(&mut Request) -> Outcome,
) -> ngx_int_t {
    let failed = Outcome::status(500);
    guarded(failed, || {
        // SAFETY: the caller vouches for the request.
        unsafe { Request::from_raw(r) }.map_or(failed, |mut request| handler(&mut request))
    })
    .0
}

unsafe extern "C" fn ended(data: *mut c_void) {
    guarded((), || {
        // SAFETY: `on_end` has stored the action, and the pool that keeps it still exists.
        let action = unsafe { &*data.cast::<EndAction>() };
        if let Some(action) = action.take() {
            action();
        }
    });
}
