"""A client of HTTP/2 that opens many requests on one connection and breaks every habit of good clients."""

import asyncio
import struct

import content
from http1 import Connection

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 2, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value):
    value = value.encode("latin-1")
    if len(value) < 127:
        return bytes([len(value)]) + value
    length, prefix = len(value) - 127, b"\x7f"
    while length > 127:
        prefix, length = prefix + bytes([length & 127 | 128]), length >> 7
    return prefix + bytes([length]) + value


def fields(*pairs):
    """Header fields, uncompressed."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in pairs)


class Session:
    def __init__(self, rng, world, connection):
        self.rng, self.world, self.connection = rng, world, connection
        self.next, self.open = 1, []

    async def send(self, *arguments):
        await self.connection.send(frame(*arguments))

    async def request(self, method, target, headers, ends):
        stream, self.next = self.next, self.next + 2
        self.open.append(stream)
        block = fields((":method", method), (":path", target), (":scheme", "http"), (":authority", "localhost"), *headers)
        await self.send(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block)
        return stream

    async def act(self):
        rng, chance = self.rng, self.rng.random()
        if chance < 0.35:
            self.world.counts["streams"] += 1
            await self.request(rng.choice(["GET"] * 8 + ["HEAD", "OPTIONS"]), content.stream_target(rng),
                               content.stream_headers(rng, self.world.ids), rng.random() < 0.95)
        elif chance < 0.6:
            await self.publish()
        elif chance < 0.7:
            self.world.counts["requests"] += 1
            method, target = rng.choice([content.admin_request(rng), ("GET", content.status_target(rng))])
            await self.request(method, target, [], True)
        elif chance < 0.85 and self.open:
            stream = self.open.pop(rng.randrange(len(self.open)))
            await self.send(RST_STREAM, 0, stream, struct.pack(">I", 8))
        elif chance < 0.95:
            stream = rng.choice([0] + self.open)
            await self.send(WINDOW_UPDATE, 0, stream, struct.pack(">I", rng.choice([1, 100, 65535])))
        else:
            await self.meddle()

    async def publish(self):
        rng = self.rng
        self.world.counts["publishes"] += 1
        data, headers = content.body(rng)[:60000], content.publish_headers(rng)
        if rng.random() < 0.5:
            length = len(data) + rng.choice([0] * 8 + [1, -1])
            headers.append(("content-length", str(max(length, 0))))
        stream = await self.request("POST", content.publish_target(rng), headers, False)
        for piece in content.pieces(rng, data):
            for at in range(0, len(piece), 16384):
                await self.send(DATA, 0, stream, piece[at : at + 16384])
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() * 0.05)
                if rng.random() < 0.2:
                    return  # the rest never comes
        await self.send(DATA, END_STREAM, stream)

    async def meddle(self):
        rng = self.rng
        window = struct.pack(">HI", INITIAL_WINDOW, rng.choice([0, 10, 65535, 1 << 20]))
        await self.send(*rng.choice([
            (PING, 0, 0, b"12345678"),
            (SETTINGS, 0, 0, window),
            (PRIORITY, 0, self.next + 2, struct.pack(">IB", 0, 200)),
            (GOAWAY, 0, 0, struct.pack(">II", 0, 0)),
            (rng.randrange(12), rng.randrange(256), rng.randrange(9), rng.randbytes(rng.randrange(20))),
        ]))

    async def read(self):
        while data := await self.connection.read(self.rng.choice([64, 65536])):
            self.world.counts["bytes"] += len(data)
            await asyncio.sleep(self.rng.choice([0, 0, 0, 0.02]))
        raise ConnectionError("closed")


async def session(rng, world):
    place = rng.choice(["h2c", "tls"])
    connection = await Connection.open(rng, world, place, rng.random() < 0.3, "h2")
    session = Session(rng, world, connection)
    reader = asyncio.ensure_future(session.read())
    try:
        window = rng.choice([0, 100, 65535, 1 << 20])
        await connection.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, window)))
        if rng.random() < 0.7:
            await session.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
        for _ in range(rng.choice([3, 20, 60])):
            await session.act()
            await asyncio.sleep(rng.choice([0, 0, 0.02, 0.2]))
            if reader.done():
                return
        await asyncio.sleep(rng.random())
        if rng.random() < 0.4:
            connection.reset()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        connection.close()
