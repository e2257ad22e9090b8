"""Reading clips at random: muybridge against the usual ways, from video files, from folders of JPEGs and from packs.

    python benchmarks/loader.py [--workdir DIR] [--videos N] [--rounds N] [--only KIND] [--quick] [--json]

Makes its own videos and keeps them in the working folder. Every way is a function from a video, frame indices and a short
side to RGB frames, uses one thread, and reads the same indices; in every round each has its turn, in an order that rotates.
Then the same sources through the loader with two workers, whose processes are stopped while another source is timed.
Figures are medians over the rounds. What the lines mean: docs/benchmarks.md. `pip install -e '.[bench]'` brings the others.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything is imported that would start threads of its own
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import argparse
import csv
import dataclasses
import importlib.metadata
import json
import math
import multiprocessing
import platform
import resource
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from muybridge.data.loader import train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.data.random import generator
from muybridge.data.sampling import ClipSpec, train_indices
from muybridge.data.stores.pack import pack
from muybridge.data.views import TrainClips
from muybridge.video import FileReader, Row, frames
from muybridge.video.packs import Codec
from muybridge.video.scaling import scaled_size

Read = Callable[[Row, np.ndarray, int], np.ndarray]
"""(row, sorted frame indices, short side) -> (T,H,W,3) uint8 RGB."""

SHORT_SIDES = (128, 256)
CROP_OF_SIDE = {128: 112, 256: 224}
PATTERNS = {
    "8 uniform": ClipSpec(num_frames=8, sampling="uniform"),
    "32 x 2": ClipSpec(num_frames=32, sampling="dense", stride_frames=2),
}
QUALITY = 90
BATCH = 16
WORKERS = 2
OURS, FIRST = "muybridge", "muybridge, first time"
FOLDER_READERS = ("JPEG folder, simplejpeg", "JPEG folder, PIL", "JPEG folder, muybridge")
JPEG_PACK, H264_PACK = "JPEG pack", "H.264 pack"
CODEC_OF_PACK: dict[str, Codec] = {JPEG_PACK: "jpeg", H264_PACK: "h264"}
ORIGINALS, FOLDER = "originals", "JPEG folder"
Cell = tuple[str, int]
"""A pattern and a short side."""
CELLS: tuple[Cell, ...] = tuple((pattern, side) for side in SHORT_SIDES for pattern in PATTERNS)


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    turn_seconds: float
    """`read` alone: a turn is a pass over all videos, and more passes until it has lasted this long."""
    loader_rounds: int
    loader_turn_seconds: float


# ---------------------------------------------------------------------------------------------------------- the videos


@dataclass(frozen=True)
class Kind:
    """A kind of video file."""

    title: str
    scenes: str
    """Kinds with the same scenes show the same pictures."""
    suffix: str
    width: int
    height: int
    num_frames: int
    fps: int
    codec: str
    options: Mapping[str, str]
    bit_rate: int | None = None


KINDS = {
    "ucf": Kind("UCF-like: 320x240, MPEG-4, 186 frames", "ucf", ".avi", 320, 240, 186, 25, "mpeg4", {}, 600_000),
    "kinetics-gop250": Kind(
        "Kinetics-like: 340x256, H.264, 10 s, GOP 250", "kinetics", ".mp4", 340, 256, 300, 30, "libx264",
        {"g": "250", "crf": "18", "threads": "1"},
    ),
    "kinetics-gop12": Kind(
        "Kinetics-like: 340x256, H.264, 10 s, GOP 12", "kinetics", ".mp4", 340, 256, 300, 30, "libx264",
        {"g": "12", "crf": "18", "threads": "1"},
    ),
}  # fmt: skip


def scene(seed: int, width: int, height: int, num_frames: int) -> Iterator[np.ndarray]:
    """Frames that codecs take for natural video: a textured ground with the spectrum of photographs, seen by a camera that
    pans, tilts and zooms, waving like water or leaves; five textured things that cross it; the noise of a sensor."""
    from scipy.ndimage import map_coordinates  # not above: the loader's workers import this module, too

    draw = np.random.default_rng(seed)
    ground_height, ground_width = height + 160, width + 240
    frequency_HW = np.hypot(np.fft.fftfreq(ground_height)[:, None], np.fft.rfftfreq(ground_width)[None])
    frequency_HW[0, 0] = 1

    def texture(falloff: float) -> np.ndarray:
        spectrum = draw.standard_normal(frequency_HW.shape) + 1j * draw.standard_normal(frequency_HW.shape)
        made = np.fft.irfft2(spectrum / frequency_HW**falloff, (ground_height, ground_width))
        return (made - made.mean()) / made.std()

    luminance = texture(1.72)
    ground = [np.clip(128 + 52 * luminance + 24 * texture(2), 0, 255) for _ in range(3)]  # colours differ smoothly
    waves = [
        (draw.uniform(0.01, 0.05, 2) * draw.choice([-1, 1], 2), draw.uniform(0.05, 0.25), draw.uniform(0, 6, 2))
        for _ in range(3)
    ]
    things = [
        (draw.uniform(0, height), draw.uniform(0, width), draw.uniform(-3, 3), draw.uniform(-4, 4),
         draw.uniform(10, 35), texture(1.72) * 52 + draw.uniform(60, 200))
        for _ in range(5)
    ]  # fmt: skip
    zoom_phase, tilt_phase, pan_phase = draw.uniform(0, 2 * np.pi, 3)
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float64)
    for t in range(num_frames):
        zoom = 1 - 0.15 * np.sin(t / 60 + zoom_phase)
        y = 80 + 70 * np.sin(t / 45 + tilt_phase) + y_HW * zoom
        x = 120 + 110 * np.sin(t / 70 + pan_phase) + x_HW * zoom
        for wave, speed, phases in waves:
            angle = wave[0] * y_HW + wave[1] * x_HW + speed * t
            y = y + 7 * np.sin(angle + phases[0])
            x = x + 7 * np.sin(angle + phases[1])
        pixels = np.stack([map_coordinates(channel, [y, x], order=1, mode="reflect") for channel in ground], -1)
        for top, left, down, right, radius, skin in things:
            distance = (y_HW - (top + down * t) % height) ** 2 + (x_HW - (left + right * t) % width) ** 2
            inside = distance < (radius * (1 + 0.3 * np.sin(t / 11))) ** 2
            rows = ((y_HW[inside] - down * t) % skin.shape[0]).astype(int)
            columns = ((x_HW[inside] - right * t) % skin.shape[1]).astype(int)
            pixels[inside] = skin[rows, columns][:, None]
        pixels += draw.standard_normal((height, width, 1))
        yield np.clip(pixels, 0, 255).astype(np.uint8)


def write_videos(seed: int, targets: Sequence[tuple[Kind, Path]]) -> None:
    """One scene, in every kind of file that shows it. The same arguments give the same bytes."""
    unfinished = [path.with_name(f"partial-{path.name}") for _, path in targets]
    with ExitStack() as stack:
        open_files = []
        for (kind, _), path in zip(targets, unfinished, strict=True):
            container = stack.enter_context(av.open(str(path), "w", options={"fflags": "+bitexact"}))
            stream: Any = container.add_stream(kind.codec, rate=kind.fps, options=dict(kind.options))
            stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
            stream.thread_type = "NONE"
            if kind.bit_rate:
                stream.bit_rate = kind.bit_rate
            open_files.append((container, stream))
        first = targets[0][0]
        for pixels in scene(seed, first.width, first.height, first.num_frames):
            for container, stream in open_files:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for container, stream in open_files:
            container.mux(stream.encode())
    for path, (_, final) in zip(unfinished, targets, strict=True):
        path.rename(final)


def make_videos(folder: Path, kinds: Mapping[str, Kind], num_videos: int) -> None:
    """Files that are not there yet."""
    jobs: list[tuple[int, list[tuple[Kind, Path]]]] = []
    for number, scenes in enumerate(dict.fromkeys(kind.scenes for kind in KINDS.values())):
        for video in range(num_videos):
            targets = [
                (kind, path)
                for name, kind in kinds.items()
                if kind.scenes == scenes and not (path := video_file(folder, name, video)).exists()
            ]
            if targets:
                jobs.append((1000 * number + video, targets))
    if not jobs:
        return
    for name in kinds:
        (folder / name).mkdir(parents=True, exist_ok=True)
    say(f"making {sum(len(targets) for _, targets in jobs)} video files")
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(write_videos, *zip(*jobs, strict=True)):
            pass


def video_file(folder: Path, kind: str, video: int) -> Path:
    return folder / kind / f"{video:03d}{KINDS[kind].suffix}"


def prepared(folder: Path, kind: str, num_videos: int) -> Path:
    """A manifest of the first `num_videos` files of a kind, by `muybridge.prepare`."""
    listed = folder / kind / "list.csv"
    with listed.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for video in range(num_videos):
            split = "test" if video == num_videos - 1 else "train"
            writer.writerow([video_file(folder, kind, video).name, "ab"[video % 2], split])
    return prepare(csv=listed, out=folder / kind / "set.csv", val=0.0).manifest


# ------------------------------------------------------------------------------------------------- the ways of reading


def muybridge_read(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
    return FileReader(short_side).read(row, indices)


class FirstTime:
    """What a file costs that was never read before, as in the first epoch: every read names it by another path, so that
    nothing that was remembered of it is found."""

    def __init__(self) -> None:
        self._times_read: dict[str, int] = {}

    def __call__(self, row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
        times = self._times_read[row.path] = self._times_read.get(row.path, 0) + 1
        folder, name = os.path.split(row.path)
        return muybridge_read(row._replace(path=f"{folder}{'/.' * times}/{name}"), indices, short_side)


def pyav_naive(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
    """Decode from the start, convert what is wanted, stop after the last."""
    wanted, last = set(indices.tolist()), int(indices[-1])
    found = []
    with av.open(row.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        width, height = scaled_size(stream.width, stream.height, short_side)
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                found.append(frame.to_ndarray(format="rgb24", width=width, height=height, threads=1))
            if position == last:
                break
    return np.stack(found)


def torchcodec_read(seek_mode: Literal["exact", "approximate"]) -> Read:
    from torchcodec.decoders import VideoDecoder

    def read(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
        decoder = VideoDecoder(row.path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=seek_mode)
        x_THWC = decoder.get_frames_at(indices.tolist()).data
        width, height = scaled_size(x_THWC.shape[2], x_THWC.shape[1], short_side)
        if x_THWC.shape[1:3] != (height, width):
            x_TCHW = x_THWC.permute(0, 3, 1, 2)  # channels-last in memory: the fast path for uint8
            resized = F.interpolate(x_TCHW, size=(height, width), mode="bilinear", antialias=True)
            x_THWC = resized.permute(0, 2, 3, 1).contiguous()
        return x_THWC.numpy()

    return read


SEEK_FRAMES = 16
"""OpenCV: a nearer frame is run up to. Seeking for every frame is several times slower."""


def opencv_read(*, seek: bool) -> Read:
    import cv2

    cv2.setNumThreads(1)

    def read(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
        capture = cv2.VideoCapture(row.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        found, position = [], 0
        for index in indices.tolist():
            if seek and index > position + SEEK_FRAMES:
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                position = index
            while position < index:
                capture.grab()
                position += 1
            good, pixels = capture.read()
            if not good:
                raise RuntimeError(f"OpenCV gives no frame {index} of {row.path}")
            position += 1
            size = scaled_size(pixels.shape[1], pixels.shape[0], short_side)
            if (pixels.shape[1], pixels.shape[0]) != size:
                pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
            found.append(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        capture.release()
        return np.stack(found)

    return read


def decord_read(sizes: Mapping[str, tuple[int, int]]) -> Read:
    """It takes the size to scale to before it has seen the file; it is told, so that it need not open it twice."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)

    def read(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
        width, height = scaled_size(*sizes[row.path], short_side)
        reader = decord.VideoReader(row.path, num_threads=1, width=width, height=height)
        return reader.get_batch(indices.tolist()).asnumpy()

    return read


def folder_simplejpeg(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
    found = []
    for index in indices.tolist():
        with open(f"{row.path}/{index + 1:05d}.jpg", "rb") as file:
            found.append(simplejpeg.decode_jpeg(file.read()))
    return np.stack(found)


def folder_pil() -> Read:
    from PIL import Image

    def read(row: Row, indices: np.ndarray, short_side: int) -> np.ndarray:
        found = []
        for index in indices.tolist():
            with Image.open(f"{row.path}/{index + 1:05d}.jpg") as image:
                found.append(np.asarray(image.convert("RGB")))
        return np.stack(found)

    return read


def ways_to_read(manifest: Manifest) -> tuple[dict[str, Read], dict[str, Read], dict[str, str]]:
    """Of the originals, of folders of JPEGs, and those that are absent with the reason."""
    rows = [manifest.row(index) for index in range(len(manifest))]
    widths, heights = manifest.columns["width"].tolist(), manifest.columns["height"].tolist()
    sizes = {row.path: (width, height) for row, width, height in zip(rows, widths, heights, strict=True)}
    originals: dict[str, Callable[[], Read]] = {
        OURS: lambda: muybridge_read,
        FIRST: FirstTime,
        "PyAV naive": lambda: pyav_naive,
        "torchcodec exact": lambda: torchcodec_read("exact"),
        "torchcodec approximate": lambda: torchcodec_read("approximate"),
        "OpenCV, run on": lambda: opencv_read(seek=False),
        "OpenCV, seek": lambda: opencv_read(seek=True),
        "decord": lambda: decord_read(sizes),
    }
    folders: dict[str, Callable[[], Read]] = dict(
        zip(FOLDER_READERS, (lambda: folder_simplejpeg, folder_pil, lambda: muybridge_read), strict=True)
    )
    absent: dict[str, str] = {}

    def present(makers: Mapping[str, Callable[[], Read]], trial: Row | None) -> dict[str, Read]:
        found = {}
        for name, maker in makers.items():
            try:
                read = maker()
                if trial is not None:
                    read(trial, np.array([0, trial.num_frames - 1]), SHORT_SIDES[0])
                found[name] = read
            except Exception as error:  # a wheel that does not fit this machine can fail in any way
                absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return found

    return present(originals, rows[0]), present(folders, None), absent


# ------------------------------------------------------------------------------------------------------------ the stores


@dataclass(frozen=True)
class Store:
    """Where frames of one short side lie."""

    manifest: Manifest
    """Its rows are those of the originals, in their order."""
    num_bytes: int
    num_files: int
    cpu_seconds: float | None = None
    """To write it with one job."""
    wall_seconds: float | None = None
    """To write it with two."""

    @property
    def rows(self) -> list[Row]:
        return [self.manifest.row(index) for index in range(len(self.manifest))]


def originals_store(manifest: Manifest) -> Store:
    paths = [Path(manifest.row(index).path) for index in range(len(manifest))]
    return Store(manifest, sum(path.stat().st_size for path in paths), len(paths))


def folder_store(originals: Manifest, folder: Path, short_side: int) -> Store:
    """A folder of JPEGs a video, beside the same manifest with other paths."""
    if folder.exists():
        shutil.rmtree(folder)
    names, num_bytes, num_files = [], 0, 0
    for index in range(len(originals)):
        row = originals.row(index)
        names.append(f"{index:03d}")
        (folder / names[-1]).mkdir(parents=True)
        for number, pixels in enumerate(frames(row.path, short_side=short_side), start=1):
            coded = simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorsubsampling="420")
            (folder / names[-1] / f"{number:05d}.jpg").write_bytes(coded)
            num_bytes, num_files = num_bytes + len(coded), num_files + 1
    columns = {**originals.columns, "path": np.char.encode(np.array(names), "utf-8")}
    return Store(dataclasses.replace(originals, columns=columns, root=folder), num_bytes, num_files)


def pack_store(originals: Path, folder: Path, short_side: int, codec: Codec) -> Store:
    """Written twice: with one job for the CPU time, with two for the time that a person waits."""
    cpu_seconds = wall_seconds = 0.0
    for jobs in (1, 2):
        if folder.exists():
            shutil.rmtree(folder)
        cpu, wall = cpu_time(), time.perf_counter()
        quality = QUALITY if codec == "jpeg" else None
        pack(originals, out=folder, short_side=short_side, codec=codec, quality=quality, jobs=jobs)
        if jobs == 1:
            cpu_seconds = cpu_time() - cpu
        else:
            wall_seconds = time.perf_counter() - wall
    manifest = Manifest.load(folder)
    order = {name: index for index, name in enumerate(manifest.columns["id"].tolist())}
    places = np.array([order[name] for name in Manifest.load(originals).columns["id"].tolist()])
    manifest = dataclasses.replace(
        manifest, columns={name: column[places] for name, column in manifest.columns.items()}
    )
    files = [path for path in folder.rglob("*") if path.is_file()]
    num_bytes = sum(path.stat().st_size for path in files)
    return Store(manifest, num_bytes, len(files), cpu_seconds, wall_seconds)


def cpu_time() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


# --------------------------------------------------------------------------------------------------- are the frames right?


class Source:
    """All frames of a video as decoding from the start counts them, and which of them a picture shows."""

    def __init__(self, row: Row, short_side: int) -> None:
        self.frames_THWC = np.stack(list(frames(row.path, short_side=short_side)))
        self._coarse_TD = self._coarse(self.frames_THWC)
        self._squares_T = (self._coarse_TD**2).sum(1)

    def compare(self, clip_THWC: np.ndarray, indices: np.ndarray) -> tuple[int, np.ndarray]:
        """How many pictures are more like another frame than like the one asked for, and each one's PSNR in dB."""
        wanted = self.frames_THWC[indices]
        if clip_THWC.shape != wanted.shape or clip_THWC.dtype != np.uint8:
            raise RuntimeError(f"frames are {clip_THWC.dtype} {clip_THWC.shape}, not {wanted.shape}")
        likeness = self._squares_T[None] - 2 * self._coarse(clip_THWC) @ self._coarse_TD.T
        return int((likeness.argmin(1) != indices).sum()), psnr(clip_THWC, wanted)

    @staticmethod
    def _coarse(clip_THWC: np.ndarray) -> np.ndarray:
        """(T,D) at a quarter of the size: ways of scaling differ in the finest detail, frames in more than that."""
        size = clip_THWC.shape[1] // 4, clip_THWC.shape[2] // 4
        x_TCHW = torch.from_numpy(clip_THWC).permute(0, 3, 1, 2)
        small = F.interpolate(x_TCHW, size=size, mode="bilinear", antialias=True)
        return small.flatten(1).numpy().astype(np.float32) - 128


def psnr(a_THWC: np.ndarray, b_THWC: np.ndarray) -> np.ndarray:
    """(T,) in dB; at most 99."""
    errors = []
    for a, b in zip(a_THWC, b_THWC, strict=True):
        difference = (a.astype(np.int16) - b).ravel().astype(np.float32)
        errors.append(float(difference @ difference) / difference.size)
    return 10 * np.log10(255**2 / np.maximum(errors, 255**2 / 10**9.9))


@dataclass
class Checked:
    """How the frames of one way, at one short side, compare with the source's."""

    frames: int = 0
    wrong: int = 0
    psnr_sum: float = 0.0
    psnr_min: float = math.inf

    def add(self, wrong: int, psnr_T: np.ndarray) -> None:
        self.frames += len(psnr_T)
        self.wrong += wrong
        self.psnr_sum += float(psnr_T.sum())
        self.psnr_min = min(self.psnr_min, float(psnr_T.min()))

    def as_json(self) -> dict[str, Any]:
        return {
            "frames": self.frames, "wrong": self.wrong, "psnr_min_db": round(self.psnr_min, 2),
            "psnr_mean_db": round(self.psnr_sum / self.frames, 2),
        }  # fmt: skip


def check(ways: Mapping[str, tuple[Read, list[Row]]], rows: list[Row], short_side: int) -> dict[str, Checked]:
    """One clip of each pattern from every video, by every way; all frames of packs. It warms everything up, too."""
    found = {name: Checked() for name in ways}
    for number, row in enumerate(rows):
        source = Source(row, short_side)
        for name, (read, its_rows) in ways.items():
            if name in CODEC_OF_PACK:
                every = [np.arange(row.num_frames)]
            else:
                every = [clip_indices(row, spec, -1, 0) for spec in PATTERNS.values()]
            for indices in every:
                found[name].add(*source.compare(read(its_rows[number], indices, short_side), indices))
    return found


def clip_indices(row: Row, spec: ClipSpec, round_: int, turn: int) -> np.ndarray:
    return train_indices(row.num_frames, row.fps, spec, generator(0, "clip", round_, turn, row.id)).reshape(-1)


# ------------------------------------------------------------------------------------------------------------ `read` alone


def time_reads(
    ways: Mapping[str, tuple[Read, list[Row]]], rows: list[Row], spec: ClipSpec, short_side: int, effort: Effort
) -> dict[str, list[float]]:
    """Clips a second of every way in every round."""
    names = list(ways)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(effort.rounds):
        drawn: list[list[np.ndarray]] = []  # the indices of each pass, the same for all
        start = round_ * len(names) // effort.rounds  # who begins
        for name in names[start:] + names[:start]:
            read, its_rows = ways[name]
            seconds, passes = 0.0, 0
            while seconds < effort.turn_seconds:
                if passes == len(drawn):
                    drawn.append([clip_indices(row, spec, round_, passes) for row in rows])
                started = time.perf_counter()
                for row, indices in zip(its_rows, drawn[passes], strict=True):
                    read(row, indices, short_side)
                seconds, passes = seconds + time.perf_counter() - started, passes + 1
            rates[name].append(passes * len(rows) / seconds)
    return rates


# -------------------------------------------------------------------------------------------------------------- the loader


class Feed:
    """Batches without end from one source, by two workers that are stopped while it is not its turn."""

    def __init__(self, manifest: Manifest, spec: ClipSpec, short_side: int) -> None:
        before = {process.pid for process in multiprocessing.active_children()}
        clips = TrainClips(
            manifest, FileReader(short_side), spec, size=CROP_OF_SIDE[short_side], crop="multiscale",
            flip_probability=0.5, crop_fraction=0.875, seed=0,
        )  # fmt: skip
        self._batches: Any = train_batches(
            clips, np.arange(len(manifest)), batch_size=BATCH, first_step=0, num_workers=WORKERS, pin_memory=False
        )
        for _ in range(2 * WORKERS):
            next(self._batches)
        self._workers = [p.pid for p in multiprocessing.active_children() if p.pid is not None and p.pid not in before]
        self._signal(signal.SIGSTOP)

    def clips_per_second(self, seconds: float) -> float:
        """Whole pairs of batches (two workers finish one each), after those that had been waiting."""
        self._signal(signal.SIGCONT)
        started, led = time.perf_counter(), 0
        while led < WORKERS or (led < 5 * WORKERS and time.perf_counter() - started < 0.3):
            next(self._batches)
            led += 1
        started, clips, batches = time.perf_counter(), 0, 0
        while time.perf_counter() - started < seconds or batches % WORKERS:
            clips += len(next(self._batches).rows_B)
            batches += 1
        rate = clips / (time.perf_counter() - started)
        self._signal(signal.SIGSTOP)
        return rate

    def close(self) -> None:
        self._signal(signal.SIGCONT)
        self._batches.close()

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            os.kill(worker, number)


def repeated(manifest: Manifest, at_least: int) -> Manifest:
    """Each row several times, under different ids: an epoch of many batches from few files."""
    times = math.ceil(at_least / len(manifest))
    columns = {name: np.tile(column, times) for name, column in manifest.columns.items()}
    number = np.repeat(np.arange(times), len(manifest)).astype("S")
    columns["id"] = np.char.add(np.char.add(columns["id"], b"#"), number)
    return dataclasses.replace(manifest, columns=columns)


def time_loaders(
    stores: Mapping[str, Store], spec: ClipSpec, short_side: int, effort: Effort
) -> dict[str, list[float]]:
    """Clips a second of every store in every round, when the loader has got going."""
    rates: dict[str, list[float]] = {name: [] for name in stores}
    with ExitStack() as stack:
        feeds = {
            name: stack.enter_context(closing(Feed(repeated(store.manifest, 12 * BATCH), spec, short_side)))
            for name, store in stores.items()
        }
        names = list(feeds)
        for round_ in range(effort.loader_rounds):
            start = round_ % len(names)
            for name in names[start:] + names[:start]:
                rates[name].append(feeds[name].clips_per_second(effort.loader_turn_seconds))
    return rates


# ---------------------------------------------------------------------------------------------------------------- one kind


def measure(kind: str, folder: Path, num_videos: int, effort: Effort) -> dict[str, Any]:
    """Everything about one kind of file."""
    say(f"{kind}: prepare")
    manifest_file = prepared(folder / "videos", kind, num_videos)
    manifest = Manifest.load(manifest_file)
    originals = originals_store(manifest)
    of_originals, of_folders, absent = ways_to_read(manifest)
    result: dict[str, Any] = {
        "kind": kind, "title": KINDS[kind].title, "files": len(manifest), "bytes": originals.num_bytes,
        "frames": int(manifest.columns["num_frames"].sum()), "seekable": int(manifest.columns["seekable"].sum()),
        "absent": absent, "stores": [], "read": [], "loader": [], "pays": [],
    }  # fmt: skip
    for side in SHORT_SIDES:
        say(f"{kind}, short side {side}: folders and packs")
        place = folder / "stores" / f"{kind}-{side}"
        stores = {ORIGINALS: originals, FOLDER: folder_store(manifest, place / "folder", side)}
        for name, codec in CODEC_OF_PACK.items():
            stores[name] = pack_store(manifest_file, place / codec, side, codec)
        ways = {name: (read, originals.rows) for name, read in of_originals.items()}
        ways |= {name: (read, stores[FOLDER].rows) for name, read in of_folders.items()}
        ways |= {name: (muybridge_read, stores[name].rows) for name in CODEC_OF_PACK}
        say(f"{kind}, short side {side}: are the frames right?")
        checked = check(ways, originals.rows, side)
        for name, store in stores.items():
            way = FOLDER_READERS[0] if name == FOLDER else name
            result["stores"].append({
                "store": name, "short_side": side, "bytes": store.num_bytes, "files": store.num_files,
                "cpu_seconds": store.cpu_seconds, "wall_seconds": store.wall_seconds,
                "same_indices": same_indices(originals.rows, store.rows),
                **({} if name == ORIGINALS else checked[way].as_json()),
            })  # fmt: skip
        for pattern, spec in PATTERNS.items():
            say(f"{kind}, short side {side}, {pattern}: reading")
            rates = time_reads(ways, originals.rows, spec, side, effort)
            result["read"] += [
                {
                    "pattern": pattern, "short_side": side, "way": name, "clips_per_s": statistics.median(rates[name]),
                    "times_ours": ratio(rates[name], rates[OURS]), "of_originals": name in of_originals,
                    "rounds": rates[name], **checked[name].as_json(),
                }
                for name in ways
            ]  # fmt: skip
            say(f"{kind}, short side {side}, {pattern}: through the loader")
            loaded = time_loaders(stores, spec, side, effort)
            result["loader"] += [
                {
                    "pattern": pattern, "short_side": side, "store": name,
                    "clips_per_s": statistics.median(loaded[name]), "rounds": loaded[name],
                    "times_originals": ratio(loaded[name], loaded[ORIGINALS]),
                }
                for name in stores
            ]  # fmt: skip
            slow = num_videos / statistics.median(loaded[ORIGINALS])
            for name in CODEC_OF_PACK:
                saved = slow - num_videos / statistics.median(loaded[name])
                seconds = stores[name].wall_seconds or 0.0
                result["pays"].append({
                    "pattern": pattern, "short_side": side, "store": name, "pack_seconds": seconds,
                    "epoch_on_originals_seconds": slow, "saved_an_epoch_seconds": saved,
                    "epochs": seconds / saved if saved > 0 else None,
                })  # fmt: skip
    return result


def same_indices(originals: list[Row], rows: list[Row]) -> bool:
    """Sampling sees of a row its length, its rate and its id."""
    return [(row.id, row.num_frames, row.fps) for row in originals] == [
        (row.id, row.num_frames, row.fps) for row in rows
    ]


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


# ---------------------------------------------------------------------------------------------------------------- the bars


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What muybridge wants to reach, for one kind of file."""
    kind = result["kind"]
    read = {(r["pattern"], r["short_side"], r["way"]): r for r in result["read"]}
    loader = {(r["pattern"], r["short_side"], r["store"]): r for r in result["loader"]}
    stores = {(s["store"], s["short_side"]): s for s in result["stores"]}
    found: list[dict[str, Any]] = []

    def bar(text: str, figure: float, needed: float, *, at_most: bool = False, note: str = "") -> None:
        passed = figure <= needed if at_most else figure >= needed
        found.append({
            "kind": kind, "bar": text, "figure": figure, "needed": needed, "at_most": at_most, "passed": passed,
            "note": note,
        })  # fmt: skip

    best_other = {}
    for pattern, side in CELLS:
        others = [
            r for r in result["read"]
            if (r["pattern"], r["short_side"]) == (pattern, side) and r["of_originals"]
            and r["way"] not in (OURS, FIRST) and not r["wrong"]
        ]  # fmt: skip
        best = best_other[pattern, side] = max(others, key=lambda r: r["clips_per_s"])
        figure = ratio(read[pattern, side, OURS]["rounds"], best["rounds"])
        bar(f"reader ÷ best other, {pattern}, {side}", figure, 1.0, note=f"the best: {best['way']}")

    def pack_bar(name: str, side: int, needed: float) -> None:
        of = read["8 uniform", side, name]
        loaded = loader["8 uniform", side, name]["times_originals"]
        other = ratio(of["rounds"], best_other["8 uniform", side]["rounds"])
        note = f"÷ the best other {other:.1f}; through the loader {loaded:.1f}"
        bar(f"{name} ÷ reader, 8 uniform, {side}", of["times_ours"], needed, note=note)

    times = {"ucf": {128: 15.0, 256: 6.0}, "kinetics-gop250": {128: 80.0, 256: 30.0}}.get(kind, {})
    for side, needed in times.items():
        pack_bar(JPEG_PACK, side, needed)
    for pattern, side in CELLS:
        best = max(
            (read[pattern, side, name] for name in FOLDER_READERS[:2] if (pattern, side, name) in read),
            key=lambda r: r["clips_per_s"],
        )
        figure = ratio(read[pattern, side, JPEG_PACK]["rounds"], best["rounds"])
        loaded = loader[pattern, side, JPEG_PACK]["clips_per_s"] / loader[pattern, side, FOLDER]["clips_per_s"]
        note = f"the best: {best['way']}; through the loader, both by muybridge, {loaded:.2f}"
        bar(f"JPEG pack ÷ JPEG folder, {pattern}, {side}", figure, 1.0, note=note)
    for side in SHORT_SIDES:
        folder, jpeg, h264 = (stores[name, side] for name in (FOLDER, JPEG_PACK, H264_PACK))
        bar(f"bytes, JPEG pack ÷ JPEG folder, {side}", jpeg["bytes"] / folder["bytes"], 1.01, at_most=True)
        bar(f"files of the JPEG pack ÷ of the folder, {side}", jpeg["files"] / folder["files"], 0.01, at_most=True,
            note=f"{jpeg['files']} against {folder['files']}")  # fmt: skip
        bar(f"bytes, H.264 pack ÷ JPEG pack, {side}", h264["bytes"] / jpeg["bytes"], 0.25, at_most=True)
    if kind == "kinetics-gop250":
        pack_bar(H264_PACK, 128, 25.0)
    for side in SHORT_SIDES:
        jpeg = stores[JPEG_PACK, side]
        bar(f"PSNR of the JPEG pack's worst frame, dB, {side}", jpeg["psnr_min_db"], 35.0,
            note=f"mean {jpeg['psnr_mean_db']:.1f}")  # fmt: skip
        for name in CODEC_OF_PACK:
            store = stores[name, side]
            different = store["wrong"] + (0 if store["same_indices"] else 1)
            bar(f"frames of the {name} that are not the source's, {side}", different, 0, at_most=True,
                note=f"of {store['frames']}")  # fmt: skip
    return found


# ------------------------------------------------------------------------------------------------------------------ output


def show(result: dict[str, Any]) -> None:
    print(
        f"\n{result['title']}\n{result['files']} files of {result['bytes'] / result['files'] / 1e3:.0f} kB, "
        f"{result['seekable']} of them read by time stamps\n"
    )
    heads = [f"{pattern}, {side}" for pattern, side in CELLS]
    read: dict[str, list[str]] = {}
    frames_right: dict[str, str] = {}
    for pattern, side in CELLS:
        for r in result["read"]:
            if (r["pattern"], r["short_side"]) == (pattern, side):
                read.setdefault(r["way"], []).append(f"{significant(r['clips_per_s'])} ({r['times_ours']:.2f})")
                text = frames_right.setdefault(r["way"], "right")
                if r["wrong"] and text == "right":
                    frames_right[r["way"]] = f"wrong frames: {r['wrong']} of {r['frames']}"
    lines = [[name, *cells, frames_right[name]] for name, cells in read.items()]
    lines += [[name, f"absent: {reason}"] for name, reason in result["absent"].items()]
    print_table(["read alone, clips/s (÷ ours)", *heads, "frames"], lines)
    loaded: dict[str, list[str]] = {}
    for pattern, side in CELLS:
        for r in result["loader"]:
            if (r["pattern"], r["short_side"]) == (pattern, side):
                loaded.setdefault(r["store"], []).append(
                    f"{significant(r['clips_per_s'])} ({r['times_originals']:.2f})"
                )
    print_table(
        [f"loader, {WORKERS} workers, clips/s (÷ originals)", *heads], [[n, *cells] for n, cells in loaded.items()]
    )
    pays = {(p["store"], p["pattern"], p["short_side"]): p["epochs"] for p in result["pays"]}
    lines = []
    for s in result["stores"]:
        epochs = [pays[s["store"], pattern, s["short_side"]] for pattern in PATTERNS if s["store"] in CODEC_OF_PACK]
        lines.append([
            f"{s['store']}, {s['short_side']}", f"{s['bytes'] / result['files'] / 1e3:.0f}", f"{s['files']}",
            f"{s['psnr_min_db']:.1f} / {s['psnr_mean_db']:.1f}" if "frames" in s else "",
            f"{s['cpu_seconds'] / result['frames'] * 1e3:.2f}" if s["cpu_seconds"] else "",
            f"{s['wall_seconds']:.1f}" if s["wall_seconds"] else "",
            " / ".join("never" if e is None else f"{e:.1f}" for e in epochs),
        ])  # fmt: skip
    print_table(
        ["store, short side", "kB a video", "files", "PSNR min / mean", "CPU ms a frame", "s, 2 jobs",
         "pays after epochs (" + " / ".join(PATTERNS) + ")"],
        lines,
    )  # fmt: skip


def show_bars(found: list[dict[str, Any]]) -> None:
    lines = [
        ["pass" if b["passed"] else "FAIL", b["kind"], b["bar"], f"{b['figure']:.3g}",
         f"{'≤' if b['at_most'] else '≥'} {b['needed']:g}", b["note"]]
        for b in found
    ]  # fmt: skip
    print()
    print_table(["bars", "kind", "", "figure", "needed", ""], lines)
    print(f"{sum(b['passed'] for b in found)} of {len(found)} bars pass")


def print_table(heads: list[str], lines: list[list[str]]) -> None:
    """Columns as wide as they need be; the last runs free."""
    full = [line for line in lines if len(line) == len(heads)]
    widths = [max(len(line[i]) for line in [heads, *full]) for i in range(len(heads) - 1)]
    for line in [heads, *lines]:
        cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        print("  ".join([*cells, line[-1]]).rstrip())
    print()


def significant(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


_STARTED = time.perf_counter()


def say(text: str) -> None:
    print(f"[{time.perf_counter() - _STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    versions = {}
    for name in ("torch", "av", "simplejpeg", "numpy", "torchcodec", "opencv-python-headless", "decord", "pillow"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("build/benchmark-loader"), help="videos are kept here")
    parser.add_argument("--videos", type=int, default=12, help="different videos a kind (default 12)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", choices=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--quick", action="store_true", help="3 videos, 2 short rounds: does it run? No figure to trust"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    effort = Effort(arguments.rounds, 0.25, min(3, arguments.rounds), 1.2)
    num_videos = arguments.videos
    if arguments.quick:
        effort, num_videos = Effort(2, 0.03, 2, 0.2), 3
    if num_videos < 3 or effort.rounds < 1:
        parser.error("at least 3 videos and 1 round are needed")
    torch.set_num_threads(1)
    resource_tracker.ensure_running()  # it is no worker of the first loader
    folder = arguments.workdir.resolve()
    kinds = {arguments.only: KINDS[arguments.only]} if arguments.only else KINDS
    make_videos(folder / "videos", kinds, num_videos)
    results = [measure(kind, folder, num_videos, effort) for kind in kinds]
    found = [bar for result in results for bar in bars(result)]
    say("done")
    if arguments.json:
        settings = {"videos": num_videos, "quick": arguments.quick, **dataclasses.asdict(effort)}
        print(json.dumps({"machine": machine(), "settings": settings, "kinds": results, "bars": found}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for result in results:
        show(result)
    show_bars(found)


if __name__ == "__main__":
    main()
