# shellcheck shell=bash
# Builds the targets of fuzz/ with cargo-fuzz and runs them. Sourced by scripts/test; needs its functions, $root,
# and $target.

readonly cargo_fuzz_version=0.13.2

# test_fuzz MINUTES [TARGET...]: runs the targets, all of them by default, for so many minutes in total, one
# process for each core that may be used, and prints a table.
test_fuzz() {
    local minutes=$1
    shift
    step "packages" install_fuzzing_packages
    step "cargo-fuzz" install_cargo_fuzz
    [ $# -gt 0 ] || mapfile -t names < <(fuzz_targets)
    [ $# -eq 0 ] || names=("$@")
    step "build of ${#names[@]} targets" build_fuzz_targets "${names[@]}"
    step "fuzzing for $minutes min" run_fuzz_targets "$minutes" "${names[@]}"
    print_fuzz_table "${names[@]}"
}

fuzz_targets() {
    (cd "$root/fuzz" && printf '%s\n' fuzz_targets/*.rs) | sed 's|.*/||; s|\.rs$||'
}

# libFuzzer itself is C++; its crate compiles it.
install_fuzzing_packages() {
    local missing=()
    command -v c++ >/dev/null || missing+=(g++)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    install_packages "${missing[@]}"
}

install_cargo_fuzz() {
    export PATH=$target/tools/bin:$PATH
    command -v cargo-fuzz >/dev/null ||
        cargo install --quiet --locked --version "$cargo_fuzz_version" --root "$target/tools" \
            --target-dir "$target/tools/build" cargo-fuzz
}

# build_fuzz_targets NAME...: coverage and sanitizers are unstable features, which RUSTC_BOOTSTRAP enables.
# Debug assertions and overflow checks are on.
build_fuzz_targets() {
    local name
    for name in "$@"; do
        [ -f "$root/fuzz/fuzz_targets/$name.rs" ] || fail "there is no target $name"
    done
    (
        cd "$root"
        # Profiles that the environment changes are those of the module.
        unset "${!CARGO_PROFILE_RELEASE_@}"
        # Without a name it builds all of them.
        [ $# -lt "$(fuzz_targets | wc -l)" ] || set -- ""
        for name in "$@"; do
            RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer "${FUZZ_SANITIZER:-address}" \
                --features libfuzzer --target-dir "$target/fuzz" ${name:+"$name"}
        done
    )
}

# run_fuzz_targets MINUTES NAME...: what a run finds is added to a corpus below target/, from which the next
# run goes on.
run_fuzz_targets() {
    local minutes=$1 name jobs seconds
    shift
    jobs=$(nproc)
    ((jobs <= $#)) || jobs=$#
    seconds=$((minutes * 60 * jobs / $#))
    ((seconds > 0)) || seconds=1
    mkdir -p "$target/fuzz/logs"
    for name in "$@"; do
        while (($(jobs -rp | wc -l) >= jobs)); do
            wait -n || true
        done
        run_fuzz_target "$name" "$seconds" &
    done
    wait
}

# run_fuzz_target NAME SECONDS: the log ends with the status. Leaks are not looked for: a hub's memory lives
# as long as the process.
run_fuzz_target() {
    local own=$target/fuzz/corpus/$1 artifacts=$target/fuzz/artifacts/$1 status=0
    local dictionary=$root/fuzz/dictionaries/$1 triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    mkdir -p "$own" "$artifacts"
    local options=(-max_total_time="$2" -print_final_stats=1 -detect_leaks=0 -timeout=20 -max_len=4096
        -artifact_prefix="$artifacts/")
    [ ! -f "$dictionary" ] || options+=(-dict="$dictionary")
    ASAN_OPTIONS=detect_leaks=0 "$target/fuzz/$triple/release/$1" "${options[@]}" "$own" \
        "$root/fuzz/corpus/$1" >"$target/fuzz/logs/$1" 2>&1 || status=$?
    echo "status: $status" >>"$target/fuzz/logs/$1"
}

# print_fuzz_table NAME...: fails if a target has found something.
print_fuzz_table() {
    local name log status=0 findings
    say ""
    printf '| %-15s | %12s | %8s | %8s | %8s |\n' target executions exec/s coverage findings
    printf '| --- | ---: | ---: | ---: | ---: |\n'
    for name in "$@"; do
        log=$target/fuzz/logs/$name
        findings=0
        grep -q '^status: 0$' "$log" || findings=1
        printf '| %-15s | %12s | %8s | %8s | %8s |\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" \
            "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" "$findings"
        ((findings == 0)) || status=1
    done
    ((status == 0)) || fail "a target has found something: see $target/fuzz/logs and $target/fuzz/artifacts"
}
