"""What an image network looks like to a temporal method: where its layers sit, and how large the picture is there.

`survey` finds it out by one trial pass, so that a method works on any image network; a network that knows better places
for temporal modules says so in an attribute `sites`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
from torch import nn

from muybridge.errors import UserError

TRIAL_SIZE = 224
"""Pixels of the trial picture's sides."""


@dataclass(frozen=True)
class Site:
    """A place in an image network: in front of a module, or after it."""

    name: str
    after: bool = False


@dataclass(frozen=True)
class Sites:
    """Where temporal modules sit."""

    shift: tuple[Site, ...]
    """TSM."""
    aggregation: tuple[Site, ...]
    """TAM and "Conv."."""
    non_local: tuple[Site, ...]
    """NLN."""


@dataclass(frozen=True)
class Seen:
    """A module as the trial pass met it. A level counts how often the picture's side was halved before."""

    name: str
    module: nn.Module
    channels_in: int
    channels_out: int
    level_in: int
    level_out: int
    side_out: int
    norm: str | None = None
    """Convolutions: the plain batch norm that takes its output, and nothing else between."""

    @property
    def halves(self) -> bool:
        return self.level_out > self.level_in and self.side_out > 1

    @property
    def is_spatial(self) -> bool:
        """A convolution over more than single pixels."""
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
    """Level of the feature map: 5 where its side is a 32nd of the picture's."""

    def convs(self) -> list[Seen]:
        return [seen for seen in self.seen.values() if isinstance(seen.module, nn.Conv2d)]

    def channels(self, site: Site) -> int:
        """Channels of the tensor at a place. Raises UserError for a module that is not there or was not met."""
        if site.name not in self.seen:
            raise UserError(f"The image network has no module '{site.name}' that takes and gives one feature map")
        seen = self.seen[site.name]
        return seen.channels_out if site.after else seen.channels_in

    def halving_layers(self) -> list[Seen]:
        """The single layers (convolutions, pools) that do the last three halvings."""
        layers = [s for s in self.seen.values() if not any(s.module.children()) and s.halves]
        return [s for s in layers if self.deepest - 3 <= s.level_in < self.deepest]

    def halving_places(self) -> list[Site]:
        """Where time is halved together with space, three places: in front of the outermost modules that do the last
        three halvings, or after them where they are pools. Raises UserError where there are no such modules."""
        places = []
        for level in range(self.deepest - 3, self.deepest):
            found = [s for s in self.seen.values() if s.halves and (s.level_in, s.level_out) == (level, level + 1)]
            if not found:
                raise UserError(
                    "Temporal pooling halves time where the picture is halved for the last three times; this image "
                    f"network has no module that halves it for the {level + 1}. time"
                )
            outermost = min(found, key=lambda s: s.name.count("."))
            is_pool = not any(outermost.module.children()) and not isinstance(outermost.module, nn.Conv2d)
            places.append(Site(outermost.name, after=is_pool))
        return places


def survey(net: nn.Module, *, in_channels: int = 3, size: int = TRIAL_SIZE) -> Anatomy:
    """One pass of a picture of `size`, on the meta device where the network can do that. Weights, buffers and mode stay.

    Raises UserError where the network does not take pictures (N,C,H,W) to a feature map (N,D,h,w), vectors (N,D) or
    tokens (N,L,D).
    """
    met: list[tuple[str, nn.Module, torch.Tensor, torch.Tensor]] = []
    names = {module: name for name, module in net.named_modules()}

    def note(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if args and isinstance(args[0], torch.Tensor) and isinstance(out, torch.Tensor):
            met.append((names[module], module, args[0], out))

    was_training = {module: module.training for module in net.modules()}
    hooks = [module.register_forward_hook(note) for module in net.modules()]
    try:
        net.eval()
        out = _trial(net, in_channels, size, met)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{type(net).__name__} does not take pictures of ({in_channels},{size},{size}): {str(error).splitlines()[0]}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in was_training.items():
            module.training = mode
    if not isinstance(out, torch.Tensor) or out.dim() not in (2, 3, 4):
        raise UserError(
            f"{type(net).__name__} gives {_described(out)}; an image network gives a feature map (N,D,h,w), vectors (N,D) "
            "or tokens (N,L,D), without a classifier"
        )
    seen = _seen(met, size)
    convs = [s for s in seen.values() if isinstance(s.module, nn.Conv2d)]
    if not convs:
        raise UserError(f"{type(net).__name__} has no 2D convolution")
    stem = convs[0].name
    if out.dim() == 4 and out.shape[-1] > 1:
        deepest = _level(size, out.shape[-1])
    else:
        deepest = max((s.level_out for s in seen.values() if s.halves), default=0)
    sites = getattr(net, "sites", None) or _default_sites(seen.values(), stem, deepest)
    return Anatomy(seen, out.shape[-1] if out.dim() == 3 else out.shape[1], sites, stem, deepest)


def _trial(net: nn.Module, in_channels: int, size: int, met: list[Any]) -> Any:
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        try:
            meta = {name: tensor.to("meta") for name, tensor in state.items()}
            return torch.func.functional_call(net, meta, (torch.zeros(1, in_channels, size, size, device="meta"),))
        except (RuntimeError, NotImplementedError):  # it computes with values on its way
            met.clear()
            tensor = next(iter(state.values()), torch.empty(0))
            return net(torch.zeros(1, in_channels, size, size, device=tensor.device))


def _seen(met: list[tuple[str, nn.Module, torch.Tensor, torch.Tensor]], size: int) -> dict[str, Seen]:
    norms = {
        id(x): name for name, module, x, _ in met if type(module) is nn.BatchNorm2d
    }  # a norm with an activation inside is no place to put anything behind
    seen: dict[str, Seen] = {}
    for name, module, x, out in met:
        if x.dim() == 4 and out.dim() == 4 and name and name not in seen:
            norm = norms.get(id(out)) if isinstance(module, nn.Conv2d) else None
            side_in, side_out = x.shape[-1], out.shape[-1]
            seen[name] = Seen(
                name, module, x.shape[1], out.shape[1], _level(size, side_in), _level(size, side_out), side_out, norm
            )
    return seen


def _level(size: int, side: int) -> int:
    return round(log2(size / side)) if side else 0


def _default_sites(seen: Iterable[Seen], stem: str, deepest: int) -> Sites:
    """In front of every spatial convolution but the first, which in residual networks is inside the residual branch;
    non-local blocks in front of every second one of those at the two levels before the deepest."""
    spatial = [s for s in seen if s.is_spatial and s.name != stem]
    before = tuple(Site(s.name) for s in spatial)
    middle = [s for s in spatial if deepest - 2 <= s.level_in < deepest]
    return Sites(shift=before, aggregation=before, non_local=tuple(Site(s.name) for s in middle[::2]))


def _described(out: Any) -> str:
    return f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
