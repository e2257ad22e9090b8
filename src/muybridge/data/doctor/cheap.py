"""The checks that need the manifest alone, which `prepare` and `compare` make, too."""

from collections.abc import Callable, Iterator

from muybridge.data.doctor import balance, formats, leaks
from muybridge.data.doctor.finding import RANKS, Case, Finding

CHEAP: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    leaks.copies,
    leaks.files,
    balance.splits,
    balance.classes,
    formats.rates,
    formats.sizes,
    formats.lengths,
)
"""Each is a function from a case to findings."""


def found_by(checks: tuple[Callable[[Case], Iterator[Finding]], ...], case: Case) -> list[Finding]:
    """Findings of some checks, the worst first."""
    ranks = list(RANKS)
    findings = [finding for check in checks for finding in check(case)]
    return sorted(findings, key=lambda finding: ranks.index(finding.rank))
