"""Changes of pixels: crop and resize in the worker (uint8 in and out), jitter and normalisation on the device.

`Input.to_model` runs the second half on the device: mirror, colours, rotation, time steps, normalisation.
Frames are (T,H,W,C); a box is (top, left, height, width) in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

Box = tuple[int, int, int, int]

MULTISCALE = (1.0, 0.875, 0.75, 0.66)

MIRRORED_FROM = 5
"""Number of the first mirrored test crop."""


def multiscale_box(height: int, width: int, generator: np.random.Generator) -> Box:
    """Draw a box of TSN's corner cropping (Wang et al. 2016, section 4.2, in the form of their code).

    Each side is the short side times 1, .875, .75 or .66, the two at most one step apart, at one of 13 fixed points.
    """
    base = min(height, width)
    steps = [(i, j) for i in range(len(MULTISCALE)) for j in range(len(MULTISCALE)) if abs(i - j) <= 1]
    i, j = steps[generator.integers(len(steps))]
    h, w = round(base * MULTISCALE[i]), round(base * MULTISCALE[j])
    quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)]
    down, right = quarters[generator.integers(len(quarters))]
    return (height - h) * down // 4, (width - w) * right // 4, h, w


def random_box(
    height: int,
    width: int,
    size: int,
    generator: np.random.Generator,
    *,
    short_sides: tuple[int, int] | None = None,
) -> Box:
    """Draw a square of `size` pixels (of the short side, where that is smaller) at a random position.

    With `short_sides` it is `size` pixels of a frame scaled to a short side S, a whole number drawn evenly from those
    two and all between (Simonyan & Zisserman 2015, section 3.1; 256 to 320 in Feichtenhofer et al. 2019, section 4).
    The frame is not scaled: the square is cut as min(height, width) × `size` / S of its own pixels, and resized once.
    """
    if short_sides is not None:
        low, high = short_sides
        size = max(1, round(min(height, width) * size / int(generator.integers(low, high + 1))))
    side = min(size, height, width)
    top = int(generator.integers(height - side + 1))
    left = int(generator.integers(width - side + 1))
    return top, left, side, side


def test_boxes(height: int, width: int, *, num_crops: int, crop_fraction: float) -> list[Box]:
    """Test crops: squares of `crop_fraction` of the short side, the centre first.

    So the one crop is among the 3, 5 and 10, and the 5 are among the 10.

    1: centre; 3: centre, then start and end of the longer side; 5: centre, then top left, top right, bottom left, bottom
    right; 10: these five, and again in this order: the crops from MIRRORED_FROM on are shown mirrored.
    """
    side = max(1, round(min(height, width) * crop_fraction))
    down, right = height - side, width - side
    center = (down // 2, right // 2)
    if num_crops == 1:
        corners = [center]
    elif num_crops == 3:
        ends = [(down // 2, 0), (down // 2, right)] if width >= height else [(0, right // 2), (down, right // 2)]
        corners = [center, *ends]
    else:
        corners = [center, (0, 0), (0, right), (down, 0), (down, right)] * (num_crops // MIRRORED_FROM)
    return [(top, left, side, side) for top, left in corners]


def crop_resize(frames_THWC: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut the box from every frame and resize it to (size,size), bilinear with anti-aliasing."""
    top, left, height, width = box
    cropped = frames_THWC[:, top : top + height, left : left + width]
    if (height, width) == (size, size):
        return np.ascontiguousarray(cropped)
    x_TCHW = torch.from_numpy(np.ascontiguousarray(cropped)).permute(0, 3, 1, 2)  # channels-last: the fast uint8 path
    resized = F.interpolate(x_TCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())


@dataclass(frozen=True)
class Jitter:
    """Colour and rotation draws for the clips of a batch, each (B,) float32, or None where switched off."""

    brightness_B: torch.Tensor | None = None
    contrast_B: torch.Tensor | None = None
    saturation_B: torch.Tensor | None = None
    """Factors; 1 changes nothing."""
    hue_turns_B: torch.Tensor | None = None
    """Turns around the colour circle."""
    rotation_degrees_B: torch.Tensor | None = None
    """Counter-clockwise."""


def normalised(x_BTHWC: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Map values of 0 … 255 to (x / 255 - mean) / std; x_BCTHW float32 whose memory is channels-last."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=x_BTHWC.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=x_BTHWC.device)
    width, channels = x_BTHWC.shape[3:]
    scale_R, shift_R = (values.expand(channels).repeat(width) for values in (scale, shift))
    x_BTHR = x_BTHWC.flatten(3) * scale_R + shift_R  # whole rows: a CPU is slow at three values at a time
    return x_BTHR.unflatten(3, (width, channels)).permute(0, 4, 1, 2, 3)


def recolored(x_BTHWC: torch.Tensor, jitter: Jitter) -> torch.Tensor:
    """Apply brightness b, contrast c, saturation s and hue h, in this order, to whole clips.

    RGB of 0 … 255 in, float32 out.

    Each of the first three results is cut to 0 … 255, with gray = .299 R + .587 G + .114 B:
    x ← b x; x ← c x + (1 - c) mean(gray); x ← s x + (1 - s) gray. The hue of HSV turns by h, value and saturation stay.
    These are the formulae of torchvision's ColorJitter, but the mean is that of the whole clip, so that what stands
    still keeps its colour, and the order is fixed.
    """
    x_BTHWC = x_BTHWC.float()
    if jitter.brightness_B is not None:
        x_BTHWC = (_per_clip(jitter.brightness_B) * x_BTHWC).clamp(0, 255)
    if jitter.contrast_B is not None:
        x_BTHWC = _blend(x_BTHWC, _gray(x_BTHWC).mean((1, 2, 3, 4), keepdim=True), jitter.contrast_B)
    if jitter.saturation_B is not None:
        x_BTHWC = _blend(x_BTHWC, _gray(x_BTHWC), jitter.saturation_B)
    if jitter.hue_turns_B is not None:
        x_BTHWC = _turn_hue(x_BTHWC, _per_clip(jitter.hue_turns_B))
    return x_BTHWC


def _per_clip(values_B: torch.Tensor) -> torch.Tensor:
    return values_B[:, None, None, None, None]


def _gray(x_BTHWC: torch.Tensor) -> torch.Tensor:
    return (x_BTHWC * x_BTHWC.new_tensor([0.299, 0.587, 0.114])).sum(4, keepdim=True)


def _blend(x_BTHWC: torch.Tensor, other: torch.Tensor, share_B: torch.Tensor) -> torch.Tensor:
    share = _per_clip(share_B)
    return (share * x_BTHWC + (1 - share) * other).clamp(0, 255)


def _turn_hue(x_BTHWC: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue: RGB to hue, value and chroma (largest minus smallest) and back."""
    red, green, blue = x_BTHWC.unbind(4)
    value, chroma = x_BTHWC.amax(4), x_BTHWC.amax(4) - x_BTHWC.amin(4)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red, (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )  # fmt: skip
    starts = x_BTHWC.new_tensor([5.0, 3.0, 1.0])  # where on the circle red, green and blue fall
    position = (starts + sixths[..., None] + 6 * turns) % 6
    return value[..., None] - chroma[..., None] * torch.minimum(position, 4 - position).clamp(0, 1)


def rotated(x_BTHWC: torch.Tensor, degrees_B: torch.Tensor) -> torch.Tensor:
    """Rotate whole clips about their centre, counter-clockwise; bilinear, black outside; float32."""
    num_clips, num_frames, height, width, channels = x_BTHWC.shape
    cos, sin = degrees_B.deg2rad().cos(), degrees_B.deg2rad().sin()
    zero = torch.zeros_like(cos)
    # output to source position, both in -1 … 1 along each side
    rows = [torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1)]
    grid_BHW2 = F.affine_grid(torch.stack(rows, 1), [num_clips, 1, height, width], align_corners=False)
    x_BNHW = x_BTHWC.float().permute(0, 1, 4, 2, 3).reshape(num_clips, -1, height, width)
    turned = F.grid_sample(x_BNHW, grid_BHW2, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.unflatten(1, (num_frames, channels)).permute(0, 1, 3, 4, 2).contiguous()
