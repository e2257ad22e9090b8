"""What of a network stays as it is while the rest is trained: stages, and the statistics of batch norms."""

from collections.abc import Iterator

from torch import nn

from muybridge.errors import UserError, nearest
from muybridge.models import VideoModel

HEAD = "head"


class Frozen:
    """A network's frozen modules, which stay in evaluation mode when the others train."""

    def __init__(self, model: VideoModel, *, train_from: str | None = None, batch_norm: str = "local") -> None:
        """`train_from`: the module, by name, that training begins at, or "head"; `batch_norm`: "frozen" freezes all batch
        norms, "partial" all but the first. Their parameters get no gradients. Raises UserError for a name that the network
        has not, or more than once."""
        self.model = model
        self.modules = [] if train_from is None else list(_below(model, train_from))
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if batch_norm in ("frozen", "partial"):
            self.modules += norms[1:] if batch_norm == "partial" else norms
        for module in self.modules:
            module.requires_grad_(False)
        if train_from is not None:  # parameters that no module but the whole network holds: class tokens, positions
            for parameter in model.parameters(recurse=False):
                parameter.requires_grad_(False)

    def train(self) -> None:
        """Training mode, but for what is frozen."""
        self.model.train()
        for module in self.modules:
            module.eval()


def _below(model: VideoModel, name: str) -> Iterator[nn.Module]:
    """The modules that come before the named one: at each level on the way to it, those that were added earlier. The
    classifier and its dropout are never among them."""
    heads = {id(model.get_submodule(key.rpartition(".")[0])) for key in model.classifier_names()} | {id(model.dropout)}
    path = None if name == HEAD else _found(model, name).split(".")

    def earlier(module: nn.Module, rest: list[str] | None) -> Iterator[nn.Module]:
        for key, child in module.named_children():
            if rest is not None and key == rest[0]:
                if len(rest) > 1:
                    yield from earlier(child, rest[1:])
                return
            if id(child) in heads:
                continue
            if any(id(inner) in heads for inner in child.modules()):
                yield from earlier(child, None)
            else:
                yield child

    return earlier(model, path)


def _found(model: VideoModel, name: str) -> str:
    """The full name of a module that is named by it, or by its end."""
    names = [known for known, _ in model.named_modules() if known]
    found = [name] if name in names else [known for known in names if known.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"optim.train_from '{name}' may be {' or '.join(found[:4])}: give the whole name")
    stages = [known for known in names if known.count(".") <= 1]
    raise UserError(
        f"optim.train_from: {model.name or 'the network'} has no module '{name}'. {nearest(name, [HEAD, *stages])} "
        "(muybridge models NAME lists them in order)"
    )
