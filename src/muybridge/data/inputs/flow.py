"""Stacks of optical flow, as a store of it holds them (`muybridge flow`).

Two streams (Simonyan and Zisserman 2014, section 3.1), TSN (Wang et al. 2016, section 3.1) and I3D (Carreira and Zisserman
2017, section 2.4) take flow this way.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from muybridge.data.inputs.base import Input
from muybridge.errors import UserError

if TYPE_CHECKING:
    import torch

    from muybridge.data.manifest import Manifest
    from muybridge.data.transforms import Box, Jitter
    from muybridge.video import VideoInfo

STACK = 5
"""TSN's length of a stack. I3D's is 1."""


class Flow(Input):
    """Each time step is L fields of motion that follow each other, 2 L channels: x and y of the first, x and y of the next.

    Fields are read as codes of 1 to 255 (`muybridge.video.fields`), and cut and scaled as codes about 0: no motion is 0 from
    then on. The network gets code / 255 / std, by the deviation of its own preprocessing. At .5, the usual one of a network
    of such channels, that is -.996 to .996, I3D's range. At .226, the mean of ImageNet's, which weights of pictures bring
    along, it is TSN's.
    """

    read_channels = 2
    clip_dtype = scaled_dtype = np.float16
    frame_called = "field"
    shows_stills = False
    store = "flow MANIFEST --out STORE"

    def __init__(self, name: str, about: str, meaning: str, stack: int = STACK) -> None:
        self.name, self.about, self.meaning = name, about, meaning
        self.stack, self.step_frames, self.channels = stack, stack, 2 * stack

    def stacked(self, stack: int) -> "Flow":
        """The input with stacks of another length."""
        return Flow(self.name, self.about, self.meaning, stack)

    def look(self, path: Path, look: "Callable[[Path], VideoInfo]") -> "VideoInfo":
        """Flow is not computed while it is asked for. Raises DecodeError."""
        from muybridge.video import DecodeError

        raise DecodeError(
            path, f"it is a video, and this network takes flow that is computed beforehand: make a store (muybridge "
            f"{self.store}), and evaluate the run on that store"
        )  # fmt: skip

    def fitted(self, frames_THWC: np.ndarray, box: "Box | None", size: int) -> np.ndarray:
        """The box of every field at (size,size), its vectors scaled as the box is, each axis by its own; float16 about 0."""
        import torch
        from torch.nn.functional import interpolate

        from muybridge.video import fields

        assert box is not None
        top, left, height, width = box
        cropped_THW2 = frames_THWC[:, top : top + height, left : left + width]
        x_T2HW = torch.from_numpy(np.ascontiguousarray(cropped_THW2)).permute(0, 3, 1, 2).float() - fields.ZERO
        if (height, width) != (size, size):
            x_T2HW = interpolate(x_T2HW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
            x_T2HW *= torch.tensor([size / width, size / height])[:, None, None]
        return x_T2HW.permute(0, 2, 3, 1).contiguous().numpy().astype(np.float16)

    def mirrored(self, x_BTHWC: "torch.Tensor") -> "torch.Tensor":
        """The mirror images of fields, which move the other way along x."""
        return super().mirrored(x_BTHWC) * x_BTHWC.new_tensor([-1, 1])

    def recoloured(self, x_BTHWC: "torch.Tensor", jitter: "Jitter") -> "torch.Tensor":
        """Fields as they are: motion has no colours."""
        return x_BTHWC

    @property
    def has_colours(self) -> bool:
        """Motion has none."""
        return False

    def rotated(self, x_BTHWC: "torch.Tensor", degrees_B: "torch.Tensor") -> "torch.Tensor":
        """Fields turned about their centre, counter-clockwise, and each vector with them."""
        turned_BTHWC = super().rotated(x_BTHWC, degrees_B)
        angle_B = degrees_B.deg2rad()[:, None, None, None]
        x_BTHW, y_BTHW = turned_BTHWC.unbind(4)
        cos, sin = angle_B.cos(), angle_B.sin()
        turned_BTHWC[..., 0], turned_BTHWC[..., 1] = x_BTHW * cos + y_BTHW * sin, y_BTHW * cos - x_BTHW * sin
        return turned_BTHWC

    def steps(self, x_BLTHWC: "torch.Tensor") -> "torch.Tensor":
        """The fields of each time step one after the other as channels."""
        return x_BLTHWC.permute(0, 1, 3, 4, 2, 5).flatten(4)

    def offset(self, mean: Sequence[float]) -> Sequence[float]:
        """Zeros: no motion, also of fields whose camera moves."""
        return [0.0] * len(mean)

    def shown(self, frames_THWC: np.ndarray) -> np.ndarray:
        """Fields in the colours of Baker et al. 2011, (T,H,W,3) uint8, of each time step the last."""
        from muybridge.video import flow_colours

        last_THW2 = frames_THWC[self.step_frames - 1 :: self.step_frames].astype(np.float32)
        return flow_colours.coloured(last_THW2, flow_colours.longest(last_THW2))


INPUT = Flow(
    "flow",
    "stacks of optical flow",
    "clip.stack fields of optical flow that follow each other, as channels, of a store that `muybridge flow` makes (TSN: 5 "
    "fields, 10 channels; I3D: 1 field, 2 channels)",
)


def fields_of(manifest: "Manifest") -> str:
    """Name of the input that a manifest's fields of motion are: "flow", or "warped_flow"; empty for other files.

    Raises UserError where they differ, or where only some files are fields.
    """
    from muybridge.video import DecodeError, packs

    def channels(file: str) -> int:
        try:
            return packs.num_channels(file)
        except DecodeError:  # whoever reads it says so
            return 0

    paths = np.unique(manifest.columns["path"])
    of_packs = [str(manifest.root / path.decode()) for path in paths if path.endswith(packs.SUFFIX.encode())]
    channels_of = {file: channels(file) for file in of_packs}
    of_fields = [file for file, count in channels_of.items() if count == 2]
    if not of_fields:
        return ""
    if len(paths) > len(of_fields) + sum(count == 0 for count in channels_of.values()):
        raise UserError("videos: some are fields of motion, and some are pictures. Make two manifests of them")
    told: dict[tuple[bool, Any], str] = {}
    for file in {str(Path(file).parent): file for file in of_fields}.values():  # a store is of one kind
        about = packs.about(file)
        told[bool(about.get("warped")), about.get("bound")] = file
    if len(told) > 1:
        shown = "; ".join(f"{file}: warped {warped}, bound {bound}" for (warped, bound), file in list(told.items())[:2])
        raise UserError(f"videos: their fields of motion are not alike ({shown}). Make one manifest of each")
    return "warped_flow" if next(iter(told))[0] else INPUT.name
