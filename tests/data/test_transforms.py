"""Transforms: boxes by their definition, pixels against plain NumPy."""

import numpy as np
import pytest
import torch

from muybridge.data import transforms
from muybridge.data.transforms import crop_resize, multiscale_box, random_box, to_input
from muybridge.draws import generator

SCALES = (1.0, 0.875, 0.75, 0.66)
SIZES = [(120, 160), (160, 120), (112, 112), (61, 97), (97, 61), (3, 5), (1, 1), (2, 180)]


def boxes(height, width, count=600):
    return [multiscale_box(height, width, generator(i, "test of boxes")) for i in range(count)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_one_test_crop_is_the_centre(height, width):
    [(top, left, h, w)] = transforms.test_boxes(height, width, num_crops=1, crop_fraction=1.0)
    assert h == w == min(height, width)
    assert abs((height - h - top) - top) <= 1
    assert abs((width - w - left) - left) <= 1


def test_three_test_crops_lie_along_the_longer_side():
    landscape = transforms.test_boxes(120, 161, num_crops=3, crop_fraction=1.0)
    assert landscape == [(0, 0, 120, 120), (0, 20, 120, 120), (0, 41, 120, 120)]
    portrait = transforms.test_boxes(161, 120, num_crops=3, crop_fraction=1.0)
    assert portrait == [(left, top, w, h) for top, left, h, w in landscape]


def test_crop_fraction_is_of_the_short_side():
    fraction = 224 / 256
    assert transforms.test_boxes(256, 340, num_crops=3, crop_fraction=fraction) == [
        (16, 0, 224, 224), (16, 58, 224, 224), (16, 116, 224, 224),
    ]  # fmt: skip
    assert transforms.test_boxes(340, 256, num_crops=1, crop_fraction=fraction) == [(58, 16, 224, 224)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("num_crops", [1, 3])
@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.01])
def test_test_crops_are_squares_inside_the_frame(height, width, num_crops, fraction):
    found = transforms.test_boxes(height, width, num_crops=num_crops, crop_fraction=fraction)
    assert len(found) == num_crops
    for top, left, h, w in found:
        assert h == w >= 1
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w


def test_multiscale_sides_are_the_scales_at_most_one_step_apart():
    sides = [round(100 * scale) for scale in SCALES]
    found = {(h, w) for _, _, h, w in boxes(100, 140)}
    assert found == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}


def test_multiscale_reaches_exactly_the_13_points():
    quarters = {(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)}
    height, width = 140, 200
    side = round(140 * 0.66)
    found = {(top, left) for top, left, h, w in boxes(height, width, 3000) if h == w == side}
    assert found == {(int((height - side) * y / 4), int((width - side) * x / 4)) for y, x in quarters}


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_multiscale_boxes_lie_inside_the_frame(height, width):
    for top, left, h, w in boxes(height, width, 300):
        assert min(h, w) >= 1
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w


def test_multiscale_draws_are_even():
    counts = {}
    for _, _, h, w in boxes(100, 100, 2000):
        counts[h, w] = counts.get((h, w), 0) + 1
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 35  # 9 degrees of freedom


def test_random_box_reaches_every_place_and_no_other():
    found = {random_box(6, 8, 5, generator(i, "test of boxes")) for i in range(500)}
    assert found == {(top, left, 5, 5) for top in range(2) for left in range(4)}
    assert random_box(6, 8, 99, generator(0, "test of boxes"))[2:] == (6, 6), "of the short side, where that is smaller"


def noise(*shape):
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def test_crop_without_resize_is_the_pixels_themselves():
    frames = noise(3, 20, 30, 3)
    cropped = crop_resize(frames, (4, 7, 11, 11), 11)
    assert np.array_equal(cropped, frames[:, 4:15, 7:18])
    assert cropped.flags["C_CONTIGUOUS"]


def triangle_filter(values_X, size):
    """Resize along the last axis by the definition: weights fall linearly over `scale` pixels to both sides."""
    scale = values_X.shape[-1] / size
    support = max(scale, 1.0)
    centers = (np.arange(size) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(values_X.shape[-1])[:, None] + 0.5 - centers) / support)
    return values_X @ (weights / weights.sum(0))


@pytest.mark.parametrize("box", [(0, 0, 60, 80), (5, 9, 40, 33), (10, 20, 7, 9)])
@pytest.mark.parametrize("size", [16, 25])
def test_resize_is_near_a_reference(box, size):
    frames = noise(2, 60, 80, 3)
    resized = crop_resize(frames, box, size)
    assert resized.shape == (2, size, size, 3)
    assert resized.dtype == np.uint8
    top, left, height, width = box
    part = frames[:, top : top + height, left : left + width].astype(float)
    wide = triangle_filter(part.transpose(0, 3, 1, 2), size)  # (T,C,H,size)
    reference = triangle_filter(wide.transpose(0, 1, 3, 2), size).transpose(0, 3, 2, 1)
    assert np.abs(resized - reference).max() <= 2


def test_shrinking_keeps_the_mean_and_does_not_alias():
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    frames = np.repeat(board[None, :, :, None], 3, axis=3).astype(np.uint8)
    shrunk = crop_resize(frames, (0, 0, 64, 64), 16).astype(float)
    assert abs(shrunk.mean() - 127.5) < 1.5
    assert np.abs(shrunk - 127.5).max() < 8, "a pixel checkerboard shrinks to grey"
    smooth = noise(1, 8, 8, 3).repeat(12, axis=1).repeat(12, axis=2)
    assert abs(crop_resize(smooth, (0, 0, 96, 96), 31).mean() - smooth.mean()) < 1.5


def test_every_frame_and_channel_is_resized_on_its_own():
    frames = noise(3, 30, 40, 3)
    together = crop_resize(frames, (2, 3, 25, 31), 14)
    for t in range(3):
        assert np.array_equal(crop_resize(frames[t : t + 1], (2, 3, 25, 31), 14)[0], together[t])
    frames[..., 1] = 77
    assert (crop_resize(frames, (2, 3, 25, 31), 14)[..., 1] == 77).all()


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_to_input_is_plain_arithmetic():
    clips = noise(2, 4, 5, 6, 3)
    flip = np.array([False, True])
    x_BCTHW = to_input(torch.from_numpy(clips), torch.from_numpy(flip), mean=MEAN, std=STD)
    expected = (clips / 255.0 - np.array(MEAN)) / np.array(STD)
    expected[1] = expected[1, :, :, ::-1]
    assert x_BCTHW.shape == (2, 3, 4, 5, 6)
    assert x_BCTHW.dtype == torch.float32
    np.testing.assert_allclose(x_BCTHW.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-5)


def test_to_input_without_flips():
    clips = torch.from_numpy(noise(2, 4, 5, 6, 3))
    plain = to_input(clips, None, mean=(0, 0, 0), std=(1, 1, 1))
    none = to_input(clips, torch.zeros(2, dtype=torch.bool), mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(plain, none)
    np.testing.assert_allclose(plain.numpy() * 255, clips.numpy().transpose(0, 4, 1, 2, 3), atol=1e-4)


def test_snippets_of_two_frames_become_differences():
    """The second minus the first, so that what stands still is zero; the mean plays no part."""
    clips = noise(2, 6, 4, 5, 3)  # three snippets
    clips[:, 4:6] = clips[:, 4:5]
    flip = torch.tensor([True, False])
    x_BCTHW = to_input(torch.from_numpy(clips), flip, mean=MEAN, std=STD, snippet_frames=2)
    expected = (clips[:, 1::2].astype(float) - clips[:, ::2]) / 255 / np.array(STD)
    expected[0] = expected[0, :, :, ::-1]
    assert x_BCTHW.shape == (2, 3, 3, 4, 5)
    np.testing.assert_allclose(x_BCTHW.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-5)
    assert (x_BCTHW[:, :, 2] == 0).all()


def test_to_input_lies_in_memory_as_convolutions_like_it():
    x_BCTHW = to_input(torch.from_numpy(noise(2, 4, 5, 6, 3)), None, mean=MEAN, std=STD)
    assert x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
