"""A bundle loads wherever a run does, tells nothing of the machine, and is refused once a byte of it is another."""

import errno
import json
import shutil
import stat
import zipfile

import numpy as np
import pytest
from command import call, document

from muybridge import build
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation.trained import of_run
from muybridge.inference.bundle import bundle
from muybridge.inference.predictor import Predictor
from muybridge.recipe import fingerprint
from muybridge.storage import bundle as bundles
from muybridge.storage.run import Run


@pytest.fixture(scope="module")
def bundled(run, tmp_path_factory):
    """The run in one file, and in a folder."""
    folder = tmp_path_factory.mktemp("bundled")
    bundle(run, out=folder / "b.muy", licence="CC-BY-4.0")
    bundle(run, out=folder / "b")
    return folder


@pytest.mark.parametrize("name", ["b.muy", "b"])
def test_it_answers_and_is_scored_as_the_run(run, recipe, bundled, name, made_set):
    video = Manifest.load(made_set).row(0).path
    with Predictor(bundled / name) as predictor, Predictor(run) as original:
        assert np.array_equal(predictor(video).probabilities_K, original(video).probabilities_K)
    given = document(call("evaluate", bundled / name, "--data", made_set, "--json"))
    assert given["test"]["video_top1"] == run.result()["test"]["video_top1"]
    assert fingerprint(Run.open(bundled / name).recipe()) == fingerprint(run.recipe())
    assert build.weights_file(str(bundled / name)).read_bytes() == build.weights_file(str(run.path)).read_bytes()
    seen = document(call("evaluate", bundled / name, "--data", made_set, "--split", "train", "--json"))["train"]
    assert seen["trained_on"] == seen["videos"] == run.dataset()["split_sizes"]["train"]


def test_it_has_no_path_of_this_machine_and_no_optimiser(run, bundled):
    names = {path.relative_to(bundled / "b").as_posix() for path in (bundled / "b").rglob("*") if path.is_file()}
    assert not any("optimizer" in name or name.startswith(("scores", "trackers")) for name in names)
    for name in names:
        data = (bundled / "b" / name).read_bytes()
        for path in (run.path.parent, run.recipe().data.manifest):
            assert str(path).encode() not in data, name
    about = json.loads((bundled / "b" / bundles.NAME).read_text())
    assert about["files"].keys() == names - {bundles.NAME}
    assert about["results"]["test"] == run.result()["test"]
    assert about["licence"] == "not stated"


def test_a_file_becomes_a_folder_again_and_keeps_its_licence(bundled, tmp_path):
    made = bundle(bundled / "b.muy", out=tmp_path / "again", scores=True)
    assert made.licence == "CC-BY-4.0"
    ours, theirs = (json.loads((folder / bundles.NAME).read_text()) for folder in (tmp_path / "again", bundled / "b"))
    assert ours["files"] == theirs["files"]
    assert ours["run_sha256"] == theirs["run_sha256"]


def test_the_same_run_gives_the_same_bytes(run, bundled, tmp_path):
    bundle(run, out=tmp_path / "b.muy", licence="CC-BY-4.0")
    assert (tmp_path / "b.muy").read_bytes() == (bundled / "b.muy").read_bytes()


def test_every_changed_byte_is_found(bundled, tmp_path):
    listed = json.loads((bundled / "b" / bundles.NAME).read_text())["files"]
    for number, name in enumerate(listed):
        folder = tmp_path / str(number)
        shutil.copytree(bundled / "b", folder)
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match="not the file that was bundled"):
            Run.open(folder)
        (folder / name).unlink()
        with pytest.raises(UserError):
            Run.open(folder)


def rewritten(file, out, *, leave=(), add=(), compression=zipfile.ZIP_STORED, mode=stat.S_IFREG | 0o644):
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(out, "w", compression) as target:
        for name in source.namelist():
            if name not in leave:
                target.writestr(name, source.read(name))
        for name, data in add:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            target.writestr(member, data)
    return out


def with_listed(file, out, name, data=b"x", **more):
    """A bundle that lists one file more, with its right hash."""
    import hashlib

    with zipfile.ZipFile(file) as source:
        about = json.loads(source.read(bundles.NAME))
    about["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return rewritten(file, out, leave=[bundles.NAME], add=[(bundles.NAME, json.dumps(about)), (name, data)], **more)


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:evil", "checkpoints/../../evil"]
)
def test_a_stranger_writes_nothing_elsewhere(bundled, tmp_path, name):
    theirs = with_listed(bundled / "b.muy", tmp_path / "t.muy", name)
    with pytest.raises(UserError):
        Run.open(theirs)
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("name", ["recipe.json/x", "x" * 300, ".", "nul\0l"])
def test_a_name_that_is_no_files_names_the_bundle(bundled, tmp_path, name):
    theirs = with_listed(bundled / "b.muy", tmp_path / "t.muy", name)
    with pytest.raises(UserError, match=r"t\.muy: .* Get it again"):
        Run.open(theirs)


def test_a_full_disk_is_that_of_the_new_file(run, tmp_path, monkeypatch):
    """And not the file that was to be copied."""

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left") as raised:
        bundle(run.path, out=tmp_path / "c.muy")
    assert raised.value.filename == str(tmp_path / "c.muy")
    assert not list(tmp_path.iterdir())


def test_what_is_no_bundle_is_refused(bundled, tmp_path):
    file, out = bundled / "b.muy", tmp_path / "t.muy"
    made = {
        "not those that it lists": lambda: rewritten(file, out, add=[("more.py", "raise SystemExit")]),
        "those that it lists": lambda: rewritten(file, out, leave=["cost.json"]),
        "no list": lambda: rewritten(file, out, leave=[bundles.NAME]),
        "uncompressed": lambda: rewritten(file, out, compression=zipfile.ZIP_DEFLATED),
        "plain": lambda: with_listed(file, out, "link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
        "has no list": lambda: out.write_bytes(file.read_bytes()[:-100]),
        "not a bundle": lambda: out.write_bytes(b""),
    }
    for message, make in made.items():
        out.unlink(missing_ok=True)
        make()
        with pytest.raises(UserError, match=message):
            Run.open(out)


def test_nothing_is_written_into_a_file(bundled, made_set):
    result = call("evaluate", bundled / "b.muy", "--data", made_set, "--split", "train", "--keep")
    assert result.exit_code == 2
    assert "Make a folder of it" in result.stderr


def test_a_file_is_counted_but_not_measured(bundled):
    """As the result of measuring is kept in the run."""
    counted = document(call("measure", bundled / "b.muy", "--no-speed", "--json"))
    assert (counted["run"], counted["params"] > 0) == (str(bundled / "b.muy"), True)
    result = call("measure", bundled / "b.muy")
    assert result.exit_code == 2
    assert "Make a folder of it" in result.stderr


def test_what_is_there_stays_and_what_is_not_finished_is_refused(run, tmp_path):
    (tmp_path / "b.muy").write_text("mine")
    assert call("bundle", run.path, "--out", tmp_path / "b.muy").exit_code == 2
    assert (tmp_path / "b.muy").read_text() == "mine"
    shutil.copytree(run.path, tmp_path / "begun")
    (tmp_path / "begun" / "result.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        bundle(tmp_path / "begun", out=tmp_path / "c.muy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.muy", "begun"]
    assert of_run(Run.open(run.path)).classes
