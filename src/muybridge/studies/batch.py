"""A planned study as a job array of Slurm or PBS: every element is `muybridge work STUDY`.

Which run an element takes is decided by the leases, not by its number. So an array that was killed, or whose time ran out,
is submitted again as it is.
"""

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
SAVE_SECONDS = 120
"""Seconds before the end of its time when Slurm asks a run to save."""


@dataclass(frozen=True)
class Submitted:
    """A job array: its script, and what the batch system answered."""

    script: Path
    command: tuple[str, ...]
    elements: int
    answer: str | None
    """None where nothing was submitted."""


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

    `gpus_per_run`: none: one. `jobs`: elements that run at once; none: the system's limit. `time`: HH:MM:SS of an element.
    `extra`: lines for the script's head. `only_write`: submit nothing. Raises UserError.
    """
    plan = StoredPlan.load(study.resolve())
    standing = Leases(plan.path / FOLDER).standing()
    elements = sum(name not in standing.done | standing.failed for name in plan.runs)
    if not elements:
        raise UserError(f"{study}: no run is open. Repeat compare without --cluster to write the report again")
    if time is not None and not re.fullmatch(r"([0-9]+-)?[0-9]{1,3}(:[0-9]{2}){1,2}", time):
        raise UserError(f"--time: '{time}' is not a time. Give it as HH:MM:SS")
    gpus = 1 if gpus_per_run is None else gpus_per_run
    if gpus > 1 and (plan.measure or plan.largest):
        raise UserError(
            "--measure, --largest: speed is measured by one process, alone. Measure afterwards: muybridge measure STUDY"
        )
    mark = {"slurm": "#SBATCH", "pbs": "#PBS"}[system]
    for line in extra:
        if not line.startswith(mark) or "\n" in line:
            raise UserError(f"--extra: '{line}' is not one line for {system}. Begin it with {mark}")
    within(plan.path, f"cluster/{system}.sh").parent.mkdir(exist_ok=True)
    script = within(plan.path, f"cluster/{system}.sh")
    head = (_slurm if system == "slurm" else _pbs)(
        plan.path, elements, gpus=gpus, cpus=cpus_per_run or 4 * max(1, gpus), jobs=jobs, time=time, partition=partition
    )
    write_atomic(script, "\n".join([*head, *extra, *_body(plan.path, gpus, lost_after, allow_code), ""]))
    command = (SYSTEMS[system], str(script))
    if only_write:
        return Submitted(script, command, elements, None)
    try:
        answered = subprocess.run(command, capture_output=True, text=True, check=False, cwd=plan.path)
    except FileNotFoundError:
        raise UserError(
            f"--cluster {system}: {command[0]} is not on this machine. Call it on {script} where it is, or write the "
            "script alone: --dry-run"
        ) from None
    if answered.returncode:
        reason = (answered.stderr.strip() or answered.stdout.strip() or f"it ended with {answered.returncode}")[:500]
        raise UserError(f"{' '.join(command)}: {reason.rstrip('.')}. Change the options, or --extra, as it asks")
    return Submitted(script, command, elements, answered.stdout.strip())


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
        *([f"#SBATCH --time={time}"] if time else []),
        *([f"#SBATCH --partition={partition}"] if partition else []),
        f"#SBATCH --output={shlex.quote(f'{study}/cluster/slurm-%A-%a.txt')}",
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
        *([f"#PBS -l walltime={time}"] if time else []),
        *([f"#PBS -q {partition}"] if partition else []),
        "#PBS -j oe",
        f"#PBS -o {shlex.quote(f'{study}/cluster/')}",
        "#PBS -r y",
    ]


def _body(study: Path, gpus: int, lost_after: float, allow_code: bool) -> list[str]:
    command = [sys.executable, *(torchrun_arguments(gpus) if gpus > 1 else ["-m", "muybridge"])]
    options = [
        "work",
        str(study),
        "--max-runs",
        "1",
        "--lost-after",
        f"{lost_after:g}",
        *(["--allow-code"] if allow_code else []),
    ]
    return [
        "# An element takes the next open run. Submit this file again after a kill: finished runs are kept.",
        f"exec {shlex.join([*command, *options])}",
    ]


def _word(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "study"
