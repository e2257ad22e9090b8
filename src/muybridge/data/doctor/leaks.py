"""Copies: across splits, with another label, and within a split; and files whose parts lie on two sides."""

from collections import Counter
from collections.abc import Iterator

from muybridge.data.doctor.copies import Kind, Pair, same_file
from muybridge.data.doctor.finding import EXCLUDE, Case, Example, Finding
from muybridge.text import plural

KINDS: dict[Kind, str] = {"exact": "the same file", "near": "coded again", "mirrored": "mirrored"}
MOST_EXAMPLES = 12
_ORDER = {b"test": 0, b"val": 1, b"train": 2, b"unused": 3}


def copies(case: Case) -> Iterator[Finding]:
    """Findings on copies: exact ones, and near ones where the videos were looked at."""
    across, within, contrary = [], [], []
    for pair in case.copies.pairs:
        if _is_across(case, pair.a, pair.b):
            across.append(pair)
        elif not _is_unused(case, pair):
            within.append(pair)
        if not _agree(case, pair):
            contrary.append(pair)
    if across:
        spare = _spare(case, across)
        more = (
            " The list has the copies within a split, too: without some videos another split is drawn."
            if within
            else ""
        )
        yield Finding(
            "copies-across-splits", "leak",
            f"Copies of {plural(len(spare), 'video')} are in another split ({_counts(across)}): a test on what training saw "
            f"flatters every model. {_first(case, across)}{more}",
            EXCLUDE, _spare(case, [*across, *within]), _examples(case, across), _figures(across),
        )  # fmt: skip
    if contrary:
        rows = tuple(sorted({row for pair in contrary for row in (pair.a, pair.b)}))
        yield Finding(
            "copies-with-another-label", "fault",
            f"Copies among {plural(len(rows), 'video')} have different labels ({_counts(contrary)}): one of each two labels is "
            f"wrong. {_first(case, contrary)}",
            EXCLUDE, rows, _examples(case, contrary), _figures(contrary),
        )  # fmt: skip
    if within:
        spare = _spare(case, within)
        yield Finding(
            "copies-within-a-split", "doubt",
            f"Copies of {plural(len(spare), 'video')} are in the same split ({_counts(within)}): they count twice, and "
            f"intervals come out too narrow. {_first(case, within)}",
            EXCLUDE, spare, _examples(case, within), _figures(within),
        )  # fmt: skip
    if case.copies.left_out:
        yield Finding(
            "pairs-left-out", "note",
            f"Not compared, as too many look alike: {plural(case.copies.left_out, 'pair')}. The most alike "
            "were. Copies may be among them.",
        )  # fmt: skip


def files(case: Case) -> Iterator[Finding]:
    """Findings on files whose parts are in several splits."""
    copied = {frozenset((pair.a, pair.b)) for pair in case.copies.pairs}
    found = []
    for rows in same_file(case.manifest):
        other = [row for row in rows[1:] if frozenset((rows[0], row)) not in copied and _is_across(case, rows[0], row)]
        if other:
            found.append((rows[0], other[0]))
    if found:
        yield Finding(
            "files-across-splits", "leak",
            f"Parts of {plural(len(found), 'file')} are in several splits: the same people and scene are on both sides.",
            "muybridge prepare … --group '(.*)'", (),
            tuple(
                Example(pair, " and ".join(f"{case.ids[row]} ({case.splits_of(row)})" for row in pair))
                for pair in found[:MOST_EXAMPLES]
            ),
        )  # fmt: skip


def _is_across(case: Case, a: int, b: int) -> bool:
    """Whether two rows are in different splits, in any fold; unused rows are in none."""
    for name in case.manifest.split_columns:
        one, other = (case.manifest.columns[name][row] for row in (a, b))
        if one != other and b"unused" not in (one, other):
            return True
    return False


def _is_unused(case: Case, pair: Pair) -> bool:
    splits = [case.manifest.columns[name][[pair.a, pair.b]] for name in case.manifest.split_columns]
    return all((of_pair == b"unused").any() for of_pair in splits)


def _agree(case: Case, pair: Pair) -> bool:
    """Whether the labels of two copies go together; those of a mirror image may be swapped, or unknown."""
    a, b = case.label(pair.a), case.label(pair.b)
    if pair.kind != "mirrored":
        return a == b
    mirror = case.manifest.mirror
    return mirror is None or mirror.get(a, a) == b


def _spare(case: Case, pairs: list[Pair]) -> tuple[int, ...]:
    """All but one of the rows of each cluster: the one that is kept is tested on, if any is."""
    spare = []
    for rows in case.copies.clusters(tuple(pairs)):
        column = case.manifest.columns[case.manifest.split_columns[0]]
        kept = min(rows, key=lambda row: (_ORDER[bytes(column[row])], row))
        spare += [row for row in rows if row != kept]
    return tuple(sorted(spare))


def _counts(pairs: list[Pair]) -> str:
    counted = Counter(pair.kind for pair in pairs)
    return ", ".join(f"{counted[kind]} {text}" for kind, text in KINDS.items() if counted[kind])


def _first(case: Case, pairs: list[Pair]) -> str:
    return f"The first: {case.ids[pairs[0].a]} and {case.ids[pairs[0].b]}."


def _figures(pairs: list[Pair]) -> dict[str, int]:
    return {kind: sum(pair.kind == kind for pair in pairs) for kind in KINDS}


def _examples(case: Case, pairs: list[Pair]) -> tuple[Example, ...]:
    order = {"near": 0, "mirrored": 1, "exact": 2}
    shown = sorted(pairs, key=lambda pair: (order[pair.kind], pair))
    return tuple(
        Example((pair.a, pair.b), f"{' and '.join(_named(case, row) for row in (pair.a, pair.b))}: {KINDS[pair.kind]}")
        for pair in shown[:MOST_EXAMPLES]
    )


def _named(case: Case, row: int) -> str:
    return f"{case.ids[row]} ({case.label(row)}, {case.splits_of(row)})"
