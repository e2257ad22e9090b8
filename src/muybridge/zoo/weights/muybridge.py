"""muybridge's checkpoints, and the `state_dict()` of an image network that a model has grown from.

A checkpoint is `checkpoints/*/model.safetensors` of a run, or a model's `state_dict()`.
"""

from muybridge.zoo.base import VideoModel
from muybridge.zoo.weights.source import Source, State


def _recognises(state: State, model: VideoModel) -> bool:
    """Are most names the model's?"""
    return 2 * len(state.keys() & model.state_dict().keys()) > len(state)


def _is_of_the_image_network(state: State, model: VideoModel) -> bool:
    inside = {name.removeprefix("backbone.") for name in model.state_dict() if name.startswith("backbone.")}
    return 2 * len(state.keys() & inside) > len(state)


SOURCE = Source("muybridge", _recognises, lambda state, model: dict(state))
IMAGE_NETWORK = Source(
    "the image network alone", _is_of_the_image_network,
    lambda state, model: {f"backbone.{name}": tensor for name, tensor in state.items()},
)  # fmt: skip
AS_THEY_ARE = Source("tensors under their own names", lambda state, model: True, lambda state, model: dict(state))
"""Fallback for loading the tensors that match in name and shape."""
