# shellcheck shell=bash
# Makes and tests the packages of scripts/package on each distribution with scripts/check-package. Sourced; needs
# messages.sh, releases.sh, $root and $target.

# test_package [--in FOLDER] [RELEASE...]: makes the packages for each of these distributions, or for this
# machine's, and tests them in a new folder with it.
test_package() {
    local place=$target/releases write=no chosen=() files=() release status
    parse_releases "$@"
    [ ${#chosen[@]} -lt ${#releases[@]} ] || chosen=("$(own_release)")
    for release in "${chosen[@]}"; do
        [ -n "$(suite_of "$release")" ] || fail "packages can be made for distributions only, and $release is not one"
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

# own_release: prints the release that this machine runs, by the names above.
own_release() {
    local ID VERSION_ID=sid
    . /etc/os-release
    echo "$ID-$VERSION_ID"
}
