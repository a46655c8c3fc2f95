//! The module's own entry in nginx's list of modules.

use nginx_sys::ngx_module_t;

extern "C" {
    /// Defined in `crate::module`. nginx writes the module's numbers into it.
    static mut ngx_http_sse_module: ngx_module_t;
}

/// Returns the address of the module's entry. The entry is written only while nginx loads modules,
/// before it reads the directives inside `http`.
pub(super) fn this_module() -> *const ngx_module_t {
    &raw const ngx_http_sse_module
}
