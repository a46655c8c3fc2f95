# shellcheck shell=bash
# What t/ needs to run, and how it is run. Sourced; needs tell.sh, packages.sh, $root and $scratch.

# missing_test_packages: what must be installed before t/ runs, one name a line.
missing_test_packages() {
    command -v prove >/dev/null || echo perl
    command -v ps >/dev/null || echo procps
    command -v make >/dev/null || echo make
    command -v curl >/dev/null || echo curl
    command -v openssl >/dev/null || echo openssl
    has_redis || echo redis-tools
    # Reads what sse_status tells Prometheus; its own promtool comes with a server that apt would start.
    command -v promtool >/dev/null ||
        /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || echo python3-prometheus-client
    has_browser || ! on_debian || echo chromium
    missing_nginx_modules
}

# missing_nginx_modules: modules of somebody else that Debian and Ubuntu package for their own nginx. Where
# they are not available, the tests of t/ that combine streams with them are left out.
missing_nginx_modules() {
    { ! command -v nginx || dpkg -s nginx-common; } >/dev/null 2>&1 || return 0
    wants_nginx_module ngx_http_subs_filter_module libnginx-mod-http-subs-filter
    wants_nginx_module ngx_http_lua_module libnginx-mod-http-lua
}

# wants_nginx_module FILE PACKAGE: prints PACKAGE, unless it is there or not to be had.
wants_nginx_module() {
    [ -e "/usr/lib/nginx/modules/$1.so" ] || ! package_known "$2" || echo "$2"
}

# has_redis: what t/lib/SSE/Redis.pm starts. redis-tools brings the server's program too, as redis-check-rdb,
# and unlike redis-server no service that apt would start.
has_redis() {
    { command -v redis-server || command -v redis-check-rdb; } && command -v redis-cli
} >/dev/null

# has_browser: one that t/900-browser.t finds too. Without any, that file is left out.
has_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
} >/dev/null

# on_debian: where Chromium is a package. Ubuntu's is a snap, which many machines cannot run.
on_debian() {
    [ "$(. /etc/os-release 2>/dev/null && echo "$ID")" = debian ]
}

# run_suite NGINX MODULE FILE...: the files, named from $root, with that nginx. Each takes a port and a
# directory of its own and mostly waits, so two for each processor run side by side.
run_suite() {
    (
        cd "$root" || exit
        export TMPDIR=$scratch SSE_NGINX_BINARY=$1 SSE_MODULE=$2
        prove --timer -I t/lib --jobs $((2 * $(nproc))) "${@:3}"
    )
}
