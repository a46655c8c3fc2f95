"""What happens to nginx and Redis while clients are served."""

import asyncio
import pathlib

import content
from processes import send


async def disturb(rng, world):
    """One random disturbance; returns its name."""
    kinds = {reload: 5, kill_worker: 4, pause_worker: 2, terminate: 1, quit_and_start: 1, upgrade: 1, reopen: 1,
             disturb_redis: 6}
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    world.counts[kind.__name__] += 1
    await kind(rng, world)


async def until(condition, seconds):
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        await asyncio.sleep(0.05)
    return False


async def reload(rng, world):
    if rng.random() < 0.7:
        pathlib.Path(f"{world.prefix}/nginx.conf").write_text(world.configuration.render())
    for _ in range(rng.choice([1, 1, 1, 3])):
        send(world.nginx.master, "HUP")
        await asyncio.sleep(rng.choice([0, 0.1, 1]))


async def kill_worker(rng, world):
    pids = world.nginx.workers() + world.nginx.old_workers()
    for pid in rng.sample(pids, min(len(pids), rng.choice([1, 1, 3]))):
        world.nginx.killed.add(pid)
        send(pid, "KILL")


async def pause_worker(rng, world):
    pids = world.nginx.workers() + world.nginx.old_workers()
    if not pids:
        return
    pid = rng.choice(pids)
    send(pid, "STOP")
    await asyncio.sleep(rng.choice([0.05, 0.5, 2]))
    if rng.random() < 0.2:
        world.nginx.killed.add(pid)
        send(pid, "KILL")
    send(pid, "CONT")


async def start_again(world):
    if not world.nginx.start():
        raise AssertionError("nginx does not start again")


async def terminate(_rng, world):
    if not await asyncio.to_thread(world.nginx.stop, "TERM", 60):
        raise AssertionError("nginx does not exit after TERM")
    await start_again(world)


async def quit_and_start(_rng, world):
    if not await asyncio.to_thread(world.nginx.stop, "QUIT", 60):
        raise AssertionError("nginx does not exit after QUIT")
    await start_again(world)


async def upgrade(_rng, world):
    """Replaces the running master as in an upgrade of the binary."""
    old = world.nginx.master
    send(old, "USR2")
    await until(lambda: len(world.nginx.masters()) > 1 and world.nginx.master != old and world.nginx.workers(), 30)
    send(old, "QUIT")
    await until(lambda: old not in world.nginx.masters(), 60)


async def reopen(_rng, world):
    send(world.nginx.master, "USR1")


async def disturb_redis(rng, world):
    redis = world.redis
    if redis is None:
        return
    chance = rng.random()
    if chance < 0.15:
        redis.stop()
        await asyncio.sleep(rng.choice([0, 0.5, 3]))
        redis.start()
    elif chance < 0.25:
        send(redis.pid, "STOP")
        await asyncio.sleep(rng.choice([0.1, 1, 4]))
        send(redis.pid, "CONT")
    else:
        for _ in range(rng.choice([1, 5, 50])):
            await asyncio.to_thread(redis.ask, *command(rng))


def command(rng):
    channel = rng.choice(content.CHANNELS)
    return rng.choice([
        ("FLUSHALL",),
        ("PUBLISH", channel, rng.choice(["plain", "x" * 70000, "\xff\xfe", ""])),
        ("PUBLISH", channel, "plain"),
        ("XADD", f"app{channel}", "*", "data", rng.choice(["hello", "x" * 70000])),
        ("XADD", f"app{channel}", "*", "data", "hello", "event", "tick"),
        ("XADD", f"app{channel}", "99999999999999-1", "data", "from the future"),
        ("XTRIM", f"app{channel}", "MAXLEN", "1"),
        ("DEL", f"app{channel}"),
        ("SET", f"app{channel}", "of the wrong type"),
        ("CLIENT", "KILL", "TYPE", rng.choice(["normal", "pubsub"])),
        ("CONFIG", "SET", "notify-keyspace-events", rng.choice(["", "KEA", "Kt"])),
        ("CONFIG", "SET", "maxmemory", rng.choice(["0", "0", "3mb"])),
        ("SCRIPT", "FLUSH"),
    ])
