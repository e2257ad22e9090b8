"""Predictions of other tools as rows of a comparison, beside muybridge's own runs or alone.

A file is read, matched with the truth and reduced to what its videos were answered, before the next one is read: of many
models, seeds and classes no more than one file's scores are held. The notes say what is not taken as
it is written, and what is left out.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from muybridge.analysis.answers import ALONG_VIDEOS, MORE_ANSWERS, Answers
from muybridge.analysis.comparison import Comparison, compared
from muybridge.analysis.matching import ARRAY, Kind, Notes, Part, part_of
from muybridge.analysis.naming import count_from_one, examples, option_of_classes
from muybridge.analysis.results import ModelResult
from muybridge.analysis.rows import settings_of
from muybridge.analysis.temporal import Pair
from muybridge.analysis.truth import Truth, is_manifest, of_arrays, of_manifest, of_predictions, of_runs, of_table
from muybridge.data.prepare.lists import class_names, in_order
from muybridge.errors import UserError, nearest
from muybridge.storage.predictions import Columns, MissingColumn, Predictions, read
from muybridge.storage.run import Run
from muybridge.storage.study import StudyRecord
from muybridge.text import plural, thousands

HELD_BYTES = 2**28
"""Bytes of scores that are kept in memory where files are asked for twice; others are read twice."""


SEED = r"(?:seed|repetition|repeat)[-_ =]?(\d{1,9})"
"""The seed in the name of a file."""
SPLIT = r"(?:split|fold)[-_ =]?(\d{1,9})"
"""The number of the fold in the name of a file."""


@dataclass(frozen=True)
class Asked:
    """A file or arrays to judge, with the name that its row shall have."""

    source: str | Path | Predictions
    name: str | None = None
    """None: as the file says, or is called."""


def judged(
    asked: Sequence[Asked],
    runs: Sequence[Run] = (),
    *,
    study: StudyRecord | None = None,
    truth: str | Path | Sequence[int | str] | np.ndarray | None = None,
    split: str = "test",
    fold: int | None = None,
    classes: str | Path | Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    format: str | None = None,
    columns: Columns = Columns(),
    scores: str | None = None,
    seed_pattern: str | None = None,
) -> Comparison:
    """Compare predictions with a truth, with each other and with `runs`.

    `study`: record of the study that the runs are part of. `truth`: a manifest (its `split`, of one `fold` or all), a table
    or a list, or labels in the order of the arrays; None: the runs' tests, or the labels in the files. `classes`: their
    list, or a file of it. `groups`: of the videos of arrays. `format`, `columns`: how files are read. `scores`: of what
    `Kind` they are; None: found out. `seed_pattern`: regular expression whose group is the seed in a file's name. Raises
    UserError.
    """
    if scores is not None and scores not in get_args(Kind):
        raise UserError(f"--scores: '{scores}' is not known. {nearest(scores, get_args(Kind))}")
    _check_asked(asked)
    files, naming, notes = _Files(asked, format, columns), _Naming(seed_pattern), Notes()
    names, first = _class_list(classes)
    if isinstance(truth, str | Path):
        if is_manifest(truth):
            known = of_manifest(truth, split=split, fold=fold, classes=names)
        else:
            known = of_table(truth, split=split, columns=columns, classes=names, first=first, guess=files.classes)
    elif truth is not None:
        known = _of_arrays(asked, truth, groups, names, files)
    elif runs:
        known = of_runs(runs)
    else:
        told, _ = files.without_scores()
        if all(part.labels_R is None for part in told):
            if all(part.format == ARRAY for part in told):
                raise UserError(
                    "truth: no labels are given, and arrays have none. Give them in the order of the rows: truth=labels"
                )
            raise UserError(
                "--truth: no file says what its videos show. Give a manifest, or a table with a video and a label a row: "
                "--truth test.csv"
            )
        known = of_predictions(told, classes=names, guess=files.classes)
    if runs and known.classes != tuple(runs[0].dataset()["classes"]):
        raise UserError(
            f"{runs[0].path}: its classes are not those of {known.where}, in that order. Give the truth of its own data set"
        )
    if runs:
        pairs = [(str(a), str(b)) for a, b in runs[0].dataset()["reversed_pairs"]]
        known = replace(known, pairs=tuple(pairs))
    by_model: dict[str, list[Part]] = {}
    for one, part, has_several in files.each():
        judged_part = part_of(part, *naming(one, part, has_several), known, scores, notes)
        by_model.setdefault(judged_part.model, []).append(judged_part)
        del part  # before the next file is read
    for setting in settings_of([run for run in runs if run.is_finished], study=study):
        if setting.name in by_model:
            raise UserError(
                f"{by_model[setting.name][0].told.path}: runs are called {setting.name}, too. Give the file another name: "
                "NAME=FILE"
            )
    others = [_row(model, parts, known, notes) for model, parts in by_model.items()]
    return compared(
        runs, study=study, others=others, data=known.data, pairs=known.pairs, notes=notes.sentences()
    )  # fmt: skip


def asked_of(
    predictions: Any,
    *,
    ids: Sequence[str] | None = None,
    in_order_of: str | Path | None = None,
    have_labels: bool = False,
) -> tuple[list[Asked], list[str | Path | Run]]:
    """Files and arrays to judge, and the folders of runs and studies among them.

    `predictions`: names of files, NAME=FILE to name a row, folders; or, by the names of rows, files, (N,K) scores, (N,)
    answers, or a list of such arrays, one a seed. `ids`: names of the arrays' videos. `in_order_of`: the file whose order
    they are in otherwise. `have_labels`: labels are given in their order, so that a list of text is answers. Raises
    UserError.
    """
    asked: list[Asked] = []
    folders: list[str | Path | Run] = []
    if not isinstance(predictions, str | Path | Run) and not len(predictions):
        raise UserError("predictions: nothing is given. Give files, folders of runs, or arrays by name")
    if not isinstance(predictions, Mapping):
        for one in [predictions] if isinstance(predictions, str | Path | Run) else predictions:
            name, path = (None, one) if isinstance(one, Run) else _named_file(one)
            if isinstance(path, Run) or path.is_dir():
                if name is not None:
                    raise UserError(f"{name}={path}: a run has its own name. Leave {name}= out")
                folders.append(path)
            else:
                asked.append(Asked(path, name))
        return asked, folders
    for name, value in predictions.items():
        several: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        if not several:
            raise UserError(f"{name}: the list is empty. Give files or arrays, one a seed")
        is_of_files = all(isinstance(one, str | Path) for one in several) and not (
            have_labels and value is not several[0]
        )
        if isinstance(value, Run) or (is_of_files and len(several) == 1 and Path(several[0]).is_dir()):
            folders.append(several[0])
        elif is_of_files:
            asked += [Asked(Path(one), str(name)) for one in several]
        else:
            asked += [Asked(one, str(name)) for one in _of_array(str(name), value, ids, in_order_of)]
    return asked, folders


def _check_asked(asked: Sequence[Asked]) -> None:
    """Raise UserError for a file that is named twice for one row, as its answers would count as seeds of their own."""
    seen: set[tuple[str | None, str]] = set()
    for one in asked:
        if isinstance(one.source, Predictions):
            continue
        key = (one.name, os.path.realpath(one.source))
        if key in seen:
            of = "" if one.name is None else f" for {one.name}"
            raise UserError(f"{one.source}: it is named twice{of}. Name each seed's file once")
        seen.add(key)


def _named_file(text: str | Path) -> tuple[str | None, Path]:
    """Name and file of NAME=FILE; either may have the sign in it, if the file is there."""
    name, sign, path = str(text).partition("=")
    if isinstance(text, Path) or not sign or Path(text).exists():
        return None, Path(text)
    ends = [match.start() for match in re.finditer("=", text) if Path(text[match.end() :]).is_file()]
    if ends:
        name, path = text[: ends[0]], text[ends[0] + 1 :]
    if not name.strip() or not path:
        raise UserError(
            f"{text}: it names no {'file' if name.strip() else 'model'}. Write NAME=FILE, or the file alone"
        )
    return name.strip(), Path(path)


def _of_array(name: str, value: Any, ids: Sequence[str] | None, in_order_of: str | Path | None) -> list[Predictions]:
    """Predictions of an array, or of one a seed."""
    if isinstance(value, Mapping):
        raise UserError(
            f"{name}: answers by the names of videos. Give them in one order, and the names: "
            f"{{'{name}': list(by_video.values())}}, ids=list(by_video)"
        )
    is_of_seeds = isinstance(value, list | tuple) and len(value) > 0 and getattr(value[0], "ndim", 0) > 0
    try:
        arrays = [np.asarray(one) for one in value] if is_of_seeds else [np.asarray(value)]
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: no array: {error}. Give (N,K) scores or (N,) answers") from None
    if len(arrays) == 1 and arrays[0].ndim == 3:
        arrays = list(arrays[0])
    made = []
    for seed, array in enumerate(arrays):
        if array.ndim == 1 and array.dtype.kind == "f" and len(array) and (array == np.floor(array)).all():
            array = array.astype(np.int64)  # classes, as tables keep them
        is_scores, is_answers = (
            array.ndim == 2 and array.dtype.kind in "fiu",
            array.ndim == 1 and array.dtype.kind in "iuUO",
        )
        if not (is_scores or is_answers) or not len(array):
            raise UserError(
                f"{name}: an array of {array.dtype} of shape {array.shape}. Give (N,K) scores, (N,) answers, or a list of one a "
                "seed"
            )
        if ids is not None and len(ids) != len(array):
            raise UserError(f"ids: {len(ids)} names, and '{name}' has {len(array)} videos. Give one for each")
        made.append(
            Predictions(
                path=name, format=ARRAY, videos_R=np.array(list(range(len(array)) if ids is None else ids), dtype=np.str_),
                scores_RC=array if is_scores else None,
                answers_R=None if is_scores else array if array.dtype.kind in "iu" else array.astype(np.str_),
                model=name, seed=seed if len(arrays) > 1 else None, is_numbered=ids is None and in_order_of is not None,
            )
        )  # fmt: skip
    return made


def _class_list(classes: str | Path | Sequence[str] | None) -> tuple[tuple[str, ...] | None, int]:
    """Names of the classes, and the number of the first: 1 where their file counts from it."""
    if classes is None:
        return None, 0
    if isinstance(classes, str | Path):
        names = class_names(Path(classes))
        return tuple(in_order(names)), 0 if isinstance(names, list) else 1
    if len(set(classes)) < len(classes):
        raise UserError("--classes: a class is there more than once. Name each once")
    return tuple(map(str, classes)), 0


def _of_arrays(
    asked: Sequence[Asked],
    labels: Sequence[int | str] | np.ndarray,
    groups: Sequence[str] | None,
    classes: tuple[str, ...] | None,
    files: "_Files",
) -> Truth:
    """Truth of arrays, which are in the order of the labels."""
    arrays = [one.source for one in asked if isinstance(one.source, Predictions)]
    if not arrays:
        raise UserError(
            "truth: labels without names are of arrays. Give files a truth with names: a manifest or a table"
        )
    videos = arrays[0].videos_R.tolist()
    if isinstance(labels, Mapping):
        raise UserError(
            "truth: labels by the names of videos. Give them in the order of the arrays: [labels[name] for name in ids]"
        )
    for one in arrays:
        width = None if one.scores_RC is None else one.scores_RC.shape[1]
        if classes is not None and width is not None and width != len(classes):
            raise UserError(
                f"classes: {len(classes)} are named, and '{one.model}' has {width} scores a row. Name as many, in the order of "
                "the scores: classes=[…]"
            )
    given = {"truth": labels, "groups": groups, **{f"'{one.model}'": one.videos_R for one in arrays}}
    for what, values in given.items():
        if values is not None and len(values) != len(videos):
            raise UserError(f"{what}: {len(values)} values for {plural(len(videos), 'video')}. Give one for each")
    return of_arrays(np.asarray(labels), videos, groups, classes=classes, guess=files.classes)


class _Files:
    """The files, read one after another; small ones, and all that are asked for once, are read once."""

    def __init__(self, asked: Sequence[Asked], format: str | None, columns: Columns) -> None:
        self._asked, self._format, self._columns = asked, format, columns
        self._held: dict[int, list[Predictions]] = {}
        self._light: tuple[list[Predictions], int | None] | None = None
        self._missing: MissingColumn | None = None
        self._have_columns = False

    def _read(self, one: Asked) -> list[Predictions]:
        if isinstance(one.source, Predictions):
            return [one.source]
        try:
            parts = read(one.source, format=self._format, columns=self._columns)
            self._have_columns = True
        except MissingColumn as error:  # it may be meant for another of the files
            self._missing = self._missing or error
            note = "the columns that were named are not in it, and its own were found by their names"
            found = read(one.source, format=self._format)
            parts = [replace(part, notes=(*part.notes, note)) for part in found]
        return parts

    def each(self) -> Iterator[tuple[Asked, Predictions, bool]]:
        """Each model and seed of each file, and whether the file has several models. Nothing is held any more."""
        for number, one in enumerate(self._asked):
            parts = self._held.pop(number, None) or self._read(one)
            has_several = len({part.model for part in parts}) > 1
            while parts:
                yield one, parts.pop(0), has_several
        if self._missing is not None and not self._have_columns:
            raise self._missing

    def without_scores(self) -> tuple[list[Predictions], int | None]:
        """All that files say but for the scores; and how many of these a row has where classes have no names."""
        if self._light is not None:
            return self._light
        light, width, room = [], None, HELD_BYTES
        for number, one in enumerate(self._asked):
            parts = self._held.get(number) or self._read(one)
            room -= sum(0 if part.scores_RC is None else part.scores_RC.nbytes for part in parts)
            if room > 0:
                self._held[number] = parts
            for part in parts:
                if part.scores_RC is not None and part.classes is None:
                    width = max(width or 0, part.scores_RC.shape[1])
                light.append(replace(part, scores_RC=None))
        self._light = light, width
        return self._light

    def classes(self, labels: np.ndarray) -> tuple[str, ...]:
        """Classes of a truth without a list of them: those of the scores, or of its labels, by number or by name.

        An answer adds none: free text would be a class of its own, and a guess among them all be right less often.
        """
        light, width = self.without_scores()
        named = next((part.classes for part in light if part.classes is not None), None)
        if named is not None:
            return named
        texts = [text for text in np.unique(labels.astype(np.str_)).tolist() if text not in ("", "-1")]
        in_python = all(part.format == ARRAY for part in light)
        option, how = ("classes" if in_python else "--classes"), option_of_classes(in_python)
        if all(re.fullmatch("[0-9]{1,6}", text) for text in texts):
            if width is not None and count_from_one(labels, tuple(map(str, range(width)))):
                raise UserError(
                    f"{option}: labels go from 1 to {width}, and scores from 0 to {width - 1}. If they count from 1, subtract 1; "
                    f"else say what the scores are of: {how}"
                )
            return tuple(map(str, range(max([width or 0, *(int(text) + 1 for text in texts)]))))
        if width is not None:
            raise UserError(
                f"{option}: labels are names, and scores have numbers (0 to {width - 1}). Say which is which: {how}, in the "
                "order of the scores"
            )
        for part in light:
            answers_R = part.answers_R
            if (
                answers_R is not None
                and answers_R.dtype.kind in "iu"
                and not set(map(str, answers_R.tolist())) & set(texts)
            ):
                raise UserError(
                    f"{option}: labels are names, and the answers of {part.path} are numbers. Say which is which: {how}, in the "
                    "order of the numbers"
                )
        return tuple(sorted(texts))


class _Naming:
    """Tells the model, the seed and the fold of predictions: as the user or the file says, or by the file's name."""

    def __init__(self, seed_pattern: str | None) -> None:
        self._asked = seed_pattern
        try:
            self._seed = re.compile(seed_pattern or SEED, re.IGNORECASE)
        except re.error as error:
            raise UserError(
                f"--seed-pattern: '{seed_pattern}' cannot be read: {error}. Give a regular expression"
            ) from None
        if self._seed.groups != 1:
            raise UserError(
                f"--seed-pattern: '{seed_pattern}' has no one group. Put brackets around the number: seed([0-9]+)"
            )

    def __call__(self, one: Asked, part: Predictions, has_several: bool) -> tuple[str, int | None, int | None]:
        """Model, seed and fold; None: not known."""
        found = list(self._seed.finditer(part.path))
        if self._asked is not None and not (found and (found[-1][1] or "").isdecimal()):
            raise UserError(
                f"--seed-pattern: '{self._asked}' finds no number in {part.path}. Correct it, or leave it out"
            )
        seed = part.seed if part.seed is not None else int(found[-1][1]) if found else None
        folds = re.findall(SPLIT, part.path, re.IGNORECASE)
        numbers = re.findall(r"\d{1,9}", part.split or "")
        fold = int(numbers[-1]) if numbers else int(folds[-1]) if folds else None
        stem = Path(part.path).stem
        plain = re.sub(SPLIT, "", self._seed.sub("", stem), flags=re.IGNORECASE)
        plain = re.sub(r"[-_ .=]{2,}", "-", plain).strip("-_ .=")
        name = one.name or part.model or plain or stem
        return (f"{one.name} {part.model}" if one.name and has_several else name), seed, fold


def _row(model: str, parts: Sequence[Part], truth: Truth, notes: Notes) -> ModelResult:
    """Row of a model: parts of a seed joined, and seeds on the videos that all of them answered."""
    seeds = _seeds(model, parts, notes)
    answered = [np.concatenate([part.rows_N for part in of_seed]) for of_seed in seeds.values()]
    common = answered[0]
    for rows in answered[1:]:
        common = np.intersect1d(common, rows)
    every = np.unique(np.concatenate(answered))
    if not len(common):
        raise UserError(
            f"{parts[0].told.path}: no video is answered by all {len(seeds)} seeds of {model}. Give models names of their own: "
            "NAME=FILE"
        )
    if len(common) < len(every):
        others = truth.ids_N[np.setdiff1d(every, common)].tolist()
        notes.add(
            model,
            f"its seeds do not answer the same videos: {thousands(len(common))} are common to all, and {thousands(len(others))} "
            f"others are left out ({examples(others)})",
            first=True,
        )
    labelled = np.flatnonzero(truth.labels_N >= 0)
    missing = truth.ids_N[np.setdiff1d(labelled, every)].tolist()
    if missing:
        notes.add(
            model,
            f"{thousands(len(missing))} of {plural(thousands(len(labelled)), 'video')} of {truth.where} have no answer "
            f"({examples(missing)}), and its figures are of the others alone",
            first=True,
        )
    files = dict.fromkeys(part.told.path for part in parts if part.told.format != ARRAY)
    return ModelResult(
        name=model, answers=tuple(_joined(of_seed, common, truth) for of_seed in seeds.values()), classes=truth.classes,
        split="test", tested=truth.tested(common), files=tuple(files), manifest=truth.manifest,
        truth_videos=len(labelled),
        scores_sha256=tuple(
            part.scores_sha256 for of_seed in seeds.values() for part in of_seed if part.scores_sha256 is not None
        ),
    )  # fmt: skip


def _seeds(model: str, parts: Sequence[Part], notes: Notes) -> dict[int, list[Part]]:
    """Parts by seed. Those of no known seed are one where their videos are others, and several where they are the same."""
    seeds: dict[int, list[Part]] = {}
    for part in parts:
        if part.seed is not None:
            seeds.setdefault(part.seed, []).append(part)
    for seed, of_seed in seeds.items():
        for number, part in enumerate(of_seed):
            for other in of_seed[:number]:
                if len(both := np.intersect1d(part.rows_N, other.rows_N)):
                    name = part.answers.ids_N[np.isin(part.rows_N, both)][0]
                    raise UserError(
                        f"{part.told.path}: {name} is answered in {other.told.path}, too, and both are {model} of seed {seed}. "
                        "Leave one out, or name them apart: NAME=FILE"
                    )
    _check_copies(model, parts, notes)
    untold = [part for part in parts if part.seed is None]
    for part in untold:
        fits = (
            seed
            for seed, of_seed in seeds.items()
            if all(one.seed is None and not np.isin(part.rows_N, one.rows_N).any() for one in of_seed)
        )
        seeds.setdefault(next(fits, max(seeds, default=-1) + 1), []).append(part)
    if len(untold) > 1:
        count = sum(of_seed[0].seed is None for of_seed in seeds.values())
        joined = ", parts with other videos joined" if count < len(untold) else ""
        notes.add(
            model, f"without numbers of seeds, {len(untold)} predictions are taken as {plural(count, 'seed')}{joined}"
        )
    return dict(sorted(seeds.items()))


def _check_copies(model: str, parts: Sequence[Part], notes: Notes) -> None:
    """Raise UserError for seeds with the same scores, and note those with the same answers: no chance made them differ."""
    of: dict[tuple[bytes, bytes, str | None], Part] = {}
    copies = []
    for part in parts:
        key = (part.rows_N.tobytes(), part.answers.predicted_N.tobytes(), part.scores_sha256)
        other = of.setdefault(key, part)
        if other is part:
            continue
        if part.scores_sha256 is not None:
            which = "two of its seeds" if part.told.path == other.told.path else f"it and {other.told.path}"
            raise UserError(
                f"{part.told.path}: {which} have the same scores, to the last digit, so they are one seed of {model}. Leave one "
                "out"
            )
        copies.append(part)
    if copies:
        notes.add(
            model,
            f"{len(copies) + 1} of its {len(parts)} predictions give the same answers, all of them: if one is a copy of another, "
            "they are no seeds, and intervals are too narrow",
            first=True,
        )


def _joined(parts: Sequence[Part], common: np.ndarray, truth: Truth) -> Answers:
    """Answers of one seed to some of the truth's videos, sorted by id and official split."""

    def along(name: str) -> np.ndarray:
        return np.concatenate([getattr(part.answers, name) for part in parts])

    def every(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    ids_N, split_N, labels_N = along("ids_N"), along("split_N"), along("labels_N")
    order = np.lexsort((split_N, ids_N))
    order = order[np.isin(every("rows_N")[order], common)]
    splits = [split_N[order] == split for split in np.unique(split_N[order])]
    has_scores = all(part.answers.has_scores for part in parts)
    ranks_N, views_N, right_N = (every(name)[order] for name in ("ranks_N", "views_N", "right_views_N"))
    within: dict[Pair, np.ndarray] = {}
    for pair in truth.pairs if has_scores else ():
        is_of_pair_N = np.isin(labels_N, [truth.classes.index(name) for name in pair])
        is_right_N = np.zeros(len(labels_N), dtype=np.bool_)
        is_right_N[is_of_pair_N] = np.concatenate([part.answers.within[pair] for part in parts])
        within[pair] = is_right_N[order][is_of_pair_N[order]]
    has_views = has_scores and views_N.max() > 1
    tops = [k for k in MORE_ANSWERS if has_scores and len(truth.classes) > k]
    return Answers(
        **{name: along(name)[order] for name in ALONG_VIDEOS}, within=within,
        clip_top1=float(np.mean([right_N[one].sum() / views_N[one].sum() for one in splits])) if has_views else np.nan,
        num_views=int(views_N[0]) if has_views and (views_N == views_N[0]).all() else 0, by_clips={},
        top={k: float(np.mean([(ranks_N[one] < k).mean() for one in splits])) for k in tops}, split_N=split_N[order],
    )  # fmt: skip
