"""Batches depend on (seed, epoch, video id) and on nothing else."""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from processes import worker_processes

from muybridge.data import loader
from muybridge.data.loader import (
    ViewLoader,
    WorkerLost,
    ahead_on_device,
    pass_batches,
    train_batches,
)
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.random import generator
from muybridge.data.sampling import ClipSpec
from muybridge.data.views import TrainClips, Unreadable, VideoViews
from muybridge.errors import UserError
from muybridge.recipe import replace as changed
from muybridge.recipe import to_json
from muybridge.video import DecodeError, FileReader, RamCache

SPEC = ClipSpec(num_frames=4)
ALL = {
    "crop": "random", "short_sides": (24, 40), "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
    "rotation_degrees": 15.0,
}  # fmt: skip
"""Every augmentation, beside the mirror that is on anyway."""


@pytest.fixture
def manifest(made_set):
    return Manifest.load(made_set)


@pytest.fixture(scope="module")
def in_memory(made_set):
    """A reader that has decoded the training videos once, for tests of what is drawn."""
    manifest, reader = Manifest.load(made_set), RamCache(FileReader())
    reader.fill([manifest.row(int(row)) for row in manifest.split("train")], threads=1)
    return reader


def clips_of(manifest, reader=None, **changes):
    options = {"size": 24, "crop": "multiscale", "flip_probability": 0.5, "crop_fraction": 1.0, "seed": 5} | changes
    return TrainClips(manifest, reader or FileReader(), SPEC, **options)


def item(clips, epoch, row):
    return clips[clips.key(epoch, row)]


def batches_of(clips, manifest, *, num_workers=0, first_step=0, num_steps=6, **options):
    stream = train_batches(
        clips, manifest.split("train"), batch_size=16, first_step=first_step, num_workers=num_workers, pin_memory=False,
        **options,
    )  # fmt: skip
    with closing(stream):
        return list(islice(stream, num_steps - first_step))


def tensors(batch):
    jitter = {} if batch.jitter is None else vars(batch.jitter)
    return {"clips": batch.clips_BTHWC, "labels": batch.labels_B, "flip": batch.flip_B, **jitter}


def same(a, b):
    a_tensors, b_tensors = tensors(a), tensors(b)
    return (
        a_tensors.keys() == b_tensors.keys()
        and all(x is b_tensors[n] or torch.equal(x, b_tensors[n]) for n, x in a_tensors.items())
        and a.rows_B == b.rows_B
        and [failure.row for failure in a.unreadable] == [failure.row for failure in b.unreadable]
    )


@pytest.mark.parametrize("num_workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_any_number_of_workers_gives_the_same_batches_with_everything_on(manifest, num_workers):
    alone = batches_of(clips_of(manifest, **ALL), manifest)
    shared = batches_of(clips_of(manifest, **ALL), manifest, num_workers=num_workers)
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert set(vars(alone[0].jitter)) == {
        "brightness_B", "contrast_B", "saturation_B", "hue_turns_B", "rotation_degrees_B",
    }  # fmt: skip
    assert all(len(values_B) == len(alone[0].rows_B) for values_B in vars(alone[0].jitter).values())


@pytest.mark.parametrize("augmentation", [{}, ALL], ids=["plain", "all"])
def test_batches_can_start_at_any_step(manifest, augmentation):
    whole = batches_of(clips_of(manifest, **augmentation), manifest)
    for first_step in range(1, 6):
        rest = batches_of(clips_of(manifest, **augmentation), manifest, first_step=first_step)
        assert all(same(a, b) for a, b in zip(whole[first_step:], rest, strict=True))


def test_the_ram_cache_gives_the_same_batches(manifest):
    cache = RamCache(FileReader())
    cache.fill([manifest.row(int(i)) for i in manifest.split("train")], threads=2)
    assert all(
        same(a, b)
        for a, b in zip(
            batches_of(clips_of(manifest), manifest), batches_of(clips_of(manifest, cache), manifest), strict=True
        )
    )


def test_epochs_and_seeds_differ(manifest):
    first, second = batches_of(clips_of(manifest), manifest)[0], batches_of(clips_of(manifest), manifest)[3]
    assert first.rows_B != second.rows_B
    row = int(manifest.split("train")[0])
    one = item(clips_of(manifest), 0, row).clip_THWC
    assert not np.array_equal(one, item(clips_of(manifest), 1, row).clip_THWC)
    assert not np.array_equal(one, item(clips_of(manifest, seed=6), 0, row).clip_THWC)


JITTER = {
    "brightness": "brightness", "contrast": "contrast", "saturation": "saturation", "hue": "hue_turns",
    "rotation_degrees": "rotation_degrees",
}  # fmt: skip
"""The field of the recipe, and its draw."""


def test_switching_an_augmentation_shifts_no_other_draw(manifest):
    """Flips drawn alike whether or not crops are random, clips alike whether or not there are flips, and so on."""
    rows = [int(row) for row in manifest.split("train")]
    every = [item(clips_of(manifest, **ALL), 0, row) for row in rows]
    centered = [item(clips_of(manifest, **{**ALL, "crop": "center"}), 0, row) for row in rows]
    assert [a.flip for a in every] == [a.flip for a in centered]
    assert [a.jitter for a in every] == [a.jitter for a in centered]
    for off in [{"flip_probability": 0.0}, *({name: 0.0} for name in JITTER)]:
        without = [item(clips_of(manifest, **{**ALL, **off}), 0, row) for row in rows]
        [name] = off
        for a, b in zip(every, without, strict=True):
            assert np.array_equal(a.clip_THWC, b.clip_THWC)
            assert {n: v for n, v in a.jitter.items() if n != JITTER.get(name)} == b.jitter
            assert name == "flip_probability" or a.flip == b.flip
    assert JITTER[name] in every[0].jitter


@pytest.mark.parametrize(
    ("field", "value", "low", "high"),
    [
        ("brightness", 0.4, 0.6, 1.4), ("contrast", 0.2, 0.8, 1.2), ("saturation", 1.5, 0.0, 2.5),
        ("hue", 0.1, -0.1, 0.1), ("rotation_degrees", 15.0, -15.0, 15.0),
    ],
)  # fmt: skip
def test_jitter_is_drawn_evenly_from_its_range_by_the_video_and_the_epoch(
    manifest, in_memory, field, value, low, high
):  # fmt: skip
    clips = clips_of(manifest, in_memory, **{field: value})
    name, rows = JITTER[field], [int(row) for row in manifest.split("train")]
    drawn = np.array([[item(clips, epoch, row).jitter[name] for row in rows] for epoch in range(8)])
    assert low <= drawn.min() < low + 0.05 * (high - low)
    assert high >= drawn.max() > high - 0.05 * (high - low)
    counts = np.histogram(drawn, bins=8, range=(low, high))[0]
    assert ((counts - drawn.size / 8) ** 2 / (drawn.size / 8)).sum() < 30  # 7 degrees of freedom
    ids = manifest.text("id", np.array(rows))
    expected = [[generator(5, name, epoch, i).uniform(low, high) for i in ids] for epoch in range(8)]
    assert np.array_equal(drawn, expected)


def test_nothing_is_drawn_that_is_off(manifest):
    [batch] = batches_of(clips_of(manifest, flip_probability=0.0), manifest, num_steps=1)
    assert batch.jitter is None
    assert batch.flip_B is None


def test_mirroring_maps_labels_or_is_off(manifest, in_memory):
    keys = [(epoch, int(row)) for epoch in range(3) for row in manifest.split("train")]
    clips, plain = clips_of(manifest, in_memory), clips_of(manifest, in_memory, flip_probability=0.0)
    flipped = [key for key in keys if item(clips, *key).flip]
    assert 0.3 < len(flipped) / len(keys) < 0.7
    for key in flipped:
        before, after = (manifest.classes[item(which, *key).label] for which in (plain, clips))
        assert after == manifest.mirror.get(before, before)
    assert {"move_left", "turn_clockwise"} <= {manifest.classes[item(plain, *key).label] for key in flipped}
    off = clips_of(replace(manifest, mirror=None))
    assert not any(item(off, *key).flip for key in keys)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(50, 16), (3, 16), (32, 16), (33, 16), (1, 1)])
def test_an_epoch_holds_every_row_once_in_even_batches(num_rows, batch_size):
    batches = pass_batches(np.arange(num_rows), batch_size=batch_size, number=1, seed=0)
    assert sorted(np.concatenate(batches)) == list(range(num_rows))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def views_of(manifest, reader=None, **changes):
    options = {"size": 24, "num_clips": 3, "num_crops": 3, "crop_fraction": 0.875} | changes
    return VideoViews(manifest, reader or FileReader(), SPEC, **options)


def same_views(a, b):
    same_pixels = torch.equal(a.pictures_PHWC, b.pictures_PHWC)
    return a.row == b.row and same_pixels and np.array_equal(a.picture_VF, b.picture_VF)


def test_views_come_in_order_and_once_each_from_the_same_processes_until_closed(manifest):
    rows, others = [7, 3, 11, 3], [2, 3]
    with ViewLoader(views_of(manifest), num_workers=0) as one:
        alone, alone_again = list(one.batches(rows)), list(one.batches(others))
    with ViewLoader(views_of(manifest), num_workers=2) as two:
        assert worker_processes() == [], "they start when there is something to do"
        shared = list(two.batches(rows))
        workers = worker_processes()
        assert len(workers) == 2
        next(two.batches([5, 6, 7]))  # a pass that is given up
        assert all(same_views(a, b) for a, b in zip(alone_again, two.batches(others), strict=True))
        assert worker_processes() == workers
    assert worker_processes() == []
    assert [views.row for views in alone] == [views.row for views in shared] == rows
    assert all(same_views(a, b) for a, b in zip(alone, shared, strict=True))
    assert alone[0].pictures_PHWC[alone[0].picture_VF].shape == (9, 4, 24, 24, 3)
    assert alone[0].crop_V.tolist() == [0, 1, 2] * 3


def test_each_distinct_frame_of_a_video_is_read_once(manifest):
    asked = []

    class Counting:
        def read(self, row, indices):
            asked.append(list(indices))
            return FileReader().read(row, indices)

    views = views_of(manifest, Counting(), num_clips=10)
    views[views.key(0)]
    assert len(asked) == 1
    assert len(set(asked[0])) == len(asked[0])


def test_what_a_worker_is_sent_does_not_grow_with_the_manifest(manifest):
    """More than a pipe holds, and each worker would start only when the one before has imported everything."""
    many = 50_000
    columns = manifest.plain_columns()
    picked = {name: values[np.arange(many) % len(manifest)] for name, values in columns.items()}
    picked["id"] = [f"{i}.mp4" for i in range(many)]
    large = from_columns(picked, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror)
    for make in (clips_of, views_of):
        sent = [len(pickle.dumps(make(each))) for each in (manifest, large)]
        assert sent[0] == sent[1] < 16_384


def with_path(manifest, row, path):
    columns = manifest.plain_columns()
    columns["path"][row] = str(path)
    return from_columns(columns, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_vanished_video_stops_with_its_path_and_leaves_no_process(manifest, num_workers):
    broken = with_path(manifest, manifest.split("train")[4], "gone.mp4")
    with pytest.raises(DecodeError, match=r"gone\.mp4: No such file") as caught:
        batches_of(clips_of(broken), manifest, num_workers=num_workers, num_steps=3)
    assert caught.value.path.endswith("gone.mp4")
    assert worker_processes() == [], "though the error is still held"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_video_that_cannot_be_read_is_left_out_of_its_batch_and_of_nothing_else(manifest, tmp_path, num_workers):
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    gone, noise = (int(row) for row in manifest.split("train")[[4, 9]])
    broken = with_path(with_path(manifest, gone, "gone.mp4"), noise, tmp_path / "noise.mp4")
    whole = batches_of(clips_of(manifest), manifest)
    left = batches_of(clips_of(broken), manifest, num_workers=num_workers, on_error="skip")
    failed = []
    for before, after in zip(whole, left, strict=True):
        kept = [i for i, row in enumerate(before.rows_B) if row not in (gone, noise)]
        assert after.rows_B == tuple(before.rows_B[i] for i in kept)
        assert torch.equal(after.clips_BTHWC, before.clips_BTHWC[kept])
        assert torch.equal(after.labels_B, before.labels_B[kept])
        assert {failure.row for failure in after.unreadable} == set(before.rows_B) & {gone, noise}
        failed += after.unreadable
    assert sorted(failure.row for failure in failed) == sorted([gone, noise] * 2), "in each of two epochs"
    for failure in failed:
        expected = "gone.mp4: No such file" if failure.row == gone else "noise.mp4: Invalid data"
        assert expected in str(failure.error)


def test_a_batch_of_which_nothing_can_be_read_is_an_error(manifest):
    broken = replace(manifest, root=manifest.root / "elsewhere")
    with pytest.raises(
        UserError, match=r"videos: none of the 14 of a step could be read\. Check the first: .*elsewhere"
    ):
        batches_of(clips_of(broken), manifest, on_error="skip")


class Faulty:
    """A reader with a fault of its own at every video, or with frames that no resize takes."""

    def __init__(self, error):
        self.error = error

    def read(self, row, indices):
        if self.error is None:
            return np.zeros((4, 30, 30, 3), np.complex64)
        raise self.error


@pytest.mark.parametrize(
    ("num_workers", "error", "cause"),
    [
        (0, ValueError("odd header"), "ValueError: odd header"),
        pytest.param(2, ValueError("odd header"), "ValueError: odd header", marks=pytest.mark.slow),
        (0, OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_whatever_goes_wrong_in_reading_arrives_with_path_and_cause(manifest, num_workers, error, cause):
    with pytest.raises(DecodeError, match=rf"\.mp4: frames .* cannot be read: .*{cause}") as caught:
        batches_of(clips_of(manifest, Faulty(error)), manifest, num_workers=num_workers, num_steps=1)
    assert caught.value.path.startswith(str(manifest.root))


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_memory_that_ran_out_stops_and_is_no_video_to_skip(manifest, on_error):
    with pytest.raises(DecodeError, match=r"\.mp4: .*MemoryError"):
        batches_of(clips_of(manifest, Faulty(MemoryError())), manifest, on_error=on_error, num_steps=1)
    views = ViewLoader(views_of(manifest, Faulty(MemoryError())), num_workers=0)
    [failure] = views.batches([3])
    assert isinstance(failure, Unreadable)
    assert not failure.skippable


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_of_the_program_is_not_skipped_and_names_the_video(manifest, num_workers):
    clips = clips_of(manifest, Faulty(None))
    with pytest.raises(Exception, match=r"(?i)complex") as caught:
        batches_of(clips, manifest, num_workers=num_workers, on_error="skip", num_steps=1)
    assert not isinstance(caught.value, UserError)
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert f"This happened with {manifest.root}" in told
    assert worker_processes() == []


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGSEGV, signal.SIGBUS))],
)
def test_a_worker_that_is_ended_is_told(manifest, number):
    """And training does not wait for it for ever."""
    stream = train_batches(
        clips_of(manifest), manifest.split("train"), batch_size=16, first_step=0, num_workers=1, pin_memory=False
    )  # fmt: skip

    def read():
        for _ in islice(stream, 200):
            for process in worker_processes():
                process.send_signal(number)

    with closing(stream), pytest.raises(WorkerLost, match=r"ended from outside .*num_workers=1"):
        read()
    assert worker_processes() == []


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, BrokenPipeError])
def test_a_pipe_that_breaks_means_that_a_worker_was_ended(error):
    """It may end while it sends, or while the server that starts it does."""
    with pytest.raises(WorkerLost, match=rf"ended from outside \({error.__name__}.*num_workers=1"), loader._watched():
        raise error


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_end_of_file_in_the_program_is_no_lost_worker(manifest, num_workers):
    clips = clips_of(manifest)
    clips.crop = UnknownCrop()
    with pytest.raises(EOFError, match="of the program"):
        batches_of(clips, manifest, num_workers=num_workers, num_steps=1)
    assert worker_processes() == []


class UnknownCrop:
    def __eq__(self, other):
        raise EOFError("of the program")

    __hash__ = None


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux alone")
def test_workers_import_what_this_process_does(tmp_path):
    """Also where a script has changed the import path: a server of workers would take another copy."""
    package = Path(loader.__file__).parents[2]
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, sys\nos.environ.pop('PYTHONPATH', None)\nsys.path.insert(0, {str(tmp_path)!r})\n"
        f"sys.path.insert(0, {str(package)!r})\n"
        "import torch\nfrom muybridge.data import loader\n"
        "class Where(torch.utils.data.Dataset):\n"
        "    def __getitem__(self, key):\n        import beside, muybridge\n        return beside.__file__, muybridge.__file__\n"
        "if __name__ == '__main__':\n"
        "    made = loader._loader(Where(), [[0]], list, 1, False, prefetch=1)\n"
        "    print(next(loader._started(made))[0], os.environ.get('PYTHONPATH'), os.environ.get('PYTHONSAFEPATH'))\n"
    )
    (tmp_path / "beside.py").write_text("")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == f"{(str(tmp_path / 'beside.py'), str(package / 'muybridge' / '__init__.py'))} None None"
    )


def test_workers_need_no_shared_memory(manifest, monkeypatch):
    """Containers have 64 MB of it: a worker would be killed at the first large batch, or wait for ever."""
    monkeypatch.setattr(loader, "_shared_memory_is_small", lambda: True)
    monkeypatch.setattr(
        torch.Tensor, "share_memory_", lambda tensor: pytest.fail("shared memory was used"), raising=True
    )
    alone = batches_of(clips_of(manifest, **ALL), manifest)
    piped = batches_of(clips_of(manifest, **ALL), manifest, num_workers=1)
    assert all(same(a, b) for a, b in zip(alone, piped, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may make a small /dev/shm")
def test_training_goes_on_in_a_container_with_little_shared_memory(recipe, tmp_path):
    """64 MB, and batches of 200: they lie in pipes, and the run is the same."""
    large = {
        "clip.size": 128,
        "clip.num_frames": 16,
        "optim.batch_size": 16,
        "optim.epochs": 1,
        "optim.warmup_epochs": 0,
    }
    (tmp_path / "recipe.json").write_text(to_json(changed(recipe, large)))
    words = [
        sys.executable,
        "-m",
        "muybridge",
        "train",
        str(tmp_path / "recipe.json"),
        "--set",
        "runtime.num_workers=2",
    ]
    words += ["--set", "runtime.cache_gib=0", "--out"]
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    for name, before in (("small", small), ("large", [])):
        done = subprocess.run(
            [*before, *words, str(tmp_path / name)], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert ("/dev/shm has only 64 MiB free" in done.stderr) == (name == "small")
    first, second = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("small", "large"))
    assert first == second


def test_stopping_early_ends_the_workers(manifest):
    stream = train_batches(
        clips_of(manifest), manifest.split("train"), batch_size=4, first_step=0, num_workers=1, pin_memory=False
    )  # fmt: skip
    next(stream)
    assert len(worker_processes()) == 1
    stream.close()
    assert worker_processes() == []


def test_without_cuda_batches_pass_through_as_they_are():
    parts = iter([1, 2])
    assert ahead_on_device(parts, torch.device("cpu")) is parts


def test_the_next_batch_is_copied_while_the_present_one_computes(manifest, monkeypatch):
    """The order of what is asked of CUDA, on a machine that has none."""
    said = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def record_event(self):
            said.append("copied")
            return len(said)

        def wait_event(self, event):
            said.append(f"{self.name} waits for {event}")

    @contextmanager
    def current(stream):
        yield

    present = Stream("main")
    fake = SimpleNamespace(
        Stream=lambda device: Stream(), stream=current, current_stream=lambda device: present, Event=object
    )
    monkeypatch.setattr(loader.torch, "cuda", fake)
    monkeypatch.setattr(loader, "moved", lambda part, device, non_blocking: part)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: said.append(f"kept by {stream.name}"))
    parts = [replace(b, labels_B=None, flip_B=None) for b in batches_of(clips_of(manifest), manifest, num_steps=3)]
    came = []
    for part in ahead_on_device(iter(parts), torch.device("cuda")):
        came.append(part.rows_B)
        said.append("computed")
    assert came == [part.rows_B for part in parts]
    assert said == [
        "copied", "copied", "main waits for 1", "kept by main", "computed",
        "copied", "main waits for 2", "kept by main", "computed",
        "main waits for 6", "kept by main", "computed",
    ]  # fmt: skip
