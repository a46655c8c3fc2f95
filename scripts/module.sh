# shellcheck shell=bash
# Gives the module's file the name that nginx users expect. Sourced.

# name_module DIRECTORY: copies the library that cargo has built in DIRECTORY to ngx_http_sse_module.so next
# to it, and prints that path. The copy is renamed into place, so that nginx never loads an incomplete file.
# An unchanged file is not replaced, because a running nginx would report on every reload that it was.
name_module() {
    local built=$1/libngx_http_sse_module.so module=$1/ngx_http_sse_module.so
    if ! cmp -s -- "$built" "$module"; then
        cp -- "$built" "$module.$$" && mv -f -- "$module.$$" "$module" || return
    fi
    printf '%s\n' "$module"
}
