"""A study that is trained elsewhere: on a Ray cluster, or by a job array of Slurm or PBS."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from muybridge.analysis.comparison import compared_study
from muybridge.errors import UserError, nearest
from muybridge.runtime.cluster import is_ray
from muybridge.runtime.leases import LOST_SECONDS
from muybridge.storage.plan import StoredPlan
from muybridge.storage.study import StudyRecord
from muybridge.studies.batch import SYSTEMS, check_options, submit
from muybridge.studies.cluster import run_on_ray
from muybridge.studies.run import Study

ONLY_BATCH = ("time", "partition", "extra")
ONLY_RAY = ("mixed_versions",)
_ADDRESS = re.compile(r"ray://(auto|[^\s/]+:[0-9]{1,5})")


def check_cluster(
    cluster: str | None,
    options: Mapping[str, Any],
    *,
    out: Path,
    plan_only: bool = False,
    is_decided_here: bool = False,
) -> None:
    """Check the name of a cluster, and that the options go with it. Raises UserError.

    `is_decided_here`: what is trained follows from what is seen (a search, a race).
    """
    if is_decided_here and (plan_only or cluster is not None):
        raise UserError(
            "--search, --tune, --race: what they train follows from what they see, so it is decided here. Leave out "
            f"{'--cluster' if cluster is not None else '--plan-only'}: workers may join meanwhile"
        )
    if cluster is not None and cluster.startswith("ray:") and not _ADDRESS.fullmatch(cluster):
        raise UserError(f"--cluster: {cluster!r} names no machine. Give ray://HOST:PORT, or ray for this machine alone")
    if cluster is not None and not is_ray(cluster) and cluster not in SYSTEMS:
        raise UserError(f"--cluster: '{cluster}' is unknown. {nearest(cluster, ('ray', *SYSTEMS))} Or ray://HOST:PORT")
    for name, value in options.items():
        fits = cluster is not None and name not in (ONLY_BATCH if is_ray(cluster) else ONLY_RAY)
        if value not in (None, False, ()) and not fits:
            whose = " or ".join(SYSTEMS) if name in ONLY_BATCH else "ray"
            raise UserError(f"--{name.replace('_', '-')}: it is for runs on a cluster. Give it with --cluster {whose}")
    if cluster in SYSTEMS:
        check_options(out.resolve(), cluster, **{name: options[name] for name in ONLY_BATCH})


def carry_out(
    study: Study,
    cluster: str,
    *,
    gpus_per_run: int | None = None,
    cpus_per_run: int | None = None,
    jobs: int | None = None,
    time: str | None = None,
    partition: str | None = None,
    extra: Sequence[str] = (),
    mixed_versions: bool = False,
    lost_after: float = LOST_SECONDS,
    plan_only: bool = False,
) -> Study:
    """Let a planned study be carried out on a cluster. Raises UserError, Interrupted.

    On Ray it is finished when this returns; a job array is submitted, or with `plan_only` only written.
    """
    has_code = bool(StoredPlan.load(study.path).distinct_code())  # whoever planned it has named it
    if not is_ray(cluster):
        submitted = submit(
            study.path, cluster, gpus_per_run=gpus_per_run, cpus_per_run=cpus_per_run, jobs=jobs, time=time,
            partition=partition, extra=extra, lost_after=lost_after, allow_code=has_code, only_write=plan_only,
        )  # fmt: skip
        return replace(study, submitted=submitted)
    if plan_only:
        return study
    run_on_ray(
        study.path, cluster, gpus_per_run=gpus_per_run, cpus_per_run=cpus_per_run, jobs=jobs, allow_code=has_code,
        lost_after=lost_after, mixed_versions=mixed_versions,
    )  # fmt: skip
    return replace(study, comparisons=compared_study(StudyRecord.load(study.path)))
