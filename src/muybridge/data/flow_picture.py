"""A picture of a video's optical flow: frames, and below each its motion in colours."""

from pathlib import Path

import numpy as np

from muybridge.errors import UserError
from muybridge.runtime.files import within, write_atomic
from muybridge.video import DecodeError, Row, strips
from muybridge.video import flow as methods
from muybridge.video.safe import SafeReader

MOST_FRAMES = 8
"""Frames that are shown, evenly along the video."""
HEIGHT = 160
"""Pixels of a frame in the picture."""


def flow_picture(
    video: str | Path,
    *,
    out: str | Path,
    method: str = "dis",
    short_side: int | None = 256,
    frame_distance: int = 1,
    warped: bool = False,
) -> Path:
    """Write a JPEG of frames of a video with the flow from each to the one `frame_distance` later, and its key of colours.

    `method`, `short_side` and `warped` as in `flow`. Returns the path. Raises UserError; DecodeError for a file that is no
    video or shorter than two frames.
    """
    out = Path(out)
    if out.suffix.lower() not in (".jpg", ".jpeg"):
        raise UserError(
            f"--out: '{out}' is not a .jpg file, which the picture is. Name one, for example --out flow.jpg"
        )
    if frame_distance < 1:
        raise UserError(f"--frame-distance {frame_distance}: out of range. Give at least 1 frame")
    how = methods.method(method)
    with SafeReader() as files:
        found = files.look(video, with_hash=False).video
        last = found.num_frames - 1 - frame_distance
        if last < 0:
            raise DecodeError(
                video, f"it has {found.num_frames} frames, too few for flow over a distance of {frame_distance}"
            )
        firsts = np.unique(np.linspace(0, last, MOST_FRAMES).round().astype(np.int64))
        small = min(short_side or found.height, found.width, found.height)
        row = Row(str(video), str(video), 0, found.num_frames, found.fps, found.seekable)
        frames_THWC = files.reader(small).read(row, np.concatenate([firsts, firsts + frame_distance]))
    pairs = [
        (how.image(first), how.image(second))
        for first, second in zip(frames_THWC[: len(firsts)], frames_THWC[len(firsts) :], strict=True)
    ]
    try:
        between = [methods.without_camera(how, *pair) if warped else how.between(*pair) for pair in pairs]
    except ValueError as error:
        raise DecodeError(video, str(error)) from None
    image = strips.flow_strip(frames_THWC[: len(firsts)], np.stack(between), height=HEIGHT, most=MOST_FRAMES)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(within(out.parent, out.name), strips.jpeg_bytes(image))
    return out
