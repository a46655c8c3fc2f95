# shellcheck shell=bash
# Finds the nginx for which the module is built: its binary, headers, and configured source tree. Sourced; needs
# messages.sh, toolchain.sh (version_at_least), $root, and $target.

# The directory in which nginx-dev of Debian and Ubuntu installs headers, configure, and its arguments.
readonly packaged_source=/usr/share/nginx/src

# The oldest nginx that the crate ngx supports.
readonly oldest_nginx=1.22.0

# The newest nginx with which the module was tested (scripts/test releases).
readonly newest_tested_nginx=1.30.6

# nginx_binary: prints the path of the installed nginx, or nothing.
nginx_binary() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx || true
}

# nginx_package: prints the Debian package that contains the installed nginx, or nothing.
nginx_package() {
    dpkg-query -S "$(nginx_binary)" 2>/dev/null | sed -n '1s/[:,].*//p'
}

# nginx_version BINARY: prints its version, such as 1.22.1.
nginx_version() {
    "$1" -v 2>&1 | sed -n 's|^nginx version: [^/]*/\([0-9.]*\).*|\1|p'
}

# nginx_to_run: prints the binary for which scripts/build has built the module: the one in the tree that the
# caller has named, if there is one, or the installed one.
nginx_to_run() {
    local own=${NGINX_BUILD_DIR:-${NGINX_SOURCE_DIR:-}/objs}/nginx
    if names_own_tree && [ -x "$own" ]; then
        absolute "$own"
    else
        nginx_binary
    fi
}

# source_version DIRECTORY: prints the version of an nginx source tree.
source_version() {
    sed -n 's/^#define NGINX_VERSION  *"\([0-9.]*\)".*/\1/p' "$1/src/core/nginx.h" 2>/dev/null
}

# names_own_tree: true if the caller has set a configured tree, so that the installed nginx is not used.
names_own_tree() {
    [ -n "${NGINX_SOURCE_DIR:-}${NGINX_BUILD_DIR:-}" ]
}

# missing_packages: prints the packages that must be installed before a build, one per line.
missing_packages() {
    command -v cc >/dev/null || printf '%s\n' gcc libc6-dev
    has_libclang || echo libclang-dev
    names_own_tree && return
    [ -n "$(nginx_binary)" ] || echo nginx
    [ -x "$packaged_source/configure" ] || missing_libraries
}

# missing_libraries: prints the missing dependencies of nginx-dev that configure needs.
missing_libraries() {
    [ -e /usr/include/pcre2.h ] || echo libpcre2-dev
    [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
}

# has_libclang: true if the library that bindgen uses to read nginx's headers is installed, and C's own headers,
# which are a separate package in Debian.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || {
        compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null &&
            compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null
    } || { ! command -v apt-get >/dev/null && ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so'; }
}

# choose_tree: sets NGINX_SOURCE_DIR and NGINX_BUILD_DIR for cargo, and
# nginx_to_check, the binary that must be able to load the module, if one is known.
choose_tree() {
    if names_own_tree; then
        choose_named_tree
    else
        choose_installed_tree
    fi
}

choose_named_tree() {
    NGINX_BUILD_DIR=$(absolute "${NGINX_BUILD_DIR:-$NGINX_SOURCE_DIR/objs}")
    NGINX_SOURCE_DIR=$(absolute "${NGINX_SOURCE_DIR:-$NGINX_BUILD_DIR/..}")
    [ -f "$NGINX_SOURCE_DIR/src/core/nginx.h" ] ||
        fail "$NGINX_SOURCE_DIR is not an nginx source tree; set NGINX_SOURCE_DIR to one"
    [ -f "$NGINX_BUILD_DIR/ngx_auto_config.h" ] && [ -f "$NGINX_BUILD_DIR/Makefile" ] ||
        fail "$NGINX_BUILD_DIR is not configured; run in $NGINX_SOURCE_DIR:" \
            "./configure --builddir=$NGINX_BUILD_DIR, with the arguments that nginx -V prints"
    nginx_to_check=
    [ ! -x "$NGINX_BUILD_DIR/nginx" ] || nginx_to_check=$NGINX_BUILD_DIR/nginx
    say "building for nginx $(source_version "$NGINX_SOURCE_DIR") in $NGINX_SOURCE_DIR"
}

choose_installed_tree() {
    local have
    nginx_to_check=$(nginx_binary)
    have=$(nginx_version "$nginx_to_check")

    version_at_least "$have" "$oldest_nginx" ||
        fail "$nginx_to_check is version $have, and the oldest supported version is $oldest_nginx;" \
            "install a newer nginx, or name another in NGINX_SOURCE_DIR"
    choose_packaged_source "$have"
    NGINX_BUILD_DIR=$target/objs
    configure_packaged_source "$have"
}

# choose_packaged_source VERSION: sets NGINX_SOURCE_DIR to the source in the installed nginx-dev of that version, or
# in a downloaded one.
choose_packaged_source() {
    NGINX_SOURCE_DIR=$packaged_source
    [ "$(source_version "$packaged_source")" = "$1" ] || download_packaged_source
}

# download_packaged_source: unpacks the nginx-dev of the installed nginx below $target and sets
# NGINX_SOURCE_DIR to it. Installing the package would install more than a hundred others.
download_packaged_source() {
    local package version place
    package=$(nginx_package) && [ -n "$package" ] ||
        fail "$nginx_to_check does not belong to a Debian package, so there is no nginx-dev for it; set" \
            "NGINX_SOURCE_DIR to its source, configured with the arguments that nginx -V prints"
    version=$(dpkg-query -W -f '${Version}' "$package")
    place=$target/nginx-dev/$version
    [ -d "$place" ] || unpack_package nginx-dev "$version" "$place" ||
        fail "there is no nginx-dev $version for $nginx_to_check; upgrade nginx, or set" \
            "NGINX_SOURCE_DIR to its source, configured with the arguments that nginx -V prints"
    NGINX_SOURCE_DIR=$place/usr/share/nginx/src
}

# unpack_package NAME VERSION DIRECTORY: unpacks a package without installing it. Called by root, apt
# downloads as an unprivileged user.
unpack_package() {
    local downloaded status=0
    say "downloading $1 $2"
    downloaded=$(mktemp -d)
    [ "$(id -u)" -ne 0 ] || chown _apt "$downloaded"
    rm -rf "$3.new"
    mkdir -p "$3.new"
    (cd "$downloaded" && apt-get -qq download "$1=$2" && dpkg-deb -x "$1"_*.deb "$3.new") >&2 &&
        mv "$3.new" "$3" || status=$?
    rm -rf "$downloaded" "$3.new"
    return "$status"
}

# configure_packaged_source VERSION: configures the tree in $NGINX_BUILD_DIR, unless that has been done.
# nginx-dev contains no configured tree, but the arguments of `configure`. An unchanged tree is not configured
# again, because cargo compares modification times.
configure_packaged_source() {
    local stamp=$NGINX_BUILD_DIR/configured-for made_for
    made_for="$1 $NGINX_BUILD_DIR $(cksum <"$NGINX_SOURCE_DIR/conf_flags")"
    say "building for nginx $1 ($nginx_to_check)"
    [ "$(cat "$stamp" 2>/dev/null)" != "$made_for" ] || return 0

    say "configuring nginx $1 in $NGINX_BUILD_DIR"
    rm -rf "$NGINX_BUILD_DIR"
    mkdir -p "$NGINX_BUILD_DIR"
    (
        NGX_CONF_FLAGS=() flags=()
        . "$NGINX_SOURCE_DIR/conf_flags"
        # Debian's flags run programs of dpkg-dev; without these, the flags are empty.
        for flag in "${NGX_CONF_FLAGS[@]}"; do
            [[ $flag == --override-*= ]] || flags+=("$flag")
        done
        cd "$NGINX_SOURCE_DIR"
        ./configure "${flags[@]}" --builddir="$NGINX_BUILD_DIR"
    ) >"$NGINX_BUILD_DIR/configure.log" 2>&1 || {
        tail -n 20 "$NGINX_BUILD_DIR/configure.log" >&2
        fail "nginx $1 could not be configured; see $NGINX_BUILD_DIR/configure.log"
    }
    printf '%s\n' "$made_for" >"$stamp"
}

# warn_of_untested VERSION: prints a warning if this nginx is newer than all tested ones.
warn_of_untested() {
    version_at_least "$newest_tested_nginx" "$1" ||
        say "nginx $1 is newer than $newest_tested_nginx, the newest version with which the module was tested"
}

# check_loads BINARY MODULE: fails unless nginx loads the module. No server is started.
check_loads() {
    local directory status=0 said
    directory=$(mktemp -d)
    printf 'load_module "%s";\npid nginx.pid;\nevents { }\n' "$2" >"$directory/nginx.conf"
    said=$("$1" -e stderr -p "$directory" -c "$directory/nginx.conf" -t 2>&1) || status=$?
    rm -rf "$directory"
    [ "$status" -eq 0 ] || fail "$1 does not load the module: $said"
}

# absolute PATH: prints the path as an absolute one.
absolute() {
    realpath -m -- "$1"
}
