"""Sections on how sure models are: calibration, accuracy against coverage, clips of no class."""

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.coverage import COVERAGES
from muybridge.reporting.charts import accuracy
from muybridge.reporting.charts.coverage import coverage as coverage_chart
from muybridge.reporting.sections.parts import MOST_LINES, MOST_MATRICES, Chapter, Section, Table, figures, share
from muybridge.text import listed, plural


def calibration(chapter: Chapter) -> Section | None:
    """Section on how far confidence is from accuracy, and what temperatures make of it; None where no model has scores."""
    c = chapter.comparison
    bins = [(model, of, model.loss) for model in c.models if (of := model.calibration) is not None]
    if not bins:
        return None
    lines = [
        [model.name, f"{of.error:.3f}", f"{of.overconfidence:+.3f}", f"{model.accuracy.value + of.overconfidence:.3f}",
         f"{model.accuracy.value:.3f}", share(loss)]
        for model, of, loss in bins
    ]  # fmt: skip
    drawn = f" Drawn for the {MOST_MATRICES} best." if len(c.models) > MOST_MATRICES else ""
    spoken = "Accuracy over confidence. " + "; ".join(
        f"{model.name}: error {of.error:.3f}, "
        f"{'over' if of.overconfidence > 0 else 'under'}confident by {abs(of.overconfidence):.3f}"
        for model, of, _ in bins
    )
    header = ["model", "calibration error", "overconfidence", "mean confidence", "accuracy", "loss"]
    tables = [Table(header, lines, name="calibration")]
    if any(model.calibrated for model in c.models):
        tables.append(_temperatures(c))
    few = [
        f"{model.name} ({plural(len(of.bins), 'bin')})"
        for model, of, _ in bins[:MOST_MATRICES]
        if len(of.bins) < accuracy.FEWEST_BINS
    ]
    chart = accuracy.reliability(c, MOST_MATRICES)
    return Section(
        title="Calibration",
        text=(f"No line is drawn of {listed(few)}: the probabilities of the answers lie in too few of 15 bins.",)
        if few
        else (),
        tables=tuple(tables),
        figures=figures("calibration", spoken, chart),
        has_key=chart is not None,
        caption=(
            "A model whose points lie on the dashed line is right as often as it says; below the line it is too sure. "
            "Calibration error: the mean over videos of the distance from the line, in 15 bins of equal width (expected "
            "calibration error, Guo et al. 2017). Loss: the mean negative log probability of the label. Videos of all seeds "
            "together, as the network says it, before any temperature. muybridge calibrate RUN fits one on val; what it makes "
            f"of the test is in a table of its own then.{drawn}"
        ),
    )


def _temperatures(c: Comparison) -> Table:
    """Table of calibrated models: the test before and after."""
    lines = []
    for model in c.models:
        before, after, loss = model.calibration, model.calibrated, model.loss_calibrated
        if before is None or after is None or loss is None:
            continue
        low, high = min(model.temperatures), max(model.temperatures)
        lines.append([
            model.name, f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}",
            f"{before.error:.3f}", f"{after.error:.3f}", f"{before.overconfidence:+.3f}",
            f"{after.overconfidence:+.3f}", share(model.loss), f"{loss:.3f}",
        ])  # fmt: skip
    header = [
        "calibrated on val", "temperature", "calibration error before", "after", "overconfidence before", "after",
        "loss before", "after",
    ]  # fmt: skip
    return Table(header, lines, name="temperatures")


def coverage(chapter: Chapter) -> Section | None:
    """Section on the accuracy of the surest answers, on thresholds, and on clips of no class.

    None where no model has scores.
    """
    c = chapter.comparison
    covered = [(model, of) for model in c.models if (of := model.risk_coverage) is not None]
    if not covered:
        return None
    header = ["model", *(f"accuracy at {cover:.0%}" for cover in COVERAGES), "area under risk and coverage"]
    lines = [
        [
            model.name,
            *(f"{of.accuracy(cover):.3f}" for cover in COVERAGES),
            f"{of.area:.4f}",
        ]
        for model, of in covered
    ]
    tables = [Table(header, lines, name="coverage")]
    thresholds = [[model.name, *_above(rule)] for model in c.models if (rule := model.above_threshold) is not None]
    if thresholds:
        tables.append(Table(["threshold of val", "rule", "answered", "of these right"], thresholds, name="thresholds"))
    unknown = [
        [model.name, one.data, str(one.videos), f"{one.apart.auroc:.3f}", f"{one.apart.aupr:.3f}",
         f"{one.apart.known_share:.3f}", f"{one.apart.fpr95:.3f}", share(one.refused), share(one.refused_known)]
        for model in c.models
        for one in model.unknown
    ]  # fmt: skip
    if unknown:
        tables.append(Table(
            ["model", "clips of no class", "videos", "AUROC", "AUPR", "AUPR by chance", "FPR at 95 %",
             "answered unknown", "of the test, too"], unknown, name="unknown",
        ))  # fmt: skip
    spoken = "Accuracy of the surest answers against the share that is answered. " + "; ".join(
        f"{model.name}: {of.accuracy(0.5):.3f} of the surer half, {of.accuracy(1):.3f} of all" for model, of in covered
    )
    chart = coverage_chart(c, MOST_LINES)
    drawn = f" Drawn for the {MOST_LINES} best." if len(c.models) > MOST_LINES else ""
    of_unknown = (
        " Clips of no class (muybridge evaluate --unknown) against the test by the highest probability, mean over runs: AUROC, "
        "the probability that a clip of a known class gets a higher one (0.5 by chance); AUPR, average precision with known "
        "clips as positives; FPR, the share of unknown clips that pass where 95 % of the known do (Hendrycks & Gimpel 2017)."
    )
    return Section(
        title="Risk and coverage",
        text=() if chart else ("Every answer is right, so leaving the least sure ones out changes nothing.",),
        tables=tuple(tables),
        figures=figures("coverage", spoken, chart),
        has_key=chart is not None,
        caption=(
            "Videos are answered from the surest on, by the probability of the answer (at the run's temperature, where it is "
            "calibrated); equally sure ones together. Area: the mean share of wrong answers over all coverages, lower is better "
            "(Geifman & El-Yaniv 2017). Mean over seeds, of video accuracy."
            + (
                " Thresholds were chosen on val (muybridge calibrate --threshold), and are tried here."
                if thresholds
                else ""
            )
            + (of_unknown if unknown else "")
            + drawn
        ),
    )


def _above(of: tuple[str, float, float | None]) -> list[str]:
    rule, answered, precision = of
    return [rule, f"{answered:.3f}", share(precision)]
