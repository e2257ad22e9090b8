"""The shipped recipes are the published protocols: every field of every one is written down here a second time, by hand.

Whoever changes a recipe, or a default that a recipe leaves alone, has to change this page, too.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command import call, document

import muybridge
from muybridge import api, build
from muybridge.errors import UserError
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Runtime, fields, flat, parse_overrides, replace
from muybridge.recipe.schedule import budget, lr_schedule, peak_lr, resized, steps_per_epoch
from muybridge.recipe.shipped import SHIPPED, about, load, mini
from muybridge.zoo.count import count

DEFAULTS = {
    "data.manifest": "",
    "data.fold": None,
    "data.sha256": None,
    "data.train_share": 1.0,
    "data.balanced_sampling": False,
    "data.on_error": "stop",
    "clip.num_frames": 8,
    "clip.sampling": "uniform",
    "clip.jitter": "segment",
    "clip.stride_frames": 2,
    "clip.fps": None,
    "clip.past_end": "wrap",
    "clip.order": "ordered",
    "clip.modality": "rgb",
    "clip.stack": None,
    "clip.size": 112,
    "clip.short_side": None,
    "augment.crop": "multiscale",
    "augment.short_sides": None,
    "augment.flip_probability": 0.5,
    "augment.brightness": 0.0,
    "augment.contrast": 0.0,
    "augment.saturation": 0.0,
    "augment.hue": 0.0,
    "augment.rotation_degrees": 0.0,
    "model.name": "",
    "model.init_std": None,
    "model.pretrained": "auto",
    "model.strict": True,
    "model.inflation": "divide",
    "model.temporal_pooling": False,
    "model.dropout": 0.5,
    "model.options": {},
    "model.source_sha256": None,
    "model.weights_sha256": None,
    "model.pretrained_sha256": None,
    "optim.optimizer": "sgd",
    "optim.lr": 0.01,
    "optim.lr_grid": (),
    "optim.weight_decay_grid": (),
    "optim.lr_batch_size": None,
    "optim.momentum": 0.9,
    "optim.weight_decay": 5e-4,
    "optim.weight_decay_exempt": "norms_and_biases",
    "optim.batch_size": 16,
    "optim.micro_batch_size": None,
    "optim.batch_norm": "local",
    "optim.train_from": None,
    "optim.backbone_lr": None,
    "optim.layer_decay": None,
    "optim.ema_decay": None,
    "optim.epochs": 30,
    "optim.steps": None,
    "optim.steps_per_epoch": None,
    "optim.min_steps": 0,
    "optim.warmup_epochs": 0.0,
    "optim.warmup_lr": None,
    "optim.schedule": "cosine",
    "optim.milestones": (),
    "optim.milestone_factor": 0.1,
    "optim.schedule_unit": "epochs",
    "optim.label_smoothing": 0.0,
    "optim.class_weights": None,
    "optim.logit_adjustment": 0.0,
    "optim.clip_grad_norm": None,
    "stop.max_hours": None,
    "stop.metric": None,
    "stop.target": None,
    "stop.patience_epochs": None,
    "evaluation.num_clips": 1,
    "evaluation.num_crops": 1,
    "evaluation.size": None,
    "evaluation.whole": False,
    "evaluation.crop_fraction": 1.0,
    "evaluation.average": "logits",
    "evaluation.every_epochs": 1,
    "evaluation.score_test": True,
    "evaluation.checkpoint": "last",
    "precision": "auto",
    "seed": 0,
}
"""What a recipe has where it says nothing."""

MINI = {
    "clip.jitter": "shared",
    "clip.stride_frames": 1,
    "clip.size": 224,
    "clip.short_side": 256,
    "model.pretrained": "imagenet",
    "model.inflation": "repeat",
    "optim.lr_batch_size": 72,
    "optim.weight_decay_exempt": "nothing",
    "optim.batch_size": 72,
    "optim.epochs": 75,
}
MINI_LONGER = MINI | {"optim.schedule": "steps", "optim.milestones": (10.0, 20.0, 30.0), "optim.epochs": 35}
LONGER_KINETICS = {"optim.milestones": (15.0, 30.0, 40.0), "optim.epochs": 45}
MINI_16 = MINI_LONGER | {"clip.num_frames": 16, "model.pretrained": "the run of 8 frames"}
MINI_32 = MINI_LONGER | {
    "clip.num_frames": 32, "model.pretrained": "the run of 16 frames", "optim.batch_size": 48, "optim.lr_batch_size": 48,
}  # fmt: skip
MINI_64 = MINI_LONGER | {
    "clip.num_frames": 64, "model.pretrained": "the run of 32 frames", "optim.batch_size": 36, "optim.lr_batch_size": 36,
    "optim.batch_norm": "synced",
}  # fmt: skip
LARGE = {"optim.batch_size": 36, "optim.lr_batch_size": 36, "optim.batch_norm": "synced"}
AS_CODED = {"evaluation.crop_fraction": 0.875}
KINETICS_FULL = {
    "clip.num_frames": 32, "clip.sampling": "dense", "clip.size": 224, "clip.short_side": 256,
    "augment.crop": "random", "augment.short_sides": (256, 320), "model.pretrained": "imagenet",
    "model.inflation": "repeat", "optim.lr": 1.6, "optim.lr_batch_size": 1024, "optim.weight_decay": 1e-4,
    "optim.weight_decay_exempt": "nothing", "optim.batch_size": 1024, "optim.micro_batch_size": 8,
    "optim.epochs": 196, "optim.warmup_epochs": 34.0, "optim.warmup_lr": 0.01, "evaluation.num_clips": 10,
    "evaluation.num_crops": 3, "evaluation.size": 256, "evaluation.every_epochs": 28,
}  # fmt: skip
FIVE_CLASS = {
    "clip.num_frames": 64, "clip.sampling": "dense", "clip.stride_frames": 1, "clip.size": 224,
    "clip.short_side": 256, "augment.crop": "random", "augment.flip_probability": 0.0, "model.pretrained": None,
    "optim.lr_batch_size": 5, "optim.momentum": 0.0, "optim.weight_decay": 0.0, "optim.batch_size": 5,
    "optim.epochs": None, "optim.schedule": "steps", "optim.milestones": (12.0,), "optim.schedule_unit": "hours",
    "stop.max_hours": 24.0, "evaluation.crop_fraction": 0.875,
}  # fmt: skip
REPORT = {
    "clip.size": 224,
    "clip.short_side": 256,
    "model.pretrained": None,
    "optim.weight_decay": 1e-4,
    "optim.weight_decay_exempt": "nothing",
    "optim.steps_per_epoch": 200,
    "optim.schedule": "steps",
    "evaluation.crop_fraction": 0.875,
    "evaluation.every_epochs": 10,
}
TSN_VGG16_UCF101 = REPORT | {
    "clip.num_frames": 3, "model.name": "tsn_vgg16", "model.dropout": 0.9, "optim.lr": 0.001, "optim.batch_size": 5,
    "optim.lr_batch_size": 5, "optim.milestones": (40.0, 70.0, 90.0), "optim.epochs": 100,
}  # fmt: skip
TSN_RESNET50_HMDB51 = REPORT | {
    "clip.num_frames": 3, "model.name": "tsn_resnet50", "optim.lr": 0.01, "optim.batch_size": 15,
    "optim.lr_batch_size": 15, "optim.milestones": (30.0, 50.0), "optim.epochs": 70,
}  # fmt: skip
I3D_RESNET50 = REPORT | {
    "clip.num_frames": 32, "clip.sampling": "dense", "model.name": "i3d_resnet50_gluoncv",
    "model.pretrained": "imagenet", "optim.lr": 0.01, "optim.batch_size": 5, "optim.lr_batch_size": 5,
    "optim.milestones": (30.0, 55.0, 70.0), "optim.epochs": 80,
}  # fmt: skip

UCF11 = {
    "clip.num_frames": 30, "clip.size": 64, "clip.short_side": 64, "augment.crop": "center",
    "augment.flip_probability": 0.0, "model.name": "cnn_lstm", "model.init_std": 0.1, "model.pretrained": None,
    "model.dropout": 0.0, "optim.optimizer": "adam", "optim.lr": 1e-3, "optim.weight_decay": 0.0,
    "optim.epochs": 128, "optim.steps_per_epoch": 256, "optim.schedule": "constant",
    "stop.metric": "val.video_top1", "stop.target": 0.75,
}  # fmt: skip
SLOWER = {"model.init_std": None, "optim.lr": 2e-4, "optim.warmup_epochs": 1.0}

WRITTEN = {
    "small": {
        "clip.sampling": "dense", "clip.size": 96, "clip.short_side": 112, "optim.optimizer": "adamw", "optim.lr": 2e-3,
        "optim.weight_decay": 0.05, "optim.min_steps": 1000, "optim.warmup_epochs": 1.0, "optim.label_smoothing": 0.1,
        "evaluation.num_clips": 5, "evaluation.every_epochs": 5,
    },
    "heads": {
        "clip.num_frames": 120, "clip.sampling": "dense", "clip.stride_frames": 1, "clip.past_end": "mirror",
        "augment.crop": "center", "augment.flip_probability": 0.0,
        "optim.optimizer": "adamw", "optim.lr": 1e-3, "optim.lr_grid": (5e-3, 3e-3, 1e-3, 3e-4, 1e-4),
        "optim.weight_decay": 0.01, "optim.weight_decay_grid": (0.01, 0.1, 0.4, 0.8),
        "optim.batch_size": 32, "optim.epochs": 20, "optim.min_steps": 400,
        "evaluation.whole": True, "evaluation.every_epochs": 1000,
    },
    "frame_ucf101": {
        "clip.num_frames": 1, "clip.size": 224, "clip.short_side": 256,
        "model.name": "tsn_vgg16", "model.pretrained": "imagenet", "model.options": {"width": 1024},
        "optim.lr_batch_size": 64, "optim.batch_size": 64, "optim.train_from": "top", "optim.epochs": 20,
        "evaluation.num_clips": 25, "evaluation.crop_fraction": 0.875, "evaluation.every_epochs": 5,
    },
    "lstm_ucf101": {
        "clip.num_frames": 120, "clip.sampling": "dense", "clip.stride_frames": 1, "clip.past_end": "mirror",
        "augment.crop": "center", "augment.flip_probability": 0.0,
        "model.name": "lstm", "model.options": {"num_layers": 1, "width": 256, "hidden": 512, "truncate": 30},
        "optim.optimizer": "adam", "optim.lr": 1e-3, "optim.weight_decay": 0.0, "optim.batch_size": 64,
        "optim.epochs": 50, "optim.schedule": "constant", "optim.clip_grad_norm": 5.0,
        "stop.metric": "train.loss", "stop.patience_epochs": 5,
        "evaluation.whole": True, "evaluation.every_epochs": 5,
    },
    "finetune": {
        "clip.sampling": "dense", "clip.size": 112, "clip.short_side": 128, "model.pretrained": "imagenet",
        "optim.optimizer": "adamw", "optim.lr": 1e-3, "optim.backbone_lr": 0.5, "optim.layer_decay": 0.9,
        "optim.weight_decay": 0.05, "optim.batch_size": 8, "optim.batch_norm": "frozen", "optim.epochs": 10,
        "optim.min_steps": 200, "optim.warmup_epochs": 1.0, "optim.label_smoothing": 0.1, "evaluation.num_clips": 5,
        "evaluation.every_epochs": 5,
    },
    "demo": {
        "clip.size": 64, "augment.crop": "center", "model.dropout": 0.0, "optim.optimizer": "adamw", "optim.lr": 3e-3,
        "optim.weight_decay": 0.05, "optim.batch_size": 32, "optim.epochs": 12, "optim.warmup_epochs": 1.0,
    },
    "mini_8": MINI,
    "mini_16": MINI_16,
    "mini_32": MINI_32,
    "mini_64": MINI_64,
    "mini_kinetics_8": MINI | {"optim.epochs": 100},
    "mini_kinetics_16": MINI_16 | LONGER_KINETICS,
    "mini_kinetics_32": MINI_32 | LONGER_KINETICS,
    "mini_kinetics_64": MINI_64 | LONGER_KINETICS,
    "mini_32_large": MINI_32 | LARGE,
    "mini_kinetics_32_large": MINI_32 | LONGER_KINETICS | LARGE,
    "mini_8_as_coded": MINI | AS_CODED,
    "mini_16_as_coded": MINI_16 | AS_CODED,
    "mini_32_as_coded": MINI_32 | AS_CODED,
    "mini_64_as_coded": MINI_64 | AS_CODED,
    "mini_kinetics_8_as_coded": MINI | {"optim.epochs": 100} | AS_CODED,
    "mini_kinetics_16_as_coded": MINI_16 | LONGER_KINETICS | AS_CODED,
    "mini_kinetics_32_as_coded": MINI_32 | LONGER_KINETICS | AS_CODED,
    "mini_kinetics_64_as_coded": MINI_64 | LONGER_KINETICS | AS_CODED,
    "kinetics_full": KINETICS_FULL,
    "ssv2_full": KINETICS_FULL | {
        "clip.sampling": "uniform", "clip.jitter": "shared", "clip.stride_frames": 1, "evaluation.num_clips": 2,
    },
    "transfer": MINI | {
        "clip.num_frames": 32, "model.pretrained": "the run on Kinetics", "optim.batch_size": 48,
        "optim.lr_batch_size": 48, "optim.batch_norm": "synced", "optim.epochs": 45,
    },
    "tsn_vgg16_ucf101": TSN_VGG16_UCF101,
    "tsn_vgg16_ucf101_second": TSN_VGG16_UCF101 | {"optim.milestones": (50.0, 90.0), "optim.steps_per_epoch": 100},
    "tsn_resnet50_hmdb51": TSN_RESNET50_HMDB51,
    "i3d_resnet50_ucf101": I3D_RESNET50,
    "i3d_resnet50_hmdb51": I3D_RESNET50,
    "five_class": FIVE_CLASS,
    "five_class_shuffled": FIVE_CLASS | {"clip.order": "shuffled"},
    "ucf11": UCF11,
    "ucf11_c3d": UCF11 | SLOWER | {"model.name": "c3d_small"},
    "ucf11_vgg9": UCF11 | SLOWER | {"model.name": "vgg9"},
}  # fmt: skip
"""What each recipe says otherwise."""


def plan_recipes(models, *, manifest, **arguments):
    """The recipes of a plan."""
    return [planned.recipe for planned in api.plan(models, data=manifest, folds=[1], **arguments).runs.values()]


def flat_with_options(recipe):
    """Options as one field, also without any."""
    others = {name: value for name, value in flat(recipe).items() if not name.startswith("model.options.")}
    return {**others, "model.options": recipe.model.options}


def test_every_shipped_recipe_and_every_field_is_written_here():
    assert set(WRITTEN) == set(SHIPPED)
    assert set(DEFAULTS) == set(fields(type(load("small"))))
    for written in WRITTEN.values():
        assert not set(written) - set(DEFAULTS)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_field_of_a_recipe_is_as_written(name):
    assert flat_with_options(load(name)) == DEFAULTS | WRITTEN[name]


SGD = {"optim.optimizer": "sgd", "optim.momentum": 0.9}
CODE = {"optim.weight_decay_exempt": "nothing"}
MINI_CLIP = {
    "clip.sampling": "uniform", "clip.jitter": "shared", "clip.size": 224, "augment.crop": "multiscale",
    "augment.flip_probability": 0.5, "evaluation.num_clips": 1, "evaluation.num_crops": 1, "evaluation.average": "logits",
}  # fmt: skip
REPORT_TOLD = SGD | {"optim.weight_decay": 1e-4, "optim.schedule": "steps", "optim.milestone_factor": 0.1}


@pytest.mark.parametrize(
    ("line", "names", "told"),
    [
        (
            "mini, 8 frames | SGD .9, wd 5e-4 | .01 | 72 | cosine, 75 epochs | ImageNet",
            ["mini_8"],
            SGD | CODE | MINI_CLIP | {
                "clip.num_frames": 8, "optim.weight_decay": 5e-4, "optim.lr": 0.01, "optim.batch_size": 72,
                "optim.lr_batch_size": 72, "optim.schedule": "cosine", "optim.epochs": 75, "optim.warmup_epochs": 0,
                "model.pretrained": "imagenet", "model.inflation": "repeat",
            },
        ),
        ("… (Kinetics 100)", ["mini_kinetics_8"], {"optim.schedule": "cosine", "optim.epochs": 100}),
        (
            "mini, 16 / 32 / 64 frames | same | .01 | x.1 at 10, 20, 30 of 35",
            ["mini_16", "mini_32", "mini_64"],
            SGD | CODE | MINI_CLIP | {
                "optim.weight_decay": 5e-4, "optim.lr": 0.01, "optim.schedule": "steps", "optim.milestone_factor": 0.1,
                "optim.milestones": (10, 20, 30), "optim.epochs": 35, "model.strict": True,
            },
        ),
        (
            "… (15, 30, 40 of 45)",
            ["mini_kinetics_16", "mini_kinetics_32", "mini_kinetics_64"],
            SGD | CODE | MINI_CLIP | {
                "optim.weight_decay": 5e-4, "optim.lr": 0.01, "optim.schedule": "steps", "optim.milestone_factor": 0.1,
                "optim.milestones": (15, 30, 40), "optim.epochs": 45, "model.strict": True,
            },
        ),
        ("batch 72", ["mini_16", "mini_kinetics_16"], {"optim.batch_size": 72, "optim.lr_batch_size": 72}),
        ("batch 60-48", ["mini_32", "mini_kinetics_32"], {"optim.batch_size": 48, "optim.lr_batch_size": 48}),
        (
            "batch 36 with SyncBN",
            ["mini_64", "mini_kinetics_64"],
            {"optim.batch_size": 36, "optim.lr_batch_size": 36, "optim.batch_norm": "synced"},
        ),
        (
            "full Kinetics (BN over the 8 clips of each GPU; 32 frames, stride 2) | SGD .9, wd 1e-4 | 1.6 | 1024 | 34 epochs "
            "linear warm-up from .01, half cosine, 196 epochs; short side uniform in [256, 320], random 224 crop; 10 x 3",
            ["kinetics_full"],
            SGD | {
                "clip.num_frames": 32, "clip.sampling": "dense", "clip.stride_frames": 2, "clip.past_end": "wrap",
                "clip.size": 224, "augment.crop": "random", "augment.short_sides": (256, 320),
                "augment.flip_probability": 0.5, "optim.micro_batch_size": 8, "optim.weight_decay": 1e-4, "optim.lr": 1.6,
                "optim.batch_size": 1024, "optim.lr_batch_size": 1024, "optim.warmup_epochs": 34, "optim.warmup_lr": 0.01,
                "optim.schedule": "cosine", "optim.epochs": 196, "evaluation.num_clips": 10, "evaluation.num_crops": 3,
                "evaluation.crop_fraction": 1.0, "evaluation.size": 256, "evaluation.average": "logits",
            },
        ),
        (
            "full Something-Something: 2 x 3 views of 256",
            ["ssv2_full"],
            {"evaluation.num_clips": 2, "evaluation.num_crops": 3, "evaluation.size": 256, "clip.sampling": "uniform"},
        ),
        (
            "mini, 32 frames, large networks: batch 36, synced norms",
            ["mini_32_large", "mini_kinetics_32_large"],
            {"clip.num_frames": 32, "optim.batch_size": 36, "optim.batch_norm": "synced"},
        ),
        (
            "clip level: 224 of a short side of 224 (dense: consecutive frames)",
            [name for name in SHIPPED if name.startswith("mini") and not name.endswith("as_coded")],
            {"clip.size": 224, "evaluation.crop_fraction": 1.0, "evaluation.size": None, "clip.stride_frames": 1},
        ),
        (
            "the code's clip level: 224 of a short side of 256",
            [name for name in SHIPPED if name.endswith("as_coded")],
            {"clip.size": 224, "evaluation.crop_fraction": 224 / 256, "evaluation.size": None},
        ),
        (
            "transfer | SGD .9 | .01 | 48, SyncBN | cosine, 45 epochs | Kinetics, 32 frames",
            ["transfer"],
            SGD | {
                "optim.lr": 0.01, "optim.batch_size": 48, "optim.lr_batch_size": 48, "optim.batch_norm": "synced",
                "optim.schedule": "cosine", "optim.milestones": (), "optim.epochs": 45, "clip.num_frames": 32,
            },
        ),
        ("learning report | .001 VGG16", ["tsn_vgg16_ucf101"], REPORT_TOLD | {"optim.lr": 0.001}),
        (
            "… .01 ResNet50",
            ["i3d_resnet50_ucf101", "tsn_resnet50_hmdb51", "i3d_resnet50_hmdb51"],
            REPORT_TOLD | {"optim.lr": 0.01},
        ),
        (
            "its second run: x.1 at 50, 90, 100 iterations",
            [name for name in SHIPPED if name.endswith("_second")],
            REPORT_TOLD | {"optim.milestones": (50, 90), "optim.steps_per_epoch": 100},
        ),
        (
            "5-class Kinetics from scratch (64 frames of 224, 24 h) | SGD, no momentum | .01, .001 after half of 24 h | 5 | by "
            "wall-clock | none",
            ["five_class"],
            {
                "clip.num_frames": 64, "clip.sampling": "dense", "clip.stride_frames": 1, "clip.size": 224,
                "optim.optimizer": "sgd", "optim.momentum": 0, "optim.lr": 0.01, "optim.batch_size": 5,
                "optim.lr_batch_size": 5, "optim.schedule_unit": "hours", "optim.schedule": "steps", "optim.milestones": (12,),
                "optim.milestone_factor": 0.1, "stop.max_hours": 24, "optim.epochs": None, "model.pretrained": None,
            },
        ),
        (
            "UCF-11 at 64x64 | Adam | 1e-3 | 16 | at most 128 epochs of 256 batches; stop early at 75 % validation accuracy | "
            "normal, std .1",
            ["ucf11"],
            {
                "clip.size": 64, "clip.num_frames": 30, "optim.optimizer": "adam", "optim.lr": 1e-3, "optim.batch_size": 16,
                "optim.epochs": 128, "optim.steps_per_epoch": 256, "optim.schedule": "constant",
                "stop.metric": "val.video_top1", "stop.target": 0.75, "model.init_std": 0.1, "model.pretrained": None,
            },
        ),
    ],
)  # fmt: skip
def test_recipes_are_what_the_table_of_protocols_says(line, names, told):
    for name in names:
        values = flat(load(name))
        assert {field: values[field] for field in told} == told, f"{name}: {line}"


def test_a_rate_of_the_learning_report_is_that_of_its_batch():
    """Its own batch is not rescaled in silence."""
    for name in ("tsn_vgg16_ucf101", "tsn_resnet50_hmdb51", "i3d_resnet50_ucf101", "i3d_resnet50_hmdb51"):
        recipe = load(name)
        assert peak_lr(recipe) == recipe.optim.lr


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("mini_8", {0: 0.01, 37.5: 0.005, 75: 0}),
        ("mini_kinetics_8", {0: 0.01, 50: 0.005, 100: 0}),
        ("mini_16", {0: 0.01, 9.9: 0.01, 10: 1e-3, 19.9: 1e-3, 20: 1e-4, 30: 1e-5, 34.9: 1e-5}),
        ("mini_32", {0: 0.01, 10: 1e-3, 20: 1e-4, 30: 1e-5}),
        ("mini_64", {0: 0.01, 10: 1e-3, 20: 1e-4, 30: 1e-5}),
        ("mini_kinetics_64", {14.9: 0.01, 15: 1e-3, 30: 1e-4, 40: 1e-5}),
        ("kinetics_full", {0: 0.01, 17: 0.805, 34: 1.6, 115: 0.8, 196: 0}),
        ("transfer", {0: 0.01, 22.5: 0.005, 45: 0}),
        ("tsn_vgg16_ucf101", {0: 1e-3, 39.9: 1e-3, 40: 1e-4, 70: 1e-5, 90: 1e-6}),
        ("tsn_vgg16_ucf101_second", {0: 1e-3, 49.9: 1e-3, 50: 1e-4, 90: 1e-5}),
        ("tsn_resnet50_hmdb51", {0: 0.01, 30: 1e-3, 50: 1e-4, 69.9: 1e-4}),
        ("i3d_resnet50_ucf101", {0: 0.01, 30: 1e-3, 55: 1e-4, 70: 1e-5}),
        ("ucf11", {0: 1e-3, 127.9: 1e-3}),
        ("small", {0: 2e-5, 0.5: 0.00101, 1: 2e-3, 30: 0}),
        ("finetune", {0: 1e-5, 1: 1e-3, 10: 0}),
        ("demo", {0: 3e-5, 1: 3e-3, 12: 0}),
    ],
)
def test_learning_rates_over_the_epochs(name, rates):
    recipe = replace(load(name), {"optim.min_steps": 0})
    num_rows = recipe.optim.batch_size * 20
    per_epoch = steps_per_epoch(recipe, num_rows)
    schedule = lr_schedule(recipe, num_rows)
    assert {epoch: schedule.lr(epoch * per_epoch) for epoch in rates} == pytest.approx(rates, rel=1e-9, abs=1e-12)


def test_the_five_classes_go_by_the_clock():
    recipe = load("five_class")
    schedule = lr_schedule(recipe, 2000)
    hour = 3600
    assert [schedule.lr(hours * hour) for hours in (0, 11.9, 12, 23.9)] == pytest.approx([0.01, 0.01, 1e-3, 1e-3])
    assert schedule.end == 24 * hour
    assert budget(recipe, 2000).epochs is None


def test_the_mini_protocol_has_four_lengths():
    with pytest.raises(UserError, match=r"8, 16, 32 or 64 frames, not 24.*clip.num_frames=24"):
        mini(24)


@pytest.fixture(scope="session")
def made_vectors(made_set, tmp_path_factory):
    """A store of vectors of the made videos, by a network of one update."""
    folder = tmp_path_factory.mktemp("vectors")
    trained = api.train(toy("small", made_set, "model.name=tsn_resnet_tiny", "clip.num_frames=1"), out=folder / "run")
    return muybridge.features(trained.path, data=made_set, out=folder / "store").path


VARIANTS = ("_large", "_as_coded", "_second")
"""Endings of recipes that differ from another in numbers alone."""


def toy(name, made_set, *settings):
    """The recipe with a tiny network and small pictures, two updates long."""
    recipe = resized(load(name), shorten=1e-6)
    small = {
        "data.manifest": str(made_set), "model.pretrained": None, "precision": "fp32", "optim.batch_size": 4,
        "optim.min_steps": 0,
    }  # fmt: skip
    if recipe.optim.epochs is not None:
        small["optim.steps_per_epoch"] = 2
    if name in ("heads", "lstm_ucf101"):
        return replace(recipe, small | {"model.name": "lstm", "clip.num_frames": 8} | parse_overrides(list(settings)))
    if name.startswith("ucf11"):  # networks of one size
        small |= {"optim.batch_size": 2}
    else:
        small |= {
            "model.name": "i3d_resnet_tiny" if "i3d" in name else "tsn_resnet_tiny", "clip.size": 32, "clip.short_side": 37,
            "clip.num_frames": min(4, recipe.clip.num_frames),
        }  # fmt: skip
    if recipe.augment.short_sides is not None:
        small["augment.short_sides"] = (37, 46)
    if recipe.evaluation.size is not None:
        small["evaluation.size"] = 37
    if recipe.optim.micro_batch_size is not None:
        small["optim.micro_batch_size"] = 2
    return replace(recipe, small | parse_overrides(list(settings)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith("ucf11") or name.endswith(VARIANTS) else [])
        for name in SHIPPED
    ],
)
def test_every_shipped_recipe_trains_and_is_scored(name, made_set, made_vectors, tmp_path):
    recipe = toy(name, made_vectors if name in ("heads", "lstm_ucf101") else made_set)
    run = api.train(recipe, out=tmp_path / "run")
    result = run.result()
    by_hours = recipe.optim.schedule_unit == "hours"
    assert result["steps"] >= 1 if by_hours else result["steps"] == 2
    assert result["ended"].startswith("stop.max_hours" if by_hours else "all 1 epochs")
    for split in ("val", "test"):
        assert result[split]["views"] == recipe.evaluation.num_clips * recipe.evaluation.num_crops
        assert 0 <= result[split]["video_top1"] <= 1


@pytest.mark.parametrize(
    ("name", "models"),
    [
        (
            "mini_8",
            ["tsn_inceptionv1", "i3d_resnet50", "s3d_resnet18", "tam_resnet50"],
        ),
        ("mini_64", ["tsm_resnet50", "s3d_inceptionv1"]),
        ("kinetics_full", ["tsn_resnet50", "tam_resnet50", "i3d_resnet50", "slowfast_resnet50"]),
        ("transfer", ["i3d_resnet50"]),
        ("tsn_vgg16_ucf101", ["tsn_vgg16"]),
        ("tsn_resnet50_hmdb51", ["tsn_resnet50"]),
        ("i3d_resnet50_ucf101", ["i3d_resnet50_gluoncv"]),
        ("frame_ucf101", ["tsn_vgg16"]),
        ("lstm_ucf101", ["lstm"]),
        ("five_class", ["i3d", "s3d", "s3dv3", "s3dv3_topheavy"]),
        ("ucf11", ["cnn_lstm", "c3d_small", "vgg9"]),
    ],
)
def test_the_networks_of_a_protocol_take_its_clips(name, models):
    recipe = load(name)
    assert recipe.model.name in ("", models[0])
    for model in models:
        for temporal_pooling in {False, "mini" in name}:
            cost = count(
                model, num_classes=5, num_frames=recipe.clip.num_frames, size=recipe.clip.size,
                temporal_pooling=temporal_pooling,
            )  # fmt: skip
            assert cost.macs > 0


def test_the_draw_of_ucf11_is_that_of_its_own_network_however_another_is_named(tmp_path):
    stds = {"cnn_lstm": 0.1, "c3d_small": None, "vgg9": None}
    for model, std in stds.items():
        assert api.recipe_of("ucf11", model=model).model.init_std == std
        assert api.recipe_of("ucf11", changes={"model.name": model}).model.init_std == std
        assert api.recipe_of("ucf11", model=model, changes={"model.init_std": 0.2}).model.init_std == 0.2
    (tmp_path / "set.csv").write_text("")
    for models in (list(stds), list(stds)[::-1]):
        recipes = plan_recipes(models, recipe="ucf11", manifest=tmp_path / "set.csv")
        assert {recipe.model.name: recipe.model.init_std for recipe in recipes} == stds
        recipes = plan_recipes(models, recipe="ucf11", manifest=tmp_path / "set.csv", changes={"model.init_std": 0.2})
        assert {recipe.model.init_std for recipe in recipes} == {0.2}


@pytest.mark.parametrize("model", ["c3d_small", "vgg9"])
def test_small_networks_begin_near_a_guess_by_the_recipe_of_ucf11(model):
    """Drawn as `cnn_lstm` is, they began with a loss of 1e5."""
    recipe = api.recipe_of("ucf11", model=model)
    net = build.model(recipe, 11).train()
    torch.manual_seed(0)
    with torch.no_grad():
        logits_BK = net(torch.randn(2, 3, recipe.clip.num_frames, recipe.clip.size, recipe.clip.size))
    assert F.cross_entropy(logits_BK, torch.tensor([0, 7])).item() == pytest.approx(np.log(11), abs=0.3)


def test_the_full_protocol_is_tested_on_larger_pictures(made_set, tmp_path):
    run = api.train(toy("kinetics_full", made_set), out=tmp_path / "run")
    assert run.recipe().clip.size == 32
    assert run.cost()["test"]["size"] == 37
    assert run.cost()["test"]["macs"] > run.cost()["macs"]
    own = run.scores().logits_VK
    assert np.array_equal(muybridge.evaluate(run, runtime=Runtime(inference="plain")).logits_VK, own)
    smaller = muybridge.evaluate(run, changes={"evaluation.size": None})
    assert (smaller.num_views, smaller.logits_VK.shape) == (30, own.shape)
    assert not np.allclose(smaller.logits_VK, own)
    with pytest.raises(
        UserError, match=r"clip.size: the recipe of .* tests at evaluation.size 37. Set evaluation.size=48"
    ):
        muybridge.evaluate(run, changes={"clip.size": 48})


def test_a_test_size_that_the_network_does_not_take_is_refused_before_training(made_set, tmp_path):
    recipe = toy("mini_8", made_set, "model.name=c3d_small", "clip.num_frames=16", "evaluation.size=48", "clip.size=64")
    with pytest.raises(UserError, match=r"evaluation.size: c3d_small: it takes 64x64 pixels, but got 48x48"):
        api.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mini_16", "transfer"])
def test_what_starts_from_another_run_asks_for_it(name, made_set, tmp_path):
    recipe = replace(toy(name, made_set), {"model.pretrained": load(name).model.pretrained})
    with pytest.raises(UserError, match=r"starts from the run o[fn] .*\. Name it: --pretrained RUN"):
        api.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_frames_start_from_the_run_of_half_of_them(made_set, tmp_path):
    first = api.train(toy("mini_8", made_set), out=tmp_path / "eight")
    recipe = toy("mini_16", made_set, "clip.num_frames=8", "optim.lr=1e-30", "optim.batch_norm=frozen")
    second = api.train(recipe, pretrained=first.path, out=tmp_path / "sixteen")
    before, after = (of_run(run).load("last").state_dict() for run in (first, second))
    assert all(torch.equal(after[name], before[name]) for name in before), "nothing moved, so all of it came along"


def measured(run):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if line["kind"] == "train"]


def test_the_learning_rate_scales_with_the_batch_and_says_so(made_set, tmp_path, capsys):
    run = api.train(toy("mini_16", made_set, "optim.batch_size=8"), out=tmp_path / "run")
    assert "learning rate 0.001111: 0.01 is meant for batches of 72, scaled linearly to 8" in capsys.readouterr().err
    assert measured(run) == pytest.approx([0.01 * 8 / 72 / 10]), "half an epoch of one is after the first fall"
    api.train(toy("mini_16", made_set, "optim.batch_size=8", "optim.lr_batch_size=8"), out=tmp_path / "same")
    assert "scaled" not in capsys.readouterr().err


def test_the_rate_that_a_warm_up_starts_from_scales_too(made_set, tmp_path, capsys):
    settings = ["optim.epochs=3", "optim.warmup_epochs=2", "optim.steps_per_epoch=1", "evaluation.every_epochs=3"]
    run = api.train(toy("kinetics_full", made_set, *settings), out=tmp_path / "run")
    assert "learning rate 0.00625: 1.6 is meant for batches of 1024, scaled linearly to 4" in capsys.readouterr().err
    start, peak = 0.01 * 4 / 1024, 1.6 * 4 / 1024
    assert measured(run) == pytest.approx([start, (start + peak) / 2, peak])


def test_adam_does_not_scale_its_rate(made_set, tmp_path, capsys):
    run = api.train(toy("mini_8", made_set, "optim.optimizer=adam", "optim.schedule=constant"), out=tmp_path / "run")
    assert measured(run) == [0.01]
    assert "learning rate" not in capsys.readouterr().err


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_names_its_source_and_the_published_result(name):
    told = about(name)
    assert told.name == name
    assert len(told.summary) > 15
    assert told.source
    assert told.published.startswith("none") == (name in ("small", "finetune", "heads", "demo"))


def test_published_figures_of_training_videos_are_called_so():
    for name in ("tsn_vgg16_ucf101", "tsn_vgg16_ucf101_second", "i3d_resnet50_ucf101", "tsn_resnet50_hmdb51"):
        assert about(name).published.startswith("*training* accuracy")
    assert ".80" in about("tsn_vgg16_ucf101").published
    assert ".70" not in about("tsn_vgg16_ucf101").published
    assert "33.9 / 35.3" in about("mini_16").published
    assert "S3D .68, I3D .64" in about("five_class").published


def test_the_command_lists_all_recipes_and_shows_one():
    listed = document(call("recipes", "--json"))["recipes"]
    assert [row["name"] for row in listed] == list(SHIPPED)
    assert all(row["source"] and row["published"] for row in listed)
    shown = document(call("recipes", "kinetics_full", "--json"))
    assert shown["recipe"]["optim"]["warmup_lr"] == 0.01
    assert "76.6" in shown["published"]
    table = call("recipes").stdout
    assert all(name in table for name in SHIPPED)
    lines = call("recipes", "five_class").stdout.splitlines()
    assert any(line.split() == ["optim.milestones", "[12.0]"] for line in lines)
    assert any(line.split() == ["optim.milestone_factor", "0.1", "default"] for line in lines)


def test_the_command_shows_a_recipe_of_ones_own_and_knows_no_other(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from muybridge.recipe import replace\nfrom muybridge.recipe.shipped import mini\n\n\n"
        "def ours():\n    return replace(mini(16, kinetics=True), {'seed': 7})\n"
    )
    shown = document(call("recipes", f"{tmp_path / 'mine.py'}:ours", "--json"))
    assert (shown["recipe"]["seed"], shown["recipe"]["optim"]["epochs"]) == (7, 45)
    wrong = call("recipes", "mini_23")
    assert wrong.exit_code == 2
    assert "'mini_32'" in wrong.stderr


PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


def test_the_page_has_every_recipe_and_its_commands_are_right():
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    assert listed == list(SHIPPED), "the table of docs/recipes.md lists what SHIPPED does, in its order"
    for row in rows:
        named = re.findall(r"`(\w+)`", row[1])
        for command in re.findall(r"`muybridge train (\w+) ([^`]*)`", row[5]):
            recipe = load(command[0])
            assert command[0] in named
            assert ("--model" in command[1]) == (not recipe.model.name)
            assert ("--pretrained" in command[1]) == (recipe.model.pretrained or "").startswith("the run")


def test_the_recipes_of_the_page_work(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    (tmp_path / "mine.py").write_text(code)
    slow, plain = (load(f"{tmp_path / 'mine.py'}:{name}") for name in ("sixteen_slow", "plain"))
    assert (slow.optim.lr, slow.optim.milestones, slow.clip.num_frames) == (0.002, (10, 20, 30), 16)
    assert plain.optim.optimizer == "adamw"


def test_the_second_run_tells_of_its_own_schedule_and_figures():
    told = about("tsn_vgg16_ucf101_second")
    assert "falls at 50 and 90 of 100 epochs of 100 iterations" in told.summary
    assert ".70" in told.published
    assert ".8" not in told.published


def test_only_what_neither_report_nor_notebooks_say_is_called_chosen():
    for name in ("tsn_vgg16_ucf101", "tsn_vgg16_ucf101_second"):
        assert about(name).source.endswith("Chosen here: tests of one clip, 224 of 256 pixels, every 10 epochs.")
    for name in ("tsn_resnet50_hmdb51", "i3d_resnet50_ucf101", "i3d_resnet50_hmdb51"):
        assert about(name).source.endswith(
            "Chosen here: 200 iterations an epoch; tests of one clip, 224 of 256 pixels, every 10 epochs."
        )


def test_a_mistake_in_a_recipe_of_ones_own_is_told_by_its_own_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import json\n\n\ndef broken():\n    values = '{'\n    return json.loads(values)\n")
    with pytest.raises(UserError, match=r"mine\.py:broken, line 6: JSONDecodeError"):
        load(f"{file}:broken")
    file.write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(UserError, match=r"mine\.py, line 3: JSONDecodeError"):
        load(f"{file}:broken")
    file.write_text("x = 1\ny = (\n")
    with pytest.raises(UserError, match=r"mine\.py, line 2: SyntaxError"):
        load(f"{file}:broken")
