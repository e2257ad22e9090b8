"""Figures that predictions of other tools do not have, and the inputs that would give them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult, RunsResult
from muybridge.analysis.statistics import SEEDS_OF_A_CLAIM


@dataclass(frozen=True)
class Missing:
    """Figures that some models do not have."""

    figures: str
    models: tuple[str, ...]
    needs: str
    """The input that would give them."""

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        return asdict(self)


def missing(comparison: Comparison) -> list[Missing]:
    """Figures that predictions of other tools do not have; none where all rows are muybridge's own runs."""
    others = [model for model in comparison.models if not isinstance(model, RunsResult)]
    if not others:
        return []
    asked: list[tuple[str, Callable[[ModelResult], bool], str]] = [
        (
            "top-5, calibration, coverage, time-reversed pairs",
            lambda model: model.has_scores,
            "a score a class for every video, not its answer alone",
        ),
        ("clip top-1", lambda model: model.clip_accuracy is not None, "a row of scores for each view of a video"),
        (
            "results that hold for the model, not for these runs alone",
            lambda model: model.num_seeds >= SEEDS_OF_A_CLAIM,
            f"predictions of at least {SEEDS_OF_A_CLAIM} seeds: NAME=FILE NAME=FILE NAME=FILE",
        ),
        (
            "intervals over groups: videos of one person or recording count as independent",
            lambda model: bool((model.groups_N != "").any()),
            "a group for every video: a manifest with groups (--truth manifest.csv), or a column `group`",
        ),
        (
            "the most common class of training, as a baseline",
            lambda model: all("train" in (dataset.class_sizes or {}) for dataset, _ in model.tested),
            "a manifest with the training videos: --truth manifest.csv",
        ),
        (
            "frames of the videos on which models disagree",
            lambda model: bool(model.manifests),
            "a manifest of the videos: --truth manifest.csv",
        ),
        (
            "cost, learning curves, protocol, dependence on time",
            lambda model: False,
            "a run of muybridge's: its folder, named beside the files",
        ),
    ]
    found = []
    for figures, has, needs in asked:
        lacking = tuple(model.name for model in others if not has(model))
        if lacking:
            found.append(Missing(figures, lacking, needs))
    return found
