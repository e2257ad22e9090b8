r"""Tables as LaTeX: a `tabular` with the rules of the package booktabs, for `\input{report.files/NAME}`."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

from muybridge.text import printable

PACKAGES = r"\usepackage{booktabs}"
"""Packages that a document needs."""
LONGEST_CELL = 48
"""Characters of a cell, above which its column breaks lines."""
BROKEN = r"p{7cm}"
"""Kind of such a column."""

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}", "-": "{-}",
    "–": "--", "—": "---", "…": r"\dots{}", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "²": r"$^2$",
    "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$", "↔": r"$\leftrightarrow$", "µ": r"$\mu$", "−": "$-$",
    "\u00a0": "~", "\u2011": "-",
}  # fmt: skip
"""Characters that LaTeX would take for commands or ligatures, or that its fonts lack."""

_NUMBER = re.compile(r"(?<![\w.-])([+-])(\d+(?:[.,]\d+)*)")
"""Signed numbers: their signs are set as mathematics."""
_NUMERIC = re.compile(r"[+-]?[\d.,]+( ?[%A-Za-z]{0,2})?( \[[^\]]*\])?|–|< [\d.]+|")
"""Cells that are numbers, with a unit or an interval, or that stand for one."""


def tabular(header: Sequence[str], rows: Sequence[Sequence[str]], *, foot: int = 0) -> str:
    """Table as a LaTeX `tabular`: numbers to the right, text escaped, signs of numbers set as mathematics.

    `foot`: number of the last rows that a rule parts from the others. Letters that pdfLaTeX lacks are left as they are, and
    a comment says so.
    """
    columns = [list(column) for column in zip(header, *rows, strict=True)]
    kinds = "".join(_kind(column[1:], first=number == 0) for number, column in enumerate(columns))
    lines = [_line(row) for row in rows]
    body = lines if not 0 < foot < len(lines) else [*lines[:-foot], r"\midrule", *lines[-foot:]]
    text = "\n".join(
        [
            rf"\begin{{tabular}}{{{kinds}}}",
            r"\toprule",
            _line(header),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
    needs = f"% Needs {PACKAGES} and \\usepackage[T1]{{fontenc}}"
    if beyond := sorted({character for character in set(text) if not _is_latin(character)}):
        needs += f", and LuaLaTeX or XeLaTeX with a font that has {' '.join(beyond[:20])}"
    return f"{needs}.\n{text}\n"


@lru_cache(maxsize=2**16)  # names and figures come again and again
def escaped(text: str) -> str:
    """Text in which every character stands for itself, and signed numbers have the signs of mathematics."""
    plain = " ".join(printable(text).split())
    parts, end = [], 0
    for match in _NUMBER.finditer(plain):
        parts += [_characters(plain[end : match.start()]), f"${match[1]}{match[2].replace(',', '{,}')}$"]
        end = match.end()
    return "".join([*parts, _characters(plain[end:])])


def _characters(text: str) -> str:
    """Characters escaped; a hyphen alone stays, as only several become a dash."""
    pieces = []
    for character, run in groupby(text):
        several = list(run)
        pieces += several if character == "-" and len(several) == 1 else [_SPECIAL.get(one, one) for one in several]
    return "".join(pieces)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def _kind(cells: Sequence[str], *, first: bool) -> str:
    """Letter of a column: r for numbers, l for words, a paragraph for long ones."""
    if max((len(cell) for cell in cells), default=0) > LONGEST_CELL:
        return BROKEN
    return "r" if not first and all(_NUMERIC.fullmatch(cell) for cell in cells) else "l"


def _is_latin(character: str) -> bool:
    """Whether pdfLaTeX with the encoding T1 has it: ASCII, and the letters of Western and Central Europe."""
    return character.isascii() or ("\u00c0" <= character <= "\u017e" and character not in "÷ĦħĨĩĸĿŀŦŧŊŋ")
