"""Stored vectors are what the network computes; a killed call ends with the same bytes; another network's are refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.analysis.comparison import compared
from muybridge.build.clips import with_stored_input
from muybridge.cli.app import app
from muybridge.data import inputs
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.sampling import ClipSpec, rearranged, sliding_indices, sliding_starts, test_indices, train_indices
from muybridge.data.stores import vectors as store
from muybridge.data.transforms import test_boxes
from muybridge.errors import UserError
from muybridge.evaluation import extract
from muybridge.evaluation import vectors as computing
from muybridge.evaluation.drift import accuracy, change
from muybridge.evaluation.extract import features
from muybridge.evaluation.trained import of_run
from muybridge.recipe import replace
from muybridge.recipe.shipped import load
from muybridge.reporting.sections import Chapter, sections
from muybridge.training.loop import train
from muybridge.video import DecodeError, FileReader, vectors

test_boxes.__test__ = test_indices.__test__ = False


@pytest.fixture(scope="module")
def frame_run(recipe, tmp_path_factory):
    """A finished run of a network of single frames."""
    changes = {"model.name": "tsn_resnet_tiny", "clip.num_frames": 1, "optim.epochs": 2}
    return train(replace(recipe, changes), out=tmp_path_factory.mktemp("runs") / "frames")


@pytest.fixture(scope="module")
def stored(frame_run, made_set, tmp_path_factory):
    """A store of every frame's vector."""
    return features(frame_run, data=made_set, out=tmp_path_factory.mktemp("stores") / "store")


def bytes_of(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix in (".npy", ".json", ".csv")
    }


def pictures(run, manifest, index, indices=None):
    """Frames of a row as the network takes them, in a test."""
    recipe, row = run.recipe(), manifest.row(index)
    indices = np.arange(row.num_frames) if indices is None else indices
    frames = FileReader(recipe.clip.short_side).read(row, indices)
    box = test_boxes(*frames.shape[1:3], num_crops=1, crop_fraction=recipe.evaluation.crop_fraction)[0]
    return torch.from_numpy(inputs.RGB.fitted(frames, box, recipe.clip.size))


def test_a_frames_vector_is_the_networks_alone_and_in_a_batch(frame_run, made_set, stored):
    source, manifest = Manifest.load(made_set), Manifest.load(stored.path)
    assert stored.finished
    assert stored.vectors == source.columns["num_frames"].sum() == manifest.columns["num_frames"].sum()
    for column in ("id", "label", "group", "sha256", "split"):
        assert np.array_equal(source.columns[column], manifest.columns[column])
    model = of_run(frame_run).load("last").eval()
    for index in (0, 7):
        read = FileReader().read(manifest.row(index), np.arange(source.row(index).num_frames))
        assert read.dtype == np.float32
        frames_THWC = pictures(frame_run, source, index)
        with torch.inference_mode():
            normal = model.preprocessing
            alone = [
                model.features(inputs.RGB.to_model(frame[None, None], None, mean=normal.mean, std=normal.std))[0, 0]
                for frame in frames_THWC
            ]
        assert np.abs(torch.stack(alone).numpy() - read).max() < 1e-5 * np.abs(read).max()


def test_accuracy_of_a_frame_is_over_all_frames(frame_run, made_set, stored):
    manifest = Manifest.load(made_set)
    model = of_run(frame_run).load("last").eval()
    labels, right, total, videos = manifest.labels(), 0, 0, []
    rows = manifest.split("test")
    for index in rows:
        x = pictures(frame_run, manifest, int(index))
        with torch.inference_mode():
            logits_TK = model(
                inputs.RGB.to_model(x[:, None], None, mean=model.preprocessing.mean, std=model.preprocessing.std)
            )
        right += int((logits_TK.argmax(1) == labels[index]).sum())
        total += len(x)
        videos.append(int(logits_TK.softmax(1).mean(0).argmax()) == labels[index])
    told = stored.accuracy["split"]["test"]
    assert (told["videos"], told["frames"], told["trained_on"]) == (len(rows), total, 0)
    assert told["frame_top1"] == pytest.approx(right / total)
    assert told["video_top1"] == pytest.approx(np.mean(videos))
    train_split = stored.accuracy["split"]["train"]
    assert train_split["trained_on"] == train_split["videos"]


def test_clips_begin_a_stride_apart(run, made_set, tmp_path):
    made = features(run.path, data=made_set, out=tmp_path / "store", clip_frames=4, stride=3)
    source, manifest = Manifest.load(made_set), Manifest.load(made.path)
    model = of_run(run).load("last").eval()
    read = FileReader().read(manifest.row(2), np.arange(manifest.row(2).num_frames))
    n = source.row(2).num_frames
    starts = range(0, n - 3, 3)
    assert len(read) == len(starts)
    for vector, start in zip(read, starts, strict=True):
        clip = pictures(run, source, 2, start + np.arange(4))[None]
        with torch.inference_mode():
            x = inputs.RGB.to_model(clip, None, mean=model.preprocessing.mean, std=model.preprocessing.std)
            expected = model.features(x).mean(1)[0].numpy()
        assert np.abs(expected - vector).max() < 1e-5 * np.abs(expected).max()


def test_layers_and_tokens(frame_run, made_set, tmp_path):
    words = {"data": made_set, "dtype": "float16"}
    with pytest.raises(UserError, match=r"has no module 'backbone.layer9'\. Did you mean 'backbone\.layer\d'"):
        features(frame_run.path, out=tmp_path / "none", layer="backbone.layer9", **words)
    with pytest.raises(UserError, match=r"has no module 'layer9'\. Did you mean 'layer\d'"):
        features(frame_run.path, out=tmp_path / "none", layer="layer9", **words)
    assert not (tmp_path / "none").exists()
    one = features(frame_run.path, out=tmp_path / "one", layer="backbone.layer3", **words)
    two = features(frame_run.path, out=tmp_path / "two", layer="backbone.layer2,backbone.layer3", **words)
    all_places = features(frame_run.path, out=tmp_path / "all", layer="backbone.layer3", tokens=True, **words)
    assert two.width == one.width + one.width // 2
    read = {
        name: vectors.read_frames(tmp_path / name / "vectors-00000.npy", np.arange(16))
        for name in ("one", "two", "all")
    }
    assert np.allclose(read["two"][:, -one.width :], read["one"], rtol=1e-3, atol=1e-3)
    per_frame = all_places.vectors // one.vectors
    assert per_frame > 1
    means = read["all"][:16].reshape(-1, per_frame, one.width).mean(1)
    assert np.allclose(means, read["one"][: len(means)], rtol=2e-3, atol=2e-3)
    assert vectors.vectors_of(tmp_path / "one" / "vectors-00000.npy").dtype == np.float16


PROGRAM = """
import os, signal, sys
from muybridge.data.stores import vectors as store
from muybridge.evaluation.extract import features
store.FILE_BYTES, store.JOURNAL_SECONDS = 120_000, 0.0
run, data, out, where, after = sys.argv[1:]
left = int(after)
def counted(call):
    def wrapped(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return wrapped
if where == "row":
    store.PartWriter.add = counted(store.PartWriter.add)
elif where == "file":
    store.write_json = counted(store.write_json)
elif where == "end":
    store.finish = counted(store.finish)
features(run, data=data, out=out)
"""


def killed(run, data, out, where, after):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run), str(data), str(out), where, str(after)], stderr=subprocess.PIPE
    )
    return ended.returncode


@pytest.fixture(scope="module")
def in_files(frame_run, made_set, tmp_path_factory):
    """Hashes of a store of several files that nothing disturbed."""
    out = tmp_path_factory.mktemp("stores") / "files"
    assert killed(frame_run.path, made_set, out, "nowhere", 0) == 0
    assert len(list(out.glob("vectors-*.npy"))) > 2
    return bytes_of(out)


@pytest.mark.parametrize(
    "kills",
    [
        [("row", 25), ("file", 0), ("end", 0)],
        pytest.param(
            [("row", 1), ("row", 0), ("file", 1), *[("row", 7)] * 5, ("file", 0), ("end", 0)], marks=pytest.mark.slow
        ),
    ],
    ids=["three", "ten"],
)
def test_killed_calls_end_with_the_same_bytes(kills, in_files, frame_run, made_set, tmp_path):
    for where, after in kills:
        assert killed(frame_run.path, made_set, tmp_path / "store", where, after) == -9
        with pytest.raises(UserError, match="`muybridge features` has not finished it"):
            Manifest.load(tmp_path / "store")
    assert killed(frame_run.path, made_set, tmp_path / "store", "nowhere", 0) == 0
    assert bytes_of(tmp_path / "store") == in_files
    assert not list((tmp_path / "store").glob("*.part")) + list((tmp_path / "store").glob("*.journal"))


def test_shards_are_joined_to_the_same_bytes(in_files, frame_run, made_set, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FILE_BYTES", 120_000)
    out = tmp_path / "store"
    assert not features(frame_run.path, data=made_set, out=out, shard="2/2").finished
    assert features(frame_run.path, data=made_set, out=out, shard="1/2").finished
    assert bytes_of(out) == in_files
    again = features(frame_run.path, data=made_set, out=out)
    assert (again.finished, again.frames) == (True, 0)
    monkeypatch.setattr("muybridge.data.stores.common.sha256_file", lambda path: "another")
    with pytest.raises(DecodeError, match="has changed since it was prepared"):
        features(frame_run.path, data=made_set, out=out)
    for wrong in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(UserError, match="is not i/n"):
            features(frame_run.path, data=made_set, out=out, shard=wrong)


def test_a_store_of_another_network_or_set_is_refused_with_both_hashes(frame_run, run, made_set, stored, tmp_path):
    own = json.loads((stored.path / "features.json").read_text())["network"]
    with pytest.raises(UserError, match=rf"another network \(.*, not .*\): network {own}, not [0-9a-f]{{64}}"):
        features(run.path, data=made_set, out=stored.path)
    with pytest.raises(UserError, match=rf"other options \(stride 1, not 2\): network {own}, not"):
        features(frame_run.path, data=made_set, out=stored.path, stride=2)
    for ending in (".csv", ".csv.json"):
        shutil.copy(made_set.with_suffix(ending), tmp_path / f"other{ending}")
    about = json.loads((tmp_path / "other.csv.json").read_text())
    (tmp_path / "other.csv.json").write_text(json.dumps(about | {"root": str(made_set.parent / about["root"])}))
    (tmp_path / "other.csv").write_text("\n".join(made_set.read_text().splitlines()[:-1]) + "\n")
    hashes = [Manifest.load(path).sha256() for path in (made_set, tmp_path / "other.csv")]
    with pytest.raises(UserError, match=f"another set: source_sha256 {hashes[0]}, not {hashes[1]}"):
        features(frame_run.path, data=tmp_path / "other.csv", out=stored.path)


def test_a_damaged_file_names_the_video(frame_run, made_set, stored, recipe, tmp_path):
    out = tmp_path / "store"
    shutil.copytree(stored.path, out)
    manifest = Manifest.load(out)
    row = manifest.row(5)
    damaged = np.lib.format.open_memmap(out / "vectors-00000.npy", mode="r+")
    damaged[row.start_frame + 1, 0] += 1
    damaged.flush()
    with pytest.raises(UserError, match=f"the vectors of '{row.id}' are not those that were written"):
        features(frame_run.path, data=made_set, out=out)
    reader = build.file_reader(with_stored_input(recipe, manifest))
    with pytest.raises(DecodeError, match=f"the vectors of '{row.id}' are not those that were written. Delete"):
        reader.read(row, np.arange(1))  # the first vector is as it was; the row is not
    other = manifest.row(6)
    assert len(reader.read(other, np.arange(other.num_frames))) == other.num_frames
    damaged[row.start_frame + 1, 0] = np.nan
    damaged.flush()
    with pytest.raises(UserError, match=f"vector {row.start_frame + 1} is damaged"):
        FileReader().read(row, np.arange(row.num_frames))
    (out / "vectors-00000.json").unlink()  # as the message says: this file is computed again
    (out / "features.json").write_text(
        json.dumps(json.loads((out / "features.json").read_text()) | {"finished": False})
    )
    features(frame_run.path, data=made_set, out=out)
    assert bytes_of(out) == bytes_of(stored.path)


def test_a_damaged_file_is_computed_again_as_the_message_says(frame_run, made_set, stored, tmp_path):
    out = tmp_path / "store"
    shutil.copytree(stored.path, out)
    for name in ("vectors-00000.json", "scores-00000.npy", "manifest.csv.json"):
        (out / name).unlink()
        again = features(frame_run.path, data=made_set, out=out)
        assert again.finished
        assert "checked" not in again.pace()
        assert bytes_of(out) == bytes_of(stored.path)
    assert "checked" in features(frame_run.path, data=made_set, out=out).pace()


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda data: data[:-4], marks=pytest.mark.slow),
        pytest.param(lambda data: b"7" + data, marks=pytest.mark.slow),
        pytest.param(lambda data: b"x\n" * 5000, marks=pytest.mark.slow),
    ],
    ids=["cut", "changed", "other"],
)
def test_a_journal_that_was_cut_or_changed_costs_rows_and_no_bytes(edit, frame_run, made_set, in_files, tmp_path):
    out = tmp_path / "store"
    assert killed(frame_run.path, made_set, out, "row", 7) == -9
    (journal,) = out.glob("*.journal")
    journal.write_bytes(edit(journal.read_bytes()))
    assert killed(frame_run.path, made_set, out, "row", 2) == -9
    assert killed(frame_run.path, made_set, out, "nowhere", 0) == 0
    assert bytes_of(out) == in_files


def test_who_was_trained_on_cannot_be_forgotten(frame_run, made_set, stored, tmp_path):
    shutil.copytree(stored.path, tmp_path / "store")
    file, manifest = tmp_path / "store" / "trained_on.json", Manifest.load(tmp_path / "store")
    for content in ("[]", None):
        file.unlink() if content is None else file.write_text(content)
        with pytest.raises(UserError, match=r"trained_on\.json"):
            store.trained_on(manifest)
    (tmp_path / "store" / "features.json").unlink()
    with pytest.raises(UserError, match=r"features\.json: it is missing"):
        store.trained_on(manifest)
    with pytest.raises(UserError, match="Name the run alone, without --pretrained"):
        features("tsn_resnet_tiny", pretrained=str(frame_run.path), data=made_set, out=tmp_path / "other")


def test_ties_and_numbers_that_are_not_finite_give_no_false_figure(frame_run, made_set, tmp_path, monkeypatch):
    manifest = Manifest.load(made_set)
    tied = (np.full((int(n), len(manifest.classes)), 3.0) for n in manifest.columns["num_frames"])
    told = accuracy(manifest, tied, np.zeros(len(manifest), dtype=bool))["split"]["test"]
    assert told["frame_top1"] == pytest.approx(told["video_top1"])
    forward = computing.Work._forward

    def planted(work, clips):
        computed = forward(work, clips)
        return {**computed, "vectors": computed["vectors"] * float("nan")}

    monkeypatch.setattr(computing.Work, "_forward", planted)
    with pytest.raises(UserError, match=f"{manifest.text('id')[0]}: the network's vectors are not finite"):
        features(frame_run.path, data=made_set, out=tmp_path / "store")


def test_statistics_that_were_damaged_are_computed_again(stored, tmp_path):
    shutil.copytree(stored.path, tmp_path / "store")
    manifest = Manifest.load(tmp_path / "store")
    (file,) = (tmp_path / "store").glob("statistics-*.npy")
    right = store.statistics(manifest, None)
    for content in (b"", b"text", file.read_bytes()[:-9]):
        file.write_bytes(content)
        assert np.array_equal(store.statistics(manifest, None), right)


def test_statistics_are_those_of_the_training_split(stored):
    manifest = Manifest.load(stored.path)
    rows = [manifest.row(int(index)) for index in manifest.split("train")]
    all_ND = np.concatenate([FileReader().read(row, np.arange(row.num_frames)) for row in rows]).astype(np.float64)
    mean_D, std_D = store.statistics(manifest, None)
    assert np.allclose(mean_D, all_ND.mean(0), rtol=1e-12)
    assert np.allclose(std_D, all_ND.std(0), rtol=1e-9)
    assert len(list(stored.path.glob("statistics-*.npy"))) == 1, "and they are kept"


def test_change_along_a_video_is_in_units_of_two_random_vectors(made_set):
    manifest = Manifest.load(made_set)
    generator = np.random.default_rng(0)
    still = change(manifest, (np.repeat(generator.normal(size=(1, 50)), 9, 0) for _ in range(len(manifest))))
    for told in still["classes"].values():
        assert max(told["first"]) < 1e-6
        assert told["previous"] < 1e-6
    assert still["videos"] == pytest.approx(1, abs=0.01)
    noise = change(manifest, (generator.normal(size=(40, 50)) for _ in range(len(manifest))))
    for told in noise["classes"].values():
        assert told["first"][0] == 0
        assert told["first"][1:] == pytest.approx([1] * 10, abs=0.1)
        assert told["previous"] == pytest.approx(1, abs=0.05)
    assert noise["videos"] < 0.2


def test_no_head_is_tested_on_what_the_network_was_trained_on(frame_run, made_set, tmp_path, recipe):
    """Vectors of a network that saw the test videos would flatter every head."""
    for ending in (".csv", ".csv.json"):
        shutil.copy(made_set.with_suffix(ending), tmp_path / f"swapped{ending}")
    about = json.loads((tmp_path / "swapped.csv.json").read_text())
    (tmp_path / "swapped.csv.json").write_text(json.dumps(about | {"root": str(made_set.parent / about["root"])}))
    text = (tmp_path / "swapped.csv").read_text()
    (tmp_path / "swapped.csv").write_text(
        text.replace(",train", ",TRAIN").replace(",test", ",train").replace(",TRAIN", ",test")
    )
    made = features(frame_run.path, data=tmp_path / "swapped.csv", out=tmp_path / "store")
    manifest = Manifest.load(made.path)
    with pytest.raises(UserError, match="the network that computed these vectors was trained on"):
        build.check_unseen(replace(recipe, {"data.manifest": str(made.path)}), manifest)
    assert set(frame_run.seen_sha256()) <= set(build.seen_before(recipe, manifest))


@pytest.mark.parametrize("layout", ["npy", "hdf5"])
def test_other_layouts_are_read_back(layout, frame_run, made_set, stored, tmp_path):
    shutil.copytree(stored.path, tmp_path / "store")
    features(frame_run.path, data=made_set, out=tmp_path / "store", format=layout)
    own, other = Manifest.load(stored.path), Manifest.load(tmp_path / "store" / layout)
    assert other.made_by == own.made_by
    assert set(store.trained_on(other)) == set(frame_run.seen_sha256())
    assert inputs.held_by(other).name == f"features:{stored.width}"
    for index in (0, 31, 59):
        indices = np.array([2, 0, 2])
        ours, theirs = (FileReader().read(manifest.row(index), indices) for manifest in (own, other))
        assert np.array_equal(ours, theirs)
    assert own.row(3).num_frames == other.row(3).num_frames
    (tmp_path / "store" / layout).rename(tmp_path / "gone")
    (tmp_path / "store" / layout).mkdir()
    (tmp_path / "store" / layout / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="did not write it"):
        features(frame_run.path, data=made_set, out=tmp_path / "store", format=layout)
    assert (tmp_path / "store" / layout / "mine.txt").read_text() == "mine"
    with pytest.raises(UserError, match=r"--format: 'matlab' is unknown"):
        features(frame_run.path, data=made_set, out=tmp_path / "store", format="matlab")


@pytest.mark.parametrize("verb", ["pack", "frames"])
def test_vectors_are_not_packed_as_pictures(verb, stored, tmp_path):
    with pytest.raises(UserError, match="it is a store that holds stored vectors"):
        getattr(muybridge, verb)(stored.path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_holds_vectors_of_one_length_or_pictures(stored, made_set, tmp_path):
    vectors_too = Manifest.load(stored.path)
    np.save(tmp_path / "other.npy", np.zeros((3, stored.width + 1), np.float32))
    for path, message in (
        (str(tmp_path / "other.npy"), "differ in length"),
        (Manifest.load(made_set).row(0).path, "some are pictures"),
    ):
        columns = vectors_too.plain_columns()
        columns["path"][0] = path
        mixed = from_columns(columns, classes=vectors_too.classes, root=stored.path, mirror=None)
        with pytest.raises(UserError, match=message):
            inputs.held_by(mixed)


def test_what_features_refuses(frame_run, made_set, stored, tmp_path):
    words = {"data": made_set, "out": tmp_path / "store"}
    with pytest.raises(UserError, match=r"--dtype: 'float8' is unknown"):
        features(frame_run.path, dtype="float8", **words)
    with pytest.raises(UserError, match=r"optim\.lr: vectors do not depend on it"):
        features(frame_run.path, changes={"optim.lr": 1.0}, **words)
    with pytest.raises(UserError, match="tsn_resnet18: a model, not a run"):
        features("tsn_resnet18", **words)
    with pytest.raises(UserError, match=r"--checkpoint: tsn_resnet_tiny is not a run"):
        features("tsn_resnet_tiny", pretrained="imagenet", checkpoint="best", **words)
    with pytest.raises(UserError, match="is not empty and holds no store"):
        features(frame_run.path, data=made_set, out=made_set.parent)
    with pytest.raises(UserError, match=r"it holds stored vectors, and .* takes frames"):
        features(frame_run.path, data=stored.path, out=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_command_says_what_it_would_take_and_what_it_took(frame_run, made_set, stored, tmp_path):
    words = ["features", str(frame_run.path), "--data", str(made_set), "--json", "--out"]
    dry = CliRunner().invoke(app, [*words, str(tmp_path / "store"), "--dry-run"])
    assert dry.exit_code == 0, dry.output
    told = json.loads(dry.stdout)
    assert (told["bytes"], told["vectors"], told["finished"]) == (stored.bytes, stored.vectors, False)
    assert told["seconds"] > 0
    assert not (tmp_path / "store").exists()
    again = CliRunner().invoke(app, ["features", *words[1:4], "--out", str(stored.path)])
    assert again.exit_code == 0
    assert "every vector is as it was written" in again.stdout
    assert os.listdir(stored.path)


# --- heads over a store


@pytest.fixture(scope="module")
def head_run(stored, tmp_path_factory):
    """A finished run of an LSTM over the stored vectors; short videos are not filled up."""
    recipe = replace(
        load("heads"),
        {
            "data.manifest": str(stored.path), "model.name": "lstm", "model.options": {"width": 8},
            "clip.num_frames": 40, "clip.past_end": "absent", "optim.lr_grid": (), "optim.weight_decay_grid": (),
            "optim.epochs": 1, "optim.min_steps": 0, "precision": "fp32",
        },
    )  # fmt: skip
    return train(recipe, out=tmp_path_factory.mktemp("heads") / "run")


def test_a_store_stands_where_a_manifest_does(head_run, stored, frame_run):
    """Trained, evaluated, diagnosed and asked like any other run; it knows what computed its vectors."""
    assert head_run.recipe().clip.modality == f"features:{stored.width}"
    assert head_run.dataset()["features"]["source"] == "frames, last"
    assert set(frame_run.seen_sha256()) <= set(head_run.seen_sha256())
    assert np.array_equal(muybridge.evaluate(head_run).logits_VK, head_run.scores().logits_VK)
    model = of_run(head_run).load("last").eval()
    mean_D, std_D = store.statistics(Manifest.load(stored.path), None)
    assert np.allclose(model.get_buffer("mean_D"), mean_D, rtol=1e-6)
    assert np.allclose(model.get_buffer("std_D"), np.where(std_D > store.LEAST_STD, std_D, 1), rtol=1e-6)
    manifest = Manifest.load(stored.path)
    index = int(manifest.split("test")[0])
    row = manifest.row(index)
    with torch.inference_mode():
        own_K = model(torch.from_numpy(FileReader().read(row, np.arange(row.num_frames)))[None])[0]
    assert np.abs(own_K.numpy() - head_run.scores().logits_VK[0]).max() < 1e-6
    assert muybridge.diagnose(head_run).findings()
    comparison = compared([head_run])
    tables = {table.name: table for section in sections(Chapter(comparison)) for table in section.tables}
    told = stored.accuracy["split"]["test"]
    (of_test,) = [row for row in tables["stage-one"].rows if row[0] == "test"]
    assert of_test[1:5] == [str(told["videos"]), "0", f"{told['frame_top1']:.3f}", f"{told['frame_top5']:.3f}"]
    assert len(tables["change"].rows) == len(manifest.classes)


def test_a_padded_batch_gives_each_video_its_own_answer(head_run, stored):
    """Steps that are not there change nothing, in a batch with longer videos, either."""
    manifest = Manifest.load(stored.path)
    model = of_run(head_run).load("last").eval()
    read = [FileReader().read(manifest.row(n), np.arange(manifest.row(n).num_frames))[: 5 + 6 * n] for n in range(3)]
    padded = np.full((3, 20, stored.width), np.nan, dtype=np.float32)
    for n, vectors_TD in enumerate(read):
        padded[n, : len(vectors_TD)] = vectors_TD
    with torch.inference_mode():
        together = model(torch.from_numpy(padded))
        for n, vectors_TD in enumerate(read):
            assert (model(torch.from_numpy(vectors_TD)[None])[0] - together[n]).abs().max() < 1e-6
    clip = inputs.find(f"features:{stored.width}").collated([padded[0], padded[1]])
    assert clip.shape[1] == len(read[1]), "steps that no video has are left out"


def test_a_head_takes_vectors_of_its_own_network_alone(head_run, stored, run, made_set, tmp_path):
    other = features(run.path, data=made_set, out=tmp_path / "other").path
    ours, theirs = (Manifest.load(path).made_by for path in (stored.path, other))
    with pytest.raises(
        UserError, match=f"holds vectors computed by {theirs}, but .* was trained on vectors computed by {ours}"
    ):
        muybridge.evaluate(head_run, data=other, split="test")
    with pytest.raises(UserError, match=f"holds videos, but .* was trained on vectors computed by {ours}"):
        muybridge.evaluate(head_run, data=made_set, split="test")


def test_a_head_does_not_start_from_one_of_another_network(head_run, run, made_set, tmp_path):
    other = features(run.path, data=made_set, out=tmp_path / "other", changes={"evaluation.size": 48})
    changes = {"data.manifest": str(other.path), "model.pretrained": str(head_run.path)}
    with pytest.raises(UserError, match=r"was trained on vectors of the network [0-9a-f]{64}, but those of"):
        train(
            replace(head_run.recipe(), {**changes, "data.sha256": None, "clip.modality": "rgb"}), out=tmp_path / "run"
        )


def test_a_head_predicts_from_a_file_of_vectors(head_run, stored, made_set, tmp_path):
    manifest = Manifest.load(stored.path)
    row = manifest.row(int(manifest.split("test")[0]))
    np.save(tmp_path / "one.npy", FileReader().read(row, np.arange(row.num_frames)))
    (answer,) = muybridge.load(head_run)(tmp_path / "one.npy")
    probabilities = head_run.scores().video_probabilities()[0]
    assert answer.label == manifest.classes[int(probabilities.argmax())]
    with pytest.raises(UserError, match="it holds no vectors, which this network takes"):
        muybridge.load(head_run)(Manifest.load(made_set).row(0).path)
    np.save(tmp_path / "short.npy", np.zeros((4, 3), np.float32))
    with pytest.raises(UserError, match="its vectors have 3 numbers"):
        muybridge.load(head_run)(tmp_path / "short.npy")


def test_networks_of_pictures_take_whole_clips_only(recipe, tmp_path):
    for changes in (
        {"evaluation.whole": True, "evaluation.num_clips": 1},
        {"clip.past_end": "absent", "clip.sampling": "dense"},
    ):
        with pytest.raises(UserError, match="it is for stored vectors"):
            train(replace(recipe, changes), out=tmp_path / "run")


# --- indices of sequences


def test_short_videos_run_back_and_forth_and_long_ones_give_a_segment():
    mirror = ClipSpec(num_frames=9, sampling="dense", stride_frames=1, past_end="mirror")
    draw = np.random.default_rng(0)
    assert train_indices(4, 25, mirror, draw)[:, 0].tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    segments = {tuple(train_indices(11, 25, mirror, draw)[:, 0].tolist()) for _ in range(50)}
    assert segments == {tuple(range(start, start + 9)) for start in range(3)}
    assert test_indices(20, 25, mirror, num_clips=3)[:, 0, 0].tolist() == [0, 5, 11]


def test_absent_steps_are_minus_one_and_stay_at_the_end():
    spec = ClipSpec(num_frames=5, sampling="dense", stride_frames=1, past_end="absent")
    draw = np.random.default_rng(0)
    assert train_indices(3, 25, spec, draw)[:, 0].tolist() == [0, 1, 2, -1, -1]
    assert test_indices(3, 25, spec, num_clips=1)[0, :, 0].tolist() == [0, 1, 2, -1, -1]
    clip = test_indices(3, 25, spec, num_clips=1)[0]
    assert rearranged(clip, "reversed", draw)[:, 0].tolist() == [2, 1, 0, -1, -1]
    assert sorted(rearranged(clip, "shuffled", draw)[:3, 0].tolist()) == [0, 1, 2]
    assert rearranged(clip, "frozen_frame", draw)[:, 0].tolist() == [1, 1, 1, -1, -1]


def test_a_whole_video_is_one_clip_of_all_its_frames():
    spec = ClipSpec(num_frames=5, sampling="dense", whole=True)
    for n in (1, 3, 12):
        assert test_indices(n, 25, spec, num_clips=1)[:, :, 0].tolist() == [list(range(n))]


def test_sliding_clips_fit_into_the_video():
    def clips(n, spec, stride):
        return sliding_indices(n, 25, spec, sliding_starts(n, 25, spec, stride=stride))

    spec = ClipSpec(num_frames=4, sampling="dense", stride_frames=2, past_end="wrap")
    assert clips(13, spec, 3)[:, :, 0].tolist() == [[0, 2, 4, 6], [3, 5, 7, 9], [6, 8, 10, 12]]
    assert clips(3, spec, 3)[:, :, 0].tolist() == [[0, 2, 1, 0]]
    single = ClipSpec(num_frames=1, sampling="dense")
    assert clips(5, single, 2)[:, 0, 0].tolist() == [0, 2, 4]


def test_the_public_verb(stored):
    assert muybridge.features is extract.features
