"""study.json: what a study knows of its runs beyond their recipes (format: docs/formats.md)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_json, write_json
from muybridge.runs import Run

FORMAT_VERSION = 3


@dataclass(frozen=True)
class RunRecord:
    axes: Mapping[str, Any] = field(default_factory=dict)
    starts_from: str | None = None
    """The run of the same study that it begins with."""


@dataclass(frozen=True)
class SetRecord:
    """The runs of one data set: models are compared on the same videos only."""

    runs: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyRecord:
    """A study on disk, finished or not."""

    path: Path
    title: str | None = None
    runs: Mapping[str, RunRecord] = field(default_factory=dict)
    varies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each axis, the fields of the recipe that it sets on purpose."""
    sets: Mapping[str, SetRecord] = field(default_factory=dict)
    """By the data set's name."""

    def run(self, name: str) -> Run:
        return Run(self.path / "runs" / name)

    def save(self) -> None:
        write_json(self.path / "study.json", {
            "format_version": FORMAT_VERSION, "title": self.title, "varies": dict(self.varies),
            "runs": {name: asdict(run) for name, run in self.runs.items()},
            "sets": {name: asdict(of_set) for name, of_set in self.sets.items()},
        })  # fmt: skip

    @staticmethod
    def load(path: Path) -> "StudyRecord":
        """Of version 1, too, which has names alone, and of version 2, which has a report a set. Raises UserError."""
        values = read_json(path / "study.json")
        if not isinstance(values, dict):
            raise UserError(f"{path / 'study.json'} is no study's: it holds no object")
        version = values.get("format_version", 1)
        if version not in (1, 2, FORMAT_VERSION):
            raise UserError(
                f"{path / 'study.json'} has format_version {version}; this muybridge reads {FORMAT_VERSION}"
            )
        title = values.get("title")
        if version == 1:
            names = tuple(values["runs"])
            return StudyRecord(path, title, {name: RunRecord() for name in names}, {}, {"": SetRecord(names)})
        return StudyRecord(
            path,
            title,
            {name: RunRecord(**run) for name, run in values["runs"].items()},
            {axis: tuple(fields) for axis, fields in values["varies"].items()},
            {
                name.removeprefix("report").removeprefix("-").removesuffix(".html"): SetRecord(
                    tuple(of_set["runs"]), tuple(of_set["notes"])
                )
                for name, of_set in values["sets" if version == FORMAT_VERSION else "reports"].items()
            },
        )
