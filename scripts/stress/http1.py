"""Clients of HTTP/1.x: well-behaved, slow, rude, and wrong."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct

import content



def tls(protocol):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


TLS = {protocol: tls(protocol) for protocol in ("http/1.1", "h2")}

# What happens to connections whose server is killed, or that are ended rudely.
BROKEN = (ConnectionError, OSError, EOFError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Connection:
    """A TCP, TLS, or Unix connection, whose receive buffer may be small."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, rng, world, place, small=False, protocol="http/1.1"):
        loop = asyncio.get_running_loop()
        if place == "unix":
            sock = socket.socket(socket.AF_UNIX)
            address = f"{world.prefix}/socket"
        else:
            sock = socket.socket()
            address = ("127.0.0.1", world.ports[place])
            if small:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            if rng.random() < 0.05:
                sock.bind(("127.0.0.2", 0))  # debug_connection
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            if place == "proxied":
                await loop.sock_sendall(sock, b"PROXY TCP4 10.1.2.3 10.1.2.4 1234 80\r\n")
            context = TLS[protocol] if place == "tls" else None
            name = "localhost" if context else None
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=context, server_hostname=name, limit=1024 if small else 1 << 17
            )
        except BaseException:
            sock.close()
            raise
        world.counts["connections"] += 1
        world.transports.add(writer.transport)
        return cls(reader, writer)

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size=65536):
        return await self.reader.read(size)

    def half_close(self):
        if sock := self.writer.get_extra_info("socket"):
            sock.shutdown(socket.SHUT_WR)

    def reset(self):
        if sock := self.writer.get_extra_info("socket"):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self):
        """Closes it in an orderly way, for which TLS waits for the other side."""
        with contextlib.suppress(*BROKEN, RuntimeError):
            self.writer.close()


def place(rng):
    return rng.choice(["plain", "plain", "plain", "tls", "tls", "unix", "proxied"])


def head(method, target, headers, version="1.1"):
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_some(rng, world, connection, seconds, slow=False):
    """Reads for a while, and remembers ids of events."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        try:
            data = await asyncio.wait_for(connection.read(rng.choice([1, 100]) if slow else 65536), left)
        except asyncio.TimeoutError:
            return True
        if not data:
            return False
        world.counts["bytes"] += len(data)
        for found in re.findall(rb"^id: ?([^\r\n]+)", data, re.M)[-2:]:
            world.remember(found.decode("latin-1"))
        if slow:
            await asyncio.sleep(rng.random() * 0.05)
    return True


async def stream(rng, world):
    """Opens a stream, reads it in one way, and ends it in another."""
    small = rng.random() < 0.3
    connection = await Connection.open(rng, world, place(rng), small)
    world.counts["streams"] += 1
    try:
        version = rng.choice(["1.1"] * 6 + ["1.0"])
        method = rng.choice(["GET"] * 12 + ["HEAD", "OPTIONS", "PUT", "DELETE"])
        headers = content.stream_headers(rng, world.ids)
        if rng.random() < 0.2:
            headers.append(("connection", rng.choice(["close", "keep-alive"])))
        request = head(method, content.stream_target(rng), headers, version)
        chance = rng.random()
        if chance < 0.1:
            # A body that never arrives, or arrives later.
            request = request[:-2] + rng.choice([b"Content-Length: 500\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
            request += rng.choice([b"", b"5\r\nhello\r\n", b"x" * 500, b"0\r\n\r\n"])
        elif chance < 0.25:
            # Another request behind it, at once.
            request += head("GET", rng.choice([content.stream_target(rng), content.status_target(rng)]), [])
        await connection.send(request)
        if chance > 0.9:
            await asyncio.sleep(rng.random() * 0.2)
            await connection.send(rng.choice([b"x", head("GET", content.stream_target(rng), []), rng.randbytes(3000)]))
        if rng.random() < 0.15:
            await asyncio.sleep(rng.random() * 2)  # reads nothing
        elif not await read_some(rng, world, connection, rng.choice([0, 0.05, 0.5, 3]), small):
            return
        await leave(rng, world, connection)
    finally:
        connection.close()


async def leave(rng, world, connection):
    chance = rng.random()
    if chance < 0.35:
        connection.reset()
    elif chance < 0.6:
        connection.half_close()
        await read_some(rng, world, connection, rng.random())
    # Otherwise the caller closes it.


async def publish(rng, world):
    """One or several publish requests on a connection, whole or not."""
    connection = await Connection.open(rng, world, place(rng), rng.random() < 0.05)
    try:
        for _ in range(rng.choice([1, 1, 2, 5])):
            world.counts["publishes"] += 1
            if not await publish_once(rng, world, connection):
                return
    finally:
        connection.close()


async def publish_once(rng, world, connection):
    data = content.body(rng)
    headers = content.publish_headers(rng)
    chunked = rng.random() < 0.4
    if chunked:
        headers.append(("transfer-encoding", "chunked"))
        data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in content.pieces(rng, data))
        data += rng.choice([b"0\r\n\r\n"] * 9 + [b"0\r\nA: b\r\n\r\n", b"zz\r\n"])
    else:
        headers.append(("content-length", str(len(data))))
    if rng.random() < 0.1:
        headers.append(("expect", "100-continue"))
    request = head(rng.choice(["POST"] * 5 + ["PUT", "GET"]), content.publish_target(rng), headers,
                   rng.choice(["1.1"] * 5 + ["1.0"]))
    chance = rng.random()
    if chance < 0.5:
        await connection.send(request + data)
    else:
        if chance > 0.8:
            data = data[: rng.randrange(len(data) + 1)]  # the rest never comes
        await connection.send(request)
        for count, piece in enumerate(content.pieces(rng, data)):
            if count > 30:
                break
            await connection.send(piece)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() * 0.1)
    if rng.random() < 0.2:
        await leave(rng, world, connection)
        return False
    if rng.random() < 0.2:
        return True  # the next request does not wait for the response
    return await read_some(rng, world, connection, rng.choice([0.05, 0.3, 1]))


async def ask(rng, world):
    """Several administrative requests on a connection, one after the other or at once."""
    connection = await Connection.open(rng, world, place(rng), rng.random() < 0.2)
    try:
        for _ in range(rng.choice([1, 2, 4])):
            world.counts["requests"] += 1
            method, target = content.admin_request(rng) if rng.random() < 0.5 else ("GET", content.status_target(rng))
            await connection.send(head(method, target, content.stream_headers(rng, world.ids)))
            if rng.random() < 0.5 and not await read_some(rng, world, connection, 0.2):
                return
        await leave(rng, world, connection)
    finally:
        connection.close()


async def babble(rng, world):
    """Bytes that are no request, or only a part of one."""
    sender = await Connection.open(rng, world, rng.choice(["plain", "unix", "proxied", "h2c"]))
    world.counts["babbles"] += 1
    try:
        request = head("POST", content.publish_target(rng), content.publish_headers(rng))
        await sender.send(rng.choice([rng.randbytes(200), request[: rng.randrange(len(request))], b"GET /stream?c=a\r\n",
                                      b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(100), b""]))
        await read_some(rng, world, sender, rng.random())
        await leave(rng, world, sender)
    finally:
        sender.close()
