"""Fused scores: the weighted mean of several runs' scores of the same videos, written as a run that the report takes.

Two streams (Simonyan & Zisserman 2014) and ensembles are one thing here. Weights are chosen on val; test videos are scored
with them once. What is written has the form of a run's results, without a network (`fused.json`, docs/formats.md).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from hashlib import sha256
from itertools import combinations, pairwise
from math import comb
from operator import add
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from muybridge.analysis.comparison import Comparison, compared_runs, compared_study, find_runs
from muybridge.analysis.rows import REPEATED, Setting, settings_of
from muybridge.analysis.statistics import Sample, judged, paired_difference
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import fingerprint, to_json
from muybridge.recipe import replace as with_fields
from muybridge.runtime.console import log
from muybridge.runtime.files import clear_partials, is_partial, sha256_file, within, write_atomic, write_json
from muybridge.runtime.locks import locked
from muybridge.storage import evaluations
from muybridge.storage.run import Run, is_run_of
from muybridge.storage.scores import Average, Scores, metrics, softmax
from muybridge.storage.study import STREAM, RunRecord, SetRecord, StudyRecord
from muybridge.text import listed, plural, ratio

Rule = Literal["auto", "equal", "given"]

FINEST = 20
"""Most steps from 0 to 1 in which weights are tried."""
MOST_TRIED = 300
"""Most combinations of weights that are tried."""
LEAST_PROBABILITY = 1e-30
"""Least value whose logarithm is stored, where probabilities are averaged."""
FEW = 3
"""Names that an error lists."""
WAIT_SECONDS = 60.0
"""Longest wait for another process that writes the same result."""
LONGEST_NAME = 100
"""Most characters of a folder's name; a longer one ends in a hash."""


@dataclass(frozen=True)
class Chosen:
    """Weights that were chosen on val, beside equal ones there."""

    weights: tuple[float, ...]
    videos: int
    right: int
    right_equal: int
    loss: float
    loss_equal: float
    low: float
    """Lower end of the 95 % interval of the gain over equal weights on val, which flatters the chosen ones."""
    high: float

    def __str__(self) -> str:
        on_val = f"weights {ratio(self.weights)}, chosen on {plural(self.videos, 'val video')}"
        if self.right == self.right_equal:
            of_loss = (
                ""
                if self.loss == self.loss_equal
                else f"; the loss decided: {self.loss:.4f}, not {self.loss_equal:.4f}"
            )
            return f"{on_val}: right on {self.right} of them, as equal weights are{of_loss}"
        gain = (self.right - self.right_equal) / self.videos
        sure = "" if self.low > 0 else ", which may be chance"
        return (
            f"{on_val}: right on {self.right} of them, equal weights on {self.right_equal}; a gain of {gain:+.3f} "
            f"[{self.low:+.3f}, {self.high:+.3f}]{sure}"
        )


@dataclass(frozen=True)
class Group:
    """Runs whose scores are fused to one: of one fold, and of one seed unless they are seeds of one setting."""

    name: str
    parts: tuple[Run, ...]
    names: tuple[str, ...]
    """Names of the parts' settings."""
    settings: tuple[str, ...]
    """Hashes of the parts' settings."""


@dataclass(frozen=True)
class Fused:
    """Fused scores on disk, and their comparison with their parts."""

    runs: tuple[Run, ...]
    comparisons: Mapping[str, Comparison] = field(repr=False)
    """The comparison of each data set, by its name."""


def fuse(
    runs: str | Path | Run | Sequence[str | Path | Run],
    *,
    weights: str | Sequence[float] = "auto",
    average: str | None = None,
    out: str | Path | None = None,
) -> Fused:
    """Fuse scores of runs: the weighted mean on the same videos, as a result that reports take beside its parts.

    `runs`: runs of different settings (inputs, models), one of each; or seeds of one setting. Of several folds and seeds,
    those of the same fold and seed are fused. A study's folder: its runs, streams of each model side by side; the results
    are added to the study. `weights`: a number for each part; "equal"; or "auto", chosen on val by accuracy, then by loss,
    never on test. `average`: of "logits" or "probabilities"; none: as the runs average their views. `out`: the folder of
    the result (of several, a folder in it for each); none: `fused` here, or the study.

    Raises UserError for runs of other classes, videos, contents or splits, and for an `out` that holds something else.
    """
    rule, given = parsed_weights(weights)
    if average not in (None, *get_args(Average)):
        raise UserError(f"--average: '{average}' is unknown. Choose logits or probabilities")
    averaged = cast(Average | None, average)
    found, folder = find_runs([runs] if isinstance(runs, str | Path | Run) else runs)
    if folder is not None and out is None:
        with locked(folder, "fuses in it"):
            record = StudyRecord.load(folder)
            fused = fused_in_study(record, rule=rule, weights=given, average=averaged)
            record = with_fused(record, fused)
            record.save()
        return Fused(tuple(fused), compared_study(record))
    record_of = None if folder is None else StudyRecord.load(folder)
    trained = _trained(found, is_study=folder is not None)
    groups = groups_of(trained, study=record_of)
    target = Path(out or "fused")
    folders = [target] if len(groups) == 1 else [within(target, group.name) for group in groups]
    if len(groups) > 1 and target.is_dir() and is_run_of({file.name for file in target.iterdir()}):
        raise UserError(f"--out {target}: it is the folder of a run. Choose another folder for {len(groups)} results")
    written = [
        fused_run(group, to, rule=rule, weights=given, average=averaged)
        for group, to in zip(groups, folders, strict=True)
    ]
    return Fused(tuple(written), compared_runs([*trained, *written]))


def parsed_weights(weights: str | Sequence[float]) -> tuple[Rule, tuple[float, ...]]:
    """Rule by which weights come about, and those that are given. Raises UserError."""
    if weights in ("auto", "equal"):
        return cast(Rule, weights), ()
    parts = [part.strip() for part in weights.split(",")] if isinstance(weights, str) else list(weights)
    try:
        values = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        values = ()
    if not values or not np.isfinite(sum(values)) or min(values) < 0 or not sum(values):
        raise UserError(f"--weights: '{weights}' is not auto, equal, or a number for each run. For example: 1,1.5")
    return "given", values


def groups_of(runs: Sequence[Run], *, study: StudyRecord | None = None) -> list[Group]:
    """Runs that are fused with each other: settings side by side, of the same fold and seed; of one alone, its seeds.

    A study with streams fuses those of each model. Raises UserError where a setting lacks a fold or a seed of the others.
    """
    side_by_side: dict[Any, list[Setting]] = {}
    settings = settings_of(runs, study=study)
    has_streams = any(STREAM in setting.axes for setting in settings)
    for setting in settings:
        if has_streams and STREAM not in setting.axes:
            continue
        shared = {axis: value for axis, value in setting.axes.items() if axis != STREAM} if has_streams else {
            "data": setting.axes.get("data")
        }  # fmt: skip
        side_by_side.setdefault(tuple(sorted(shared.items())), []).append(setting)
    if has_streams:  # a model with one stream has nothing to be fused with
        side_by_side = {shared: settings for shared, settings in side_by_side.items() if len(settings) > 1}
    groups = [group for settings in side_by_side.values() for group in _groups(settings)]
    if not groups:
        raise UserError(
            "runs: no model has runs on two streams. Name the runs to fuse one by one: muybridge fuse RUN RUN"
        )
    return groups


def _groups(settings: Sequence[Setting]) -> Iterator[Group]:
    """Groups of settings side by side, or of the seeds of one."""
    places = [{_place(run): run for run in setting.runs} for setting in settings]
    for setting, by_place in zip(settings, places, strict=True):
        if len(by_place) < len(setting.runs):
            raise UserError(f"{setting.runs[0].path}: its setting is there twice with one seed and fold. Leave one out")
    if len(settings) == 1:
        yield from _seeds(settings[0], places[0])
        return
    if all(len({seed for seed, _ in by_place}) == 1 for by_place in places):  # the seeds may be others then
        by_fold = [{(0, fold): run for (_, fold), run in by_place.items()} for by_place in places]
    else:
        by_fold = places
    every = list(dict.fromkeys(place for by_place in by_fold for place in by_place))
    seeds = [sorted({seed for seed, _ in by_place}) for by_place in places]
    if by_fold is not places and len({each[0] for each in seeds}) > 1:
        told = listed([f"{setting.name} {each[0]}" for setting, each in zip(settings, seeds, strict=True)])
        log(f"the parts are of other seeds ({told}): what fusing adds holds for these runs, not for seeds side by side")
    for seed, fold in every:
        lacking = [setting for setting, by_place in zip(settings, by_fold, strict=True) if (seed, fold) not in by_place]
        if lacking:
            where = [f"seed {seed}"] * (by_fold is places) + ([] if fold is None else [f"fold {fold}"])
            raise UserError(
                f"{lacking[0].name}: it has no run of {', '.join(where) or 'no fold'}, which others have. Train it, or "
                "leave that out"
            )
        parts = tuple(by_place[seed, fold] for by_place in by_fold)
        yield _group(parts, [setting.name for setting in settings], [setting.digest for setting in settings])


def _seeds(setting: Setting, by_place: Mapping[tuple[int, int | None], Run]) -> Iterator[Group]:
    """Groups of the seeds of one setting, a group a fold."""
    by_fold: dict[int | None, list[int]] = {}
    for seed, fold in sorted(by_place, key=lambda place: (place[1] or 0, place[0])):
        by_fold.setdefault(fold, []).append(seed)
    first = next(iter(by_fold.values()))
    if len(first) < 2 or any(seeds != first for seeds in by_fold.values()):
        fault = (
            "one run has nothing to be fused with" if len(setting.runs) == 1 else "its folds have not the same seeds"
        )
        raise UserError(f"{setting.name}: {fault}. Name runs of two settings, or of two seeds on each fold")
    for fold, seeds in by_fold.items():
        parts = tuple(by_place[seed, fold] for seed in seeds)
        yield _group(parts, [f"{setting.name}, seed {seed}" for seed in seeds], [setting.digest] * len(seeds))


def _place(run: Run) -> tuple[int, int | None]:
    recipe = run.recipe()
    return recipe.seed, recipe.data.fold


def _group(parts: tuple[Run, ...], names: Sequence[str], settings: Sequence[str]) -> Group:
    return Group(_merged([run.name for run in parts]), parts, tuple(names), tuple(settings))


def _merged(names: Sequence[str]) -> str:
    """Name of a folder: what names have in common once, what differs joined: a-x-seed0 and a-y-seed0 give a-x+y-seed0."""
    tokens = [name.split("-") for name in names]
    if len({len(each) for each in tokens}) > 1:
        tokens = [[name] for name in names]
    merged = "-".join("+".join(dict.fromkeys(at)) for at in zip(*tokens, strict=True))
    plain = re.sub(r"[^\w.+=-]+", ".", merged)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[:LONGEST_NAME]}-{sha256(merged.encode()).hexdigest()[:8]}"


def _trained(runs: Sequence[Run], *, is_study: bool) -> list[Run]:
    """Finished runs with a network. Of a study others are left out, which is said. Raises UserError."""
    trained = [run for run in runs if not run.is_fused]
    fused = [run for run in runs if run.is_fused]
    if fused and not is_study:
        raise UserError(f"{fused[0].path}: it holds fused scores already. Name the runs that they are of instead")
    if not is_study:
        for run in trained:
            run.check_finished()
    unfinished = [run.name for run in trained if not run.is_finished]
    if unfinished:
        log(f"left out, as not finished: {listed(unfinished)}")
    return [run for run in trained if run.is_finished]


def fused_in_study(
    record: StudyRecord,
    *,
    rule: Rule = "auto",
    weights: Sequence[float] = (),
    average: Average | None = None,
    names: Sequence[str] | None = None,
) -> dict[Run, RunRecord]:
    """Fuse the finished runs of a study into its folder: the results, with the records that `with_fused` adds.

    `names`: the runs to fuse; none: all. The study's lock is held by the caller. Raises UserError.
    """
    asked = [record.run(name) for name in (record.runs if names is None else names)]
    written: dict[Run, RunRecord] = {}
    for group in groups_of(_trained(asked, is_study=True), study=record):
        axes = _merged_axes([record.runs[run.name].axes for run in group.parts])
        more = ([] if rule == "auto" else [f"weights{'+'.join(f'{w:g}' for w in weights) or rule}"]) + (
            [] if average is None else [average]
        )
        if rule != "auto":
            axes["weights"] = ratio(weights) if weights else rule
        if average is not None:
            axes["average"] = average
        within(record.path, "runs")
        folder = within(record.path, f"runs/{'-'.join([group.name, *more])}")
        log(f"fusing {folder.name}")
        written[fused_run(group, folder, rule=rule, weights=weights, average=average)] = RunRecord(axes)
    return written


def with_fused(record: StudyRecord, fused: Mapping[Run, RunRecord]) -> StudyRecord:
    """The record of a study with fused scores in it, each in the set of its parts."""
    sets = dict(record.sets)
    for run in fused:
        parts = {Path(part["path"]).name for part in (run.fused() or {})["parts"]}
        for called, of_set in sets.items():
            if parts & set(of_set.runs) and run.name not in of_set.runs:
                sets[called] = SetRecord((*of_set.runs, run.name), of_set.notes)
    return replace(record, runs={**record.runs, **{run.name: one for run, one in fused.items()}}, sets=sets)


def _merged_axes(of_parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Axes of fused scores: those that all parts share, and the values of the others joined."""
    axes: dict[str, Any] = {}
    for axis in of_parts[0]:
        values = list(dict.fromkeys(str(each.get(axis)) for each in of_parts))
        axes[axis] = of_parts[0][axis] if len(values) == 1 or axis in REPEATED else "+".join(values)
        if len(values) > 1 and axis in REPEATED:  # rows are pooled over it
            axes["fused"] = f"{axis} {'+'.join(values)}"
    return axes


def fused_run(
    group: Group, folder: Path, *, rule: Rule = "auto", weights: Sequence[float] = (), average: Average | None = None
) -> Run:
    """Fuse one group's scores into a folder. One that holds them already is left as it is, one begun is completed.

    Raises UserError where the parts do not fit together, or the folder holds something else.
    """
    parts = group.parts
    if rule == "given" and len(weights) != len(parts):
        raise UserError(
            f"--weights: {len(weights)} are given for {len(parts)} parts ({listed(group.names)}). Give one for each"
        )
    averages = {run.recipe().evaluation.average for run in parts}
    if average is None and len(averages) > 1:
        raise UserError(
            f"{parts[0].path}: it averages logits and others probabilities, or the other way round. Choose: --average logits"
        )
    average = average or averages.pop()
    check_same_content(parts)
    test = [_scores(run, "test") for run in parts]
    check_same_videos(dict(zip(map(_shown, parts), test, strict=True)), "test")
    val = _val_scores(parts, needed=rule == "auto")
    made = Run(folder)
    chosen = choose_weights(val, average) if rule == "auto" and val else None
    used = _shares(chosen.weights if chosen else weights or [1.0] * len(parts))
    content = _content(group, rule, weights, average, used, chosen, has_val=bool(val))
    _check_free(made, content)
    if made.is_finished:
        return made
    if rule == "auto" and not val:
        log(f"{folder}: the runs have no val videos to choose weights on: they are equal")
    elif chosen is not None:
        log(f"{folder}: {chosen}")
    scores_of = {"test": test} | ({"val": val} if val else {})
    made.path.mkdir(parents=True, exist_ok=True)
    with locked(made.path, "fuses in it", wait_seconds=WAIT_SECONDS):  # another process writes the same bytes
        clear_partials(made.path)
        made.save_fused(content)  # first: by it the folder is known
        _write_as_run(made, group, scores_of, average)
        result: dict[str, Any] = {"steps": sum(part["steps"] for part in content["parts"])}
        for split, of_parts in scores_of.items():
            scores = fused_scores(of_parts, used, average)
            made.save_scores(split, scores)
            result[split] = metrics(scores)
        made.finish(result)
    return made


def _check_free(made: Run, content: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but this fusion, or the beginnings of one. Raises UserError."""
    if not made.path.exists():
        return
    if not made.path.is_dir():
        raise UserError(f"--out {made.path}: it is a file. Name a folder")
    there = {file.name for file in made.path.iterdir() if not is_partial(file.name)} - {".lock"}
    held = made.fused()
    if held is not None and _identity(held) == _identity(content):
        return
    if held is not None:
        raise UserError(
            f"{made.path}: it holds scores that were fused of other runs, or by other weights "
            f"({ratio(held['weights'])} of {listed([part['name'] for part in held['parts']])}). Choose another --out, or "
            "delete that folder"
        )
    if there:
        raise UserError(f"{made.path}: it is there already and holds no fused scores. Choose another --out")


def _content(
    group: Group, rule: Rule, given: Sequence[float], average: Average, weights: Sequence[float], chosen: Chosen | None,
    *, has_val: bool,
) -> dict[str, Any]:  # fmt: skip
    """Content of fused.json."""
    seeds = [_place(run)[0] for run in group.parts]
    shared = [
        list(group.settings),
        [seed - seeds[0] for seed in seeds],
        rule,
        list(_shares(given)) if given else [],
        average,
    ]
    name = _name(group.names)
    on_val = None if chosen is None else {key: value for key, value in vars(chosen).items() if key != "weights"}
    if rule != "auto":
        name += f", {ratio(given) if given else 'equal weights'}"
    return {
        "name": name, "setting": sha256(repr(shared).encode()).hexdigest()[:16], "average": average, "rule": rule,
        "weights": list(weights), "chosen": on_val,
        "parts": [_part(*of_part, has_val=has_val) for of_part in zip(group.parts, group.names, group.settings, strict=True)],
    }  # fmt: skip


def _identity(content: Mapping[str, Any]) -> list[Any]:
    """Facts that two fusions of the same scores have in common, wherever these lie."""
    parts = [[part["fingerprint"], part["test_sha256"], part["val_sha256"]] for part in content["parts"]]
    return [parts, content["setting"], list(content["weights"])]


def _part(run: Run, name: str, setting: str, *, has_val: bool) -> dict[str, Any]:
    """Entry of a part in fused.json."""
    recipe = run.recipe()
    val = evaluations.val_file(run) if has_val else None
    return {
        "path": str(run.path.resolve()), "name": name, "model": recipe.model.name, "fingerprint": fingerprint(recipe),
        "setting": setting, "seed": recipe.seed, "fold": recipe.data.fold, "manifest": recipe.data.manifest,
        "manifest_sha256": recipe.data.sha256, "test_sha256": sha256_file(run.scores_file("test")),
        "val_sha256": None if val is None else sha256_file(val), "steps": run.result()["steps"],
        "epochs": run.epochs_trained(), "train_seconds": run.train_seconds(),
    }  # fmt: skip


def _name(names: Sequence[str]) -> str:
    """Name of fused settings: what is in brackets joined, where the model is one."""
    matches = [re.fullmatch(r"(.*?) \((.*)\)", name) for name in names]
    models = {match[1] for match in matches if match}
    if all(matches) and len(models) == 1:
        return f"{models.pop()} ({' + '.join(match[2] for match in matches if match)})"
    if len({name.rpartition(", seed ")[0] for name in names}) == 1 and ", seed " in names[0]:
        return f"{names[0].rpartition(', seed ')[0]} ({len(names)} seeds fused)"
    return " + ".join(names)


def _write_as_run(made: Run, group: Group, scores_of: Mapping[str, Sequence[Scores]], average: Average) -> None:
    """Write what a run's folder says of itself: recipe and set of the first part, and the sum of all parts' costs."""
    first = group.parts[0]
    recipe = first.recipe()
    models = list(dict.fromkeys(run.recipe().model.name for run in group.parts))
    changes: dict[str, Any] = {"evaluation.average": average}
    if len(models) > 1:
        changes |= {"model.name": " + ".join(models), "model.options": {}}
    views = [part.num_views for part in scores_of["test"]]
    if not _same_views(scores_of["test"]):
        changes |= {"evaluation.num_clips": 1, "evaluation.num_crops": 1}
    num_views = views[0] if _same_views(scores_of["test"]) else 1
    costs = [run.cost() for run in group.parts]
    of_view = [run.view_cost() for run in group.parts]
    write_atomic(made.file("recipe.json"), to_json(with_fields(recipe, changes)))
    write_json(made.file("dataset.json"), first.dataset())
    write_json(made.file("environment.json"), first.environment())
    write_json(made.file("cost.json"), {
        "model": " + ".join(models), "params": sum(cost["params"] for cost in costs),
        **{key: sum(cost[key] for cost in costs) for key in ("conv_macs", "macs")},
        "test": {
            key: sum(count * cost[key] for count, cost in zip(views, of_view, strict=True)) // num_views
            for key in ("conv_macs", "macs")
        },
    })  # fmt: skip


def check_same_content(parts: Sequence[Run]) -> None:
    """Check that runs were tested on the same videos by content, where their manifests differ. Raises UserError."""
    first = parts[0]
    for other in parts[1:]:
        ours, theirs = first.recipe().data, other.recipe().data
        if ours.sha256 is not None and ours.sha256 == theirs.sha256:
            continue
        check_same_manifests(_manifest(first), _manifest(other), (_shown(first), _shown(other)))


def check_same_manifests(first: Manifest, other: Manifest, names: tuple[str, str]) -> None:
    """Check that the videos that two manifests share have the same content. Raises UserError."""
    ours, theirs = (
        dict(zip(each.text("id").tolist(), each.text("sha256").tolist(), strict=True)) for each in (first, other)
    )
    changed = [
        name for name in ours.keys() & theirs.keys() if ours[name] and theirs[name] and ours[name] != theirs[name]
    ]
    if changed:
        raise UserError(
            f"{names[1]}: it cannot be fused with {names[0]}: {plural(len(changed), 'video')} of the same name "
            f"{'has' if len(changed) == 1 else 'have'} another content ({_few(sorted(changed))}). Use runs on the same videos"
        )


def _manifest(run: Run) -> Manifest:
    """Manifest that a run was trained on. Raises UserError where it is gone or was changed."""
    data = run.recipe().data
    try:
        manifest = Manifest.load(data.manifest or "")
    except UserError as error:
        raise UserError(
            f"{run.path}: whether its videos are those of the other runs cannot be told, as its manifest cannot be read: {error}"
        ) from None
    if manifest.sha256() != data.sha256:
        raise UserError(
            f"{run.path}: whether its videos are those of the other runs cannot be told, as {data.manifest} has changed since. "
            "Restore it"
        )
    return manifest


def check_same_videos(parts: Mapping[str, Scores], split: str) -> None:
    """Check that scores are of the same classes, split, videos and labels. Raises UserError that names the difference."""
    (first_name, first), *others = parts.items()
    labels = dict(zip(first.ids_N.tolist(), first.labels_N.tolist(), strict=True))
    for name, part in others:
        fault = ""
        theirs = dict(zip(part.ids_N.tolist(), part.labels_N.tolist(), strict=True))
        relabelled = [video for video in labels if video in theirs and theirs[video] != labels[video]]
        if part.classes != first.classes:
            fault = f"its classes are others: {_only(first.classes, part.classes, first_name, name) or 'another order'}"
        elif part.split and first.split and part.split != first.split:
            fault = f"its scores are of {part.split}, not of {first.split}"
        elif theirs.keys() != labels.keys():
            fault = f"its {split} videos are others: {_only(list(labels), list(theirs), first_name, name)}"
        elif relabelled:
            fault = f"{plural(len(relabelled), f'{split} video')} have another label ({_few(relabelled)})"
        if fault:
            raise UserError(
                f"{name}: it cannot be fused with {first_name}: {fault}. Use runs on the same videos and classes"
            )


def _only(ours: Sequence[str], theirs: Sequence[str], our_name: str, their_name: str) -> str:
    """Words for what only one of two has; empty where both have the same."""
    words = []
    for mine, yours, name in ((ours, theirs, our_name), (theirs, ours, their_name)):
        alone = sorted(set(mine) - set(yours))
        if alone:
            words.append(f"{len(alone)} only in {name} ({_few(alone)})")
    return "; ".join(words)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")


def _shown(run: Run) -> str:
    return str(run.path)


def _scores(run: Run, split: str) -> Scores:
    """Scores of a split. Raises UserError where the run has none."""
    if not run.scores_file(split).exists():
        raise UserError(
            f"{run.path}: it has no {split} scores to fuse ({run.scores_file(split)}). Train on a set with a {split} split"
        )
    return replace(run.scores(split), split=split)


def _val_scores(parts: Sequence[Run], *, needed: bool) -> list[Scores]:
    """Scores of val; empty where no run has val videos, or, unless they are `needed`, where scores are missing."""
    if not any(run.dataset()["split_sizes"].get("val") for run in parts):
        return []
    files = [evaluations.val_file(run) for run in parts]
    missing = [run for run, file in zip(parts, files, strict=True) if file is None]
    if missing and needed:
        raise UserError(
            f"{missing[0].path}: it keeps no val scores to choose weights on. Use --weights equal, or store them: muybridge "
            f"evaluate {missing[0].path} --split val --keep"
        )
    if missing:
        return []
    scores = [replace(Scores.load(file), split="val") for file in files if file is not None]
    check_same_videos(dict(zip(map(_shown, parts), scores, strict=True)), "val")
    return scores


def fused_scores(parts: Sequence[Scores], weights: Sequence[float], average: Average) -> Scores:
    """The weighted mean of scores of the same videos, in the order of the first.

    View by view where all have the same grid of views, else one view a video, of its score. Means of probabilities are
    stored as logarithms, whose softmax they are.
    """
    first = parts[0]
    same = _same_views(parts)
    by_part = zip(_shares(weights), parts, strict=True)
    mean_NVK = reduce(add, (weight * _by_view(part, first, average, whole=not same) for weight, part in by_part))
    if average == "probabilities":
        mean_NVK = np.log(np.maximum(mean_NVK, LEAST_PROBABILITY))
    num_videos, num_views, num_classes = mean_NVK.shape
    order_V = _views_NV(first, first).reshape(-1) if same else np.zeros(num_videos, dtype=np.int64)
    return replace(
        first,
        video_V=np.repeat(np.arange(num_videos), num_views),
        clip_start_V=first.clip_start_V[order_V] if same else np.zeros(num_videos, dtype=np.int64),
        crop_V=first.crop_V[order_V] if same else np.zeros(num_videos, dtype=np.int64),
        logits_VK=mean_NVK.reshape(-1, num_classes).astype(np.float32),
        average=average,
        skipped_ids=np.unique(np.concatenate([part.skipped_ids for part in parts])),
        grid=first.grid if same else None,
        num_trained_on=max(part.num_trained_on for part in parts),
    )


def _same_views(parts: Sequence[Scores]) -> bool:
    """Whether all have the same grid of views, or, where it is unknown, as many views at the same places."""
    first = parts[0]
    if any(part.grid != first.grid or len(part.video_V) != len(first.video_V) for part in parts):
        return False
    places = [np.stack([part.clip_start_V, part.crop_V])[:, _views_NV(part, first).reshape(-1)] for part in parts]
    return first.grid is not None or all(np.array_equal(each, places[0]) for each in places)


def _places(part: Scores, first: Scores) -> np.ndarray:
    """(N,) where the first one's videos are in a part."""
    order_N = np.argsort(part.ids_N, kind="stable")
    found_N: np.ndarray = order_N[np.searchsorted(part.ids_N, first.ids_N, sorter=order_N)]
    return found_N


def _by_view(part: Scores, first: Scores, average: Average, *, whole: bool) -> np.ndarray:
    """(N,V,K) what is averaged of each view, or of the whole video as its one view, in the order of the first's videos."""
    if whole:
        scores_NK: np.ndarray = replace(part, average=average).video_scores()
        return scores_NK[_places(part, first)][:, None]
    logits_NVK = part.logits_VK[_views_NV(part, first)]
    return softmax(logits_NVK) if average == "probabilities" else logits_NVK.astype(np.float64)


def _views_NV(part: Scores, first: Scores) -> np.ndarray:
    """(N,V) indices of each video's views, in the order of the first's videos; every video has as many."""
    views_NV: np.ndarray = np.argsort(part.video_V, kind="stable").reshape(len(part.ids_N), -1)[_places(part, first)]
    return views_NV


def choose_weights(parts: Sequence[Scores], average: Average) -> Chosen:
    """The weights that are right on most val videos; then those of the least loss; then those nearest to equal ones.

    All combinations of shares in equal steps are tried, steps of 1/20 for two parts and coarser ones for more, and equal
    weights. The order of the parts does not matter but for exact ties.
    """
    first = parts[0]
    scores = np.stack([_by_view(part, first, average, whole=True)[:, 0] for part in parts])
    known_N = first.labels_N >= 0
    scores, labels_N = scores[:, known_N], first.labels_N[known_N]
    groups_N, equal = first.groups_N[known_N], (1 / len(parts),) * len(parts)

    def on_val(weights: Sequence[float]) -> tuple[np.ndarray, float]:
        mean_NK = np.tensordot(np.asarray(weights), scores, axes=1)
        probabilities_NK = mean_NK if average == "probabilities" else softmax(mean_NK)
        truth_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
        return mean_NK.argmax(1) == labels_N, float(-np.log(np.maximum(truth_N, LEAST_PROBABILITY)).mean())

    best, least = equal, (0, 0.0, 0.0)
    for weights in (equal, *_combinations(len(parts))):
        correct_N, loss = on_val(weights)
        distance = sum((weight - share) ** 2 for weight, share in zip(weights, equal, strict=True))
        rank = (-int(correct_N.sum()), round(loss, 9), round(distance, 9))
        if weights is equal or rank < least:
            best, least = weights, rank
    (chosen_N, loss), (equal_N, loss_equal) = on_val(best), on_val(equal)
    here, there = (Sample.of(correct_N[None], groups_N) for correct_N in (chosen_N, equal_N))
    gain = judged([paired_difference(here, there)])[0]
    return Chosen(
        best, len(labels_N), int(chosen_N.sum()), int(equal_N.sum()), loss, loss_equal, gain.low, gain.high
    )  # fmt: skip


def _combinations(count: int) -> Iterator[tuple[float, ...]]:
    """Shares that sum to one, in equal steps: as fine as `MOST_TRIED` allows, and at most `FINEST` steps."""
    steps = max((n for n in range(1, FINEST + 1) if comb(n + count - 1, count - 1) <= MOST_TRIED), default=1)
    for bars in combinations(range(steps + count - 1), count - 1):
        edges = (-1, *bars, steps + count - 1)
        yield tuple((after - before - 1) / steps for before, after in pairwise(edges))


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    total = float(sum(weights))
    return tuple(float(weight) / total for weight in weights)
