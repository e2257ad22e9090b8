"""Training and evaluation from packs and folders of images: the same clips as from the videos, and the same guards."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch

import muybridge
from muybridge import build
from muybridge.data.loader import train_batches
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.stores.jpegs import frames
from muybridge.data.stores.pack import pack
from muybridge.errors import UserError
from muybridge.recipe import Runtime, replace
from muybridge.training.loop import train

STORES = {
    "jpeg": (pack, {"quality": 98}),
    "h264": (pack, {"codec": "h264", "quality": 5}),
    "frames": (frames, {"quality": 98}),
}


@pytest.fixture(scope="module")
def stores(made_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {
        name: write(made_set, out=folder / name, short_side=None, **options).path
        for name, (write, options) in STORES.items()
    }


def batches(recipe, data, num_workers):
    manifest = Manifest.load(data)
    clips = build.train_clips(recipe, manifest, build.file_reader(recipe))
    stream = train_batches(
        clips, manifest.split("train"), batch_size=16, first_step=0, num_workers=num_workers, pin_memory=False
    )
    with closing(stream):
        return list(islice(stream, 4))


@pytest.mark.parametrize("store", STORES)
def test_batches_are_those_of_the_videos(recipe, made_set, stores, store):
    """The same videos in the same order, the same frames and crops of them, mirrored alike; pixels but for the coding."""
    num_workers = 2 if store == "jpeg" else 0
    for before, after in zip(batches(recipe, made_set, 0), batches(recipe, stores[store], num_workers), strict=True):
        assert before.rows_B == after.rows_B
        assert torch.equal(before.labels_B, after.labels_B)
        assert torch.equal(before.flip_B, after.flip_B)
        difference = (before.clips_BTHWC.float() - after.clips_BTHWC.float()).abs()
        assert difference.mean() < 4  # noise and colours of 64x64 pixels, at half the colour resolution
        another_frame = (before.clips_BTHWC[:, 1:].float() - after.clips_BTHWC[:, :-1].float()).abs()
        assert difference.mean() < another_frame.mean() / 2


def test_a_run_on_a_pack_is_a_run(recipe, made_set, stores, tmp_path):
    """With workers and with the cache to the same bits; scored on the videos that it was not trained on, and only those."""
    changes = {"data.manifest": str(stores["jpeg"]), "optim.epochs": 2}
    on_pack = [
        train(replace(recipe, changes), out=tmp_path / name, runtime=runtime)
        for name, runtime in {"cache": Runtime(), "workers": Runtime(num_workers=2)}.items()
    ]
    first, second = (run.scores("test").logits_VK for run in on_pack)
    assert np.array_equal(first, second)
    again = muybridge.evaluate(on_pack[0], data=made_set)
    assert again.ids_N.tolist() == on_pack[0].scores("test").ids_N.tolist()
    np.testing.assert_allclose(again.logits_VK, first, atol=0.5)
    with pytest.raises(UserError, match="was trained on"):
        muybridge.evaluate(on_pack[0], data=made_set_with_test_as_train(made_set, tmp_path))


def made_set_with_test_as_train(made_set, folder):
    """The original manifest with train and test exchanged."""
    manifest = Manifest.load(made_set)
    columns = manifest.plain_columns()
    columns["split"] = [{"train": "test", "test": "train"}.get(name, name) for name in columns["split"]]
    swapped = from_columns(columns, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror)
    swapped.save(folder / "swapped.csv")
    return folder / "swapped.csv"
