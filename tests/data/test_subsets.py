"""A share of the training videos: nested, by whole groups, every class at an even pace."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from muybridge.data.manifest import from_columns
from muybridge.data.subsets import training_rows


def made(labels, groups=None, *, tested=0):
    """A manifest of training videos, and of `tested` test videos of the first class."""
    count = len(labels) + tested
    labels = [*labels, *[labels[0]] * tested]
    return from_columns(
        {
            "id": [f"v{i}" for i in range(count)], "path": [f"v{i}.avi" for i in range(count)],
            "start_frame": [0] * count, "num_frames": [9] * count, "label": labels,
            "group": [*(groups or [""] * (count - tested)), *[""] * tested], "fps": [25.0] * count,
            "width": [8] * count, "height": [8] * count, "sha256": [f"{i:064d}" for i in range(count)],
            "split": ["train"] * (count - tested) + ["test"] * tested,
        },
        classes=sorted(set(labels)), root=Path(), mirror={},
    )  # fmt: skip


UNEVEN = ["a"] * 40 + ["b"] * 12 + ["c"] * 4


def counts(manifest, rows):
    return np.bincount(manifest.labels()[rows], minlength=len(manifest.classes)).tolist()


def test_the_whole_is_the_split_as_it_is():
    manifest = made(UNEVEN, tested=5)
    assert training_rows(manifest).tolist() == manifest.split("train").tolist()


def test_classes_keep_their_shares_and_the_test_stays_out():
    manifest = made(UNEVEN, tested=5)
    assert counts(manifest, training_rows(manifest, share=0.5, seed=1)) == [20, 6, 2]
    assert counts(manifest, training_rows(manifest, share=0.25, seed=1)) == [10, 3, 1]
    assert training_rows(manifest, share=0.5).max() < len(UNEVEN)


def test_each_class_is_shown_as_long_as_there_is_room():
    manifest = made(UNEVEN)
    assert counts(manifest, training_rows(manifest, share=3 / 56)) == [1, 1, 1]


@pytest.mark.parametrize("groups", [None, [f"g{i % 9}" for i in range(56)], [f"g{i // 4}" for i in range(56)]])
def test_smaller_shares_lie_in_larger_ones(groups):
    manifest = made(UNEVEN, groups)
    shares = [set(training_rows(manifest, share=share, seed=2).tolist()) for share in (0.1, 0.25, 0.5, 0.9, 1.0)]
    assert all(small < large for small, large in pairwise(shares))


def test_groups_stay_whole_and_the_share_is_met_as_nearly_as_they_allow():
    groups = [f"g{i // 7}" for i in range(56)]  # g5 and g7 hold videos of two classes
    manifest = made(UNEVEN, groups)
    for seed in range(5):
        rows = training_rows(manifest, share=0.5, seed=seed)
        assert len(rows) == 28
        taken = set(manifest.text("group", rows).tolist())
        assert len(taken) == 4
        assert sorted(rows.tolist()) == [i for i, group in enumerate(groups) if group in taken]
        assert 0 not in counts(manifest, rows), "every class is shown"


def test_another_seed_draws_others_and_the_same_seed_the_same():
    manifest = made(UNEVEN)
    first, again, other = (training_rows(manifest, share=0.5, seed=seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
