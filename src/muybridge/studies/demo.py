"""`muybridge demo`: an answer in minutes, from nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import motions
from muybridge.errors import UserError
from muybridge.recipe import Runtime, replace
from muybridge.recipe.shipped import demo as demo_recipe
from muybridge.runtime.console import log
from muybridge.studies.plan import of_models, repeated
from muybridge.studies.run import Study, run

MODELS = tuple(f"{method}_resnet_tiny" for method in ("tsn", "tsm", "tam", "i3d", "s3d"))
CLIPS = 1600
SHORTER: Mapping[str, Any] = {
    "clip.jitter": "shared", "optim.batch_size": 16, "optim.lr": 4e-3, "optim.epochs": 9, "evaluation.every_epochs": 3,
}  # fmt: skip
"""Changes of the recipe: frames at even distances, smaller batches, so more updates, and fewer epochs."""
QUICK_MODELS = (MODELS[0], MODELS[2])
QUICK_CLIPS = 960
QUICK: Mapping[str, Any] = {**SHORTER, "clip.num_frames": 5, "optim.lr": 5e-3}
"""Changes of the recipe for `quick`: TAM learns soonest, and sees the direction of time in five frames."""


def demo(
    out: str | Path | None = None,
    *,
    seed: int = 0,
    quick: bool = False,
    changes: Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
) -> Study:
    """Make `motions` clips below `out`, train the demo's models under one recipe, and write the report.

    `out`: none is the folder demo, or demo-quick. Models are also measured and diagnosed, unless `quick`. Called again, it
    continues where it was stopped. Raises UserError, Interrupted.
    """
    out = Path(out or ("demo-quick" if quick else "demo"))
    clips = QUICK_CLIPS if quick else CLIPS
    manifest = out / f"videos-{clips}-seed{seed}" / "manifest.csv"
    if out.is_dir() and any(out.iterdir()) and not list(out.glob("videos-*")) and not list(out.glob(".videos-*")):
        raise UserError(f"{out}: it is not empty and holds no demo. Choose another --out")
    if other := [videos for videos in out.glob("videos-*-seed*") if not videos.name.startswith(f"videos-{clips}-")]:
        raise UserError(f"{out}: {other[0].name} there belongs to another demo. Choose another --out")
    if manifest.exists():
        log(f"using the {len(Manifest.load(manifest))} videos in {manifest.parent}")
    else:
        motions(manifest.parent, clips=clips, seed=seed)
    recipe = replace(
        demo_recipe(), {"data.manifest": str(manifest), **(QUICK if quick else SHORTER), **(changes or {})}
    )
    plan = of_models(
        QUICK_MODELS if quick else MODELS, recipe=recipe, data=[recipe.data.manifest],
        title="muybridge demo: which architectures see the direction of time?",
    )  # fmt: skip
    return run(repeated(plan, seeds=(seed,)), out=out, measure=not quick, diagnose=not quick, runtime=runtime)
