# shellcheck shell=bash
# nginx and the module under AddressSanitizer, and the files of t/ that run with them. Sourced by
# scripts/test; needs its functions, $root, $target and $scratch.

# What sends, ends, and hands requests on: where memory is freed while somebody still uses it. Files that
# measure memory (37-lean-clients, 38-lean-tls, 39-ways) are left out: what is freed is kept for a while
# here, so that its use is found.
readonly sanitized_files=(
    t/02-stream.t t/09-bodies.t t/20-reload.t
    t/30-http2.t t/31-filters.t t/31-more-filters.t t/32-internal.t t/33-access.t t/34-send-timeout.t
    t/34-steady-readers.t t/35-event-methods.t t/35-lean.t t/36-lean-changes.t
    t/36-lean-other-modules.t t/36-reconfigure.t t/38-cut-frames.t t/50-status-faces.t
    t/53-delayed-headers.t t/56-conditional-requests.t t/56-streams-with-bodies.t t/58-end-reasons.t
    t/58-request-bodies.t t/88-redis-no-thread.t
)

# With NGX_DEBUG_PALLOC nginx's pools ask malloc for each allocation, so that each has a border.
readonly sanitizer_flags="-fsanitize=address -fno-omit-frame-pointer"

# test_sanitized FILE...: the files, named from $root, and then what the sanitizer has reported.
test_sanitized() {
    step "build with AddressSanitizer" build_sanitized
    step "t/ with AddressSanitizer" run_sanitized "$@"
}

# build_sanitized: sets newest_nginx and module, in a target directory of their own. The compiler's
# instrumentation is unstable, which RUSTC_BOOTSTRAP allows; without --target it would go into build
# scripts and macros too, whose processes bring no runtime library for it.
build_sanitized() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    (
        export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
        export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
        export NGX_CFLAGS="-O1 -g $sanitizer_flags -DNGX_DEBUG_PALLOC=1" NGX_LDFLAGS=-fsanitize=address
        # Programs of `configure` and of the build end without freeing anything.
        export ASAN_OPTIONS=detect_leaks=0
        build_vendored "$target/asan" --target "$triple"
        printf '%s\n' "$newest_nginx" "$module" >"$scratch/sanitized"
    )
    { read -r newest_nginx && read -r module; } <"$scratch/sanitized"
    grep -q __asan_report "$newest_nginx" && grep -q __asan_report "$module" ||
        fail "nginx or the module was built without the sanitizer"
}

# run_sanitized FILE...: a process in which the sanitizer finds something writes it into a file of its own
# and ends, as a worker that crashes does; the master starts another one.
run_sanitized() {
    local reports=$scratch/reports report status=0
    mkdir -m 1777 "$reports"
    (
        # Leaks are not looked for: nginx's pools, and what lives as long as a process, end with it.
        export ASAN_OPTIONS="detect_leaks=0:log_path=$reports/asan"
        run_suite "$newest_nginx" "$module" "$@"
    ) || status=$?
    for report in "$reports"/*; do
        [ -e "$report" ] || continue
        status=1
        cat "$report" >&2
    done
    [ "$status" -eq 0 ] || fail "AddressSanitizer or a test has found something, see above"
}
