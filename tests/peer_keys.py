"""Names and shapes of other code bases' checkpoints, as `parity/keys.py` writes them."""

import json
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "zoo" / "keys"


def peer_state(file, *, device="meta"):
    """A state dict as the peer saves it: empty tensors without memory, or random ones."""
    state = {}
    for key, shape in json.loads((FOLDER / f"{file}.json").read_text()).items():
        if key.endswith(".*"):
            module = key.removesuffix(".*")
            for last in ("weight", "bias", "running_mean", "running_var"):
                state[f"{module}.{last}"] = torch.rand(shape, device=device)
            state[f"{module}.num_batches_tracked"] = torch.zeros((), dtype=torch.long, device=device)
        else:
            state[key] = torch.randn(shape, device=device)
    return state
