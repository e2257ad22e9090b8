"""Section on the data set: its splits, as `muybridge describe` shows them."""

from muybridge.data.overview import HEADER
from muybridge.reporting.sections.parts import Chapter, Section, Table
from muybridge.text import thousands


def overview(chapter: Chapter) -> Section:
    """Section with a row a split, from the manifest, or else from what the runs store."""
    dataset = chapter.comparison.dataset
    recipe = chapter.comparison.protocol
    fold = None if recipe is None else recipe.data.fold
    of_fold = "" if fold is None else " Splits are those of the first run's fold."
    end = of_fold if dataset.sha256 is None else f"{of_fold} Its sha256: {dataset.sha256} (muybridge verify MANIFEST)."
    of_whom = "of the truth" if recipe is None else "that the runs were trained with"
    if dataset.overview is not None:
        return Section(
            title="Data",
            tables=(Table(HEADER, [split.cells() for split in dataset.overview.splits], name="data"),),
            caption=f"By the manifest {of_whom}. Width × height: the smallest and the largest frames by "
            f"area, and how many sizes there are. Videos a class: of the rarest and of the most common class.{end}",
        )
    stored = (
        "Only the labels of the test are known"
        if recipe is None
        else "Only what the runs store is shown, as the manifest cannot be used"
    )
    sizes, counts = dataset.split_sizes, dataset.class_sizes or {}
    rows = []
    for split, count in sizes.items():
        counts_K = counts.get(split)
        classes = "–" if counts_K is None else str(int((counts_K > 0).sum()))
        span = "–" if counts_K is None else f"{thousands(int(counts_K.min()))} – {thousands(int(counts_K.max()))}"
        rows.append([split, thousands(count), classes, span])
    return Section(
        title="Data",
        text=(f"{stored}: {dataset.problem.rstrip('.')}.",),
        tables=(Table(["split", "videos", "classes", "videos a class"], rows, name="data"),),
        caption=f"Videos a class: of the rarest and of the most common class.{end}",
    )
