"""A graph of one frame and its state: for networks that look back only (`muybridge.zoo.steps`), one answer a frame.

Its state is a set of named arrays that go in and come out. It begins as zeros. A graph keeps nothing itself, so that one
loaded file serves any number of streams.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from muybridge.data import inputs
from muybridge.data.inputs import Input
from muybridge.errors import UserError
from muybridge.inference.exported import ExportedSteps
from muybridge.inference.formats import first_line, quiet, save_onnx, untraced
from muybridge.inference.metadata import AFTER, LOGITS_1K, ONE_FRAME, PROBABILITIES_1K, STATE
from muybridge.recipe import Recipe
from muybridge.zoo import VideoModel
from muybridge.zoo.steps import Steps, steps


class OneFrame(nn.Module):
    """A network's next step: uint8 frames of one time step and a state to probabilities, logits and the state after."""

    def __init__(self, each: Steps, *, input: Input, temperature: float) -> None:
        """`temperature`: of a calibration, as in `Graph`."""
        super().__init__()
        self.model, self.each, self.input, self.temperature = each.model, each, input, temperature

    def forward(
        self, frames_1LHWC: torch.Tensor, state: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Probabilities (1,K), logits (1,K), and the state. L is `Input.step_frames`."""
        preprocessing = self.model.preprocessing
        x_1CTHW = self.input.to_model(frames_1LHWC, None, mean=preprocessing.mean, std=preprocessing.std)
        logits_1K, after = self.each.step(x_1CTHW.squeeze(self.input.time_axis), state)
        return (logits_1K / self.temperature).softmax(1), logits_1K, {name: after[name] for name in sorted(after)}


def one_frame(model: VideoModel, recipe: Recipe, *, temperature: float) -> OneFrame:
    """The one-frame module of a run's network. Raises UserError for a network that takes whole clips only."""
    shown = inputs.of(recipe.clip)
    each = steps(model, recipe.clip.num_frames) if shown.is_picture else None
    if each is None:
        raise UserError(
            f"--one-frame: {recipe.model.name} takes whole clips, not one frame after the other. Turn a run of tsm into one "
            "that looks back only (muybridge causal), or leave --one-frame out"
        )
    return OneFrame(each, input=shown, temperature=temperature).eval().requires_grad_(False)


def first_state(module: OneFrame, recipe: Recipe) -> dict[str, torch.Tensor]:
    """The state before the first frame, all of it there."""
    preprocessing = module.model.preprocessing
    x_1CTHW = module.input.to_model(example_frames(recipe), None, mean=preprocessing.mean, std=preprocessing.std)
    return module.each.start(x_1CTHW.squeeze(module.input.time_axis))


def example_frames(recipe: Recipe) -> torch.Tensor:
    """Frames of zeros, (1,L,H,W,C), as the graph takes them."""
    return inputs.of(recipe.clip).zeros(1, 1, recipe.test_size)


def write(module: OneFrame, recipe: Recipe, about: Mapping[str, Any], file: Path) -> None:
    """Write it as ONNX. Raises UserError where it cannot be traced or has a part that ONNX lacks."""
    state = first_state(module, recipe)
    names = sorted(state)  # the order in which torch.export flattens a dictionary is that of its insertion
    state = {name: state[name] for name in names}
    try:
        with quiet():
            traced = untraced(torch.export.export(module, (example_frames(recipe), state)))
            made = torch.onnx.export(
                traced, dynamo=True, verbose=False, input_names=[ONE_FRAME, *(f"{STATE}{name}" for name in names)],
                output_names=[PROBABILITIES_1K, LOGITS_1K, *(f"{AFTER}{name}" for name in names)],
            )  # fmt: skip
        save_onnx(made, about, file)
    except Exception as error:
        raise UserError(
            f"{recipe.model.name}: it cannot be written as a graph of one frame: {first_line(error)}. Leave --one-frame out"
        ) from error


def parity(module: OneFrame, asked: ExportedSteps, frames_FHWC: np.ndarray, logits_K: np.ndarray) -> float:
    """Largest difference over the frames of a clip: to the network step by step, and at the clip's end to the run.

    `logits_K`: the run's for the clip. Of logits in shares of the largest one, if that is above 1.
    """
    length, worst = module.input.step_frames, 0.0
    scale = max(1.0, float(np.abs(logits_K).max()))
    there, state = module.each.start(), asked.start()
    for first in range(0, len(frames_FHWC), length):
        frames_LHWC = frames_FHWC[first : first + length]
        with torch.inference_mode():
            probabilities_1K, logits_1K, there = module(torch.from_numpy(frames_LHWC[None]), there)
        given, given_logits, state = asked.step(frames_LHWC, state)
        worst = max(
            worst, float(np.abs(given - probabilities_1K[0].numpy()).max()),
            float(np.abs(given_logits - logits_1K[0].numpy()).max()) / scale,
        )  # fmt: skip
    return max(worst, float(np.abs(given_logits - logits_K).max()) / scale)
