"""Text from data (class names, file names), escaped for terminals, Markdown and spreadsheets; and number formats."""

import re
from collections.abc import Iterable, Sequence

_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters (escape sequences among them), marks of writing direction, and lone surrogates."""

_MARKED = re.compile(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=\w)[:@](?=[\w/])|(?<=www)\.)")
"""Characters with a meaning in Markdown: emphasis, links, cells, formulae, bare addresses."""

_LEADING = re.compile(r"^(\d*)([#>+=.)-])")
"""Characters with a meaning at the start of a line: headings, lists, quotes, rules."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?%?")


def printable(text: str) -> str:
    r"""Text that is safe in a terminal: control characters are written as escapes (\x1b)."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def markdown(text: str) -> str:
    """Text that Markdown shows literally, in a line or a table cell."""
    line = " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _LEADING.sub(r"\1\\\2", _MARKED.sub(r"\\\1", line))


def spreadsheet(text: str) -> str:
    """Text that is safe in a spreadsheet and a terminal: a formula gets an apostrophe in front."""
    is_formula = text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.fullmatch(text)
    return f"'{printable(text)}" if is_formula else printable(text)


def from_spreadsheet(text: str) -> str:
    """Text without the apostrophe that `spreadsheet` puts in front of a formula."""
    return text[1:] if text[:1] == "'" and spreadsheet(text[1:]) == text else text


def plural(count: int | str, noun: str) -> str:
    """Format a number with its noun: "1 class", "2 classes"."""
    return f"{count} {noun}" + ("" if count in (1, "1") else "es" if noun.endswith("s") else "s")


_WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def in_words(count: int) -> str:
    """Write a small number as a word; above twelve, as digits."""
    return _WORDS[count] if count < len(_WORDS) else str(count)


_PLACES = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
]  # fmt: skip


def nth(number: int) -> str:
    """Place in a row, counted from 1: "the first"; above twelve "number 13"."""
    return f"the {_PLACES[number - 1]}" if number <= len(_PLACES) else f"number {number}"


def shortened(name: str, most: int) -> str:
    """Name with its middle left out if it is longer than `most` characters."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def listed(names: Sequence[str]) -> str:
    """Join names as in "a, b and c"; beyond six, the first five and the number of others."""
    if len(names) > 6:
        names = [*names[:5], f"{len(names) - 5} others"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def counted(lines: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each kind of (kind, line): the first, with the number of the others."""
    by_kind: dict[str, list[str]] = {}
    for kind, line in lines:
        by_kind.setdefault(kind, []).append(line)
    return [same[0] if len(same) == 1 else f"{same[0]} (and {len(same) - 1} more like it)" for same in by_kind.values()]


def ratio(weights: Sequence[float]) -> str:
    """Format weights in proportion to the first that is not zero: "1 : 1.5"."""
    unit = next((weight for weight in weights if weight), 1.0)
    return " : ".join(f"{weight / unit:.3g}" for weight in weights)


def duration(seconds: float) -> str:
    """Format a time, roughly: "45 s", "12 min", "3.5 h", "4.2 days"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def millions(count: float) -> str:
    """Format a number in millions: "1.50 M"."""
    return f"{count / 1e6:.2f} M"


def giga(count: float) -> str:
    """Format a number in billions, or in millions below that: "1.50 G", "20.0 M"."""
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"


def thousands(count: int) -> str:
    """Format a whole number with commas: "12,345"."""
    return f"{count:,}"


def gib(num_bytes: float) -> str:
    """Format bytes: "1.50 GiB", "20.0 MiB"."""
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 / 10 else f"{num_bytes / 2**20:.1f} MiB"
