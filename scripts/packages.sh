# shellcheck shell=bash
# Installs Debian and Ubuntu packages. Sourced; needs messages.sh.

# install_packages NAME...: installs the packages with apt-get, as root or with sudo.
install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        fail "missing packages: $*; this script can only use apt-get, so install them in another way"

    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        fail "packages are missing, and there is no sudo to install them; run as root:" \
            "apt-get update && apt-get install --no-install-recommends $*"

    say "installing with apt-get, which may take a few minutes: $*"
    if [[ " $* " == *" nginx "* ]] && [ -d /run/systemd/system ]; then
        say "(the package starts an nginx of its own on port 80; to stop it: systemctl disable --now nginx)"
    fi
    [ -n "${lists_are_new:-}" ] || apt_get update
    lists_are_new=yes
    local packages
    mapfile -t packages < <(smaller_packages "$@")
    apt_get install -y --no-install-recommends "${packages[@]}"
}

# smaller_packages NAME...: prints the names, with libclang-dev replaced by what bindgen reads: the library
# and the headers of C. libclang-dev itself depends on all headers of LLVM.
smaller_packages() {
    local name version
    for name in "$@"; do
        if [ "$name" = libclang-dev ]; then
            version=$(apt-cache depends libclang-dev | sed -n 's/.*Depends: libclang-\([0-9]*\)-dev$/\1/p')
            if package_known "libclang1-$version" && package_known "libclang-common-$version-dev"; then
                printf '%s\n' "libclang1-$version" "libclang-common-$version-dev"
                continue
            fi
        fi
        printf '%s\n' "$name"
    done
}

# apt_get ARGUMENT...: runs apt-get. Prints its last line every few seconds, and the end of its output if it
# fails.
apt_get() {
    local log reporter status=0
    local command=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@")

    [ "$(id -u)" -eq 0 ] || command=(sudo "${command[@]}")
    log=$(mktemp)
    report_last_line "$log" &
    reporter=$!
    "${command[@]}" >"$log" 2>&1 </dev/null || status=$?
    kill "$reporter" 2>/dev/null || true
    wait "$reporter" 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get $* failed"
    fi
    rm -f "$log"
}

# report_last_line FILE: prints the last line of the file every few seconds, until it is killed.
report_last_line() {
    local line
    while sleep 3; do
        line=$(tail -n 1 "$1")
        say "    ${line:0:100}"
    done
}

# package_known NAME: true if apt can install the package on this machine.
package_known() {
    [ -n "$(apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)"')" ]
}
