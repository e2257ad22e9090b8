"""Real files with faults through every reader: the same outcome each time, and in each of them."""

import csv
import hashlib

import numpy as np
import pytest
from making import ODD

from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.stores.jpegs import frames
from muybridge.data.stores.pack import pack, psnr
from muybridge.video import (
    DecodeError,
    FileReader,
    ForwardReader,
    RamCache,
    Row,
    probe,
)

FILES = sorted(path.name for path in ODD.glob("*") if path.suffix != ".tsv") if ODD.exists() else []
pytestmark = pytest.mark.skipif(not FILES, reason="the real files are not at hand")

SHORT_SIDE = 48


def expected_frames():
    with (ODD / "MANIFEST.tsv").open(newline="") as file:
        return {row["file"]: int(row["decoded_frames"] or 0) for row in csv.DictReader(file, delimiter="\t")}


def through(read):
    """What came of it: the shape and a digest of the pixels, or the file and the reason."""
    try:
        pixels = read()
    except DecodeError as error:
        return ("error", error.path, error.reason)
    return (pixels.shape, hashlib.sha256(pixels.tobytes()).hexdigest())


def outcomes(name, num_frames):
    """The outcome of a file through every reader of video files; a file without frames is asked for its first."""
    last = max(0, num_frames - 1)
    wanted = np.array([last, 0, last // 2, 0])
    row = Row(name, str(ODD / name), 0, max(1, num_frames), 25.0)
    cache, forward = RamCache(FileReader(SHORT_SIDE)), ForwardReader(short_side=SHORT_SIDE)

    def cached():
        cache.fill([row], threads=2)
        return cache.read(row, wanted)

    def probed():
        info = probe(row.path)
        return np.array([info.num_frames, info.width, info.height, info.seekable, info.fps])

    return {
        "probe": through(probed),
        "counting": through(lambda: FileReader(SHORT_SIDE).read(row, wanted)),
        "time stamps": through(lambda: FileReader(SHORT_SIDE).read(row._replace(seekable=True), wanted)),
        "cache": through(cached),
        "forward": through(lambda: forward.read(row, wanted)),
        "past the end": through(lambda: FileReader(SHORT_SIDE).read(row, np.array([num_frames]))),
    }


def check(name, runs):
    num_frames = expected_frames()[name]
    found = outcomes(name, num_frames)
    for _ in range(runs - 1):
        assert outcomes(name, num_frames) == found
    readers = {found[reader] for reader in ("counting", "time stamps", "cache", "forward")}
    assert len(readers) == 1, "all readers agree"
    assert found["past the end"][0] == "error"
    assert (found["counting"][0] == "error") == (num_frames == 0)
    assert (found["probe"][0] == "error") == (num_frames == 0)
    if num_frames == 0:
        assert found["counting"][1] == str(ODD / name)
        assert found["counting"][2] != ""


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_one_outcome(name):
    check(name, runs=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_outcome_is_stable_over_ten_runs(name):
    check(name, runs=10)


@pytest.fixture(scope="module")
def odd_set(tmp_path_factory):
    """A manifest of every file that holds a video."""
    names = [name for name, count in expected_frames().items() if count]
    infos = [probe(ODD / name) for name in names]
    manifest = from_columns(
        {
            "id": names, "path": names, "start_frame": [0] * len(names),
            "num_frames": [info.num_frames for info in infos], "label": ["ab"[i % 2] for i in range(len(names))],
            "group": [""] * len(names), "fps": [info.fps for info in infos], "width": [info.width for info in infos],
            "height": [info.height for info in infos], "sha256": [""] * len(names),
            "seekable": [int(info.seekable) for info in infos], "split": ["train"] * len(names),
        },
        classes=["a", "b"], root=ODD, mirror={},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("odd") / "set.csv"
    manifest.save(path)
    return path


@pytest.mark.parametrize("store", ["jpeg", "h264", "folders"])
def test_every_video_goes_into_every_store(odd_set, tmp_path, store):
    """The same number of frames, upright, of the same size, close to the source."""
    if store == "folders":
        frames(odd_set, out=tmp_path / "s", short_side=SHORT_SIDE)
    else:
        pack(odd_set, out=tmp_path / "s", short_side=SHORT_SIDE, codec=store)
    source, stored = Manifest.load(odd_set), Manifest.load(tmp_path / "s")
    assert len(stored) == len(source) > 20
    for index in range(len(source)):
        before, after = source.row(index), stored.row(index)
        assert after.num_frames == before.num_frames
        wanted = np.array([before.num_frames - 1, 0])
        expected = FileReader(SHORT_SIDE).read(before, wanted)
        found = FileReader().read(after, wanted)
        assert found.shape == expected.shape, before.id
        assert min(psnr(a, b) for a, b in zip(expected, found, strict=True)) > 22, before.id
