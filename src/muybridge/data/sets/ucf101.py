"""UCF101: 13,320 videos of 101 actions, three official splits (trainlist01.txt, testlist01.txt, …; classInd.txt)."""

import re
from collections.abc import Mapping

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.lists import class_names, in_order, numbered_lines
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.base import Files, Lists, StandardSet, no_lists
from muybridge.errors import UserError

NAME = re.compile(r"v_(?P<label>.+)_(?P<group>g\d+)_c\d+")
"""v_CLASS_gNN_cNN, of UCF50 and UCF101."""


def group(item: Item) -> str:
    """Class and number of the recording; empty for another name."""
    match = NAME.search(item.path)
    return f"{item.label}/{match['group']}" if match else ""


def read(files: Files) -> Lists:
    """Read whichever of the three splits are there."""
    labels: dict[str, str] = {}
    folds: dict[int, dict[str, str]] = {}
    index = files.list("classInd.txt")
    classes = class_names(index) if index else []
    marks = {name: (mark, str(index)) for mark, name in classes.items()} if isinstance(classes, Mapping) else {}
    for number in (1, 2, 3):
        lists = {split: files.list(f"{split}list{number:02d}.txt") for split in ("train", "test")}
        if lists["train"] is None or lists["test"] is None:
            continue
        fold = folds.setdefault(number, {})
        for split, file in lists.items():
            for line, text in numbered_lines(file) if file else []:
                name, *mark = text.split()
                label, *below = name.split("/")
                if not below or {label, *below} & {"", ".", ".."} or not re.fullmatch("([0-9]{1,9})?", " ".join(mark)):
                    raise UserError(
                        f"{file}, line {line}: '{text}' is not CLASS/v_CLASS_gNN_cNN.avi, with or without the number of its "
                        "class. Restore the list"
                    )
                if mark:
                    known, where = marks.setdefault(label, (int(mark[0]), f"{file}, line {line}"))
                    if known != int(mark[0]):
                        raise UserError(
                            f"{file}, line {line}: '{name}' has the number {mark[0]}, and {label} has {known} in {where}. "
                            "Restore the lists"
                        )
                if fold.setdefault(name, split) != split:
                    raise UserError(f"{file}, line {line}: '{name}' is in the list of train, too. Restore the lists")
                labels[name] = label
    if not folds:
        raise no_lists("ucf101", files, ["trainlist01.txt", "testlist01.txt", "…"])
    order = in_order(classes) if index else sorted(set(labels.values()))
    if other := sorted(set(labels.values()) - set(order)):
        raise UserError(f"{index}: it does not name {other[0]}, a class of the lists. Restore it, or remove it")
    present = set(labels.values())
    return Lists(
        [Item(name, label) for name, label in labels.items()], [name for name in order if name in present], folds
    )


SET = StandardSet(
    name="ucf101",
    title="UCF101",
    source="Soomro, Zamir, Shah 2012",
    page="""
Get from https://www.crcv.ucf.edu/research/data-sets/ucf101/ the videos (UCF101.rar) and the lists
(UCF101TrainTestSplits-RecognitionTask.zip), and unpack both below one folder:

  UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi …   (or folders of frames of these names)
  ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt, … to 03
""",
    protocol="Three official splits that share videos: each is trained by itself, and the mean of the three is reported. A "
    "group is a class and its recording (g01 to g25). Validation is cut from train by group.",
    num_classes=101,
    counts={"videos": 13_320},
    fold_counts={
        1: {"train": 9_537, "test": 3_783}, 2: {"train": 9_586, "test": 3_734}, 3: {"train": 9_624, "test": 3_696},
    },
    read=read,
    group=group,
    ungrouped="v_CLASS_gNN_cNN",
    archives=(
        Archive(("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",), ""),
        Archive(
            (
                "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
                "https://www.crcv.ucf.edu/wp-content/uploads/2019/03/UCF101TrainTestSplits-RecognitionTask.zip",
            ),
            "",
        ),
    ),
    any_case=True,
)  # fmt: skip
