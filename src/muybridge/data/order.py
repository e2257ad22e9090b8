"""Order and batches in which training sees the rows of a manifest, without torch."""

import numpy as np

from muybridge.data.random import generator


def pass_batches(rows: np.ndarray, *, batch_size: int, number: int, seed: int) -> list[np.ndarray]:
    """Cut the rows, in the random order of pass `number`, into batches of even size.

    Each row occurs once: none is dropped, and no small batch is left at the end.
    """
    shuffled = generator(seed, "order", number).permutation(rows)
    return np.array_split(shuffled, num_batches(len(rows), batch_size))


def balanced_batches(
    rows: np.ndarray, labels_N: np.ndarray, *, batch_size: int, number: int, seed: int
) -> list[np.ndarray]:
    """Batches of pass `number` in which each class occurs equally often; of each clip its round and its row, (M,2).

    The rows of a class follow each other in rounds, each a random order of all of them, that go on from pass to pass: over
    the training no row of a class is drawn more than once more than another, and (round, row) never occurs twice. A pass
    is as long as without balance; where it has a clip more of some classes, these change from pass to pass.
    """
    present = np.unique(labels_N)
    of_class = [rows[labels_N == k] for k in present]
    slots_N = number * len(rows) + np.arange(len(rows))
    pairs: list[tuple[int, int]] = []
    orders: dict[tuple[int, int], np.ndarray] = {}
    for slot in slots_N.tolist():
        turn, place = divmod(slot, len(present))
        members = of_class[place]
        round_, index = divmod(turn, len(members))
        if (place, round_) not in orders:
            draw = generator(seed, "balanced order", int(present[place]), round_)
            orders[place, round_] = draw.permutation(members)
        pairs.append((round_, int(orders[place, round_][index])))
    shuffled = generator(seed, "order", number).permutation(np.array(pairs))
    return np.array_split(shuffled, num_batches(len(rows), batch_size))


def num_batches(num_rows: int, batch_size: int) -> int:
    """Number of batches in a pass over `num_rows`."""
    return -(-num_rows // batch_size)
