"""Formats of graphs: written by their own tools, and loaded by their own runtimes.

Only torch.export makes graphs. The older exporter of torch.onnx is wrong for TSM without a word.
"""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.inference.exported import Session, needed, session
from muybridge.inference.graph import Graph
from muybridge.inference.metadata import FRAMES, KEY, LOGITS, PROBABILITIES, input_shape
from muybridge.recipe import Recipe, Runtime

Kind = Literal["onnx", "torch", "openvino"]
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml"}
"""Ends of the names of files, by the kind of graph."""


def program(graph: Graph, recipe: Recipe) -> torch.export.ExportedProgram:
    """The graph as torch.export traces it, for any number of videos. Raises UserError where it cannot be traced."""
    sizes = [size or 2 for size in input_shape(recipe)]
    if recipe.evaluation.whole:
        sizes[2] = 2 * recipe.clip.num_frames + 1
    is_picture = inputs.of(recipe.clip).clip_dtype is None and inputs.of(recipe.clip).is_picture
    example = torch.zeros(sizes, dtype=torch.uint8 if is_picture else torch.float32)
    free: dict[int, Any] = {0: torch.export.Dim("videos")}
    if recipe.evaluation.whole:
        free[2] = torch.export.Dim("steps", min=graph.model.min_frames)
    try:
        with quiet():
            traced = torch.export.export(graph, (example,), dynamic_shapes={FRAMES: free})
    except Exception as error:  # whatever its tracing meets
        raise UserError(
            f"{recipe.model.name}: torch.export cannot trace it: {first_line(error)}. Use the run itself"
        ) from error
    return untraced(traced)


def untraced(traced: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """A program without the paths of this machine that tracing has written into it."""
    for module in traced.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return traced


def write_onnx(graph: Graph, recipe: Recipe, about: Mapping[str, Any], file: Path) -> None:
    """Write a graph as ONNX with its metadata. Raises UserError where the exporter has no operator for a part of it."""
    traced = program(graph, recipe)
    try:
        with quiet():
            made = torch.onnx.export(
                traced, dynamo=True, input_names=[FRAMES], output_names=[PROBABILITIES, LOGITS], verbose=False
            )
        save_onnx(made, about, file)
    except Exception as error:
        raise UserError(
            f"{recipe.model.name}: it cannot be written as ONNX: {first_line(error)}. Try --to torch, or use the run itself"
        ) from error


def save_onnx(made: Any, about: Mapping[str, Any], file: Path) -> None:
    """Save what torch.onnx.export has made, with its metadata and without that of tracing (half of a small file)."""
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()
    made.model.metadata_props[KEY] = json.dumps(about)
    made.save(file)


def write_torch(graph: Graph, recipe: Recipe, about: Mapping[str, Any], file: Path) -> None:
    """Write a graph as a program of torch.export."""
    with quiet():
        torch.export.save(program(graph, recipe), file, extra_files={f"{KEY}.json": json.dumps(about)})


def write_openvino(graph: Graph, recipe: Recipe, about: Mapping[str, Any], file: Path) -> None:
    """Write a graph as OpenVINO's .xml and .bin, by way of ONNX."""
    openvino = _openvino()
    middle = file.with_suffix(".onnx")
    write_onnx(graph, recipe, about, middle)
    model = openvino.Core().read_model(middle)
    model.set_rt_info(json.dumps(about), [KEY])
    openvino.save_model(model, file, compress_to_fp16=False)
    middle.unlink()


WRITERS: Mapping[str, Callable[[Graph, Recipe, Mapping[str, Any], Path], None]] = {
    "onnx": write_onnx, "torch": write_torch, "openvino": write_openvino,
}  # fmt: skip


def load(to: str, file: Path) -> Session:
    """A graph that its own runtime has loaded from a file."""
    threads = torch.get_num_threads()
    if to == "onnx":
        return session(file.read_bytes(), str(file), runtime=Runtime(threads=threads))
    if to == "torch":
        module = torch.export.load(file).module()
        return lambda frames: by_torch(module, frames)
    compiled = _openvino().compile_model(
        file, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    )

    def run(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = compiled({FRAMES: frames})
        return answers[PROBABILITIES], answers[LOGITS]

    return run


def by_torch(module: Callable[[torch.Tensor], Any], frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers of a module of PyTorch."""
    with torch.inference_mode():
        probabilities_BK, logits_BVK = module(torch.from_numpy(frames))
    return probabilities_BK.numpy(), logits_BVK.numpy()


def check_installed(to: str) -> None:
    """Raise UserError where a format's libraries are not installed."""
    for module in {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript")}.get(to, ()):
        needed(module)
    if to == "openvino":
        _openvino()


def _openvino() -> Any:
    """OpenVINO without its telemetry, which would tell Google of each import and conversion."""
    name = "openvino_telemetry"
    if name not in sys.modules:
        sys.modules[name] = None  # type: ignore[assignment]  # its import fails, and OpenVINO does without
    return needed("openvino")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print and warn of to themselves; what fails is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def first_line(error: Exception) -> str:
    """The first line of an error, without the dot at its end."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
