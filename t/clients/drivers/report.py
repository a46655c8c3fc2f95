"""Prints what a client of Python does, one JSON object on each line."""

import json
import sys

address = sys.argv[1]


def report(**what):
    print(json.dumps(what), flush=True)


def report_end(read):
    """Reads a stream with `read`, and reports how it ended. It reports the events itself."""
    try:
        read()
    except Exception as error:
        report(end="error", message=f"{type(error).__name__}: {error}")
    else:
        report(end="complete")
