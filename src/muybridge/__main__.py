"""`python -m muybridge`."""

import os
import sys
from contextlib import suppress
from pathlib import Path

# Python has put the folder where the user stands first: whatever lies there would be imported in place of what is meant.
with suppress(FileNotFoundError):  # where the user stands in a folder that is gone, it has put none
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()] and Path(__file__).parents[1] != Path.cwd():
        del sys.path[0]

from muybridge.cli.app import main

main()
