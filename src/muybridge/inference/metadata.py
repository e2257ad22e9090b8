"""Metadata of an exported network: all that is needed to ask it, as one JSON document in the file.

It holds labels, the rule by which frames are picked, the crops, the recipe without paths of the machine, and hashes of the
run. A file may be a stranger's: whatever is read is checked, and nothing in it is ever called.
"""

import hashlib
import json
from collections.abc import Mapping
from math import inf, prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from muybridge import __version__
from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.recipe import Recipe, fingerprint, validated
from muybridge.runtime.files import as_kind, parsed_json, sha256_file
from muybridge.storage import checkpoints, shapes
from muybridge.storage.calibration import Calibrated
from muybridge.storage.portable import portable
from muybridge.storage.run import Run

FORMAT_VERSION = 1
KEY = "muybridge"
"""Name of the document among a file's metadata."""
LARGEST_BYTES = 2**24
"""Longest document that is read."""
LARGEST_INPUT_BYTES = 2**31
"""Largest input of one video that is read."""
FRAMES, PROBABILITIES, LOGITS = "frames_BVTHWC", "probabilities_BK", "logits_BVK"
"""Names of the input and the outputs of a graph of clips."""
ONE_FRAME, PROBABILITIES_1K, LOGITS_1K = "frames_1LHWC", "probabilities_1K", "logits_1K"
"""Names of a graph of one frame: the L frames of the next time step, and the answer at it."""
STATE, AFTER = "state.", "after."
"""Beginnings of the names of the state that goes in, and of the one that comes out."""


@with_config(ConfigDict(extra="allow"))
class _About(TypedDict):
    format_version: Literal[1]
    muybridge: str
    run_sha256: str
    labels: Annotated[list[str], Field(min_length=1)]
    mirror: dict[str, str] | None
    longest_trained_seconds: Annotated[float, Field(gt=0, lt=inf)]
    shape: list[Annotated[int, Field(ge=0)] | None]
    recipe: dict[str, Any]
    calibration: dict[str, Any] | None
    steps: bool


def run_sha256(run: Run) -> str:
    """Hash of what answers: the run's recipe, its classes, and the weights that are scored."""
    recipe, dataset = run.recipe(), run.dataset()
    weights = sha256_file(checkpoints.model_file(run.checkpoints, recipe.evaluation.checkpoint))
    told = [fingerprint(recipe), dataset["classes"], dataset["mirror"], weights]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def input_shape(recipe: Recipe) -> tuple[int | None, ...]:
    """Shape of the graph's input; None: any number (of videos, or of the steps of whole ones)."""
    e, shown = recipe.evaluation, inputs.of(recipe.clip)
    steps = None if e.whole else recipe.clip.num_frames * shown.step_frames
    pixels = (recipe.test_size, recipe.test_size) if shown.is_picture else ()
    return None, e.num_clips * e.num_crops, steps, *pixels, shown.read_channels


def step_shape(recipe: Recipe) -> tuple[int | None, ...]:
    """Shape of the frames that a graph of one frame takes."""
    shown = inputs.of(recipe.clip)
    return 1, shown.step_frames, recipe.test_size, recipe.test_size, shown.read_channels


def described(run: Run, recipe: Recipe, *, calibration: Mapping[str, Any] | None, steps: bool) -> dict[str, Any]:
    """The document of a run. `recipe`: as it is exported. `steps`: of a graph of one frame and its state."""
    dataset, c, e = run.dataset(), recipe.clip, recipe.evaluation
    shown = inputs.of(c)
    values = "uint8, RGB of 0 to 255" if shown.dtype is inputs.RGB.dtype and not shown.clip_dtype else "float32"
    return {
        "format_version": FORMAT_VERSION,
        "muybridge": __version__,
        "run_sha256": run_sha256(run),
        "labels": dataset["classes"],
        "mirror": dataset["mirror"],
        "longest_trained_seconds": dataset["longest_trained_seconds"],
        "shape": list(step_shape(recipe) if steps else input_shape(recipe)),
        "steps": steps,
        "input": {"name": shown.name, "about": shown.meaning, "values": values},
        "sampling": {
            "rule": c.sampling, "num_frames": c.num_frames, "frames_a_step": shown.step_frames, "num_clips": e.num_clips,
            **({"stride_frames": c.stride_frames, "fps": c.fps, "past_end": c.past_end} if c.sampling == "dense" else {}),
        },
        "crop": {
            "short_side": c.short_side, "side": f"{e.crop_fraction:g} of the short side", "num_crops": e.num_crops,
            "size": recipe.test_size, "order": "centre first; those from the sixth on are mirrored inside the graph",
        } if shown.is_picture else None,
        "average": e.average,
        "calibration": None if calibration is None else dict(calibration),
        "recipe": portable(recipe).model_dump(mode="json"),
    }  # fmt: skip


class About:
    """A checked document."""

    def __init__(self, text: str, where: str) -> None:
        """Parse it. `where`: the file, for messages. Raises UserError."""
        if len(text) > LARGEST_BYTES:
            raise UserError(f"{where}: its metadata is longer than {LARGEST_BYTES} bytes. Export the run again")
        values = parsed_json(text, where)
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{where}: its metadata has format_version {str(version)[:20]}, but this muybridge reads {FORMAT_VERSION}. "
                "Use the muybridge that wrote it, or export the run again"
            )
        self.values: dict[str, Any] = as_kind(_About, values, where)
        self.recipe = validated(Recipe, self.values["recipe"], where=where)
        labels, mirror = self.values["labels"], self.values["mirror"]
        known, shape = set(labels), tuple(self.values["shape"])
        named = set(mirror or {}).union((mirror or {}).values())
        expected = step_shape(self.recipe) if self.values["steps"] else input_shape(self.recipe)
        kept = self.values["calibration"]
        calibration = None if kept is None else as_kind(shapes.Calibration, kept, f"{where}: calibration")
        self.calibrated = Calibrated() if calibration is None else Calibrated.from_json(calibration)
        fault = (
            "a label is named twice" if len(known) < len(labels)
            else "mirror names a class that is not among its labels" if named - known
            else "the recipe names no model" if not self.recipe.model.name
            else "its input is not the one of its recipe" if shape != expected
            else "its input is too large" if prod(size or 1 for size in expected) > LARGEST_INPUT_BYTES
            else ""
        )  # fmt: skip
        if fault:
            raise UserError(f"{where}: its metadata is damaged: {fault}. Export the run again")

    @property
    def steps(self) -> bool:
        """Whether the graph takes one frame and its state."""
        return bool(self.values["steps"])

    @property
    def dataset(self) -> dict[str, Any]:
        """Content of a run's dataset.json, as far as the file has it."""
        v = self.values
        return {
            "classes": v["labels"], "mirror": v["mirror"], "longest_trained_seconds": v["longest_trained_seconds"],
            "reversed_pairs": [],
        }  # fmt: skip


def check_new(out: Path, suffix: str) -> None:
    """Raise UserError where a file cannot be written: another ending, or it is there already."""
    if out.suffix != suffix:
        raise UserError(f"--out {out}: it does not end in {suffix}. Name it {out.stem or 'model'}{suffix}")
    for file in (out, out.with_suffix(".bin")) if suffix == ".xml" else (out,):
        if file.exists() or file.is_symlink():
            raise UserError(f"--out {file}: it is there already. Choose another name, or remove it")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} is not there. Make it, or choose another")
