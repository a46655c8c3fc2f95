"""The package sseclient-py, which parses a response of requests."""

import requests
import sseclient

from report import address, report, report_end


def read():
    response = requests.get(address, stream=True, headers={"Accept": "text/event-stream"})
    response.raise_for_status()
    for event in sseclient.SSEClient(response).events():
        report(event=event.data)


report_end(read)
