# shellcheck shell=bash
# Debian and Ubuntu packages: what is missing, and how it is installed. Sourced; needs tell.sh.

# install_packages NAME...: installs them with apt-get, as root or by sudo.
install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        fail "missing here: $*; this script installs with apt-get only, so install them by other means"

    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        fail "packages are missing and neither root nor sudo is here; run as root:" \
            "apt-get update && apt-get install --no-install-recommends $*"

    say "installing with apt-get, which may take a few minutes: $*"
    if [[ " $* " == *" nginx "* ]] && [ -d /run/systemd/system ]; then
        say "(the package starts an nginx of its own on port 80; to stop it: systemctl disable --now nginx)"
    fi
    apt_get update
    apt_get install -y --no-install-recommends "$@"
}

# apt_get ARGUMENT...: one run of apt-get, quiet unless it fails.
apt_get() {
    local log status=0
    local command=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@")

    [ "$(id -u)" -eq 0 ] || command=(sudo "${command[@]}")
    log=$(mktemp)
    "${command[@]}" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get $* failed"
    fi
    rm -f "$log"
}

# package_known NAME: apt can install it from the sources that this machine has.
package_known() {
    [ -n "$(apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)"')" ]
}
