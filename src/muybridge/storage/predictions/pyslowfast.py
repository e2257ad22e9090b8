"""PySlowFast's results: `TEST.SAVE_RESULTS_PATH`, a pickle of the scores of all videos and their labels.

Scores are sums over the views of a video (or maxima, by `DATA.ENSEMBLE_METHOD`), in the order of the test list.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.predictions.records import of_arrays
from muybridge.storage.predictions.table import Table
from muybridge.text import listed, plural


def is_results(value: Any) -> bool:
    """Whether a value is such a pair."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    scores, labels = value
    return (
        isinstance(scores, np.ndarray)
        and isinstance(labels, np.ndarray)
        and scores.ndim == 2
        and scores.shape[:1] == labels.shape[:1]
        and (labels.ndim == 1 or (labels.shape == scores.shape and labels.dtype.kind in "iu"))
    )


def table(path: str, value: Any) -> Table:
    """A table of it. Raises UserError where videos have several labels."""
    if not is_results(value):
        raise UserError(
            f"{path}: not a pair of scores and labels, as PySlowFast writes it. Give the file of TEST.SAVE_RESULTS_PATH"
        )
    scores_NC, labels_N = value
    if labels_N.ndim != 1:
        raise UserError(
            f"{path}: its videos have several labels each. Give the results of a test with one class a video"
        )
    seen_N = (scores_NC != 0).any(1)
    notes = ["scores are sums over views, as PySlowFast keeps them"]
    if not seen_N.any():
        raise UserError(f"{path}: all scores are zero: the test has reached no video. Give the results of a whole test")
    if not seen_N.all():
        missing = [str(number) for number in np.flatnonzero(~seen_N)]
        notes.append(
            f"{plural(len(missing), 'video')} have scores of zero alone, as no view was tested: numbers {listed(missing)}"
        )
    videos = np.arange(len(seen_N)).astype(np.str_)
    arrays = {"video": videos[seen_N], "scores": scores_NC[seen_N], "label": labels_N[seen_N]}
    return replace(of_arrays(path, "pyslowfast", arrays), is_numbered=True, notes=tuple(notes))
