"""What a set of runs is said to show: folds joined, seeds lined up, settings kept apart, and sentences that follow from
the figures."""

import dataclasses
import json

import numpy as np
import pytest
from made_runs import CLASSES, PAIRS, made_scores, make_run, seeds_of

from muybridge.analysis.comparison import Comparison, compared, compared_runs, find_runs
from muybridge.analysis.findings import findings
from muybridge.analysis.results import method_and_backbone
from muybridge.analysis.rows import settings_of
from muybridge.errors import UserError
from muybridge.reporting.sections.parts import Chapter
from muybridge.reporting.sections.result import significance
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, ViewGrid
from muybridge.text import listed


def names(comparison):
    return [model.name for model in comparison.models]


def said(runs):
    return " ".join(findings(compared(runs)))


def reordered(scores, order):
    rank = np.argsort(order)
    return Scores(
        scores.classes, scores.ids_N[order], scores.labels_N[order], scores.groups_N[order], rank[scores.video_V],
        scores.clip_start_V, scores.crop_V, scores.logits_VK, scores.average,
    )  # fmt: skip


def answering(share_forward, videos=240):
    """Scores of videos of the two pairs only; the right one of a pair wins for this share of the videos of each class."""
    paired = made_scores(np.ones(videos, dtype=bool), classes=CLASSES)
    other = np.array([1, 0, 3, 2, 4, 5])
    forward = (np.arange(videos) // len(CLASSES)) < share_forward * videos / len(CLASSES)
    answer = np.where(forward, paired.labels_N, other[paired.labels_N])
    logits = np.eye(len(CLASSES), dtype=np.float32)[answer]
    return Scores(
        paired.classes, paired.ids_N, paired.labels_N, paired.groups_N, paired.video_V, paired.clip_start_V,
        paired.crop_V, logits, paired.average,
    )  # fmt: skip


# --- rows: folds, seeds, settings


def test_folds_are_joined_video_by_video(tmp_path):
    one = make_run(tmp_path / "f1", fold=1, videos=30, accuracy=1.0)
    two = make_run(tmp_path / "f2", fold=2, videos=90, accuracy=0.5)
    (model,) = compared([two, one]).models
    assert model.accuracy.value == (30 + 45) / 120  # not the mean of the folds' accuracies
    assert model.num_seeds == 1
    assert model.confusion.sum() == 120


def test_seeds_are_lined_up_by_video(tmp_path):
    a, b = make_run(tmp_path / "a", seed=0, views=3), make_run(tmp_path / "b", seed=1, views=3)
    a.save_scores("test", made_scores(np.arange(60) < 48, views=3))
    b.save_scores("test", reordered(a.scores(), np.random.default_rng(0).permutation(60)))
    (model,) = compared([a, b]).models
    assert model.correct_SN.shape == (2, 60)
    assert (model.correct_SN[0] == model.correct_SN[1]).all()
    assert model.accuracy.value == 0.8


def test_a_seed_that_lacks_folds_is_left_out_with_its_runs(tmp_path):
    runs = [make_run(tmp_path / f"s{s}f{f}", seed=s, fold=f) for s, f in [(0, 1), (0, 2), (1, 1), (2, 1), (2, 2)]]
    comparison = compared(runs)
    (model,) = comparison.models
    assert model.num_seeds == 2
    assert {run.name for run in model.runs} == {"s0f1", "s0f2", "s2f1", "s2f2"}
    assert comparison.notes == (
        "tsm_resnet_tiny: 1 of 3 seeds lack folds or videos that others have, and are left out.",
    )


def test_seeds_of_different_folds_never_pass_for_the_same_videos(tmp_path):
    (model,) = compared(
        [make_run(tmp_path / "a", seed=0, fold=1, accuracy=1.0), make_run(tmp_path / "b", seed=1, fold=2, accuracy=0.5)]
    ).models
    assert model.num_seeds == 1
    assert len(model.runs) == 1


def test_two_settings_of_a_model_are_two_rows(tmp_path):
    runs = [
        make_run(tmp_path / "a", seed=0, accuracy=0.9),
        make_run(tmp_path / "b", seed=1, accuracy=0.5, changes={"clip.num_frames": 16}),
        make_run(tmp_path / "c", model="tsn_resnet_tiny", accuracy=0.2),
    ]
    comparison = compared(runs)
    assert names(comparison) == ["tsm_resnet_tiny (num_frames=8)", "tsm_resnet_tiny (num_frames=16)", "tsn_resnet_tiny"]
    assert comparison.differences == {"clip.num_frames": [8, 16]}
    assert "differ in more than the model (clip.num_frames)" in " ".join(findings(comparison))


def test_what_runs_may_differ_in_without_a_word(tmp_path):
    runs = [
        make_run(tmp_path / "a"),
        make_run(tmp_path / "b", seed=1, changes={"data.manifest": "/moved/set.csv"}),
        make_run(tmp_path / "c", model="tsn_resnet_tiny"),
    ]
    comparison = compared(runs)
    assert comparison.differences == {}
    assert sorted(names(comparison)) == ["tsm_resnet_tiny", "tsn_resnet_tiny"]


def test_differences_name_every_value_once_and_options_that_some_lack(tmp_path):
    changes = [{}, {"optim.lr": 0.5}, {"optim.lr": 0.5, "model.options.places": 3}]
    runs = [make_run(tmp_path / str(i), model=f"m{i}", changes=change) for i, change in enumerate(changes)]
    assert compared(runs).differences == {"model.options.places": [None, 3], "optim.lr": [0.01, 0.5]}
    other_data = make_run(tmp_path / "x", model="x", changes={"data.sha256": "b" * 64, "data.manifest": "/other.csv"})
    assert set(compared([runs[0], other_data]).differences) == {"data.manifest", "data.sha256"}


def test_the_best_comes_first_and_a_run_counts_once(tmp_path):
    runs = [make_run(tmp_path / str(i), model=f"m{i}", accuracy=a) for i, a in enumerate((0.5, 0.9, 0.7))]
    again = Run(tmp_path / "1" / ".." / "0")
    assert names(compared([*runs, runs[1], again])) == ["m1", "m2", "m0"]


def test_runs_that_cannot_be_compared(tmp_path):
    run, same = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    with pytest.raises(UserError, match=r"a: it is the same run as .*b \(both are tsm_resnet_tiny of seed 0\)"):
        compared([run, same])
    with pytest.raises(UserError, match="its classes are different"):
        compared([run, make_run(tmp_path / "c", model="m", classes=("x", "y"))])
    unfinished = make_run(tmp_path / "d", model="m", finished=False)
    with pytest.raises(UserError, match="none of these is finished"):
        compared([unfinished])
    assert compared([run, unfinished]).notes == ("Not finished, and left out: d.",)


def test_models_tested_on_different_videos_are_noted(tmp_path):
    runs = [make_run(tmp_path / "a", model="a", fold=1), make_run(tmp_path / "b", model="b", fold=2)]
    assert any("same videos" in note for note in compared(runs).notes)


def test_speeds_of_different_machines_are_noted(tmp_path):
    runs = [make_run(tmp_path / "a", model="a"), make_run(tmp_path / "b", model="b")]
    assert compared(runs).notes == ()
    file = runs[0].path / "environment.json"
    file.write_text(json.dumps({**runs[0].environment(), "processor": "another"}))
    assert any("clips/s do not compare" in note for note in compared(runs).notes)


# --- figures


def test_the_table_and_the_json_say_the_same(tmp_path):
    run = make_run(tmp_path / "a", accuracy=0.9, videos=60, pairs=PAIRS, macs=1.8e9, params=11.2e6)
    comparison = compared([run])
    header, rows = comparison.table()
    row = dict(zip(header, rows[0], strict=True))
    assert row["model"] == "tsm_resnet_tiny"
    assert row["video top-1 [95 %]"].startswith("0.900 [0.7")
    assert (row["parameters"], row["conv MACs"], row["train clips/s"]) == ("11.20 M", "1.80 G", "250")
    value = json.loads(json.dumps(comparison.as_json(), allow_nan=False))["models"][0]
    assert value["video_top1"] == 0.9
    assert value["low"] < 0.9 < value["high"]
    assert row["within pairs [95 %]"].startswith(f"{value['within_pairs']:.3f}")
    assert row["other classes"] == f"{value['outside_pairs']:.3f}"


def test_a_run_without_timing_has_no_speed_rather_than_nan(tmp_path):
    comparison = compared([make_run(tmp_path / "a", epochs=0)])
    assert comparison.table()[1][0][-2] == "–"
    assert json.loads(json.dumps(comparison.as_json(), allow_nan=False))["models"][0]["train_clips_per_s"] is None


def test_within_pairs_asks_for_one_of_two(tmp_path):
    """`answering` errs only inside the pairs' classes and, for the other two classes, between nothing."""
    run = make_run(tmp_path / "a", pairs=PAIRS, videos=240)
    run.save_scores("test", answering(0.75))
    (model,) = compared([run]).models
    assert model.within_pairs(PAIRS).value == 0.75
    assert model.within_pairs([PAIRS[0]]).value == 0.75
    assert model.outside_pairs(PAIRS).value == 1.0


def test_outside_pairs_is_nothing_where_every_class_is_paired(tmp_path):
    run = make_run(tmp_path / "a", classes=CLASSES[:4], pairs=PAIRS)
    comparison = compared([run])
    assert comparison.models[0].outside_pairs(PAIRS) is None
    assert "–" in comparison.table()[1][0]
    assert "other classes" not in " ".join(findings(comparison))


def test_pairs_without_test_videos_are_left_out(tmp_path):
    run = make_run(tmp_path / "a", videos=3, accuracy=1.0, pairs=PAIRS)  # left, right and open occur; close does not
    comparison = compared([run])
    assert comparison.pairs == (("left", "right"),)
    assert any("open / close" in note for note in comparison.notes)


# --- sentences


def test_one_model_wins_nothing(tmp_path):
    text = said([make_run(tmp_path / "a", accuracy=0.9)])
    assert text.startswith("tsm_resnet_tiny has video accuracy 0.900 [")
    assert "on 60 test videos, 2 views each (Wilson over 60 videos)." in text
    assert "highest" not in text
    assert "seed" not in text


def test_one_seed_each_is_said_of_these_two_runs_and_never_of_models(tmp_path):
    """However large the difference: another seed might have turned it round."""
    for place, (a, b) in enumerate([(0.9, 0.2), (0.8, 0.75)]):
        runs = [
            make_run(tmp_path / f"{m}{place}", model=m, accuracy=value, videos=300) for m, value in (("a", a), ("b", b))
        ]
        comparison = compared(runs)
        text = " ".join(findings(comparison))
        assert not comparison.about_models
        assert "these two runs" in text
        assert "these two models" not in text
        assert "a is better than b" not in text
        assert ("cannot be told apart" in text) == (place == 1)
        assert "A claim about the models needs at least 3 seeds of each (--seeds 3)" in text
        assert "To tell a and b apart as models, if they differ as they do here" in text
        assert "which is not known here" in text  # how seeds spread


def test_of_several_runs_the_best_is_told_from_those_that_differ(tmp_path):
    accuracies = {"m0": 0.8, "m1": 0.78, "m2": 0.3}
    runs = [make_run(tmp_path / m, model=m, accuracy=value, videos=300) for m, value in accuracies.items()]
    comparison = compared(runs)
    text = " ".join(findings(comparison))
    assert "Of these 3 runs, that of m0 is better than m2 (on the same videos, corrected for 3 pairs)." in text
    assert "That of m0 cannot be told from m1" in text
    assert [comparison.letters(place) for place in range(3)] == ["a", "a", "b"]
    assert {names: verdict.apart for names, verdict in comparison.verdicts.items()} == {
        (0, 1): False, (0, 2): True, (1, 2): True,
    }  # fmt: skip


def test_three_seeds_each_speak_of_models_and_group_them(tmp_path):
    comparison = compared(seeds_of(tmp_path, {"a": 0.9, "b": 0.895, "c": 0.5, "d": 0.5}))
    text = " ".join(findings(comparison))
    assert comparison.about_models
    assert "a is better than c and d (over seeds and videos, corrected for 6 pairs)." in text
    assert "a cannot be told from b" in text
    assert "Groups within which no two can be told apart: a: a and b; b: c and d." in text
    assert "as they do here" in text
    assert "runs" not in text
    assert comparison.as_json()["groups"] == [["a", "b"], ["c", "d"]]
    header, rows = comparison.table()
    assert [row[header.index("letter")] for row in rows] == ["a", "a", "b", "b"]


def test_a_model_with_too_few_seeds_takes_nothing_from_the_others(tmp_path):
    """Pair by pair: what two models with three seeds each show does not change as a third lost a seed."""
    runs = seeds_of(tmp_path, {"a": 0.9, "b": 0.5, "c": 0.2})
    for lost, few in (("c-2", "c"), ("a-2", "a")):
        comparison = compared([run for run in runs if run.name != lost])
        text = " ".join(findings(comparison))
        assert ("a is better than b (over seeds and videos, corrected for 3 pairs)." in text) == (few == "c")
        held = "c" if few == "c" else "b and c"
        assert f"The runs of a are better than those of {held} (on the same videos, corrected for 3 pairs)." in text
        assert f"{few} has fewer than 3 seeds: what is said of it holds for its runs alone" in text
        assert ("To tell a and b apart as models" in text) == (few == "a"), "there are three seeds of both already"
        about = {(one["a"], one["b"]): one["about"] for one in comparison.as_json()["verdicts"]}
        assert about == {pair: "runs" if few in pair else "models" for pair in about}
        table = significance(Chapter(comparison)).tables[0]
        assert table.header[-1] == "of"
        assert [row[-1] for row in table.rows] == list(about.values())


def test_a_video_with_two_labels_is_no_common_video(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a, videos=60) for m, a in (("a", 0.9), ("b", 0.5))]
    scores = runs[1].scores()
    labels_N = scores.labels_N.copy()
    labels_N[:7] = (labels_N[:7] + 1) % len(scores.classes)
    runs[1].save_scores("test", dataclasses.replace(scores, labels_N=labels_N))
    comparison = compared(runs)
    assert [len(videos) for videos in comparison.common] == [53, 53]
    assert any(
        note.startswith("Not all runs have the same label for 7 test videos of the same name")
        for note in comparison.notes
    )


def test_seeds_that_spread_widely_tell_less(tmp_path):
    near = compared(seeds_of(tmp_path / "near", {"a": 0.85, "b": 0.75}))
    wide = compared(seeds_of(tmp_path / "wide", {"a": 0.85, "b": 0.75}, spread=0.06))
    assert near.verdicts[0, 1].apart
    assert not wide.verdicts[0, 1].apart
    assert "a is better than b" in " ".join(findings(near))
    assert "a cannot be told from b" in " ".join(findings(wide))


def test_what_was_tested_is_told_of_each(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=0.8, videos=videos) for m, videos in (("a", 60), ("b", 90))]
    assert "a and b share the highest video accuracy, 0.800 on 60 or 90 test videos" in said(runs)


def test_a_finished_run_without_scores_is_said_to_lack_them(tmp_path):
    runs = [make_run(tmp_path / m, model=m) for m in ("a", "b", "c")]
    (runs[1].path / "scores" / "test.npz").unlink()
    (runs[2].path / "result.json").unlink()
    assert compared(runs).notes == ("Not finished, and left out: c.", "Without test scores, and left out: b.")


def test_costs_that_are_not_there_are_named(tmp_path):
    run = make_run(tmp_path / "a")
    (run.path / "cost.json").write_text("{}")
    with pytest.raises(UserError, match=r"cost\.json: it is damaged: params: field required"):
        compared([run])


def test_equals_share_the_place(tmp_path):
    runs = [make_run(tmp_path / str(i), model=f"m{i}", accuracy=a) for i, a in enumerate((0.8, 0.8, 0.1))]
    text = said(runs)
    assert "m0 and m1 share the highest video accuracy, 0.800" in text
    assert "is better than m2" in text
    assert "cannot be told from m1" in text


def test_pairs_are_told_apart_on_the_videos_that_all_were_tested_on(tmp_path):
    """One model was tested on one video fewer (it could not be read, say)."""
    runs = [make_run(tmp_path / m, model=m, accuracy=a, videos=300) for m, a in (("a", 0.9), ("b", 0.5), ("c", 0.4))]
    scores = runs[2].scores()
    kept = scores.video_V < 299
    runs[2].save_scores("test", Scores(
        scores.classes, scores.ids_N[:299], scores.labels_N[:299], scores.groups_N[:299], scores.video_V[kept],
        scores.clip_start_V[kept], scores.crop_V[kept], scores.logits_VK[kept],
    ))  # fmt: skip
    comparison = compared(runs)
    assert [len(videos) for videos in comparison.common] == [299, 299, 299]
    assert comparison.verdicts[0, 1].apart
    assert comparison.models[0].num_videos == 300, "its own figure is of all that it was tested on"
    [note] = comparison.notes
    assert note.startswith("They were not tested on the same videos: of 299 to 300 test videos 299 are common to all.")


def test_on_different_videos_nothing_is_better(tmp_path):
    runs = [make_run(tmp_path / m, model=m, fold=i, accuracy=a) for i, (m, a) in enumerate((("a", 0.9), ("b", 0.2)), 1)]
    comparison = compared(runs)
    assert comparison.verdicts == {}
    assert "Which is better cannot be said: no test video, with its label, is common to all." in " ".join(
        findings(comparison)
    )
    assert "letter" not in comparison.table()[0]


def test_seeds_that_differ_in_number_are_told(tmp_path):
    runs = [make_run(tmp_path / f"{m}{s}", model=m, seed=s) for m in "ab" for s in range(3)]
    assert "needs at least 3 seeds" not in said(runs)
    assert "With no more than 2 seeds of some this compares the runs of these two settings" in said(runs[:5])
    assert "The numbers of seeds differ (a 3 and b 2)" in said(runs[:5])
    assert "With 1 seed each this compares these two runs" in said([runs[0], runs[3]])


def test_letters_go_on_after_z():
    assert [Comparison.letter(number) for number in (0, 25, 26, 51, 52)] == ["a", "z", "aa", "az", "ba"]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, "m (0.50) cannot be told from a coin: the interval does not lie above 0.50."),
        (0.55, "m (0.55) cannot be told from a coin: the interval does not lie above 0.50."),
        (0.45, "m (0.45) cannot be told from a coin: the interval does not lie above 0.50."),
        (0.4, "m (0.40) is right less often than a coin about the direction of time: the interval lies below 0.50."),
        (0.9, "m (0.90) tells the direction of time: the interval lies above 0.50."),
        (0.1, "m (0.10) answers with the opposite direction: the interval lies below 0.25."),
    ],
)
def test_who_sees_time(tmp_path, share, expected):
    run = make_run(tmp_path / "a", model="m", pairs=PAIRS, videos=240)
    run.save_scores("test", answering(share))
    text = said([run])
    assert expected in text.replace("In these runs, ", "")
    assert "In these runs, " in text  # one seed says nothing of the model
    assert sum(sign in text for sign in ("from a coin", "than a coin", "tells the direction", "opposite")) == 1
    assert "Accuracy on the other classes: 1.00." in text


def test_nothing_is_said_of_time_where_no_pair_is_known(tmp_path):
    text = said([make_run(tmp_path / "a")])
    assert "direction" not in text
    assert "coin" not in text


# --- finding runs


def test_runs_are_found_by_folder_and_by_study(tmp_path):
    study = tmp_path / "study"
    made = [make_run(study / "runs" / name, seed=i) for i, name in enumerate(("a", "b"))]
    (study / "study.json").write_text(json.dumps({"runs": ["a", "b", "planned"]}))
    alone = make_run(tmp_path / "alone", seed=7)
    assert find_runs([alone.path]) == ([alone], None)
    found, folder = find_runs([study])
    assert [run.name for run in found] == ["a", "b", "planned"]
    assert folder == study
    found, folder = find_runs([study, alone.path])
    assert len(found) == 4
    assert folder is None
    assert compared(found).models[0].num_seeds == len(made) + 1
    with pytest.raises(UserError, match="no such run"):
        find_runs([tmp_path / "nowhere"])


def test_runs_of_other_classes_are_another_chapter(tmp_path):
    here = make_run(tmp_path / "a", changes={"data.manifest": "/data/one.csv"})
    there = make_run(tmp_path / "b", classes=("x", "y"), changes={"data.manifest": "/data/two.csv"})
    begun = make_run(tmp_path / "c", finished=False)
    found = compared_runs([here, begun, there])
    assert list(found) == ["one", "two"]
    assert [comparison.classes for comparison in found.values()] == [CLASSES, ("x", "y")]
    assert found["one"].notes == ("Not finished, and left out: c.",)
    again = make_run(tmp_path / "d", classes=("v", "w"), changes={"data.manifest": "/other/two.csv"})
    assert list(compared_runs([there, again])) == ["two", "two (2)"]
    spaced = [
        make_run(tmp_path / f"s{i}", classes=(f"{i}", "b"), changes={"data.manifest": f"/{i}/my set.csv"})
        for i in range(3)
    ]
    assert list(compared_runs(spaced)) == ["my set", "my set (2)", "my set (3)"]
    with pytest.raises(UserError, match="none of these is finished"):
        compared_runs([begun])


def test_names_are_taken_apart_into_method_and_backbone():
    known = {
        "tam_resnet50": ("tam", "resnet50"), "i3d_inceptionv1": ("i3d", "inceptionv1"), "tsn_vgg16": ("tsn", "vgg16"),
        "s3d_resnet_tiny": ("s3d", "resnet_tiny"), "slowfast_resnet50_4x16": ("slowfast", "resnet50_4x16"),
        "tsm@timm:densenet121": ("tsm", "timm:densenet121"), "i3d": ("i3d", ""), "s3dv3_topheavy": ("s3dv3_topheavy", ""),
        "hf:MCG-NJU/videomae": ("hf:MCG-NJU/videomae", ""), "mine:network": ("mine:network", ""),
    }  # fmt: skip
    assert {name: method_and_backbone(name) for name in known} == known


def test_long_lists_are_cut(tmp_path):
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 others"


def test_videos_that_were_skipped_are_told(tmp_path):
    whole, lacking = make_run(tmp_path / "whole"), make_run(tmp_path / "lacking", model="tsn_resnet_tiny")
    lacking.save_skipped(
        {"a.mp4": {"path": "/v/a.mp4", "cause": "gone"}, "b.mp4": {"path": "/v/b.mp4", "cause": "cut"}}
    )
    [told] = [note for note in compared([whole, lacking]).notes if "could not be read" in note]
    assert "lacking (2 videos)" in told
    assert "whole" not in told


def test_fewer_clips_are_what_an_evaluation_of_so_few_gives(tmp_path):
    """The same figures as those of picked scores, whichever way views are averaged."""
    draw = np.random.default_rng(0)
    for average in ("logits", "probabilities"):
        run = make_run(tmp_path / average, videos=50, views=12, changes={"evaluation.average": average})
        made = run.scores()
        order = draw.permutation(50)
        scores = Scores(**{
            **made.__dict__, "logits_VK": draw.normal(size=made.logits_VK.shape).astype(np.float32),
            "crop_V": np.tile(np.arange(3), 200), "grid": ViewGrid("uniform", 4, 3), "ids_N": made.ids_N[order],
        })  # fmt: skip
        run.save_scores("test", scores)
        [model] = compared([run]).models
        assert list(model.by_clips) == [1, 2, 3, 4]
        for clips, value in model.by_clips.items():
            assert value == pytest.approx(scores.subset(num_clips=clips).video_accuracy())
        assert model.by_clips[4] == pytest.approx(model.accuracy.value)


def test_what_cannot_be_read_of_what_need_not_be_there_is_told_and_left_out(tmp_path):
    run = make_run(tmp_path / "a", speed={"peak_memory_bytes": 5})
    (run.path / "speed.json").write_text("{")
    run.diagnosis_folder.mkdir()
    (run.diagnosis_folder / "diagnosis.json").write_text('{"a": 1}')
    comparison = compared([run])
    [model] = comparison.models
    assert (model.speed, model.diagnosed) == (None, None)
    assert any("speed.json" in note for note in comparison.notes)
    assert any("diagnosis.json: it is damaged" in note for note in comparison.notes)


def test_videos_of_unknown_truth_count_for_nothing(tmp_path):
    run = make_run(tmp_path / "a", accuracy=1.0)
    scores = run.scores()
    labels = np.where(np.arange(60) < 10, -1, scores.labels_N)
    run.save_scores("test", Scores(**{**scores.__dict__, "labels_N": labels}))
    [model] = compared([run]).models
    assert (model.num_videos, model.accuracy.value, model.confusion.sum()) == (50, 1.0, 50)
    run.save_scores("test", Scores(**{**scores.__dict__, "labels_N": np.full(60, -1)}))
    with pytest.raises(UserError, match=r"test\.npz: scores: no video has a label"):
        compared([run])
    arrays = dict(np.load(run.path / "scores" / "test.npz"))
    np.savez(run.path / "scores" / "test.npz", **{**arrays, "logits": arrays["logits"] * np.float32(np.nan)})
    with pytest.raises(UserError, match=r"test\.npz: it holds no scores: logits that are not finite"):
        compared([run])


def test_rows_of_other_inputs_are_named_by_these_alone(tmp_path):
    """Not by the hash of a store, which differs with the input; nor by a length of stacks that nobody set."""
    flow = {"clip.modality": "flow", "data.sha256": "b" * 64}
    asked = {
        "rgb": {}, "flow": flow, "single": {**flow, "clip.stack": 1}, "other": {**flow, "data.sha256": "c" * 64},
    }  # fmt: skip
    runs = {name: make_run(tmp_path / name, changes=changes) for name, changes in asked.items()}
    named = {run: setting.name for setting in settings_of([runs["rgb"], runs["flow"]]) for run in setting.runs}
    assert list(named.values()) == ["tsm_resnet_tiny (modality=rgb)", "tsm_resnet_tiny (modality=flow)"]
    assert [setting.name for setting in settings_of([runs["flow"], runs["single"]])] == [
        "tsm_resnet_tiny", "tsm_resnet_tiny (stack=1)",
    ]  # fmt: skip
    assert [setting.name for setting in settings_of([runs["flow"], runs["other"]])] == [
        "tsm_resnet_tiny (sha256=bbbbbbbb)", "tsm_resnet_tiny (sha256=cccccccc)",
    ]  # fmt: skip
