"""A run as it stood at its last checkpoint; scoring it, saving it, and ending it."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn

from muybridge import build
from muybridge.analysis import learning
from muybridge.data.loader import ViewLoader, WorkerLost
from muybridge.data.views import Batch, Unreadable
from muybridge.errors import Diverged, Interrupted, UserError
from muybridge.evaluation.score import score
from muybridge.recipe import Recipe, Runtime, fingerprint
from muybridge.recipe import Stop as StopRule
from muybridge.recipe.schedule import budget
from muybridge.runtime import distributed
from muybridge.runtime.console import log
from muybridge.runtime.device import to_device
from muybridge.runtime.distributed import Processes, ProcessLost
from muybridge.runtime.signals import Stop, stop_signals
from muybridge.runtime.trackers import Trackers
from muybridge.storage import checkpoints
from muybridge.storage.checkpoints import State
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, metrics
from muybridge.text import duration, plural
from muybridge.training import health, threads
from muybridge.training.job import Job
from muybridge.training.provenance import environment, note_continued
from muybridge.training.step import Still, training_step
from muybridge.video import DecodeError
from muybridge.zoo import Loaded, VideoModel
from muybridge.zoo.candidates import Candidates

LOOK_STEPS = 20
"""Steps between two looks at the network's health. A look costs a forward pass, about a third of a step."""
PACE_STEPS, PACE_SECONDS = 20, 30.0
"""Steps, or seconds, after which the pace of a training is known."""
WORTH_TELLING_SECONDS = 60.0


def ends_early(rule: StopRule, state: State, kind: str, figures: Mapping[str, float], epoch: int) -> str:
    """The reason to end training here by `stop.target` or `stop.patience_epochs`, or ""; remembers the best value.

    `figures`: metrics of `kind`, "train" or "val".
    """
    name, target, patience = rule.metric or "", rule.target, rule.patience_epochs
    of_kind, _, figure = name.partition(".")
    if of_kind != kind:
        return ""
    value = figures[figure]
    lower_is_better = figure == "loss"
    if target is not None and (value <= target if lower_is_better else value >= target):
        return f"stop.target: {name} is {value:.4g} after {plural(epoch, 'epoch')}"
    best = state.stop_best
    if best is None or (value < best if lower_is_better else value > best):
        state.stop_best, state.stop_best_epoch = value, epoch
    elif patience is not None and epoch - state.stop_best_epoch >= patience:
        return f"stop.patience_epochs: {name} was best, {best:.4g}, after {state.stop_best_epoch} of {epoch} epochs"
    return ""


@contextmanager
def generators_kept() -> Iterator[None]:
    """The generators of torch, NumPy and Python draw after the block as if nobody had drawn in it."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def check_free(run: Run) -> None:
    """Raises UserError where the folder holds anything but the beginning of a run."""
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path}: it is a file. Name the run folder to make by --out")
    if (run.path / "checkpoints" / "last").exists() or run.is_finished:
        raise UserError(
            f"{run.path}: it holds a run already. Continue it with `muybridge train --resume {run.path}`, or choose "
            "another --out"
        )
    if run.path.is_dir() and not run.holds_only_beginnings():
        raise UserError(f"{run.path}: it is not empty and holds no run. Choose another --out")


class Session:
    """Everything a run is trained with, as it stood at its last checkpoint."""

    settled: threads.Settled
    """The number of threads; of a new run known from `begin` on."""
    contention: threads.Contention

    def __init__(self, run: Run, job: Job, runtime: Runtime, processes: Processes) -> None:
        recipe, manifest = job.recipe, job.manifest
        self.run, self.recipe, self.runtime, self.manifest, self.processes = run, recipe, runtime, manifest, processes
        self.where = build.placement(recipe, runtime)
        self.pin_memory = self.where.device.type == "cuda"
        self.rows = build.train_rows(recipe, manifest)
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
        self.balance = build.balance(recipe, manifest, self.where.device)
        self.budget = budget(recipe, len(self.rows))
        self.per_epoch, self.num_steps = self.budget.steps_per_epoch, self.budget.steps

        begun = processes.broadcast(checkpoints.exists(run.checkpoints))
        self.model = build.model(
            recipe, len(manifest.classes), pretrained=not begun, classes=manifest.classes, tell=self._tell_init
        )
        to_device(self.model, self.where)
        self.frozen = build.frozen(recipe, self.model)
        self.optimizer = build.optimizer(recipe, self.model)
        self.scaler = self.where.scaler()
        self.average = build.averaged(recipe, self.model)
        self.scored = self.model if self.average is None else cast(VideoModel, self.average.module)
        self.state = State(chosen=self.model.chosen)
        if begun:
            self._load()
            log(f"resuming at step {self.state.step}")
        if processes.is_first:
            missing_bytes = run.truncate_metrics(self.state.metrics_bytes)
            if missing_bytes:
                log(f"{run.metrics_file} lacks {missing_bytes} bytes that it had at this checkpoint: they stay missing")
        self.facts = self._stored_facts()
        self.told = {symptom.name for symptom in learning.symptoms(self.facts)} if self.state.step else set()
        self.net = self._net()
        self.skipped = run.skipped()
        self.val_scores: Scores | None = None
        self.validated_step = -1
        self.shown_val = ""
        self._paced_from: tuple[int, float] | None = None
        self._is_time_told = False
        self.frozen.train()
        if begun:
            self._settle_threads()
            if processes.is_first:
                note_continued(run, environment(runtime, processes.count, self.settled), self.state.step)

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            entered.enter_context(self.view_loader)
            self.trackers = entered.enter_context(
                trackers(self.run, self.recipe, self.runtime, first=self.processes.is_first, step=self.state.step)
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
            self.state = checkpoints.load_state(folder)  # (`load_model` gives the model its chosen copy)
            checkpoints.load_model(folder, self.model, trained=self.average is not None)
            checkpoints.load_optimizer(folder, self.model, self.optimizer)
            if self.average is not None:
                checkpoints.load_model(folder, self.scored)
                self.average.n_averaged.fill_(self.state.step)
        if not self.state.ended and self.num_steps is not None and self.state.step >= self.num_steps:
            self.state.ended = self.budget.ended
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

    def tell_time(self) -> None:
        """Log, once, how long the rest of the training takes at the pace of its first steps, if it takes long."""
        if self._is_time_told or self.num_steps is None:
            return
        if self._paced_from is None:  # the very first step takes longer than others
            self._paced_from = (self.state.step, self.state.train_seconds)
            return
        steps, seconds = self.state.step - self._paced_from[0], self.state.train_seconds - self._paced_from[1]
        if steps < PACE_STEPS and seconds < PACE_SECONDS:
            return
        self._is_time_told = True
        left = self.num_steps - self.state.step
        if left * seconds / steps >= WORTH_TELLING_SECONDS:
            log(
                f"about {duration(left * seconds / steps)} to go: {plural(left, 'step')} of {seconds / steps:.2g} s each, "
                "validation not counted"
            )

    def begin(self, batch: Batch, stop: Stop) -> None:
        """Settle before the first step with how many threads the run computes, also by its first batch, and note it.

        The network stays as it is. Raises KeyboardInterrupt where a stop is asked for while steps are tried.
        """
        self._settle_threads(batch, lambda: stop.asked)
        if self.processes.is_first:
            self.run.save_environment(environment(self.runtime, self.processes.count, self.settled))

    def _settle_threads(self, batch: Batch | None = None, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Nothing is tried where others than this process and its CPU compute the steps, nor without a batch."""
        on_cpu = self.where.device.type == "cpu"
        is_alone = on_cpu and self.processes.count == 1 and not self.runtime.compile
        with generators_kept():
            self.settled = threads.settle(
                self.runtime, num_workers=self.num_workers if on_cpu else 0, is_stopped=is_stopped,
                trial=lambda: self._trial(batch) if batch is not None and is_alone else None,
            )  # fmt: skip
        self.contention = threads.Contention(self.settled, self.num_workers)

    def _trial(self, batch: Batch) -> Callable[[], object] | None:
        """A step on a copy of the network, with all that steps may change in it. None: it cannot be copied."""
        try:
            copied = copy.deepcopy(self.model)
        except Exception:  # a user's network may hold anything
            return None
        still = Still(copied.parameters())
        return lambda: training_step(copied, still, batch, self.where, self.recipe, balance=self.balance)

    def _stored_facts(self) -> learning.Facts:
        """Facts of the steps that were done."""
        try:
            lines = self.run.all_metrics() if self.state.step else []
        except UserError:  # whoever reads the file will say so
            lines = []
        return learning.Facts(
            self.recipe, len(self.manifest.classes), num_train=len(self.rows), num_val=len(self.val_rows), lines=lines
        )

    def start_facts(self, batch: Batch) -> dict[str, Any]:
        """Facts from before the first step: what training has to beat, and a look at the network as it starts."""
        facts: dict[str, Any] = health.reference(
            self.labels_N[self.rows], len(self.manifest.classes),
            label_smoothing=self.recipe.optim.label_smoothing, loss_weight=self.model.loss_weight,
            is_even=self.recipe.data.balanced_sampling, balance=self.balance,
        )  # fmt: skip
        if len(self.val_rows):
            facts["val_majority"] = float(np.bincount(self.labels_N[self.val_rows]).max() / len(self.val_rows))
        return facts | health.look(self.model, batch, self.where, self.recipe, self.processes)

    def looks_after(self, step: int) -> bool:
        """Whether the network is looked at after a step: the last one of the first epoch, of others LOOK_STEPS apart, of all."""
        if self.num_steps is not None and step >= self.num_steps:
            return True
        before = step - self.per_epoch
        return step % self.per_epoch == 0 and (before == 0 or step // LOOK_STEPS > before // LOOK_STEPS)

    def measure_health(self, batch: Batch, epoch: int, update: dict[str, float]) -> None:
        """Look at the network after the last step of an epoch, on its batch, and write what was seen."""
        facts = health.look(self.model, batch, self.where, self.recipe, self.processes)
        if facts:
            self.measured({"kind": "health", "epoch": epoch, "step": self.state.step, **facts, **update})

    def tell_symptoms(self) -> None:
        """Say what keeps the network from learning, each symptom once."""
        facts = replace(self.facts, is_over=bool(self.state.ended))
        for symptom in learning.symptoms(facts):
            if symptom.name not in self.told:
                self.told.add(symptom.name)
                log(f"{self.run.name}: {symptom}")

    def measured(self, line: dict[str, Any]) -> None:
        """Write a line of metrics.jsonl, and send it to the trackers."""
        self.facts.lines.append(line)
        if self.processes.is_first:
            self.run.write_metrics(line)
            self.trackers.log(line)

    def skip(self, failure: Unreadable) -> None:
        """Note a video that cannot be read, once."""
        row = self.manifest.row(failure.row)
        if row.id not in self.skipped:
            log(f"skipped: {failure.error}")
            self.skipped[row.id] = {"path": row.path, "cause": str(failure.error).removeprefix(f"{row.path}: ")}
            if self.processes.is_first:
                self.run.save_skipped(self.skipped)

    def score(self, rows: np.ndarray, text: str) -> Scores:
        """Score rows with the weights that count (their running mean, where there is one)."""
        return score(
            self.scored, self.views, rows, where=self.where, labels_N=self.labels_N[rows],
            classes=self.manifest.classes, average=self.recipe.evaluation.average,
            batch_size=build.scoring_batch_size(self.recipe), text=f"{self.run.name}: {text}", loader=self.view_loader,
            skip=self.skip if self.recipe.data.on_error == "skip" else None, processes=self.processes,
        )["ordered"]  # fmt: skip

    def validate(self, stop: Stop) -> None:
        """Measure on val, end training where a rule says so, and save again.

        The training was saved before: an interruption loses nothing.
        """
        self.val_scores, self.validated_step = self.choose(stop), self.state.step
        val, state = metrics(self.val_scores), self.state
        epoch = -(-state.step // self.per_epoch)
        if not np.isfinite(val["loss"]):
            raise Diverged(
                f"validation loss: it became {val['loss']} at step {state.step}. Lower optim.lr, lengthen the "
                f"warm-up, or use another precision. {last_good(self.run)}"
            )
        self.measured({"kind": "val", "epoch": epoch, "step": state.step, **val})
        self.shown_val = f"  val {val['video_top1']:.3f}"
        is_best = val["video_top1"] > state.best
        state.best = max(state.best, val["video_top1"])
        state.ended = state.ended or ends_early(self.recipe.stop, state, "val", val, epoch)
        state.unvalidated = False
        self.save(is_best=is_best)

    def choose(self, stop: Stop) -> Scores:
        """Score val. Of several copies that are trained at once, all are scored, and the best answers from here on."""
        if self.model.num_copies == 1:
            return self.score_unless_stopped(self.val_rows, "validating", stop)
        tried: list[dict[str, Any]] = []
        scores_of: dict[int, Scores] = {}
        for index, (lr, decay) in enumerate(self.recipe.candidates):
            self.model.chosen = index
            try:
                scores_of[index] = self.score_unless_stopped(self.val_rows, f"validating {index + 1}", stop)
            except Diverged:
                self.processes.clear_failure()
                tried.append({"lr": lr, "weight_decay": decay, "diverged": True})
                continue
            val = metrics(scores_of[index])
            tried.append({"lr": lr, "weight_decay": decay, "video_top1": val["video_top1"], "loss": val["loss"]})
        if not scores_of:
            raise Diverged(
                f"optim.lr_grid: each of {self.model.num_copies} copies diverged. Lower the rates. {last_good(self.run)}"
            )
        self.model.chosen = self.state.chosen = best_candidate(tried)
        if self.processes.is_first:
            self.run.save_candidates(tried, self.state.chosen)
        return scores_of[self.state.chosen]

    def score_unless_stopped(self, rows: np.ndarray, text: str, stop: Stop) -> Scores:
        """Raises Interrupted where a stop was asked for before, or (where no other process waits) on the way."""
        if any(self.processes.all_gather(stop.asked)):
            raise self.interrupted()
        try:
            with stop.at_once(self.processes.count == 1):
                return self.score(rows, text)
        except KeyboardInterrupt:
            raise self.interrupted() from None

    def told_choice(self) -> str:
        """A sentence on the copy that answers; empty where one network was trained."""
        if self.model.num_copies == 1:
            return ""
        lr, decay = self.recipe.candidates[self.state.chosen]
        return f"chosen on val among {self.model.num_copies} trained at once: lr {lr:g}, weight decay {decay:g}"

    def interrupted(self) -> Interrupted:
        """The error that says where the run stopped."""
        of_all = f" of {self.num_steps}" if self.num_steps else ""
        return Interrupted(f"Stopped at step {self.state.step}{of_all}; saved. {self.run.how_to_continue}")

    def save(self, *, is_best: bool = False) -> None:
        """A checkpoint. Raises Diverged where a weight, or a norm's statistic, is not finite."""
        self._gather_skipped()
        networks = list(self.model.copies) if isinstance(self.model, Candidates) else [self.model]
        networks += [] if self.average is None else [self.scored]
        are_finite = [all(bool(value.isfinite().all()) for value in net.state_dict().values()) for net in networks]
        if not (any(are_finite) if self.model.num_copies > 1 else all(are_finite)):  # one of several copies may diverge
            raise Diverged(
                f"weights: one is not finite any more at step {self.state.step}. Lower optim.lr, lengthen the "
                f"warm-up, or set optim.clip_grad_norm. {last_good(self.run)}"
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

    def pause(self, stop: Stop) -> None:
        """Score val with the weights of this step, and note it beside the run, which is left as it is. Raises Interrupted."""
        scores = self.val_scores if self.validated_step == self.state.step else None
        val = metrics(scores or self.choose(stop))
        if not np.isfinite(val["loss"]):
            raise Diverged(
                f"validation loss: it became {val['loss']} at step {self.state.step}. Lower optim.lr, lengthen the "
                f"warm-up, or use another precision. {last_good(self.run)}"
            )
        if self.processes.is_first:
            self.run.save_pause(self.state.step, {"seconds": self.state.train_seconds, **val})

    def finish(self, stop: Stop) -> None:
        """Score val and test, once, and write the result. Raises Interrupted."""
        which = self.recipe.evaluation.checkpoint
        val_scores = self.val_scores  # the last validation, of these very weights
        if which == "best":
            checkpoints.load_model(self.run.checkpoints, self.scored, "best")
            val_scores = None
        result: dict[str, Any] = {
            "fingerprint": fingerprint(self.recipe), "steps": self.state.step, "ended": self.state.ended,
            "checkpoint": which,
        }  # fmt: skip
        for split, rows in (("val", self.val_rows), ("test", self.test_rows)):
            if len(rows):
                scores = val_scores if split == "val" else None
                scores = scores or self.score_unless_stopped(rows, f"scoring {split}", stop)
                if self.processes.is_first:
                    self.run.save_scores(split, scores)
                result[split] = metrics(scores)
        if self.model.num_copies > 1:
            result["chosen"] = self.state.chosen
            log(f"{self.run.name}: {self.told_choice()}")
        self._gather_skipped()
        if self.recipe.data.on_error == "skip":
            result["skipped"] = len(self.skipped)
        if self.processes.is_first:
            found = learning.symptoms(replace(self.facts, is_over=True))
            if found:
                names = "; ".join(symptom.name for symptom in found)
                log(f"{self.run.name}: it does not learn as it should: {names} (docs/learning.md)")
            self.run.finish(result)
            self.trackers.log({"kind": "result", "step": self.state.step, **result.get("test", {})})

    def _gather_skipped(self) -> None:
        for theirs in self.processes.gathered(self.skipped):
            self.skipped.update(theirs)
        if self.skipped and self.processes.is_first:
            self.run.save_skipped(self.skipped)


def best_candidate(tried: Sequence[Mapping[str, Any]]) -> int:
    """Index of the best by accuracy on val, then by the loss there, then the earlier one."""
    whole = [index for index, one in enumerate(tried) if "diverged" not in one and np.isfinite(one["loss"])]
    return min(whole or [0], key=lambda index: (-tried[index]["video_top1"], tried[index]["loss"], index))


def trackers(run: Run, recipe: Recipe, runtime: Runtime, *, first: bool, step: int) -> Trackers:
    """The trackers that the runtime asks for, at the first process, of a run that stands at a step."""
    return Trackers(
        runtime.trackers if first else (),
        project=runtime.tracker_project,
        name=run.name,
        folder=run.path / "trackers",
        config=recipe.model_dump(),
        step=step,
    )


def last_good(run: Run) -> str:
    """A sentence that names the last good checkpoint."""
    if not checkpoints.exists(run.checkpoints):
        return "No checkpoint was saved before. Train again"
    return f"The last good checkpoint is {checkpoints.directory(run.checkpoints)}. {run.how_to_continue}"


@contextmanager
def stoppable(run: Run) -> Iterator[Stop]:
    """Ctrl-C and SIGTERM are heard in the block. Raises Interrupted."""
    try:
        with stop_signals() as stop:
            yield stop
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if not checkpoints.exists(run.checkpoints):
            raise Interrupted("Stopped before anything was trained and saved") from None
        raise Interrupted(f"Stopped. {last_good(run)}") from None


@contextmanager
def explaining(run: Run) -> Iterator[None]:
    """Add the last good checkpoint to errors that are not the program's fault."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(error.path, f"{error.reason}. {last_good(run)}") from error
    except (ProcessLost, WorkerLost) as error:
        raise UserError(f"{error}. {last_good(run)}") from None
    except OSError as error:  # a full disk, a share that went away
        raise UserError(f"{error.filename or run.path}: {error.strerror or error}. {last_good(run)}") from error
    except RuntimeError as error:
        lost = WorkerLost.of(error)
        if lost is not None:
            raise UserError(f"{lost}. {last_good(run)}") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        cause = getattr(error, "inner_exception", error)  # that of a backend, which the first line does not always tell
        told = str(cause).strip() or type(cause).__name__
        raise UserError(
            f"runtime.compile: torch cannot compile the network here ({told.splitlines()[0].rstrip('.')}). "
            "Install what it asks for, or train without: --set runtime.compile=false"
        ) from error
