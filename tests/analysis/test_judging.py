"""Predictions of other tools: the same figures as of one's own runs, and nothing matched, left out or taken for granted in
silence."""

import csv
import json
import unicodedata

import numpy as np
import pytest
from made_runs import CLASSES, PAIRS, made_scores, make_run

import muybridge
from muybridge.analysis import judging
from muybridge.analysis.comparison import compared
from muybridge.analysis.findings import findings
from muybridge.analysis.judging import Asked, asked_of, judged
from muybridge.analysis.missing import missing
from muybridge.data.manifest import from_columns
from muybridge.errors import UserError
from muybridge.reporting.card import card_of
from muybridge.reporting.disagreements import answer_of
from muybridge.reporting.sections.data import overview
from muybridge.reporting.sections.parts import Chapter
from muybridge.storage.predictions import Columns
from muybridge.storage.scores import Scores, label_ranks, softmax

VIDEOS = 24
IDS = [f"walk/{i:03d}.mp4" for i in range(VIDEOS)]
LABELS = np.arange(VIDEOS) % len(CLASSES)


def random_scores(seed=0, videos=VIDEOS, right=1.5):
    scores_NK = np.random.default_rng(seed).normal(size=(videos, len(CLASSES)))
    scores_NK[np.arange(videos), np.arange(videos) % len(CLASSES)] += right
    return scores_NK


def table(path, scores_NK=None, *, ids=IDS, answers=None, classes=CLASSES, more=None):
    """A CSV with the scores at full precision, or answers, and columns beside them."""
    columns = {"video": ids, **(more or {})}
    if answers is not None:
        columns["prediction"] = answers
    if scores_NK is not None:
        columns |= {
            f"score_{name}": [repr(float(value)) for value in scores_NK[:, k]] for k, name in enumerate(classes)
        }
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def truth(tmp_path):
    return table(tmp_path / "truth.csv", more={"label": [CLASSES[k] for k in LABELS]})


@pytest.fixture
def manifest(tmp_path):
    """A manifest of three folds, each of which tests a third; its videos lie in folders of classes."""
    names = [CLASSES[k] for k in LABELS]
    columns = {
        "id": IDS, "path": [f"videos/{name}" for name in IDS], "start_frame": [0] * VIDEOS, "num_frames": [9] * VIDEOS,
        "label": names, "group": [f"person{i // 4}" for i in range(VIDEOS)], "fps": [25.0] * VIDEOS, "width": [64] * VIDEOS,
        "height": [64] * VIDEOS, "sha256": [str(i) for i in range(VIDEOS)],
        **{f"split_{fold}": ["test" if i // 8 == fold - 1 else "train" for i in range(VIDEOS)] for fold in (1, 2, 3)},
    }  # fmt: skip
    made = from_columns(columns, classes=CLASSES, root=tmp_path, mirror={}, reversed_pairs=PAIRS)
    made.save(tmp_path / "set.csv")
    return tmp_path / "set.csv"


def judge(*sources, **options):
    return judged(asked_of([*map(str, sources)])[0], **options)


def row(comparison, name):
    return next(model for model in comparison.models if model.name == name)


def answered(comparison, name):
    (answers,) = row(comparison, name).answers
    return dict(zip(answers.ids_N.tolist(), answers.predicted_N.tolist(), strict=True))


# --- the same figures


def exported(run, path, *, softmaxed=False):
    """Test scores of a run as another tool writes them: a row a view, a column a class."""
    scores = run.scores("test")
    values = softmax(scores.logits_VK) if softmaxed else scores.logits_VK.astype(np.float64)
    return table(path, values, ids=scores.ids_N[scores.video_V].tolist(), classes=scores.classes)


def noisy(run, seed):
    """Scores of a run that are not as even as made ones are."""
    scores = run.scores("test")
    noise = np.random.default_rng(seed).normal(size=scores.logits_VK.shape, scale=2).astype(np.float32)
    changed = {"logits_VK": scores.logits_VK + noise}
    run.save_scores(
        "test", Scores(**{**{name: getattr(scores, name) for name in scores.__dataclass_fields__}, **changed})
    )
    return run


@pytest.mark.parametrize("softmaxed", [False, True])
def test_scores_of_runs_give_the_figures_of_the_runs(tmp_path, softmaxed):
    average = {"changes": {"evaluation.average": "probabilities"}} if softmaxed else {}
    runs, files = [], []
    for model in ("tsm_resnet_tiny", "tsn_resnet_tiny"):
        for seed in range(3):
            for fold in (1, 2):
                path = tmp_path / f"{model}-seed{seed}-fold{fold}"
                made = make_run(
                    path, model=model, seed=seed, fold=fold, groups=6, pairs=PAIRS, accuracy=0.7, views=3, **average
                )
                runs.append(noisy(made, len(runs)))
                files.append(f"{model}={exported(runs[-1], tmp_path / f'{path.name}.csv', softmaxed=softmaxed)}")
    own = compared(runs)
    told = runs[0].scores("test"), runs[1].scores("test")
    labels = table(
        tmp_path / "truth.csv", ids=[name for scores in told for name in scores.ids_N],
        more={
            "label": [CLASSES[label] for scores in told for label in scores.labels_N],
            "group": [group for scores in told for group in scores.groups_N],
        },
    )  # fmt: skip
    foreign = judge(*files, truth=labels, classes=CLASSES)
    assert [model.num_seeds for model in foreign.models] == [3, 3]
    for ours, theirs in zip(own.models, foreign.models, strict=True):
        expected, found = ours.as_json(()), theirs.as_json(())
        assert found.keys() <= expected.keys()
        for name in found.keys() - {"runs", "files", "by_clips"}:
            assert found[name] == expected[name], name
    assert foreign.verdicts == own.verdicts
    assert foreign.letter_sets == own.letter_sets
    assert foreign.baselines == own.baselines
    beside = judged(
        asked_of([f"x-{file}" for file in files])[0], runs[:6]
    )  # the truth is that of the runs, with their pairs of classes
    for ours, theirs in zip((m for m in own.models if m.name == "tsm_resnet_tiny"), beside.of_runs, strict=True):
        assert theirs.as_json(PAIRS) == ours.as_json(PAIRS)


def test_a_run_and_its_own_scores_stand_in_one_report_and_do_not_differ(tmp_path):
    run = noisy(make_run(tmp_path / "run", pairs=PAIRS), 0)
    comparison = judged(asked_of([f"theirs={exported(run, tmp_path / 'a.csv')}"])[0], [run])
    assert len(comparison.of_runs) == 1
    (verdict,) = comparison.verdicts.values()
    assert verdict.difference.value == 0
    ours, theirs = comparison.of_runs[0], row(comparison, "theirs")
    assert comparison.pairs == PAIRS
    assert ours.within_pairs(PAIRS) == theirs.within_pairs(PAIRS)
    with pytest.raises(UserError, match=r"a\.csv: runs are called tsm_resnet_tiny, too"):
        judged(asked_of([f"tsm_resnet_tiny={tmp_path / 'a.csv'}"])[0], [run])


def test_folds_of_a_manifest_are_joined_and_weighed_as_those_of_runs(tmp_path, manifest):
    scores = random_scores()
    parts = [
        table(tmp_path / f"m_fold{f + 1}.csv", scores[8 * f : 8 * f + 8], ids=IDS[8 * f : 8 * f + 8]) for f in range(3)
    ]
    joined = judge(*parts, truth=manifest)
    whole = judge(table(tmp_path / "m.csv", scores), truth=manifest)
    one, other = joined.models[0].as_json(PAIRS), whole.models[0].as_json(PAIRS)
    assert {name for name in one if one[name] != other[name]} == {"files"}
    assert joined.baselines.from_training
    assert [len(counts_K) for _, counts_K in joined.models[0].tested] == [len(CLASSES)] * 3
    assert joined.data == "set"
    assert joined.models[0].units_N.tolist() == [f"person{i // 4}" for i in range(VIDEOS)]


def test_official_splits_are_told_by_the_files(tmp_path):
    """Two splits test overlapping videos; the mean over both is reported."""
    columns = {
        "id": IDS, "path": IDS, "start_frame": [0] * VIDEOS, "num_frames": [9] * VIDEOS,
        "label": [CLASSES[k] for k in LABELS], "group": [""] * VIDEOS, "fps": [25.0] * VIDEOS, "width": [64] * VIDEOS,
        "height": [64] * VIDEOS, "sha256": [str(i) for i in range(VIDEOS)],
        "split_1": ["test" if i < 6 else "train" for i in range(VIDEOS)],
        "split_2": ["test" if i < 18 else "train" for i in range(VIDEOS)],
    }  # fmt: skip
    from_columns(columns, classes=CLASSES, root=tmp_path, mirror={}, official_splits=True).save(tmp_path / "ucf.csv")
    right, wrong = np.eye(len(CLASSES))[LABELS], np.eye(len(CLASSES))[(LABELS + 1) % len(CLASSES)]
    one = table(tmp_path / "m_split1.csv", right[:6], ids=IDS[:6])
    two = table(tmp_path / "m_split2.csv", np.concatenate([right[:6], wrong[6:18]]), ids=IDS[:18])
    (model,) = judge(one, two, truth=tmp_path / "ucf.csv").models
    assert model.by_split == {1: 1.0, 2: pytest.approx(1 / 3)}
    assert model.accuracy.value == pytest.approx((1 + 1 / 3) / 2)
    with pytest.raises(UserError, match="of which official split it is"):
        judge(table(tmp_path / "m.csv", right[:6], ids=IDS[:6]), truth=tmp_path / "ucf.csv")


def test_columns_of_classes_are_matched_by_name_in_any_order(tmp_path, truth):
    scores, order = random_scores(), [3, 1, 5, 0, 2, 4]
    moved = table(tmp_path / "b.csv", scores[:, order], classes=[CLASSES[k] for k in order])
    comparison = judge(table(tmp_path / "a.csv", scores), moved, truth=truth, classes=CLASSES)
    assert answered(comparison, "a") == answered(comparison, "b")
    assert row(comparison, "a").loss == row(comparison, "b").loss
    numbered = table(tmp_path / "c.csv", scores, classes=range(len(CLASSES)))
    assert answered(judge(numbered, truth=truth, classes=CLASSES), "c") == answered(comparison, "a")


# --- scores


def test_probabilities_keep_their_order_where_their_logarithms_would_not(tmp_path, truth):
    """Two that differ in their last bit, and ties: the answer is the largest, and of equal ones the first."""
    probabilities = np.full((VIDEOS, len(CLASSES)), 1 / 6)
    probabilities[0] = [0.18, np.nextafter(0.18, 1), 0.16, 0.16, 0.16, 0.16]
    probabilities[1] = [0.2, 0.2, 0.2, 0.2, 0.1, 0.1]
    tiny = 1e-5
    probabilities[2] = [tiny, tiny, tiny, tiny, tiny, 1 - 5 * tiny]
    answers = answered(judge(table(tmp_path / "a.csv", probabilities), truth=truth, classes=CLASSES), "a")
    assert list(answers.values()) == probabilities.argmax(1).tolist()
    assert [answers[name] for name in IDS[:4]] == [1, 0, 5, 0]
    assert np.log(0.18) == np.log(np.nextafter(0.18, 1))  # what would have been lost


def test_sums_of_probabilities_over_views_are_divided_and_told(tmp_path, truth):
    probabilities = softmax(random_scores())
    one = judge(table(tmp_path / "a.csv", probabilities), truth=truth, classes=CLASSES)
    summed = judge(table(tmp_path / "a.csv", 30 * probabilities), truth=truth, classes=CLASSES)
    assert summed.models[0].loss == pytest.approx(one.models[0].loss, rel=1e-12)
    assert answered(summed, "a") == answered(one, "a")
    assert any("sum to 30" in note for note in summed.notes)
    assert not any("sum" in note or "logits" in note for note in one.notes)


def test_what_else_is_taken_as_logits_unless_told(tmp_path, truth):
    sigmoids = 1 / (1 + np.exp(-random_scores()))
    file = table(tmp_path / "a.csv", sigmoids)
    guessed = judge(file, truth=truth, classes=CLASSES)
    assert any("taken as logits" in note and "--scores probabilities" in note for note in guessed.notes)
    told = judge(file, truth=truth, classes=CLASSES, scores="probabilities")
    expected = sigmoids / sigmoids.sum(1, keepdims=True)
    assert told.models[0].loss == pytest.approx(-np.log(expected[np.arange(VIDEOS), LABELS]).mean())
    assert guessed.models[0].loss == pytest.approx(-np.log(softmax(sigmoids)[np.arange(VIDEOS), LABELS]).mean())
    negative = table(tmp_path / "b.csv", random_scores())
    with pytest.raises(UserError, match=r"--scores: .*b\.csv holds no probabilities: a score is -"):
        judge(negative, truth=truth, classes=CLASSES, scores="probabilities")
    as_logits = judge(table(tmp_path / "c.csv", expected), truth=truth, classes=CLASSES, scores="logits")
    assert as_logits.models[0].loss == pytest.approx(-np.log(softmax(expected)[np.arange(VIDEOS), LABELS]).mean())


def test_rows_of_one_video_are_views_that_are_averaged(tmp_path, truth):
    views = np.stack([random_scores(seed) for seed in range(3)])
    file = table(tmp_path / "a.csv", views.reshape(-1, len(CLASSES)), ids=IDS * 3)
    (model,) = (comparison := judge(file, truth=truth, classes=CLASSES)).models
    assert model.num_views == 3
    assert model.accuracy.value == (views.mean(0).argmax(1) == LABELS).mean()
    assert model.clip_accuracy == pytest.approx((views.argmax(2) == LABELS).mean())
    assert any("3 rows a video are views, whose logits are averaged" in note for note in comparison.notes)
    uneven = table(tmp_path / "b.csv", views[:2].reshape(-1, len(CLASSES))[:25], ids=(IDS * 2)[:25])
    notes = judge(uneven, truth=truth, classes=CLASSES).notes
    assert any("1 to 2 rows: they are taken as views" in note for note in notes)
    assert any(f"1 has another number than 1 ({IDS[0]})" in note for note in notes)
    doubled = table(tmp_path / "b.csv", np.concatenate([views[0], views[0][:1]]), ids=[*IDS, IDS[0]])
    comparison = judge(doubled, truth=truth, classes=CLASSES)
    assert comparison.models[0].num_views == 0  # not one view each
    assert "view" not in " ".join(findings(comparison))
    assert not any("clip top-1" in one.figures for one in missing(comparison))


def test_a_row_a_video_tells_nothing_of_views(tmp_path, truth):
    comparison = judge(table(tmp_path / "a.csv", random_scores()), truth=truth, classes=CLASSES)
    assert comparison.models[0].clip_accuracy is None
    assert "clip top-1" not in comparison.table()[0]
    assert "view" not in " ".join(findings(comparison))


def test_ranks_tell_every_top_k():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (200, 7)).astype(np.float32)  # many ties
    labels = rng.integers(-1, 7, 200)
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in range(1, 8):
        expected = (order[:, :k] == labels[:, None]).any(1)
        assert ((label_ranks(scores, labels) < k) == expected).all()


# --- matching


@pytest.mark.parametrize(
    ("called", "how"),
    [
        (lambda name, root: name, None),
        (lambda name, root: f"videos/{name}", "path"),
        (lambda name, root: f"{root}/videos/{name}", "path"),
        (lambda name, root: f"/elsewhere/data/{name}", "end of the path"),
        (lambda name, root: f"..\\data\\{name}".replace("/", "\\"), "end of the path"),
        (lambda name, root: f"/jpegs/{name.removesuffix('.mp4')}", "end of the path without the ending"),
        (lambda name, root: name.removesuffix(".mp4") + ".avi", "end of the path without the ending"),
        (lambda name, root: name.split("/")[1], "file name"),
        (lambda name, root: name.split("/")[1].removesuffix(".mp4"), "file name without the ending"),
    ],
)
def test_videos_are_found_by_what_another_tool_calls_them(tmp_path, manifest, called, how):
    names = [called(name, tmp_path) for name in IDS]
    comparison = judge(table(tmp_path / "a.csv", np.eye(len(CLASSES))[LABELS], ids=names), truth=manifest)
    assert comparison.models[0].num_videos == VIDEOS
    assert comparison.models[0].accuracy.value == 1.0
    told = [note for note in comparison.notes if "matched by" in note]
    assert told == ([] if how is None else [f"{tmp_path / 'a.csv'}: videos were matched by the {how}."])


def test_names_that_may_be_two_videos_or_are_one_are_errors(tmp_path):
    ids = ["a/run.mp4", "b/run.mp4", "c/walk.mp4"]
    truth = table(tmp_path / "truth.csv", ids=ids, more={"label": ["left", "right", "open"]})
    file = table(tmp_path / "x.csv", ids=["run.avi", "walk.avi"], answers=["left", "open"])
    with pytest.raises(UserError, match=r"x\.csv: 'run.avi' may be a/run.mp4 or b/run.mp4"):
        judge(file, truth=truth)
    file = table(tmp_path / "x.csv", ids=["1/walk.avi", "2/walk.avi"], answers=["left", "open"])
    with pytest.raises(UserError, match=r"x\.csv: '1/walk.avi' and '2/walk.avi' are both c/walk.mp4"):
        judge(file, truth=truth)
    same_folder = table(tmp_path / "x.csv", ids=["z/a/run.avi", "b/run.avi", "c/walk.avi"], answers=["left"] * 3)
    assert judge(same_folder, truth=truth).models[0].num_videos == 3


def test_what_does_not_match_is_told_by_number_and_examples(tmp_path, truth):
    scores = random_scores()
    some = table(tmp_path / "some.csv", scores[:20], ids=[*IDS[:18], "strange.mp4", "other.mp4"])
    every = table(tmp_path / "every.csv", scores)
    comparison = judge(some, every, truth=truth, classes=CLASSES)
    notes = " ".join(comparison.notes)
    assert "some.csv: 2 of 20 videos are not in" in notes
    assert "left out (other.mp4, strange.mp4)" in notes
    assert f"some: 6 of 24 videos of {truth} have no answer (walk/018.mp4, walk/019.mp4, walk/020.mp4, …)" in notes
    assert "of 18 to 24 test videos 18 are common to all" in notes
    assert row(comparison, "some").num_videos == 18
    (verdict,) = comparison.verdicts.values()
    assert verdict.difference.value == 0  # on the common videos both are the same
    with pytest.raises(
        UserError, match=r"none of its 1 video is in .*: 'x.mp4' is called otherwise than 'walk/000.mp4'"
    ):
        judge(table(tmp_path / "x.csv", scores[:1], ids=["x.mp4"]), truth=truth, classes=CLASSES)


def test_a_row_knows_of_how_many_videos_it_has_no_answer(tmp_path, truth):
    few = table(tmp_path / "few.csv", random_scores()[:5], ids=IDS[:5])
    seeds = [table(tmp_path / f"m_seed{i}.csv", random_scores(i)[i:], ids=IDS[i:]) for i in range(3)]
    comparison = judge(few, *seeds, table(tmp_path / "all.csv", random_scores()), truth=truth, classes=CLASSES)
    assert {model.name: model.unanswered for model in comparison.models} == {"few": 19, "m": 2, "all": 0}
    assert {model.truth_videos for model in comparison.models} == {VIDEOS}
    first, second, third, *_ = comparison.notes  # what bears on the figures, before how scores were taken
    assert first.startswith(f"few: 19 of 24 videos of {truth} have no answer")
    assert "m: its seeds do not answer the same videos: 22 are common to all" in second
    assert "the scores are taken as logits" in third


def test_rows_without_names_are_in_the_order_of_the_truth(tmp_path, truth):
    scores = random_scores()

    def unnamed(path, rows, labels=None):
        columns = [*(["label"] if labels else []), *(f"score_{name}" for name in CLASSES)]
        lines = [[*([labels[i]] if labels else []), *map(repr, row.tolist())] for i, row in enumerate(rows)]
        path.write_text("\n".join(",".join(line) for line in [columns, *lines]) + "\n")
        return path

    comparison = judge(unnamed(tmp_path / "a.csv", scores), truth=truth, classes=CLASSES)
    assert list(answered(comparison, "a").values()) == scores.argmax(1).tolist()
    assert "they are taken in the order of" in comparison.notes[0]
    assert "it has no labels, so nothing confirms that" in comparison.notes[0]
    confirmed = judge(unnamed(tmp_path / "b.csv", scores, [CLASSES[k] for k in LABELS]), truth=truth, classes=CLASSES)
    assert any("b.csv: its videos are taken in the order of" in note for note in confirmed.notes)
    both = judge(tmp_path / "a.csv", tmp_path / "b.csv")  # the order is that of the one with the labels
    assert "a.csv: it names no videos" in both.notes[0]
    assert row(both, "a").accuracy.value == row(comparison, "a").accuracy.value
    with pytest.raises(UserError, match=r"a\.csv: it names no videos, and has 23 where .* has 24"):
        judge(unnamed(tmp_path / "a.csv", scores[1:]), truth=truth, classes=CLASSES)
    shifted = [CLASSES[k] for k in np.roll(LABELS, 1)]
    with pytest.raises(UserError, match=r"a\.csv: its rows are not .*: its video 1 is wave in it, and left in"):
        judge(unnamed(tmp_path / "a.csv", scores, shifted), truth=truth, classes=CLASSES)


# --- labels and classes


def test_labels_of_a_file_are_held_against_the_truth(tmp_path, truth):
    scores, own = random_scores(), [CLASSES[k] for k in LABELS]
    few = [CLASSES[1], *own[1:]]
    notes = judge(table(tmp_path / "a.csv", scores, more={"label": few}), truth=truth).notes
    assert any(
        "1 of 24 labels are others than in" in note and "'walk/000.mp4' is right in it, and left in" in note
        for note in notes
    )
    moved = [CLASSES[(k + 1) % len(CLASSES)] for k in LABELS]
    with pytest.raises(UserError, match=r"a\.csv: 24 of 24 labels are not those of"):
        judge(table(tmp_path / "a.csv", scores, more={"label": moved}), truth=truth)


def test_classes_that_are_not_in_the_list_are_errors(tmp_path, truth):
    with pytest.raises(
        UserError,
        match=r"a\.csv: none of its answers is one of the 6 classes of .*: 'lefft' \(did you mean 'left'\?\)\. Name",
    ):
        judge(table(tmp_path / "a.csv", answers=["lefft"] * VIDEOS), truth=truth, classes=CLASSES)
    with pytest.raises(UserError, match=r"none of its answers is one of the 6 classes of .*: '6'\. .* --classes FILE"):
        judge(table(tmp_path / "a.csv", answers=[6] * VIDEOS), truth=truth, classes=CLASSES)
    with pytest.raises(UserError, match="it has no scores of the class 'wave'"):
        judge(table(tmp_path / "a.csv", random_scores()[:, :5], classes=CLASSES[:5]), truth=truth, classes=CLASSES)
    wide = np.concatenate([random_scores(), np.zeros((VIDEOS, 1))], axis=1)
    with pytest.raises(UserError, match=r"it has scores of the class 'jump'.*--classes FILE"):
        judge(table(tmp_path / "a.csv", wide, classes=[*CLASSES, "jump"]), truth=truth, classes=CLASSES)
    with pytest.raises(UserError, match=r"truth\.csv: class 'wave' is not among the 5 classes"):
        judge(table(tmp_path / "a.csv", answers=["left"] * VIDEOS), truth=truth, classes=CLASSES[:5])
    unnamed = table(tmp_path / "a.csv", random_scores(), classes=range(6))
    with pytest.raises(UserError, match="--classes: labels are names, and scores have numbers"):
        judge(unnamed, truth=truth)


def samples(path, answers, labels=None):
    """A file of a language model that writes its answers."""
    names = labels or [CLASSES[k] for k in LABELS]
    lines = [
        json.dumps({"doc_id": i, "target": names[i], "filtered_resps": [answer]}) for i, answer in enumerate(answers)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_free_text_is_wrong_and_adds_no_class(tmp_path, manifest):
    right = [CLASSES[k] for k in LABELS]
    answers = ["Left.", "I am not sure", "I am not sure", "3", *right[4:]]
    comparison = judge(samples(tmp_path / "llm.jsonl", answers))
    (model,) = comparison.models
    assert model.classes == tuple(sorted(CLASSES))
    assert comparison.baselines.chance.top1 == 1 / len(CLASSES)
    assert model.accuracy.value == 20 / 24
    assert model.confusion.sum() == 20  # the others are no class: in no column
    assert (
        "4 of 24 answers name none of the 6 classes, and count as wrong: 'I am not sure', '3', 'Left.' (did you mean 'left'?)"
        in comparison.notes[0]
    )
    precision, recall = np.ones(6), model.class_accuracy_K
    assert model.precision_K.tolist() == precision.tolist()
    assert model.f1_K == pytest.approx(2 * precision * recall / (precision + recall))
    by_truth = judge(
        table(tmp_path / "a.csv", answers=["Left.", *right[1:]]),
        table(tmp_path / "b.csv", answers=right),
        truth=manifest,
    )
    assert row(by_truth, "a").accuracy.value == 23 / 24
    assert answer_of(row(by_truth, "a"), 0, right=False) == "none of the classes"
    last = CLASSES[-1] if right[0] != CLASSES[-1] else CLASSES[0]  # what an index of -1 would be
    wrong = table(tmp_path / "c.csv", answers=[last, *right[1:]])
    hashes = [
        card_of({"d": judge(f"m={file}", truth=manifest)})["sets"][0]["models"][0]
        for file in (tmp_path / "a.csv", wrong)
    ]
    assert hashes[0]["answers_sha256"] != hashes[1]["answers_sha256"]


def test_answers_of_another_spelling_or_by_number_make_no_classes(tmp_path):
    names = [CLASSES[k] for k in LABELS]
    with pytest.raises(UserError, match=r"a: none of its answers is one of the 6 classes .*did you mean 'left'\?"):
        muybridge.judge({"a": [name.upper() for name in names]}, truth=names, out=tmp_path / "r.html")
    with pytest.raises(UserError, match=r"llm\.jsonl: none of its answers"):
        judge(samples(tmp_path / "llm.jsonl", ["I am not sure"] * VIDEOS))
    with pytest.raises(UserError, match="labels are names, and the answers of a are numbers"):
        muybridge.judge({"a": LABELS}, truth=names, out=tmp_path / "r.html")
    (found,) = muybridge.judge({"a": [9, *LABELS[1:]]}, truth=LABELS, out=tmp_path / "r.html").comparisons.values()
    assert (len(found.classes), found.models[0].accuracy.value) == (6, 23 / 24)
    assert "1 of 24 answers names none of the 6 classes, and counts as wrong: '9'" in found.notes[0]


NUMERALS = tuple(sorted(map(str, range(12))))
"""Folders called 0 to 11 in the order of a manifest: 0, 1, 10, 11, 2, …"""


def test_classes_that_are_called_by_numbers_are_matched_by_name(tmp_path):
    ids, names = [f"{i}.mp4" for i in range(12)], NUMERALS
    truth = table(tmp_path / "truth.csv", ids=ids, more={"label": names})
    right = table(tmp_path / "right.csv", ids=ids, answers=names, more={"label": names})
    assert judge(right, truth=truth, classes=NUMERALS).models[0].accuracy.value == 1.0
    scored = table(tmp_path / "s.csv", np.eye(12), ids=ids, classes=NUMERALS, more={"label": names})
    assert judge(scored, truth=truth).models[0].accuracy.value == 1.0
    (tmp_path / "right.jsonl").write_text(
        "".join(json.dumps({"id": i, "pred": k}) + "\n" for i, k in zip(ids, names, strict=True))
    )
    assert judge(tmp_path / "right.jsonl", truth=truth, classes=NUMERALS).models[0].accuracy.value == 1.0
    np.savez(tmp_path / "right.npz", ids=ids, predictions=[int(name) for name in names])
    with pytest.raises(UserError, match=r"right\.npz: classes are called by numbers \(0, 1, 10, 11, …\)"):
        judge(tmp_path / "right.npz", truth=truth, classes=NUMERALS)
    in_order = [str(k) for k in range(12)]
    assert judge(tmp_path / "right.npz", truth=truth, classes=in_order).models[0].accuracy.value == 1.0
    with pytest.raises(UserError, match="truth: classes are called by numbers"):
        muybridge.judge({"a": np.eye(12)}, truth=np.arange(12), classes=NUMERALS, out=tmp_path / "r.html")
    padded = table(tmp_path / "padded.csv", ids=ids, answers=[f"{int(name):03}" for name in names])
    assert judge(padded, truth=truth, classes=NUMERALS).models[0].accuracy.value == 1.0


def test_whole_numbers_of_floats_are_answers(tmp_path):
    (found,) = muybridge.judge({"a": LABELS.astype(float)}, truth=LABELS, out=tmp_path / "r.html").comparisons.values()
    assert found.models[0].accuracy.value == 1.0


def test_the_data_of_judged_files_has_the_sizes_of_its_classes(tmp_path, truth):
    comparison = judge(table(tmp_path / "a.csv", random_scores()), truth=truth, classes=CLASSES)
    assert comparison.dataset.class_sizes["test"].tolist() == [4] * 6
    assert not comparison.baselines.from_training
    section = overview(Chapter(comparison))
    assert section.tables[0].rows == [["test", "24", "6", "4 – 4"]]


def test_shared_highest_scores_are_told(tmp_path, truth):
    scores = random_scores()
    scores[:10] = 0.5
    notes = judge(table(tmp_path / "a.csv", scores), truth=truth, classes=CLASSES).notes
    assert "a.csv: in 10 of 24 videos several classes share the highest score" in notes[0]
    assert not any(
        "share the highest" in note for note in judge(table(tmp_path / "b.csv", random_scores()), truth=truth).notes
    )


@pytest.mark.filterwarnings("error")
def test_scores_of_any_size_are_judged_or_refused(tmp_path, truth):
    large = 1e25 * random_scores()
    assert answered(judge(table(tmp_path / "a.csv", large), truth=truth), "a") == answered(
        judge(table(tmp_path / "b.csv", random_scores()), truth=truth), "b"
    )
    with pytest.raises(UserError, match=r"c\.csv: a score is beyond 1e\+30"):
        judge(table(tmp_path / "c.csv", 1e307 * random_scores()), truth=truth)
    np.savez(tmp_path / "d.npz", scores=random_scores() > 0, videos=IDS)
    with pytest.raises(UserError, match=r"d\.npz: 'scores' has (True|False) where a score should be"):
        judge(tmp_path / "d.npz", truth=truth, classes=CLASSES)


def test_only_endings_of_files_are_endings_and_accents_are_one_sign(tmp_path):
    truth = table(tmp_path / "truth.csv", ids=["s0.cam", "s1.cam"], more={"label": ["left", "right"]})
    with pytest.raises(UserError, match="none of its 2 videos is in"):
        judge(table(tmp_path / "a.csv", ids=["s0.rgb", "s1.rgb"], answers=["left", "right"]), truth=truth)
    names = ["caf\u00e9.mp4", "plain.mp4"]
    truth = table(tmp_path / "truth.csv", ids=names, more={"label": ["left", "right"]})
    apart = table(
        tmp_path / "a.csv", ids=[unicodedata.normalize("NFD", name) for name in names], answers=["left", "left"]
    )
    (model,) = judge(apart, truth=truth).models
    assert (model.num_videos, model.accuracy.value) == (2, 0.5)


def test_numbers_that_count_from_one_are_told(tmp_path, truth):
    with pytest.raises(
        UserError, match=r"a\.csv: its answers are numbers from 1 to 6, and the classes .* are 0 \(left\) to 5"
    ):
        judge(table(tmp_path / "a.csv", answers=LABELS + 1), truth=truth, classes=CLASSES)
    with pytest.raises(UserError, match="truth: numbers go from 1 to 6, and the 6 classes are 0 to 5"):
        muybridge.judge({"a": random_scores()}, truth=LABELS + 1, classes=CLASSES, out=tmp_path / "r.html")
    with pytest.raises(UserError, match=r"classes: labels go from 1 to 6, and scores from 0 to 5\. If .* classes="):
        muybridge.judge({"a": random_scores()}, truth=LABELS + 1, out=tmp_path / "r.html")
    one_based = table(tmp_path / "a.csv", random_scores(), classes=range(1, 7), more={"label": LABELS})
    with pytest.raises(UserError, match=r"class '?0'? is not among the 6 classes\. Valid: 1, 2, 3, 4, 5, 6"):
        judge(one_based)
    shifted = table(
        tmp_path / "a.csv", answers=np.where(LABELS == 5, 1, LABELS + 1)
    )  # the last class is never answered
    assert (
        "a.csv: its answers are numbers from 1 to 5, and never 0 (left)"
        in judge(shifted, truth=truth, classes=CLASSES).notes[0]
    )
    fine = table(tmp_path / "a.csv", answers=LABELS)
    assert not judge(fine, truth=truth, classes=CLASSES).notes


def test_a_list_of_classes_may_be_a_file_that_counts_from_one(tmp_path):
    listing = tmp_path / "test.txt"
    listing.write_text("".join(f"{name} {90 + i} {LABELS[i] + 1}\n" for i, name in enumerate(IDS)))
    names = tmp_path / "classes.txt"
    names.write_text("".join(f"{number} {name}\n" for number, name in enumerate(CLASSES, start=1)))
    file = table(tmp_path / "a.csv", np.eye(len(CLASSES))[LABELS])
    assert judge(file, truth=listing, classes=names).models[0].accuracy.value == 1.0


@pytest.mark.parametrize(("ending", "named"), [("csv", False), ("txt", False), ("txt", True)])
def test_a_truth_may_be_a_list_without_a_header(tmp_path, ending, named):
    listing = tmp_path / f"test.{ending}"
    listing.write_text("".join(f"clips/{i} {CLASSES[LABELS[i]] if named else LABELS[i]}\n" for i in range(VIDEOS)))
    file = table(tmp_path / "a.csv", np.eye(len(CLASSES))[LABELS], ids=[f"clips/{i}" for i in range(VIDEOS)])
    (model,) = judge(file, truth=listing, classes=CLASSES).models
    assert (model.num_videos, model.accuracy.value) == (VIDEOS, 1.0)


def test_the_truth_may_be_a_column_and_files_may_not_disagree_on_it(tmp_path):
    own = [CLASSES[k] for k in LABELS]
    people = [f"p{i % 4}" for i in range(VIDEOS)]
    one = table(tmp_path / "a.csv", random_scores(0), more={"label": own, "person": people})
    two = table(tmp_path / "b.csv", random_scores(1))
    comparison = judge(two, one)
    assert {model.name for model in comparison.models} == {"a", "b"}
    assert row(comparison, "b").groups_N.tolist() == people
    table(tmp_path / "b.csv", random_scores(1), more={"label": [own[1], *own[1:]]})
    with pytest.raises(UserError, match=r"b\.csv.*: 'walk/000.mp4' is (left|right) in one row and"):
        judge(one, two)
    with pytest.raises(UserError, match="--truth: no file says what its videos show"):
        judge(table(tmp_path / "c.csv", random_scores()))


def test_files_that_do_not_fit_in_memory_are_read_twice_with_the_same_figures(tmp_path, monkeypatch):
    own = [CLASSES[k] for k in LABELS]
    files = [table(tmp_path / f"m{i}.csv", random_scores(i), more={"label": own}) for i in range(3)]
    read, opened = judging.read, []
    monkeypatch.setattr(judging, "read", lambda path, **how: opened.append(str(path)) or read(path, **how))
    held = judge(*files)
    assert sorted(opened) == sorted(map(str, files))
    monkeypatch.setattr(judging, "HELD_BYTES", 1)
    again = judge(*files)
    assert len(opened) == 3 * len(files)
    assert [model.as_json(()) for model in again.models] == [model.as_json(()) for model in held.models]


# --- models and seeds


def test_seeds_by_the_names_of_files(tmp_path, truth):
    files = [table(tmp_path / f"{name}_seed{seed}.csv", random_scores(seed)) for name in ("a", "b") for seed in (3, 1)]
    comparison = judge(*files, truth=truth, classes=CLASSES)
    assert {(model.name, model.num_seeds) for model in comparison.models} == {("a", 2), ("b", 2)}
    first = row(comparison, "a").answers[0].predicted_N
    assert first.tolist() == random_scores(1).argmax(1).tolist()  # sorted by seed
    odd = [table(tmp_path / f"net{number}.csv", random_scores(number)) for number in (1, 2)]
    comparison = judge(*odd, truth=truth, classes=CLASSES, seed_pattern=r"net(\d+)\.csv")
    assert [model.num_seeds for model in comparison.models] in ([2], [1, 1])
    with pytest.raises(UserError, match=r"--seed-pattern: 'x\(\\d\)' finds no number in"):
        judge(*odd, truth=truth, classes=CLASSES, seed_pattern=r"x(\d)")
    with pytest.raises(UserError, match="--seed-pattern: '\\(' cannot be read"):
        judge(*odd, truth=truth, classes=CLASSES, seed_pattern="(")


def test_files_of_one_name_are_seeds_where_their_videos_are_the_same(tmp_path, truth):
    halves = [(seed, half) for half in (0, 1) for seed in range(2)]
    files = [
        table(tmp_path / f"{seed}{half}.csv", random_scores(seed)[12 * half :][:12], ids=IDS[12 * half :][:12])
        for seed, half in halves
    ]
    comparison = judge(*[f"ours={file}" for file in files], truth=truth, classes=CLASSES)
    (model,) = comparison.models
    assert model.num_seeds == 2
    assert model.num_videos == VIDEOS
    assert any(
        "ours: without numbers of seeds, 4 predictions are taken as 2 seeds, parts with other videos joined" in n
        for n in comparison.notes
    )


def test_two_files_of_one_seed_with_the_same_videos_are_an_error(tmp_path, truth):
    (tmp_path / "x").mkdir()
    files = [table(folder / "a_seed0.csv", random_scores()) for folder in (tmp_path, tmp_path / "x")]
    with pytest.raises(UserError, match=r"walk/000.mp4 is answered in .*, too, and both are a of seed 0"):
        judge(*files, truth=truth, classes=CLASSES)


def test_copies_are_no_seeds(tmp_path, truth):
    file = table(tmp_path / "a.csv", random_scores())
    (tmp_path / "b.csv").write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"a\.csv: it is named twice for m\. Name each seed's file once"):
        judge(f"m={file}", f"m={tmp_path / '..' / tmp_path.name / 'a.csv'}", truth=truth)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="loop: it cannot be read"):
        judge(tmp_path / "loop", truth=truth)
    with pytest.raises(UserError, match=r"b\.csv: it and .*a\.csv have the same scores.* one seed of m"):
        judge(f"m={file}", f"m={tmp_path / 'b.csv'}", truth=truth)
    with pytest.raises(UserError, match="two of its seeds have the same scores"):
        muybridge.judge({"m": [random_scores()] * 2}, truth=LABELS, out=tmp_path / "r.html")
    assert len(judge(f"m={file}", f"n={tmp_path / 'b.csv'}", truth=truth).models) == 2  # models may be the same
    answers = [table(tmp_path / f"s{i}.csv", answers=[CLASSES[k] for k in LABELS]) for i in range(3)]
    comparison = judge(*(f"m={one}" for one in answers), truth=truth)
    assert comparison.notes[0].startswith("m: 3 of its 3 predictions give the same answers, all of them")


def test_seeds_that_lack_videos_are_compared_on_those_of_all(tmp_path, truth):
    whole = table(tmp_path / "a_seed0.csv", random_scores(0))
    short = table(tmp_path / "a_seed1.csv", random_scores(1)[:-1], ids=IDS[:-1])
    comparison = judge(whole, short, truth=truth, classes=CLASSES)
    (model,) = comparison.models
    assert (model.num_seeds, model.num_videos) == (2, VIDEOS - 1)
    assert any("23 are common to all, and 1 others are left out (walk/023.mp4)" in note for note in comparison.notes)
    assert model.accuracy.value == np.mean([(random_scores(s)[:-1].argmax(1) == LABELS[:-1]).mean() for s in (0, 1)])


def test_models_and_seeds_by_columns(tmp_path, truth):
    rows = [(model, seed) for model in ("x", "y") for seed in (0, 1)]
    file = table(
        tmp_path / "all.csv", np.concatenate([random_scores(10 * seed + len(model)) for model, seed in rows]), ids=IDS * 4,
        more={"model": np.repeat([m for m, _ in rows], VIDEOS), "seed": np.repeat([s for _, s in rows], VIDEOS)},
    )  # fmt: skip
    comparison = judge(file, truth=truth, classes=CLASSES)
    assert {(model.name, model.num_seeds) for model in comparison.models} == {("x", 2), ("y", 2)}


# --- answers alone


def test_answers_alone_have_accuracy_and_say_what_they_lack(tmp_path, manifest):
    scores = random_scores()
    alone = table(tmp_path / "alone.csv", answers=[CLASSES[k] for k in scores.argmax(1)])
    full = table(tmp_path / "full.csv", scores)
    comparison = judge(alone, full, truth=manifest)
    one, other = row(comparison, "alone"), row(comparison, "full")
    assert one.accuracy == other.accuracy
    assert one.macro_f1 == other.macro_f1
    assert (one.calibration, one.risk_coverage, one.loss, one.top(5)) == (None, None, None, None)
    assert other.calibration is not None
    assert other.top(5) is not None
    assert comparison.pairs == ()
    assert any("Time-reversed pairs are left out, as alone gives answers alone" in note for note in comparison.notes)
    lacking = {entry.figures: entry.models for entry in missing(comparison)}
    assert lacking["top-5, calibration, coverage, time-reversed pairs"] == ("alone",)
    assert json.dumps(comparison.as_json(), allow_nan=False)


def test_two_answers_to_one_video_cannot_be_averaged(tmp_path, truth):
    twice = table(tmp_path / "a.csv", ids=[*IDS, IDS[3]], answers=["left"] * (VIDEOS + 1))
    with pytest.raises(UserError, match=r"a\.csv: 'walk/003.mp4' has 2 answers, and no scores"):
        judge(twice, truth=truth, classes=CLASSES)


def test_answers_that_contradict_the_scores_are_told(tmp_path, truth):
    scores = random_scores()
    answers = [CLASSES[k] for k in scores.argmax(1)]
    answers[0] = CLASSES[scores[0].argmin()]
    notes = judge(table(tmp_path / "a.csv", scores, answers=answers), truth=truth).notes
    assert any("1 of 24 answers are not the class of the highest score" in note for note in notes)


# --- arrays, and the verb


def test_arrays_are_judged_by_their_names(tmp_path):
    seeds = [random_scores(seed) for seed in range(3)]
    written = muybridge.judge(
        {"a": seeds, "b": random_scores(9).argmax(1), "c": [CLASSES[k] for k in LABELS]}, truth=LABELS, classes=CLASSES,
        groups=[f"g{i % 7}" for i in range(VIDEOS)], out=tmp_path / "r.html",
    )  # fmt: skip
    (comparison,) = written.comparisons.values()
    assert row(comparison, "a").num_seeds == 3
    assert row(comparison, "a").accuracy.value == pytest.approx(
        np.mean([(of.argmax(1) == LABELS).mean() for of in seeds])
    )
    assert row(comparison, "c").accuracy.value == 1.0
    assert "groups" in row(comparison, "a").accuracy.method
    assert row(comparison, "a").files == ()
    labels = [CLASSES[k] for k in LABELS]
    named = muybridge.judge({"a": np.stack(seeds)}, ids=IDS, truth=labels, classes=CLASSES, out=tmp_path / "s.html")
    assert next(iter(named.comparisons.values())).models[0].answers[0].ids_N.tolist() == IDS


@pytest.mark.parametrize(
    ("arrays", "options", "error"),
    [
        ({"a": np.zeros((VIDEOS, 2, 2, 2))}, {}, "a: an array of float64 of shape"),
        ({"a": np.full(VIDEOS, 0.5)}, {}, "a: an array of float64 of shape"),
        ({"a": {"x.mp4": "left"}}, {}, r"a: answers by the names of videos.* ids=list\(by_video\)"),
        (
            {"a": random_scores()},
            {"truth": {"x.mp4": "left"}},
            r"truth: labels by the names .* \[labels\[name\] for",
        ),
        ({"a": random_scores()}, {"truth": None}, "truth: no labels are given.* truth=labels"),
        (
            {"a": random_scores()},
            {"classes": ["x", "y"]},
            r"classes: 2 are named, and 'a' has 6 scores a row.* classes=",
        ),
        ({"a": random_scores()}, {"truth": [CLASSES[k] for k in LABELS]}, r"classes: labels are names.* classes=\["),
        ({"a": random_scores()[:, :5]}, {}, r"a: it has 5 scores a row, and truth has 6 classes\..* classes=\["),
        ({"a": random_scores()[1:]}, {}, "truth: 24 values for 23 videos"),
        ({"a": random_scores(), "b": random_scores()[1:]}, {}, "'b': 23 values for 24 videos"),
        ({"a": []}, {}, "a: the list is empty"),
        ({}, {}, "predictions: nothing is given"),
        ({"a": random_scores()}, {"ids": IDS[1:]}, "ids: 23 names, and 'a' has 24 videos"),
        ({"a": random_scores()}, {"groups": ["x"]}, "groups: 1 values for 24 videos"),
        ({"a": np.full((VIDEOS, 6), np.nan)}, {}, "a: a score is not a finite number"),
        ({"a": random_scores()}, {"ids": [IDS[0]] * VIDEOS}, "the video 'walk/000.mp4' is there more than once"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, options, error):
    with pytest.raises(UserError, match=error):
        muybridge.judge(arrays, out=tmp_path / "r.html", **{"truth": LABELS, **options})
    assert not list(tmp_path.iterdir())


def test_a_report_of_predictions_says_what_they_do_not_tell(tmp_path, truth):
    table(tmp_path / "a.csv", random_scores())
    table(tmp_path / "b.csv", answers=[CLASSES[k] for k in random_scores(1).argmax(1)])
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(CLASSES) + "\n")
    written = muybridge.judge(
        [tmp_path / "a.csv", tmp_path / "b.csv"], truth=truth, classes=names, out=tmp_path / "r.html"
    )
    told = json.loads(written.path.with_suffix(".json").read_text())
    assert {one["figures"].split(",")[0] for one in told["missing"]} >= {"top-5", "clip top-1", "cost"}
    text = written.path.with_suffix(".md").read_text()
    assert "## Not told by these files" in text
    assert "## Calibration" in text
    assert "## Cost" not in text
    assert "--seeds" not in text


def test_columns_are_named_where_they_are_called_otherwise(tmp_path, truth):
    file = tmp_path / "a.csv"
    file.write_text("clip_id,says\n" + "".join(f"{name},{CLASSES[k]}\n" for name, k in zip(IDS, LABELS, strict=True)))
    columns = Columns.of(["video=clip_id", "answer=says"])
    assert judge(file, truth=truth, columns=columns, classes=CLASSES).models[0].accuracy.value == 1.0
    usual = table(tmp_path / "b.csv", answers=[CLASSES[k] for k in LABELS])
    comparison = judge(file, usual, truth=truth, columns=columns, classes=CLASSES)
    assert [model.accuracy.value for model in comparison.models] == [1.0, 1.0]
    assert (
        f"{usual}: the columns that were named are not in it, and its own were found by their names."
        in comparison.notes
    )
    with pytest.raises(UserError, match=r"b\.csv: the column 'clip_id' is not there"):
        judge(usual, truth=truth, columns=columns, classes=CLASSES)


def test_what_is_asked_for_is_a_file_or_a_folder_with_or_without_a_name(tmp_path):
    (tmp_path / "a=b.csv").write_text("")
    asked, folders = asked_of([str(tmp_path), f"{tmp_path}/a=b.csv", "ours=x.csv", f"lr=1={tmp_path}/a=b.csv"])
    assert folders == [tmp_path]
    odd = f"{tmp_path}/a=b.csv"
    assert [(str(one.source), one.name) for one in asked] == [(odd, None), ("x.csv", "ours"), (odd, "lr=1")]
    assert asked_of({"a": ["x.csv", "y.csv"], "b": "z.csv"})[0][1] == Asked(asked_of(["y.csv"])[0][0].source, "a")
    for text, error in (
        ("=x.csv", "it names no model"),
        ("ours=", "it names no file"),
        (f"x={tmp_path}", "its own name"),
    ):
        with pytest.raises(UserError, match=error):
            asked_of([text])


def test_a_comparison_of_made_scores_as_probabilities_cannot_be_saved(tmp_path):
    scores = made_scores(np.ones(6, dtype=bool))
    given = Scores(
        scores.classes, scores.ids_N, scores.labels_N, scores.groups_N, scores.video_V, scores.clip_start_V, scores.crop_V,
        softmax(scores.logits_VK), "probabilities", are_probabilities=True,
    )  # fmt: skip
    assert (given.video_probabilities() == softmax(scores.logits_VK)).all()
    with pytest.raises(ValueError, match="cannot be saved"):
        given.save(tmp_path / "x.npz")
