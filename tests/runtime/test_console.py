"""What is logged goes to standard error, wherever it is logged."""

import subprocess
import sys

NOTEBOOK = """
import builtins

class ZMQInteractiveShell:
    pass

builtins.get_ipython = ZMQInteractiveShell  # how a notebook is known
from muybridge.runtime.console import log, progress
log("trained")
with progress("making videos", 2) as bar:
    bar.advance()
"""


def test_in_a_notebook_too_it_is_no_output_of_a_cell():
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=True)
    assert "trained" in done.stderr
    assert done.stdout == ""
