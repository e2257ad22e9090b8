"""Files that are written beside a report if they are asked for: figures of a paper or a talk, and a card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.reporting import card as cards
from muybridge.reporting.figures import check_figures, write_figures
from muybridge.reporting.report import Report


@dataclass(frozen=True)
class Beside:
    """Places that were asked for and are free."""

    figures: Path | None
    """Folder of the figures."""
    size: str
    card: Path | None
    signer: Any
    """Private key that signs the card; None: it is not signed."""

    @staticmethod
    def of(*, figures: str | Path | None, size: str, card: str | Path | None, key: str | Path | None) -> "Beside":
        """Check what was asked for, before anything is computed. Raises UserError."""
        folder, place = (None if name is None else Path(name) for name in (figures, card))
        if folder is not None:
            check_figures(folder, size)
        elif size != "column":
            raise UserError("--size: it is the size of figures. Name their folder, too: --figures FOLDER")
        if place is not None:
            cards.check_place(place)
        elif key is not None:
            raise UserError("--key: it signs a card. Name its file, too: --card FILE")
        return Beside(folder, size, place, None if key is None else cards.private_key(Path(key)))

    def check_apart(self, page: Path) -> None:
        """Raise UserError where the card is to have the name of a file of the report."""
        files = [page.with_suffix(ending).absolute() for ending in (".html", ".md", ".json")]
        if self.card is not None and self.card.absolute() in files:
            raise UserError(f"--card {self.card}: the report writes a file of that name. Choose another")

    def write(self, report: Report, *, judged: Mapping[str, Any] | None = None) -> None:
        """Write them. `judged`: how `judge` read the predictions, which the card keeps. Raises UserError."""
        if self.figures is not None:
            write_figures(report, self.figures, size=self.size)
        if self.card is not None:
            content = cards.card_of(report.comparisons, title=report.title, judged=judged)
            cards.write_card(content, self.card, key=self.signer)
