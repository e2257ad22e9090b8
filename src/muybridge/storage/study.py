"""Record of a study, study.json: its runs, axes and data sets (format: docs/formats.md)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from muybridge.errors import UserError
from muybridge.runtime.files import as_kind, read_as, within, write_json
from muybridge.storage.run import Run, check_name

FORMAT_VERSION = 3
STREAM = "stream"
"""Axis of a study's inputs: runs that differ in it alone are fused."""


@dataclass(frozen=True)
class RunRecord:
    """Entry of a run in study.json."""

    axes: Mapping[str, Any] = field(default_factory=dict)
    starts_from: str | None = None
    """Name of the run of the same study whose weights it starts from."""


@dataclass(frozen=True)
class SetRecord:
    """Runs on one data set: models are compared on the same videos only."""

    runs: tuple[str, ...]
    notes: tuple[str, ...] = ()


class _Run(TypedDict):
    axes: NotRequired[dict[str, str | int | float | bool | None]]
    starts_from: NotRequired[str | None]


class _Set(TypedDict):
    runs: list[str]
    notes: NotRequired[list[str]]


class _Study(TypedDict):
    """Content of study.json, versions 2 and 3."""

    title: NotRequired[str | None]
    runs: dict[str, _Run]
    varies: dict[str, list[str]]
    sets: dict[str, _Set]


@dataclass(frozen=True)
class StudyRecord:
    """A study on disk, finished or not."""

    path: Path
    title: str | None = None
    runs: Mapping[str, RunRecord] = field(default_factory=dict)
    varies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Map of each axis to the recipe fields that it varies on purpose."""
    sets: Mapping[str, SetRecord] = field(default_factory=dict)
    """Map of data set names to their runs."""

    def run(self, name: str) -> Run:
        """Run of the study by its name. Raises UserError for a link."""
        return Run(within(self.path, f"runs/{name}"))

    def save(self) -> None:
        """Write study.json."""
        write_json(within(self.path, "study.json"), {
            "format_version": FORMAT_VERSION, "title": self.title, "varies": dict(self.varies),
            "runs": {name: asdict(run) for name, run in self.runs.items()},
            "sets": {name: asdict(of_set) for name, of_set in self.sets.items()},
        })  # fmt: skip

    @staticmethod
    def load(path: Path) -> "StudyRecord":
        """Load and check study.json. Raises UserError.

        Version 1 has names of runs only; version 2 has one report per data set.
        """
        file = path / "study.json"
        values: dict[str, Any] = read_as(dict[str, Any], file)
        version = values.get("format_version", 1)
        if version not in (1, 2, FORMAT_VERSION):
            raise UserError(
                f"{file}: it has format_version {version}, but this muybridge reads {FORMAT_VERSION}. Use the "
                "muybridge that wrote it"
            )
        if version == 1:
            names = list(as_kind(list[str] | dict[str, Any], values.get("runs"), f"{file}, runs"))
            values |= {"varies": {}, "runs": {name: {} for name in names}, "sets": {"": {"runs": names}}}
        if version == 2:
            values["sets"] = values.get("reports")
        record = as_kind(_Study, values, str(file))
        for name in record["runs"]:
            check_name(name, file)
        named = {name for of_set in record["sets"].values() for name in of_set["runs"]}
        named |= {run["starts_from"] for run in record["runs"].values() if run.get("starts_from") is not None}
        if not named <= record["runs"].keys():
            raise UserError(
                f"{file}: it is damaged: '{sorted(named - record['runs'].keys())[0]}' is not one of its runs. Restore "
                "it"
            )
        return StudyRecord(
            path,
            record.get("title"),
            {name: RunRecord(run.get("axes", {}), run.get("starts_from")) for name, run in record["runs"].items()},
            {axis: tuple(fields) for axis, fields in record["varies"].items()},
            {
                name.removeprefix("report").removeprefix("-").removesuffix(".html"): SetRecord(
                    tuple(of_set["runs"]), tuple(of_set.get("notes", ()))
                )
                for name, of_set in record["sets"].items()
            },
        )
