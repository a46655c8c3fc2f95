"""What must hold when a round is over: a clean log, sound service, and nothing left behind."""

import collections
import http.client
import json
import os
import pathlib
import re
import socket
import time

from processes import wait_for

BAD = re.compile(r"\[(emerg|alert|crit)\]|panic|open socket .* left|Sanitizer|runtime error")


def bad_lines(log, nginx, few_connections):
    """Lines that should not be there. Those of nginx itself that a disturbance explains are left out."""
    allowed = [
        # Its worker was killed.
        re.compile(r"process (%s) exited on signal 9" % "|".join(map(str, sorted(nginx.killed)) or "0")),
    ]
    if few_connections:
        allowed.append(re.compile(r"\d+ worker_connections are not enough"))
    lines = (line for line in without_terminations(log.splitlines()) if BAD.search(line))
    return [line for line in lines if not any(pattern.search(line) for pattern in allowed)]


def without_terminations(lines):
    """Leaves out what nginx 1.22 reports when TERM ends a worker that was already shutting down: its open
    connections. Later versions do not."""
    is_terminating = False
    for line in lines:
        if "signal 15 (SIGTERM) received" in line:
            is_terminating = True
        elif "start worker processes" in line:
            is_terminating = False
        if not (is_terminating and re.search(r"\[alert\] .*(open socket .* left|aborting)", line)):
            yield line


def summary(log):
    """The log's errors and warnings, most frequent first, without what differs from line to line."""
    kinds = collections.Counter()
    for line in log.splitlines():
        found = re.search(r"\[(warn|error|crit|alert|emerg)\] \d+#\d+: (?:\*\d+ )?(.*?)(?:,? while |, client:|$)", line)
        if found:
            kinds[found[1] + " " + re.sub(r'"[^"]*"|\d+', "…", found[2])[:150]] += 1
    return kinds


def ask(port, target, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target, body, {"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def delivers(port):
    """Whether a client receives an event that is published now."""
    mark = b"mark-%d" % time.monotonic_ns()
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"GET /probe HTTP/1.0\r\n\r\n")
        client.settimeout(20)
        received = client.recv(65536)
        while b"event: opened" not in received or mark not in received:
            if b"event: opened" in received:
                if ask(port, "/probe-publish", "POST", mark)[0] != 201:
                    return False
            data = client.recv(65536)
            if not data:
                return False
            received += data
    return True


def is_sound(port):
    """Whether events are delivered. A worker may be about to exit, so it is tried for a while."""
    problems = []

    def once():
        try:
            return delivers(port)
        except OSError as error:
            problems.append(str(error))
            return False

    return None if wait_for(once, 30) else f"no event is delivered: {problems[-1:]}"


def streams_left(port):
    """The streams that hubs count although all clients are gone."""
    figures = {}

    def none():
        try:
            status, body = ask(port, "/status")
        except (OSError, http.client.HTTPException) as error:
            figures["status"] = str(error)
            return False
        hubs = json.loads(body)["hubs"] if status == 200 else {"status": {"subscribers": status}}
        figures.clear()
        figures.update({name: hub["subscribers"] for name, hub in hubs.items() if hub["subscribers"]})
        return not figures

    return None if wait_for(none, 40) else f"streams are counted that no client has: {figures}"


def sockets(pid):
    def target(name):
        try:
            return os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            return ""

    try:
        return sum(target(name).startswith("socket:") for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def left_behind(prefix, killed):
    """Temporary files that outlive nginx. A process that is killed cannot remove its own."""
    files = [] if killed else [path for path in pathlib.Path(prefix, "temp").rglob("*") if path.is_file()]
    return [f"left behind: {path}" for path in files[:5]]
