"""One kind of checkpoint: how it is recognised, and what its tensors are called here."""

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
    """Whose: for messages."""
    recognises: Callable[[State, VideoModel], bool]
    """By the tensors' names, and what they would be loaded into. `module.` prefixes and outer dictionaries are gone."""
    convert: Callable[[State, VideoModel], State]
    """The same tensors under the names of the model's own `state_dict()` (transposed or reshaped where layouts differ, but
    not inflated: a 4-D weight for a 5-D parameter is; sides of 1 may be too many or too few). Tensors without a home keep
    their names, and are complained of."""
    preprocessing: Preprocessing | None = None
    """What these weights want the input to be, where that is the same for all of them; None: the model's own stays."""
    leaves_out: tuple[str, ...] = ()
    """How the names begin of parts that need no home here: auxiliary heads."""
    check: Callable[[State, VideoModel], None] = lambda state, model: None
    """Raises UserError where the network is another one, though names and shapes do not say so."""
