//! The interface of an http module, and the C functions that nginx calls when it reads a
//! configuration, starts a process, and stops one.
//!
//! `ngx_module_t` and `ngx_http_module_t` in nginx's development guide describe the order of the
//! calls.

use super::conf_context::ConfContext;
use super::conf_error::{ConfError, ERROR};
use super::content_handler;
use super::directive::Directive;
use super::guard::guarded;
use super::log::Level;
use super::pool::NoMemory;
use super::request::{Outcome, Request};
use super::this_module::this_module;
use super::typed;
use super::variable::{self, Variable};
use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module,
    ngx_http_module_t, ngx_http_request_t, ngx_int_t, ngx_module_t, ngx_uint_t, NGX_ERROR,
    NGX_HTTP_MODULE, NGX_OK,
};
use std::ffi::{c_char, c_void, CStr};
use std::ptr;

/// An http module. nginx calls the functions in the order in which they are listed.
pub trait Module: 'static {
    /// The configuration of the whole `http` block.
    type Main: Default + 'static;
    /// The configuration of one `http`, `server`, `location`, `if`, or `limit_except` block.
    type Location: Default + 'static;
    /// The directives that the module adds.
    const DIRECTIVES: &'static [Directive];
    /// The variables that the module adds.
    const VARIABLES: &'static [Variable];

    /// Fills in defaults after the whole `http` block has been read.
    fn complete_main(main: &mut Self::Main);

    /// Merges the settings of the enclosing block into those of a block. The error is one sentence.
    fn complete_location(
        inner: &mut Self::Location,
        outer: &Self::Location,
        context: &mut ConfContext<'_>,
    ) -> Result<(), String>;

    /// Completes the configuration after all blocks have been merged. An error rejects it.
    fn finish_configuration(context: &mut ConfContext<'_>) -> Result<(), ConfError>;

    /// Called in the master process when a configuration takes effect. Its shared memory exists.
    fn take_effect(main: &Self::Main);

    /// Called when a process that serves requests starts.
    fn start(main: &Self::Main);

    /// Called when a process that serves requests exits.
    fn stop();

    /// Called for every request before nginx's access checks (the preaccess phase).
    fn before_access(request: &mut Request) -> Outcome;

    /// Called for every main request as one of nginx's access checks (the access phase).
    fn check_access(request: &Request) -> Outcome;

    /// Called before the header of any response is sent. If it fails, the response fails.
    fn before_header(request: &Request) -> Result<(), NoMemory>;

    /// Answers the requests of locations for which [`ConfContext::answer_requests`] was called.
    fn answer(request: &Request) -> Outcome;
}

/// Returns the table of a module's callbacks.
pub const fn callbacks<M: Module>() -> ngx_http_module_t {
    ngx_http_module_t {
        preconfiguration: Some(preconfiguration::<M>),
        postconfiguration: Some(postconfiguration::<M>),
        create_main_conf: Some(create_main_conf::<M>),
        init_main_conf: Some(init_main_conf::<M>),
        create_srv_conf: None,
        merge_srv_conf: None,
        create_loc_conf: Some(create_loc_conf::<M>),
        merge_loc_conf: Some(merge_loc_conf::<M>),
    }
}

/// Returns the table of a module's directives; `N` is one more than their number.
pub const fn commands<M: Module, const N: usize>() -> [ngx_command_t; N] {
    assert!(N == M::DIRECTIVES.len() + 1, "the table ends with an empty command");
    let mut commands = [const { ngx_command_t::empty() }; N];
    let mut index = 0;
    while index < M::DIRECTIVES.len() {
        commands[index] = M::DIRECTIVES[index].command();
        index += 1;
    }
    commands
}

/// Returns a module's entry in nginx's list of modules.
pub const fn entry<M: Module>(
    callbacks: &'static ngx_http_module_t,
    commands: *mut ngx_command_t,
) -> ngx_module_t {
    ngx_module_t {
        ctx: ptr::from_ref(callbacks).cast_mut().cast(),
        commands,
        type_: NGX_HTTP_MODULE as ngx_uint_t,
        init_module: Some(init_module::<M>),
        init_process: Some(init_process::<M>),
        exit_process: Some(exit_process::<M>),
        ..ngx_module_t::default()
    }
}

unsafe extern "C" fn preconfiguration<M: Module>(cf: *mut ngx_conf_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        content_handler::install(M::answer);
        // SAFETY: nginx is about to read the http block.
        unsafe { variable::add(cf, M::VARIABLES) }
    })
}

unsafe extern "C" fn create_main_conf<M: Module>(cf: *mut ngx_conf_t) -> *mut c_void {
    guarded(ptr::null_mut(), || {
        // SAFETY: the pool lives as long as the configuration.
        let conf = unsafe { typed::store((*cf).pool, M::Main::default()) };
        conf.map_or(ptr::null_mut(), ptr::NonNull::as_ptr)
    })
}

unsafe extern "C" fn create_loc_conf<M: Module>(cf: *mut ngx_conf_t) -> *mut c_void {
    guarded(ptr::null_mut(), || {
        // SAFETY: the pool lives as long as the configuration.
        let conf = unsafe { typed::store((*cf).pool, M::Location::default()) };
        conf.map_or(ptr::null_mut(), ptr::NonNull::as_ptr)
    })
}

unsafe extern "C" fn init_main_conf<M: Module>(
    cf: *mut ngx_conf_t,
    _conf: *mut c_void,
) -> *mut c_char {
    guarded(ERROR, || {
        // SAFETY: nginx has read the http block.
        let mut context = unsafe { ConfContext::from_raw(cf) };
        M::complete_main(context.main_conf::<M::Main>());
        ptr::null_mut()
    })
}

unsafe extern "C" fn merge_loc_conf<M: Module>(
    cf: *mut ngx_conf_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_char {
    guarded(ERROR, || {
        // SAFETY: nginx has read the http block.
        let mut context = unsafe { ConfContext::from_raw(cf) };
        // SAFETY: `create_loc_conf` has created both, and they are different.
        let both =
            unsafe { (typed::get::<M::Location>(outer), typed::get_mut::<M::Location>(inner)) };
        let (Some(outer), Some(inner)) = both else { return ERROR };
        match M::complete_location(inner, outer, &mut context) {
            Ok(()) => ptr::null_mut(),
            Err(what) => {
                context.log(Level::Emerg, format_args!("{what}"));
                ERROR
            }
        }
    })
}

unsafe extern "C" fn postconfiguration<M: Module>(cf: *mut ngx_conf_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx has read the http block.
        let mut context = unsafe { ConfContext::from_raw(cf) };
        // SAFETY: as above.
        let lacking = unsafe { super::macros::ngx_sse_compiled_without(cf) };
        if !lacking.is_null() {
            // SAFETY: a string literal in macros.c.
            let lacking = unsafe { CStr::from_ptr(lacking) }.to_string_lossy();
            let what = format_args!(
                "the SSE module was built for an nginx without {lacking}, but this nginx has it; \
                 build the module for a source tree that is configured with the arguments shown by \
                 nginx -V"
            );
            context.log(Level::Emerg, what);
            return NGX_ERROR as ngx_int_t;
        }
        // SAFETY: as above.
        if let Some(name) = unsafe { variable::redefined(cf, M::VARIABLES) } {
            context.log(Level::Emerg, format_args!("the duplicate \"{name}\" variable"));
            return NGX_ERROR as ngx_int_t;
        }
        // SAFETY: as above.
        unsafe {
            super::content_type_filter::install();
            super::header_filter::install(M::before_header);
            super::output::end_filter::install();
        }
        let finished = context
            .add_preaccess_handler(before_access::<M>)
            .and_then(|()| context.add_access_handler(check_access::<M>))
            .and_then(|()| M::finish_configuration(&mut context));
        match finished {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(refused) => {
                if let ConfError::Message(what) = refused {
                    context.log(Level::Emerg, format_args!("{what}"));
                }
                NGX_ERROR as ngx_int_t
            }
        }
    })
}

unsafe extern "C" fn init_module<M: Module>(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx has read this cycle's configuration.
        if let Some(main) = unsafe { main_conf::<M>(cycle) } {
            M::take_effect(main);
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn init_process<M: Module>(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx starts a process for this cycle.
        let main = unsafe { main_conf::<M>(cycle) };
        if let Some(main) = main.filter(|_| super::core_conf::serves_requests()) {
            M::start(main);
        }
        NGX_OK as ngx_int_t
    })
}

unsafe extern "C" fn exit_process<M: Module>(_cycle: *mut ngx_cycle_t) {
    guarded((), M::stop);
}

unsafe extern "C" fn before_access<M: Module>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls phase handlers with a living request.
    unsafe { super::request::handle(r, M::before_access) }
}

unsafe extern "C" fn check_access<M: Module>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls phase handlers with a living request.
    unsafe { super::request::handle(r, |request| M::check_access(request)) }
}

/// Returns the module's configuration of a cycle's `http` block, if the cycle has one.
///
/// # Safety
/// nginx has read the cycle's configuration and keeps it for `'a`.
unsafe fn main_conf<'a, M: Module>(cycle: *mut ngx_cycle_t) -> Option<&'a M::Main> {
    // SAFETY: the array has an entry for each module.
    let context = unsafe { *(*cycle).conf_ctx.add(ngx_http_module.index) };
    let context: *const ngx_http_conf_ctx_t = context.cast();
    if context.is_null() {
        return None;
    }
    // SAFETY: the context has an entry for each http module; `create_main_conf` has set this
    // module's.
    unsafe { typed::get::<M::Main>(*(*context).main_conf.add((*this_module()).ctx_index)) }
}
