//! The module's interface to nginx: its directives and variables, its callbacks for reading a
//! configuration, starting a process, and answering a request, and the symbols that the library
//! exports.
//!
//! This file is a good starting point for reading the source: it connects `conf`, `http`,
//! `process`, and `nginx`.

// nginx finds the library's statics by name and writes to them, which requires `no_mangle` and
// `static mut`.
#![allow(unsafe_code)]

use crate::conf::{self, Location, Main};
use crate::http::{self, access, cors, upstream, variables};
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;
use crate::nginx::directive::Directive;
use crate::nginx::log::{self, Level};
use crate::nginx::module::{callbacks, commands, entry, Module};
use crate::nginx::module_file;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Outcome, Request};
use crate::nginx::variable::Variable;
use crate::process;
use nginx_sys::{ngx_command_t, ngx_http_module_t, ngx_module_t};

/// This module.
struct Sse;

impl Module for Sse {
    type Main = Main;
    type Location = Location;
    const DIRECTIVES: &'static [Directive] = &conf::DIRECTIVES;
    const VARIABLES: &'static [Variable] = &variables::VARIABLES;

    fn complete_main(main: &mut Main) {
        main.complete();
    }

    fn complete_location(
        inner: &mut Location,
        outer: &Location,
        context: &mut ConfContext<'_>,
    ) -> Result<(), String> {
        inner.complete(outer, context)
    }

    fn finish_configuration(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
        conf::position_variables::check(context)?;
        conf::hub::add_zones(context)
    }

    fn take_effect(main: &Main) {
        conf::hub::set_history(main);
        if let Some(path) = module_file::replaced() {
            log::write(
                Level::Warn,
                format_args!(
                    "sse: {path} has been replaced or removed; nginx continues with the loaded module \
                     until it is restarted, or upgraded (USR2)"
                ),
            );
        }
    }

    fn start(main: &Main) {
        process::start(main);
    }

    fn stop() {
        process::stop();
    }

    fn before_access(request: &mut Request) -> Outcome {
        match access::mask(request) {
            Ok(()) => cors::before_access(request),
            Err(NoMemory) => Outcome::status(500),
        }
    }

    fn check_access(request: &Request) -> Outcome {
        access::check(request)
    }

    fn before_header(request: &Request) -> Result<(), NoMemory> {
        upstream::before_header(request)
    }

    fn answer(request: &Request) -> Outcome {
        http::answer(request)
    }
}

/// The table of callbacks.
static CALLBACKS: ngx_http_module_t = callbacks::<Sse>();

/// The table of directives.
static mut COMMANDS: [ngx_command_t; conf::DIRECTIVES.len() + 1] =
    commands::<Sse, { conf::DIRECTIVES.len() + 1 }>();

/// The module's entry in nginx's list of modules. nginx writes the module's numbers into it.
#[no_mangle]
#[allow(non_upper_case_globals)]
static mut ngx_http_sse_module: ngx_module_t = entry::<Sse>(&CALLBACKS, (&raw mut COMMANDS).cast());

/// The symbols that `load_module` looks up in the library.
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

    /// The module is loaded before the first of these modules that nginx has. Filters run in the
    /// opposite order, and the module's header filter must run after nginx's charset filter.
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
