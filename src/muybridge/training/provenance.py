"""Provenance of a run: all that its folder says before the first step."""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import muybridge
from muybridge import build
from muybridge.data.manifest import Manifest
from muybridge.data.overview import class_sizes
from muybridge.data.stores import vectors
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, to_json
from muybridge.recipe.schedule import budget, peak_lr
from muybridge.runtime.console import log
from muybridge.runtime.device import find_device
from muybridge.runtime.files import write_atomic, write_json
from muybridge.storage.run import Run
from muybridge.training import threads
from muybridge.training.job import Job
from muybridge.user_code import NETWORK, keep_source
from muybridge.zoo.user_network import keep


def describe(run: Run, job: Job, runtime: Runtime, processes: int) -> None:
    """Write everything about a run that is known before its first step."""
    recipe, manifest = job.recipe, job.manifest
    rows = job.train_rows
    sizes_K = np.bincount(manifest.labels()[rows], minlength=len(manifest.classes))
    write_json(run.file("dataset.json"), {
        "classes": list(manifest.classes), "mirror": None if manifest.mirror is None else dict(manifest.mirror),
        "reversed_pairs": [list(pair) for pair in manifest.reversed_pairs],
        "split_sizes": {
            "train": len(rows), **{split: len(manifest.split(split, recipe.data.fold)) for split in ("val", "test")},
        },
        "class_sizes": class_sizes(manifest, recipe.data.fold) | {"train": sizes_K.tolist()},
        **({"official_splits": list(manifest.folds)} if manifest.official_splits else {}),
        "longest_trained_seconds": float((manifest.columns["num_frames"][rows] / manifest.columns["fps"][rows]).max()),
        **_stored(manifest),
    })  # fmt: skip
    ids, groups, hashes = (manifest.text(name, rows) for name in ("id", "group", "sha256"))
    before = build.seen_before(recipe, manifest)
    run.save_trained_on(ids=ids, groups=groups, sha256=hashes, before_sha256=before if len(before) else None)
    write_json(run.file("cost.json"), dict(job.cost))
    run.save_environment(environment(runtime, processes))
    run.forget_skipped()  # of a beginning that was stopped
    _keep_code(run, recipe, len(manifest.classes))
    write_atomic(run.file("runtime.json"), to_json(runtime))
    write_atomic(run.file("recipe.json"), to_json(recipe))  # last: from here on the folder is a run
    log(f"training on {budget(recipe, len(rows))}")
    peak = peak_lr(recipe)
    if peak != recipe.optim.lr:
        log(
            f"learning rate {peak:.4g}: {recipe.optim.lr:g} is meant for batches of {recipe.optim.lr_batch_size}, "
            f"scaled linearly to {recipe.optim.batch_size}"
        )


def _stored(manifest: Manifest) -> dict[str, Any]:
    """Origin of the store that a run is trained on; empty for videos."""
    about = vectors.about(manifest)
    if about is None:
        return {"made_by": manifest.made_by} if manifest.made_by else {}
    return {
        "features": {
            name: about[name]
            for name in ("network", "source", "width", "options", "change", "accuracy")
            if name in about
        }
    }


def _keep_code(run: Run, recipe: Recipe, num_classes: int) -> None:
    """Keep the files of a model in the user's own code, and the network that its function returns."""
    build_network = build.user_network(recipe, num_classes)
    if build_network is None:
        return
    keep_source(run.path, recipe.model.name)
    try:
        with torch.random.fork_rng(devices=[]):
            write_atomic(run.file(f"source/{NETWORK}"), keep(build_network()))
    except UserError as error:
        log(f"{error}. So whoever loads this run calls the function again, and needs whatever files it reads")


DECIDE_NO_BITS = ("threads_chosen_by", "processors", "spins")
"""Fields of an environment that the results do not depend on."""


def environment(runtime: Runtime, processes: int, settled: threads.Settled | None = None) -> dict[str, Any]:
    """Versions, machine, threads and device: the last bits of a run depend on them, beside its recipe.

    `settled`: None before the first batch.
    """
    device = find_device(runtime.device)
    return {
        "muybridge": muybridge.__version__, "python": sys.version.split()[0], "torch": torch.__version__,
        "numpy": np.__version__, "platform": platform.platform(), "processor": _processor(device),
        "device": device.type, "processes": processes, "deterministic": runtime.deterministic,
        "threads": None if settled is None else settled.number,
        "threads_chosen_by": None if settled is None else settled.by,
        **threads.environment(),
    }  # fmt: skip


def computed_with(noted: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Environment in which a run computed this step, by its environment.json."""
    now = {"deterministic": True} | dict(noted)  # runs of earlier versions had no choice
    for part in now.pop("continued", []):
        if part["from_step"] < step:
            now |= part
    now.pop("from_step", None)
    return now


def note_continued(run: Run, now: Mapping[str, Any], step: int) -> None:
    """Warn where a run that is continued after a step computes with something else than before, and note it.

    `now`: its environment. Notes of steps that are done again are forgotten.
    """
    noted = run.environment()
    before, all_parts = computed_with(noted, step), noted.pop("continued", [])
    differs = [name for name in now if before.get(name) != now[name]]
    changed = [name for name in differs if name not in DECIDE_NO_BITS]
    if changed:
        log(
            f"warning: {'; '.join(f'{name} was {before.get(name)}, is {now[name]}' for name in changed)}: the run continues, "
            "but its last bits may differ from an undisturbed one's"
        )
    parts = [part for part in all_parts if part["from_step"] < step]
    if changed:
        parts.append({"from_step": step, **{name: now[name] for name in differs}})
    if parts != all_parts:
        run.save_environment({**noted, "continued": parts} if parts else noted)


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
