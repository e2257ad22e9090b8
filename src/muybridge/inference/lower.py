"""Graphs of fewer bits: 16-bit floats, or 8-bit integers, by ONNX Runtime's own tools; kept only where nothing is lost.

That is a question to val, not to a handful of clips: an int8 network that calls everything one class still answers. Both
graphs answer the same val videos, and the paired difference of their accuracies is tested (`analysis.statistics.change`).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from muybridge.analysis.statistics import CONFIDENCE, change
from muybridge.errors import UserError
from muybridge.evaluation.evaluate import class_indices
from muybridge.evaluation.trained import Trained
from muybridge.inference.clips import Tried, of_split
from muybridge.inference.exported import Session, frames_of, needed, session
from muybridge.inference.formats import first_line, quiet
from muybridge.inference.metadata import FRAMES, KEY
from muybridge.recipe import Recipe
from muybridge.runtime.console import progress

Precision = Literal["int8", "fp16"]
FEWEST_VIDEOS = 20
"""Smallest val set by which a loss is judged."""
MOST_LOSS = 0.01
"""Largest loss of accuracy that passes where the test finds none: a small val has no power to find a large one."""
CALIBRATION_VIDEOS = 64
"""Training videos whose values set the ranges of 8-bit integers."""


@dataclass(frozen=True)
class Verdict:
    """Accuracy on val of a graph of fewer bits, beside that of the full one."""

    precision: Precision
    videos: int
    accuracy: float
    full_accuracy: float
    low: float
    """Lower end of the 95 % interval of the difference of the two."""
    high: float
    same: float
    """Share of the videos that both call the same."""

    @property
    def loses(self) -> bool:
        """Whether the paired test finds a loss, or more than one video and `MOST_LOSS` is lost."""
        loss = self.full_accuracy - self.accuracy
        return self.high < 0 or (loss > MOST_LOSS and loss * self.videos > 1.5)

    def __str__(self) -> str:
        return (
            f"{self.precision}: {self.accuracy:.3f} on {self.videos} val videos, {self.full_accuracy:.3f} in fp32: "
            f"{100 * (self.accuracy - self.full_accuracy):+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}], "
            f"{100 * self.same:.1f} % called the same"
        )


@dataclass(frozen=True)
class Judges:
    """Videos that a precision is judged by (val), and that int8's ranges are set by (train)."""

    precision: Precision
    val: Tried
    train: Tried | None


def judges(precision: Precision, network: Trained, recipe: Recipe, data: str | Path | None) -> Judges:
    """Videos to judge a precision by. `data`: a manifest that has them, where the run's own is gone.

    Raises UserError where they are not there, or are too few to find a loss.
    """
    val = _needed(network, recipe, data, "val")
    if len(val.rows) < FEWEST_VIDEOS:
        raise UserError(
            f"--{precision}: val has {len(val.rows)} videos, too few to find a loss. Name a manifest whose val has "
            f"{FEWEST_VIDEOS} or more (--data), or export in fp32"
        )
    return Judges(precision, val, _needed(network, recipe, data, "train") if precision == "int8" else None)


def lowered(file: Path, judged_by: Judges, network: Trained) -> Verdict:
    """Put a graph of fewer bits in the place of an ONNX file, and say how it does. Raises UserError where it loses."""
    precision, val = judged_by.precision, judged_by.val
    made = file.with_name(f"{precision}.onnx")
    try:
        to_fp16(file, made) if judged_by.train is None else to_int8(file, made, judged_by.train)
    except UserError:
        raise
    except Exception as error:  # whatever the tool meets
        raise UserError(
            f"--{precision}: ONNX Runtime's tool cannot convert it: {first_line(error)}. Export without --{precision}"
        ) from error
    verdict = judged(
        precision, session(file.read_bytes(), str(file)), session(made.read_bytes(), str(made)), val, network
    )
    if verdict.loses:
        raise UserError(
            f"--{precision}: {'val shows a loss' if verdict.high < 0 else 'fewer val videos are right'} ({verdict}), so no file "
            f"is written. Export without --{precision}"
        )
    _describe(made, file, verdict)
    return verdict


def _describe(made: Path, file: Path, verdict: Verdict) -> None:
    """Put a graph in the place of another, with the other's metadata and the verdict."""
    onnx = needed("onnx")
    model, full = onnx.load(made), onnx.load(file)
    about = json.loads(next(entry.value for entry in full.metadata_props if entry.key == KEY))
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=json.dumps(about | {"precision": asdict(verdict)}))
    made.unlink()
    onnx.save(model, file)


def judged(precision: Precision, full: Session, fewer: Session, val: Tried, network: Trained) -> Verdict:
    """The verdict of all val videos that can be read."""
    rows, answers = [], []
    with progress(f"comparing {precision} on val", len(val.rows)) as bar:
        for row, item in val.items():
            frames = frames_of(item)[None]
            rows.append(row)
            answers.append([asked(frames)[0][0].argmax() for asked in (full, fewer)])
            bar.advance()
    labels_N = class_indices(val.views.manifest, np.array(rows), network.classes)
    right_N2 = np.array(answers) == labels_N[:, None]
    full_N, fewer_N = right_N2.T.astype(np.float64)
    difference = change(full_N[None], fewer_N[None], val.views.manifest.text("group", np.array(rows)))
    half = difference.half_width(CONFIDENCE)
    same = float(np.mean([one == other for one, other in answers]))
    return Verdict(
        precision, len(rows), float(fewer_N.mean()), float(full_N.mean()), difference.value - half,
        difference.value + half, same,
    )  # fmt: skip


def to_fp16(file: Path, made: Path) -> None:
    """Write a graph in 16-bit floats, with the same input and outputs."""
    onnx, float16 = needed("onnx"), needed("onnxruntime.transformers.float16")
    with quiet():
        onnx.save(float16.convert_float_to_float16(onnx.load(file), keep_io_types=True), made)


def to_int8(file: Path, made: Path, train: Tried) -> None:
    """Write a graph in 8-bit integers, whose ranges are those of training videos."""
    quantization = needed("onnxruntime.quantization")
    prepared = file.with_name("prepared.onnx")
    with quiet():
        quantization.shape_inference.quant_pre_process(file, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, made, _Frames(train), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    prepared.unlink()


class _Frames:
    """Training videos, as ONNX Runtime's tool asks for them."""

    def __init__(self, train: Tried) -> None:
        self.items: Iterator[Any] = train.items(CALIBRATION_VIDEOS)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next video; None after the last."""
        found = next(self.items, None)
        return None if found is None else {FRAMES: frames_of(found[1])[None]}


def _needed(network: Trained, recipe: Recipe, data: str | Path | None, split: str) -> Tried:
    found = of_split(network, recipe, data, split)
    if found is None:
        raise UserError(
            f"--int8, --fp16: no video of '{split}' is there, which they are judged by (or int8's ranges are set by). Name the "
            "run's manifest: --data"
        )
    return found
