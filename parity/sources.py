"""Every value of the five sources beside ours: `python parity/sources.py` writes docs/sources.md.

`contradictions.csv` has what they say and what is. `sources.csv` has a line a value: where it stands, how it is printed, where
it is in muybridge, what that should be, and, where it is not, the reason. Where it is: `RECIPE FIELD`, `check NAME` (a function
below), or `none`.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from muybridge.data.sampling import ClipSpec, test_indices
from muybridge.recipe import flat
from muybridge.recipe.shipped import load
from muybridge.storage.scores import Scores, metrics
from muybridge.studies.shipped import equal_time
from muybridge.zoo import VideoModel, create
from muybridge.zoo.count import count
from muybridge.zoo.networks.c3d import Pool
from muybridge.zoo.networks.s3dv3 import Sevens
from muybridge.zoo.temporal.frames import TimeConv

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "sources.md"

HEAD = """# Sources

Written by `python parity/sources.py`; a test holds every line of it.

muybridge comes from five documents:

- a learning report of 2020: TSN and I3D on UCF101 and HMDB51, after GluonCV's notebooks,
- a reproduction study of 2018: I3D, S3D, and S3D on Inception-v3,
- a course assignment of 2016: frames, stored vectors, LSTM,
- a course project of 2019: UCF-11,
- the study of 2021: Chen et al., "Deep Analysis of CNN-based Spatio-temporal Representations for Action Recognition".

This page has every value of their protocols beside the shipped recipe's, and then what contradicts itself. Parameters and
multiply-adds are in [fidelity.md](fidelity.md).

"""


@dataclass(frozen=True)
class Value:
    """One line of sources.csv."""

    source: str
    place: str
    what: str
    printed: str
    where: str
    expected: str
    """JSON of the value as printed; empty where there is nothing to compare."""
    reason: str
    """Why ours is another; empty where it is the same."""

    def ours(self) -> Any:
        """Our value."""
        return _ours(self.where)

    def is_same(self) -> bool:
        """Whether ours is the printed one."""
        return bool(self.expected) and self.ours() == json.loads(self.expected)


def values() -> list[Value]:
    """Every line of sources.csv."""
    with (HERE / "sources.csv").open(newline="", encoding="utf-8") as file:
        return [Value(*row) for row in list(csv.reader(file))[1:]]


def unexplained() -> list[Value]:
    """Lines of which ours is another without a reason, or the same with one."""
    return [value for value in values() if value.is_same() == bool(value.reason)]


@cache
def _ours(where: str) -> Any:
    kind, _, name = where.partition(" ")
    if kind == "none":
        return None
    return CHECKS[name]() if kind == "check" else _plain(_fields(kind)[name])


@cache
def _fields(recipe: str) -> dict[str, Any]:
    return flat(load(recipe))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _network(name: str, **options: Any) -> VideoModel:
    with torch.device("meta"):
        return create(name, num_classes=5, **options)


def _kept(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


@cache
def _params(name: str) -> int:
    return count(name, num_classes=5, num_frames=64, size=224, aux=False).params


def _inflated() -> list[str]:
    net = _network("i3d_resnet50_gluoncv", num_frames=32).backbone
    stages = [getattr(net, f"layer{stage}") for stage in (1, 2, 3, 4)]
    return ["".join("1" if block.conv1.weight.dim() == 5 and block.conv1.weight.shape[2] == 3 else "0" for block in stage)
            for stage in stages]  # fmt: skip


def _stem() -> list[list[int]]:
    conv = _network("i3d_resnet50_gluoncv", num_frames=32).backbone.conv1
    return [list(conv.weight.shape[2:]), list(conv.stride)]


def _frames_left() -> int:
    model = _network("i3d_resnet50_gluoncv", num_frames=32)
    return model.features(torch.empty(1, 3, 32, 64, 64, device="meta")).shape[1]


def _shifts() -> list[int]:
    clips_MT = test_indices(1000, 25, ClipSpec(num_frames=8), num_clips=10)[:, 0, 0]
    middle = test_indices(1000, 25, ClipSpec(num_frames=8), num_clips=1)[0, 0, 0]
    return [int(clips_MT.min() - middle), int(clips_MT.max() - middle)]


def _kernel_lengths() -> list[int]:
    convs = [m for m in _network("i3d_inceptionv1").modules() if isinstance(m, nn.Conv3d) or hasattr(m, "kernel_size")]
    lengths = {
        m.weight.shape[2] for m in convs if hasattr(m, "weight") and m.weight is not None and m.weight.dim() == 5
    }
    return sorted(lengths - {1})


def _temporal_pools() -> str:
    model = _network("i3d_resnet50", temporal_pooling=True)
    strided = [m for m in model.modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 5 and m.stride[0] == 2]
    return "strided convolutions" if strided else "max-pools"


def _metrics() -> list[str]:
    rng, names = np.random.default_rng(0), tuple(map(str, range(11)))
    scores = Scores(
        classes=names, ids_N=np.array(names), labels_N=np.arange(11), groups_N=np.array([""] * 11), video_V=np.arange(11),
        clip_start_V=np.zeros(11, np.int64), crop_V=np.zeros(11, np.int64), logits_VK=rng.normal(size=(11, 11)),
    )  # fmt: skip
    return [name for name in metrics(scores) if name.startswith("video_top")]


def _lstm_biases() -> float:
    model = create("cnn_lstm", num_classes=5)
    biases = [p for name, p in model.rest[1].named_parameters() if "bias" in name] + [model.rest[0].bias, model.fc.bias]
    return max(float(bias.detach().abs().max()) for bias in biases)


def _linears(module: nn.Module) -> list[int]:
    return [layer.out_features for layer in _kept(module, nn.Linear)]


CHECKS: dict[str, Callable[[], Any]] = {
    "gluoncv_params": lambda: count("i3d_resnet50_gluoncv", num_classes=101, num_frames=32, size=224).params,
    "gluoncv_gmacs": lambda: round(
        count("i3d_resnet50_gluoncv", num_classes=101, num_frames=32, size=224).conv_macs / 1e9, 2
    ),
    "gluoncv_stem": _stem,
    "gluoncv_frames": _frames_left,
    "gluoncv_inflated": _inflated,
    "s3dv3_frames": lambda: 64 if count("s3dv3", num_classes=5, num_frames=64, size=224).macs else None,
    "s3dv3_params": lambda: _params("s3dv3"),
    "topheavy_params": lambda: _params("s3dv3_topheavy"),
    "topheavy_share": lambda: round(_params("s3dv3_topheavy") / _params("s3dv3"), 3),
    "s3dv3_inflated": lambda: "inflated" in get_args(Sevens),
    "dilation": lambda: _network("i3d_resnet18", dilation=2) is not None,
    "equal_time_models": lambda: [planned.recipe.model.name for planned in equal_time(["k.csv"]).runs.values()],
    "metrics": _metrics,
    "tsn_vgg16_one_frame": lambda: _network("tsn_vgg16", num_frames=1).looks_at,
    "lstm_kernels": lambda: [conv.kernel_size[0] for conv in _kept(_network("cnn_lstm").convs, nn.Conv2d)],
    "lstm_labels": lambda: _network("cnn_lstm").rest[0].out_features,
    "lstm_outputs": lambda: (
        "all frames" if _network("cnn_lstm", num_frames=30).fc.in_features == 30 * 256 else "the last"
    ),
    "lstm_biases": _lstm_biases,
    "c3d_layers": lambda: [len(_kept(_network("c3d_small"), kind)) for kind in (nn.Conv3d, Pool)],
    "c3d_fc": lambda: _linears(_network("c3d_small").hidden),
    "vgg9_layers": lambda: len(_kept(_network("vgg9").convs, nn.Conv2d)) + len(_linears(_network("vgg9").rest)),
    "vgg9_widths": lambda: sorted({conv.out_channels for conv in _kept(_network("vgg9").convs, nn.Conv2d)}),
    "vgg9_fc": lambda: _linears(_network("vgg9").rest),
    "uniform_shifts": _shifts,
    "tam_sites": lambda: len(_kept(_network("tam_inceptionv1"), TimeConv)),
    "r50_temporal_pools": _temporal_pools,
    "i3d_kernel_lengths": _kernel_lengths,
}


def page() -> str:
    """Text of docs/sources.md."""
    every = values()
    same = sum(value.is_same() for value in every)
    explained = len(every) - same - len([value for value in unexplained() if not value.is_same()])
    lines = [
        HEAD,
        f"{len(every)} values: {same} are as printed, {explained} are not, for a reason, and {len(unexplained())} are "
        "unexplained.\n",
    ]
    for source, of_source in Counter(value.source for value in every).items():
        lines.append(f"\n## {source[0].upper()}{source[1:]}\n\n{of_source} values.\n\n")
        lines.append("| where | value | printed | here | |\n| --- | --- | --- | --- | --- |\n")
        for value in every:
            if value.source == source:
                lines.append(
                    f"| {value.place} | {value.what} | {value.printed} | {_shown(value)} | "
                    f"{'same' if value.is_same() else value.reason or 'unexplained'} |\n"
                )
    return "".join(lines) + _contradictions()


def _contradictions() -> str:
    """Section on what contradicts itself, with the figures that are ours."""
    macs = [count(name, num_classes=5, num_frames=64, size=224).conv_macs for name in ("s3dv3_topheavy", "s3dv3")]
    figures = {
        "topheavy": 100 * (1 - _params("s3dv3_topheavy") / _params("s3dv3")),
        "cost": macs[0] / macs[1],
    }
    with_aux = count("s3dv3", num_classes=5, num_frames=64, size=224).params
    for name in ("s3d", "i3d"):
        other = count(name, num_classes=5, num_frames=64, size=224).params
        figures |= {f"of_{name}": _params("s3dv3") / other, f"aux_{name}": with_aux / other}
    with (HERE / "contradictions.csv").open(newline="", encoding="utf-8") as file:
        lines = [f"| {' | '.join(line)} |\n" for line in list(csv.reader(file))[1:]]
    head = "\n## Where the sources contradict themselves or their code\n\n| said | is | here |\n| --- | --- | --- |\n"
    return head + "".join(lines).format(**figures)


def _shown(value: Value) -> str:
    kind, _, name = value.where.partition(" ")
    if kind == "none":
        return "–"
    ours = json.dumps(value.ours()).strip('"').replace("null", "none")
    return f"{ours}" if kind == "check" else f"{ours} (`{kind}`, `{name}`)"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    for value in unexplained():
        print(f"unexplained: {value.source}, {value.place}, {value.what}: {value.printed}, here {value.ours()}")
    print(PAGE)
