"""Section on stored vectors: is there enough change along a video for a recurrent net to learn from?"""

from muybridge.reporting.charts.change import change as chart
from muybridge.reporting.sections.parts import Chapter, Figure, Section, Table

LITTLE = 0.25
"""Change from the first vector to the last, in units of two random ones, below which a video is nearly a still."""


def change(chapter: Chapter) -> Section | None:
    """Section with a row a class, the one that changes most first; None for videos."""
    stored = chapter.comparison.dataset.features
    if stored is None or "change" not in stored:
        return None
    by_class, videos = stored["change"]["classes"], stored["change"]["videos"]
    names = sorted(by_class, key=lambda name: -by_class[name]["first"][-1])
    rows = [
        [name, f"{first[len(first) // 2]:.2f}", f"{first[-1]:.2f}", f"{by_class[name]['previous']:.3f}"]
        for name in names
        for first in [by_class[name]["first"]]
    ]
    still = sum(by_class[name]["first"][-1] < LITTLE for name in names)
    verdict = (
        f"In {still} of {len(names)} classes the last vector of a video is nearly its first (below {LITTLE:g}): there, a "
        "recurrent net sees little more than a still."
        if still
        else f"In every class the last vector of a video is at least {LITTLE:g} from its first: there is change to learn from."
    )
    return Section(
        title="Change of vectors over time",
        text=(f"Vectors of {stored['source']}. {verdict} The means of two videos are {videos:.2f} apart.",),
        tables=(
            *_stage_one(chapter),
            Table(["class", "first to middle", "first to last", "from the vector before"], rows, name="change"),
        ),
        figures=(
            Figure(
                "change",
                "Distance from a video's first vector, by place in the video, a line a class: "
                + ", ".join(f"{name} {by_class[name]['first'][-1]:.2f} at the end" for name in names),
                chart(by_class),
            ),
        ),
        caption="Root mean squares over videos of all splits, in units of the distance between two vectors of the set taken at "
        "random: 1 is as different as any two. Whether the order of what changes tells classes apart, `muybridge "
        "diagnose` says.",
    )


def _stage_one(chapter: Chapter) -> tuple[Table, ...]:
    """Table of the network behind the vectors: accuracy of a frame and of a video; none where it has no classifier."""
    recipe = chapter.comparison.protocol
    fold = None if recipe is None else recipe.data.fold
    stored = chapter.comparison.dataset.features or {}
    of_splits = stored.get("accuracy", {}).get("split" if fold is None else f"split_{fold}", {})
    if not of_splits:
        return ()
    keys = [key for key in next(iter(of_splits.values())) if "_top" in key]
    of_clips = stored.get("options", {}).get("clip_frames", 1) > 1
    rows = [
        [split, str(found["videos"]), str(found["trained_on"]), *(f"{found[key]:.3f}" for key in keys)]
        for split, found in of_splits.items()
    ]
    header = [
        "image network, split",
        "videos",
        "trained on",
        *(key.replace("frame", "clip" if of_clips else "frame").replace("_top", " top-") for key in keys),
    ]
    return (Table(header, rows, name="stage-one"),)
