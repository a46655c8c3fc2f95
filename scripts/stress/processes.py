"""The processes of a round: nginx with its workers, and Redis. All of them are descendants of this process."""

import ctypes
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes processes whose parent exits children of this one, so that none is overlooked."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def start(arguments, output, environment=None):
    actions = [(os.POSIX_SPAWN_OPEN, fd, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for fd in (1, 2)]
    return os.posix_spawn(arguments[0], arguments, environment or os.environ, file_actions=actions)


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid):
    return [below for child in children(pid) for below in [child, *descendants(child)]]


def title(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text("latin-1").strip("\0 ")
    except OSError:
        return ""


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def is_alive(pid):
    reap()
    return os.path.exists(f"/proc/{pid}")


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def send(pid, name):
    try:
        os.kill(pid, getattr(signal, "SIG" + name))
    except ProcessLookupError:
        pass


def free_ports(names):
    """Ports below the range that the kernel uses for outgoing connections."""
    ports, port = {}, 10000 + os.getpid() % 15000
    while len(ports) < len(names):
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports[names[len(ports)]] = port
    return ports


def version(binary):
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(int(number) for number in re.search(r"(\d+)\.(\d+)\.(\d+)", said).groups())


class Nginx:
    def __init__(self, binary, prefix):
        self.binary, self.prefix, self.killed = binary, prefix, set()
        self.master, self.terminated = None, False

    def command(self, *more):
        return [self.binary, "-p", self.prefix, "-c", f"{self.prefix}/nginx.conf", "-e", f"{self.prefix}/error.log", *more]

    def start(self):
        """Starts it as a daemon: a master in the foreground does not replace its binary."""
        starter = start(self.command(), f"{self.prefix}/output")
        return wait_for(lambda: not is_alive(starter), 60) and wait_for(self.workers, 60)

    def masters(self):
        """The newest master, and an older one that it is about to replace."""
        try:
            newest = int(pathlib.Path(f"{self.prefix}/nginx.pid").read_text())
        except (OSError, ValueError):
            newest = None
        if newest and is_alive(newest) and "master" in title(newest):
            self.master = newest
        return [pid for pid in descendants(os.getpid()) if "nginx: master" in title(pid)]

    def workers(self, name="worker process"):
        self.masters()
        return [pid for pid in children(self.master) if title(pid).endswith(name)]

    def old_workers(self):
        return [pid for pid in descendants(os.getpid()) if title(pid).endswith("shutting down")]

    def stop(self, name, seconds):
        self.terminated |= name == "TERM"
        for master in self.masters() or [self.master]:
            send(master, name)
        return wait_for(lambda: not self.masters() and not self.workers() and not self.old_workers(), seconds)


class Redis:
    def __init__(self, program, prefix, port):
        self.prefix, self.port, self.pid = prefix, port, None
        self.program = f"{prefix}/redis-server"
        if not os.path.lexists(self.program):
            # It selects its role by its name.
            os.symlink(program, self.program)

    def start(self):
        self.pid = start([self.program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.prefix,
                          "--save", "", "--appendonly", "no"], f"{self.prefix}/redis.log")

    def stop(self):
        if self.pid:
            send(self.pid, "CONT")
            send(self.pid, "KILL")
            wait_for(lambda: not is_alive(self.pid), 10)
        self.pid = None

    def ask(self, *words):
        """Sends one command; what Redis answers is not looked at."""
        words = [word.encode("latin-1") for word in words]
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(request)
                connection.settimeout(1)
                return connection.recv(4096)
        except OSError:
            return b""
