"""Batches depend on (seed, epoch, video id) and on nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from muybridge.data.loader import TrainClips, VideoViews, epoch_batches, train_batches, view_batches
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec
from muybridge.video import DecodeError, FileReader, RamCache

SPEC = ClipSpec(num_frames=4)


@pytest.fixture
def manifest(made_set):
    return Manifest.load(made_set)


def clips_of(manifest, reader=None, **changes):
    options = {"size": 24, "crop": "multiscale", "flip_probability": 0.5, "crop_fraction": 1.0, "seed": 5} | changes
    return TrainClips(manifest, reader or FileReader(), SPEC, **options)


def batches_of(clips, manifest, *, num_workers=0, first_step=0, num_steps=6):
    return list(
        train_batches(
            clips, manifest.split("train"), batch_size=16, first_step=first_step, num_steps=num_steps,
            num_workers=num_workers, pin_memory=False,
        )
    )  # fmt: skip


def same(a, b):
    return (
        torch.equal(a.clips_BTHWC, b.clips_BTHWC)
        and torch.equal(a.labels_B, b.labels_B)
        and torch.equal(a.flip_B, b.flip_B)
        and a.rows_B == b.rows_B
    )


def test_any_number_of_workers_gives_the_same_batches(manifest):
    alone = batches_of(clips_of(manifest), manifest)
    for num_workers in (1, 2):
        shared = batches_of(clips_of(manifest), manifest, num_workers=num_workers)
        assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_batches_can_start_at_any_step(manifest):
    whole = batches_of(clips_of(manifest), manifest)
    for first_step in range(1, 6):
        rest = batches_of(clips_of(manifest), manifest, first_step=first_step)
        assert all(same(a, b) for a, b in zip(whole[first_step:], rest, strict=True))


def test_the_ram_cache_gives_the_same_batches(manifest):
    cache = RamCache(FileReader())
    cache.fill([manifest.row(int(i)) for i in manifest.split("train")], threads=2)
    assert all(
        same(a, b)
        for a, b in zip(
            batches_of(clips_of(manifest), manifest), batches_of(clips_of(manifest, cache), manifest), strict=True
        )
    )


def test_epochs_and_seeds_differ(manifest):
    first, second = batches_of(clips_of(manifest), manifest)[0], batches_of(clips_of(manifest), manifest)[3]
    assert first.rows_B != second.rows_B
    key = (0, int(manifest.split("train")[0]))
    assert not np.array_equal(clips_of(manifest)[key][0], clips_of(manifest)[(1, key[1])][0])
    assert not np.array_equal(clips_of(manifest)[key][0], clips_of(manifest, seed=6)[key][0])


def test_switching_an_augmentation_shifts_no_other_draw(manifest):
    """Flips drawn alike whether or not crops are random, and clips alike whether or not there are flips."""
    keys = [(0, int(row)) for row in manifest.split("train")]
    with_crop, without_crop = clips_of(manifest), clips_of(manifest, crop="center")
    assert [with_crop[key][2] for key in keys] == [without_crop[key][2] for key in keys]
    without_flip = clips_of(manifest, flip_probability=0.0)
    assert all(np.array_equal(with_crop[key][0], without_flip[key][0]) for key in keys)


def test_mirroring_maps_labels_or_is_off(manifest):
    keys = [(epoch, int(row)) for epoch in range(3) for row in manifest.split("train")]
    clips, plain = clips_of(manifest), clips_of(manifest, flip_probability=0.0)
    flipped = [key for key in keys if clips[key][2]]
    assert 0.3 < len(flipped) / len(keys) < 0.7
    for key in flipped:
        before, after = (manifest.classes[item[key][1]] for item in (plain, clips))
        assert after == manifest.mirror.get(before, before)
    assert {"move_left", "turn_clockwise"} <= {manifest.classes[plain[key][1]] for key in flipped}
    off = clips_of(replace(manifest, mirror=None))
    assert not any(off[key][2] for key in keys)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(50, 16), (3, 16), (32, 16), (33, 16), (1, 1)])
def test_an_epoch_holds_every_row_once_in_even_batches(num_rows, batch_size):
    batches = epoch_batches(np.arange(num_rows), batch_size=batch_size, epoch=1, seed=0)
    assert sorted(np.concatenate(batches)) == list(range(num_rows))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def views_of(manifest, reader=None, **changes):
    options = {"size": 24, "num_clips": 3, "num_crops": 3, "crop_fraction": 0.875} | changes
    return VideoViews(manifest, reader or FileReader(), SPEC, **options)


def test_views_come_in_order_and_once_each_under_spawn(manifest):
    rows = [7, 3, 11, 3]
    alone = list(view_batches(views_of(manifest), rows, num_workers=0))
    shared = list(view_batches(views_of(manifest), rows, num_workers=2))
    assert [item.row for item in alone] == [item.row for item in shared] == rows
    assert all(torch.equal(a.clips_VTHWC, b.clips_VTHWC) for a, b in zip(alone, shared, strict=True))
    assert alone[0].clips_VTHWC.shape == (9, 4, 24, 24, 3)
    assert alone[0].crop_V.tolist() == [0, 1, 2] * 3


def test_each_distinct_frame_of_a_video_is_read_once(manifest):
    asked = []

    class Counting:
        def read(self, row, indices):
            asked.append(list(indices))
            return FileReader().read(row, indices)

    views_of(manifest, Counting(), num_clips=10)[0]
    assert len(asked) == 1
    assert len(set(asked[0])) == len(asked[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_vanished_video_stops_with_its_path(manifest, tmp_path, num_workers):
    row = int(manifest.split("train")[4])
    columns = dict(manifest.columns)
    paths = manifest.text("path")
    paths[row] = "gone.mp4"
    columns["path"] = np.char.encode(paths)
    broken = replace(manifest, columns=columns)
    with pytest.raises(DecodeError, match=r"gone\.mp4: No such file"):
        batches_of(clips_of(broken), manifest, num_workers=num_workers, num_steps=3)
