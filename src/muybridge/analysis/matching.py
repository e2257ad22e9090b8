"""Predictions of one file, matched with the truth and reduced to what its videos were answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import numpy as np

from muybridge.analysis.answers import Answers
from muybridge.analysis.naming import (
    SHOWN,
    answered_classes,
    class_indices,
    class_numbers,
    count_from_one,
    examples,
    numbered,
    option_of_classes,
)
from muybridge.analysis.truth import Truth
from muybridge.errors import UserError, nearest
from muybridge.storage.predictions import Predictions, check_order
from muybridge.storage.scores import Scores, label_ranks
from muybridge.text import listed, plural, shortened, thousands

ARRAY = "array"
"""Format of arrays."""
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

Kind = Literal["probabilities", "logits"]
"""Kind of the scores of a file."""


class Notes:
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
class Part:
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


def part_of(
    told: Predictions, model: str, seed: int | None, fold: int | None, truth: Truth, kind: str | None, notes: Notes
) -> Part:
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
        return Part(replace(told, scores_RC=None), model, seed, answers, rows[_by_id(truth, rows)], nothing, ones, ones)
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
    return Part(
        replace(told, scores_RC=None), model, seed,
        replace(Answers.of(scores, truth.pairs), split_N=truth.split_N[rows][by_id]),
        rows[by_id], label_ranks(scores.video_scores(), scores.labels_N)[by_id], counts_N[by_id],
        right_N[by_id].astype(np.int64), scores.sha256(),
    )  # fmt: skip


def _rows(told: Predictions, fold: int | None, truth: Truth, notes: Notes) -> np.ndarray:
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


def _note_order(told: Predictions, truth: Truth, notes: Notes) -> None:
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
    values_R: np.ndarray, told: Predictions, order: np.ndarray | None, truth: Truth, notes: Notes
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


def _note_numbers(values_R: np.ndarray, told: Predictions, truth: Truth, notes: Notes) -> None:
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
    told: Predictions, rows_R: np.ndarray, used: np.ndarray, order: np.ndarray | None, truth: Truth, notes: Notes
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


def _values(told: Predictions, kind: str | None, notes: Notes) -> tuple[np.ndarray, bool]:
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


def _note_views(path: str, counts_N: np.ndarray, ids_N: np.ndarray, averaged: str, notes: Notes) -> None:
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


def _note_ties(path: str, scores: Scores, notes: Notes) -> None:
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
