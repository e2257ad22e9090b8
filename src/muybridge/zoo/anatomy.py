"""The anatomy of an image network, for temporal methods: its layers, and how large the feature map is at each.

`survey` finds it by one trial pass, so that a method works on any image network; a network that knows better sites for
temporal modules says so in an attribute `sites`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import log2
from typing import Any, NamedTuple

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.shapes import Shapes

TRIAL_SIZE = 224
"""Pixels of the trial image's sides."""


@dataclass(frozen=True)
class Site:
    """A site in an image network: in front of a module, or after it."""

    name: str
    after: bool = False


@dataclass(frozen=True)
class Sites:
    """Sites of temporal modules."""

    shift: tuple[Site, ...]
    """Sites of TSM."""
    aggregation: tuple[Site, ...]
    """Sites of TAM and "Conv."."""
    non_local: tuple[Site, ...]
    """Sites of NLN."""


@dataclass(frozen=True)
class Seen:
    """A module as the trial pass called it. A level counts how often the image's side was halved before."""

    name: str
    module: nn.Module
    channels_in: int
    channels_out: int
    level_in: int
    level_out: int
    side_out: int
    norm: str | None = None
    """Convolutions: the plain batch norm that alone takes its output."""
    chain: tuple[str, ...] = ()
    """The modules inside, where they run one after another and nothing else is done, as in a Sequential."""

    @property
    def halves(self) -> bool:
        """Whether the module halves the side of the feature map."""
        return self.level_out > self.level_in and self.side_out > 1

    @property
    def is_layer(self) -> bool:
        """Whether it is a convolution, or a module without others inside.

        (A convolution may have its weight's parametrization there.)
        """
        return isinstance(self.module, nn.Conv2d) or not any(self.module.children())

    @property
    def is_spatial(self) -> bool:
        """Whether it is a convolution over more than single pixels."""
        return isinstance(self.module, nn.Conv2d) and max(self.module.kernel_size) > 1


@dataclass(frozen=True)
class Anatomy:
    """An image network's modules, in the order in which they end their work."""

    seen: dict[str, Seen]
    num_features: int
    """Channels of what the network returns."""
    sites: Sites
    stem: str
    """The first convolution."""
    deepest: int
    """Level of the feature map: 5 where its side is a 32nd of the image's."""

    def convs(self) -> list[Seen]:
        """The 2D convolutions that the trial pass met."""
        return [seen for seen in self.seen.values() if isinstance(seen.module, nn.Conv2d)]

    def check_all_called(self, net: nn.Module) -> None:
        """Raise UserError for a spatial convolution that the trial pass did not call: it would silently stay 2D."""
        called = {seen.module for seen in self.convs()}
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1 and module not in called:
                raise UserError(
                    f"{type(net).__name__}: its convolution '{name}' is not met when an image goes through, and "
                    "cannot be made 3D. Call it, with the feature map as its first positional argument"
                )

    def channels(self, site: Site) -> int:
        """Channels of the tensor at a site. Raises UserError for a module that is not there or was not called."""
        if site.name not in self.seen:
            raise UserError(
                f"sites: the image network has no module '{site.name}' that takes and gives one feature map. Name "
                "another module"
            )
        seen = self.seen[site.name]
        return seen.channels_out if site.after else seen.channels_in

    def halving_layers(self) -> list[Seen]:
        """The layers (convolutions, pools) that do the last three halvings."""
        layers = [s for s in self.seen.values() if s.is_layer and s.halves]
        return [s for s in layers if self.deepest - 3 <= s.level_in < self.deepest]

    def halving_sites(self) -> list[Site]:
        """The three sites at which time is halved together with space.

        They are in front of the outermost modules that do the last three halvings, or after them where they are pools.
        Raises UserError where there are no such modules.
        """
        if self.deepest < 3:
            raise UserError(
                "model.temporal_pooling: it needs three halvings of the image, and this image network has "
                f"{self.deepest}. Set model.temporal_pooling=false"
            )
        sites = []
        for level in range(self.deepest - 3, self.deepest):
            halving = [s for s in self.seen.values() if s.halves and (s.level_in, s.level_out) == (level, level + 1)]
            if not halving:
                raise UserError(
                    "model.temporal_pooling: it halves time where the image is halved for the last three times, and "
                    f"no module of this image network does halving {level + 1}. Set model.temporal_pooling=false"
                )
            seen = min(halving, key=lambda s: s.name.count("."))
            while seen.chain and seen.chain[0] in self.seen:  # it may run all its children, also one that is put there
                seen = self.seen[seen.chain[0]]
            is_pool = seen.is_layer and seen.halves and not isinstance(seen.module, nn.Conv2d)
            sites.append(Site(seen.name, after=is_pool))
        return sites


def survey(net: nn.Module, *, in_channels: int = 3, size: int = TRIAL_SIZE) -> Anatomy:
    """Find a network's anatomy by one pass of an image of `size` (or the network's `fixed_size`), which leaves no trace.

    Raises UserError where the network does not take images (N,C,H,W) to a feature map (N,D,h,w), vectors (N,D) or
    tokens (N,L,D).
    """
    calls: list[_Call] = []
    names = {module: name for name, module in net.named_modules()}

    def note(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if args and isinstance(args[0], torch.Tensor) and isinstance(out, torch.Tensor):
            calls.append(_Call(names[module], module, args[0], out))

    size = getattr(net, "fixed_size", None) or size
    hooks = [module.register_forward_hook(note) for module in net.modules()]
    try:
        out = trial(net, (1, in_channels, size, size), before=calls.clear)
    except UserError:
        raise
    except Exception as error:
        other = _other_channels(net, in_channels, size)
        if other is not None:
            raise UserError(
                f"{type(net).__name__}: it takes images of {other} channels, but a clip has {in_channels} here. "
                "Choose another clip.modality or model"
            ) from error
        raise UserError(
            f"{type(net).__name__}: it does not take images of ({in_channels},{size},{size}): {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}. If another size is the only one it takes: say so by its "
            "attribute `fixed_size`"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(out, torch.Tensor) or out.dim() not in (2, 3, 4) or (out.dim() == 4 and not _is_map(out)):
        raise UserError(
            f"{type(net).__name__}: it gives {_described(out)}. Give a feature map (N,D,h,w), vectors (N,D) or tokens "
            "(N,L,D), without a classifier"
        )
    seen = _seen(calls, size)
    convs = [s for s in seen.values() if isinstance(s.module, nn.Conv2d)]
    if not convs:
        raise UserError(f"{type(net).__name__}: it has no 2D convolution. Choose another image network")
    stem = convs[0].name
    if out.dim() == 4 and out.shape[-1] > 1:
        deepest = _level(size, out.shape[-1])
    else:
        deepest = max((s.level_out for s in seen.values() if s.halves), default=0)
    sites = getattr(net, "sites", None) or _default_sites(seen.values(), stem, deepest)
    return Anatomy(seen, out.shape[-1] if out.dim() == 3 else out.shape[1], sites, stem, deepest)


def trial(net: nn.Module, shape: tuple[int, ...], *, before: Callable[[], None] = lambda: None) -> Any:
    """The output of a network for zeros, in eval mode; on the meta device if possible. `before` runs before each attempt."""
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), None)
    try:
        before()
        meta = {name: tensor.to("meta") for name, tensor in state.items()}
        with torch.no_grad(), left_as_it_was(net), Shapes():
            # untied: with ties, a module of two names would be left without its weights
            return torch.func.functional_call(
                net, meta, (torch.zeros(shape, dtype=dtype, device="meta"),), tie_weights=False
            )
    except Exception:  # it computes with values on its way, or has tensors that are no parameters or buffers
        before()
        images = torch.zeros(shape, dtype=dtype, device=next(iter(state.values()), torch.empty(0)).device)
        with torch.no_grad(), left_as_it_was(net):
            return net(images)


def takes(net: nn.Module, in_channels: int, size: int) -> bool:
    """Does a network take images (1,in_channels,size,size)?"""
    try:
        trial(net, (1, in_channels, size, size))
    except Exception:
        return False
    return True


def _other_channels(net: nn.Module, in_channels: int, size: int) -> int | None:
    """The number of channels that a network takes instead; None where another number is not what it needs."""
    first = next((module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)), in_channels)
    return first if first != in_channels and takes(net, first, size) else None


@contextmanager
def left_as_it_was(net: nn.Module) -> Iterator[None]:
    """Restore modules' attributes and modes after a pass (it may leave a weight made from others, or a cache)."""
    attributes = {module: dict(vars(module)) for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, before in attributes.items():
            vars(module).clear()
            vars(module).update(before)


class _Call(NamedTuple):
    """A module's call in the trial pass."""

    name: str
    module: nn.Module
    x: torch.Tensor
    out: torch.Tensor


def _is_map(x: torch.Tensor) -> bool:
    """(N,C,H,W) and not (N,H,W,C)? The trial image is square."""
    return x.dim() == 4 and x.shape[2] == x.shape[3]


def _seen(calls: list[_Call], size: int) -> dict[str, Seen]:
    takers: dict[int, list[_Call]] = {}
    for call in calls:
        takers.setdefault(id(call.x), []).append(call)
    seen: dict[str, Seen] = {}
    for call in calls:
        if call.name and call.name not in seen and _is_map(call.x) and _is_map(call.out):
            level_in, level_out = _level(size, call.x.shape[-1]), _level(size, call.out.shape[-1])
            channels_in, channels_out, side_out = call.x.shape[1], call.out.shape[1], call.out.shape[-1]
            seen[call.name] = Seen(
                call.name, call.module, channels_in, channels_out, level_in, level_out, side_out,
                norm=_norm(takers.get(id(call.out), [])) if isinstance(call.module, nn.Conv2d) else None,
                chain=_chain(call, calls),
            )  # fmt: skip
    return seen


def _norm(takers: list[_Call]) -> str | None:
    """The plain batch norm among the modules that take a tensor, if no other layer does.

    (Nothing can be put behind a norm with an activation inside.)
    """
    layers = [call for call in takers if not any(call.module.children())]
    return layers[0].name if len(layers) == 1 and type(layers[0].module) is nn.BatchNorm2d else None


def _chain(call: _Call, calls: list[_Call]) -> tuple[str, ...]:
    inside = [c for c in calls if c.name.startswith(f"{call.name}.")]
    children = [c for c in inside if c.name.count(".") == call.name.count(".") + 1]
    passed_on = [call.x, *(c.out for c in children)]
    is_chain = all(c.x is x for c, x in zip(children, passed_on, strict=False)) and passed_on[-1] is call.out
    prefixes = tuple(f"{c.name}." for c in children)
    is_all = all(f"{c.name}.".startswith(prefixes) for c in inside)  # (a sum made in place looks like a chain)
    return tuple(c.name for c in children) if is_chain and is_all else ()


def _level(size: int, side: int) -> int:
    return round(log2(size / side)) if side else 0


def _default_sites(seen: Iterable[Seen], stem: str, deepest: int) -> Sites:
    """Sites in front of every spatial convolution but the first: in residual networks, inside the residual branch.

    Non-local blocks sit in front of every second one of those at the two levels before the deepest.
    """
    spatial = [s for s in seen if s.is_spatial and s.name != stem]
    before = tuple(Site(s.name) for s in spatial)
    middle = [s for s in spatial if deepest - 2 <= s.level_in < deepest]
    return Sites(shift=before, aggregation=before, non_local=tuple(Site(s.name) for s in middle[::2]))


def _described(out: Any) -> str:
    return f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
