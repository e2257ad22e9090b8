"""Trackers: what a run measures, sent to TensorBoard, Weights & Biases or MLflow as well (the extra `track`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self


class Trackers:
    """The named trackers of one run."""

    def __init__(
        self, names: Sequence[str], *, project: str, name: str, folder: Path, config: Mapping[str, Any]
    ) -> None:
        self.names = names

    def log(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl: its numbers, as KIND/NAME at its step."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass
