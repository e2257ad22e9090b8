"""Judging: the figures of runs whose scores went through other tools' formats, and the cost of many predictions.

python benchmarks/judge.py STUDY                   # every format against the report of the same runs
python benchmarks/judge.py RUN RUN … --json
python benchmarks/judge.py --scale                 # 5 models x 5 seeds x 20,000 videos x 400 classes, as .npz
python benchmarks/judge.py --scale --format csv
"""

import argparse
import csv
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores

NOT_COMPARED = {
    "title", "muybridge", "files", "runs", "notes", "findings", "missing", "verdict", "questions", "differences", "varied",
    "further", "fused", "curves", "training_video_top1", "method", "backbone", "speed", "diagnosis",
}  # fmt: skip
"""Entries of report.json that are words, or of training, or of the files themselves, or that runs alone can tell."""
OF_VIEWS = {"views", "clip_top1", "by_clips"}
"""Entries that a row a video does not tell."""
OF_SCORES = {
    "video_top5", "video_top10", "kinetics_error", "calibration_error", "overconfidence", "loss", "risk_coverage_area",
    "accuracy_at_coverage", "calibration_bins", "pairs", "within_pairs", "within_low", "within_high", "outside_pairs",
}  # fmt: skip
"""Entries that answers alone do not tell."""


@dataclass(frozen=True)
class Tested:
    """Test of a run, its videos in the order of the manifest."""

    name: str
    scores: Scores
    order: np.ndarray

    @property
    def videos(self) -> list[str]:
        """Ids of the videos."""
        return [str(name) for name in self.scores.ids_N[self.order]]

    @property
    def logits(self) -> np.ndarray:
        """(N,K) scores of the videos, or the logarithms of their probabilities."""
        scores_NK = self.scores.video_scores()[self.order]
        return scores_NK if self.scores.average == "logits" else np.log(scores_NK)

    @property
    def probabilities(self) -> np.ndarray:
        """(N,K) probabilities of the videos."""
        return self.scores.video_probabilities()[self.order]

    @property
    def labels(self) -> np.ndarray:
        """(N,) class indices."""
        return self.scores.labels_N[self.order]


def csv_of_logits(one: Tested, path: Path) -> Path:
    """A row a video, a column a class, every digit."""
    return _table(path.with_suffix(".csv"), one, ["video", *one.scores.classes], one.videos, one.logits)


def csv_of_views(one: Tested, path: Path) -> Path:
    """A row a view."""
    videos = one.scores.ids_N[one.scores.video_V].tolist()
    return _table(path.with_suffix(".csv"), one, ["video", *one.scores.classes], videos, one.scores.logits_VK)


def csv_of_answers(one: Tested, path: Path) -> Path:
    """A row a video with its answer, by name."""
    answers = [[one.scores.classes[k]] for k in one.logits.argmax(1)]
    return _table(path.with_suffix(".csv"), one, ["video", "prediction"], one.videos, answers)


def _table(path: Path, one: Tested, header: list[str], videos: list[str], values: Any) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([video, *(np.asarray(row).tolist())] for video, row in zip(videos, values, strict=True))
    return path


def json_lines(one: Tested, path: Path) -> Path:
    """An object a line, probabilities by class."""
    path = path.with_suffix(".jsonl")
    with path.open("w") as file:
        for video, row in zip(one.videos, one.probabilities.tolist(), strict=True):
            file.write(
                json.dumps({"video": video, "probabilities": dict(zip(one.scores.classes, row, strict=True))}) + "\n"
            )
    return path


def arrays(one: Tested, path: Path) -> Path:
    """Arrays by name."""
    path = path.with_suffix(".npz")
    np.savez(
        path, videos=np.array(one.videos), scores=one.logits, labels=one.labels, classes=np.array(one.scores.classes)
    )
    return path


def own(one: Tested, path: Path) -> Path:
    """The scores as muybridge keeps them."""
    one.scores.save(path.with_suffix(".npz"))
    return path.with_suffix(".npz")


def mmaction(one: Tested, path: Path) -> Path:
    """MMAction2's --dump: float32 tensors in the order of the test list."""
    entries = [
        {"pred_score": torch.tensor(row, dtype=torch.float32), "pred_label": torch.tensor([int(row.argmax())]),
         "gt_label": torch.tensor([int(label)])}
        for row, label in zip(one.probabilities, one.labels, strict=True)
    ]  # fmt: skip
    path.with_suffix(".pkl").write_bytes(pickle.dumps(entries, protocol=2))
    return path.with_suffix(".pkl")


def pyslowfast(one: Tested, path: Path) -> Path:
    """PySlowFast's TEST.SAVE_RESULTS_PATH: float32 sums of probabilities over views, and labels."""
    sums = torch.tensor(one.scores.num_views * one.probabilities, dtype=torch.float32)
    path.with_suffix(".pkl").write_bytes(pickle.dumps([sums, torch.tensor(one.labels)]))
    return path.with_suffix(".pkl")


def mteb(one: Tested, path: Path) -> Path:
    """mteb's prediction_folder: numbers of the answered classes."""
    content = {"mteb_model_meta": {"model_name": one.name}, "default": {"test": [one.logits.argmax(1).tolist()]}}
    path.with_suffix(".json").write_text(json.dumps(content))
    return path.with_suffix(".json")


def lm(one: Tested, path: Path) -> Path:
    """Samples of lm-evaluation-harness: a log-likelihood for each choice."""
    path = path.with_suffix(".jsonl")
    with path.open("w") as file:
        for number, (video, row, label) in enumerate(
            zip(one.videos, one.logits.tolist(), one.labels.tolist(), strict=True)
        ):
            file.write(
                json.dumps({
                    "doc_id": number, "doc": {"video": video, "choices": list(one.scores.classes)}, "target": label,
                    "resps": [[[value, False]] for value in row], "filtered_resps": [[value, False] for value in row],
                })
                + "\n"
            )  # fmt: skip
    return path


def parquet(one: Tested, path: Path) -> Path:
    """A Parquet table."""
    import pyarrow
    from pyarrow import parquet as files

    columns = {"video": one.videos, **dict(zip(one.scores.classes, one.logits.T, strict=True))}
    files.write_table(pyarrow.table(columns), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


FORMATS: dict[str, tuple[Callable[[Tested, Path], Path], set[str]]] = {
    "CSV, logits": (csv_of_logits, OF_VIEWS), "CSV, a row a view": (csv_of_views, {"by_clips"}),
    "CSV, answers alone": (csv_of_answers, OF_VIEWS | OF_SCORES), "JSON Lines, probabilities": (json_lines, OF_VIEWS),
    "Parquet, logits": (parquet, OF_VIEWS), ".npz, logits": (arrays, OF_VIEWS),
    "muybridge's scores": (own, {"by_clips"}), "MMAction2, float32 probabilities": (mmaction, OF_VIEWS),
    "PySlowFast, float32 sums": (pyslowfast, OF_VIEWS), "mteb, answers": (mteb, OF_VIEWS | OF_SCORES),
    "lm-evaluation-harness, log-likelihoods": (lm, OF_VIEWS),
}  # fmt: skip
"""Formats, and what their files do not tell."""


def figures(ours: Any, theirs: Any, without: set[str], where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Pairs of figures and names that both documents have."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in ours.keys() & theirs.keys() - NOT_COMPARED - without:
            yield from figures(ours[name], theirs[name], without, f"{where}/{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from figures(one, other, without, f"{where}/{number}")
    else:
        yield where, ours, theirs


def cells(ours: Path, theirs: Path, without: set[str]) -> list[tuple[str, str]]:
    """Pairs of cells of the tables that both reports print, but for those that one leaves open.

    Disagreements are in the order of probabilities, and show them: of answers alone they are left out.
    """
    pairs = []
    for path in ours.glob("*.csv"):
        other = theirs / path.name
        if other.exists() and path.stem != "questions" and not (path.stem == "changed" and without >= OF_SCORES):
            one, two = (list(csv.DictReader(file.open())) for file in (path, other))
            if len(one) == len(two):
                pairs += [
                    (row[name], line[name]) for row, line in zip(one, two, strict=True) for name in row.keys() & line.keys()
                ]  # fmt: skip
    return [(one, two) for one, two in pairs if "–" not in (one, two)]


def compare_formats(names: list[str]) -> list[dict[str, Any]]:
    """Every format against the report of the same runs."""
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report = muybridge.report(names, out=folder / "report.html", with_frames=False)
        (comparison,) = report.comparisons.values()
        expected = json.loads((folder / "report.json").read_text())
        runs = [(model.name, run) for model in comparison.models for run in model.runs]
        manifest = Manifest.load(runs[0][1].recipe().data.manifest)
        has_views = any(model.num_views > 1 for model in comparison.models)
        for title, (write, left_out) in FORMATS.items():
            without = left_out if has_views else left_out | OF_VIEWS  # one row a video may be of any number of views
            print(f"{title} …", file=sys.stderr)
            try:
                files = [_written(write, name, run, manifest, folder / write.__name__) for name, run in runs]
            except ImportError as error:
                results.append({"format": title, "absent": str(error)})
                continue
            judged = muybridge.judge(
                files, truth=runs[0][1].recipe().data.manifest, out=folder / "judge.html", with_frames=False
            )
            found = json.loads(judged.path.with_suffix(".json").read_text())
            printed = cells(folder / "report.files", folder / "judge.files", without)
            pairs = list(figures(expected, found, without))
            other = [(where, one, two) for where, one, two in pairs if one != two]
            numbers = [
                abs(one - two) for _, one, two in other if isinstance(one, float | int) and isinstance(two, float | int)
            ]
            results.append({
                "format": title, "figures": len(pairs), "equal": len(pairs) - len(other),
                "largest_difference": max(numbers, default=0.0),
                "printed_cells": len(printed), "other_cells": [pair for pair in printed if pair[0] != pair[1]],
                "other_kinds": [where for where, one, two in other if not isinstance(one, float | int)],
            })  # fmt: skip
    return results


def _written(write: Callable[[Tested, Path], Path], name: str, run: Run, manifest: Manifest, folder: Path) -> str:
    """A file of a run's test, and the name of its row."""
    folder.mkdir(exist_ok=True)
    scores, recipe = run.scores("test"), run.recipe()
    place = {video: number for number, video in enumerate(scores.ids_N.tolist())}
    ids = manifest.text("id", manifest.split("test", recipe.data.fold)).tolist()
    fold = "" if recipe.data.fold is None else f"-fold{recipe.data.fold}"
    tested = Tested(name, scores, np.array([place[video] for video in ids]))
    return f"{name}={write(tested, folder / f'{run.name}-seed{recipe.seed}{fold}')}"


def scale(asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of the command for many predictions."""
    with tempfile.TemporaryDirectory(dir=asked.workdir) as temporary:
        folder = Path(temporary)
        labels = np.arange(asked.videos) % asked.classes
        classes = [f"class_{k:03d}" for k in range(asked.classes)]
        videos = [f"{classes[label]}/{number:06d}.mp4" for number, label in enumerate(labels)]
        with (folder / "truth.csv").open("w") as file:
            file.write("video,label,group\n")
            file.writelines(
                f"{name},{classes[k]},g{i % 1000}\n" for i, (name, k) in enumerate(zip(videos, labels, strict=True))
            )
        (folder / "classes.txt").write_text("\n".join(classes) + "\n")
        words = []
        for model in range(asked.models):
            for seed in range(asked.seeds):
                rng = np.random.default_rng([model, seed])
                logits_NK = rng.standard_normal((asked.videos, asked.classes), dtype=np.float32)
                logits_NK[np.arange(asked.videos), labels] += 2.5 + 0.2 * model
                path = folder / f"model{model}_seed{seed}.{asked.format}"
                if asked.format == "npz":
                    np.savez(path, videos=np.array(videos), scores=logits_NK)
                else:
                    _quick_csv(path, videos, classes, logits_NK)
                words.append(str(path))
                print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB", file=sys.stderr)
        size = sum(Path(path).stat().st_size for path in words)
        options = ["--truth", folder / "truth.csv", "--classes", folder / "classes.txt", "--out", folder / "judge.html"]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "muybridge", "judge", *words, *map(str, options), "--json"],
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(done.stderr)
        found, used = json.loads(done.stdout), resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "models": len(found["models"]), "seeds": found["models"][0]["seeds"], "videos": asked.videos,
            "classes": asked.classes, "format": asked.format, "gigabytes_of_files": round(size / 1e9, 2),
            "seconds": round(seconds, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "peak_memory_megabytes": round(used.ru_maxrss / 1e3),
        }  # fmt: skip


def _quick_csv(path: Path, videos: list[str], classes: list[str], logits_NK: np.ndarray) -> None:
    """A CSV of logits with three digits, from a table of all such numbers."""
    words = np.array([f"{number / 1000:.3f}" for number in range(-9999, 10000)], dtype=object)
    numbers_NK = np.clip(np.round(logits_NK * 1000).astype(np.int64), -9999, 9999) + 9999
    with path.open("w") as file:
        file.write(",".join(["video", *classes]) + "\n")
        for video, numbers in zip(videos, numbers_NK, strict=True):
            file.write(video + "," + ",".join(words[numbers]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="run folders, or a study's")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=400)
    parser.add_argument("--format", choices=("npz", "csv"), default="npz")
    parser.add_argument("--workdir", help="folder for the made files")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.scale:
        found: Any = scale(asked)
        print(
            json.dumps(found, indent=2)
            if asked.json
            else "\n".join(f"{name}: {value}" for name, value in found.items())
        )
        return
    found = compare_formats(asked.runs)
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    print(
        "| format | figures | equal | largest difference | printed cells | others |\n| --- | --- | --- | --- | --- | --- |"
    )
    for one in found:
        row = [one.get("absent", ""), *[""] * 4]
        if "absent" not in one:
            largest = f"{one['largest_difference']:.1g}"
            row = [one["figures"], one["equal"], largest, one["printed_cells"], len(one["other_cells"])]
        print(f"| {one['format']} | " + " | ".join(map(str, row)) + " |")
        for other in (*one.get("other_kinds", []), *one.get("other_cells", [])):
            print(f"  {other}", file=sys.stderr)


if __name__ == "__main__":
    main()
