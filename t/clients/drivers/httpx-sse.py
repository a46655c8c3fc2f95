"""The package httpx-sse."""

import httpx
from httpx_sse import connect_sse

from report import address, report, report_end


def read():
    with httpx.Client(timeout=None) as client, connect_sse(client, "GET", address) as source:
        for event in source.iter_sse():
            report(event=event.data)


report_end(read)
