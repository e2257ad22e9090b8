"""Columns of a table of predictions: by the names that a user gives, or by usual ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from muybridge.errors import UserError, nearest

USUAL: Mapping[str, tuple[str, ...]] = {
    "video": (
        "video", "video_id", "id", "path", "file", "filename", "file_name", "video_path", "clip", "name", "vid", "videos",
        "video_ids", "ids", "paths", "files", "filenames", "names", "vids",
    ),
    "answer": (
        "prediction", "predicted", "pred", "answer", "pred_label", "predicted_label", "prediction_label", "y_pred",
        "predictions", "preds", "answers", "pred_labels", "predicted_labels",
    ),
    "label": (
        "label", "truth", "true_label", "target", "gt", "gt_label", "class", "y_true", "ground_truth", "labels", "true_labels",
        "targets", "gt_labels", "truths",
    ),
    "model": ("model", "model_name", "method"),
    "seed": ("seed", "repetition", "repeat"),
    "group": ("group", "person", "subject", "recording", "groups", "persons", "subjects", "recordings"),
    "split": ("split", "fold"),
    "view": ("view", "crop", "views", "crops"),
}  # fmt: skip
"""Usual names of columns, by what they hold; the first that is there is taken. Case, spaces, "-" and "." do not count."""

PREFIXES = (
    "score",
    "scores",
    "prob",
    "probs",
    "probability",
    "p",
    "logit",
    "logits",
    "pred_score",
    "pred_scores",
    "conf",
)
"""Usual beginnings of the columns of scores, a column a class; "_", ".", ":", "/", "-" or a space follows."""

LISTS = (
    "scores",
    "probabilities",
    "probs",
    "logits",
    "pred_scores",
    "pred_score",
    "score",
    "probability",
    "prob",
    "logit",
)
"""Usual names of one column with all scores of a row, as a list or by class."""

OTHERS = frozenset({
    "frames", "num_frames", "total_frames", "n_frames", "fps", "duration", "seconds", "length", "width", "height", "start",
    "end", "start_frame", "end_frame", "start_seconds", "end_seconds", "start_time", "end_time", "timestamp", "time",
    "latency", "latency_ms", "ms", "index", "idx", "row", "epoch", "step", "steps", "confidence", "score", "max_score",
    "top_score", "correct", "is_correct", "loss", "weight", "unnamed_0", "level_0", "size", "bytes",
})  # fmt: skip
"""Names of columns of numbers that are no scores of a class."""


class MissingColumn(UserError):
    """A column that was named, and that the file does not have."""


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns that a user gives; None: found by usual names."""

    video: str | None = None
    label: str | None = None
    """The truth."""
    answer: str | tuple[str, ...] | None = None
    """The answered class. Several: each is a model's, named as the column."""
    model: str | None = None
    seed: str | None = None
    group: str | None = None
    split: str | None = None
    view: str | None = None
    scores: str | tuple[str, ...] | None = None
    """Columns of the scores, a class each, or what their names begin with, or one column of lists."""

    @classmethod
    def of(cls, pairs: Sequence[str]) -> "Columns":
        """Columns as a command line names them: `label=gt`, `answer=tsm,i3d`. Raises UserError."""
        given: dict[str, str | tuple[str, ...]] = {}
        for pair in pairs:
            kind, sign, names = pair.partition("=")
            if not sign or not names:
                raise UserError(f"--column: '{pair}' names no column. Write what it holds and its name: label=gt")
            valid = [field.name for field in fields(cls)]
            if kind not in valid:
                raise UserError(f"--column: '{kind}' is not what a column can hold. {nearest(kind, valid)}")
            if kind in given:
                raise UserError(f"--column: '{kind}' is given twice. Give it once")
            several = tuple(names.split(",")) if kind in ("answer", "scores") else (names,)
            given[kind] = several if len(several) > 1 else names
        return cls(**given)  # type: ignore[arg-type]  # by the check of `kind`

    @property
    def answers(self) -> tuple[str, ...]:
        """The columns of answers that were named."""
        return _tuple(self.answer)

    @property
    def of_scores(self) -> tuple[str, ...]:
        """The columns of scores that were named, or their beginning."""
        return _tuple(self.scores)

    def named(self) -> tuple[str, ...]:
        """All names that must be columns as they are."""
        single = (self.video, self.label, self.model, self.seed, self.group, self.split, self.view)
        several = self.of_scores if len(self.of_scores) > 1 else ()
        return (*(name for name in single if name is not None), *self.answers, *several)


def _tuple(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else names


def plain(name: str) -> str:
    """A column's name as usual names are compared: small letters, and "_" for what parts words."""
    return re.sub(r"[\s\-.:/]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())).lower().strip("_")


def found(kind: str, names: Sequence[str]) -> str | None:
    """The column that holds something by its usual names: the first of them that is there."""
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(plain(name), name)
    return next((by_plain[usual] for usual in USUAL[kind] if usual in by_plain), None)


def prefixed(names: Sequence[str], prefix: str) -> list[str]:
    """The columns whose name begins with a prefix, and has more than that."""
    return [name for name in names if name.startswith(prefix) and len(name) > len(prefix)]


def usual_prefixes(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns by the usual beginning of scores that they have; of two columns at least."""
    pattern = re.compile(rf"(?:{'|'.join(sorted(PREFIXES, key=len, reverse=True))})[_.:/\- ]+", re.IGNORECASE)
    by_prefix: dict[str, list[str]] = {}
    for name in names:
        match = pattern.match(name)
        if match and match.end() < len(name):
            by_prefix.setdefault(match[0], []).append(name)
    return {prefix: several for prefix, several in by_prefix.items() if len(several) > 1}
