"""Dependence on time: what a model's answers to the same clips with frames in several orders say (docs/diagnosis.md).

Accuracies, changes, verdicts and sentences, of one run or of a row's seeds. `evaluation/diagnose.py` scores the orders,
`rows.py` pools seeds, `reporting/sections/temporal.py` shows tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from muybridge.analysis.statistics import Difference, Verdict, change, judged
from muybridge.data import inputs
from muybridge.recipe import Recipe
from muybridge.storage.scores import Scores, class_accuracies, confusion_counts, within_pair
from muybridge.text import listed

EQUAL = 1e-5
"""Scores that differ by no more are equal but for rounding."""

ALPHA = 0.05
"""Significance level of a change."""

Pair = tuple[str, str]

LABELS: Mapping[str, str] = {
    "ordered": "as evaluated", "shuffled": "frames shuffled", "reversed": "played backwards",
    "frozen_frame": "one frame, held", "subsampled": "every second frame",
}  # fmt: skip
"""Names of the orders in tables and charts."""


@dataclass(frozen=True)
class _Words:
    done: str
    """Change of a video."""
    used: str
    """Meaning of a fall of accuracy."""
    unused: str
    """Meaning of scores that do not change."""


def _words(shown: inputs.Input) -> Mapping[str, _Words]:
    """Words for each order, with the input's own for what it is that is put in order."""
    frame, (step, steps), still = shown.frame_called, shown.step_called, _still(shown)
    return {
        "shuffled": _Words(
            f"Shuffling the {steps}",
            "the model uses their order",
            f"whether {steps} are shuffled or not: the model {_sees_a_set(shown)}",
        ),
        "reversed": _Words(
            "Playing videos backwards",
            "the model uses the direction of time",
            "whether videos run forwards or backwards: the model does not see the direction of time",
        )
        if _shows_frames(shown)
        else _Words(
            f"Putting the {frame}s in reverse order",
            "the model uses their order",
            f"whether {frame}s run forwards or backwards: the model does not see which comes first",
        ),
        "frozen_frame": _Words(
            f"Holding one {frame}",
            f"the model uses more than {still}",
            f"for the clip and for one {frame} of it, held: the model sees no more than {still}",
        ),
        "subsampled": _Words(
            f"Holding every second {step} for two",
            f"the model uses the {steps} between",
            f"without every second {step}: the model does not use them",
        ),
    }


def _shows_frames(shown: inputs.Input) -> bool:
    """Whether what is read at a time is a frame, not a field of motion."""
    return shown.frame_called == inputs.RGB.frame_called


def _still(shown: inputs.Input) -> str:
    return "a still" if _shows_frames(shown) else f"one {shown.frame_called}"


def _sees_a_set(shown: inputs.Input) -> str:
    """Words for a model whose scores are those of any order of its time steps."""
    step, steps = shown.step_called
    inside = "" if shown.shows_stills else f"; the motion inside a {step.split()[0]} is not shuffled"
    return f"sees a set of {steps}, no order{inside}"


@dataclass(frozen=True, repr=False)
class FrameOrders:
    """Answers of S seeds to the same N videos, with their frames in several orders; videos are sorted by id."""

    classes: tuple[str, ...]
    ids_N: np.ndarray
    labels_N: np.ndarray
    groups_N: np.ndarray
    num_views: int
    predicted: Mapping[str, np.ndarray]
    """(S,N) class indices, by order."""
    within: Mapping[Pair, Mapping[str, np.ndarray]]
    """(S,n) bool, by order: right if only the two classes of a pair may be answered, for its n videos.

    Pairs are of classes that are each other's reversal in time; only those with videos of both."""
    largest_change: Mapping[str, float]
    """Largest change of any score of any video against the ordered clip, by order."""

    @staticmethod
    def of(scores: Mapping[Any, Scores], pairs: Sequence[Pair]) -> "FrameOrders":
        """Answers of one run, or of a seed's folds joined. Raises ValueError for orders of different videos."""
        ordered = scores["ordered"]
        videos = {order: of_order.labelled() for order, of_order in scores.items()}
        ids_N, labels_N = ordered.ids_N[videos["ordered"]], ordered.labels_N[videos["ordered"]]
        scores_NK = {order: of_order.video_scores()[videos[order]] for order, of_order in scores.items()}
        for order, of_order in scores.items():
            if not np.array_equal(of_order.ids_N[videos[order]], ids_N):
                raise ValueError(f"{order}: not the videos of the ordered clips")
        present = {ordered.classes[k] for k in np.unique(labels_N)}
        return FrameOrders(
            classes=ordered.classes, ids_N=ids_N, labels_N=labels_N, groups_N=ordered.groups_N[videos["ordered"]],
            num_views=ordered.num_views,
            predicted={order: of_order.argmax(1)[None] for order, of_order in scores_NK.items()},
            within={
                (a, b): {
                    order: within_pair(of_order, labels_N, ordered.pair(a, b))[1][None]
                    for order, of_order in scores_NK.items()
                }
                for a, b in pairs
                if a != b and {a, b} <= present
            },
            largest_change={
                order: float(np.abs(of_order - scores_NK["ordered"]).max())
                for order, of_order in scores_NK.items()
                if order != "ordered"
            },
        )  # fmt: skip

    @staticmethod
    def pooled(seeds: Sequence["FrameOrders"]) -> "FrameOrders":
        """Answers of several seeds to the same videos in the same orders."""
        first = seeds[0]
        return FrameOrders(
            classes=first.classes, ids_N=first.ids_N, labels_N=first.labels_N, groups_N=first.groups_N,
            num_views=first.num_views,
            predicted={order: np.concatenate([seed.predicted[order] for seed in seeds]) for order in first.predicted},
            within={
                pair: {order: np.concatenate([seed.within[pair][order] for seed in seeds]) for order in first.predicted}
                for pair in first.within
            },
            largest_change={order: max(seed.largest_change[order] for seed in seeds) for order in first.largest_change},
        )  # fmt: skip

    @property
    def num_seeds(self) -> int:
        """Number of diagnosed seeds."""
        return len(self.predicted["ordered"])

    @cached_property
    def correct(self) -> dict[str, np.ndarray]:
        """(S,N) bool, by order."""
        return {order: predicted_SN == self.labels_N for order, predicted_SN in self.predicted.items()}

    def accuracy(self, order: str) -> float:
        """Video accuracy with the frames in this order, mean over seeds."""
        return float(self.correct[order].mean())

    def ignores(self, order: str) -> bool:
        """Whether no score changes when frames are put in this order: a fact about the model, not an estimate."""
        return self.largest_change[order] <= EQUAL

    def difference(self, order: str) -> Difference:
        """Accuracy with the frames in this order minus that of the ordered clips, on the same videos."""
        return change(self.correct["ordered"], self.correct[order], self.groups_N)

    def change(self, order: str) -> Verdict:
        """Verdict on the difference of one order alone."""
        return judged([self.difference(order)])[0]

    @cached_property
    def changes(self) -> dict[str, Verdict]:
        """Verdicts on the differences of all orders, corrected for their number."""
        orders = list(self.largest_change)
        return dict(zip(orders, judged([self.difference(order) for order in orders]), strict=True))

    @cached_property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Number of videos of each class that has any, and its accuracy by order."""
        count = len(self.classes)
        videos_K = np.bincount(self.labels_N, minlength=count)
        shares = {
            order: class_accuracies(correct_SN.mean(0), self.labels_N, count)
            for order, correct_SN in self.correct.items()
        }
        return {
            self.classes[k]: {"videos": int(videos_K[k])}
            | {order: float(share_K[k]) for order, share_K in shares.items()}
            for k in np.flatnonzero(videos_K)
        }

    @cached_property
    def reversed_as(self) -> dict[str, dict[str, int]]:
        """Answers to the videos of each class when they run backwards, summed over seeds, the most frequent first."""
        count = len(self.classes)
        counts_SKK = [confusion_counts(self.labels_N, predicted_N, count) for predicted_N in self.predicted["reversed"]]
        return {
            self.classes[k]: {
                self.classes[j]: int(counts_K[j]) for j in np.argsort(-counts_K, kind="stable") if counts_K[j]
            }
            for k, counts_K in enumerate(np.sum(counts_SKK, axis=0))
            if counts_K.any()
        }

    @cached_property
    def pairs(self) -> list[dict[str, Any]]:
        """Two-class accuracies of each pair, and the share of its videos taken for the partner when they run backwards."""
        return [
            {
                "classes": [a, b],
                "videos": correct["ordered"].shape[1],
                "ordered_within": float(correct["ordered"].mean()),
                "shuffled_within": float(correct["shuffled"].mean()),
                "reversed_partner": self.taken_for_partner([(a, b)]),
            }
            for (a, b), correct in self.within.items()
        ]

    def taken_for_partner(self, pairs: Sequence[Pair]) -> float:
        """Share of the pairs' videos that are taken for the other class of their pair when they run backwards."""
        partner = {self.classes.index(a): self.classes.index(b) for pair in pairs for a, b in (pair, pair[::-1])}
        chosen_N = np.isin(self.labels_N, list(partner))
        wanted_N = np.array([partner.get(int(label), -1) for label in self.labels_N])
        return float((self.predicted["reversed"] == wanted_N)[:, chosen_N].mean())

    def findings(self, num_frames: int, shown: inputs.Input = inputs.RGB) -> list[str]:
        """Sentences about one model; a change that chance explains is called that.

        `num_frames`: time steps of a clip; `shown`: its input, by whose words they are called.
        """
        words = _words(shown)
        if max(num_frames, shown.step_frames) == 1:
            return ["A clip has one time step: it has no order that could be used."]
        if all(self.ignores(order) for order in self.largest_change):
            return [
                f"Scores are equal to 1e-5 in every order, even for one {shown.frame_called} that is held: nothing moves in "
                f"these videos, or the model sees no more than {_still(shown)}."
            ]
        sentences = [self._finding(order, words[order]) for order in self.largest_change]
        if self.pairs:
            count = sum(pair["videos"] for pair in self.pairs)
            of_all = {
                name: sum(pair[name] * pair["videos"] for pair in self.pairs) / count
                for name in ("ordered_within", "shuffled_within", "reversed_partner")
            }
            left = "where chance gives 0.5" if shown.shows_stills else "each of which shows motion"
            backwards = "played backwards" if _shows_frames(shown) else f"with {shown.frame_called}s backwards"
            sentences.append(
                f"Within pairs of classes that are each other's reversal ({count} videos) {of_all['ordered_within']:.3f} are "
                f"right, {of_all['shuffled_within']:.3f} with shuffled {shown.step_called[1]}, {left}; "
                f"{backwards}, {of_all['reversed_partner']:.3f} are taken for the partner."
            )
        return sentences

    def _finding(self, order: str, words: _Words) -> str:
        before, after = self.accuracy("ordered"), self.accuracy(order)
        if self.ignores(order):
            return f"Scores are equal to 1e-5 {words.unused}."
        p = self.changes[order].p
        if p >= ALPHA:
            return (
                f"{words.done}: accuracy {before:.3f} to {after:.3f}, no more than chance may do with "
                f"{len(self.ids_N)} videos (p = {p:.2f}); scores do change, by up to {self.largest_change[order]:.2g}."
            )
        if after < before:
            return f"{words.done} costs {before - after:.3f} of accuracy ({before:.3f} to {after:.3f}): {words.used}."
        return f"{words.done} adds {after - before:.3f} to accuracy ({before:.3f} to {after:.3f})."

    def as_json(self) -> dict[str, Any]:
        """Entry `diagnosis` of a row of report.json."""
        changes = {order: self.change(order) for order in self.largest_change}
        return {
            "seeds": self.num_seeds,
            "accuracy": {order: self.accuracy(order) for order in self.predicted},
            "change": {
                order: {"value": verdict.difference.value, "low": verdict.low, "high": verdict.high}
                for order, verdict in changes.items()
            },
            "reversed_as": self.reversed_as,
        }


class Row(Protocol):
    """Row of a comparison, as far as its diagnosis is concerned (`rows.ModelResult`)."""

    @property
    def name(self) -> str:
        """Name of the row."""

    @property
    def num_seeds(self) -> int:
        """Number of its seeds, diagnosed or not."""

    @property
    def recipe(self) -> Recipe:
        """Recipe of its first run."""

    @property
    def diagnosed(self) -> FrameOrders | None:
        """Answers of its diagnosed seeds."""


_Row = TypeVar("_Row", bound=Row)


def diagnosed(rows: Sequence[_Row]) -> list[tuple[_Row, FrameOrders]]:
    """Rows that were diagnosed with shuffled and frozen frames."""
    return [
        (row, row.diagnosed)
        for row in rows
        if row.diagnosed is not None and {"shuffled", "frozen_frame"} <= row.diagnosed.predicted.keys()
    ]


def sentences(rows: Sequence[Row], noun: str) -> list[str]:
    """Sentences about a comparison of which some rows were diagnosed. `noun`: the name of a row, e.g. "model"."""
    entries = diagnosed(rows)
    sentences = [_dependence(entries, noun)]
    blind: dict[tuple[str, str], list[str]] = {}
    for row, orders in entries:
        if orders.ignores("shuffled"):
            shown = _input(row)
            blind.setdefault((shown.step_called[1], _sees_a_set(shown)), []).append(row.name)
    sentences += [
        f"{listed(names)}: scores are equal to 1e-5 whether {steps} are shuffled or not. Such a model {sees_a_set}."
        for (steps, sees_a_set), names in blind.items()
    ]
    verdicts = judged([orders.difference("shuffled") for _, orders in entries])
    users = [row.name for (row, _), verdict in zip(entries, verdicts, strict=True) if _falls(verdict)]
    if users:
        corrected = f" (corrected for {len(entries)} {noun}s)" if len(entries) > 1 else ""
        sentences.append(f"Less accurate with shuffled frames, by more than chance{corrected}: {listed(users)}.")
    partial = [
        f"{row.name} {orders.num_seeds} of {row.num_seeds}"
        for row, orders in entries
        if orders.num_seeds < row.num_seeds
    ]
    if partial:
        sentences.append(f"Not all seeds were diagnosed: {listed(partial)}.")
    missing = [row.name for row in rows if row.diagnosed is None]
    if missing:
        sentences.append(f"Not diagnosed: {listed(missing)} (muybridge diagnose RUN).")
    return sentences


def _falls(verdict: Verdict) -> bool:
    """Whether accuracy falls by more than chance explains."""
    return verdict.apart and verdict.high < 0


def _dependence(entries: Sequence[tuple[Row, FrameOrders]], noun: str) -> str:
    """Temporal dependence of the data set, as far as these models show it: how far one frame gets."""
    stills = [(row, orders) for row, orders in entries if _input(row).shows_stills]
    if not stills:
        return (
            f"Temporal dependence of the data set is not known here: these {noun}s are shown {_shown(entries)}, of which a "
            f"held frame has none, so what one frame would tell cannot be seen (compare with clip.modality={inputs.DEFAULT})."
        )
    these = f"these {noun}s"
    if len(stills) < len(entries):
        these = f"those of these {noun}s that are shown frames, not {_shown(entries)},"
    still_row, still = max(stills, key=lambda entry: entry[1].accuracy("frozen_frame"))
    best_row, best = max(stills, key=lambda entry: entry[1].accuracy("ordered"))
    one_frame, whole = still.accuracy("frozen_frame"), best.accuracy("ordered")
    chance = float(np.bincount(best.labels_N).max() / len(best.labels_N))
    words = (
        f"Temporal dependence of the data set, as far as {these} show it: the best answer from one frame is right on "
        f"{one_frame:.3f} of the videos ({still_row.name}), the best from whole clips on {whole:.3f} ({best_row.name}); "
        f"always saying the most frequent class gives {chance:.3f}."
    )
    if _falls(best.change("frozen_frame")) and whole > max(one_frame, chance):
        share = min(1.0, (whole - one_frame) / (whole - chance))
        words += f" Of what the best knows beyond that guess, {share:.0%} takes more than one frame."
    else:
        words += " That more than one frame is needed is not shown."
    if any(row.recipe.clip.num_frames == 1 for row, _ in stills):
        return f"{words} Among them are {noun}s that were trained on single frames."
    return (
        f"{words} None of them was trained on single frames; one that was might get further (--set clip.num_frames=1)."
    )


def _shown(entries: Sequence[tuple[Row, FrameOrders]]) -> str:
    """Inputs other than frames, in words."""
    return listed(sorted({_input(row).about for row, _ in entries} - {inputs.RGB.about}))


def _input(row: Row) -> inputs.Input:
    return inputs.of(row.recipe.clip)
