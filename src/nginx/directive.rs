//! Directives: how `conf` says which there are, and what it may do while nginx reads one.

use super::guard::guarded;
use super::log::Level;
use super::pool::bytes;
use super::request::{Outcome, Request};
use super::value::ComplexValue;
use super::zone::{self, Tenant};
use crate::conf::{Location, Main};
use nginx_sys::{
    ngx_array_push, ngx_command_t, ngx_conf_include, ngx_conf_parse, ngx_conf_t,
    ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t, ngx_http_core_module,
    ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_request_t, ngx_int_t,
    ngx_str_t, ngx_uint_t, NGX_CONF_1MORE, NGX_CONF_ANY, NGX_CONF_BLOCK, NGX_CONF_NOARGS,
    NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF,
};
use std::ffi::{c_char, c_void, CStr};
use std::fmt;
use std::rc::Rc;

/// One directive of nginx's configuration.
pub struct Directive {
    pub name: &'static CStr,
    pub place: Place,
    pub arguments: Arguments,
    pub set: fn(&mut Setting<'_>) -> Result<(), Refused>,
}

/// Where a directive may stand.
#[derive(Clone, Copy)]
pub enum Place {
    /// As a block in `http`.
    HttpBlock,
    /// In `http`, `server` and `location`.
    Anywhere,
    /// In `location`.
    Location,
}

/// How many arguments a directive takes; nginx itself refuses others.
#[derive(Clone, Copy)]
pub enum Arguments {
    One,
    OneOrTwo,
    OneOrMore,
    Any,
}

/// Why a directive is refused.
#[derive(Debug)]
pub enum Refused {
    /// It stands twice in one place.
    Duplicate,
    /// This value of it makes no sense.
    Invalid(String),
    /// In these words; nginx adds the file and the line.
    Because(String),
    /// nginx has said already what is wrong.
    Told,
}

impl Refused {
    /// In these words.
    pub fn because(what: impl fmt::Display) -> Refused {
        Refused::Because(what.to_string())
    }

    /// An argument, or a part of one, that makes no sense.
    pub fn invalid(value: &[u8]) -> Refused {
        Refused::Invalid(String::from_utf8_lossy(value).into_owned())
    }
}

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

/// What a directive of ours has made of a location.
pub struct Answering {
    handler: ngx_http_handler_pt,
    position: Position,
}

/// What answers the requests of a location.
pub trait Handler {
    /// Answers a request, or begins to.
    fn handle(request: &Request) -> Outcome;
}

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
        self.words().split_off(1)
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

    /// Has `H` answer the requests of this location. Refused where something else does; what comes
    /// behind and would do so too is found by `answers`.
    pub fn answer_with<H: Handler>(&mut self) -> Result<(), Refused> {
        let core = self.core_location();
        if core.handler.is_some() {
            return Err(Refused::because(
                "two directives of this location would answer its requests",
            ));
        }
        let handler: ngx_http_handler_pt = Some(handle::<H>);
        core.handler = handler;
        let position = self.position();
        self.location().answering = Some(Answering { handler, position });
        Ok(())
    }

    /// Looks, once a location has been read, whether its requests still go where `answer_with`
    /// has sent them: directives of other modules do not ask.
    pub fn still_answers(&mut self, location: &Location) -> Result<(), Position> {
        let address = |handler: ngx_http_handler_pt| handler.map(|handler| handler as usize);
        let handler = self.core_location().handler;
        match &location.answering {
            Some(ours) if address(ours.handler) != address(handler) => Err(ours.position.clone()),
            _ => Ok(()),
        }
    }

    /// The block of an `if` or `limit_except` is a location of its own to nginx, though not to who
    /// writes one. Has its requests answered as those around it, if it says nothing else.
    pub fn answer_as(&mut self, outer: &Location) {
        let Some(answering) = &outer.answering else { return };
        let core = self.core_location();
        if core.noname() == 0 || core.handler.is_some() {
            return;
        }
        core.handler = answering.handler;
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        let module = super::module::this();
        // SAFETY: the context has a place for each http module. The outer location lives as long as
        // the configuration, as the one that it stands in for would have.
        unsafe {
            *(*context).loc_conf.add((*module).ctx_index) =
                std::ptr::from_ref(outer).cast_mut().cast();
        }
    }

    /// Writes a warning that names the place of the directive.
    pub fn warn(&mut self, what: &str) {
        self.tell(Level::Warn, what);
    }

    fn core_location(&mut self) -> &mut ngx_http_core_loc_conf_t {
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        // SAFETY: the core module has numbered itself and has a configuration in each location.
        unsafe {
            let number = ngx_http_core_module.ctx_index;
            &mut *(*(*context).loc_conf.add(number)).cast()
        }
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
        let read = unsafe { ngx_conf_parse(self.cf, std::ptr::null_mut()) };
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
        unsafe { super::log::write_to(self.cf.log, level, message) };
    }

    fn place(&self, which: fn(&ngx_http_conf_ctx_t) -> *mut *mut c_void) -> *mut c_void {
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        let module = super::module::this();
        // SAFETY: inside `http` nginx sets the context, with a place for each http module.
        unsafe { *which(&*context).add((*module).ctx_index) }
    }

    /// Gives nginx its answer to a directive, having said what is wrong.
    fn settle(&mut self, result: Result<(), Refused>) -> *mut c_char {
        let name = String::from_utf8_lossy(self.words().first().copied().unwrap_or_default());
        let what = match result {
            Ok(()) => return std::ptr::null_mut(),
            Err(Refused::Told) => return ERROR,
            Err(Refused::Duplicate) => format!("\"{name}\" directive is duplicate"),
            Err(Refused::Invalid(value)) => {
                format!("invalid value \"{value}\" in \"{name}\" directive")
            }
            Err(Refused::Because(what)) => what,
        };
        self.tell(Level::Emerg, &what);
        ERROR
    }

    fn tell(&mut self, level: Level, what: &str) {
        // SAFETY: the configuration is being read; nginx copies the bytes into its line.
        unsafe {
            nginx_sys::ngx_conf_log_error(
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

/// nginx's NGX_CONF_ERROR.
pub(super) const ERROR: *mut c_char = usize::MAX as *mut c_char;

impl Directive {
    /// The directive as nginx has it in its tables.
    pub(super) const fn command(&'static self) -> ngx_command_t {
        let place = match self.place {
            Place::HttpBlock => NGX_HTTP_MAIN_CONF | NGX_CONF_BLOCK,
            Place::Anywhere => NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF,
            Place::Location => NGX_HTTP_LOC_CONF,
        };
        let arguments = match self.arguments {
            Arguments::One => NGX_CONF_TAKE1,
            Arguments::OneOrTwo => NGX_CONF_TAKE12,
            Arguments::OneOrMore => NGX_CONF_1MORE,
            Arguments::Any => NGX_CONF_ANY | NGX_CONF_NOARGS,
        };
        ngx_command_t {
            name: ngx_str_t {
                len: self.name.count_bytes(),
                data: self.name.as_ptr().cast::<u8>().cast_mut(),
            },
            type_: (place | arguments) as ngx_uint_t,
            set: Some(set),
            conf: NGX_HTTP_LOC_CONF_OFFSET,
            offset: 0,
            post: std::ptr::from_ref(self).cast_mut().cast(),
        }
    }
}

unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    guarded(ERROR, || {
        // SAFETY: `Directive::command` put the directive there.
        let directive = unsafe { &*(*command).post.cast::<Directive>() };
        // SAFETY: nginx is reading a directive of ours.
        let mut setting = unsafe { Setting::from_raw(cf) };
        let result = (directive.set)(&mut setting);
        setting.settle(result)
    })
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
            return unsafe { ngx_conf_include(cf, std::ptr::null_mut(), conf) };
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
