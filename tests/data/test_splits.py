"""Cutting a set into parts: whole units, even classes, the same again for the same seed."""

import numpy as np
import pytest

from muybridge.data.prepare.splits import assign

SHARES = [0.65, 0.15, 0.2]


def cut(units, labels, shares=SHARES, seed=0, purpose="test of splits"):
    return assign(np.asarray(units), np.asarray(labels), shares, seed=seed, purpose=purpose)


def grouped(seed, num_groups=25, num_classes=6):
    """UCF-like: every group holds a few clips of every class."""
    random = np.random.default_rng(seed)
    rows = [(g, k) for g in range(num_groups) for k in range(num_classes) for _ in range(int(random.integers(3, 8)))]
    order = random.permutation(len(rows))
    return np.array([f"g{rows[i][0]}" for i in order]), np.array([f"class {rows[i][1]}" for i in order])


def test_rows_on_their_own_are_cut_to_the_row():
    labels = np.repeat(["a", "b", "c"], [100, 40, 20])
    for seed in range(10):
        part = cut(np.arange(160), labels, seed=seed)
        for label, count in (("a", 100), ("b", 40), ("c", 20)):
            counts = np.bincount(part[labels == label], minlength=3)
            assert np.abs(counts - np.array(SHARES) * count).max() <= 1


def test_units_stay_whole_and_shares_are_near_over_20_seeds():
    for seed in range(20):
        units, labels = grouped(seed)
        part = cut(units, labels, seed=seed)
        assert all(len(set(part[units == unit].tolist())) == 1 for unit in np.unique(units))
        shares = np.bincount(part, minlength=3) / len(part)
        assert np.abs(shares - SHARES).max() < 0.05
        for label in np.unique(labels):
            of_class = np.bincount(part[labels == label], minlength=3) / (labels == label).sum()
            assert np.abs(of_class - SHARES).max() < 0.1


def test_a_class_of_few_units_is_spread_first():
    """Units of one class each, a rare class of three: every part gets one."""
    units = np.arange(63)
    labels = np.array(["rare"] * 3 + ["often"] * 60)
    for seed in range(20):
        part = cut(units, labels, [1, 1, 1], seed=seed)
        assert sorted(part[:3].tolist()) == [0, 1, 2]


def test_what_is_hard_to_place_is_placed_first():
    """One unit as large as half a class among single rows: the rest makes up for it."""
    units = np.concatenate([np.zeros(20, int), np.arange(1, 61)])
    labels = np.array(["a"] * 40 + ["b"] * 40)
    for seed in range(20):
        part = cut(units, labels, [1, 1], seed=seed)
        assert [np.bincount(part[labels == label]).tolist() for label in ("a", "b")] == [[20, 20], [20, 20]]


def test_equal_shares_are_equal_folds():
    for seed in range(10):
        part = cut(np.arange(50), np.arange(50) % 5, [1.0] * 5, seed=seed)
        assert np.bincount(part).tolist() == [10] * 5
        for label in range(5):
            assert np.bincount(part[np.arange(50) % 5 == label], minlength=5).tolist() == [2] * 5


def test_a_share_of_zero_gets_nothing():
    part = cut(np.arange(40), np.arange(40) % 4, [0.8, 0.0, 0.2])
    assert np.bincount(part, minlength=3).tolist() == [32, 0, 8]


def test_the_seed_and_the_purpose_decide_and_names_of_units_do_not():
    units, labels = grouped(0)
    first = cut(units, labels, seed=3)
    assert (first == cut(units, labels, seed=3)).all()
    assert any((first != cut(units, labels, seed=seed)).any() for seed in range(4, 8))
    assert any((first != cut(units, labels, seed=3, purpose=purpose)).any() for purpose in ("val", "folds", "x"))
    renamed = np.char.add("group of ", units)  # the same order of names
    assert (first == cut(renamed, labels, seed=3)).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_units_than_parts(count):
    part = cut(np.arange(count), np.arange(count) % 2, [1.0] * 4)
    assert len(set(part.tolist())) == count


@pytest.mark.parametrize("per_class", [2, 3, 4, 7])
def test_folds_are_even_where_classes_have_fewer_rows_than_there_are_folds(per_class):
    labels = np.repeat(np.arange(30), per_class)
    for seed in range(5):
        counts = np.bincount(cut(np.arange(len(labels)), labels, [1.0] * 5, seed=seed), minlength=5)
        assert np.ptp(counts) <= 2
