"""mteb's predictions of a classification: `prediction_folder`, a JSON file a task.

An object with `mteb_model_meta`, and by subset and split either the answers of each experiment (a list of lists), or of
zero-shot classification the scores of each video.
"""

from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.predictions.contents import Predictions


def is_predictions(value: Any) -> bool:
    """Whether a value is such an object, or mteb's figures of a task."""
    return isinstance(value, dict) and (
        "mteb_model_meta" in value or {"task_name", "scores", "mteb_version"} <= set(value)
    )


def of_value(path: str, value: Any) -> list[Predictions]:
    """Predictions of it: one a split and experiment. Raises UserError."""
    if not isinstance(value, dict) or "mteb_model_meta" not in value:
        raise UserError(
            f"{path}: it has figures of mteb, and no predictions. Evaluate again with prediction_folder, and give the file in it"
        )
    about = value["mteb_model_meta"]
    model = about.get("model_name") if isinstance(about, dict) else None
    made = []
    subsets = {name: splits for name, splits in value.items() if name != "mteb_model_meta"}
    for subset, splits in subsets.items():
        if not isinstance(splits, dict):
            raise _foreign(path, subset)
        for split, entries in splits.items():
            name = split if len(subsets) == 1 else f"{subset}/{split}"
            made += _of_split(path, name, entries, model if isinstance(model, str) else None)
    if not made:
        raise UserError(f"{path}: it has no predictions. Evaluate again with prediction_folder")
    return made


def _of_split(path: str, split: str, entries: Any, model: str | None) -> list[Predictions]:
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, list) and entry for entry in entries):
        raise _foreign(path, split)
    if len({len(entry) for entry in entries}) > 1:
        raise UserError(f"{path}: '{split[:60]}' has lists of different lengths. Write the file again")
    kinds = {type(answer) for entry in entries for answer in entry}
    common: dict[str, Any] = {"path": path, "format": "mteb", "model": model, "split": split, "is_numbered": True}
    if float in kinds and kinds <= {int, float}:
        try:
            scores_RC = np.array(entries, dtype=np.float64)
        except OverflowError:
            raise _foreign(path, split) from None
        if not np.isfinite(scores_RC).all() or scores_RC.shape[1] < 2:
            row = int((~np.isfinite(scores_RC).all(1)).argmax())
            raise UserError(f"{path}: the scores of video {row} in '{split[:60]}' are not finite. Correct them")
        return [Predictions(**common, videos_R=_numbers(len(entries)), scores_RC=scores_RC, answers_R=None)]
    if kinds == {int} and all(abs(answer) < 10**9 for entry in entries for answer in entry):
        answers = [np.array(entry, dtype=np.int64) for entry in entries]
    elif kinds == {str}:
        answers = [np.array(entry, dtype=np.str_) for entry in entries]
    else:
        raise _foreign(path, split)
    note = ("each experiment of mteb is taken as a seed",) if len(entries) > 1 else ()
    return [
        Predictions(
            **common, videos_R=_numbers(len(one)), scores_RC=None, answers_R=one, notes=note,
            seed=seed if len(entries) > 1 else None,
        )
        for seed, one in enumerate(answers)
    ]  # fmt: skip


def _numbers(count: int) -> np.ndarray:
    return np.arange(count).astype(np.str_)


def _foreign(path: str, name: str) -> UserError:
    return UserError(
        f"{path}: '{str(name)[:60]}' has no answers of a classification. Give the predictions of such a task"
    )
