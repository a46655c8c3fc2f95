# shellcheck shell=bash
# Builds the nginx of the crate nginx-src with the configure arguments that users use.
# Sourced; needs messages.sh, packages.sh, nginx.sh and $root.

# The modules that t/ combines with streams.
readonly usual_modules=(--with-debug --with-threads --with-http_ssl_module --with-http_v2_module
    --with-http_realip_module --with-http_stub_status_module --with-http_auth_request_module
    --with-http_sub_module --with-http_addition_module --with-http_secure_link_module
    --with-http_gunzip_module)

# The arguments that `nginx -V` of nginx.org's packages prints, except for the user, which only these packages
# create.
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

# enter_tree NAME FOLDER: builds the nginx of that name in FOLDER, and sets `here`.
enter_tree() {
    mkdir -p "$2"
    case $1 in
        source) make_tree "$2/nginx" nginx "${usual_modules[@]}" ;;
        source-compat) make_tree "$2/nginx" nginx --with-compat "${usual_modules[@]}" ;;
        source-plain) make_tree "$2/nginx" nginx ;;
        nginx.org)
            # The running nginx is built separately from the tree for which the module is built.
            make_tree "$2/installed" nginx "${official_arguments[@]}"
            make_tree "$2/nginx" configured "${official_arguments[@]}"
            make_tree "$2/compat-only" configured --with-compat
            ;;
    esac
    here=(env -u NGINX_BUILD_DIR -C "$root" "NGINX_SOURCE_DIR=$2/nginx" "CARGO_TARGET_DIR=$2/target"
        "PATH=$2/installed/objs:$PATH")
}

# check_refusal FOLDER: a module that was built with --with-compat only supports neither TLS nor HTTP/2. nginx does
# not detect this; the module does, and refuses to start.
check_refusal() {
    local module said
    say "==> the module for --with-compat alone"
    module=$(NGINX_SOURCE_DIR=$1/compat-only CARGO_TARGET_DIR=$1/target "$root/scripts/build" | tail -n 1)
    printf 'load_module "%s";\npid nginx.pid;\nevents { }\nhttp { access_log off; }\n' "$module" >"$1/refused.conf"
    said=$("$1/installed/objs/nginx" -t -e stderr -p "$1" -c "$1/refused.conf" 2>&1) || true
    say "$said"
    [[ $said == *"was built for an nginx without ngx_http_"* ]]
}

# make_tree FOLDER UP-TO ARGUMENT...: copies the source to FOLDER, configures it with the arguments, and builds it
# unless UP-TO is `configured`. Does nothing if that has been done with the same arguments.
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
    ) >&2 || fail "nginx could not be built in $1"
    echo "$made_for" >"$1/made-for"
}

# crate_source: prints the directory to which cargo has unpacked nginx's source.
crate_source() {
    local manifest
    manifest=$(cd "$root" && cargo metadata --locked --format-version 1 --features vendored |
        grep -o '"manifest_path":"[^"]*/nginx-src-[^"]*"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$manifest" ] || fail "cargo does not report where the crate nginx-src is"
    echo "${manifest%/*}/nginx"
}
