//! A configuration that nginx is reading: what a directive's setter may ask of it and do to it.

use super::bits;
use super::directive::{Refused, ERROR};
use super::guard::guarded;
use super::log::{self, Level};
use super::module;
use super::pool::bytes;
use super::request::{Outcome, Request};
use super::value::ComplexValue;
use super::zone::{self, Tenant};
use crate::conf::{Location, Main};
use nginx_sys::{
    ngx_array_push, ngx_command_t, ngx_conf_include, ngx_conf_log_error, ngx_conf_parse,
    ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t,
    ngx_http_core_module, ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
    ngx_http_request_t, ngx_int_t, ngx_str_t,
};
use std::ffi::{c_char, c_void};
use std::fmt;
use std::ptr;
use std::rc::Rc;

/// Where a directive stands, for messages that come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    file: String,
    line: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A content handler.
pub trait Handler {
    /// Answers a request, or begins to.
    fn handle(request: &Request) -> Outcome;
}

/// What was made to answer the requests of a location.
#[derive(Clone, Copy)]
pub struct Answering(unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t);

/// A directive, or a whole configuration, that nginx is reading.
pub struct Setting<'cf> {
    cf: &'cf mut ngx_conf_t,
}

impl<'cf> Setting<'cf> {
    /// # Safety
    /// nginx handed over `cf` for the call that is being served.
    pub(super) unsafe fn from_raw(cf: *mut ngx_conf_t) -> Setting<'cf> {
        // SAFETY: the caller vouches for the pointer.
        Setting { cf: unsafe { &mut *cf } }
    }

    /// The words of the directive, its name first.
    pub fn words(&self) -> Vec<&'cf [u8]> {
        // SAFETY: nginx has set the arguments, which live in the configuration's pool.
        let words: &[ngx_str_t] = unsafe { (*self.cf.args).as_slice() };
        // SAFETY: as above.
        words.iter().map(|word| unsafe { bytes(word) }).collect()
    }

    /// The arguments of the directive.
    pub fn arguments(&self) -> Vec<&'cf [u8]> {
        self.words().into_iter().skip(1).collect()
    }

    /// Where the directive stands.
    pub fn position(&self) -> Position {
        // SAFETY: while a directive is read nginx knows the file, or none for `-g`.
        let Some(file) = (unsafe { self.cf.conf_file.as_ref() }) else {
            return Position { file: "command line".to_owned(), line: 0 };
        };
        // SAFETY: the name lives in the configuration's pool.
        let name = unsafe { bytes(&file.file.name) };
        Position { file: String::from_utf8_lossy(name).into_owned(), line: file.line }
    }

    /// Compiles a value that may hold variables.
    pub fn compile(&mut self, text: &'cf [u8]) -> Result<ComplexValue, Refused> {
        // SAFETY: the configuration is being read, and the text lives in its pool.
        unsafe { ComplexValue::compile(self.cf, text) }.ok_or(Refused::Told)
    }

    /// What the module knows of the whole configuration.
    pub fn main(&mut self) -> &mut Main {
        let place = self.place(|context| context.main_conf);
        // SAFETY: the module's own `create_main_conf` put it there; lent for as long as `self`.
        unsafe { &mut *place.cast() }
    }

    /// What the module knows of the place where the directive stands.
    pub fn location(&mut self) -> &mut Location {
        let place = self.place(|context| context.loc_conf);
        // SAFETY: the module's own `create_loc_conf` put it there; lent for as long as `self`.
        unsafe { &mut *place.cast() }
    }

    /// Has `H` answer the requests of this location. Refused where something else does.
    pub fn answer_with<H: Handler>(&mut self) -> Result<Answering, Refused> {
        let answering = Answering(handle::<H>);
        if !self.inherit(answering) {
            return Err(Refused::because(
                "two directives of this location would answer its requests",
            ));
        }
        Ok(answering)
    }

    /// Has the same answer as in another place. False if something else does already.
    pub fn inherit(&mut self, answering: Answering) -> bool {
        let core = self.core_location();
        if core.handler.is_some() {
            return false;
        }
        core.handler = Some(answering.0);
        true
    }

    /// Whether nothing has taken the answering of requests away since `answer_with`.
    pub fn is_answered_by(&mut self, answering: Answering) -> bool {
        self.core_location().handler.is_some_and(|handler| ptr::fn_addr_eq(handler, answering.0))
    }

    /// Has `H` look at every request before nginx decides who may have it.
    pub fn before_access<H: Handler>(&mut self) -> Result<(), Refused> {
        // SAFETY: the core module has numbered itself and has its main configuration inside `http`.
        let core = unsafe {
            let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
            let number = ngx_http_core_module.ctx_index;
            &mut *(*(*context).main_conf.add(number)).cast::<ngx_http_core_main_conf_t>()
        };
        let phase = &mut core.phases[ngx_http_phases_NGX_HTTP_PREACCESS_PHASE as usize];
        // SAFETY: nginx has made the array of the phase's handlers.
        let place: *mut ngx_http_handler_pt = unsafe { ngx_array_push(&mut phase.handlers) }.cast();
        // SAFETY: new memory of that array, if there was any.
        let place = unsafe { place.as_mut() }.ok_or(Refused::Told)?;
        *place = Some(handle::<H>);
        Ok(())
    }

    /// Whether this is an `if` or `limit_except` block, which is a part of a location.
    pub fn is_part_of_location(&mut self) -> bool {
        // SAFETY: the configuration of a location that is being read.
        unsafe { bits::core_loc_conf::noname(self.core_location()) != 0 }
    }

    fn core_location(&mut self) -> &mut ngx_http_core_loc_conf_t {
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        // SAFETY: the core module has numbered itself and has a configuration in each location;
        // lent for as long as `self`.
        unsafe { &mut *(*(*context).loc_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    /// Reads the block that follows, calling `each` for every directive in it.
    pub fn block(
        &mut self,
        mut each: impl FnMut(&mut Setting<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut each: &mut dyn FnMut(&mut Setting<'_>) -> Result<(), Refused> = &mut each;
        let (handler, handler_conf) = (self.cf.handler, self.cf.handler_conf);
        self.cf.handler = Some(in_block);
        self.cf.handler_conf = (&raw mut each).cast();
        // SAFETY: nginx reads on in its own file; `each` outlives the call.
        let read = unsafe { ngx_conf_parse(self.cf, ptr::null_mut()) };
        self.cf.handler = handler;
        self.cf.handler_conf = handler_conf;
        match read.is_null() {
            true => Ok(()),
            false => Err(Refused::Told),
        }
    }

    /// Asks for a zone of shared memory; `tenant` is told when it is there.
    pub fn add_zone(
        &mut self,
        name: &str,
        size: usize,
        tenant: Rc<dyn Tenant>,
    ) -> Result<(), Refused> {
        // SAFETY: the configuration is being read.
        unsafe { zone::add(self.cf, name, size, tenant) }.map_err(|_| Refused::Told)
    }

    /// Writes to the log of the configuration, as of a directive that stands elsewhere.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        // SAFETY: a configuration that is being read has a log.
        unsafe { log::write_to(self.cf.log, level, message) };
    }

    fn place(&self, which: fn(&ngx_http_conf_ctx_t) -> *mut *mut c_void) -> *mut c_void {
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        let module = module::this();
        // SAFETY: inside `http` nginx sets the context, with a place for each http module.
        unsafe { *which(&*context).add((*module).ctx_index) }
    }

    /// Gives nginx its answer to a directive, having said what is wrong.
    pub(super) fn settle(&mut self, result: Result<(), Refused>) -> *mut c_char {
        let name = String::from_utf8_lossy(self.words().first().copied().unwrap_or_default());
        let what = match result {
            Ok(()) => return ptr::null_mut(),
            Err(Refused::Told) => return ERROR,
            Err(Refused::Duplicate) => format!("\"{name}\" directive is duplicate"),
            Err(Refused::Invalid(what, value)) => {
                format!("invalid {what} \"{value}\" in \"{name}\" directive")
            }
            Err(Refused::Because(what)) => what,
        };
        self.tell(Level::Emerg, &what);
        ERROR
    }

    /// Writes a warning that names the place of the directive.
    pub fn warn(&mut self, what: &str) {
        self.tell(Level::Warn, what);
    }

    fn tell(&mut self, level: Level, what: &str) {
        // SAFETY: the configuration is being read; nginx copies the bytes into its line.
        unsafe {
            ngx_conf_log_error(
                level.number(),
                self.cf,
                0,
                c"%*s".as_ptr(),
                what.len(),
                what.as_ptr(),
            );
        }
    }
}

unsafe extern "C" fn in_block(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guarded(ERROR, || {
        // SAFETY: nginx is reading a directive of a block of ours.
        let mut setting = unsafe { Setting::from_raw(cf) };
        if setting.words().first().copied() == Some(b"include".as_slice()) {
            // SAFETY: what nginx's own `include` does with the directive in hand.
            return unsafe { ngx_conf_include(cf, ptr::null_mut(), conf) };
        }
        type Each<'a> = &'a mut dyn FnMut(&mut Setting<'_>) -> Result<(), Refused>;
        // SAFETY: `block` put it there and waits for the end of the block.
        let each: &mut Each<'_> = unsafe { &mut *conf.cast() };
        let result = each(&mut setting);
        setting.settle(result)
    })
}

unsafe extern "C" fn handle<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    let failed = Outcome::status(500);
    guarded(failed, || {
        // SAFETY: nginx calls this with the request that the location is to answer.
        unsafe { Request::from_raw(r) }.map_or(failed, |request| H::handle(&request))
    })
    .0
}
