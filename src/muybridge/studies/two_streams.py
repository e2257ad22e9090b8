"""Two streams: every model on each of several inputs, and their scores fused (Simonyan & Zisserman 2014).

muybridge compare --data set.csv --streams rgb,flow=STORE --models tsn_resnet50 --out streams
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import Recipe, replace
from muybridge.recipe.fields import with_network
from muybridge.recipe.shipped import lstm_ucf101, mini
from muybridge.storage.study import STREAM
from muybridge.studies.plan import Plan, Planned, data_names, model_axes, run_name, starting_from

_NAME = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*")
"""Names that no folder spells otherwise, so that runs of two streams have two folders."""


@dataclass(frozen=True)
class Stream:
    """An input of the models: a name, and the manifest whose files hold it."""

    name: str
    manifest: str
    modality: str


def parsed_streams(streams: Sequence[str], data: Sequence[str]) -> list[list[Stream]]:
    """The streams of each set by `NAME` (an input that its videos give) or `NAME=MANIFEST`. Raises UserError."""
    names = [text.partition("=")[0].strip() for text in streams]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(
            f"--streams: '{','.join(streams)}' are not two different inputs. For example: --streams rgb,flow=STORE"
        )
    if len(data) > 1 and any("=" in text for text in streams):
        raise UserError("--streams: NAME=MANIFEST is of one set, and several are given. Give one --data")
    sets = [[_stream(text, manifest) for text in streams] for manifest in data]
    for of_set in sets:
        for index, stream in enumerate(of_set):
            same = [
                one.name for one in of_set[:index] if (one.manifest, one.modality) == (stream.manifest, stream.modality)
            ]
            if same:
                raise UserError(
                    f"--streams: '{same[0]}' and '{stream.name}' are the same input of {stream.manifest}. Name one"
                )
    return sets


def _stream(text: str, data: str) -> Stream:
    name, equals, path = (part.strip() for part in text.partition("="))
    if equals and not path:
        raise UserError(f"--streams: '{text}' names no manifest. Write {name}=MANIFEST, or {name} alone")
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--streams: {name!r} is not a name. Write letters and digits, with _ or - between them, for example rgb"
        )
    manifest = path or data
    held = inputs.held_by(Manifest.load(manifest)) if equals else None  # a store says by itself what it holds
    if held is not None and name in inputs.INPUTS and name != held.name:
        raise UserError(f"--streams: {manifest} holds '{held.name}', not '{name}'. Write {held.name}={path}")
    if held is not None:
        return Stream(name, manifest, inputs.DEFAULT)
    if equals and name not in inputs.INPUTS:
        raise UserError(
            f"--streams: {path} lists videos, and own names are for stores. Name an input, for example rgb={path}"
        )
    return Stream(name, manifest, inputs.find(name).name)


def of_streams(
    models: Sequence[str],
    *,
    recipe: Recipe | Sequence[Recipe],
    streams: Sequence[Sequence[Stream]],
    data: Sequence[str],
    title: str | None = None,
) -> Plan:
    """Every model on each stream of every set, by one recipe, or by its own (one recipe for each model)."""
    if not models:
        raise UserError("models: compare has none. Name at least one model")
    if len(set(models)) != len(models):
        raise UserError("models: one is given twice. Give different models")
    called = list(data_names(data).values())
    recipes = [recipe] * len(models) if isinstance(recipe, Recipe) else list(recipe)
    runs: dict[str, Planned] = {}
    for (name, of_set), (model, own) in product(zip(called, streams, strict=True), zip(models, recipes, strict=True)):
        for stream in of_set:
            changes: Mapping[str, Any] = {
                "data.manifest": stream.manifest, "data.sha256": None, "clip.modality": stream.modality,
            }  # fmt: skip
            runs[run_name(name if len(data) > 1 else "", model, stream.name)] = Planned(
                replace(with_network(own, model), changes),
                {"data": name, "model": model, **model_axes(model), STREAM: stream.name},
            )
    of_inputs = " and ".join(stream.name for stream in streams[0])
    return Plan(title or f"Streams {of_inputs} on {', '.join(called)}", runs, has_streams=True)


def two_streams(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("tsn_resnet50", "tsm_resnet50", "i3d_resnet50"),
    streams: Sequence[str] | None = None,
    pretrained: str | None = None,
    recipe: Recipe | None = None,
) -> Plan:
    """Every model on frames and on optical flow, and both fused: does flow add anything?

    `data`: the set, and its store of flow (`muybridge flow`); or the set alone, with `streams`. Each model is trained on
    each stream. Weights of the streams are chosen on val.

    Source: Wang et al. 2016 (TSN; RGB : flow = 1 : 1.5) and Carreira & Zisserman 2017 (I3D; logits added 1 : 1), here by the
    mini protocol of Chen et al. 2021.

    Published: I3D on Kinetics 71.1 (RGB), 63.4 (flow), 74.2 (both).
    """
    base = recipe or mini()
    if pretrained is not None:
        base = replace(base, starting_from(pretrained))
    found, sets = _of_study(data, streams, "two_streams")
    title = f"Two streams on {', '.join(data_names(sets).values())}"
    return of_streams(models, recipe=base, streams=found, data=sets, title=title)


def two_stream_features(
    data: Sequence[str],
    *,
    models: Sequence[str] = ("lstm",),
    streams: Sequence[str] | None = None,
    recipe: Recipe | None = None,
) -> Plan:
    """A recurrent net over stored vectors of frames and over those of optical flow, and both fused.

    `data`: a store of each (`muybridge features` of a run on frames, and of one on flow). Both list the same videos.

    Source: Ng et al. 2015, "Beyond Short Snippets".

    Published: UCF101, an LSTM over RGB 82.6, with flow 88.6.
    """
    found, sets = _of_study(data, streams, "two_stream_features")
    title = f"Two streams of vectors on {', '.join(data_names(sets).values())}"
    return of_streams(models, recipe=recipe or lstm_ucf101(), streams=found, data=sets, title=title)


def _of_study(data: Sequence[str], streams: Sequence[str] | None, study: str) -> tuple[list[list[Stream]], list[str]]:
    """Streams that were asked for; or one for each manifest, by its name: stores say by themselves what they hold."""
    if streams is not None:
        return parsed_streams(streams, data), list(data)
    if len(data) < 2:
        raise UserError(
            f"--data: the study '{study}' takes a manifest for each stream, and one is given. Give --data A --data B, or "
            "--streams A,B"
        )
    names = data_names(data).values()
    return [[Stream(name, path, inputs.DEFAULT) for name, path in zip(names, data, strict=True)]], [data[0]]
