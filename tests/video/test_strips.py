"""Pictures for human eyes show the right frames, and heat where it is."""

import numpy as np
import pytest

from muybridge.video.jpeg import decode_jpeg
from muybridge.video.strips import HEAT, cells, heated, jpeg_bytes, strip


def grays(count, *, height=20, width=30):
    """(T,H,W,3): frame t is 10 t all over."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 10, height * width * 3).reshape(count, height, width, 3)


@pytest.mark.parametrize(
    ("count", "most", "shown"),
    [(1, 8, [0]), (3, 8, [0, 1, 2]), (8, 8, list(range(8))), (9, 3, [0, 4, 8]), (16, 4, [0, 5, 10, 15]), (5, 1, [0])],
)
def test_a_strip_shows_frames_in_order_the_first_and_the_last_among_them(count, most, shown):
    picture = strip(grays(count), height=40, most=most, gap=3)
    assert picture.shape == (40, 60 * len(shown) + 3 * (len(shown) - 1), 3)
    assert picture.dtype == np.uint8
    middles = picture[20, 30::63].mean(1)
    assert np.abs(middles - 10 * np.array(shown)).max() <= 2
    assert (picture[:, 60:63] == 255).all()


def test_pixels_fall_into_even_cells():
    assert cells(8, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert cells(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert cells(5, 5).tolist() == [0, 1, 2, 3, 4]


def test_heat_lies_on_its_own_cell_alone():
    frames = grays(3)
    heat_TGG = np.zeros((3, 2, 5))
    heat_TGG[1, 0, 3] = 0.2
    heat_TGG[2, 1, 1] = -7  # less than none
    hot = heated(frames, heat_TGG)
    changed = (hot != frames).any(-1)
    expected = np.zeros((3, 20, 30), dtype=bool)
    expected[1, :10, 18:24] = True
    assert (changed == expected).all()
    assert np.abs(hot[1, 0, 18] - (0.25 * frames[1, 0, 18] + 0.75 * HEAT[-1])).max() <= 0.5


def test_more_heat_hides_more_and_none_hides_nothing():
    frames = grays(1) + 128
    assert (heated(frames, np.zeros((1, 4, 4))) == frames).all()
    assert (heated(frames, np.full((1, 4, 4), -1.0)) == frames).all()
    of_pixels = np.tile(np.linspace(0, 1, 30), (1, 20, 1))
    hot = heated(frames, of_pixels)
    assert (hot[:, :, 0] == frames[:, :, 0]).all()
    blue = hot[0, 0, :, 2].astype(int)
    assert blue[15] < blue[0], "the middle of the map has little blue"
    assert heated(frames, 1000 * of_pixels).tolist() == hot.tolist(), "heat has no unit"


def test_a_jpeg_is_the_picture():
    picture = strip(grays(4), height=20)
    back = decode_jpeg(jpeg_bytes(picture, quality=95))
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).mean() < 2
    assert len(jpeg_bytes(picture, quality=30)) < len(jpeg_bytes(picture, quality=95))
