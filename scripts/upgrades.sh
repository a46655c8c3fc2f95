# shellcheck shell=bash
# Builds the module of an earlier commit and runs t/upgrades with it and with this one. Sourced by scripts/test;
# needs its functions, $root, $target, and $scratch.

# The last commit of release 0.1.0: the layout, the scripts in Redis, and the configuration that users have.
readonly earlier_commit=9957414

# test_upgrades: leaves the earlier module below target/ for the next run.
test_upgrades() {
    step "build for nginx $(nginx_version "$nginx")" build_installed
    step "build of commit $earlier_commit" build_earlier
    step "t/upgrades with nginx $(nginx_version "$nginx")" run_upgrades
}

# build_earlier: sets `earlier` to a copy of that commit's files with the module at the path that scripts/build
# prints there.
build_earlier() {
    earlier=$target/upgrades/$earlier_commit
    git -C "$root" cat-file -e "$earlier_commit^{commit}" 2>/dev/null ||
        fail "commit $earlier_commit is not here; a full clone of the repository is required"
    [ -d "$earlier" ] || {
        mkdir -p "$earlier.new"
        git -C "$root" archive "$earlier_commit" | tar -x -C "$earlier.new"
        mv "$earlier.new" "$earlier"
    }
    earlier_module=$(CARGO_TARGET_DIR=$target/upgrades/build "$earlier/scripts/build" | tail -n 1)
}

run_upgrades() {
    SSE_EARLIER_SOURCE=$earlier SSE_EARLIER_MODULE=$earlier_module run_suite "$nginx" "$module" t/upgrades/*.t
}
