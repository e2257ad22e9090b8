"""Metrics of a row and its baselines, against sums by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import CLASSES, made_scores, make_run

from muybridge.analysis.answers import Answers
from muybridge.analysis.comparison import compared
from muybridge.analysis.findings import findings
from muybridge.storage.scores import metrics

TWELVE = tuple(f"c{i:02d}" for i in range(12))


def random_scores(classes=TWELVE, videos=97, seed=0):
    """Scores in which the label is often among the first, and never the answer of class 3."""
    rng = np.random.default_rng(seed)
    scores = made_scores(np.ones(videos, bool), classes=classes, views=2)
    logits_VK = rng.normal(size=scores.logits_VK.shape).astype(np.float32)
    logits_VK[np.arange(len(logits_VK)), scores.labels_N[scores.video_V]] += 1.0
    logits_VK[:, 3] = -9
    return replace(scores, logits_VK=logits_VK)


def run_with(folder, scores, *, seed=0, sizes=None, **more):
    run = make_run(folder, classes=scores.classes, seed=seed, **more)
    run.save_scores("test", scores)
    if sizes is not None:
        path = run.path / "dataset.json"
        stored = json.loads(path.read_text()) | {
            "class_sizes": sizes, "split_sizes": {split: sum(counts) for split, counts in sizes.items()},
        }  # fmt: skip
        path.write_text(json.dumps(stored))
    return run


def test_metrics_are_means_over_seeds_of_those_of_each(tmp_path):
    scores = [random_scores(seed=seed) for seed in (0, 1)]
    runs = [run_with(tmp_path / str(seed), one, seed=seed) for seed, one in enumerate(scores)]
    (model,) = compared(runs).models
    by_seed = [metrics(one) for one in scores]
    for name, value in (
        ("video_top5", model.top(5)), ("video_top10", model.top(10)), ("kinetics_error", model.kinetics_error),
        ("mean_class", model.mean_class), ("clip_top1", model.clip_accuracy),
    ):  # fmt: skip
        assert value == pytest.approx(np.mean([of_seed[name] for of_seed in by_seed])), name
    told = model.as_json(())
    assert told["video_top10"] == model.top(10)
    assert told["macro_f1"] == model.macro_f1


def test_precision_recall_and_f1_by_hand(tmp_path):
    scores = random_scores()
    (model,) = compared([run_with(tmp_path / "a", scores)]).models
    answers = Answers.of(scores)
    f1s = []
    for k in range(len(TWELVE)):
        is_k, said_k = answers.labels_N == k, answers.predicted_N == k
        right = (is_k & said_k).sum()
        recall = right / is_k.sum()
        assert model.class_accuracy_K[k] == pytest.approx(recall)
        if k == 3:
            assert np.isnan(model.precision_K[k])
            assert model.f1_K[k] == 0
        else:
            precision = right / said_k.sum()
            assert model.precision_K[k] == pytest.approx(precision)
            assert model.f1_K[k] == pytest.approx(2 * precision * recall / (precision + recall) if right else 0)
        f1s.append(model.f1_K[k])
    assert model.macro_f1 == pytest.approx(np.mean(f1s))


def test_top_k_needs_more_classes_than_k(tmp_path):
    (model,) = compared([make_run(tmp_path / "a")]).models  # six classes
    assert model.top(5) is not None
    assert model.top(10) is None
    few = compared([make_run(tmp_path / "b", classes=CLASSES[:5])]).models[0]
    assert few.top(5) is few.kinetics_error is None
    assert few.as_json(())["video_top5"] is None


def test_training_accuracy_is_that_of_the_last_epoch(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed, accuracy=0.4 + seed / 5) for seed in (0, 1)]
    (model,) = compared(runs).models
    assert model.training_clip_accuracy == pytest.approx(0.5)
    assert model.training_accuracy is None
    untrained = compared([make_run(tmp_path / "none", epochs=0)]).models[0]
    assert untrained.training_clip_accuracy is None


# --- hours of training


def test_seconds_are_summed_up_where_an_earlier_version_wrote_none(tmp_path):
    run = make_run(tmp_path / "a", epochs=3)  # a second an epoch
    assert [line["seconds"] for line in run.timing()] == [1.0, 2.0, 3.0]
    run.write_timing({"epoch": 3, "train_seconds": 0.5, "train_clips_per_s": 1.0, "seconds": 9.5})  # resumed within it
    run.write_timing({"epoch": 4, "train_seconds": 2.0, "train_clips_per_s": 1.0})
    assert [line["seconds"] for line in run.timing()] == [1.0, 2.0, 9.5, 11.5]
    assert [line["seconds"] for line in run.metrics("val", timed=True)] == [1.0, 2.0, 9.5]
    assert "seconds" not in run.metrics("val")[0]
    assert compared([run]).models[0].train_hours == (11.5 / 3600,)


def test_curves_are_means_over_runs_by_epoch(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed, accuracy=0.4 + seed / 5, epochs=2 + seed) for seed in (0, 1)]
    (model,) = compared(runs).models
    points = model.curves["val"]
    assert [point.epoch for point in points] == [1, 2, 3]
    assert points[0].accuracy == pytest.approx(0.9 * np.mean([0.4 / 2, 0.6 / 3]))
    assert points[2].accuracy == pytest.approx(0.9 * 0.6)
    assert [point.hours for point in points] == pytest.approx([1 / 3600, 2 / 3600, 3 / 3600])
    told = [one for one in model.as_json(())["curves"] if one["part"] == "val"]
    assert told[2] == {
        "part": "val",
        "epoch": 3,
        "hours": 3 / 3600,
        "loss": points[2].loss,
        "accuracy": points[2].accuracy,
    }


def test_an_epoch_without_timing_has_no_hours(tmp_path):
    run = make_run(tmp_path / "a", epochs=2)
    (run.path / "timing.jsonl").unlink()
    assert [point.hours for point in compared([run]).models[0].curves["train"]] == [None, None]


# --- baselines


def test_the_majority_is_that_of_training(tmp_path):
    """Class 2 is most common in training, class 0 in the test."""
    labels_N = np.array([0] * 30 + [1] * 10 + [2] * 20)
    scores = replace(made_scores(np.ones(60, bool), classes=CLASSES[:3]), labels_N=labels_N)
    sizes = {"train": [10, 20, 30], "val": [3, 4, 5], "test": [30, 10, 20]}
    known = compared([run_with(tmp_path / "known", scores, sizes=sizes)]).baselines
    assert known.from_training
    assert known.answer == CLASSES[2]
    assert known.majority.top1 == pytest.approx(20 / 60)
    assert known.majority.mean_class == pytest.approx(1 / 3)
    assert known.majority.macro_f1 == pytest.approx(2 * 20 / (20 + 60) / 3)
    assert known.chance.top1 == pytest.approx(1 / 3)
    unknown = compared([run_with(tmp_path / "unknown", scores)]).baselines
    assert not unknown.from_training
    assert unknown.answer == CLASSES[0]
    assert unknown.majority.top1 == pytest.approx(0.5)
    assert "training labels are not known" in str(unknown)


def test_of_folds_each_has_its_own_majority(tmp_path):
    sizes = [{"train": counts, "val": [1] * 6, "test": [10] * 6} for counts in ([9, 1, 1, 1, 1, 1], [1, 9, 1, 1, 1, 1])]
    runs = [
        run_with(tmp_path / str(fold), made_scores(np.ones(videos, bool), fold=fold), fold=fold, sizes=sizes[fold - 1])
        for fold, videos in ((1, 60), (2, 6))
    ]
    baselines = compared(runs).baselines
    assert baselines.majority.top1 == pytest.approx((10 + 1) / 66)
    assert baselines.majority.top[5] == pytest.approx(55 / 66)


def test_models_that_do_not_beat_a_guess_are_named(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a) for m, a in (("good", 0.9), ("poor", 0.2))]
    comparison = compared(runs)
    header, rows = comparison.table()
    column = header.index("better than a guess")
    assert [row[column] for row in rows] == ["yes", "no"]
    text = " ".join(findings(comparison))
    assert "No better than a guess (chance 0.167, always left 0.167" in text
    assert "poor, whose interval does not lie above." in text
    assert [model["beats_a_guess"] for model in comparison.as_json()["models"]] == [True, False]
    foot = comparison.baseline_rows(header)
    assert [row[:2] for row in foot] == [["chance", "0.167"], ["majority class", "0.167"]]
    assert all(len(row) == len(header) for row in foot)
    better = compared(runs[:1])
    assert "better than a guess" not in better.table()[0]
    assert "No better" not in " ".join(findings(better))


def test_none_that_beats_a_guess_is_said_in_one_word(tmp_path):
    text = " ".join(findings(compared([make_run(tmp_path / "a", accuracy=0.1)])))
    assert "Always answering left (the most common class of the test) would be right on 0.167" in text
    assert "does no better" in text
