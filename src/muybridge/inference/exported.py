"""An exported network that answers: an ONNX file of `muybridge export`, asked as its run is.

The file may be a stranger's. Before the runtime sees it, it is parsed and checked: standard operators alone, no functions,
no inner graphs, all weights inside the file, an input and outputs that fit its metadata. Then it goes to the runtime as
bytes, so that no path in it means anything. No code of it runs. It may still be slow or want much memory, as any network.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge import build
from muybridge.data.views import Unreadable, VideoViews, Views
from muybridge.errors import Diverged, UserError
from muybridge.inference.metadata import (
    AFTER,
    FRAMES,
    KEY,
    LOGITS,
    LOGITS_1K,
    ONE_FRAME,
    PROBABILITIES,
    PROBABILITIES_1K,
    STATE,
    About,
)
from muybridge.recipe import Runtime
from muybridge.runtime import waiting
from muybridge.runtime.device import usual_threads
from muybridge.runtime.files import check_regular
from muybridge.storage.scores import Scores, ViewGrid
from muybridge.text import plural
from muybridge.zoo.steps import SEEN, WINDOW, State, read_state, write_state

SUFFIX = ".onnx"
LARGEST_FILE_BYTES = 2**31 - 1
"""Largest file that protobuf can hold."""
LARGEST_STATE = 2**28
"""Most numbers that a stream may remember."""
STANDARD = ("", "ai.onnx")
"""Names of the domain of standard operators."""
SPINNING = "session.intra_op.allow_spinning"
"""Whether threads of ONNX Runtime spin while they wait for work (its onnxruntime_session_options_config_keys.h): 1 by itself.

Threads that spin keep processors from others, and from the very thread that they wait for: beside two busy processes on two
processors, graphs of two small networks took .54 and .50 of the processor time without, and .72 and .68 of the time.
"""

Session = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Input of a batch of videos to their probabilities (B,K) and the logits of their views (B,V,K)."""


def is_exported(source: object) -> bool:
    """Whether a source names an exported file."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() == SUFFIX


def exported(file: str | Path, *, runtime: Runtime | None = None) -> "ExportedNetwork | ExportedSteps":
    """Load an ONNX file of either kind: of clips, or of one frame and its state. Raises UserError, as both do."""
    _, about = checked(Path(file))
    return ExportedSteps(file, runtime=runtime) if about.steps else ExportedNetwork(file, runtime=runtime)


class ExportedNetwork:
    """An ONNX file of `muybridge export`, by ONNX Runtime. Any number of threads may ask it."""

    def __init__(self, file: str | Path, *, runtime: Runtime | None = None) -> None:
        """Load and check it. Raises UserError for a file that is damaged, of another kind, or not to be trusted."""
        data, about = checked(Path(file))
        if about.steps:
            raise _no_clips(file)
        self.name, self.recipe = str(file), about.recipe
        self.dataset: Mapping[str, Any] = about.dataset
        self.calibrated = about.calibrated
        self.answered_by = "ONNX Runtime"
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.session = session(data, str(file), runtime=runtime)

    def scores(self, views: VideoViews) -> Scores:
        """Per-view scores, as the run gives them, of as many views as the graph takes, or fewer clips or crops.

        Raises UserError where it is asked for more, and DecodeError for a video that cannot be read.
        """
        rows = views.manifest
        place_V = self._places(views)
        e = self.recipe.evaluation
        filled_V = np.zeros(e.num_clips * e.num_crops, dtype=np.int64)  # a view that nobody asks for is the first one
        filled_V[place_V] = np.arange(views.num_views)
        logits, starts = [], []
        most = max(1, build.scoring_batch_size(self.recipe) // len(filled_V))
        for items in batches(map(views.__getitem__, map(views.key, range(len(rows)))), most):
            _, logits_BVK = self.session(np.stack([frames_of(item)[filled_V] for item in items]))
            expected = (len(items), len(filled_V), len(self.dataset["classes"]))
            check_logits(logits_BVK, expected, self.name)
            logits.append(logits_BVK[:, place_V].reshape(-1, expected[-1]))
            starts += [item.clip_start_V for item in items]
        logits_VK = np.concatenate(logits).astype(np.float32)
        if not np.isfinite(logits_VK).all():
            raise _diverged(self.name)
        numbers = np.arange(len(rows))
        return Scores(
            classes=tuple(self.dataset["classes"]),
            ids_N=rows.text("id", numbers),
            labels_N=np.full(len(rows), -1),
            groups_N=rows.text("group", numbers),
            video_V=np.repeat(numbers, views.num_views),
            clip_start_V=np.concatenate(starts),
            crop_V=np.tile(np.arange(views.num_crops), views.num_clips * len(rows)),
            logits_VK=logits_VK,
            average=self.recipe.evaluation.average,
            grid=ViewGrid(views.spec.sampling, views.num_clips, views.num_crops),
        )

    def _places(self, views: VideoViews) -> np.ndarray:
        """Numbers of the graph's views that views are shown as: crop by crop, as some are mirrored inside."""
        e = self.recipe.evaluation
        if views.num_clips > e.num_clips or views.num_crops > e.num_crops:
            raise UserError(
                f"{self.name}: it takes {plural(e.num_clips, 'clip')} of {plural(e.num_crops, 'crop')}, as its run is "
                f"evaluated, and not {views.num_clips} of {views.num_crops}. Ask for no more, or use the run itself"
            )
        clips_V, crops_V = np.divmod(np.arange(views.num_views), views.num_crops)
        return np.asarray(clips_V * e.num_crops + crops_V)


Numbers = dict[str, np.ndarray]
"""A stream's state by names."""


class ExportedSteps:
    """An ONNX file of `muybridge export --one-frame`: the answer at each frame of a stream.

    Any number of streams and threads may ask one: what a stream remembers is the state that goes in and comes out.
    """

    def __init__(self, file: str | Path, *, runtime: Runtime | None = None) -> None:
        """Load and check it. Raises UserError for a file that is damaged, of another kind, or not to be trusted."""
        data, about = checked(Path(file))
        if not about.steps:
            raise UserError(f"{file}: it takes whole clips. Export the run with --one-frame")
        self.name, self.recipe = str(file), about.recipe
        self.dataset: Mapping[str, Any] = about.dataset
        self.calibrated = about.calibrated
        self.answered_by = "ONNX Runtime"
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._loaded = _loaded(data, self.name, runtime)
        self._state = {
            value.name: (tuple(value.shape), np.int64 if "int64" in value.type else np.float32)
            for value in self._loaded.get_inputs()
            if value.name.startswith(STATE)
        }
        kept = [f"{AFTER}{name.removeprefix(STATE)}" for name in self._state]
        given = {value.name for value in self._loaded.get_outputs()}
        sizes = [size for shape, _ in self._state.values() for size in shape]
        has_window = self._state.get(f"{STATE}{SEEN}") == ((1,), np.int64) and f"{STATE}{WINDOW}" in self._state
        if given != {PROBABILITIES_1K, LOGITS_1K, *kept} or not (
            has_window and all(isinstance(size, int) and size > 0 for size in sizes)
        ):
            raise UserError(f"{file}: its state does not come out as it goes in. Export the run again")
        if sum(prod(shape) for shape, _ in self._state.values()) > LARGEST_STATE:
            raise UserError(f"{file}: its state is larger than that of any network. Export the run again")
        self._outputs = [PROBABILITIES_1K, LOGITS_1K, *kept]

    def start(self) -> Numbers:
        """The state before the first frame."""
        return {name.removeprefix(STATE): np.zeros(shape, dtype) for name, (shape, dtype) in self._state.items()}

    def step(self, frames_LHWC: np.ndarray, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, Numbers]:
        """Probabilities (K,) and logits (K,) at a frame, and the state after it.

        `frames_LHWC`: uint8, cut and scaled as the recipe says: one frame, or the L of a time step (`Input.step_frames`).
        Raises UserError for frames or a state of another shape.
        """
        fed = {ONE_FRAME: frames_LHWC[None], **{f"{STATE}{name}": kept for name, kept in state.items()}}
        probabilities_1K, logits_1K, *after = _run(self._loaded, self._outputs, fed, self.name)
        check_logits(logits_1K, (1, len(self.dataset["classes"])), self.name)
        return probabilities_1K[0], logits_1K[0], dict(zip(self.start(), after, strict=True))

    def scores(self, views: VideoViews) -> Scores:
        """Raise UserError, as there are no clips to score."""
        raise _no_clips(self.name)

    def frame_by_frame(self, window_frames: int) -> "_ExportedFrameByFrame":
        """The network frame by frame. Raises UserError where `window_frames` is not the window that is in the file."""
        if window_frames != self.recipe.clip.num_frames:
            raise UserError(
                f"--window-frames {window_frames}: {self.name} takes the mean of {self.recipe.clip.num_frames} frames, which "
                "is fixed in the file. Leave it out, or stream the run itself"
            )
        return _ExportedFrameByFrame(self)


@dataclass(frozen=True)
class _ExportedFrameByFrame:
    """A graph of one frame, with the state of tensors that streams have."""

    asked: ExportedSteps

    def start(self) -> State:
        return _tensors_of(self.asked.start())

    def step(self, frames_LHWC: np.ndarray, state: State, *, is_mirrored: bool = False) -> tuple[np.ndarray, State]:
        if is_mirrored:
            frames_LHWC = np.ascontiguousarray(frames_LHWC[:, :, ::-1])
        numbers = {name: tensor.numpy() for name, tensor in state.items()}
        _, logits_K, after = self.asked.step(frames_LHWC, numbers)
        if not np.isfinite(logits_K).all():
            raise _diverged(self.asked.name)
        return logits_K, _tensors_of(after)

    def save_state(self, path: str | Path, state: State) -> None:
        write_state(path, state, name=self.asked.name, sha256=self.asked.sha256)

    def load_state(self, path: str | Path) -> State:
        first, asked = self.start(), self.asked
        return read_state(path, like=first, any_size=False, name=asked.name, sha256=asked.sha256)


def _tensors_of(numbers: Mapping[str, np.ndarray]) -> State:
    return {name: torch.from_numpy(kept) for name, kept in numbers.items()}


def _no_clips(file: str | Path) -> UserError:
    return UserError(
        f"{file}: it takes one frame and its state, and no clips. Ask it with muybridge stream, or export the run without "
        "--one-frame"
    )


def _diverged(name: str) -> Diverged:
    return Diverged(f"{name}: its answer is not finite, as its weights are damaged. Export the run again")


def check_logits(logits: Any, expected: tuple[int, ...], where: str) -> None:
    """Raise UserError where a graph's logits are not those of its labels and views."""
    if not isinstance(logits, np.ndarray) or logits.shape != expected or logits.dtype != np.float32:
        given = f"{logits.dtype} {logits.shape}" if isinstance(logits, np.ndarray) else type(logits).__name__
        raise UserError(
            f"{where}: its answer is {given}, but its labels and views make float32 {expected}. Use a file that "
            "`muybridge export` wrote"
        )


def frames_of(item: Views) -> np.ndarray:
    """Input of a graph for one video: (V,F,H,W,C) uint8, or float32 where the network takes no pictures of 8 bits."""
    frames_VFHWC = item.pictures_PHWC.numpy()[item.picture_VF]
    return frames_VFHWC if frames_VFHWC.dtype == np.uint8 else frames_VFHWC.astype(np.float32)


def batches(items: Iterator[Views | Unreadable], most: int) -> Iterator[list[Views]]:
    """Lists of at most `most` videos whose clips are equally long. Raises the DecodeError of one that cannot be read."""
    batch: list[Views] = []
    for item in items:
        if isinstance(item, Unreadable):
            raise item.error
        if batch and (len(batch) == most or batch[0].picture_VF.shape != item.picture_VF.shape):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def session(model: bytes, where: str, *, runtime: Runtime | None = None) -> Session:
    """A graph of clips that ONNX Runtime has loaded. `where`: the file, for messages. Raises UserError."""
    loaded = _loaded(model, where, runtime)

    def run(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities_BK, logits_BVK = _run(loaded, [PROBABILITIES, LOGITS], {FRAMES: frames}, where)
        return probabilities_BK, logits_BVK

    return run


def _loaded(model: bytes, where: str, runtime: Runtime | None) -> Any:
    ort = needed("onnxruntime")
    runtime = runtime or Runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = usual_threads() if runtime.threads is None else runtime.threads
    if not waiting.may_spin():
        options.add_session_config_entry(SPINNING, "0")
    try:
        return ort.InferenceSession(model, options, providers=_providers(ort, runtime.device))
    except Exception as error:  # its own classes, one a fault
        raise UserError(f"{where}: ONNX Runtime cannot load it: {_first_line(error)}. Export the run again") from None


def _run(loaded: Any, outputs: list[str], fed: Mapping[str, np.ndarray], where: str) -> list[np.ndarray]:
    try:
        answers: list[np.ndarray] = loaded.run(outputs, dict(fed))
    except Exception as error:
        raise UserError(
            f"{where}: ONNX Runtime cannot compute an answer: {_first_line(error)}. Export the run again"
        ) from None
    return answers


def needed(module: str) -> Any:
    """A module of the extra `export`. Raises UserError where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise UserError(
            f"{module}: it is not installed, and exported networks need it. Install it: pip install 'muybridge[export]'"
        ) from None


def checked(path: Path) -> tuple[bytes, About]:
    """Bytes and metadata of a file that is safe to hand to the runtime. Raises UserError."""
    onnx = needed("onnx")
    check_regular(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= LARGEST_FILE_BYTES else b""
    except OSError as error:
        raise UserError(
            f"{path}: it cannot be read ({error.strerror}). Check that it is there and may be read"
        ) from None
    if size > LARGEST_FILE_BYTES:
        raise UserError(f"{path}: it is larger than 2 GiB, which no ONNX file is. Export the run again")
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own
        raise UserError(f"{path}: not an ONNX file, or a damaged one. Export the run again") from None
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(texts) != 1:
        raise UserError(
            f"{path}: it has no metadata of muybridge's, without which its labels and its clips are not known. Use a file that "
            "`muybridge export` wrote"
        )
    about = About(texts[0], str(path))
    fault = _fault(model, about)
    if fault:
        raise UserError(f"{path}: it is not used, as {fault}. Use a file that `muybridge export` wrote")
    return data, about


def _fault(model: Any, about: About) -> str:
    """Why a parsed model is not handed to the runtime; empty where it may be."""
    graph = model.graph
    if model.functions or model.training_info:
        return "it defines functions or training"
    for node in graph.node:
        if node.domain not in STANDARD:
            return f"its operator {node.op_type[:40]!r} is not one of ONNX's own"
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return f"its operator {node.op_type[:40]!r} holds another graph"
    tensors = chain(
        graph.initializer,
        chain.from_iterable((sparse.values, sparse.indices) for sparse in graph.sparse_initializer),
        chain.from_iterable(_tensors(attribute) for node in graph.node for attribute in node.attribute),
    )
    if any(tensor.data_location or tensor.external_data for tensor in tensors):
        return "some of its weights lie in another file"
    named = {initializer.name for initializer in graph.initializer}
    taken = [value.name for value in graph.input if value.name not in named]
    given = [value.name for value in graph.output]
    sizes = (
        [None if size.dim_param else size.dim_value for size in graph.input[0].type.tensor_type.shape.dim]
        if taken
        else []
    )
    if sizes != about.values["shape"]:
        return "its input is not the one that its metadata names"
    if about.steps:
        states = all(name.startswith(STATE) for name in taken[1:])
        return "" if taken[0] == ONE_FRAME and states else f"its inputs are not {ONE_FRAME} and a state"
    if taken != [FRAMES] or given != [PROBABILITIES, LOGITS]:
        return f"its input and outputs are not {FRAMES}, {PROBABILITIES} and {LOGITS}"
    return ""


def _tensors(attribute: Any) -> Iterator[Any]:
    yield from attribute.tensors
    if attribute.HasField("t"):
        yield attribute.t
    for sparse in (
        *attribute.sparse_tensors,
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
    ):
        yield from (sparse.values, sparse.indices)


def _providers(ort: Any, device: str) -> list[str]:
    """Names of the runtime's devices. Raises UserError for a GPU that this runtime does not have."""
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device.startswith("cuda") and not has_cuda:
        raise UserError(
            f"runtime.device: '{device}' is not there for this ONNX Runtime. Install onnxruntime-gpu, or choose cpu"
        )
    on_cuda = has_cuda and device != "cpu"
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_cuda else ["CPUExecutionProvider"]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
