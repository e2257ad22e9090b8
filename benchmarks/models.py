"""Training steps of models beside each other, and beside other code bases' networks where those are installed.

    OMP_NUM_THREADS=2 python benchmarks/models.py [NAME …] [--rounds N] [--batch-size N] [--precisions fp32,bf16] [--json]

A step is forward, loss, backward and SGD's update; all of a table take turns in one process, so that a busy machine slows
them alike; medians, and ratios to the first. Without names: TSM and TAM against TSN (ResNet-50), one network of each
family, I3D as muybridge runs it against fp32 in torch's own memory format, and ours against torchvision's and
PyTorchVideo's networks. (`--cpu-time` counts the seconds that cores were busy, which other programs disturb less.)
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.runtime.console import log
from muybridge.runtime.device import Placement, keep_memory, to_device
from muybridge.zoo import WeightedLogits, create

sys.path.append(str(Path(__file__).parent.parent / "parity"))

AGAINST_TSN = ("tsn_resnet50", "tsm_resnet50", "tam_resnet50")
FAMILIES = (
    "tsn_resnet18", "tsm_resnet18", "tam_resnet18", "tconv_resnet18", "nln_resnet18", "i3d_resnet18", "s3d_resnet18",
    "r3d_resnet18", "mc3_resnet18", "r2plus1d_resnet18", "tsn_inceptionv1", "i3d_inceptionv1", "s3d_inceptionv1",
    "slow_resnet50", "slowfast_resnet50", "x3d_m",
)  # fmt: skip
CLASSES, FRAMES, SIZE = 10, 8, 112


@dataclass
class Contestant:
    name: str
    precision: str
    """fp32 or bf16 (autocast)."""
    step: Callable[[], None]


@dataclass(frozen=True)
class Row:
    table: str
    name: str
    precision: str
    seconds: float
    clips_per_s: float
    ratio: float
    """Median of the ratios of neighbouring steps to the table's first."""


def contestant(
    name: str, net: nn.Module, precision: str, batch: int, *, channels_last: bool = True, frames: int = FRAMES
) -> Contestant:
    """`channels_last`: placed as `train` places models, clips in the same format; else all as torch makes it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = Placement(device, torch.bfloat16 if precision == "bf16" else None)
    if device.type == "cpu":
        keep_memory()  # as `train` does
    net.train().to(device)
    generator = torch.Generator().manual_seed(0)
    x_BCTHW = torch.randn(batch, 3, frames, SIZE, SIZE, generator=generator).to(device)
    y_B = torch.randint(0, CLASSES, (batch,), generator=generator).to(device)
    if channels_last:
        to_device(net, where)
        x_BCTHW = x_BCTHW.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with where.autocast():
            out = net(x_BCTHW)
        logits_BK = out.logits_NBK[0] if isinstance(out, WeightedLogits) else out
        F.cross_entropy(logits_BK.float(), y_B).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return Contestant(name, precision, step)


def ours(name: str, precision: str, batch: int, **format_: Any) -> Contestant:
    torch.manual_seed(0)
    return contestant(name, create(name, num_classes=CLASSES, num_frames=FRAMES), precision, batch, **format_)


def race(table: str, contestants: list[Contestant], batch: int, rounds: int, clock: Callable[[], float]) -> list[Row]:
    seconds: list[list[float]] = [[] for _ in contestants]
    for turn in range(-1, rounds):  # the first turn warms
        log(f"{table}: {turn + 1}/{rounds}")
        for one, found in zip(contestants, seconds, strict=True):
            started = clock()
            one.step()
            if turn >= 0:
                found.append(clock() - started)
    rows = []
    for one, found in zip(contestants, seconds, strict=True):
        median = statistics.median(found)
        ratio = statistics.median(a / b for a, b in zip(found, seconds[0], strict=True))
        rows.append(Row(table, one.name, one.precision, median, batch / median, ratio))
    return rows


def others(precision: str, batch: int) -> list[tuple[str, list[Contestant]]]:
    """Ours first, then the same network of another code base, in the format it is used in."""
    pairs: list[tuple[str, str, Callable[[], nn.Module]]] = []
    try:
        import peers

        video = peers.torchvision().models.video

        pairs += [
            ("r3d_resnet18", "torchvision r3d_18", lambda: video.r3d_18(num_classes=CLASSES)),
            ("mc3_resnet18", "torchvision mc3_18", lambda: video.mc3_18(num_classes=CLASSES)),
            ("r2plus1d_resnet18", "torchvision r2plus1d_18", lambda: video.r2plus1d_18(num_classes=CLASSES)),
        ]
    except (ImportError, RuntimeError):
        log("torchvision does not import here")
    try:
        from pytorchvideo.models import resnet, x3d

        pairs += [
            ("slow_resnet50", "pytorchvideo slow_r50", lambda: resnet.create_resnet(
                model_num_class=CLASSES, head_pool_kernel_size=(FRAMES, 4, 4))),
            ("x3d_m", "pytorchvideo x3d_m", lambda: x3d.create_x3d(
                model_num_class=CLASSES, input_clip_length=FRAMES, input_crop_size=SIZE, depth_factor=2.2,
                head_activation=None)),
        ]  # fmt: skip
    except (ImportError, RuntimeError):
        log("pytorchvideo does not import here")
    return [
        (
            f"{name} and {other}",
            [ours(name, precision, batch), contestant(other, make(), precision, batch, channels_last=False)],
        )
        for name, other, make in pairs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="one table of these, ratios to the first")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precisions", default="bf16,fp32")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    batch, rounds = arguments.batch_size, arguments.rounds
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows: list[Row] = []

    def add(table: str, contestants: list[Contestant]) -> None:
        rows.extend(race(table, contestants, batch, rounds, clock))

    for precision in arguments.precisions.split(","):
        if arguments.names:
            add(f"given, {precision}", [ours(name, precision, batch) for name in arguments.names])
            continue
        add(f"against TSN, {precision}", [ours(name, precision, batch) for name in AGAINST_TSN])
        for name in FAMILIES:
            add(f"families, {precision}", [ours(name, precision, batch)])
        for table, pair in others(precision, batch):
            add(f"{table}, {precision}", pair)
    if not arguments.names:
        name = "i3d_resnet18"
        pair = [ours(name, "bf16", batch), ours(name, "fp32", batch, channels_last=False)]
        pair[1].name += ", torch's memory format"
        add("muybridge's default and torch's", pair)
    if arguments.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": [asdict(row) for row in rows]}, indent=2))
        return
    print(f"{torch.get_num_threads()} threads, batches of {batch} clips of {FRAMES}x{SIZE}x{SIZE}, medians of {rounds}")
    for row in rows:
        print(f"{row.table:42} {row.name:44} {row.precision} {row.seconds:8.3f} s {row.clips_per_s:8.1f} clips/s "
              f"{row.ratio:6.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
