"""Jester: 27 gestures in front of a webcam, as folders of frames, by lists of `ID;label`."""

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.lists import numbered_lines
from muybridge.data.sets.base import Files, Lists, StandardSet, no_lists
from muybridge.errors import UserError


def read(files: Files) -> Lists:
    """Read the lists of train and validation."""
    items: list[Item] = []
    for split, name in (("train", "train"), ("val", "validation")):
        file = files.list(f"jester-v1-{name}.csv", f"{name}.csv")
        for line, text in numbered_lines(file) if file else []:
            id_, mark, label = text.partition(";")
            if not mark or not id_.strip() or not label.strip():
                raise UserError(f"{file}, line {line}: '{text}' is not `ID;label`. Restore the list")
            items.append(Item(id_.strip(), label.strip(), split=split))
    if not items:
        raise no_lists("jester", files, ["jester-v1-train.csv", "jester-v1-validation.csv"])
    present = {item.label for item in items}
    file = files.list("jester-v1-labels.csv", "labels.csv")
    order = [text for _, text in numbered_lines(file)] if file else sorted(present)
    if other := sorted(present - set(order)):
        raise UserError(f"{file}: it does not name '{other[0]}', a class of the lists. Restore it, or remove it")
    return Lists(items, [name for name in order if name in present])


SET = StandardSet(
    name="jester",
    options=" --image-fps 12",
    title="Jester",
    source="Materzynska et al. 2019",
    page="""
Get from https://www.qualcomm.com/developer/software/jester-dataset (with a login) the parts 20bn-jester-v1-00 … and
the labels, and unpack all below one folder:

  20bn-jester-v1/1/00001.jpg …   (12 frames a second: --image-fps 12)
  jester-v1-train.csv, jester-v1-validation.csv, jester-v1-labels.csv
""",
    protocol="Labels of the test are not public, so papers report on the official validation split: it is the test here, and "
    "validation is cut from train. Who filmed a video is not published, so there are no groups. Mirrored clips swap left "
    "and right, clockwise and counterclockwise.",
    num_classes=27,
    counts={"train": 118_562, "val": 14_787},
    read=read,
    reports_on_val=True,
)
