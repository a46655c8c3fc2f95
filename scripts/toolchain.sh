# shellcheck shell=bash
# Checks that the Rust toolchain is installed and new enough. Sourced; needs messages.sh and $root.

# rust_wanted: prints the oldest rustc that builds the project, from Cargo.toml.
rust_wanted() {
    sed -n 's/^rust-version *= *"\(.*\)"$/\1/p' "$root/Cargo.toml"
}

# require_rust: makes cargo and a new enough rustc available on PATH, or fails.
require_rust() {
    local wanted have installed=${CARGO_HOME:-${HOME:-}/.cargo}/bin
    wanted=$(rust_wanted)

    # rustup writes this directory into the profile of a login shell only; sudo and cron have none.
    command -v cargo >/dev/null || [ ! -x "$installed/cargo" ] || export PATH="$installed:$PATH"
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        fail "Rust $wanted or newer is required, and there is no cargo on PATH; install it with:" \
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"

    have=$(cd "$root" && rustc --version | awk '{ sub(/-.*/, "", $2); print $2 }') && [ -n "$have" ] ||
        fail "rustc does not run; fix it with: rustup default stable"
    version_at_least "$have" "$wanted" ||
        fail "Rust $wanted or newer is required, and $(command -v rustc) is version $have;" \
            "update it with: rustup update stable"
}

# version_at_least HAVE WANTED: compares version numbers.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}
