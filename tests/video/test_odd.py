"""Files with faults and rarities through every reader: the same outcome each time, and in each of them."""

import hashlib

import numpy as np
import pytest
from making import codes_of
from making_odd import ODD, write_odd

from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.stores.jpegs import frames as write_jpegs
from muybridge.data.stores.pack import pack, psnr
from muybridge.video import (
    DecodeError,
    FileReader,
    ForwardReader,
    RamCache,
    Row,
    frames,
    probe,
    read_frames,
)

SHORT_SIDE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_odd(tmp_path_factory.mktemp("odd"))


def through(read):
    """What came of it: the shape and a digest of the pixels, or the file and the reason."""
    try:
        pixels = read()
    except DecodeError as error:
        return ("error", error.path, error.reason)
    return (pixels.shape, hashlib.sha256(pixels.tobytes()).hexdigest())


def outcomes(path, num_frames):
    """The outcome of a file through every reader of video files; a file without frames is asked for its first."""
    last = max(0, num_frames - 1)
    wanted = np.array([last, 0, last // 2, 0])
    row = Row("a", str(path), 0, max(1, num_frames), 25.0)
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


def check(path, runs):
    odd = ODD[path.name]
    found = outcomes(path, odd.num_frames)
    for _ in range(runs - 1):
        assert outcomes(path, odd.num_frames) == found
    readers = {found[reader] for reader in ("counting", "time stamps", "cache", "forward")}
    assert len(readers) == 1, "all readers agree"
    assert found["past the end"][0] == "error"
    assert (found["counting"][0] == "error") == (odd.num_frames == 0)
    assert (found["probe"][0] == "error") == (odd.num_frames == 0)
    if odd.num_frames == 0:
        assert found["counting"][1] == str(path)
        assert found["counting"][2] != ""


@pytest.mark.parametrize("name", ODD)
def test_every_file_has_one_outcome(folder, name):
    check(folder / name, runs=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_the_outcome_is_stable_over_ten_runs(folder, name):
    check(folder / name, runs=10)


@pytest.mark.parametrize("name", ODD)
def test_every_file_gives_what_it_holds_or_says_why_not(folder, name):
    path, odd = folder / name, ODD[name]
    if odd.num_frames == 0:
        with pytest.raises(DecodeError) as caught:
            probe(path)
        assert odd.reason in caught.value.reason
        with pytest.raises(DecodeError):
            read_frames(path, [0])
        return
    info = probe(path)
    assert (info.num_frames, info.declared_frames) == (odd.num_frames, odd.declared)
    assert (info.width, info.height) == odd.size
    assert info.fps == pytest.approx(odd.fps, rel=0.02)
    every = np.stack(list(frames(path)))  # of one size, also where the stream changes its own
    assert every.shape == (odd.num_frames, *odd.size[::-1], 3)
    if odd.is_coded:
        assert codes_of(every) == list(range(odd.num_frames))
    found = read_frames(path, [odd.num_frames - 1, 0], short_side=32)
    assert found.shape[0] == 2
    assert min(found.shape[1:3]) == 32
    with pytest.raises(DecodeError, match=f"{odd.num_frames} frames"):
        read_frames(path, [odd.num_frames])


@pytest.fixture(scope="module")
def odd_set(folder, tmp_path_factory):
    """A manifest of every file that holds a video."""
    names = [name for name, odd in ODD.items() if odd.num_frames]
    infos = [probe(folder / name) for name in names]
    manifest = from_columns(
        {
            "id": names, "path": names, "start_frame": [0] * len(names),
            "num_frames": [info.num_frames for info in infos], "label": ["ab"[i % 2] for i in range(len(names))],
            "group": [""] * len(names), "fps": [info.fps for info in infos], "width": [info.width for info in infos],
            "height": [info.height for info in infos], "sha256": [""] * len(names),
            "seekable": [int(info.seekable) for info in infos], "split": ["train"] * len(names),
        },
        classes=["a", "b"], root=folder, mirror={},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("odd") / "set.csv"
    manifest.save(path)
    return path


@pytest.mark.parametrize("store", ["jpeg", "h264", "folders"])
def test_every_video_goes_into_every_store(odd_set, tmp_path, store):
    """The same number of frames, upright, of the same size, close to the source."""
    if store == "folders":
        write_jpegs(odd_set, out=tmp_path / "s", short_side=SHORT_SIDE)
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
