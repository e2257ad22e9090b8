"""The place where a plan is carried out: its folder, its jobs, and all checks before the first minute is spent."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muybridge import build
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.recipe.schedule import Budget, budget
from muybridge.runtime import distributed
from muybridge.runtime.console import log
from muybridge.runtime.device import find_device
from muybridge.runtime.distributed import Processes
from muybridge.runtime.files import within
from muybridge.storage.run import Run, is_run_of
from muybridge.studies.plan import START, Plan
from muybridge.training.job import Jobs, check_data, input_notes, suggest_balance, suggest_weights
from muybridge.training.loop import finish


@dataclass(frozen=True)
class Workplace:
    """A study's folder, and what its runs are trained with."""

    out: Path
    runtime: Runtime
    processes: Processes
    jobs: Jobs

    def budget(self, recipe: Recipe) -> Budget:
        """Length of a recipe's training on its set."""
        return budget(recipe, len(build.train_rows(recipe, self.jobs.manifest(recipe.data.manifest))))

    def _check_folds(self, plan: Plan) -> None:
        """The folds of a set are pooled as one test: no video may be in two, unless they are official splits."""
        for path in plan.manifests():
            manifest = self.jobs.manifest(path)
            if manifest.official_splits:
                continue
            folds = {p.recipe.data.fold for p in plan.runs.values() if p.recipe.data.manifest == path}
            tested = np.concatenate([manifest.split("test", fold) for fold in folds])
            twice = len(tested) - len(np.unique(tested))
            if twice:
                raise UserError(
                    f"{path}: the folds test {twice} videos more than once, and cannot be pooled as one test. Compare on one "
                    "fold at a time: --folds 1"
                )

    @staticmethod
    def of(plan: Plan, out: str | Path, runtime: Runtime | None) -> "Workplace":
        """Raises UserError for a device or a manifest that is not there, and for the folder of a run."""
        if Path(out).is_dir() and is_run_of(os.listdir(out)):
            raise UserError(f"{out}: it is the folder of a run. Choose another folder for the study (--out)")
        runtime = runtime or Runtime()
        processes = distributed.join(find_device(runtime.device))
        jobs = Jobs(runtime, processes=processes.count)
        for path in plan.manifests():
            jobs.manifest(path)
        return Workplace(Path(out), runtime, processes, jobs)

    @staticmethod
    def at(out: Path, runtime: Runtime) -> "Workplace":
        """The place of a plan that was checked before. Raises UserError for a device that is not there."""
        processes = distributed.join(find_device(runtime.device))
        return Workplace(out, runtime, processes, Jobs(runtime, processes=processes.count))

    def check(self, plan: Plan, *, searched: bool) -> None:
        """Names, clip lengths and splits. Raises UserError."""
        plan.check_needs()
        self._check_folds(plan)
        for name, planned in plan.runs.items():
            recipe = planned.recipe
            manifest = self.jobs.manifest(recipe.data.manifest)
            if not len(manifest.split("test", recipe.data.fold)):
                raise UserError(
                    f"{recipe.data.manifest}: it has no test videos to compare models on. Prepare a set with a test "
                    "split"
                )
            if searched and not len(manifest.split("val", recipe.data.fold)):
                raise UserError(
                    f"{recipe.data.manifest}: it has no validation videos to search on, and the test split is never "
                    "searched on. Cut some from train: muybridge prepare --val 0.15"
                )
            if planned.starts_from is not None:
                self._check_unseen(plan, name)
            check_data(recipe, manifest)
            self.jobs.cost(recipe)

    def check_whole(self, plan: Plan, *, searched: bool) -> None:
        """Whatever else can be told before the first minute is spent: weights are fetched, and fit. Raises UserError."""
        suggested = is_balance_told = not self.processes.is_first
        told: set[str] = set()
        for name, planned in plan.runs.items():
            recipe = planned.recipe
            if planned.starts_from is not None:
                recipe = replace(recipe, {"model.pretrained": None})
            folder = Run(self.out / "runs" / name)
            if planned.starts_from is None and not searched:
                folder.state_for(self.jobs.resolved(recipe))
            job = self.jobs.job(recipe, check=self.processes.is_first and not folder.is_finished)
            if self.processes.is_first and not folder.is_finished:
                for note in input_notes(job):
                    if note not in told:
                        log(note)
                    told.add(note)
            if planned.starts_from is None and not folder.is_finished:
                suggested = suggested or suggest_weights(job)
                is_balance_told = is_balance_told or suggest_balance(job)
        self.processes.broadcast(None)

    def _check_unseen(self, plan: Plan, name: str) -> None:
        """No run is tested on videos that a run was trained on which it builds upon."""
        *bases, own = (plan.runs[link].recipe.data for link in plan.chain(name))
        tested = self.jobs.manifest(own.manifest)
        hashes = set(tested.text("sha256", tested.split("test", own.fold)).tolist())
        start = build.base_run(plan.runs[plan.chain(name)[0]].recipe)
        if start is not None:
            trained = set(tested.text("sha256", tested.split("train", own.fold)).tolist())
            both = hashes & set(start.seen_sha256().tolist()) - trained
            if both:
                raise UserError(
                    f"{name}: it would be tested on {len(both)} videos that {start.path} was trained on, with whose "
                    "weights its chain of runs starts. Start from other weights"
                )
        for base in bases:
            if (base.manifest, base.fold) == (own.manifest, own.fold):
                continue
            seen = self.jobs.manifest(base.manifest)
            both = hashes & set(seen.text("sha256", seen.split("train", base.fold)).tolist())
            if both:
                raise UserError(
                    f"{name}: it would be tested on {len(both)} videos that it was trained on before, as part of "
                    f"{base.manifest}. Use sets without common videos"
                )

    def finish(self, folder: Run, recipe: Recipe, text: str, *, until_step: int | None = None) -> None:
        """Let a run be finished, whatever of it is there, or trained as far as `until_step`.

        Raises UserError where it was trained further and nobody looked at val there.
        """
        within(self.out, folder.path.relative_to(self.out))
        state = self.processes.broadcast(folder.state_for(self.jobs.resolved(recipe)))
        if state == "finished":
            log(f"{text}: finished before")
            return
        if until_step is not None and state == "begun":
            paused, saved_step = self.processes.broadcast((folder.pauses(), folder.saved_step()))
            if until_step in paused:
                log(f"{text}: trained as far before")
                return
            if saved_step is not None and saved_step > until_step:
                raise UserError(
                    f"{folder.path}: it was trained to step {saved_step}, and its pauses.json has no val at step "
                    f"{until_step}. Delete that folder: it is trained again"
                )
        log(text)
        job = self.jobs.job(recipe, check=self.processes.is_first and state == "new")
        self.processes.broadcast(None)
        finish(folder, job, runtime=self.runtime, until_step=until_step)
        if not folder.is_finished:
            return
        result = folder.result()
        split = "test" if "test" in result else "val"
        if split in result:
            scored = result[split]
            by_class = f", mean class {scored['mean_class']:.3f}" if "mean_class" in scored else ""  # not of older runs
            log(f"    video accuracy {scored['video_top1']:.3f}{by_class} on {scored['videos']} {split} videos")


def started(recipe: Recipe, base: Run | None) -> Recipe:
    """A recipe that starts from the whole of the run `base`; unchanged without a base."""
    if base is None:
        return recipe
    weights = str(base.path.resolve())
    return replace(recipe, dict.fromkeys(START) | {"model.pretrained": weights, "model.strict": True})


def begun(out: Path) -> dict[str, Run]:
    """Runs of the folder that hold a checkpoint, or are finished."""
    runs = [Run(file.parent) for file in sorted((out / "runs").glob("*/recipe.json"))]
    trained = [run for run in runs if not run.is_fused]
    return {run.name: run for run in trained if run.is_finished or (run.checkpoints / "last").exists()}
