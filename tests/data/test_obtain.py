"""Archives of sets: from a server with faults, and from strangers, to files that are whole, or to none."""

import base64
import binascii
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from faulty_server import Server

from muybridge.data.sets import unpack as unpacking
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.obtain import obtain
from muybridge.data.sets.unpack import UNPACKERS, Limits, unpack
from muybridge.errors import UserError
from muybridge.runtime import download
from muybridge.runtime.locks import locked

FILES = {f"{name}/{name}_g{group:02}.avi": os.urandom(40_000 + group) for name in ("jump", "run") for group in range(4)}
"""Two classes of videos that do not compress."""

RAR3_SOLID = """
UmFyIRoHADvQcwgADQAAAAAAAAArNHSAkCwAXAAAAAAIAAADoua3xbBmzD4dMwoApIEAAHN0ZXN0MS50eHQAwBEMzP6MnrD+MYGr
rLG7QHeoCmTWSzeDwQe8AeCFku77th0ACCAACIjpeAzSDAdhOkF4S7Nun1IK2sonQLrnC2SKYnH7uACRnlAv2FX/+sZY6+vE14h+
VJaHH03s2RZ0kJAsAA4AAAAACAAAA6Lmt8WwZsw+HTMKAKSBAABzdGVzdDIudHh0AMCxIACIB+vyCmn6/JTe0MQ9ewBABwA="""
RAR5_SOLID = """
UmFyIRoHAQAJ78hvCwEFBwQGAQGAgIAA3vVwchwCAroABIAQtoMCoua3xYAbAQpzdGVzdDEudHh0waw3REQj+iP2l/1iU1G+TJGB
QQKMwQN5XL9Ho6otoDaT3aBYAEACANRQBHb2xH8y6p8ypcTM14PfABDoLYkcAgKNAASAELaDAqLmt8XAGwEKc3Rlc3QyLnR4dEUV
CmABAAgD37f79vwdd1ZRAwUEAA=="""
RAR5_HARD_LINK = """
UmFyIRoHAQDz4YLrCwEFBwAGAQGAgIAAYRz1tiACArcABoAQtIMCnYz0TaLmt8WAAwEKc3Rlc3QxLnR4dMSqNEQ0JPoy60f6xE19
veYFgIIKjMEDKpXKIptQGpPdQPwAQAIA1GAENu0V+bdUgypkTs18H+C32RN0MAIDD4AABoAQtIMCnYz0TQAAAACAAAEKc3Rlc3Qy
LnR4dA4FBAAKc3Rlc3QxLnR4dPHidBEwAgMPgAAGgBC0gwKdjPRNAAAAAIAAAQpzdGVzdDMudHh0DgUEAApzdGVzdDEudHh0HXdW
UQMFBAA="""
"""Of rarfile's own tests (Marko Kreen, ISC licence): two files of the lines 000 to 511, compressed as one stream; links."""
LINES = b"".join(b"%03d\n" % number for number in range(512))


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    server = Server()
    yield server
    server.close()


def zipped(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def tarred(files, mode="w"):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def rar4(files):
    """A RAR 4 archive whose members are stored as they are (technical note of RAR 3, "Archive structure")."""

    def block(kind, flags, body, data=b""):
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", binascii.crc32(head) & 0xFFFF) + head + data

    archive = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, content in files.items():
        coded = name.replace("/", "\\").encode()
        body = struct.pack(
            "<IIBIIBBHI", len(content), len(content), 3, binascii.crc32(content), 0x3E5C8D20, 20, 0x30, len(coded),
            stat.S_IFREG | 0o644,
        )  # fmt: skip
        archive += block(0x74, 0x8000, body + coded, content)
    return archive + block(0x7B, 0x4000, b"")


def content_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def written(path, data):
    path.write_bytes(data)
    return path


def sha256_of(data):
    return hashlib.sha256(data).hexdigest()


# Unpacked


@pytest.mark.parametrize(
    "packed",
    [zipped, tarred, lambda f: tarred(f, "w:gz"), lambda f: tarred(f, "w:bz2"), lambda f: tarred(f, "w:xz")],
    ids=["zip", "tar", "gz", "bz2", "xz"],
)
def test_what_went_in_comes_out(tmp_path, packed):
    unpacked = unpack(written(tmp_path / "any", packed(FILES)), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    assert (unpacked.num_files, unpacked.num_bytes) == (len(FILES), sum(map(len, FILES.values())))
    assert unpacked.entries == ("jump", "run")


def test_rar_that_is_stored_needs_no_program(tmp_path, monkeypatch):
    pytest.importorskip("rarfile")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    unpack(written(tmp_path / "a.rar", rar4(FILES)), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


@pytest.mark.parametrize("outer", [rar4, zipped, tarred])
def test_archives_in_an_archive_lie_where_those_lay(tmp_path, outer):
    pytest.importorskip("rarfile")
    classes = {
        f"all/{name}.rar": rar4({key: data for key, data in FILES.items() if key.startswith(name)})
        for name in ("jump", "run")
    }
    unpacked = unpack(written(tmp_path / "hmdb.rar", outer({**classes, "readme.txt": b"hello"})), tmp_path / "out")
    expected = {**{f"all/{name}": data for name, data in FILES.items()}, "readme.txt": b"hello"}
    assert content_of(tmp_path / "out") == expected
    assert (unpacked.num_files, unpacked.num_bytes) == (len(expected), sum(map(len, expected.values())))


@pytest.mark.parametrize("data", [RAR3_SOLID, RAR5_SOLID], ids=["rar3", "rar5"])
@pytest.mark.parametrize("program", UNPACKERS)
def test_compressed_rar_by_each_program(tmp_path, monkeypatch, program, data):
    pytest.importorskip("rarfile")
    monkeypatch.setattr(unpacking, "_unpackers", lambda: [program])
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    archive, out, here = written(tmp_path / "a.rar", base64.b64decode(data)), tmp_path / "out", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if program == "unar" or (program == "bsdtar" and data == RAR5_SOLID):
        unpack(archive, out)
    else:  # bsdtar knows no solid rar 3; programs named unrar and 7z may know little of rar at all
        with suppress(UserError):
            unpack(archive, out)
    assert content_of(out) in ({"stest1.txt": LINES, "stest2.txt": LINES}, {})
    assert not list(here.iterdir()), "nothing is written where the command is called"


def test_a_program_that_prints_something_else_is_passed_over(tmp_path, monkeypatch):
    pytest.importorskip("rarfile")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in {
        "unrar": "echo 'UNRAR 7'",
        "unar": "exit 3",
        "bsdtar": f"cat {tmp_path}/lines {tmp_path}/lines",
    }.items():
        written(folder / name, f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n".encode()).chmod(0o755)
    written(tmp_path / "lines", LINES)
    monkeypatch.setenv("PATH", str(folder))
    unpack(written(tmp_path / "a.rar", base64.b64decode(RAR5_SOLID)), tmp_path / "out")
    assert content_of(tmp_path / "out") == {"stest1.txt": LINES, "stest2.txt": LINES}
    (folder / "bsdtar").unlink()
    with pytest.raises(UserError, match="unrar, unar cannot unpack it"):
        unpack(tmp_path / "a.rar", tmp_path / "other")
    written(folder / "unar", f"#!/bin/sh\n/bin/cat {tmp_path}/lines; echo more than lines\n".encode())
    with pytest.raises(UserError, match=r"'stest2\.txt' in it is damaged, or unar cannot"):
        unpack(tmp_path / "a.rar", tmp_path / "other")
    assert content_of(tmp_path / "other") == {}


def test_without_a_program_it_says_what_to_install(tmp_path, monkeypatch):
    pytest.importorskip("rarfile")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"apt install unar .*brew install unar .*conda install -c conda-forge"):
        unpack(written(tmp_path / "a.rar", base64.b64decode(RAR5_SOLID)), tmp_path / "out")
    with pytest.raises(UserError, match="nothing here unpacks rar"):  # before the first byte is downloaded
        obtain([Archive(("http://127.0.0.1:1/a.rar",), "")], tmp_path / "root")
    monkeypatch.setitem(sys.modules, "rarfile", None)
    with pytest.raises(UserError, match=r"pip install 'muybridge\[rar\]'"):
        unpack(tmp_path / "a.rar", tmp_path / "out")


# Hostile


def tar_of(**fields):
    data = io.BytesIO()
    info = tarfile.TarInfo("bad")
    for field, value in fields.items():
        setattr(info, field, value)
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        archive.addfile(info)
    return data.getvalue()


def zip_link():
    data = io.BytesIO()
    info = zipfile.ZipInfo("bad")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return data.getvalue()


def twice():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("a", "one")
            archive.writestr("a", "two")
        return data.getvalue()


HOSTILE = {
    "slip": (zipped({"../bad": b"x"}), "leads out"),
    "deep slip": (zipped({"a/../../bad": b"x"}), "leads out"),
    "windows slip": (zipped({"..\\bad": b"x"}), "leads out"),
    "drive": (zipped({"C:\\bad": b"x"}), "leads out"),
    "absolute": (zipped({"/tmp/bad": b"x"}), "leads out"),
    "tar slip": (tarred({"../bad": b"x"}), "leads out"),
    "tar absolute": (tarred({"/tmp/bad": b"x"}), "leads out"),
    "rar slip": (rar4({"../bad": b"x"}), "leads out"),
    "link": (tar_of(type=tarfile.SYMTYPE, linkname="/etc"), "'bad' in it is a link or a device"),
    "hard link": (tar_of(type=tarfile.LNKTYPE, linkname="good"), "a link or a device"),
    "device": (tar_of(type=tarfile.CHRTYPE, devmajor=1, devminor=5), "a link or a device"),
    "pipe": (tar_of(type=tarfile.FIFOTYPE), "a link or a device"),
    "zip link": (zip_link(), "a link or a device"),
    "rar hard link": (base64.b64decode(RAR5_HARD_LINK), "'stest2.txt' in it is a link"),
    "twice": (twice(), "'a' twice, with other content"),
    "other case": (tarred({"a/Video.avi": b"1", "A/other.avi": b"2"}), "'a' and 'A', of which one would overwrite"),
    "composed": (tarred({"\u00e9": b"1", "e\u0301": b"2"}), "one would overwrite"),
    "file and folder": (tarred({"a": b"1", "a/b": b"2"}), "one would overwrite"),
    "zip bomb": (zipped({"zeros": bytes(20_000_000)}), "unpacks to more than 2.0 MiB"),
    "tar bomb": (tarred({"zeros": bytes(20_000_000)}, "w:gz"), "unpacks to more than 2.0 MiB"),
    "bomb within": (zipped({"a.zip": zipped({"b.zip": zipped({"zeros": bytes(20_000_000)})})}), "more than 2.0 MiB"),
    "russian dolls": (zipped({"a.zip": zipped({"b.zip": zipped({"c.zip": zipped({"d": b"1"})})})}), "more than 3 deep"),
    "many": (zipped({str(number): b"" for number in range(101)}), "more than 100 files"),
    "many in tar": (tarred({str(number): b"" for number in range(101)}), "more than 100 files"),
    "deep": (tarred({"a/" * 101 + "b": b""}), "more than 100 folders deep"),
    "long name": (tarred({"x" * 300: b""}), "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_leave_nothing(tmp_path, kind):
    data, said = HOSTILE[kind]
    if kind.startswith("rar"):
        pytest.importorskip("rarfile")
    archive = written(tmp_path / "a", data)
    with pytest.raises(UserError, match=said):
        unpack(archive, tmp_path / "in" / "out", limits=Limits(num_files=100, small_bytes=2 << 20, ratio=10))
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [archive]
    assert not Path("/tmp/bad").exists()


def cut(data, share):
    return data[: int(len(data) * share)]


def flipped(data):
    at = data.index(FILES["run/run_g00.avi"][:8]) + 1000
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED = {
    "cut zip": cut(zipped(FILES), 0.9),
    "cut tar": cut(tarred(FILES), 0.5),
    "cut gz": cut(tarred(FILES, "w:gz"), 0.5),
    "cut bz2": cut(tarred(FILES, "w:bz2"), 0.5),
    "cut xz": cut(tarred(FILES, "w:xz"), 0.5),
    "tar cut between files": tarred(FILES)[: 512 + 40448],
    "tar with a broken header": bytearray(tarred(FILES)),
    "cut rar": cut(rar4(FILES), 0.5),
    "zip of wrong content": flipped(zipped(FILES)),
    "rar of wrong content": flipped(rar4(FILES)),
    "nothing": b"",
    "text": b"No archive at all, but text." * 1000,
}


def holed(data, start, num_bytes):
    return data[:start] + bytes(num_bytes) + data[start + num_bytes :]


def swallowed():
    """A zip whose first entry has a comment of the length of the second."""
    data = bytearray(zipped({"a": b"1", "b": b"2"}))
    at = data.index(b"PK\1\2")
    data[at + 32] = 46 + 1
    return bytes(data)


def sparse_header():
    """The header of a sparse file that goes on in a block, which is missing."""
    info = tarfile.TarInfo("a")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf())
    header[482] = 1
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    return bytes(header)


def of_size(size):
    """A tar whose file is of this size, as a pax header says."""
    info = tarfile.TarInfo("a")
    info.pax_headers = {"size": str(size)}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("first"))
        archive.addfile(info)
    return data.getvalue()


def volume():
    """The first of several volumes of rar 4: its end says that another follows."""
    end = struct.pack("<BHH", 0x7B, 0x4001, 7)
    return rar4(FILES)[:-7] + struct.pack("<H", binascii.crc32(end) & 0xFFFF) + end


def global_headers():
    """A tar with many short files, each behind a global header that adds a field to all that follow."""
    data = io.BytesIO()
    for number in range(40):
        part = io.BytesIO()
        with tarfile.open(fileobj=part, mode="w", pax_headers={f"field{number}": "x" * 50_000}) as archive:
            archive.addfile(tarfile.TarInfo(str(number)))
            num_bytes = archive.offset
        data.write(part.getvalue()[:num_bytes])
    return data.getvalue() + bytes(1024)


STORED = gzip.compress(tarred(FILES), compresslevel=0)
DAMAGED |= {
    "tar with a hole": holed(tarred(FILES), 512 + 40448, 41472),
    "tar with a hole to its end": tarred(FILES)[: 512 + 40448] + bytes(1 << 25),
    "tar and more": tarred(FILES) + b"more",
    "tar in a tar's padding": tarred({"a": b"1"}) + tarred({"b": b"2"}),
    "zeros": bytes(10240),
    "stored gz of wrong content": flipped(STORED),
    "cut end of gz": tarred(FILES, "w:gz")[:-6],
    "cut end of bz2": tarred(FILES, "w:bz2")[:-6],
    "cut end of xz": tarred(FILES, "w:xz")[:-6],
    "rar of nothing": rar4({}),
    "cut header of rar": rar4(FILES)[:-3],
    "zip of nothing": zipped({}),
    "zip of folders": zipped({"a/": b""}),
    "zip that swallows": swallowed(),
    "zip of no name": zipped({".": b"1", "a": b"2"}),
    "rar of junk": b"Rar!\x1a\x07\x00junk",
    "sizes that lead back": of_size(-1536),
    "sparse tar cut in its header": sparse_header(),
    "negative header": tar_of(type=tarfile.XHDTYPE, size=-5000),
    "bad zip within": zipped({"a": b"1", "b.zip": cut(zipped(FILES), 0.9)}),
    "bad rar within": zipped({"a": b"1", "b.rar": b"Rar!\x1a\x07\x00junk"}),
    "empty tar within": tarred({"a": b"1", "b.tar": bytes(10240)}),
}
DAMAGED["tar with a broken header"][512 + 40448 : 512 + 40448 + 8] = b"\0broken!"


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_archives_leave_nothing(tmp_path, kind):
    if "rar" in kind:
        pytest.importorskip("rarfile")
    archive = written(tmp_path / "a", bytes(DAMAGED[kind]))
    with pytest.raises(UserError, match=r"a: it is damaged|'b\.\w+' in it: it is damaged|avi' in it is damaged"):
        unpack(archive, tmp_path / "out")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [archive]


@pytest.mark.parametrize("data", [RAR3_SOLID, RAR5_SOLID, RAR5_HARD_LINK], ids=["rar3", "rar5", "links"])
def test_a_rar_cut_anywhere_is_damaged(tmp_path, data):
    """Cut between blocks, too, where all headers that are left are right."""
    pytest.importorskip("rarfile")
    data = base64.b64decode(data)
    for num_bytes in range(8, len(data)):
        with pytest.raises(UserError, match="it is damaged, or not an archive"):
            unpack(written(tmp_path / "a.rar", data[:num_bytes]), tmp_path / "out")


def test_a_rar_of_rar_2_ends_with_its_last_file(tmp_path):
    pytest.importorskip("rarfile")
    unpack(written(tmp_path / "a.rar", rar4(FILES)[:-7]), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["in/b.zip", "in/b.rar"])
def test_what_is_wrong_within_names_the_file_outside(tmp_path, name):
    pytest.importorskip("rarfile")
    archive = written(tmp_path / "a.zip", zipped({name: b"PK\3\4" if name.endswith("zip") else b"Rar!\x1a\x07\x00"}))
    said = rf"{archive}: '{name}' in it: it is damaged, .* Remove a.zip, and download it again"
    with pytest.raises(UserError, match=said):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("is_first", [True, False])
def test_headers_take_little_memory(tmp_path, monkeypatch, kind, is_first):
    monkeypatch.setattr(unpacking, "_MOST_HEADER_BYTES", 1 << 20)
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, 32 << 20
    header = info.tobuf()
    if kind == tarfile.GNUTYPE_SPARSE:  # blocks of 21 places each
        header, data = sparse_header(), (b"00000000001\0" * 42 + b"\1" + bytes(7)) * (1 << 14)
    else:
        data = bytes(32 << 20)
    archive = written(
        tmp_path / "a.tgz",
        gzip.compress((b"" if is_first else tarfile.TarInfo("first").tobuf()) + header + data, compresslevel=1),
    )
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"header in it is longer than 1\.0 MiB"):
            unpack(archive, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_global_headers_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_MOST_HEADER_BYTES", 1 << 20)
    archive = written(tmp_path / "a.tar", global_headers())
    with pytest.raises(UserError, match=r"headers are longer than 1\.0 MiB"):
        unpack(archive, tmp_path / "out")


def test_files_in_a_tar_may_be_longer_than_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_MOST_HEADER_BYTES", 2048)
    unpack(written(tmp_path / "a.tar", tarred(FILES)), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


def test_a_volume_is_not_taken_for_the_whole(tmp_path):
    pytest.importorskip("rarfile")
    with pytest.raises(UserError, match="one of several volumes"):
        unpack(written(tmp_path / "a.rar", volume()), tmp_path / "out")


def test_a_folder_that_starts_like_a_zip_or_bzip2_is_in_a_tar(tmp_path):
    for number, name in enumerate(("PK/a.avi", "BZh/a.avi")):
        unpack(written(tmp_path / "a.tar", tarred({name: b"1"})), tmp_path / str(number))
        assert content_of(tmp_path / str(number)) == {name: b"1"}


def test_files_that_are_there_are_kept_or_nothing_comes(tmp_path):
    archive, out = written(tmp_path / "a.zip", zipped(FILES)), tmp_path / "out"
    (out / "jump").mkdir(parents=True)
    same = written(out / "jump" / "jump_g00.avi", FILES["jump/jump_g00.avi"])
    before = same.stat().st_ino
    unpack(archive, out)
    assert content_of(out) == FILES
    assert same.stat().st_ino == before
    (out / "run" / "run_g03.avi").write_bytes(b"mine")
    shutil.rmtree(out / "jump")
    with pytest.raises(UserError, match=r"run_g03.avi: it is there already, with other content than in a.zip"):
        unpack(archive, out)
    assert (out / "run" / "run_g03.avi").read_bytes() == b"mine"
    assert not (out / "jump").exists()


def test_nothing_is_unpacked_through_a_link(tmp_path):
    archive, out, elsewhere = written(tmp_path / "a.zip", zipped(FILES)), tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out, elsewhere):
        folder.mkdir()
    (out / "jump").symlink_to(elsewhere)
    with pytest.raises(UserError, match="it is a link"):
        unpack(archive, out)
    assert content_of(elsewhere) == {}
    assert not (out / "run").exists()


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    archive = written(tmp_path / "a", tarred({"readme.txt": b"hello", "jump.zip": zipped({"jump/a.avi": b"1"})}))
    unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == {"readme.txt": b"hello", "jump/a.avi": b"1"}


def test_a_file_twice_with_the_same_content_is_one(tmp_path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("a", "./a"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"one"))
    assert unpack(written(tmp_path / "a.tar", data.getvalue()), tmp_path / "out").num_files == 1


# Obtained


def test_archives_of_a_set(server, tmp_path, capsys):
    videos, lists = zipped(FILES), zipped({"lists/testlist01.txt": b"jump/jump_g00.avi\n"})
    server.files = {"videos.zip": videos, "lists.zip": lists, "classes.csv": b"jump\nrun\n"}
    root = tmp_path / "root"
    archives = [
        Archive((server.url("videos.zip"),), "UCF", len(videos), sha256_of(videos)),
        Archive((server.url("lists.zip"),), ""),
        Archive((server.url("classes.csv"),), ""),
    ]
    obtained = obtain(archives, root)
    here = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    records = {f".downloads/{name}" for name in ("UCF/videos.zip.json", "lists.zip.json", "classes.csv.json", ".lock")}
    assert here == {*(f"UCF/{name}" for name in FILES), "lists/testlist01.txt", "classes.csv", *records}
    assert [one.sha256 for one in obtained] == [sha256_of(data) for data in server.files.values()]
    assert f"lists.zip: no checksum is published, so it was not checked (its SHA-256 is {sha256_of(lists)})" in (
        capsys.readouterr().err
    )
    assert obtain(archives, root) == obtained
    assert len(server.asked) == 3
    (root / "lists" / "testlist01.txt").unlink()
    (root / "lists").rmdir()
    obtain(archives, root)
    assert (root / "lists" / "testlist01.txt").is_file()
    assert [name for name, _, _ in server.asked[3:]] == ["lists.zip"]


def test_archives_are_kept_on_demand_and_then_stay(server, tmp_path):
    server.files["a.zip"] = zipped(FILES)
    archive = Archive((server.url("a.zip"),), "")
    obtain([archive], tmp_path, keep=True)
    obtain([archive], tmp_path)
    assert (tmp_path / ".downloads" / "a.zip").read_bytes() == server.files["a.zip"]


def test_a_file_of_the_users_own_is_taken_and_never_removed(server, tmp_path):
    data = zipped(FILES)
    mine = written(tmp_path / "a.zip", data)
    obtain([Archive((server.url("a.zip"),), "set", sha256=sha256_of(data))], tmp_path)
    assert server.asked == []
    assert content_of(tmp_path / "set") == FILES
    assert mine.read_bytes() == data
    other = Archive((server.url("a.zip"),), "other", sha256="0" * 64)
    with pytest.raises(UserError, match=rf"its SHA-256 is {sha256_of(data)}, and should be 0000"):
        obtain([other], tmp_path)
    assert mine.read_bytes() == data


def test_mirrors_are_tried_and_their_faults_told(server, tmp_path):
    data = zipped(FILES)
    server.files = {"bad/a.zip": zipped({"a": b"1"}), "good/a.zip": data}
    urls = tuple(server.url(f"{place}/a.zip") for place in ("gone", "bad", "good"))
    obtain([Archive(urls, "set", sha256=sha256_of(data))], tmp_path)
    assert content_of(tmp_path / "set") == FILES
    with pytest.raises(
        UserError, match=r"gone/a.zip: the server answers 404.*bad/a.zip: it gave a wrong file.*put it at"
    ):
        obtain([Archive(urls[:2], "other", sha256=sha256_of(data))], tmp_path)
    assert not (tmp_path / "other").exists()


def test_an_archive_that_cannot_be_unpacked_stays_and_is_not_downloaded_again(server, tmp_path):
    server.files["a.zip"] = zipped({"../bad": b""})
    for _ in range(2):
        with pytest.raises(UserError, match="leads out"):
            obtain([Archive((server.url("a.zip"),), "")], tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("folder", ["../out", "/tmp/out"])
def test_no_set_is_unpacked_outside_its_root(server, tmp_path, folder):
    with pytest.raises(UserError, match="leads out"):
        obtain([Archive((server.url("a.zip"),), folder)], tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.zip", "https://host/"])
def test_only_files_of_the_web_are_archives(tmp_path, url):
    with pytest.raises(UserError, match=r"not an address|names no file"):
        obtain([Archive((url,), "")], tmp_path)


def test_two_at_once_are_refused(server, tmp_path):
    (tmp_path / ".downloads").mkdir()
    with (
        locked(tmp_path / ".downloads", "downloads into it"),
        pytest.raises(UserError, match=r"it is in use: process .* downloads into it"),
    ):
        obtain([Archive((server.url("a.zip"),), "")], tmp_path)
    assert server.asked == []


def test_space_is_looked_at_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    archives = [Archive((server.url(name),), "", num_bytes=2**30) for name in ("a.zip", "b.zip")]
    with pytest.raises(UserError, match=r"1.00 GiB are free .* 3.00 GiB are needed: 1.00 GiB to download and 2.00 GiB"):
        obtain(archives, tmp_path)
    with pytest.raises(UserError, match=r"4.00 GiB are needed: 2.00 GiB to download"):
        obtain(archives, tmp_path, keep=True)
    assert server.asked == []


def test_space_is_looked_at_before_the_first_file(tmp_path, monkeypatch):
    archive = written(tmp_path / "a.zip", zipped({"zeros": bytes(2**27)}))
    usage = shutil.disk_usage(tmp_path)._replace(free=2**26)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"64.0 MiB are free there, and 0.12 GiB are needed to unpack"):
        unpack(archive, tmp_path / "out")


def test_a_killed_unpackings_folder_is_cleared(tmp_path):
    archive = written(tmp_path / "a.zip", zipped(FILES))
    rest = tmp_path / "out" / ".a.zip.partial" / "old"
    rest.mkdir(parents=True)
    written(rest / "half.avi", b"half")
    unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    ("root", "folder", "said"),
    [
        ("file", "", "/file: it is a file, not a folder"),
        ("file/sub", "", "/file: it is a file, not a folder"),
        ("link", "", "/link: it is a broken link"),
        ("root", "file", "/root/file: it is a file, not a folder"),
        ("kept", "a", "/kept/.downloads: it is a file, not a folder"),
    ],
)
def test_what_stands_where_the_folder_is_to_be_is_told_before_the_first_byte(server, tmp_path, root, folder, said):
    server.files["a.zip"] = zipped(FILES)
    for name in ("root", "kept"):
        (tmp_path / name).mkdir()
    for name in ("file", "root/file", "kept/.downloads"):
        written(tmp_path / name, b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"{said}\. Remove or rename it, or choose another folder"):
        obtain([Archive((server.url("a.zip"),), folder)], tmp_path / root)
    assert server.asked == []
    assert not (tmp_path / "nowhere").exists()
    if root != "kept":
        with pytest.raises(UserError, match=said):
            unpack(written(tmp_path / "a.zip", zipped(FILES)), tmp_path / root / folder)


@pytest.mark.parametrize(
    ("number", "num_free", "said"),
    [
        (errno.ENOSPC, 0, "the disk takes no more files"),
        (errno.ENOSPC, 5, "the disk is full"),
        (errno.EDQUOT, 5, "your quota is used up"),
    ],
)
def test_what_is_used_up_is_told(server, tmp_path, monkeypatch, number, num_free, said):
    def fail():
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(unpacking, "_flush", fail)
    if hasattr(os, "statvfs"):
        fields = list(os.statvfs(tmp_path))
        fields[5:8] = 10, num_free, num_free
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40))
    archive = written(tmp_path / "a.zip", zipped(FILES))
    with pytest.raises(UserError, match=rf"{said}.*a\.zip needs more"):
        unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == {}


# Killed, and full


def obtained_in_a_process(root, url, sha256, *at):
    driver = Path(__file__).parent.parent / "obtain_driver.py"
    return subprocess.run(
        [sys.executable, str(driver), str(root), url, sha256, *map(str, at)], capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("has_digest", [True, False])
def test_killed_at_ten_bytes_and_at_every_file_operation_it_ends_with_the_same_files(server, tmp_path, has_digest):
    files = {name: data * 60 for name, data in FILES.items()}
    data = zipped({"all/jump.zip": zipped({n: d for n, d in files.items() if n[0] == "j"}),
                   **{f"all/{n}": d for n, d in files.items() if n[0] == "r"}})  # fmt: skip
    server.files["a.zip"], url, digest = data, server.url("a.zip"), sha256_of(data) if has_digest else ""
    done = obtained_in_a_process(tmp_path / "whole", url, digest)
    there = json.loads(done.stdout)
    expected = content_of(tmp_path / "whole")
    assert {name.removeprefix("videos/all/") for name in expected if name.startswith("videos")} == set(files)
    kills = [("bytes", there["bytes"] * number // 10) for number in range(10)]
    kills += [("operation", number) for number in range(0, there["operation"], 1 if has_digest else 7)]
    for what, at in kills:
        root = tmp_path / f"{what}-{at}"
        killed = obtained_in_a_process(root, url, digest, what, at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        again = obtained_in_a_process(root, url, digest)
        assert again.returncode == 0, again.stderr
        assert content_of(root) == expected, (what, at)
        shutil.rmtree(root)
    root = tmp_path / "ten"
    for what, at in kills[:10]:  # one after the other, on the same folder
        obtained_in_a_process(root, url, digest, what, at)
    assert obtained_in_a_process(root, url, digest).returncode == 0
    assert content_of(root) == expected
    assert any(asked for asked in server.ranges)


FULL = """
import sys
from pathlib import Path
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.obtain import obtain
from muybridge.errors import UserError
root = Path(sys.argv[1])
for name in sys.argv[3:]:
    try:
        obtain([Archive((sys.argv[2] + name,), "")], root)
        print(name, "done")
    except UserError as error:
        print(name, error)
    print(name, sorted(path.name for path in root.rglob("*") if path.is_file()))
    if name == "long.bin":
        for end in ("partial", "origin"):
            (root / ".downloads" / f"long.bin.{end}").unlink()
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(server, tmp_path):
    """8 MiB: an archive that is too long, one that unpacks to too much (told only while unpacking), and one that fits."""
    script = 'mount -t tmpfs -o size=8m full "$1" && shift && exec "$@"'
    mounted = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    server.has_length = False
    noise = os.urandom(5_000_000)
    server.files = {
        "long.bin": os.urandom(9_000_000), "much.tar": tarred({"a": noise}), "fits.zip": zipped(FILES),
    }  # fmt: skip
    done = subprocess.run(
        [*mounted, sys.executable, "-c", FULL, str(tmp_path), server.url(""), *server.files],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "the disk is full" in said[0]
    assert "long.bin.partial" in said[1]
    assert "the disk is full" in said[2]
    assert said[3] == "much.tar ['.lock', 'much.tar']"  # downloaded, and not half unpacked
    assert said[-2] == "fits.zip done"


def test_a_download_that_ended_midway_is_continued_by_the_next_call(server, tmp_path, monkeypatch):
    data = zipped(FILES)
    server.files["a.zip"], server.cut_at = data, [100_000]
    monkeypatch.setattr("muybridge.data.sets.obtain.RETRIES", 0)
    archive = Archive((server.url("a.zip"),), "set", len(data), sha256_of(data))
    with pytest.raises(UserError, match=r"the connection ended after 100000 of \d+ bytes. Repeat the command"):
        obtain([archive], tmp_path)
    obtain([archive], tmp_path)
    assert server.ranges == [None, "bytes=100000-"]
    assert content_of(tmp_path / "set") == FILES
