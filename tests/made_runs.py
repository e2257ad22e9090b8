"""Run folders with made scores, as training would leave them: what comparisons and reports read, without any training."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.recipe import Recipe, replace, to_json
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores

CLASSES = ("left", "right", "open", "close", "sit", "wave")
PAIRS = (("left", "right"), ("open", "close"))


def make_run(
    path: Path,
    *,
    model: str = "tsm_resnet_tiny",
    seed: int = 0,
    fold: int | None = None,
    accuracy: float = 0.8,
    correct_N: Sequence[bool] | None = None,
    videos: int = 60,
    views: int = 2,
    groups: int = 0,
    classes: Sequence[str] = CLASSES,
    pairs: Sequence[tuple[str, str]] = (),
    macs: float = 50.7e6,
    params: float = 310746,
    epochs: int = 4,
    changes: Mapping[str, Any] | None = None,
    finished: bool = True,
    speed: Mapping[str, Any] | None = None,
) -> Run:
    """A run whose test accuracy is `accuracy` (as near as `videos` allow), or exactly `correct_N`. The labels go round the
    classes; a wrong answer is the next class or the one before it, by turns."""
    run = Run(path)
    path.mkdir(parents=True)
    recipe = Recipe()
    settings = {"model.name": model, "seed": seed, "data.fold": fold, "data.manifest": "/data/set.csv"}
    (path / "recipe.json").write_text(
        to_json(replace(recipe, {**settings, "data.sha256": "a" * 64, "precision": "fp32", **(changes or {})}))
    )
    _write(path / "dataset.json", {
        "classes": list(classes), "mirror": {}, "reversed_pairs": [list(pair) for pair in pairs],
        "split_sizes": {"train": 3 * videos, "val": videos, "test": videos}, "longest_trained_seconds": 1.0,
    })  # fmt: skip
    _write(path / "environment.json", {
        "muybridge": "0.1.0", "python": "3.11.7", "torch": "2.6.0", "numpy": "2.0.0", "platform": "Linux",
        "processor": "made", "threads": 2, "device": "cpu",
    })  # fmt: skip
    _write(path / "cost.json", {
        "model": model, "num_classes": len(classes), "num_frames": 8, "size": 64, "temporal_pooling": False,
        "params": int(params), "conv_macs": int(macs), "macs": int(macs) + 1000,
    })  # fmt: skip
    for epoch in range(1, epochs + 1):
        part = epoch / epochs * accuracy
        line = {"epoch": epoch, "step": 10 * epoch, "loss": 2 - 1.8 * part, "clip_top1": part}
        run.write_metrics({"kind": "train", **line, "lr": 0.01})
        run.write_metrics({"kind": "val", **line, "video_top1": part * 0.9})
        run.write_timing(
            {"epoch": epoch, "train_seconds": 1.0, "train_clips_per_s": 100.0 * epoch, "total_seconds": 2.0}
        )
    if speed is not None:
        run.save_speed({
            "batch_size": 8, "device_name": "made", "dtype": "fp32", "threads": 2, "train_clips_per_s": 10.0, **speed,
        })  # fmt: skip
    if finished:
        run.save_scores("test", made_scores(
            _right(videos, accuracy, seed, fold) if correct_N is None else np.array(correct_N),
            classes=classes, views=views, groups=groups, fold=fold or 0, average=run.recipe().evaluation.average,
        ))  # fmt: skip
        run.finish({"steps": 10 * epochs, "checkpoint": "last", "test": {"video_top1": accuracy, "videos": videos}})
    return run


def seeds_of(
    folder: Path,
    accuracies: Mapping[str, float],
    *,
    seeds: int = 3,
    videos: int = 600,
    spread: float = 0.004,
    **asked: Any,
) -> list[Run]:
    """Runs of models whose seeds spread a little around an accuracy. `asked`: by model, what `make_run` takes."""
    return [
        make_run(
            folder / f"{model}-{seed}", model=model, seed=seed, videos=videos, accuracy=value + spread * (seed - seeds // 2),
            **{name: values[model] for name, values in asked.items() if model in values},
        )
        for model, value in accuracies.items() for seed in range(seeds)
    ]  # fmt: skip


def foreign(comparison: Comparison) -> Comparison:
    """The same answers, as another tool's predictions."""
    names = [field.name for field in dataclasses.fields(ModelResult)]
    models = tuple(
        ModelResult(**{name: getattr(model, name) for name in names} | {"runs": (), "files": ("a.csv",)})
        for model in comparison.models
    )
    return dataclasses.replace(comparison, models=models, protocol=None)


def made_scores(
    correct_N: np.ndarray, *, classes: Sequence[str] = CLASSES, views: int = 1, groups: int = 0, fold: int = 0,
    average: Any = "logits",
) -> Scores:  # fmt: skip
    """Scores whose videos are right where `correct_N` says so."""
    videos = len(correct_N)
    labels_N = np.arange(videos) % len(classes)
    wrong_N = (labels_N + np.where(np.arange(videos) // len(classes) % 2, 1, -1)) % len(classes)
    logits_NK = 4.0 * np.eye(len(classes), dtype=np.float32)[np.where(correct_N, labels_N, wrong_N)]
    return Scores(
        classes=tuple(classes),
        ids_N=np.array([f"{fold}/{i:05d}.mp4" for i in range(videos)]),
        labels_N=labels_N,
        groups_N=np.array([f"{fold}/{i % groups}" if groups else "" for i in range(videos)]),
        video_V=np.repeat(np.arange(videos), views),
        clip_start_V=np.tile(np.arange(views), videos),
        crop_V=np.zeros(videos * views, dtype=np.int64),
        logits_VK=np.repeat(logits_NK, views, axis=0),
        average=average,
    )


def _right(videos: int, accuracy: float, seed: int, fold: int | None) -> np.ndarray:
    order = np.random.default_rng([seed, fold or 0, round(1000 * accuracy)]).permutation(videos)
    return order < round(accuracy * videos)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
