"""Tables in a terminal: control characters are shown, words stay whole, columns without room are left out and named."""

import re
import shutil
from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from muybridge.text import printable

WIDE = 160
"""Width in columns where the terminal has none."""
_PADDING = 2
"""Blanks per column, one on each side."""
LONGEST_WORD, LONGEST_PIECE = 60, 30
"""Width of the longest word that stays whole, and of the pieces that a longer one is broken into."""


def render(header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Draw a table as wide as the terminal; the columns `numeric` are aligned to the right.

    Columns whose words have no room are left out, from the right, and named below.
    """
    width = shutil.get_terminal_size((WIDE, 24)).columns
    columns = [[printable(cell) for cell in column] for column in zip(header, *rows, strict=True)]
    shown, left_out = _fitting(columns, width)
    widths = _widths(shown, width)
    rich_table = Table(box=box.SIMPLE_HEAD)
    for index, (column, room) in enumerate(zip(shown, widths, strict=True)):
        justify = "right" if index in numeric else "left"
        rich_table.add_column(Text("\n".join(_wrapped(column[0], room))), justify=justify, no_wrap=True, width=room)  # type: ignore[arg-type]
    for row in list(zip(*shown, strict=True))[1:]:
        rich_table.add_row(*(Text("\n".join(_wrapped(cell, room))) for cell, room in zip(row, widths, strict=True)))
    out = StringIO()
    console = Console(file=out, width=max(width, sum(widths) + _frame(len(widths))), highlight=False, color_system=None)
    console.print(rich_table)
    if left_out:
        console.print(f"({width} columns have no room for {', '.join(left_out)}; --json has all)", markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _frame(num_columns: int) -> int:
    """Width of borders and padding."""
    return num_columns * _PADDING + num_columns + 1


def _fitting(columns: list[list[str]], width: int) -> tuple[list[list[str]], list[str]]:
    """Columns whose words fit (always the first), and the headers of the others."""
    shown = list(columns)
    while len(shown) > 1 and sum(map(_least, shown)) + _frame(len(shown)) > width:
        shown.pop()
    return shown, [column[0] for column in columns[len(shown) :]]


def _least(column: Sequence[str]) -> int:
    """Width of the longest word of a column."""
    return max((cell_len(word) for cell in column for word in _words(cell)), default=1)


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of the columns: as wide as their text, the widest narrowed until all fit."""
    widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    least = [_least(column) for column in columns]
    while sum(widths) + _frame(len(widths)) > width:
        spare = [wanted - needed for wanted, needed in zip(widths, least, strict=True)]
        if max(spare) <= 0:
            break
        widest = max((index for index, room in enumerate(spare) if room > 0), key=lambda index: widths[index])
        widths[widest] -= 1
    return [max(1, room) for room in widths]


def _words(text: str) -> list[str]:
    """Units that are not broken: words, and the parts of a path."""
    return [word for line in text.split("\n") for part in _pieces(line) if (word := part.rstrip())]


def _pieces(line: str) -> list[str]:
    """Words with the blank after them, parts of a path with their slash, and parts of long words, cut at marks."""
    pieces: list[str] = []
    for part in re.findall(r"[^ /]*/|[^ /]+ ?| ", line):
        if cell_len(part.rstrip()) <= LONGEST_WORD:
            pieces.append(part)
            continue
        for piece in re.split(r"(?<=[-_.])(?! )", part):
            letters = max(1, LONGEST_PIECE * len(piece) // max(cell_len(piece), LONGEST_PIECE))
            pieces += [piece[start : start + letters] for start in range(0, len(piece), letters)]
    return pieces


def _wrapped(text: str, room: int) -> list[str]:
    """Lines of at most `room` columns, broken between pieces."""
    lines: list[str] = []
    for whole in text.split("\n"):
        line = ""
        for part in _pieces(whole):
            if line and cell_len(line + part.rstrip()) > room:
                lines.append(line.rstrip())
                line = part.lstrip() if part.strip() else ""
            else:
                line += part
        lines.append(line.rstrip())
    return lines
