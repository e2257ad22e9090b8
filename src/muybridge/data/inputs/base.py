"""Input: what a clip is made of. It says how frames are read and collated, what a mirror image is, what the network gets.

Shapes: T time steps of L frames each; pictures are (T·L,H,W,C) uint8 as they are read, vectors (T,D) floats.

torch is imported by the methods that compute, so that recipes and reports, which only read the table, need none.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from muybridge.errors import UserError

if TYPE_CHECKING:
    import torch

    from muybridge.data.transforms import Box, Jitter
    from muybridge.video import Reader, VideoInfo


class Input:
    """Frames of a video as a network sees them; a subclass says what is different."""

    name: str
    formerly: str = ""
    """Its name in recipes of earlier versions."""
    about: str
    """The content of a clip, for a sentence: "frames"."""
    meaning: str
    """The definition of the input, for the help."""
    step_frames: int = 1
    """Frames of the video that make one time step."""
    frame_called: str = "frame"
    """Word for what is read at a time."""
    stack: int | None = None
    """Differences, or fields of motion, that lie in one time step (`clip.stack`); None: not a stack."""
    store: str = ""
    """The command that makes what it is read from, with its arguments; empty for the videos themselves."""
    channels: int = 3
    """Values of a pixel (or of a vector) in one time step, as the network gets it."""
    read_channels: int = 3
    """Values of a pixel (or of a vector) as it is read."""
    dtype: type[np.generic] = np.uint8
    """Type of the values as they are read."""
    scaled_dtype: type[np.generic] | None = None
    """Type of the values where they are scaled while they are read (`clip.short_side`); None: the same."""
    clip_dtype: type[np.generic] | None = None
    """Type of the values as `fitted` gives them; None: as they are read."""
    is_picture: bool = True
    """Pictures are cropped, scaled, mirrored, recoloured and rotated; vectors are taken as they are."""
    is_in_place: bool = False
    """Its reader reads stored rows where they lie: nothing is gained by a cache or by worker processes."""
    time_axis: int = 2
    """The axis of time in what the network takes."""
    shows_stills: bool = True
    """Does one frame, held, show what a frame shows? No: a time step shows motion."""

    def stacked(self, stack: int) -> "Input":
        """The input with stacks of another length. Raises UserError for an input without stacks."""
        raise UserError(f"clip.stack: input '{self.name}' has no stacks. Leave it out")

    @property
    def step_called(self) -> tuple[str, str]:
        """A time step in words, and several of them."""
        frames = f"{self.frame_called}s"
        if self.step_frames == 1:
            return self.frame_called, frames
        return f"stack of {self.step_frames} {frames}", f"stacks of {self.step_frames} {frames}"

    @property
    def has_colours(self) -> bool:
        """Whether brightness, contrast, saturation and hue can change: in red, green, blue, or by a `recoloured` of its own."""
        return self.is_picture and (self.read_channels == 3 or type(self).recoloured is not Input.recoloured)

    def look(self, path: Path, look: "Callable[[Path], VideoInfo]") -> "VideoInfo":
        """Length, rate and size of what a path names. `look`: the function that looks into a video. Raises DecodeError."""
        return look(path)

    def reader(self, pixels: "Reader") -> "Reader":
        """The reader of this input. `pixels` reads the frames of videos as uint8 (T,H,W,3)."""
        return pixels

    def frame_bytes(self, width_N: np.ndarray, height_N: np.ndarray) -> np.ndarray | int:
        """Memory that one frame of each of N videos takes, as it is read."""
        return width_N * height_N * self.read_channels * np.dtype(self.dtype).itemsize

    def fitted(self, frames_THWC: np.ndarray, box: "Box | None", size: int) -> np.ndarray:
        """The box of every frame at (size,size); vectors as they are."""
        from muybridge.data.transforms import crop_resize

        return crop_resize(frames_THWC, box, size) if box is not None else frames_THWC

    def collated(self, clips: Sequence[np.ndarray]) -> "torch.Tensor":
        """Clips as one tensor."""
        import torch

        return torch.from_numpy(np.stack(clips))

    def mirrored(self, x_BTHWC: "torch.Tensor") -> "torch.Tensor":
        """The mirror images of frames."""
        return x_BTHWC.flip(3)

    def recoloured(self, x_BTHWC: "torch.Tensor", jitter: "Jitter") -> "torch.Tensor":
        """Frames of red, green and blue in other colours; an input of other channels writes its own."""
        from muybridge.data.transforms import recolored

        return recolored(x_BTHWC, jitter)

    def rotated(self, x_BTHWC: "torch.Tensor", degrees_B: "torch.Tensor") -> "torch.Tensor":
        """Clips turned about their centre, counter-clockwise."""
        from muybridge.data.transforms import rotated

        return rotated(x_BTHWC, degrees_B)

    def steps(self, x_BLTHWC: "torch.Tensor") -> "torch.Tensor":
        """(B,T,H,W,C): a time step of the L frames that it is made of. x is (B,T,L,H,W,C)."""
        return x_BLTHWC.flatten(1, 2)

    def offset(self, mean: Sequence[float]) -> Sequence[float]:
        """Values to subtract from those of 0 to 1, given the mean that the network's weights expect."""
        return mean

    def to_model(
        self,
        x_BTHWC: "torch.Tensor",
        flip_B: "torch.Tensor | None",
        *,
        mean: Sequence[float],
        std: Sequence[float],
        jitter: "Jitter | None" = None,
    ) -> "torch.Tensor":
        """Clips on the device, as they were read, to what the network takes.

        In this order: mirrored where `flip_B` says so, recoloured and rotated as `jitter` says, made time steps, scaled to
        0 … 1, normalised. Returns x_BCTHW float32 whose memory is channels-last, as convolutions like it.
        """
        import torch

        from muybridge.data.transforms import normalised

        if flip_B is not None:
            x_BTHWC = torch.where(flip_B[:, None, None, None, None], self.mirrored(x_BTHWC), x_BTHWC)
        if jitter is not None:
            x_BTHWC = self.recoloured(x_BTHWC, jitter)
            if jitter.rotation_degrees_B is not None:
                x_BTHWC = self.rotated(x_BTHWC, jitter.rotation_degrees_B)
        if self.step_frames > 1:
            x_BTHWC = self.steps(x_BTHWC.unflatten(1, (-1, self.step_frames)))
        return normalised(x_BTHWC, self.offset(mean), std)

    def zeros(self, batch_size: int, num_steps: int, size: int) -> "torch.Tensor":
        """A batch of clips of zeros, as they are collated."""
        import torch

        shape = (batch_size, num_steps * self.step_frames, size, size, self.read_channels)
        return torch.zeros(shape, dtype=getattr(torch, np.dtype(self.clip_dtype or self.dtype).name))

    def shown(self, frames_THWC: np.ndarray) -> np.ndarray:
        """A clip for human eyes: uint8 (T,H,W,3), of each time step the last frame.

        Its first three channels are shown; of fewer than three their mean, as gray.
        """
        last_THWC = frames_THWC[self.step_frames - 1 :: self.step_frames]
        if last_THWC.shape[-1] < 3:
            last_THWC = last_THWC.mean(-1, keepdims=True).round().astype(np.uint8).repeat(3, axis=-1)
        return last_THWC[..., :3]


class Vectors(Input):
    """Stored vectors of frames, (T,D) floats: no picture, so no crop, mirror image or colour."""

    dtype = np.float32
    is_picture = False
    time_axis = 1

    def frame_bytes(self, width_N: np.ndarray, height_N: np.ndarray) -> np.ndarray | int:
        """Memory that one vector takes."""
        return self.read_channels * np.dtype(self.dtype).itemsize

    def to_model(
        self,
        x_BTHWC: "torch.Tensor",
        flip_B: "torch.Tensor | None",
        *,
        mean: Sequence[float],
        std: Sequence[float],
        jitter: "Jitter | None" = None,
    ) -> "torch.Tensor":
        """(B,T·L,D) as f_BTD: the vectors of a time step side by side."""
        return x_BTHWC.float().unflatten(1, (-1, self.step_frames)).flatten(2)

    def zeros(self, batch_size: int, num_steps: int, size: int) -> "torch.Tensor":
        """A batch of zeros, as it is collated: (B,T·L,D)."""
        import torch

        shape = (batch_size, num_steps * self.step_frames, self.read_channels)
        return torch.zeros(shape, dtype=getattr(torch, np.dtype(self.dtype).name))
