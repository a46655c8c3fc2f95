"""Drives nginx and the module at random for a given time, round after round, and looks for what breaks.

In each round another configuration serves clients that behave well, badly, or not at all, while workers are
killed and reloaded and Redis comes and goes. A round has a seed, with which `--seed` repeats it: the same
configuration and the same decisions, though not the same times. Exits with 1 if anything was found.
"""

import argparse
import asyncio
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref

import http1
import http2
import processes
import verdict
from configuration import Configuration
from disturbances import disturb

PORTS = ["plain", "tls", "h2c", "proxied", "redis"]
ACTORS = 14
ROUND = 40


class World:
    """What one round has in common."""

    def __init__(self, arguments, seed, counts):
        self.seed, self.counts = seed, counts
        self.rng = random.Random(seed)
        self.prefix = tempfile.mkdtemp(prefix="sse-stress-")
        os.chmod(self.prefix, 0o755)
        self.ports = processes.free_ports(PORTS)
        user = "user root root;" if os.getuid() == 0 else ""
        module = os.path.abspath(arguments.module)
        self.configuration = Configuration(self.rng, self.ports, self.prefix, module, self.ports["redis"], user,
                                           processes.version(arguments.nginx) >= (1, 25, 1), arguments.log_level)
        self.nginx = processes.Nginx(os.path.abspath(arguments.nginx), self.prefix)
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        self.redis = processes.Redis(program, self.prefix, self.ports["redis"]) if program else None
        self.ids, self.findings, self.transports = [], [], weakref.WeakSet()

    def remember(self, event_id):
        self.ids.append(event_id)
        del self.ids[:-100]

    def prepare(self):
        for name in ("temp", "html"):
            os.mkdir(f"{self.prefix}/{name}")
        pathlib.Path(f"{self.prefix}/html/inc.txt").write_text("included\n")
        pathlib.Path(f"{self.prefix}/html/large.bin").write_bytes(bytes(2_000_000))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", f"{self.prefix}/key.pem", "-out", f"{self.prefix}/cert.pem"],
            check=True, stderr=subprocess.DEVNULL)
        pathlib.Path(f"{self.prefix}/nginx.conf").write_text(self.configuration.render())

    def log(self):
        return pathlib.Path(f"{self.prefix}/error.log").read_text(errors="replace")


async def act(world, number, until):
    """One client after the other."""
    rng = random.Random(f"{world.seed}/{number}")
    kinds = {http1.stream: 45, http1.publish: 25, http1.ask: 8, http1.babble: 4, http2.session: 18}
    while time.monotonic() < until:
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        try:
            await asyncio.wait_for(kind(rng, world), 20)
        except (*http1.BROKEN, asyncio.TimeoutError):
            # nginx is killed and restarted; a client that is cut off is no finding.
            world.counts["cut off"] += 1
            await asyncio.sleep(0.02)


async def disturb_until(world, until):
    rng = random.Random(f"{world.seed}/disturbances")
    await asyncio.sleep(2)
    while time.monotonic() < until:
        await disturb(rng, world)
        await asyncio.sleep(rng.choice([0.1, 1, 3]))


def abort(transport):
    try:
        transport.abort()
    except AttributeError:
        pass  # Python 3.11: a TLS transport that was closed twice has no protocol any more


async def serve(world, seconds):
    until = time.monotonic() + seconds
    try:
        await asyncio.gather(disturb_until(world, until), *(act(world, number, until) for number in range(ACTORS)))
    finally:
        for transport in list(world.transports):
            abort(transport)
        await asyncio.sleep(0.1)


def settle(world):
    """All clients are gone: checks that nginx serves on, has nothing of theirs, and exits."""
    find, nginx, port = world.findings.append, world.nginx, world.ports["plain"]
    if not processes.wait_for(lambda: not nginx.old_workers(), 40):
        find("old workers do not exit although no client is there: " + str(nginx.old_workers()))
    for check in (verdict.is_sound, verdict.streams_left):
        if problem := check(port):
            find(problem)
    worn = max(map(verdict.sockets, nginx.workers()), default=0)
    processes.send(nginx.master, "HUP")
    old = set(nginx.workers())
    processes.wait_for(lambda: nginx.workers() and not old & set(nginx.workers()), 30)
    if problem := verdict.is_sound(port):
        find("after a reload: " + problem)
    fresh = max(map(verdict.sockets, nginx.workers()), default=0)
    if worn > fresh + 12:
        find(f"a worker had {worn} sockets without clients, a new one has {fresh}")
    if not nginx.stop("QUIT", 60):
        find("nginx does not exit after QUIT")


def judge(world, reports):
    world.findings += verdict.left_behind(world.prefix, world.nginx.killed or world.nginx.terminated)
    try:
        world.findings += verdict.bad_lines(world.log(), world.nginx, world.configuration.few_connections)[:10]
    except OSError as error:
        world.findings.append(str(error))
    for report in sorted(pathlib.Path(reports).iterdir()) if reports else []:
        world.findings.append(report.read_text(errors="replace"))
        report.unlink()


def run_round(arguments, seed, seconds, counts, lines):
    world = World(arguments, seed, counts)
    world.prepare()
    try:
        if world.redis:
            world.redis.start()
        if world.nginx.start():
            asyncio.run(serve(world, seconds))
            settle(world)
        else:
            world.findings.append("nginx does not start: " + pathlib.Path(f"{world.prefix}/output").read_text()[-2000:])
    except AssertionError as error:
        world.findings.append(str(error))
    finally:
        if world.nginx.masters():
            world.findings.append("nginx is still running")
        for pid in processes.descendants(os.getpid()):
            processes.send(pid, "CONT")
            processes.send(pid, "KILL")
        processes.wait_for(lambda: not processes.reap() and not processes.descendants(os.getpid()), 20)
    judge(world, arguments.reports)
    lines.update(verdict.summary(world.log()))
    if world.findings or arguments.keep:
        print(f"    kept: {world.prefix}")
    else:
        shutil.rmtree(world.prefix)
    return world.findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nginx", required=True, help="the binary")
    parser.add_argument("--module", required=True, help="the file of the module")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", help="of the round to repeat; by default each round has a new one")
    parser.add_argument("--reports", help="directory of sanitizers' reports")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--keep", action="store_true", help="keep the directories of rounds that found nothing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the cleaning up of the round
    processes.adopt_orphans()
    counts, lines, failed = collections.Counter(), collections.Counter(), 0
    end = time.monotonic() + arguments.minutes * 60
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        seed = arguments.seed or f"{random.SystemRandom().randrange(1 << 32):08x}"
        rounds += 1
        print(f"    round {rounds}, --seed {seed}", flush=True)
        findings = run_round(arguments, seed, min(ROUND, max(arguments.minutes * 60, 5)), counts, lines)
        for finding in findings:
            print(f"    FOUND with --seed {seed}: {finding}", flush=True)
        failed += bool(findings)
    print("    " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counts.items())))
    print("    lines of the error log, by kind:")
    for line, count in lines.most_common(40):
        print(f"    {count:7} {line}")
    print(f"    {rounds} rounds, {failed} with findings")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
