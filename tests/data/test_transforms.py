"""Transforms: boxes by their definition, pixels against plain NumPy."""

import colorsys
import math

import numpy as np
import pytest
import torch

from muybridge.data import transforms
from muybridge.data.inputs import RGB, RGB_DIFFERENCE
from muybridge.data.random import generator
from muybridge.data.transforms import Jitter, crop_resize, multiscale_box, random_box

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
    assert landscape == [(0, 20, 120, 120), (0, 0, 120, 120), (0, 41, 120, 120)]
    portrait = transforms.test_boxes(161, 120, num_crops=3, crop_fraction=1.0)
    assert portrait == [(left, top, w, h) for top, left, h, w in landscape]


def test_crop_fraction_is_of_the_short_side():
    fraction = 224 / 256
    assert transforms.test_boxes(256, 340, num_crops=3, crop_fraction=fraction) == [
        (16, 58, 224, 224), (16, 0, 224, 224), (16, 116, 224, 224),
    ]  # fmt: skip
    assert transforms.test_boxes(340, 256, num_crops=1, crop_fraction=fraction) == [(58, 16, 224, 224)]


def test_five_test_crops_are_the_centre_and_the_corners_and_ten_those_twice():
    five = transforms.test_boxes(256, 340, num_crops=5, crop_fraction=224 / 256)
    assert [box[:2] for box in five] == [(16, 58), (0, 0), (0, 116), (32, 0), (32, 116)]
    assert transforms.test_boxes(256, 340, num_crops=10, crop_fraction=224 / 256) == five * 2


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("num_crops", [1, 3, 5, 10])
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


def test_a_random_short_side_is_one_box_in_the_frame():
    """224 pixels of a frame scaled to S are 224 / S of its short side; every S is as likely as any other."""
    boxes = [random_box(512, 700, 224, generator(i, "test of sides"), short_sides=(256, 320)) for i in range(6500)]
    side_of = {S: round(512 * 224 / S) for S in range(256, 321)}
    assert len(set(side_of.values())) == 65, "each S has a box of its own here"
    counts = {side: sum(box[2] == side for box in boxes) for side in side_of.values()}
    assert sum(counts.values()) == len(boxes)
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 115  # 64 degrees of freedom
    assert all(h == w and 0 <= top <= 512 - h and 0 <= left <= 700 - w for top, left, h, w in boxes)
    places = {(top, left) for top, left, *_ in boxes}
    assert min(top for top, _ in places) == min(left for _, left in places) == 0
    assert max(left for _, left in places) > 700 - 448 - 15


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("short_sides", [(4, 4), (5, 9), (4, 400)])
def test_boxes_of_random_short_sides_lie_inside_the_frame(height, width, short_sides):
    for i in range(200):
        top, left, h, w = random_box(height, width, 4, generator(i, "test of sides"), short_sides=short_sides)
        assert h == w >= 1
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
        if short_sides == (4, 4):
            assert h == min(height, width), "the whole short side"


def test_a_random_short_side_sees_what_scaling_and_cropping_sees():
    """The papers scale the frame to S and cut 224 pixels; here the cut comes first. A ramp shows where each pixel lies."""
    height, width, size, S = 240, 320, 56, 80
    ramp = np.linspace(0, 255, width)[None, :].repeat(height, 0).astype(np.uint8)[None, :, :, None].repeat(3, 3)
    top, left, h, w = random_box(height, width, size, generator(1, "test of sides"), short_sides=(S, S))
    assert (h, w) == (168, 168)
    scaled = triangle_filter(ramp[0, :, :, 0].astype(float), round(width * S / height))  # (240,107)
    start = left * S / height
    expected = np.interp(np.arange(size) + start, np.arange(scaled.shape[1]), scaled[0])
    found = crop_resize(ramp, (top, left, h, w), size)[0, 0, :, 0]
    assert np.abs(found[2:-2] - expected[2:-2]).max() <= 2


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
    x_BCTHW = RGB.to_model(torch.from_numpy(clips), torch.from_numpy(flip), mean=MEAN, std=STD)
    expected = (clips / 255.0 - np.array(MEAN)) / np.array(STD)
    expected[1] = expected[1, :, :, ::-1]
    assert x_BCTHW.shape == (2, 3, 4, 5, 6)
    assert x_BCTHW.dtype == torch.float32
    np.testing.assert_allclose(x_BCTHW.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-5)


def test_to_input_without_flips():
    clips = torch.from_numpy(noise(2, 4, 5, 6, 3))
    plain = RGB.to_model(clips, None, mean=(0, 0, 0), std=(1, 1, 1))
    none = RGB.to_model(clips, torch.zeros(2, dtype=torch.bool), mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(plain, none)
    np.testing.assert_allclose(plain.numpy() * 255, clips.numpy().transpose(0, 4, 1, 2, 3), atol=1e-4)


def test_snippets_of_two_frames_become_differences():
    """The second minus the first, so that what stands still is zero; the mean plays no part."""
    clips = noise(2, 6, 4, 5, 3)  # three snippets
    clips[:, 4:6] = clips[:, 4:5]
    flip = torch.tensor([True, False])
    x_BCTHW = RGB_DIFFERENCE.to_model(torch.from_numpy(clips), flip, mean=MEAN, std=STD)
    expected = (clips[:, 1::2].astype(float) - clips[:, ::2]) / 255 / np.array(STD)
    expected[0] = expected[0, :, :, ::-1]
    assert x_BCTHW.shape == (2, 3, 3, 4, 5)
    np.testing.assert_allclose(x_BCTHW.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-5)
    assert (x_BCTHW[:, :, 2] == 0).all()


def test_to_input_lies_in_memory_as_convolutions_like_it():
    x_BCTHW = RGB.to_model(torch.from_numpy(noise(2, 4, 5, 6, 3)), None, mean=MEAN, std=STD)
    assert x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)


def gray(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def cut(value):
    return min(255.0, max(0.0, value))


def recolored_by_hand(clip, brightness=1.0, contrast=1.0, saturation=1.0, turns=0.0):
    """Pixel by pixel, from the definitions; hue by Python's own colorsys. (T,H,W,3) of 0 … 255."""
    pixels = [[float(v) for v in pixel] for pixel in clip.reshape(-1, 3)]
    pixels = [[cut(brightness * v) for v in pixel] for pixel in pixels]
    mean = sum(map(gray, pixels)) / len(pixels)
    pixels = [[cut(contrast * v + (1 - contrast) * mean) for v in pixel] for pixel in pixels]
    pixels = [[cut(saturation * v + (1 - saturation) * gray(pixel)) for v in pixel] for pixel in pixels]
    if turns:
        turned = []
        for pixel in pixels:
            hue, full, value = colorsys.rgb_to_hsv(*(v / 255 for v in pixel))
            turned.append([255 * v for v in colorsys.hsv_to_rgb((hue + turns) % 1, full, value)])
        pixels = turned
    return np.array(pixels).reshape(clip.shape)


def rotated_by_hand(clip, degrees):
    """Each pixel from the four around the place it comes from; black outside. Counter-clockwise, y points down."""
    _, height, width, _ = clip.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    result = np.zeros(clip.shape)
    for y in range(height):
        for x in range(width):
            from_x = middle_x + cos * (x - middle_x) - sin * (y - middle_y)
            from_y = middle_y + sin * (x - middle_x) + cos * (y - middle_y)
            for near_y in (math.floor(from_y), math.floor(from_y) + 1):
                for near_x in (math.floor(from_x), math.floor(from_x) + 1):
                    if 0 <= near_y < height and 0 <= near_x < width:
                        weight = (1 - abs(from_y - near_y)) * (1 - abs(from_x - near_x))
                        result[:, y, x] += weight * clip[:, near_y, near_x]
    return result


def colorful():
    """(4,2,5,6,3): noise, and what hue has corners at: gray, black, white, the pure colours."""
    clips = noise(4, 2, 5, 6, 3)
    clips[:, 0, 0] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    clips[:, 1, 0] = [[255, 255, 0], [0, 255, 255], [255, 0, 255], [200, 200, 10], [10, 200, 200], [200, 10, 200]]
    return clips


def seen(clips, flip=None, **jitter):
    """What a model would see, as pixels of 0 … 255, (B,T,H,W,3)."""
    values = {f"{name}_B": torch.tensor(each, dtype=torch.float32) for name, each in jitter.items()}
    flip_B = None if flip is None else torch.tensor(flip)
    x_BCTHW = RGB.to_model(torch.from_numpy(clips), flip_B, mean=(0,) * 3, std=(1,) * 3, jitter=Jitter(**values))
    return 255 * x_BCTHW.permute(0, 2, 3, 4, 1).numpy().astype(float)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("brightness", [0.0, 0.6, 1.0, 1.7]),
        ("contrast", [0.0, 0.5, 1.0, 2.3]),
        ("saturation", [0.0, 0.4, 1.0, 2.6]),
        ("hue_turns", [-0.5, -0.07, 0.0, 0.31]),
    ],
)
def test_each_colour_change_is_that_of_its_definition(name, values):
    clips = colorful()
    found = seen(clips, **{name: values})
    for clip, picture, value in zip(clips, found, values, strict=True):
        expected = recolored_by_hand(clip, **{name.removeprefix("hue_"): value})
        np.testing.assert_allclose(picture, expected, atol=2e-3)
    neutral = values.index(0.0 if name == "hue_turns" else 1.0)
    np.testing.assert_allclose(found[neutral], clips[neutral], atol=1e-3)


def test_rotation_is_that_of_its_definition():
    clips, degrees = colorful(), [0.0, 17.0, -90.0, 143.5]
    found = seen(clips, rotation_degrees=degrees)
    for clip, picture, angle in zip(clips, found, degrees, strict=True):
        np.testing.assert_allclose(picture, rotated_by_hand(clip, angle), atol=2e-2)
    np.testing.assert_allclose(found[0], clips[0], atol=1e-2)


def test_a_quarter_turn_is_counter_clockwise():
    square = noise(1, 3, 8, 8, 3)
    turned = seen(square, rotation_degrees=[90.0])
    np.testing.assert_allclose(turned, np.rot90(square, axes=(2, 3)), atol=1e-2)


def test_the_order_is_mirror_colours_rotation():
    clips, flip = colorful(), [True, False, True, False]
    draws = {
        "brightness": [1.3, 0.7, 1.2, 0.9], "contrast": [0.6, 1.4, 1.0, 0.8], "saturation": [1.5, 0.2, 0.9, 1.1],
        "hue_turns": [0.2, -0.1, 0.05, -0.4], "rotation_degrees": [20.0, -35.0, 5.0, 170.0],
    }  # fmt: skip
    found = seen(clips, flip, **draws)
    for i, clip in enumerate(clips):
        mirrored = clip[:, :, ::-1] if flip[i] else clip
        brightness, contrast, saturation, turns, degrees = (each[i] for each in draws.values())
        expected = rotated_by_hand(recolored_by_hand(mirrored, brightness, contrast, saturation, turns), degrees)
        np.testing.assert_allclose(found[i], expected, atol=3e-2)


def test_all_frames_of_a_clip_are_changed_alike():
    """What stands still keeps standing still, whatever moves beside it; so colours come before differences."""
    clips = noise(2, 4, 6, 6, 3)
    clips[:, :, :3] = clips[:, :1, :3]
    jitter = Jitter(
        brightness_B=torch.tensor([0.8, 1.1]), contrast_B=torch.tensor([0.5, 1.6]),
        saturation_B=torch.tensor([1.9, 0.3]), hue_turns_B=torch.tensor([0.2, -0.3]),
    )  # fmt: skip
    flip = torch.tensor([False, True])
    x_BCTHW = RGB_DIFFERENCE.to_model(torch.from_numpy(clips), flip, mean=MEAN, std=STD, jitter=jitter)
    assert (x_BCTHW[:, :, :, :3] == 0).all()
    values = [values_B.tolist() for values_B in (jitter.brightness_B, jitter.contrast_B, jitter.saturation_B)]
    for i, turns in enumerate(jitter.hue_turns_B.tolist()):
        clip = clips[i][:, :, ::-1] if flip[i] else clips[i]
        frames = recolored_by_hand(clip, *(each[i] for each in values), turns)
        expected = (frames[1::2] - frames[::2]) / 255 / np.array(STD)
        np.testing.assert_allclose(x_BCTHW[i].numpy(), expected.transpose(3, 0, 1, 2), atol=1e-4)


def test_jittered_input_lies_in_memory_as_convolutions_like_it():
    jitter = Jitter(hue_turns_B=torch.zeros(2), rotation_degrees_B=torch.zeros(2))
    x_BCTHW = RGB.to_model(torch.from_numpy(noise(2, 4, 5, 6, 3)), None, mean=MEAN, std=STD, jitter=jitter)
    assert x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
    assert x_BCTHW.dtype == torch.float32


def test_jitter_that_holds_nothing_changes_no_bit():
    clips = torch.from_numpy(noise(2, 4, 5, 6, 3))
    plain = RGB.to_model(clips, None, mean=MEAN, std=STD)
    assert torch.equal(plain, RGB.to_model(clips, None, mean=MEAN, std=STD, jitter=Jitter()))
