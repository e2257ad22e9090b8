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
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import muybridge
from muybridge import build, distributed
from muybridge import checkpoint as checkpoints
from muybridge.build import Placement
from muybridge.checkpoint import State
from muybridge.console import log, progress
from muybridge.data.loader import (
    Batch,
    Unreadable,
    ViewLoader,
    ahead_on_device,
    micro_batches,
    moved,
    num_batches,
    train_batches,
)
from muybridge.data.manifest import Manifest
from muybridge.data.transforms import to_input
from muybridge.distributed import ALONE, Processes, ProcessLost
from muybridge.draws import torch_seed
from muybridge.errors import Diverged, Interrupted, UserError
from muybridge.evaluation import figures, score
from muybridge.files import write_atomic, write_json
from muybridge.measure import count
from muybridge.models import Loaded, VideoModel, WeightedLogits
from muybridge.models.own import source_file
from muybridge.recipe import Recipe, Runtime, fingerprint, replace, to_json
from muybridge.runs import Run
from muybridge.scores import Scores
from muybridge.video import DecodeError


def train(recipe: Recipe, *, out: str | Path, runtime: Runtime | None = None) -> Run:
    """Train by a recipe into the folder `out`, which must not hold another run; score the test split once, at the end.

    Raises UserError for what a person has to mend, Interrupted after Ctrl-C or SIGTERM (the run was saved).
    """
    runtime = runtime or Runtime()
    run = Run(Path(out))
    processes = distributed.join(build.device(runtime))
    with processes.telling():
        if processes.is_first:
            _check_free(run)
        if not recipe.data.manifest or not recipe.model.name:
            missing = "model.name" if recipe.data.manifest else "data.manifest"
            raise UserError(f"The recipe leaves {missing} open; give --model NAME and --data MANIFEST")
        manifest = Manifest.load(recipe.data.manifest)
        recipe = build.resolve(recipe, runtime, manifest)
        cost = check(recipe, manifest, processes=processes.count) if processes.is_first else {}
        processes.firsts(None)
        with run.lock() if processes.is_first else nullcontext():
            if processes.is_first:
                _describe(run, recipe, runtime, manifest, cost, processes.count)
            return _train(run, recipe, runtime, manifest, processes)


def resume(
    run: str | Path | Run,
    *,
    checkpoint: str = "last",
    data: str | Path | None = None,
    runtime: Runtime | None = None,
) -> Run:
    """Continue a run from a checkpoint; a finished one is returned as it is. `checkpoint`: "last", "best", or the name of
    one that is there; what came after it is forgotten. `data`: where the run's manifest lies now, if it was moved. Raises
    UserError, Interrupted."""
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
    processes = distributed.join(build.device(runtime))
    with processes.telling():
        manifest = Manifest.load(recipe.data.manifest)
        resolved = build.resolve(recipe, runtime, manifest)
        before, now = run.environment(), _environment(runtime, processes.count)
        changed = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            log(
                f"warning: {'; '.join(changed)}: the run goes on, but its last bits may differ from an undisturbed one's"
            )
        with run.lock() if processes.is_first else nullcontext():
            if processes.is_first:
                if checkpoint != "last":
                    checkpoints.rewind(run.checkpoints, checkpoint)
                write_atomic(run.path / "recipe.json", to_json(resolved))
            return _train(run, resolved, runtime, manifest, processes)


def check(recipe: Recipe, manifest: Manifest, *, processes: int = 1) -> dict[str, Any]:
    """Everything that can be told wrong before the first file is written. Returns what the model costs, as counting it
    tries its name, its options and the size of the clip. Raises UserError."""
    sizes = {split: len(manifest.split(split, recipe.data.fold)) for split in ("train", "val", "test")}
    if sizes["train"] < 2:
        raise UserError(f"{recipe.data.manifest}: {sizes['train']} training videos are too few")
    smallest = sizes["train"] // num_batches(sizes["train"], recipe.optim.batch_size)
    if smallest < processes:
        raise UserError(
            f"{processes} processes need batches of at least {processes} clips; with optim.batch_size "
            f"{recipe.optim.batch_size}, {sizes['train']} videos are cut into batches of {smallest}"
        )
    if not sizes["val"]:
        if recipe.evaluation.checkpoint == "best":
            raise UserError("evaluation.checkpoint is best, but there is no validation split to choose it on")
        if (recipe.stop.quantity or "").startswith("val."):
            raise UserError(
                f"stop.quantity is {recipe.stop.quantity}, but there is no validation split to measure it on"
            )
    cost = count(
        recipe.model.name, num_classes=len(manifest.classes), num_frames=recipe.clip.num_frames, size=recipe.clip.size,
        temporal_pooling=recipe.model.temporal_pooling, **recipe.model.options,
    )  # fmt: skip
    build.video_views(recipe, manifest, build.file_reader(recipe))  # refuses crops that the manifest does
    if recipe.model.pretrained is not None:  # downloaded, and found to fit
        build.model(recipe, len(manifest.classes), classes=manifest.classes, tell=lambda loaded: None)
    if recipe.optim.train_from is not None:
        build.frozen(recipe, build.model(recipe, len(manifest.classes), pretrained=False))
    return cost.as_json()


def _train(run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest, processes: Processes) -> Run:
    where = build.placement(recipe, runtime)
    rows = manifest.split("train", recipe.data.fold)
    val_rows = manifest.split("val", recipe.data.fold)
    test_rows = manifest.split("test", recipe.data.fold) if recipe.evaluation.score_test else rows[:0]
    reader, num_workers = build.reader_and_workers(
        recipe, runtime, manifest, np.concatenate([rows, val_rows, test_rows])
    )
    clips = build.train_clips(recipe, manifest, reader)
    views = build.video_views(recipe, manifest, reader)
    begun = processes.firsts(checkpoints.exists(run.checkpoints))

    def started(loaded: Loaded) -> None:
        log(str(loaded))
        if processes.is_first:
            run.save_init(loaded.as_json())

    model = build.model(recipe, len(manifest.classes), pretrained=not begun, classes=manifest.classes, tell=started)
    build.place(model, where)
    frozen = build.frozen(recipe, model)
    optimizer = build.optimizer(recipe, model)
    scaler = where.scaler()
    labels_N = manifest.labels()

    state = State()
    average = build.averaged(recipe, model)
    if begun:
        with checkpoints.offering_others(run.checkpoints):
            state = checkpoints.load_state(run.checkpoints)
            checkpoints.load_model(run.checkpoints, model, trained=average is not None)
            checkpoints.load_optimizer(run.checkpoints, model, optimizer)
            if average is not None:
                checkpoints.load_model(run.checkpoints, cast(VideoModel, average.module))
                average.n_averaged.fill_(state.step)
        log(f"resuming at step {state.step}")
    scored = model if average is None else cast(VideoModel, average.module)
    if scaler.is_enabled():
        scaler.load_state_dict(
            scaler.state_dict() | {"scale": state.loss_scale, "_growth_tracker": state.loss_scale_steps}
        )
    if processes.is_first:
        run.truncate_metrics(state.metrics_bytes)

    net: nn.Module = model
    if recipe.optim.batch_norm == "synced" and processes.count > 1:
        net = distributed.synced(net, where.device)
    is_ours = ":" not in recipe.model.name  # every parameter of which is used: a test holds it
    net = distributed.parallel(net, processes, where.device, uses_all=is_ours)
    if runtime.compile:
        net = cast(nn.Module, torch.compile(net))

    per_epoch = build.steps_per_epoch(recipe, len(rows))
    epochs = build.num_epochs(recipe, len(rows))
    num_steps = None if epochs is None else per_epoch * epochs
    schedule = build.schedule(recipe, len(rows))
    pinned = where.device.type == "cuda"
    train_loader = train_batches(
        clips, rows, batch_size=recipe.optim.batch_size, first_step=state.step, num_workers=num_workers,
        pin_memory=pinned, on_error=recipe.data.on_error, rank=processes.rank, ranks=processes.count,
    )  # fmt: skip
    view_loader = ViewLoader(views, num_workers=num_workers, pin_memory=pinned)
    skipped = run.skipped()

    def skip(failure: Unreadable) -> None:
        row = manifest.row(failure.row)
        if row.id not in skipped:
            log(f"skipped: {failure.error}")
            skipped[row.id] = {"path": row.path, "cause": str(failure.error).removeprefix(f"{row.path}: ")}
            if processes.is_first:
                run.save_skipped(skipped)

    def score_rows(which: np.ndarray, text: str) -> Scores:
        return score(
            scored, views, which, where=where, labels_N=labels_N[which], classes=manifest.classes,
            average=recipe.evaluation.average, batch_size=build.scoring_batch_size(recipe),
            text=text, loader=view_loader, skip=skip if recipe.data.on_error == "skip" else None, processes=processes,
        )  # fmt: skip

    def agree() -> None:
        processes.average_statistics(model)
        if scored is not model:
            processes.average_statistics(scored)

    def save(*, is_best: bool) -> None:
        agree()
        for theirs in processes.gathered(skipped):
            skipped.update(theirs)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
            raise Diverged(
                f"A weight is no finite number any more at step {state.step}. A lower optim.lr, a longer warm-up or "
                f"optim.clip_grad_norm may help. {_last_good(run)}"
            )
        if processes.is_first:
            if skipped:
                run.save_skipped(skipped)
            if scaler.is_enabled():
                state.loss_scale, state.loss_scale_steps = scaler.get_scale(), scaler.state_dict()["_growth_tracker"]
            state.metrics_bytes = run.metrics_bytes()
            checkpoints.save(
                run.checkpoints, model, optimizer, state, scored=None if average is None else scored, is_best=is_best
            )

    frozen.train()
    val_scores: Scores | None = None
    val: dict[str, float] = {}
    epoch_started, seconds_before, clips_before = time.perf_counter(), state.train_seconds, state.clips
    with view_loader, _explaining(run), ExitStack() as closing_first:
        trackers = closing_first.enter_context(
            build.trackers(run, recipe, runtime, first=processes.is_first, step=state.step)
        )

        def measured(line: dict[str, Any]) -> None:
            if processes.is_first:
                run.write_metrics(line)
                trackers.log(line)

        with _stop_signals() as stop, closing(train_loader), progress(run.name, num_steps) as bar:
            bar.advance(state.step)

            def interrupted() -> Interrupted:
                return Interrupted(
                    f"Stopped at step {state.step}{f' of {num_steps}' if num_steps else ''}; saved. Continue: muybridge "
                    f"train --resume {run.path}"
                )

            def validate(epoch: int) -> bool:
                """Measures, ends training where that is asked for, and returns whether it is the best so far. What breaks
                it off finds the training saved."""
                nonlocal val_scores, val
                try:
                    with stop.at_once(processes.count == 1):
                        val_scores = score_rows(val_rows, f"{run.name}: validating")
                except (DecodeError, KeyboardInterrupt) as error:
                    if processes.count > 1:  # the others are elsewhere: nothing can be gathered
                        raise
                    save(is_best=False)
                    raise (interrupted() if isinstance(error, KeyboardInterrupt) else error) from None
                val = figures(val_scores)
                measured({"kind": "val", "epoch": epoch, "step": state.step, **val})
                is_best = val["video_top1"] > state.best
                state.best = max(state.best, val["video_top1"])
                quantities = {f"val.{name}": value for name, value in val.items()}
                state.ended = state.ended or _ends_early(recipe, state, quantities, epoch)
                state.unvalidated = False
                return is_best

            if state.unvalidated:
                save(is_best=validate(math.ceil(state.step / per_epoch)))
            batches = ahead_on_device(train_loader, where.device)
            step_started = time.perf_counter()
            while not state.ended:
                try:
                    batch = next(batches)
                except DecodeError:
                    if processes.count == 1 and state.step:
                        save(is_best=False)
                    raise
                for failure in batch.unreadable:
                    skip(failure)
                lr = schedule.lr(state.train_seconds if recipe.optim.clock == "hours" else state.step)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                torch.manual_seed(
                    torch_seed(recipe.seed, "dropout", state.step, *([processes.rank] * (processes.rank > 0)))
                )
                loss_sum, correct = training_step(
                    model, optimizer, batch, where, recipe, net=net, scaler=scaler, processes=processes
                )
                if average is not None:
                    average.update_parameters(model)
                seconds = time.perf_counter() - step_started if processes.is_first else 0.0
                loss_sum, correct_sum, clips_sum, seconds, asked = processes.sums(
                    [loss_sum, correct, len(batch.rows_B), seconds, stop.asked]
                )
                if not np.isfinite(loss_sum):
                    raise Diverged(
                        f"The loss became {loss_sum} at step {state.step} (learning rate {lr:.3g}). A lower optim.lr, a "
                        f"longer warm-up or optim.clip_grad_norm may help. {_last_good(run)}"
                    )
                state.loss_sum += loss_sum
                state.correct += int(correct_sum)
                state.clips += int(clips_sum)
                state.train_seconds += seconds
                state.step += 1
                bar.advance()
                bar.describe(f"{run.name}  loss {state.loss_sum / state.clips:.3f}" + _shown(val))

                epoch, in_epoch = divmod(state.step, per_epoch)
                max_hours = recipe.stop.max_hours
                if num_steps is not None and state.step >= num_steps:
                    state.ended = f"all {epochs} epochs"
                elif max_hours is not None and state.train_seconds >= max_hours * 3600:
                    state.ended = f"stop.max_hours: {max_hours:g} hours of training"
                due = is_best = False
                if in_epoch == 0 or state.ended:
                    epoch += in_epoch > 0  # an epoch that was begun
                    quantities = {
                        "train.loss": state.loss_sum / state.clips,
                        "train.clip_top1": state.correct / state.clips,
                    }
                    measured({
                        "kind": "train", "epoch": epoch, "step": state.step, "loss": quantities["train.loss"],
                        "clip_top1": quantities["train.clip_top1"], "lr": lr,
                    })  # fmt: skip
                    train_seconds = state.train_seconds - seconds_before
                    clips_per_s = (state.clips - clips_before) / train_seconds
                    state.loss_sum, state.correct, state.clips = 0.0, 0, 0
                    state.ended = state.ended or _ends_early(recipe, state, quantities, epoch)
                    due = bool(state.ended) or epoch % recipe.evaluation.every_epochs == 0
                    if due:
                        agree()
                    state.unvalidated = due and len(val_rows) > 0
                    try:
                        if state.unvalidated and not asked:
                            is_best = validate(epoch)
                    finally:
                        if processes.is_first:
                            run.write_timing({
                                "epoch": epoch, "train_seconds": train_seconds, "train_clips_per_s": clips_per_s,
                                "total_seconds": time.perf_counter() - epoch_started,
                            })  # fmt: skip
                    epoch_started, seconds_before, clips_before = time.perf_counter(), state.train_seconds, 0
                if due or asked or (runtime.checkpoint_steps and state.step % runtime.checkpoint_steps == 0):
                    save(is_best=is_best)
                if asked:
                    raise interrupted()
                step_started = time.perf_counter()

        if recipe.evaluation.checkpoint == "best":
            checkpoints.load_model(run.checkpoints, scored, "best")
            val_scores = None
        result: dict[str, Any] = {
            "fingerprint": fingerprint(recipe),
            "steps": state.step,
            "ended": state.ended,
            "checkpoint": recipe.evaluation.checkpoint,
        }
        for split, which in (("val", val_rows), ("test", test_rows)):
            if len(which):
                known = val_scores if split == "val" else None  # the last epoch's validation, of these very weights
                scores = known or score_rows(which, f"{run.name}: scoring {split}")
                if processes.is_first:
                    run.save_scores(split, scores)
                result[split] = figures(scores)

        for theirs in processes.gathered(skipped):
            skipped.update(theirs)
        if recipe.data.on_error == "skip":
            result["skipped"] = len(skipped)
        if processes.is_first:
            if skipped:
                run.save_skipped(skipped)
            run.finish(result)
            trackers.log({"kind": "result", "step": state.step, **result.get("test", {})})
    processes.firsts(None)  # the others leave when all is written
    return run


def training_step(
    model: VideoModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    where: Placement,
    recipe: Recipe,
    *,
    net: nn.Module | None = None,
    scaler: torch.amp.GradScaler | None = None,
    processes: Processes = ALONE,
) -> tuple[float, int]:
    """One update by the mean loss of the clips of all processes. Returns the sum of this process's losses, and how many of
    its clips were answered right. `net`: what computes in the model's place (the same, parallel or compiled)."""
    net = model if net is None else net
    scaler = where.scaler() if scaler is None else scaler
    batch = moved(batch, where.device, non_blocking=where.non_blocking)
    own = len(batch.rows_B)
    total = processes.sums([own])[0]
    optimizer.zero_grad(set_to_none=True)
    loss_sum = torch.zeros((), dtype=torch.float64, device=where.device)
    correct = torch.zeros((), dtype=torch.int64, device=where.device)
    parts = list(micro_batches(batch, recipe.optim.micro_batch_size, largest=-(-int(total) // processes.count)))
    for number, part in enumerate(parts, start=1):
        clips = len(part.labels_B)
        x_BCTHW = to_input(
            part.clips_BTHWC,
            part.flip_B,
            mean=model.preprocessing.mean,
            std=model.preprocessing.std,
            snippet_frames=build.SNIPPET_FRAMES[recipe.clip.modality],
            jitter=part.jitter,
        )
        with processes.talking(), distributed.gradients_wait(net, number < len(parts)):
            try:
                with where.autocast():
                    out = net(x_BCTHW)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise UserError(f"One clip alone in a batch is too few for this model's batch norm: {error}") from error
            weighted = out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1))
            losses_N = torch.stack([
                F.cross_entropy(
                    logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32)), part.labels_B,
                    label_smoothing=recipe.optim.label_smoothing,
                )
                for logits_BK in weighted.logits_NBK
            ])  # fmt: skip
            loss = (losses_N * weighted.weights_N).sum()
            share = clips * processes.count / total  # gradients are averaged over processes
            scaler.scale(loss if share == 1 else loss * share).backward()
        loss_sum += loss.detach().double() * clips
        correct += (weighted.logits_NBK[0].argmax(1) == part.labels_B).sum()
    if recipe.optim.clip_grad_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    return loss_sum.item(), int(correct)  # the loop's one point of synchronisation


def _ends_early(recipe: Recipe, state: State, quantities: dict[str, float], epoch: int) -> str:
    """Why training ends here by `stop.target` or `stop.patience_epochs`, or nothing; remembers the best value."""
    name, target, patience = recipe.stop.quantity, recipe.stop.target, recipe.stop.patience_epochs
    if name not in quantities:
        return ""
    value = quantities[name]
    lower_is_better = name.endswith("loss")
    if target is not None and (value <= target if lower_is_better else value >= target):
        return f"stop.target: {name} is {value:.4g} after {epoch} epochs"
    best = state.stop_best
    if best is None or (value < best if lower_is_better else value > best):
        state.stop_best, state.stop_best_epoch = value, epoch
    elif patience is not None and epoch - state.stop_best_epoch >= patience:
        return f"stop.patience_epochs: {name} was best, {best:.4g}, after {state.stop_best_epoch} of {epoch} epochs"
    return ""


def _check_free(run: Run) -> None:
    """Raises UserError where the folder holds anything but the beginning of a run."""
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path} is a file; --out names the run folder to make")
    if (run.path / "checkpoints" / "last").exists() or run.is_finished:
        raise UserError(
            f"{run.path} holds a run already. Continue it with `muybridge train --resume {run.path}`, or choose another --out"
        )
    if run.path.is_dir() and not run.holds_only_beginnings():
        raise UserError(f"{run.path} is not empty and holds no run; choose another --out")


def _describe(
    run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest, cost: dict[str, Any], processes: int
) -> None:
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
    write_json(run.path / "environment.json", _environment(runtime, processes))
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


def _environment(runtime: Runtime, processes: int) -> dict[str, Any]:
    """What the last bits of a run depend on, beside its recipe."""
    device = build.device(runtime)
    return {
        "muybridge": muybridge.__version__, "python": sys.version.split()[0], "torch": torch.__version__,
        "numpy": np.__version__, "platform": platform.platform(), "processor": _processor(device),
        "threads": runtime.threads or torch.get_num_threads(), "device": device.type,
        "processes": processes,
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
    if not checkpoints.exists(run.checkpoints):
        return "No checkpoint was saved before."
    return f"The last good checkpoint is {checkpoints.directory(run.checkpoints)}. Continue: muybridge train --resume {run.path}"


def _shown(val: dict[str, float]) -> str:
    return f"  val {val['video_top1']:.3f}" if val else ""


@contextmanager
def _explaining(run: Run) -> Iterator[None]:
    """To what ends training and is no fault of the program, the last good checkpoint is added."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(error.path, f"{error.reason}. {_last_good(run)}") from error
    except ProcessLost as error:
        raise UserError(f"{error}. {_last_good(run)}") from None
    except OSError as error:  # a full disk, a share that went away
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}. {_last_good(run)}") from error
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise UserError(
            f"runtime.compile: torch cannot compile the network here ({str(error).splitlines()[0]}). Install what it asks for, "
            "or train without: --set runtime.compile=false"
        ) from error


class _Stop:
    """Whether a person, or the system, has asked to stop."""

    asked = False
    is_at_once = False

    @contextmanager
    def at_once(self, wanted: bool) -> Iterator[None]:
        """In the block it is a KeyboardInterrupt that asks."""
        self.is_at_once = wanted
        try:
            yield
        finally:
            self.is_at_once = False

    def handle(self, number: int, frame: Any) -> None:
        if self.asked or self.is_at_once:
            raise KeyboardInterrupt
        self.asked = True
        log("stopping after this step …")


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Ctrl-C and SIGTERM finish the step and save; a second Ctrl-C stops at once."""
    stop = _Stop()
    try:
        before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's signals are the caller's
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
