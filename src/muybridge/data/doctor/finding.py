"""Findings: a sentence with figures, the videos that show it, and the command that mends it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from muybridge.data.doctor.copies import Copies, find_copies
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec

Rank = Literal["leak", "fault", "doubt", "note"]
RANKS: dict[Rank, str] = {
    "leak": "the test shows what training saw",
    "fault": "wrong, or unusable",
    "doubt": "look at it before you trust a result",
    "note": "good to know",
}
"""Ranks of findings, the worst first."""
LIST = "LIST"
"""Stands in a command for the file that lists a finding's videos."""
EXCLUDE = f"muybridge prepare … --exclude {LIST}"
"""Command that leaves the listed videos out: the one that made the manifest, with one more option."""


@dataclass(frozen=True)
class Example:
    """Videos that show a finding, one below the other, with a caption."""

    rows: tuple[int, ...]
    caption: str
    where: np.ndarray | None = field(default=None, compare=False)
    """Place in the picture: a coarse grid of heat, the same for every frame."""


@dataclass(frozen=True)
class Finding:
    """Something that a check found."""

    check: str
    """Name of the check and of its list, as in copies-across-splits."""
    rank: Rank
    text: str
    """Result in numbers, and why it matters."""
    command: str = ""
    """Command that mends it, with `LIST` for the file of `listed`; empty where none does."""
    listed: tuple[int, ...] = ()
    """Rows that the command leaves out, or that are to be looked at."""
    examples: tuple[Example, ...] = ()
    """The clearest first."""
    figures: dict[str, Any] = field(default_factory=dict)

    def as_json(self, manifest: Manifest) -> dict[str, Any]:
        """Plain values for JSON, rows by their ids."""
        ids = manifest.text("id").tolist()
        return {
            "check": self.check, "rank": self.rank, "text": self.text, "command": self.command,
            "listed": [ids[row] for row in self.listed], "figures": self.figures,
            "examples": [{"ids": [ids[row] for row in one.rows], "caption": one.caption} for one in self.examples],
        }  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """Answers of some model to the videos, which it was not trained on."""

    probabilities_NK: np.ndarray
    """Probabilities of every row of the manifest; NaN where it gave none."""
    source: str
    """Origin, for people."""


@dataclass(frozen=True)
class Case:
    """Subject of the checks."""

    manifest: Manifest
    looks_N: np.ndarray | None = None
    """A look at every row (`looks.LOOK`); None: the manifest alone is checked."""
    clip: ClipSpec | None = None
    """The clip that a recipe would take."""
    answers: Answers | None = None
    jobs: int | None = None

    @cached_property
    def copies(self) -> Copies:
        """Copies among the rows: exact ones, and with looks near ones, too."""
        return find_copies(self.manifest, self.looks_N, jobs=self.jobs)

    @cached_property
    def ids(self) -> list[str]:
        """Id of every row."""
        return list(self.manifest.text("id").tolist())

    @cached_property
    def labels_N(self) -> np.ndarray:
        """Class index of every row."""
        return self.manifest.labels()

    def splits_of(self, row: int) -> str:
        """Split of a row, for people; of folds, that of each."""
        columns = self.manifest.columns
        return "/".join(dict.fromkeys(columns[name][row].decode() for name in self.manifest.split_columns))

    def label(self, row: int) -> str:
        """Class name of a row."""
        return self.manifest.classes[self.labels_N[row]]


def first(rows: Sequence[int] | np.ndarray, most: int = 6) -> tuple[int, ...]:
    """The first few rows, as plain numbers."""
    return tuple(int(row) for row in rows[:most])
