# shellcheck shell=bash
# Tests what scripts/package makes: it is made in a folder with a release, and tested in a new folder with the
# same release. Sourced; needs messages.sh, release-folder.sh and release-check.sh.

readonly module_package=libnginx-mod-http-sse
readonly module_enabled=etc/nginx/modules-enabled/50-mod-http-sse.conf

# make_packages SUITE FOLDER: sets deb and tarball. FOLDER.fresh stays as debootstrap created it.
make_packages() {
    local provided
    make_folder "$1" "$2.fresh"
    [ -d "$2" ] || copy_folder "$2.fresh" "$2"
    enter_folder "$2"
    say "==> scripts/package"
    { read -r deb && read -r tarball; } < <("${here[@]}" scripts/package | tail -n 2) || true
    [ -f "$2/${tarball:-}" ] || fail "scripts/package made nothing"
    deb=$2$deb tarball=$2$tarball

    provided=$(chroot "$2" dpkg-query -W -f '${Provides}' nginx | grep -o 'nginx-abi-[^ ,]*')
    [[ ", $(dpkg-deb -f "$deb" Depends), " == *", ${provided:?}, "* ]] ||
        fail "the package does not depend on $provided"
}

# copy_folder FROM TO
copy_folder() {
    rm -rf --one-file-system "$2" "$2.new"
    cp -a "$1" "$2.new"
    mv "$2.new" "$2"
}

# enter_fresh_folder FOLDER: sets folder to a copy of FOLDER.fresh, and inside to the prefix of commands that
# run in it.
enter_fresh_folder() {
    folder=$1.installed
    copy_folder "$1.fresh" "$folder"
    mount_system "$folder"
    inside=(chroot "$folder" env -i -C / HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    cp "$deb" "$folder/opt/sse.deb"
}

check_packages() {
    work=$(mktemp -d)
    check_installed
    check_upgrade
    check_removed
    check_tarball
    rm -rf "$work"
}

# check_installed: apt installs nginx, which loads the module without further configuration.
check_installed() {
    say "==> the package is installed"
    apt update
    apt install -y --no-install-recommends /opt/sse.deb
    [ -e "$folder/usr/sbin/nginx" ] || fail "the package does not install nginx"
    is_enabled || fail "the package does not enable the module"
    "${inside[@]}" dpkg --verify "$module_package" | grep . && fail "installed files differ from the package"
    check_stream
}

# check_upgrade: apt offers an nginx with another ABI, and later the module for it.
check_upgrade() {
    local architecture done_by
    say "==> an nginx with another ABI"
    architecture=$(dpkg-deb -f "$deb" Architecture)
    add_to_archive "Package: nginx" "Version: 99.0-1" "Architecture: $architecture" "Provides: nginx-abi-99.0-1"
    done_by=$(apt -s upgrade)
    grep -qE "^(Inst nginx |Remv $module_package )" <<<"$done_by" && fail "apt upgrade: $done_by"
    done_by=$(apt -s install nginx)
    grep -q "^Remv $module_package " <<<"$done_by" || fail "apt install nginx: $done_by"

    add_to_archive "Package: $module_package" "Version: 99.0+nginx99.0" "Architecture: $architecture" \
        "Depends: nginx-abi-99.0-1"
    done_by=$(apt -s upgrade)
    grep -q "^Inst nginx " <<<"$done_by" && grep -q "^Inst $module_package " <<<"$done_by" || fail "apt upgrade: $done_by"
    rm "$folder/etc/apt/sources.list.d/archive.list"
    apt update
}

# add_to_archive FIELD...: adds an empty package to an archive that apt in the folder reads.
add_to_archive() {
    local archive=$folder/opt/archive name
    name=$(sed -n 's/^Package: //p' <<<"$1")
    mkdir -p "$work/$name/DEBIAN" "$archive"
    printf '%s\n' "$@" "Maintainer: nobody <root@localhost>" "Description: nothing" >"$work/$name/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$work/$name" "$archive/$name.deb" >&2
    {
        cat "$work/$name/DEBIAN/control"
        echo "Filename: ./$name.deb"
        echo "Size: $(stat -c %s "$archive/$name.deb")"
        echo "SHA256: $(sha256sum "$archive/$name.deb" | cut -d ' ' -f 1)"
        echo
    } >>"$archive/Packages"
    echo "deb [trusted=yes] file:/opt/archive ./" >"$folder/etc/apt/sources.list.d/archive.list"
    apt update
}

# check_removed: nginx runs without the module, and with it again, and purging leaves no files.
check_removed() {
    say "==> the package is removed"
    rm "$folder/etc/nginx/sites-enabled/sse"
    apt remove -y "$module_package"
    ! is_enabled || fail "the module is enabled without its package"
    "${inside[@]}" nginx -t || fail "nginx does not start without the package"
    apt install -y /opt/sse.deb
    is_enabled || fail "a second installation does not enable the module"

    say "==> an unpacked package is removed, which does not run its prerm"
    "${inside[@]}" dpkg --unpack /opt/sse.deb
    apt remove -y "$module_package"
    ! is_enabled || fail "the module is enabled without its package, which was not configured"
    apt install -y /opt/sse.deb
    rm "$folder/$module_enabled"
    apt install -y --reinstall /opt/sse.deb
    ! is_enabled || fail "a module that an administrator has disabled is enabled again"
    apt purge -y "$module_package"
    find "$folder/etc" "$folder/usr" -iname '*http[-_]sse*' | grep . && fail "files are left after purging the package"
    "${inside[@]}" nginx -t || fail "nginx does not start without the package"
}

# check_tarball: nginx loads the module from the unpacked tarball.
check_tarball() {
    local unpacked=${tarball##*/}
    unpacked=/opt/${unpacked%.tar.gz}
    say "==> the tarball"
    tar -C "$folder/opt" -xzf "$tarball"
    echo "load_module $unpacked/ngx_http_sse_module.so;" >"$folder/$module_enabled"
    check_stream
}

# check_stream: nginx, configured by its package except for the site, delivers an event and logs no error.
check_stream() {
    local port log=$folder/var/log/nginx/error.log
    port=$(free_port)
    rm -f "$folder/etc/nginx/sites-enabled/default" "$log"
    printf '%s\n' "server {" "    listen 127.0.0.1:$port;" "    location = /stream { sse_stream messages; }" \
        "    location = /publish { sse_publish messages; }" "}" >"$folder/etc/nginx/sites-enabled/sse"
    "${inside[@]}" nginx -t && "${inside[@]}" nginx || fail "nginx does not start with the module"
    check_first_event "$port" >&2 || fail "no event arrived"
    "${inside[@]}" nginx -s quit
    wait_until ended $$ || fail "nginx does not exit"
    ! grep -v ' \[notice\] ' "$log" || fail "nginx's error log contains these lines"
}

is_enabled() { [ -L "$folder/$module_enabled" ]; }

ended() { [ ! -e "$folder/run/nginx.pid" ]; }

# apt ARGUMENT...: runs apt-get in the folder.
apt() {
    "${inside[@]}" apt-get -q "$@" </dev/null || fail "apt-get $* failed"
}
