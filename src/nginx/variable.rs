//! Variables that the module adds to nginx.

use super::bits;
use super::guard::guarded;
use super::pool::copied;
use super::request::Request;
use nginx_sys::{
    ngx_conf_t, ngx_http_add_variable, ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t,
    ngx_str_t, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK,
};

/// A variable: its name without the dollar sign, and a function that returns its value for a
/// request, if it has one.
pub struct Variable {
    pub name: &'static str,
    pub get: fn(&Request) -> Option<Vec<u8>>,
}

/// Adds variables to a configuration. Returns nginx's result code.
///
/// # Safety
/// `cf` is the configuration that nginx is reading, before its `http` block.
pub(super) unsafe fn add(cf: *mut ngx_conf_t, variables: &'static [Variable]) -> ngx_int_t {
    for variable in variables {
        let mut name =
            ngx_str_t { len: variable.name.len(), data: variable.name.as_ptr().cast_mut() };
        // SAFETY: the caller vouches for the configuration; nginx copies the name.
        let added =
            unsafe { ngx_http_add_variable(cf, &mut name, NGX_HTTP_VAR_NOCACHEABLE as usize) };
        if added.is_null() {
            return NGX_ERROR as ngx_int_t;
        }
        // SAFETY: nginx has created or found the entry.
        let added = unsafe { &mut *added };
        added.get_handler = Some(get);
        added.data = std::ptr::from_ref(variable) as usize;
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
        let text = (variable.get)(&request)?;
        // SAFETY: the pool is the request's.
        unsafe { copied(request.pool(), &text) }.ok()
    });
    // SAFETY: nginx passes the value to be set.
    let value = unsafe { &mut *value };
    let Some(text) = text else {
        // SAFETY: as above.
        unsafe { bits::variable_value::set_not_found(value, 1) };
        return NGX_OK as ngx_int_t;
    };
    // SAFETY: as above.
    unsafe {
        bits::variable_value::set_len(value, text.len as u32);
        bits::variable_value::set_valid(value, 1);
        bits::variable_value::set_no_cacheable(value, 0);
        bits::variable_value::set_not_found(value, 0);
    }
    value.data = text.data;
    NGX_OK as ngx_int_t
}
