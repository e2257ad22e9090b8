"""Training: one visible loop for every model, resumable at any step.

    muybridge train --model tsm_resnet18 --data set.csv --out runs/tsm

Nothing in the loop depends on time or on the number of workers: every draw is keyed by (seed, purpose, epoch, video id)
or (seed, purpose, step), so a run that was killed and resumed ends with the same bits (same machine, torch, threads and
precision).
"""

import math
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from muybridge.data.loader import Batch, Unreadable, ViewLoader, ahead_on_device, moved, train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.transforms import to_input
from muybridge.draws import torch_seed
from muybridge.errors import Interrupted, UserError
from muybridge.evaluation import figures, score
from muybridge.files import write_atomic, write_json
from muybridge.measure import count
from muybridge.models import VideoModel, WeightedLogits
from muybridge.models.own import source_file
from muybridge.recipe import Recipe, Runtime, fingerprint, replace, to_json
from muybridge.runs import Run
from muybridge.scores import Scores


def train(recipe: Recipe, *, out: str | Path, runtime: Runtime | None = None) -> Run:
    """Train by a recipe into the folder `out`, which must not hold another run; score the test split once, at the end.

    Raises UserError for what a person has to mend, Interrupted after Ctrl-C or SIGTERM (the run was saved).
    """
    runtime = runtime or Runtime()
    run = Run(Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{out} is a file; --out names the run folder to make")
    if (run.path / "checkpoints" / "last").exists() or run.is_finished:
        raise UserError(
            f"{out} holds a run already. Continue it with `muybridge train --resume {out}`, or choose another --out"
        )
    if run.path.is_dir() and not run.holds_only_beginnings():
        raise UserError(f"{out} is not empty and holds no run; choose another --out")
    if not recipe.data.manifest or not recipe.model.name:
        missing = "model.name" if recipe.data.manifest else "data.manifest"
        raise UserError(f"The recipe leaves {missing} open; give --model NAME and --data MANIFEST")
    manifest = Manifest.load(recipe.data.manifest)
    recipe = build.resolve(recipe, runtime, manifest)
    cost = check(recipe, manifest)
    with run.lock():
        _describe(run, recipe, runtime, manifest, cost)
        return _train(run, recipe, runtime, manifest)


def resume(run: str | Path | Run, *, data: str | Path | None = None, runtime: Runtime | None = None) -> Run:
    """Continue a run from its last checkpoint; a finished one is returned as it is. `data`: where its manifest lies now,
    if it was moved. Raises UserError, Interrupted."""
    run = Run.open(run)
    if run.is_finished:
        log(f"{run.path} is finished already")
        return run
    recipe = run.recipe()
    if data is not None:
        recipe = replace(recipe, {"data.manifest": str(data)})
    elif not Path(recipe.data.manifest).exists():
        raise UserError(
            f"The manifest of {run.path}, {recipe.data.manifest}, is not there any more; where is it? --data MANIFEST"
        )
    runtime = runtime or run.runtime()
    manifest = Manifest.load(recipe.data.manifest)
    resolved = build.resolve(recipe, runtime, manifest)
    before, now = run.environment(), _environment(runtime)
    changed = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        log(f"warning: {'; '.join(changed)}: the run goes on, but its last bits may differ from an undisturbed one's")
    with run.lock():
        write_atomic(run.path / "recipe.json", to_json(resolved))
        return _train(run, resolved, runtime, manifest)


def check(recipe: Recipe, manifest: Manifest) -> dict[str, Any]:
    """Everything that can be told wrong before the first file is written. Returns what the model costs, as counting it
    tries its name, its options and the size of the clip. Raises UserError."""
    sizes = {split: len(manifest.split(split, recipe.data.fold)) for split in ("train", "val", "test")}
    if sizes["train"] < 2:
        raise UserError(f"{recipe.data.manifest}: {sizes['train']} training videos are too few")
    if recipe.evaluation.checkpoint == "best" and not sizes["val"]:
        raise UserError("evaluation.checkpoint is best, but there is no validation split to choose it on")
    cost = count(
        recipe.model.name, num_classes=len(manifest.classes), num_frames=recipe.clip.num_frames, size=recipe.clip.size,
        temporal_pooling=recipe.model.temporal_pooling, **recipe.model.options,
    )  # fmt: skip
    if recipe.model.pretrained is not None:  # downloaded, and found to fit
        build.model(recipe, len(manifest.classes), tell=lambda loaded: None)
    return cost.as_json()


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
    begun = checkpoint.exists(run.checkpoints)
    model = build.model(recipe, len(manifest.classes), pretrained=not begun)
    build.place(model, where)
    optimizer = build.optimizer(recipe, model)
    labels_N = manifest.labels()

    state = State()
    if begun:
        state = checkpoint.load_state(run.checkpoints)
        checkpoint.load_model(run.checkpoints, model)
        checkpoint.load_optimizer(run.checkpoints, model, optimizer)
        log(f"resuming at step {state.step}")
    run.truncate_metrics(state.metrics_bytes)

    per_epoch = build.steps_per_epoch(recipe, len(rows))
    epochs = build.num_epochs(recipe, len(rows))
    num_steps = per_epoch * epochs
    pinned = where.device.type == "cuda"
    train_loader = train_batches(
        clips, rows, batch_size=recipe.optim.batch_size, first_step=state.step, num_steps=num_steps,
        num_workers=num_workers, pin_memory=pinned, on_error=recipe.data.on_error,
    )  # fmt: skip
    view_loader = ViewLoader(views, num_workers=num_workers, pin_memory=pinned)
    skipped = run.skipped()

    def skip(failure: Unreadable) -> None:
        row = manifest.row(failure.row)
        if row.id not in skipped:
            log(f"skipped: {failure.error}")
            skipped[row.id] = {"path": row.path, "cause": str(failure.error).removeprefix(f"{row.path}: ")}
            run.save_skipped(skipped)

    def score_rows(which: np.ndarray, text: str) -> Scores:
        return score(
            model, views, which, where=where, labels_N=labels_N[which], classes=manifest.classes,
            average=recipe.evaluation.average, batch_size=recipe.optim.batch_size, text=text, loader=view_loader,
            skip=skip if recipe.data.on_error == "skip" else None,
        )  # fmt: skip

    model.train()
    val_scores: Scores | None = None
    val: dict[str, float] = {}
    epoch_started, clips_before = time.perf_counter(), state.clips
    with view_loader:
        with _stop_signals() as stop, closing(train_loader), progress(run.name, num_steps) as bar:
            bar.advance(state.step)
            batches = ahead_on_device(train_loader, where.device)
            for step, batch in zip(range(state.step, num_steps), batches, strict=True):
                for failure in batch.unreadable:
                    skip(failure)
                lr = lr_at(
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
                        val_scores = score_rows(val_rows, f"{run.name}: validating")
                        val = figures(val_scores)
                        run.write_metrics({"kind": "val", "epoch": epoch, "step": state.step, **val})
                        is_best = val["video_top1"] > state.best
                        state.best = max(state.best, val["video_top1"])
                    run.write_timing({
                        "epoch": epoch, "train_seconds": train_seconds, "train_clips_per_s": clips_per_s,
                        "total_seconds": time.perf_counter() - epoch_started,
                    })  # fmt: skip
                    epoch_started, clips_before = time.perf_counter(), 0
                else:
                    due = is_best = False
                if due or stop() or (runtime.checkpoint_steps and state.step % runtime.checkpoint_steps == 0):
                    _save(run, model, optimizer, state, is_best=is_best)
                if stop():
                    raise Interrupted(
                        f"Stopped at step {state.step} of {num_steps}; saved. Continue: muybridge train --resume {run.path}"
                    )

        if recipe.evaluation.checkpoint == "best":
            checkpoint.load_model(run.checkpoints, model, "best")
            val_scores = None
        result: dict[str, Any] = {
            "fingerprint": fingerprint(recipe),
            "steps": num_steps,
            "checkpoint": recipe.evaluation.checkpoint,
        }
        for split, which in (("val", val_rows), ("test", test_rows)):
            if len(which):
                known = val_scores if split == "val" else None  # the last epoch's validation, of these very weights
                scores = known or score_rows(which, f"{run.name}: scoring {split}")
                run.save_scores(split, scores)
                result[split] = figures(scores)

    if recipe.data.on_error == "skip":
        result["skipped"] = len(skipped)
    run.finish(result)
    return run


def training_step(
    model: VideoModel, optimizer: torch.optim.Optimizer, batch: Batch, where: Placement, recipe: Recipe
) -> tuple[float, int]:
    """One update. Returns the mean loss of the clips and how many were answered right."""
    batch = moved(batch, where.device, non_blocking=where.non_blocking)
    x_BCTHW = to_input(
        batch.clips_BTHWC,
        batch.flip_B,
        mean=model.preprocessing.mean,
        std=model.preprocessing.std,
        snippet_frames=build.SNIPPET_FRAMES[recipe.clip.modality],
        jitter=batch.jitter,
    )
    try:
        with where.autocast():
            out = model(x_BCTHW)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(f"One clip alone in a batch is too few for this model's batch norm: {error}") from error
    weighted = out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1))
    losses_N = torch.stack([
        F.cross_entropy(logits_BK.float(), batch.labels_B, label_smoothing=recipe.optim.label_smoothing)
        for logits_BK in weighted.logits_NBK
    ])  # fmt: skip
    loss = (losses_N * weighted.weights_N).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.optim.clip_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_grad_norm)
    optimizer.step()
    correct = (weighted.logits_NBK[0].argmax(1) == batch.labels_B).sum()
    return loss.item(), int(correct)  # the loop's one point of synchronisation


def lr_at(step: int, *, peak: float, schedule: str, warmup_steps: int, num_steps: int) -> float:
    """Learning rate of a step: linear from a hundredth of the peak, then constant, or a half cosine to zero."""
    if step < warmup_steps:
        return peak * (0.01 + 0.99 * step / warmup_steps)
    if schedule == "constant":
        return peak
    done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def _save(run: Run, model: VideoModel, optimizer: torch.optim.Optimizer, state: State, *, is_best: bool) -> None:
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        raise UserError(
            f"A weight is no finite number any more at step {state.step}. A lower optim.lr, a longer warm-up or "
            f"optim.clip_grad_norm may help. {_last_good(run)}"
        )
    state.metrics_bytes = run.metrics_bytes()
    checkpoint.save(run.checkpoints, model, optimizer, state, is_best=is_best)


def _describe(run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest, cost: dict[str, Any]) -> None:
    """Everything about a run that is known before its first step."""
    rows = manifest.split("train", recipe.data.fold)
    write_json(run.path / "dataset.json", {
        "classes": list(manifest.classes), "mirror": None if manifest.mirror is None else dict(manifest.mirror),
        "reversed_pairs": [list(pair) for pair in manifest.reversed_pairs],
        "split_sizes": {split: len(manifest.split(split, recipe.data.fold)) for split in ("train", "val", "test")},
        "longest_trained_seconds": float((manifest.columns["num_frames"][rows] / manifest.columns["fps"][rows]).max()),
    })  # fmt: skip
    ids, groups, hashes = (manifest.text(name, rows) for name in ("id", "group", "sha256"))
    run.save_trained_on(ids=ids, groups=groups, sha256=hashes)
    write_json(run.path / "cost.json", cost)
    write_json(run.path / "environment.json", _environment(runtime))
    run.forget_skipped()  # of a beginning that was stopped
    source = source_file(recipe.model.name)
    if source is not None:
        (run.path / "source").mkdir(exist_ok=True)
        write_atomic(run.path / "source" / source.name, source.read_bytes())
    write_atomic(run.path / "runtime.json", to_json(runtime))
    write_atomic(run.path / "recipe.json", to_json(recipe))  # last: from here on the folder is a run
    epochs, peak = build.num_epochs(recipe, len(rows)), build.peak_lr(recipe)
    if epochs != recipe.optim.epochs:
        log(
            f"{epochs} epochs: {recipe.optim.epochs} of {len(rows)} videos would be fewer than "
            f"{recipe.optim.min_steps} steps (optim.min_steps)"
        )
    if peak != recipe.optim.lr:
        log(
            f"learning rate {peak:.4g}: {recipe.optim.lr:g} is meant for batches of {recipe.optim.lr_batch_size}, "
            f"scaled linearly to {recipe.optim.batch_size}"
        )


def _environment(runtime: Runtime) -> dict[str, Any]:
    """What the last bits of a run depend on, beside its recipe."""
    device = build.device(runtime)
    return {
        "muybridge": muybridge.__version__, "python": sys.version.split()[0], "torch": torch.__version__,
        "numpy": np.__version__, "platform": platform.platform(), "processor": _processor(device),
        "threads": runtime.threads or torch.get_num_threads(), "device": str(device),
    }  # fmt: skip


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
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
