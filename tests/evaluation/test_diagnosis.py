"""One pass scores every order of frames, and what is said of them is what the scores say."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import muybridge
from muybridge.analysis.comparison import compared
from muybridge.analysis.temporal import sentences
from muybridge.cli.app import app
from muybridge.data.inputs import RGB, RGB_DIFFERENCE, find
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.random import generator
from muybridge.data.sampling import ORDERS, ClipSpec, rearranged
from muybridge.data.sampling import test_indices as clip_indices
from muybridge.data.transforms import crop_resize
from muybridge.data.transforms import test_boxes as boxes_of
from muybridge.data.views import VideoViews
from muybridge.errors import UserError
from muybridge.evaluation.diagnose import Diagnosis
from muybridge.evaluation.score import score
from muybridge.recipe import replace
from muybridge.runtime.device import Placement
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, softmax
from muybridge.training.loop import train
from muybridge.video import FileReader
from muybridge.zoo import VideoModel, create

NUM_CLASSES = 10


@pytest.fixture(scope="module")
def manifest(made_set):
    return Manifest.load(made_set)


def network(name, **options):
    """With opinions that differ from clip to clip."""
    torch.manual_seed(1)
    model = create(name, num_classes=NUM_CLASSES, num_frames=4, **options)
    nn.init.normal_(model.fc.weight)
    return model.eval()


class Counting:
    """A reader that knows which frames of which row it was asked for."""

    def __init__(self):
        self.asked = []

    def read(self, row, indices):
        self.asked.append((row.id, list(indices)))
        return FileReader().read(row, indices)


def input_of(*, snippet_frames=1, **spec):
    return RGB_DIFFERENCE if snippet_frames == 2 else RGB


def scored(manifest, model, orders=ORDERS, *, rows=range(6), dtype=None, reader=None, num_crops=3, **spec):
    views = VideoViews(
        manifest, reader or FileReader(), ClipSpec(num_frames=4, **spec), size=32, num_clips=2, num_crops=num_crops,
        crop_fraction=0.9, orders=orders, seed=3, input=input_of(**spec),
    )  # fmt: skip
    return score(
        model, views, list(rows), where=Placement(torch.device("cpu"), dtype), labels_N=manifest.labels()[list(rows)],
        classes=manifest.classes, average="logits", batch_size=4,
    )  # fmt: skip


def each_alone(manifest, model, order, *, rows=range(6), **spec):
    """(V,K): each view's frames read, put in order, cut and forwarded alone."""
    logits = []
    spec = ClipSpec(num_frames=4, **spec)
    for row in map(manifest.row, rows):
        for clip, indices_TL in enumerate(clip_indices(row.num_frames, row.fps, spec, num_clips=2)):
            shown_TL = rearranged(indices_TL, order, generator(3, "shuffle", row.id, clip))
            frames = FileReader().read(row, shown_TL.reshape(-1))
            for box in boxes_of(*frames.shape[1:3], num_crops=3, crop_fraction=0.9):
                clip_BTHWC = torch.from_numpy(crop_resize(frames, box, 32))[None]
                with torch.no_grad():
                    x_BCTHW = input_of(snippet_frames=spec.snippet_frames).to_model(
                        clip_BTHWC, None, mean=model.preprocessing.mean, std=model.preprocessing.std
                    )
                    logits.append(model(x_BCTHW)[0].numpy())
    return np.array(logits)


def largest(a, b):
    return float(np.abs(a.logits_VK - b.logits_VK).max())


@pytest.mark.parametrize(
    ("name", "spec"),
    [("tsm_resnet_tiny", {}), ("tsm_resnet_tiny", {"snippet_frames": 2}), ("tsn_resnet_tiny", {"snippet_frames": 2}),
     ("tsn_resnet_tiny", {"sampling": "dense", "stride_frames": 9})],
)  # fmt: skip
def test_one_pass_gives_the_scores_of_each_order_alone(manifest, name, spec):
    model = network(name)
    rows = range(3)
    together = scored(manifest, model, rows=rows, **spec)
    assert tuple(together) == ORDERS
    plain = VideoViews(
        manifest, FileReader(), ClipSpec(num_frames=4, **spec), size=32, num_clips=2, num_crops=3, crop_fraction=0.9,
        input=input_of(**spec),
    )  # fmt: skip
    evaluated = score(
        model, plain, rows, where=Placement(torch.device("cpu")), labels_N=manifest.labels()[rows],
        classes=manifest.classes, average="logits", batch_size=4,
    )["ordered"]  # fmt: skip
    for order, scores in together.items():
        known = each_alone(manifest, model, order, rows=rows, **spec)
        np.testing.assert_allclose(scores.logits_VK, known, atol=1e-5 * max(1, np.abs(known).max()))
        for field in ("ids_N", "labels_N", "video_V", "clip_start_V", "crop_V"):
            assert getattr(scores, field).tolist() == getattr(evaluated, field).tolist()
        assert scores.grid == evaluated.grid
    for order in ("ordered", "shuffled"):
        [alone] = scored(manifest, model, [order], rows=rows, **spec).values()
        assert largest(alone, together[order]) < 1e-4
    assert largest(together["frozen_frame"], together["ordered"]) > 0.01


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("spec", [{}, {"sampling": "dense", "stride_frames": 9}])
def test_a_set_of_frames_has_no_order_in_any_precision(manifest, dtype, spec):
    """To the bit. Also where a clip wraps around, and ordered frames are not those of rising number."""
    found = scored(manifest, network("tsn_resnet_tiny"), dtype=dtype, **spec)
    for order in ("shuffled", "reversed"):
        assert largest(found[order], found["ordered"]) == 0
    for order in ("frozen_frame", "subsampled"):
        assert largest(found[order], found["ordered"]) > 0.01
    others = scored(manifest, network("tsm_resnet_tiny"), dtype=dtype, rows=range(2), **spec)
    assert min(largest(others[order], others["ordered"]) for order in ORDERS[1:]) > 0.01


def test_mirror_images_are_put_back_in_every_order(manifest):
    model = network("tsn_resnet_tiny")
    found = scored(manifest, model, num_crops=10)
    for order in ("ordered", "frozen_frame"):
        [alone] = scored(manifest, model, [order], num_crops=10).values()
        assert largest(found[order], alone) < 1e-4
    assert largest(found["reversed"], found["ordered"]) <= 1e-5


def test_differences_shuffled_are_a_set_but_reversed_change_their_sign(manifest):
    found = scored(manifest, network("tsn_resnet_tiny"), snippet_frames=2)
    assert largest(found["shuffled"], found["ordered"]) <= 1e-5
    assert largest(found["reversed"], found["ordered"]) > 0.01
    still = found["frozen_frame"].logits_VK
    assert np.ptp(still, axis=0).max() < 1e-4, "a still has no differences, whatever it shows"


class Weighted(VideoModel):
    """Looks at single frames, but its head weighs them by when they come."""

    looks_at = "frame"

    def __init__(self):
        super().__init__(3, NUM_CLASSES, dropout=0.0)
        nn.init.normal_(self.fc.weight)

    def features(self, x_BCTHW):
        return x_BCTHW[..., :16].mean((3, 4)).transpose(1, 2)

    def head(self, f_BTD):
        return (self.fc(f_BTD) * torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None]).sum(1)


def test_a_head_that_knows_order_is_not_taken_for_a_mean(manifest):
    torch.manual_seed(0)
    model = Weighted()
    found = scored(manifest, model)
    np.testing.assert_allclose(found["reversed"].logits_VK, each_alone(manifest, model, "reversed"), atol=1e-5)
    assert largest(found["reversed"], found["ordered"]) > 1e-3


@pytest.mark.parametrize("name", ["tsn_resnet_tiny", "tsm_resnet_tiny"])
def test_nothing_is_read_or_forwarded_twice(manifest, name):
    """Where a network looks at single frames, all orders of them cost no more than one."""
    rows, known = [manifest.row(0), manifest.row(1)], []
    for orders in (("ordered",), ORDERS):
        model, reader, forwarded = network(name), Counting(), []
        features = model.features
        model.features = lambda x, features=features, forwarded=forwarded: forwarded.append(len(x)) or features(x)
        scored(manifest, model, orders, rows=[0, 1], reader=reader)
        assert [row for row, _ in reader.asked] == [row.id for row in rows]
        assert all(len(set(frames)) == len(frames) for _, frames in reader.asked)
        clips = {
            (row.id, rearranged(indices_TL, order, generator(3, "shuffle", row.id, clip)).tobytes())
            for row in rows
            for clip, indices_TL in enumerate(
                clip_indices(row.num_frames, row.fps, ClipSpec(num_frames=4), num_clips=2)
            )
            for order in orders
        }
        inputs = len(clips) if name.startswith("tsm") else sum(len(frames) for _, frames in reader.asked)
        assert sum(forwarded) == 3 * inputs
        known.append((sum(forwarded), reader.asked))
    assert known[0][1] == known[1][1], "no order shows other frames"
    assert known[1][0] >= 4 * known[0][0] if name.startswith("tsm") else known[1][0] == known[0][0]


# ----------------------------------------------------------------------------------------------------------- of a whole run


def copy_of(run, folder):
    return Run.open(shutil.copytree(run.path, folder / run.name))


@pytest.fixture(scope="module")
def diagnosed(run, tmp_path_factory):
    """Of a copy of the run; with the third test video looked at."""
    copy = copy_of(run, tmp_path_factory.mktemp("diagnosed"))
    video = run.scores().ids_N[2]
    return muybridge.diagnose(copy, videos=[video, video], grid=2)


def test_what_is_written_is_what_is_found(run, diagnosed):
    value = diagnosed.run.diagnosis()
    assert value == diagnosed.as_json()
    assert run.diagnosis() is None
    assert list(value)[:7] == ["format_version", "checkpoint", "split", "data", "num_frames", "videos", "views"]
    assert (value["checkpoint"], value["split"], value["num_frames"]) == ("last", "test", 4)
    assert (value["videos"], value["views"]) == (len(run.scores().ids_N), 6)
    for order in ORDERS:
        stored = diagnosed.run.diagnosed_scores(order)
        assert stored.logits_VK.tolist() == diagnosed.scores[order].logits_VK.tolist()
        assert value["accuracy"][order] == stored.video_accuracy()
    np.testing.assert_allclose(diagnosed.scores["ordered"].logits_VK, run.scores().logits_VK, atol=1e-5)


def test_classes_recombine_to_the_whole(run, diagnosed):
    value = diagnosed.as_json()
    labels = [run.dataset()["classes"][label] for label in run.scores().labels_N]
    assert {name: of_class["videos"] for name, of_class in value["per_class"].items()} == Counter(labels)
    for order in ORDERS:
        mean = sum(c["videos"] * c[order] for c in value["per_class"].values()) / value["videos"]
        assert mean == pytest.approx(value["accuracy"][order])
    assert value["reversed_as"].keys() == value["per_class"].keys()
    for name, counts in value["reversed_as"].items():
        assert sum(counts.values()) == value["per_class"][name]["videos"]
        assert counts.get(name, 0) == pytest.approx(value["per_class"][name]["reversed"] * sum(counts.values()))
        assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_scores_of_a_run_that_sees_time_differ_and_of_a_set_of_frames_do_not(recipe, diagnosed, tmp_path):
    assert min(diagnosed.largest_change().values()) > 1e-4
    changes = {"model.name": "tsn_resnet_tiny", "optim.epochs": 1, "optim.warmup_epochs": 0}
    tsn = muybridge.diagnose(train(replace(recipe, changes), out=tmp_path / "tsn"))
    assert max(tsn.largest_change()[order] for order in ("shuffled", "reversed")) <= 1e-5
    assert tsn.largest_change()["frozen_frame"] > 1e-4
    found = tsn.findings()
    assert (
        found[0]
        == "Scores are equal to 1e-5 whether frames are shuffled or not: the model sees a set of frames, no order."
    )
    assert "does not see the direction of time" in found[1]
    assert all(pair["ordered_within"] == pair["shuffled_within"] for pair in tsn.pairs())


def test_the_video_that_was_named_is_looked_at(run, diagnosed):
    folder = diagnosed.run.diagnosis_folder / "saliency"
    video = str(run.scores().ids_N[2])
    name = video.replace("/", "_")
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}.jpg", f"{name}.npz"]
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    assert str(found["id"]) == video
    assert str(found["label"]) == video.partition("/")[0]
    assert [found[drop].shape for drop in ("drop_TGG", "drop_T", "drop_GG")] == [(4, 2, 2), (4,), (2, 2)]
    first_view_K = diagnosed.scores["ordered"].logits_VK[2 * 6]  # of two clips the first is in the middle
    assert float(found["probability"]) == pytest.approx(softmax(first_view_K).max(), abs=1e-5)
    assert str(found["predicted"]) == diagnosed.classes[first_view_K.argmax()]
    assert found["indices"][0, 0] == diagnosed.scores["ordered"].clip_start_V[2 * 6]


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_says_what_the_file_says(diagnosed, run, tmp_path):
    path = diagnosed.run.path
    before = diagnosed.run.diagnosis()
    answer = call("diagnose", path, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout) == {"run": str(path), **diagnosed.run.diagnosis()}
    assert diagnosed.run.diagnosis() == before
    other = copy_of(run, tmp_path)
    several = call("diagnose", path, other.path, "--split", "val", "--set", "evaluation.num_crops=1", "--json")
    first, second = json.loads(several.stdout)
    assert (first["run"], second["run"]) == (str(path), str(other.path))
    assert (first["split"], first["views"]) == ("val", 2)
    assert first == {**second, "run": str(path)}
    assert [one.as_json() for one in muybridge.diagnose([path], split="val", changes={"evaluation.num_crops": 1})] == [
        {name: value for name, value in first.items() if name != "run"}
    ]
    shown = call("diagnose", other.path)
    for order, share in before["accuracy"].items():
        assert f"{order:<12}{share:>11.3f}".split() in [line.split()[:2] for line in shown.stdout.splitlines()]
    for text in (*before["per_class"], *before["findings"], "reversed, mostly taken for", "right within, ordered"):
        assert text in shown.stdout


def test_mistakes_are_told_before_anything_is_scored(run, recipe, manifest, tmp_path):
    copy = copy_of(run, tmp_path)
    ids = run.scores().ids_N.tolist()
    trained = run.trained_on()["id"][0]
    class_name, _, file = ids[0].partition("/")
    wrong = {
        ("--video", f"{class_name}s/{file}"): f"no such video in split 'test' of {recipe.data.manifest}. Did you mean",
        ("--video", trained): "is not in split 'test'",
        ("--grid", "33"): "--grid 33: out of range. Give 1 to 32 cells a side",
        (
            "--set",
            "optim.lr=1",
        ): "optim.lr: an evaluation cannot change it. Set only evaluation.…, clip.…, data.on_error and precision",
        ("--split", "tests"): "Did you mean 'test'?",
    }
    for words, message in wrong.items():
        answer = call("diagnose", copy.path, *words, "--json")
        assert (answer.exit_code, message in json.loads(answer.stdout)["error"]) == (2, True), answer.stdout
    assert call("diagnose", tmp_path / "none").exit_code == 2
    assert not copy.diagnosis_folder.exists()
    (copy.path / "result.json").unlink()
    answer = call("diagnose", run.path, copy.path)
    assert answer.exit_code == 2
    assert f"{copy.path}: it is not finished" in answer.stderr
    with pytest.raises(UserError, match="is not finished"):
        muybridge.diagnose([run, copy])
    assert run.diagnosis() is None, "the first was not begun"
    columns = manifest.plain_columns()
    columns["split"][columns["split"] == "train"] = "test"
    from_columns(columns, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror).save(
        tmp_path / "all.csv"
    )
    with pytest.raises(UserError, match=r"was trained on .* would flatter the model"):
        muybridge.diagnose(run, data=tmp_path / "all.csv")


def test_a_video_is_known_by_the_end_of_its_path_if_no_other_ends_so(run, recipe, manifest, tmp_path):
    copy = copy_of(run, tmp_path)
    test = manifest.split("test")[:4]
    columns = {name: values[test] for name, values in manifest.plain_columns().items()}
    columns["id"] = [f"{name}#{i}" for i, name in enumerate(columns["id"])]
    columns["path"][1] = columns["path"][0]
    few = from_columns(columns, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror)
    few.save(tmp_path / "few.csv")
    path = Path(few.row(2).path)
    options = {"data": tmp_path / "few.csv", "grid": 1, "changes": {"evaluation.num_crops": 1}}
    muybridge.diagnose(copy, videos=[path.name, f"{path.parent.name}/{path.name}", path], **options)
    files = sorted(file.name for file in (copy.diagnosis_folder / "saliency").glob("*.npz"))
    assert files == [few.row(2).id.replace("/", "_") + ".npz"]
    with pytest.raises(
        UserError, match=f"is the end of 2 videos: {few.row(0).id}, {few.row(1).id}. Name one by its id"
    ):
        muybridge.diagnose(copy, videos=[Path(few.row(0).path).name], **options)


def in_first_names(run):
    """Make a diagnosis what version 1 wrote: two orders, and their files, had other names."""
    names = {"frozen_frame": "single_frame", "subsampled": "thinned"}
    for name, first in names.items():
        (run.diagnosis_folder / f"{name}.npz").rename(run.diagnosis_folder / f"{first}.npz")
    file = run.diagnosis_folder / "diagnosis.json"
    text = file.read_text()
    for name, first in names.items():
        text = text.replace(f'"{name}"', f'"{first}"')
    file.write_text(text.replace('"format_version": 2', '"format_version": 1'))


def test_a_diagnosis_of_version_1_is_read_under_the_new_names(diagnosed, tmp_path):
    new = copy_of(diagnosed.run, tmp_path / "new")
    new.save_diagnosed_scores(diagnosed.scores)  # a test before this one diagnoses another split
    new.save_diagnosis(diagnosed.as_json())
    old = copy_of(new, tmp_path / "old")
    in_first_names(old)
    assert '"single_frame"' in (old.diagnosis_folder / "diagnosis.json").read_text()
    assert old.diagnosis() == new.diagnosis()
    for order in ORDERS:
        assert old.diagnosed_scores(order).logits_VK.tolist() == new.diagnosed_scores(order).logits_VK.tolist()
    [ours], [theirs] = (compared([run]).models for run in (new, old))
    assert ours.diagnosed.as_json() == theirs.diagnosed.as_json()
    assert sentences([ours], "run") == sentences([theirs], "run")
    old.save_diagnosed_scores({order: new.diagnosed_scores(order) for order in ORDERS})
    assert not list(old.diagnosis_folder.glob("single_frame.npz")), "a new diagnosis leaves none of an old one"
    assert old.diagnosis() is None


def test_a_class_that_is_called_as_an_order_once_was_keeps_its_name(tmp_path):
    run = Run(tmp_path)
    run.diagnosis_folder.mkdir()
    run.save_diagnosis({
        "format_version": 1, "accuracy": {"thinned": 0.5}, "largest_change": {"reversed": 0.1},
        "per_class": {"thinned": {"videos": 2, "thinned": 0.5}}, "reversed_as": {"thinned": {"thinned": 2}},
    })  # fmt: skip
    assert run.diagnosis() == {
        "format_version": 2, "accuracy": {"subsampled": 0.5}, "largest_change": {"reversed": 0.1},
        "per_class": {"thinned": {"videos": 2, "subsampled": 0.5}}, "reversed_as": {"thinned": {"thinned": 2}},
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- the words


def made(answers, *, groups=None):
    """Scores of one view a video whose label is 0, by the class that is answered."""
    count = len(answers)
    return Scores(
        classes=("grow", "shrink", "rest"), ids_N=np.array([f"v{i}" for i in range(count)]),
        labels_N=np.array([i % 2 for i in range(count)]), groups_N=np.array(groups or [""] * count),
        video_V=np.arange(count), clip_start_V=np.zeros(count, dtype=int), crop_V=np.zeros(count, dtype=int),
        logits_VK=np.eye(3, dtype=np.float32)[answers], split="test",
    )  # fmt: skip


def found_in(pairs=(("grow", "shrink"),), num_frames=8, groups=None, shown=RGB, **answers):
    """`answers` by order; an order that is not named is answered as the ordered one."""
    scores = {order: made(answers.get(order, answers["ordered"]), groups=groups) for order in ORDERS}
    return Diagnosis(Run(Path("run")), scores, "last", "set.csv", num_frames, shown, tuple(pairs))


RIGHT = [0, 1] * 10


def test_findings_tell_what_is_lost():
    found = found_in(ordered=RIGHT, shuffled=[0, 0] * 10, reversed=[1, 0] * 9 + [1, 2])
    assert found.findings() == [
        "Shuffling the frames costs 0.500 of accuracy (1.000 to 0.500): the model uses their order.",
        "Playing videos backwards costs 1.000 of accuracy (1.000 to 0.000): the model uses the direction of time.",
        "Scores are equal to 1e-5 for the clip and for one frame of it, held: the model sees no more than a still.",
        "Scores are equal to 1e-5 without every second frame: the model does not use them.",
        "Within pairs of classes that are each other's reversal (20 videos) 1.000 are right, 0.500 with shuffled frames, "
        "where chance gives 0.5; played backwards, 0.950 are taken for the partner.",
    ]
    assert found.pairs() == [
        {"classes": ["grow", "shrink"], "videos": 20, "ordered_within": 1.0, "shuffled_within": 0.5,
         "reversed_partner": 0.95}
    ]  # fmt: skip
    assert found.reversed_as() == {"grow": {"shrink": 10}, "shrink": {"grow": 9, "rest": 1}}
    assert found.largest_change() == {"shuffled": 1.0, "reversed": 1.0, "frozen_frame": 0.0, "subsampled": 0.0}


@pytest.mark.parametrize(
    ("shown", "steps", "step"),
    [
        (find("flow"), "stacks of 5 fields", "stack"),
        (find("warped_flow").stacked(1), "fields", "field"),
        (find("rgb_differences").stacked(3), "stacks of 3 differences", "stack"),
        (RGB_DIFFERENCE, "differences of 2 frames", "difference"),
    ],
)
def test_of_steps_that_show_motion_no_more_is_said_than_was_tried(shown, steps, step):
    """Whole steps were shuffled: the motion in each is left, and with it what tells a pair apart."""
    set_of, *_, pairs = found_in(ordered=RIGHT, reversed=[1, 0] * 10, shown=shown).findings()
    assert set_of == (
        f"Scores are equal to 1e-5 whether {steps} are shuffled or not: the model sees a set of {steps}, no order; the motion "
        f"inside a {step} is not shuffled."
    )
    assert f"1.000 with shuffled {steps}, each of which shows motion" in pairs
    assert "chance" not in pairs


def test_fields_that_are_held_or_turned_round_are_no_stills_and_no_backward_videos():
    found = found_in(ordered=RIGHT, reversed=[1, 0] * 10, shown=find("flow"))
    assert found.findings()[1:3] == [
        "Putting the fields in reverse order costs 1.000 of accuracy (1.000 to 0.000): the model uses their order.",
        "Scores are equal to 1e-5 for the clip and for one field of it, held: the model sees no more than one field.",
    ]
    assert "with fields backwards, 1.000 are taken for the partner" in found.findings()[-1]
    one_step = found_in(ordered=RIGHT, reversed=[1, 0] * 10, shown=find("flow"), num_frames=1)
    assert "costs 1.000 of accuracy" in " ".join(one_step.findings()), "a stack has an order of its own"


def test_what_chance_may_do_is_told_as_such():
    for lost, told in ((4, "no more than chance may do with 20 videos (p = 0.29)"), (8, "costs 0.400 of accuracy")):
        assert told in found_in(ordered=RIGHT, shuffled=[2] * lost + RIGHT[lost:]).findings()[0]
    both_ways = found_in(ordered=[2] * 10 + RIGHT[10:], shuffled=RIGHT[:10] + [2] * 10)
    assert "accuracy 0.500 to 0.500, no more than chance may do with 20 videos (p = 1.00)" in both_ways.findings()[0]
    better = found_in(ordered=[2] * 10 + RIGHT[10:], shuffled=RIGHT).findings()[0]
    assert better == "Shuffling the frames adds 0.500 to accuracy (0.500 to 1.000)."


def test_videos_of_one_source_count_once():
    shuffled = [2] * 12 + RIGHT[12:]
    assert "costs 0.600" in found_in(ordered=RIGHT, shuffled=shuffled).findings()[0]
    groups = ["a"] * 6 + ["b"] * 6 + [""] * 8
    assert "no more than chance may do" in found_in(ordered=RIGHT, shuffled=shuffled, groups=groups).findings()[0]


def test_where_nothing_changes_the_model_is_not_blamed():
    assert found_in(ordered=RIGHT).findings() == [
        "Scores are equal to 1e-5 in every order, even for one frame that is held: nothing moves in these videos, or the "
        "model sees no more than a still."
    ]
    assert found_in(ordered=RIGHT, shuffled=[2] * 20, num_frames=1).findings() == [
        "A clip has one time step: it has no order that could be used."
    ]


def test_pairs_without_videos_of_both_are_left_out():
    found = found_in(pairs=[("grow", "rest"), ("shrink", "grow")], ordered=RIGHT, reversed=[1, 0] * 10)
    assert [pair["classes"] for pair in found.pairs()] == [["shrink", "grow"]]
    assert found.pairs()[0]["reversed_partner"] == 1.0
    assert "rest" not in found.per_class()


# ------------------------------------------------------------------------------------------------------ several processes


@pytest.mark.slow
def test_two_processes_find_the_same_and_write_it_once(run, tmp_path):
    alone, together = copy_of(run, tmp_path / "a"), copy_of(run, tmp_path / "b")
    videos = run.scores().ids_N[:3].tolist()
    known = muybridge.diagnose(alone, videos=videos, grid=2).as_json()
    words = [word for video in videos for word in ("--video", video)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*launcher, "-m", "muybridge", "diagnose", str(together.path), *words, "--grid", "2", "--json"],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"run": str(together.path), **together.diagnosis()}
    assert together.diagnosis()["accuracy"] == known["accuracy"]
    for file in (alone.diagnosis_folder / "saliency").glob("*.npz"):
        with np.load(file) as a, np.load(together.diagnosis_folder / "saliency" / file.name) as b:
            np.testing.assert_allclose(a["drop_TGG"], b["drop_TGG"], atol=1e-5)
