"""Convolutions of networks that only answer: batch norms folded into them, or their weights rounded once for all calls.

In evaluation a batch norm's statistics are constants, so that it and the convolution before it are one convolution (Jacob
et al. 2018, section 3.2). Which convolution a norm follows is found out by clips that go through a copy on the meta device,
operation by operation, not guessed from names: one alone, and two together. A second trace proves that the folded network
does the same without the norms. Where the traces prove nothing, all stays.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from muybridge.zoo.base import VideoModel

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Modules that are a batch norm and nothing else; subclasses may do more."""
TRACED = (1, 2)
"""Numbers of clips that are traced: a network may treat one alone otherwise."""
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
    """The operations that clips meet, and which of them take each tensor."""

    net: Any
    """The copy that they go through."""
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
    every norm of a network that cannot be copied or traced without values.
    """
    try:
        traces = _traces(model, num_frames, size)
        found = [list(_pairs(trace)) for trace in traces]
    except Exception:  # whatever a network's own code raises without values
        return 0
    pairs = [pair for pair in found[0] if all(pair in others for others in found)]
    while pairs:
        norms = {pair: model.get_submodule(pair.norm) for pair in pairs}
        convs: dict[_Pair, Any] = {pair: model.get_submodule(pair.conv) for pair in pairs}
        bare = [pair for pair in pairs if convs[pair].bias is None]
        for pair in pairs:
            _put(model, pair.norm, _emptied(norms[pair]))
            if pair in bare:
                convs[pair].bias = nn.Parameter(
                    convs[pair].weight.new_zeros(convs[pair].out_channels), requires_grad=False
                )
        proven = _proven(model, traces, pairs, num_frames, size)
        if proven == pairs:
            for pair in pairs:
                _fold(convs[pair], norms[pair])
            break
        for pair in pairs:
            _put(model, pair.norm, norms[pair])
            if pair in bare:
                convs[pair].bias = None
        pairs = proven
    return len(pairs)


@torch.inference_mode(mode=False)
def round_weights(model: VideoModel, num_frames: int, size: int, dtype: torch.dtype) -> int:
    """Keep the parameters of convolutions in `dtype`, in place. Returns the number of convolutions.

    Mixed precision rounds them in every call; answers under `torch.autocast(dtype=dtype)` are the same to the bit. Those
    stay that something else takes, too, or that a clip does not find rounded, as where a network switches mixed precision
    off. `num_frames`, `size`: as in `fold_norms`.
    """
    try:
        traces = _traces(model, num_frames, size)
    except Exception:  # whatever a network's own code raises without values
        return 0
    found = [{name for step in trace.steps if (name := _convolution(trace, step)) is not None} for trace in traces]
    names = set.intersection(*found)
    rounded = _rounded(model, num_frames, size, dtype) if names else set()
    convs: list[Any] = [model.get_submodule(name) for name in names]
    convs = [conv for conv in convs if all(id(parameter) in rounded for parameter in conv.parameters(recurse=False))]
    for conv in convs:
        for kind, parameter in conv.named_parameters(recurse=False):
            setattr(conv, kind, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    return len(convs)


def _rounded(model: VideoModel, num_frames: int, size: int, dtype: torch.dtype) -> set[int]:
    """The `id` of each tensor that is rounded to `dtype`, and not taken otherwise, when a clip meets mixed precision."""
    device = next(model.parameters()).device
    taken = _Taken(dtype)
    with torch.no_grad(), torch.autocast(device.type, dtype), taken:
        _ = model(model.zeros(num_frames, size, device=device))
    return taken.rounded - taken.otherwise


class _Taken(TorchDispatchMode):
    """Tensors, by `id`, that were rounded to a type, and those that something else took. Keeps none of them."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self.rounded: set[int] = set()
        self.otherwise: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_rounding = func._schema.name == "aten::_to_copy" and kwargs.get("dtype") == self._dtype
        (self.rounded if is_rounding else self.otherwise).update(id(tensor) for tensor in _tensors((args, kwargs)))
        return func(*args, **kwargs)


def _traces(model: VideoModel, num_frames: int, size: int) -> list[_Trace]:
    return [_traced(model, num_frames, size, batch_size) for batch_size in TRACED]


def _traced(model: VideoModel, num_frames: int, size: int, batch_size: int) -> _Trace:
    """Send clips without values through a copy without values, so that the model keeps nothing of them."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    meta = {name: _without_values(tensor) for name, tensor in state.items()}
    memo = {id(each): each.detach().to("meta") for each in _attributes(model)}  # (a weight that is made from others)
    net: Any = copy.deepcopy(model, memo | {id(tensor): meta[name] for name, tensor in state.items()})
    trace = _Trace(net, names={id(tensor): name for name, tensor in meta.items()})

    def enter(module: nn.Module, args: Any) -> None:
        trace.norm = module

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        trace.norm = None

    for module in net.modules():
        if type(module) in NORMS:  # (what hooks of its own do before and after is not its work)
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave, prepend=True)
    with torch.no_grad(), trace:
        _ = net(net.zeros(num_frames, size, batch_size=batch_size, device="meta"))
    return trace


def _attributes(model: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors that modules keep as plain attributes."""
    return (each for module in model.modules() for each in vars(module).values() if isinstance(each, torch.Tensor))


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _proven(
    model: VideoModel, traces: Sequence[_Trace], pairs: Sequence[_Pair], num_frames: int, size: int
) -> list[_Pair]:
    """Those of `pairs` that may be folded, by how a model does without their norms; all of them: it is proven.

    A convolution's own code may know no bias, and the network may ask a norm for more than its output.
    """
    try:
        without = _traces(model, num_frames, size)
    except Exception:
        return []
    biased = set.intersection(*(set(_biased(trace)) for trace in without))
    if any(pair.conv not in biased for pair in pairs):
        return [pair for pair in pairs if pair.conv in biased]
    is_same = all(_work(a, pairs) == _work(b, pairs) for a, b in zip(traces, without, strict=True))
    return list(pairs) if is_same else []


def _work(trace: _Trace, pairs: Sequence[_Pair]) -> list[str]:
    """A line an operation: its name, the tensors by who made them, and all else that it takes.

    Norms of the pairs are left out, and what they return is what they take. So is whether the convolutions have a bias.
    """
    norms = {trace.net.get_submodule(pair.norm) for pair in pairs}
    biases = {f"{pair.conv}.weight": f"{pair.conv}.bias" for pair in pairs}
    called: dict[int, str] = dict(trace.names)
    lines: list[str] = []
    constants = itertools.count()

    def word(value: Any) -> str:
        if not isinstance(value, torch.Tensor):
            return repr(value)
        if id(value) not in called:  # a constant of the code
            called[id(value)] = f"constant {next(constants)}"
        return called[id(value)]

    for step in trace.steps:
        if step.norm in norms:
            if step.name in BATCH_NORMS:
                called[id(step.out[0])] = word(step.args[0])
            continue
        taken = [word(leaf) for leaf in tree_leaves((step.args, step.kwargs))]
        if step.name == "aten::convolution" and taken[1] in biases:
            taken[2] = biases[taken[1]]
        lines.append(f"{step.name}({', '.join(taken)})")
        for number, tensor in enumerate(_tensors(step.out)):
            called.setdefault(id(tensor), f"{len(lines)}.{number}")
    return lines


def _pairs(trace: _Trace) -> Iterator[_Pair]:
    for step in trace.steps:
        conv = _convolution(trace, step)
        norm = None if conv is None else _norm_after(trace, step.out)
        if conv is not None and norm is not None:
            yield _Pair(conv, norm)


def _convolution(trace: _Trace, step: _Step) -> str | None:
    """Name of the convolution whose parameters, which nothing else takes, an operation computes with."""
    if step.name != "aten::convolution" or step.args[6]:  # transposed
        return None
    weight, bias = step.args[1:3]
    name, _, kind = trace.names.get(id(weight), "").rpartition(".")
    is_alone = trace.only_taker(weight) is step and (bias is None or trace.only_taker(bias) is step)
    if kind != "weight" or not is_alone or not isinstance(trace.net.get_submodule(name), CONVOLUTIONS):
        return None
    is_own = bias is None or trace.names.get(id(bias)) == f"{name}.bias"
    return name if is_own and hasattr(trace.net.get_submodule(name), "bias") else None


def _norm_after(trace: _Trace, out: torch.Tensor) -> str | None:
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
    norm: Any = trace.net.get_submodule(name)
    own = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    if norm is not step.norm or norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    is_once = [module for _, module in trace.net.named_modules(remove_duplicate=False)].count(norm) == 1
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
