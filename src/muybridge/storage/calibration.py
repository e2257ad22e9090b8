"""Calibration of a run: a temperature for its probabilities, and the probability below which it answers "unknown".

`muybridge calibrate` fits both on val and writes RUN/calibration.json (format: docs/formats.md). Whatever answers applies
them by `Calibrated`. NumPy only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from muybridge.errors import UserError
from muybridge.runtime.files import sha256_file
from muybridge.storage.evaluations import val_file
from muybridge.storage.run import CALIBRATION_FILE, Run, pointed_by

UNKNOWN = "unknown"
"""Label of an answer that is not sure enough."""


@dataclass(frozen=True)
class Calibrated:
    """Temperature and threshold of answers. The default leaves probabilities as they are."""

    temperature: float = 1.0
    """Probabilities p become p^(1/T), normalised (Guo et al. 2017, section 4.2): above 1 less sure, below 1 surer."""
    threshold: float = 0.0
    """An answer whose probability is lower is "unknown"; 0: none is."""

    def probabilities(self, probabilities_NK: np.ndarray) -> np.ndarray:
        """(N,K) probabilities of videos at this temperature. The order of a video's classes stays."""
        return tempered(probabilities_NK, self.temperature)

    def is_unknown(self, probability: float) -> bool:
        """Whether a video is of no known class, by the highest of its `probabilities`."""
        return bool(probability < self.threshold)

    @classmethod
    def of(cls, run: Run) -> Self:
        """Calibration of a run; the default without one. Raises UserError where it is not of the run's weights."""
        kept = run.calibration()
        if kept is None:
            return cls()
        if (weights := weights_of(run)) != kept["weights"]:
            raise UserError(
                f"{run.path / CALIBRATION_FILE}: it is of {kept['weights']}, but the run answers with {weights}. Use "
                f"muybridge calibrate {run.path} to calibrate it again"
            )
        return cls.from_json(kept)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Calibration by the content of calibration.json."""
        threshold = kept["threshold"]
        return cls(kept["temperature"], 0.0 if threshold is None else threshold["value"])


def tempered(probabilities_NK: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Probabilities (N,K) at a temperature, or at one for each video (N,)."""
    temperature_N = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(probabilities_NK))
    if (temperature_N == 1).all():
        return probabilities_NK
    logs_NK = (
        np.log(np.maximum(probabilities_NK.astype(np.float64), np.finfo(np.float64).tiny)) / temperature_N[:, None]
    )
    powers_NK = np.exp(logs_NK - logs_NK.max(1, keepdims=True))
    tempered_NK: np.ndarray = powers_NK / powers_NK.sum(1, keepdims=True)
    return tempered_NK


def weights_of(run: Run) -> str:
    """Name of the checkpoint that a run answers with; empty for fused scores."""
    return "" if run.is_fused else pointed_by(run.checkpoints / run.recipe().evaluation.checkpoint)


def is_of_val_scores(run: Run, kept: Mapping[str, Any]) -> bool:
    """Whether the content of calibration.json is of the val scores that the run has, or the run has none any more."""
    file = val_file(run)
    return file is None or sha256_file(file) == kept["scores_sha256"]
