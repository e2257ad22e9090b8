"""The checkup: all checks over one manifest, and what they found."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muybridge.analysis.doctor import answers, labels, shortcuts
from muybridge.data import inputs
from muybridge.data.doctor import formats, pictures
from muybridge.data.doctor.cheap import CHEAP, found_by
from muybridge.data.doctor.finding import LIST, RANKS, Case, Finding
from muybridge.data.doctor.looks import look_at
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec
from muybridge.errors import UserError
from muybridge.recipe import Clip
from muybridge.text import counted, plural

CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    *CHEAP,
    pictures.unreadable,
    pictures.blank,
    formats.headers,
    shortcuts.metadata,
    shortcuts.still,
    shortcuts.marks,
    labels.suspicious,
)
"""Each is a function from a case to findings. To add one, write a file with such a function, and put it here."""


@dataclass(frozen=True)
class Checkup:
    """Findings of the doctor."""

    path: Path
    """Manifest."""
    manifest: Manifest
    findings: tuple[Finding, ...]
    """The worst first."""
    is_quick: bool
    """Whether the manifest alone was read, and no video."""
    page: Path | None = None
    """HTML page, where one was written."""
    lists: Mapping[str, Path] = field(default_factory=dict)
    """File that lists the videos of a finding, by its check."""

    @property
    def has_leak(self) -> bool:
        """Whether something is on both sides of a split."""
        return any(finding.rank == "leak" for finding in self.findings)

    def command(self, finding: Finding) -> str:
        """Command that mends a finding, with the file of its list in place."""
        file = self.lists.get(finding.check)
        return finding.command.replace(LIST, shlex.quote(str(file))) if file else finding.command

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "manifest": str(self.path), "sha256": self.manifest.sha256(), "videos": len(self.manifest),
            "quick": self.is_quick, "has_leak": self.has_leak, "page": None if self.page is None else str(self.page),
            "findings": [
                {**finding.as_json(self.manifest), "command": self.command(finding),
                 "list": str(self.lists[finding.check]) if finding.check in self.lists else None}
                for finding in self.findings
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        counts = Counter(finding.rank for finding in self.findings)
        said = ", ".join(plural(counts[rank], rank) for rank in RANKS if counts[rank]) or "nothing found"
        return f"{self.path}: {plural(len(self.manifest), 'video')}, {said}"


MOST_WARNINGS = 6


def warnings(path: str | Path, manifest: Manifest) -> list[str]:
    """Doubts about a data set that its manifest alone gives, a line a kind, at most a screen."""
    found = [finding for finding in found_by(CHEAP, Case(manifest)) if finding.rank != "note"]
    lines = counted((finding.check, f"{path}: {finding.text}") for finding in found)
    more = [f"{path}: {len(lines) - MOST_WARNINGS} more. See all: muybridge doctor {path}"]
    return lines[:MOST_WARNINGS] + (more if len(lines) > MOST_WARNINGS else [])


def check_manifest(path: Path) -> Manifest:
    """Load a manifest of videos. Raises UserError, also for one of stored vectors."""
    manifest = Manifest.load(path)
    if inputs.held_by(manifest) is not None:
        raise UserError(
            f"{path}: it lists stored vectors. Name the manifest of the videos, and the store by --features {path}"
        )
    return manifest


def examine(
    path: Path,
    *,
    clip: Clip,
    cache: Path | None,
    features: str | Path | None = None,
    study: str | Path | None = None,
    jobs: int | None = None,
) -> Checkup:
    """Make all checks of a manifest; without a `cache` those alone that need no video.

    `clip`: what a recipe takes of a video. `cache`: file for the looks at the videos. `features`, `study`: whose answers
    tell which labels are suspicious. Raises UserError.
    """
    if features is not None and study is not None:
        raise UserError("--study: --features is given, too. Give one of the two")
    manifest = check_manifest(path)
    spec = ClipSpec(
        num_frames=clip.num_frames, sampling=clip.sampling, stride_frames=clip.stride_frames, fps=clip.fps,
        past_end=clip.past_end, snippet_frames=inputs.of(clip).step_frames,
    )  # fmt: skip
    case = Case(manifest, clip=spec, jobs=jobs)
    if cache is None:
        return Checkup(path, manifest, tuple(found_by(CHEAP, case)), is_quick=True)
    given = None if study is None else answers.of_study(manifest, study)  # mistakes are told before videos are read
    stored_ND = None if features is None else answers.stored(manifest, features)
    looked = Case(manifest, look_at(manifest, cache=cache, jobs=jobs), spec, given, jobs)
    if stored_ND is not None:
        looked = Case(manifest, looked.looks_N, spec, answers.of_features(looked, stored_ND, str(features)), jobs)
    return Checkup(path, manifest, tuple(found_by(CHECKS, looked)), is_quick=False)
