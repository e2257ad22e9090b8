"""Training: one visible loop for every model, resumable at any step.

    muybridge train --model tsm_resnet18 --data set.csv --out runs/tsm

Nothing in the loop depends on time or on the number of workers: every draw is keyed by (seed, purpose, epoch, video id)
or (seed, purpose, step), so a run that was killed and resumed ends with the same bits (same machine, torch, threads and
precision).
"""

import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge.data.loader import WorkerLost, ahead_on_device, train_batches
from muybridge.data.random import torch_seed
from muybridge.errors import Diverged, UserError
from muybridge.recipe import Recipe, Runtime, replace, to_json
from muybridge.recipe.schedule import lr_schedule
from muybridge.runtime import distributed
from muybridge.runtime.console import log, progress
from muybridge.runtime.device import find_device, threads_kept
from muybridge.runtime.distributed import Processes
from muybridge.runtime.files import write_atomic
from muybridge.runtime.signals import Stop
from muybridge.storage import checkpoints
from muybridge.storage.run import Run
from muybridge.training.health import relative_update, trained_weights
from muybridge.training.job import Job, Jobs, input_notes, suggest_balance, suggest_weights
from muybridge.training.provenance import computed_with, describe, environment
from muybridge.training.session import Session, check_free, ends_early, explaining, last_good, stoppable
from muybridge.training.step import set_lr, training_step
from muybridge.training.threads import kept
from muybridge.user_code import Consent, check_consent, source_sha256, use_source
from muybridge.video import DecodeError


def train(recipe: Recipe, *, out: str | Path, allow_code: bool = False, runtime: Runtime | None = None) -> Run:
    """Train by a recipe into the folder `out`, which must not hold another run.

    The test split is scored once, at the end. A model of the user's own needs `allow_code`, unless they have named it
    before (`muybridge.user_code`). Raises UserError for what a person has to mend, Interrupted after Ctrl-C or SIGTERM
    (the run was saved).
    """
    check_consent(recipe.model.name, where="The recipe", allow_code=allow_code)
    runtime = runtime or Runtime()
    run = Run(Path(out))
    processes = distributed.join(find_device(runtime.device))
    with processes.report_failure(), stoppable(run) as stop:
        if processes.is_first:
            check_free(run)  # before anything is computed
        job = Jobs(runtime, processes=processes.count).job(recipe, check=processes.is_first)
        processes.broadcast(None)
        if processes.is_first:
            for note in input_notes(job):
                log(note)
            suggest_weights(job)
            suggest_balance(job)
        return _begin(run, job, runtime, processes, stop)


def finish(run: Run, job: Job, *, runtime: Runtime, allow_code: bool = False, until_step: int | None = None) -> Run:
    """Let a run folder be finished, whatever of the run is there: begun, continued, or left as it is.

    `until_step`: pause there, by the schedule of the full length, and score val (`Run.pauses`). Called again, it
    continues as if it had never paused, to the bit.

    This is all that another process or machine needs to be given. The code of a model of the user's own is the one that
    lies on Python's path, and must be that of the job; it needs `allow_code`, unless the user has named it before. Raises
    UserError where the folder holds a run of another recipe; and as `train` does.
    """
    name = job.recipe.model.name
    check_consent(name, where="The job", allow_code=allow_code)
    processes = distributed.join(find_device(runtime.device))
    state = processes.broadcast(run.state_for(job.recipe))
    if state == "finished":
        return run
    if state == "new":
        with processes.report_failure(), stoppable(run) as stop:
            if source_sha256(name) != job.recipe.model.source_sha256:
                raise UserError(
                    f"{name}: its files have changed since the job was made. Make the job again, or undo the change"
                )
            if not job.cost:  # it was made without a check
                job = Jobs(runtime, processes=processes.count).job(job.recipe, check=processes.is_first)
            processes.broadcast(None)
            return _begin(run, job, runtime, processes, stop, until_step=until_step)
    use_source(run.path, name, run.recipe().model.source_sha256, allow_code="mine")
    return _continue(run, job, runtime, until_step=until_step)


def _begin(
    run: Run, job: Job, runtime: Runtime, processes: Processes, stop: Stop, *, until_step: int | None = None
) -> Run:
    with run.lock() if processes.is_first else nullcontext():
        if processes.is_first:
            check_free(run)  # another process may have been there meanwhile
            describe(run, job, runtime, processes.count)
        with explaining(run), processes.report_failure(), threads_kept():
            return _train(run, job, runtime, processes, stop, until_step)


def resume(
    run: str | Path | Run,
    *,
    checkpoint: str = "last",
    data: str | Path | None = None,
    allow_code: Consent = False,
    runtime: Runtime | None = None,
) -> Run:
    """Continue a run from a checkpoint; a finished run is returned as it is.

    `checkpoint`: "last", "best", or the name of one that is there; later ones are forgotten. `data`: the path of the run's
    manifest now, if it was moved. A model in the user's own code is imported from the run, and only with `allow_code`.
    Raises UserError, Interrupted.
    """
    run = Run.open(run)
    if run.is_finished:
        if checkpoint != "last":
            with checkpoints.offering_others(run.checkpoints, checkpoint):
                checkpoints.model_file(run.checkpoints, checkpoint)
            raise UserError(
                f"{run.path}: it is finished, and there is nothing to continue. Start a new run from it: --init "
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
            f"{recipe.data.manifest}: the manifest of {run.path} is not there any more. Say where it is: --data "
            "MANIFEST"
        )
    runtime = runtime or run.runtime()
    return _continue(run, recipe, runtime, checkpoint=checkpoint)


def _continue(
    run: Run, of: Job | Recipe, runtime: Runtime, *, checkpoint: str = "last", until_step: int | None = None
) -> Run:
    processes = distributed.join(find_device(runtime.device))
    with processes.report_failure(), stoppable(run) as stop:
        job = of if isinstance(of, Job) else Jobs(runtime).job(of, check=False)
        with run.lock() if processes.is_first else nullcontext():
            if processes.broadcast(run.is_finished):
                log(f"{run.path} was finished meanwhile, by another process")
                return run
            if processes.is_first:
                if checkpoint != "last":
                    checkpoints.rewind(run.checkpoints, checkpoint)
                write_atomic(run.file("recipe.json"), to_json(job.recipe))
            before = processes.broadcast(_before(run, runtime, processes) if processes.is_first else {})
            runtime = kept(runtime, before)
            with explaining(run), processes.report_failure(), threads_kept():
                return _train(run, job, runtime, processes, stop, until_step)


def _before(run: Run, runtime: Runtime, processes: Processes) -> dict[str, Any]:
    """Environment of a run's last steps before its checkpoint. Without one it begins anew, here, which is noted."""
    if not checkpoints.exists(run.checkpoints):
        run.save_environment(environment(runtime, processes.count))
        return {}
    with checkpoints.offering_others(run.checkpoints):
        return computed_with(run.environment(), checkpoints.load_state(run.checkpoints).step)


def _train(run: Run, job: Job, runtime: Runtime, processes: Processes, stop: Stop, until_step: int | None) -> Run:
    """Run the training loop, as far as `until_step`; `Session` sets up, scores and saves."""
    recipe = job.recipe
    if not runtime.deterministic:
        log("runtime.deterministic is false: on a GPU, the last bits of two such runs may differ")
    session = Session(run, job, runtime, processes)
    state, unit, max_hours = session.state, recipe.optim.schedule_unit, recipe.stop.max_hours
    pause_step = np.inf if until_step is None else until_step
    per_epoch, num_steps = session.per_epoch, session.num_steps
    schedule = lr_schedule(recipe, len(session.rows))
    last_epoch_at, seconds_before, clips_before = time.perf_counter(), state.train_seconds, state.clips
    with session, stop.later():
        loader = train_batches(
            session.clips, session.rows, batch_size=recipe.optim.batch_size, first_step=state.step,
            num_workers=session.num_workers, pin_memory=session.pin_memory, on_error=recipe.data.on_error,
            rank=processes.rank, ranks=processes.count, balanced=recipe.data.balanced_sampling,
        )  # fmt: skip
        with closing(loader), progress(run.name, num_steps) as bar:
            bar.advance(state.step)
            if state.unvalidated:
                session.validate(stop)
            batches = ahead_on_device(loader, session.where.device)
            asked_at = time.perf_counter()
            while not state.ended and state.step < pause_step:
                try:
                    batch = next(batches)
                except (DecodeError, WorkerLost):
                    if processes.count == 1 and state.step:
                        session.save()
                    raise
                for failure in batch.unreadable:
                    session.skip(failure)
                lr = schedule.lr(state.train_seconds if unit == "hours" else state.step)
                set_lr(session.optimizer, lr)
                if state.step == 0:
                    session.begin(batch, stop)
                start = session.start_facts(batch) if state.step == 0 else {}
                looks = session.looks_after(state.step + 1)
                before = trained_weights(session.model) if looks else []
                torch.manual_seed(
                    torch_seed(recipe.seed, "dropout", state.step, *([processes.rank] * (processes.rank > 0)))
                )
                loss_sum, correct = training_step(
                    session.model, session.optimizer, batch, session.where, recipe, net=session.net,
                    scaler=session.scaler, processes=processes, balance=session.balance,
                )  # fmt: skip
                if recipe.optim.batch_norm in ("local", "partial"):
                    processes.average_statistics(session.model)
                if session.average is not None:
                    session.average.update_parameters(session.model)
                seconds = time.perf_counter() - asked_at if processes.is_first else 0.0
                loss_sum, correct_sum, clips, seconds, asked = processes.all_reduce(
                    [loss_sum, correct, len(batch.rows_B), seconds, stop.asked]
                )
                if not np.isfinite(loss_sum):
                    raise Diverged(
                        f"loss: it became {loss_sum} at step {state.step} (learning rate {lr:.3g}). Lower optim.lr, "
                        f"lengthen the warm-up, or set optim.clip_grad_norm. {last_good(run)}"
                    )
                update = {"update": relative_update(before, session.model)} if looks else {}
                state.step += 1
                if start:
                    session.measured({"kind": "start", "epoch": 1, "step": 1, "loss": loss_sum / clips, **start})
                    session.tell_symptoms()
                state.loss_sum += loss_sum
                state.correct += int(correct_sum)
                state.clips += int(clips)
                state.train_seconds += seconds
                bar.advance()
                bar.describe(f"{run.name}  loss {state.loss_sum / state.clips:.3f}{session.shown_val}")
                session.tell_time()
                session.contention.look()

                if num_steps is not None and state.step >= num_steps:
                    state.ended = session.budget.ended
                elif max_hours is not None and state.train_seconds >= max_hours * 3600:
                    state.ended = f"stop.max_hours: {max_hours:g} hours of training"
                is_epoch, due = state.step % per_epoch == 0 or bool(state.ended), False
                if is_epoch:
                    epoch = -(-state.step // per_epoch)  # the last one may have been cut short
                    train = {"loss": state.loss_sum / state.clips, "clip_top1": state.correct / state.clips}
                    session.measured({"kind": "train", "epoch": epoch, "step": state.step, **train, "lr": lr})
                    if looks or state.ended:
                        session.measure_health(batch, epoch, update)
                    train_seconds = state.train_seconds - seconds_before
                    timing = {
                        "epoch": epoch, "train_seconds": train_seconds,
                        "train_clips_per_s": (state.clips - clips_before) / train_seconds, "seconds": state.train_seconds,
                    }  # fmt: skip
                    state.loss_sum, state.correct, state.clips = 0.0, 0, 0
                    state.ended = state.ended or ends_early(recipe.stop, state, "train", train, epoch)
                    due = bool(state.ended) or epoch % recipe.evaluation.every_epochs == 0
                    state.unvalidated = due and len(session.val_rows) > 0
                if (
                    due or asked or state.step == pause_step
                    or (runtime.checkpoint_steps and state.step % runtime.checkpoint_steps == 0)
                ):  # fmt: skip
                    session.save()
                if asked and not is_epoch:
                    raise session.interrupted()
                if is_epoch:
                    try:
                        if asked:
                            raise session.interrupted()
                        if state.unvalidated:
                            session.validate(stop)
                        session.tell_symptoms()
                    finally:
                        if processes.is_first:
                            run.write_timing({**timing, "total_seconds": time.perf_counter() - last_epoch_at})
                    last_epoch_at, seconds_before, clips_before = time.perf_counter(), state.train_seconds, 0
                asked_at = time.perf_counter()
        if state.ended:
            session.finish(stop)
        else:
            session.pause(stop)
    processes.broadcast(None)  # the others leave when all is written
    return run
