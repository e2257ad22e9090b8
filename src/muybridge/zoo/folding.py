"""Convolutions of networks that only answer: batch norms folded into them, or their weights rounded once for all calls.

In evaluation a batch norm's statistics are constants, so that it and the convolution before it are one convolution (Jacob
et al. 2018, section 3.2). Which convolution a norm follows is found out by one clip that goes through on the meta device,
operation by operation, not guessed from names. Where the trace does not prove that a pair is one, both stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from muybridge.zoo.anatomy import left_as_it_was
from muybridge.zoo.base import VideoModel

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Modules that are a batch norm and nothing else; subclasses may do more."""
MOVES = frozenset({
    "aten::view", "aten::_unsafe_view", "aten::reshape", "aten::permute", "aten::transpose", "aten::unsqueeze",
    "aten::squeeze", "aten::clone", "aten::alias", "aten::detach",
})  # fmt: skip
"""Operations that change where values lie and no value."""
BATCH_NORMS = frozenset({
    "aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training", "aten::cudnn_batch_norm",
})  # fmt: skip


@dataclass(eq=False)
class _Step:
    """An operation of the trace."""

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    norm: nn.Module | None
    """The batch norm whose call it is part of."""


@dataclass
class _Trace(TorchDispatchMode):
    """The operations that a clip meets, and which of them take each tensor."""

    steps: list[_Step] = field(default_factory=list)
    takers: dict[int, list[_Step]] = field(default_factory=dict)
    """Operations that take a tensor, by its `id`; the steps keep all tensors alive."""
    norm: nn.Module | None = None
    names: dict[int, str] = field(default_factory=dict)
    """Names of parameters and buffers, by `id` of the tensors that stood for them."""

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        step = _Step(func._schema.name, func, args, kwargs, func(*args, **kwargs), self.norm)
        self.steps.append(step)
        for tensor in _tensors((args, kwargs)):
            self.takers.setdefault(id(tensor), []).append(step)
        return step.out

    def only_taker(self, tensor: torch.Tensor) -> _Step | None:
        """The one operation that takes a tensor; None where several do, or none."""
        takers = self.takers.get(id(tensor), [])
        return takers[0] if len(takers) == 1 else None


@dataclass(frozen=True)
class _Pair:
    """A convolution and the norm that alone takes its output."""

    conv: str
    norm: str


@torch.inference_mode(mode=False)
def fold_norms(model: VideoModel, num_frames: int, size: int) -> int:
    """Fold batch norms into the convolutions before them, in place. Returns how many were.

    `num_frames`, `size`: of the clips that it will answer. The model is in evaluation mode and will not be trained; a
    folded norm becomes an `nn.Identity`, so that weights of the plain network do not load any more. The answer is the same
    but for rounding. A norm stays that is used twice, has no running statistics or follows something else; and so does
    every norm of a network that cannot be traced without values.
    """
    try:
        pairs = list(_pairs(model, _traced(model, num_frames, size)))
    except Exception:  # whatever a network's own code raises without values
        return 0
    norms = {pair: model.get_submodule(pair.norm) for pair in pairs}
    convs: dict[_Pair, Any] = {pair: model.get_submodule(pair.conv) for pair in pairs}
    bare = [pair for pair, conv in convs.items() if conv.bias is None]
    for pair, conv in convs.items():
        _put(model, pair.norm, _emptied(norms[pair]))
        if pair in bare:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), requires_grad=False)
    try:  # (a convolution's own code may know no bias, and the network may ask a norm for more than its output)
        biased = set(_biased(_traced(model, num_frames, size))) if pairs else set()
    except Exception:
        biased = set()
    for pair, conv in convs.items():
        if pair.conv in biased:
            _fold(conv, norms[pair])
            continue
        _put(model, pair.norm, norms[pair])
        if pair in bare:
            conv.bias = None
    return sum(pair.conv in biased for pair in pairs)


@torch.inference_mode(mode=False)
def round_weights(model: VideoModel, num_frames: int, size: int, dtype: torch.dtype) -> int:
    """Keep the parameters of convolutions in `dtype`, in place. Returns the number of convolutions.

    Mixed precision rounds them in every call; answers under `torch.autocast(dtype=dtype)` are the same to the bit. Those
    stay that something else takes, too. `num_frames`, `size`: as in `fold_norms`.
    """
    try:
        trace = _traced(model, num_frames, size)
    except Exception:  # whatever a network's own code raises without values
        return 0
    names = [name for step in trace.steps if (name := _convolution(model, trace, step)) is not None]
    for name in names:
        conv: Any = model.get_submodule(name)
        for kind, parameter in conv.named_parameters(recurse=False):
            setattr(conv, kind, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    return len(names)


def _traced(model: VideoModel, num_frames: int, size: int) -> _Trace:
    """Send two clips without values through a model, which keeps nothing of it."""
    trace = _Trace()
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    meta = {name: tensor.detach().to("meta") for name, tensor in state.items()}
    trace.names = {id(tensor): name for name, tensor in meta.items()}

    def enter(module: nn.Module, args: Any) -> None:
        trace.norm = module

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        trace.norm = None

    handles = []
    for module in model.modules():
        if type(module) in NORMS:  # (what hooks of its own do before and after is not its work)
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, prepend=True)]
    try:
        with torch.no_grad(), left_as_it_was(model), trace:
            clips = model.zeros(num_frames, size, batch_size=2, device="meta")
            # untied: with ties, a module of two names would be left without its weights
            torch.func.functional_call(model, meta, (clips,), tie_weights=False)
    finally:
        for handle in handles:
            handle.remove()
    trace.steps.append(_Step("", None, tuple(meta.values()), {}, None, None))  # which keeps them alive
    return trace


def _pairs(model: VideoModel, trace: _Trace) -> Iterator[_Pair]:
    for step in trace.steps:
        conv = _convolution(model, trace, step)
        norm = None if conv is None else _norm_after(model, trace, step.out)
        if conv is not None and norm is not None:
            yield _Pair(conv, norm)


def _convolution(model: VideoModel, trace: _Trace, step: _Step) -> str | None:
    """Name of the convolution whose parameters, which nothing else takes, an operation computes with."""
    if step.name != "aten::convolution" or step.args[6]:  # transposed
        return None
    weight, bias = step.args[1:3]
    name, _, kind = trace.names.get(id(weight), "").rpartition(".")
    is_alone = trace.only_taker(weight) is step and (bias is None or trace.only_taker(bias) is step)
    if kind != "weight" or not is_alone or not isinstance(model.get_submodule(name), CONVOLUTIONS):
        return None
    is_own = bias is None or trace.names.get(id(bias)) == f"{name}.bias"
    return name if is_own and hasattr(model.get_submodule(name), "bias") else None


def _norm_after(model: VideoModel, trace: _Trace, out: torch.Tensor) -> str | None:
    """Name of the batch norm that alone takes the output of a convolution; views that keep the channels may lie between.

    Each value of a stand-in is the number of its channel: it is moved as the output is, and shows where channels lie.
    """
    channels_C = torch.arange(out.shape[1], dtype=torch.float32)
    stand_in = torch.empty_strided(out.shape, out.stride())
    stand_in.copy_(channels_C.view(-1, *[1] * (out.dim() - 2)))
    while (step := trace.only_taker(out)) is not None and step.name in MOVES and step.args[0] is out:
        stand_in = step.func(stand_in, *step.args[1:], **step.kwargs)
        out = step.out
    if step is None or step.norm is None or step.name not in BATCH_NORMS or step.args[0] is not out:
        return None
    tensors = [tensor for tensor in _tensors(step.args[1:]) if id(tensor) in trace.names]
    owners = {trace.names[id(tensor)].rpartition(".")[0] for tensor in tensors}
    if len(owners) != 1 or any(trace.only_taker(tensor) is not step for tensor in tensors):
        return None
    [name] = owners
    norm: Any = model.get_submodule(name)
    own = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    if norm is not step.norm or norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    is_once = [module for _, module in model.named_modules(remove_duplicate=False)].count(norm) == 1
    is_whole = is_once and len(tensors) == sum(each is not None for each in own)
    is_alike = stand_in.shape[1] == len(channels_C) and bool((stand_in.movedim(1, -1) == channels_C).all())
    return name if is_whole and is_alike else None


def _emptied(norm: nn.Module) -> nn.Identity:
    """The hooks of a folded norm and the modules in it, which networks of frames have behind some norms."""
    identity = nn.Identity()
    vars(identity).update(vars(norm) | {"_parameters": {}, "_buffers": {}})
    return identity


def _biased(trace: _Trace) -> Iterator[str]:
    """Names of the convolutions that compute with their own weight and bias."""
    for step in trace.steps:
        if step.name == "aten::convolution":
            names = [trace.names.get(id(tensor), "") for tensor in step.args[1:3]]
            owner = names[0].rpartition(".")[0]
            if names == [f"{owner}.weight", f"{owner}.bias"]:
                yield owner


@torch.no_grad()
def _fold(conv: Any, norm: Any) -> None:
    """Change a convolution's weight and bias to what a norm makes of its output, computed in float64."""
    scale_C = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_C = scale_C * norm.weight.double()
    bias_C = (conv.bias.double() - norm.running_mean.double()) * scale_C
    if norm.bias is not None:
        bias_C = bias_C + norm.bias.double()
    weight = conv.weight.double() * scale_C.view(-1, *[1] * (conv.weight.dim() - 1))
    # (others may hold the old tensors; the new ones have their layout)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias_C.to(conv.bias.dtype), requires_grad=False)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
