"""Errors in what the user gave, worded so that they can correct it.

`UserError` is raised wherever the cause lies with the input: a file, a field, a name. The command line prints its text
and exits with 2; a traceback is for bugs.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in the input; the message says what is wrong, where, and what to do."""


class Diverged(UserError):
    """The loss or a weight is not finite any more."""


class InUse(UserError):
    """Another process is at work in the folder."""


class Interrupted(KeyboardInterrupt):
    """The user or the system asked to stop, and everything worth keeping is saved."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Closing sentence of an error about a mistyped `name`: the nearest valid names, or all where none is near."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"Valid: {shown}."
