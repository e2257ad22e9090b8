"""Kill a training run at the file operations of its checkpoints, resume it, and compare with the undisturbed run.

    python kill_driver.py RECIPE.json FOLDER [every]

At the last operation of each kind, or at every one. Prints a JSON document: the operations there were, at
which of them it was killed, and where the end differed.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
from same_bits import everything

from muybridge import build
from muybridge.data.manifest import Manifest
from muybridge.recipe import Recipe, Runtime, from_json
from muybridge.runtime.console import console
from muybridge.storage import checkpoints as checkpoint
from muybridge.training import loop as training
from muybridge.training.job import Jobs

OPERATIONS = ("write", "fsync", "rename", "replace", "unlink", "rmdir", "mkdir")


def patched(kill_at: int | None) -> list[str]:
    """Count the file operations inside `checkpoint.save`; at number `kill_at`, do half of a write and die."""
    seen: list[str] = []
    inside = [False]
    save = checkpoint.save

    def watched_save(*args, **kwargs):
        inside[0] = True
        try:
            save(*args, **kwargs)
        finally:
            inside[0] = False

    def watched(name, operation):
        def call(*args, **kwargs):
            if inside[0]:
                if len(seen) == kill_at:
                    if name == "write":
                        operation(args[0], bytes(args[1])[: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                seen.append(name)
            return operation(*args, **kwargs)

        return call

    checkpoint.save = watched_save
    for name in OPERATIONS:
        setattr(os, name, watched(name, getattr(os, name)))
    return seen


def in_child(work) -> int:
    """Exit status of a forked child that does `work`; negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    console().quiet = True
    torch.set_num_threads(1)
    recipe, folder, every = from_json(Recipe, Path(sys.argv[1])), Path(sys.argv[2]), "every" in sys.argv[3:]
    whole = folder / "whole"

    def count() -> None:
        seen = patched(None)
        training.train(recipe, out=whole)
        (folder / "operations.json").write_text(json.dumps(seen))

    folder.mkdir(parents=True)
    manifest = Manifest.load(recipe.data.manifest)
    build.reader_and_workers(recipe, Runtime(), manifest, np.arange(len(manifest)))  # decoded once, for all children
    job = Jobs(Runtime()).job(recipe)  # and what counting and optimizers import is imported once
    build.optimizer(recipe, build.model(job.recipe, len(manifest.classes)))
    assert in_child(count) == 0
    expected = everything(training.Run(whole))
    kinds = json.loads((folder / "operations.json").read_text())
    different = []
    last = {kind: number for number, kind in enumerate(kinds)}
    killed_at = list(range(len(kinds))) if every else sorted(last.values())
    for number in killed_at:
        out = folder / f"killed-{number}"

        def die(number=number, out=out) -> None:
            patched(number)
            training.train(recipe, out=out)

        def go_on(out=out) -> None:
            training.resume(out)

        assert in_child(die) == -signal.SIGKILL, f"operation {number} was not reached"
        if in_child(go_on) != 0 or everything(training.Run(out)) != expected:
            different.append([number, kinds[number]])
    print(json.dumps({"kinds": kinds, "killed_at": killed_at, "different": different}))


main()
