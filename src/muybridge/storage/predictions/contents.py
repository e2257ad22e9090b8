"""Predictions of a file, whatever its format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from muybridge.errors import UserError


@dataclass(frozen=True, repr=False)
class Predictions:
    """Answers of one model, of one seed where there are several: a row a video, or a row a view of a video.

    Nothing is matched with a truth yet. Names are as the file has them.
    """

    path: str
    """The file, as it was named."""
    format: str
    """Name of its format, e.g. "csv" or "mmaction"."""
    videos_R: np.ndarray
    """(R,) str: what the file calls the video of each row; several rows of one video are its views."""
    scores_RC: np.ndarray | None
    """(R,C) float: a score a class, as the file has them; None where it has answers alone."""
    answers_R: np.ndarray | None
    """(R,) the answered class, a name (str) or a number of `classes` (int); None where the highest score tells it."""
    labels_R: np.ndarray | None = None
    """(R,) the true class, a name (str) or a number (int); -1 or an empty name: not known; None: not in the file."""
    groups_R: np.ndarray | None = None
    """(R,) str: group (person, recording) of each row's video; None where the file does not have it."""
    classes: tuple[str, ...] | None = None
    """Names of the classes in the order of the scores and numbers; None where the file has numbers alone."""
    model: str | None = None
    """Name of the model, where the file tells it."""
    seed: int | None = None
    """Seed or repetition, where the file tells it."""
    split: str | None = None
    """Number or name of the fold or split, where the file tells it."""
    average: Literal["logits", "probabilities"] | None = None
    """Quantity that is averaged over views, where the file tells it; the scores are logits then."""
    is_numbered: bool = False
    """Whether the file names no videos: `videos_R` are then their numbers in the test list, from 0."""
    are_text: bool = False
    """Whether the numbers of classes were text, and so may be names: "2" of the classes 0, 1, 10, 11, 2."""
    notes: tuple[str, ...] = ()
    """Whatever was read in a way that a user should know: guessed columns, rows without an answer, sums over views."""

    def __repr__(self) -> str:
        width = "answers" if self.scores_RC is None else f"{self.scores_RC.shape[1]} scores each"
        return f"Predictions({self.path}, {self.format}: {len(self.videos_R)} rows, {width})"

    def named(self, names: Sequence[str]) -> "Predictions":
        """The same with the names of a test list in the place of the videos' numbers.

        Raises UserError where the file names its videos itself, or the list has another number of them.
        """
        if not self.is_numbered:
            raise UserError(f"{self.path}: it names its videos itself. Leave the list of videos out")
        numbers_R = self.videos_R.astype(np.int64)
        if len(names) != numbers_R.max() + 1:
            raise UserError(
                f"{self.path}: it has answers to {numbers_R.max() + 1} videos, and the list has {len(names)}. Give the list "
                "that the test was made with"
            )
        return replace(self, videos_R=np.array(names, dtype=np.str_)[numbers_R], is_numbered=False)
