"""The networks that predictions and streams ask: a run, public weights, or an exported file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from muybridge import build
from muybridge.data import inputs
from muybridge.data.inputs import Input
from muybridge.data.views import VideoViews
from muybridge.errors import UserError
from muybridge.evaluation.ready import Work, made_ready
from muybridge.evaluation.score import batches, score
from muybridge.evaluation.trained import trained
from muybridge.inference.exported import exported, is_exported
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime.console import log
from muybridge.runtime.device import Placement, to_device
from muybridge.storage.calibration import Calibrated
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores
from muybridge.storage.study import StudyRecord
from muybridge.text import plural
from muybridge.zoo.steps import State, Steps, digest, steps


class Answering(Protocol):
    """A network that is ready to answer. Any number of threads may ask it."""

    name: str
    """The run's folder, the names of network and weights, or the exported file."""
    recipe: Recipe
    """Its `clip` and `evaluation` say what the network is shown."""
    dataset: Mapping[str, Any]
    """Content of a run's dataset.json, as far as it is known: `classes`, `mirror`, `longest_trained_seconds`."""
    calibrated: Calibrated
    """Its temperature and threshold (`muybridge calibrate`)."""

    @property
    def answered_by(self) -> str:
        """Words for what computes: device, precision, threads, folded norms."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of all that decides its answers: weights, classes, calibration, what it is shown. A copy has the same."""
        ...

    def scores(self, views: VideoViews) -> Scores:
        """Per-view scores of every row of the views, in order. Their labels are -1."""
        ...


class FrameByFrame(Protocol):
    """A network that answers a frame at a time, with a state from one to the next. Any number of threads may ask it."""

    def start(self) -> State:
        """The state before the first frame."""
        ...

    def step(self, frames_LHWC: np.ndarray, state: State, *, is_mirrored: bool = False) -> tuple[np.ndarray, State]:
        """Logits (K,) at a time step, made of L frames of the network's size, and the state after it.

        `is_mirrored`: the network is shown the mirror images.
        """
        ...

    def save_state(self, path: str | Path, state: State) -> None:
        """Write a state as a file. Raises UserError."""
        ...

    def load_state(self, path: str | Path) -> State:
        """Read a state. Raises UserError for that of another network."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """A network that may answer frame by frame."""

    def frame_by_frame(self, window_frames: int) -> FrameByFrame | None:
        """The network frame by frame; None where it takes whole clips only. `window_frames`: that an answer is a mean over."""
        ...


def answering(
    source: str | Path | Run,
    *,
    pretrained: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
    allow_code: bool = False,
) -> Answering:
    """Load what answers: a run, a study, an exported file, or a network by its name.

    Of a study it is the run that is best on val; an exported file ends in .onnx; a name needs `pretrained` weights. Raises
    UserError for what is not there or not whole, and as `muybridge.evaluation.trained` does.
    """
    if pretrained is None and is_exported(source):
        _refuse(changes)
        return exported(str(source), runtime=runtime)
    if pretrained is None and not isinstance(source, Run) and (Path(source) / "study.json").exists():
        source = best_on_val(Path(source))
    return TrainedNetwork(source, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code)


def best_on_val(study: Path) -> Run:
    """The finished run of a study with the highest val accuracy, which is logged; of equals the first.

    Raises UserError where no run has one, and where runs are on several data sets.
    """
    record = StudyRecord.load(study)
    if len(record.sets) > 1:
        raise UserError(
            f"{study}: its runs are on {len(record.sets)} data sets, whose accuracies cannot be compared. Name a run: "
            f"{study / 'runs' / 'NAME'}"
        )
    runs = [run for name in record.runs if (run := record.run(name)).is_finished and not run.is_fused]
    on_val = [(run, run.result()["val"]) for run in runs if "val" in run.result()]
    if not on_val:
        raise UserError(
            f"{study}: no finished run of this study was scored on val, by which the best is chosen. Name a run: "
            f"{study / 'runs' / 'NAME'}"
        )
    best, val = max(on_val, key=lambda pair: pair[1]["video_top1"])
    videos = f" ({plural(int(val['videos']), 'video')})" if "videos" in val else ""
    log(
        f"{study}: {best.name} answers, whose val accuracy is the highest of {plural(len(on_val), 'finished run')}: "
        f"{val['video_top1']:.3f}{videos}"
    )
    return best


def _refuse(changes: Mapping[str, Any] | None, *, but: tuple[str, ...] = ()) -> None:
    """Raise UserError where a run's recipe is to be changed, `but` for these fields."""
    closed = [name for name in changes or {} if name not in but]
    if closed:
        alone = " or ".join([*but, "runtime.FIELD"])
        raise UserError(f"--set: '{closed[0]}' cannot be set, as the run's own recipe is used. Set {alone} alone")


class TrainedNetwork:
    """A run, or public weights, on the device that the runtime names."""

    def __init__(
        self,
        run: str | Path | Run,
        *,
        pretrained: str | Path | None = None,
        changes: Mapping[str, Any] | None = None,
        runtime: Runtime | None = None,
        allow_code: bool = False,
    ) -> None:
        """Load it. `changes`: of a run the precision alone. Raises UserError, as `muybridge.evaluation.trained` does."""
        runtime = runtime or Runtime()
        if pretrained is None:
            _refuse(changes, but=("precision",))
        network = trained(run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code)
        self.name, self.dataset = network.name, network.dataset
        recipe = network.recipe if pretrained is not None else replace(network.recipe, changes or {})
        self.recipe = replace(recipe, {"precision": build.settled_precision(recipe, runtime)})
        self.calibrated = Calibrated() if network.run is None else Calibrated.of(network.run)
        self.where = build.placement(self.recipe, runtime)
        self.model = network.load(self.recipe.evaluation.checkpoint)
        to_device(self.model, self.where)
        self.sha256 = self._sha256()  # of the weights as they are stored, before they are folded
        self._weights_sha256 = digest(self.model)
        e = self.recipe.evaluation
        work = None if e.whole else Work(batches(1, e.num_clips * e.num_crops, build.scoring_batch_size(self.recipe)))
        self._ready = made_ready(self.model, self.recipe, self.where, runtime, work)

    @property
    def answered_by(self) -> str:
        """Words for what computes."""
        return str(self._ready)

    def _sha256(self) -> str:
        """Hash of the weights, the classes, the calibration and what the network is shown."""
        shown = self.recipe.model_dump(mode="json", include={"clip", "evaluation", "precision"})
        calibrated = [self.calibrated.temperature, self.calibrated.threshold]
        about = [self.recipe.model.name, shown, self.dataset["classes"], self.dataset["mirror"], calibrated]
        digest = sha256(json.dumps(about, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def frame_by_frame(self, window_frames: int) -> FrameByFrame | None:
        """The network frame by frame; None where it takes whole clips only. `window_frames`: that an answer is a mean over."""
        each = steps(self.model, window_frames, sha256=self._weights_sha256)
        return None if each is None else _NetworkSteps(each, self.recipe, self.where)

    def scores(self, views: VideoViews) -> Scores:
        """Per-view scores, by the evaluation's code."""
        rows = views.manifest
        return score(
            self.model,
            views,
            range(len(rows)),
            where=self.where,
            labels_N=np.full(len(rows), -1),
            classes=tuple(self.dataset["classes"]),
            average=self.recipe.evaluation.average,
            batch_size=build.scoring_batch_size(self.recipe),
            text="predicting" if len(views.ready) < len(rows) else None,
        )["ordered"]


@dataclass(frozen=True)
class _NetworkSteps:
    """A network's steps, from frames as they are read."""

    steps: Steps
    recipe: Recipe
    where: Placement

    @cached_property
    def input(self) -> Input:
        return inputs.of(self.recipe.clip)

    def start(self) -> State:
        return self.steps.start()

    def step(self, frames_LHWC: np.ndarray, state: State, *, is_mirrored: bool = False) -> tuple[np.ndarray, State]:
        x_1LHWC = torch.from_numpy(frames_LHWC)[None].to(self.where.device)
        with torch.inference_mode(), self.where.autocast():
            logits_1K, state = self.steps.step(self._shown(x_1LHWC, is_mirrored=is_mirrored), state)
        return logits_1K[0].float().cpu().numpy(), state

    def save_state(self, path: str | Path, state: State) -> None:
        self.steps.save_state(path, state)

    def load_state(self, path: str | Path) -> State:
        x_1LHWC = self.input.zeros(1, 1, self.recipe.test_size).to(self.where.device)
        with torch.inference_mode(), self.where.autocast():
            return self.steps.load_state(path, self._shown(x_1LHWC, is_mirrored=False))

    def _shown(self, x_1LHWC: torch.Tensor, *, is_mirrored: bool) -> torch.Tensor:
        """A time step as the network takes it, (1,C,H,W)."""
        flip_1 = torch.ones(1, dtype=torch.bool, device=self.where.device) if is_mirrored else None
        preprocessing = self.steps.model.preprocessing
        x_1C1HW = self.input.to_model(x_1LHWC, flip_1, mean=preprocessing.mean, std=preprocessing.std)
        return x_1C1HW.squeeze(self.input.time_axis)
