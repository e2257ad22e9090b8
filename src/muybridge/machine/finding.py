"""Findings about a machine: a sentence, a rank, what to do, and figures. Nothing in them says whose machine it is."""

import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Rank = Literal["fault", "doubt", "note", "good"]
RANKS: dict[Rank, str] = {
    "fault": "muybridge cannot work so",
    "doubt": "it works, but slower or less than it could",
    "note": "good to know",
    "good": "as it should be",
}
"""Ranks of findings, the worst first."""


@dataclass(frozen=True)
class Finding:
    """Something that a look found."""

    check: str
    """Name that stays from version to version, as in torch-cannot-be-imported."""
    rank: Rank
    text: str
    remedy: str = ""
    """Command or step that mends it; empty where nothing needs mending."""
    figures: dict[str, Any] = field(default_factory=dict)
    look: str = ""
    """Name of the look that found it."""

    def as_json(self) -> dict[str, Any]:
        """All fields, by name."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """Subject of the looks."""

    folder: Path
    """Folder to work in."""
    scratch: Path
    """Empty folder for files of a look, which is removed afterwards."""
    is_quick: bool
    """Whether nothing is measured."""


def imported(name: str) -> tuple[Any, str]:
    """Import a module that may be broken: (module, ""), or (None, the reason in one line)."""
    from importlib import import_module

    try:
        return import_module(name), ""
    except Exception as error:  # whatever a broken library raises
        return None, reason(error)


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


_PATH = re.compile(r"(?<![\w.:/…])(?!/(?:dev|proc|sys)/)/(?:[^/\s'\":;,()<>]+/)+")
_WINDOWS_PATH = re.compile(r"\b[A-Za-z]:\\(?:[^\\\s'\":;,()<>]+\\)+")
_COMMON = {"", "localhost", "root", "ubuntu", "user"}
"""Names of hosts and users that tell nothing."""


def private(value: Any, folder: Path) -> Any:
    """A value without folders, host name and user name: for a public issue."""
    if isinstance(value, Mapping):
        return {name: private(one, folder) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [private(one, folder) for one in value]
    if not isinstance(value, str):
        return value
    for place, word in _places(folder):
        value = value.replace(place, word)
    value = _WINDOWS_PATH.sub("…\\\\", _PATH.sub("…/", value))
    for name, word in _names():
        value = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", word, value)
    return value


def _places(folder: Path) -> Iterator[tuple[str, str]]:
    found = [(str(folder), "(folder)")]
    with suppress(RuntimeError, KeyError):
        found.append((str(Path.home()), "~"))
    yield from sorted((one for one in found if len(one[0]) > 1), key=lambda one: -len(one[0]))


def _names() -> Iterator[tuple[str, str]]:
    names = [(socket.gethostname(), "(host)"), (socket.gethostname().partition(".")[0], "(host)")]
    with suppress(KeyError, OSError, ImportError):
        names.append((getpass.getuser(), "(user)"))
    with suppress(RuntimeError, KeyError):
        names.append((Path.home().name, "(user)"))
    yield from (one for one in names if one[0] not in _COMMON)
