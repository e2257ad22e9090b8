"""Prove that networks here are those of other code bases: `python parity/run.py [NAME …] [--json]`.

Every case draws random weights and running statistics in a peer's network, hands them to `load_weights`, and compares both
answers to the same clips in float64. With `--json`, `results.json` keeps the figures (of the cases that were run).
"""

import argparse
import importlib
import json
import sys
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

import torch
from case import Case
from torch import nn

from muybridge.zoo import load_weights

HERE = Path(__file__).parent
BOUND = 1e-10
"""Bound of the largest difference, as a part of the largest logit: float64 is exact to 1e-16, and errors add up."""


@dataclass(frozen=True)
class Result:
    """Outcome of a proof."""

    name: str
    origin: str
    clip: tuple[int, ...]
    """Sides of the clips: B, C, T, H, W."""
    tensors: int
    """Number of tensors loaded from the peer: all of the model's."""
    largest_difference: float
    relative_difference: float
    """The largest difference as a part of the largest logit."""
    torch: str

    @property
    def holds(self) -> bool:
        """Whether the difference is within BOUND."""
        return self.relative_difference < BOUND


def prove(case: Case) -> Result:
    """Compare both networks of a case. Raises AssertionError where the comparison would prove nothing."""
    torch.manual_seed(0)
    pair = case.make()
    peer, ours, clip_BCTHW = pair.peer.double(), pair.ours.double(), pair.clip_BCTHW.double()
    peer.eval()  # (a line of its own: one peer's `train` returns nothing)
    ours.eval()
    draw(peer)
    loaded = load_weights(ours, peer.state_dict())
    assert not loaded.fresh, f"no weights from the peer: {loaded.fresh[:4]}"
    with torch.no_grad():
        theirs_BK, ours_BK = pair.answer(peer, clip_BCTHW), ours(clip_BCTHW)
    assert theirs_BK.shape == ours_BK.shape, f"{tuple(theirs_BK.shape)} there, {tuple(ours_BK.shape)} here"
    largest = theirs_BK.abs().max().item()
    assert 0 < largest < float("inf"), f"the peer's largest logit is {largest}"
    assert (theirs_BK[0] - theirs_BK[-1]).abs().max() > 1e-4 * largest, "the answer does not depend on the clip"
    difference = (theirs_BK - ours_BK).abs().max().item()
    return Result(
        case.name, case.origin, tuple(clip_BCTHW.shape), loaded.matched, difference, difference / largest,
        torch.__version__,
    )  # fmt: skip


def draw(peer: nn.Module) -> None:
    """Draw random weights that keep the size of activations, random norms, random running statistics."""
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=sqrt(2 / parameter[0].numel()))
            elif name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.1)
        for name, buffer in peer.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


def cases() -> list[Case]:
    """The cases of every `cases_*.py`."""
    all_cases: list[Case] = []
    for file in sorted(HERE.glob("cases_*.py")):
        all_cases += importlib.import_module(file.stem).CASES
    return all_cases


def keep(results: list[Result]) -> None:
    """Write results into results.json, beside those of other runs."""
    file = HERE / "results.json"
    before = json.loads(file.read_text()) if file.exists() else []
    merged = {(entry["name"], entry["origin"]): entry for entry in [*before, *map(asdict, results)]}
    file.write_text(json.dumps([merged[key] for key in sorted(merged)], indent=1) + "\n")


def main() -> int:
    """Run the cases that are asked for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of the names or origins of cases (default: all)")
    parser.add_argument("--json", action="store_true", help="keep the figures in results.json")
    options = parser.parse_args()
    results, failed = [], 0
    for case in cases():
        if options.names and not any(part in f"{case.name} {case.origin}" for part in options.names):
            continue
        try:
            result = prove(case)
        except ImportError as error:
            print(f"{case.name:22} {case.origin}: skipped, {error}", flush=True)
            continue
        except (ValueError, RuntimeError, AssertionError) as error:
            failed += 1
            print(f"{case.name:22} {case.origin}: FAILED, {error}", flush=True)
            continue
        results.append(result)
        failed += not result.holds
        verdict = "" if result.holds else "  DIFFERS"
        print(f"{case.name:22} {result.relative_difference:8.1e}  {case.origin}{verdict}", flush=True)
    if options.json:
        keep(results)
    print(f"{len(results)} proved, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
