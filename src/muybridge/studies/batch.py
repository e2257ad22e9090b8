"""A planned study as a job array of Slurm or PBS: every element is `muybridge work STUDY`.

Which run an element takes is decided by the leases, not by its number. So an array that was killed, or whose time ran out,
is submitted again as it is.
"""

import math
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muybridge.errors import UserError
from muybridge.runtime.files import within, write_atomic
from muybridge.runtime.leases import LOST_SECONDS, Leases
from muybridge.storage.plan import StoredPlan
from muybridge.studies.cluster import torchrun_arguments
from muybridge.studies.work import FOLDER

SYSTEMS = {"slurm": "sbatch", "pbs": "qsub"}
"""Batch systems, and the command that submits a script."""
MARKS = {"slurm": "#SBATCH", "pbs": "#PBS"}
"""Beginning of a line of a script's head."""
MOST_ELEMENTS = 1000
"""Most elements of an array: Slurm takes no more where its administrator has not set MaxArraySize."""
SAVE_SECONDS = 120
"""Seconds before the end of its time when Slurm asks a run to save."""


@dataclass(frozen=True)
class Submitted:
    """A job array: its script, and what the batch system answered."""

    script: Path
    command: tuple[str, ...]
    elements: int
    runs_each: int
    """Most runs that an element takes."""
    answer: str | None
    """None where nothing was submitted."""


def check_options(
    study: Path, system: str, *, time: str | None = None, partition: str | None = None, extra: Sequence[str] = ()
) -> None:
    """Check what is written into a script. Raises UserError."""
    if not str(study).isprintable():
        raise UserError(
            f"--out: {str(study)!r} has a line break or the like, which a script cannot hold. Choose another folder"
        )
    if time is not None:
        _seconds(time)
    if partition is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,@:+-]*", partition):
        raise UserError(f"--partition: {partition!r} is not a name. Give one word of letters and digits: gpu")
    for line in extra:
        is_head = line.startswith("#")
        if not line.strip() or not line.isprintable() or (is_head and not line.startswith(f"{MARKS[system]} ")):
            raise UserError(
                f"--extra: {line!r} is not one line for {system}. Begin a line of the head with '{MARKS[system]} ', and give a "
                "command as it is: 'module load cuda'"
            )


def submit(
    study: Path,
    system: str,
    *,
    gpus_per_run: int | None = None,
    cpus_per_run: int | None = None,
    jobs: int | None = None,
    time: str | None = None,
    partition: str | None = None,
    extra: Sequence[str] = (),
    lost_after: float = LOST_SECONDS,
    allow_code: bool = False,
    only_write: bool = False,
) -> Submitted:
    """Write the script of a job array with an element for every open run, and submit it.

    More than MOST_ELEMENTS runs share elements. `gpus_per_run`: none: one. `jobs`: elements that run at once; none: the
    system's limit. `time`: HH:MM:SS or D-HH:MM:SS of an element. `extra`: lines for the script: those with the system's mark for
    its head, others before the command. `only_write`: submit nothing. Raises UserError.
    """
    check_options(study.resolve(), system, time=time, partition=partition, extra=extra)
    plan = StoredPlan.load(study.resolve())
    standing = Leases(plan.path / FOLDER, lost_seconds=lost_after).standing()
    left = sum(name not in standing.done | standing.failed for name in plan.runs)
    if not left:
        raise UserError(f"{study}: no run is open. Repeat compare without --cluster to write the report again")
    runs_each = math.ceil(left / MOST_ELEMENTS)
    elements = math.ceil(left / runs_each)
    gpus = 1 if gpus_per_run is None else gpus_per_run
    if gpus > 1 and (plan.measure or plan.largest):
        raise UserError(
            "--measure, --largest: speed is measured by one process, alone. Measure afterwards: muybridge measure STUDY"
        )
    within(plan.path, f"cluster/{system}.sh").parent.mkdir(exist_ok=True)
    script = within(plan.path, f"cluster/{system}.sh")
    head = (_slurm if system == "slurm" else _pbs)(
        plan.path, elements, gpus=gpus, cpus=cpus_per_run or 4 * max(1, gpus), jobs=jobs, time=time, partition=partition
    )
    lines = {is_head: [line for line in extra if line.startswith("#") is is_head] for is_head in (True, False)}
    body = _body(plan.path, gpus, runs_each, lost_after, allow_code, before=lines[False])
    write_atomic(script, "\n".join([*head, *lines[True], *body, ""]))
    command = (SYSTEMS[system], str(script))
    if only_write:
        return Submitted(script, command, elements, runs_each, None)
    try:
        answered = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=plan.path)
    except FileNotFoundError:
        raise UserError(
            f"--cluster {system}: {command[0]} is not on this machine. Call it on {script} where it is, or write the "
            "script alone: --dry-run"
        ) from None
    if answered.returncode:
        reason = (answered.stderr.strip() or answered.stdout.strip() or f"it ended with {answered.returncode}")[:500]
        reason = " ".join(reason.split()).rstrip(".")
        raise UserError(f"{shlex.join(command)}: {reason}. Change the options, or --extra, as it asks")
    return Submitted(script, command, elements, runs_each, answered.stdout.strip())


def _seconds(time: str) -> int:
    """Seconds of HH:MM:SS or D-HH:MM:SS. Raises UserError for other texts."""
    found = re.fullmatch(r"(?:([0-9]{1,3})-)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])", time)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if not total or (days and hours > 23):
        raise UserError(f"--time: {time!r} is not a time. Give it as HH:MM:SS, or as D-HH:MM:SS with days")
    return total


def _clock(seconds: int) -> str:
    """HH:MM:SS, with hours above 24."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _range(elements: int, jobs: int | None) -> str:
    return f"1-{elements}" + (f"%{jobs}" if jobs is not None else "")


def _slurm(
    study: Path, elements: int, *, gpus: int, cpus: int, jobs: int | None, time: str | None, partition: str | None
) -> list[str]:
    return [
        "#!/bin/bash",
        f"#SBATCH --job-name=muybridge-{_word(study.name)}",
        f"#SBATCH --array={_range(elements, jobs)}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        f"#SBATCH --cpus-per-task={cpus}",
        *([f"#SBATCH --gpus-per-node={gpus}"] if gpus else []),
        *([f"#SBATCH --time={_clock(_seconds(time))}"] if time else []),
        *([f"#SBATCH --partition={partition}"] if partition else []),
        f"#SBATCH --output={shlex.quote(f'{study}/cluster/'.replace('%', '%%') + 'slurm-%A-%a.txt')}",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        f"#SBATCH --signal=B:TERM@{SAVE_SECONDS}",
    ]


def _pbs(
    study: Path, elements: int, *, gpus: int, cpus: int, jobs: int | None, time: str | None, partition: str | None
) -> list[str]:
    return [
        "#!/bin/bash",
        f"#PBS -N mb-{_word(study.name)[:12]}",
        *([f"#PBS -J {_range(elements, jobs)}"] if elements > 1 else []),  # PBS refuses an array of one
        f"#PBS -l select=1:ncpus={cpus}" + (f":ngpus={gpus}" if gpus else ""),
        *([f"#PBS -l walltime={_clock(_seconds(time))}"] if time else []),
        *([f"#PBS -q {partition}"] if partition else []),
        "#PBS -j oe",
        f"#PBS -o {shlex.quote(f'{study}/cluster/')}",
        "#PBS -r y",
    ]


def _body(
    study: Path, gpus: int, runs_each: int, lost_after: float, allow_code: bool, *, before: Sequence[str]
) -> list[str]:
    command = [sys.executable, *(torchrun_arguments(gpus) if gpus > 1 else ["-m", "muybridge"])]
    options = [
        "work",
        str(study),
        "--max-runs",
        str(runs_each),
        "--lost-after",
        f"{lost_after:g}",
        *(["--allow-code"] if allow_code else []),
    ]
    return [
        "# An element takes the next open run. Submit this file again after a kill: finished runs are kept.",
        *before,
        f"exec {shlex.join([*command, *options])}",
    ]


def _word(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "study"
