# shellcheck shell=bash
# The module's file, under the name that nginx's users expect of a module. Sourced.

# name_module DIRECTORY: copies the library that cargo has left in DIRECTORY to ngx_http_sse_module.so
# beside it, and prints that path. An nginx that loads or runs the file never sees half of a new one: it
# is renamed into place. An unchanged file is left alone, because nginx takes another file for another
# module and a reload would begin with empty hubs.
name_module() {
    local built=$1/libngx_http_sse_module.so module=$1/ngx_http_sse_module.so
    if ! cmp -s -- "$built" "$module"; then
        cp -- "$built" "$module.$$" && mv -f -- "$module.$$" "$module" || return
    fi
    printf '%s\n' "$module"
}
