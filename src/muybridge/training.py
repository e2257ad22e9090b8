"""Training: one visible loop for every model, resumable at any step.

    muybridge train --model tsm_resnet18 --data set.csv --out runs/tsm

Nothing in the loop depends on time or on the number of workers: every draw is keyed by (seed, purpose, epoch, video id)
or (seed, purpose, step), so a run that was killed and resumed ends with the same bits (same machine, torch, threads and
precision).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from muybridge import build, distributed
from muybridge import checkpoint as checkpoints
from muybridge import recipe as recipe_sections
from muybridge.build import Placement
from muybridge.checkpoint import State
from muybridge.console import log, progress
from muybridge.data.loader import (
    Batch,
    Unreadable,
    ViewLoader,
    WorkerLost,
    ahead_on_device,
    micro_batches,
    moved,
    num_batches,
    train_batches,
)
from muybridge.data.manifest import Manifest
from muybridge.data.transforms import to_input
from muybridge.description import describe, environment
from muybridge.distributed import ALONE, Processes, ProcessLost
from muybridge.draws import torch_seed
from muybridge.errors import Diverged, Interrupted, UserError
from muybridge.evaluation import figures, score
from muybridge.files import write_atomic
from muybridge.freezing import norms_still
from muybridge.measure import count
from muybridge.models import Loaded, VideoModel, WeightedLogits
from muybridge.recipe import Recipe, Runtime, fingerprint, replace, to_json
from muybridge.runs import Run
from muybridge.scores import Scores
from muybridge.signals import Stop, stop_signals
from muybridge.user_code import Consent, check_consent, use_source
from muybridge.video import DecodeError


def train(recipe: Recipe, *, out: str | Path, allow_code: bool = False, runtime: Runtime | None = None) -> Run:
    """Train by a recipe into the folder `out`, which must not hold another run; score the test split once, at the end. A
    model of the user's own needs `allow_code`, unless they have named it before (`muybridge.user_code`).

    Raises UserError for what a person has to mend, Interrupted after Ctrl-C or SIGTERM (the run was saved).
    """
    check_consent(recipe.model.name, where="The recipe", allow_code=allow_code)
    runtime = runtime or Runtime()
    run = Run(Path(out))
    processes = distributed.join(build.device(runtime))
    with processes.telling(), _stoppable(run) as stop:
        if processes.is_first:
            _check_free(run)  # before anything is computed
        if not recipe.data.manifest or not recipe.model.name:
            missing = "model.name" if recipe.data.manifest else "data.manifest"
            raise UserError(f"The recipe leaves {missing} open; give --model NAME and --data MANIFEST")
        manifest = Manifest.load(recipe.data.manifest)
        recipe = build.resolve(recipe, runtime, manifest)
        cost = check(recipe, manifest, processes=processes.count) if processes.is_first else {}
        processes.firsts(None)
        with run.lock() if processes.is_first else nullcontext():
            if processes.is_first:
                _check_free(run)  # another process may have been there meanwhile
                describe(run, recipe, runtime, manifest, cost, processes.count)
            with _explaining(run), processes.telling():
                return _train(run, recipe, runtime, manifest, processes, stop)


def resume(
    run: str | Path | Run,
    *,
    checkpoint: str = "last",
    data: str | Path | None = None,
    allow_code: Consent = False,
    runtime: Runtime | None = None,
) -> Run:
    """Continue a run from a checkpoint; a finished one is returned as it is. `checkpoint`: "last", "best", or the name of
    one that is there; what came after it is forgotten. `data`: where the run's manifest lies now, if it was moved. A model
    of the user's own is imported from the run, and only with `allow_code`. Raises UserError, Interrupted."""
    run = Run.open(run)
    if run.is_finished:
        if checkpoint != "last":
            with checkpoints.offering_others(run.checkpoints, checkpoint):
                checkpoints.model_file(run.checkpoints, checkpoint)
            raise UserError(
                f"{run.path} is finished: there is nothing to continue. A new run can start from it: --init "
                f"{run.checkpoints / checkpoint}"
            )
        log(f"{run.path} is finished already")
        return run
    recipe = run.recipe()
    use_source(run.path, recipe.model.name, recipe.model.source_sha256, allow_code=allow_code)
    if data is not None:
        recipe = replace(recipe, {"data.manifest": str(data)})
    elif not Path(recipe.data.manifest).exists():
        raise UserError(
            f"The manifest of {run.path}, {recipe.data.manifest}, is not there any more; where is it? --data MANIFEST"
        )
    runtime = runtime or run.runtime()
    processes = distributed.join(build.device(runtime))
    with processes.telling(), _stoppable(run) as stop:
        manifest = Manifest.load(recipe.data.manifest)
        resolved = build.resolve(recipe, runtime, manifest)
        before, now = run.environment(), environment(runtime, processes.count)
        changed = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            log(
                f"warning: {'; '.join(changed)}: the run goes on, but its last bits may differ from an undisturbed one's"
            )
        with run.lock() if processes.is_first else nullcontext():
            if processes.firsts(run.is_finished):
                log(f"{run.path} was finished meanwhile, by another process")
                return run
            if processes.is_first:
                if checkpoint != "last":
                    checkpoints.rewind(run.checkpoints, checkpoint)
                write_atomic(run.file("recipe.json"), to_json(resolved))
            with _explaining(run), processes.telling():
                return _train(run, resolved, runtime, manifest, processes, stop)


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
    if processes > 1 and recipe.data.on_error == "skip" and recipe.optim.batch_norm == "synced":
        raise UserError(
            "data.on_error 'skip' does not go with optim.batch_norm 'synced' on several processes, which must go through the "
            "network equally often: prepare the set again without the broken videos, or take other batch norms"
        )
    if not sizes["val"]:
        if recipe.evaluation.checkpoint == "best":
            raise UserError("evaluation.checkpoint is best, but there is no validation split to choose it on")
        if (recipe.stop.quantity or "").startswith("val."):
            raise UserError(
                f"stop.quantity is {recipe.stop.quantity}, but there is no validation split to measure it on"
            )
    base = build.base_run(recipe)
    if base is not None and not base.is_finished:
        log(f"warning: {base.path}, whose weights this run starts from, is not finished")
    cost = count(
        recipe.model.name, num_classes=len(manifest.classes), num_frames=recipe.clip.num_frames, size=recipe.clip.size,
        temporal_pooling=recipe.model.temporal_pooling, **recipe.model.options,
    )  # fmt: skip
    build.check_unseen(recipe, manifest)
    build.video_views(recipe, manifest, build.file_reader(recipe))  # refuses crops that the manifest does
    if recipe.model.pretrained is not None:  # downloaded, and found to fit
        build.model(recipe, len(manifest.classes), classes=manifest.classes, tell=lambda loaded: None)
    if recipe.optim.train_from is not None:
        build.frozen(recipe, build.model(recipe, len(manifest.classes), pretrained=False))
    return cost.as_json()


def _train(run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest, processes: Processes, stop: Stop) -> Run:
    """The loop. (Setting up, scoring and saving are `Session`'s.)"""
    session = Session(run, recipe, runtime, manifest, processes)
    state, clock, max_hours = session.state, recipe.optim.clock, recipe.stop.max_hours
    per_epoch, num_steps = session.per_epoch, session.num_steps
    schedule = build.schedule(recipe, len(session.rows))
    last_epoch_at, seconds_before, clips_before = time.perf_counter(), state.train_seconds, state.clips
    with session, stop.later():
        loader = train_batches(
            session.clips, session.rows, batch_size=recipe.optim.batch_size, first_step=state.step,
            num_workers=session.num_workers, pin_memory=session.pin_memory, on_error=recipe.data.on_error,
            rank=processes.rank, ranks=processes.count,
        )  # fmt: skip
        with closing(loader), progress(run.name, num_steps) as bar:
            bar.advance(state.step)
            if state.unvalidated:
                session.validate(stop)
            batches = ahead_on_device(loader, session.where.device)
            asked_at = time.perf_counter()
            while not state.ended:
                try:
                    batch = next(batches)
                except (DecodeError, WorkerLost):
                    if processes.count == 1 and state.step:
                        session.save()
                    raise
                for failure in batch.unreadable:
                    session.skip(failure)
                lr = schedule.lr(state.train_seconds if clock == "hours" else state.step)
                for group in session.optimizer.param_groups:
                    group["lr"] = lr
                torch.manual_seed(
                    torch_seed(recipe.seed, "dropout", state.step, *([processes.rank] * (processes.rank > 0)))
                )
                loss_sum, correct = training_step(
                    session.model, session.optimizer, batch, session.where, recipe, net=session.net,
                    scaler=session.scaler, processes=processes,
                )  # fmt: skip
                if recipe.optim.batch_norm in ("local", "partial"):
                    processes.average_statistics(session.model)
                if session.average is not None:
                    session.average.update_parameters(session.model)
                seconds = time.perf_counter() - asked_at if processes.is_first else 0.0
                loss_sum, correct_sum, clips, seconds, asked = processes.sums(
                    [loss_sum, correct, len(batch.rows_B), seconds, stop.asked]
                )
                if not np.isfinite(loss_sum):
                    raise Diverged(
                        f"The loss became {loss_sum} at step {state.step} (learning rate {lr:.3g}). A lower optim.lr, a "
                        f"longer warm-up or optim.clip_grad_norm may help. {_last_good(run)}"
                    )
                state.step += 1
                state.loss_sum += loss_sum
                state.correct += int(correct_sum)
                state.clips += int(clips)
                state.train_seconds += seconds
                bar.advance()
                bar.describe(f"{run.name}  loss {state.loss_sum / state.clips:.3f}{session.shown_val}")

                if num_steps is not None and state.step >= num_steps:
                    state.ended = f"all {num_steps // per_epoch} epochs"
                elif max_hours is not None and state.train_seconds >= max_hours * 3600:
                    state.ended = f"stop.max_hours: {max_hours:g} hours of training"
                is_epoch, due = state.step % per_epoch == 0 or bool(state.ended), False
                if is_epoch:
                    epoch = -(-state.step // per_epoch)  # the last one may have been cut short
                    train = {"loss": state.loss_sum / state.clips, "clip_top1": state.correct / state.clips}
                    session.measured({"kind": "train", "epoch": epoch, "step": state.step, **train, "lr": lr})
                    train_seconds = state.train_seconds - seconds_before
                    timing = {
                        "epoch": epoch, "train_seconds": train_seconds,
                        "train_clips_per_s": (state.clips - clips_before) / train_seconds,
                    }  # fmt: skip
                    state.loss_sum, state.correct, state.clips = 0.0, 0, 0
                    state.ended = state.ended or ends_early(recipe.stop, state, "train", train, epoch)
                    due = bool(state.ended) or epoch % recipe.evaluation.every_epochs == 0
                    state.unvalidated = due and len(session.val_rows) > 0
                if due or asked or (runtime.checkpoint_steps and state.step % runtime.checkpoint_steps == 0):
                    session.save()
                if asked and not is_epoch:
                    raise session.interrupted()
                if is_epoch:
                    try:
                        if asked:
                            raise session.interrupted()
                        if state.unvalidated:
                            session.validate(stop)
                    finally:
                        if processes.is_first:
                            run.write_timing({**timing, "total_seconds": time.perf_counter() - last_epoch_at})
                    last_epoch_at, seconds_before, clips_before = time.perf_counter(), state.train_seconds, 0
                asked_at = time.perf_counter()
        session.finish(stop)
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
    shares = processes.each(len(batch.rows_B))
    total = sum(shares)
    if not total:
        raise UserError("Not one of the videos of an update could be read, by any process")
    optimizer.zero_grad(set_to_none=True)
    if not batch.rows_B:
        _take_part(net, where, recipe, processes)
    loss_sum = torch.zeros((), dtype=torch.float64, device=where.device)
    correct = torch.zeros((), dtype=torch.int64, device=where.device)
    parts = list(micro_batches(batch, recipe.optim.micro_batch_size, largest=int(max(shares))))
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


def _take_part(net: nn.Module, where: Placement, recipe: Recipe, processes: Processes) -> None:
    """One of several processes that has no clip of an update adds gradients of zero, and nothing to batch norms."""
    x_BCTHW = torch.zeros(1, 3, recipe.clip.num_frames, recipe.clip.size, recipe.clip.size, device=where.device)
    with processes.talking(), norms_still(net), where.autocast():
        out = net(x_BCTHW)
        (0 * (out.logits_NBK if isinstance(out, WeightedLogits) else out).sum()).backward()


def ends_early(rule: recipe_sections.Stop, state: State, kind: str, figures: Mapping[str, float], epoch: int) -> str:
    """Why training ends here by `stop.target` or `stop.patience_epochs`, or nothing; remembers the best value. `figures`:
    what was measured on `kind`, "train" or "val"."""
    name, target, patience = rule.quantity or "", rule.target, rule.patience_epochs
    of_kind, _, figure = name.partition(".")
    if of_kind != kind:
        return ""
    value = figures[figure]
    lower_is_better = figure == "loss"
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


class Session:
    """What a run is trained with, as it stood at its last checkpoint; and how it is scored and saved."""

    def __init__(self, run: Run, recipe: Recipe, runtime: Runtime, manifest: Manifest, processes: Processes) -> None:
        self.run, self.recipe, self.runtime, self.manifest, self.processes = run, recipe, runtime, manifest, processes
        self.where = build.placement(recipe, runtime)
        self.pin_memory = self.where.device.type == "cuda"
        self.rows = manifest.split("train", recipe.data.fold)
        self.val_rows = manifest.split("val", recipe.data.fold)
        self.test_rows = manifest.split("test", recipe.data.fold)
        if not recipe.evaluation.score_test:
            self.test_rows = self.test_rows[:0]
        scored = [rows[processes.rank :: processes.count] for rows in (self.val_rows, self.test_rows)]
        reader, self.num_workers = build.reader_and_workers(
            recipe, runtime, manifest, np.concatenate([self.rows, *scored])
        )
        self.clips = build.train_clips(recipe, manifest, reader)
        self.views = build.video_views(recipe, manifest, reader)
        self.view_loader = ViewLoader(self.views, num_workers=self.num_workers, pin_memory=self.pin_memory)
        self.labels_N = manifest.labels()
        self.per_epoch = build.steps_per_epoch(recipe, len(self.rows))
        epochs = build.num_epochs(recipe, len(self.rows))
        self.num_steps = None if epochs is None else self.per_epoch * epochs

        begun = processes.firsts(checkpoints.exists(run.checkpoints))
        self.model = build.model(
            recipe, len(manifest.classes), pretrained=not begun, classes=manifest.classes, tell=self._tell_init
        )
        build.place(self.model, self.where)
        self.frozen = build.frozen(recipe, self.model)
        self.optimizer = build.optimizer(recipe, self.model)
        self.scaler = self.where.scaler()
        self.average = build.averaged(recipe, self.model)
        self.scored = self.model if self.average is None else cast(VideoModel, self.average.module)
        self.state = State()
        if begun:
            self._load()
            log(f"resuming at step {self.state.step}")
        if processes.is_first:
            missing_bytes = run.truncate_metrics(self.state.metrics_bytes)
            if missing_bytes:
                log(f"{run.metrics_file} lacks {missing_bytes} bytes that it had at this checkpoint: they stay missing")
        self.net = self._net()
        self.skipped = run.skipped()
        self.val_scores: Scores | None = None
        self.shown_val = ""
        self.frozen.train()

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            entered.enter_context(self.view_loader)
            self.trackers = entered.enter_context(
                build.trackers(self.run, self.recipe, self.runtime, first=self.processes.is_first, step=self.state.step)
            )
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._entered.__exit__(*raised)

    def _tell_init(self, loaded: Loaded) -> None:
        log(str(loaded))
        if self.processes.is_first:
            self.run.save_init(loaded.as_json())

    def _load(self) -> None:
        folder = self.run.checkpoints
        with checkpoints.offering_others(folder):
            self.state = checkpoints.load_state(folder)
            checkpoints.load_model(folder, self.model, trained=self.average is not None)
            checkpoints.load_optimizer(folder, self.model, self.optimizer)
            if self.average is not None:
                checkpoints.load_model(folder, self.scored)
                self.average.n_averaged.fill_(self.state.step)
        if not self.state.ended and self.num_steps is not None and self.state.step >= self.num_steps:
            self.state.ended = f"all {self.num_steps // self.per_epoch} epochs"
        if self.scaler.is_enabled():
            kept = {"scale": self.state.loss_scale, "_growth_tracker": self.state.loss_scale_steps}
            self.scaler.load_state_dict(self.scaler.state_dict() | kept)

    def _net(self) -> nn.Module:
        """The model as it computes in training: parallel, compiled."""
        net: nn.Module = self.model
        if self.recipe.optim.batch_norm == "synced" and self.processes.count > 1:
            net = distributed.synced(net, self.where.device)
        is_ours = ":" not in self.recipe.model.name  # every parameter of which is used: a test holds it
        net = distributed.parallel(net, self.processes, self.where.device, uses_all=is_ours)
        return cast(nn.Module, torch.compile(net)) if self.runtime.compile else net

    def measured(self, line: dict[str, Any]) -> None:
        if self.processes.is_first:
            self.run.write_metrics(line)
            self.trackers.log(line)

    def skip(self, failure: Unreadable) -> None:
        row = self.manifest.row(failure.row)
        if row.id not in self.skipped:
            log(f"skipped: {failure.error}")
            self.skipped[row.id] = {"path": row.path, "cause": str(failure.error).removeprefix(f"{row.path}: ")}
            if self.processes.is_first:
                self.run.save_skipped(self.skipped)

    def score(self, rows: np.ndarray, text: str) -> Scores:
        return score(
            self.scored, self.views, rows, where=self.where, labels_N=self.labels_N[rows],
            classes=self.manifest.classes, average=self.recipe.evaluation.average,
            batch_size=build.scoring_batch_size(self.recipe), text=f"{self.run.name}: {text}", loader=self.view_loader,
            skip=self.skip if self.recipe.data.on_error == "skip" else None, processes=self.processes,
        )  # fmt: skip

    def validate(self, stop: Stop) -> None:
        """Measures on val, ends training where that is asked for, and saves again. Whatever breaks it off finds the
        training saved."""
        self.val_scores = self.score_unless_stopped(self.val_rows, "validating", stop)
        val, state = figures(self.val_scores), self.state
        epoch = -(-state.step // self.per_epoch)
        if not np.isfinite(val["loss"]):
            raise Diverged(
                f"The validation loss became {val['loss']} at step {state.step}. A lower optim.lr, a longer warm-up or "
                f"another precision may help. {_last_good(self.run)}"
            )
        self.measured({"kind": "val", "epoch": epoch, "step": state.step, **val})
        self.shown_val = f"  val {val['video_top1']:.3f}"
        is_best = val["video_top1"] > state.best
        state.best = max(state.best, val["video_top1"])
        state.ended = state.ended or ends_early(self.recipe.stop, state, "val", val, epoch)
        state.unvalidated = False
        self.save(is_best=is_best)

    def score_unless_stopped(self, rows: np.ndarray, text: str, stop: Stop) -> Scores:
        """Raises Interrupted where a stop was asked for before, or (where no other process waits) on the way."""
        if any(self.processes.each(stop.asked)):
            raise self.interrupted()
        try:
            with stop.at_once(self.processes.count == 1):
                return self.score(rows, text)
        except KeyboardInterrupt:
            raise self.interrupted() from None

    def interrupted(self) -> Interrupted:
        of_all = f" of {self.num_steps}" if self.num_steps else ""
        return Interrupted(
            f"Stopped at step {self.state.step}{of_all}; saved. Continue: muybridge train --resume {self.run.path}"
        )

    def save(self, *, is_best: bool = False) -> None:
        """A checkpoint. Raises Diverged where a weight, or a norm's statistic, is no finite number."""
        self._gather_skipped()
        values = list(self.model.state_dict().values())
        values += [] if self.average is None else self.scored.state_dict().values()
        if not all(bool(value.isfinite().all()) for value in values):
            raise Diverged(
                f"A weight is no finite number any more at step {self.state.step}. A lower optim.lr, a longer warm-up or "
                f"optim.clip_grad_norm may help. {_last_good(self.run)}"
            )
        if not self.processes.is_first:
            return
        if self.scaler.is_enabled():
            self.state.loss_scale = self.scaler.get_scale()
            self.state.loss_scale_steps = self.scaler.state_dict()["_growth_tracker"]
        self.state.metrics_bytes = self.run.metrics_bytes()
        checkpoints.save(
            self.run.checkpoints, self.model, self.optimizer, self.state,
            scored=None if self.average is None else self.scored, is_best=is_best,
        )  # fmt: skip

    def finish(self, stop: Stop) -> None:
        """Score val and test, once, and write the result. Raises Interrupted."""
        which, known = self.recipe.evaluation.checkpoint, self.val_scores  # the last validation, of these very weights
        if which == "best":
            checkpoints.load_model(self.run.checkpoints, self.scored, "best")
            known = None
        result: dict[str, Any] = {
            "fingerprint": fingerprint(self.recipe), "steps": self.state.step, "ended": self.state.ended,
            "checkpoint": which,
        }  # fmt: skip
        for split, rows in (("val", self.val_rows), ("test", self.test_rows)):
            if len(rows):
                scores = known if split == "val" else None
                scores = scores or self.score_unless_stopped(rows, f"scoring {split}", stop)
                if self.processes.is_first:
                    self.run.save_scores(split, scores)
                result[split] = figures(scores)
        self._gather_skipped()
        if self.recipe.data.on_error == "skip":
            result["skipped"] = len(self.skipped)
        if self.processes.is_first:
            self.run.finish(result)
            self.trackers.log({"kind": "result", "step": self.state.step, **result.get("test", {})})

    def _gather_skipped(self) -> None:
        for theirs in self.processes.gathered(self.skipped):
            self.skipped.update(theirs)
        if self.skipped and self.processes.is_first:
            self.run.save_skipped(self.skipped)


def _last_good(run: Run) -> str:
    if not checkpoints.exists(run.checkpoints):
        return "No checkpoint was saved before."
    return f"The last good checkpoint is {checkpoints.directory(run.checkpoints)}. Continue: muybridge train --resume {run.path}"


@contextmanager
def _stoppable(run: Run) -> Iterator[Stop]:
    """Ctrl-C and SIGTERM are heard in the block. Raises Interrupted."""
    try:
        with stop_signals() as stop:
            yield stop
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if not checkpoints.exists(run.checkpoints):
            raise Interrupted("Stopped before anything was trained and saved") from None
        raise Interrupted(f"Stopped. {_last_good(run)}") from None


@contextmanager
def _explaining(run: Run) -> Iterator[None]:
    """To what ends training and is no fault of the program, the last good checkpoint is added."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(error.path, f"{error.reason}. {_last_good(run)}") from error
    except (ProcessLost, WorkerLost) as error:
        raise UserError(f"{error}. {_last_good(run)}") from None
    except OSError as error:  # a full disk, a share that went away
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}. {_last_good(run)}") from error
    except RuntimeError as error:
        lost = WorkerLost.of(error)
        if lost is not None:
            raise UserError(f"{lost}. {_last_good(run)}") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise UserError(
            f"runtime.compile: torch cannot compile the network here ({str(error).splitlines()[0]}). Install what it asks for, "
            "or train without: --set runtime.compile=false"
        ) from error
