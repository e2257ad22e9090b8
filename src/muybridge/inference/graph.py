"""The graph that an export writes: uint8 frames of a video's views in, its probabilities out.

All that an evaluation does after cropping is inside: mirrored crops and their labels, time steps, normalisation, the
network, the mean over views, and the temperature of a calibration.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from muybridge.data import inputs
from muybridge.data.inputs import Input
from muybridge.data.transforms import MIRRORED_FROM
from muybridge.evaluation.score import answer
from muybridge.evaluation.trained import Trained
from muybridge.recipe import Recipe
from muybridge.storage.scores import Average
from muybridge.zoo import VideoModel
from muybridge.zoo.candidates import Candidates
from muybridge.zoo.sequences import VectorsNet


class Graph(nn.Module):
    """Views of B videos to their probabilities, and to the logits of each view."""

    flip_V: torch.Tensor
    mirrored_K: torch.Tensor

    def __init__(
        self,
        model: VideoModel,
        *,
        input: Input,
        num_clips: int,
        num_crops: int,
        average: Average,
        classes: Sequence[str],
        mirror: Mapping[str, str] | None,
        temperature: float = 1.0,
        may_lack_steps: bool = False,
    ) -> None:
        """`temperature`: T of a calibration: a video's probabilities p become p^(1/T), scaled to a sum of 1.

        `may_lack_steps`: whether stored vectors may have steps that are not there.
        """
        super().__init__()
        model = model.answering if isinstance(model, Candidates) else model
        if isinstance(model, VectorsNet):
            model.may_lack_steps = may_lack_steps
        self.model, self.input, self.average, self.temperature = model, input, average, temperature
        self.is_mirrored = num_crops > MIRRORED_FROM
        names = list(classes)
        mirrored = [names.index((mirror or {}).get(name, name)) for name in names]
        flips = [crop >= MIRRORED_FROM for _ in range(num_clips) for crop in range(num_crops)]
        self.register_buffer("mirrored_K", torch.tensor(mirrored), persistent=False)
        self.register_buffer("flip_V", torch.tensor(flips), persistent=False)

    def forward(self, frames_BVTHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities (B,K), and logits (B,V,K) before the mean over views. Vectors are (B,V,T,D)."""
        batch, views = frames_BVTHWC.shape[:2]
        flip_N = self.flip_V.expand(batch, views).flatten() if self.is_mirrored else None
        preprocessing = self.model.preprocessing
        x = self.input.to_model(frames_BVTHWC.flatten(0, 1), flip_N, mean=preprocessing.mean, std=preprocessing.std)
        logits_BVK = answer(self.model, x).unflatten(0, (batch, views))
        if self.is_mirrored:
            logits_BVK = torch.where(self.flip_V[:, None], logits_BVK[..., self.mirrored_K], logits_BVK)
        log_BK = logits_BVK.mean(1) if self.average == "logits" else logits_BVK.softmax(2).mean(1).log()
        return (log_BK / self.temperature).softmax(1), logits_BVK


def graph_of(network: Trained, recipe: Recipe, *, temperature: float = 1.0) -> Graph:
    """The graph of a run, on the CPU."""
    model = network.load(recipe.evaluation.checkpoint).eval()
    e = recipe.evaluation
    graph = Graph(
        model, input=inputs.of(recipe.clip), num_clips=e.num_clips, num_crops=e.num_crops, average=e.average,
        classes=network.classes, mirror=network.dataset["mirror"], temperature=temperature,
        may_lack_steps=recipe.clip.past_end == "absent",
    ).eval()  # fmt: skip
    return graph.requires_grad_(False)
