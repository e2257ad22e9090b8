"""The cost of a model: parameters and multiply-adds, counted on the meta device (next to no memory or time).

`conv_macs` counts convolutions only, as the 2021 study's "FLOPs" do; `macs` counts linear layers, recurrent ones and
matrix products too. Both are for one clip, by torch's own FLOP counter (two FLOPs a multiply-add), with the model in
evaluation mode, without heads that only training has. Parameters count with those heads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from muybridge.errors import UserError
from muybridge.zoo import VideoModel, entries
from muybridge.zoo.registry import assemble, builds_on_meta
from muybridge.zoo.shapes import Shapes

SILENT = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Softmax, nn.Dropout, nn.Identity)
"""Modules that a table of layers leaves out: no parameters, no multiply-adds, and the shape stays."""


@dataclass(frozen=True)
class Cost:
    """The cost of a model for one clip of `num_frames` x `size` x `size`, or one video of vectors (`size` 0)."""

    model: str
    num_classes: int
    num_frames: int
    size: int
    temporal_pooling: bool
    params: int
    conv_macs: int
    macs: int

    def as_json(self) -> dict[str, Any]:
        """All fields, by name."""
        return asdict(self)


@dataclass
class Layer:
    """The cost of one module, for one clip. Sums over all layers are the model's."""

    name: str
    kind: str
    shape: tuple[int, ...]
    """Shape of its first output. Networks that fold frames into the batch have (T,C,H,W)."""
    params: int = 0
    """Parameters of its own, without those of modules inside it."""
    conv_macs: int = 0
    macs: int = 0

    def as_json(self) -> dict[str, Any]:
        """All fields, by name."""
        return asdict(self)


def count(
    name: str,
    *,
    num_classes: int,
    num_frames: int,
    size: int,
    temporal_pooling: bool = False,
    in_channels: int | None = None,
    **options: Any,
) -> Cost:
    """Parameters and multiply-adds of a model by name.

    Raises UserError for an unknown name or a clip that does not fit.
    """
    model = outline(
        name, num_classes=num_classes, num_frames=num_frames, temporal_pooling=temporal_pooling,
        in_channels=in_channels, **options,
    )  # fmt: skip
    params, conv_macs, macs = count_module(model, num_frames=num_frames, size=size)
    return Cost(name, num_classes, num_frames, size, temporal_pooling, params, conv_macs, macs)


def outline(name: str, *, num_classes: int, num_frames: int, **arguments: Any) -> VideoModel:
    """Build a model by name, in evaluation mode, with shapes but no values; `arguments` as `create` takes them.

    A user's own model, which may compute values as it is built, has values.
    """
    model = _assembled(name, num_classes=num_classes, num_frames=num_frames, **arguments)
    model.check_frames(num_frames)
    return model


def _assembled(name: str, **arguments: Any) -> VideoModel:
    with (
        torch.device("meta") if builds_on_meta(name) else nullcontext(),
        Shapes() if builds_on_meta(name) else nullcontext(),
    ):
        return assemble(name, **arguments).eval()


SAVED_SHARE = 0.5
"""The share of a training's memory that autograd keeps; measured on a CPU: 0.50 (tsm_resnet_tiny), 0.57 (tsm_resnet18)."""
FIXED_COPIES = 3
"""Copies of the weights that a training holds: themselves, gradients, and SGD's momentum."""


def training_bytes(name: str, *, num_classes: int, num_frames: int, size: int) -> tuple[int, int]:
    """(fixed, of each clip): an estimate of the memory of a training in fp32, in bytes.

    What autograd keeps of a batch is counted on the meta device; workspace and gradients of activations are about as much.
    Raises UserError for an unknown name or a clip that does not fit.
    """
    model = outline(name, num_classes=num_classes, num_frames=num_frames).train()
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # (held, so that no address is given out twice)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    clips = 2  # batch norms of one value are refused
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(model.zeros(num_frames, size, batch_size=clips, device="meta"))
    saved = sum(storage.nbytes() for storage in kept.values()) / clips
    return FIXED_COPIES * 4 * count_parameters(model), round(saved / SAVED_SHARE)


def natural_input(
    name: str, *, temporal_pooling: bool = False, in_channels: int | None = None, **options: Any
) -> tuple[int, int]:
    """(num_frames, size): 8 frames of 112 x 112, or the next that the model takes, in steps of 8 frames and 32 pixels.

    Vectors have the size 0.
    """
    least = {entry.name: (entry.min_frames, entry.min_size) for entry in entries()}
    frames, size = least.get(name, (1, 1))
    model = _assembled(
        name, num_classes=2, num_frames=max(8, frames), temporal_pooling=temporal_pooling, in_channels=in_channels,
        **options,
    )  # fmt: skip
    num_frames = model.usual_frames or model.fixed_frames or 8 * -(-max(8, frames, model.min_frames) // 8)
    if model.input_kind == "features":
        return num_frames, 0
    return num_frames, model.fixed_size or max(112, 32 * -(-max(size, model.min_size) // 32))


def listing(*, num_classes: int, num_frames: int | None = None, in_channels: int | None = None) -> list[dict[str, Any]]:
    """Every registered model, with the smallest usual input that it takes, its parameters and its public weights."""
    rows = []
    for entry in entries():
        frames, side = max(8, entry.min_frames), max(112, entry.min_size)
        model = outline(entry.name, num_classes=num_classes, num_frames=num_frames or frames, in_channels=in_channels)
        rows.append({
            "name": entry.name, "family": entry.family, "paper": entry.paper, "options": entry.options(),
            "num_frames": model.fixed_frames or frames,
            "size": 0 if model.input_kind == "features" else model.fixed_size or side, "in_channels": model.in_channels,
            "params": count_parameters(model), "weights": sorted(model.published),
        })  # fmt: skip
    return rows


def listing_by_class() -> list[dict[str, Any]]:
    """Make `listing` for any number of classes: `params` without classes, and `params_per_class`; and `conv_macs`.

    (zoo/table.json keeps it, for an answer without torch.)
    """
    one, two = listing(num_classes=1), listing(num_classes=2)
    return [
        {**row, "params": 2 * row["params"] - other["params"], "params_per_class": other["params"] - row["params"],
         "conv_macs": listed_conv_macs(row)}
        for row, other in zip(one, two, strict=True)
    ]  # fmt: skip


def listed_conv_macs(row: dict[str, Any]) -> int:
    """Multiply-adds of the convolutions for one clip of the input that a row of `listing` names."""
    model = outline(row["name"], num_classes=1, num_frames=row["num_frames"])
    return count_module(model, num_frames=row["num_frames"], size=row["size"])[1]


def count_parameters(model: nn.Module) -> int:
    """Number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_module(model: VideoModel, *, num_frames: int, size: int) -> tuple[int, int, int]:
    """(params, conv_macs, macs) of a model, which is left in evaluation mode."""
    with _counting() as macs:
        _pass(model, num_frames, size)
        conv_macs, all_macs = macs()
    return count_parameters(model), conv_macs, all_macs


def layers(model: VideoModel, *, num_frames: int, size: int) -> list[Layer]:
    """All modules that compute something themselves, in the order in which they are first called."""
    table: dict[nn.Module, Layer] = {}
    calls: list[_Call] = []
    names = {module: name for name, module in model.named_modules()}

    with _counting() as macs:

        def enter(module: nn.Module, args: Any) -> None:
            table.setdefault(module, Layer(names[module], type(module).__name__, ()))
            calls.append(_Call(macs()))

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            call, now = calls.pop(), macs()
            conv_macs, all_macs = now[0] - call.before[0], now[1] - call.before[1]
            layer = table[module]
            layer.shape = layer.shape or _shape(out)
            layer.conv_macs += conv_macs - call.inside[0]
            layer.macs += all_macs - call.inside[1]
            if calls:
                outer = calls[-1].inside
                calls[-1].inside = (outer[0] + conv_macs, outer[1] + all_macs)

        # (what other hooks of a module call is not its own work)
        heard = [
            each for each in model.modules() if not isinstance(each, torch.jit.ScriptModule)
        ]  # (which takes no hooks)
        handles = [module.register_forward_pre_hook(enter) for module in heard]
        handles += [module.register_forward_hook(leave, prepend=True, always_call=True) for module in heard]
        try:
            _pass(model, num_frames, size)
        finally:
            for handle in handles:
                handle.remove()

    working = {module for module in table if not (any(module.children()) or isinstance(module, SILENT))}
    counted: set[nn.Parameter] = set()
    for module, name in names.items():  # also heads that only training has
        parameters = [p for p in module.parameters(recurse=False) if p not in counted]
        counted.update(parameters)
        if parameters:
            table.setdefault(module, Layer(name, type(module).__name__, ())).params = sum(p.numel() for p in parameters)
    return [layer for module, layer in table.items() if layer.params or layer.macs or module in working]


@dataclass
class _Call:
    """A call: (conv_macs, macs) counted before it, and by the calls inside it."""

    before: tuple[int, int]
    inside: tuple[int, int] = (0, 0)


def _pass(model: VideoModel, num_frames: int, size: int) -> None:
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), Shapes() if device.type == "meta" else nullcontext():
            model.eval()(model.zeros(num_frames, size, device=device))
    except RuntimeError as error:
        if "overflow" in str(error):
            raise UserError(
                f"clip: {num_frames} frames of {size}x{size} pixels are more than a tensor holds. Choose a smaller clip"
            ) from None
        raise


@contextmanager
def _counting() -> Iterator[Callable[[], tuple[int, int]]]:
    """Yield a function that returns (conv_macs, macs) up to now."""
    on_cpu = {
        torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    }
    counter = FlopCounterMode(display=False, custom_mapping=on_cpu)

    def now() -> tuple[int, int]:
        flops = counter.flop_counts["Global"]
        conv = sum(n for operation, n in flops.items() if "convolution" in str(operation))
        return conv // 2, sum(flops.values()) // 2

    with counter:
        yield now


def _recurrent_flops(x: Any, inner: Any, recurrent: Any, *rest: Any, **named: Any) -> int:
    """FLOPs of an LSTM layer, one operation on a CPU; the arguments are shapes: (T,B,C), (4H,C), (4H,H)."""
    return 2 * x[0] * x[1] * (inner[0] * inner[1] + recurrent[0] * recurrent[1])


def _attention_flops(q: Any, k: Any, v: Any, *rest: Any, **named: Any) -> int:
    """FLOPs of an attention, one operation on a CPU; the arguments are shapes: (B,H,L,E), (B,H,T,E), (B,H,T,V)."""
    return 2 * q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])


def _shape(out: Any) -> tuple[int, ...]:
    while isinstance(out, tuple | list):
        out = out[0]
    return tuple(out.shape) if isinstance(out, torch.Tensor) else ()
