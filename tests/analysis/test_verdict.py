"""The verdict on a study: what it recommends, by which rule, and that it claims no more than the pairs' verdicts."""

import dataclasses
import json
import re

import numpy as np
import pytest
from made_runs import PAIRS, foreign, make_run, seeds_of

from muybridge.analysis.comparison import compared, compared_runs
from muybridge.analysis.verdict import MOST_NUMBERS, MUCH, Number, Standing, more_videos, study_verdict, verdict_on
from muybridge.storage.study import RunRecord, SetRecord, StudyRecord

# --- who is recommended


def test_a_winner_is_better_than_every_other_as_models(tmp_path):
    comparison = compared(seeds_of(tmp_path, {"a": 0.9, "b": 0.7, "c": 0.5}))
    found = verdict_on(comparison)
    assert (found.kind, found.about, found.model) == ("winner", "models", "a")
    assert (
        found.headline == "Use a: it is right on about nine of ten test videos, and better than every other model here."
    )
    assert found.command == f"muybridge predict {tmp_path / 'a-0'} VIDEO"
    accuracy, lead = found.numbers
    best = comparison.models[0].accuracy
    assert (accuracy.value, accuracy.low, accuracy.high) == (best.value, best.low, best.high)
    nearest = comparison.verdicts[0, 1]
    assert (lead.value, lead.low, lead.high) == (nearest.difference.value, nearest.low, nearest.high)
    assert "more than b, the nearest of the others" in str(lead)
    assert "600 test videos, three seeds each" in found.rests_on[0]
    assert "corrected for 3 pairs" in found.rests_on[0]


def test_the_lead_is_over_the_model_that_may_be_nearest(tmp_path):
    """By the ends of the intervals, not by the figures: b is the second, but its difference is surer than that of c."""
    runs = seeds_of(tmp_path, {"a": 0.95, "b": 0.75})
    runs += seeds_of(tmp_path, {"c": 0.7}, spread=0.05)
    comparison = compared(runs)
    lows = {comparison.models[b].name: of.low for (a, b), of in comparison.verdicts.items() if a == 0}
    assert all(of.apart for (a, _), of in comparison.verdicts.items() if a == 0)
    assert lows["c"] < lows["b"]
    assert "more than c" in str(verdict_on(comparison).numbers[1])


def test_of_those_that_cannot_be_told_apart_the_cheapest_is_recommended(tmp_path):
    runs = seeds_of(tmp_path, {"a": 0.9, "b": 0.895, "c": 0.5}, macs={"a": 500e6, "b": 100e6, "c": 1e6}, videos=1200)
    found = verdict_on(compared(runs))
    assert (found.kind, found.model) == ("tie", "b")
    assert found.headline == "a and b cannot be told apart; b costs about a fifth."
    assert found.recommendation == "Use b: no other is shown to be better, and of those it costs least."
    assert found.command == f"muybridge predict {tmp_path / 'b-0'} VIDEO"
    assert found.numbers[1].value == pytest.approx(0.2, abs=1e-3)
    comparison = compared(runs)
    assert found.numbers[2].value == comparison.verdicts[0, 1].high, "what b may lack"


def test_cost_is_that_of_a_video_and_measured_time_counts_before_multiply_adds(tmp_path):
    accuracies, macs = {"a": 0.9, "b": 0.895}, {"a": 500e6, "b": 100e6}
    rates = {"a": {"forward_clips_per_s": 90.0}, "b": {"forward_clips_per_s": 30.0}}
    timed = verdict_on(compared(seeds_of(tmp_path / "timed", accuracies, macs=macs, speed=rates, videos=1200)))
    assert timed.model == "a"
    assert "the time to answer a video, as measured, against b" in str(timed.numbers[1])
    other = {"a": rates["a"] | {"device_name": "another"}, "b": rates["b"]}
    apart = verdict_on(compared(seeds_of(tmp_path / "apart", accuracies, macs=macs, speed=other, videos=1200)))
    assert apart.model == "b", "times of two machines do not compare"
    views = verdict_on(
        compared(seeds_of(tmp_path / "views", accuracies, macs=macs, views={"a": 1, "b": 10}, videos=1200))
    )
    assert views.model == "a", "ten views of a cheap network cost more than one of the other"


def test_equal_costs_are_called_so(tmp_path):
    found = verdict_on(compared(seeds_of(tmp_path, {"a": 0.9, "b": 0.895}, videos=1200)))
    assert found.headline == "a and b cannot be told apart; they cost about the same."
    assert "any of them will do" in found.recommendation


def test_what_is_merely_not_known_to_be_worse_is_not_recommended(tmp_path):
    """c is the cheapest, and its seeds spread so widely that it cannot be told from a: it may be far worse."""
    macs = {"a": 500e6, "b": 400e6, "c": 1e6}
    runs = seeds_of(tmp_path, {"a": 0.9, "b": 0.895}, macs=macs, videos=1200)
    runs += seeds_of(tmp_path, {"c": 0.86}, macs=macs, videos=1200, spread=0.03)
    comparison = compared(runs)
    standing = Standing(comparison)
    assert [comparison.models[rank].name for rank in standing.unbeaten] == ["a", "b", "c"]
    assert standing.most_lost(2) > MUCH > standing.most_lost(1)
    found = verdict_on(comparison)
    assert found.model == "b"
    assert "c would cost less, but may be worse by more than ten points" in found.rests_on[-1]


def test_a_model_that_another_is_better_than_is_never_the_cheap_choice(tmp_path):
    """Letters do not pass on: c may share a letter with a, but b is better than it."""
    comparison = compared(
        seeds_of(tmp_path, {"a": 0.9, "b": 0.895, "c": 0.85}, macs={"a": 9e6, "b": 8e6, "c": 1e6}, videos=1200)
    )
    assert any(of.apart for (_, b), of in comparison.verdicts.items() if b == 2)
    assert verdict_on(comparison).model == "b"


def test_the_highest_figure_does_not_win_where_another_is_better_on_common_videos(tmp_path):
    """a was tested on easy videos of its own, too."""
    first, rest = np.arange(300) % 10 < 6, np.ones(900, dtype=bool)
    runs = [
        make_run(tmp_path / f"a{s}", model="a", seed=s, correct_N=np.concatenate([np.roll(first, s), rest]))
        for s in range(3)
    ]
    runs += [make_run(tmp_path / f"b{s}", model="b", seed=s, videos=300, accuracy=0.85) for s in range(3)]
    comparison = compared(runs)
    assert comparison.models[0].name == "a"
    assert verdict_on(comparison).model == "b"


# --- too few seeds


def test_fewer_than_three_seeds_speak_of_these_runs_and_name_the_command(tmp_path):
    runs = seeds_of(tmp_path / "study" / "runs", {"a": 0.9, "b": 0.3}, seeds=2)
    found = verdict_on(compared(runs))
    assert (found.kind, found.about, found.model) == ("winner", "runs", "a")
    assert found.headline == "These runs say: a is better than b, and right on about nine of ten test videos."
    assert found.recommendation.startswith("Train three seeds each")
    recipe = tmp_path / "study" / "runs" / "a-0" / "recipe.json"
    command = f"muybridge compare --data /data/set.csv --models a,b --recipe {recipe} --seeds 3 --out "
    assert found.command == f"{command}STUDY"
    names = {run.name: RunRecord() for run in runs}
    StudyRecord(tmp_path / "study", None, names, {}, {"set": SetRecord(tuple(names))}).save()
    assert verdict_on(compared(runs)).command == f"{command}{tmp_path / 'study'}", "which keeps the finished runs"


def test_a_command_that_cannot_be_typed_out_is_words(tmp_path):
    changes = {"b": {"optim.lr": 0.5}}
    runs = seeds_of(tmp_path / "study" / "runs", {"a": 0.9, "b": 0.3}, seeds=1, changes=changes)
    found = verdict_on(compared(runs))
    assert found.command is None
    assert found.recommendation.endswith("Run the commands that trained them once more, with further seeds.")
    names = {run.name: RunRecord() for run in runs}
    StudyRecord(tmp_path / "study", None, names, {}, {"set": SetRecord(tuple(names))}).save()
    of_study = verdict_on(compared(runs)).recommendation
    assert of_study.endswith(f"Run the command that made {tmp_path / 'study'} once more, with --seeds 3.")
    assert "differ in more than the model (optim.lr)" in found.rests_on[-1]


def test_one_model_with_too_few_seeds_makes_it_one_of_runs(tmp_path):
    runs = [run for run in seeds_of(tmp_path, {"a": 0.9, "b": 0.5, "c": 0.2}) if run.name != "a-2"]
    found = verdict_on(compared(runs))
    assert found.about == "runs"
    assert "two to three seeds each" in found.rests_on[0]


# --- names of rows


def settings(folder, *changes, model="a", **asked):
    """Runs of one model, a setting each, the first the best."""
    return compared([
        make_run(folder / f"{number}", model=model, accuracy=0.9 - 0.2 * number, changes=changed, **asked)
        for number, changed in enumerate(changes)
    ])  # fmt: skip


def test_a_sentence_has_the_fields_that_it_takes_and_leaves_out_rates_and_hashes(tmp_path):
    first, second = (
        {"model.pretrained": f"/runs/{'long/' * 20}{n}.safetensors", "model.pretrained_sha256": n * 64, "optim.lr": lr}
        for n, lr in (("a", 0.1), ("b", 0.2))
    )
    told = settings(tmp_path / "1", first | {"clip.num_frames": 8}, second | {"clip.num_frames": 16})
    assert told.short_names == ("a (num_frames=8)", "a (num_frames=16)")
    assert all("pretrained=" in model.name for model in told.models), "tables have the whole"
    rates = settings(tmp_path / "2", first, second)
    assert rates.short_names == ("a (lr=0.1)", "a (lr=0.2)"), "nothing else tells them apart"
    square = [{"clip.num_frames": frames, "clip.size": size} for frames in (8, 16) for size in (64, 96)]
    assert settings(tmp_path / "3", *square).short_names[1:3] == (
        "a (num_frames=8, size=96)", "a (num_frames=16, size=64)",
    )  # fmt: skip


def test_a_row_without_a_short_name_is_said_by_its_place_and_named_below(tmp_path):
    long = "a_name_that_is_" + "very_" * 20 + "long"
    runs = seeds_of(tmp_path, {long: 0.9, "b": 0.5})
    found = verdict_on(compared(runs))
    assert found.headline == "Use the first: it is right on about nine of ten test videos, and better than b."
    assert found.rests_on[-1] == f"The first is {long}."
    assert "…" not in " ".join(found.lines())
    loser = verdict_on(compared(seeds_of(tmp_path / "l", {"b": 0.9, long: 0.5})))
    assert loser.headline.endswith("better than the second.")
    tie = verdict_on(compared(seeds_of(tmp_path / "t", {long: 0.9, "b": 0.895}, videos=1200)))
    assert tie.headline.startswith("The first and b cannot be told apart")
    alone = verdict_on(compared(runs[:3]))
    assert alone.headline.startswith("This model is right on")
    assert alone.rests_on[-1] == f"This model is {long}."


# --- too little to tell


def test_times_are_read_as_numbers():
    assert [Number(value, "times", "").figure for value in (0.204, 1.5, 100.0)] == ["0.2 ×", "1.5 ×", "100 ×"]


def test_too_few_videos_recommend_none_and_say_what_it_takes(tmp_path):
    draw = np.random.default_rng(3)
    runs = [
        make_run(tmp_path / f"{m}{s}", model=m, seed=s, correct_N=draw.random(20) < 0.8, videos=20, macs=macs)
        for m, macs in (("a", 500e6), ("b", 1e6)) for s in range(3)
    ]  # fmt: skip
    comparison = compared(runs)
    verdict = comparison.verdicts[0, 1]
    assert not verdict.apart
    assert min(verdict.high, -verdict.low) > MUCH
    found = verdict_on(comparison)
    assert (found.kind, found.model) == ("too_few", None)
    assert found.headline.startswith("It cannot be told which of ")
    assert found.headline.endswith(" is best: too few test videos were tested.")
    assert [found.numbers[0].value, found.numbers[1].value] == [20, max(verdict.high, -verdict.low)]
    assert found.numbers[2].unit == "times"
    assert found.numbers[2].value > 1
    assert found.command == "muybridge prepare FOLDER --folds 5 --out FOLDS.csv"


def test_sources_count_not_the_videos_of_each(tmp_path):
    place_N = np.arange(600)
    runs = [
        make_run(tmp_path / f"{m}{s}", model=m, seed=s, correct_N=(place_N + 7 * s) % 10 < np.where(place_N % 2 == of, 10, 7),
                 videos=600, groups=6)
        for of, m in enumerate("ab") for s in range(3)
    ]  # fmt: skip
    found = verdict_on(compared(runs))
    assert found.kind == "too_few"
    assert str(found.numbers[0]) == "6 sources (groups of test videos) were tested"
    assert "from 6 sources" in found.rests_on[0]


def test_folds_are_not_advised_without_the_groups_of_the_set(tmp_path):
    """Sources that lie in two folds would leak."""
    place_N = np.arange(600)
    runs = [
        make_run(tmp_path / f"{m}{s}", model=m, seed=s, correct_N=(place_N + 7 * s) % 10 < np.where(place_N % 2 == of, 10, 7),
                 videos=600, groups=60)
        for of, m in enumerate("ab") for s in range(3)
    ]  # fmt: skip
    words, command = more_videos(compared(runs))
    assert command is None
    assert "Prepare them again as /data/set.csv was made, with --folds 5 and the same --group" in words
    assert (
        more_videos(compared([make_run(tmp_path / "plain")]))[1] == "muybridge prepare FOLDER --folds 5 --out FOLDS.csv"
    )


def test_few_common_videos_are_no_small_test(tmp_path):
    """a and b were tested on 60 videos each and share five."""
    runs = [make_run(tmp_path / m, model=m, accuracy=accuracy) for m, accuracy in (("a", 0.9), ("b", 0.8))]
    scores = runs[1].scores()
    ids_N = np.array([name if k < 5 else f"other/{name}" for k, name in enumerate(scores.ids_N)])
    runs[1].save_scores("test", dataclasses.replace(scores, ids_N=ids_N))
    found = verdict_on(compared(runs))
    assert (found.kind, found.command) == ("too_few", None)
    assert found.headline.endswith(": they share too few test videos.")
    assert str(found.numbers[0]) == "5 test videos are all that they share"
    assert found.recommendation == "Test all of them on the same videos."
    assert found.rests_on[0].startswith("It rests on 5 test videos that all were tested on, one seed each")


def test_no_common_video_no_verdict(tmp_path):
    runs = [make_run(tmp_path / m, model=m, fold=fold, accuracy=a) for m, fold, a in (("a", 1, 0.9), ("b", 2, 0.5))]
    found = verdict_on(compared(runs))
    assert (found.kind, found.model, found.command) == ("nothing_common", None, None)


# --- guesses


def test_no_model_beats_always_giving_one_answer(tmp_path):
    trained = [
        make_run(tmp_path / m, model=m, videos=600, correct_N=np.arange(600) % 60 // 6 < right, accuracy=0.9, epochs=20)
        for m, right in (("a", 1), ("b", 0))
    ]
    found = verdict_on(compared(trained))
    assert (found.kind, found.model) == ("guess", None)
    assert found.headline == "No model beats always answering left."
    assert [number.value for number in found.numbers] == pytest.approx([0.1, 1 / 6])
    assert found.command == "muybridge doctor /data/set.csv"
    alone = verdict_on(compared([make_run(tmp_path / "alone", accuracy=0.1)]))
    assert (alone.recommendation, alone.command) == ("Mend the training first.", None)
    assert alone.rests_on[-1].startswith("far too few updates: 40 ")
    assert alone.headline == "tsm_resnet_tiny does not beat always answering left."


def test_a_little_above_a_guess_takes_more_videos(tmp_path):
    found = verdict_on(compared([make_run(tmp_path / "a", accuracy=0.3, videos=30, epochs=20)]))
    assert found.headline == "tsm_resnet_tiny is not shown to beat always answering left."
    assert "Test on more videos" in found.recommendation


def test_of_many_models_one_is_above_a_guess_by_chance(tmp_path):
    """Each by itself lies above, one of twelve would by chance: the verdict is corrected for their number."""
    runs = [make_run(tmp_path / str(i), model=f"m{i}", accuracy=0.283, videos=60, epochs=20) for i in range(12)]
    comparison = compared(runs)
    assert all(map(comparison.beats_a_guess, comparison.models))
    assert verdict_on(comparison).kind == "guess"
    assert verdict_on(compared(runs[:1])).kind == "single"


def test_models_that_may_not_see_time_are_to_be_diagnosed(tmp_path):
    runs = [make_run(tmp_path / "a", accuracy=0.9, correct_N=np.zeros(60, dtype=bool), pairs=PAIRS, epochs=20)]
    assert verdict_on(compared(runs)).command == f"muybridge diagnose {tmp_path / 'a'}"


# --- one model, other tools, uneven tests, several sets


def test_a_single_run_is_compared_with_nothing(tmp_path):
    found = verdict_on(compared([make_run(tmp_path / "my run", accuracy=0.8)]))
    assert found.headline == "tsm_resnet_tiny is right on about four of five test videos; nothing is compared with it."
    assert found.command == f"muybridge predict '{tmp_path / 'my run'}' VIDEO"
    assert [number.figure for number in found.numbers] == ["80.0 %", "16.7 %"]
    assert any("not known how far another seed" in line for line in found.rests_on)


def test_predictions_of_other_tools_have_a_verdict_and_no_command_of_runs(tmp_path):
    winner = verdict_on(foreign(compared(seeds_of(tmp_path / "w", {"a": 0.9, "b": 0.5}))))
    assert (winner.kind, winner.model, winner.command) == ("winner", "a", None)
    assert winner.recommendation == "Label videos with the tool that made its predictions."
    tie = verdict_on(foreign(compared(seeds_of(tmp_path / "t", {"a": 0.9, "b": 0.895}, videos=1200))))
    assert tie.headline == "a and b cannot be told apart; what they cost is not known here."
    assert tie.recommendation.endswith("any of them will do. Label videos with the tool that made its predictions.")
    runs = verdict_on(foreign(compared(seeds_of(tmp_path / "r", {"a": 0.9, "b": 0.5}, seeds=1))))
    assert (runs.command, runs.recommendation.endswith("Add their predictions.")) == (None, True)
    guess = verdict_on(foreign(compared(seeds_of(tmp_path / "g", {"a": 0.1, "b": 0.1}))))
    assert (guess.kind, guess.command) == ("guess", None)


def test_videos_without_an_answer_stand_beside_the_accuracy(tmp_path):
    comparison = foreign(compared([make_run(tmp_path / "a", model="a", accuracy=0.9)]))
    [row] = comparison.models
    found = verdict_on(dataclasses.replace(comparison, models=(dataclasses.replace(row, truth_videos=90),)))
    assert (
        found.headline == "a is right on about nine of ten test videos that it answered; nothing is compared with it."
    )
    assert found.numbers[0].about == "of the 60 test videos that a answered, of 90, are right"
    assert "Not all videos were answered (a 60 of 90): nothing is known of the others." in found.rests_on
    few = foreign(compared([make_run(tmp_path / "few", model="few", accuracy=0.4, videos=5)]))
    unclear = verdict_on(dataclasses.replace(few, models=(dataclasses.replace(few.models[0], truth_videos=90),)))
    assert (unclear.kind, unclear.recommendation) == ("guess", "Have all test videos answered first.")
    assert unclear.numbers[0].about == "of the 5 test videos that few answered, of 90, are right"
    whole = verdict_on(dataclasses.replace(comparison, models=(dataclasses.replace(row, truth_videos=60),)))
    assert "answered" not in " ".join(whole.lines())


def test_an_uneven_test_is_told_by_the_mean_over_classes(tmp_path):
    """Of 90 videos of one class and 10 of another, a is right on all of the first, b on most of both."""

    def correct(of_large, of_small):
        labels_N = np.array([0] * 270 + [1] * 30)
        order_N = np.concatenate([np.arange(270) < of_large, np.arange(30) < of_small])
        return labels_N, order_N

    runs = []
    for model, counts in (("a", (270, 15)), ("b", (240, 27))):
        for seed in range(3):
            run = make_run(tmp_path / f"{model}{seed}", model=model, seed=seed, videos=300, classes=("large", "small"))
            labels_N, right_N = correct(*counts)
            scores = run.scores()
            logits = 4.0 * np.eye(2, dtype=np.float32)[np.where(right_N, labels_N, 1 - labels_N)]
            run.save_scores("test", dataclasses.replace(
                scores, labels_N=labels_N, logits_VK=np.repeat(logits, scores.num_views, axis=0)
            ))  # fmt: skip
            runs.append(run)
    comparison = compared(runs)
    assert comparison.by_class
    found = verdict_on(comparison)
    first = found.numbers[0]
    assert comparison.models[0].name == "b"
    assert first.value == pytest.approx((240 / 270 + 27 / 30) / 2)
    assert "on average over the classes" in first.about
    assert "each class counts the same" in " ".join(found.rests_on)


def sets(folder, of_sets, **asked):
    """Comparisons of several data sets, by name."""
    runs = [
        run
        for number, (name, accuracies) in enumerate(of_sets.items())
        for run in seeds_of(
            folder / name, accuracies, **asked,
            changes={model: {"data.manifest": f"/data/{name}.csv"} for model in accuracies},
            classes={model: [f"{k} of {number}" for k in range(6)] for model in accuracies},
        )
    ]  # fmt: skip
    return compared_runs(runs)


def test_several_data_sets_have_one_verdict(tmp_path):
    same = study_verdict(sets(tmp_path / "same", {"one": {"a": 0.9, "b": 0.5}, "two": {"a": 0.8, "b": 0.4}}))
    assert same.headline == "a is better than every other on each of the two data sets."
    assert (same.model, same.command) == ("a", f"muybridge predict {tmp_path / 'same' / 'one' / 'a-0'} VIDEO")
    assert sorted(number.value for number in same.numbers) == pytest.approx([0.8, 0.9])
    differ = study_verdict(sets(tmp_path / "differ", {"one": {"a": 0.9, "b": 0.5}, "two": {"a": 0.4, "b": 0.8}}))
    assert differ.headline == "No one model is the choice on every data set: a on one and b on two."
    assert (differ.model, differ.command) == (None, None)
    start = f"/runs/{'long/' * 20}x.safetensors"
    of_settings = [
        make_run(tmp_path / "settings" / data / f"{frames}-{seed}", seed=seed, videos=600, accuracy=accuracy - seed / 250,
                 classes=[f"{k} of {data}" for k in range(6)],
                 changes={"data.manifest": f"/data/{data}.csv", "clip.num_frames": frames, "model.pretrained": pretrained})
        for data, accuracies in (("one", (0.9, 0.5)), ("two", (0.4, 0.8)))
        for frames, pretrained, accuracy in zip((8, 16), (None, start), accuracies, strict=True) for seed in range(3)
    ]  # fmt: skip
    assert study_verdict(compared_runs(of_settings)).headline == (
        "No one model is the choice on every data set: tsm_resnet_tiny (num_frames=8) on one and tsm_resnet_tiny "
        "(num_frames=16) on two."
    )
    guess = study_verdict(sets(tmp_path / "guess", {"one": {"a": 0.9, "b": 0.5}, "two": {"a": 0.1, "b": 0.1}}))
    assert guess.headline == "No one model is the choice on every data set: a on one; on two none can be recommended."
    runs = study_verdict(sets(tmp_path / "runs", {"one": {"a": 0.9, "b": 0.5}, "two": {"a": 0.8, "b": 0.4}}, seeds=1))
    assert (runs.about, runs.command) == ("runs", None)
    assert runs.headline.startswith("These runs say: ")


# --- what is promised of every verdict


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("videos", [12, 60, 1200])
@pytest.mark.parametrize("values", [(0.9,), (0.9, 0.6), (0.9, 0.895), (0.1, 0.15), (0.95, 0.93, 0.9, 0.9, 0.5)])
def test_a_verdict_has_at_most_three_numbers_and_claims_what_pairs_show(tmp_path, seeds, videos, values):
    accuracies = {f"model_{'abcde'[i]}": value for i, value in enumerate(values)}
    macs = {name: 1e8 / (1 + i) for i, name in enumerate(accuracies)}
    comparison = compared(seeds_of(tmp_path, accuracies, seeds=seeds, videos=videos, macs=macs))
    found = verdict_on(comparison)
    assert len(found.numbers) <= MOST_NUMBERS
    block = " ".join([found.headline, found.recommendation, *(number.about for number in found.numbers)])
    assert not re.search(r"\d", block), "the figures are the numbers, and words are words"
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["headline"] == found.headline
    ranks = {model.name: rank for rank, model in enumerate(comparison.models)}
    if "better than" in found.headline:
        others = [
            comparison.minus(ranks[found.model], other) for other in ranks.values() if other != ranks[found.model]
        ]
        assert all(of.apart and of.difference.value > 0 for of in others)
    if "cannot be told apart" in found.headline:
        assert any(not of.apart for of in comparison.verdicts.values())
    if found.model is not None:
        assert comparison.beats_a_guess(comparison.models[ranks[found.model]])
        assert not any(of.apart for other in ranks.values() if (of := comparison.minus(other, ranks[found.model]))
                       and of.difference.value > 0)  # fmt: skip
    if seeds < 3 and len(values) > 1 and found.model is not None:
        assert found.headline.startswith("These runs say: ")
        assert "Use" not in found.headline
