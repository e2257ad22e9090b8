"""Predictions of other tools as rows of a comparison, beside muybridge's own runs or alone.

A file is read, matched with the truth and reduced to what its videos were answered, before the next one is read: of many
models, seeds and classes no more than one file's scores are held. The notes say what is not taken as
it is written, and what is left out.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from muybridge.analysis.answers import ALONG_VIDEOS, MORE_ANSWERS, Answers
from muybridge.analysis.comparison import Comparison, compared
from muybridge.analysis.results import ModelResult
from muybridge.analysis.rows import settings_of
from muybridge.analysis.temporal import Pair
from muybridge.analysis.truth import (
    SHOWN,
    Truth,
    answered_classes,
    class_indices,
    class_numbers,
    count_from_one,
    examples,
    is_manifest,
    numbered,
    of_arrays,
    of_manifest,
    of_predictions,
    of_runs,
    of_table,
    option_of_classes,
)
from muybridge.data.prepare.lists import class_names, in_order
from muybridge.errors import UserError, nearest
from muybridge.storage.predictions import Columns, MissingColumn, Predictions, check_order, read
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, label_ranks
from muybridge.storage.study import StudyRecord
from muybridge.text import listed, plural, shortened, thousands

Kind = Literal["probabilities", "logits"]
"""Kind of the scores of a file."""

HELD_BYTES = 2**28
"""Bytes of scores that are kept in memory where files are asked for twice; others are read twice."""
MOSTLY = 0.5
"""Share of a file's own labels that contradict the truth, above which its classes or its videos are others."""
ROUNDING = 0.02
"""Largest distance of a sum of written probabilities from what it should be: four digits of 400 classes."""

LARGEST = 1e30
"""Largest size of a score: sums over views and the softmax of a smaller one are finite in single precision, too."""
FEW_TIES = 0.01
"""Share of the videos whose highest score may be shared without a word: rounding makes some ties."""

LONGEST_ANSWER = 60
"""Most characters of an answer that names no class, in a note."""

ARRAY = "array"
"""Format of arrays."""

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
    files, naming, notes = _Files(asked, format, columns), _Naming(seed_pattern), _Notes()
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
    by_model: dict[str, list[_Part]] = {}
    for one, part, has_several in files.each():
        judged_part = _part(part, *naming(one, part, has_several), known, scores, notes)
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


class _Notes:
    """Sentences on files: one that holds for several files names them together."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}
        self._first: set[str] = set()

    def add(self, of: str, sentence: str, *, first: bool = False) -> None:
        """Add one. `first`: it bears on the figures of a row, and comes before those that do not."""
        sentence = sentence.rstrip(".")
        names = self._of.setdefault(sentence, [])
        if of not in names:
            names.append(of)
        if first:
            self._first.add(sentence)

    def sentences(self) -> list[str]:
        """All of them, the `first` ones first, else in their order."""
        ordered = sorted(self._of.items(), key=lambda one: one[0] not in self._first)
        return [f"{_some(names)}: {sentence}." for sentence, names in ordered]


def _some(names: Sequence[str]) -> str:
    return listed(names) if len(names) <= SHOWN else f"{names[0]} and {len(names) - 1} others"


@dataclass(frozen=True, repr=False)
class _Part:
    """Answers of one model and seed, or of one fold of them."""

    told: Predictions
    """Without its scores."""
    model: str
    seed: int | None
    answers: Answers
    rows_N: np.ndarray
    """Index among the truth's videos of each answer."""
    ranks_N: np.ndarray
    """Number of classes before the label; of answers alone, one that is in no top-k."""
    views_N: np.ndarray
    """Number of the video's views."""
    right_views_N: np.ndarray
    scores_sha256: str | None = None
    """Hash of the scores; None of answers alone."""


def _part(
    told: Predictions, model: str, seed: int | None, fold: int | None, truth: Truth, kind: str | None, notes: _Notes
) -> _Part:
    """Match predictions with the truth, and reduce them to answers."""
    for note in told.notes:
        notes.add(told.path, note)
    rows_R = _rows(told, fold, truth, notes)
    is_unlabelled_R = (rows_R >= 0) & (truth.labels_N[rows_R] < 0)
    if is_unlabelled_R.any():
        names = np.unique(told.videos_R[is_unlabelled_R]).tolist()
        have, are = ("has", "is") if len(names) == 1 else ("have", "are")
        notes.add(
            told.path,
            f"{plural(len(names), 'video')} {have} no label in {truth.where}, and {are} left out ({examples(names)})",
        )
    used = np.flatnonzero((rows_R >= 0) & ~is_unlabelled_R)
    if not len(used):
        raise UserError(f"{told.path}: none of its videos has a label in {truth.where}. Give another truth")
    order = _order_of_classes(told, truth)
    _check_labels(told, rows_R, used, order, truth, notes)
    rows, first, video_V = np.unique(rows_R[used], return_index=True, return_inverse=True)
    groups_N = truth.groups_N[rows]
    if told.groups_R is not None and not truth.groups_N.any():
        groups_N = told.groups_R[used][first]
    predicted_R = None if told.answers_R is None else _answered(told.answers_R[used], told, order, truth, notes)
    if told.scores_RC is None:
        if predicted_R is None:
            raise UserError(f"{told.path}: it has neither scores nor answers. Give one of them")
        answers = _answers_alone(told, truth, rows, groups_N, predicted_R, video_V, used)
        nothing = np.full(len(rows), np.iinfo(np.int64).max)
        ones = np.ones(len(rows), dtype=np.int64)
        return _Part(
            replace(told, scores_RC=None), model, seed, answers, rows[_by_id(truth, rows)], nothing, ones, ones
        )
    values_VK, are_probabilities = _values(told, kind, notes)
    if len(used) < len(values_VK):
        values_VK = values_VK[used]
    if order is not None:
        values_VK = values_VK[:, order]
    counts_N = np.bincount(video_V)
    if counts_N.max() > 1:
        averaged = "probabilities" if are_probabilities or told.average == "probabilities" else "logits"
        _note_views(told.path, counts_N, truth.ids_N[rows], averaged, notes)
    answered_V = values_VK.argmax(1)
    if predicted_R is not None and (differ := int((answered_V != predicted_R).sum())):
        notes.add(
            told.path,
            f"{differ} of {thousands(len(used))} answers are not the class of the highest score; the scores are judged",
        )
    scores = Scores(
        classes=truth.classes, ids_N=truth.ids_N[rows], labels_N=truth.labels_N[rows], groups_N=groups_N,
        video_V=video_V.reshape(-1), clip_start_V=np.zeros(len(used), dtype=np.int64),
        crop_V=np.zeros(len(used), dtype=np.int64), logits_VK=values_VK,
        average="probabilities" if are_probabilities else told.average or "logits", are_probabilities=are_probabilities,
    )  # fmt: skip
    _note_ties(told.path, scores, notes)
    by_id = scores.labelled()
    right_N = np.bincount(video_V, weights=answered_V == truth.labels_N[rows][video_V])
    return _Part(
        replace(told, scores_RC=None), model, seed,
        replace(Answers.of(scores, truth.pairs), split_N=truth.split_N[rows][by_id]),
        rows[by_id], label_ranks(scores.video_scores(), scores.labels_N)[by_id], counts_N[by_id],
        right_N[by_id].astype(np.int64), scores.sha256(),
    )  # fmt: skip


def _rows(told: Predictions, fold: int | None, truth: Truth, notes: _Notes) -> np.ndarray:
    """(R,) index among the truth's videos of each row; -1 for a row of another video, which is noted."""
    splits: list[int] = np.unique(truth.split_N).tolist()
    split = splits[0] if len(splits) == 1 else fold
    if split is None or split not in splits:
        raise UserError(
            f"{told.path}: of which official split it is ({listed(list(map(str, splits)))}) is not told. Name one for all: "
            "--fold N; or tell it by a column `split`, or by split1 in the file's name"
        )
    if told.is_numbered and not truth.is_numbered:
        rows, numbers_R = truth.in_order(split or fold or 0), told.videos_R.astype(np.int64)
        count = int(numbers_R.max()) + 1
        can_be_part = told.labels_R is not None  # which tell whether it is in that order
        if count > len(rows) or (count < len(rows) and not can_be_part):
            raise UserError(
                f"{told.path}: it names no videos, and has {thousands(count)} where {truth.where} has {thousands(len(rows))}. "
                "Give the list that it was tested with: --truth LIST"
            )
        _note_order(told, truth, notes)
        return rows[numbers_R]
    if told.is_numbered:
        _note_order(told, truth, notes)
    names, which_R = np.unique(told.videos_R, return_inverse=True)
    found, how = truth.of_split[split].find(names.tolist(), told.path)
    if not how:
        raise UserError(
            f"{told.path}: none of its {plural(thousands(len(names)), 'video')} is in {truth.where}: '{names[0]}' is called "
            f"otherwise than '{truth.ids_N[0]}'. Name videos by their ids, paths or file names"
        )
    if how != "id":
        notes.add(told.path, f"videos were matched by the {how}")
    if len(strange := names[found < 0].tolist()):
        are = "is" if len(strange) == 1 else "are"
        notes.add(
            told.path,
            f"{thousands(len(strange))} of {plural(thousands(len(names)), 'video')} {are} not in {truth.where}, and left out "
            f"({examples(strange)})",
        )
    return found[which_R.reshape(-1)]


def _note_order(told: Predictions, truth: Truth, notes: _Notes) -> None:
    if told.labels_R is not None:
        if not truth.is_numbered:
            notes.add(told.path, f"its videos are taken in the order of {truth.where}")
        return
    notes.add(
        told.path,
        f"it names no videos, and they are taken in the order of {truth.where}; it has no labels, so nothing confirms that",
        first=True,
    )


def _order_of_classes(told: Predictions, truth: Truth) -> np.ndarray | None:
    """(K,) place of each class of the truth in the predictions' list; None where the order is the same."""
    width = None if told.scores_RC is None else told.scores_RC.shape[1]
    if told.classes is None:
        if width is not None and width != len(truth.classes):
            raise UserError(
                f"{told.path}: it has {width} scores a row, and {truth.where} has {len(truth.classes)} classes. Give the list of "
                f"the scores' classes: {option_of_classes(told.format == ARRAY)}"
            )
        return None
    if told.classes == truth.classes:
        return None
    if width is None:
        return np.array([told.classes.index(name) if name in told.classes else -1 for name in truth.classes])
    place = {name: number for number, name in enumerate(told.classes)}
    for name in truth.classes:
        if name not in place:
            raise UserError(
                f"{told.path}: it has no scores of the class '{name}' of {truth.where}. {nearest(name, place)}"
            )
    if len(place) > len(truth.classes):
        other = next(name for name in told.classes if name not in truth.classes)
        raise UserError(
            f"{told.path}: it has scores of the class '{other}', which {truth.where} does not have. Give the list of all "
            "classes: --classes FILE"
        )
    return np.array([place[name] for name in truth.classes])


def _own_labels(values_R: np.ndarray, told: Predictions, order: np.ndarray | None, truth: Truth) -> np.ndarray:
    """(R,) classes of the truth by the names, or by the numbers of the predictions' own list; -1: not known."""
    where = f"{told.path}, label"
    _check_order(values_R, told, truth)
    if values_R.dtype.kind not in "iu" or order is None or told.classes is None:
        return class_numbers(values_R, truth.classes, where)
    names = np.array([*told.classes, ""])
    return class_numbers(names[class_numbers(values_R, told.classes, where)], truth.classes, where)


def _check_order(values_R: np.ndarray, told: Predictions, truth: Truth) -> None:
    if values_R.dtype.kind in "iu" and told.classes is None and not told.are_text:
        check_order(truth.classes, told.path)


def _answered(
    values_R: np.ndarray, told: Predictions, order: np.ndarray | None, truth: Truth, notes: _Notes
) -> np.ndarray:
    """(R,) classes of the truth that were answered; -1 for one that names none of them, which is noted.

    Raises UserError where no answer is a class.
    """
    if values_R.dtype.kind in "iu" and order is not None and told.classes is not None:
        own_R = class_indices(values_R, told.classes)
        values_R = np.where(own_R < 0, values_R.astype(np.str_), np.array(told.classes)[own_R])
        numbers_R = np.where(own_R < 0, -1, class_indices(values_R, truth.classes, may_be_numbers=False))
    else:
        _check_order(values_R, told, truth)
        numbers_R = answered_classes(values_R, truth.classes)
        if count_from_one(values_R, truth.classes):
            raise UserError(
                f"{told.path}: its answers are numbers from 1 to {len(truth.classes)}, and the classes of {truth.where} are 0 "
                f"({truth.classes[0]}) to {len(truth.classes) - 1}. If they count from 1, subtract 1; else give names"
            )
        _note_numbers(values_R, told, truth, notes)
    is_strange_R = numbers_R < 0
    if not is_strange_R.any():
        return numbers_R
    texts, counts = np.unique(values_R[is_strange_R].astype(np.str_), return_counts=True)
    common = [str(texts[place]) for place in np.argsort(-counts, kind="stable")]
    shown = examples([_meant(text, truth.classes) for text in common])
    if is_strange_R.all():
        raise UserError(
            f"{told.path}: none of its answers is one of the {len(truth.classes)} classes of {truth.where} "
            f"({examples(truth.classes)}): {shown}. Name classes as it does, or give the list that the answers are of: "
            f"{option_of_classes(told.format == ARRAY)}"
        )
    count = int(is_strange_R.sum())
    notes.add(
        told.path,
        f"{thousands(count)} of {plural(thousands(len(numbers_R)), 'answer')} {'names' if count == 1 else 'name'} none of the "
        f"{len(truth.classes)} classes, and {'counts' if count == 1 else 'count'} as wrong: {shown}",
        first=True,
    )
    return numbers_R


def _note_numbers(values_R: np.ndarray, told: Predictions, truth: Truth, notes: _Notes) -> None:
    """Note numbers that may count from 1: most classes are answered, and never the first, which has videos."""
    if values_R.dtype.kind not in "iu" or numbered(truth.classes).get(0) != 0 or len(truth.classes) < 3:
        return
    answered = np.unique(values_R)
    if answered[0] == 1 and len(answered) > len(truth.classes) / 2 and (truth.labels_N == 0).any():
        notes.add(
            told.path,
            f"its answers are numbers from 1 to {answered[-1]}, and never 0 ({truth.classes[0]}): if they count from 1, each is "
            "taken as the class after its own",
            first=True,
        )


def _meant(answer: str, classes: Sequence[str]) -> str:
    """An answer that names no class, and the class that it is most like, where one is."""
    by_small = {name.casefold(): name for name in reversed(classes)}
    close = get_close_matches(answer[:LONGEST_ANSWER].casefold(), by_small, n=1)
    shown = shortened(" ".join(answer.split()), LONGEST_ANSWER)
    return f"'{shown}' (did you mean '{by_small[close[0]]}'?)" if close else f"'{shown}'"


def _check_labels(
    told: Predictions, rows_R: np.ndarray, used: np.ndarray, order: np.ndarray | None, truth: Truth, notes: _Notes
) -> None:
    """Hold a file's own labels against the truth. Raises UserError where its classes or videos must be others."""
    if told.labels_R is None:
        return
    own_R = _own_labels(told.labels_R[used], told, order, truth)
    labels_R = truth.labels_N[rows_R[used]]
    wrong = np.flatnonzero((own_R >= 0) & (own_R != labels_R))
    if not len(wrong):
        return
    known, first = int((own_R >= 0).sum()), wrong[0]
    name = told.videos_R[used[first]]
    video = f"its video {int(name) + 1}" if told.is_numbered else f"'{name}'"
    one = f"{video} is {truth.classes[own_R[first]]} in it, and {truth.classes[labels_R[first]]} in {truth.where}"
    if told.is_numbered:
        raise UserError(
            f"{told.path}: its rows are not in the order of {truth.where}: {one}. Give the list of its test: --truth LIST"
        )
    if len(wrong) > MOSTLY * known:
        raise UserError(
            f"{told.path}: {thousands(len(wrong))} of {thousands(known)} labels are not those of {truth.where}: {one}. Give the "
            "list that its numbers are of (--classes FILE), or the truth of its own test"
        )
    notes.add(
        told.path,
        f"{thousands(len(wrong))} of {thousands(known)} labels are others than in {truth.where}, which counts ({one})",
    )


def _answers_alone(
    told: Predictions,
    truth: Truth,
    rows: np.ndarray,
    groups_N: np.ndarray,
    predicted_R: np.ndarray,
    video_R: np.ndarray,
    used: np.ndarray,
) -> Answers:
    """Answers of a tool that gave no scores. Raises UserError for a video with several, which cannot be averaged."""
    counts_N = np.bincount(video_R)
    if counts_N.max() > 1:
        twice = told.videos_R[used][video_R.reshape(-1) == counts_N.argmax()][0]
        raise UserError(
            f"{told.path}: '{twice}' has {counts_N.max()} answers, and no scores that could be averaged. Give one answer a video"
        )
    predicted_N = np.empty(len(rows), dtype=np.int64)
    predicted_N[video_R.reshape(-1)] = predicted_R
    unknown_N, by_id = np.full(len(rows), np.nan), _by_id(truth, rows)
    return Answers(
        ids_N=truth.ids_N[rows][by_id], labels_N=truth.labels_N[rows][by_id], groups_N=groups_N[by_id],
        predicted_N=predicted_N[by_id], confidence_N=unknown_N, truth_N=unknown_N, within={}, clip_top1=np.nan, num_views=0,
        by_clips={}, top={}, split_N=truth.split_N[rows][by_id], sure_N=unknown_N, sure_truth_N=unknown_N,
        answered_N=np.ones(len(rows), dtype=np.bool_),
    )  # fmt: skip


def _by_id(truth: Truth, rows: np.ndarray) -> np.ndarray:
    return np.argsort(truth.ids_N[rows], kind="stable")


def _values(told: Predictions, kind: str | None, notes: _Notes) -> tuple[np.ndarray, bool]:
    """Scores as probabilities or logits, and whether they are probabilities."""
    values_RC = told.scores_RC
    assert values_RC is not None
    if values_RC.dtype.kind != "f" or values_RC.dtype.itemsize < 4:
        values_RC = values_RC.astype(np.float64)
    if not np.isfinite(values_RC).all():
        raise UserError(f"{told.path}: a score is not a finite number. Correct it")
    least = float(values_RC.min())
    if max(float(values_RC.max()), -least) > LARGEST:
        raise UserError(
            f"{told.path}: a score is beyond {LARGEST:g}, of which no softmax can be taken. Give scores of usual size"
        )
    if kind == "logits" or told.average is not None:  # scores of muybridge's own
        return values_RC, False
    sums_R = values_RC.sum(1, dtype=np.float64)
    low, high = float(sums_R.min()), float(sums_R.max())
    if least >= 0 and max(1 - low, high - 1) <= ROUNDING:
        return values_RC, True
    if least >= 0 and low > 0 and high - low <= ROUNDING * high:
        total = float(np.median(sums_R))
        total = round(total) if round(total) and abs(total / round(total) - 1) <= ROUNDING else total
        notes.add(
            told.path,
            f"the scores of a row sum to {total:g}, as probabilities do that are summed over views, and are divided by it",
        )
        return values_RC.astype(np.float64) / total, True
    if kind == "probabilities":
        if least < 0 or low <= 0:
            fault = f"a score is {least:g}" if least < 0 else "a row has no score above 0"
            raise UserError(f"--scores: {told.path} holds no probabilities: {fault}. Leave --scores out")
        notes.add(
            told.path, f"the scores of a row sum to {low:.3g} to {high:.3g}, and each is divided by its row's sum"
        )
        return values_RC.astype(np.float64) / sums_R[:, None], True
    doubt = (
        "; they lie between 0 and 1, and if they are probabilities of single classes, --scores probabilities divides them by "
        "their sum"
        if least >= 0 and float(values_RC.max()) <= 1
        else ""
    )
    notes.add(told.path, f"the scores are taken as logits, and their softmax as probabilities{doubt}")
    return values_RC, False


def _note_views(path: str, counts_N: np.ndarray, ids_N: np.ndarray, averaged: str, notes: _Notes) -> None:
    fewest, most = int(counts_N.min()), int(counts_N.max())
    if fewest == most:
        notes.add(path, f"its {most} rows a video are views, whose {averaged} are averaged")
        return
    usual = int(np.bincount(counts_N).argmax())
    others = ids_N[counts_N != usual].tolist()
    have = "has" if len(others) == 1 else "have"
    notes.add(
        path,
        f"videos have {fewest} to {most} rows: they are taken as views, and their {averaged} averaged; {thousands(len(others))} "
        f"{have} another number than {usual} ({examples(others)})",
    )


def _note_ties(path: str, scores: Scores, notes: _Notes) -> None:
    """Note videos whose highest score several classes share, as the answer is then a matter of the classes' order."""
    best_NK = scores.video_scores() == scores.video_scores().max(1, keepdims=True)
    count, videos = int((best_NK.sum(1) > 1).sum()), len(best_NK)
    if count > max(2, FEW_TIES * videos):
        notes.add(
            path,
            f"in {thousands(count)} of {plural(thousands(videos), 'video')} several classes share the highest score, and the "
            "first of them counts as the answer: accuracy depends on the order of the classes",
            first=True,
        )


def _row(model: str, parts: Sequence[_Part], truth: Truth, notes: _Notes) -> ModelResult:
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


def _seeds(model: str, parts: Sequence[_Part], notes: _Notes) -> dict[int, list[_Part]]:
    """Parts by seed. Those of no known seed are one where their videos are others, and several where they are the same."""
    seeds: dict[int, list[_Part]] = {}
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


def _check_copies(model: str, parts: Sequence[_Part], notes: _Notes) -> None:
    """Raise UserError for seeds with the same scores, and note those with the same answers: no chance made them differ."""
    of: dict[tuple[bytes, bytes, str | None], _Part] = {}
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


def _joined(parts: Sequence[_Part], common: np.ndarray, truth: Truth) -> Answers:
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
