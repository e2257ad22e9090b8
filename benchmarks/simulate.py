"""Whether the report's intervals and verdicts keep their word, on made answers whose truth is known.

    python benchmarks/simulate.py                 # a few minutes; --quick: rougher, in one
    python benchmarks/simulate.py --json

Videos differ in difficulty (a beta distribution: most are easy, or hopeless, as real ones are), groups in their mean, seeds
of one model by `sd` points of accuracy beyond what their videos make them differ. Every draw is a whole study.
"""

import argparse
import json
import time

import numpy as np

from muybridge.analysis.calibration import Rule, choose_threshold, fit_temperature
from muybridge.analysis.racing import level, look
from muybridge.analysis.statistics import (
    Sample,
    accuracy_interval,
    judged,
    paired_difference,
    usual_spread,
)
from muybridge.errors import UserError

TRUTH = 0.75
SHARES = ("coverage", "told_apart", "wrongly", "rightly", "saved", "false_alarms", "shift", "given", "broken", "answered",
          "best")  # fmt: skip


def chances(draw: np.random.Generator, videos: int, consistency: float) -> np.ndarray:
    """(N,) how often each video is answered right. The lower, the more alike the answers of two seeds."""
    return draw.beta(TRUTH * consistency, (1 - TRUTH) * consistency, videos)


def answers(draw: np.random.Generator, own_N: np.ndarray, *, seeds: int, sd: float, shift: float = 0.0) -> np.ndarray:
    """(S,N) right answers. `sd` and `shift` move the mean accuracy."""
    slope = (own_N * (1 - own_N)).mean()
    clipped = np.clip(own_N, 1e-9, 1 - 1e-9)
    moved_S1 = (shift + draw.normal(0, sd, (seeds, 1))) / slope
    return draw.random((seeds, len(own_N))) < 1 / (1 + np.exp(-np.log(clipped / (1 - clipped)) - moved_S1))


def coverage(
    draw: np.random.Generator, studies: int, *, videos: int, seeds: int, sd: float, groups: int, consistency: float
) -> float:
    """How often an accuracy's interval holds the truth."""
    held = 0
    for _ in range(studies):
        if groups:
            own_G = draw.beta(TRUTH * 9, (1 - TRUTH) * 9, groups)  # a correlation of a tenth within a group
            of_N = np.arange(videos) % groups
            names_N, right = of_N.astype(str), draw.random((seeds, videos)) < own_G[of_N]
        else:
            names_N = np.full(videos, "")
            right = answers(draw, chances(draw, videos, consistency), seeds=seeds, sd=sd)
        interval = accuracy_interval(right, names_N)
        held += interval.low <= TRUTH <= interval.high
    return held / studies


def apart(
    draw: np.random.Generator,
    studies: int,
    *,
    videos: int,
    seeds: int,
    sd: float,
    points: float,
    models: int,
    consistency: float,
) -> tuple[float, float]:
    """(in how many studies any pair is told apart, how often the interval of a pair holds its truth)."""
    called = held = pairs = 0
    names_N = np.full(videos, "")
    for _ in range(studies):
        own_N = chances(draw, videos, consistency)
        shifts = [0.0, -points / 100] if models == 2 else [0.0] * models
        samples = [Sample.of(answers(draw, own_N, seeds=seeds, sd=sd, shift=shift), names_N) for shift in shifts]
        places = [(a, b) for a in range(models) for b in range(a + 1, models)]
        usual = usual_spread(samples)
        verdicts = judged([paired_difference(samples[a], samples[b], usual) for a, b in places])
        called += any(verdict.apart for verdict in verdicts)
        for verdict, (a, b) in zip(verdicts, places, strict=True):
            held += verdict.low <= shifts[a] - shifts[b] <= verdict.high
            pairs += 1
    return called / studies, held / pairs


def races(
    draw: np.random.Generator,
    studies: int,
    *,
    models: int,
    videos: int,
    seeds: int,
    sd: float,
    worse: float = 0.0,
    alike: bool = True,
    consistency: float = 1.0,
    start: int = 3,
) -> dict[str, float]:
    """What races of models decide on val, whose truth is known. The last model is `worse` by so many points, all others equal.

    `alike`: the same videos are hard for all. Shares of the races: `wrongly`, in which a model was stopped that is as good as
    the best; `rightly`, in which the worse one was stopped. `saved`: share of all runs. `false_alarms`: share of the studies in
    which the report of such a race, on as many test videos, calls equal models different. `shift`: points by which stopped
    models that are as good as any are told too low on the test.
    """
    wrongly = rightly = saved = alarms = 0
    shifts: list[float] = []
    names_N, names = np.full(videos, ""), [str(number) for number in range(models)]
    for _ in range(studies):
        shift = dict.fromkeys(names, 0.0) | {names[-1]: -worse / 100}
        seed_sd = {name: draw.normal(0, sd, (seeds, 1)) for name in names}  # a good seed is good on val and on test
        val, test = (_answers_of(draw, names, videos, seed_sd, shift, alike, consistency) for _ in range(2))
        stopped_after: dict[str, int] = {}
        for number in range(start, seeds):
            active = [name for name in names if name not in stopped_after]
            if len(active) > 1:
                samples = {name: Sample.of(val[name][: stopped_after.get(name, number)], names_N) for name in names}
                seen = look(samples, active=active, at=level(seeds, start))
                stopped_after |= dict.fromkeys(seen.worse, number)
        equal = names[:-1] if worse else names
        wrongly += any(name in stopped_after for name in equal)
        rightly += bool(worse) and names[-1] in stopped_after
        saved += sum(seeds - number for number in stopped_after.values())
        tested = {name: Sample.of(test[name][: stopped_after.get(name, seeds)], names_N) for name in names}
        pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
        usual = usual_spread(list(tested.values()))
        verdicts = judged([paired_difference(tested[a], tested[b], usual) for a, b in pairs])
        alarms += any(one.apart for one, (a, b) in zip(verdicts, pairs, strict=True) if a in equal and b in equal)
        shifts += [tested[name].value - TRUTH for name in equal if name in stopped_after]
    return {
        "wrongly": wrongly / studies, "rightly": rightly / studies, "saved": saved / studies / models / seeds,
        "false_alarms": alarms / studies, "shift": 100 * float(np.mean(shifts)) if shifts else 0.0,
    }  # fmt: skip


def _answers_of(
    draw: np.random.Generator,
    names: list[str],
    videos: int,
    seed_sd: dict[str, np.ndarray],
    shift: dict[str, float],
    alike: bool,
    consistency: float,
) -> dict[str, np.ndarray]:
    """(S,N) right answers of each model to new videos, its seeds better or worse by `seed_sd`."""
    own_N, made = chances(draw, videos, consistency), {}
    for name in names:
        own_N = own_N if alike else chances(draw, videos, consistency)
        slope, clipped = (own_N * (1 - own_N)).mean(), np.clip(own_N, 1e-9, 1 - 1e-9)
        moved_S1 = (shift[name] + seed_sd[name]) / slope
        made[name] = draw.random((len(moved_S1), videos)) < 1 / (
            1 + np.exp(-np.log(clipped / (1 - clipped)) - moved_S1)
        )
    return made


def temperatures(draw: np.random.Generator, sets: int, *, videos: int, sources: int) -> float:
    """How often the interval of a temperature holds the true one, 2. Videos of a source have the same answer."""
    held = 0
    for _ in range(sets):
        logits_SK = 2 * draw.normal(size=(sources, 8))
        chances_SK = np.exp(logits_SK) / np.exp(logits_SK).sum(1, keepdims=True)
        labels_S = (chances_SK.cumsum(1) < draw.random((sources, 1))).sum(1)
        sure_SK = chances_SK**2 / (chances_SK**2).sum(1, keepdims=True)
        source_N = np.arange(videos) % sources
        groups_N = np.array([f"{source:05d}" for source in source_N])
        found = fit_temperature(sure_SK[source_N], labels_S[source_N], groups_N)
        held += found.low is not None and found.low <= 2 <= found.high
    return held / sets


def thresholds(draw: np.random.Generator, sets: int, *, videos: int, wanted: float, share: float) -> dict[str, float]:
    """How often a threshold of val is given, and how often its true precision is below the wanted one.

    An answer of sureness u is right with probability 1 - share (1 - u), for u even between 0 and 1. `best`: the share that
    the true threshold would answer.
    """
    given, broken, answered = 0, 0, 0.0
    for _ in range(sets):
        sure_N = draw.random(videos)
        right_N = draw.random(videos) < 1 - share * (1 - sure_N)
        try:
            chosen = choose_threshold(Rule(precision=wanted), sure_N, right_N, np.full(videos, ""))
        except UserError:
            continue
        given += 1
        answered += chosen.answered
        broken += 1 - share * (1 - chosen.value) / 2 < wanted
    best = min(1.0, 2 * (1 - wanted) / share)
    return {"given": given / sets, "broken": broken / sets, "answered": answered / max(1, given), "best": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--studies", type=int, default=2000, help="draws of a line (default 2000: an error of 0.5 points)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    studies, draw, started = asked.studies // (10 if asked.quick else 1), np.random.default_rng(asked.seed), time.time()
    found: dict[str, list[dict[str, float]]] = {"coverage": [], "apart": []}
    lines = [
        *((0, videos, 1, 0.0, 1.0) for videos in (400, 3800)),
        *((0, 400, 3, sd, 1.0) for sd in (0.5, 1.0, 2.0)), (0, 400, 5, 1.0, 1.0),
        *((0, 3800, seeds, sd, consistency)
          for consistency in (0.5, 1.0, 4.0) for seeds in (2, 3, 5) for sd in (0.0, 0.5, 1.0, 2.0)),
        *((groups, videos, 1, 0.0, 1.0)
          for groups, videos in ((3, 90), (5, 90), (9, 90), (9, 900), (25, 1600), (100, 1600))),
    ]  # fmt: skip
    for groups, videos, seeds, sd, consistency in lines:
        known = {"groups": groups, "videos": videos, "seeds": seeds, "sd": sd / 100, "consistency": consistency}
        share = coverage(draw, studies, **known)
        found["coverage"].append(
            {
                "groups": groups,
                "videos": videos,
                "seeds": seeds,
                "sd_points": sd,
                "consistency": consistency,
                "coverage": share,
            }
        )
    for videos, seeds, sd, points, models, consistency in [
        (3800, 3, 1.0, 0, 2, 1.0), (3800, 5, 1.0, 0, 2, 1.0), (3800, 5, 1.0, 0, 2, 4.0), (3800, 5, 0.5, 0, 2, 1.0),
        (400, 3, 1.0, 0, 2, 1.0), (400, 1, 0.0, 0, 2, 1.0), (3800, 3, 1.0, 0, 6, 1.0), (3800, 5, 1.0, 0, 6, 1.0),
        (3800, 5, 1.0, 3, 2, 0.5), (3800, 5, 1.0, 3, 2, 1.0), (3800, 5, 1.0, 3, 2, 4.0), (3800, 5, 0.5, 3, 2, 1.0),
        (3800, 3, 1.0, 3, 2, 1.0), (3800, 3, 0.5, 3, 2, 1.0), (400, 5, 1.0, 10, 2, 1.0),
    ]:  # fmt: skip
        called, held = apart(
            draw,
            studies,
            videos=videos,
            seeds=seeds,
            sd=sd / 100,
            points=points,
            models=models,
            consistency=consistency,
        )
        found["apart"].append({
            "videos": videos, "seeds": seeds, "sd_points": sd, "points": points, "models": models, "consistency": consistency,
            "told_apart": called, "coverage": held,
        })  # fmt: skip
    found["races"] = []
    for models, videos, seeds, sd, worse, alike in [
        (5, 100, 5, 1.0, 0, True), (5, 400, 5, 1.0, 0, True), (5, 400, 5, 1.0, 0, False), (5, 400, 5, 0.0, 0, True),
        (5, 400, 5, 3.0, 0, True), (5, 400, 10, 1.0, 0, True), (2, 400, 5, 1.0, 0, True), (10, 400, 5, 1.0, 0, True),
        (5, 400, 5, 1.0, 5, True), (5, 400, 5, 1.0, 10, True), (5, 400, 5, 1.0, 20, True), (5, 400, 10, 1.0, 10, True),
    ]:  # fmt: skip
        asked_for = {"models": models, "videos": videos, "seeds": seeds, "sd": sd / 100, "worse": worse, "alike": alike}
        found["races"].append(asked_for | {"sd": sd} | races(draw, studies, **asked_for))
    found["temperatures"] = [
        {"videos": videos, "sources": sources,
         "coverage": temperatures(draw, min(studies, 1000), videos=videos, sources=sources)}
        for videos, sources in ((20, 20), (60, 60), (200, 200), (1000, 1000), (200, 20), (1000, 60))
    ]  # fmt: skip
    found["thresholds"] = [
        {"videos": videos, "wanted": wanted, "wrong_where_least_sure": share}
        | thresholds(draw, min(studies, 1000), videos=videos, wanted=wanted, share=share)
        for videos in (100, 300, 1000)
        for wanted, share in ((0.9, 0.5), (0.9, 0.25), (0.95, 0.25))
    ]
    if asked.json:
        print(json.dumps({"studies": studies, "seed": asked.seed, **found}, indent=2))
        return
    for name, lines in found.items():
        print(f"\n{name}, {studies} studies a line")
        print("| " + " | ".join(lines[0]) + " |\n" + "| --- " * len(lines[0]) + "|")
        for line in lines:
            print(
                "| "
                + " | ".join(f"{value:.3f}" if key in SHARES else f"{value:g}" for key, value in line.items())
                + " |"
            )
    print(f"\n{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
