"""What a file of predictions says, whatever its format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """(R,) the answered class, a name (str) or a number of `classes` (int); None where the scores tell it."""
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
    is_numbered: bool = False
    """Whether the file names no videos: `videos_R` are then the numbers of its rows, from 0, in the order of the test list."""
    notes: tuple[str, ...] = ()
    """What was read in a way that a user should know: guessed columns, rows without an answer, sums over views."""

    def __repr__(self) -> str:
        width = "answers" if self.scores_RC is None else f"{self.scores_RC.shape[1]} scores each"
        return f"Predictions({self.path}, {self.format}: {len(self.videos_R)} rows, {width})"

    def named(self, names: Sequence[str]) -> "Predictions":
        """The same with the names of a test list in the place of the rows' numbers.

        Raises UserError where the file names its videos itself, or the list has another number of them.
        """
        if not self.is_numbered:
            raise UserError(f"{self.path}: it names its videos itself. Leave the list of videos out")
        if len(names) != len(self.videos_R):
            raise UserError(
                f"{self.path}: it has answers to {len(self.videos_R)} videos, and the list has {len(names)}. Give the list "
                "that the test was made with"
            )
        return replace(self, videos_R=np.array(names, dtype=np.str_), is_numbered=False)
