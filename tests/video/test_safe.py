"""Files that nobody knows, in processes that they may take down: what a file does to its process is that file's fault, and
what the machine does is not."""

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import psutil
import pytest
from making import codes_of, write_clip
from making_images import write_images
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.cli.options import LIMITS
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.video import DecodeError, probe
from muybridge.video import safe as safe_module
from muybridge.video.limits import Limits
from muybridge.video.readers import ForwardReader, Row
from muybridge.video.safe import MachineFault, Missing, SafeReader


def write_gif(path, width, height, num_frames):
    """A few bytes a frame, whatever its size: each changes one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\x04\x04\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + frame * num_frames + b"\x3b")
    return path


def write_png(path, width, height):
    """A black picture of one bit a pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def safe():
    """One for all tests that end no more than a process of it: it starts another."""
    with SafeReader() as reader:
        yield reader


@pytest.fixture
def fresh():
    """One without a process so far."""
    with SafeReader() as reader:
        yield reader


LOOKS = 10_000
"""Looks are counted, and not seconds: a machine that stands still for a while has looked no more often."""


def worker_of(safe, path=None):
    """Its process; once it has `path` open, if it is given."""
    seen = []
    for _ in range(LOOKS):
        seen = []
        for one in safe._all:
            if one._process is not None and one._process.poll() is None:
                try:
                    process = psutil.Process(one._process.pid)
                    files = [file.path for file in process.open_files()]
                    seen.append((process, process.cpu_times().user, files))
                    if path is None or str(path) in files:
                        return process
                except psutil.Error as error:  # it ends meanwhile
                    seen.append((one._process.pid, error))
        time.sleep(0.01)
    raise AssertionError(f"no process decodes {path}: {seen}")


def reason(call, *arguments, error=DecodeError, **named):
    with pytest.raises(error) as caught:
        call(*arguments, **named)
    return str(caught.value)


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory):
    """A file whose decoding takes minutes."""
    return write_gif(tmp_path_factory.mktemp("slow") / "slow.gif", 3000, 3000, 30_000)


@pytest.fixture
def decoding(safe, slow_file):
    """A look at a file that goes on in another thread, and its process once it decodes."""
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(safe.look, slow_file)
        yield look, worker_of(safe, slow_file)


def test_it_looks_as_probe_does_and_reads_as_the_forward_reader(safe, tmp_path):
    video, folder = write_clip(tmp_path / "a.avi", 3, 12), tmp_path / "images"
    write_images(folder, 5, 4)
    for path in (video, folder):
        looked, there = safe.look(path), probe(path)
        assert {**asdict(looked.video), "times_seconds": looked.video.times_seconds.tolist()} == {
            **asdict(there), "times_seconds": there.times_seconds.tolist(),
        }  # fmt: skip
        row = Row("a", str(path), 1, there.num_frames - 1, there.fps)
        for short_side in (None, 24):
            indices = np.array([0, 2, 1])
            frames_THW3 = safe.reader(short_side).read(row, indices)
            assert np.array_equal(frames_THW3, ForwardReader(short_side=short_side).read(row, indices))
            frames_THW3[0] = 7  # it is the caller's
    assert len(safe.look(video).sha256) == 64
    assert list(safe.look(folder).numbers) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(pixels=3000 * 3000 - 1), "3000 × 3000 pixels; at most 8999999 are decoded (--max-pixels)"),
        (Limits(frames=50), "more than 50 frames (--max-frames)"),
        (Limits(seconds=0.5), "more than 0.5 seconds (--max-seconds)"),
    ],
)
def test_a_file_over_a_limit_is_told_and_the_next_is_read(slow_file, tmp_path, limits, said):
    with SafeReader(limits) as safe:
        started = time.monotonic()
        assert said in reason(safe.look, slow_file)
        assert time.monotonic() - started < 20
        assert safe.look(write_clip(tmp_path / "a.avi")).video.num_frames == 6


@pytest.mark.parametrize("write", [write_gif, write_png])
def test_a_file_that_takes_too_much_memory_is_told(tmp_path, write):
    side = 8000  # 64 million pixels, within the limit, of four bytes
    path = (
        write(tmp_path / "a.gif", side, side, 5) if write is write_gif else write(tmp_path / "a" / "1.png", side, side)
    )
    with SafeReader(Limits(memory_gib=0.25)) as safe:
        assert "asks for more memory than it may have (0.25 GiB: --max-memory-gib)" in reason(
            safe.look, path if write is write_gif else path.parent
        )
        assert safe.look(write_clip(tmp_path / "a.avi")).video.num_frames == 6
    assert Limits().memory_bytes == 4 * 2**30


def test_the_size_that_a_stream_changes_to_is_limited_as_well(safe, tmp_path):
    """Images of one folder: the second is the large one."""
    write_images(tmp_path / "a", 0, 1, name="{:05d}.png")
    write_png(tmp_path / "a" / "00002.png", 20_000, 20_000)
    assert "20000 × 20000 pixels" in reason(safe.look, tmp_path / "a")


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGSEGV,
        signal.SIGABRT,
        *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGBUS, signal.SIGILL, signal.SIGFPE)),
    ],
)
def test_a_crash_of_the_decoder_is_the_files_fault(safe, decoding, tmp_path, number):
    look, process = decoding
    process.send_signal(number)
    assert f"the decoder crashed on it (by {number.name})" in reason(look.result, 60)
    assert safe.look(write_clip(tmp_path / "a.avi")).video.num_frames == 6


def test_a_decoder_that_hangs_is_ended(safe, decoding, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_module, "STALL_SECONDS", 2.0)
    look, process = decoding
    process.suspend()
    assert "the decoder hangs: it gave no frame for 2 seconds" in reason(look.result, 60)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert safe.look(write_clip(tmp_path / "a.avi")).video.num_frames == 6


def test_a_process_that_somebody_ends_is_no_fault_of_the_file(fresh, tmp_path):
    """The system, say, where memory is short: the file is tried once more, and only then called the cause."""
    path = write_clip(tmp_path / "a.avi")
    assert fresh.look(path).video.num_frames == 6
    process = worker_of(fresh)
    process.suspend()  # it cannot answer before it is ended
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(fresh.look, path)
        time.sleep(0.5)
        process.kill()
        assert look.result(180).video.num_frames == 6
    assert worker_of(fresh).pid != process.pid


def test_a_file_at_which_the_process_is_ended_twice_is_the_cause(safe, decoding, slow_file):
    look, process = decoding
    process.kill()
    while (
        second := worker_of(safe, slow_file)
    ).pid == process.pid:  # (to wait for it here would take its exit status away)
        time.sleep(0.01)
    second.kill()
    assert "was ended twice, by SIGKILL" in reason(look.result, 60)


def test_a_process_that_is_ended_before_it_begins_is_started_again(fresh, tmp_path):
    path = write_clip(tmp_path / "a.avi")
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(fresh.look, path)
        worker_of(fresh).kill()
        assert look.result(60).video.num_frames == 6


def test_many_threads_share_it(fresh, tmp_path):
    paths = [write_clip(tmp_path / f"{number}.avi", number * 7, 7) for number in range(12)]
    rows = [Row(str(path), str(path), 0, 7, 25.0) for path in paths]

    def first_codes(row):
        return codes_of(fresh.reader(None).read(row, np.arange(7)))

    with ThreadPoolExecutor(4) as pool:
        for number, codes in enumerate(pool.map(first_codes, rows)):
            assert codes == list(range(number * 7, number * 7 + 7))
    assert len(fresh._all) <= 4


def test_its_processes_end_with_it(tmp_path):
    with SafeReader() as safe:
        safe.look(write_clip(tmp_path / "a.avi"))
        process = worker_of(safe)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_its_processes_end_with_the_program_that_is_killed(tmp_path):
    path = write_clip(tmp_path / "a.avi")
    program = f"from muybridge.video.safe import SafeReader as S; s = S(); s.look({str(path)!r}); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        children, until = [], time.monotonic() + 60
        while not children and time.monotonic() < until:
            children = psutil.Process(parent.pid).children()
            time.sleep(0.05)
        parent.kill()
    assert children
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert gone
    assert not alive


@pytest.mark.parametrize("what", ["empty", "folder", "fifo", "missing", "text"])
def test_what_is_no_video_is_told(safe, tmp_path, what):
    path = tmp_path / "a.avi"
    if what == "empty":
        path.touch()
    elif what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "text":
        path.write_text("no video")
    said = {
        "empty": "is empty (0 bytes)", "folder": "", "fifo": "not a regular file", "missing": "No such file",
        "text": "Invalid data",
    }[what]  # fmt: skip
    assert said in reason(safe.look, path, error=Missing if what == "missing" else DecodeError)


# The machine's faults


def test_a_process_without_descriptors_is_the_machines_fault(safe, tmp_path):
    path = write_clip(tmp_path / "a.avi")
    safe.look(path)
    number = worker_of(safe).pid
    open_now = psutil.Process(number).num_fds()
    _, most = resource.prlimit(number, resource.RLIMIT_NOFILE)
    resource.prlimit(number, resource.RLIMIT_NOFILE, (open_now, most))
    assert "Too many open files" in reason(safe.look, path, error=MachineFault)
    resource.prlimit(number, resource.RLIMIT_NOFILE, (most, most))
    assert safe.look(path).video.num_frames == 6


def test_prepare_stops_where_descriptors_run_out(tmp_path):
    """However many are left: all is read, or nothing is written and the cause is told."""
    root = tmp_path / "videos"
    for label in ("run", "walk"):
        for number in range(3):
            write_clip(root / label / f"{number}.avi", number * 7 + 100 * (label == "run"))
    program = """
import resource, sys
from muybridge.cli.app import main
root, (_, hard) = sys.argv[1], resource.getrlimit(resource.RLIMIT_NOFILE)
for most in (12, 48):
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    sys.argv[1:] = ["prepare", root, "--out", f"{most}.csv", "--all", "test"]
    try:
        status = main()
    except SystemExit as end:
        status = end.code
    print("status", status or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        check=True,
    )
    few, more = done.stdout.split("status ")[1:]
    assert "Traceback" not in done.stderr
    assert few.startswith("2")
    assert done.stderr.count("Too many open files") == 1
    assert not (tmp_path / "12.csv").exists()
    assert more.startswith("0")
    assert "0 rejected" in done.stdout + done.stderr
    assert (tmp_path / "48.csv").exists()


@pytest.mark.parametrize("what", ["share", "folder", "file"])
def test_prepare_stops_where_files_go_away(tmp_path, monkeypatch, what):
    """A share that is gone leaves an empty folder, and no good file is called broken."""
    root = tmp_path / "videos"
    for label in ("run", "walk"):
        for number in range(6):
            write_clip(root / label / f"{number}.avi", number * 7 + 100 * (label == "run"))
    look, gone = SafeReader.look, threading.Event()

    def looked(self, path, **named):
        if path.name == "3.avi" and not gone.is_set():
            gone.set()
            whole = root if what == "share" else path.parent if what == "folder" else path
            whole.rename(tmp_path / "away")
            if what == "share":
                root.mkdir()
        return look(self, path, **named)

    monkeypatch.setattr(SafeReader, "look", looked)
    with pytest.raises(UserError, match="was there and has gone away") as caught:
        prepare(root, out=tmp_path / "set.csv", all_as="test", jobs=1)
    assert "Nothing was written" in str(caught.value)
    assert not list(tmp_path.glob("set.csv*"))


def test_a_file_that_a_list_names_and_was_never_there_is_rejected(tmp_path):
    for number in range(4):
        write_clip(tmp_path / f"{number}.avi", number * 7)
    lines = [f"{number}.avi,{'run' if number % 2 else 'walk'}" for number in range(5)]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines))
    made = prepare(csv=tmp_path / "list.csv", out=tmp_path / "set.csv", all_as="test", jobs=1)
    assert [row["path"] for row in made.rejected] == ["4.avi"]


# The command line


def test_options_are_the_limits():
    assert asdict(Limits()) == LIMITS


@pytest.mark.parametrize(
    "limit", ["--max-pixels=0", "--max-frames=0", "--max-seconds=0", "--max-seconds=nan", "--max-memory-gib=0.1"]
)
def test_limits_that_are_none_are_told(tmp_path, limit):
    write_clip(tmp_path / "run" / "a.avi")
    found = CliRunner().invoke(app, ["prepare", str(tmp_path), "--out", str(tmp_path / "set.csv"), limit])
    assert found.exit_code == 2
    assert limit.partition("=")[0] in found.output


def test_bombs_are_rejected_and_the_rest_is_prepared(tmp_path):
    root = tmp_path / "videos"
    for label in ("run", "walk"):
        for number in range(3):
            write_clip(root / label / f"{number}.avi", number * 7 + 100 * (label == "run"))
    write_gif(root / "run" / "bomb.gif", 16_000, 16_000, 300)
    write_png(root / "walk" / "bomb" / "frame_0001.png", 30_000, 30_000)
    write_gif(root / "walk" / "endless.gif", 2, 2, 5000)
    (root / "run" / "empty.avi").touch()
    words = [
        "prepare",
        str(root),
        "--out",
        str(tmp_path / "set.csv"),
        "--all",
        "test",
        "--max-frames",
        "1000",
        "--jobs",
        "1",
    ]
    made = CliRunner().invoke(app, words)
    assert made.exit_code == 0, made.output
    assert "6 videos, 2 classes, 4 rejected" in made.output
    told = (tmp_path / "set.rejected.csv").read_text()
    for part in ("16000 × 16000 pixels", "30000 × 30000 pixels", "more than 1000 frames", "is empty (0 bytes)"):
        assert part in told


def test_closing_ends_what_somebody_waits_for(safe, decoding, tmp_path):
    look, process = decoding
    safe.close()
    with pytest.raises(MachineFault, match="were ended"):
        look.result(20)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert safe.look(write_clip(tmp_path / "a.avi")).video.num_frames == 6, "the next call starts a new one"


def test_ctrl_c_waits_for_no_decoder(slow_file, tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        os.link(slow_file, tmp_path / label / f"{label}.gif")
    words = [
        sys.executable,
        "-m",
        "muybridge",
        "prepare",
        str(tmp_path),
        "--out",
        str(tmp_path / "set.csv"),
        "--jobs",
        "1",
    ]
    command = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    workers = []
    try:
        for _ in range(LOOKS):
            workers = [one for one in psutil.Process(command.pid).children() if opens(one, slow_file.suffix)]
            if workers:
                break
            time.sleep(0.01)
        assert workers
        command.send_signal(signal.SIGINT)
        assert "stopped" in command.communicate(timeout=60)[1]
        assert command.returncode == 130
        assert not psutil.wait_procs(workers, timeout=20)[1]
        assert not (tmp_path / "set.csv").exists()
    finally:
        command.kill()


def opens(process, suffix):
    with suppress(psutil.Error):
        return any(file.path.endswith(suffix) for file in process.open_files())
    return False


@pytest.mark.parametrize(("width", "height"), [(2048, 2), (2, 2048)])
def test_frames_too_narrow_for_a_video_are_told(safe, tmp_path, width, height):
    """Scaled to a short side of 256 pixels one would take hundreds of megabytes."""
    path = write_gif(tmp_path / "a.gif", width, height, 5)
    assert f"{width} × {height} pixels are too narrow" in reason(safe.look, path)


def test_a_list_of_other_files_is_no_video(safe, tmp_path):
    write_clip(tmp_path / "1.avi")
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile 1.avi\nfile 1.avi\n")
    assert "is a list of other files (concat)" in reason(safe.look, tmp_path / "a.mp4")


def test_a_name_that_no_file_can_have_is_told(safe):
    assert "null byte" in reason(safe.look, "a\0b.avi")


def test_memory_may_be_without_measure(tmp_path):
    assert Limits(memory_gib=1e30).memory_bytes == Limits(memory_gib=float("inf")).memory_bytes
    with SafeReader(Limits(memory_gib=float("inf"), pixels=10**20)) as safe:
        assert safe.look(write_clip(tmp_path / "a.avi")).video.num_frames == 6
