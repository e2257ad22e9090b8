"""Video files with faults and rarities, made small: what real collections hold, and what each must give.

Frames say their own number (`making`), where they are large enough.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from making import B_FRAMES, coded, uneven_times_ms, write_clip, write_video

INVALID = "Invalid data found when processing input"
NO_VIDEO = "no video stream"


@dataclass(frozen=True)
class Odd:
    """How a file is written, and what decoding it gives."""

    write: Callable
    num_frames: int = 0
    declared_frames: int | None = None
    """What the header says; none: as many as there are."""
    fps: float = 25.0
    size: tuple[int, int] = (64, 48)
    """(width, height), upright."""
    reason: str = ""
    """Why it cannot be decoded."""
    is_coded: bool = True
    """Do its frames say 0, 1, …?"""

    @property
    def declared(self):
        return self.num_frames if self.declared_frames is None else self.declared_frames


def video(num_frames, **how):
    """A writer of so many coded frames."""
    size = {key: how.pop(key) for key in ("height", "width") if key in how}
    return lambda path: write_video(path, [coded(i, **size) for i in range(num_frames)], **how)


def av1(path):
    """AV1. For root its encoder makes the whole process real-time, which would never let go of its core again."""
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    video(12, codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"})(path)
    if policy is not None:
        os.sched_setscheduler(os.getpid(), policy, os.sched_param(0))


def black(path):
    return write_video(path, [np.zeros((48, 64, 3), np.uint8)] * 30)


def other_aspect(path):
    """Pixels that are 16:9 and not square; they are shown as they are stored."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 9)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(coded(0), format="rgb24")))
        container.mux(stream.encode())


def wide_gamut(path):
    """Tagged as HDR10: BT.2020 colours, whose brightness is coded as SMPTE 2084 says."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        for number in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coded(number), format="rgb24")))
        container.mux(stream.encode())


def two_sizes(path):
    """A bare stream whose second half has another size: frames keep the first one."""
    parts = []
    for first, size in ((0, {"height": 144, "width": 180}), (20, {"height": 80, "width": 96})):
        part = path.with_name(f"{path.stem}.{first}.h264")
        write_video(part, [coded(first + i, **size) for i in range(20)], options={"bf": "0"})
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))


def without_index(path):
    """The first 38 frames of an AVI of 84, which has its index at the end."""
    write_clip(path, 0, 84)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: places[38] - 8])


def without_header(path):
    """The first half of an MP4, which has its header at the end."""
    video(40)(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def without_frames(path):
    """The header of an MP4 alone."""
    video(40, options=B_FRAMES)(path)
    whole = path.read_bytes()
    header = bytearray(whole[whole.index(b"moov") - 4 :])
    offsets = header.index(b"stco") + 8  # their number; each, which is beyond the end now
    count = int.from_bytes(header[offsets : offsets + 4], "big")
    header[offsets + 4 : offsets + 4 + 4 * count] = b"\x00\xff\xff\xff" * count
    path.write_bytes(whole[: whole.index(b"mdat") - 4] + header)


def chunk_out_of_range(path):
    """An MP4 whose table names a chunk that is not there."""
    video(10, options={"g": "5"})(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"stsc") + 12  # version, number of entries; the first chunk of the first
    data[place : place + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)


def broken_units(path):
    """H.264 whose packets give the lengths of their parts wrongly."""
    video(10, options={"g": "5"})(path)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place in places:
        data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


def beginning_of_a_jpeg(path):
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500))


def text(path):
    path.write_text("this is not a video\n" * 20)


def sound(codec, rate=48_000):
    """A writer of a tenth of a second of silence."""

    def write(path):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            kind = stream.codec_context.codec.audio_formats[0].name
            size = stream.codec_context.frame_size or 1024
            for number in range(max(1, rate // 10 // size)):
                frame = av.AudioFrame(format=kind, layout="mono", samples=size)
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.sample_rate, frame.pts = rate, number * size
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    return write


def two_by_two(path):
    """Two by two pixels, as small as a video gets."""
    write_video(path, [np.full((2, 2, 3), 90 * i, np.uint8) for i in range(3)])


ODD = {
    "10bits.mp4": Odd(video(30, pixels="yuv420p10le", fps=30), 30, fps=30),
    "10bits_422.mkv": Odd(video(12, codec="ffv1", pixels="yuv422p10le", fps=30), 12, 0, fps=30),
    "240_fps.mp4": Odd(video(40, fps=240), 40, fps=240),
    "2_fps.mp4": Odd(video(13, fps=2), 13, fps=2),
    "audio.m4a": Odd(sound("aac"), reason=NO_VIDEO),
    "audio.mp3": Odd(sound("libmp3lame", 44_100), reason=NO_VIDEO),
    "audio_named_video.mp4": Odd(sound("libopus"), reason=NO_VIDEO),
    "av1.mkv": Odd(av1, 12, 0),
    "black.mp4": Odd(black, 30, is_coded=False),
    "broken_units.mp4": Odd(broken_units, declared_frames=10, reason=INVALID),
    "chunk_out_of_range.mp4": Odd(chunk_out_of_range, reason=INVALID),
    "header_alone.mp4": Odd(without_frames, reason="not one frame"),
    "hevc.mp4": Odd(video(1, codec="libx265", options={"x265-params": "log-level=none:pools=none:frame-threads=1:bframes=0"}), 1),
    "jpeg_named_avi.avi": Odd(beginning_of_a_jpeg, reason=INVALID),
    "long.mkv": Odd(video(120, fps=30, options=B_FRAMES), 120, 0, fps=30),
    "mpeg4_one_frame.mp4": Odd(video(1, codec="mpeg4", fps=30), 1, fps=30),
    "ntsc.mp4": Odd(video(36, fps=Fraction(30_000, 1001)), 36, fps=29.97),
    "odd_444.mp4": Odd(video(40, pixels="yuv444p", height=143, width=179, fps=30), 40, fps=30, size=(179, 143)),
    "one_frame.mp4": Odd(video(1, fps=30), 1, fps=30),
    "other_aspect.mp4": Odd(other_aspect, 1),
    "palette.gif": Odd(video(1, codec="gif", pixels="rgb8"), 1),
    "rgba.mov": Odd(video(15, codec="png", pixels="rgba", fps=30), 15, fps=30),
    "text.mp4": Odd(text, reason=INVALID),
    "tiny.mp4": Odd(video(40, height=16, width=16, fps=30), 40, fps=30, size=(16, 16)),
    "truncated.avi": Odd(without_index, 38, 84),
    "truncated.mp4": Odd(without_header, reason=INVALID),
    "turned_180.mov": Odd(
        lambda path: write_video(path, [coded(i)[::-1, ::-1] for i in range(3)], fps=30, upright={"degrees": 180}), 3, fps=30
    ),
    "turned_90.mp4": Odd(
        lambda path: write_video(path, [np.rot90(coded(0, height=64, width=48))], upright={"degrees": -90}), 1, size=(48, 64)
    ),
    "two_by_two.mp4": Odd(two_by_two, 3, size=(2, 2), is_coded=False),
    "two_frames.mp4": Odd(video(2, fps=30), 2, fps=30),
    "two_sizes.h264": Odd(two_sizes, 40, 0, size=(180, 144)),
    "unordered.mov": Odd(video(4, options=B_FRAMES, fps=32), 4, fps=32),
    "upper_case.AVI": Odd(lambda path: write_clip(path, 0, 20, fps=30), 20, fps=30),
    "uneven.mp4": Odd(
        lambda path: write_video(path, [coded(i) for i in range(40)], times_ms=uneven_times_ms(40)),
        40, fps=39_000 / uneven_times_ms(40)[-1],
    ),
    "wide_gamut.mp4": Odd(wide_gamut, 3),
    "wide.mkv": Odd(video(20, codec="ffv1", pixels="bgr0", height=2, width=180, fps=30), 20, 0, 30, (180, 2), is_coded=False),
}  # fmt: skip
"""By name."""


def write_odd(folder):
    """All of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, odd in ODD.items():
        odd.write(folder / name)
    return folder
