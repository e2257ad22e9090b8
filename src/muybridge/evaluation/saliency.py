"""Saliency by occlusion: where and when a model looks.

Occlusion (Zeiler and Fergus 2014, section 2.1), in space and time: a cell of a grid in one time step, a whole time step,
or a cell in all of them becomes the model's mean colour (in differences of frames: standing still), and the drop of the
log probability of the predicted class is measured. Clip in, logits out: it works for every model.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from muybridge.data.inputs import RGB, Input
from muybridge.data.sampling import ClipSpec, test_indices
from muybridge.data.transforms import test_boxes
from muybridge.errors import UserError
from muybridge.evaluation.score import answer, testing
from muybridge.runtime.console import progress
from muybridge.runtime.device import Placement
from muybridge.video import Reader, Row
from muybridge.video.strips import PAPER, cells, heated, jpeg_bytes, strip
from muybridge.zoo import VideoModel

FORMAT_VERSION = 1
STRIP_HEIGHT = 112
"""Pixels of a frame in the image for human eyes; small frames are enlarged."""


@dataclass(frozen=True)
class View:
    """Clip of a video that is looked at: the middle one of an evaluation's, its centre crop."""

    frames_THWC: np.ndarray
    """(T·L,H,W,3) uint8, as the network sees them; those of a snippet one after another."""
    indices_TL: np.ndarray
    input: Input = RGB


def centre_view(
    reader: Reader, row: Row, spec: ClipSpec, *, input: Input, num_clips: int, size: int, crop_fraction: float
) -> View:
    """View of a row's middle clip. Raises DecodeError, and UserError for an input that is not an image."""
    if not input.is_picture:
        raise UserError(f"--video: it hides parts of images, and {input.name} has none. Leave it out")
    indices_TL = test_indices(row.num_frames, row.fps, spec, num_clips=num_clips)[(num_clips - 1) // 2]
    frames = reader.read(row, indices_TL.reshape(-1))
    box = test_boxes(frames.shape[1], frames.shape[2], num_crops=1, crop_fraction=crop_fraction)[0]
    return View(input.fitted(frames, box, size), indices_TL, input)


@dataclass(frozen=True)
class Saliency:
    """Drops of the predicted class's log probability; below zero it rises."""

    view: View
    predicted: int
    """Class index."""
    probability: float
    """Probability of the predicted class, for this one view."""
    drop_TGG: np.ndarray
    """(T,G,G) float32: drop when one cell of one time step is hidden."""
    drop_T: np.ndarray
    """(T,) float32: drop when a whole time step is hidden."""
    drop_GG: np.ndarray
    """(G,G) float32: drop when one cell is hidden in all time steps."""

    def npz(self, **known: object) -> bytes:
        """Bytes of a .npz file with everything; `known`: more arrays, of the video."""
        buffer = io.BytesIO()
        arrays = {name: np.asarray(value) for name, value in known.items()}
        np.savez(
            buffer, allow_pickle=False, format_version=FORMAT_VERSION, probability=self.probability,
            frames_THWC=self.view.frames_THWC, drop_TGG=self.drop_TGG, drop_T=self.drop_T, drop_GG=self.drop_GG,
            indices=self.view.indices_TL, **arrays,
        )  # fmt: skip
        return buffer.getvalue()

    def image(self) -> np.ndarray:
        """(H,W,3) frames, and below them the same with the heat of their cells. Of a snippet the last frame."""
        frames_THWC = self.view.input.shown(self.view.frames_THWC)
        height = max(STRIP_HEIGHT, frames_THWC.shape[1])
        above, below = (strip(f, height=height) for f in (frames_THWC, heated(frames_THWC, self.drop_TGG)))
        return np.concatenate([above, np.full_like(above[:2], PAPER), below])

    def jpg(self) -> bytes:
        """Image as JPEG."""
        return jpeg_bytes(self.image())


def saliency(
    model: VideoModel, view: View, *, where: Placement, grid: int, batch_size: int, text: str = "hiding"
) -> Saliency:
    """Measure where and when a model looks, `batch_size` clips at a time.

    Computed in the precision of the weights: the drop of one cell is often less than a step of bf16. The model is left in
    the mode it came in. Raises UserError for a grid that is finer than the pixels.
    """
    size = view.frames_THWC.shape[1]
    if not 1 <= grid <= size:
        raise UserError(f"--grid {grid}: out of range. Give 1 to {size} cells a side, as frames are {size} pixels wide")
    num_steps = len(view.indices_TL)
    clip_BTHWC = torch.from_numpy(view.frames_THWC)[None].to(where.device)
    mean, std = model.preprocessing.mean, model.preprocessing.std
    x_1CTHW = view.input.to_model(clip_BTHWC, None, mean=mean, std=std)
    hidden = list(_hidden(num_steps, size, grid))
    log_probabilities: list[np.ndarray] = []
    with progress(text, len(hidden)) as bar, testing(model), torch.inference_mode():

        def forward(x_BCTHW: torch.Tensor) -> np.ndarray:
            return torch.log_softmax(answer(model, x_BCTHW).double(), dim=1).cpu().numpy()

        whole_K = forward(x_1CTHW)[0]
        predicted = int(whole_K.argmax())
        for first in range(0, len(hidden), batch_size):
            parts = hidden[first : first + batch_size]
            x_BCTHW = x_1CTHW.expand(len(parts), -1, -1, -1, -1).clone(memory_format=torch.channels_last_3d)
            for index, (steps, rows, columns) in enumerate(parts):
                x_BCTHW[index, :, steps, rows, columns] = 0
            log_probabilities.append(forward(x_BCTHW)[:, predicted])
            bar.advance(len(parts))
    drops = (whole_K[predicted] - np.concatenate(log_probabilities)).astype(np.float32)
    of_cells, of_steps, of_positions = np.split(drops, [num_steps * grid**2, num_steps * grid**2 + num_steps])
    return Saliency(
        view=view,
        predicted=predicted,
        probability=float(np.exp(whole_K[predicted])),
        drop_TGG=of_cells.reshape(num_steps, grid, grid),
        drop_T=of_steps,
        drop_GG=of_positions.reshape(grid, grid),
    )


def _hidden(num_steps: int, size: int, grid: int) -> Iterator[tuple[slice, slice, slice]]:
    """Parts that are hidden together: each cell of each time step, each step, each cell of all steps."""
    edges = [*np.searchsorted(cells(size, grid), np.arange(grid)).tolist(), size]
    sides = [slice(start, end) for start, end in pairwise(edges)]
    steps = [slice(step, step + 1) for step in range(num_steps)]
    every = slice(None)
    yield from ((step, rows, columns) for step in steps for rows in sides for columns in sides)
    yield from ((step, every, every) for step in steps)
    yield from ((every, rows, columns) for rows in sides for columns in sides)
