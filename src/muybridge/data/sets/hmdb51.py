"""HMDB51: 51 actions of films, three official splits of 70 and 30 videos a class (CLASS_test_splitN.txt)."""

import re
from pathlib import Path

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.lists import numbered_lines
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.base import Files, Lists, StandardSet, no_lists
from muybridge.errors import UserError

_LIST = re.compile(r"(?P<label>.+)_test_split(?P<number>[123])\.txt")
_SPLITS = {"0": "unused", "1": "train", "2": "test"}
_ENDING = r"_{label}_[fulh]_(cm|nm)_np\d_(ba|fr|le|ri)_(bad|med|goo)_\d+\.avi"
"""The rest of a name behind the film: class, visible parts, camera, people, view, quality, number."""


def group(item: Item) -> str:
    """Class and film; empty for a name that has another form."""
    match = re.fullmatch(rf"(.+){_ENDING.format(label=re.escape(item.label))}", item.path)
    return f"{item.label}/{match[1]}" if match else ""


def read(files: Files) -> Lists:
    """Read whichever of the three splits are there."""
    lists: dict[tuple[int, str], Path] = {}
    for path in sorted(files.others, key=lambda path: (len(path.parts), path)):
        if match := _LIST.fullmatch(path.name):
            lists.setdefault((int(match["number"]), match["label"]), files.root / path)
    labels: dict[str, str] = {}
    folds: dict[int, dict[str, str]] = {}
    for (number, label), file in sorted(lists.items()):
        fold = folds.setdefault(number, {})
        for line, text in numbered_lines(file):
            name, _, mark = text.rpartition(" ")
            if mark not in _SPLITS or not name:
                raise UserError(f"{file}, line {line}: '{text}' is not NAME.avi and 0, 1 or 2. Restore the list")
            name = name.strip()
            if labels.setdefault(name, label) != label:
                raise UserError(f"{file}, line {line}: '{name}' is in a list of {labels[name]}, too. Restore the lists")
            if fold.setdefault(name, _SPLITS[mark]) != _SPLITS[mark]:
                raise UserError(f"{file}, line {line}: '{name}' has two marks in this list. Restore the list")
    if not folds:
        raise no_lists("hmdb51", files, ["brush_hair_test_split1.txt", "…"])
    return Lists([Item(name, label) for name, label in labels.items()], sorted(set(labels.values())), folds)


_FOLD = {"train": 3_570, "test": 1_530, "unused": 1_666}

SET = StandardSet(
    name="hmdb51",
    title="HMDB51",
    source="Kuehne et al. 2011",
    page="""
The authors' server is gone. A copy is https://huggingface.co/datasets/MichiganNLP/hmdb (hmdb51_org.zip and
test_train_splits.zip). Unpack both below one folder:

  hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi …   (or folders of frames of these names)
  testTrainMulti_7030_splits/brush_hair_test_split1.txt …             (1: train, 2: test, 0: unused)
""",
    protocol="Three official splits that share videos: each is trained by itself, and the mean of the three is reported. A "
    "group is a class and its film. Validation is cut from train by group.",
    num_classes=51,
    counts={"videos": 6_766},
    fold_counts={1: _FOLD, 2: _FOLD, 3: _FOLD},
    read=read,
    group=group,
    ungrouped="FILM_CLASS_[fulh]_(cm|nm)_npN_VIEW_QUALITY_N.avi",
    archives=(
        Archive(
            ("https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/main/hmdb51_org.zip",),
            "hmdb51_org",
            4_246_812_958,
            "2d652f386debd04ae8f83508faacb959c03c9cbf1176fc76848b73cda4d52e57",
        ),
        Archive(
            ("https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/main/test_train_splits.zip",),
            "test_train_splits",
            222_848,
            "12df0053bd9d570817edb10d2299030f43646969d5d42ff40200249b45ab2efa",
        ),
    ),
    any_case=True,
)
