"""The package aiohttp-sse-client."""

import asyncio

from aiohttp import ClientTimeout
from aiohttp_sse_client.client import EventSource

from report import address, report, report_end


async def read():
    async with EventSource(address, timeout=ClientTimeout(total=None)) as source:
        async for event in source:
            report(event=event.data)


report_end(lambda: asyncio.run(read()))
