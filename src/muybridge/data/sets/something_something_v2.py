"""Something-Something V2: 174 templates of what hands do with things, by JSON lists."""

from pathlib import Path

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.tables import read_table
from muybridge.data.sets.base import Files, Lists, StandardSet, no_lists
from muybridge.errors import UserError
from muybridge.runtime.files import read_as

_BEFORE = ("something-something-v2-", "")
"""Beginnings of the lists' names: of the first publication, and of Qualcomm's packages."""


def read(files: Files) -> Lists:
    """Read the lists of train and validation; brackets of templates are stripped."""
    items: list[Item] = []
    for split, name in (("train", "train"), ("val", "validation")):
        file = files.list(*(f"{before}{name}.json" for before in _BEFORE))
        if file is not None:
            items += _list_items(file, split)
    if not items:
        raise no_lists(
            "something_something_v2",
            files,
            ["something-something-v2-train.json", "something-something-v2-validation.json"],
        )
    file = files.list(*(f"{before}labels.json" for before in _BEFORE))
    present = {item.label for item in items}
    if file is None:
        return Lists(items, sorted(present))
    numbers = read_as(dict[str, int], file)
    if other := sorted(present - numbers.keys()):
        raise UserError(f"{file}: it does not name '{other[0]}', a template of the lists. Restore it, or remove it")
    return Lists(items, [name for name in sorted(numbers, key=lambda name: numbers[name]) if name in present])


def _list_items(file: Path, split: str) -> list[Item]:
    table = read_table(file)
    for column in ("id", "template"):
        if column not in table.columns:
            raise UserError(f"{file}: its entries have no {column}. Restore the list")
    items = []
    for place, row in table.rows:
        id_, label = row.get("id", ""), row.get("template", "").replace("[", "").replace("]", "")
        if not id_ or not label:
            raise UserError(f"{file}, {place}: it has no id, or no template that is text. Restore the list")
        items.append(Item(id_, label, split=split))
    return items


SET = StandardSet(
    name="something_something_v2",
    title="Something-Something V2",
    source="Goyal et al. 2017",
    page="""
Get from https://www.qualcomm.com/developer/software/something-something-v-2-dataset (with a login) the parts
20bn-something-something-v2-00 … and the labels, and unpack all below one folder:

  20bn-something-something-v2/1.webm …   (or folders of frames 1/00001.jpg …)
  something-something-v2-train.json, -validation.json, -labels.json (or labels/train.json, …)
""",
    protocol="Labels of the test are not public, so papers report on the official validation split: it is the test here, and "
    "validation is cut from train. Who filmed a video is not published, so there are no groups. Where a template names a "
    "side, a mirrored clip has the label of the other side.",
    num_classes=174,
    counts={"train": 168_913, "val": 24_777},
    read=read,
    reports_on_val=True,
)
