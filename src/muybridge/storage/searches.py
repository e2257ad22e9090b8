"""Records of searches and races in a study's folder: search.json and race.json (format: docs/formats.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from muybridge.errors import UserError
from muybridge.runtime.files import as_kind, check_format, read_as, within, write_json
from muybridge.storage.run import Run

FORMAT_VERSION = 1

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Rung(TypedDict):
    """Val of a trial where it was compared with others."""

    step: _Count
    val_video_top1: _Share
    val_loss: float


class Trial(TypedDict):
    """A trial of a search."""

    run: str
    changes: dict[str, Any]
    fingerprint: str
    rungs: list[Rung]
    """One for each rung that it has reached."""
    steps: _Count
    """Steps that it was trained for, at most."""
    full_steps: _Count | None
    """Steps of its whole training; None where hours end it."""
    steps_per_epoch: NotRequired[_Count]
    """Steps of an epoch with its own batch size; absent in earlier versions: that of the setting."""
    seconds: _Seconds
    """Time of its training, without validation."""
    failed: NotRequired[str]


class Asked(TypedDict):
    """Options of a search."""

    space: list[str]
    by: str
    budget: str
    halving: int
    code_sha256: NotRequired[str]
    """Hash of the files whose functions the space names."""


class Search(TypedDict):
    """The search of one setting."""

    axes: dict[str, Any]
    asked: Asked
    steps_per_epoch: _Count
    trials: list[Trial]
    chosen: _Count | None
    importance: NotRequired[dict[str, _Finite]]
    """Share of each field in what tells the best trials from the others, on the first rung."""


class _Searches(TypedDict):
    """Content of search.json."""

    format_version: int
    seed: int
    settings: dict[str, Search]


class _TunedTrial(TypedDict):
    run: str
    lr: float
    weight_decay: float
    fingerprint: str
    failed: NotRequired[str]
    val_video_top1: NotRequired[float]
    val_loss: NotRequired[float]


class _Tuned(TypedDict):
    axes: dict[str, Any]
    trials: list[_TunedTrial]
    chosen: _Count | None


class _Tuning(TypedDict):
    """Content of tuning.json, which earlier versions wrote for `--tune`."""

    settings: dict[str, _Tuned]


def folder(study: Path) -> Path:
    """Folder of the trials: `search`, or `tuning` in a study that an earlier version searched."""
    return study / ("tuning" if (study / "tuning.json").exists() else "search")


def run_of(study: Path, trial: Mapping[str, Any]) -> Run:
    """Run folder of a trial. Raises UserError for one that leads out of the study."""
    return Run(within(study, trial["run"]))


def load(study: Path) -> dict[str, Search]:
    """Searches of a study's settings, by name: of search.json, or of an earlier version's tuning.json. Raises UserError."""
    file = study / "search.json"
    if file.exists():
        settings: dict[str, Search] = _read(_Searches, file)["settings"]
        for name, search in settings.items():
            for trial in search["trials"]:
                if Path(trial["run"]).is_absolute() or ".." in Path(trial["run"]).parts:
                    raise UserError(f"{file}: it is damaged: '{trial['run']}' leads out of the study. Restore it")
            chosen, trials = search["chosen"], search["trials"]
            if chosen is not None and (chosen >= len(trials) or not trials[chosen]["rungs"]):
                raise UserError(f"{file}: it is damaged: chosen of {name} is {chosen}, which has no result. Restore it")
        return settings
    former = study / "tuning.json"
    tuned = read_as(_Tuning, former)["settings"] if former.exists() else {}
    return {name: _of_tuning(search) for name, search in tuned.items()}


def _of_tuning(tuned: _Tuned) -> Search:
    """A search as an earlier version wrote it: its trials were whole trainings, whose lengths it did not say."""
    trials: list[Trial] = []
    for one in tuned["trials"]:
        trial: Trial = {
            "run": one["run"], "changes": {"optim.lr": one["lr"], "optim.weight_decay": one["weight_decay"]},
            "fingerprint": one["fingerprint"], "rungs": [], "steps": 0, "full_steps": None, "seconds": 0.0,
        }  # fmt: skip
        if "failed" in one:
            trial["failed"] = one["failed"]
        else:
            trial["rungs"] = [{"step": 0, "val_video_top1": one["val_video_top1"], "val_loss": one["val_loss"]}]
        trials.append(trial)
    asked: Asked = {"space": ["--tune"], "by": "halton", "budget": f"{len(trials)} trials", "halving": 0}
    return {"axes": tuned["axes"], "asked": asked, "steps_per_epoch": 0, "trials": trials, "chosen": tuned["chosen"]}


def save(study: Path, settings: Mapping[str, Search], *, seed: int) -> None:
    """Write search.json."""
    write_json(
        within(study, "search.json"), {"format_version": FORMAT_VERSION, "seed": seed, "settings": dict(settings)}
    )


class Stopped(TypedDict):
    """A row that got no more seeds."""

    row: str
    leader: str
    difference: float
    """Accuracy on val less the leader's."""
    low: float
    high: float
    p: _Share
    seeds: _Count
    """Seeds that it has."""
    saved_runs: _Count
    saved_seconds: _Seconds
    """Its mean time of training, for each run that was saved."""


class Look(TypedDict):
    """A look at val after a round."""

    seeds: _Count
    leader: str
    accuracy: dict[str, _Share]
    stopped: list[Stopped]


class Raced(TypedDict):
    """The race on one data set."""

    seeds: _Count
    start: _Count
    alpha: _Share
    level: _Share
    """Level of one look."""
    looks: list[Look]
    runs: _Count
    """Runs that were planned."""


class _Races(TypedDict):
    """Content of race.json."""

    format_version: int
    sets: dict[str, Raced]


def load_races(study: Path) -> dict[str, Raced]:
    """Races of a study, by data set; empty without any. Raises UserError."""
    file = study / "race.json"
    races: dict[str, Raced] = _read(_Races, file)["sets"] if file.exists() else {}
    return races


def _read(kind: Any, file: Path) -> Any:
    """Read a file of this format version. Raises UserError."""
    values = read_as(dict[str, Any], file)
    check_format(values, FORMAT_VERSION, file)
    return as_kind(kind, values, str(file))


def save_races(study: Path, sets: Mapping[str, Raced]) -> None:
    """Write race.json."""
    write_json(within(study, "race.json"), {"format_version": FORMAT_VERSION, "sets": dict(sets)})
