"""Colours of flow: the wheel of Baker et al. 2011, and strips of frames with their flow."""

import colorsys

import numpy as np
import pytest

from muybridge.video.flow_colours import BEYOND, coloured, key, longest, wheel
from muybridge.video.strips import PAPER, flow_strip, stacked, strip


def color(x, y, bound=1.0):
    return coloured(np.array([[[[x, y]]]], dtype=np.float64), bound)[0, 0, 0]


def hue(rgb):
    return colorsys.rgb_to_hsv(*(np.asarray(rgb, dtype=np.float64) / 255))[0]


def test_the_wheel_is_that_of_the_paper():
    """55 colours: red to yellow in 15 steps, to green in 6, to cyan in 4, to blue in 11, to magenta in 13, to red in 6."""
    colours = wheel()
    assert colours.shape == (55, 3)
    for place, expected in (
        (0, (1, 0, 0)),
        (15, (1, 1, 0)),
        (21, (0, 1, 0)),
        (25, (0, 1, 1)),
        (36, (0, 0, 1)),
        (49, (1, 0, 1)),
    ):
        np.testing.assert_allclose(colours[place], expected)
    assert colours.max(1) == pytest.approx(1)
    assert colours.min(1) == pytest.approx(0)


def test_hues_rise_once_round_the_wheel():
    hues = np.array([hue(255 * rgb) for rgb in wheel()])
    assert (np.diff(hues) > 0).all()
    assert hues[0] == 0
    assert hues[-1] < 1
    angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    turned = np.array([hue(color(np.cos(angle), np.sin(angle))) for angle in angles])
    assert (np.diff(turned) >= 0).all()


def test_no_motion_is_white_and_a_longer_vector_purer():
    assert color(0, 0).tolist() == [255, 255, 255]
    saturations = [255 - int(color(0.0, share).min()) for share in (0.0, 0.1, 0.3, 0.6, 1.0)]
    assert saturations == sorted(set(saturations))
    assert saturations[-1] == 255
    assert color(3.0, 4.0, bound=5.0).tolist() == color(0.6, 0.8).tolist()  # by its share of the bound
    assert color(2.0, 0.0).tolist() == [round(255 * BEYOND), 0, 0]  # longer than the bound: darker


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_opposite_vectors_have_opposite_hues(degrees):
    x, y = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    apart = abs(hue(color(x, y)) - hue(color(-x, -y))) % 1
    assert min(apart, 1 - apart) > 0.3  # of at most .5: the wheel gives more room to hues that the eye tells apart


def test_directions_are_those_of_an_image():
    """x to the right is red, y downwards yellow, to the left blue to cyan, upwards violet."""
    right, down, left, up = color(1, 0), color(0, 1), color(-1, 0), color(0, -1)
    assert right.tolist() == [255, 0, 0]
    assert down[0] == 255
    assert down[1] > 200
    assert down[2] == 0
    assert left[0] == 0
    assert left[2] == 255
    assert left[1] > 150
    assert up[2] == 255
    assert up[1] == 0
    assert 50 < up[0] < 200


def test_an_unknown_vector_is_black():
    assert color(np.nan, 1.0).tolist() == [0, 0, 0]


def test_the_key_shows_each_vector_where_it_points():
    image = key(21)
    assert image.shape == (21, 21, 3)
    assert image[10, 10].tolist() == [255, 255, 255]
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[10, 20].tolist() == color(1, 0).tolist()
    assert image[20, 10].tolist() == color(0, 1).tolist()


def test_the_longest_hundredth_does_not_decide_the_colours():
    flow = np.zeros((1, 100, 100, 2))
    flow[..., 0] = 2.0
    flow[0, 0, :50] = 1000.0
    assert longest(flow) == pytest.approx(2.0)
    assert longest(np.zeros((1, 4, 4, 2))) == 1.0


def test_a_strip_has_each_frame_above_its_flow():
    frames = np.full((4, 20, 30, 3), 90, dtype=np.uint8)
    flow = np.zeros((3, 20, 30, 2))
    flow[:, :, :, 0] = np.array([1.0, 2.0, 4.0])[:, None, None]
    image = flow_strip(frames, flow, height=20, bound=4.0)
    alone = strip(frames[:3], height=20)
    assert image.shape == (42, alone.shape[1] + 22, 3)
    np.testing.assert_array_equal(image[:20, : alone.shape[1]], alone)
    below = image[22:, : alone.shape[1]]
    assert below[10, 15].tolist() == color(1, 0, 4.0).tolist()
    assert below[10, 80].tolist() == color(4, 0, 4.0).tolist()
    np.testing.assert_array_equal(image[22:, -20:], key(20))


def test_a_narrower_strip_gets_paper_beside_it():
    image = stacked([np.zeros((2, 6, 3), dtype=np.uint8), np.zeros((3, 4, 3), dtype=np.uint8)], gap=1)
    assert image.shape == (6, 6, 3)
    assert (image[2] == PAPER).all()
    assert (image[3:, 4:] == PAPER).all()
    assert not image[3:, :4].any()
