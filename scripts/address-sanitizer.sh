# shellcheck shell=bash
# Builds nginx and the module with AddressSanitizer, proves that it reports errors, and runs files of t/ and
# scripts/stress with them. Sourced by scripts/test; needs its functions, $root, $target, and $scratch.

# Tests that send, end, and redirect requests, where memory could be freed while it is still in use. Two files
# that compare memory with that of a plain nginx (420-filter-bypass, 520-lean-tls) are left out.
readonly sanitized_files=(
    t/100-stream-response.t t/125-event-bytes.t t/135-forwarded-bodies.t t/155-access-rules.t
    t/160-internal-redirects.t t/165-conditional-requests.t t/170-streams-with-request-bodies.t
    t/175-tls-and-http2.t t/177-hostile-http2.t t/185-delayed-headers.t t/275-send-timeout.t
    t/280-steady-readers.t t/285-end-reasons.t t/290-streams-ended-mid-event.t t/300-reload.t
    t/305-changed-configuration.t t/345-event-methods.t t/400-filters.t t/405-third-party-filters.t
    t/500-lean.t t/510-lean-reloads-and-kills.t t/515-lean-with-other-modules.t t/605-status-formats.t
    t/895-redis-without-thread.t t/130-too-large-bodies.t t/505-lean-clients.t
)

# Tests that limit how much a process grows. AddressSanitizer keeps up to 256 MB of freed memory, its quarantine,
# to find later uses. These files run without the quarantine.
readonly measured_files=(t/130-too-large-bodies.t t/270-slow-client.t t/505-lean-clients.t)

# The errors of src/nginx/planted.rs, and what is reported of each.
readonly planted_faults=(
    "freed-allocation=AddressSanitizer: heap-use-after-free"
    "past-allocation=AddressSanitizer: heap-buffer-overflow"
    "past-vector=AddressSanitizer: heap-buffer-overflow"
    "ended-request=AddressSanitizer: heap-use-after-free"
    "undefined=src/nginx/macros.c:[0-9:]* runtime error: signed integer overflow"
    "arithmetic=panic: attempt to add with overflow"
    "assertion=panic: planted"
)

# With NGX_DEBUG_PALLOC nginx's pools call malloc for each allocation, so that each has red zones.
readonly sanitizer_flags="-fsanitize=address -fno-omit-frame-pointer"

# test_sanitized [MINUTES | FILE...]: builds, checks that errors are found, and runs scripts/stress for that
# time, or the files, relative to $root.
test_sanitized() {
    step "build with AddressSanitizer" build_sanitized
    step "planted errors" check_reports
    if [[ ${1:-} =~ ^[0-9.]+$ ]]; then
        step "random load with AddressSanitizer" run_sanitized stress "$1"
    else
        run_sanitized_files "$@"
    fi
}

# run_sanitized_files FILE...: runs the files, relative to $root.
run_sanitized_files() {
    local file measured=() others=()
    for file in "$@"; do
        if [[ " ${measured_files[*]} " == *" $file "* ]]; then measured+=("$file"); else others+=("$file"); fi
    done
    [ ${#others[@]} -eq 0 ] ||
        step "t/ with AddressSanitizer" run_sanitized run_suite "$newest_nginx" "$module" "${others[@]}"
    [ ${#measured[@]} -eq 0 ] ||
        step "t/ with AddressSanitizer, without its quarantine" \
            run_sanitized without_quarantine run_suite "$newest_nginx" "$module" "${measured[@]}"
}

# without_quarantine COMMAND...: runs the command; memory that is freed can be allocated again at once.
without_quarantine() {
    ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=0 "$@"
}

# build_sanitized: builds in a separate target directory and sets newest_nginx and module. Instrumentation
# is an unstable feature, which RUSTC_BOOTSTRAP enables. Without --target it would also apply to build
# scripts and macros, whose processes lack the runtime library. nginx contains the runtime library of
# UndefinedBehaviorSanitizer for the module's C file; it is not checked itself.
build_sanitized() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    (
        export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
        export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
        export NGX_CFLAGS="-O1 -g $sanitizer_flags -DNGX_DEBUG_PALLOC=1"
        export NGX_LDFLAGS="-fsanitize=address -fsanitize=undefined"
        # Programs of `configure` and of the build exit without freeing memory.
        export ASAN_OPTIONS=detect_leaks=0
        build_vendored "$target/asan" --target "$triple" --features sanitized
        printf '%s\n' "$newest_nginx" "$module" >"$scratch/sanitized"
    )
    { read -r newest_nginx && read -r module; } <"$scratch/sanitized"
    grep -q __asan_report "$newest_nginx" && grep -q __asan_report "$module" ||
        fail "nginx or the module was built without the sanitizer"
    grep -q __ubsan_handle "$module" || fail "the module was built without UndefinedBehaviorSanitizer"
}

# with_reports DIRECTORY COMMAND...: runs the command; a process in which AddressSanitizer finds an error writes
# a file to the directory.
with_reports() {
    mkdir -p -m 1777 "$1"
    ASAN_OPTIONS="detect_leaks=0:log_path=$1/asan" "${@:2}"
}

# check_reports: fails unless each planted error is reported, with the module in the stack.
check_reports() {
    local place=$scratch/planted fault
    mkdir -p "$place/conf"
    cat >"$place/nginx.conf" <<CONF
load_module $module; pid nginx.pid; error_log error.log notice;
events { }
http {
    access_log off; client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server { listen unix:$place/socket; location / { sse_status; } }
}
CONF
    chmod 777 "$place"
    with_reports "$place/reports" "$newest_nginx" -p "$place" -c nginx.conf -e "$place/error.log"
    for fault in "${planted_faults[@]}"; do
        commit_fault "$place" "${fault%%=*}" "${fault#*=}" || {
            kill "$(cat "$place/nginx.pid")"
            fail "a planted error was not found: ${fault%%=*}"
        }
        say "    found: ${fault%%=*}"
    done
    kill -QUIT "$(cat "$place/nginx.pid")"
}

# commit_fault DIRECTORY NAME PATTERN: has the module commit an error and waits for its report. Before a
# process is replaced, it may accept a connection and not answer.
commit_fault() {
    local since=$SECONDS
    : >"$1/error.log"
    rm -f "$1"/reports/*
    until is_reported "$@"; do
        ((SECONDS - since <= 60)) || return 1
        curl -s -o "$1/answer" --max-time 10 --unix-socket "$1/socket" "http://localhost/?fault=$2" || true
        sleep 1
    done
}

# is_reported DIRECTORY NAME PATTERN: whether the error is reported, with the module's source in the stack. A
# panic, and what UndefinedBehaviorSanitizer reports, is a line of the error log.
is_reported() {
    grep -qsE "$3" "$1"/reports/* "$1/error.log" && grep -qs src/nginx/ "$1"/reports/* "$1/error.log"
}

# Memory that a process keeps until it exits: of its configuration, and the logs that lean streams share.
readonly kept_memory="leak:ngx_init_cycle
leak:client_log.rs"

# stress MINUTES: random load. Here leaks are reported, too, when processes exit. SSE_STRESS_SEED is the seed of a
# round to repeat.
stress() {
    local python=python3
    [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
    printf '%s\n' "$kept_memory" >"$scratch/kept-memory"
    ASAN_OPTIONS=${ASAN_OPTIONS/detect_leaks=0/detect_leaks=1} \
        LSAN_OPTIONS="suppressions=$scratch/kept-memory:print_suppressions=0" TMPDIR=$scratch \
        "$python" "$root/scripts/stress" --nginx "$newest_nginx" --module "$module" --minutes "$1" \
        --reports "$scratch/reports" ${SSE_STRESS_SEED:+--seed "$SSE_STRESS_SEED"}
}

# run_sanitized COMMAND...: runs it, and prints the reports. A process with a report aborts, and the master
# replaces it like a crashed worker.
run_sanitized() {
    local report status=0
    with_reports "$scratch/reports" "$@" || status=$?
    for report in "$scratch"/reports/*; do
        [ -e "$report" ] || continue
        status=1
        cat "$report" >&2
    done
    [ "$status" -eq 0 ] || fail "a sanitizer or a test has found an error; see above"
}
