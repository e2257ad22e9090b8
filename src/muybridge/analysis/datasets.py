"""The data set of runs: its manifest where it still is the one they were trained on, else what the runs store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.overview import Overview, overview
from muybridge.errors import UserError
from muybridge.recipe import Data
from muybridge.storage.run import Run

FEW = 5
"""Videos of a class below which its accuracy says next to nothing."""


@dataclass(frozen=True)
class Dataset:
    """Sizes of a run's data set, and its overview where its manifest is still there."""

    split_sizes: Mapping[str, int]
    class_sizes: Mapping[str, np.ndarray] | None
    """(K,) videos of each class, by split; None: neither stored nor to be had from the manifest."""
    overview: Overview | None
    problem: str = ""
    """Reason for which it has no overview."""
    sha256: str | None = None
    """Hash of the manifest that the run was trained with, as `muybridge verify` prints it."""
    features: Mapping[str, Any] | None = None
    """Origin of the stored vectors that the runs were trained on, and their change along a video; None for videos."""
    official_splits: tuple[int, ...] = ()
    """Numbers of the official splits, of which its fold is one; none of any other set."""

    @staticmethod
    def of(run: Run) -> "Dataset":
        """Data set of a run, of its fold. Raises UserError for a damaged dataset.json."""
        stored = run.dataset()
        data = run.recipe().data
        known, problem = _described(data)
        sizes = stored.get("class_sizes") or (None if known is None else known.class_sizes)
        counts = None if sizes is None else {split: np.array(of_split) for split, of_split in sizes.items()}
        return Dataset(
            stored["split_sizes"], counts, known, problem, data.sha256, stored.get("features"),
            tuple(stored.get("official_splits", ())),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        return {
            "split_sizes": dict(self.split_sizes),
            "class_sizes": None if self.class_sizes is None
            else {split: counts_K.tolist() for split, counts_K in self.class_sizes.items()},
            "overview": None if self.overview is None else self.overview.as_json()["splits"], "problem": self.problem,
            "sha256": self.sha256,
        }  # fmt: skip


def _described(data: Data) -> tuple[Overview | None, str]:
    """Overview by the manifest, or the reason for which it has none."""
    path = data.manifest or ""
    try:
        manifest = Manifest.load(path)
        if manifest.sha256() != data.sha256:
            return None, f"{path} has changed since"
        return overview(manifest, Path(path), data.fold), ""
    except (UserError, OSError) as error:
        return None, str(error)
