"""One scoring gives what scoring each view alone gives, and does nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from making import write_clip
from score_driver import scored
from torch import nn
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.data import sampling, transforms
from muybridge.data.inputs import RGB, RGB_DIFFERENCE
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.sampling import ClipSpec
from muybridge.data.views import VideoViews
from muybridge.errors import Diverged, UserError
from muybridge.evaluation import evaluate as evaluation
from muybridge.evaluation import score as scoring
from muybridge.evaluation.score import score
from muybridge.recipe import Runtime, replace
from muybridge.runtime import device, processors
from muybridge.runtime.device import Placement
from muybridge.runtime.processors import Processors
from muybridge.storage.scores import Scores, ViewGrid, metrics
from muybridge.training.loop import train
from muybridge.video import FileReader
from muybridge.zoo import VideoModel, create

CLASSES = ("turn left", "turn right", "wave")
MIRROR = {"turn left": "turn right", "turn right": "turn left"}
LENGTHS = (24, 10, 3, 31, 17)
"""Frames of the videos. Ten clips of four frames are all the same where there are no more than seven."""
ON_CPU = Placement(torch.device("cpu"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i, length in enumerate(LENGTHS):
        write_clip(folder / f"{i}.avi", first=100 * i, num_frames=length)
    count = len(LENGTHS)
    made = from_columns(
        {
            "id": [str(i) for i in range(count)], "path": [f"{i}.avi" for i in range(count)],
            "start_frame": [0] * count, "num_frames": LENGTHS, "label": [CLASSES[i % 3] for i in range(count)],
            "group": [""] * count, "fps": [25.0] * count, "width": [64] * count, "height": [48] * count,
            "sha256": [str(i) for i in range(count)], "split": ["test"] * count,
        },
        classes=CLASSES, root=folder, mirror=MIRROR,
    )  # fmt: skip
    made.save(folder / "set.csv")
    return Manifest.load(folder / "set.csv")


def network(name, **options):
    """With opinions that differ from view to view."""
    torch.manual_seed(1)
    model = create(name, num_classes=3, num_frames=4, **options)
    nn.init.normal_(model.fc.weight)
    return model


class Counting:
    """A reader that knows which frames of which row it was asked for."""

    def __init__(self):
        self.asked = []

    def read(self, row, indices):
        self.asked.append((row.id, list(indices)))
        return FileReader().read(row, indices)


def scores_of(manifest, model, rows=None, *, reader=None, batch_size=4, average="logits", **changes):
    spec = {name: changes.pop(name) for name in ("sampling", "snippet_frames", "stride_frames") if name in changes}
    views = VideoViews(
        manifest, reader or FileReader(), ClipSpec(num_frames=4, **spec),
        input=RGB_DIFFERENCE if spec.get("snippet_frames") == 2 else RGB,
        **{"size": 32, "num_clips": 3, "num_crops": 3, "crop_fraction": 0.8} | changes,
    )  # fmt: skip
    rows = np.arange(len(manifest)) if rows is None else np.array(rows)
    return score(
        model, views, rows, where=ON_CPU, labels_N=manifest.labels()[rows], classes=manifest.classes, average=average,
        batch_size=batch_size,
    )["ordered"]  # fmt: skip


def one_by_one(manifest, model, *, num_clips, num_crops, crop_fraction=0.8, snippet_frames=1, rule="uniform"):
    """(V,K): each view read, cut, mirrored, normalised and forwarded alone, and put back into class order by name."""
    model.eval()
    mean, std = np.array(model.preprocessing.mean), np.array(model.preprocessing.std)
    logits = []
    for i in range(len(manifest)):
        row = manifest.row(i)
        spec = ClipSpec(num_frames=4, snippet_frames=snippet_frames, sampling=rule)
        for indices_TL in sampling.test_indices(row.num_frames, row.fps, spec, num_clips=num_clips):
            frames = FileReader().read(row, indices_TL.reshape(-1))
            boxes = transforms.test_boxes(48, 64, num_crops=num_crops, crop_fraction=crop_fraction)
            for crop, box in enumerate(boxes):
                clip = transforms.crop_resize(frames, box, 32).astype(np.float64)
                clip = clip[:, :, ::-1] if crop >= 5 else clip
                clip = (clip[1::2] - clip[::2]) / 255 / std if snippet_frames == 2 else (clip / 255 - mean) / std
                with torch.no_grad():
                    out = model(torch.tensor(clip.transpose(3, 0, 1, 2)[None].copy(), dtype=torch.float32))[0]
                by_name = dict(zip(CLASSES, out.tolist(), strict=True))
                logits.append([by_name[MIRROR.get(name, name) if crop >= 5 else name] for name in CLASSES])
    return np.array(logits)


@pytest.mark.parametrize(
    ("name", "num_clips", "num_crops", "changes"),
    [
        ("tsn_resnet_tiny", 3, 3, {}),
        ("tsn_resnet_tiny", 10, 1, {}),
        ("tsn_resnet_tiny", 2, 10, {}),
        pytest.param("tsn_resnet_tiny", 3, 10, {"snippet_frames": 2}, marks=pytest.mark.slow),
        ("tsn_resnet_tiny", 3, 3, {"sampling": "dense"}),
        ("tsm_resnet_tiny", 2, 5, {}),
        ("tsm_resnet_tiny", 3, 10, {"snippet_frames": 2}),
        pytest.param("i3d_resnet_tiny", 10, 3, {}, marks=pytest.mark.slow),
        ("i3d_resnet_tiny", 1, 1, {}),
        ("i3d_resnet_tiny", 2, 10, {"sampling": "dense", "snippet_frames": 2}),
    ],
)
def test_scores_are_those_of_each_view_alone(manifest, name, num_clips, num_crops, changes):
    model = network(name)
    changes = dict(changes)
    found = scores_of(manifest, model, num_clips=num_clips, num_crops=num_crops, **changes)
    rule = changes.pop("sampling", "uniform")
    expected = one_by_one(manifest, model, num_clips=num_clips, num_crops=num_crops, rule=rule, **changes)
    if len(expected) > len(manifest):
        assert np.ptp(expected.reshape(len(manifest), -1, 3), axis=1).max() > 0.01  # else any view would do for any
    np.testing.assert_allclose(found.logits_VK, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    assert found.crop_V.tolist() == list(range(num_crops)) * num_clips * len(manifest)


def test_the_batch_size_changes_no_score(manifest):
    model = network("tsn_resnet_tiny")
    known = scores_of(manifest, model, num_crops=10)
    for batch_size in (1, 1000):
        other = scores_of(manifest, model, num_crops=10, batch_size=batch_size)
        np.testing.assert_allclose(other.logits_VK, known.logits_VK, atol=1e-5)
        assert other.ids_N.tolist() == known.ids_N.tolist()


def test_a_network_of_frames_may_be_inside_any_clip():
    """Where a network says that it looks at single frames, a frame's features are the same alone."""
    for model in (network("tsn_resnet_tiny"), create("vgg9", num_classes=3, num_frames=4, size=16, fusion="mean")):
        assert model.looks_at == "frame"
        x_BCTHW = torch.rand(2, 3, 4, model.fixed_size or 32, model.fixed_size or 32)
        with torch.no_grad():
            whole_BTD = model.eval().features(x_BCTHW)
            alone_BTD = torch.cat([model.features(x_BCTHW[:, :, t : t + 1]) for t in range(4)], 1)
        torch.testing.assert_close(alone_BTD, whole_BTD)
    others = [network("tsm_resnet_tiny"), create("tsn_resnet_tiny", num_classes=3, num_frames=8, temporal_pooling=True)]
    assert [model.looks_at for model in others] == ["clip", "clip"]


def forwarded(model):
    """What goes through the network from now on: (B,T) of each call."""
    shapes = []
    features = model.features

    def counted(x_BCTHW):
        shapes.append((x_BCTHW.shape[0], x_BCTHW.shape[2]))
        return features(x_BCTHW)

    model.features = counted
    return shapes


@pytest.mark.parametrize(
    ("row", "num_clips", "num_crops", "changes", "decoded", "clips", "steps"),
    [
        (0, 10, 3, {}, 24, 7 * 3, 24 * 3),  # 24 frames: shifts are cut to -3 … 3, and show every frame
        (0, 10, 10, {}, 24, 7 * 10, 24 * 10),
        (1, 10, 3, {}, 10, 3 * 3, 10 * 3),  # 10 frames: shifts by -1, 0, 1 of 1, 3, 6, 8
        (2, 10, 3, {}, 3, 3, 3 * 3),  # shorter than a clip: all ten are one
        (2, 10, 5, {"crop_fraction": 1.0}, 3, 3, 3 * 3),  # crops of the whole height: the lower corners are the upper
        (1, 3, 1, {"sampling": "dense"}, 9, 3, 9),  # 0 2 4 6, 1 3 5 7, 2 4 6 8
        (2, 3, 1, {"sampling": "dense"}, 3, 1, 3),  # 0 2 1 0, three times
        (0, 3, 1, {"snippet_frames": 2}, 16, 3, 12),  # differences from 1, 7, 13, 19, and of one and two frames later
    ],
)
def test_nothing_is_decoded_or_forwarded_twice(manifest, row, num_clips, num_crops, changes, decoded, clips, steps):
    for name in ("i3d_resnet_tiny", "tsn_resnet_tiny"):
        model, reader = network(name), Counting()
        shapes = forwarded(model)
        scores_of(manifest, model, [row], reader=reader, num_clips=num_clips, num_crops=num_crops, **changes)
        [(asked_row, asked)] = reader.asked
        assert (asked_row, len(asked), len(set(asked))) == (str(row), decoded, decoded)
        expected, length, most = (clips, 4, 4) if name.startswith("i3d") else (steps, 1, 4 * 4)
        assert (sum(b for b, _ in shapes), {t for _, t in shapes}) == (expected, {length})
        assert max(b for b, _ in shapes) <= most, "more at a time than a batch of four clips"


def test_crops_that_coincide_are_cut_and_sent_once(manifest):
    for fraction, distinct_crops in ((1.0, 3), (0.8, 5)):
        views = VideoViews(
            manifest, FileReader(), ClipSpec(num_frames=4), size=32, num_clips=10, num_crops=10, crop_fraction=fraction
        )
        assert len(views[views.key(1)].pictures_PHWC) == 10 * distinct_crops


def test_batches_are_filled_with_several_videos(manifest):
    model = network("i3d_resnet_tiny")
    shapes = forwarded(model)
    scores_of(manifest, model, num_clips=1, num_crops=1, batch_size=3)
    assert sorted(b for b, _ in shapes) == [2, 3]


def test_a_clip_that_does_not_fit_is_told_for_frames_too(manifest):
    model = create("tsn_resnet_tiny", num_classes=3, num_frames=4)
    model.fixed_frames = 7
    with pytest.raises(UserError, match="takes clips of 7 frames, but got 4"):
        scores_of(manifest, model)
    model = create("tsn_resnet_tiny", num_classes=3, num_frames=4)
    with pytest.raises(UserError, match="needs at least 32x32 pixels, but got 16x16"):
        scores_of(manifest, model, size=16)


class Sides(VideoModel):
    """Left is as bright as the left half of the picture, right as the right one."""

    def __init__(self):
        super().__init__(3, 3, dropout=0.0)

    def features(self, x_BCTHW):
        halves = x_BCTHW.chunk(2, dim=4)
        left, right = (half.mean((1, 2, 3, 4)) for half in halves)
        return torch.stack([left, right, left + right], 1)[:, None]

    def head(self, f_BTD):
        return f_BTD.mean(1)


@pytest.mark.parametrize("looks_at", ["clip", "frame"])
def test_what_a_mirror_image_is_called_is_put_back(manifest, looks_at):
    model = Sides()
    model.looks_at = looks_at
    logits_NMCK = scores_of(manifest, model, num_clips=2, num_crops=10).logits_VK.reshape(len(manifest), 2, 10, 3)
    assert np.median(np.abs(logits_NMCK[..., 0] - logits_NMCK[..., 1])) > 0.1
    np.testing.assert_allclose(logits_NMCK[:, :, 5:], logits_NMCK[:, :, :5], atol=1e-5)


def test_ten_crops_need_leave_to_mirror(manifest):
    never = Manifest(manifest.columns, manifest.classes, manifest.root, None)
    with pytest.raises(UserError, match=r"mirroring is off for this manifest.* Set evaluation\.num_crops=5"):
        scores_of(never, network("tsn_resnet_tiny"), num_crops=10)
    assert scores_of(never, network("tsn_resnet_tiny"), [0], num_crops=5).num_views == 15


def test_every_module_is_left_in_the_mode_it_came_in(manifest):
    model = network("tsm_resnet_tiny")
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[0].eval()
    during = []
    norms[1].register_forward_hook(lambda module, args, out: during.append(module.training))
    before = {name: module.training for name, module in model.named_modules()}
    scores_of(manifest, model, [0])
    assert {name: module.training for name, module in model.named_modules()} == before
    assert set(before.values()) == {True, False}
    assert set(during) == {False}
    model.fixed_frames = 7
    with pytest.raises(UserError):
        scores_of(manifest, model, [0])
    assert {name: module.training for name, module in model.named_modules()} == before


# ------------------------------------------------------------------------------------------------------ several processes


def torchrun(count, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    ended = subprocess.run([*launcher, *map(str, words)], capture_output=True, text=True, env=environment, timeout=200)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.slow
def test_three_processes_count_every_video_once_and_all_get_the_whole(manifest, tmp_path):
    columns = manifest.plain_columns()
    picked = {name: np.append(values, values[[0, 1]]) for name, values in columns.items()}
    picked["id"] = [f"v{i}" for i in range(7)]
    picked["path"][3] = "gone.avi"
    seven = from_columns(picked, classes=CLASSES, root=manifest.root, mirror=MIRROR)
    seven.save(manifest.root / "seven.csv")
    lists = ([0, 1, 2, 4, 5, 6, 3], [2, 0], [4, 3])
    texts = [",".join(map(str, rows)) for rows in lists]
    torchrun(3, Path(__file__).parents[1] / "score_driver.py", manifest.root / "seven.csv", tmp_path, *texts)
    for number, rows in enumerate(lists):
        told = []
        alone = scored(
            Manifest.load(manifest.root / "seven.csv"), np.array(rows), skip=lambda f, told=told: told.append(f.row)
        )
        readable = [f"v{row}" for row in rows if row != 3]
        assert alone.ids_N.tolist() == readable
        for rank in range(3):
            found = Scores.load(tmp_path / f"{number}-{rank}.npz")
            assert found.ids_N.tolist() == readable
            assert found.skipped_ids.tolist() == alone.skipped_ids.tolist() == (["v3"] if 3 in rows else [])
            assert (tmp_path / f"{number}-{rank}.skipped").read_text() == repr(told)
            for name in ("labels_N", "video_V", "clip_start_V", "crop_V"):
                assert getattr(found, name).tolist() == getattr(alone, name).tolist()
            np.testing.assert_allclose(found.logits_VK, alone.logits_VK, atol=1e-5)


@pytest.mark.slow
def test_evaluate_under_torchrun_writes_and_prints_once(run, tmp_path):
    options = ["--set", "evaluation.num_clips=3", "--out", tmp_path / "two.npz", "--json"]
    ended = torchrun(2, "-m", "muybridge", "evaluate", run.path, *options)
    alone = muybridge.evaluate(run, changes={"evaluation.num_clips": 3})
    both = Scores.load(tmp_path / "two.npz")
    assert both.ids_N.tolist() == alone.ids_N.tolist()
    np.testing.assert_allclose(both.logits_VK, alone.logits_VK, atol=1e-5)
    assert json.loads(ended.stdout)["test"] == pytest.approx(metrics(alone), abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- fewer views


@pytest.mark.parametrize(
    ("rule", "num_clips", "num_crops", "nested"),
    [("uniform", 5, 3, ([1, 2, 3, 4, 5], [1, 3])), ("dense", 7, 5, ([1, 2, 3, 4, 7], [1, 5])),
     ("dense", 2, 10, ([1, 2], [1, 5, 10]))],
)  # fmt: skip
def test_a_subset_is_an_evaluation_with_fewer_views(manifest, rule, num_clips, num_crops, nested):
    model = network("tsm_resnet_tiny")
    whole = scores_of(manifest, model, num_clips=num_clips, num_crops=num_crops, sampling=rule, average="probabilities")
    assert whole.grid == ViewGrid(rule, num_clips, num_crops)
    assert whole.grid.nested() == nested
    curve = {(row["num_clips"], row["num_crops"]): row for row in whole.views_curve()["rows"]}
    assert set(curve) == {(m, c) for m in nested[0] for c in nested[1]}
    for m, c in curve:
        fewer = scores_of(manifest, model, num_clips=m, num_crops=c, sampling=rule, average="probabilities")
        picked = whole.subset(num_clips=m, num_crops=c)
        assert picked.grid == fewer.grid
        for name in ("ids_N", "labels_N", "video_V", "clip_start_V", "crop_V"):
            assert getattr(picked, name).tolist() == getattr(fewer, name).tolist()
        np.testing.assert_allclose(picked.logits_VK, fewer.logits_VK, atol=1e-5)
        expected = {"num_clips": m, "num_crops": c, **metrics(fewer)}
        assert curve[m, c] == pytest.approx(expected, abs=1e-5)


def test_which_numbers_of_clips_nest():
    """What the grid says is what the sampling does, to the frame, in videos of every length."""
    lengths = [1, 3, 7, 8, 20, 108, 114, *range(130, 160), 250, 301, 500]
    for rule, target_fps in (("uniform", None), ("dense", None), ("dense", 12.5)):
        spec = ClipSpec(num_frames=8, sampling=rule, fps=target_fps)
        for more in (2, 3, 5, 8, 10, 15, 31):
            of_more = [sampling.test_indices(n, 30.0, spec, num_clips=more) for n in lengths]
            grid = ViewGrid(rule, more, 1)
            for m in range(1, more + 1):
                of_fewer = [sampling.test_indices(n, 30.0, spec, num_clips=m) for n in lengths]
                places = grid.clips(m)
                if places is None:  # and it is not said in vain
                    among = [
                        {row.tobytes() for row in a} >= {row.tobytes() for row in b}
                        for a, b in zip(of_more, of_fewer, strict=True)
                    ]
                    assert not all(among), (rule, more, m)
                else:
                    assert all((a[places] == b).all() for a, b in zip(of_more, of_fewer, strict=True)), (
                        sampling,
                        more,
                        m,
                    )
    assert ViewGrid("uniform", 10, 1).clips(11) is None
    assert ViewGrid("uniform", 10, 1).clips(0) is None


def test_what_does_not_nest_is_refused_and_named(manifest):
    dense = scores_of(manifest, network("tsn_resnet_tiny"), [0, 1], num_clips=4, num_crops=10, sampling="dense")
    with pytest.raises(
        UserError, match=r"views: those of 3 clips are not among these \(4 dense clips × 10 crops\)\. Choose 1, 2, 4"
    ):
        dense.subset(num_clips=3)
    with pytest.raises(UserError, match=r"views: those of 3 crops are not .*1, 5, 10 crops"):
        dense.subset(num_crops=3)
    assert dense.grid.left_out() == ([3], [3])


# ------------------------------------------------------------------------------------------------------ the command line


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def stored(run, tmp_path_factory):
    """What `evaluate --out` wrote of seven dense clips × ten crops, and what it answered."""
    file = tmp_path_factory.mktemp("stored") / "scores.npz"
    settings = ["clip.sampling=dense", "evaluation.num_clips=7", "evaluation.num_crops=10"]
    options = [word for setting in settings for word in ("--set", setting)]
    answer = call("evaluate", run.path, *options, "--out", file, "--views-curve", "--json")
    assert answer.exit_code == 0, answer.stderr
    return file, json.loads(answer.stdout)


def test_stored_scores_give_all_figures_again_without_a_model(stored):
    file, answer = stored
    again = call("evaluate", file, "--views-curve", "--json")
    assert json.loads(again.stdout) == {**answer, "run": str(file)}
    assert "12 norms folded" in answer["answered_by"]
    assert answer["views_curve"]["left_out"] == {"num_clips": [5, 6], "num_crops": [3]}
    scores = Scores.load(file)
    assert (scores.num_views, scores.split, scores.num_trained_on) == (70, "test", 0)
    assert answer["test"] == metrics(scores)
    assert "training_accuracy" not in answer


def test_the_verb_reads_stored_scores_as_the_command_does(run, stored):
    file, answer = stored
    scores = muybridge.evaluate(file)
    assert (metrics(scores), scores.average) == (answer["test"], "logits")
    assert scores.views_curve() == answer["views_curve"]
    for path in (file, str(file)):
        assert muybridge.evaluate(path, average="probabilities").average == "probabilities"
    for given, option in (
        ({"fold": 0}, "--fold"), ({"split": "val"}, "--split"), ({"changes": {"clip.size": 8}}, "--set"),
        ({"runtime": Runtime(threads=1)}, "--set"), ({"out": "a.npz"}, "--out"), ({"allow_code": True}, "--allow-code"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=rf"^{option}: it does not apply to stored scores .*Name a run folder"):
            muybridge.evaluate(file, **given)
    with pytest.raises(UserError, match=r"^--average: 'mean' is unknown"):
        muybridge.evaluate(run, average="mean")


def test_stored_scores_are_read_without_torch(stored):
    code = f"import sys, muybridge; muybridge.evaluate({str(stored[0])!r}).views_curve(); print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_the_average_may_be_chosen_afterwards(run, stored):
    file, answer = stored
    other = json.loads(call("evaluate", file, "--average", "probabilities", "--json").stdout)
    settings = ["clip.sampling=dense", "evaluation.num_clips=7", "evaluation.num_crops=10"]
    options = [word for setting in settings for word in ("--set", setting)]
    whole = json.loads(call("evaluate", run.path, *options, "--average", "probabilities", "--json").stdout)
    assert other["test"] == pytest.approx(whole["test"], abs=1e-5)
    assert other["test"]["loss"] != answer["test"]["loss"]
    assert other["average"] == "probabilities"


def test_the_curve_is_printed_with_what_is_left_out(stored):
    shown = call("evaluate", stored[0], "--views-curve")
    assert shown.exit_code == 0
    assert "left out, as their views were not scored: 5, 6 clips" in shown.stdout
    assert "left out, as their views were not scored: 3 crops" in shown.stdout
    assert "mean logits of 7 dense clip(s) × 10 crop(s)" in shown.stdout
    lines = [line.split()[:2] for line in shown.stdout.splitlines() if line.split() and line.split()[0].isdigit()]
    assert lines == [[str(m), str(c)] for c in (1, 5, 10) for m in (1, 2, 3, 4, 7)]


def test_training_accuracy_is_labelled_so(run, tmp_path):
    shown = call("evaluate", run.path, "--split", "train", "--out", tmp_path / "train.npz")
    count = len(run.trained_on()["id"])
    assert f"train (training accuracy: {count} of {count} trained on)" in shown.stdout
    answer = json.loads(call("evaluate", tmp_path / "train.npz", "--json").stdout)
    assert answer["training_accuracy"] is True
    assert answer["train"]["trained_on"] == count
    assert "training accuracy" not in call("evaluate", run.path).stdout


def test_videos_that_were_trained_on_are_known_by_their_content(run, recipe, tmp_path):
    """Under other names, in another manifest, as one of many: still refused."""
    manifest = Manifest.load(recipe.data.manifest)
    trained, test = manifest.split("train"), manifest.split("test")
    columns = {name: values[np.append(test, trained[5])] for name, values in manifest.plain_columns().items()}
    columns["split"][:] = "test"
    other = tmp_path / "renamed.mp4"
    other.write_bytes(Path(manifest.row(int(trained[5])).path).read_bytes())
    columns["id"][-1], columns["path"][-1], columns["group"][-1] = "new", str(other), "new"
    other = from_columns(columns, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror)
    other.save(tmp_path / "other.csv")
    refused = call("evaluate", run.path, "--data", tmp_path / "other.csv", "--json")
    assert refused.exit_code == 2
    assert f"was trained on 1 of the {len(test) + 1} videos of split 'test'" in json.loads(refused.stdout)["error"]


def test_another_manifest_is_mirrored_as_the_models_classes_are(run, recipe, tmp_path):
    """Its own map may name fewer classes; where it says that mirroring is off, ten crops are refused."""
    manifest = Manifest.load(recipe.data.manifest)
    known = muybridge.evaluate(run, changes={"evaluation.num_crops": 10})
    for mirror in ({}, None):
        other = Manifest(manifest.columns, manifest.classes, manifest.root, mirror)
        other.save(tmp_path / "other.csv")
        options = {"data": tmp_path / "other.csv", "changes": {"evaluation.num_crops": 10}}
        if mirror is None:
            with pytest.raises(UserError, match="mirroring is off"):
                muybridge.evaluate(run, **options)
        else:
            np.testing.assert_allclose(muybridge.evaluate(run, **options).logits_VK, known.logits_VK, atol=1e-5)


def test_training_with_crops_that_the_manifest_refuses_does_not_begin(recipe, tmp_path):
    manifest = Manifest.load(recipe.data.manifest)
    Manifest(manifest.columns, manifest.classes, manifest.root, None).save(tmp_path / "never.csv")
    changes = {"data.manifest": str(tmp_path / "never.csv"), "evaluation.num_crops": 10}
    with pytest.raises(UserError, match="mirroring is off"):
        train(replace(recipe, changes), out=tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.json"))


def test_the_scores_of_a_run_say_what_they_are_of(run):
    for split in ("val", "test"):
        answer = json.loads(call("evaluate", run.path / "scores" / f"{split}.npz", "--json").stdout)
        assert answer[split] == run.result()[split]


def test_what_does_not_go_with_stored_scores_is_said(stored, tmp_path):
    for words, message in (
        (["--split", "val"], "--split: it does not apply to stored scores"),
        (["--set", "evaluation.num_clips=2"], "--set: it does not apply to stored scores"),
        (["--average", "mean"], "--average: 'mean' is unknown. Choose logits or probabilities"),
    ):
        wrong = call("evaluate", stored[0], *words)
        assert (wrong.exit_code, message in wrong.stderr) == (2, True)
    assert "is not there" in call("evaluate", tmp_path / "none.npz").stderr


def test_older_scores_still_load_and_say_that_their_views_are_not_known(stored, tmp_path):
    with np.load(stored[0]) as arrays:
        newer = {"sampling", "num_clips", "num_crops", "split", "num_trained_on"}
        older = {name: arrays[name] for name in arrays.files if name not in newer}
    np.savez(tmp_path / "older.npz", **older)
    answer = json.loads(call("evaluate", tmp_path / "older.npz", "--json").stdout)
    assert answer["scores"] == pytest.approx(stored[1]["test"])
    refused = call("evaluate", tmp_path / "older.npz", "--views-curve")
    assert (refused.exit_code, "is not known" in refused.stderr) == (2, True)


def test_scores_are_computed_in_the_precision_that_is_asked_for(manifest):
    model = network("tsm_resnet_tiny")
    views = VideoViews(
        manifest, FileReader(), ClipSpec(num_frames=4), size=32, num_clips=1, num_crops=1, crop_fraction=1.0
    )
    rows = np.arange(len(manifest))
    single, half = (
        score(
            model, views, rows, where=Placement(torch.device("cpu"), dtype), labels_N=manifest.labels(),
            classes=manifest.classes, average="logits", batch_size=4,
        )["ordered"].logits_VK
        for dtype in (None, torch.bfloat16)
    )  # fmt: skip
    assert np.abs(single - half).max() > 1e-4
    assert np.allclose(single, half, rtol=0.1, atol=0.1 * np.abs(single).max())


def test_processes_that_decode_have_cores_of_their_own(run, monkeypatch):
    for name in processors.THREADS_SET_BY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processors, "left", lambda: Processors(usable=4, cores=4, quota=None))
    seen = []

    def spy(*arguments, **named):
        seen.append(torch.get_num_threads())
        return score(*arguments, **named)

    monkeypatch.setattr(evaluation, "score", spy)
    monkeypatch.setattr(device, "BY_ITSELF", 4)
    monkeypatch.setattr(device.os, "cpu_count", lambda: 4)
    with device.threads_kept():
        torch.set_num_threads(4)
        for chosen in ({}, {"num_workers": 1}, {"num_workers": 1, "threads": 2}):
            muybridge.evaluate(
                run, split="val", runtime=Runtime(device="cpu", cache_gib=0 if chosen else None, **chosen)
            )
            assert torch.get_num_threads() == chosen.get("threads", 4)  # as before
        assert seen == [4, 3, 2]


def test_answers_that_are_no_numbers_are_no_scores(manifest):
    model = network("tsn_resnet_tiny")
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(Diverged, match=r"^0.*: the network\'s answer is not finite"):
        scores_of(manifest, model)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder.npz", "is not"),
        ("scores.dat", r"for example scores\.npz"),
        ("mine.npz", "is there and holds no scores"),
    ],
)
def test_where_scores_go_is_checked_before_they_are_computed(run, tmp_path, monkeypatch, out, message):
    (tmp_path / "folder.npz").mkdir()
    np.savez(tmp_path / "mine.npz", thesis=np.ones(3))
    monkeypatch.setattr(evaluation, "score", lambda *arguments, **named: pytest.fail("scored"))
    with pytest.raises(UserError, match=message):
        muybridge.evaluate(run, out=tmp_path / out)


def test_a_fold_of_nought_is_none(run):
    with pytest.raises(UserError):
        muybridge.evaluate(run, fold=0)


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (60, 2), (300, 5)])
def test_distinct_rows_are_those_numpy_finds(shape):
    rows = np.random.default_rng(0).integers(-2, 3, shape)
    first, which = scoring._distinct_rows(rows)
    distinct, expected_first, expected_which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    assert np.array_equal(rows[first], distinct)
    assert np.array_equal(first, expected_first)
    assert np.array_equal(which, expected_which.reshape(-1))
