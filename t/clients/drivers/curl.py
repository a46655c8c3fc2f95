"""curl, with the options that are given after the address."""

import subprocess
import sys

from report import address, report

process = subprocess.Popen(["curl", "-sSNfk", *sys.argv[2:], address], stdout=subprocess.PIPE, text=True)
for line in process.stdout:
    if line.startswith("data: "):
        report(event=line.removeprefix("data: ").rstrip("\n"))
report(end=f"exit {process.wait()}")
