"""Files are whole or not there, whatever fails in between."""

import hashlib
import json
import os

import pytest

from muybridge.errors import UserError
from muybridge.runtime import files


class PowerCutError(Exception):
    pass


def fail(*_args, **_kwargs):
    raise PowerCutError


@pytest.mark.parametrize("data", [b"\x00\xff\r\n\n", "Größe\nzwei\n", b"", "x" * 300_000])
def test_write_atomic_writes_exactly_what_it_is_given(tmp_path, data):
    path = tmp_path / "a.bin"
    files.write_atomic(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"], "nothing else is left behind"


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failure_leaves_the_old_file_or_none(tmp_path, monkeypatch, moment, old):
    path = tmp_path / "a.json"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, moment, fail)
        with pytest.raises(PowerCutError):
            files.write_atomic(path, b"new")
    assert (path.read_bytes() if path.exists() else None) == old
    visible = [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    assert visible == ([] if old is None else ["a.json"])
    files.write_atomic(path, b"new")  # what the failure left is no obstacle
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_part_way_through_a_write_shows_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    real, calls = os.write, []

    def half(descriptor, data):
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(1)
        return real(descriptor, bytes(data[: len(data) // 2]))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", half)
        with pytest.raises(OSError, match="No space"):
            files.write_atomic(path, b"brand new")
    assert path.read_bytes() == b"old"


def test_short_writes_are_carried_on(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: real(descriptor, bytes(data[:3])))
    files.write_durable(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.skipif(os.name == "nt", reason="Windows flushes renames itself")
def test_data_is_flushed_before_the_rename_and_the_rename_after(tmp_path, monkeypatch):
    happened = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        happened.append("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file")
        real_fsync(descriptor)

    def replace(source, target):
        happened.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", replace)
    files.write_atomic(tmp_path / "a", b"x")
    assert happened == ["file", "rename", "folder"]


def test_write_durable_writes_new_files_only(tmp_path):
    (tmp_path / "a").write_bytes(b"something of mine")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for name in ("a", "link"):
        with pytest.raises(FileExistsError):
            files.write_durable(tmp_path / name, b"short")
    assert (tmp_path / "a").read_bytes() == b"something of mine"


def test_sha256_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_json_round_trip(tmp_path):
    value = {"a": [1, 2.5, None, True], "ü": "日本"}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text().endswith("\n")


def test_json_of_another_editor_is_read_as_utf8(tmp_path):
    (tmp_path / "a.json").write_bytes(json.dumps({"label": "überholen"}, ensure_ascii=False).encode())
    assert files.read_json(tmp_path / "a.json") == {"label": "überholen"}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}", None])
def test_unreadable_json_names_the_file(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "x" * 60 + ".mp4"])
def test_what_is_cleared_of_one_file_is_of_that_file_alone(tmp_path, name):
    """Names that begin alike, too: another process may be writing that file."""
    left = [files.partial_name(tmp_path / one) for one in (name, f"{name}.mp4", f"{name[:-4]}-2.mp4")]
    for path in left:
        path.write_bytes(b"x")
    files.clear_partials(tmp_path, of=[name])
    assert [path.exists() for path in left] == [False, True, True]


def test_a_new_file_takes_no_name_that_is_taken(tmp_path):
    files.write_new(tmp_path / "a", "first")
    with pytest.raises(UserError, match="it is there already"):
        files.write_new(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["a"]
