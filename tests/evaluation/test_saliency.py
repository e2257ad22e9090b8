"""What is hidden is what is measured."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from muybridge.data.inputs import RGB, RGB_DIFFERENCE
from muybridge.data.sampling import ClipSpec
from muybridge.errors import UserError
from muybridge.evaluation.saliency import View, centre_view, saliency
from muybridge.runtime.device import Placement
from muybridge.video import Row
from muybridge.video.jpeg import decode_jpeg
from muybridge.zoo import VideoModel, create

ON_CPU = Placement(torch.device("cpu"))
STEPS, SIZE = 4, 30


def view_of(snippet_frames=1, size=SIZE):
    frames = np.random.default_rng(5).integers(0, 256, (STEPS * snippet_frames, size, size, 3)).astype(np.uint8)
    return View(
        frames,
        np.arange(STEPS * snippet_frames).reshape(STEPS, snippet_frames),
        {1: RGB, 2: RGB_DIFFERENCE}[snippet_frames],
    )


class Peephole(VideoModel):
    """Looks at one window of one time step."""

    def __init__(self, step, rows, columns):
        super().__init__(3, 3, dropout=0.5)
        self.window = (slice(None), slice(None), step, rows, columns)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[3.0, 1, 0], [0, -2, 1], [1, 1, -1]]))
            self.fc.bias.copy_(torch.tensor([0.1, 0.0, -0.1]))

    def features(self, x_BCTHW):
        return x_BCTHW[self.window].mean((2, 3))[:, None]


@pytest.mark.parametrize("snippet_frames", [1, 2])
def test_all_the_drop_is_where_the_model_looks(snippet_frames):
    """Cells of 30 pixels by 4 are 8 or 7 wide: the second is 8 … 14, the last 23 … 29."""
    model, view = Peephole(2, slice(8, 15), slice(23, 30)), view_of(snippet_frames)
    found = saliency(model, view, where=ON_CPU, grid=4, batch_size=5)
    assert (found.drop_TGG.shape, found.drop_T.shape, found.drop_GG.shape) == ((STEPS, 4, 4), (STEPS,), (4, 4))
    assert np.argwhere(found.drop_TGG).tolist() == [[2, 1, 3]]
    assert np.argwhere(found.drop_T).tolist() == [[2]]
    assert np.argwhere(found.drop_GG).tolist() == [[1, 3]]
    x_1CTHW = view.input.to_model(
        torch.from_numpy(view.frames_THWC)[None], None, mean=model.preprocessing.mean, std=model.preprocessing.std
    )
    with torch.no_grad():
        before_K = model.eval()(x_1CTHW)[0].log_softmax(0)
    after_K = model.fc.bias.detach().log_softmax(0)  # nothing is left but the mean colour, which is zero
    assert found.predicted == int(before_K.argmax())
    assert found.probability == pytest.approx(float(before_K.max().exp()), abs=1e-6)
    expected = float(before_K.max() - after_K[found.predicted])
    assert abs(expected) > 1e-3
    for drop in (found.drop_TGG[2, 1, 3], found.drop_T[2], found.drop_GG[1, 3]):
        assert drop == pytest.approx(expected, abs=1e-5)


def test_a_window_over_two_cells_shares_the_drop():
    found = saliency(Peephole(0, slice(0, 8), slice(4, 12)), view_of(), where=ON_CPU, grid=4, batch_size=64)
    assert np.argwhere(found.drop_TGG).tolist() == [[0, 0, 0], [0, 0, 1]]


def test_it_is_the_same_again_and_by_any_batch_size():
    torch.manual_seed(0)
    model, view = create("tsm_resnet_tiny", num_classes=5, num_frames=STEPS), view_of(size=32)
    torch.nn.init.normal_(model.fc.weight)
    model.train()
    first, again = (saliency(model, view, where=ON_CPU, grid=2, batch_size=7) for _ in range(2))
    other = saliency(model, view, where=ON_CPU, grid=2, batch_size=100)
    assert np.ptp(first.drop_TGG) > 1e-3
    assert model.training
    for name in ("drop_TGG", "drop_T", "drop_GG"):
        assert getattr(first, name).dtype == np.float32
        assert getattr(first, name).tolist() == getattr(again, name).tolist()
        np.testing.assert_allclose(getattr(other, name), getattr(first, name), atol=1e-5)


@pytest.mark.parametrize("grid", [0, SIZE + 1])
def test_a_grid_finer_than_pixels_is_refused(grid):
    with pytest.raises(UserError, match=f"--grid {grid}: out of range. Give 1 to {SIZE} cells a side"):
        saliency(Peephole(0, slice(0, 9), slice(0, 9)), view_of(), where=ON_CPU, grid=grid, batch_size=8)


class Numbered:
    """A reader whose frames say their number in every pixel; the left half is darker."""

    def read(self, row, indices):
        frames = np.repeat(np.asarray(indices, dtype=np.uint8), 20 * 40 * 3).reshape(-1, 20, 40, 3)
        frames[:, :, 20:] += 100
        return frames


def test_the_view_is_the_middle_clips_centre_crop():
    view = centre_view(
        Numbered(),
        Row("a", "a.mp4", 0, 40, 25.0),
        ClipSpec(num_frames=4),
        input=RGB,
        num_clips=3,
        size=16,
        crop_fraction=0.8,
    )
    assert view.indices_TL.tolist() == [[5], [15], [25], [35]]
    assert view.frames_THWC.shape == (4, 16, 16, 3)
    assert view.frames_THWC[:, 8, 0, 0].tolist() == [5, 15, 25, 35]
    assert view.frames_THWC[:, 8, -1, 0].tolist() == [105, 115, 125, 135]


def test_files_hold_the_numbers_and_show_one_frame_a_step():
    found = saliency(Peephole(1, slice(0, 8), slice(0, 8)), view_of(2), where=ON_CPU, grid=2, batch_size=8)
    with np.load(io.BytesIO(found.npz(id="a/b.mp4", label="up", predicted="down")), allow_pickle=False) as arrays:
        assert (str(arrays["id"]), str(arrays["label"]), str(arrays["predicted"])) == ("a/b.mp4", "up", "down")
        for name in ("drop_TGG", "drop_T", "drop_GG"):
            assert arrays[name].tolist() == getattr(found, name).tolist()
        assert arrays["frames_THWC"].tolist() == found.view.frames_THWC.tolist()
        assert arrays["indices"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
        assert float(arrays["probability"]) == found.probability
    drop_TGG = np.zeros((STEPS, 2, 2), dtype=np.float32)
    drop_TGG[1, 0, 1] = 0.01
    view = replace(found.view, frames_THWC=np.full_like(found.view.frames_THWC, 128))
    picture = decode_jpeg(replace(found, view=view, drop_TGG=drop_TGG).jpg()).astype(int)
    assert picture.shape == (2 * 112 + 2, 4 * 112 + 3 * 2, 3)
    changed = np.abs(picture[:112] - picture[114:]).mean(2)
    assert changed[:48, 114 + 64 : 114 + 112].mean() > 40
    changed[:64, 114 + 48 : 114 + 114] = 0
    assert changed.max() < 20
