# shellcheck shell=bash
# Compiles the module, and gives its file the name that nginx users expect. Sourced; needs $root and $target.

# compile PROFILE [ARGUMENT...]: replaces the shell, usually a subshell, with cargo.
compile() {
    # A target set by the user's cargo configuration would move the file into a directory of its own.
    unset CARGO_BUILD_TARGET
    exec cargo build --manifest-path "$root/Cargo.toml" --target-dir "$target" --locked --profile "$@"
}

# compile_ahead PROFILE: starts to compile bindgen in the background, in a process group of its own, and sets `ahead`
# to it. bindgen reads nginx's headers for nginx-sys, whose build fails here, as expected, because there are none yet.
compile_ahead() {
    set -m
    (
        unset NGINX_SOURCE_DIR NGINX_BUILD_DIR
        compile "$1" --package nginx-sys
    ) 2> >(grep --line-buffered '^ *Compiling ' >&2) &
    ahead=$!
    set +m
}

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
