# shellcheck shell=bash
# Installs clients of others and runs t/clients with them. Sourced by scripts/test; needs its functions, packages.sh,
# perl-suite.sh, $root, $target, and $scratch.

# missing_client_packages: prints the Debian packages with which the clients are installed, one per line.
missing_client_packages() {
    command -v npm >/dev/null || echo npm
    python_with_venv >/dev/null || printf '%s\n' python3-venv python3-pip
    # Ubuntu's Firefox is a snap, which many machines cannot run.
    command -v firefox-esr >/dev/null || command -v firefox >/dev/null || ! on_debian || echo firefox-esr
}

# python_with_venv: prints a Python that can create virtual environments.
python_with_venv() {
    local python
    for python in python3 /usr/bin/python3; do
        ! "$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "$python" && return; }
    done
    return 1
}

# test_clients [--write]: runs t/clients and prints the table of what it has seen. With --write, it replaces the one of
# docs/clients.md, instead of being compared with it.
test_clients() {
    local write=
    [ "${1:-}" != --write ] || write=1
    step "clients" install_clients
    step "build for nginx $(nginx_version "$nginx")" build_installed
    SSE_CLIENT_PACKAGES=$target/clients SSE_WRITE_CLIENTS=$write \
        step "t/clients with nginx $(nginx_version "$nginx")" run_suite "$nginx" "$module" \
        t/clients/behaviour.t t/clients/chat.t
    cat "$target/clients/seen.md"
    # scripts/test t runs the same files with Chromium.
    local pages
    mapfile -t pages < <(cd "$root" && printf '%s\n' t/9*-browser*.t)
    SSE_BROWSER=firefox step "pages in Firefox" run_suite "$nginx" "$module" "${pages[@]}"
}

# install_clients: installs the packages of t/clients into target/clients, beside the drivers that import them.
install_clients() {
    install_packages_beside "$root/t/clients" drivers "$target/clients"
}

# install_packages_beside LIST PROGRAMS PLACE: copies the folder PROGRAMS of LIST to PLACE, and installs the packages
# from npm and PyPI that LIST names there. What an earlier run has installed is kept if the versions are the same.
install_packages_beside() {
    local list=$1 programs=$2 place=$3
    mkdir -p "$place"
    rm -rf "${place:?}/$programs"
    cp -r "$list/$programs" "$place/$programs"
    if ! cmp -s "$list/package-lock.json" "$place/installed-npm"; then
        cp "$list/package.json" "$list/package-lock.json" "$list/.npmrc" "$place/"
        # The npm package `node` installs the Node.js of its own version.
        (cd "$place" && npm ci --no-audit --no-fund --loglevel error) >&2 ||
            fail "the npm packages of ${list#"$root"/} could not be installed"
        cp "$list/package-lock.json" "$place/installed-npm"
    fi
    if ! cmp -s "$list/requirements.txt" "$place/installed-python"; then
        "$(python_with_venv)" -m venv --clear "$place/python" &&
            "$place/python/bin/pip" --quiet --disable-pip-version-check install -r "$list/requirements.txt" >&2 ||
            fail "the Python packages of ${list#"$root"/} could not be installed"
        cp "$list/requirements.txt" "$place/installed-python"
    fi
}
