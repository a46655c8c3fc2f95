# shellcheck shell=bash
# Installs the dependencies of t/, and runs it. Sourced; needs messages.sh, packages.sh, $root, and $scratch.

# missing_test_packages: prints the packages that t/ needs, one per line.
missing_test_packages() {
    command -v prove >/dev/null || echo perl
    command -v ps >/dev/null || echo procps
    command -v make >/dev/null || echo make
    command -v curl >/dev/null || echo curl
    command -v openssl >/dev/null || echo openssl
    command -v groff >/dev/null || echo groff-base
    has_redis || echo redis-tools
    # Validates the Prometheus format of sse_status. promtool is packaged with a server that apt would
    # start.
    command -v promtool >/dev/null ||
        /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || echo python3-prometheus-client
    has_browser || ! on_debian || echo chromium
    missing_nginx_modules
}

# missing_nginx_modules: prints third-party modules that Debian and Ubuntu package for their nginx. If they
# are not available, tests that combine streams with them are skipped.
missing_nginx_modules() {
    { ! command -v nginx || dpkg -s nginx-common; } >/dev/null 2>&1 || return 0
    wants_nginx_module ngx_http_subs_filter_module libnginx-mod-http-subs-filter
    wants_nginx_module ngx_http_lua_module libnginx-mod-http-lua
}

# wants_nginx_module FILE PACKAGE: prints PACKAGE if it is available and not installed.
wants_nginx_module() {
    [ -e "/usr/lib/nginx/modules/$1.so" ] || ! package_known "$2" || echo "$2"
}

# has_redis: true if the programs that t/lib/SSE/Redis.pm starts are installed. redis-tools contains the
# server, too, as redis-check-rdb, and apt starts no service for that package, unlike for redis-server.
has_redis() {
    { command -v redis-server || command -v redis-check-rdb; } && command -v redis-cli
} >/dev/null

# has_browser: true if there is a browser that t/900-browser.t finds. Without one, that file is skipped.
has_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
} >/dev/null

# on_debian: true on Debian, where Chromium is a package. Ubuntu's is a snap, which many machines cannot
# run.
on_debian() {
    [ "$(. /etc/os-release 2>/dev/null && echo "$ID")" = debian ]
}

# run_suite NGINX MODULE FILE...: runs the files, relative to $root, with that nginx. Each uses its own port
# and directory and mostly waits, so two run in parallel for each processor.
run_suite() {
    (
        cd "$root" || exit
        export TMPDIR=$scratch SSE_NGINX_BINARY=$1 SSE_MODULE=$2
        # Some tests compile a module of their own.
        export NGINX_SOURCE_DIR=${NGINX_SOURCE_DIR:-} NGINX_BUILD_DIR=${NGINX_BUILD_DIR:-}
        prove --timer -I t/lib --jobs $((2 * $(nproc))) "${@:3}"
    )
}

# install_http3_client: installs aioquic, the HTTP/3 client of t/180-http3.t, in a virtual environment. If that
# fails, the file is skipped.
install_http3_client() {
    local environment=$target/aioquic python
    export SSE_HTTP3_PYTHON=$environment/bin/python3
    ! "$SSE_HTTP3_PYTHON" -c 'import aioquic.h3.connection' 2>/dev/null || return 0
    for python in python3 /usr/bin/python3; do
        if "$python" -m venv "$environment" >/dev/null 2>&1; then
            "$environment/bin/pip" --quiet install 'aioquic>=1.2,<2' || say "    aioquic could not be installed"
            return 0
        fi
    done
    say "    Python has no venv (Debian: python3-venv), so the tests of HTTP/3 are skipped"
}
