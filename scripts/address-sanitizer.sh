# shellcheck shell=bash
# Builds nginx and the module with AddressSanitizer and runs files of t/ with them. Sourced by scripts/test;
# needs its functions, $root, $target, and $scratch.

# Tests that send, end, and redirect requests, where memory could be freed while it is still in use. Files
# that measure memory (420-filter-bypass, 505-lean-clients, 520-lean-tls) are left out: AddressSanitizer
# keeps freed memory for a while to find such uses.
readonly sanitized_files=(
    t/100-stream-response.t t/125-event-bytes.t t/135-forwarded-bodies.t t/155-access-rules.t
    t/160-internal-redirects.t t/165-conditional-requests.t t/170-streams-with-request-bodies.t
    t/175-tls-and-http2.t t/185-delayed-headers.t t/275-send-timeout.t t/280-steady-readers.t
    t/285-end-reasons.t t/290-streams-ended-mid-event.t t/300-reload.t t/305-changed-configuration.t
    t/345-event-methods.t t/400-filters.t t/405-third-party-filters.t t/500-lean.t
    t/510-lean-reloads-and-kills.t t/515-lean-with-other-modules.t t/605-status-formats.t
    t/895-redis-without-thread.t
)

# With NGX_DEBUG_PALLOC nginx's pools call malloc for each allocation, so that each has red zones.
readonly sanitizer_flags="-fsanitize=address -fno-omit-frame-pointer"

# test_sanitized FILE...: runs the files, relative to $root, and prints the reports of the sanitizer.
test_sanitized() {
    step "build with AddressSanitizer" build_sanitized
    step "t/ with AddressSanitizer" run_sanitized "$@"
}

# build_sanitized: builds in a separate target directory and sets newest_nginx and module. Instrumentation
# is an unstable feature, which RUSTC_BOOTSTRAP enables. Without --target it would also apply to build
# scripts and macros, whose processes lack the runtime library.
build_sanitized() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    (
        export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
        export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
        export NGX_CFLAGS="-O1 -g $sanitizer_flags -DNGX_DEBUG_PALLOC=1" NGX_LDFLAGS=-fsanitize=address
        # Programs of `configure` and of the build exit without freeing memory.
        export ASAN_OPTIONS=detect_leaks=0
        build_vendored "$target/asan" --target "$triple"
        printf '%s\n' "$newest_nginx" "$module" >"$scratch/sanitized"
    )
    { read -r newest_nginx && read -r module; } <"$scratch/sanitized"
    grep -q __asan_report "$newest_nginx" && grep -q __asan_report "$module" ||
        fail "nginx or the module was built without the sanitizer"
}

# run_sanitized FILE...: runs the files. A process in which the sanitizer finds an error writes a report
# file and aborts, and the master replaces it like a crashed worker.
run_sanitized() {
    local reports=$scratch/reports report status=0
    mkdir -m 1777 "$reports"
    (
        # Leaks are not reported: nginx's pools and static data are freed by the exit of the
        # process.
        export ASAN_OPTIONS="detect_leaks=0:log_path=$reports/asan"
        run_suite "$newest_nginx" "$module" "$@"
    ) || status=$?
    for report in "$reports"/*; do
        [ -e "$report" ] || continue
        status=1
        cat "$report" >&2
    done
    [ "$status" -eq 0 ] || fail "AddressSanitizer or a test has found an error; see above"
}
