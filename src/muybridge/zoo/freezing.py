"""Freezing: stages, and statistics of batch norms, that stay fixed while the rest of a network is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from muybridge.errors import UserError, nearest
from muybridge.zoo import VideoModel

HEAD = "head"


class Frozen:
    """A network's frozen modules, which stay in evaluation mode when the others train."""

    def __init__(
        self,
        model: VideoModel,
        *,
        train_from: str | None = None,
        called: Sequence[str] = (),
        batch_norm: str = "local",
    ) -> None:
        """Freeze the modules; their parameters get no gradients.

        `train_from`: the module, by name, that training begins at, or "head"; `called`: names of the network's modules in
        the order in which a clip meets them; `batch_norm`: "frozen" freezes all batch norms, "partial" all but the first.
        Raises UserError for a name that the network has not, or more than once.
        """
        self.model = model
        modules: list[nn.Module] = []
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if batch_norm in ("frozen", "partial"):
            modules += norms[1:] if batch_norm == "partial" else norms
        if train_from is not None:
            before = _before(model, train_from, called)
            modules += [module for module in before if before.issuperset(module.modules())]
            for module in before:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        for module in modules:
            module.requires_grad_(False)
        frozen = set(modules)
        self.names = [name for name, module in model.named_modules() if module in frozen]

    def train(self) -> None:
        """Set training mode, except for frozen modules (by name: norms may have been exchanged for synced ones)."""
        self.model.train()
        for name in self.names:
            self.model.get_submodule(name).eval()


@contextmanager
def norms_still(net: nn.Module) -> Iterator[None]:
    """Keep batch norms in evaluation mode within the block, so that a pass leaves no trace in them."""
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = [module.training for module in norms]
    for module in norms:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(norms, modes, strict=True):
            module.train(mode)


def call_order(model: VideoModel, *, num_frames: int, size: int) -> list[str]:
    """Names of a network's modules in the order in which a clip first meets them.

    Leaves the network in evaluation mode.
    """
    called: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, args, name=name: called.setdefault(name))
        for name, module in model.named_modules()
    ]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(model.zeros(num_frames, size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return list(called)


def _before(model: VideoModel, name: str, called: Sequence[str]) -> set[nn.Module]:
    """The modules that a clip meets before the named one, without the classifier and its dropout.

    One that is not called itself (a list; a head that only training has) goes with the module that holds it, but stays
    where that holds what is trained, unless that is the classifier alone.
    """
    modules = dict(model.named_modules())
    heads = [key.rpartition(".")[0] for key in model.classifier_names()]
    heads += [key for key, module in modules.items() if module is model.dropout]
    first = None if name == HEAD else _full_name(model, name)
    positions = {key: position for position, key in enumerate(called)}
    inside = [position for key, position in positions.items() if first is not None and _holds(first, key)]
    start = min(inside, default=len(called))
    trained = heads if first is None else [*heads, first]
    before: set[nn.Module] = set()
    for key, module in modules.items():  # one that holds others comes before them
        if any(_holds(other, key) for other in trained):
            continue
        if key in positions:
            is_before = positions[key] < start
        else:
            holder = key.rpartition(".")[0]
            is_before = first is None or (
                modules[holder] in before and not any(_holds(holder, other) for other in trained)
            )
        if is_before:
            before.add(module)
    return before


def _holds(outer: str, name: str) -> bool:
    return not outer or name == outer or name.startswith(f"{outer}.")


def _full_name(model: VideoModel, name: str) -> str:
    """The full name of a module, given it or its end."""
    names = [full for full, _ in model.named_modules() if full]
    matches = [name] if name in names else [full for full in names if full.endswith(f".{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f"optim.train_from: '{name}' may be {' or '.join(matches[:4])}. Give the whole name")
    stages = [full.rpartition(".")[2] for full in names if full.count(".") <= 1]
    raise UserError(
        f"optim.train_from: {model.name or 'the network'} has no module '{name}'. {nearest(name, {HEAD, *stages})} "
        "List them in order: muybridge models NAME"
    )
