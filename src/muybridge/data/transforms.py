"""Where pixels change, first half: in the worker, uint8 in, uint8 out. Crop and resize to the one size of the batch.

The second half (mirror, float, normalise) runs on the device: `to_input`.
Frames are (T,H,W,C); a box is (top, left, height, width) in pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

Box = tuple[int, int, int, int]

MULTISCALE = (1.0, 0.875, 0.75, 0.66)


def multiscale_box(height: int, width: int, generator: np.random.Generator) -> Box:
    """TSN's corner cropping: each side is the short side times 1, .875, .75 or .66, the two at most one step apart; at
    one of 13 fixed points (Wang et al. 2016, section 4.2, in the form of their code)."""
    base = min(height, width)
    steps = [(i, j) for i in range(len(MULTISCALE)) for j in range(len(MULTISCALE)) if abs(i - j) <= 1]
    i, j = steps[generator.integers(len(steps))]
    h, w = round(base * MULTISCALE[i]), round(base * MULTISCALE[j])
    quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)]
    down, right = quarters[generator.integers(len(quarters))]
    return (height - h) * down // 4, (width - w) * right // 4, h, w


def random_box(height: int, width: int, size: int, generator: np.random.Generator) -> Box:
    """A square of `size` pixels anywhere (of the short side, where that is smaller)."""
    side = min(size, height, width)
    top = int(generator.integers(height - side + 1))
    left = int(generator.integers(width - side + 1))
    return top, left, side, side


def test_boxes(height: int, width: int, *, num_crops: int, crop_fraction: float) -> list[Box]:
    """Squares of `crop_fraction` of the short side: the centre one, or three along the longer side."""
    side = max(1, round(min(height, width) * crop_fraction))
    top, left = (height - side) // 2, (width - side) // 2
    if num_crops == 1:
        return [(top, left, side, side)]
    if width >= height:
        return [(top, x, side, side) for x in (0, left, width - side)]
    return [(y, left, side, side) for y in (0, top, height - side)]


def crop_resize(frames_THWC: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The box of every frame at (size,size), bilinear with anti-aliasing."""
    top, left, height, width = box
    cropped = frames_THWC[:, top : top + height, left : left + width]
    if (height, width) == (size, size):
        return np.ascontiguousarray(cropped)
    x_TCHW = torch.from_numpy(np.ascontiguousarray(cropped)).permute(0, 3, 1, 2)  # channels-last: the fast uint8 path
    resized = F.interpolate(x_TCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())


def to_input(
    x_BTHWC: torch.Tensor,
    flip_B: torch.Tensor | None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    snippet_frames: int = 1,
) -> torch.Tensor:
    """uint8 clips on the device to a model's input: mirrored where `flip_B` says so, scaled to 0 … 1, normalised.

    With snippets of two frames each time step is the second frame minus the first. Returns x_BCTHW float32 whose memory
    is channels-last, as convolutions like it.
    """
    if flip_B is not None:
        x_BTHWC = torch.where(flip_B[:, None, None, None, None], x_BTHWC.flip(3), x_BTHWC)
    if snippet_frames == 2:
        first, second = x_BTHWC.unflatten(1, (-1, 2)).float().unbind(2)
        x_BTHWC, mean = second - first, [0.0] * len(mean)
    scale = torch.tensor([1 / (255 * s) for s in std], device=x_BTHWC.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=x_BTHWC.device)
    return (x_BTHWC * scale + shift).permute(0, 4, 1, 2, 3)
