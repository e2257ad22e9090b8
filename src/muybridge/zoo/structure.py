"""The structure of a model, found by sending one clip through it: stages, blocks, branches, and where it looks along time.

`muybridge.zoo.trace` hears the calls of the modules. Here they are read.

A *stage* is what works at one size of the feature map, an *operation* a layer. A *block* is a module whose inside is more
than a chain: branches, or a shortcut. A *look* is a place where frames meet. What a network does along time in functions
of its own, between its modules, is seen where it changes the number of frames, and where it attends. What that costs is
counted apart (`Outside`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import ceil, prod
from typing import Any, Literal

import torch
from torch import nn

from muybridge.zoo.base import VideoModel
from muybridge.zoo.count import layers
from muybridge.zoo.heads.pooling import MaxPool, MeanPool, SideBySide
from muybridge.zoo.heads.recurrent import Recurrent
from muybridge.zoo.networks.video_resnets import MaxOfPairs
from muybridge.zoo.networks.x3d import SqueezeExcitation
from muybridge.zoo.temporal.aggregation import TemporalAggregation
from muybridge.zoo.temporal.frames import EverySecondFrame, TemporalPool, TimeConv
from muybridge.zoo.temporal.inflation import FrameConvs
from muybridge.zoo.temporal.non_local import NonLocal
from muybridge.zoo.temporal.shift import TemporalShift
from muybridge.zoo.trace import POOLS, Call, is_leaf, is_silent, traced
from muybridge.zoo.volumes import Pool

Kind = Literal["shift", "conv", "pool", "stride", "attention", "recurrence", "squeeze", "mean", "joined"]
"""Ways to look along time.

"stride": frames are left out. "squeeze": the mean over the clip weighs channels. "mean": frames, or their answers, are
averaged. "joined": one layer over the values of several frames.
"""


@dataclass(frozen=True)
class Volume:
    """Values that pass between layers: `frames` times feature maps (H,W), tokens (L,) or vectors () of `channels` values."""

    frames: int
    """0: tokens of which nobody says to which frame they belong."""
    size: tuple[int, ...]
    channels: int


@dataclass(frozen=True)
class Look:
    """A place where frames meet."""

    kind: Kind
    name: str
    """The module's; empty: between modules."""
    frames: int
    """Frames that one output sees; 0: all of them."""
    stride: int = 1
    """Frames from one output to the next."""
    dilation: int = 1
    """Frames from tap to tap."""

    past: bool = False
    """Whether it sees no later frame."""


@dataclass(frozen=True)
class Op:
    """A layer, or a small module that is shown as one."""

    label: str
    """A kernel as time × height × width, or height × width; or what the layer does."""
    widths: tuple[int, int]
    """Channels of the output, least and most, where several of them are shown as one. (0, 0): as the input's."""
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True)
class Block:
    """Operations side by side or with a shortcut; or, with one branch and neither, one after another."""

    kind: str
    """Name of its class; empty: no block, but layers of the network itself."""
    names: tuple[str, ...]
    """Modules that are shown as this one."""
    branches: tuple[tuple[Op, ...], ...]
    joined: Literal["", "sum", "channels"] = ""
    """Way in which the branches, and the shortcut, come together."""
    shortcut: Literal["", "plain", "looks"] = ""
    """Whether the input goes past the branches; "looks": past all but the last, which is what looks along time on its way."""
    out: Volume | None = None


@dataclass(frozen=True)
class Stage:
    """Blocks that work at one size of the feature map."""

    name: str
    pathway: str
    """Name of one of several pathways side by side; empty: there is one, or this is behind them."""
    blocks: tuple[Block, ...]
    out: Volume
    behind: int
    """Frames of the clip before its own that one step of the output may see, at most; those outside the clip are zeros."""
    ahead: int
    """Frames after its own, likewise."""
    params: int
    conv_macs: int
    macs: int


@dataclass(frozen=True)
class Lateral:
    """A connection from one pathway to another, in front of a stage of that one."""

    name: str
    source: str
    target: str
    before: str
    """The target's stage that it leads to."""
    ops: tuple[Op, ...]
    params: int
    conv_macs: int
    macs: int


@dataclass(frozen=True)
class Outside:
    """The cost of what a network does in functions of its own, between the modules that are shown."""

    params: int = 0
    conv_macs: int = 0
    macs: int = 0


@dataclass(frozen=True)
class Structure:
    """The structure of a model for one clip.

    Costs summed over stages, lateral connections and `outside`, with `training_params`, are the model's.
    """

    clip: Volume
    stages: tuple[Stage, ...]
    laterals: tuple[Lateral, ...]
    looks: tuple[Look, ...]
    """All of them, pathway by pathway, in the order in which a clip meets them."""
    training_params: int = 0
    """Parameters of what only training uses, such as an auxiliary head."""
    num_classes: int = 0
    outside: Outside = Outside()

    def as_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


def structure(model: VideoModel, *, num_frames: int, size: int) -> Structure:
    """Find the structure of a model, which is left in evaluation mode."""
    root, used = traced(model, num_frames, size)
    rows = layers(model, num_frames=num_frames, size=size)
    return _Reading(model, root, rows, used, num_frames, size).result()


# -- layers -----------------------------------------------------------------------------------------------------------


def _volume(shape: tuple[int, ...], most_frames: int, *, channels_first: bool = False) -> Volume:
    """Content of a tensor of one clip. Folded frames are the batch; more steps than the clip has frames are tokens."""
    if len(shape) == 5:
        return Volume(shape[2], shape[3:], shape[1])
    if len(shape) == 4:
        return Volume(shape[0], shape[2:], shape[1])
    if len(shape) == 3 and channels_first:
        return Volume(shape[2], (), shape[1])
    if len(shape) == 3 and shape[0] > 1:
        return Volume(shape[0], shape[1:2], shape[2])
    if len(shape) == 3:
        return Volume(shape[1], (), shape[2]) if shape[1] <= most_frames else Volume(0, shape[1:2], shape[2])
    return Volume(shape[0] if len(shape) == 2 else 1, (), shape[-1] if shape else 0)


def _sides(sides: Any, dimensions: int = 2) -> tuple[int, ...]:
    return (sides,) * dimensions if isinstance(sides, int) else tuple(sides)


def _times(sides: Iterable[int]) -> str:
    return "×".join(map(str, sides))


# -- the reading ------------------------------------------------------------------------------------------------------


@dataclass
class _Item:
    """A block or a layer of the network itself, with the calls that it stands for."""

    block: Block
    call: Call
    """The last one: others take their input from it."""
    sources: frozenset[Call]
    volume_in: Volume
    out: Volume
    names: list[str]
    """Modules whose cost it has."""
    reach: tuple[float, float] = (0.0, 0.0)
    """Frames behind and ahead that one step of the output may see."""
    params: int = 0
    conv_macs: int = 0
    macs: int = 0

    @property
    def ops(self) -> tuple[Op, ...]:
        return tuple(op for branch in self.block.branches for op in branch)

    @property
    def works(self) -> bool:
        """Whether it is more than pools and means."""
        return any(op.widths[1] for op in self.ops)


class _Reading:
    """The structure that a trace shows."""

    def __init__(
        self, model: VideoModel, root: Call, rows: list[Any], used: set[int], num_frames: int, size: int
    ) -> None:
        self.used = used
        self.model, self.root, self.rows, self.frames = model, root, rows, num_frames
        vectors = model.input_kind == "features"
        self.clip = Volume(num_frames, () if vectors else (size, size), model.in_channels)
        self.total = sum(row.params for row in rows)
        self.params = {row.name: row.params for row in rows}
        calls = [call for call in root.under() if not is_leaf(call)]
        self.block_kinds = {
            type(c.module) for c in calls if c.parent and not self._is_chain(c) and not self._is_network(c)
        }

    def result(self) -> Structure:
        items = list(self._items(self.root, []))
        unused, outside = self._give_costs(items)
        self._give_reach(items)
        lanes, laterals = self._lanes(items)
        stages = [stage for lane, several in lanes for stage in self._stages(lane, several)]
        connections = tuple(self._laterals(laterals, items, stages, lanes))
        looks = [look for _, lane in [*lanes, ("", laterals)] for item in lane for op in item.ops for look in op.looks]
        return Structure(
            self.clip, tuple(stages), connections, tuple(looks), unused, self._out(self.root).channels, outside
        )

    # -- chains and blocks

    def _working(self, call: Call) -> list[Call]:
        return [child for child in call.children if not is_silent(child)]

    def _is_chain(self, call: Call) -> bool:
        """Whether its modules run one after another, each on what the one before gives, and nothing goes past them."""
        before: Call | None = None
        for child in self._working(call):
            inside = {source for source in child.sources if source.parent is call}
            if inside != ({before} if before else set()) or (before and len(child.sources) > 1):
                return False
            before = child
        return before is None or call.out_sources <= {before}

    def _is_network(self, call: Call) -> bool:
        """Whether a module is most of the model, and no block of it."""
        prefix = f"{call.name}." if call.name else ""
        inside = sum(params for name, params in self.params.items() if name.startswith(prefix))
        return inside > 0.6 * self.total and any(
            not is_leaf(c) and not self._is_chain(c) for c in call.under() if c is not call
        )

    def _items(self, call: Call, silent: list[str]) -> Iterator[_Item]:
        """Layers and blocks in the order in which they are called; `silent`: names that the next one takes over."""
        last: _Item | None = None
        for child in call.children:
            names = [each.name for each in child.under()]
            if is_silent(child):
                (silent if last is None else last.names).extend(names)
                continue
            if is_leaf(child):
                found = [self._item(child, Block("", (child.name,), ((self._op(child),),)))]
            elif type(child.module) in self.block_kinds and not self._is_network(child):
                found = [self._item(child, self._block(child))]
            else:
                found = list(self._items(child, silent))
                if found:
                    found[-1].call = child
                elif names:
                    (silent if last is None else last.names).extend(names)
            for item in found:
                item.names[:0], silent[:] = silent, []
                yield item
                last = item

    def _item(self, call: Call, block: Block) -> _Item:
        first = next((c for c in call.under() if c is not call), call) if isinstance(call.module, nn.Conv1d) else call
        out = self._out(call)
        is_conv1d = isinstance(first.module, nn.Conv1d)
        volume_in = _volume(call.shape_in, self.frames, channels_first=is_conv1d)
        return _Item(replace(block, out=out), call, call.sources, volume_in, out, [each.name for each in call.under()])

    def _out(self, call: Call) -> Volume:
        has_conv1d = any(isinstance(c.module, nn.Conv1d) for c in call.under())
        channels_first = has_conv1d and len(call.shape) == 3
        return _volume(call.shape, self.frames, channels_first=channels_first)

    def _block(self, call: Call) -> Block:
        parts = self._parts(call)
        branches = [tuple(op for child in part for op in self._ops(child)) for part in parts]
        outside = {s for child in self._working(call) for s in child.sources if s.parent is not call}
        first = {part[0] for part in parts}
        passes = any(s.parent is not call for s in call.out_sources) or any(
            child.sources & outside for child in self._working(call) if child not in first
        )
        fed = {source for child in self._working(call) for source in child.sources}
        widths = [self._out(child).channels for part in parts for child in part if child not in fed]
        joined: Literal["", "sum", "channels"] = ""
        if len(parts) > 1 and sum(widths) == self._out(call).channels:
            joined = "channels"
        elif passes or len(parts) > 1:
            joined = "sum"
        shortcut: Literal["", "plain", "looks"] = "plain" if joined == "sum" and passes else ""
        if joined == "sum":  # a convolution of the shortcut is part of it
            beside = [i for i, part in enumerate(parts) if self._is_shortcut(part)]
            if len(beside) == 1 and len(parts) == 2:
                looking = tuple(op for op in branches.pop(beside[0]) if op.looks)
                branches += [looking] if looking else []
                shortcut = "looks" if looking else "plain"
        return Block(type(call.module).__name__, (call.name,), tuple(branches), joined, shortcut)

    def _is_shortcut(self, part: list[Call]) -> bool:
        convs = [c.module for child in part for c in child.under() if isinstance(c.module, nn.Conv2d | nn.Conv3d)]
        return len(convs) <= 1 and all(max(conv.kernel_size) == 1 for conv in convs)

    def _parts(self, call: Call) -> list[list[Call]]:
        """The modules inside, in groups that share nothing but the input."""
        parts: list[list[Call]] = []
        for child in self._working(call):
            meets = [part for part in parts if any(source in part for source in child.sources)]
            joined = [each for part in meets for each in part] + [child]
            parts = [part for part in parts if part not in meets] + [joined]
        order = {child: index for index, child in enumerate(call.children)}
        for part in parts:
            part.sort(key=order.__getitem__)
        return sorted(parts, key=lambda part: order[part[0]])

    def _ops(self, call: Call) -> tuple[Op, ...]:
        """Operations of a module inside a block."""
        if is_leaf(call):
            return (self._op(call),)
        if self._is_chain(call):
            return tuple(op for child in self._working(call) for op in self._ops(child))
        branches = [tuple(op for child in part for op in self._ops(child)) for part in self._parts(call)]
        looks = tuple(look for branch in branches for op in branch for look in op.looks)
        width = self._out(call).channels
        if call.attends or any(c.attends for c in call.under()):
            return (Op("attention", (width, width), (Look("attention", call.name, 0),)),)
        if 1 < len(branches) <= 3 and all(len(branch) == 1 for branch in branches):
            return (Op(" | ".join(branch[0].label for branch in branches), (width, width), looks),)
        return (Op(type(call.module).__name__, (width, width), looks),)

    # -- what an operation is

    def _op(self, call: Call) -> Op:
        module, name = call.module, call.name
        before, out = _volume(call.shape_in, self.frames), self._out(call)
        width = (out.channels,) * 2

        def look(kind: Kind, frames: int, stride: int = 1, dilation: int = 1, past: bool = False) -> tuple[Look, ...]:
            return (Look(kind, name, frames, stride, dilation, past),) if self.frames > 1 else ()

        if isinstance(module, TemporalShift):
            reach = (3, "shift ±1") if module.direction == "both" else (2, "shift −1")
            return Op(reach[1], (0, 0), look("shift", reach[0], past=module.direction != "both"))
        if isinstance(module, TemporalAggregation):
            taps = module.conv.kernel_size[0]
            kind = f"TAM {taps}×1×1" if module.conv.groups > 1 else f"conv {taps}×1×1"
            return Op(kind, (0, 0), look("conv", taps, 1, module.conv.dilation[0]))
        if isinstance(module, NonLocal):
            return Op("non-local", (0, 0), look("attention", 0))
        if isinstance(module, SqueezeExcitation):
            return Op("squeeze", (0, 0), look("squeeze", 0))
        if isinstance(module, TemporalPool):
            label = f"{module.kind} 3×1×1" + (f", /{module.stride}" if module.stride > 1 else "")
            return Op(label, (0, 0), look("pool", 3, module.stride))
        if isinstance(module, MaxOfPairs):
            return Op("max 2×1×1, /2", (0, 0), look("pool", 2, 2))
        if isinstance(module, EverySecondFrame):
            return Op("every 2nd frame", (0, 0), look("stride", 1, 2))
        if isinstance(module, Pool):
            looks = look("pool", module.kernel[0], module.stride[0]) if module.kernel[0] > 1 else ()
            sides: tuple[int, ...] = module.kernel if module.kernel[0] > 1 else module.kernel[1:]
            return Op(f"{module.kind} {_times(sides)}", (0, 0), looks)
        if isinstance(module, POOLS):
            is_3d = isinstance(module, nn.MaxPool3d | nn.AvgPool3d)
            sides = _sides(module.kernel_size, 3 if is_3d else 2)
            label = "max" if isinstance(module, nn.MaxPool2d | nn.MaxPool3d) else "mean"
            strides = _sides(module.stride, 3)
            looks = look("pool", sides[0], strides[0]) if is_3d and sides[0] > 1 else ()
            return Op(f"{label} {_times(sides)}", (0, 0), looks)
        if isinstance(module, FrameConvs):
            sides = (module.frames, *_sides(module._conv[0].kernel_size))
            return Op(_times(sides), width, look("conv", module.frames, module.stride, module.dilation))
        if isinstance(module, TimeConv):
            label = f"{module.kernel_size[0]}×1×1" + (" depthwise" if module.groups > 1 else "")
            label += f", {module.dilation[0]} apart" if module.dilation[0] > 1 else ""
            return Op(label, width, look("conv", module.kernel_size[0], module.stride[0], module.dilation[0]))
        if isinstance(module, nn.Conv3d):
            label = _times(module.kernel_size) + (" depthwise" if module.groups == module.in_channels > 1 else "")
            taps, stride = module.kernel_size[0], module.stride[0]
            looks = look("conv", taps, stride, module.dilation[0]) if taps > 1 else ()
            looks = looks or (look("stride", 1, stride) if stride > 1 else ())
            return Op(label, width, looks)
        if isinstance(module, nn.Conv2d):
            label = _times(module.kernel_size) + (" depthwise" if module.groups == module.in_channels > 1 else "")
            return Op(label, width)
        if isinstance(module, nn.Conv1d):
            taps, stride = module.kernel_size[0], module.stride[0]
            past = bool(getattr(call.parent.module if call.parent else None, "causal", False))
            looks = look("conv", taps, stride, module.dilation[0], past) if taps > 1 else ()
            return Op(f"{taps} steps", width, looks)
        if isinstance(module, nn.RNNBase):
            label = module.mode.removesuffix("_TANH").removesuffix("_RELU")
            return Op(label, width, look("recurrence", 0, past=not module.bidirectional) if before.frames > 1 else ())
        if call.attends or any(c.attends for c in call.under()):
            return Op("attention", width, look("attention", 0))
        if isinstance(module, nn.Linear):
            return Op("linear", width)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return Op(f"mean to {_times(_sides(module.output_size))}", (0, 0))
        if isinstance(module, MeanPool | MaxPool):
            kind = "mean" if isinstance(module, MeanPool) else "maximum"
            return Op(f"{kind} of {before.frames} frames", (0, 0), look("mean" if kind == "mean" else "pool", 0))
        if isinstance(module, SideBySide):
            return Op(f"{before.frames} frames side by side", width, look("joined", 0))
        kind = type(module).__name__
        if 0 < out.frames < before.frames:
            return Op(kind, width, look("pool", 0))
        return Op(kind, width if out.channels != before.channels else (0, 0))

    # -- reach and costs

    def _give_reach(self, items: list[_Item]) -> None:
        """Give each item the frames that it sees, from those that it takes its input from."""
        reach: dict[Call, tuple[float, float]] = {}
        for item in items:
            before = _farthest(reach[source] for source in item.sources if source in reach)
            steps = self.frames / item.volume_in.frames if item.volume_in.frames else 1.0
            item.reach = _farthest(self._reach(branch, before, steps) for branch in item.block.branches)
            reach[item.call] = item.reach

    def _reach(self, ops: tuple[Op, ...], before: tuple[float, float], steps: float) -> tuple[float, float]:
        """Frames behind and ahead that are seen after operations. `steps`: frames of the clip from one input to the next."""
        behind, ahead = before
        most = self.frames - 1
        for op in ops:
            for look in op.looks:
                far = (look.frames - 1) * look.dilation * steps if look.frames else 2 * most
                behind += far if look.past else far / 2
                ahead += 0 if look.past else far / 2
                steps *= look.stride
        return min(behind, most), min(ahead, most)

    def _give_costs(self, items: list[_Item]) -> tuple[int, Outside]:
        """Give each item the costs of its modules; returns the parameters that nothing uses, and what works outside of items."""
        owners: dict[str, _Item] = {}
        for item in items:
            for name in item.names:
                owners.setdefault(name, item)
        unused, outside = 0, [0, 0, 0]
        for row in self.rows:
            name, owner = row.name, owners.get(row.name)
            while owner is None and name:
                name = name.rpartition(".")[0]
                owner = owners.get(name)
            if owner is None:
                works = row.macs or self._is_used(self.model.get_submodule(row.name))
                unused += 0 if works else row.params
                costs = (row.params if works else 0, row.conv_macs, row.macs)
                outside = [before + cost for before, cost in zip(outside, costs, strict=True)]
                continue
            owner.params += row.params
            owner.conv_macs += row.conv_macs
            owner.macs += row.macs
        return unused, Outside(*outside)

    def _is_used(self, module: nn.Module) -> bool:
        """Whether a function was given one of a module's own parameters. Nobody knows of a ScriptModule's: they count as used."""
        own = module.parameters(recurse=False)
        return isinstance(module, torch.jit.ScriptModule) or any(id(parameter) in self.used for parameter in own)

    # -- pathways and stages

    def _lanes(self, items: list[_Item]) -> tuple[list[tuple[str, list[_Item]]], list[_Item]]:
        """Pathways by their names, what is behind them under "", and what leads from one to another."""

        def group(item: _Item) -> str:
            return item.call.name.partition(".")[0]

        def takes_clip(item: _Item) -> bool:
            return any(source.parent is None and source is not self.root for source in item.sources)

        starts = [group(item) for item in items if takes_clip(item)]
        lanes = list(dict.fromkeys(starts))
        if len(lanes) < 2:
            return [("", self._with_gaps(items))], []
        owner = {item.call: group(item) for item in items}
        rest = [item for item in items if group(item) not in lanes]
        laterals = [
            item for item in rest
            if len({owner.get(source) for source in item.sources} & set(lanes)) == 1
            and any(item.call in other.sources and group(other) in lanes for other in items)
        ]  # fmt: skip
        behind = [item for item in rest if item not in laterals]
        split = [(lane, self._with_gaps([item for item in items if group(item) == lane])) for lane in lanes]
        if behind:
            for _, several in split:
                several.append(self._gap(several[-1].call, several[-1].out, behind[0].volume_in, len(lanes)))
                several[-1].reach = self._reach(several[-1].ops, several[-2].reach, 1.0)
                behind[0].reach = _farthest([behind[0].reach, several[-1].reach])
        return [*split, ("", self._with_gaps(behind, is_first=False))], laterals

    def _gap(self, call: Call, before: Volume, after: Volume, lanes: int = 1) -> _Item:
        """Operations between two modules where frames or pixels go: none, a mean, or all side by side."""
        ops: list[Op] = []
        values = prod(before.size) * before.channels
        is_flat = after.size == () and lanes == 1 and after.channels > before.channels
        frames_go = 0 < after.frames < before.frames
        if frames_go and is_flat:
            steps = after.channels // max(1, values) if after.channels % max(1, values) == 0 else 0
            some = "" if steps in (0, before.frames) else f"{steps} of "
            label = f"{some}{before.frames} frames side by side"
            ops.append(Op(label, (after.channels,) * 2, (Look("joined", "", 0),)))
        else:
            if prod(before.size) > 1 and after.size == ():
                ops.append(
                    Op(f"{_times(before.size)} pixels side by side", (after.channels,) * 2) if is_flat
                    else Op(f"mean of {_times(before.size)} " + ("pixels" if len(before.size) == 2 else "tokens"), (0, 0))
                )  # fmt: skip
            if frames_go and after.frames == 1:
                ops.append(self._pooled(before.frames))
            elif frames_go:
                stride = -(-before.frames // after.frames)
                ops.append(Op(f"{after.frames} of {before.frames} frames", (0, 0), (Look("stride", "", 1, stride),)))
        out = after if lanes == 1 else Volume(after.frames, (), before.channels)
        return _Item(Block("", (), (tuple(ops),), out=out), call, frozenset(), before, out, [])

    def _pooled(self, frames: int) -> Op:
        """Operation by which a head makes one step of several, behind its last module."""
        head = getattr(self.model, "sequence", None)
        if isinstance(head, Recurrent) and head.last:
            return Op(f"last of {frames} frames", (0, 0), (Look("stride", "", 1, frames),))
        weighted = "weighted " if isinstance(head, Recurrent) and head.late else ""
        return Op(f"{weighted}mean of {frames} frames", (0, 0), (Look("mean", "", 0),))

    def _with_gaps(self, items: list[_Item], *, is_first: bool = True) -> list[_Item]:
        """The items with what is done between them, and between the clip and the first of them."""
        found: list[_Item] = []
        for item in items:
            before = found[-1].out if found else self.clip
            is_known = bool(found) or (is_first and item.volume_in.channels % self.clip.channels == 0)
            if is_known and len(before.size) != 1:
                gap = self._gap(item.call, before, item.volume_in)
                gap.reach = self._reach(gap.ops, found[-1].reach if found else (0.0, 0.0), 1.0)
                found += [gap] if gap.ops else []
            item.reach = _farthest([item.reach, *(gap.reach for gap in found[-1:])])
            found.append(item)
        if found and found[-1].call.module is self.model.fc and found[-1].out.frames > 1:
            answers = Op(f"mean of {found[-1].out.frames} answers", (0, 0), (Look("mean", "", 0),))
            out = Volume(1, (), found[-1].out.channels)
            found.append(_Item(Block("", (), ((answers,),), out=out), found[-1].call, frozenset(), out, out, []))
            found[-1].reach = (self.frames - 1.0, self.frames - 1.0)
        return found

    def _stages(self, lane: str, items: list[_Item]) -> Iterator[Stage]:
        groups: list[list[_Item]] = []
        for _, several in groupby(items, key=lambda item: (item.out.size, item.out.frames)):
            group = list(several)
            if groups and not any(item.works for item in groups[-1]):
                groups[-1] += group  # pools alone belong to what follows
            else:
                groups.append(group)
        for group in groups:
            blocks = tuple(_collapsed(_merged(group)))
            sums = {key: sum(getattr(item, key) for item in group) for key in ("params", "conv_macs", "macs")}
            others = {name for item in items if item not in group and item.works for name in item.block.names}
            behind, ahead = (ceil(far) for far in group[-1].reach)
            yield Stage(self._title(lane, group, others), lane, blocks, group[-1].out, behind, ahead, **sums)

    def _title(self, lane: str, group: list[_Item], others: set[str]) -> str:
        """Names of a stage's first and last module, or of the module that holds them and no others."""
        worked = [name for item in group if item.works for name in item.block.names]
        if not worked:
            return "answer" if group[-1].call.module is self.model.fc else "mean"
        shared = _shared(worked[0], worked[-1])
        if shared and not any(name.startswith(f"{shared}.") for name in others):
            found = [shared]
        else:
            found = [_shortest(name, others | set(worked) - {name}) for name in (worked[0], worked[-1])]
        for prefix in (lane, self.model.image_network):
            found = [name.removeprefix(f"{prefix}.") for name in found]
        return found[0] if found[0] == found[-1] else f"{found[0]} – {found[-1]}"

    def _laterals(
        self,
        laterals: list[_Item],
        items: list[_Item],
        stages: list[Stage],
        lanes: list[tuple[str, list[_Item]]],
    ) -> Iterator[Lateral]:
        owner = {item.call: lane for lane, several in lanes for item in several}
        ops: tuple[Op, ...] = ()
        sums = {"params": 0, "conv_macs": 0, "macs": 0}
        source = ""
        for item in laterals:
            ops += item.ops
            sums = {key: value + getattr(item, key) for key, value in sums.items()}
            source = next((owner[s] for s in item.sources if s in owner), source)
            fed = next((i for i in items if item.call in i.sources and i.call in owner), None)
            if fed is not None:
                target = owner[fed.call]
                names = set(fed.block.names)
                before = next(
                    s.name for s in stages if s.pathway == target and any(names & set(b.names) for b in s.blocks)
                )
                yield Lateral(item.call.name, source, target, before, ops, **sums)
                ops, sums = (), dict.fromkeys(sums, 0)


def _farthest(reaches: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The farthest behind and ahead of several; (0, 0) of none."""
    several = [(0.0, 0.0), *reaches]
    return max(behind for behind, _ in several), max(ahead for _, ahead in several)


def _shared(one: str, another: str) -> str:
    """Name of the innermost module that holds both, or of a single one its holder."""
    if one == another:
        return one.rpartition(".")[0] or one
    parts: list[str] = []
    for a, b in zip(one.split("."), another.split("."), strict=False):
        if a != b:
            break
        parts.append(a)
    return ".".join(parts)


def _shortest(name: str, others: set[str]) -> str:
    """Name of the outermost module that holds it and none of the others, below the network itself."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        holder = ".".join(parts[:length])
        if not any(other == holder or other.startswith(f"{holder}.") for other in others):
            return holder
    return name


def _merged(group: list[_Item]) -> Iterator[Block]:
    """Blocks of a stage; layers of the network itself that follow one another are one."""
    for is_block, several in groupby(group, key=lambda item: bool(item.block.kind)):
        blocks = [item.block for item in several]
        if is_block:
            yield from blocks
        else:
            names = tuple(name for block in blocks for name in block.names)
            yield Block("", names, (tuple(op for b in blocks for op in b.branches[0]),), out=blocks[-1].out)


def _collapsed(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks of which those that do the same, one after another, are one."""
    for _, several in groupby(blocks, key=_sameness):
        same = list(several)
        branches = tuple(
            tuple(_wider(ops) for ops in zip(*branch, strict=True))
            for branch in zip(*(block.branches for block in same), strict=True)
        )
        yield replace(same[-1], names=tuple(name for block in same for name in block.names), branches=branches)


def _sameness(block: Block) -> Any:
    def shown(op: Op) -> Any:
        return op.label, [(look.kind, look.frames, look.stride) for look in op.looks]

    return block.kind, block.joined, block.shortcut, [[shown(op) for op in branch] for branch in block.branches]


def _wider(ops: tuple[Op, ...]) -> Op:
    widths = min(op.widths[0] for op in ops), max(op.widths[1] for op in ops)
    return replace(ops[0], widths=widths, looks=tuple(look for op in ops for look in op.looks))
