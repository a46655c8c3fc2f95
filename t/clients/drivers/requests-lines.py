"""The package requests, and lines that the program parses itself."""

import requests

from report import address, report, report_end


def read():
    response = requests.get(address, stream=True)
    response.raise_for_status()
    for line in response.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("data: "):
            report(event=line.removeprefix("data: "))


report_end(read)
