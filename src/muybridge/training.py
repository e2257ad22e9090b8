"""Training: one visible loop for every model, resumable at any step.

    muybridge train --model tsm_resnet18 --data set.csv --out runs/tsm

Nothing in the loop depends on time or on the number of workers: every draw is keyed by (seed, purpose, epoch, video id)
or (seed, purpose, step), so a run that was killed and resumed ends with the same bits (same machine, torch, threads and
precision).
"""

import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import muybridge
from muybridge import build, checkpoint
from muybridge.build import Placement
from muybridge.checkpoint import State
from muybridge.console import log, progress
from muybridge.data.loader import Batch, train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.transforms import to_input
from muybridge.draws import torch_seed
from muybridge.errors import Interrupted, UserError
from muybridge.evaluation import figures, score
from muybridge.files import write_atomic, write_json
from muybridge.measure import count
from muybridge.models import VideoModel, WeightedLogits
from muybridge.recipe import Recipe, Runtime, fingerprint, to_json
from muybridge.runs import Run
from muybridge.scores import Scores


def train(recipe: Recipe, *, out: str | Path, runtime: Runtime | None = None) -> Run:
    """Train by a recipe into the folder `out`, which must not hold another run; score the test split once, at the end.

    Raises UserError for what a person has to mend, Interrupted after Ctrl-C or SIGTERM (the run was saved).
    """
    runtime = runtime or Runtime()
    run = Run(Path(out))
    if (run.path / "recipe.json").exists():
        raise UserError(
            f"{out} holds a run already. Continue it with `muybridge train --resume {out}`, or choose another --out"
        )
    if run.path.exists() and any(run.path.iterdir()):
        raise UserError(f"{out} is not empty and holds no run; choose another --out")
    if not recipe.data.manifest or not recipe.model.name:
        missing = "model.name" if recipe.data.manifest else "data.manifest"
        raise UserError(f"The recipe leaves {missing} open; give --model NAME and --data MANIFEST")
    manifest = Manifest.load(recipe.data.manifest)
    recipe = build.resolve(recipe, runtime, manifest)
    build.model(recipe, len(manifest.classes))  # a wrong name or option stops here, before anything is written
    with run.lock():
        _describe(run, recipe, runtime, manifest)
        return _train(run, recipe, runtime, manifest)


def resume(path: str | Path, *, runtime: Runtime | None = None) -> Run:
    """Continue a run from its last checkpoint; a finished one is returned as it is. Raises UserError, Interrupted."""
    run = Run.open(path)
    if run.is_finished:
        log(f"{run.path} is finished already")
        return run
    recipe = run.recipe()
    runtime = runtime or run.runtime()
    manifest = Manifest.load(recipe.data.manifest)
    resolved = build.resolve(recipe, runtime, manifest)
    with run.lock():
        return _train(run, resolved, runtime, manifest)


def _train(run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest) -> Run:
    where = build.placement(recipe, runtime)
    rows = manifest.split("train", recipe.data.fold)
    val_rows = manifest.split("val", recipe.data.fold)
    test_rows = manifest.split("test", recipe.data.fold)
    reader, num_workers = build.reader_and_workers(
        recipe, runtime, manifest, np.concatenate([rows, val_rows, test_rows])
    )
    clips = build.train_clips(recipe, manifest, reader)
    views = build.video_views(recipe, manifest, reader)
    model = build.model(recipe, len(manifest.classes))
    build.place(model, where)
    optimizer = build.optimizer(recipe, model)
    labels_N = manifest.labels()

    state = State()
    if checkpoint.exists(run.checkpoints):
        state = checkpoint.load_state(run.checkpoints)
        checkpoint.load_model(run.checkpoints, model)
        checkpoint.load_optimizer(run.checkpoints, model, optimizer)
        log(f"resuming at step {state.step}")
    run.truncate_metrics(state.metrics_bytes)

    per_epoch = build.steps_per_epoch(recipe, len(rows))
    epochs = build.num_epochs(recipe, len(rows))
    num_steps = per_epoch * epochs
    batches = train_batches(
        clips, rows, batch_size=recipe.optim.batch_size, first_step=state.step, num_steps=num_steps,
        num_workers=num_workers, worker_start=runtime.worker_start, pin_memory=where.device.type == "cuda",
    )  # fmt: skip

    def score_rows(which: np.ndarray, text: str) -> Scores:
        return score(
            model, views, which, where=where, labels_N=labels_N[which], classes=manifest.classes,
            average=recipe.evaluation.average, batch_size=recipe.optim.batch_size, num_workers=num_workers,
            worker_start=runtime.worker_start, text=text,
        )  # fmt: skip

    model.train()
    val: dict[str, float] = {}
    epoch_started, clips_before = time.perf_counter(), state.clips
    with _stop_signals() as stop, progress(run.name, num_steps) as bar:
        bar.advance(state.step)
        for step, batch in zip(range(state.step, num_steps), batches, strict=True):
            lr = build.lr_at(
                step, peak=build.peak_lr(recipe), schedule=recipe.optim.schedule, num_steps=num_steps,
                warmup_steps=round(recipe.optim.warmup_epochs * per_epoch),
            )  # fmt: skip
            for group in optimizer.param_groups:
                group["lr"] = lr
            torch.manual_seed(torch_seed(recipe.seed, "dropout", step))
            loss, correct = training_step(model, optimizer, batch, where, recipe)
            if not np.isfinite(loss):
                raise UserError(
                    f"The loss became {loss} at step {step} (learning rate {lr:.3g}). A lower optim.lr, a longer "
                    f"warm-up or optim.clip_grad_norm may help. {_last_good(run)}"
                )
            state.loss_sum += loss * len(batch.rows_B)
            state.correct += correct
            state.clips += len(batch.rows_B)
            state.step = step + 1
            bar.advance()
            bar.describe(f"{run.name}  loss {state.loss_sum / state.clips:.3f}" + _shown(val))

            epoch, in_epoch = divmod(state.step, per_epoch)
            if in_epoch == 0:
                train_seconds = time.perf_counter() - epoch_started
                clips_per_s = (state.clips - clips_before) / train_seconds
                run.write_metrics({
                    "kind": "train", "epoch": epoch, "step": state.step, "loss": state.loss_sum / state.clips,
                    "clip_top1": state.correct / state.clips, "lr": lr,
                })  # fmt: skip
                state.loss_sum, state.correct, state.clips = 0.0, 0, 0
                due = epoch % recipe.evaluation.every_epochs == 0 or epoch == epochs
                is_best = False
                if due and len(val_rows):
                    val = figures(score_rows(val_rows, f"{run.name}: validating"))
                    run.write_metrics({"kind": "val", "epoch": epoch, "step": state.step, **val})
                    is_best = val["video_top1"] > state.best
                    state.best = max(state.best, val["video_top1"])
                run.write_timing({
                    "epoch": epoch, "train_seconds": train_seconds, "train_clips_per_s": clips_per_s,
                    "total_seconds": time.perf_counter() - epoch_started,
                })  # fmt: skip
                if due:
                    _save(run, model, optimizer, state, is_best=is_best)
                epoch_started, clips_before = time.perf_counter(), 0
            elif runtime.checkpoint_steps and state.step % runtime.checkpoint_steps == 0:
                _save(run, model, optimizer, state)
            if stop() and state.step < num_steps:
                _save(run, model, optimizer, state)
                raise Interrupted(
                    f"Stopped at step {state.step} of {num_steps}; saved. Continue: muybridge train --resume {run.path}"
                )

    if recipe.evaluation.checkpoint == "best" and checkpoint.exists(run.checkpoints, "best"):
        checkpoint.load_model(run.checkpoints, model, "best")
    result: dict[str, Any] = {
        "fingerprint": fingerprint(recipe),
        "steps": num_steps,
        "checkpoint": recipe.evaluation.checkpoint,
    }
    for split, which in (("val", val_rows), ("test", test_rows)):
        if len(which):
            scores = score_rows(which, f"{run.name}: scoring {split}")
            run.save_scores(split, scores)
            result[split] = figures(scores)
    run.finish(result)
    return run


def training_step(
    model: VideoModel, optimizer: torch.optim.Optimizer, batch: Batch, where: Placement, recipe: Recipe
) -> tuple[float, int]:
    """One update. Returns the mean loss of the clips and how many were answered right."""
    labels_B = batch.labels_B.to(where.device, non_blocking=where.non_blocking)
    x_BCTHW = to_input(
        batch.clips_BTHWC.to(where.device, non_blocking=where.non_blocking),
        batch.flip_B.to(where.device, non_blocking=where.non_blocking) if bool(batch.flip_B.any()) else None,
        mean=model.preprocessing.mean,
        std=model.preprocessing.std,
        snippet_frames=build.SNIPPET_FRAMES[recipe.clip.modality],
    )
    with where.autocast():
        out = model(x_BCTHW)
    weighted = out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1))
    losses_N = torch.stack([
        F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=recipe.optim.label_smoothing)
        for logits_BK in weighted.logits_NBK
    ])  # fmt: skip
    loss = (losses_N * weighted.weights_N).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.optim.clip_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_grad_norm)
    optimizer.step()
    correct = (weighted.logits_NBK[0].argmax(1) == labels_B).sum()
    return loss.item(), int(correct)  # the loop's one point of synchronisation


def _save(
    run: Run, model: VideoModel, optimizer: torch.optim.Optimizer, state: State, *, is_best: bool = False
) -> None:
    state.metrics_bytes = run.metrics_bytes()
    checkpoint.save(run.checkpoints, model, optimizer, state, is_best=is_best)


def _describe(run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest) -> None:
    """Everything about a run that is known before its first step."""
    rows = manifest.split("train", recipe.data.fold)
    if len(rows) < 2:
        raise UserError(f"{recipe.data.manifest}: {len(rows)} training videos are too few")
    write_json(run.path / "dataset.json", {
        "classes": list(manifest.classes), "mirror": None if manifest.mirror is None else dict(manifest.mirror),
        "reversed_pairs": [list(pair) for pair in manifest.reversed_pairs],
        "split_sizes": {split: len(manifest.split(split, recipe.data.fold)) for split in ("train", "val", "test")},
        "longest_trained_seconds": float((manifest.columns["num_frames"][rows] / manifest.columns["fps"][rows]).max()),
    })  # fmt: skip
    ids, groups, hashes = (manifest.text(name, rows) for name in ("id", "group", "sha256"))
    np.savez(run.path / "trained_on.npz", id=ids, group=groups, sha256=hashes)
    write_json(run.path / "cost.json", _cost(recipe, len(manifest.classes)))
    write_json(run.path / "environment.json", {
        "muybridge": muybridge.__version__, "python": sys.version.split()[0], "torch": torch.__version__,
        "numpy": np.__version__, "platform": platform.platform(), "processor": _processor(),
        "threads": torch.get_num_threads(), "device": str(build.device(runtime)),
    })  # fmt: skip
    source = build.source_file(recipe.model.name)
    if source is not None:
        (run.path / "source").mkdir(exist_ok=True)
        shutil.copyfile(source, run.path / "source" / source.name)
    write_atomic(run.path / "runtime.json", to_json(runtime))
    write_atomic(run.path / "recipe.json", to_json(recipe))  # last: from here on the folder is a run
    if build.num_epochs(recipe, len(rows)) != recipe.optim.epochs:
        log(
            f"{build.num_epochs(recipe, len(rows))} epochs: {recipe.optim.epochs} of {len(rows)} videos would be fewer than "
            f"{recipe.optim.min_steps} steps (optim.min_steps)"
        )
    if build.peak_lr(recipe) != recipe.optim.lr:
        log(
            f"learning rate {build.peak_lr(recipe):.4g}: {recipe.optim.lr:g} is meant for batches of "
            f"{recipe.optim.lr_batch_size}, scaled linearly to {recipe.optim.batch_size}"
        )


def _cost(recipe: Recipe, num_classes: int) -> dict[str, Any]:
    cost = count(
        recipe.model.name, num_classes=num_classes, num_frames=recipe.clip.num_frames, size=recipe.clip.size,
        temporal_pooling=recipe.model.temporal_pooling, **recipe.model.options,
    )  # fmt: skip
    return cost.as_json()


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _last_good(run: Run) -> str:
    if not checkpoint.exists(run.checkpoints):
        return "No checkpoint was saved before."
    return f"The last good checkpoint is {run.checkpoints / (run.checkpoints / 'last').read_text().strip()}"


def _shown(val: dict[str, float]) -> str:
    return f"  val {val['video_top1']:.3f}" if val else ""


@contextmanager
def _stop_signals() -> Iterator[Any]:
    """Ctrl-C and SIGTERM finish the step and save; a second Ctrl-C stops at once. Yields a function: asked to stop?"""
    asked: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        log("stopping after this step …")

    try:
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's signals are the caller's
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
