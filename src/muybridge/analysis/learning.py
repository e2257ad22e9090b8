"""Why a network does not learn: symptoms, as a pure function of what training stored (needs no torch).

A symptom has evidence in numbers and says what to try. They are ordered by cause: what explains others is named alone.

**At once** are named: a first loss far above ln K; a network whose answer no clip changes; a loss that rises above its
start; far fewer updates than a network takes.

**When half of the updates are done** it is asked whether anything is learnt at all. Clips of the last quarter of the epochs
must be right more often than the commonest class is common, or their loss lie under that of any constant answer, by 95 %
intervals. So a few lucky batches count for nothing, and a small set is judged late.

docs/learning.md has a table of symptoms, causes and remedies. `tests/training/test_health.py` plants failures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import log, sqrt
from statistics import fmean, stdev
from typing import Any

from muybridge.analysis.shares import wilson
from muybridge.recipe import Recipe
from muybridge.recipe.schedule import budget, peak_lr, steps_per_epoch
from muybridge.storage.run import Run

QUANTILE = 1.96
"""Quantile of 95 % intervals."""
LEAST_UPDATES, LEAST_UPDATES_PRETRAINED = 100, 50
"""Updates below which a training is called far too short: from fresh weights, and from trained ones.

Averages of batch norms and of AdamW's squared gradients reach over some tens to hundreds of steps (0.9, 0.999). Small networks
were seen to learn in 104 and 130 updates (docs/ucf11.md). The shortest shipped training, the quick demo, has about 300.
"""
FAR_NATS = 1.0
"""Distance that a first loss may lie above ln K: as if there were e times as many classes. Usual is a tenth of that."""
VERY_FAR = 6.0
"""Multiple of ln K that a first loss may have before anything is known of what is learnt: networks that began at 4 times
learnt (docs/ucf11.md), those that did not at 10,000 times."""
SAME_SPREAD = 1e-4
"""Least difference of a logit between two clips. That of healthy networks was 0.02 and more at the start."""
MANY_DEAD = 0.5
"""Share of channels without any activity, mean over the ReLUs, that is called many."""
LARGE_UPDATE = 0.3
"""Share of its own size by which one step may change the weights: three such steps replace them. Usual are 0.0001 to 0.05."""
LEAST_PATH = 0.1
"""Share of their own size that all steps together must be able to move the weights."""
SURE, GAP = 0.9, 0.4
"""Saturated: the mean probability of answers, and how far it lies above the share that is right."""
SAME_ANSWER = 0.95
"""Share of clips with the same answer."""


_LOOK = {"clips", "correct", "most_common", "confidence", "spread", "relus", "dead_relus", "dead"}
_HELD = {
    "start": {"loss", "uniform_loss", "constant_loss", "majority"}, "train": {"loss", "clip_top1"}, "health": _LOOK,
    "val": {"video_top1"},
}  # fmt: skip
"""Fields of a line of each kind without which it is passed over."""


@dataclass(frozen=True)
class Symptom:
    """A reason why a network does not learn, with its evidence in numbers and what to try."""

    name: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.remedy}"


@dataclass(frozen=True)
class Facts:
    """Facts that training stored of a run so far."""

    recipe: Recipe
    num_classes: int
    num_train: int
    """Training videos."""
    num_val: int
    lines: list[dict[str, Any]] = field(repr=False)
    """Lines of metrics.jsonl."""
    is_over: bool = False
    """Whether training has ended."""

    @staticmethod
    def of(run: Run) -> "Facts":
        """Read a run. Raises UserError for a damaged one."""
        dataset = run.dataset()
        sizes = dataset["split_sizes"]
        return Facts(
            run.recipe(), len(dataset["classes"]), num_train=sizes["train"], num_val=sizes.get("val", 0),
            lines=run.all_metrics(), is_over=run.is_finished,
        )  # fmt: skip

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Lines of one kind, in order, that hold what is judged."""
        return [line for line in self.lines if line["kind"] == kind and line.keys() >= _HELD[kind]]

    @cached_property
    def start(self) -> dict[str, Any]:
        """Facts of the first step; empty for runs of earlier versions."""
        return next(iter(self.of_kind("start")), {})

    @cached_property
    def train(self) -> list[dict[str, Any]]:
        """A line an epoch."""
        return self.of_kind("train")

    @cached_property
    def health(self) -> list[dict[str, Any]]:
        """A look an epoch; empty for runs of earlier versions."""
        return self.of_kind("health")

    @property
    def steps(self) -> int:
        """Updates that were done, to the end of the last epoch."""
        return int(self.train[-1]["step"]) if self.train else 0

    @cached_property
    def planned_steps(self) -> int | None:
        """Updates of the whole training; None where only hours end it."""
        if self.is_over:
            return self.steps
        return budget(self.recipe, self.num_train).steps

    @property
    def least_steps(self) -> int:
        """Updates that a training takes at the least."""
        m = self.recipe.model
        fresh = m.pretrained in (None, "auto") and m.weights_sha256 is None
        return LEAST_UPDATES if fresh else LEAST_UPDATES_PRETRAINED

    @property
    def is_telling(self) -> bool:
        """Whether enough was trained to say what was learnt."""
        half = self.is_over or (self.planned_steps is not None and self.steps >= self.planned_steps / 2)
        return half and self.steps >= self.least_steps

    @property
    def uniform_loss(self) -> float:
        """Loss of a network that answers all classes alike."""
        return float(self.start.get("uniform_loss", log(self.num_classes)))

    @property
    def constant_loss(self) -> float:
        """Least loss of an answer that no clip changes."""
        return float(self.start.get("constant_loss", self.uniform_loss))

    @property
    def majority(self) -> float:
        """Share of the commonest class in training; in runs of earlier versions at least one of K."""
        return float(self.start.get("majority", 1 / self.num_classes))

    @property
    def last_epochs(self) -> list[dict[str, Any]]:
        """Lines of training of the last quarter of the epochs done."""
        return _last_quarter(self.train)

    @property
    def clips_per_epoch(self) -> int:
        """Clips of an epoch, at most one a video: those of a video are not independent."""
        steps = steps_per_epoch(self.recipe, self.num_train)
        return min(self.num_train, steps * self.recipe.optim.batch_size)

    @property
    def train_top1(self) -> tuple[float, float, float]:
        """Clip accuracy of the last quarter of the epochs, and its 95 % interval by the clips of one epoch."""
        value = fmean(line["clip_top1"] for line in self.last_epochs)
        return (value, *wilson(value, self.clips_per_epoch, QUANTILE))

    @property
    def learns(self) -> bool:
        """Whether training is better than any answer that no clip changes."""
        losses = [line["loss"] for line in self.last_epochs]
        error = stdev(losses) / sqrt(len(losses)) if len(losses) >= 4 else float("inf")
        return self.train_top1[1] > self.majority or fmean(losses) + QUANTILE * error < self.constant_loss

    @property
    def fits(self) -> bool:
        """Whether training is at least half of the way to all right: how it began does not matter any more."""
        return bool(self.train) and self.train_top1[1] >= self.halfway

    @property
    def halfway(self) -> float:
        """Accuracy half of the way from the commonest class to all right."""
        return (1 + self.majority) / 2


def symptoms(of: Run | Facts) -> tuple[Symptom, ...]:
    """Symptoms of a run, or of its facts so far, by cause: what explains others is named alone.

    Of a run of an earlier version that is judged which was stored. Raises UserError for a damaged run.
    """
    facts = of if isinstance(of, Facts) else Facts.of(of)
    dead = _dead_from_the_start(facts)
    if dead is not None:
        return (dead,)
    early = [
        symptom
        for find in (_first_loss_too_high, _lr_too_high, _too_few_updates)
        if (symptom := find(facts)) is not None
    ]
    if not facts.is_telling or any(symptom.name != FIRST_LOSS for symptom in early):
        return tuple(early)
    if facts.learns:
        find_late: Sequence[Any] = (_lr_too_low, _by_heart)
    elif early:
        find_late = (_lr_too_low, _dead_units, _saturated, _one_answer)
    else:
        find_late = (_lr_too_low, _dead_units, _saturated, _one_answer, _labels_not_learnt)
    late = (symptom for find in find_late if (symptom := find(facts)) is not None)
    return (*early, *_first(late))


FIRST_LOSS = "first loss far from ln K"

_FIND_LR = "Look for a rate: muybridge train … --find-lr --out lr.html"


def _first(found: Any) -> tuple[Symptom, ...]:
    """The first alone, as it explains the others."""
    first = next(iter(found), None)
    return () if first is None else (first,)


def _last_quarter(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(lines[-max(1, len(lines) // 4) :])


def _is_dead(look: dict[str, Any]) -> bool:
    """Whether no clip of several changes the answer."""
    return look.keys() >= _LOOK and look["clips"] > 1 and look["spread"] < SAME_SPREAD


def _of_relus(look: dict[str, Any]) -> str:
    if not look["relus"]:
        return ""
    return f"; of its {look['relus']} ReLUs {look['dead_relus']} are zero everywhere"


def _dead_from_the_start(f: Facts) -> Symptom | None:
    if not _is_dead(f.start):
        return None
    return Symptom(
        "dead network",
        f"before the first update no logit differs by more than {f.start['spread']:.1g} between the {f.start['clips']} clips "
        f"of a batch{_of_relus(f.start)}",
        "Check the model's initialisation and the weights that it starts from, or set model.init_std. Look at a layer's "
        "output for one clip",
    )


def _first_loss_too_high(f: Facts) -> Symptom | None:
    first = f.start.get("loss", 0.0)
    is_far = first > VERY_FAR * f.uniform_loss or (f.is_telling and not f.learns and first > f.uniform_loss + FAR_NATS)
    if not is_far or f.fits:
        return None
    return Symptom(
        FIRST_LOSS,
        f"the first loss is {first:.3g}, that of a guess among {f.num_classes} classes {f.uniform_loss:.3g}",
        "Begin with smaller weights in the last layer, lower model.init_std, or add norms to the network. Check the scale of "
        "the input",
    )


def _lr_too_high(f: Facts) -> Symptom | None:
    """Dead since the start; or a loss that rose above both its start and a guess; or weights that are replaced at once."""
    lr = f"the peak learning rate is {peak_lr(f.recipe):.3g}"
    remedy = f"Lower optim.lr tenfold, lengthen optim.warmup_epochs, or set optim.clip_grad_norm. {_FIND_LR}"
    name = "learning rate too high"
    dead = next((look for look in f.health if _is_dead(look)), None)
    if dead is not None and _is_dead(f.health[-1]):
        return Symptom(
            name,
            f"the network was alive before training, and no clip changes its answer after epoch {dead['epoch']}"
            f"{_of_relus(dead)}; {lr}",
            remedy,
        )
    if f.train and f.start:
        least = max(f.start["loss"], f.uniform_loss) + FAR_NATS
        worst = max(f.train, key=lambda line: line["loss"])
        now = fmean(line["loss"] for line in f.last_epochs)
        stays = len(f.train) > 1 and min(line["loss"] for line in f.train[-2:]) > least
        if worst["loss"] > least and (stays or (f.is_over and now > least) or (f.is_telling and not f.learns)):
            return Symptom(
                name,
                f"the loss rose from {f.start['loss']:.3g} to {worst['loss']:.3g} in epoch {worst['epoch']}; {lr}",
                remedy,
            )
    largest = max(f.health, key=lambda look: look.get("update", 0.0), default={})
    if largest.get("update", 0.0) > LARGE_UPDATE and f.is_telling and not f.learns:
        return Symptom(
            name,
            f"one step changed the weights by {largest['update']:.0%} of their size in epoch {largest['epoch']}; {lr}",
            remedy,
        )
    return None


def _too_few_updates(f: Facts) -> Symptom | None:
    planned, o = f.planned_steps, f.recipe.optim
    if planned is None or f.fits:
        return None
    reason = budget(f.recipe, f.num_train).reason
    longer = "optim.epochs or optim.min_steps" if reason in ("optim.epochs", "optim.min_steps") else reason
    remedy = f"Train longer: raise {longer}, or give a smaller optim.batch_size"
    if planned < f.least_steps:
        return Symptom(
            "far too few updates", f"{planned} updates in all, where a training takes at least {f.least_steps}", remedy
        )
    warmup = o.warmup_epochs * steps_per_epoch(f.recipe, f.num_train)
    if warmup > planned / 2:
        return Symptom(
            "far too few updates",
            f"the warm-up takes {warmup:.0f} of {planned} updates",
            f"{remedy}; or shorten the warm-up",
        )
    return None


def _lr_too_low(f: Facts) -> Symptom | None:
    """All steps together cannot have moved the weights far: the sum of their lengths, each as its epoch's last."""
    ends = [(0, 0.0), *((look["step"], look["update"]) for look in f.health if "update" in look)]
    if len(ends) < 4 or f.train_top1[2] >= f.halfway:
        return None
    path = sum((step - before) * update for (before, _), (step, update) in pairwise(ends))
    if path >= LEAST_PATH:
        return None
    return Symptom(
        "learning rate too low",
        f"{f.steps} updates moved the weights by at most {path:.1%} of their size; the peak learning rate is "
        f"{peak_lr(f.recipe):.3g}, the loss {f.last_epochs[-1]['loss']:.3g}",
        f"Raise optim.lr tenfold. {_FIND_LR}",
    )


def _dead_units(f: Facts) -> Symptom | None:
    looks = [look for look in _last_quarter(f.health) if look["relus"]]
    if not looks or fmean(look["dead"] for look in looks) < MANY_DEAD:
        return None
    return Symptom(
        "dead units",
        f"{fmean(look['dead'] for look in looks):.0%} of the channels behind {looks[-1]['relus']} ReLUs are zero in every "
        "clip of a batch",
        f"Lower optim.lr, or give a warm-up: units die in large steps. Add norms to the network. {_FIND_LR}",
    )


def _saturated(f: Facts) -> Symptom | None:
    looks = _last_quarter(f.health)
    clips = sum(look["clips"] for look in looks)
    if not clips:
        return None
    confidence = sum(look["clips"] * look["confidence"] for look in looks) / clips
    right = min(1.0, sum(look["correct"] for look in looks) / clips)
    if confidence < SURE or confidence - wilson(right, clips, QUANTILE)[1] < GAP:
        return None
    return Symptom(
        "saturated logits",
        f"answers have a mean probability of {confidence:.2f}, and {right:.2f} of them are right",
        "Lower optim.lr, start from smaller weights in the last layer, or set optim.label_smoothing=0.1",
    )


def _one_answer(f: Facts) -> Symptom | None:
    looks = _last_quarter(f.health)
    clips = sum(look["clips"] for look in looks)
    if not clips or f.majority >= SAME_ANSWER:
        return None
    share = min(1.0, sum(look["most_common"] for look in looks) / clips)
    if wilson(share, clips, QUANTILE)[0] < max(SAME_ANSWER - 0.05, f.majority):
        return None
    return Symptom(
        "one answer for all",
        f"{share:.0%} of the clips of a batch get the same answer after {f.steps} updates; {f.majority:.0%} are of the "
        "commonest class",
        f"Try another learning rate, or weights to start from (--pretrained). {_FIND_LR}",
    )


def _labels_not_learnt(f: Facts) -> Symptom:
    value, low, high = f.train_top1
    return Symptom(
        "labels not learnt",
        f"after {f.steps} updates {value:.3f} [{low:.3f}, {high:.3f}] of the training clips are right; always answering the "
        f"commonest class gives {f.majority:.3f}",
        "Check that labels belong to their videos. If they do, the model may not see what tells the classes apart: try "
        f"another model, or another learning rate. {_FIND_LR}",
    )


def _by_heart(f: Facts) -> Symptom | None:
    """Validation has less than half of what training has gained over a constant answer, by the intervals of both."""
    scored = f.of_kind("val")
    if not scored or not f.num_val or f.train_top1[1] <= f.majority:
        return None
    val = scored[-1]["video_top1"]
    low, high = wilson(val, f.num_val, QUANTILE)
    chance = f.start.get("val_majority", f.majority)
    train, train_low, _ = f.train_top1
    if high >= chance + (train_low - f.majority) / 2:
        return None
    of_val = f"{val:.3f} [{low:.3f}, {high:.3f}] of {f.num_val} validation videos"
    evidence = f"{train:.3f} of the training clips are right, but {of_val}"
    if low <= chance:
        return Symptom(
            "labels learnt by heart",
            f"{evidence}, where the commonest class gives {chance:.3f}",
            "Check that labels belong to their videos, and that both splits are of the same kind. If so, augment more, train "
            "on more videos, or start from weights (--pretrained)",
        )
    return Symptom(
        "training fits, validation does not",
        evidence,
        "Augment more, raise optim.weight_decay or model.dropout, start from weights (--pretrained), or train on more videos",
    )
