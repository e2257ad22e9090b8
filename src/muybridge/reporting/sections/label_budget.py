"""Section on what more labels would buy."""

from muybridge.analysis.label_budget import curves
from muybridge.analysis.statistics import SEEDS_OF_A_CLAIM
from muybridge.reporting.charts import label_budget as charts
from muybridge.reporting.sections.parts import Chapter, Figure, Section, Table


def label_budget(chapter: Chapter) -> Section | None:
    """Section with accuracy against the number of training videos, and the fitted curve at twice as many."""
    c = chapter.comparison
    found = curves(c)
    if not found or c.protocol is None:
        return None
    measured = [
        [
            curve.name,
            f"{model.recipe.data.train_share:g}",
            f"{videos:.0f}",
            str(one),
            f"{max(model.steps)}",
            str(model.num_seeds),
        ]
        for curve in found
        for model, videos, one in zip(curve.models, curve.videos, curve.accuracies, strict=True)
    ]
    fitted = [
        [curve.name, f"{curve.fit[0]:.3g} n^{-curve.fit[1]:.2f}", f"{curve.misfit:.3f}" if len(curve.videos) > 2 else "–",
         f"{curve.twice:.0f}", str(curve.at_twice), str(curve.gain)]
        for curve in found
    ]  # fmt: skip
    recipe = c.protocol
    fixed = "steps (optim.steps)" if recipe.optim.steps is not None else "epochs, so fewer videos are fewer steps"
    few = min(curve.num_seeds for curve in found)
    rough = (
        f" With {few} {'seed' if few == 1 else 'seeds'} what seeds vary by is {'not in it' if few == 1 else 'hardly known'}."
        if few < SEEDS_OF_A_CLAIM
        else ""
    )
    spoken = "Over training videos, and by the curve at twice as many: " + "; ".join(
        f"{curve.name} {', '.join(f'{one.value:.3f}' for one in curve.accuracies)}, {curve.at_twice.value:.3f}"
        for curve in found
    )
    return Section(
        title="Label budget",
        text=tuple(map(str, found)),
        tables=(
            Table(["model", "share", "training videos", f"{c.measured} [95 %]", "steps", "seeds"], measured, name="label-budget"),
            Table(
                ["model", "error by the curve", "largest misfit", "videos", "accuracy there [95 %]", "gain [95 %]"], fitted,
                name="label-budget-curves",
            ),
        ),
        figures=(Figure("label-budget", spoken, charts.over_videos(c, found)),),
        has_key=True,
        caption=(
            "A smaller share lies in a larger one, by whole groups where the set has groups; each seed draws its own. Held "
            f"fixed: the test, the validation videos and the {fixed}. The curve is a power law of the error, b n^-c (Hestness "
            "et al. 2017), fitted over logarithms; the interval at twice the videos is over the test's groups (or videos) "
            f"and seeds. It takes the law for granted: a curve that levels off would reach less.{rough}"
        ),
    )  # fmt: skip
