"""From the names of a network and of weights to a network that answers, with the weights' own classifier.

Nobody trains here: public weights, or a file of a whole classifier, are used as they are.
"""

from collections.abc import Mapping
from typing import Any

from muybridge.build.networks import model, outline
from muybridge.build.resolving import settled_precision
from muybridge.build.weights import run_of, starts_from, weights_file
from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.recipe.fields import with_network
from muybridge.storage.evaluations import OPEN_FIELDS
from muybridge.text import plural
from muybridge.zoo import Loaded, VideoModel, load_weights
from muybridge.zoo.count import natural_input

NUM_CLIPS = 5
"""Clips of a video where they are short and dense, unless set otherwise (torchvision's number)."""
CROP_FRACTION = 224 / 256
"""Side of the crop where the weights' authors scale the short side and cut the centre (224 of 256, 112 of 128)."""


def ready_made(name: str, pretrained: str, *, changes: Mapping[str, Any], runtime: Runtime) -> Recipe:
    """Recipe of a network with weights that are used as they are.

    Frames, size and sampling are those that the weights are made for, where that is known; else the network's usual input.
    `changes` win: dotted fields of `evaluation` and `clip`, `data.on_error`, `precision`, and the model's own
    (`model.options.…`, `model.temporal_pooling`). The precision is fp32 unless they name one. Raises UserError.
    """
    if pretrained.strip() in ("", "none"):
        raise UserError("--pretrained: it names no weights. Name them (kinetics400, hub, a file, a URL)")
    opens = (*OPEN_FIELDS, "model.options.", "model.temporal_pooling")
    closed = [field for field in changes if not field.startswith(opens)]
    if closed:
        raise UserError(
            f"{closed[0]}: nothing is trained here. Set only evaluation.…, clip.…, data.on_error, precision, "
            "model.options.… and model.temporal_pooling"
        )
    given = replace(with_network(Recipe(), name), {"model.pretrained": pretrained, "precision": "fp32", **changes})
    if starts_from(given) is None:
        raise UserError(
            f"--pretrained {pretrained}: it names no weights of {name}. Name them (kinetics400, a file, a URL)"
        )
    usual = _usual_input(given, pretrained)
    return replace(given, {**usual, **changes, "precision": settled_precision(given, runtime)})


def _usual_input(recipe: Recipe, pretrained: str) -> dict[str, Any]:
    """Fields of the input that the weights are made for."""
    m, channels = recipe.model, inputs.of(recipe.clip).channels
    frames, size = natural_input(m.name, temporal_pooling=m.temporal_pooling, in_channels=channels, **m.options)
    usual: dict[str, Any] = {"clip.num_frames": frames, "clip.size": size}
    published = outline(replace(recipe, usual), 1).published.get(pretrained)
    clips = None if published is None else published.clips
    if clips is None:
        return usual
    usual |= {"clip.size": clips.size, "evaluation.crop_fraction": CROP_FRACTION}
    if clips.num_frames == 1:  # images
        return usual
    return usual | {
        "clip.num_frames": clips.num_frames, "clip.sampling": "dense", "clip.stride_frames": clips.stride_frames,
        "clip.fps": clips.fps, "evaluation.num_clips": NUM_CLIPS,
    }  # fmt: skip


def answering(recipe: Recipe) -> tuple[VideoModel, Loaded]:
    """Network of a `ready_made` recipe with its weights and their classifier, and the report of loading them.

    Raises UserError for weights that do not fit, that are a run's, or that leave a part of the network fresh.
    """
    source = starts_from(recipe)
    assert source is not None
    net = model(recipe, 1, pretrained=False)
    try:
        file = weights_file(source)
        run = run_of(file)
        if run is not None:
            raise UserError(
                f"weights: they are of the run {run.path}, which knows its own clips and the videos it was trained on. "
                "Name the run alone, without --pretrained"
            )
        loaded = load_weights(net, file or source, own_classifier=True, inflation=recipe.model.inflation)
        _check_complete(net, loaded, source)
    except UserError as error:
        raise UserError(f"{recipe.model.name}, --pretrained {source}: {error}") from None
    net.class_names = loaded.classes or tuple(map(str, range(_num_classes(net))))
    return net, loaded


def _check_complete(net: VideoModel, loaded: Loaded, source: str) -> None:
    """Check that nothing of a network is untrained, and that its classes are as many as their names.

    Raises UserError.
    """
    train = f"Train the network first: muybridge train --model {net.name} --pretrained {source}"
    if loaded.inflated or (source == "imagenet" and net.looks_at != "frame"):
        raise UserError(
            f"weights: they are of an image network and know nothing of time, which {net.name} looks along. {train}, "
            "or take tsn, which looks at single frames"
        )
    if loaded.crossed:
        raise UserError(f"weights: they are of pictures, not of what {net.name} is shown here. {train}")
    if loaded.fresh:
        raise UserError(
            f"weights: {plural(len(loaded.fresh), 'tensor')} would stay random ({loaded.fresh[0]}). {train}"
        )
    count = _num_classes(net)
    if loaded.classes and len(loaded.classes) != count:
        raise UserError(
            f"weights: they name {len(loaded.classes)} classes, but their classifier has {count}. Restore the file, or "
            "give another"
        )


def _num_classes(net: VideoModel) -> int:
    return len(net.state_dict()[net.classifier_names()[0]])
