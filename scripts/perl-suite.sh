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

# has_browser: one that t/90-browser.t finds too. Without any, that file is left out.
has_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
} >/dev/null

# on_debian: where Chromium is a package. Ubuntu's is a snap, which many machines cannot run.
on_debian() {
    [ "$(. /etc/os-release 2>/dev/null && echo "$ID")" = debian ]
}

# install_test_nginx: Test::Nginx::Socket, which Debian packages in some releases only. Where the
# machine's own release has none, the package of a later one is taken from the same mirror, without
# touching apt's sources: it is plain Perl, and all that it depends on is in every release.
install_test_nginx() {
    ! perl -MTest::Nginx::Socket -e 1 2>/dev/null || return 0
    if package_known libtest-nginx-perl; then
        install_packages libtest-nginx-perl
        return
    fi

    local suite package
    for suite in forky sid; do
        package=$(download_test_nginx "$suite") && [ -n "$package" ] || continue
        install_packages "$package"
        return
    done
    fail "Test::Nginx is in no package that apt can reach; install it with: cpan Test::Nginx"
}

# download_test_nginx SUITE: fetches the package from that suite of Debian, prints its path.
download_test_nginx() {
    local mirror keyring place=$scratch/apt-$1
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -n 1)
    keyring=$(compgen -G '/usr/share/keyrings/debian-archive-keyring.*' | head -n 1)
    [ -n "$mirror" ] && [ -n "$keyring" ] || return 1

    mkdir -p "$place/lists/partial" "$place/cache/archives/partial"
    echo "deb [signed-by=$keyring] $mirror $1 main" >"$place/sources.list"
    local options=(-qq -o "Dir::Etc::SourceList=$place/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$place/lists" -o "Dir::Cache=$place/cache")
    apt-get "${options[@]}" update >&2 &&
        (cd "$place" && apt-get "${options[@]}" download libtest-nginx-perl >&2) &&
        compgen -G "$place/libtest-nginx-perl_*.deb"
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
