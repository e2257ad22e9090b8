"""What a person did wrong, said so that they can mend it.

`UserError` is raised wherever the cause lies with the input: a file, a field, a name. The command line prints its text
and exits with 2; a traceback is for bugs.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in what muybridge was given. The message says what, where, and what would be right."""


class Diverged(UserError):
    """The loss, or a weight, is no finite number any more."""


class Interrupted(KeyboardInterrupt):
    """A person (or the system) asked to stop, and everything worth keeping has been saved."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A closing sentence for an error about a mistyped `name`: the nearest valid ones, or all where none is near."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"Valid: {shown}."
