"""UCF50: 50 actions without official lists; the class and the recording are in the names (v_CLASS_gNN_cNN.avi)."""

from pathlib import PurePosixPath

from muybridge.data.prepare.folders import Item
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.base import Files, Lists, StandardSet
from muybridge.data.sets.ucf101 import NAME, group


def read(files: Files) -> Lists:
    """Take the classes from the names."""
    matches = {path: NAME.match(PurePosixPath(path).name) for path in files.videos}
    items = [Item(path, match["label"]) for path, match in matches.items() if match]
    return Lists(items, sorted({item.label for item in items}))


SET = StandardSet(
    name="ucf50",
    title="UCF50",
    source="Reddy, Shah 2012",
    page="""
Get UCF50.rar from https://www.crcv.ucf.edu/research/data-sets/ucf50/ and unpack it:

  UCF50/BaseballPitch/v_BaseballPitch_g01_c01.avi …   (or folders of frames of these names)
""",
    protocol="No official split: the authors leave the groups of one number out, 25 times. Here it is one split by group, or "
    "--folds K, where each class has its own order of groups. A group is a class and its recording (g01 to g25).",
    num_classes=50,
    counts={"videos": 6_618},
    read=read,
    group=group,
    ungrouped="v_CLASS_gNN_cNN",
    archives=(Archive(("https://www.crcv.ucf.edu/data/UCF50.rar",), ""),),
)
