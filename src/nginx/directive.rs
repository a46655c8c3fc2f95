//! Directives that the module adds to nginx's configuration.

use super::conf_context::ConfContext;
use super::conf_error::{ConfError, ERROR};
use super::guard::guarded;
use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_str_t, ngx_uint_t, NGX_CONF_1MORE, NGX_CONF_2MORE, NGX_CONF_ANY,
    NGX_CONF_BLOCK, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF,
};
use std::ffi::{c_char, c_void, CStr};

/// A directive.
pub struct Directive {
    pub name: &'static CStr,
    pub context: DirectiveContext,
    pub arguments: Arguments,
    pub set: fn(&mut ConfContext<'_>) -> Result<(), ConfError>,
}

/// The context of a directive: the blocks in which it may occur.
#[derive(Clone, Copy)]
pub enum DirectiveContext {
    /// `http`. The directive is a block itself.
    HttpBlock,
    /// `http`.
    Http,
    /// `http`, `server`, `location`.
    HttpServerLocation,
    /// `location`.
    Location,
}

/// How many arguments a directive takes. nginx rejects any other number.
#[derive(Clone, Copy)]
pub enum Arguments {
    One,
    OneOrTwo,
    OneOrMore,
    TwoOrMore,
    Any,
}

impl Directive {
    /// Returns the entry for nginx's table of directives.
    pub(super) const fn command(&'static self) -> ngx_command_t {
        let context = match self.context {
            DirectiveContext::HttpBlock => NGX_HTTP_MAIN_CONF | NGX_CONF_BLOCK,
            DirectiveContext::Http => NGX_HTTP_MAIN_CONF,
            DirectiveContext::HttpServerLocation => {
                NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF
            }
            DirectiveContext::Location => NGX_HTTP_LOC_CONF,
        };
        let arguments = match self.arguments {
            Arguments::One => NGX_CONF_TAKE1,
            Arguments::OneOrTwo => NGX_CONF_TAKE12,
            Arguments::OneOrMore => NGX_CONF_1MORE,
            Arguments::TwoOrMore => NGX_CONF_2MORE,
            Arguments::Any => NGX_CONF_ANY | NGX_CONF_NOARGS,
        };
        ngx_command_t {
            name: ngx_str_t {
                len: self.name.count_bytes(),
                data: self.name.as_ptr().cast::<u8>().cast_mut(),
            },
            type_: (context | arguments) as ngx_uint_t,
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
        // SAFETY: `Directive::command` has set it.
        let directive = unsafe { &*(*command).post.cast::<Directive>() };
        // SAFETY: nginx is reading a directive of the module.
        let mut context = unsafe { ConfContext::from_raw(cf) };
        let result = (directive.set)(&mut context);
        context.report(result)
    })
}
