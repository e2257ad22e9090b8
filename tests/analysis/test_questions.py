"""Questions that a reader has of a study: what is answered yes or no follows from intervals, all else can't be told."""

import dataclasses

import numpy as np
import pytest
from made_runs import CLASSES, PAIRS, foreign, made_scores, make_run, seeds_of

from muybridge.analysis.comparison import compared
from muybridge.analysis.questions import questions
from muybridge.analysis.statistics import takes
from muybridge.analysis.verdict import verdict_on

BETTER, GUESS, TIME, MORE, FAIR, HONEST, BEHIND = range(7)
STARTS = ("Is the best", "Is any better", "Does the order", "Would more", "Is it a fair", "Are the prob", "Does ")


def asked(comparison, which):
    """The one question of that kind."""
    kinds = [0 if one.question.startswith(STARTS[which]) else 1 for one in questions(comparison)]
    found = [one for one, kind in zip(questions(comparison), kinds, strict=True) if kind == 0]
    if which == BEHIND:
        found = [one for one in found if one.question.endswith("a class behind?")]
    [one] = found
    return one


def test_better_than_the_second_takes_three_seeds(tmp_path):
    runs = seeds_of(tmp_path, {"a": 0.9, "b": 0.7})
    found = asked(compared(runs), BETTER)
    assert (found.answer, found.command) == ("yes", None)
    assert found.why == f"a minus b is {compared(runs).verdicts[0, 1]}"
    few = asked(compared([run for run in runs if run.name.endswith("-0")]), BETTER)
    assert few.answer == "can't tell"
    assert "these runs differ" in few.why
    assert few.command.startswith("muybridge compare --data /data/set.csv --models a,b")
    assert few.command.endswith("--seeds 3 --out STUDY")


def test_not_told_apart_is_never_a_no(tmp_path):
    found = asked(compared(seeds_of(tmp_path, {"a": 0.9, "b": 0.895})), BETTER)
    assert found.answer == "can't tell"


def test_no_is_a_difference_that_is_surely_small(tmp_path):
    """Both answer alike but for a handful of 12,000 videos."""
    alike = np.arange(12000) % 10 > 0
    other = alike.copy()
    other[[10, 20]] = True
    runs = [make_run(tmp_path / f"{m}{s}", model=m, seed=s, correct_N=right_N, videos=12000, views=1)
            for m, right_N in (("a", other), ("b", alike)) for s in range(3)]  # fmt: skip
    found = asked(compared(runs), BETTER)
    assert found.answer == "no"
    assert "less than a point" in found.why


@pytest.mark.parametrize(("accuracy", "answer"), [(0.1, "no"), (0.25, "can't tell"), (0.9, "yes")])
def test_a_guess_is_beaten_where_the_interval_lies_above(tmp_path, accuracy, answer):
    assert asked(compared([make_run(tmp_path / "a", accuracy=accuracy, videos=30)]), GUESS).answer == answer


def test_time_is_asked_by_diagnosis_and_by_reversed_classes(tmp_path):
    run = make_run(tmp_path / "plain")
    found = asked(compared([run]), TIME)
    assert (found.answer, found.command) == ("not asked", f"muybridge diagnose {tmp_path / 'plain'}")
    sees = asked(compared([make_run(tmp_path / "sees", accuracy=0.95, videos=240, pairs=PAIRS)]), TIME)
    assert sees.answer == "yes"
    assert "tells time-reversed classes apart" in sees.why
    blind = make_run(tmp_path / "blind", videos=240, pairs=PAIRS)
    place = np.arange(240)
    half = made_scores(place // 6 % 2 == 0)
    partner_N = np.array([1, 0, 3, 2, 4, 5])[half.labels_N]
    answer_N = np.where(place // 6 % 2 == 0, half.labels_N, partner_N)
    blind.save_scores("test", dataclasses.replace(half, logits_VK=4 * np.eye(6, dtype=np.float32)[answer_N]))
    assert asked(compared([blind]), TIME).answer == "can't tell"
    without = [one for one in questions(foreign(compared([run]))) if one.question.startswith(STARTS[TIME])]
    assert without == [], "of another tool's answers muybridge has nothing to ask"


def test_more_seeds_or_videos_promise_what_takes_says(tmp_path):
    assert asked(compared(seeds_of(tmp_path / "told", {"a": 0.9, "b": 0.5})), MORE).answer == "no"
    unclear = asked(compared(seeds_of(tmp_path / "near", {"a": 0.9, "b": 0.88}, spread=0.02)), MORE)
    assert unclear.answer == "yes"
    assert "seeds each on" in unclear.why
    equal = asked(compared(seeds_of(tmp_path / "equal", {"a": 0.9, "b": 0.9})), MORE)
    assert equal.answer == "can't tell"
    one = asked(compared(seeds_of(tmp_path / "one", {"a": 0.9, "b": 0.5}, seeds=1)), MORE)
    assert one.answer == "yes"
    assert "--seeds 3 " in one.command


def test_two_targets_are_both_named_and_never_contradict_the_verdict(tmp_path):
    """The two are as good as equal; that one is ten points better takes more videos, by the verdict and by the question."""
    draw = np.random.default_rng(3)
    runs = [
        make_run(tmp_path / f"{m}{s}", model=m, seed=s, correct_N=draw.permutation(40) < right, videos=40)
        for m, rights in (("a", (32, 32, 33)), ("b", (32, 32, 32))) for s, right in enumerate(rights)
    ]  # fmt: skip
    comparison = compared(runs)
    assert takes(comparison.verdicts[0, 1].difference, pairs=1) is None
    times = verdict_on(comparison).numbers[2].value
    found = asked(comparison, MORE)
    assert found.answer == "yes"
    assert f"on {times:g} times as many test videos would show a difference of ten points" in found.why
    assert found.why.endswith("one as small as here (0.8 points between a and b) is out of reach")
    large = [
        make_run(tmp_path / f"large/{m}{s}", model=m, seed=s, correct_N=draw.permutation(6000) < right, videos=6000, views=1)
        for m, right in (("a", 4801), ("b", 4800)) for s in range(3)
    ]  # fmt: skip
    seen = asked(compared(large), MORE)
    assert seen.answer == "no"
    assert seen.why.startswith("one of ten points would most likely show already")


def test_fair_is_one_protocol_on_the_same_videos(tmp_path):
    fair = seeds_of(tmp_path / "fair", {"a": 0.9, "b": 0.5})
    assert asked(compared(fair), FAIR).answer == "yes"
    assert asked(foreign(compared(fair)), FAIR).answer == "can't tell"
    for name, options, why in (
        ("lr", {"changes": {"b": {"optim.lr": 0.5}}}, "optim.lr"), ("videos", {"videos": {"b": 500}}, "500 videos in common"),
    ):  # fmt: skip
        asking = {"videos": {"a": 600, "b": 600}} | options
        runs = [
            make_run(tmp_path / name / m, model=m, videos=asking["videos"].get(m, 600), accuracy=0.8,
                     changes=asking.get("changes", {}).get(m))
            for m in "ab"
        ]  # fmt: skip
        found = asked(compared(runs), FAIR)
        assert found.answer == "no"
        assert why in found.why
    lost = asked(compared([run for run in fair if run.name != "b-2"]), FAIR)
    assert (lost.answer, lost.why) == ("no", "some have 2 seeds, others 3")


def surely(run, probability, classes=CLASSES):
    """The run's scores, whose answers all have this probability."""
    scores, count = run.scores(), len(classes)
    margin = np.log(probability * (count - 1) / (1 - probability))
    answers_V = scores.logits_VK.argmax(1)
    run.save_scores(
        "test", dataclasses.replace(scores, logits_VK=(margin * np.eye(count)[answers_V]).astype(np.float32))
    )
    return run


@pytest.mark.parametrize(
    ("probability", "videos", "answer"),
    [(0.9, 1200, "yes"), (0.99, 1200, "no"), (0.7, 1200, "no"), (0.88, 12, "can't tell")],
)
def test_probabilities_are_honest_where_the_interval_says_so(tmp_path, probability, videos, answer):
    run = surely(make_run(tmp_path / "a", accuracy=0.9, videos=videos), probability)
    found = asked(compared([run]), HONEST)
    assert found.answer == answer
    assert (found.command == f"muybridge calibrate {tmp_path / 'a'}") == (answer == "no")
    if answer == "no":
        assert found.why.startswith("too high" if probability > 0.9 else "too low")


def test_probabilities_are_those_at_the_temperature(tmp_path):
    runs = [surely(make_run(tmp_path / "a", accuracy=0.9, videos=1200), 0.99)]
    comparison = compared(runs)
    (model,) = comparison.models
    cooled = dataclasses.replace(model.answers[0], sure_N=np.full(1200, 0.9))
    calibrated = dataclasses.replace(comparison, models=(dataclasses.replace(model, answers=(cooled,)),))
    assert asked(comparison, HONEST).answer == "no"
    assert asked(calibrated, HONEST).answer == "yes"


def test_a_class_is_left_behind_by_its_interval(tmp_path):
    """`wave` is right on 10 of 100 videos; with 2 videos of each class nothing can be told."""
    place = np.arange(600)
    correct_N = np.where(place % 6 == 5, place // 6 < 10, place // 6 < 90)
    found = asked(compared([make_run(tmp_path / "a", correct_N=correct_N, videos=600)]), BEHIND)
    assert found.answer == "yes"
    assert found.why.startswith("wave (0.10) of a mean of 0.77")
    assert found.command == "muybridge doctor /data/set.csv"
    even = asked(compared([make_run(tmp_path / "b", correct_N=place // 6 < 90, videos=600)]), BEHIND)
    assert even.answer == "no"
    few = asked(compared([make_run(tmp_path / "c", correct_N=np.arange(12) < 11, videos=12)]), BEHIND)
    assert few.answer == "can't tell"
    assert "2 videos" in few.why


def test_one_run_is_asked_nothing_about_others(tmp_path):
    starts = [one.question for one in questions(compared([make_run(tmp_path / "a")]))]
    assert not any(one.startswith(STARTS[which]) for one in starts for which in (BETTER, FAIR, MORE))
