"""`check`: look at a machine before anything is trained, and say what is good, what is not, and what to do."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge import __version__
from muybridge.errors import UserError
from muybridge.machine.finding import RANKS, Finding
from muybridge.machine.programs import end
from muybridge.runtime.launch import module_process
from muybridge.runtime.shown import Shown, heading, table
from muybridge.text import plural

LOOKS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("packages", "processor", "memory"), 30.0),
    (("disk",), 20.0),
    (("decoding",), 60.0),
    (("graphics", "training"), 120.0),
)
"""Looks that share a process, and the seconds after which it is ended. To add one, write a module with a function `look`."""


@dataclass(frozen=True)
class Checked(Shown):
    """Result of `check`: findings in the order of the looks."""

    findings: tuple[Finding, ...]
    is_quick: bool
    seconds: float
    """Time that it took."""

    @property
    def works(self) -> bool:
        """Whether muybridge can work here: no finding is a fault."""
        return not any(finding.rank == "fault" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON, without folders, host and user."""
        return {
            "format_version": 1, "muybridge": __version__, "works": self.works, "quick": self.is_quick,
            "seconds": round(self.seconds, 1), "findings": [finding.as_json() for finding in self.findings],
        }  # fmt: skip

    def as_rows(self) -> list[dict[str, Any]]:
        """A row a finding."""
        return [
            {name: getattr(one, name) for name in ("look", "rank", "check", "text", "remedy")} for one in self.findings
        ]

    def _repr_html_(self) -> str:
        cells = [[one.rank, one.look, one.text, one.remedy] for one in self.findings]
        return heading(str(self)) + table(["", "look", "found", "what to do"], cells)

    def __str__(self) -> str:
        counts = Counter(finding.rank for finding in self.findings)
        said = ", ".join(plural(counts[rank], rank) for rank in RANKS if counts[rank] and rank != "good")
        state = "muybridge can work on this machine" if self.works else "muybridge cannot work on this machine as it is"
        return f"{state}{f': {said}' if said else ''}"


def check(folder: str | Path = ".", *, quick: bool = False) -> Checked:
    """Look at this machine and at the folder to work in, and say what is good, what is not, and what to do.

    Packages, GPU and driver, decoding, disk, memory, processors, and what fits. Each is looked at in a process that is ended
    where it hangs. `quick`: nothing is measured. Nothing is left in the folder. Raises UserError for an empty name.
    """
    if not str(folder):
        raise UserError("check: the name of the folder is empty. Name one, or leave it out for the current one")
    started = time.monotonic()
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="muybridge-check-", ignore_cleanup_errors=True) as scratch:
        question = {"folder": os.path.abspath(folder), "scratch": scratch, "quick": quick}
        for names, seconds in LOOKS:
            found += _answers(names, question, seconds)
    return Checked(tuple(found), quick, time.monotonic() - started)


def _answers(names: tuple[str, ...], question: dict[str, Any], seconds: float) -> Iterator[Finding]:
    """Findings of looks that share a process, with one about its end where that came too early."""
    about = module_process("muybridge.machine.look")
    about["args"] += names
    about["env"] |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), question["scratch"])  # libraries leave files there
    process = subprocess.Popen(
        **about,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    late = False
    try:
        said, errors = process.communicate(json.dumps(question) + "\n", timeout=seconds)
    except subprocess.TimeoutExpired as expired:
        late = True
        end(process)
        try:
            said, errors = process.communicate(timeout=1.0)
        except subprocess.TimeoutExpired:  # it waits for a device, and cannot be ended: it is left behind
            said, errors = (expired.stdout or b"").decode(errors="replace"), ""
    finally:
        end(process)
    at = names[0]
    for line in said.splitlines():
        with suppress(ValueError):  # the last one may be cut
            answer = json.loads(line)
            at = answer.get("begins", at)
            if "finding" in answer:
                yield Finding(**answer["finding"])
    if late:
        yield Finding(
            f"{at}-hangs",
            "fault",
            f"The look at the {at} gives no answer within {seconds:.0f} seconds.",
            _ADVICE.get(at, _SLOW),
            look=at,
        )
    elif process.returncode:
        how = signal.Signals(-process.returncode).name if process.returncode < 0 else f"status {process.returncode}"
        last = (errors.strip().splitlines() or [""])[-1]
        crashed = Finding(
            f"{at}-crashed",
            "fault",
            f"The process that looks at the {at} ends with {how}.{f' {last}' if last and process.returncode > 0 else ''}",
            _REINSTALL.get(at, "Reinstall muybridge: pip install --force-reinstall muybridge"),
            look=at,
        )
        yield crashed.private(Path(question["folder"]))


_SLOW = "Try again when the machine is less busy; then restart it"
_ADVICE = {
    "disk": "A network share may be gone: see mount, or name a folder on another disk",
    "graphics": "The driver may hang, or torch lies on a slow disk: restart the machine, or install torch on a local disk",
}
"""Remedies where a look hangs."""
_REINSTALL = {
    "graphics": "pip install --force-reinstall torch",
    "training": "pip install --force-reinstall torch",
    "decoding": "pip install --force-reinstall av",
}
"""Remedies where the process of a look crashes."""
