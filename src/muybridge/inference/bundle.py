"""`muybridge bundle`: what is needed of a run to use it elsewhere, as one file or a folder (`muybridge.storage.bundle`)."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.inference.metadata import described
from muybridge.recipe import Runtime, to_json
from muybridge.runtime.console import log
from muybridge.runtime.files import beside, read_as, rename_new, sha256_file, write_json
from muybridge.storage import bundle as bundles
from muybridge.storage import checkpoints
from muybridge.storage.portable import last, portable
from muybridge.storage.run import Run
from muybridge.user_code import parsed

COPIED = (
    "cost.json", "environment.json", "metrics.jsonl", "timing.jsonl", "result.json", "trained_on.npz", "calibration.json",
    "candidates.json", "speed.json",
)  # fmt: skip
"""Files that go into a bundle as they are, where the run has them. None of them holds a path."""
UNSTATED = "not stated"


@dataclass(frozen=True)
class Bundled:
    """Result of `bundle`."""

    path: Path
    files: int
    bytes: int
    licence: str
    run_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "path": str(self.path)}


def bundle(run: str | Path | Run, *, out: str | Path, licence: str | None = None, scores: bool = False) -> Bundled:
    """Write a finished run as one file (`out` ends in .muy) or a folder, which loads wherever a run does.

    It holds the weights that answer, labels, rules, results, and the recipe without paths of this machine. `licence`: words
    or a name (CC-BY-4.0) for whoever gets it; None: that of the bundle that `run` is, or "not stated". `scores`: the per-view
    scores of val and test, too. Raises UserError for a run that is not finished, and where `out` is there already.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out}: it is there already. Choose another name, or remove it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} is not there. Make it, or choose another")
    run = Run.open(run)
    run.check_finished()
    recipe = run.recipe()
    before = run.path / bundles.NAME
    if licence is None:
        licence = read_as(bundles.Bundle, before)["licence"] if before.exists() else UNSTATED
    if parsed(recipe.model.name).code:
        log(f"{run.path}: the bundle carries the source of its model. Whoever loads it must allow that (--allow-code)")
    with beside(out) as hidden:
        folder = hidden / "bundle"
        folder.mkdir()
        _fill(run, folder, scores=scores)
        files: dict[str, dict[str, Any]] = {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        about = described(run, recipe, calibration=run.calibration(), steps=False)
        result = run.result()
        write_json(folder / bundles.NAME, {
            **about, "format_version": bundles.FORMAT_VERSION, "licence": licence,
            "results": {split: result[split] for split in ("val", "test") if split in result}, "files": files,
        })  # fmt: skip
        if out.suffix == bundles.SUFFIX:
            packed = hidden / out.name
            bundles.pack(folder, packed)
            size = packed.stat().st_size
            rename_new(packed, out)
        else:
            size = sum(listed["bytes"] for listed in files.values())
            os.rename(folder, out)
    return Bundled(out, len(files), size, licence, about["run_sha256"])


def _fill(run: Run, folder: Path, *, scores: bool) -> None:
    """Put a run's files into a folder."""
    recipe, dataset = run.recipe(), run.dataset()
    (folder / "recipe.json").write_text(to_json(portable(recipe)))
    (folder / "runtime.json").write_text(to_json(Runtime()))
    if "features" in dataset:
        dataset["features"] = dataset["features"] | {"source": last(dataset["features"]["source"])}
    write_json(folder / "dataset.json", dataset)
    for name in COPIED:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, folder / name)
    answers = checkpoints.directory(run.checkpoints, recipe.evaluation.checkpoint)
    target = folder / "checkpoints" / answers.name
    target.mkdir(parents=True)
    for name in ("model.safetensors", "state.json"):
        checkpoints.check_hash(answers / name)
        shutil.copyfile(answers / name, target / name)
    hashes = {"model.safetensors": sha256_file(target / "model.safetensors")}
    (target / checkpoints.HASHES).write_text(json.dumps(hashes, indent=2) + "\n")
    for pointer in {"last", recipe.evaluation.checkpoint}:
        (folder / "checkpoints" / pointer).write_text(answers.name)
    if scores:
        (folder / "scores").mkdir()
        for file in sorted((run.path / "scores").glob("*.npz")):
            shutil.copyfile(file, folder / "scores" / file.name)
    if (run.path / "source").is_dir():
        shutil.copytree(run.path / "source", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
