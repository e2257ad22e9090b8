"""Diving48: 48 dives that differ only in their course, by JSON lists (version 2 corrects the labels)."""

import re
from pathlib import Path, PurePosixPath

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.tables import read_table
from muybridge.data.sets.base import Files, Lists, StandardSet, no_lists
from muybridge.errors import UserError
from muybridge.runtime.files import read_as


def group(item: Item) -> str:
    """Competition that a clip was cut from: its name without the number at the end."""
    return re.sub(r"_\d+$", "", PurePosixPath(item.path).name)


def read(files: Files) -> Lists:
    """Read the lists of train and test, and the names of the dives."""
    lists = {split: files.list(f"Diving48_V2_{split}.json", f"Diving48_{split}.json") for split in ("train", "test")}
    vocabulary = files.list("Diving48_vocab.json")
    if lists["train"] is None or lists["test"] is None or vocabulary is None:
        raise no_lists("diving48", files, ["Diving48_V2_train.json", "Diving48_V2_test.json", "Diving48_vocab.json"])
    classes = ["+".join(words) for words in read_as(list[list[str]], vocabulary)]
    items = [item for split, file in lists.items() if file for item in _list_items(file, split, classes)]
    old = [file.name for file in lists.values() if file and "_V2_" not in file.name]
    notes = [f"{' and '.join(old)}: version 1, whose labels are corrected in version 2 (Diving48_V2_…)"] if old else []
    present = {item.label for item in items}
    return Lists(items, [name for name in classes if name in present], notes=notes)


def _list_items(file: Path, split: str, classes: list[str]) -> list[Item]:
    """Items of a list. Its frames are not read, as every dive is a file of its own."""
    items = []
    for place, row in read_table(file).rows:
        name, label = row.get("vid_name", ""), row.get("label", "")
        if not name or not re.fullmatch("[0-9]{1,4}", label) or int(label) >= len(classes):
            raise UserError(
                f"{file}, {place}: it has no vid_name, or no label from 0 to {len(classes) - 1}. Restore the list"
            )
        items.append(Item(name, classes[int(label)], split=split))
    return items


SET = StandardSet(
    name="diving48",
    title="Diving48 V2",
    source="Li, Li, Vasconcelos 2018",
    page="""
Get from http://www.svcl.ucsd.edu/projects/resound/dataset.html the clips (Diving48_rgb.tar.gz), the lists of version 2
and the vocabulary, and unpack all below one folder:

  rgb/2x00lRzlTVQ_00000.mp4 …   (or folders of frames of these names)
  Diving48_V2_train.json, Diving48_V2_test.json, Diving48_vocab.json
""",
    protocol="One official split, train and test. Clips of one competition are on both sides. Validation is cut from train by "
    "competition.",
    num_classes=48,
    counts={"train": 15_027, "test": 1_970},
    read=read,
    group=group,
)
