"""Findings about a machine: a sentence, a rank, what to do, and figures. Nothing in them says whose machine it is."""

import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from muybridge.text import shortened

Rank = Literal["fault", "doubt", "note", "good"]
RANKS: dict[Rank, str] = {
    "fault": "muybridge cannot work so",
    "doubt": "it works, but slower or less than it could",
    "note": "good to know",
    "good": "as it should be",
}
"""Ranks of findings, the worst first."""
MOST_LETTERS = 600
"""A longer text of a finding is cut, as errors may be of any length."""


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

    def private(self, folder: Path) -> "Finding":
        """The finding without folders, host and user in what others may have said: its text, which is cut, and its figures."""
        text = private(self.text, folder)
        return replace(self, text=shortened(text, MOST_LETTERS), figures=private(self.figures, folder))


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
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_SYSTEM = re.compile(r"/dev/\w+|/(?:proc|sys)(?:/\w+)*")
"""Paths that are alike on all machines."""
_LIBRARY = re.compile(r"[^\\/]+\.(?:so(?:\.\d+)*|dylib|dll|pyd|py)")
"""Files of programs: their names tell what is wrong, and nothing of whose they are."""
_WORD = r"""(?:[^\s\\/"'<>|:;,]|[:;,](?=[^\s\\/:])|(?<=\w)'(?=\w))+"""
_PATH = re.compile(
    rf"""(?P<web>\bhttps?://)(?:[^\s/@]*@)?
    | (?:(?<![\w.\\/…])(?:~[\w.-]*|\(folder\))?/ | \bfile:/+ | \b[a-z][\w+.-]*://+ | \b[A-Za-z]:[\\/]+ | (?<![\w\\])\\{{2,}})
    (?:(?<='/)[^'"\n]*(?=') | (?<="/)[^"\n]*(?=")                     # all that is quoted; or folders, which may have spaces
    | (?:{_WORD}(?:\ {_WORD}){{0,4}}[\\/]+)*(?:{_WORD}(?<![.)]))?)    # inside their names, and a name
    """,
    re.VERBOSE,
)
_ORDINARY = {
    "localhost", "root", "ubuntu", "user", "users", "admin", "home", "host", "server", "worker", "runner", "node", "cloud",
    "test", "me", "it", "is", "the", "a", "an", "packages", "processor", "processors", "memory", "disk", "decoding",
    "graphics", "training", "fault", "doubt", "note", "good", "folder", "torch", "cuda", "gpu", "cpu", "nvidia", "driver",
    "python", "muybridge", "ffmpeg", "linux", "windows",
}  # fmt: skip
"""Names of hosts and users that tell nothing, as they are words of findings."""
_NAMED_BEFORE = (
    r"\b(?:user|host|server|node|owner|login|account|by|on|for|from|to)['\"]?"
    r"(?:\s+|\s*[=:]\s*)['\"(]?"
)  # fmt: skip
"""Words behind which a name of a user or a host stands."""


def private(value: Any, folder: Path) -> Any:
    """Words, or values in lists and by names, without folders, host and user: for a public issue.

    A name that is an ordinary word, as "erde", is a name beside "@", in front of a colon, and behind words as "user".
    """
    if isinstance(value, Mapping):
        return {name: private(one, folder) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [private(one, folder) for one in value]
    if not isinstance(value, str):
        return value
    for place, word in _places(folder):
        value = re.sub(rf"(?<![\w.~-]){re.escape(place)}(?![\w-]|\.\w)", word, value)
    value = _PATH.sub(_without_folders, value)
    for name, word in _names():
        if re.fullmatch("[A-Za-z]+|[0-9]+", name):
            value = re.sub(rf"({_NAMED_BEFORE}|@){name}(?![\w-])", rf"\1{word}", value, flags=re.IGNORECASE)
            value = re.sub(rf"(?<![\w-]){name}(?=@|:[/\d])|(?:^|(?<=: )){name}(?=:)", word, value)
        else:
            value = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word, value)
    return value


def _without_folders(found: re.Match[str]) -> str:
    """Words to show for a path: those of the system, and names of program files."""
    path = found[0]
    if found["web"]:
        return found["web"]
    if _SYSTEM.fullmatch(path) or not path.strip("/\\"):
        return path
    name = re.split(r"[\\/]", path)[-1]
    return f"…/{name}" if _LIBRARY.fullmatch(name) else "…"


def _places(folder: Path) -> Iterator[tuple[str, str]]:
    found = [(str(folder), "(folder)")]
    with suppress(RuntimeError, KeyError):
        found.append((str(Path.home()), "~"))
    yield from sorted(
        (one for one in found if one[0] not in ("/", "/dev", "/proc", "/sys")), key=lambda one: -len(one[0])
    )


def _names() -> Iterator[tuple[str, str]]:
    names = [(socket.gethostname(), "(host)"), (socket.gethostname().partition(".")[0], "(host)")]
    with suppress(KeyError, OSError, ImportError):
        names.append((getpass.getuser(), "(user)"))
    with suppress(RuntimeError, KeyError):
        names.append((Path.home().name, "(user)"))
    yield from (one for one in names if one[0] and one[0].lower() not in _ORDINARY)
