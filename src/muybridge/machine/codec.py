"""The process that tries one codec: it encodes a made video, decodes it as `prepare` does, and compares the frames.

python -m muybridge.machine.codec NAME FILE
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import numpy as np

from muybridge.machine.finding import reason
from muybridge.runtime.launch import end_with_parent

CODECS = {
    "H.264": ("libx264", ".mp4", {"preset": "veryfast"}),
    "HEVC": ("libx265", ".mp4", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "VP9": ("libvpx-vp9", ".webm", {"deadline": "realtime", "cpu-used": "8"}),
    "AV1": ("libsvtav1", ".mp4", {"preset": "12"}),
    "MPEG-4": ("mpeg4", ".avi", {}),
    "MJPEG": ("mjpeg", ".avi", {}),
}
"""Encoder, ending and options by the name of a codec: those of UCF101 and HMDB51 (MPEG-4), and those of today."""
ESSENTIAL = "H.264"
WIDTH, HEIGHT, FRAMES = 320, 240, 48
MOST_LEVELS = 12.0
"""Most difference of a frame's brightness, of 255 levels: codecs lose a few, and three frames are 12 apart."""


def encode(path: str, codec: str) -> None:
    """Write a video whose frames have a texture and grow brighter."""
    import av
    from av.video.stream import VideoStream

    encoder, _, options = CODECS[codec]
    texture_HW = np.random.default_rng(0).integers(0, 24, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    with av.open(path, "w") as container:
        stream = cast(VideoStream, container.add_stream(encoder, rate=25))
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "MJPEG" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.options = dict(options)
        for level in levels():
            pixels_HW3 = (texture_HW + level)[..., None].repeat(3, 2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HW3, format="rgb24")))
        container.mux(stream.encode())


def levels() -> list[int]:
    """Brightness of each frame without its texture."""
    return [4 * index for index in range(FRAMES)]


def tried(codec: str, path: str) -> Mapping[str, str | float]:
    """Encode, decode and compare: `frames_per_s` of decoding to RGB, or `fault`, in words."""
    from muybridge.video import FileReader, Row, probe

    try:
        encode(path, codec)
    except Exception as error:  # FFmpeg was built without the encoder
        return {"untried": reason(error)}
    try:
        video = probe(path)
        started = time.perf_counter()
        frames_THW3 = FileReader().read(Row("", path, 0, video.num_frames, video.fps), np.arange(video.num_frames))
        seconds = time.perf_counter() - started
    except Exception as error:
        return {"fault": f"it cannot be decoded: {reason(error)}"}
    finally:
        os.unlink(path)
    if len(frames_THW3) != FRAMES:
        return {"fault": f"{len(frames_THW3)} of {FRAMES} frames come back"}
    off = np.abs(frames_THW3.mean((1, 2, 3)) - (np.array(levels()) + 11.5)).max()
    if off > MOST_LEVELS:
        return {"fault": f"frames come back wrong: their brightness differs by {off:.0f} of 255 levels"}
    return {"frames_per_s": FRAMES / seconds}


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    own_words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what encoders print is no answer
    print(json.dumps(tried(*sys.argv[1:])), file=own_words, flush=True)
