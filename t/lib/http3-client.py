"""Requests over HTTP/3 for t/lib/SSE/HTTP3.pm: commands on standard input, reports on standard output,
one JSON object a line. A connection or request is known by the number that its command gives it."""

import asyncio
import base64
import json
import ssl
import sys

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamReset

H3_REQUEST_CANCELLED = 0x10C


def report(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Connection(QuicConnection):
    """A connection that opens its windows no further while it is paused."""

    paused = False

    def _write_connection_limits(self, builder, space):
        if not self.paused:
            super()._write_connection_limits(builder, space)

    def _write_stream_limits(self, builder, space, stream):
        if not self.paused:
            super()._write_stream_limits(builder, space, stream)


class Client(QuicConnectionProtocol):
    def __init__(self, number, quic):
        super().__init__(quic)
        self.number = number
        self.http = H3Connection(quic)
        self.requests = {}

    def request(self, command):
        stream = self._quic.get_next_available_stream_id()
        self.requests[stream] = command["request"]
        pieces = [base64.b64decode(piece) for piece in command.get("pieces", [])]
        headers = [(name.encode(), value.encode()) for name, value in command["headers"]]
        self.http.send_headers(stream, headers, end_stream=not pieces)
        for piece in pieces[:-1]:
            self.http.send_data(stream, piece, end_stream=False)
        if pieces:
            self.http.send_data(stream, pieces[-1], end_stream=not command.get("unfinished"))
        self.transmit()

    def cancel(self, request):
        for stream, number in self.requests.items():
            if number == request:
                self._quic.stop_stream(stream, H3_REQUEST_CANCELLED)
        self.transmit()

    def pause(self, paused):
        self._quic.paused = paused
        if not paused:
            self._quic.send_ping(0)
        self.transmit()

    def vanish(self):
        """Leaves without a word: no packet is sent or read any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            report(connection=self.number, closed=event.error_code, reason=event.reason_phrase)
        if isinstance(event, StreamReset) and event.stream_id in self.requests:
            report(request=self.requests[event.stream_id], reset=event.error_code)
        for http in self.http.handle_event(event):
            request = self.requests.get(getattr(http, "stream_id", None))
            if request is None:
                continue
            if isinstance(http, HeadersReceived):
                report(request=request, headers=[[n.decode(), v.decode()] for n, v in http.headers])
            if isinstance(http, DataReceived) and http.data:
                report(request=request, data=base64.b64encode(http.data).decode())
            if isinstance(http, (HeadersReceived, DataReceived)) and http.stream_ended:
                report(request=request, ended=True)


async def connect(command):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost",
        idle_timeout=command.get("idle_timeout", 60.0), max_data=command.get("window", 1 << 20),
        max_stream_data=command.get("window", 1 << 20),
    )
    address = ("127.0.0.1", command["port"])
    number = command["connection"]
    _, client = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Client(number, Connection(configuration=configuration)), local_addr=("127.0.0.1", 0)
    )
    client.connect(address)
    try:
        await asyncio.wait_for(client.wait_connected(), 30)
        report(connection=number, open=True)
    except (ConnectionError, asyncio.TimeoutError):
        report(connection=number, closed=-1, reason="no handshake")
    return client


async def main():
    commands = asyncio.StreamReader(limit=1 << 26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    clients = {}
    while line := await commands.readline():
        command = json.loads(line)
        number = command["connection"]
        match command["do"]:
            case "connect":
                clients[number] = await connect(command)
            case "request":
                clients[number].request(command)
            case "cancel":
                clients[number].cancel(command["request"])
            case "pause" | "resume" as how:
                clients[number].pause(how == "pause")
            case "close":
                clients[number].close()
            case "vanish":
                clients.pop(number).vanish()


asyncio.run(main())
