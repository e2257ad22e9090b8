"""Predictions of other tools: read to the digit, without running their code, and refused in words where they are damaged."""

import csv
import io
import json
import os
import pickle
import random
import signal
import struct
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from muybridge.errors import UserError
from muybridge.storage.predictions import Columns, Predictions, read, read_list
from muybridge.storage.scores import Scores, ViewGrid
from muybridge.text import spreadsheet

CLASSES = ("walk", "run", "jump", "wave")
VIDEOS = tuple(f"clips/{name}.mp4" for name in ("a", "b", "Ö", "d e", "f,g", "007", "h", "i"))
SCORES = np.random.default_rng(0).dirichlet(np.ones(4), 8)
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 2])


def csv_file(path, header, rows, *, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def records(**more):
    """A record a video, with its scores as plain floats."""
    return [
        {"video": video, "label": CLASSES[label], "scores": row.tolist()}
        | {name: values[n] for name, values in more.items()}
        for n, (video, label, row) in enumerate(zip(VIDEOS, LABELS, SCORES, strict=True))
    ]


def write_csv(folder):
    rows = [[video, CLASSES[label], *row.tolist()] for video, label, row in zip(VIDEOS, LABELS, SCORES, strict=True)]
    return csv_file(folder / "p.csv", ["video", "label", *(f"score_{name}" for name in CLASSES)], rows)


def write_jsonl(folder):
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records()), encoding="utf-8")
    return path


def write_json(folder):
    path = folder / "p.json"
    path.write_text(json.dumps({"classes": list(CLASSES), "predictions": records()}))
    return path


def write_npz(folder):
    path = folder / "p.npz"
    np.savez(path, logits=SCORES, labels=LABELS, videos=np.array(VIDEOS), classes=np.array(CLASSES))
    return path


def mmaction_dump(scores=SCORES, labels=LABELS):
    """What mmengine's DumpResults collects of MMAction2 1.0: to_dict() of each ActionDataSample."""
    probabilities = torch.tensor(scores, dtype=torch.float32)
    return [
        {
            "num_classes": 4, "img_shape": (224, 224), "pred_scores": {"item": probabilities[n]},
            "pred_labels": {"item": probabilities[n].argmax().reshape(1)}, "gt_labels": {"item": torch.tensor([label])},
        }
        for n, label in enumerate(labels)
    ]  # fmt: skip


def write_mmaction(folder):
    path = folder / "dump.pkl"
    path.write_bytes(pickle.dumps(mmaction_dump(), protocol=2))  # mmengine.fileio's protocol
    return path


def write_pyslowfast(folder):
    path = folder / "results.pkl"
    path.write_bytes(pickle.dumps([torch.tensor(SCORES * 30), torch.tensor(LABELS)]))
    return path


def write_torch(folder):
    path = folder / "scores.pt"
    torch.save({"video_ids": list(VIDEOS), "logits": torch.tensor(SCORES), "labels": torch.tensor(LABELS)}, path)
    return path


def write_mteb(folder):
    path = folder / "Weizmann_predictions.json"
    meta = {"model_name": "org/encoder", "revision": "1"}
    answers = [SCORES.argmax(1).tolist(), LABELS.tolist()]
    path.write_text(json.dumps({"mteb_model_meta": meta, "default": {"test": answers}}, indent=4))
    return path


def write_lm(folder):
    path = folder / "samples_actions_2026-01-01.jsonl"
    with path.open("w") as file:
        for n, (video, label, row) in enumerate(zip(VIDEOS, LABELS, SCORES, strict=True)):
            resps = [[str(value), "False"] for value in np.log(row).tolist()]
            doc = {"video": video, "question": "What is done?", "choices": list(CLASSES)}
            sample = {"doc_id": n, "doc": doc, "target": str(label), "resps": [[one] for one in resps],
                      "filtered_resps": resps, "filter": "none", "metrics": ["acc"], "doc_hash": "0", "acc": 1.0}  # fmt: skip
            file.write(json.dumps(sample) + "\n")
    return path


def own_scores(average="logits"):
    logits = np.random.default_rng(1).normal(size=(16, 4)).astype(np.float32)
    return Scores(
        CLASSES, np.array(VIDEOS), LABELS, np.array(["p1", "p2"] * 4), np.repeat(np.arange(8), 2), np.tile([0, 4], 8),
        np.zeros(16, dtype=np.int64), logits, average=average, grid=ViewGrid("uniform", 2, 1), split="test",
    )  # fmt: skip


def write_own(folder):
    own_scores().save(folder / "test.npz")
    return folder / "test.npz"


def write_answers(folder):
    header = ["path", "window", "windows", "start_seconds", "end_seconds", "label", "score"]
    header += [name for n in (2, 3, 4) for name in (f"label_{n}", f"score_{n}")] + ["error", "call_sha256"]
    rows = []
    for video, row in zip(VIDEOS, SCORES, strict=True):
        best = [cell for c in np.argsort(-row) for cell in (spreadsheet(CLASSES[c]), f"{row[c]:.6f}")]
        rows.append([video, 1, 1, "0.000000", "2.000000", *best, "", "0123456789abcdef"])
    rows.append(["clips/broken.mp4", 1, 1, "", "", *[""] * 8, "no frame could be read", "0123456789abcdef"])
    return csv_file(folder / "answers.csv", header, rows)


def write_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"video": VIDEOS, "label": [CLASSES[label] for label in LABELS], "probabilities": SCORES.tolist()}
    parquet.write_table(pyarrow.table(columns), folder / "p.parquet")
    return folder / "p.parquet"


WRITERS = {
    "csv": write_csv, "jsonl": write_jsonl, "json": write_json, "npz": write_npz, "mmaction": write_mmaction,
    "pyslowfast": write_pyslowfast, "pickle": write_torch, "mteb": write_mteb, "lm": write_lm, "muybridge": write_own,
    "answers": write_answers, "parquet": write_parquet,
}  # fmt: skip


def check_form(found):
    """What every answer of the reader has, whatever the file."""
    assert found
    for one in found:
        assert isinstance(one, Predictions)
        rows = len(one.videos_R)
        assert rows
        assert one.videos_R.dtype.kind == "U"
        assert (one.videos_R != "").all()
        assert one.scores_RC is not None or one.answers_R is not None
        if one.scores_RC is not None:
            assert one.scores_RC.shape[0] == rows
            assert one.scores_RC.shape[1] >= 2
            assert one.scores_RC.dtype.kind == "f"
            assert np.isfinite(one.scores_RC).all()
            assert one.classes is None or len(set(one.classes)) == len(one.classes) == one.scores_RC.shape[1]
        for values in (one.answers_R, one.labels_R):
            assert values is None or (values.shape == (rows,) and values.dtype.kind in "Ui")
        assert one.groups_R is None or (one.groups_R.shape == (rows,) and one.groups_R.dtype.kind == "U")


@pytest.mark.parametrize("name", ["csv", "jsonl", "json", "npz", "pickle", "parquet"])
def test_names_scores_and_labels_come_back_to_the_digit(name, tmp_path):
    (found,) = read(WRITERS[name](tmp_path))
    check_form([found])
    assert found.format == name
    assert found.videos_R.tolist() == list(VIDEOS)
    assert np.array_equal(found.scores_RC, SCORES)
    assert found.answers_R is None
    named = found.labels_R if found.labels_R.dtype.kind == "U" else np.array(CLASSES)[found.labels_R]
    assert named.tolist() == [CLASSES[label] for label in LABELS]
    if name in ("csv", "json", "npz"):
        assert found.classes == CLASSES
    assert not found.is_numbered


def test_mmaction_keeps_the_order_of_its_test_list(tmp_path):
    (found,) = read(write_mmaction(tmp_path))
    assert (found.format, found.is_numbered, found.classes) == ("mmaction", True, None)
    assert np.array_equal(found.scores_RC, SCORES.astype(np.float32))
    assert found.labels_R.tolist() == LABELS.tolist()
    assert found.named(VIDEOS).videos_R.tolist() == list(VIDEOS)
    with pytest.raises(UserError, match="8 videos, and the list has 7"):
        found.named(VIDEOS[:7])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_versions_of_mmactions_dump_say_the_same(protocol, tmp_path):
    """1.2 keeps plain tensors, versions before 1.0 a list of arrays; one of views a row a view."""
    path = tmp_path / "dump.pkl"
    scores = SCORES.astype(np.float32)
    flat = [{"pred_score": torch.tensor(row), "gt_label": torch.tensor([label]), "filename": video}
            for row, label, video in zip(scores, LABELS, VIDEOS, strict=True)]  # fmt: skip
    path.write_bytes(pickle.dumps(flat, protocol=protocol))
    (found,) = read(path)
    assert found.videos_R.tolist() == list(VIDEOS)
    assert np.array_equal(found.scores_RC, scores)
    path.write_bytes(pickle.dumps(list(scores), protocol=protocol))
    (found,) = read(path)
    assert (found.format, found.is_numbered, found.labels_R) == ("mmaction", True, None)
    assert np.array_equal(found.scores_RC, scores)
    path.write_bytes(pickle.dumps([np.stack([row, row[::-1]]) for row in scores], protocol=protocol))
    (found,) = read(path)
    assert found.videos_R.tolist() == [str(n) for n in range(8) for _ in range(2)]
    assert np.array_equal(found.scores_RC, np.stack([scores, scores[:, ::-1]], 1).reshape(16, 4))


def test_several_labels_a_video_are_refused(tmp_path):
    path = tmp_path / "dump.pkl"
    path.write_bytes(pickle.dumps([{"pred_score": row, "gt_label": np.array([0, 1])} for row in SCORES], protocol=2))
    with pytest.raises(UserError, match="several classes a video"):
        read(path)
    path.write_bytes(pickle.dumps([torch.tensor(SCORES), torch.eye(4, dtype=torch.long)[LABELS]]))
    with pytest.raises(UserError, match="several labels each"):
        read(path)


def test_pyslowfast_keeps_sums_and_says_which_videos_no_view_was_tested_of(tmp_path):
    (found,) = read(write_pyslowfast(tmp_path))
    assert (found.format, found.is_numbered) == ("pyslowfast", True)
    assert np.array_equal(found.scores_RC, SCORES * 30)
    assert found.labels_R.tolist() == LABELS.tolist()
    sums = torch.tensor(SCORES)
    sums[3] = 0
    (tmp_path / "part.pkl").write_bytes(pickle.dumps([sums, torch.tensor(LABELS)]))
    (found,) = read(tmp_path / "part.pkl")
    assert found.videos_R.tolist() == ["0", "1", "2", "4", "5", "6", "7"]
    assert any("1 video" in note and "numbers 3" in note for note in found.notes)


def test_experiments_of_mteb_are_seeds(tmp_path):
    first, second = read(write_mteb(tmp_path))
    assert [first.seed, second.seed] == [0, 1]
    assert {first.model, first.split, first.format} == {"org/encoder", "test", "mteb"}
    assert first.answers_R.tolist() == SCORES.argmax(1).tolist()
    assert second.answers_R.tolist() == LABELS.tolist()
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"mteb_model_meta": {"model_name": "m"}, "default": {"test": SCORES.tolist()}}))
    (found,) = read(path)
    assert np.array_equal(found.scores_RC, SCORES)
    path.write_text(json.dumps({"task_name": "t", "mteb_version": "2", "scores": {"test": [{"accuracy": 0.5}]}}))
    with pytest.raises(UserError, match="prediction_folder"):
        read(path)


def test_samples_of_language_models(tmp_path):
    (found,) = read(write_lm(tmp_path))
    assert found.classes == CLASSES
    assert found.videos_R.tolist() == list(VIDEOS)
    assert np.array_equal(found.scores_RC, np.log(SCORES))
    assert found.labels_R.tolist() == LABELS.tolist()
    path = tmp_path / "written.jsonl"
    with path.open("w") as file:
        for n, label in enumerate(LABELS):
            for which in ("strict", "loose"):
                answer = "walk" if which == "strict" else f" {CLASSES[label]} "
                sample = {"doc_id": n, "target": CLASSES[label], "filtered_resps": [answer], "filter": which}
                file.write(json.dumps(sample) + "\n")
    strict, loose = read(path)
    assert [strict.model, loose.model] == ["strict", "loose"]
    assert strict.is_numbered
    assert strict.answers_R.tolist() == ["walk"] * 8
    assert (loose.answers_R == loose.labels_R).all()


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_own_scores_come_with_their_views(average, tmp_path):
    scores = own_scores(average)
    scores.save(tmp_path / "test.npz")
    (found,) = read(tmp_path / "test.npz")
    assert (found.format, found.average, found.split, found.classes) == ("muybridge", average, "test", CLASSES)
    assert np.array_equal(found.scores_RC, scores.logits_VK)
    assert found.videos_R.tolist() == [video for video in VIDEOS for _ in range(2)]
    assert found.labels_R.tolist() == np.repeat(LABELS, 2).tolist()
    assert found.groups_R.tolist() == ["p1", "p1", "p2", "p2"] * 4


def test_own_answers_are_whole_scores_where_all_labels_are_there(tmp_path):
    (found,) = read(write_answers(tmp_path))
    check_form([found])
    assert found.videos_R.tolist() == list(VIDEOS)
    assert np.array_equal(found.scores_RC, np.round(SCORES[:, [CLASSES.index(name) for name in found.classes]], 6))
    assert found.labels_R is None, "its column `label` is the answer, not the truth"
    assert any("clips/broken.mp4" in note for note in found.notes)
    path = tmp_path / "answers.jsonl"
    with path.open("w") as file:
        for video, row in zip(VIDEOS, SCORES, strict=True):
            best = np.argsort(-row)[:2].tolist()
            line = {"path": video, "window": 1, "windows": 1, "label": CLASSES[best[0]], "labels": [CLASSES[c] for c in best],
                    "scores": row[best].tolist(), "error": "", "call_sha256": "0"}  # fmt: skip
            file.write(json.dumps(line) + "\n")
    (found,) = read(path)
    assert found.scores_RC is None
    assert found.answers_R.tolist() == [CLASSES[c] for c in SCORES.argmax(1)]
    assert any("--top" in note for note in found.notes)


def test_columns_are_found_by_usual_names_or_named(tmp_path):
    answers = [CLASSES[c] for c in SCORES.argmax(1)]
    path = csv_file(tmp_path / "a.csv", ["File Name", "y_true", "predicted"], zip(VIDEOS, LABELS, answers, strict=True))
    (found,) = read(path)
    assert found.videos_R.tolist() == list(VIDEOS)
    assert found.labels_R.tolist() == LABELS.tolist()
    assert found.answers_R.tolist() == answers
    path = csv_file(
        tmp_path / "b.csv", ["nr", "what", "said"], zip(VIDEOS, LABELS, answers, strict=True), delimiter=";"
    )
    (found,) = read(path, columns=Columns.of(["video=nr", "label=what", "answer=said"]))
    assert found.videos_R.tolist() == list(VIDEOS)
    assert found.answers_R.tolist() == answers
    (found,) = read(
        csv_file(tmp_path / "c.csv", ["video", "label"], zip(VIDEOS, answers, strict=True)),
        columns=Columns(answer="label"),
    )
    assert found.labels_R is None, "a column that is named as the answer is not the truth, too"
    assert found.answers_R.tolist() == answers
    with pytest.raises(UserError, match=r"column 'whta' is not there. Did you mean 'what'"):
        read(path, columns=Columns(label="whta"))
    with pytest.raises(UserError, match=r"what, said may hold .* --column answer=what,said"):
        read(path)


def test_answers_of_several_models_in_one_table(tmp_path):
    rows = [[video, label, CLASSES[label], "run"] for video, label in zip(VIDEOS, LABELS, strict=True)]
    path = csv_file(tmp_path / "wide.csv", ["video", "label", "tsm", "i3d"], rows)
    with pytest.raises(UserError, match="--column answer=tsm,i3d"):
        read(path)
    tsm, i3d = read(path, columns=Columns.of(["answer=tsm,i3d"]))
    assert [tsm.model, i3d.model] == ["tsm", "i3d"]
    assert tsm.answers_R.tolist() == [CLASSES[label] for label in LABELS]
    assert i3d.answers_R.tolist() == ["run"] * 8
    numbers = [[video, label, label, 1] for video, label in zip(VIDEOS, LABELS, strict=True)]
    path = csv_file(tmp_path / "numbers.csv", ["video", "label", "tsm", "i3d"], numbers)
    with pytest.raises(UserError, match="--column answer=tsm,i3d"):
        read(path)  # and never as scores of the classes tsm and i3d
    assert [one.answers_R.tolist() for one in read(path, columns=Columns.of(["answer=tsm,i3d"]))] == [
        LABELS.tolist(),
        [1] * 8,
    ]


def test_models_seeds_and_folds_are_parted(tmp_path):
    header = ["video", "model", "seed", "fold", "group", "prediction"]
    rows = [[video, model, seed, n % 2, f"p{n // 2}", f"{model}{seed}{n}"]
            for n, video in enumerate(VIDEOS) for model in "ab" for seed in (0, 7)]  # fmt: skip
    found = read(csv_file(tmp_path / "long.csv", header, rows))
    assert sorted((one.model, one.seed, one.split) for one in found) == sorted(
        (model, seed, fold) for model in "ab" for seed in (0, 7) for fold in "01"
    )
    for one in found:
        numbers = [n for n in range(8) if n % 2 == int(one.split)]
        assert one.videos_R.tolist() == [VIDEOS[n] for n in numbers]
        assert one.answers_R.tolist() == [f"{one.model}{one.seed}{n}" for n in numbers]
        assert one.groups_R.tolist() == [f"p{n // 2}" for n in numbers]


def test_scores_by_column_list_and_class_are_the_same(tmp_path):
    """A column a class in any order, a list in a cell as JSON and as NumPy prints it, and a dictionary."""
    shuffled = [2, 0, 3, 1]
    numbered = csv_file(
        tmp_path / "numbered.csv", ["id", *(f"prob.{c}" for c in shuffled)],
        [[video, *row[shuffled].tolist()] for video, row in zip(VIDEOS, SCORES, strict=True)],
    )  # fmt: skip
    (found,) = read(numbered)
    assert found.classes is None
    assert np.array_equal(found.scores_RC, SCORES)
    with np.printoptions(floatmode="unique"):
        cells = [json.dumps(SCORES[0].tolist()), *(str(row) for row in SCORES[1:])]
    (found,) = read(csv_file(tmp_path / "list.csv", ["id", "scores"], zip(VIDEOS, cells, strict=True)))
    assert np.array_equal(found.scores_RC, SCORES)
    cells = [str(dict(zip(CLASSES, row.tolist(), strict=True))) for row in SCORES]
    cells[3] = json.dumps(dict(zip(CLASSES[::-1], SCORES[3, ::-1].tolist(), strict=True)))
    (found,) = read(csv_file(tmp_path / "dict.csv", ["id", "scores"], zip(VIDEOS, cells, strict=True)))
    assert found.classes == CLASSES
    assert np.array_equal(found.scores_RC, SCORES)


def test_numbers_beside_the_scores_are_no_classes(tmp_path):
    header = ["video", "fps", *CLASSES, "start_seconds"]
    rows = [[video, 25, *row.tolist(), 0.5] for video, row in zip(VIDEOS, SCORES, strict=True)]
    (found,) = read(csv_file(tmp_path / "a.csv", header, rows))
    assert found.classes == CLASSES
    assert np.array_equal(found.scores_RC, SCORES)
    assert any("4 columns of numbers were taken as the scores" in note for note in found.notes)
    assert any("fps" in note and "start_seconds" in note for note in found.notes)


def test_answers_beside_scores_are_kept_only_where_they_differ(tmp_path):
    best = [CLASSES[c] for c in SCORES.argmax(1)]
    rows = [one | {"pred": answer, "scores": dict(zip(CLASSES, one["scores"], strict=True))}
            for one, answer in zip(records(), best, strict=True)]  # fmt: skip
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows))
    (found,) = read(path)
    assert found.answers_R is None
    rows[2]["pred"] = next(name for name in CLASSES if name != best[2])
    path.write_text(json.dumps(rows))
    (found,) = read(path)
    assert found.answers_R.tolist() == [one["pred"] for one in rows]
    assert any(note.startswith("1 answers are not") for note in found.notes)


def test_an_object_by_video_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dict(zip(VIDEOS, CLASSES * 2, strict=True))))
    assert read(path)[0].answers_R.tolist() == [*CLASSES, *CLASSES]
    by_class = [dict(zip(CLASSES, row.tolist(), strict=True)) for row in SCORES]
    path.write_text(json.dumps(dict(zip(VIDEOS, by_class, strict=True))))
    (found,) = read(path)
    assert found.classes == CLASSES
    assert found.videos_R.tolist() == list(VIDEOS)
    assert np.array_equal(found.scores_RC, SCORES)
    path.write_text(json.dumps({"video": VIDEOS, "scores": SCORES.tolist(), "label": LABELS.tolist()}))
    assert np.array_equal(read(path)[0].scores_RC, SCORES)


def test_decimal_commas_are_read_and_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video;run;walk\na;0,25;0,75\nb;1;0\nc;5,0e-1;,5\n")
    (found,) = read(path)
    assert found.scores_RC.tolist() == [[0.25, 0.75], [1, 0], [0.5, 0.5]]
    assert "2 columns, such as 'run', have decimal commas: 0,25 is read as 0.25" in found.notes
    path.write_text("video;score_run;score_walk\na;0,25;0,75\nb;1.000,5;0\n")
    with pytest.raises(
        UserError, match=r"a\.csv, line 2: '0,25' in the column 'score_run' .* Write it with a decimal point"
    ):
        read(path)


def test_a_gap_in_the_scores_is_named_and_leaves_no_class_out(tmp_path):
    path = tmp_path / "a.csv"
    for cell, says in (("", "the column 'walk' is empty"), ("n/a", "'n/a' in the column 'walk' is not a number")):
        path.write_text(f"video,run,walk,sit\na,0.5,0.25,0.25\nb,0.5,{cell},0.5\n")
        with pytest.raises(UserError, match=rf"a\.csv, line 3: {says}"):
            read(path)
    path.write_text(
        "video,run,walk,person\na,0.5,0.5,3\nb,0.25,0.75,\n"
    )  # of a column of whole numbers nothing is known
    assert read(path)[0].classes == ("run", "walk")


def test_ranked_answers_are_called_so(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video,label,top1,top2,top3\na,run,run,walk,sit\nb,sit,walk,sit,run\n")
    with pytest.raises(
        UserError, match=r"top1 to top3 are the best classes .* --column answer=top1.* a score for each class"
    ):
        read(path)
    assert read(path, columns=Columns(answer="top1"))[0].answers_R.tolist() == ["run", "walk"]


@pytest.mark.parametrize("label", ["", "label"])
def test_a_table_with_a_row_a_class_is_read(label, tmp_path):
    rows = [
        {
            "video": video,
            **({label: CLASSES[LABELS[n]]} if label else {}),
            "class": CLASSES[k],
            "score": SCORES[n, k],
            "rank": k,
        }
        for n, video in enumerate(VIDEOS)
        for k in np.random.default_rng(n).permutation(len(CLASSES))
    ]

    def written(rows):
        with (tmp_path / "long.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / "long.csv"

    (found,) = read(written(rows))
    order = [found.classes.index(name) for name in CLASSES]
    assert np.array_equal(found.scores_RC[:, order], SCORES)
    assert found.videos_R.tolist() == list(VIDEOS)
    assert (None if found.labels_R is None else found.labels_R.tolist()) == (
        [CLASSES[k] for k in LABELS] if label else None
    )
    assert any("it has a row a class" in note for note in found.notes)
    with pytest.raises(UserError, match=rf"'{VIDEOS[-1]}' has none of the class .*1 of 8 videos"):
        read(written(rows[:-1]))
    with pytest.raises(
        UserError, match=rf"line {len(rows) + 2}: '{VIDEOS[0]}' has the class '{rows[0]['class']}' twice"
    ):
        read(written([*rows, rows[0]]))
    numbered = [{**row, "class": CLASSES.index(row["class"])} for row in rows]
    (found,) = read(written(numbered))
    assert found.classes is None
    assert np.array_equal(found.scores_RC, SCORES)


def test_views_are_rows(tmp_path):
    views = np.stack([SCORES, SCORES[::-1]], 1)
    np.savez(tmp_path / "a.npz", logits=views, ids=np.array(VIDEOS))
    (found,) = read(tmp_path / "a.npz")
    assert found.videos_R.tolist() == [video for video in VIDEOS for _ in range(2)]
    assert np.array_equal(found.scores_RC, views.reshape(16, 4))
    assert "videos have 2 rows each, which are taken as their views" in found.notes
    np.save(tmp_path / "b.npy", views)
    (found,) = read(tmp_path / "b.npy")
    assert found.is_numbered
    assert found.videos_R.tolist() == [str(n) for n in range(8) for _ in range(2)]
    rows = [[VIDEOS[0], 0, 0.1, 0.9], [VIDEOS[0], 1, 0.2, 0.8], [VIDEOS[0], 1, 0.3, 0.7]]
    with pytest.raises(UserError, match=r"line 4: view '1' of 'clips/a.mp4' is there twice, first in line 3"):
        read(csv_file(tmp_path / "c.csv", ["video", "view", "p_x", "p_y"], rows))


@pytest.mark.parametrize("form", ["{} {}", "{},{}", "{} 64 {}", "{}\t{}", "{}"])
def test_lists_of_other_tools_name_the_rows(form, tmp_path):
    path = tmp_path / "val_list.txt"
    path.write_text("".join(form.format(video, label) + "\n" for video, label in zip(VIDEOS, LABELS, strict=True)))
    found = read_list(path)
    assert found.names == VIDEOS
    assert (found.labels_N is None) if form == "{}" else (found.labels_N.tolist() == LABELS.tolist())
    (dump,) = read(write_mmaction(tmp_path))
    assert dump.named(found.names).videos_R.tolist() == list(VIDEOS)
    for text, says in (("a 1\nb\n", "line 2: it has 0 numbers after the name, and line 1 has 1"), ("", "it is empty"),
                       ("a 1\na 2\n", "'a' is there twice"), ("a 1\n\xff 1\n", "line 2: not UTF-8")):  # fmt: skip
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match=says):
            read_list(path)


FAULTY = {
    "a.csv": {
        b"": "it is empty",
        b"\n\n": "it is empty",
        b"video,p_a,p_b\n": "it has no rows",
        b"video,p_a,p_b\nx,0.5\n": "line 2: it has 2 columns, and the header has 3",
        b"video,p_a,p_b\nx,0.5,0.5\ny,0.5,0.5,1\n": "line 3: it has 4 columns",
        b"video,p_a,p_a\nx,0.5,0.5\n": "'p_a' is there twice",
        b"video,p_a,p_b\nx,0.5,0.5\ny,nan,0.5\n": "line 3: the column 'p_a' is nan",
        b"video,p_a,p_b\nx,0.5,0.5\ny,0.5,-inf\n": "line 3: the column 'p_b' is -inf",
        b"video,p_a,p_b\nx,0.5,0.5\ny,0.5,half\n": "line 3: 'half' in the column 'p_b' is not a number",
        b"video,p_a,p_b\nx,0.5,0.5\ny,0.5,1_0\n": "line 3: '1_0' in the column 'p_b' is not a number",
        b"video,p_a,p_b\nx,0.5,0.5\n,0.5,0.5\n": "line 3: the column 'video' names no video",
        b"video,p_a,p_b\nx,0.5,0.5\n\xff,0.5,0.5\n": "line 3: not UTF-8",
        b"video,p_a,p_b\nx,0.5,0.5\ny\0,0.5,0.5\n": "line 3: it has a NUL byte",
        b'video,p_a,p_b\n"x,0.5,0.5\ny,0.5,0.5\n': "not CSV: unexpected end",
        b"video,pred\nx,walk\ny,\n": "line 3: it has no answer",
        b"0.1,0.9\n0.2,0.8\n": "first line has numbers",
        b"video,p_a,p_b,logit_a,logit_b\nx,1,2,3,4\n": "which are the scores is open",
        b"video,seed,pred\nx,one,walk\n": "line 2: the seed 'one' is not a whole number",
        b"video,scores\nx,[0.1 ... 0.9]\n": "line 2, column 'scores': not a list of scores: numbers were left out",
        b'video,scores\nx,"[0.1,0.9]"\ny,"[0.1,0.2,0.7]"\n': "line 3: 'scores' has 3 numbers, and the first row has 2",
        b"video,size\nx,1\n": "no column holds answers or scores",
    },
    "a.jsonl": {
        b'{"video": "x", "scores": [1, 2]}\n{"video": "y", "scores": [1]}\n': r"line 2 has \(1,\) numbers",
        b'{"video": "x", "scores": [1, 2]}\n{"video": "y"}\n': "line 2 has none",
        b'{"video": "x", "scores": [1, 2]}\n[1]\n': "line 2: not an object",
        b'{"video": "x", "scores": [1, 2]}\n{"video": \n': "line 2: not valid JSON",
        b'{"video": "x", "video": "y", "scores": [1, 2]}\n': "the key 'video' is there twice",
        b'{"video": "x", "scores": [1, NaN]}\n': "line 1: score 1 of 'scores' is nan",
        b'{"video": "x", "scores": {"a": 1, "b": 2}}\n{"video": "y", "scores": {"a": 1, "c": 2}}\n': "line 2 has other classes",
        b'{"video": "\\ud800", "pred": 1}\n': "not Unicode",
    },
    "a.json": {
        b"[" * 100_000: "nested too deeply|not valid JSON",
        b"[]": "an empty list",
        b"{}": "it is empty",
        b"3": "type int",
        b'[{"video": "x", "pred": 1e999}]': "not whole|finite|not classes",
    },
    "a.npz": {b"PK\x03\x04": "a damaged zip"},
    "a.pkl": {
        b"\x80\x02": "damaged pickle",
        b"\x80\x02(lp0\n.": "damaged pickle",
        b"\x80\x04K\x03.": "type int",
        b"\x80\x02K\x01r\xff\xff\xff\xff.": "type int",  # a memo that would fill the memory
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00a.": "damaged pickle",  # bytes that are not there
        b"\x80\x02" + b"]" * 3 + b"a" * 9 + b".": "damaged pickle",
    },
    "a.csv.gz": {b"\x1f\x8b\x08\x00": "packed by gzip"},
    "a.parquet": {b"PAR1 and no more": "Parquet"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "says"), [(n, d, s) for n, cases in FAULTY.items() for d, s in cases.items()],
                         ids=lambda value: repr(value)[:50])  # fmt: skip
def test_a_faulty_file_is_named_with_its_row(name, data, says, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


class Touches:
    def __init__(self, marker, how):
        self.marker, self.how = str(marker), how

    def __reduce__(self):
        return {
            "system": (os.system, (f"touch {self.marker}",)),
            "mkdir": (os.mkdir, (self.marker,)),
            "eval": (eval, (f"__import__('os').mkdir({self.marker!r})",)),
        }[self.how]


@pytest.mark.parametrize("how", ["system", "mkdir", "eval"])
@pytest.mark.parametrize("wrapped", ["bare", "in a dump", "in torch.save", "in the older torch.save"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_pickle_does_not_run(how, wrapped, protocol, tmp_path):
    marker = tmp_path / "marker"
    value = Touches(marker, how)
    value = value if wrapped == "bare" else [*mmaction_dump(), {"pred_scores": value}]
    path = tmp_path / "p.pkl"
    if "torch.save" in wrapped:
        torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization="older" not in wrapped)
    else:
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    with pytest.raises(UserError, match=r"wants to run '\w+\.(system|mkdir|eval)'"):
        read(path)
    assert not marker.exists()
    if wrapped == "bare":  # the file would have run
        pickle.loads(path.read_bytes())
        assert marker.exists()


def test_a_state_changes_nothing_but_arrays(tmp_path):
    """A pickle that sets attributes of what it is given, and one that calls an array's type."""
    path = tmp_path / "p.pkl"
    for data in (b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.", b"\x80\x02cnumpy\nndarray\n(K\x04t\x85R."):
        path.write_bytes(data)
        with pytest.raises(UserError, match="damaged pickle"):
            read(path)


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor(SCORES), torch.tensor(SCORES).float(), torch.tensor(SCORES).half(), torch.tensor(SCORES).bfloat16(),
     torch.tensor(SCORES).T.contiguous().T, torch.tensor(np.repeat(SCORES, 2, 0))[::2], torch.nn.Parameter(torch.tensor(SCORES))],
    ids=["double", "float", "half", "bfloat16", "transposed", "strided", "parameter"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["pickle", "zip", "older"])
def test_tensors_are_read_as_they_are(tensor, form, tmp_path):
    path = tmp_path / "p.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"scores": tensor}))
    else:
        torch.save({"scores": tensor}, path, _use_new_zipfile_serialization=form == "zip")
    (found,) = read(path)
    assert np.array_equal(found.scores_RC, tensor.detach().double().numpy())


def test_zips_that_would_fill_the_memory_are_refused(tmp_path):
    for name, member in (("a.npz", "scores.npy"), ("a.pt", "a/data.pkl")):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.writestr(member, bytes(64))
            packed.infolist()[0].file_size = 1100 * 2**20
        with pytest.raises(UserError, match=r"would unpack to 1\.1 GiB"):
            read(tmp_path / name)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 8)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(64))
    with pytest.raises(UserError, match=r"a\.npy: a damaged array"):
        read(tmp_path / "a.npy")


def repeated(content, count):
    """A pickle of a list that makes an array of the same bytes again and again, in an order that is not the machine's."""

    def text(value):
        return b"\x8c" + bytes([len(value)]) + value.encode()

    size = len(content) // 8
    dtype = text("numpy") + text("dtype") + b"\x93" + text("f8") + b"\x89\x88\x87R(K\x03" + text(">")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    buffer = b"B" + struct.pack("<I", len(content)) + content
    call = text("numpy._core.numeric") + text("_frombuffer") + b"\x93"
    head = b"\x80\x04" + dtype + b"q\x000" + buffer + b"q\x010" + call + b"q\x020"
    head += b"J" + struct.pack("<i", size) + b"\x85q\x030" + text("C") + b"q\x040"
    return head + b"](" + b"h\x02(h\x01h\x00h\x03h\x04tR" * count + b"e."


def test_numbers_that_a_pickle_repeats_do_not_fill_the_memory(tmp_path):
    row, path = np.zeros(2**20), tmp_path / "bomb.pkl"
    wide = np.zeros((2**10, 2**10))
    for value in ([row] * 400, {"scores": [row] * 400}, [{"video": "a", "scores": row}] * 400, [wide] * 400):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(UserError, match="it names the same numbers again and again"):
            read(path)
    path.write_bytes(repeated(row.tobytes(), 400))
    with pytest.raises(UserError, match="it would fill the memory"):
        read(path)
    path.write_bytes(pickle.dumps([[0.5] * 2**20] * 400))
    with pytest.raises(UserError, match="more than 134217728 numbers in lists"):
        read(path)
    path.write_bytes(repeated(np.arange(8, dtype=">f8").tobytes(), 3))
    assert np.array_equal(read(path)[0].scores_RC, [np.arange(8.0)] * 3)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="pip install"):
        read(tmp_path / "p.parquet")


def test_what_would_take_for_ever_is_refused_at_once(tmp_path):
    """Work that grows with the square of a small file: columns, keys, models and fields by the thousand."""
    path = tmp_path / "a.csv"
    with at_most(20):
        path.write_text(",".join(f"c{n % 99_999}" for n in range(100_000)) + "\n")
        assert "'c0' is there twice" in outcome(path)
        path.write_text("video,model,pred\n" + "".join(f"v,m{n},walk\n" for n in range(30_000)))
        assert len(read(path)) == 30_000
        path = tmp_path / "a.json"
        path.write_text("{" + ",".join(f'"k{n % 99_999}": 1' for n in range(100_000)) + "}")
        assert "is there twice" in outcome(path)
        path.write_text(json.dumps([{f"field {n}": 1} for n in range(20_000)]))
        assert "different fields" in outcome(path)


class Hung(BaseException):
    """Not an error that a reader may catch."""


@contextmanager
def at_most(seconds):
    def stop(*_):
        raise Hung(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def swapped(value, draw):
    """A JSON value with one of its parts replaced by another kind of value."""
    if isinstance(value, list | dict) and value and draw.random() < 0.8:
        key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[key] = swapped(value[key], draw)
        return copy
    return draw.choice(
        [None, True, -1, 10**400, 1e308, "", "x" * 5000, "\ud800", [], [[]], {}, {"item": []}, [value], float("nan")]
    )


def mutated(data, name, draw):
    """A file that is damaged in one of several ways."""
    kind = draw.choice(["flip", "flip", "cut", "repeat", "remove", "swap"])
    if kind == "swap" and name in ("json", "mteb"):
        return json.dumps(swapped(json.loads(data), draw)).encode()
    if kind == "swap" and name in ("jsonl", "lm"):
        lines = data.decode().splitlines()
        number = draw.randrange(len(lines))
        lines[number] = json.dumps(swapped(json.loads(lines[number]), draw))
        return "\n".join(lines).encode()
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice([1, 2, 8, 64]))
    if kind == "cut":
        return data[:start]
    if kind == "repeat":
        return data[:end] + data[start:]
    if kind == "remove":
        return data[:start] + data[end:]
    return data[:start] + bytes(draw.randrange(256) for _ in range(end - start)) + data[end:]


def outcome(path):
    """What an error says; the empty string for a file that is read."""
    try:
        check_form(read(path))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_refused_or_read_as_it_is(name, tmp_path):
    """Never another exception, never a hang; what is read is well-formed."""
    draw = random.Random(f"damaged {name}")
    path = WRITERS[name](tmp_path)
    data = path.read_bytes()
    refused = 0
    for _ in range(200):
        path.write_bytes(mutated(data, name, draw))
        with at_most(5):
            said = outcome(path)
        assert not said or said.startswith(str(path)), said
        refused += bool(said)
    assert refused > 20
