"""UCF11 (UCF YouTube Action): 11 actions in CLASS/v_NAME_NN/v_NAME_NN_MM.mpg, without official lists."""

import re
from pathlib import PurePosixPath

from muybridge.data.prepare.folders import Item
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.base import Files, Lists, StandardSet

CLASSES = (
    "basketball", "biking", "diving", "golf_swing", "horse_riding", "soccer_juggling", "swing", "tennis_swing",
    "trampoline_jumping", "volleyball_spiking", "walking",
)  # fmt: skip
_NAME = re.compile(r"v_.+_(\d+)_\d+[^/]*$")


def group(item: Item) -> str:
    """Class and number of the recording; empty for another name."""
    match = _NAME.search(item.path)
    return f"{item.label}/{match[1]}" if match else ""


def read(files: Files) -> Lists:
    """Take the classes from the folders: a published class, or whatever holds folders of recordings."""
    items = []
    for path in files.videos:
        *above, name = PurePosixPath(path).parts
        label = next((part for part in above if part in CLASSES), None)
        if label is None and len(above) > 1 and _NAME.fullmatch(name) and name.startswith(f"{above[-1]}_"):
            label = above[-2]
        if label is not None:
            items.append(Item(path, label))
    present = {item.label for item in items}
    return Lists(items, [*(name for name in CLASSES if name in present), *sorted(present - set(CLASSES))])


SET = StandardSet(
    name="ucf11",
    title="UCF11 (UCF YouTube Action)",
    source="Liu, Luo, Shah 2009",
    page="""
Get UCF11_updated_mpg.rar from https://www.crcv.ucf.edu/data/UCF_YouTube_Action.php and unpack it:

  UCF11_updated_mpg/basketball/v_shooting_01/v_shooting_01_01.mpg …   (the folders Annotation may stay)
""",
    protocol="No official split: the authors leave the groups of one number out, 25 times. Here it is one split by group, or "
    "--folds K, where each class has its own order of groups. A group is a class and its recording (the first number of a name).",
    num_classes=11,
    counts={"videos": 1_600},
    read=read,
    group=group,
    ungrouped="v_NAME_NN_MM",
    archives=(Archive(("https://www.crcv.ucf.edu/data/UCF11_updated_mpg.rar",), ""),),
)
