# shellcheck shell=bash
# The packages of scripts/package, made and tried on each distribution by scripts/check-package. Sourced; needs
# tell.sh, releases.sh, $root and $target.

# test_package [--in FOLDER] [RELEASE...]: makes the packages for each of these distributions, or for the one that
# this machine runs, and tries them in a fresh folder of it.
test_package() {
    local place=$target/releases write=no chosen=() files=() release status
    parse_releases "$@"
    [ ${#chosen[@]} -lt ${#releases[@]} ] || chosen=("$(own_release)")
    for release in "${chosen[@]}"; do
        [ -n "$(suite_of "$release")" ] || fail "packages are made for distributions, and $release is none"
    done
    mkdir -p "$place"
    prepare_releases
    for release in "${chosen[@]}"; do
        say "==> the packages for $(title_of "$release"), see $place/$release.package.log"
        status=0
        unshare --mount-proc --pid --fork --kill-child "$root/scripts/check-package" "$release" "$place/$release" \
            >"$place/$release.package.log" 2>&1 &
        checking=$!
        wait "$checking" || status=$?
        checking=
        [ "$status" -eq 0 ] || {
            tail -n 20 "$place/$release.package.log" >&2
            fail "the packages for $release do not work"
        }
    done
}

# own_release: what this machine runs, by the names above.
own_release() {
    local ID VERSION_ID=sid
    . /etc/os-release
    echo "$ID-$VERSION_ID"
}
