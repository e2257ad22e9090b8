"""Section on fused scores: their parts and weights, and whether fusing adds anything."""

from collections import Counter

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.reporting.sections.parts import Chapter, Section, Table
from muybridge.text import listed, ratio


def fused(chapter: Chapter) -> Section | None:
    """Section with the weights of every fused row, and its difference from its better part."""
    c = chapter.comparison
    rows = [_row(c, rank) for rank, model in enumerate(c.models) if model.fused]
    if not rows:
        return None
    header = ["fused", "parts", "weights", "val videos", "right on val", "with equal weights", "better part",
              "minus it [corrected]", "p", "told apart"]  # fmt: skip
    return Section(
        title="Fused scores",
        tables=(Table(header, rows, "words", "fused"),),
        caption=(
            "The weighted mean of the parts' scores of each video, by weights of each fold and seed (several: with the number "
            "of results). Chosen on val by accuracy, then by loss, and never on test; what they reach on val flatters them. "
            "Right on val: summed over folds and seeds. The better part is the one with the higher accuracy on these test "
            "videos, where all parts are compared here. "
            "The difference from it is the pair of the section on significance. Parameters, MACs and hours of a fused "
            "row are sums over its parts."
        ),
    )


def _row(c: Comparison, rank: int) -> list[str]:
    """Line of the table."""
    model = c.models[rank]
    weights = Counter(ratio(one["weights"]) for one in model.fused)
    shown = [value if len(weights) == 1 else f"{value} ({count})" for value, count in weights.most_common()]
    parts = [] if c.missing_parts(rank) else c.parts_of(rank)
    verdict = c.minus(rank, parts[0]) if parts else None
    return [
        model.name, listed(list(dict.fromkeys(part["name"] for one in model.fused for part in one["parts"]))),
        ", ".join(shown) + ("" if model.fused[0]["rule"] == "auto" else f" ({model.fused[0]['rule']})"), *_on_val(model),
        c.models[parts[0]].name if parts else "–",
        *(["–"] * 3 if verdict is None
          else [str(verdict), "< 0.001" if verdict.p < 0.001 else f"{verdict.p:.3f}", "yes" if verdict.apart else "no"]),
    ]  # fmt: skip


def _on_val(model: ModelResult) -> list[str]:
    """Videos of val, and right ones by the weights and by equal ones; dashes where weights were not chosen on val."""
    chosen = [one["chosen"] for one in model.fused if one["chosen"] is not None]
    if not chosen:
        return ["–"] * 3
    return [str(sum(one[key] for one in chosen)) for key in ("videos", "right", "right_equal")]
