//! Values in a configuration that may contain variables (`ngx_http_complex_value`).

use super::request::Request;
use nginx_sys::{
    ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_str_t, NGX_OK,
};

/// A compiled value. Valid as long as the configuration for which it was compiled.
pub struct ComplexValue(Box<ngx_http_complex_value_t>);

impl ComplexValue {
    /// Compiles `text`. Returns `None` if it is invalid, which nginx has logged.
    ///
    /// # Safety
    /// `cf` is the configuration that nginx is reading; `text` is in its pool.
    pub(super) unsafe fn compile(cf: *mut ngx_conf_t, text: &[u8]) -> Option<ComplexValue> {
        // SAFETY: both are plain C structures, for which zeros are valid.
        let (mut value, mut call): (Box<ngx_http_complex_value_t>, _) =
            unsafe { (Box::new(std::mem::zeroed()), std::mem::zeroed()) };
        let mut text = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
        let settings: &mut ngx_http_compile_complex_value_t = &mut call;
        settings.cf = cf;
        settings.value = &mut text;
        settings.complex_value = &mut *value;
        // SAFETY: the fields are set as nginx's own setters set them.
        let done = unsafe { ngx_http_compile_complex_value(settings) };
        (done == NGX_OK as isize).then_some(ComplexValue(value))
    }

    /// Evaluates the value for a request. Returns `None` if nginx is out of memory.
    pub fn evaluate<'r>(&self, request: &'r Request) -> Option<&'r [u8]> {
        let mut text = ngx_str_t::empty();
        let value = (&raw const *self.0).cast_mut();
        // SAFETY: the request is alive; nginx only reads the compiled value.
        let done = unsafe { ngx_http_complex_value(request.raw(), value, &mut text) };
        // SAFETY: the string is in the pool of the request or of the configuration.
        (done == NGX_OK as isize).then(|| unsafe { super::pool::bytes(&text) })
    }
}
