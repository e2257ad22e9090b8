"""One file from the web: whole or not at all, whatever the server does."""

import hashlib
import shutil

import pytest
from faulty_server import Server

from muybridge.errors import UserError
from muybridge.runtime import download
from muybridge.runtime.download import NotDownloaded, begun_bytes, fetch

DATA = bytes(range(256)) * 12_000
"""Some three chunks."""
HALF = len(DATA) // 2
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    server = Server()
    server.files["a.zip"] = DATA
    yield server
    server.close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.zip"


def names(file):
    return {path.name for path in file.parent.iterdir()}


def test_a_file_and_nothing_beside_it(server, file):
    assert fetch([server.url("a.zip")], file) == SHA256
    assert file.read_bytes() == DATA
    assert names(file) == {"a.zip"}


def test_a_broken_connection_is_tried_again_from_where_it_broke(server, file):
    server.cut_at = [HALF, 100]
    assert fetch([server.url("a.zip")], file, retries=1) == SHA256
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]
    assert file.read_bytes() == DATA


def test_a_later_call_continues_and_without_a_digest_only_where_the_file_is_unchanged(server, file):
    server.cut_at = [HALF]
    with pytest.raises(NotDownloaded, match=f"ended after {HALF} of {len(DATA)} bytes"):
        fetch([server.url("a.zip")], file)
    assert begun_bytes(file) == HALF
    assert not file.exists()
    assert fetch([server.url("a.zip")], file) == SHA256
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.asked[1][2].startswith('"')


@pytest.mark.parametrize("checks_etag", [True, False])
@pytest.mark.parametrize("sha256", ["", hashlib.sha256(DATA[::-1]).hexdigest()])
def test_a_changed_file_is_not_joined_to_the_old_half(server, file, checks_etag, sha256):
    server.cut_at, server.checks_etag = [HALF], checks_etag
    with pytest.raises(NotDownloaded):
        fetch([server.url("a.zip")], file, sha256=sha256)
    server.files["a.zip"] = DATA[::-1]
    fetch([server.url("a.zip")], file, sha256=sha256)
    assert file.read_bytes() == DATA[::-1]


def test_a_changed_length_begins_again_and_a_wrong_half_is_not_blamed_on_the_other(server, file):
    server.has_etag, server.cut_at = False, [HALF]
    server.files["old.zip"] = DATA[::-1] + b"longer"
    with pytest.raises(NotDownloaded):
        fetch([server.url("old.zip")], file, sha256=SHA256)
    assert fetch([server.url("a.zip")], file, sha256=SHA256) == SHA256
    assert server.ranges == [None, f"bytes={HALF}-", None]  # other length: not one byte of it is taken
    file.unlink()
    server.files["old.zip"], server.cut_at = DATA[::-1], [HALF]
    with pytest.raises(NotDownloaded):
        fetch([server.url("old.zip")], file, sha256=SHA256)
    assert fetch([server.url("a.zip")], file, sha256=SHA256) == SHA256  # joined, found wrong, and taken whole
    assert file.read_bytes() == DATA


def test_the_half_of_one_mirror_is_continued_at_another(server, file):
    server.files["mirror/a.zip"], server.cut_at = DATA, [HALF]
    assert fetch([server.url("a.zip"), server.url("mirror/a.zip")], file, sha256=SHA256) == SHA256
    assert server.ranges == [None, f"bytes={HALF}-"]
    file.unlink()
    server.cut_at, server.asked[:] = [HALF], []
    fetch([server.url("a.zip"), server.url("mirror/a.zip")], file)  # without a digest: from the start
    assert server.ranges == [None, None]
    assert file.read_bytes() == DATA


def test_a_server_without_ranges_begins_again(server, file):
    server.has_ranges, server.cut_at = False, [HALF, HALF]
    assert fetch([server.url("a.zip")], file, retries=3) == SHA256
    assert file.read_bytes() == DATA


def test_a_server_that_always_breaks_is_not_asked_for_ever(server, file):
    server.has_ranges, server.cut_at = False, [HALF] * 100
    with pytest.raises(NotDownloaded, match="the connection ended"):
        fetch([server.url("a.zip")], file, retries=3)
    assert len(server.asked) == 4


def test_a_wrong_checksum_tells_both_and_the_next_mirror_is_taken(server, file, capsys):
    server.files["bad.zip"] = DATA[::-1]
    wrong = hashlib.sha256(DATA[::-1]).hexdigest()
    with pytest.raises(NotDownloaded, match=f"its SHA-256 is {wrong}, and should begin with {SHA256}"):
        fetch([server.url("bad.zip")], file, sha256=SHA256)
    assert names(file) == set()
    assert fetch([server.url("bad.zip"), server.url("a.zip")], file, sha256=SHA256) == SHA256
    assert "the next address is tried" in capsys.readouterr().err
    assert names(file) == {"a.zip"}


def test_a_missing_file_is_looked_for_elsewhere_and_all_faults_are_told(server, file):
    gone, away = server.url("gone.zip"), server.url("away.zip")
    assert fetch([gone, server.url("a.zip")], file) == SHA256
    with pytest.raises(
        NotDownloaded, match=r"gone.zip: the server answers 404.*away.zip: the server answers 404"
    ) as caught:
        fetch([gone, away], file)
    assert list(caught.value.faults) == [gone, away]


def test_a_busy_server_is_asked_again_and_a_closed_one_is_not(server, file):
    server.statuses = {"a.zip": [503, 200, 403, 200]}
    assert fetch([server.url("a.zip")], file, retries=2) == SHA256
    with pytest.raises(NotDownloaded, match="answers 403"):
        fetch([server.url("a.zip")], file, retries=2)
    assert len(server.asked) == 3


def test_redirections_stay_in_the_web(server, file, tmp_path):
    (tmp_path / "secret").write_text("mine")
    server.redirections = {
        "r": server.url("a.zip"), "f": f"file://{tmp_path}/secret", "t": "ftp://127.0.0.1/a.zip", "o": server.url("o"),
    }  # fmt: skip
    assert fetch([server.url("r")], file) == SHA256
    file.unlink()
    for name, said in {"f": "not allowed", "t": "unknown url type: ftp", "o": "infinite loop"}.items():
        with pytest.raises(NotDownloaded, match=said):
            fetch([server.url(name)], file)
    assert names(file) == {"secret"}


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_server_that_sends_nothing_or_next_to_nothing_is_left(server, file, is_silent):
    server.is_silent, server.pause_seconds = is_silent, 0.05
    with pytest.raises(NotDownloaded, match="timed out" if is_silent else r"too slowly \(\d+ bytes"):
        fetch([server.url("a.zip")], file, timeout_seconds=0.3)


@pytest.mark.parametrize("has_length", [True, False])
def test_no_more_is_taken_than_was_announced(server, file, has_length):
    server.extra, server.has_length = b"more" * 1000, has_length
    if has_length:
        assert fetch([server.url("a.zip")], file) == SHA256
        server.extra, server.files["a.zip"] = b"", DATA + b"more"
    with pytest.raises(NotDownloaded, match=rf"(has {len(DATA) + 4} bytes, and should have|more than) {len(DATA)}"):
        fetch([server.url("a.zip")], file, num_bytes=len(DATA))
    assert begun_bytes(file) == 0


def test_a_size_that_is_known_ends_an_answer_without_a_length(server, file):
    server.has_length, server.cut_at = False, [HALF]
    with pytest.raises(NotDownloaded, match=f"ended after {HALF} of {len(DATA)}"):
        fetch([server.url("a.zip")], file, num_bytes=len(DATA))
    assert fetch([server.url("a.zip")], file, num_bytes=len(DATA)) == SHA256


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_a_login_page_is_no_archive(server, file, content_type):
    server.files["a.zip"], server.content_type = b"\n<!DOCTYPE html><html>Log in</html>", content_type
    with pytest.raises(NotDownloaded, match=r"web page, not a file \(it may ask for a login"):
        fetch([server.url("a.zip")], file)
    assert names(file) == set()


def test_space_is_looked_at_before_the_first_byte(server, file, monkeypatch):
    usage = shutil.disk_usage(file.parent)._replace(free=len(DATA) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"2.9 MiB are free there, and 2.9 MiB are still to come"):
        fetch([server.url("a.zip")], file)
    assert begun_bytes(file) == 0


def test_damaged_notes_of_an_earlier_call_are_worth_nothing(server, file):
    file.with_name("a.zip.partial").write_bytes(b"x" * HALF)
    for note in (b"\xff", b"[]", b'{"url": 3}'):
        file.with_name("a.zip.origin").write_bytes(note)
        assert fetch([server.url("a.zip")], file) == SHA256
        assert file.read_bytes() == DATA
        file.with_name("a.zip.partial").write_bytes(b"x" * HALF)
