"""Calibration of a run on its val videos: the temperature of its probabilities, and when it answers "unknown"."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.analysis.calibration import (
    Rule,
    applied,
    choose_threshold,
    fit_temperature,
    parsed_threshold,
)
from muybridge.errors import UserError
from muybridge.recipe import Runtime
from muybridge.runtime.files import sha256_file
from muybridge.storage.calibration import Calibrated, weights_of
from muybridge.storage.evaluations import val_file
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores


@dataclass(frozen=True)
class Calibration:
    """Calibration of a run, and what it does on val."""

    run: Run
    content: Mapping[str, Any]
    """Content of calibration.json."""

    @property
    def temperature(self) -> float:
        """Temperature of the probabilities."""
        return float(self.content["temperature"])

    @property
    def threshold(self) -> float | None:
        """Probability below which the answer is "unknown"; None without one."""
        kept = self.content["threshold"]
        return None if kept is None else float(kept["value"])

    def as_json(self) -> dict[str, Any]:
        """Answer of `muybridge calibrate --json`."""
        return {"run": str(self.run.path), **self.content}


def calibrate(
    run: str | Path | Run,
    *,
    threshold: str | Mapping[str, float] | None = None,
    data: str | Path | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Calibration:
    """Fit a temperature to a finished run on val, and keep it in the run (`calibration.json`). Test is never read.

    Whatever answers with the run uses it then. `threshold`: "precision=0.95", the lowest probability above which that
    precision is sure on val, or "cost_wrong=5,cost_unknown=1", the one with the lowest mean cost; answers below are
    "unknown". "none" removes it; none given keeps the rule that there is, and applies it anew. The val scores that the run
    has are used. Where it has none, val is scored and kept: of its own manifest, or of that manifest at another place
    (`data`); for this alone are `allow_code` and `runtime`. Raises UserError, and then nothing is changed.
    """
    opened = Run.open(run, fused=True)
    opened.check_finished()
    if threshold is not None:
        rule = parsed_threshold(threshold)
    else:
        before = opened.calibration()
        rule = Rule.parsed(before["threshold"]["rule"]) if before and before["threshold"] else None
    file = _val_file(opened, data=data, allow_code=allow_code, runtime=runtime)
    scores = Scores.load(file)
    videos = scores.labelled()
    probabilities_NK, labels_N = scores.video_probabilities()[videos], scores.labels_N[videos]
    groups_N, correct_N = scores.groups_N[videos], scores.correct()[videos]
    temperature = fit_temperature(probabilities_NK, labels_N, groups_N)
    calibrated = Calibrated(temperature.value)
    confidence_N = calibrated.probabilities(probabilities_NK).max(1)
    on_val = applied(calibrated, scores)
    chosen = None if rule is None else choose_threshold(rule, confidence_N, correct_N, groups_N)
    opened.save_calibration({
        "temperature": temperature.value, "low": temperature.low, "high": temperature.high, "videos": len(videos),
        "sources": int((groups_N == "").sum()) + len(set(groups_N.tolist()) - {""}),
        **{name: on_val[name] for name in ("loss", "loss_before", "calibration_error", "calibration_error_before")},
        "checkpoint": opened.recipe().evaluation.checkpoint, "weights": weights_of(opened),
        "scores_sha256": sha256_file(file), "threshold": None if chosen is None else chosen.as_json(),
    })  # fmt: skip
    return Calibration(opened, opened.calibration() or {})


def _val_file(run: Run, *, data: str | Path | None, allow_code: bool, runtime: Runtime | None) -> Path:
    """Val scores that the run has; else they are made and kept. Raises UserError for a set without val."""
    there = val_file(run)
    if there is not None:
        if data is not None:
            raise UserError(f"--data: {there} has the val scores already. Leave it out")
        return there
    if not run.dataset()["split_sizes"].get("val"):
        raise UserError(
            f"{run.path}: its data set has no val videos, and test decides nothing. Prepare a set with a val split, and "
            "train on it"
        )
    from muybridge.evaluation.evaluate import prepared  # imports torch
    from muybridge.evaluation.trained import trained

    network = trained(run, runtime=runtime, allow_code=allow_code)
    with prepared(
        network, data=data, split="val", fold=network.recipe.data.fold, checkpoint=None, changes=None, runtime=runtime
    ) as task:
        if task.manifest.sha256() != network.recipe.data.sha256:
            raise UserError(f"--data: {task.data} is not the data set of {run.path}. Name its own manifest")
        scores = task.scores()["ordered"]
        if task.processes.is_first:
            run.save_scores("val", scores)
    return run.scores_file("val")
