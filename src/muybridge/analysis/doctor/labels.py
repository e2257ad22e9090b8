"""Suspicious labels: videos that a model, not trained on them, is sure are something else.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"),
section 3.1: a class's threshold is the mean probability of that class over the videos that are labelled so. A video whose
probability of another class reaches that class's threshold is counted there; here only where it is a half at least. Videos
are ranked by how much more probable the other class is.
"""

from collections.abc import Iterator

import numpy as np

from muybridge.data.doctor.finding import EXCLUDE, Case, Example, Finding
from muybridge.text import plural

MOST_EXAMPLES = 16
SURE = 0.5
"""Least probability of the other class: what a model is unsure of says nothing, however weak its class is."""


def suspicious(case: Case) -> Iterator[Finding]:
    """Finding on labels that look wrong."""
    if case.answers is None:
        return
    rows, other = issues(case.answers.probabilities_NK, case.labels_N)
    answered = int(np.isfinite(case.answers.probabilities_NK[:, 0]).sum())
    if not len(rows):
        yield Finding(
            "suspicious-labels", "note", f"Of {plural(answered, 'video')} no label looks wrong to {case.answers.source}.",
            figures={"answered": answered},
        )  # fmt: skip
        return
    chances_NK = case.answers.probabilities_NK
    examples = tuple(
        Example(
            (int(row),),
            f"{case.ids[row]}: labelled {case.label(row)} ({chances_NK[row, case.labels_N[row]]:.2f}), looks like "
            f"{case.manifest.classes[k]} ({chances_NK[row, k]:.2f})",
        )
        for row, k in zip(rows[:MOST_EXAMPLES], other, strict=False)
    )
    yield Finding(
        "suspicious-labels", "doubt",
        f"Wrong to {case.answers.source}, which is sure of something else: {plural(len(rows), 'label')} of {answered}. "
        "Look at them, the surest first. Mend the label, or leave the video out; delete the lines of those that are "
        "right.",
        EXCLUDE, tuple(int(row) for row in rows), examples, {"answered": answered},
    )  # fmt: skip


def issues(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label looks wrong, the surest first, and the class that each looks like. Rows of NaN are left out."""
    known = np.flatnonzero(np.isfinite(probabilities_NK).all(1))
    chances_MK, given_M = probabilities_NK[known], labels_N[known]
    threshold_K = np.array([
        chances_MK[given_M == k, k].mean() if (given_M == k).any() else np.inf for k in range(chances_MK.shape[1])
    ])  # fmt: skip
    reached_MK = np.where(chances_MK >= np.maximum(threshold_K, SURE), chances_MK, -np.inf)
    likely_M = reached_MK.argmax(1)
    own_M = chances_MK[np.arange(len(known)), given_M]
    is_issue_M = np.isfinite(reached_MK.max(1)) & (likely_M != given_M)
    margin_M = np.where(is_issue_M, reached_MK.max(1, initial=-np.inf) - own_M, -np.inf)
    order = np.argsort(-margin_M, kind="stable")[: int(is_issue_M.sum())]
    return known[order], likely_M[order]
