"""Scores: figures by hand, files bit for bit."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from muybridge.errors import UserError
from muybridge.storage.scores import (
    Scores,
    ViewGrid,
    concatenate,
    metrics,
    softmax,
    topk_accuracy,
)

CLASSES = ("run", "walk", "jump")
LOGITS = [
    [4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.5, 0.0],  # a: run
    [0.0, 2.0, 1.0], [0.0, 2.0, 3.0], [0.0, 2.5, 0.0],  # b: walk
    [1.0, 0.0, 0.9], [1.0, 0.0, 0.9], [1.0, 0.0, 0.9],  # c: jump
]  # fmt: skip


def made(average="logits", logits=LOGITS, labels=(0, 1, 2), ids=("a", "b", "c"), classes=CLASSES):
    views = len(logits) // len(ids)
    return Scores(
        classes=classes, ids_N=np.array(ids), labels_N=np.array(labels), groups_N=np.array(["g"] * len(ids)),
        video_V=np.repeat(np.arange(len(ids)), views), clip_start_V=np.tile(np.arange(views), len(ids)),
        crop_V=np.zeros(len(logits), dtype=int), logits_VK=np.array(logits, dtype=np.float32), average=average,
    )  # fmt: skip


def random_scores(seed=0, num_videos=50, views=6, K=7, average="logits"):
    random = np.random.default_rng(seed)
    order = random.permutation(np.repeat(np.arange(num_videos), views))
    return Scores(
        classes=tuple(f"class {k}" for k in range(K)),
        ids_N=np.array([f"{seed}/v{i}.avi" for i in range(num_videos)]),
        labels_N=random.integers(0, K, num_videos), groups_N=np.array([f"g{i % 5}" for i in range(num_videos)]),
        video_V=order, clip_start_V=random.integers(0, 100, len(order)), crop_V=random.integers(0, 3, len(order)),
        logits_VK=random.normal(0, 3, (len(order), K)).astype(np.float32), average=average,
    )  # fmt: skip


def by_hand(logits):
    exponents = [np.exp(value) for value in logits]
    return [value / sum(exponents) for value in exponents]


def test_the_mean_of_logits_and_of_probabilities_by_hand():
    logits = made().video_scores()
    np.testing.assert_allclose(logits, [[4 / 3, 2.5 / 3, 0], [0, 6.5 / 3, 4 / 3], [1, 0, 0.9]], rtol=1e-6)
    probabilities = made("probabilities").video_scores()
    expected = [np.mean([by_hand(view) for view in LOGITS[i : i + 3]], axis=0) for i in (0, 3, 6)]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    np.testing.assert_allclose(made().video_probabilities(), [by_hand(row) for row in logits], rtol=1e-6)
    np.testing.assert_allclose(made("probabilities").video_probabilities(), expected, rtol=1e-6)


def test_the_two_averages_can_disagree():
    """One view is sure of the first class, two lean to the second: logits follow the sure one, probabilities the two."""
    logits = [[9, 0, 0], [0, 4, 0], [0, 4, 0]]
    assert made("logits", logits, (0,), ("a",)).correct().tolist() == [True]
    assert made("probabilities", logits, (0,), ("a",)).correct().tolist() == [False]


def test_clip_accuracy_counts_views_and_video_accuracy_videos():
    scores = made()
    assert scores.clip_accuracy() == 3 / 9  # a: one of three, b: two of three, c: none
    assert scores.video_accuracy() == 2 / 3
    assert scores.correct().tolist() == [True, True, False]
    assert scores.num_views == 3


def test_topk():
    scores = made()
    assert scores.video_accuracy(2) == 1.0
    assert scores.clip_accuracy(3) == 1.0
    assert scores.clip_accuracy(2) == 1.0
    random = random_scores()
    accuracies = [random.video_accuracy(k) for k in range(1, 8)]
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] == 1.0
    ranks = (random.video_scores() > random.video_scores()[np.arange(50), random.labels_N][:, None]).sum(1)
    assert accuracies == [float((ranks < k).mean()) for k in range(1, 8)]


def test_ties_go_to_the_first_class_and_are_not_counted_twice():
    scores = np.zeros((4, 4))
    assert topk_accuracy(scores, np.array([0, 1, 2, 3])) == 0.25
    assert topk_accuracy(scores, np.array([0, 1, 2, 3]), 2) == 0.5


def test_confusion_rows_are_true_classes():
    assert made().confusion().tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    random = random_scores()
    confusion = random.confusion()
    assert confusion.sum() == 50
    assert confusion.sum(1).tolist() == np.bincount(random.labels_N, minlength=7).tolist()
    assert np.trace(confusion) / 50 == random.video_accuracy()


def test_mean_class_accuracy_weighs_classes_alike():
    logits = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    scores = made("logits", logits, (0, 0, 0, 1), tuple("abcd"))
    assert scores.video_accuracy() == 0.75
    assert scores.mean_class_accuracy() == 0.5  # classes that do not occur do not count


def test_cross_entropy_by_hand():
    scores = made()
    expected = -np.mean([np.log(by_hand(row)[label]) for label, row in enumerate(scores.video_scores())])
    assert scores.cross_entropy() == pytest.approx(expected)
    sure = made("logits", [[-1000.0, 1000.0, 0.0]], (0,), ("a",))
    assert np.isfinite(sure.cross_entropy())


def test_within_a_pair_only_the_two_may_be_answered():
    logits = [[1.0, 2.0, 9.0], [2.0, 1.0, 9.0], [0.0, 1.0, 0.5], [0.0, 0.0, 9.0]]
    scores = made("logits", logits, (0, 0, 1, 2), tuple("abcd"))
    chosen, right = scores.within("run", "walk")
    assert chosen.tolist() == [0, 1, 2]
    assert right.tolist() == [False, True, True]
    chosen, right = scores.within("walk", "run")
    assert (chosen.tolist(), right.tolist()) == ([0, 1, 2], [False, True, True])
    assert scores.within("walk", "jump")[1].tolist() == [True, True]


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_accuracy_by_clips_is_that_of_the_views_curve(average):
    grid = ViewGrid("uniform", 4, 3)
    views, videos = 12, 30
    generator = np.random.default_rng(0)
    scores = replace(
        random_scores(K=7), ids_N=np.array([f"v{i}" for i in range(videos)]), labels_N=generator.integers(0, 7, videos),
        groups_N=np.array([""] * videos), video_V=np.repeat(np.arange(videos), views),
        clip_start_V=np.zeros(videos * views, dtype=int), crop_V=np.tile(np.arange(3), videos * 4),
        logits_VK=generator.normal(size=(videos * views, 7)).astype(np.float32), average=average, grid=grid,
    )  # fmt: skip
    curve = {
        point["num_clips"]: point["video_top1"] for point in scores.views_curve()["rows"] if point["num_crops"] == 3
    }
    assert scores.accuracy_by_clips() == curve
    assert set(curve) == {1, 2, 3, 4}
    assert replace(scores, grid=None).accuracy_by_clips() == {}


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_round_trip_is_bit_equal(tmp_path, average):
    scores = random_scores(average=average)
    scores.save(tmp_path / "scores.npz")
    back = Scores.load(tmp_path / "scores.npz")
    assert (back.classes, back.average) == (scores.classes, scores.average)
    for name in ("ids_N", "labels_N", "groups_N", "video_V", "clip_start_V", "crop_V", "logits_VK"):
        a, b = getattr(scores, name), getattr(back, name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert (back.video_scores() == scores.video_scores()).all()


def test_ids_and_classes_may_hold_any_text(tmp_path):
    scores = made(ids=("läuft/日本.avi", "a b#0-1.5", "'"), classes=("run, fast", "wälk", "→"))
    scores.save(tmp_path / "scores.npz")
    back = Scores.load(tmp_path / "scores.npz")
    assert back.ids_N.tolist() == scores.ids_N.tolist()
    assert back.classes == scores.classes


def test_concatenate_is_scoring_all_at_once():
    parts = [random_scores(seed, num_videos=10 + seed) for seed in range(3)]
    whole = concatenate(parts)
    assert len(whole.ids_N) == 33
    assert whole.ids_N.tolist() == [name for part in parts for name in part.ids_N.tolist()]
    np.testing.assert_array_equal(whole.video_scores(), np.concatenate([part.video_scores() for part in parts]))
    assert whole.video_accuracy() == pytest.approx(sum(part.correct().sum() for part in parts) / 33)
    assert (whole.confusion() == sum(part.confusion() for part in parts)).all()


def test_concatenate_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="more than one part"):
        concatenate([random_scores(1), random_scores(1)])
    with pytest.raises(ValueError, match="different"):
        concatenate([random_scores(1), random_scores(2, K=5)])
    with pytest.raises(ValueError, match="different"):
        concatenate([random_scores(1), random_scores(2, average="probabilities")])


def test_scores_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="classes"):
        made(logits=[[1.0, 2.0]] * 3)
    with pytest.raises(ValueError, match="at least one view"):
        Scores(
            classes=CLASSES, ids_N=np.array(["a", "b"]), labels_N=np.array([0, 1]), groups_N=np.array(["", ""]),
            video_V=np.array([0]), clip_start_V=np.array([0]), crop_V=np.array([0]), logits_VK=np.ones((1, 3)),
        )  # fmt: skip


def damaged_files(whole):
    yield "empty", b""
    yield "text", b"no scores here"
    for share in (0.1, 0.5, 0.9, 0.99):
        yield f"first {share:.0%}", whole[: int(len(whole) * share)]
    for place in np.linspace(40, len(whole) - 30, 40).astype(int):
        yield f"flipped byte {place}", whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "scores.npz"
    made().save(path)
    good, refused = Scores.load(path), 0
    for what, content in damaged_files(path.read_bytes()):
        path.write_bytes(content)
        try:
            back = Scores.load(path)
        except UserError as error:
            refused += str(path) in str(error)
            continue
        assert (back.logits_VK == good.logits_VK).all(), what  # the byte carried nothing
        assert back.ids_N.tolist() == good.ids_N.tolist(), what
    assert refused > 25


def test_other_files_are_no_scores(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        Scores.load(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "other.npz", format_version=1, logits=np.ones(3))
    np.savez(tmp_path / "future.npz", format_version=2)
    for name in ("array.npy", "other.npz", "future.npz", "."):
        with pytest.raises(UserError, match=str(tmp_path)):
            Scores.load(tmp_path / name)


def test_a_small_file_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "scores.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
        packed.open("logits.npy", "w") as member,
    ):
        for _ in range(65):
            member.write(bytes(2**24))
    with pytest.raises(UserError, match=r"unpack to 1\.0 GiB"):
        Scores.load(path)


def test_unknown_truth_is_not_counted_as_the_last_class():
    """-1 where the truth is unknown: such a video is in no row of the confusion."""
    scores = made(labels=(0, 1, -1))
    assert scores.confusion().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_softmax_is_stable_and_in_double_precision():
    rows = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.5, 0.5], [0, 1]])
    assert rows.dtype == np.float64


def gridded(seed=0, sampling="uniform", num_clips=5, num_crops=3, **changes):
    """Views that say in their first logit which they are, videos in no order."""
    random = np.random.default_rng(seed)
    videos = random.permutation(8)
    views = num_clips * num_crops
    logits_VK = random.normal(0, 3, (8 * views, 12)).astype(np.float32)
    logits_VK[:, 0] = np.tile(np.arange(views), 8)
    return Scores(
        classes=tuple(map(str, range(12))), ids_N=np.array([f"{seed}/{i}" for i in range(8)]),
        labels_N=random.integers(0, 12, 8), groups_N=np.array([""] * 8), video_V=np.repeat(videos, views),
        clip_start_V=np.tile(np.repeat(np.arange(num_clips), num_crops), 8),
        crop_V=np.tile(np.arange(num_crops), 8 * num_clips), logits_VK=logits_VK,
        grid=ViewGrid(sampling, num_clips, num_crops), **changes,
    )  # fmt: skip


def test_a_subset_picks_the_middle_clips_of_uniform_and_every_other_of_dense():
    def picked(scores, **views):
        fewer = scores.subset(**views)
        assert fewer.ids_N.tolist() == scores.ids_N.tolist()
        assert set(np.bincount(fewer.video_V)) == {fewer.grid.num_clips * fewer.grid.num_crops}
        return sorted(set(fewer.logits_VK[:, 0].astype(int).tolist()))

    assert picked(gridded(), num_clips=1, num_crops=1) == [6]  # clip 2 of 0 … 4, crop 0
    assert picked(gridded(), num_clips=2, num_crops=1) == [6, 9]
    assert picked(gridded(), num_clips=3) == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert picked(gridded(sampling="dense"), num_clips=1, num_crops=1) == [0]
    assert picked(gridded(sampling="dense"), num_clips=3, num_crops=1) == [0, 6, 12]
    assert picked(gridded(num_clips=1, num_crops=10), num_crops=5) == [0, 1, 2, 3, 4]
    whole = gridded().subset()
    assert (whole.video_V[np.argsort(whole.video_V)] == np.sort(gridded().video_V)).all()
    assert (whole.video_scores() == gridded().video_scores()).all()


def test_views_that_are_not_those_of_the_grid_are_refused():
    with pytest.raises(ValueError, match="the views are not those of"):
        replace(gridded(), grid=ViewGrid("uniform", 3, 5))
    with pytest.raises(ValueError, match="the views are not those of"):
        replace(gridded(), grid=ViewGrid("uniform", 4, 3))


def test_what_is_known_of_the_views_is_kept(tmp_path):
    scores = gridded(sampling="dense", split="train", num_trained_on=7)
    scores.save(tmp_path / "scores.npz")
    back = Scores.load(tmp_path / "scores.npz")
    assert (back.grid, back.split, back.num_trained_on) == (ViewGrid("dense", 5, 3), "train", 7)
    both = concatenate([back, gridded(1, sampling="dense", split="train", num_trained_on=2)])
    assert (both.grid, both.split, both.num_trained_on) == (ViewGrid("dense", 5, 3), "train", 9)
    mixed = concatenate([back, gridded(1, split="test")])
    assert (mixed.grid, mixed.split) == (None, "")
    with pytest.raises(UserError, match="is not known"):
        mixed.subset(num_clips=1)


def test_figures_by_hand():
    """Of twelve classes; ranks 1, 3, 7 and 11 of the label."""
    logits = np.tile(np.arange(12.0)[::-1], (4, 1))
    scores = made("logits", logits, (0, 2, 6, 10), tuple("abcd"), classes=tuple("ABCDEFGHIJKL"))
    found = metrics(scores)
    top = {name: found[name] for name in ("video_top1", "video_top5", "video_top10", "clip_top1", "mean_class")}
    assert top == {"video_top1": 0.25, "video_top5": 0.5, "video_top10": 0.75, "clip_top1": 0.25, "mean_class": 0.25}
    assert found["kinetics_error"] == 62.5  # errors of 75 and 50 %
    assert (found["videos"], found["views"]) == (4, 1)
    assert not found.keys() & {"skipped", "trained_on"}
    assert metrics(replace(scores, num_trained_on=3, skipped_ids=np.array(["e"]))) == {
        **found,
        "skipped": 1,
        "trained_on": 3,
    }


@pytest.mark.parametrize(("classes", "absent"), [(3, {"video_top10", "kinetics_error"}), (5, {"video_top10", "kinetics_error"}),
                                                 (6, {"video_top10"}), (10, {"video_top10"}), (11, set())])  # fmt: skip
def test_figures_that_every_answer_would_fulfil_are_left_out(classes, absent):
    found = metrics(random_scores(K=classes))
    assert {"video_top10", "kinetics_error"} - found.keys() == absent
    assert found["video_top5"] <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([0, 1])}, {"labels": np.array([0, 1, 99])}, {"labels": np.array([0.0, 1.0, 2.0])},
        {"groups": np.array(["g"])}, {"clip_start": np.arange(4)}, {"crop": np.arange(2)},
        {"logits": np.full((9, 3), "x")}, {"average": np.array("median")},
        {"ids": np.array([], dtype=str), "labels": np.array([], dtype=int), "groups": np.array([], dtype=str),
         "video": np.array([], dtype=int), "clip_start": np.array([], dtype=int), "crop": np.array([], dtype=int),
         "logits": np.zeros((0, 3), dtype=np.float32)},
    ],
    ids=lambda change: "-".join(change),
)  # fmt: skip
def test_arrays_that_do_not_belong_together_are_an_error_that_names_the_file(tmp_path, change):
    made().save(tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as arrays:
        np.savez(tmp_path / "changed.npz", **dict(arrays) | change)
    with pytest.raises(UserError, match=r"changed\.npz: it holds no scores"):
        Scores.load(tmp_path / "changed.npz")


def test_skipped_videos_of_every_part_are_kept():
    first, second = (
        replace(made(ids=ids), skipped_ids=np.array(skipped))
        for ids, skipped in ((("a", "b", "c"), ["x"]), (("d", "e", "f"), ["y", "z"]))
    )
    assert concatenate([first, second]).skipped_ids.tolist() == ["x", "y", "z"]


def test_scores_that_no_evaluation_gives_are_no_metrics(tmp_path):
    whole = made()
    whole.save(tmp_path / "s.npz")
    arrays = dict(np.load(tmp_path / "s.npz"))
    for name, value in (
        ("logits", np.full_like(arrays["logits"], np.nan)), ("logits", np.full_like(arrays["logits"], np.inf)),
        ("ids", np.full_like(arrays["ids"], arrays["ids"][0])), ("classes", np.full_like(arrays["classes"], "a")),
        ("num_trained_on", np.array(-5)), ("num_trained_on", np.array(10**18)),
    ):  # fmt: skip
        np.savez(tmp_path / "wrong.npz", **{**arrays, name: value})
        with pytest.raises(UserError, match=r"wrong\.npz: it holds no scores"):
            Scores.load(tmp_path / "wrong.npz")
