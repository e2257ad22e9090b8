"""The checkup: all checks over one manifest, and what they found."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.analysis.doctor import labels, shortcuts
from muybridge.data.doctor import formats, pictures
from muybridge.data.doctor.cheap import CHEAP, found_by
from muybridge.data.doctor.finding import RANKS, Case, Finding
from muybridge.data.manifest import Manifest
from muybridge.text import plural

CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    *CHEAP,
    pictures.unreadable,
    pictures.blank,
    formats.headers,
    shortcuts.metadata,
    shortcuts.still,
    labels.suspicious,
)
"""Each is a function from a case to findings. To add one, write a file with such a function, and put it here."""


@dataclass(frozen=True)
class Checkup:
    """What the doctor found."""

    path: Path
    """Manifest."""
    manifest: Manifest
    findings: tuple[Finding, ...]
    """The worst first."""
    is_quick: bool
    """Whether the manifest alone was read, and no video."""
    page: Path | None = None
    """HTML page, where one was written."""

    @property
    def has_leak(self) -> bool:
        """Whether something is on both sides of a split."""
        return any(finding.rank == "leak" for finding in self.findings)

    def of_rank(self, rank: str) -> list[Finding]:
        """Findings of a rank."""
        return [finding for finding in self.findings if finding.rank == rank]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "manifest": str(self.path), "sha256": self.manifest.sha256(), "videos": len(self.manifest),
            "quick": self.is_quick, "has_leak": self.has_leak, "page": None if self.page is None else str(self.page),
            "findings": [finding.as_json(self.manifest) for finding in self.findings],
        }  # fmt: skip

    def __str__(self) -> str:
        counts = Counter(finding.rank for finding in self.findings)
        said = ", ".join(plural(counts[rank], rank) for rank in RANKS if counts[rank]) or "nothing found"
        return f"{self.path}: {plural(len(self.manifest), 'video')}, {said}"


def checkup(path: Path, case: Case, *, is_quick: bool) -> Checkup:
    """Make all checks; quick ones need the manifest alone."""
    return Checkup(path, case.manifest, tuple(found_by(CHEAP if is_quick else CHECKS, case)), is_quick)
