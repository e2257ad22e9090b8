"""Small real video files whose frames say their own number.

The picture is three rows of four blocks. The first block (top left) is white and the last (bottom right) is black, so a
turned or mirrored picture cannot be read; the ten between are the bits of the frame's number. Blocks survive lossy coding,
scaling, and odd sizes.
"""

from fractions import Fraction

import av
import numpy as np

ROWS, COLUMNS = 3, 4
NUM_CODES = 2 ** (ROWS * COLUMNS - 2)


def coded(number, *, height=48, width=64):
    """(H,W,3) uint8: the picture of `number`."""
    if not 0 <= number < NUM_CODES:
        raise ValueError(f"{number} has no picture")
    bits = [1, *(number >> i & 1 for i in range(ROWS * COLUMNS - 2)), 0]
    row_H, column_W = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    gray_HW = np.array(bits).reshape(ROWS, COLUMNS)[row_H[:, None], column_W] * np.uint8(255)
    return np.repeat(gray_HW[..., None], 3, axis=2).astype(np.uint8)


def code_of(picture_HW3):
    """The number that a decoded picture shows. Fails for one that is not upright, or not a picture of ours."""
    gray_HW = picture_HW3.astype(float).mean(2)
    height, width = gray_HW.shape
    blocks = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            middle_y, middle_x = (row + 0.5) * height / ROWS, (column + 0.5) * width / COLUMNS
            reach_y, reach_x = max(0.5, height / ROWS / 4), max(0.5, width / COLUMNS / 4)
            block = gray_HW[
                int(middle_y - reach_y) : int(middle_y + reach_y) + 1,
                int(middle_x - reach_x) : int(middle_x + reach_x) + 1,
            ]
            blocks.append(block.mean())
    assert blocks[0] > 160, "the block at top left is not white"
    assert blocks[-1] < 96, "the block at bottom right is not black"
    assert all(not 96 <= block <= 160 for block in blocks), f"neither black nor white: {np.round(blocks)}"
    return sum(int(block > 128) << i for i, block in enumerate(blocks[1:-1]))


def codes_of(pictures):
    return [code_of(picture) for picture in pictures]


def write_video(
    path, pictures, *, codec="libx264", pixels="yuv420p", fps=25, options=None, times_ms=None, upright=None
):
    """A video file of `pictures`, in the container that the file's ending names.

    `times_ms`: when each picture is shown (variable frame rate). `upright`: arguments of PyAV's `set_display_rotation`,
    written as the container's display matrix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        if upright is not None:
            stream.set_display_rotation(**upright)
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_clip(path, first=0, num_frames=6, *, fps=25, height=48, width=64):
    """The quickest way to a real video (MPEG-4 in AVI): the numbers first, first + 1, … Another `first`, other bytes."""
    pictures = [coded(first + i, height=height, width=width) for i in range(num_frames)]
    return write_video(path, pictures, codec="mpeg4", fps=fps, options={"qscale": "3"})


def uneven_times_ms(num_frames):
    """Display times that jump by 7 to 120 ms."""
    gaps = np.random.default_rng(0).integers(7, 121, num_frames - 1)
    return [0, *np.cumsum(gaps).tolist()]


B_FRAMES = {"preset": "fast", "bf": "3", "b_strategy": "0", "g": "12", "x264-params": "b-adapt=0:scenecut=0"}


def write_h264_b(path, num_frames=40):
    """H.264 whose frames lie in another order than they are shown, three B-frames at a time, open groups."""
    options = {**B_FRAMES, "x264-params": "b-adapt=0:scenecut=0:open-gop=1"}
    return write_video(path, [coded(i) for i in range(num_frames)], options=options)


def write_mpeg4_avi(path, num_frames=40):
    return write_clip(path, 0, num_frames)


def write_mpeg4_b_avi(path, num_frames=40):
    """B-frames in AVI: its time stamps are decoding times, and its index counts packets."""
    pictures = [coded(i) for i in range(num_frames)]
    return write_video(path, pictures, codec="mpeg4", options={"qscale": "3", "bf": "2", "g": "9"})


def write_vfr(path, num_frames=40):
    pictures = [coded(i) for i in range(num_frames)]
    return write_video(path, pictures, options=B_FRAMES, times_ms=uneven_times_ms(num_frames))


def write_odd_size(path, num_frames=40):
    return write_video(path, [coded(i, height=61, width=97) for i in range(num_frames)], pixels="yuv444p")


def write_rotated(path, num_frames=40):
    """A phone held upright: pictures stored lying on their side, with the matrix that turns them back."""
    stored = [np.rot90(coded(i, height=64, width=48), 1) for i in range(num_frames)]
    return write_video(path, stored, options=B_FRAMES, upright={"degrees": -90})


def write_portrait(path, num_frames=40):
    return write_clip(path, 0, num_frames, height=64, width=48)


def write_raw_h264(path, num_frames=40):
    """A bare stream: no header that counts frames, no time stamps."""
    return write_video(path, [coded(i) for i in range(num_frames)], options={"g": "12", "bf": "0"})


def write_ffv1_mkv(path, num_frames=40):
    return write_video(path, [coded(i) for i in range(num_frames)], codec="ffv1", pixels="bgr0")


KINDS = {
    "h264_b.mp4": write_h264_b,
    "mpeg4.avi": write_mpeg4_avi,
    "mpeg4_b.avi": write_mpeg4_b_avi,
    "vfr.mp4": write_vfr,
    "odd_size.mp4": write_odd_size,
    "rotated.mp4": write_rotated,
    "portrait.avi": write_portrait,
    "raw.h264": write_raw_h264,
    "ffv1.mkv": write_ffv1_mkv,
}
"""A writer for each kind of file; every one holds the frames 0 … 39."""
NUM_FRAMES = 40
