"""Results that show themselves in a notebook: a table by themselves, a pandas DataFrame on request."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muybridge.errors import UserError
from muybridge.text import printable

MOST_ROWS = 50
"""Most rows that a notebook shows; a DataFrame has all."""


class Shown:
    """Result that a notebook shows as a heading and a table. `as_rows` are the rows of its DataFrame."""

    def as_rows(self) -> list[dict[str, Any]]:
        """Rows as plain values, by the names of their columns."""
        raise NotImplementedError

    def frame(self) -> Any:
        """A pandas DataFrame of `as_rows`. Raises UserError without pandas."""
        try:
            import pandas
        except ImportError:
            raise UserError(
                "frame: it needs pandas, which is not installed. Install it: pip install pandas; or take the rows as they "
                "are, by as_rows()"
            ) from None
        return pandas.DataFrame(self.as_rows())


class ShownSets(Shown):
    """Result that holds a comparison a data set."""

    comparisons: Mapping[str, Any]

    @property
    def comparison(self) -> Any:
        """The comparison of the first data set."""
        return next(iter(self.comparisons.values()))

    def as_rows(self) -> list[dict[str, Any]]:
        """Rows of all comparisons, each with the name of its data set."""
        return [{"data": name, **row} for name, one in self.comparisons.items() for row in one.as_rows()]

    def plot(self, figure: str = "accuracy") -> Any:
        """An Altair chart as a comparison gives it; of several data sets one below the other. Raises UserError."""
        import muybridge

        return muybridge.plot(self, figure)

    def _repr_html_(self) -> str:
        return "".join(one._repr_html_() for one in self.comparisons.values()) or heading("no run is finished")


def heading(text: str, *more: str) -> str:
    """A bold line, and plain lines below it, as HTML."""
    return f"<p><b>{escaped(text)}</b>{''.join(f'<br>{escaped(line)}' for line in more)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as HTML: its first rows, and how many more there are."""
    head = "".join(f"<th>{escaped(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escaped(_cell(cell))}</td>' for cell in row)}</tr>" for row in rows[:MOST_ROWS]
    )
    rest = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows that have names for their columns, as HTML."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return table(columns, [[row.get(name) for name in columns] for row in rows])


def lines(texts: Iterable[str]) -> str:
    """A list of sentences, as HTML."""
    items = "".join(f"<li>{escaped(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def escaped(text: str) -> str:
    """Text that HTML shows literally."""
    return html.escape(printable(text))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
