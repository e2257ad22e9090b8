"""Pictures: videos that cannot be read, show nothing, do not move, or hardly do."""

from collections.abc import Iterator

import numpy as np

from muybridge.data.doctor.copies import BLANK
from muybridge.data.doctor.finding import EXCLUDE, Case, Example, Finding, Rank, first
from muybridge.text import plural

SAME = 0.1
"""Mean change in levels of 255 from one looked-at frame to the next up to which the picture stands still."""
MOST_EXAMPLES = 8


def unreadable(case: Case) -> Iterator[Finding]:
    """Finding on videos that cannot be read."""
    if case.looks_N is None:
        return
    rows = np.flatnonzero(case.looks_N["problem"] != b"")
    if len(rows):
        reasons = [f"{case.ids[row]}: {case.looks_N['problem'][row].decode(errors='replace')}" for row in rows[:3]]
        yield Finding(
            "unreadable", "fault", f"Not readable: {plural(len(rows), 'video')}. The first: {'; '.join(reasons)}.", EXCLUDE,
            first(rows, len(rows)),
        )  # fmt: skip


def blank(case: Case) -> Iterator[Finding]:
    """Findings on videos that are black or of one colour, frozen, or still for half of their length."""
    if case.looks_N is None:
        return
    looks_N = case.looks_N
    read_N = looks_N["problem"] == b""
    blank_N = read_N & (looks_N["contrast"] < BLANK)
    changes_NT = looks_N["changes"]
    still_N = (changes_NT <= SAME).sum(1) / np.maximum(np.isfinite(changes_NT).sum(1), 1)  # (NaN is no change)
    frozen_N = read_N & ~blank_N & (still_N == 1)
    static_N = read_N & ~blank_N & ~frozen_N & (still_N >= 0.5)
    mean_N = looks_N["gray"].mean((1, 2, 3))
    kinds: tuple[tuple[str, Rank, np.ndarray, str], ...] = (
        ("black", "fault", blank_N, "Black, or of one colour, from the first frame to the last"),
        ("frozen", "fault", frozen_N, "One picture that is held, in which nothing moves"),
        ("mostly-static", "doubt", static_N, "Standing still for at least half of the length"),
    )
    for name, rank, found_N, what in kinds:
        rows = np.flatnonzero(found_N)
        if not len(rows):
            continue
        order = rows[np.argsort(mean_N[rows] if name == "black" else -still_N[rows], kind="stable")]
        yield Finding(
            name, rank, f"{what}: {plural(len(rows), 'video')}.", EXCLUDE, first(rows, len(rows)),
            tuple(
                Example((int(row),), f"{case.ids[row]} ({case.label(row)}, {case.splits_of(row)})")
                for row in order[:MOST_EXAMPLES]
            ),
        )  # fmt: skip
