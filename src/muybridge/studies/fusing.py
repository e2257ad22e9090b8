"""Streams of a study: checked before the first minute is spent, and fused when they are finished."""

from collections.abc import Sequence

import numpy as np

from muybridge.errors import UserError
from muybridge.evaluation.fuse import check_same_manifests, fused_in_study, with_fused
from muybridge.storage.study import StudyRecord
from muybridge.studies.plan import Plan
from muybridge.studies.workplace import Workplace


def check_streams(plan: Plan, workplace: Workplace) -> None:
    """Check that the runs that will be fused are tested, and validated, on the same videos. Raises UserError."""
    for names in plan.fused():
        first, *others = (plan.runs[name].recipe.data for name in names)
        ours = workplace.jobs.manifest(first.manifest)
        for other in others:
            if other.manifest == first.manifest:
                continue
            theirs = workplace.jobs.manifest(other.manifest)
            if ours.classes != theirs.classes:
                raise UserError(
                    f"{other.manifest}: its classes are not those of {first.manifest}. Use stores of one set"
                )
            check_same_manifests(ours, theirs, (str(first.manifest), str(other.manifest)))
            for split in ("test", "val"):
                here, there = (
                    set(np.unique(manifest.text("id", manifest.split(split, of.fold))).tolist())
                    for manifest, of in ((ours, first), (theirs, other))
                )
                if here != there:
                    alone = sorted(here ^ there)
                    raise UserError(
                        f"{other.manifest}: its {split} videos are not those of {first.manifest}: {len(here - there)} are only "
                        f"there, {len(there - here)} only here ({', '.join(alone[:3])}{', …' if len(alone) > 3 else ''}). Make "
                        "the store of that set again"
                    )


def fused_streams(groups: Sequence[Sequence[str]], record: StudyRecord) -> StudyRecord:
    """Fuse finished runs with each other, by groups of their names; the record with these results."""
    names = [name for names in groups for name in names]
    if not names:
        return record
    record = with_fused(record, fused_in_study(record, names=names))
    record.save()
    return record
