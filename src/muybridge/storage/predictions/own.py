"""Files that muybridge itself writes: scores of evaluations, and answers of `muybridge predict --out`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.predictions.contents import Predictions
from muybridge.storage.predictions.table import Table
from muybridge.storage.scores import Scores
from muybridge.text import from_spreadsheet, listed, plural

_ANSWERS = {"path", "window", "windows", "label", "score", "error", "call_sha256"}


def of_scores(path: Path) -> list[Predictions]:
    """The views of an evaluation's file of scores. Raises UserError."""
    scores = Scores.load(path)
    skipped = [str(name) for name in scores.skipped_ids.tolist()]
    notes = [f"{plural(len(skipped), 'video')} could not be read: {listed(skipped)}"] if skipped else []
    if scores.num_trained_on:
        notes.append(f"the model was trained on {plural(scores.num_trained_on, 'video')} of these")
    groups_N = scores.groups_N.astype(np.str_)
    return [
        Predictions(
            path=str(path), format="muybridge", videos_R=scores.ids_N[scores.video_V], scores_RC=scores.logits_VK,
            answers_R=None, labels_R=scores.labels_N[scores.video_V],
            groups_R=groups_N[scores.video_V] if (groups_N != "").any() else None, classes=scores.classes,
            split=scores.split or None, average=scores.average, notes=tuple(notes),
        )
    ]  # fmt: skip


def is_answers(names: Iterable[str]) -> bool:
    """Whether columns are those of `muybridge predict --out`."""
    return set(names) >= _ANSWERS or set(names) >= _ANSWERS - {"score"} | {"labels", "scores"}


def of_answers_table(table: Table) -> list[Predictions]:
    """Answers in a CSV."""
    texts = {name: [str(value) for value in column.tolist()] for name, column in table.columns.items()}
    places = [""] + [f"_{n}" for n in range(2, len(texts)) if f"label_{n}" in texts and f"score_{n}" in texts]
    rows = []
    for row in range(table.num_rows):
        where = f"{table.path}, {table.place(row)}"
        labels = [from_spreadsheet(texts[f"label{place}"][row]) for place in places if texts[f"label{place}"][row]]
        scores = [
            _number(texts[f"score{place}"][row], where)
            for place in places
            if texts[f"score{place}"][row] not in ("", "nan")
        ]
        rows.append((from_spreadsheet(texts["path"][row]), labels, scores, texts["error"][row], where))
    return _answers(table.path, rows)


def of_answers_lines(path: str, lines: Iterable[tuple[int, dict[str, Any]]]) -> list[Predictions]:
    """Answers in JSON Lines."""
    rows = []
    for number, record in lines:
        where = f"{path}, line {number}"
        labels, scores = record.get("labels") or [], record.get("scores") or []
        if not isinstance(labels, list) or not isinstance(scores, list) or not isinstance(record.get("path"), str):
            raise UserError(f"{where}: not an answer of muybridge predict. Write the file again")
        numbers = [_number(score, where) for score in scores]
        rows.append((record["path"], [str(label) for label in labels], numbers, str(record.get("error") or ""), where))
    return _answers(path, rows)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: the score '{str(value)[:40]}' is not a number. Write the file again") from None
    if not np.isfinite(number):
        raise UserError(f"{where}: the score {number} is not a finite number. Write the file again")
    return number


def _answers(path: str, rows: Sequence[tuple[str, list[str], list[float], str, str]]) -> list[Predictions]:
    """Predictions of rows: video, labels and scores, best first, error, place."""
    failed = [video for video, labels, _, error, _ in rows if error and not labels]
    kept = [row for row in rows if row[1]]
    odd = next((row for row in rows if len(row[1]) != len(row[2]) or not (row[0] and (row[1] or row[3]))), None)
    if odd is not None:
        raise UserError(
            f"{odd[4]}: it has {len(odd[1])} labels, {len(odd[2])} scores and no error. Write the file again"
        )
    if not kept:
        raise UserError(f"{path}: it has no answers. Give a file with answers")
    notes = [f"{plural(len(failed), 'video')} could not be read: {listed(failed)}"] if failed else []
    classes = tuple(sorted(kept[0][1]))
    is_whole = len(classes) > 1 and all(len(row[1]) == len(classes) and set(row[1]) == set(classes) for row in kept)
    scores_RC = None
    if is_whole:
        where = {name: place for place, name in enumerate(classes)}
        scores_RC = np.zeros((len(kept), len(classes)))
        for row, (_, labels, scores, *_) in enumerate(kept):
            scores_RC[row, [where[label] for label in labels]] = scores
    else:
        notes.append(
            "it has the best labels alone: write the scores of all with muybridge predict --top, by the number of classes"
        )
    videos = [row[0] for row in kept]
    if len(set(videos)) < len(videos):
        notes.append("long videos have an answer a window; windows are taken as views")
    best = np.array([row[1][0] for row in kept], dtype=np.str_)
    is_told = scores_RC is not None and (np.array(classes, dtype=np.str_)[scores_RC.argmax(1)] == best).all()
    return [
        Predictions(
            path=path, format="muybridge", videos_R=np.array(videos, dtype=np.str_), scores_RC=scores_RC,
            answers_R=None if is_told else best, classes=classes if is_whole else None, notes=tuple(notes),
        )
    ]  # fmt: skip
