"""`muybridge export`: a run as a graph of ONNX, torch or OpenVINO, checked against the run before it has a name.

The graph is written beside its place, loaded from there by its own runtime, and asked about the same videos as the run. It
gets its name only where both agree. Only torch.export makes graphs: the older exporter is wrong for TSM without a word.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from muybridge.errors import UserError
from muybridge.evaluation.score import score
from muybridge.evaluation.trained import Trained, of_run
from muybridge.inference import lower
from muybridge.inference import one_frame as frame_by_frame
from muybridge.inference.clips import PARITY, Tried, tried
from muybridge.inference.exported import ExportedSteps, Session, checked, frames_of
from muybridge.inference.formats import SUFFIXES, WRITERS, Kind, by_torch, check_installed, load
from muybridge.inference.graph import Graph, graph_of
from muybridge.inference.metadata import check_new, described
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime.console import log
from muybridge.runtime.device import Placement
from muybridge.runtime.files import beside, rename_new
from muybridge.storage.calibration import Calibrated, tempered
from muybridge.storage.run import Run

TOLERANCE = 1e-4
"""Largest difference of a probability, or of a logit in shares of the largest one, to the run's."""
SECONDS = 4.0
"""Time for measuring the latency."""


@dataclass(frozen=True)
class Exported:
    """Result of `export`."""

    path: Path
    to: str
    precision: str
    bytes: int
    difference: Mapping[int, float]
    """Largest difference to the run's answers, by the number of videos in a batch."""
    tried_on: str
    ms: float
    """Median time of an answer about one video, decoding not counted, in milliseconds."""
    torch_ms: float
    """That of the run's network in PyTorch, measured by turns."""
    verdict: lower.Verdict | None = None
    """Accuracy on val of int8 or fp16, beside that in fp32."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "difference": dict(self.difference)}


def export(
    run: str | Path | Run,
    *,
    out: str | Path,
    to: Kind = "onnx",
    data: str | Path | None = None,
    one_frame: bool = False,
    int8: bool = False,
    fp16: bool = False,
    allow_code: bool = False,
) -> Exported:
    """Write a run's network as a graph from uint8 frames to probabilities, if it answers as the run does.

    `to`: onnx, torch (a program of torch.export), or openvino. `data`: a manifest whose videos both are tried on, where the
    run's own are gone. `one_frame`: of a network that looks back only, a graph of one frame with its state as inputs and
    outputs (onnx). `int8`, `fp16`: weights of fewer bits, kept only if a paired test on val finds no loss of accuracy.
    Raises UserError where the answers differ, a file of the name is there, or the network cannot be exported.
    """
    out = Path(out)
    if to not in SUFFIXES:
        raise UserError(f"--to {to}: it takes {', '.join(SUFFIXES)}. Choose one of them")
    if int8 and fp16:
        raise UserError("--int8, --fp16: they are two precisions. Choose one")
    if (int8 or fp16) and to != "onnx":
        raise UserError(f"--to {to}: --int8 and --fp16 are for onnx. Leave them out, or export to onnx")
    if one_frame and (to != "onnx" or int8 or fp16):
        raise UserError("--one-frame: it is for onnx in fp32. Leave out --to, --int8 and --fp16")
    check_new(out, SUFFIXES[to])
    check_installed(to)
    run = Run.open(run)
    network = of_run(run, allow_code=allow_code)
    recipe = network.recipe
    if recipe.precision != "fp32":
        log(
            f"{network.name}: it was trained in {recipe.precision}. The graph computes in fp32, as the run it is held against"
        )
        recipe = replace(recipe, {"precision": "fp32"})
    judges = lower.judges("int8" if int8 else "fp16", network, recipe, data) if int8 or fp16 else None
    graph = graph_of(network, recipe, temperature=Calibrated.of(run).temperature)
    shown_to = tried(network, recipe, data)
    about = described(run, recipe, calibration=run.calibration(), steps=one_frame)
    if one_frame:
        return _one_frame(graph, network, recipe, about, shown_to, out)
    with beside(out) as folder:
        file = folder / out.name
        WRITERS[to](graph, recipe, about, file)
        asked = load(to, file)
        reference, frames = references(network, recipe, graph, shown_to)
        difference = parity(asked, frames, reference, where=f"{run.path} as {to}")
        verdict = None
        if judges is not None:
            verdict = lower.lowered(file, judges, network)
            asked = load(to, file)
        if to == "onnx":
            checked(file)
        size = sum(each.stat().st_size for each in folder.iterdir())
        ms, torch_ms = latency(asked, lambda x: by_torch(graph, x), frames[0][None])
        for suffix in (".bin", out.suffix) if to == "openvino" else (out.suffix,):
            rename_new(file.with_suffix(suffix), out.with_suffix(suffix))
    return Exported(
        out, to, verdict.precision if verdict else "fp32", size, difference, shown_to.about, ms, torch_ms, verdict
    )


def _one_frame(
    graph: Graph, network: Trained, recipe: Recipe, about: Mapping[str, Any], shown_to: Tried, out: Path
) -> Exported:
    """Write a graph of one frame, if it answers as the network does step by step, and at a clip's end as the run."""
    module = frame_by_frame.one_frame(graph.model, recipe, temperature=graph.temperature)
    reference, frames = references(network, recipe, graph, shown_to)
    with beside(out) as folder:
        file = folder / out.name
        frame_by_frame.write(module, recipe, about, file)
        asked = ExportedSteps(file, runtime=Runtime(threads=torch.get_num_threads()))
        worst = max(
            frame_by_frame.parity(module, asked, frames_VFHWC[0], logits_VK[0])
            for frames_VFHWC, (_, logits_VK) in zip(frames, reference, strict=True)
        )
        _check({1: worst}, where=f"{network.name} frame by frame")
        size = file.stat().st_size
        step, state, there = frames[0][0][: module.input.step_frames], asked.start(), module.each.start()

        def by_steps(_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return asked.step(step, state)[:2]

        def by_module(_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return by_torch(lambda x: module(x, there)[:2], step[None])

        ms, torch_ms = latency(by_steps, by_module, step)
        rename_new(file, out)
    return Exported(out, "onnx", "fp32", size, {1: worst}, shown_to.about, ms, torch_ms)


def references(
    network: Trained, recipe: Recipe, graph: Graph, shown_to: Tried
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray]]:
    """The run's probabilities and logits of each of some videos, by the evaluation's code, and the frames."""
    items = list(shown_to.items(PARITY))
    scores = score(
        graph.model, shown_to.views, [row for row, _ in items], where=Placement(torch.device("cpu")),
        labels_N=np.full(len(items), -1), classes=network.classes, average=recipe.evaluation.average,
        batch_size=1, text="asking the run",
    )["ordered"]  # fmt: skip
    logits_NVK = scores.logits_VK.reshape(len(items), -1, len(network.classes))
    probabilities_NK = tempered(scores.video_probabilities(), graph.temperature)
    return list(zip(probabilities_NK, logits_NVK, strict=True)), [frames_of(item) for _, item in items]


def parity(
    asked: Session, frames: list[np.ndarray], reference: list[tuple[np.ndarray, np.ndarray]], *, where: str
) -> dict[int, float]:
    """Largest difference of a graph's answers to the reference's, at one video and at PARITY of them.

    Fewer videos, or of different lengths, are repeated. Raises UserError where it is above TOLERANCE.
    """
    numbers = np.resize(np.arange(len(frames)), PARITY)
    if len({each.shape for each in frames}) > 1:
        numbers[:] = 0
    found: dict[int, float] = {}
    for batch in ([[number] for number in range(len(frames))], [numbers.tolist()]):
        worst = 0.0
        for part in batch:
            given = asked(np.stack([frames[number] for number in part]))
            for place, number in enumerate(part):
                expected = reference[number]
                if given[0][place].shape != expected[0].shape or not np.isfinite(given[0][place]).all():
                    worst = np.inf
                    continue
                scale = max(1.0, float(np.abs(expected[1]).max()))
                worst = max(
                    worst,
                    float(np.abs(given[0][place] - expected[0]).max()),
                    float(np.abs(given[1][place] - expected[1]).max()) / scale,
                )
        found[len(batch[0])] = worst
    _check(found, where=where)
    return found


def _check(found: Mapping[int, float], *, where: str) -> None:
    """Raise UserError where a difference is too large."""
    if not max(found.values()) <= TOLERANCE:
        told = ", ".join(f"{value:.2g} for {count}" for count, value in found.items())
        raise UserError(
            f"{where}: its answers differ from the run's by {told} video(s) at a time, more than {TOLERANCE:g}, so no file is "
            "written. Try another format (--to), or use the run itself"
        )


def latency(one: Session, other: Session, frames: np.ndarray) -> tuple[float, float]:
    """Median times of two graphs in milliseconds, asked by turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for asked in (one, other):
        asked(frames)
    begun = time.perf_counter()
    while len(times[0]) < 3 or (time.perf_counter() - begun < SECONDS and len(times[0]) < 50):
        for asked, taken in zip((one, other), times, strict=True):
            start = time.perf_counter()
            asked(frames)
            taken.append(1e3 * (time.perf_counter() - start))
    return median(times[0]), median(times[1])
