"""What a recipe starts from: public weights, a file, or a run; and whether that has seen the test videos."""

from pathlib import Path

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.storage import checkpoints
from muybridge.storage.run import Run

PUBLIC = ("imagenet", "kinetics400", "hub")
"""Names of public weights, whatever files are called."""


def starts_from(recipe: Recipe) -> str | None:
    """What `model.pretrained` means where it is auto."""
    if recipe.model.pretrained != "auto":
        return recipe.model.pretrained
    return "hub" if recipe.model.name.startswith("hf:") else None


def weights_file(pretrained: str | None) -> Path | None:
    """The file of weights that `model.pretrained` means, where it is a file, a run folder (its last checkpoint's) or one of
    a run's checkpoints (`RUN/checkpoints/best`), and no name of public weights. Raises UserError for a folder without, and
    where a recipe names no run yet ("the run of 8 frames")."""
    if (pretrained or "").startswith("the run "):
        raise UserError(f"This recipe starts from {pretrained}; name it: --pretrained RUN")
    if not pretrained or pretrained in PUBLIC or not Path(pretrained).expanduser().exists():
        return None
    path = Path(pretrained).expanduser().resolve()
    if (path / "model.safetensors").is_file():
        file = path / "model.safetensors"
    elif path.parent.name == "checkpoints" and path.name in ("last", "best"):
        file = checkpoints.model_file(path.parent, path.name)
    elif path.is_dir():
        run = Run.open(path)
        if not checkpoints.exists(run.checkpoints):
            raise UserError(f"{run.path} holds no weights yet: its training was stopped before its first checkpoint")
        file = checkpoints.model_file(run.checkpoints)
    else:
        return path
    checkpoints.check_hash(file)
    return file


def run_of(weights: Path | None) -> Run | None:
    """The run that a file of weights lies in; none for other files."""
    if weights is None:
        return None
    folder = weights.parent.parent
    run = Run(folder.parent)
    is_of_a_run = folder == run.checkpoints and (run.path / "dataset.json").exists()
    return run if is_of_a_run else None


def base_run(recipe: Recipe) -> Run | None:
    """The run whose weights a recipe starts from, if they are a run's."""
    run = run_of(weights_file(starts_from(recipe)))
    return run if run is not None and (run.path / "trained_on.npz").exists() else None


def check_unseen(recipe: Recipe, manifest: Manifest) -> None:
    """Raises UserError where a run would be tested on videos that what it starts from was trained on (by their content, and
    beside its own training videos)."""
    base = base_run(recipe)
    if base is None or not recipe.evaluation.score_test:
        return
    own, tested = (manifest.text("sha256", manifest.split(split, recipe.data.fold)) for split in ("train", "test"))
    seen_N = np.isin(tested, np.setdiff1d(base.seen_sha256(), own))
    if seen_N.any():
        raise UserError(
            f"{base.path}, whose weights this run would start from, was trained on {seen_N.sum()} of the {len(tested)} test "
            "videos; what is measured on them would flatter the model. Take another split, or weights of another run"
        )
