"""Studies of the second stage: heads over stored vectors, and the image network below them.

muybridge compare --study recurrent_depth --data STORE --out depth
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from muybridge.recipe import Recipe, replace
from muybridge.recipe.fields import with_network
from muybridge.recipe.shipped import frame_ucf101, lstm_ucf101
from muybridge.recipe.shipped import heads as heads_recipe
from muybridge.studies.plan import VARIES, Plan, Planned, Value, data_names, model_axes, run_name, starting_from

LENGTHS: Mapping[str, Mapping[str, Any]] = {
    "30": {"clip.num_frames": 30}, "60": {"clip.num_frames": 60}, "120": {},
    "all": {"clip.num_frames": 1024, "clip.past_end": "absent"},
}  # fmt: skip
"""Vectors in a training sequence. all: as many as the video has, up to 1,024."""
INFERENCE: Mapping[str, Mapping[str, Any]] = {
    "whole": {}, "segment": {"evaluation.whole": False}, "mean_of_5": {"evaluation.whole": False, "evaluation.num_clips": 5},
}  # fmt: skip
"""Clips of a test: the whole video, its first segment, or five segments, whose logits are averaged."""
LATE: Mapping[str, Mapping[str, Any]] = {
    "even": {}, "linear": {"model.options.late": 1.0}, "last": {"model.options.last": True},
}  # fmt: skip
"""Weights of the time steps in loss and answer."""


def recurrent_depth(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("lstm",),
    num_layers: Sequence[int] = (1, 2, 3),
    dropout: Sequence[float] = (0.0, 0.5),
    recipe: Recipe | None = None,
) -> Plan:
    """Layers of a recurrent net × dropout before the classifier and between layers, on stored vectors.

    Source: a course assignment of 2016: an LSTM of one to three layers over the vectors of VGG16's frames.

    Published: UCF101, test accuracy .671 with one layer, .648 with two, .620 with three.
    """
    base = recipe or lstm_ucf101()
    runs: dict[str, Planned] = {}
    for (manifest, called), model, layers, share in product(data_names(data).items(), models, num_layers, dropout):
        options = {
            **base.model.options,
            "num_layers": layers,
            **({"rnn_dropout": share} if layers > 1 and share else {}),
        }
        made = replace(with_network(base, model), {
            "data.manifest": manifest, "model.dropout": share, "model.options": options,
        })  # fmt: skip
        name = run_name(_set(called, data), model, f"{layers}layers", f"dropout{share:g}")
        runs[name] = Planned(
            made, {"data": called, "model": model, **model_axes(model), "num_layers": layers, "dropout": share}
        )
    varies = {"num_layers": ("model.options.num_layers", "model.options.rnn_dropout"),
              "dropout": ("model.dropout", "model.options.rnn_dropout")}  # fmt: skip
    return Plan(f"Depth of recurrent nets on {', '.join(data_names(data).values())}", runs, {**VARIES, **varies})


def sequences(data: Sequence[str], *, models: Sequence[str] = ("lstm",), recipe: Recipe | None = None) -> Plan:
    """Length, window of back-propagation, late weighting and inference, each changed alone, on stored vectors.

    Source: a course assignment of 2016: 120 vectors, back-propagation cut every 30, late steps weighted more, the whole
    video, one segment or the mean of several.

    Published: no figure for each.
    """
    base = recipe or lstm_ucf101()
    window = {"cut30": {}, "cut15": {"model.options.truncate": 15}, "uncut": {"model.options.truncate": 0}}
    axes = {"length": LENGTHS, "window": window, "late": LATE, "inference": INFERENCE}
    usual = {"length": "120", "window": "cut30", "late": "even", "inference": "whole"}
    runs: dict[str, Planned] = {}
    for (manifest, called), model in product(data_names(data).items(), models):
        own = replace(with_network(base, model), {"data.manifest": manifest})
        for axis, values in axes.items():
            for value, changes in values.items():
                setting = {**usual, axis: value}
                name = run_name(_set(called, data), model, *(setting[each] for each in axes))
                axes_of_run: dict[str, Value] = {"data": called, "model": model, **model_axes(model), **setting}
                runs.setdefault(name, Planned(replace(own, changes), axes_of_run))
    varies = {
        axis: tuple(sorted({field for changes in values.values() for field in changes}))
        for axis, values in axes.items()
    }
    return Plan(f"Sequences of {', '.join(data_names(data).values())}", runs, {**VARIES, **varies})


def single_or_recurrent(
    data: Sequence[str], *, models: Sequence[str] = ("mean_pool", "lstm"), recipe: Recipe | None = None
) -> Plan:
    """Single frames against recurrent nets, on the same stored vectors: which classes gain from order?

    `mean_pool` judges every frame alone and averages; it stands for the image network. The report has the gains by class,
    and strips of videos on which they disagree.

    Source: a course assignment of 2016.

    Published: UCF101, a single frame .626, an LSTM .671.
    """
    return heads(data, models=models, recipe=recipe)


def heads(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("mean_pool", "attentive", "lstm", "gru"),
    recipe: Recipe | None = None,
) -> Plan:
    """Heads × stores: the vectors of several encoders, or of several sets, under one protocol; many settings at once.

    Source: the frozen probes of V-JEPA 2 (Assran et al. 2025), here chosen on val. `--diagnose` tells whether a frozen
    encoder with a head uses time.

    Published: none under this protocol.
    """
    base = recipe or heads_recipe()
    names = data_names(data)
    return Plan(f"Heads on {', '.join(names.values())}", {
        run_name(_set(called, data), model): Planned(
            replace(with_network(base, model), {"data.manifest": manifest}), {"data": called, "model": model, **model_axes(model)}
        )
        for (manifest, called), model in product(names.items(), models)
    })  # fmt: skip


def augmentation(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("tsn_vgg16",),
    pretrained: str | None = None,
    recipe: Recipe | None = None,
) -> Plan:
    """An image network on single frames with and without augmentation: crops and mirror images, or the centre alone.

    Source: a course assignment of 2016, stage one.

    Published: no figure for each.
    """
    base = recipe or frame_ucf101()
    if pretrained is not None:
        base = replace(base, starting_from(pretrained))
    kinds: dict[str, dict[str, Any]] = {
        "augmented": {}, "plain": {"augment.crop": "center", "augment.flip_probability": 0.0},
    }  # fmt: skip
    names = data_names(data)
    runs = {
        run_name(_set(called, data), model, kind): Planned(
            replace(_named(base, model), {"data.manifest": manifest, **changes}),
            {"data": called, "model": model, **model_axes(model), "augmentation": kind},
        )
        for (manifest, called), model, (kind, changes) in product(names.items(), models, kinds.items())
    }
    varies = {"augmentation": ("augment.crop", "augment.flip_probability")}
    return Plan(f"Augmentation of frames on {', '.join(names.values())}", runs, {**VARIES, **varies})


def _named(base: Recipe, model: str) -> Recipe:
    """The recipe with another network; options are those of the network that it names."""
    own = with_network(base, model)
    return own if model.startswith("tsn_") else replace(own, {"model.options": {}})


def _set(called: str, data: Sequence[str]) -> str:
    """A set's name, where there are several."""
    return called if len(data) > 1 else ""
