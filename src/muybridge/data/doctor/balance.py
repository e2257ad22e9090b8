"""Balance: splits that are missing, classes that are missing from a split, and classes of very different sizes."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from muybridge.data.doctor.finding import Case, Finding
from muybridge.data.overview import is_unbalanced
from muybridge.text import plural


def splits(case: Case) -> Iterator[Finding]:
    """Findings on splits without videos, and on classes without videos in a split that has some."""
    for column in case.manifest.split_columns:
        split = case.manifest.text(column)
        labels = case.manifest.text("label")
        if not (split == "train").any():
            continue  # a set to evaluate on
        if not (split == "test").any():
            rest = (
                "accuracy will be that of val, on which settings are chosen"
                if (split == "val").any()
                else "nothing is tested"
            )
            yield Finding(
                "no-test", "fault", f"{column}: the set has no test split; {rest}", "muybridge prepare … --test 0.2"
            )
        for part, name_of in (("train", "training"), ("test", "the test"), ("val", "the validation split")):
            present = set(labels[split == part].tolist())
            absent = [name for name in case.manifest.classes if name not in present]
            if absent and present:
                more = f" and {len(absent) - 8} more" if len(absent) > 8 else ""
                yield Finding(
                    f"absent-from-{part}", "fault" if part != "val" else "doubt",
                    f"{column}: {name_of} holds no video of {', '.join(absent[:8])}{more}", figures={"classes": absent},
                )  # fmt: skip
        if not (split == "val").any():
            yield Finding(
                "no-val", "note", f"{column}: the set has no validation split; curves will show training only"
            )


def classes(case: Case) -> Iterator[Finding]:
    """Finding on classes of very different sizes."""
    counts = Counter(case.manifest.text("label").tolist()).most_common()
    (most, count), (least, fewest) = counts[0], counts[-1]
    if is_unbalanced(np.array([number for _, number in counts])):
        yield Finding(
            "uneven-classes", "doubt",
            f"{plural(count, 'clip')} of {most}, {fewest} of {least}: whoever always says {most} is right on "
            f"{count / len(case.manifest):.0%}. Look at the mean over classes, too (mean class; docs/imbalance.md)",
            figures={"most": count, "fewest": fewest},
        )  # fmt: skip
