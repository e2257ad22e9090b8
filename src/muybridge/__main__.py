"""`python -m muybridge`."""

from muybridge.cli import main

main()
