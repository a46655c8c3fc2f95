# shellcheck shell=bash
# Creates a release of Debian or Ubuntu in a folder with debootstrap, with the network, the apt settings, and the
# Rust toolchain of this machine. Sourced; needs messages.sh, packages.sh and $root.
#
# It runs in a mount namespace and a process namespace (see scripts/check-release), so all mounts and processes
# end with it.

# make_folder SUITE FOLDER: creates the folder, unless it exists. An incomplete folder is created again.
make_folder() {
    [ ! -d "$2" ] || return 0
    local components=main source keyring
    case $1 in
        noble)
            components=main,universe
            mapfile -t source < <(ubuntu_source "$1")
            keyring=$(keyring_of ubuntu "$2.keyring")
            ;;
        *)
            mapfile -t source < <(mirror_of debian)
            keyring=$(keyring_of debian "$2.keyring")
            ;;
    esac
    [ -n "$keyring" ] || exit
    say "==> debootstrap of $1"
    rm -rf "$2.new"
    debootstrap --variant=minbase --components="$components" --keyring="$keyring" \
        "$1" "$2.new" "${source[@]}" >&2 ||
        fail "$1 could not be created in $2.new; see debootstrap/debootstrap.log there"
    # Services that packages start would take this machine's ports.
    printf '#!/bin/sh\nexit 101\n' >"$2.new/usr/sbin/policy-rc.d"
    chmod 755 "$2.new/usr/sbin/policy-rc.d"
    mv "$2.new" "$2"
}

# mirror_of debian|ubuntu: prints the mirror of that distribution that this machine's apt uses.
mirror_of() {
    apt-get indextargets --format '$(REPO_URI)' | grep -m 1 "/$1/*$"
}

# ubuntu_source SUITE: prints the mirror of Ubuntu and the script for debootstrap, one per line. A debootstrap that
# is older than the suite has no script for it and uses that of an earlier release, which is the same.
ubuntu_source() {
    local scripts=/usr/share/debootstrap/scripts kind='/ubuntu$'
    local script=$scripts/$1
    [ -e "$script" ] || script=$scripts/jammy
    [ "$(dpkg --print-architecture)" = amd64 ] || kind='/ubuntu-ports$'
    mirror_of ubuntu || sed -n 's/.*default_mirror //p' "$script" | grep "$kind" | grep -v old-releases | head -n 1
    echo "$script"
}

# keyring_of debian|ubuntu FOLDER: prints the path of the keys of that distribution's archive. Distributions
# package each other's keys only in later releases, so the keys are unpacked from such a release, which apt
# verifies.
keyring_of() {
    local name=$1-archive-keyring package
    compgen -G "/usr/share/keyrings/$name.[gp]*" | head -n 1 | grep . && return
    mkdir -p "$2"
    package=$(download_package sid ubuntu-keyring "$2") || fail "$name is not in any package that apt can download"
    dpkg-deb -x "$package" "$2"
    compgen -G "$2/usr/share/keyrings/$name.[gp]*" | head -n 1 | grep . || fail "$package does not contain $name"
}

# download_package SUITE NAME FOLDER: downloads a package of another suite of Debian from the same mirror, without
# changing apt's sources, and prints its path.
download_package() {
    local mirror keyring place=$3/apt
    mirror=$(mirror_of debian) || return
    keyring=$(compgen -G '/usr/share/keyrings/debian-archive-keyring.*' | head -n 1)
    [ -n "$keyring" ] || return

    mkdir -p "$place/lists/partial" "$place/cache/archives/partial"
    echo "deb [signed-by=$keyring] $mirror $1 main" >"$place/sources.list"
    local options=(-qq -o "Dir::Etc::SourceList=$place/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$place/lists" -o "Dir::Cache=$place/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update >&2 &&
        (cd "$place" && apt-get "${options[@]}" download "$2" >&2) &&
        compgen -G "$place/$2_*.deb"
}

# enter_folder FOLDER: mounts the system's directories and the toolchain, and sets `here`. The project is copied into
# the folder, where cargo's build products stay.
enter_folder() {
    local name
    mount_system "$1"
    mkdir -p "$1/opt/rust" "$1/opt/cargo/registry"
    bind_read_only "$(cd "$root" && rustc --print sysroot)" "$1/opt/rust"
    bind_read_only "${CARGO_HOME:-$HOME/.cargo}/registry" "$1/opt/cargo/registry"
    copy_project "$1/opt/nginx-sse"

    here=(chroot "$1" env -i -C /opt/nginx-sse HOME=/root LANG=C.UTF-8
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/opt/target)
    for name in "${!CARGO_PROFILE_@}" "${!CARGO_INCREMENTAL@}" http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || here+=("$name=${!name}")
    done
}

# mount_system FOLDER: mounts the kernel's file systems, and sets the network up.
mount_system() {
    mount -t proc proc "$1/proc"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    copy_network_settings "$1"
}

bind_read_only() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

# copy_network_settings FOLDER: copies this machine's network settings, and apt's settings for the network.
copy_network_settings() {
    local file
    for file in /etc/resolv.conf /etc/hosts /etc/apt/apt.conf.d/99* /etc/apt/auth.conf.d/*; do
        [ ! -f "$file" ] || install -D -m 644 "$file" "$1$file"
    done
}

# copy_project FOLDER: copies the files that git tracks or would add, with their times, which cargo compares.
copy_project() {
    rm -rf "$1"
    mkdir -p "$1"
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        tar -C "$root" --null --files-from - --ignore-failed-read --owner 0 --group 0 -c |
        tar -C "$1" -x
}
