//! Variables that the module adds to nginx.

use super::bits;
use super::guard::guarded;
use super::pool::{self, bytes, copied};
use super::request::Request;
use nginx_sys::{
    ngx_conf_t, ngx_hash_key_t, ngx_http_add_variable, ngx_http_conf_ctx_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_request_t, ngx_http_variable_value_t,
    ngx_int_t, ngx_str_t, ngx_uint_t, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_PREFIX,
    NGX_OK,
};
use std::sync::OnceLock;

/// A variable: its name without the dollar sign, and a function that returns its value for a
/// request, if it has one.
pub struct Variable {
    pub name: &'static str,
    pub get: VariableGetter,
}

/// How a variable gets its value.
pub enum VariableGetter {
    /// Whenever it is used.
    EachTime(fn(&Request) -> Option<Vec<u8>>),
    /// Once a request.
    Once(fn(&Request) -> Option<Vec<u8>>),
    /// Once a request, for each of the variables whose names begin with this name. The argument is
    /// the rest of the name, in lower case.
    OnceForEach(fn(&[u8]) -> Option<Vec<u8>>),
    /// Whenever it is used, for each of the variables whose names begin with this name. The
    /// argument is the rest of the name, in lower case.
    EachTimeForEach(fn(&Request, &[u8]) -> Option<Vec<u8>>),
    /// Whenever it is used, for each of the variables that directives declare. The argument is the
    /// name, in lower case; the row's own name is not used.
    Declared(fn(&Request, &[u8]) -> Option<Vec<u8>>),
}

impl VariableGetter {
    /// Returns nginx's flags.
    fn flags(&self) -> ngx_uint_t {
        let flags = match self {
            VariableGetter::EachTime(_) | VariableGetter::Declared(_) => NGX_HTTP_VAR_NOCACHEABLE,
            VariableGetter::Once(_) => 0,
            VariableGetter::OnceForEach(_) => NGX_HTTP_VAR_PREFIX,
            VariableGetter::EachTimeForEach(_) => NGX_HTTP_VAR_PREFIX | NGX_HTTP_VAR_NOCACHEABLE,
        };
        flags as ngx_uint_t
    }
}

/// All variables of the module.
static ALL: OnceLock<&'static [Variable]> = OnceLock::new();

/// Adds variables to a configuration. Returns nginx's result code.
///
/// # Safety
/// `cf` is the configuration that nginx is reading, before its `http` block.
pub(super) unsafe fn add(cf: *mut ngx_conf_t, variables: &'static [Variable]) -> ngx_int_t {
    ALL.get_or_init(|| variables);
    for variable in variables {
        if matches!(variable.get, VariableGetter::Declared(_)) {
            continue;
        }
        let mut name =
            ngx_str_t { len: variable.name.len(), data: variable.name.as_ptr().cast_mut() };
        // SAFETY: the caller vouches for the configuration; nginx copies the name.
        let added = unsafe { ngx_http_add_variable(cf, &mut name, variable.get.flags()) };
        if added.is_null() {
            return NGX_ERROR as ngx_int_t;
        }
        // SAFETY: nginx has created or found the entry.
        let added = unsafe { &mut *added };
        match variable.get {
            VariableGetter::OnceForEach(_) | VariableGetter::EachTimeForEach(_) => {
                added.get_handler = Some(get_for_each);
            }
            _ => {
                added.get_handler = Some(get);
                added.data = std::ptr::from_ref(variable) as usize;
            }
        }
    }
    NGX_OK as ngx_int_t
}

/// Returns the name of a variable that the configuration defines itself although it begins with one
/// of these `names`, if there is one: `set`, `map`, or a named capture of a regular expression would
/// take the place of the module's variable. nginx itself refuses that for whole names only.
///
/// # Safety
/// `cf` is the configuration that nginx is reading, behind its `http` block.
pub(super) unsafe fn redefined(
    cf: *mut ngx_conf_t,
    variables: &'static [Variable],
) -> Option<String> {
    let is_prefix = |variable: &&Variable| {
        let flags = variable.get.flags() & NGX_HTTP_VAR_PREFIX as ngx_uint_t;
        flags != 0
    };
    // SAFETY: the core module has a main configuration in `http`; nginx frees the array of all
    // variables later, and their names are in the configuration's pool.
    let defined = unsafe {
        let context: *const ngx_http_conf_ctx_t = (*cf).ctx.cast();
        let core = *(*context).main_conf.add(ngx_http_core_module.ctx_index);
        (*(*core.cast::<ngx_http_core_main_conf_t>()).variables_keys).keys
    };
    let keys: *const ngx_hash_key_t = defined.elts.cast();
    (0..defined.nelts).find_map(|index| {
        // SAFETY: as above; the array has `nelts` elements.
        let name = unsafe { bytes(&(*keys.add(index)).key) };
        let mut prefixes = variables.iter().filter(is_prefix);
        let is_own = prefixes.any(|variable| name.starts_with(variable.name.as_bytes()));
        is_own.then(|| String::from_utf8_lossy(name).into_owned())
    })
}

unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let text = guarded(None, || {
        // SAFETY: `add` has set it to the address of a static.
        let variable = unsafe { &*(data as *const Variable) };
        // SAFETY: nginx evaluates variables for living requests.
        let request = unsafe { Request::from_raw(r) }?;
        let text = match variable.get {
            VariableGetter::EachTime(get) | VariableGetter::Once(get) => get(&request)?,
            _ => return None,
        };
        // SAFETY: the pool is the request's.
        unsafe { copied(request.pool(), &text) }.ok()
    });
    // SAFETY: nginx passes the value to be set.
    set(unsafe { &mut *value }, text)
}

/// As `get`. `data` is the address of the variable's whole name.
unsafe extern "C" fn get_for_each(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let text = guarded(None, || {
        // SAFETY: nginx passes the name that was looked up.
        let name = unsafe { bytes(&*(data as *const ngx_str_t)) };
        // SAFETY: nginx evaluates variables for living requests.
        let request = unsafe { Request::from_raw(r) }?;
        let text = ALL.get()?.iter().find_map(|variable| {
            let rest = name.strip_prefix(variable.name.as_bytes())?;
            match variable.get {
                VariableGetter::OnceForEach(get) => get(rest),
                VariableGetter::EachTimeForEach(get) => get(&request, rest),
                _ => None,
            }
        })?;
        // SAFETY: the pool is the request's.
        unsafe { copied(request.pool(), &text) }.ok()
    });
    // SAFETY: nginx passes the value to be set.
    set(unsafe { &mut *value }, text)
}

/// The result of declaring a variable.
pub(super) enum Declared {
    /// It was declared.
    Now,
    /// `set`, `map`, or another directive has defined a variable with this name before. nginx only
    /// refuses that in the opposite order.
    Before,
}

/// Adds a variable whose value `VariableGetter::Declared` returns. Returns `None` if that fails,
/// which nginx has logged.
///
/// # Safety
/// `cf` is the configuration that nginx is reading.
pub(super) unsafe fn declare(cf: *mut ngx_conf_t, name: &[u8]) -> Option<Declared> {
    let lower = name.to_ascii_lowercase();
    // SAFETY: the pool lives as long as the configuration.
    let kept = unsafe { pool::keep((*cf).pool, lower) }.ok()?;
    let mut name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
    // SAFETY: the caller vouches for the configuration; nginx copies the name.
    let added = unsafe { ngx_http_add_variable(cf, &mut name, flags) };
    // SAFETY: nginx has created or found the entry, or null.
    let added = unsafe { added.as_mut() }?;
    if added.get_handler.is_some() {
        return Some(Declared::Before);
    }
    added.get_handler = Some(get_declared);
    added.data = kept.as_ptr() as usize;
    Some(Declared::Now)
}

/// As `get`. `data` is the address of the variable's name.
unsafe extern "C" fn get_declared(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let text = guarded(None, || {
        // SAFETY: `declare` has stored it in the configuration's pool.
        let name = unsafe { &*(data as *const Vec<u8>) };
        // SAFETY: nginx evaluates variables for living requests.
        let request = unsafe { Request::from_raw(r) }?;
        let text = ALL.get()?.iter().find_map(|variable| match variable.get {
            VariableGetter::Declared(get) => get(&request, name),
            _ => None,
        })?;
        // SAFETY: the pool is the request's.
        unsafe { copied(request.pool(), &text) }.ok()
    });
    // SAFETY: nginx passes the value to be set.
    set(unsafe { &mut *value }, text)
}

/// Sets a variable's value, or that it has none.
fn set(value: &mut ngx_http_variable_value_t, text: Option<ngx_str_t>) -> ngx_int_t {
    let Some(text) = text else {
        // SAFETY: a reference is valid.
        unsafe { bits::variable_value::set_not_found(value, 1) };
        return NGX_OK as ngx_int_t;
    };
    // SAFETY: a reference is valid.
    unsafe {
        bits::variable_value::set_len(value, text.len as u32);
        bits::variable_value::set_valid(value, 1);
        bits::variable_value::set_no_cacheable(value, 0);
        bits::variable_value::set_not_found(value, 0);
    }
    value.data = text.data;
    NGX_OK as ngx_int_t
}
