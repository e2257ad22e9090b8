"""`motions`: a generated set of real video files in which only time tells most classes apart.

Classes come in time-reversed pairs. The second class of a pair is the frame reversal of an independent draw of the
first, reversed before encoding; every frame is coded on its own with one quantiser, so the codec carries no arrow of
time either. Two classes can be told from a single frame. Background, texture, shape, size, speed, start, a slow camera
drift and noise vary from clip to clip.

In the layout of a standard set clips belong to recordings. Those of one recording have one background, with its texture and
drift. Every class is recorded in the same 25 places, so that no background tells a class.
"""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.prepare.prepare import Prepared, prepare, summary
from muybridge.data.prepare.splits import assign
from muybridge.data.random import generator
from muybridge.data.sets.layouts import Laid, laid_out
from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.console import progress
from muybridge.runtime.files import csv_text, sha256_file, within
from muybridge.runtime.locks import locked

NUM_FRAMES = 24
FPS = 24
SIZE = 64

PAIRS = (
    ("move_right", "move_left"),
    ("move_down", "move_up"),
    ("grow", "shrink"),
    ("turn_clockwise", "turn_counterclockwise"),
)
STILL = ("empty", "crowd")
CLASSES = tuple(name for pair in PAIRS for name in pair) + STILL
MIRROR = {
    "move_right": "move_left", "move_left": "move_right",
    "turn_clockwise": "turn_counterclockwise", "turn_counterclockwise": "turn_clockwise",
}  # fmt: skip
SPLIT_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


@dataclass(frozen=True)
class Path2D:
    """Movement of one object: arrays over the frames."""

    x_T: np.ndarray
    y_T: np.ndarray
    radius_T: np.ndarray
    angle_T: np.ndarray


MANIFEST = "manifest.csv"
LONG = "long"
"""Folder of the long videos."""
BACKGROUND = "empty"
"""Class that long videos show between events."""
EVENTS_OF_A_VIDEO = 12


def motions(
    folder: str | Path,
    *,
    clips: int = 2000,
    long: int = 0,
    layout: str | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> Prepared:
    """Write `clips` videos (H.264, 64x64, 24 frames) and `manifest.csv` below `folder`.

    `long`: number of long videos to write to `long/` as well, of clips in no split; `long/events.csv` says what happens
    when. `layout`: "ucf101", "hmdb51" or "ucf11": the folders, names, recordings and official lists of that set; the
    manifest is then what `prepare` makes of them. The same arguments give the same bytes, with any number of jobs. Raises
    UserError for too few clips, another layout or a folder that is in use.
    """
    folder = Path(folder).resolve()
    if long < 0:
        raise UserError(f"--long {long}: not a number of videos. Give 0 or more")
    if clips < 5 * len(CLASSES):
        raise UserError(
            f"--clips {clips}: too few for {len(CLASSES)} classes in three splits. Give at least {5 * len(CLASSES)}"
        )
    labels = [CLASSES[i % len(CLASSES)] for i in range(clips)]
    laid = _plain(labels) if layout is None else laid_out(layout, labels)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: it is not empty. Choose another folder")
    unfinished = folder.with_name(f".{folder.name}.partial")  # renamed when whole: a stopped call leaves no half set
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent, f"makes {folder.name} there", name=f".{folder.name}.lock", keep=False):
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: it is not empty. Choose another folder")
        if within(folder.parent, unfinished.name).exists():
            shutil.rmtree(unfinished)
        hashes = _write(unfinished, laid, labels, seed=seed, jobs=jobs)
        if layout is None:
            manifest = _manifest(unfinished, laid.names, labels, hashes, seed=seed, where=str(folder))
            manifest.save(unfinished / MANIFEST)
            prepared = summary(folder / MANIFEST, manifest, rejected=[], warnings=[])
        else:
            prepared = prepare(set=layout, root=unfinished, out=unfinished / MANIFEST, seed=seed, jobs=jobs)
            prepared = replace(prepared, manifest=folder / MANIFEST)
        if long:
            _write_long(unfinished / LONG, long, seed=seed, first=clips)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    return prepared


def _plain(labels: Sequence[str]) -> Laid:
    """Clips in folders of their classes, each a recording of its own."""
    return Laid([f"{label}/{i:05d}.mp4" for i, label in enumerate(labels)], [""] * len(labels), {})


def _write(root: Path, laid: Laid, labels: Sequence[str], *, seed: int, jobs: int | None) -> list[str]:
    """Write videos and lists below `root`; the videos' hashes."""
    for path in {root / name for name in [*laid.names, *laid.lists]}:
        path.parent.mkdir(parents=True, exist_ok=True)
    for name, text in laid.lists.items():
        (root / name).write_bytes(text.encode())

    def write(index: int) -> str:
        path = root / laid.names[index]
        encode(path, render(labels[index], seed=seed, index=index, place=laid.places[index]))
        return sha256_file(path)

    hashes = []
    with ThreadPoolExecutor(jobs or processors.left().jobs) as pool, progress("making videos", len(labels)) as bar:
        for digest in pool.map(write, range(len(labels))):
            hashes.append(digest)
            bar.advance()
    return hashes


def _manifest(
    root: Path, names: Sequence[str], labels: Sequence[str], hashes: Sequence[str], *, seed: int, where: str
) -> Manifest:
    clips = len(names)
    part = assign(
        np.arange(clips), np.array(labels), list(SPLIT_SHARES.values()), seed=seed, purpose="split of motions"
    )
    columns = {
        "id": names, "path": names, "start_frame": np.zeros(clips), "num_frames": np.full(clips, NUM_FRAMES),
        "label": labels, "group": [""] * clips, "fps": np.full(clips, float(FPS)), "width": np.full(clips, SIZE),
        "height": np.full(clips, SIZE), "sha256": hashes, "split": np.array(list(SPLIT_SHARES))[part],
    }  # fmt: skip
    return from_columns(columns, classes=CLASSES, root=root, mirror=MIRROR, reversed_pairs=PAIRS, where=where)


def _write_long(folder: Path, videos: int, *, seed: int, first: int) -> None:
    """Write long videos and events.csv; the clip number `first` is the first that they show."""
    folder.mkdir()
    rows: list[tuple[str, str, str, str]] = []
    for number in range(videos):
        frames_THW3, happens = render_long(seed=seed, index=first + 1000 * number)
        encode(folder / f"{number:02d}.mp4", frames_THW3)
        rows += [
            (f"{number:02d}.mp4", f"{start / FPS:.3f}", f"{end / FPS:.3f}", label) for start, end, label in happens
        ]
    (folder / "events.csv").write_text(csv_text([("video", "start_seconds", "end_seconds", "label"), *rows]))


def render_long(*, seed: int, index: int) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Frames (T,H,W,3) of a long video, and its events: first frame, frame after the last, label.

    An event is one to three clips of a class. Between events are one or two of the background, cut short at random, so that
    events begin at any frame. `index`: of the first clip, as in `render`.
    """
    draw = generator(seed, "long motions", index)
    labels = [str(label) for label in draw.permutation([name for name in CLASSES if name != BACKGROUND])]
    clips: list[np.ndarray] = []
    happens: list[tuple[int, int, str]] = []

    def show(label: str, num_frames: int) -> None:
        clips.append(render(label, seed=seed, index=index + len(clips))[:num_frames])

    for event in range(EVENTS_OF_A_VIDEO):
        for _ in range(int(draw.integers(1, 3))):
            show(BACKGROUND, int(draw.integers(NUM_FRAMES // 2, NUM_FRAMES + 1)))
        start, label = sum(map(len, clips)), labels[event % len(labels)]
        for _ in range(int(draw.integers(1, 4))):
            show(label, NUM_FRAMES)
        happens.append((start, sum(map(len, clips)), label))
    show(BACKGROUND, NUM_FRAMES)
    return np.concatenate(clips), happens


def render(label: str, *, seed: int, index: int, place: str = "") -> np.ndarray:
    """(T,H,W,3) uint8 frames of one clip. `place`: whose background it has; none: one of its own."""
    draw = generator(seed, "motions", index, label)
    background = generator(seed, "places of motions", place) if place else None
    for forward, backward in PAIRS:
        if label == backward:
            return render_forward(forward, draw, background)[::-1]
    return render_forward(label, draw, background)


def render_forward(label: str, draw: np.random.Generator, background: np.random.Generator | None = None) -> np.ndarray:
    """Frames of a class in its forward direction. `background`: what draws the background, if another than the rest."""
    scene_THW3 = _background(background or draw)
    count = {"empty": 0, "crowd": int(draw.integers(6, 10))}.get(label, 1)
    drift_T2 = _drift(draw)
    for _ in range(count):
        motion = _MOTIONS[label](draw)
        moved = Path2D(motion.x_T + drift_T2[:, 0], motion.y_T + drift_T2[:, 1], motion.radius_T, motion.angle_T)
        _paint(scene_THW3, moved, draw)
    strength = np.float32(draw.uniform(1, 5))
    noise_THW3 = draw.standard_normal(scene_THW3.shape, dtype=np.float32)
    noise_THW3 *= strength
    scene_THW3 += noise_THW3
    return np.clip(np.rint(scene_THW3, out=scene_THW3), 0, 255, out=scene_THW3).astype(np.uint8)


def encode(path: Path, frames_THWC: np.ndarray, *, fps: int = FPS) -> None:
    """Write H.264 with every frame coded alone, one quantiser and one thread: the same frames give the same bytes."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "qp": "22", "g": "1", "threads": "1"}
        for pixels in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())


def _progress_T(draw: np.random.Generator) -> np.ndarray:
    """Progress from 0 to 1 over the clip, at a varying pace."""
    t = np.linspace(0, 1, NUM_FRAMES)
    bend = draw.uniform(-0.35, 0.35)
    return t + bend * t * (1 - t)


def _still(draw: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw x, y, radius and angle of a resting object."""
    return draw.uniform(18, 46), draw.uniform(18, 46), draw.uniform(8, 14), draw.uniform(0, 2 * np.pi)


def _constant(value: float) -> np.ndarray:
    return np.full(NUM_FRAMES, value)


def _move(draw: np.random.Generator, *, horizontal: bool) -> Path2D:
    x, y, radius, angle = _still(draw)
    distance = draw.uniform(20, 34)
    start = draw.uniform(32 - distance / 2 - 8, 32 - distance / 2 + 8)
    along = start + distance * _progress_T(draw)
    x_T, y_T = (along, _constant(y)) if horizontal else (_constant(x), along)
    return Path2D(x_T, y_T, _constant(radius), _constant(angle))


def _grow(draw: np.random.Generator) -> Path2D:
    x, y, _, angle = _still(draw)
    small, ratio = draw.uniform(5, 9), draw.uniform(1.9, 2.7)
    return Path2D(_constant(x), _constant(y), small * ratio ** _progress_T(draw), _constant(angle))


def _turn(draw: np.random.Generator) -> Path2D:
    x, y, radius, angle = _still(draw)
    return Path2D(
        _constant(x), _constant(y), _constant(radius + 3), angle + draw.uniform(0.6, 1.1) * np.pi * _progress_T(draw)
    )


def _stand(draw: np.random.Generator) -> Path2D:
    """Draw one of a crowd: small, anywhere, trembling."""
    x, y, angle = draw.uniform(4, 60), draw.uniform(4, 60), draw.uniform(0, 2 * np.pi)
    sway_T = draw.uniform(0, 2) * np.sin(np.linspace(0, draw.uniform(2, 9), NUM_FRAMES) + draw.uniform(0, 6))
    return Path2D(x + sway_T, y + sway_T[::-1], _constant(draw.uniform(3, 5)), _constant(angle))


_MOTIONS: dict[str, Callable[[np.random.Generator], Path2D]] = {
    "move_right": lambda draw: _move(draw, horizontal=True),
    "move_down": lambda draw: _move(draw, horizontal=False),
    "grow": _grow,
    "turn_clockwise": _turn,
    "crowd": _stand,
}


def _drift(draw: np.random.Generator) -> np.ndarray:
    """(T,2) slow camera movement, up to 4 pixels over the clip."""
    direction, length = draw.uniform(0, 2 * np.pi), draw.uniform(0, 4)
    t = np.linspace(-0.5, 0.5, NUM_FRAMES)[:, None]
    return t * length * np.array([[np.cos(direction), np.sin(direction)]])


def _background(draw: np.random.Generator) -> np.ndarray:
    """(T,H,W,3) float32: smooth texture over a colour gradient, drifting with a camera of its own."""
    drift_T2 = _drift(draw)
    y_THW, x_THW = _grid(drift_T2)
    base_3, tint_3 = draw.uniform(40, 200, 3).astype(np.float32), draw.uniform(-40, 40, 3).astype(np.float32)
    texture_THW = np.zeros_like(x_THW)
    for _ in range(int(draw.integers(2, 5))):
        fx, fy, phase = draw.normal(0, 0.12), draw.normal(0, 0.12), draw.uniform(0, 2 * np.pi)
        texture_THW = texture_THW + draw.uniform(4, 14) * np.sin(fx * x_THW + fy * y_THW + phase)
    slope = draw.normal(0, 0.5, 2).astype(np.float32)
    shade_THW = texture_THW + slope[0] * (x_THW - 32) + slope[1] * (y_THW - 32)
    height_THW = y_THW / SIZE - 0.5
    scene_THW3 = np.empty((*shade_THW.shape, 3), dtype=np.float32)
    for channel, (base, tint) in enumerate(zip(base_3, tint_3, strict=True)):
        np.add(base + tint * height_THW, shade_THW, out=scene_THW3[..., channel])
    return scene_THW3


def _grid(drift_T2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates y and x of every pixel in every frame, each (T,H,W), as the drifting camera sees them."""
    y_HW, x_HW = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    drift_T211 = drift_T2.astype(np.float32)[:, :, None, None]
    return y_HW - drift_T211[:, 1], x_HW - drift_T211[:, 0]


def _paint(scene_THW3: np.ndarray, path: Path2D, draw: np.random.Generator) -> None:
    """Draw an object over the scene, in place, its edges smooth."""
    reach = 1.3 * path.radius_T.max() + 1  # no shape is larger
    left, right = (int(np.clip(edge, 0, SIZE)) for edge in (path.x_T.min() - reach, path.x_T.max() + reach + 1))
    top, bottom = (int(np.clip(edge, 0, SIZE)) for edge in (path.y_T.min() - reach, path.y_T.max() + reach + 1))
    part_THW3 = scene_THW3[:, top:bottom, left:right]
    y_HW, x_HW = np.mgrid[top:bottom, left:right].astype(np.float32)
    x_T, y_T, radius_T, angle_T = (
        values.astype(np.float32)[:, None, None] for values in (path.x_T, path.y_T, path.radius_T, path.angle_T)
    )
    dx_THW, dy_THW = x_HW - x_T, y_HW - y_T
    u_THW = (dx_THW * np.cos(angle_T) + dy_THW * np.sin(angle_T)) / radius_T
    v_THW = (dy_THW * np.cos(angle_T) - dx_THW * np.sin(angle_T)) / radius_T
    inside_THW = np.clip(_shape(u_THW, v_THW, draw) * radius_T + 0.5, 0, 1)
    color_3 = draw.uniform(0, 255, 3)
    strength, frequency, phase = draw.uniform(0, 0.35), draw.uniform(2, 7), draw.uniform(0, 6)
    mean_3 = scene_THW3.mean((0, 1, 2))
    if np.abs(color_3 - mean_3).max() < 60:  # an object that can be seen
        color_3 = np.where(mean_3 > 128, mean_3 - 90, mean_3 + 90)
    stripes_THW = np.float32(1) + np.float32(strength) * np.sign(np.sin(frequency * u_THW + phase))
    for channel, color in enumerate(color_3.astype(np.float32)):
        part_THW3[..., channel] += inside_THW * (color * stripes_THW - part_THW3[..., channel])


def _shape(u: np.ndarray, v: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Signed distance (positive inside, in radii) to the edge of a shape whose turning can be seen."""
    kind = draw.integers(4)
    if kind == 0:  # bar
        return np.minimum(1 - np.abs(u), draw.uniform(0.3, 0.5) - np.abs(v))
    if kind == 1:  # triangle
        return np.minimum(np.minimum(0.5 + v, 0.5 - v / 2 - 0.866 * u), 0.5 - v / 2 + 0.866 * u)
    if kind == 2:  # L
        upright = np.minimum(0.3 - np.abs(u + 0.4), 0.9 - np.abs(v))
        foot = np.minimum(0.8 - np.abs(u), 0.3 - np.abs(v - 0.6))
        return np.maximum(upright, foot)
    return (1 - np.sqrt(u**2 + (v / draw.uniform(0.4, 0.6)) ** 2)) * 0.5  # ellipse
