# shellcheck shell=bash
# The nginx whose source the crate nginx-src brings, configured in the ways in which people configure it.
# Sourced; needs tell.sh, packages.sh, nginx.sh and $root.

# The modules that t/ combines streams with.
readonly usual_modules=(--with-debug --with-threads --with-http_ssl_module --with-http_v2_module
    --with-http_realip_module --with-http_stub_status_module --with-http_auth_request_module
    --with-http_sub_module --with-http_addition_module --with-http_secure_link_module
    --with-http_gunzip_module)

# What `nginx -V` prints of nginx.org's packages, but for the user, whom only these packages make.
readonly official_arguments=(--prefix=/etc/nginx --sbin-path=/usr/sbin/nginx
    --modules-path=/usr/lib/nginx/modules --conf-path=/etc/nginx/nginx.conf
    --error-log-path=/var/log/nginx/error.log --http-log-path=/var/log/nginx/access.log
    --pid-path=/run/nginx.pid --lock-path=/run/nginx.lock
    --http-client-body-temp-path=/var/cache/nginx/client_temp
    --http-proxy-temp-path=/var/cache/nginx/proxy_temp
    --http-fastcgi-temp-path=/var/cache/nginx/fastcgi_temp
    --http-uwsgi-temp-path=/var/cache/nginx/uwsgi_temp --http-scgi-temp-path=/var/cache/nginx/scgi_temp
    --with-compat --with-file-aio --with-threads --with-http_addition_module
    --with-http_auth_request_module --with-http_dav_module --with-http_flv_module
    --with-http_gunzip_module --with-http_gzip_static_module --with-http_mp4_module
    --with-http_random_index_module --with-http_realip_module --with-http_secure_link_module
    --with-http_slice_module --with-http_ssl_module --with-http_stub_status_module
    --with-http_sub_module --with-http_v2_module --with-http_v3_module --with-mail
    --with-mail_ssl_module --with-stream --with-stream_realip_module --with-stream_ssl_module
    --with-stream_ssl_preread_module
    "--with-cc-opt=-g -O2 -fstack-protector-strong -Wformat -Werror=format-security -Wp,-D_FORTIFY_SOURCE=2 -fPIC"
    "--with-ld-opt=-Wl,-z,relro -Wl,-z,now -Wl,--as-needed -pie")

# enter_tree NAME FOLDER: makes the nginx of that name in FOLDER, and sets `here`.
enter_tree() {
    mkdir -p "$2"
    case $1 in
        source) make_tree "$2/nginx" nginx "${usual_modules[@]}" ;;
        source-compat) make_tree "$2/nginx" nginx --with-compat "${usual_modules[@]}" ;;
        source-plain) make_tree "$2/nginx" nginx ;;
        nginx.org)
            # The nginx that runs is made apart from the tree that the module is built for.
            make_tree "$2/installed" nginx "${official_arguments[@]}"
            make_tree "$2/nginx" configured "${official_arguments[@]}"
            make_tree "$2/compat-only" configured --with-compat
            ;;
    esac
    here=(env -u NGINX_BUILD_DIR -C "$root" "NGINX_SOURCE_DIR=$2/nginx" "CARGO_TARGET_DIR=$2/target"
        "PATH=$2/installed/objs:$PATH")
}

# check_refusal FOLDER: a module that was built for --with-compat and nothing else has no TLS and no HTTP/2, which
# nginx does not notice; the module does, and says so.
check_refusal() {
    local module said
    say "==> the module for --with-compat alone"
    module=$(NGINX_SOURCE_DIR=$1/compat-only CARGO_TARGET_DIR=$1/target "$root/scripts/build" | tail -n 1)
    printf 'load_module "%s";\npid nginx.pid;\nevents { }\nhttp { access_log off; }\n' "$module" >"$1/refused.conf"
    said=$("$1/installed/objs/nginx" -t -e stderr -p "$1" -c "$1/refused.conf" 2>&1) || true
    say "$said"
    [[ $said == *"was built for an nginx without ngx_http_"* ]]
}

# make_tree FOLDER UP-TO ARGUMENT...: the source in FOLDER, configured with the arguments, and built unless
# UP-TO is `configured`. One that was made with the same arguments is left alone.
make_tree() {
    local source made_for
    source=$(crate_source)
    made_for="$source ${*:2}"
    [ "$(cat "$1/made-for" 2>/dev/null)" != "$made_for" ] || return 0

    say "==> nginx $(source_version "$source"), ${*:2}"
    rm -rf "$1"
    cp -r "$source" "$1"
    (
        cd "$1"
        ./auto/configure "${@:3}"
        [ "$2" = configured ] || make -j "$(nproc)"
    ) >&2 || fail "nginx could not be made in $1"
    echo "$made_for" >"$1/made-for"
}

# crate_source: where cargo has unpacked the source of nginx.
crate_source() {
    local manifest
    manifest=$(cd "$root" && cargo metadata --locked --format-version 1 --features vendored |
        grep -o '"manifest_path":"[^"]*/nginx-src-[^"]*"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$manifest" ] || fail "cargo does not say where the crate nginx-src is"
    echo "${manifest%/*}/nginx"
}
