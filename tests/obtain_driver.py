"""Obtain archives, and die at a byte or a file operation.

    python obtain_driver.py ROOT URL SHA256 [bytes|operation NUMBER]

Prints the numbers of bytes and operations that there were.
"""

import json
import os
import signal
import sys
from pathlib import Path

from muybridge.data.sets.archives import Archive
from muybridge.data.sets.obtain import obtain
from muybridge.runtime.console import ByteBar, console

OPERATIONS = ("rename", "replace", "unlink", "mkdir", "rmdir")
seen = {"bytes": 0, "operation": 0}
die_in, die_at = (sys.argv[4], int(sys.argv[5])) if len(sys.argv) > 4 else ("", -1)


def count(what, number):
    if what == die_in and seen[what] + number > die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    seen[what] += number


def watched(operation):
    def call(*args, **kwargs):
        count("operation", 1)
        return operation(*args, **kwargs)

    return call


advance = ByteBar.advance
ByteBar.advance = lambda bar, num_bytes: (count("bytes", num_bytes), advance(bar, num_bytes))
for name in OPERATIONS:
    setattr(os, name, watched(getattr(os, name)))
os.sync = os.fsync = lambda *args: None
console().quiet = True
obtain([Archive((sys.argv[2],), "videos", sha256=sys.argv[3] or None)], Path(sys.argv[1]))
print(json.dumps(seen))
