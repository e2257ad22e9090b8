"""Recipe: a wrong field, value or file is an error that helps; what changes a result changes the fingerprint."""

import json
from functools import partial

import pytest

from muybridge.errors import UserError
from muybridge.recipe import (
    Augment,
    Clip,
    Data,
    Evaluation,
    Model,
    Optim,
    Recipe,
    Runtime,
    diff,
    fields,
    fingerprint,
    from_json,
    parse_overrides,
    replace,
    to_json,
)
from muybridge.recipe.schedule import budget, resized
from muybridge.recipe.shipped import load

OTHER_VALUES = {
    "data.manifest": "other.csv",
    "data.fold": 2,
    "data.sha256": "0" * 64,
    "data.train_share": 0.25,
    "data.balanced_sampling": True,
    "data.on_error": "skip",
    "clip.num_frames": 16,
    "clip.sampling": "dense",
    "clip.jitter": "shared",
    "clip.stride_frames": 3,
    "clip.fps": 12.5,
    "clip.past_end": "mirror",
    "clip.order": "shuffled",
    "clip.modality": "rgb_difference",
    "clip.size": 96,
    "clip.stack": 3,
    "clip.short_side": 128,
    "augment.crop": "center",
    "augment.short_sides": (256, 320),
    "augment.flip_probability": 0.25,
    "augment.brightness": 0.4,
    "augment.contrast": 0.4,
    "augment.saturation": 0.4,
    "augment.hue": 0.1,
    "augment.rotation_degrees": 10.0,
    "model.name": "tsn_resnet50",
    "model.init_std": 0.1,
    "model.temporal_pooling": True,
    "model.dropout": 0.1,
    "model.options": {"kernel": 3},
    "model.source_sha256": "1" * 64,
    "model.weights_sha256": "3" * 64,
    "model.pretrained": "imagenet",
    "model.strict": False,
    "model.pretrained_sha256": "2" * 64,
    "model.inflation": "repeat",
    "optim.optimizer": "adamw",
    "optim.lr": 0.5,
    "optim.lr_grid": (0.5, 0.25),
    "optim.weight_decay_grid": (0.1, 0.2),
    "optim.lr_batch_size": 72,
    "optim.momentum": 0.8,
    "optim.weight_decay": 0.0,
    "optim.weight_decay_exempt": "nothing",
    "optim.batch_size": 7,
    "optim.micro_batch_size": 4,
    "optim.batch_norm": "frozen",
    "optim.train_from": "head",
    "optim.backbone_lr": 0.1,
    "optim.layer_decay": 0.75,
    "optim.ema_decay": 0.999,
    "optim.epochs": 31,
    "optim.steps": 77,
    "optim.steps_per_epoch": 100,
    "optim.min_steps": 100,
    "optim.warmup_epochs": 2.5,
    "optim.warmup_lr": 0.001,
    "optim.schedule": "constant",
    "optim.milestones": (10.0, 20.0),
    "optim.milestone_factor": 0.2,
    "optim.schedule_unit": "hours",
    "optim.label_smoothing": 0.1,
    "optim.class_weights": (("fall", 3.0),),
    "optim.logit_adjustment": 1.5,
    "optim.clip_grad_norm": 20.0,
    "stop.max_hours": 2.0,
    "stop.metric": "val.loss",
    "stop.target": 0.75,
    "stop.patience_epochs": 5,
    "evaluation.num_clips": 10,
    "evaluation.num_crops": 3,
    "evaluation.size": 96,
    "evaluation.whole": True,
    "evaluation.crop_fraction": 0.875,
    "evaluation.average": "probabilities",
    "evaluation.every_epochs": 2,
    "evaluation.score_test": False,
    "evaluation.checkpoint": "best",
    "precision": "fp32",
    "seed": 1,
}

NEEDS = {
    "augment.short_sides": {"augment.crop": "random"},
    "optim.warmup_lr": {"optim.warmup_epochs": 2},
    "optim.milestones": {"optim.schedule": "steps", "optim.milestones": [5]},
    "optim.schedule_unit": {
        "stop.max_hours": 1,
        "optim.epochs": None,
        "optim.schedule": "steps",
        "optim.milestones": [0.5],
    },
    "stop.metric": {"stop.metric": "train.loss", "stop.target": 0.5},
    "stop.target": {"stop.metric": "val.video_top1", "stop.patience_epochs": 3},
    "stop.patience_epochs": {"stop.metric": "val.video_top1", "stop.target": 0.5},
}
"""What must be so before the field can take its other value."""


def message(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)


def test_every_field_has_another_value_here():
    """A new field needs a line above: then the tests below hold it too."""
    assert set(OTHER_VALUES) == set(fields(Recipe))


@pytest.mark.parametrize("field", OTHER_VALUES)
def test_every_field_can_be_replaced_and_changes_the_fingerprint(field):
    recipe = replace(Recipe(), NEEDS.get(field, {}))
    changed = replace(recipe, {field: OTHER_VALUES[field]})
    value = changed
    for part in field.split("."):
        value = getattr(value, part)
    assert value == OTHER_VALUES[field]
    assert recipe == replace(Recipe(), NEEDS.get(field, {})), "the old one is as it was"
    assert fingerprint(changed) != fingerprint(recipe)
    if field != "model.options":
        assert list(diff(recipe, changed)) == [field]


def test_fingerprint_is_16_hex_digits_and_depends_on_values_alone():
    assert fingerprint(Recipe()) == fingerprint(Recipe())
    assert len(fingerprint(Recipe())) == 16
    int(fingerprint(Recipe()), 16)
    assert fingerprint(replace(Recipe(), {"optim.lr": 1})) == fingerprint(replace(Recipe(), {"optim.lr": 1.0}))


def test_fingerprint_counts_the_manifest_by_content_once_that_is_known():
    here = replace(Recipe(), {"data.manifest": "/here/m.csv", "data.sha256": "a" * 64})
    there = replace(here, {"data.manifest": "/there/m.csv"})
    assert fingerprint(here) == fingerprint(there)
    assert fingerprint(here) != fingerprint(replace(here, {"data.sha256": "b" * 64}))
    assert fingerprint(here) != fingerprint(replace(here, {"data.fold": 1}))
    unknown = replace(here, {"data.sha256": None})
    assert fingerprint(unknown) != fingerprint(replace(there, {"data.sha256": None}))


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("optim.lrr", "optim.lr"),
        ("optm.lr", "optim.lr"),
        ("lr", "optim.lr"),
        ("num_clips", "evaluation.num_clips"),
        ("evaluation.num_clip", "evaluation.num_clips"),
        ("sede", "seed"),
        ("clip.num_frame", "clip.num_frames"),
    ],
)
def test_a_mistyped_field_names_the_nearest(field, nearest):
    said = message(replace, Recipe(), {field: 1})
    assert said.startswith(f"{field}: ")
    assert f"Did you mean '{nearest}'" in said


def test_a_mistyped_value_names_the_nearest():
    said = message(replace, Recipe(), {"clip.sampling": "unifrom"})
    assert "clip.sampling" in said
    assert "'unifrom'" in said
    assert "Did you mean 'uniform'?" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optim.lr", "0.1"), ("optim.lr", 0.0), ("optim.lr", float("nan")), ("optim.lr", float("inf")),
        ("optim.momentum", 1.0), ("optim.batch_size", 0), ("optim.batch_size", 4.5), ("clip.num_frames", True),
        ("clip.num_frames", None), ("augment.flip_probability", 1.1), ("model.temporal_pooling", 1),
        ("model.temporal_pooling", "yes"), ("evaluation.num_crops", 2), ("evaluation.crop_fraction", 0.0),
        ("data.fold", 0), ("data.manifest", 3), ("seed", -1), ("seed", 0.5), ("optim", {"lr": 1}), ("clip.short_side", 0),
        ("data.on_error", "ignore"), ("augment.brightness", -0.1), ("augment.hue", 0.6),
        ("augment.rotation_degrees", 181), ("augment.short_sides", [256]), ("augment.short_sides", [256.0, 320]),
        ("augment.short_sides", 256), ("augment.short_sides", "256,320"), ("optim.optimizer", "nadam"),
        ("optim.epochs", 0), ("optim.steps_per_epoch", 0), ("optim.micro_batch_size", 0), ("optim.ema_decay", 1.0),
        ("optim.ema_decay", 0.0), ("optim.milestone_factor", 1.0), ("optim.milestones", "10,20"), ("optim.batch_norm", "off"),
        ("optim.milestones", [True]), ("optim.weight_decay_exempt", "biases"), ("stop.max_hours", 0.0),
        ("stop.metric", "val.top1"), ("stop.metric", "test.video_top1"), ("stop.patience_epochs", 0),
        ("model.init_std", 0.0), ("model.strict", "half"), ("evaluation.score_test", "no"), ("precision", "fp8"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_an_error_that_names_the_field(field, value):
    assert field in message(replace, Recipe(), {field: value})


def test_replace_validates_the_recipe_as_a_whole():
    recipe = replace(Recipe(), {"optim.epochs": 10, "optim.warmup_epochs": 5.0})
    said = message(replace, recipe, {"optim.epochs": 5})
    assert "optim.warmup_epochs: 5 must be" in said
    assert "optim.epochs (5)" in said
    assert replace(recipe, {"optim.epochs": 5, "optim.warmup_epochs": 1}).optim.epochs == 5, "both at once fit"
    small = {"clip.short_side": 100, "clip.size": 112}
    assert "augment.crop" in message(replace, Recipe(), {**small, "augment.crop": "random"})
    assert replace(Recipe(), {**small, "augment.crop": "multiscale"}).clip.short_side == 100


BY_STEPS = {"optim.epochs": 35, "optim.schedule": "steps", "optim.milestones": [10, 20, 30]}
BY_HOURS = {"optim.epochs": None, "optim.schedule_unit": "hours", "stop.max_hours": 24}
STEPS_BY_HOURS = {**BY_HOURS, "optim.schedule": "steps", "optim.milestones": [12]}
UNTIL = {"stop.metric": "val.video_top1", "stop.target": 0.75}
OTHERWISE = {"stop.metric": "val.loss", "stop.patience_epochs": 4}


@pytest.mark.parametrize(
    "settings",
    [
        BY_STEPS, BY_HOURS, STEPS_BY_HOURS, UNTIL, OTHERWISE,
        {**BY_STEPS, "optim.warmup_epochs": 9.5, "optim.warmup_lr": 0.01},
        {**BY_STEPS, "optim.epochs": None, "stop.max_hours": 2},
        {**BY_STEPS, "optim.milestones": [34.5]},
        {"stop.max_hours": 3},
        {"optim.epochs": None, "stop.max_hours": 3, "optim.schedule": "constant", "optim.warmup_epochs": 40},
        {**UNTIL, "stop.target": 1.0, "stop.patience_epochs": 3},
        {"stop.metric": "train.loss", "stop.target": 2.5},
    ],
)  # fmt: skip
def test_schedules_and_ends_that_fit(settings):
    recipe = replace(Recipe(), settings)
    assert {name: value for name, (_, value) in diff(Recipe(), recipe).items()} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optim.epochs": None}, "none needs an end. Set stop.max_hours"),
        ({"optim.epochs": None, "stop.max_hours": 1}, "'cosine' needs an end. Set optim.epochs, or optim.schedule_unit=hours"),
        ({"optim.schedule_unit": "hours", "optim.epochs": None}, "Set stop.max_hours"),
        ({"optim.schedule_unit": "hours"}, "'hours' needs stop.max_hours. Set it"),
        ({**BY_HOURS, "optim.epochs": 30}, r"optim.epochs \(30\) might end training before. Set optim.epochs=none"),
        ({**BY_HOURS, "optim.schedule": "constant"}, "'constant' has no milestones or end"),
        ({**BY_HOURS, "optim.warmup_epochs": 1}, "warmup_epochs: it counts epochs, but optim.schedule_unit is 'hours'"),
        ({"optim.warmup_epochs": 30}, r"warmup_epochs: 30 must be below optim.epochs \(30\).*optim.warmup_epochs=3$"),
        ({"optim.warmup_lr": 0.001}, "warmup_lr: it needs a warm-up .* Set optim.warmup_epochs"),
        ({"optim.warmup_lr": 0.02, "optim.warmup_epochs": 2}, "may not exceed optim.lr"),
        ({"optim.milestones": [10]}, "milestones: they need optim.schedule 'steps'"),
        ({"optim.schedule": "steps"}, r"Set both, for example optim.schedule=steps optim.milestones=\[10,20\]"),
        ({**BY_STEPS, "optim.epochs": 30}, r"\[10.0, 20.0, 30.0\] must rise, from above 0 to below the epochs \(30\)"),
        ({**BY_STEPS, "optim.milestones": [20, 10]}, "must rise"),
        ({**BY_STEPS, "optim.milestones": [10, 10]}, "must rise"),
        ({**BY_STEPS, "optim.milestones": [0, 10]}, "from above 0"),
        ({**BY_STEPS, "optim.warmup_epochs": 10}, r"from above the warm-up \(10\)"),
        ({**STEPS_BY_HOURS, "stop.max_hours": 12}, r"below the hours \(12\)"),
        ({"stop.target": 0.75}, "stop.metric: it needs stop.target"),
        ({"stop.patience_epochs": 3}, "stop.metric: it needs"),
        ({"stop.metric": "val.loss"}, "stop.metric: it needs"),
        ({**UNTIL, "stop.target": 75}, "stop.target: 75 is out of range .* above 0 and at most 1"),
        ({**UNTIL, "stop.target": 0}, "out of range"),
        ({"stop.metric": "train.loss", "stop.target": -1}, "stop.target: -1 is out of range .* above 0$"),
        ({"optim.train_from": "head", "optim.backbone_lr": 0.1}, "backbone_lr: it is for what optim.train_from 'head' freezes"),
        ({"optim.train_from": "head", "optim.layer_decay": 0.9}, "optim.layer_decay: it is for what"),
        ({"optim.batch_norm": "synced", "optim.micro_batch_size": 1}, "micro_batch_size to at least 2"),
    ],
)  # fmt: skip
def test_schedules_and_ends_that_do_not_fit(settings, said):
    with pytest.raises(UserError, match=said):
        replace(Recipe(), settings)


def test_a_shortened_schedule_keeps_its_shape():
    recipe = replace(Recipe(), {**BY_STEPS, "optim.warmup_epochs": 7, "optim.min_steps": 100, "stop.max_hours": 10})
    assert diff(recipe, resized(recipe, shorten=0.2)) == {
        "optim.epochs": (35, 7),
        "optim.warmup_epochs": (7.0, pytest.approx(1.4)),
        "optim.milestones": ((10.0, 20.0, 30.0), pytest.approx((2.0, 4.0, 6.0))),
        "optim.min_steps": (100, 20),
        "stop.max_hours": (10.0, 2.0),
    }
    assert resized(recipe, shorten=1) == recipe


def test_a_schedule_is_shortened_to_whole_epochs_one_at_the_least():
    recipe = replace(Recipe(), {**BY_STEPS, "optim.warmup_epochs": 7})
    for factor, epochs in ((0.09, 3), (0.05, 2), (0.001, 1)):
        short = resized(recipe, shorten=factor).optim
        assert short.epochs == epochs
        assert [m / epochs for m in short.milestones] == pytest.approx([10 / 35, 20 / 35, 30 / 35])
        assert short.warmup_epochs / epochs == pytest.approx(7 / 35)


def test_hours_are_shortened_with_what_goes_by_them():
    short = resized(replace(Recipe(), STEPS_BY_HOURS), shorten=0.01)
    assert (short.optim.epochs, short.optim.milestones, short.stop.max_hours) == (None, (0.12,), 0.24)
    open_end = replace(Recipe(), {**BY_STEPS, "optim.epochs": None, "stop.max_hours": 2, "optim.warmup_epochs": 5})
    short = resized(open_end, shorten=0.1)
    assert short.optim.milestones == pytest.approx((1.0, 2.0, 3.0))
    assert (short.optim.warmup_epochs, short.stop.max_hours) == pytest.approx((0.5, 0.2))


@pytest.mark.parametrize("factor", [0, -0.1, 1.5, float("nan")])
def test_a_schedule_is_shortened_to_a_share_of_it(factor):
    assert "above 0 and at most 1" in message(partial(resized, shorten=factor), Recipe())


def test_epochs_and_steps_are_exactly_those_that_are_asked_for():
    recipe = replace(Recipe(), {**BY_STEPS, "optim.warmup_epochs": 7, "optim.min_steps": 1000})
    ten = resized(recipe, epochs=10)
    assert diff(recipe, ten) == {
        "optim.epochs": (35, 10), "optim.min_steps": (1000, 0), "optim.warmup_epochs": (7.0, pytest.approx(2.0)),
        "optim.milestones": ((10.0, 20.0, 30.0), pytest.approx((100 / 35, 200 / 35, 300 / 35))),
    }  # fmt: skip
    assert (budget(ten, 42).steps, budget(ten, 42).epochs) == (30, 10)
    assert resized(recipe, epochs=70).optim.epochs == 70
    assert diff(recipe, resized(recipe, steps=25)) == {"optim.steps": (None, 25)}
    told = budget(resized(recipe, steps=25), 42)
    assert (told.steps, told.epochs, told.ended) == (25, 9, "all 25 steps")


@pytest.mark.parametrize(
    ("changes", "lengths", "said"),
    [
        ({}, {"epochs": 3, "steps": 5}, "--epochs and --steps: they are given together"),
        ({}, {"shorten": 0.5, "steps": 5}, "--shorten and --steps: they are given together"),
        ({}, {"epochs": 0}, "--epochs: 0 is not a number of them"),
        ({}, {"steps": -1}, "--steps: -1 is not a number of them"),
        ("hours", {"epochs": 3}, "--epochs: this recipe goes by hours (24)"),
        ("hours", {"steps": 3}, "--steps: this recipe goes by hours (24)"),
    ],
)
def test_lengths_that_cannot_be(changes, lengths, said):
    recipe = replace(Recipe(), STEPS_BY_HOURS if changes == "hours" else changes)
    assert said in message(partial(resized, **lengths), recipe)


def test_the_budget_says_what_decides():
    small = replace(Recipe(), {"optim.epochs": 30, "optim.min_steps": 1000})
    assert str(budget(small, 42)) == (
        "42 videos, 3 steps an epoch; 1002 steps in 334 epochs, by optim.min_steps (the recipe's epochs would be 90 steps)"
    )
    assert str(budget(small, 42_000)) == "42000 videos, 2625 steps an epoch; 78750 steps in 30 epochs"
    assert str(budget(resized(small, steps=1), 2)) == (
        "2 videos, 1 step an epoch; 1 step in 1 epoch, by optim.steps (the recipe's epochs would be 30 steps)"
    )
    hours = budget(replace(Recipe(), STEPS_BY_HOURS), 42)
    assert (hours.steps, hours.epochs) == (None, None)
    assert str(hours) == "42 videos, 3 steps an epoch; 24 hours of training (stop.max_hours)"
    both = budget(replace(small, {"stop.max_hours": 2}), 42)
    assert str(both).endswith("90 steps), at most 2 hours of training (stop.max_hours)")


def test_a_recipe_of_before_a_field_was_added_has_the_fingerprint_that_it_had():
    assert fingerprint(Recipe()) == "f984967bd58a6e9e"
    assert fingerprint(load("small")) == "b952532f66aaaa93"


def test_random_short_sides_fit_the_crop():
    full = {"augment.crop": "random", "clip.size": 224}
    settings = parse_overrides(["augment.short_sides=[256,320]"])
    recipe = replace(Recipe(), {**full, **settings})
    assert recipe.augment.short_sides == (256, 320)
    assert replace(recipe, {"clip.short_side": 128}).augment.short_sides == (256, 320), "relative to what is read"
    assert replace(recipe, {"augment.short_sides": [224, 224]}).augment.short_sides == (224, 224)
    assert replace(recipe, {"augment.short_sides": None}).augment.short_sides is None
    for sides in ([320, 256], [223, 320]):
        assert "start at clip.size (224) or above" in message(replace, recipe, {"augment.short_sides": sides})
    assert "it applies to augment.crop 'random', not 'center'" in message(replace, recipe, {"augment.crop": "center"})


def test_recipes_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 3
    with pytest.raises(ValueError, match="frozen"):
        Recipe().optim.lr = 3.0


def test_a_recipe_does_not_share_its_options_with_another():
    one = Recipe()
    one.model.options["kernel"] = 5
    assert Recipe().model.options == {}
    assert Model().options == {}


def test_options_of_a_model_are_set_one_by_one_or_whole():
    recipe = replace(Recipe(), {"model.options.kernel": 3, "model.options.mode": "a"})
    assert recipe.model.options == {"kernel": 3, "mode": "a"}
    recipe = replace(recipe, {"model.options.kernel": 5})
    assert recipe.model.options == {"kernel": 5, "mode": "a"}
    assert diff(Recipe(), recipe) == {"model.options.kernel": (None, 5), "model.options.mode": (None, "a")}
    assert replace(recipe, {"model.options": {}}).model.options == {}


@pytest.mark.parametrize("field", ["model.options.a.b", "model.options."])
def test_options_have_one_level_and_a_name(field):
    assert field in message(replace, Recipe(), {field: 1})


def test_overrides_are_json_or_a_bare_word():
    settings = [
        "optim.lr=0.1", "optim.epochs=3", "clip.sampling=dense", 'data.manifest="a b=c.csv"', "clip.short_side=null",
        "model.temporal_pooling=true", "clip.fps=None", "model.dropout=1e-3", "data.manifest=a=b.csv",
        " seed =4",
    ]  # fmt: skip
    assert parse_overrides(settings[:4]) == {
        "optim.lr": 0.1, "optim.epochs": 3, "clip.sampling": "dense", "data.manifest": "a b=c.csv",
    }  # fmt: skip
    assert parse_overrides(settings[4:]) == {
        "clip.short_side": None, "model.temporal_pooling": True, "clip.fps": None, "model.dropout": 0.001,
        "data.manifest": "a=b.csv", "seed": 4,
    }  # fmt: skip
    changed = replace(Recipe(), parse_overrides(settings))
    assert (changed.optim.lr, changed.optim.epochs, changed.data.manifest, changed.seed) == (0.1, 3, "a=b.csv", 4)


@pytest.mark.parametrize("setting", ["optim.lr", "=3", " =3", ""])
def test_an_override_without_field_or_value_shows_an_example(setting):
    assert "--set optim.lr=0.02" in message(parse_overrides, [setting])


@pytest.mark.parametrize(
    "section",
    [
        Recipe(),
        Recipe(
            data=Data(manifest="ä.csv", fold=3, sha256="f" * 64),
            clip=Clip(sampling="dense", fps=12.5, short_side=128),
            augment=Augment(crop="random", short_sides=(128, 160), hue=0.1),
            model=Model(name="a:b", options={"n": 1, "x": 0.5, "s": "t", "b": True}),
            optim=Optim(clip_grad_norm=40.0),
            evaluation=Evaluation(num_crops=3),
        ),
        Runtime(device="cuda:1", num_workers=0, cache_gib=0.5),
    ],
)
def test_json_round_trip(tmp_path, section):
    path = tmp_path / "section.json"
    path.write_text(to_json(section))
    back = from_json(type(section), path)
    assert back == section
    assert to_json(back) == to_json(section)
    if isinstance(section, Recipe):
        assert fingerprint(back) == fingerprint(section)
        assert {name: type(value) for name, value in back.model.options.items()} == {
            name: type(value) for name, value in section.model.options.items()
        }


def test_equal_recipes_have_equal_fingerprints_however_a_value_was_written():
    assert fingerprint(replace(Recipe(), {"evaluation.num_crops": 3.0})) == fingerprint(
        replace(Recipe(), {"evaluation.num_crops": 3})
    )


def test_a_field_under_both_names_is_refused(tmp_path):
    """Which of the two is meant cannot be known."""
    values = json.loads(to_json(Recipe()))
    values |= {"format_version": 1, "clip": {**values["clip"], "fps": 5.0, "target_fps": 7.0}}
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"clip.target_fps: clip.fps is its present name, and is given, too"):
        from_json(Recipe, tmp_path / "recipe.json")


@pytest.mark.parametrize("version", [None, 0, 3, "1"])
def test_an_unknown_format_version_is_refused(tmp_path, version):
    path = tmp_path / "recipe.json"
    values = json.loads(to_json(Recipe()))
    values["format_version"] = version
    if version is None:
        del values["format_version"]
    path.write_text(json.dumps(values))
    said = message(from_json, Recipe, path)
    assert str(path) in said
    assert "format_version" in said


@pytest.mark.parametrize("content", [b"{", b"[]", b"3", b"\xff", None])
def test_a_file_that_is_no_recipe_is_named(tmp_path, content):
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_bytes(content)
    assert str(path) in message(from_json, Recipe, path)


def test_an_unknown_field_in_a_file_names_file_and_nearest(tmp_path):
    path = tmp_path / "recipe.json"
    values = json.loads(to_json(Recipe()))
    values["optim"]["lrr"] = values["optim"].pop("lr")
    path.write_text(json.dumps(values))
    said = message(from_json, Recipe, path)
    assert str(path) in said
    assert "'optim.lrr'" in said
    assert "'optim.lr'" in said


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    path = tmp_path / "recipe.json"
    values = json.loads(to_json(Recipe()))
    values["optim"]["lr"], values["clip"]["num_frames"] = -1, 0
    path.write_text(json.dumps(values))
    said = message(from_json, Recipe, path)
    assert "optim.lr" in said
    assert "clip.num_frames" in said


def test_a_recipe_file_in_utf8_is_read_as_such(tmp_path):
    path = tmp_path / "recipe.json"
    recipe = Recipe(data=Data(manifest="Läufe/日本.csv"))
    path.write_bytes(json.dumps(json.loads(to_json(recipe)), ensure_ascii=False).encode())
    assert from_json(Recipe, path) == recipe


def test_diff_names_fields_and_both_values():
    a = replace(Recipe(), {"optim.lr": 0.1, "seed": 2})
    assert diff(Recipe(), a) == {"optim.lr": (0.01, 0.1), "seed": (0, 2)}
    assert diff(a, Recipe()) == {"optim.lr": (0.1, 0.01), "seed": (2, 0)}
    assert diff(a, a) == {}


@pytest.mark.parametrize("kind", [Recipe, Runtime])
def test_every_field_is_documented(kind):
    documented = fields(kind)
    assert documented
    assert [name for name, text in documented.items() if len(text) < 15 or "\n" in text] == []


def test_what_changes_no_result_is_not_in_the_recipe():
    names = {name.rsplit(".", 1)[-1] for name in fields(Recipe)}
    assert not names & set(fields(Runtime))
    assert not names & {"device", "num_workers", "out", "folder", "resume"}


def test_numbers_may_be_written_as_people_write_them():
    changes = parse_overrides(["optim.lr=.01", "stop.target=.5", "optim.epochs=3", "model.name=1e", "seed=7"])
    assert changes == {
        "optim.lr": 0.01, "stop.target": 0.5, "optim.epochs": 3, "model.name": "1e", "seed": 7,
    }  # fmt: skip
    assert isinstance(changes["optim.epochs"], int)


def test_one_tracker_needs_no_list():
    assert replace(Runtime(), {"trackers": "tensorboard"}).trackers == ("tensorboard",)
    assert "tensorboard" in message(replace, Runtime(), {"trackers": "tensorbord"})


def test_the_budget_names_the_rules_that_may_end_it_before():
    rules = {"stop.metric": "val.video_top1", "stop.target": 0.75, "stop.patience_epochs": 4}
    told = str(budget(replace(Recipe(), {"optim.epochs": 5, **rules}), 42))
    assert told.endswith(
        "15 steps in 5 epochs, or until val.video_top1 reaches 0.75 or val.video_top1 has not improved for 4 epochs"
    )


@pytest.mark.parametrize(("asked", "meant"), [("optim.learning_rate", "optim.lr"), ("learning_rate", "optim.lr"),
                                              ("model.backbone", "model.name"), ("batch_size", "optim.batch_size")])  # fmt: skip
def test_names_of_other_tools_are_understood(asked, meant):
    with pytest.raises(UserError, match=rf"Did you mean '{meant}'\?"):
        replace(Recipe(), {asked: 1})
