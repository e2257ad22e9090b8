"""Moments in Time: clips of three seconds, by CSV lists of `path,label,…` without a header."""

import re
from pathlib import PurePosixPath

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.lists import numbered_lines
from muybridge.data.prepare.tables import read_table
from muybridge.data.sets.base import Files, Lists, StandardSet, no_lists
from muybridge.errors import UserError


def group(item: Item) -> str:
    """Source of a clip: its name without the number of the clip (`yt-ID_12.mp4`)."""
    return re.sub(r"_\d+$", "", PurePosixPath(item.path).stem)


def read(files: Files) -> Lists:
    """Read the lists of training and validation."""
    items: list[Item] = []
    for split, name in (("train", "trainingSet.csv"), ("val", "validationSet.csv")):
        file = files.list(name)
        if file is None:
            continue
        for place, row in read_table(file, columns=("path", "label")).rows:
            path, label = (row.get("path") or "").strip(), (row.get("label") or "").strip()
            if not path or not label:
                raise UserError(f"{file}, {place}: it is not `path,label,…`. Restore the list")
            items.append(Item(path, label, split=split))
    if not items:
        raise no_lists("moments_in_time", files, ["trainingSet.csv", "validationSet.csv"])
    present = {item.label for item in items}
    file = files.list("moments_categories.txt", "category_momentsv2.txt")
    order = [re.sub(r",\d+$", "", text) for _, text in numbered_lines(file)] if file else sorted(present)
    if other := sorted(present - set(order)):
        raise UserError(f"{file}: it does not name '{other[0]}', a class of the lists. Restore it, or remove it")
    return Lists(items, [name for name in order if name in present])


SET = StandardSet(
    name="moments_in_time",
    title="Moments in Time",
    source="Monfort et al. 2019",
    page="""
Ask for it at http://moments.csail.mit.edu (version 2, 305 classes; version 1, 339 classes, has not been given out since
2021) and unpack it:

  Moments_in_Time_Raw/training/CLASS/… .mp4, validation/CLASS/… .mp4
  Moments_in_Time_Raw/trainingSet.csv, validationSet.csv, moments_categories.txt
""",
    protocol="Labels of the test are not public, so papers report on the official validation split: it is the test here, and "
    "validation is cut from train. A group is the source that a name tells.",
    num_classes=305,
    counts={"train": 727_305, "val": 30_500},
    read=read,
    group=group,
    reports_on_val=True,
)
