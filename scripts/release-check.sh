# shellcheck shell=bash
# Tests the module on one release of nginx: first what a new user does, then t/. Sourced; needs messages.sh, and
# `here`: the prefix of commands that run on that release with the project as working directory.
#
# Results are written to stdout as lines KEY=VALUE; everything else is written to stderr.

# check_release FILE...: succeeds if all checks pass.
check_release() {
    local status=0
    work=$(mktemp -d)
    check_first_run || status=1
    check_suite "$@" || status=1
    rm -rf "$work"
    return "$status"
}

# check_first_run: runs scripts/run until the first event, and checks two features that a wrong layout breaks.
check_first_run() {
    local port runner status=0
    port=$(free_port)
    say "==> scripts/run"
    : >"$work/run"
    "${here[@]}" scripts/run --port "$port" >"$work/run" 2>&1 </dev/null &
    runner=$!
    if wait_until serves "$runner"; then
        echo "nginx=$(sed -n 's/^nginx \([0-9.]*\) with .*/\1/p' "$work/run")"
        check_first_event "$port" || status=1
        check_head "$port" || status=1
        check_lean "$port" || status=1
    else
        status=1
    fi
    kill -TERM "$runner" 2>/dev/null || true
    wait "$runner" || true
    cat "$work/run" >&2
    return "$status"
}

check_first_event() {
    local listener status=0
    listen "$1"
    wait_until opened "$listener" &&
        curl -sS --data 'The first event' "http://127.0.0.1:$1/publish" >&2 &&
        wait_until received "$listener" && echo "first-event=yes" || status=1
    hang_up
    return "$status"
}

# check_head PORT: the response to HEAD on a stream has no body and ends.
check_head() {
    local answer
    answer=$(
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'HEAD /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
        timeout 20 cat <&3 || echo "and no end"
        echo end
    )
    say "$answer"
    [[ $answer == 'HTTP/1.1 200 '* && ${answer#*$'\r\n\r\n'} == end ]] || return
    echo "head-ends=yes"
}

# check_lean PORT: after a reload with sse_lean, the request of a stream is released.
check_lean() {
    local listener prefix status=0
    prefix=$(sed -n 's|^The log is \(.*\)/logs/error.log.*|\1|p' "$work/run")
    listen "$1"
    wait_until opened "$listener" || status=1
    "${here[@]}" sed -i 's/^http {$/&\n    sse_lean on;/' "$prefix/conf/nginx.conf"
    "${here[@]}" bash -c 'kill -HUP "$(cat "$1")"' - "$prefix/nginx.pid"
    wait "$listener" || true # the reload ends it, and the old workers with it
    listen "$1"
    wait_until is_lean "$listener" "$1" || status=1
    echo "lean=$(lean_streams "$1")"
    hang_up
    return "$status"
}

# listen PORT: starts a client of the stream, and sets listener.
listen() {
    : >"$work/stream"
    curl -sN "http://127.0.0.1:$1/stream" >"$work/stream" &
    listener=$!
}

hang_up() {
    kill "$listener" 2>/dev/null || true
    wait "$listener" 2>/dev/null || true
}

# wait_until CONDITION PROCESS [ARGUMENT]: fails if the process exits, or after a minute of this machine's time;
# after an hour for a build.
wait_until() {
    local since=$SECONDS bound=60
    [ "$1" != serves ] || bound=3600
    until "$1" "${@:3}"; do
        kill -0 "$2" 2>/dev/null && ((SECONDS - since < bound)) || {
            say "timed out waiting for: $1"
            return 1
        }
        sleep 0.2
    done
}

serves() { grep -q '^nginx .* serves ' "$work/run"; }

opened() { [ -s "$work/stream" ]; }

received() { grep -q '^data: The first event' "$work/stream"; }

is_lean() { [ "$(lean_streams "$1")" -ge 1 ]; }

lean_streams() {
    local text
    text=$(curl -sS "http://127.0.0.1:$1/status") && [[ $text =~ \"lean\":\{\"lean\":([0-9]+) ]] || true
    echo "${BASH_REMATCH[1]:-0}"
}

# free_port: prints a port on which nothing listens. Another process may take it before nginx, which then
# reports that.
free_port() {
    local port
    for port in $(shuf -i 10000-30000 -n 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# check_suite FILE...: tests the configurations of nginx-conf/, and runs t/ or these files of it.
check_suite() {
    local status=0
    "${here[@]}" scripts/test t "$@" >"$work/suite" 2>&1 </dev/null || status=1
    cat "$work/suite" >&2
    echo "files=$(sed -n 's/^Files=\([0-9]*\),.*/\1/p' "$work/suite")"
    echo "passed=$(grep -cE '^\[[0-9:]*\] t/[^ ]*\.t \.+ (ok|skipped)' "$work/suite")"
    echo "skipped=$(grep -cE '^\[[0-9:]*\] t/[^ ]*\.t \.+ skipped' "$work/suite")"
    echo "tests=$(sed -n 's/^Files=[0-9]*, Tests=\([0-9]*\),.*/\1/p' "$work/suite")"
    return "$status"
}
