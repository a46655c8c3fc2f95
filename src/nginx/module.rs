//! The module as nginx sees it: its tables, and the functions that nginx calls as it reads a
//! configuration, starts a process and ends one.

use super::directive::{Refused, ERROR};
use super::guard::guarded;
use super::log::Level;
use super::pool::keep;
use super::setting::Setting;
use super::variable;
use crate::conf::{Location, Main, DIRECTIVES};
use crate::http::{cors, process, variables::VARIABLES};
use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module,
    ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_uint_t, NGX_ERROR, NGX_HTTP_MODULE, NGX_OK,
};
use std::ffi::{c_char, c_void};
use std::ptr;

static mut COMMANDS: [ngx_command_t; DIRECTIVES.len() + 1] = commands();

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: Some(init_main_conf),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(create_loc_conf),
    merge_loc_conf: Some(merge_loc_conf),
};

/// The module's entry in nginx's list, which nginx itself writes to.
#[allow(non_upper_case_globals)]
pub static mut ngx_http_sse_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const CONTEXT).cast_mut().cast(),
    commands: (&raw mut COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// What `load_module` looks for in the file.
#[cfg(feature = "export-modules")]
#[allow(non_upper_case_globals)]
mod exports {
    use super::{ngx_http_sse_module, ngx_module_t};
    use std::ffi::{c_char, CStr};
    use std::ptr;

    const NAME: &CStr = c"ngx_http_sse_module";

    #[no_mangle]
    static mut ngx_modules: [*const ngx_module_t; 2] =
        [&raw const ngx_http_sse_module, ptr::null()];

    #[no_mangle]
    static mut ngx_module_names: [*const c_char; 2] = [NAME.as_ptr(), ptr::null()];

    /// Before the first of these that the binary has: filters run in the opposite order, and the
    /// module's own is to run after nginx's charset filter.
    #[no_mangle]
    static mut ngx_module_order: [*const c_char; 6] = [
        NAME.as_ptr(),
        c"ngx_http_range_header_filter_module".as_ptr(),
        c"ngx_http_gzip_filter_module".as_ptr(),
        c"ngx_http_postpone_filter_module".as_ptr(),
        c"ngx_http_charset_filter_module".as_ptr(),
        ptr::null(),
    ];
}

const fn commands() -> [ngx_command_t; DIRECTIVES.len() + 1] {
    let mut commands = [const { ngx_command_t::empty() }; DIRECTIVES.len() + 1];
    let mut index = 0;
    while index < DIRECTIVES.len() {
        commands[index] = DIRECTIVES[index].command();
        index += 1;
    }
    commands
}

/// This module, as nginx knows it.
pub(in crate::nginx) fn this() -> *const ngx_module_t {
    &raw const ngx_http_sse_module
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx is about to read the http block.
        unsafe { variable::add(cf, &VARIABLES) }
    })
}

unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: the pool lives as long as the configuration.
    guarded(ptr::null_mut(), || unsafe { create(cf, Main::default()) })
}

unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: the pool lives as long as the configuration.
    guarded(ptr::null_mut(), || unsafe { create(cf, Location::default()) })
}

/// # Safety
/// `cf` is the configuration that nginx is reading.
unsafe fn create<T: 'static>(cf: *mut ngx_conf_t, value: T) -> *mut c_void {
    // SAFETY: the caller vouches for the configuration.
    let place = unsafe { keep((*cf).pool, value) };
    place.map_or(ptr::null_mut(), |place| place.as_ptr().cast())
}

unsafe extern "C" fn init_main_conf(cf: *mut ngx_conf_t, _conf: *mut c_void) -> *mut c_char {
    guarded(ERROR, || {
        // SAFETY: nginx has read the http block.
        let mut setting = unsafe { Setting::from_raw(cf) };
        setting.main().complete();
        ptr::null_mut()
    })
}

unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_char {
    guarded(ERROR, || {
        // SAFETY: nginx has read the http block.
        let mut setting = unsafe { Setting::from_raw(cf) };
        // SAFETY: `create_loc_conf` made both, and they are two.
        let (outer, inner) =
            unsafe { (&*outer.cast::<Location>(), &mut *inner.cast::<Location>()) };
        match inner.complete(outer, &mut setting) {
            Ok(()) => ptr::null_mut(),
            Err(what) => {
                setting.log(Level::Emerg, format_args!("{what}"));
                ERROR
            }
        }
    })
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx has read the http block.
        let mut setting = unsafe { Setting::from_raw(cf) };
        // SAFETY: as above.
        unsafe {
            super::filter::install();
            super::output::ended::install();
        }
        let asked = setting.before_access::<cors::BeforeAccess>();
        match asked.and_then(|()| crate::conf::hub::add_zones(&mut setting)) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(what) => {
                if let Refused::Because(what) = what {
                    setting.log(Level::Emerg, format_args!("{what}"));
                }
                NGX_ERROR as ngx_int_t
            }
        }
    })
}

unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx has read this cycle's configuration.
        if let Some(main) = unsafe { main_of(cycle) } {
            process::configured(main);
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx starts a process for this cycle.
        let main = unsafe { main_of(cycle) };
        if let Some(main) = main.filter(|_| super::core::serves_requests()) {
            process::start(main);
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guarded((), process::stop);
}

/// What the module knows of a cycle's configuration; none without an http block.
///
/// # Safety
/// nginx has read the cycle's configuration and keeps it for `'a`.
unsafe fn main_of<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a Main> {
    // SAFETY: the array has a place for each module of the binary.
    let context = unsafe { *(*cycle).conf_ctx.add(ngx_http_module.index) };
    let context: *const ngx_http_conf_ctx_t = context.cast();
    if context.is_null() {
        return None;
    }
    // SAFETY: the context has a place for each http module; `create_main_conf` filled ours.
    unsafe { (*(*context).main_conf.add((*this()).ctx_index)).cast::<Main>().as_ref() }
}

impl super::request::Request {
    /// What the module knows of the request's location.
    pub fn location(&self) -> &Location {
        let place: *const Location = self.location_slot(this()).cast();
        // SAFETY: `create_loc_conf` put it there; it lives as long as the configuration, which
        // outlives its requests.
        unsafe { &*place }
    }
}
