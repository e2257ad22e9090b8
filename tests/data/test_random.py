"""Draws: named, independent of one another, and of anything that happened before."""

import os
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest
import torch

from muybridge.data.random import generator, torch_seed


def first(*key):
    return generator(*key).random(8).tolist()


def test_same_key_same_draws():
    assert first(3, "clip", 5, "a.avi") == first(3, "clip", 5, "a.avi")


def test_every_part_of_the_key_changes_the_draw():
    keys = list(product((0, 1, 2), ("clip", "crop", "flip"), (0, 1, 2, 10), ("a.avi", "b.avi", "1", "walk/é.mp4")))
    assert len({tuple(first(*key)) for key in keys}) == len(keys)
    assert len({torch_seed(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "a", "bc"), (0, "ab", "c")),
        ((0, "p", "a", "bc"), (0, "p", "ab", "c")),
        ((0, "p", 1, 23), (0, "p", 12, 3)),
        ((1, "1p"), (11, "p")),
        ((0, "p", "x"), (0, "px")),
        ((0, "p"), (0, "p", "")),
        ((0, "p", 1, 2), (0, "p", 2, 1)),
    ],
)
def test_keys_do_not_run_together(one, other):
    assert first(*one) != first(*other)
    assert torch_seed(*one) != torch_seed(*other)


def test_draws_do_not_depend_on_draws_before():
    keys = [(7, purpose, epoch, name) for purpose in ("clip", "crop") for epoch in range(3) for name in "abc"]
    forward = {key: first(*key) for key in keys}
    np.random.seed(5)
    torch.manual_seed(5)
    backward = {key: first(*key) for key in reversed(keys)}
    assert forward == backward


def test_global_random_state_is_left_alone():
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first(0, "clip", 0, "a")
    torch_seed(0, "clip", 0, "a")
    assert (np.random.get_state()[1] == numpy_before).all()
    assert (torch.get_rng_state() == torch_before).all()


def test_a_new_process_draws_the_same():
    code = "from muybridge.data.random import *; print(generator(4, 'clip', 2, 'ü.avi').random(8).tolist(), torch_seed(4, 'w'))"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONUTF8": "1"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == f"{first(4, 'clip', 2, 'ü.avi')} {torch_seed(4, 'w')}"


@pytest.mark.parametrize("varied", ["purpose", "epoch", "id"])
def test_neighbouring_keys_are_uncorrelated(varied):
    """Over 2000 videos, the first draw of one key says nothing about that of the next."""
    count = 2000
    keys = {
        "purpose": [[(0, purpose, 0, f"{i}.avi") for i in range(count)] for purpose in ("clip", "crop", "flip")],
        "epoch": [[(0, "clip", epoch, f"{i}.avi") for i in range(count)] for epoch in range(3)],
        "id": [[(0, "clip", 0, f"{i + shift}.avi") for i in range(count)] for shift in range(3)],
    }[varied]
    draws = [np.array([generator(*key).random() for key in column]) for column in keys]
    for column in draws:
        assert abs(column.mean() - 0.5) < 5 * np.sqrt(1 / 12 / count)
    for a, b in combinations(draws, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(count)


def test_torch_seed_uses_the_whole_range_that_torch_takes():
    seeds = [torch_seed(seed, "weights") for seed in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62 > min(seeds)
    torch.Generator().manual_seed(max(seeds))
