"""Random requests: paths, headers, and bodies."""

from configuration import PUBLISHERS, STREAM_LIKE, STREAMS

CHANNELS = ["c0", "c1", "c2", "c3", "c4", "news", "room:1", "room:2", "%C3%A9", "after", "guard", "mirrored"]
ODD_CHANNELS = ["", "sse.presence", "%FF", "%00", "x" * 255, "x" * 256, "__keyspace@0__:x", ",", "a,,b,a"]
PATTERNS = ["*", "c*", "room:?", "[a-c]?", "*[^x]", "%5C*", "c0,c1,*", "x"]
ODD_IDS = ["", "0", "1-0-1", "x" * 300, "99999999999999-0-1", "1763807585123-0-2891336453", "-1", "18446744073709551615-0-1"]


def channels(rng):
    if rng.random() < 0.06:
        return rng.choice(ODD_CHANNELS)
    if rng.random() < 0.05:
        return ",".join(f"m{n}" for n in range(rng.choice([10, 64, 65])))
    return ",".join(rng.choice(CHANNELS) for _ in range(rng.choice([1, 1, 1, 2, 5])))


def stream_target(rng):
    path = rng.choice(list(STREAMS) * 2 + list(STREAM_LIKE))
    if path.startswith("/pattern"):
        return f"{path}?c={rng.choice(PATTERNS)}"
    target = f"{path}?c={channels(rng)}"
    if rng.random() < 0.03:
        target += "&deny=1"
    return target


def stream_headers(rng, ids):
    headers = []
    chance = rng.random()
    if chance < 0.25 and ids:
        headers.append(("last-event-id", rng.choice(ids)))
    elif chance < 0.35:
        headers.append(("last-event-id", rng.choice(ODD_IDS)))
    if rng.random() < 0.3:
        headers.append(("accept-encoding", "gzip"))
    if rng.random() < 0.3:
        headers.append(("accept", "text/event-stream"))
    if rng.random() < 0.1:
        headers.append(("origin", "http://a.example"))
    if rng.random() < 0.1:
        headers.append(("x-forwarded-for", rng.choice(["10.0.0.1", "junk", "::1"])))
    return headers


def publish_target(rng):
    channel = rng.choice(ODD_CHANNELS) if rng.random() < 0.03 else rng.choice(CHANNELS)
    target = f"{rng.choice(list(PUBLISHERS) + ['/both', '/both-lean'])}?c={channel}"
    return target + (f"&e={rng.choice(['tick', 'error', 'sse.x', 'a%0Ab'])}" if rng.random() < 0.2 else "")


def publish_headers(rng):
    headers = []
    if rng.random() < 0.3:
        headers.append(("content-type", "text/event-stream"))
    if rng.random() < 0.2:
        headers.append(("idempotency-key", rng.choice(["a", "b", "c", "k" * 128, "k" * 129])))
    if rng.random() < 0.1:
        headers.append(("origin", rng.choice(["http://a.example", "http://b.example", "null"])))
    return headers


def body(rng):
    chance = rng.random()
    if chance < 0.1:
        return b""
    if chance < 0.2:
        return b'<!--#include virtual="/inc" --> and <!--#echo var="uri" -->\n'
    if chance < 0.25:
        return rng.randbytes(rng.choice([1, 100]))
    if chance < 0.55:
        events = (f"event: t{n}\ndata: {'y' * rng.randrange(200)}\n\n" for n in range(rng.choice([1, 3, 200])))
        return "".join(events).encode()
    size = rng.choice([1, 20, 300, 1024, 5000, 16000, 60000, 260000])
    return (b"data\r\n" if rng.random() < 0.2 else b"z" * 6) * (rng.randrange(size) // 6 + 1)


def pieces(rng, data):
    """The data in random pieces."""
    while data:
        size = rng.choice([1, 10, 1000, 16384, len(data)])
        yield data[:size]
        data = data[size:]


def admin_request(rng):
    path = rng.choice(["/admin", "/admin", "/admin-joined", "/admin-source"])
    if rng.random() < 0.5:
        query = rng.choice(["", "?limit=1", "?prefix=room:&limit=2", "?channel=c0", "?from=x", "?limit=0", "?prefix=%FF"])
        return "GET", path + query
    only = rng.choice(["", "&only=streams", "&only=history", "&only=x"])
    return rng.choice(["DELETE", "DELETE", "POST"]), f"{path}?channel={rng.choice(CHANNELS)}{only}"


def status_target(rng):
    return rng.choice(["/status", "/status?format=prometheus", "/status?format=html", "/status?format=x", "/stub", "/inc", "/large"])
