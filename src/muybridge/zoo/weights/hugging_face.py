"""Files of Hugging Face's transformers, as a folder or the hub keeps them.

Names have the encoder's prefix in front (`videomae.encoder.layer.0…`). Loading through the library (`hub`) knows older
names, too.
"""

from typing import Any

from muybridge.zoo.base import VideoModel
from muybridge.zoo.weights.source import Source, State


def _prefix(model: VideoModel) -> str:
    """The prefix that transformers puts in front of an encoder's names; empty for other networks."""
    network: Any = getattr(model, "network", None)
    prefix = getattr(network, "base_model_prefix", "")
    return f"{prefix}." if prefix else ""


def _recognises(state: State, model: VideoModel) -> bool:
    prefix = _prefix(model)
    return bool(prefix) and any(name.startswith(prefix) for name in state)


def _convert(state: State, model: VideoModel) -> State:
    prefix = _prefix(model)
    has_prefix = any(name.startswith(f"network.{prefix}") for name in model.state_dict())
    renamed: State = {}
    for name, tensor in state.items():
        if name.startswith("classifier."):
            renamed[name.replace("classifier.", "fc.", 1)] = tensor
        else:
            renamed[f"network.{name if has_prefix else name.removeprefix(prefix)}"] = tensor
    return renamed


SOURCE = Source("Hugging Face's transformers", _recognises, _convert)
