"""A standard set: what it is called, what its lists say, and how its videos are found on disk."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from muybridge.data.prepare.folders import SPLIT_NAMES, Item, Listed, walk
from muybridge.data.prepare.subsets import plain
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.obtain import obtain
from muybridge.errors import UserError
from muybridge.text import plural

VIDEOS = {
    ".avi", ".mp4", ".mkv", ".webm", ".mpg", ".mpeg", ".mov", ".m4v", ".wmv", ".flv", ".3gp", ".ts", ".ogv", ".gif",
}  # fmt: skip
"""Endings of video files. Other files in the folders of a standard set are passed over."""


@dataclass(frozen=True)
class Lists:
    """The lists of a set, read."""

    items: list[Item]
    """A path is the name in the list: a path, a file name, or an id."""
    classes: list[str]
    """Names of the classes in order."""
    folds: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Split of each name in each of several official splits."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StandardSet:
    """A set that papers report on."""

    name: str
    title: str
    source: str
    """Paper."""
    page: str
    """Place to get it from, and the files below the root that are expected."""
    protocol: str
    """Splits, and the figure that papers report."""
    num_classes: int
    counts: Mapping[str, int]
    """Published number of videos, by split; "videos": of all."""
    read: Callable[["Files"], Lists]
    """Reader of the lists; without lists, of the folders."""
    fold_counts: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """Published number of videos of each of several official splits."""
    group: Callable[[Item], str] | None = None
    """Group of an item by the name in its list; empty: unknown."""
    ungrouped: str = ""
    """Names that `group` cannot read, for the message about them."""
    options: str = ""
    """Options of `prepare` that it needs, after a blank."""
    archives: tuple[Archive, ...] = ()
    any_case: bool = False
    """Whether lists and files may differ in capitals."""
    reports_on_val: bool = False
    """Whether the official validation split is what papers report on, as no labels of the test are public."""

    def about(self, root: Path | None) -> str:
        """Page for people: what to get, where to put it, how it is prepared."""
        where = root or f"datasets/{self.name}"
        return f"{self.title} ({self.source})\n\n{self.page.strip()}\n\n{self.protocol}\n\n" + (
            f"Then: muybridge prepare --set {self.name} --root {where} --out {self.name}.csv{self.options}"
        )


class Files:
    """The files below the root of a set: its videos by name, its lists by name.

    A video is a file, or a folder of numbered images. Raises UserError where `root` is not a folder.
    """

    def __init__(self, root: Path, *, any_case: bool = False) -> None:
        self.root = root
        self.videos: list[str] = []
        self.others: list[Path] = []
        """Files that are no videos: lists, annotations, checksums."""
        paths, self.strays = walk(root)
        self._any_case = any_case
        self._by_name: dict[str, list[str]] = {}
        for path in paths:
            if path.suffix.lower() not in VIDEOS and not (root / path).is_dir():
                self.others.append(path)
                continue
            self.videos.append(path.as_posix())
            self._by_name.setdefault(self._key(path.name), []).append(path.as_posix())
        self._known = set(self.videos)
        self.several: list[str] = []
        """Names that more than one file has; `find` takes the first."""

    def _key(self, name: str) -> str:
        name = PurePosixPath(name).name
        stem, dot, ending = name.rpartition(".")
        name = stem if dot and f".{ending.lower()}" in VIDEOS else name
        return name.lower() if self._any_case else name

    def has(self, name: str) -> bool:
        """Whether a video has that name, in whatever folder and format."""
        return self._key(name) in self._by_name

    def lists(self, *names: str) -> list[Path]:
        """Paths of the lists with one of the names, those nearest to the root first; capitals make no difference."""
        wanted = {name.lower() for name in names}
        found = [path for path in self.others if path.name.lower() in wanted]
        return [self.root / path for path in sorted(found, key=lambda path: (len(path.parts), path))]

    def list(self, *names: str) -> Path | None:
        """Path of the first list with one of the names, earlier names before later ones."""
        return next((path for name in names for path in self.lists(name)), None)

    def find(self, item: Item) -> Item | None:
        """Place of a video that a list names; None where it is not there.

        The name may be a path, a file name or an id. A clip cut out by its seconds is called ID_START_END, with or
        without leading zeros. Of several files, one in a folder of the class is taken before others, then one in a folder
        of the split, then a video before its images.
        """
        if item.path in self._known and item.start_seconds is None:
            return item
        if item.start_seconds is not None and item.end_seconds is not None:
            start, end = int(item.start_seconds), int(item.end_seconds)
            for cut in (f"{item.path}_{start:06d}_{end:06d}", f"{item.path}_{start}_{end}"):
                if paths := self._by_name.get(self._key(cut)):
                    return replace(item, path=self._chosen(paths, item), start_seconds=None, end_seconds=None)
        paths = self._by_name.get(self._key(item.path), [])
        return (
            replace(item, path=self._chosen(paths, item), may_be_cut=item.start_seconds is not None) if paths else None
        )

    def _chosen(self, paths: Sequence[str], item: Item) -> str:
        if len(paths) == 1:
            return paths[0]
        self.several.append(item.path)

        def rank(path: str) -> tuple[bool, bool, bool, str]:
            above = PurePosixPath(path).parts[:-1]
            return (
                plain(item.label) not in map(plain, above),
                item.split not in {SPLIT_NAMES.get(name.lower()) for name in above},
                PurePosixPath(path).suffix.lower() not in VIDEOS,
                path,
            )

        return min(paths, key=rank)


def labels_by_folder(files: Files) -> list[Item]:
    """Items of a set without lists: the class is the folder above a video, the split a folder named so further up."""
    items = []
    for path in files.videos:
        above = PurePosixPath(path).parts[:-1]
        if above and above[-1].lower() not in SPLIT_NAMES:
            splits = [SPLIT_NAMES[name.lower()] for name in above[:-1] if name.lower() in SPLIT_NAMES]
            items.append(Item(path, above[-1].replace("_", " "), split=splits[-1] if splits else ""))
    return items


def downloaded(standard: StandardSet, root: Path) -> None:
    """Get the public archives of a standard set into its root.

    Raises UserError, also for a set without public archives, with its page.
    """
    if not standard.archives:
        raise UserError(
            f"--download: no archive of {standard.name} is public. Download the set by hand\n\n{standard.about(root)}"
        )
    obtain(standard.archives, root)


def checked_root(standard: StandardSet, root: str | Path | None) -> Path:
    """Root of a standard set. Raises UserError with the page of the set where it is not given, missing or empty."""
    if root is None:
        raise UserError(f"--root: it is missing. Download the set, and name its folder\n\n{standard.about(None)}")
    path = Path(root)
    if not path.is_dir() or not any(path.iterdir()):
        fault = "it is empty" if path.is_dir() else "no such folder"
        raise UserError(f"{path}: {fault}. Download the set, and put it there\n\n{standard.about(path)}")
    return path


def listed(standard: StandardSet, root: Path) -> Listed:
    """Videos of a standard set below its root, by its lists, before they are decoded.

    Raises UserError with the page of the set where none of its videos is there.
    """
    files = Files(root, any_case=standard.any_case)
    lists = standard.read(files)
    warnings = list(lists.notes)
    found: list[Item] = []
    missing: list[Item] = []
    ungrouped: list[str] = []
    splits: dict[int, dict[str, str]] = {number: {} for number in lists.folds}
    for item in lists.items:
        if standard.group is not None:
            group = standard.group(item)
            if not group:
                ungrouped.append(item.path)
            item = replace(item, group=group or f"{item.label}/{PurePosixPath(item.path).stem}")
        place = files.find(item)
        if place is None:
            missing.append(item)
            continue
        found.append(place)
        for number, by_name in lists.folds.items():
            splits[number][place.path] = by_name.get(item.path, "unused")
    if not found:
        notes = "".join(f" ({note})" for note in lists.notes)
        raise UserError(f"{root}: it holds no video of the set{notes}. Put it there\n\n{standard.about(root)}")
    warnings += _differences(standard, lists)
    if ungrouped:
        warnings.append(
            f"of another form than {standard.ungrouped}, and a group of its own each: {plural(len(ungrouped), 'name')} (the "
            f"first: {ungrouped[0]})"
        )
    warnings += _passed_over(files, {item.path for item in found})
    found, again = _once(found)
    warnings += again
    items = sorted(found, key=lambda item: (item.label, item.path, item.start_seconds or 0, item.first_number or 0))
    return Listed(root, items, lists.classes, list(files.strays), warnings, splits, missing)


def _once(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Items without those that an other row names, too; of several splits the tested one is kept."""
    ranks = {"test": 0, "val": 1}
    first: dict[str, Item] = {}
    again: list[str] = []
    other: dict[str, str] = {}
    for item in items:
        before = first.setdefault(item.id, item)
        if before is not item:
            again.append(item.id)
            is_kept = ranks.get(item.split, 2) < ranks.get(before.split, 2)
            first[item.id], left = (item, before) if is_kept else (before, item)
            if left.label != first[item.id].label:
                other.setdefault(item.id, left.label)
    told = f"named again by another row, and left out there: {plural(len(again), 'video')}" if again else ""
    warnings = [f"{told} (the first: {again[0]})"] if again else []
    if other:
        id_, label = next(iter(other.items()))
        warnings.append(
            f"named with two labels, of which that of the tested, or else the first row is taken: {plural(len(other), 'video')} "
            f"(the first: {id_}, as {first[id_].label}, not {label})"
        )
    return list(first.values()), warnings


def reported(listed: Listed, standard: StandardSet) -> Listed:
    """Make the official validation split the test, where papers report on it, and keep groups on one side."""
    items, warnings = listed.items, list(listed.warnings)
    splits = Counter(item.split for item in items)
    if standard.reports_on_val and splits["val"] and not splits["test"]:
        items = [replace(item, split="test") if item.split == "val" else item for item in items]
        warnings.append(
            f"no labels of the test are public: the official validation split ({plural(splits['val'], 'video')}) is the "
            "test here, as papers report on it. Validation is cut from train (--val)"
        )
    sides: dict[str, set[str]] = {}
    for item in items:
        if item.group and item.split not in ("", "unused"):
            sides.setdefault(item.group, set()).add(item.split)
    torn = {group for group, splits_of in sides.items() if len(splits_of) > 1}
    if torn:
        tested = sum(item.group in torn and item.split == "test" for item in items)
        warnings.append(
            f"the official split has {plural(len(torn), 'source')} on several sides: {plural(tested, 'test video')} come from "
            "a source that training or validation has, too. The split stays as it is published"
        )
        items = [replace(item, group=f"{item.split}/{item.group}") if item.group in torn else item for item in items]
    return replace(listed, items=items, warnings=warnings)


def _differences(standard: StandardSet, lists: Lists) -> list[str]:
    """Sentences about what the lists have and the publication does not, or the other way round."""
    told = []
    if len(lists.classes) != standard.num_classes:
        told.append(f"the lists have {plural(len(lists.classes), 'class')}, published are {standard.num_classes}")
    counts = Counter(item.split for item in lists.items)
    counts["videos"] = len(lists.items)
    for split, published in standard.counts.items():
        if counts[split] != published:
            noun = "video" if split == "videos" else f"{split} video"
            told.append(f"the lists have {plural(f'{counts[split]:,}', noun)}, published are {published:,}")
    for number, published_of in standard.fold_counts.items():
        in_fold = Counter(lists.folds.get(number, {}).values())
        for split, published in published_of.items():
            if number in lists.folds and in_fold[split] != published:
                told.append(
                    f"list {number} has {plural(f'{in_fold[split]:,}', f'{split} video')}, published are {published:,}"
                )
    if absent := [str(number) for number in standard.fold_counts if number not in lists.folds]:
        told.append(f"official split {', '.join(absent)}: its lists are not there, so the manifest does not have it")
    return told


def _passed_over(files: Files, used: set[str]) -> list[str]:
    """Sentences about the files that are not read, a kind each."""
    told = []
    kinds: dict[str, list[Path]] = {}
    for path in files.others:
        kinds.setdefault(path.suffix.lower() or "no ending", []).append(path)
    if kinds:
        counts = ", ".join(f"{plural(len(paths), 'file')} with {ending}" for ending, paths in sorted(kinds.items()))
        told.append(f"passed over, as their endings are not those of videos: {counts}")
    unlisted = [path for path in files.videos if path not in used]
    if unlisted:
        told.append(f"left out, as no list names them: {plural(len(unlisted), 'video')} (the first: {unlisted[0]})")
    if files.several:
        told.append(
            f"there more than once, of which one file is read: {plural(len(files.several), 'video')} (the first: "
            f"{files.several[0]})"
        )
    return told


def no_lists(standard: str, files: Files, names: Iterable[str]) -> UserError:
    """Error for a root without the lists of a set."""
    return UserError(
        f"{files.root}: the lists of {standard} are not there ({', '.join(names)}). Put them anywhere below it; "
        f"`muybridge prepare --set {standard}` says where they are published"
    )
