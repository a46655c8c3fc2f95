//! Variables that the module adds to nginx.

use super::bits;
use super::guard::guarded;
use super::pool::{bytes, copied};
use super::request::Request;
use nginx_sys::{
    ngx_conf_t, ngx_http_add_variable, ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t,
    ngx_str_t, ngx_uint_t, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_PREFIX, NGX_OK,
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
}

impl VariableGetter {
    /// Returns nginx's flags.
    fn flags(&self) -> ngx_uint_t {
        let flags = match self {
            VariableGetter::EachTime(_) => NGX_HTTP_VAR_NOCACHEABLE,
            VariableGetter::Once(_) => 0,
            VariableGetter::OnceForEach(_) => NGX_HTTP_VAR_PREFIX,
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
            VariableGetter::OnceForEach(_) => added.get_handler = Some(get_for_each),
            VariableGetter::EachTime(_) | VariableGetter::Once(_) => {
                added.get_handler = Some(get);
                added.data = std::ptr::from_ref(variable) as usize;
            }
        }
    }
    NGX_OK as ngx_int_t
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
            VariableGetter::OnceForEach(_) => return None,
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
        let text = ALL.get()?.iter().find_map(|variable| match variable.get {
            VariableGetter::OnceForEach(get) => get(name.strip_prefix(variable.name.as_bytes())?),
            VariableGetter::EachTime(_) | VariableGetter::Once(_) => None,
        })?;
        // SAFETY: nginx evaluates variables for living requests, and the pool is the request's.
        unsafe { copied((*r).pool, &text) }.ok()
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
