"""What a file of predictions says, whatever its format."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
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
    """(R,) the true class, a name (str) or a number (int; -1: not known); None where the file does not have it."""
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
    notes: tuple[str, ...] = ()
    """What was read in a way that a user should know: guessed columns, rows without a video, sums over views."""
