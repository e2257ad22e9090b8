"""A copy of a video with the labels written into its frames, those of each window while it lasts. It has no sound."""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from html import escape
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext

from muybridge.errors import UserError
from muybridge.inference.results import Prediction
from muybridge.runtime.files import check_fences, clear_partials, hidden_name, partial_name, rename_new
from muybridge.runtime.locks import locked
from muybridge.text import printable
from muybridge.video import DecodeError
from muybridge.video.scaling import scaled

ENDINGS = (".mp4", ".mkv", ".mov")
LABELS = 3
"""Most labels in a frame."""
LEAST_SIDE = 240
"""Frames with a shorter side are enlarged: letters need pixels."""
LONGEST_SIDE = 4096
"""Frames are not enlarged beyond this side; that of a ribbon is what players still take."""
_FORMATS = dict(zip(ENDINGS, ("mp4", "matroska", "mov"), strict=True))
_TICKS = 90_000
"""Time stamps a second, as of MPEG."""


def check_target(path: Path) -> None:
    """Raise UserError for a path that a video cannot be written to, or that holds a file."""
    if path.suffix not in ENDINGS:
        raise UserError(
            f"--annotate: '{path}' does not end as a video does. Name a file that ends in {', '.join(ENDINGS)}"
        )
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: it exists already. Choose another --annotate")


def write_annotated(
    path: Path, frames: Iterator[np.ndarray], times_seconds: np.ndarray, answer: Sequence[Prediction], *, fps: float
) -> None:
    """Write frames, (H,W,3) uint8 each, with their labels as H.264; whole or not at all, and never over a file.

    `times_seconds`: of each frame. `answer`: a prediction a window, in order, whose times are frames by the rate `fps`.
    """
    check_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    windows = iter(answer)
    window, box_HW3 = next(windows), None
    with (
        locked(path.parent, f"writes {path.name}", name=f"{hidden_name(path.name)}lock", keep=False),
        _encoder(path, times_seconds, window.path) as encode,
    ):
        for index, frame in enumerate(frames):
            if index >= round(window.end_seconds * fps) and (later := next(windows, None)) is not None:
                window, box_HW3 = later, None
            enlarged = _enlarged(frame)
            if box_HW3 is None:
                box_HW3 = _box(window, *enlarged.shape[:2])
            height, width = (min(a, b) for a, b in zip(box_HW3.shape[:2], enlarged.shape[:2], strict=True))
            enlarged[:height, :width] = box_HW3[:height, :width]
            encode(enlarged)


@contextmanager
def _encoder(path: Path, times_seconds: np.ndarray, video: str) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the next frame. The file gets its name when all are written.

    What a killed process left of it is cleared. Raises DecodeError with the name of the `video` where H.264 cannot hold it.
    """
    clear_partials(path.parent, of=[path.name])
    partial = partial_name(path)
    ticks = np.round(np.asarray(times_seconds) * _TICKS).astype(np.int64).tolist()
    usual = Fraction(_TICKS, max(1, int(np.median(np.diff(ticks))))) if len(ticks) > 1 else Fraction(25)
    stream: Any = None
    check_fences()
    try:
        with av.open(str(partial), "w", format=_FORMATS[path.suffix]) as container:
            count = 0

            def encode(frame_HW3: np.ndarray) -> None:
                nonlocal stream, count
                with _told(video):
                    if stream is None:
                        stream = container.add_stream(
                            "libx264", rate=usual.limit_denominator(1001), options={"crf": "20", "preset": "fast"}
                        )
                        stream.height, stream.width = frame_HW3.shape[:2]
                        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, _TICKS)
                    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HW3), format="rgb24")
                    picture.pts, picture.time_base = ticks[count], Fraction(1, _TICKS)
                    container.mux(stream.encode(picture))
                count += 1

            yield encode
            with _told(video):
                container.mux(stream.encode())
        rename_new(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _told(video: str) -> Iterator[None]:
    """Make what the encoder raises an error of the video; a fault of the disk stays as it is."""
    try:
        yield
    except (av.error.FFmpegError, ValueError, ArithmeticError, LookupError) as error:
        if isinstance(error, OSError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        raise DecodeError(video, "a copy with labels cannot be written, as H.264 takes no such video") from error


def _enlarged(frame_HW3: np.ndarray) -> np.ndarray:
    """A copy that is large enough to be written into, of even height and width, as H.264 has them."""
    height, width = frame_HW3.shape[:2]
    times = -(-LEAST_SIDE // min(height, width)) if min(height, width) < LEAST_SIDE else 1
    times = max(min(times, LONGEST_SIDE // max(height, width)), 1)
    large = scaled(frame_HW3, (width * times, height * times))
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2].copy()


def _box(window: Prediction, height: int, width: int) -> np.ndarray:
    """Labels and scores of a window, white on black, (h,w,3) uint8."""
    import vl_convert

    size = max(12, min(height, width) // 18)
    margin, step = size // 2, round(1.35 * size)
    lines = [f"{printable(label)}  {score:.2f}" for label, score in window.top(min(LABELS, len(window.labels)))]
    room = width - 2 * margin
    texts = []
    wide = 0
    for number, line in enumerate(lines):
        likely = round(0.62 * size * len(line))
        fit = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if likely > room else ""
        wide = max(wide, min(likely, room))
        weight = "bold" if number == 0 else "normal"
        texts.append(
            f'<text x="{margin}" y="{margin + step * (number + 1) - size // 3}" font-family="sans-serif" font-size="{size}" '
            f'font-weight="{weight}" fill="white"{fit}>{escape(line)}</text>'
        )
    box_width, box_height = wide + 2 * margin, step * len(lines) + 2 * margin
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{box_width}" height="{box_height}">'
        f'<rect width="100%" height="100%" fill="black"/>{"".join(texts)}</svg>'
    )
    return _decoded(vl_convert.svg_to_png(svg, scale=1))


def _decoded(png: bytes) -> np.ndarray:
    decoder: Any = CodecContext.create("png", "r")
    for frame in [*decoder.decode(av.Packet(png)), *decoder.decode(None)]:
        return np.asarray(frame.to_ndarray(format="rgb24"))
    raise DecodeError("labels", "they cannot be drawn")
