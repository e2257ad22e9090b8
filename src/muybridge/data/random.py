"""Random draws, each keyed by a name.

A draw is keyed by (seed, purpose, epoch, video id) and by nothing else: not by the worker that makes it, the step at
which it is made, or the draws before it. So a new augmentation shifts no other draw, every model of a study sees the
same clips, any number of workers gives the same batches, and any step can be resumed without saved generator states.
"""

import hashlib

import numpy as np

Key = int | str


def _digest(seed: int, purpose: str, *key: Key) -> bytes:
    text = "\x1f".join([str(seed), purpose, *map(str, key)])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def generator(seed: int, purpose: str, *key: Key) -> np.random.Generator:
    """A NumPy generator that depends on nothing but its key (Philox, 128 bits of key)."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, purpose, *key), "little")))


def torch_seed(seed: int, purpose: str, *key: Key) -> int:
    """A seed for `torch.manual_seed`, keyed the same way (63 bits, as torch takes a signed number)."""
    return int.from_bytes(_digest(seed, purpose, *key)[:8], "little") >> 1
