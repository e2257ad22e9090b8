"""The shipped studies: Python functions that return a plan.

    muybridge compare --study mini --data ssv2.csv --models tam_resnet50 --out STUDY

A study is a shipped one by its name, or one of your own as `mine.py:function`. It is called with `data`, the manifests,
and with what of `models`, `pretrained` and `recipe` was given. Seeds and folds are not its business: every run is repeated
with each.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.recipe import Recipe, diff, replace
from muybridge.recipe.fields import with_network
from muybridge.recipe.shipped import five_class, kinetics_full
from muybridge.recipe.shipped import mini as mini_recipe
from muybridge.recipe.shipped import transfer as transfer_recipe
from muybridge.studies.plan import (
    START,
    VARIES,
    Plan,
    Planned,
    Value,
    data_name,
    data_names,
    model_axes,
    of_models,
    run_name,
    starting_from,
)
from muybridge.studies.two_stages import augmentation, heads, recurrent_depth, sequences, single_or_recurrent
from muybridge.studies.two_streams import two_stream_features, two_streams
from muybridge.user_code import allow, function_in_file

MODELS_2021 = tuple(
    f"{method}_{backbone}"
    for method, backbone in product(("tsn", "tam", "s3d", "i3d"), ("inceptionv1", "resnet18", "resnet50"))
)


def study_2021(
    data: Sequence[str],
    *,
    models: Sequence[str] = MODELS_2021,
    temporal_pooling: Sequence[bool] = (False, True),
    num_frames: Sequence[int] = (8, 16, 32, 64),
    sampling: Sequence[str] = ("uniform", "dense"),
    pretrained: str | None = None,
) -> Plan:
    """Methods × backbones × temporal pooling × frames × uniform and dense sampling, on one or more sets: 192 runs a set.

    Each model of 16, 32 or 64 frames starts from the same of half the frames. A set whose name has "kinetics" in it gets
    the longer schedules of Mini-Kinetics. `pretrained`: what those of the fewest frames start from; none: what the recipe
    says, ImageNet.

    Source: Chen et al. 2021, "Deep Analysis of CNN-based Spatio-temporal Representations for Action Recognition", mini
    protocol.

    Published: 288 settings (3 sets, uniform sampling, one clip and its centre crop). On Mini-Something-Something a TSN of 8
    frames has 33.9 (ResNet50), I3D 62.6, TAM 65.4; on Mini-Kinetics 72.1, 73.3, 74.1. Temporal pooling costs 3D networks 6 to
    12 points at 8 frames and almost nothing at 64.
    """
    chosen = {model: model_axes(model) for model in models}
    names = data_names(data)
    runs: dict[str, Planned] = {}
    fields = {name for frames in num_frames for name in diff(mini_recipe(num_frames[0]), mini_recipe(frames))}
    for (manifest, called), model, pooling, how in product(names.items(), chosen, temporal_pooling, sampling):
        base = None
        for frames in num_frames:
            name = run_name(
                called if len(names) > 1 else "", model, f"{frames}f", "tp" if pooling else "",
                "" if how == "uniform" else how,
            )  # fmt: skip
            recipe = replace(with_network(mini_recipe(frames, kinetics="kinetics" in called.lower()), model), {
                "data.manifest": manifest, "model.temporal_pooling": pooling, "clip.sampling": how,
                **({"model.pretrained": mini_recipe().model.pretrained} if base is None else {}),
                **({} if pretrained is None or base else starting_from(pretrained)),
            })  # fmt: skip
            axes: dict[str, Value] = {
                "data": called, "model": model, **chosen[model], "temporal_pooling": pooling, "num_frames": frames,
                "sampling": how,
            }  # fmt: skip
            runs[name] = Planned(recipe, axes, base)
            base = name
    return Plan(
        f"The study of 2021 on {', '.join(names.values())}",
        runs,
        {**VARIES, "num_frames": tuple(sorted({"clip.num_frames", *START, *fields}))},
    )


def mini(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("tsn_resnet50", "tam_resnet50", "i3d_resnet50"),
    num_frames: Sequence[int] = (8, 16, 32, 64),
    pretrained: str | None = None,
) -> Plan:
    """A few models at 8, 16, 32 and 64 frames, each starting from its run of half the frames.

    Source: Chen et al. 2021, mini protocol: the part of `study_2021` without temporal pooling and with uniform sampling.

    Published: 8 / 16 frames, ResNet50: TSN 33.9 / 35.3, TAM 65.4 / 68.6, I3D 62.6 / 66.2 on Mini-Something-Something;
    72.1 / 72.5, 74.1 / 76.4, 73.3 / 75.5 on Mini-Kinetics (table 3).
    """
    plan = study_2021(
        data, models=models, temporal_pooling=(False,), num_frames=num_frames, sampling=("uniform",),
        pretrained=pretrained,
    )  # fmt: skip
    return Plan(f"The mini protocol on {', '.join(data_names(data).values())}", plan.runs, plan.varies)


def pretraining(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("i3d_resnet50", "tam_resnet50"),
    pretrained: str = "imagenet",
    recipe: Recipe | None = None,
) -> Plan:
    """Public weights against none, all else alike.

    `pretrained`: other weights than ImageNet's; `recipe`: another protocol than that of the full sets.

    Source: Chen et al. 2021, table 2.

    Published: Kinetics-400, 10 × 3 views: I3D-ResNet50 76.61 from ImageNet and 76.54 from scratch, TAM-ResNet50 76.18 and
    75.61.
    """
    if starting_from(pretrained)["model.pretrained"] is None:
        raise UserError(
            "--pretrained: the study 'pretraining' compares weights with none. Name the weights, for example imagenet"
        )
    recipe = recipe or kinetics_full()
    names = data_names(data)
    weights = {pretrained: Path(pretrained).name, "none": "none"}
    return Plan(f"{weights[pretrained]} or no weights, on {', '.join(names.values())}", {
        run_name(called if len(names) > 1 else "", model, start_name): Planned(
            replace(with_network(recipe, model), {"data.manifest": manifest, **starting_from(start)}),
            {"data": called, "model": model, **model_axes(model), "pretrained": start_name},
        )
        for (manifest, called), model, (start, start_name) in product(names.items(), models, weights.items())
    })  # fmt: skip


def transfer(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("tsn_resnet50", "tam_resnet50", "i3d_resnet50"),
    pretrained: str | None = None,
    recipe: Recipe | None = None,
) -> Plan:
    """From the first set to each of the others.

    Every model is trained on the first, then on another from there, and on the other from scratch. `recipe`: for all runs,
    instead of that of the full sets and, on the others, of the transfer; `pretrained`: what the runs on the first set start
    from, and nothing else.

    Source: Chen et al. 2021, transfer protocol: trained on Kinetics-400 with 32 frames, then on smaller sets.

    Published: no figure is shipped.
    """
    if len(data) < 2:
        raise UserError(
            "--data: the study 'transfer' takes the set to come from and one or more to go to. Give --data A.csv "
            "--data B.csv"
        )
    (first, source), *others = data_names(data).items()
    before = replace(recipe or kinetics_full(), {"data.manifest": first})
    if pretrained is not None:
        before = replace(before, starting_from(pretrained))
    runs: dict[str, Planned] = {}
    for model in models:
        base = run_name(source, model)
        axes: dict[str, Value] = {"model": model, **model_axes(model)}
        start = data_name(before.model.pretrained or "none")
        runs[base] = Planned(with_network(before, model), {"data": source, **axes, "start": start})
        for manifest, called in others:
            after = replace(
                with_network(recipe or transfer_recipe(), model), {"data.manifest": manifest, **starting_from("none")}
            )
            there = {"data": called, **axes}
            runs[run_name(called, model, "from", source)] = Planned(after, {**there, "start": source}, base)
            runs[run_name(called, model, "scratch")] = Planned(after, {**there, "start": "scratch"})
    return Plan(f"From {source} to {', '.join(name for _, name in others)}", runs)


def equal_time(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("i3d", "s3d", "s3dv3", "s3dv3_topheavy"),
    recipe: Recipe | None = None,
) -> Plan:
    """The same hours of training for every model, however few updates a slow one makes of them.

    The report says how many. `recipe`: another one that goes by the clock (`stop.max_hours`).

    Source: a reproduction study of 2018: five classes of Kinetics from scratch, 24 hours a model.

    Published: top-1 S3D .68, I3D .64, S3D-v3 5 to 10 points under S3D, top-heavy on a par with S3D.
    """
    names = ", ".join(data_names(data).values())
    plan = of_models(models, recipe=recipe or five_class(), data=data, title=f"Equal time on {names}")
    return dataclasses.replace(plan, needs=("stop.max_hours",))


SHIPPED: dict[str, Callable[..., Plan]] = {
    make.__name__: make
    for make in (
        study_2021,
        mini,
        pretraining,
        transfer,
        equal_time,
        heads,
        single_or_recurrent,
        recurrent_depth,
        sequences,
        augmentation,
        two_streams,
        two_stream_features,
    )
}


def of(study: str | Plan, *, data: Sequence[str], **given: Any) -> Plan:
    """The plan of a study by its name, or by `file.py:function`; a Plan is returned as it is.

    `given`: arguments of the study's function. Raises UserError.
    """
    if isinstance(study, Plan):
        return study
    name = study
    if name in SHIPPED:
        make = SHIPPED[name]
    elif ".py:" in name:
        make = function_in_file(name, "study")
    else:
        raise UserError(
            f"study '{name}': no such study. {nearest(name, SHIPPED)} Or name one of your own: mine.py:function"
        )
    parameters = inspect.signature(make).parameters
    for argument in given:
        if argument not in parameters:
            raise UserError(f"--{argument}: the study '{name}' does not take it. Use only {', '.join(parameters)}")
    plan = make(data, **given)
    if not isinstance(plan, Plan):
        raise UserError(f"{name}: it returned a {type(plan).__name__}. Return a muybridge.studies.plan.Plan")
    if name not in SHIPPED:
        for planned in plan.runs.values():
            allow(planned.recipe.model.name)  # the user's own file names it
    return plan
