"""One kind of checkpoint: how to recognise it, and how to rename its tensors."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from muybridge.zoo.base import Preprocessing, VideoModel

State = dict[str, torch.Tensor]
"""Tensors by name."""


@dataclass(frozen=True)
class Source:
    """Checkpoints of one code base for one kind of network."""

    name: str
    """The code base, for messages."""
    recognises: Callable[[State, VideoModel], bool]
    """Whether it is one, by the tensors' names and the model; `module.` prefixes and outer dictionaries are removed."""
    convert: Callable[[State, VideoModel], State]
    """Rename tensors to the names of the model's `state_dict()`, transposed or reshaped where layouts differ.

    They are not inflated: `load_weights` does that to a 4-D weight for a 5-D parameter. Sides of 1 may be too many or too
    few. Tensors without a place keep their names, and are reported.
    """
    preprocessing: Preprocessing | None = None
    """The input that these weights expect, if it is the same for all of them; None: the model's stays."""
    leaves_out: tuple[str, ...] = ()
    """Prefixes of names that need no place here: auxiliary heads."""
    check: Callable[[State, VideoModel], None] = lambda state, model: None
    """Raise UserError where the network is another one, though names and shapes do not show it."""
