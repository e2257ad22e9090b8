"""Names and shapes of a peer's tensors, for the tests that run without peers: `python parity/keys.py NAME ORIGIN FILE`.

The first case with that name and origin (parts suffice). In the file, `bn1.*: 64` stands for a batch norm's five tensors.
"""

import json
import sys
from pathlib import Path

from run import cases

NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def main(name: str, origin: str, file: str) -> None:
    """Write the file."""
    case = next(case for case in cases() if name in case.name and origin in case.origin)
    shapes = {key: list(tensor.shape) for key, tensor in case.make().peer.state_dict().items()}
    folded: dict[str, list[int] | int] = {}
    for key, shape in shapes.items():
        module, _, last = key.rpartition(".")
        if last in NORM and f"{module}.num_batches_tracked" in shapes:
            folded.setdefault(f"{module}.*", shapes[f"{module}.weight"][0])
        else:
            folded[key] = shape
    Path(file).write_text(json.dumps(folded, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
