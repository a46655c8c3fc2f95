//! A configuration that nginx is reading, as the setters of directives use it.

use super::bits;
use super::complex_value::ComplexValue;
use super::conf_error::{ConfError, ERROR};
use super::guard::guarded;
use super::log::{self, Level};
use super::pool::{bytes, copied};
use super::this_module::this_module;
use super::typed;
use super::variable::{self, Declared};
use super::zone::{self, ZoneOwner};
use nginx_sys::{
    ngx_array_push, ngx_command_t, ngx_conf_full_name, ngx_conf_include, ngx_conf_log_error,
    ngx_conf_parse, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_handler_pt,
    ngx_http_phases_NGX_HTTP_ACCESS_PHASE, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
    ngx_http_request_t, ngx_http_variable_t, ngx_int_t, ngx_str_t, NGX_OK,
};
use std::ffi::{c_char, c_void, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::rc::Rc;

/// The position of a directive in the configuration, for messages that are written later.
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

/// A handler of one of nginx's phases.
pub(super) type PhaseHandler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// A directive, or a whole configuration, that nginx is reading.
pub struct ConfContext<'cf> {
    cf: &'cf mut ngx_conf_t,
}

impl<'cf> ConfContext<'cf> {
    /// # Safety
    /// nginx handed over `cf` for the call that is being served.
    pub(super) unsafe fn from_raw(cf: *mut ngx_conf_t) -> ConfContext<'cf> {
        // SAFETY: the caller vouches for the pointer.
        ConfContext { cf: unsafe { &mut *cf } }
    }

    /// Returns the words of the directive, starting with its name.
    pub fn words(&self) -> Vec<&'cf [u8]> {
        // SAFETY: nginx has set the arguments, which are in the configuration's pool.
        let words: &[ngx_str_t] = unsafe { (*self.cf.args).as_slice() };
        // SAFETY: as above.
        words.iter().map(|word| unsafe { bytes(word) }).collect()
    }

    /// Returns the arguments of the directive.
    pub fn arguments(&self) -> Vec<&'cf [u8]> {
        self.words().into_iter().skip(1).collect()
    }

    /// Returns the position of the directive.
    pub fn position(&self) -> Position {
        // SAFETY: nginx sets the file while it reads a directive; null for `-g`.
        let Some(file) = (unsafe { self.cf.conf_file.as_ref() }) else {
            return Position { file: "command line".to_owned(), line: 0 };
        };
        // SAFETY: the name is in the configuration's pool.
        let name = unsafe { bytes(&file.file.name) };
        Position { file: String::from_utf8_lossy(name).into_owned(), line: file.line }
    }

    /// Compiles a value that may contain variables.
    pub fn compile(&mut self, text: &'cf [u8]) -> Result<ComplexValue, ConfError> {
        // SAFETY: the configuration is being read, and the text is in its pool.
        unsafe { ComplexValue::compile(self.cf, text) }.ok_or(ConfError::AlreadyLogged)
    }

    /// Returns the module's configuration of the whole `http` block. `T` is `Module::Main`.
    pub fn main_conf<T: 'static>(&mut self) -> &mut T {
        let conf = self.conf_slot(|context| context.main_conf);
        // SAFETY: `create_main_conf` has set it; it is borrowed as long as `self`.
        let conf = unsafe { typed::get_mut(conf) };
        conf.unwrap_or_else(|| wrong_type::<T>())
    }

    /// Returns the module's configuration of the block that contains the directive. `T` is
    /// `Module::Location`.
    pub fn location_conf<T: 'static>(&mut self) -> &mut T {
        let conf = self.conf_slot(|context| context.loc_conf);
        // SAFETY: `create_loc_conf` has set it; it is borrowed as long as `self`.
        let conf = unsafe { typed::get_mut(conf) };
        conf.unwrap_or_else(|| wrong_type::<T>())
    }

    /// Adds a handler to the preaccess phase, which runs for every request before nginx's access
    /// checks.
    pub(super) fn add_preaccess_handler(&mut self, handler: PhaseHandler) -> Result<(), ConfError> {
        self.add_phase_handler(ngx_http_phases_NGX_HTTP_PREACCESS_PHASE as usize, handler)
    }

    /// Adds a handler to the access phase, which runs before those of modules that are loaded
    /// earlier, in particular nginx's own.
    pub(super) fn add_access_handler(&mut self, handler: PhaseHandler) -> Result<(), ConfError> {
        self.add_phase_handler(ngx_http_phases_NGX_HTTP_ACCESS_PHASE as usize, handler)
    }

    fn add_phase_handler(&mut self, phase: usize, handler: PhaseHandler) -> Result<(), ConfError> {
        // SAFETY: nginx numbers its modules before it reads `http`, and the core module has a main
        // configuration there.
        let core = unsafe {
            let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
            let number = ngx_http_core_module.ctx_index;
            &mut *(*(*context).main_conf.add(number)).cast::<ngx_http_core_main_conf_t>()
        };
        let phase = &mut core.phases[phase];
        // SAFETY: nginx has created the array of the phase's handlers.
        let slot: *mut ngx_http_handler_pt = unsafe { ngx_array_push(&mut phase.handlers) }.cast();
        // SAFETY: a new element of the array, or null.
        let slot = unsafe { slot.as_mut() }.ok_or(ConfError::AlreadyLogged)?;
        *slot = Some(handler);
        Ok(())
    }

    /// Returns the path of a file that a directive names, relative to the directory of the
    /// configuration.
    pub fn file_path(&self, name: &[u8]) -> Result<PathBuf, ConfError> {
        // SAFETY: the pool is the configuration's.
        let copy = unsafe { copied(self.cf.pool, &[name, b"\0"].concat()) };
        let mut name = copy.map_err(|_| ConfError::AlreadyLogged)?;
        name.len -= 1;
        // SAFETY: the configuration is being read; the name ends with a zero, as nginx's names do.
        let found = unsafe { ngx_conf_full_name(self.cf.cycle, &mut name, 1) };
        if found != NGX_OK as ngx_int_t {
            return Err(ConfError::AlreadyLogged);
        }
        // SAFETY: the name is in the configuration's pool.
        Ok(PathBuf::from(OsStr::from_bytes(unsafe { bytes(&name) })))
    }

    /// Adds a variable whose value is determined by the module's `VariableGetter::Declared`. Fails
    /// if there is another variable with this name.
    pub fn declare_variable(&mut self, name: &[u8]) -> Result<(), ConfError> {
        // SAFETY: the configuration is being read.
        match unsafe { variable::declare(self.cf, name) } {
            Some(Declared::Now) => Ok(()),
            Some(Declared::Before) => {
                let name = String::from_utf8_lossy(name);
                Err(ConfError::message(format_args!("the duplicate \"{name}\" variable")))
            }
            None => Err(ConfError::AlreadyLogged),
        }
    }

    /// Returns the names of the variables that the configuration uses, in lower case and without
    /// the dollar sign. Variables that are looked up by name while a request is processed are not
    /// among them.
    pub fn used_variables(&self) -> Vec<&'cf [u8]> {
        // SAFETY: as in `add_preaccess_handler`; nginx has created the array, whose elements are
        // variables, and keeps their names in the configuration's pool.
        unsafe {
            let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
            let core = *(*context).main_conf.add(ngx_http_core_module.ctx_index);
            let used = &(*core.cast::<ngx_http_core_main_conf_t>()).variables;
            let variables: *const ngx_http_variable_t = used.elts.cast();
            (0..used.nelts).map(|index| bytes(&(*variables.add(index)).name)).collect()
        }
    }

    /// Whether this is an `if` or `limit_except` block, which belongs to a location.
    pub fn is_part_of_location(&mut self) -> bool {
        // SAFETY: a location's configuration, which is being read.
        unsafe { bits::core_loc_conf::noname(self.core_location()) != 0 }
    }

    /// Returns the configuration of nginx's core module for the block.
    pub(super) fn core_location(&mut self) -> &mut ngx_http_core_loc_conf_t {
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        // SAFETY: nginx numbers its modules before it reads `http`, and the core module has a
        // configuration in each location; it is borrowed as long as `self`.
        unsafe { &mut *(*(*context).loc_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    /// Reads the block that follows, and calls `each` for every directive in it.
    pub fn block(
        &mut self,
        mut each: impl FnMut(&mut ConfContext<'_>) -> Result<(), ConfError>,
    ) -> Result<(), ConfError> {
        let mut each: &mut dyn FnMut(&mut ConfContext<'_>) -> Result<(), ConfError> = &mut each;
        let (handler, handler_conf) = (self.cf.handler, self.cf.handler_conf);
        self.cf.handler = Some(in_block);
        self.cf.handler_conf = (&raw mut each).cast();
        // SAFETY: nginx continues to read its file; `each` outlives the call.
        let read = unsafe { ngx_conf_parse(self.cf, ptr::null_mut()) };
        self.cf.handler = handler;
        self.cf.handler_conf = handler_conf;
        if read.is_null() {
            Ok(())
        } else {
            Err(ConfError::AlreadyLogged)
        }
    }

    /// Adds a zone of `size` bytes of shared memory. `owner` is called when the zone is mapped.
    pub fn add_zone(
        &mut self,
        name: &str,
        size: usize,
        owner: Rc<dyn ZoneOwner>,
    ) -> Result<(), ConfError> {
        // SAFETY: the configuration is being read.
        unsafe { zone::add(self.cf, name, size, owner) }.map_err(|_| ConfError::AlreadyLogged)
    }

    /// Writes a line to the configuration's log, without the position of the current directive.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        // SAFETY: a configuration that is being read has a log.
        unsafe { log::write_to(self.cf.log, level, message) };
    }

    /// Returns the module's entry in one of the context's arrays of configurations.
    fn conf_slot(&self, which: fn(&ngx_http_conf_ctx_t) -> *mut *mut c_void) -> *mut c_void {
        let context: *const ngx_http_conf_ctx_t = self.cf.ctx.cast();
        let module = this_module();
        // SAFETY: inside `http`, nginx sets the context, whose arrays have an entry for each http
        // module.
        unsafe { *which(&*context).add((*module).ctx_index) }
    }

    /// Converts a setter's result to nginx's return value, and logs an error.
    pub(super) fn report(&mut self, result: Result<(), ConfError>) -> *mut c_char {
        let name = String::from_utf8_lossy(self.words().first().copied().unwrap_or_default());
        let what = match result {
            Ok(()) => return ptr::null_mut(),
            Err(ConfError::AlreadyLogged) => return ERROR,
            Err(ConfError::Duplicate) => format!("\"{name}\" directive is duplicate"),
            Err(ConfError::Invalid(what, value)) => {
                format!("invalid {what} \"{value}\" in \"{name}\" directive")
            }
            Err(ConfError::Message(what)) => what,
        };
        self.log_at_directive(Level::Emerg, &what);
        ERROR
    }

    /// Writes a warning with the position of the current directive.
    pub fn warn(&mut self, what: &str) {
        self.log_at_directive(Level::Warn, what);
    }

    /// Writes a line with the position of the current directive.
    fn log_at_directive(&mut self, level: Level, what: &str) {
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
        // SAFETY: nginx is reading a directive of one of the module's blocks.
        let mut context = unsafe { ConfContext::from_raw(cf) };
        if context.words().first().copied() == Some(b"include".as_slice()) {
            // SAFETY: the function of nginx's own `include`, called for the current directive.
            return unsafe { ngx_conf_include(cf, ptr::null_mut(), conf) };
        }
        type Each<'a> = &'a mut dyn FnMut(&mut ConfContext<'_>) -> Result<(), ConfError>;
        // SAFETY: `block` has set it, and does not return before the end of the block.
        let each: &mut Each<'_> = unsafe { &mut *conf.cast() };
        let result = each(&mut context);
        context.report(result)
    })
}

/// Panics because a configuration is not of the module's type, which would be a bug in this
/// library.
#[expect(clippy::panic, reason = "cannot happen; the entry from nginx would catch it")]
fn wrong_type<T>() -> ! {
    panic!("the module's configuration is not a {}", std::any::type_name::<T>())
}
