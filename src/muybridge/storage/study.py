"""study.json: what a study knows of its runs beyond their recipes (format: docs/formats.md)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from muybridge.errors import UserError
from muybridge.runtime.files import as_kind, read_as, within, write_json
from muybridge.storage.run import Run

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


class _Run(TypedDict):
    axes: NotRequired[dict[str, str | int | float | bool | None]]
    starts_from: NotRequired[str | None]


class _Set(TypedDict):
    runs: list[str]
    notes: NotRequired[list[str]]


class _Study(TypedDict):
    """What study.json holds, of versions 2 and 3."""

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
    """Of each axis, the fields of the recipe that it sets on purpose."""
    sets: Mapping[str, SetRecord] = field(default_factory=dict)
    """By the data set's name."""

    def run(self, name: str) -> Run:
        """Raises UserError for a link: a study's runs lie in it."""
        return Run(within(self.path, f"runs/{name}"))

    def save(self) -> None:
        write_json(within(self.path, "study.json"), {
            "format_version": FORMAT_VERSION, "title": self.title, "varies": dict(self.varies),
            "runs": {name: asdict(run) for name, run in self.runs.items()},
            "sets": {name: asdict(of_set) for name, of_set in self.sets.items()},
        })  # fmt: skip

    @staticmethod
    def load(path: Path) -> "StudyRecord":
        """Of version 1, too, which has names alone, and of version 2, which has a report a set. Raises UserError."""
        file = path / "study.json"
        values: dict[str, Any] = read_as(dict[str, Any], file)
        version = values.get("format_version", 1)
        if version not in (1, 2, FORMAT_VERSION):
            raise UserError(f"{file} has format_version {version}; this muybridge reads {FORMAT_VERSION}")
        if version == 1:
            names = list(as_kind(list[str] | dict[str, Any], values.get("runs"), f"{file}, runs,"))
            values |= {"varies": {}, "runs": {name: {} for name in names}, "sets": {"": {"runs": names}}}
        if version == 2:
            values["sets"] = values.get("reports")
        known = as_kind(_Study, values, str(file))
        for name in known["runs"]:
            if Path(name).name != name or name in (".", ".."):
                raise UserError(f"{file} is damaged: '{name}' is no name of a run's folder")
        named = {name for of_set in known["sets"].values() for name in of_set["runs"]}
        named |= {run["starts_from"] for run in known["runs"].values() if run.get("starts_from") is not None}
        if not named <= known["runs"].keys():
            raise UserError(f"{file} is damaged: '{sorted(named - known['runs'].keys())[0]}' is none of its runs")
        return StudyRecord(
            path,
            known.get("title"),
            {name: RunRecord(run.get("axes", {}), run.get("starts_from")) for name, run in known["runs"].items()},
            {axis: tuple(fields) for axis, fields in known["varies"].items()},
            {
                name.removeprefix("report").removeprefix("-").removesuffix(".html"): SetRecord(
                    tuple(of_set["runs"]), tuple(of_set.get("notes", ()))
                )
                for name, of_set in known["sets"].items()
            },
        )
