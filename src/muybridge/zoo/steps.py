"""Networks step by step: a frame in, the answer at that frame out, and a small state from one to the next.

    each = steps(model, window=8)
    state = each.start()
    for x_1CHW in frames:
        logits_1K, state = each.step(x_1CHW, state)

The answer is the mean over the last `window` frames that the network has for a clip of as many. So the first `window`
answers are those of the clips that begin with the stream. After that a network that looks back has seen more than its
window, as TSM's online models do (Lin et al. 2019, section 3.4).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from muybridge.errors import UserError
from muybridge.runtime.files import check_regular, write_atomic
from muybridge.zoo import memory
from muybridge.zoo.base import VideoModel
from muybridge.zoo.candidates import Candidates
from muybridge.zoo.sequences import Answering

State = dict[str, torch.Tensor]
"""A stream's state, of one stream: the window's values, the number of frames seen, and what modules have kept."""

FORMAT_VERSION = 1
SEEN, WINDOW = "seen", "window"
"""Names in a state of the number of frames seen (at most the window), and of the values of the window's frames."""
_TAG = "muybridge_state"


def steps(model: VideoModel, window: int, *, sha256: str = "") -> "Steps | None":
    """A network step by step, in eval mode from now on; None where it takes whole clips only.

    `window`: frames that the answer is a mean over (a recipe's `clip.num_frames`). Step by step go networks whose features
    are those of single frames (TSN), heads over the vectors of single frames, and what looks back only: `tsm` with
    `direction=past`, `lstm`, `gru`, `tcn` with `causal=true`. Not so temporal pooling, which looks ahead and leaves no
    answer for each frame, nor 3D convolutions, TAM and non-local blocks. `sha256`: the network's `digest` before its norms
    were folded, which its states are kept with. Raises UserError for a window that does not fit.
    """
    if isinstance(model, Candidates):
        model = model.answering
    if window < 1:
        raise UserError(f"window: it is {window}, but counts frames. Give 1 or more")
    kind: type[Steps]
    if model.looks_at != "clip" and type(model).head is VideoModel.head:
        kind = Steps
    elif model.looks_at != "clip":
        kind = _OwnHead
    elif isinstance(model, Answering):
        kind = _HeadOverVectors
    else:
        return None
    each = kind(model.eval(), window)
    each._digest = sha256
    return each


class Steps:
    """A network whose answer is a weighted mean of its frames' logits. Any number of threads may ask it."""

    def __init__(self, model: VideoModel, window: int) -> None:
        self.model, self.window = model, window
        self._modules = {name: module for name, module in model.named_modules() if name}
        self._names = {module: name for name, module in self._modules.items()}
        self._digest = ""

    def start(self, like: torch.Tensor | None = None) -> State:
        """The state before the first frame. `like`: a frame; then what modules keep is there, too, as zeros."""
        if like is not None:
            return {name: torch.zeros_like(tensor) for name, tensor in self.step(like, self.start())[1].items()}
        weight = self.model.fc.weight
        return {
            SEEN: torch.zeros(1, dtype=torch.int64, device=weight.device),
            WINDOW: weight.new_zeros(1, self.window, self.width).detach(),
        }

    @torch.no_grad()
    def step(self, x_1CHW: torch.Tensor, state: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, State]:
        """The logits (1,K) at a frame, as `Input.to_model` gives it, and the state after it. A state is never changed.

        Of a network of stored vectors the input is x_1D. Raises UserError for a frame, or a state, that does not fit.
        """
        x = x_1CHW.unsqueeze(1 if self.model.input_kind == "features" else 2)
        if len(x) != 1:
            raise UserError(f"{self.model.name}: {len(x)} frames came at once. Give one frame, (1,C,H,W)")
        self._check_input(x)
        self.check_state(state)
        with memory.stream(
            {self._modules[name]: kept for name, kept in state.items() if name in self._modules}
        ) as after:
            value_11E = self.value(x)
        seen_1 = (state[SEEN] + 1).clamp(max=self.window)
        window_1WE = torch.cat([state[WINDOW][:, 1:], value_11E.to(state[WINDOW].dtype)], dim=1)
        slots_1W = torch.arange(self.window, device=window_1WE.device)[None]
        logits_1K = self.answer(window_1WE, slots_1W >= self.window - seen_1[:, None], seen_1)
        return logits_1K, {SEEN: seen_1, WINDOW: window_1WE, **{self._names[m]: kept for m, kept in after.items()}}

    @property
    def width(self) -> int:
        """Number of values that the window holds of a frame."""
        return self.model.fc.out_features

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """Values (1,1,E) that the window holds of a frame, a clip of length 1."""
        return self.model.fc(self.model.features(x))

    def answer(self, window_1WE: torch.Tensor, present_1W: torch.Tensor, seen_1: torch.Tensor) -> torch.Tensor:
        """Logits (1,K) of the window, of which the last `seen_1` frames are there."""
        if isinstance(self.model, Answering):
            weights_1W = self.model.sequence.weights(window_1WE, present_1W)
        else:
            weights_1W = present_1W / seen_1[:, None]
        return (weights_1W[..., None] * window_1WE).sum(1)

    def check_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Raise UserError for a state that another network, or another window, has made."""
        shape = (1, self.window, self.width)
        fits = SEEN in state and WINDOW in state and state[SEEN].shape == (1,) and state[WINDOW].shape == shape
        if not fits or not state.keys() - {SEEN, WINDOW} <= self._modules.keys():
            raise UserError(
                f"the stream's state: it is not one of {self.model.name} with a window of {self.window} frames. Begin with "
                "`Steps.start()`, and hand on what `Steps.step` gives"
            )

    def save_state(self, path: str | Path, state: Mapping[str, torch.Tensor]) -> None:
        """Write a state as a safetensors file, atomically, with the network's hash. Raises UserError."""
        self.check_state(state)
        write_state(path, state, name=self.model.name, sha256=self.digest())

    def load_state(self, path: str | Path, like: torch.Tensor | None = None) -> State:
        """Read a state. Raises UserError for a damaged or edited file, for other weights, and for another window.

        `like`: a frame; None: whether the state is of frames of another size is seen at the next step.
        """
        model = self.model
        x = model.zeros(1, model.min_size, device=model.fc.weight.device) if like is None else like
        first = self.start(x.squeeze(1 if model.input_kind == "features" else 2) if like is None else x)
        state = read_state(path, like=first, any_size=like is None, name=model.name, sha256=self.digest())
        self.check_state(state)
        return {name: tensor.to(self.model.fc.weight.device) for name, tensor in state.items()}

    def digest(self) -> str:
        """`digest` of the network."""
        if not self._digest:
            self._digest = digest(self.model)
        return self._digest

    def _check_input(self, x: torch.Tensor) -> None:
        """Raise UserError for a frame that the network does not take, by the check of its clips."""
        shape = list(x.shape)
        shape[1 if self.model.input_kind == "features" else 2] = self.model.fixed_frames or self.model.min_frames
        self.model.check_input(x.expand(shape))


class _OwnHead(Steps):
    """A network of single frames with a head of its own, which gets the vectors of the window's frames."""

    @property
    def width(self) -> int:
        """Number of a frame's features."""
        return self.model.num_features

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """Features of a frame."""
        return self.model.features(x)

    def answer(self, window_1WE: torch.Tensor, present_1W: torch.Tensor, seen_1: torch.Tensor) -> torch.Tensor:
        """Logits of the frames that are there."""
        return self.model.head(window_1WE[:, -int(seen_1) :])


class _HeadOverVectors(Steps):
    """A head that looks at all vectors of the window, anew at each frame. The image network sees a frame once."""

    model: Answering

    def __init__(self, model: VideoModel, window: int) -> None:
        """Raises UserError for a window that the head does not take."""
        super().__init__(model, window)
        model.check_frames(window)

    @property
    def width(self) -> int:
        """Number of values of a vector."""
        return self.model.sequence.num_inputs

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """Vector of a frame."""
        return self.model.vectors(x)[0]

    def answer(self, window_1WE: torch.Tensor, present_1W: torch.Tensor, seen_1: torch.Tensor) -> torch.Tensor:
        """Logits of the vectors that are there."""
        g_1SE, weights_1S = self.model.sequence(window_1WE, present_1W)
        return self.model.fc((weights_1S[..., None] * g_1SE).sum(1))


def digest(model: VideoModel) -> str:
    """SHA-256 of a network: its name, and the names, shapes and values of its tensors."""
    if isinstance(model, Candidates):
        model = model.answering
    made = hashlib.sha256(model.name.encode())
    for name, tensor in sorted(model.state_dict().items()):
        made.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        made.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


def write_state(path: str | Path, state: Mapping[str, torch.Tensor], *, name: str, sha256: str) -> None:
    """Write a stream's state as a safetensors file, atomically, with its network's name and hash. Raises UserError."""
    about = {"format_version": FORMAT_VERSION, "model": name, "sha256": sha256}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        write_atomic(Path(path), safetensors.torch.save(tensors, metadata={_TAG: json.dumps(about)}))
    except OSError as error:
        raise UserError(
            f"{path}: the state cannot be written ({error.strerror}). Name a file in a folder that is there"
        ) from None


def read_state(path: str | Path, *, like: Mapping[str, torch.Tensor], any_size: bool, name: str, sha256: str) -> State:
    """Read a stream's state that `write_state` has written.

    `like`: a state of the network, whose names, types and shapes it must have. `any_size`: what modules keep may be that of
    frames of another size, and have other lengths. Raises UserError for a damaged or edited file, and for a state of another
    network (`name`, `sha256`).
    """
    path = Path(path)
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_TAG, "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: it cannot be read: {error}. Restore it, or begin a new state") from None
    if not isinstance(about, dict) or about.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path}: not a stream's state of this version of muybridge. Begin a new state")
    if about.get("sha256") != sha256:
        raise UserError(
            f"{path}: it is the state of another network ({about.get('model')}), or of other weights of {name}. Load it into "
            "the network that made it, or begin a new state"
        )
    fault = _fault(state, like, any_size=any_size)
    if fault:
        raise UserError(
            f"{path}: it is not a state of {name} with a window of {like[WINDOW].shape[1]} frames: {fault}. Restore it, or begin "
            "a new state"
        )
    return state


def _fault(state: State, like: Mapping[str, torch.Tensor], *, any_size: bool) -> str:
    """Why a state cannot be one of a network; empty where it may be."""
    is_first = not any(tensor.any() for tensor in state.values())
    names = {SEEN, WINDOW} if is_first and len(state) == 2 else like.keys()  # modules have kept nothing yet
    if state.keys() != names:
        return f"'{min(state.keys() ^ names)}' is missing, or nothing that the network keeps"
    for name, tensor in state.items():
        fits = (
            tensor.ndim == like[name].ndim
            if any_size and name not in (SEEN, WINDOW)
            else tensor.shape == like[name].shape
        )
        if not fits or tensor.dtype != like[name].dtype:
            return f"'{name}' is {tensor.dtype} {tuple(tensor.shape)}, but {like[name].dtype} {tuple(like[name].shape)} is kept"
        if not torch.isfinite(tensor).all():
            return f"'{name}' has values that are not finite"
    window = like[WINDOW].shape[1]
    if not (0 if is_first else 1) <= int(state[SEEN]) <= window:
        return f"{int(state[SEEN])} frames were seen, of a window of {window}"
    return ""
