"""Layouts of standard sets, for made videos: where each clip lies, whose recording it is, and the official lists.

They are those of the published sets: names, folders, 25 recordings a class, and lists that keep a recording on one side.
Only the videos, the classes and the counts are others.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from muybridge.errors import UserError, nearest

RECORDINGS = 25
"""Recordings of a class, as UCF11 and UCF101 have them."""
TESTED = {"ucf101": 7, "hmdb51": 6}
"""Recordings of a class in the test of a split; those of the next split are the next ones."""
TRAINED = 13
"""Recordings of a class in the training part of a split of HMDB51; the others are unused."""


@dataclass(frozen=True)
class Laid:
    """Clips of a set in the layout of a published one."""

    names: list[str]
    """Path of each clip below the root."""
    recordings: list[str]
    """Recording of each clip, one of its class."""
    lists: dict[str, str]
    """Text of each official list, by its path below the root."""


@dataclass(frozen=True)
class _Clip:
    label: str
    recording: int
    """From 1."""
    number: int
    """In its recording, from 1."""


def laid_out(layout: str, labels: Sequence[str]) -> Laid:
    """Clips with these labels, as `layout` ("ucf101", "hmdb51", "ucf11") has them.

    A class's clips are spread evenly over its recordings. Raises UserError for another layout.
    """
    if layout not in LAYOUTS:
        raise UserError(f"--layout: '{layout}' is unknown. {nearest(layout, LAYOUTS)}")
    totals = Counter(labels)
    seen: Counter[str] = Counter()
    taken: Counter[tuple[str, int]] = Counter()
    clips = []
    for label in labels:
        recording = seen[label] * RECORDINGS // totals[label] + 1
        seen[label] += 1
        taken[label, recording] += 1
        clips.append(_Clip(label, recording, taken[label, recording]))
    names, lists = LAYOUTS[layout](clips)
    return Laid(names, [f"{clip.label}/{clip.recording}" for clip in clips], lists)


def _ucf101(clips: Sequence[_Clip]) -> tuple[list[str], dict[str, str]]:
    """Recordings 1 to 7 are the test of split 1, 8 to 14 of split 2, 15 to 21 of split 3."""
    called = {label: "".join(map(str.capitalize, label.split("_"))) for label in {clip.label for clip in clips}}
    numbers = {name: number for number, name in enumerate(sorted(called.values()), start=1)}
    lists = {"classInd.txt": [f"{number} {name}" for name, number in numbers.items()]}
    names = []
    for clip in clips:
        label = called[clip.label]
        name = f"{label}/v_{label}_g{clip.recording:02d}_c{clip.number:02d}.avi"
        names.append(name)
        tested = (clip.recording - 1) // TESTED["ucf101"] + 1
        for split in (1, 2, 3):
            side, mark = ("test", "") if split == tested else ("train", f" {numbers[label]}")
            lists.setdefault(f"{side}list{split:02d}.txt", []).append(f"{name}{mark}")
    texts = {
        f"ucfTrainTestlist/{file}": "".join(
            f"{line}\r\n" for line in (lines if file == "classInd.txt" else sorted(lines))
        )
        for file, lines in lists.items()
    }
    return [f"UCF-101/{name}" for name in names], texts


def _hmdb51(clips: Sequence[_Clip]) -> tuple[list[str], dict[str, str]]:
    """A quarter of the films of a class are tested, half are trained on, a quarter are unused; each split has others."""
    lists: defaultdict[str, list[str]] = defaultdict(list)
    names = []
    for clip in clips:
        name = f"Made_Film_{clip.recording:02d}_{clip.label}_f_cm_np1_fr_med_{clip.number - 1}.avi"
        names.append(f"hmdb51_org/{clip.label}/{name}")
        for split in (1, 2, 3):
            place = (clip.recording - 1 - TESTED["hmdb51"] * (split - 1)) % RECORDINGS
            mark = 2 if place < TESTED["hmdb51"] else 1 if place < TESTED["hmdb51"] + TRAINED else 0
            lists[f"testTrainMulti_7030_splits/{clip.label}_test_split{split}.txt"].append(f"{name} {mark} \n")
    return names, {file: "".join(sorted(lines)) for file, lines in lists.items()}


def _ucf11(clips: Sequence[_Clip]) -> tuple[list[str], dict[str, str]]:
    """Folders of recordings, and no lists."""
    names = []
    for clip in clips:
        recording = f"v_{clip.label}_{clip.recording:02d}"
        names.append(f"UCF11_updated_mpg/{clip.label}/{recording}/{recording}_{clip.number:02d}.mpg")
    return names, {}


LAYOUTS: dict[str, Callable[[Sequence[_Clip]], tuple[list[str], dict[str, str]]]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "ucf11": _ucf11,
}
"""Writers of names and lists, by the name of the set."""
