"""Pretrained weights of a recipe (public weights, a file or a run), and the check that they saw no test video."""

from pathlib import Path

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.stores import vectors
from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.storage import bundle, checkpoints
from muybridge.storage.run import Run

PUBLIC = ("imagenet", "kinetics400", "hub")
"""Names of public weights; they win over files of the same name."""


def starts_from(recipe: Recipe) -> str | None:
    """Value of `model.pretrained`, with `auto` resolved."""
    if recipe.model.pretrained != "auto":
        return recipe.model.pretrained
    return "hub" if recipe.model.name.startswith("hf:") else None


def weights_file(pretrained: str | None) -> Path | None:
    """File of the weights that `model.pretrained` names; None for public weights, and for a path that does not exist.

    It names a file, a run folder or a bundle (its last checkpoint) or a run's checkpoint (`RUN/checkpoints/best`). Raises
    UserError for a folder without weights, and where a recipe leaves the run open ("the run of 8 frames").
    """
    if (pretrained or "").startswith("the run "):
        raise UserError(f"model.pretrained: this recipe starts from {pretrained}. Name it: --pretrained RUN")
    if not pretrained or pretrained in PUBLIC or not Path(pretrained).expanduser().exists():
        return None
    path = bundle.opened(Path(pretrained).expanduser().resolve())
    if (path / "model.safetensors").is_file():
        file = path / "model.safetensors"
    elif path.parent.name == "checkpoints" and path.name in ("last", "best"):
        file = checkpoints.model_file(path.parent, path.name)
    elif path.is_dir():
        run = Run.open(path)
        if not checkpoints.exists(run.checkpoints):
            raise UserError(f"{run.path}: it has no checkpoint yet. Resume it: muybridge train --resume {run.path}")
        file = checkpoints.model_file(run.checkpoints)
    else:
        return path
    checkpoints.check_hash(file)
    return file


def run_of(weights: Path | None) -> Run | None:
    """Run whose checkpoint a file of weights is; None for other files."""
    if weights is None:
        return None
    folder = weights.parent.parent
    run = Run(folder.parent)
    is_run = folder == run.checkpoints and (run.path / "dataset.json").exists()
    return run if is_run else None


def base_run(recipe: Recipe) -> Run | None:
    """Run whose weights a recipe starts from, if they are a run's."""
    run = run_of(weights_file(starts_from(recipe)))
    return run if run is not None and (run.path / "trained_on.npz").exists() else None


def seen_before(recipe: Recipe, manifest: Manifest) -> np.ndarray:
    """Hashes of the videos that the recipe's weights, or the network that computed its vectors, were trained on."""
    base = base_run(recipe)
    of_weights = [] if base is None else [base.seen_sha256()]
    return np.unique(np.concatenate([*of_weights, vectors.trained_on(manifest)]))


def check_unseen(recipe: Recipe, manifest: Manifest) -> None:
    """Check that pretrained weights of another run, or the network behind stored vectors, saw no test video.

    Videos are compared by content; those that this run trains on itself do not count. Raises UserError, also where the run
    had vectors of another network.
    """
    _check_one_network(recipe, manifest)
    if not recipe.evaluation.score_test:
        return
    trained, tested = (manifest.text("sha256", manifest.split(split, recipe.data.fold)) for split in ("train", "test"))
    seen_N = np.isin(tested, np.setdiff1d(seen_before(recipe, manifest), trained))
    if not seen_N.any():
        return
    if np.isin(tested, np.setdiff1d(vectors.trained_on(manifest), trained)).any():
        raise UserError(
            f"{recipe.data.manifest}: the network that computed these vectors was trained on {seen_N.sum()} of the "
            f"{len(tested)} test videos, so test accuracy would be too high. Train it on this fold's training videos, or use "
            "the fold that it was trained on"
        )
    base = base_run(recipe)
    raise UserError(
        f"{base.path if base else recipe.model.pretrained}: this run would start from its weights, but it was trained on "
        f"{seen_N.sum()} of the {len(tested)} test videos, so test accuracy would be too high. Use another split, or weights "
        "of another run"
    )


def _check_one_network(recipe: Recipe, manifest: Manifest) -> None:
    base = base_run(recipe)
    theirs = "" if base is None else (base.dataset().get("features") or {}).get("network", "")
    if base is not None and manifest.made_by and theirs and theirs != manifest.made_by:
        raise UserError(
            f"{base.path}: it was trained on vectors of the network {theirs}, but those of {recipe.data.manifest} were "
            f"computed by {manifest.made_by}. Use vectors of one network"
        )
