"""Rows of a comparison: finished runs, pooled over folds and lined up over seeds.

Runs whose recipes agree in all but seed and fold are one row: their folds are joined, their seeds averaged. Two settings
of one model are two rows, and never pass for seeds of each other. Where a study says by which axes its runs differ, rows
are named by these. Of the scores of a run a row keeps what its videos were answered, not every view's logits: a hundred
runs fit in memory.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import Any

import numpy as np

from muybridge.analysis.answers import Answers, official_splits
from muybridge.analysis.datasets import Dataset
from muybridge.analysis.further import further_of
from muybridge.analysis.results import RunsResult
from muybridge.analysis.temporal import FrameOrders, Pair
from muybridge.analysis.unknown import unknown_of
from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff, fingerprint, replace
from muybridge.storage.calibration import Calibrated, is_of_val_scores
from muybridge.storage.run import Run
from muybridge.storage.scores import concatenate
from muybridge.storage.study import RunRecord, StudyRecord
from muybridge.text import listed, plural

REPEATED = ("seed", "fold")
"""Axes over which a row is pooled."""

SAME_ANSWERS = 0.98
"""Least share of equal answers in diagnosis and test, if they are of the same clips: devices round differently."""

OTHER_RUN = "another run of the study"

LAST_TOLD = {"lr", "steps", "epochs", "pretrained"}
"""Fields that a brief name has only where no others tell rows apart, as hashes are."""
MOST_TOLD = 3
"""Most fields of a brief name."""


def rows_of(
    finished: Sequence[Run], *, study: StudyRecord | None, notes: list[str]
) -> tuple[list[RunsResult], dict[Run, Recipe], dict[Run, RunRecord]]:
    """Rows of a comparison, one a setting, and each run's recipe and record.

    What is left out is added to `notes`. Raises UserError for runs that cannot be pooled.
    """
    records = {run: _record(run, study) for run in finished}
    recipes = {run: _with_one_start(run.recipe(), records[run]) for run in finished}
    settings = settings_of(finished, study=study)
    pairs = [(str(a), str(b)) for a, b in finished[0].dataset()["reversed_pairs"]]
    return [_model(setting, recipes, pairs, notes) for setting in settings], recipes, records


@dataclass(frozen=True)
class Setting:
    """Runs whose recipes agree in all but seed and fold."""

    name: str
    brief: str
    """Name with no more fields than it takes to tell it from the others, for a sentence."""
    axes: Mapping[str, Any]
    """Axes by which a study tells it from others, seed and fold left out."""
    digest: str
    """Hash of what its runs share."""
    runs: list[Run]


def settings_of(runs: Sequence[Run], *, study: StudyRecord | None = None) -> list[Setting]:
    """Settings of runs, named by what tells them apart, in the order of their first runs."""
    varies = {} if study is None else study.varies
    by_key: dict[Any, list[Run]] = {}
    for run in runs:
        record = _record(run, study)
        axes = tuple(sorted(_row_axes(record).items()))
        shared = _apart_from_repeats(_with_one_start(run.recipe(), record), varies)
        fused = run.fused()
        by_key.setdefault((axes, shared, None if fused is None else fused["setting"]), []).append(run)
    axes_of = [_row_axes(_record(of_key[0], study)) for of_key in by_key.values()]
    recipes = [_with_one_start(of_key[0].recipe(), _record(of_key[0], study)) for of_key in by_key.values()]
    # fused scores that no study names have one of their own, and a part's recipe
    fused_names = [
        None if axes or (fused := of_key[0].fused()) is None else str(fused["name"])
        for axes, of_key in zip(axes_of, by_key.values(), strict=True)
    ]
    trained = [number for number, name in enumerate(fused_names) if name is None]
    by_recipe, briefly = _row_names([recipes[number] for number in trained], [axes_of[number] for number in trained])
    names, briefs = dict(zip(trained, by_recipe, strict=True)), dict(zip(trained, briefly, strict=True))
    for number, (name, of_key) in enumerate(zip(fused_names, by_key.values(), strict=True)):
        if name is not None:
            names[number] = name if fused_names.count(name) == 1 else f"{name}, {of_key[0].name}"
    return [
        Setting(
            names[number], briefs.get(number, names[number]), axes, sha256(repr(key).encode()).hexdigest()[:16], of_key
        )
        for number, (axes, (key, of_key)) in enumerate(zip(axes_of, by_key.items(), strict=True))
    ]


def _record(run: Run, study: StudyRecord | None) -> RunRecord:
    """Record of a run in its study; an empty one for a run that is not the study's."""
    is_of_study = study is not None and run.path.resolve() == study.run(run.name).path.resolve()
    return study.runs.get(run.name, RunRecord()) if study is not None and is_of_study else RunRecord()


def _with_one_start(recipe: Recipe, record: RunRecord) -> Recipe:
    """Recipe whose start, a run of the same study, is one start for all seeds and folds."""
    if record.starts_from is None:
        return recipe
    return replace(recipe, {"model.pretrained": OTHER_RUN, "model.pretrained_sha256": None})


def _apart_from_repeats(recipe: Recipe, varies: Mapping[str, Sequence[str]]) -> str:
    """Fingerprint that all seeds and folds of one setting share."""
    repeated = {"seed", "data.fold"}.union(*(varies.get(axis, ()) for axis in REPEATED))
    fresh = Recipe()
    return fingerprint(replace(recipe, {name: value_of(fresh, name) for name in repeated}))


def _row_axes(record: RunRecord) -> dict[str, Any]:
    return {axis: value for axis, value in record.axes.items() if axis not in REPEATED}


def _row_names(settings: list[Recipe], axes_of_rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Names of rows, the model's; and the same with as few fields as it takes.

    Where settings share one: with the axes by which they differ, or, if these are the same, too, with the fields. The hash
    of the data is among them only where nothing else tells two apart, and the length of stacks only where it is set.
    """
    plain: list[str] = []
    hashed: list[str] = []
    told: list[dict[str, str]] = []
    for setting, axes in zip(settings, axes_of_rows, strict=True):
        rivals = [
            (other, others)
            for other, others in zip(settings, axes_of_rows, strict=True)
            if other.model.name == setting.model.name
        ]
        varied = {axis: axes.get(axis) for axis in axes if any(others.get(axis) != axes[axis] for _, others in rivals)}
        named_by = {"seed", "data.fold"} | ({"data.manifest"} if setting.data.sha256 else set())
        fields = {name for other, others in rivals if others == axes for name in diff(setting, other)} - named_by
        if setting.clip.stack is None:
            fields.discard("clip.stack")
        for names, of_name in ((plain, fields - {"data.sha256"}), (hashed, fields)):
            values = [f"{axis}={_short(value)}" for axis, value in varied.items()]
            values += [f"{name.rsplit('.', 1)[-1]}={_short(value_of(setting, name))}" for name in sorted(of_name)]
            names.append(_row_name(setting.model.name, values))
        told.append(
            {axis: _short(value) for axis, value in varied.items()}
            | {name.rsplit(".", 1)[-1]: _short(value_of(setting, name)) for name in sorted(fields)}
        )
    names = [short if plain.count(short) == 1 else long for short, long in zip(plain, hashed, strict=True)]
    return names, [_brief(number, settings, told) or name for number, name in enumerate(names)]


def _row_name(model: str, values: Sequence[str]) -> str:
    return model + (f" ({', '.join(values)})" if values else "")


def _brief(number: int, settings: Sequence[Recipe], told: Sequence[Mapping[str, str]]) -> str | None:
    """Name with the fewest fields that tell all rows of a model apart, the shortest; None where they are many."""
    model = settings[number].model.name
    of_model = [of for setting, of in zip(settings, told, strict=True) if setting.model.name == model]
    fields = list(dict.fromkeys(name for of in of_model for name in of))
    last = [name for name in fields if name in LAST_TOLD or name.endswith("sha256")]
    first = [name for name in fields if name not in last]
    for offered in (first, first + last):
        for count in range(min(MOST_TOLD, len(offered)) + 1):
            telling = [
                chosen for chosen in combinations(offered, count)
                if len({tuple(of.get(name) for name in chosen) for of in of_model}) == len(of_model)
            ]  # fmt: skip
            if telling:
                chosen = min(telling, key=lambda one: sum(len(", ".join(_told(of, one))) for of in of_model))
                return _row_name(model, _told(told[number], chosen))
    return None


def _told(row: Mapping[str, str], fields: Sequence[str]) -> list[str]:
    return [f"{name}={row[name]}" for name in fields if name in row]


def _model(setting: Setting, recipes: Mapping[Run, Recipe], pairs: Sequence[Pair], notes: list[str]) -> RunsResult:
    name, runs = setting.name, setting.runs
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(recipes[run].seed, []).append(run)
    calibrations = _calibrations(name, runs, notes)
    calibrated = {run: Calibrated.from_json(kept) for run, kept in calibrations.items()}
    pooled: dict[int, Answers] = {}
    counts_of: dict[Run, np.ndarray] = {}
    for seed, of_seed in sorted(by_seed.items()):
        folds = Counter(recipes[run].data.fold for run in of_seed)
        twice = [run for run in of_seed if folds[recipes[run].data.fold] > 1]
        if twice:
            raise UserError(
                f"{twice[0].path}: it is the same run as {twice[1].path} (both are {name} of seed {seed}). Leave one "
                "out"
            )
        parts = {run: run.scores("test") for run in of_seed}
        counts_of |= {run: part.videos_of_classes() for run, part in parts.items()}
        try:
            pooled[seed] = Answers.pooled(of_seed, parts.__getitem__, pairs, calibrated)
        except UserError as error:
            raise UserError(f"{of_seed[0].scores_file('test')}: {error}") from None
        except ValueError as error:
            paths = ", ".join(str(run.path) for run in of_seed)
            raise UserError(
                f"{paths}: they cannot be pooled as folds of {name}, seed {seed}: {error}. Leave the wrong one out"
            ) from None
    tested = {
        seed: tuple(zip(answers.ids_N.tolist(), answers.split_N.tolist(), strict=True))
        for seed, answers in pooled.items()
    }
    seeds_of = Counter(tested.values())
    whole = max(seeds_of, key=lambda ids: (len(ids), seeds_of[ids]))
    kept = [seed for seed in pooled if tested[seed] == whole]
    if len(kept) < len(pooled):
        notes.append(
            f"{name}: {len(pooled) - len(kept)} of {len(pooled)} seeds lack folds or videos that others have, and are left out."
        )
    used = [run for seed in kept for run in by_seed[seed]]
    of_set, trained = official_splits(used[0]), {recipes[run].data.fold for run in used}
    if of_set and trained != set(of_set):
        notes.append(
            f"{name}: of the official splits {listed(list(map(str, of_set)))} only {listed(sorted(map(str, trained)))} "
            f"{'is' if len(trained) == 1 else 'are'} trained; the literature reports the mean over all."
        )
    speeds = [speed for run in used if (speed := _optional(run, run.speed, notes)) is not None]
    model = RunsResult(
        name=name, brief=setting.brief, answers=tuple(pooled[seed] for seed in kept),
        recipe=recipes[used[0]], cost=used[0].view_cost(),
        classes=tuple(used[0].dataset()["classes"]), split="test", runs=tuple(used),
        speed=speeds[0] if speeds else None, axes=setting.axes,
        tested=tuple((Dataset.of(run), counts_of[run]) for run in by_seed[kept[0]]),
        diagnosed=_diagnosed(name, {seed: by_seed[seed] for seed in kept}, pooled, notes),
        fused=tuple(fused for run in used if (fused := run.fused()) is not None),
    )  # fmt: skip
    return dataclasses.replace(
        model, further=further_of(model, [by_seed[seed] for seed in kept], notes), unknown=unknown_of(used, name, notes),
        calibrations=tuple(calibrations[run] for run in used) if calibrations else (),
    )  # fmt: skip


def _calibrations(name: str, runs: Sequence[Run], notes: list[str]) -> dict[Run, dict[str, Any]]:
    """Content of each run's calibration.json; empty unless all have one, of their val scores. What is left out is noted."""
    kept = {run: content for run in runs if (content := _optional(run, run.calibration, notes)) is not None}
    others = [run for run, content in kept.items() if not is_of_val_scores(run, content)]
    if others:
        notes.append(f"{name}: {others[0].name} is calibrated by other val scores than it has; that is left out.")
    elif kept and len(kept) < len(runs):
        notes.append(f"{name}: {len(kept)} of {plural(len(runs), 'run')} are calibrated; that is left out.")
    return kept if len(kept) == len(runs) and not others else {}


def _optional(run: Run, read: Callable[[], dict[str, Any] | None], notes: list[str]) -> dict[str, Any] | None:
    """Read a file that a run need not have; a damaged one is noted and left out."""
    try:
        content = read()
        if content is not None and not isinstance(content, dict):
            raise UserError("content: not a JSON object. Restore the file")
        return content
    except UserError as error:
        notes.append(f"{run.name}: left out, as it cannot be read: {error}")
        return None


def _diagnosed(
    name: str, seeds: Mapping[int, Sequence[Run]], answers: Mapping[int, Answers], notes: list[str]
) -> FrameOrders | None:
    """Answers of the seeds whose runs were all diagnosed, on the clips of the test and by the checkpoint that was scored."""
    by_seed: list[FrameOrders] = []
    others = 0
    for seed, runs in seeds.items():
        diagnoses = [_optional(run, run.diagnosis, notes) for run in runs]
        if None in diagnoses:
            continue
        try:
            orders = ["ordered", *dict(diagnoses[0]["largest_change"])]  # type: ignore[index]
            orders_of_seed = FrameOrders.of(
                {order: concatenate([run.diagnosed_scores(order) for run in runs]) for order in orders}, ()
            )
        except (UserError, ValueError, LookupError, TypeError) as error:
            if official_splits(runs[0]) and len(np.unique(answers[seed].ids_N)) < len(answers[seed].ids_N):
                notes.append(f"{name}: its diagnosis is left out, as its splits test the same videos more than once.")
                break
            notes.append(f"{name}, seed {seed}: its diagnosis is left out, as it is damaged: {error}")
            continue
        if not _is_of_the_test(orders_of_seed, answers[seed]) or (
            by_seed and orders_of_seed.predicted.keys() != by_seed[0].predicted.keys()
        ):
            others += 1
            continue
        by_seed.append(orders_of_seed)
    if others:
        notes.append(
            f"{name}: {others} of {len(seeds)} seeds were diagnosed on other clips, videos, orders or checkpoints than the "
            "test's; that is left out (muybridge diagnose RUN, without options, is for this report)."
        )
    return FrameOrders.pooled(by_seed) if by_seed else None


def _is_of_the_test(orders: FrameOrders, tested: Answers) -> bool:
    """Whether ordered clips were answered as in the test."""
    return (
        np.array_equal(orders.ids_N, tested.ids_N)
        and np.array_equal(orders.labels_N, tested.labels_N)
        and orders.num_views == tested.num_views
        and float((orders.predicted["ordered"][0] == tested.predicted_N).mean()) >= SAME_ANSWERS
    )


def value_of(recipe: Recipe, name: str) -> Any:
    """Value of a dotted field; None for a model option that this recipe does not give."""
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text[:8] if len(text) == 64 else text  # a hash
