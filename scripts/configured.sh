# shellcheck shell=bash
# Tests the module as nginx's own `configure` builds it, with the project's `config`. Sourced; needs messages.sh,
# release-tree.sh, $root, $target and $scratch.

# Files of t/ that check that the module is linked, that its filters have the right order, and that it runs.
readonly configured_files="t/100-stream-response.t t/175-tls-and-http2.t t/400-filters.t t/500-lean.t t/150-cors.t"

# test_configured: builds two nginx binaries from the source of the crate nginx-src, one with --with-compat
# and the module as a separate file, and one with the module linked in, and runs some of t/ with both.
test_configured() {
    local source=$scratch/nginx
    cp -r -- "$(crate_source)" "$source"
    step "configure --add-dynamic-module" build_configured "$source" dynamic \
        --with-compat --add-dynamic-module="$root"
    step "t/ with the dynamic module" run_configured "$source/dynamic/nginx" \
        "$source/dynamic/ngx_http_sse_module.so"
    step "configure --add-module" build_configured "$source" static --add-module="$root"
    step "t/ with the static module" run_configured "$source/static/nginx" static
}

# build_configured SOURCE NAME ARGUMENT...: builds nginx in SOURCE/NAME, with few optimizations. Both builds
# compile the same crates except for the module and the bindings, so the second reuses those of the first.
build_configured() {
    local source=$1 name=$2 other
    (
        cd "$source"
        unset NGINX_SOURCE_DIR NGINX_BUILD_DIR CARGO_TARGET_DIR
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        ./auto/configure --builddir="$name" "${usual_modules[@]}" "${@:3}"
        for other in */ngx_http_sse_module; do
            [ ! -d "$other" ] || [ -d "$name/ngx_http_sse_module" ] || cp -a "$other" "$name/"
        done
        make -f "$name/Makefile" binary
        [ "$name" = static ] || make -f "$name/Makefile" modules
    ) >"$scratch/$name.log" 2>&1 || {
        tail -n 20 "$scratch/$name.log" >&2
        fail "nginx could not be built with the module"
    }
}

# run_configured NGINX MODULE: runs configured_files.
run_configured() {
    # shellcheck disable=SC2086
    run_suite "$1" "$2" $configured_files
}
