"""Arrays of clips: frame n·T+t is frame t of clip n, read in place."""

import pickle

import numpy as np
import pytest
from making import coded, codes_of

from muybridge.video import DecodeError, FileReader, ForwardReader, RamCache, Row
from muybridge.video.arrays import clips_of, frames, probe, read_frames


def fails(call, *arguments, **settings):
    with pytest.raises(DecodeError) as caught:
        call(*arguments, **settings)
    return caught.value


def write(path, array):
    np.save(path, array)
    return path


@pytest.fixture
def clips(tmp_path):
    """Four clips of five frames: the numbers 0 … 19."""
    return write(tmp_path / "clips.npy", np.stack([coded(i) for i in range(20)]).reshape(4, 5, 48, 64, 3))


def test_frames_are_counted_over_all_clips(clips):
    assert codes_of(frames(clips)) == list(range(20))
    assert codes_of(frames(clips, start_frame=17)) == [17, 18, 19]
    found = read_frames(clips, [19, 4, 5, 5])
    assert codes_of(found) == [19, 4, 5, 5]
    assert found.dtype == np.uint8
    assert found.flags["C_CONTIGUOUS"]
    assert found.flags["WRITEABLE"]
    assert type(found) is np.ndarray


def test_the_order_in_memory_does_not_count(tmp_path, clips):
    fortran = write(tmp_path / "f.npy", np.asfortranarray(np.load(clips)))
    assert not np.load(fortran, mmap_mode="r").flags["C_CONTIGUOUS"]
    assert codes_of(read_frames(fortran, [19, 4, 5, 5])) == [19, 4, 5, 5]
    assert codes_of(frames(fortran)) == list(range(20))


def test_one_clip_needs_no_axis_of_clips(tmp_path):
    path = write(tmp_path / "clip.npy", np.stack([coded(i) for i in range(6)]))
    assert codes_of(read_frames(path, [5, 0])) == [5, 0]
    info = probe(path, fps=10)
    assert (info.num_frames, info.height, info.width, info.fps, info.seekable) == (6, 48, 64, 10, False)
    np.testing.assert_allclose(info.times_seconds, np.arange(6) / 10)


def test_many_clips_are_no_video(clips):
    assert "holds 4 clips" in fails(probe, clips, fps=25).reason


@pytest.mark.parametrize("short_side", [24, 37, 96])
def test_short_side_keeps_the_aspect(clips, short_side):
    found = read_frames(clips, [7, 12, 7], short_side=short_side)
    assert found.shape == (3, short_side, round(short_side * 64 / 48), 3)
    assert codes_of(found) == [7, 12, 7]
    assert np.array_equal(np.stack(list(frames(clips, short_side=short_side)))[[7, 12, 7]], found)


def test_the_file_is_mapped_and_not_loaded(clips):
    mapped = clips_of(clips)
    while mapped.base is not None and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags["WRITEABLE"]
    assert clips_of(clips) is clips_of(str(clips))


def test_asking_past_the_end_names_the_file_and_both_numbers(clips):
    error = fails(read_frames, clips, [0, 20])
    assert error.path == str(clips)
    assert error.reason == "frame 20 was asked for, but decoding gives 20 frames"
    assert "20 frames" in fails(FileReader().read_all, [Row("r", str(clips), 15, 6, 25.0)]).reason


@pytest.mark.parametrize("indices", [[], [-1], [3, -2]])
def test_indices_that_cannot_be_are_a_mistake_of_the_caller(clips, indices):
    with pytest.raises(ValueError, match="frame indices"):
        read_frames(clips, indices)


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_what_is_not_pixels_is_told(tmp_path, clips, kind):
    path = write(tmp_path / "a.npy", np.load(clips).astype(kind))
    assert f"is {np.dtype(kind)} of shape (4, 5, 48, 64, 3)" in fails(read_frames, path, [0]).reason


@pytest.mark.parametrize("shape", [(), (0, 5, 4, 4, 3), (4, 5, 4, 4), (2, 4, 5, 4, 1), (2, 3, 4, 4, 4)])
def test_other_shapes_are_told(tmp_path, shape):
    path = write(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    assert "(N,T,H,W,3)" in fails(read_frames, path, [0]).reason


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def test_python_objects_are_never_loaded(tmp_path):
    objects = np.empty(2, dtype=object)
    objects[:] = [Trap(), Trap()]
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    assert "pickles" in fails(read_frames, tmp_path / "a.npy", [0]).reason
    (tmp_path / "b.npy").write_bytes(pickle.dumps([Trap()]))
    assert "not a complete .npy file" in fails(read_frames, tmp_path / "b.npy", [0]).reason


def test_half_a_file_is_told(tmp_path, clips):
    whole = clips.read_bytes()
    for kept in (0, 5, 100, len(whole) - 1):
        clips.write_bytes(whole[:kept])
        assert "not a complete .npy file" in fails(read_frames, clips, [0]).reason
    assert "No such file" in fails(read_frames, tmp_path / "none.npy", [0]).reason


@pytest.mark.parametrize("header", [b"{'descr': '|u1', 'fortran_order': (False", b"{" * 500, b"\x00" * 40, b"9" * 90])
def test_a_header_that_is_none_is_told(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DecodeError, match=r"not a complete \.npy file"):
        clips_of(tmp_path / "a.npy")


@pytest.mark.parametrize("short_side", [None, 24])
def test_all_readers_give_the_same_frames(clips, short_side):
    reader, forward = FileReader(short_side=short_side), ForwardReader(short_side=short_side)
    rows = [Row(f"clips#{n}", str(clips), 5 * n, 5, 25.0) for n in range(4)]
    cache = RamCache(reader)
    cache.fill(rows, threads=2)
    for n, row in enumerate(rows):
        for indices in ([0], [4, 0, 3, 3], list(range(5))):
            found = pickle.loads(pickle.dumps(reader)).read(row, np.array(indices))
            assert codes_of(found) == [5 * n + index for index in indices]
            assert np.array_equal(cache.read(row, np.array(indices)), found)
            assert np.array_equal(forward.read(row, np.array(indices)), found)


def test_a_miscount_of_the_interpreter_is_no_fault_of_the_file(clips, monkeypatch):
    """CPython 3.11 raises SystemError now and then, where another thread parses at the same time (gh-106905)."""
    opened, calls = np.lib.format.open_memmap, []

    def miscounts_once(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=48, after=45)")
        return opened(*arguments, **named)

    monkeypatch.setattr(np.lib.format, "open_memmap", miscounts_once)
    assert len(clips_of(clips)) == 4
    assert len(calls) == 2
