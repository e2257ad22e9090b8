"""MMAction2's dump of a test: `tools/test.py CONFIG CHECKPOINT --dump OUT.pkl`, and `--out` of the versions before 1.0.

A list in the order of the test list, an entry a video: a dictionary with `pred_score(s)`, `pred_label(s)`, `gt_label(s)` (in
1.0 and 1.1 each in a dictionary under `item`), or an array of scores.
"""

from typing import Any

import numpy as np

from muybridge.storage.predictions.records import table_of
from muybridge.storage.predictions.table import Table


def is_dump(value: Any) -> bool:
    """Whether a value is such a list."""
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    if isinstance(first, dict):
        return any(name in first for name in ("pred_score", "pred_scores", "pred_label", "pred_labels"))
    return isinstance(first, np.ndarray) and all(isinstance(entry, np.ndarray) for entry in value)


def table(path: str, value: Any) -> Table:
    """A table of it. Raises UserError."""
    return table_of(path, "mmaction", value)
