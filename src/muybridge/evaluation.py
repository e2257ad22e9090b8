"""One evaluation for every model: in training, alone, and in `predict`.

`score` computes per-view scores, once; clip and video accuracy, and every figure of the report, come from those.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge import build
from muybridge import checkpoint as checkpoints
from muybridge.build import Placement
from muybridge.console import log, progress
from muybridge.data.loader import Unreadable, VideoViews, ViewLoader, Views, ahead_on_device
from muybridge.data.manifest import SPLITS, Manifest
from muybridge.data.transforms import to_input
from muybridge.distributed import ALONE, Processes
from muybridge.errors import UserError, nearest
from muybridge.models import VideoModel, WeightedLogits
from muybridge.models.own import import_source, own_part
from muybridge.recipe import Runtime, replace
from muybridge.runs import Run
from muybridge.scores import Average, Scores


def score(
    model: VideoModel,
    views: VideoViews,
    rows: Sequence[int] | np.ndarray,
    *,
    where: Placement,
    labels_N: np.ndarray,
    classes: Sequence[str],
    average: Average,
    batch_size: int,
    num_workers: int = 0,
    text: str = "evaluating",
    loader: ViewLoader | None = None,
    skip: Callable[[Unreadable], None] | None = None,
    processes: Processes = ALONE,
) -> Scores:
    """Scores of every view of every row; each row exactly once, in order. `labels_N` and `rows` belong together. Several
    `processes` score a part each, and all get the whole.

    `loader`: one of these `views` whose worker processes are kept; none: they are started for this call. A video that
    cannot be read raises its DecodeError; or, where `skip` is given, it is handed to it and left out of the scores, which
    name it. Raises UserError where none is left. The model is left in the mode it came in.
    """
    rows = np.array([int(row) for row in rows])
    kept: list[int] = []
    left_out: list[Unreadable] = []
    logits: list[np.ndarray] = []
    clip_starts: list[np.ndarray] = []
    crops: list[np.ndarray] = []
    was_training = model.training
    model.eval()
    pinned = where.device.type == "cuda"
    own = nullcontext(loader) if loader else ViewLoader(views, num_workers=num_workers, pin_memory=pinned)
    try:
        with own as source, progress(text, len(rows)) as bar, torch.inference_mode():

            def readable() -> Iterator[Views]:
                for place, item in enumerate(source.batches(rows)):
                    if isinstance(item, Views):
                        kept.append(place)
                        yield item
                        continue
                    if skip is None or not item.skippable:
                        raise item.error
                    skip(item)
                    left_out.append(item)
                    bar.advance()

            items = ahead_on_device(readable(), where.device)
            for chunk in _chunks(items, max(1, batch_size // views.num_views)):
                clips_VTHWC = torch.cat([item.clips_VTHWC for item in chunk])
                for part in clips_VTHWC.split(batch_size):
                    logits.append(_forward(model, part, where, views.spec.snippet_frames))
                clip_starts += [item.clip_start_V for item in chunk]
                crops += [item.crop_V for item in chunk]
                bar.advance(len(chunk))
    finally:
        model.train(was_training)
    if not kept:
        raise UserError(f"Not one of {len(rows)} videos could be read; the first is {left_out[0].error}")
    manifest = views.manifest
    return Scores(
        classes=tuple(classes),
        ids_N=manifest.text("id", rows[kept]),
        labels_N=np.asarray(labels_N)[kept],
        groups_N=manifest.text("group", rows[kept]),
        video_V=np.repeat(np.arange(len(kept)), views.num_views),
        clip_start_V=np.concatenate(clip_starts),
        crop_V=np.concatenate(crops),
        logits_VK=np.concatenate(logits),
        average=average,
        skipped_ids=manifest.text("id", np.array([item.row for item in left_out], dtype=np.int64)),
    )


def evaluate(
    run: str | Path | Run,
    *,
    data: str | Path | None = None,
    split: str = "test",
    fold: int | None = None,
    checkpoint: str | None = None,
    changes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Scores:
    """Score a run on a split: of its own manifest, or of another one with the same classes (`data`).

    `changes` are dotted fields of the recipe's sections `evaluation` and `clip` (more views, say), or `data.on_error`.
    Testing on videos that the run was trained on is refused, unless `split` is "train". Videos that cannot be read are an
    error, or, with `data.on_error` skip, said and left out. Scores are written to `out`, where it is given.
    A run of a `module:function` model brings that file along; it is imported only with `allow_code`. Raises UserError.
    """
    folder = Run.open(run)
    trained = folder.recipe()
    open_fields = ("evaluation.", "clip.", "data.on_error")
    wrong = [name for name in changes or {} if not name.startswith(open_fields)]
    if wrong:
        raise UserError(f"An evaluation changes evaluation.…, clip.… and data.on_error only, not '{wrong[0]}'")
    recipe = replace(trained, changes or {})
    runtime = runtime or Runtime()
    if data is None and not Path(recipe.data.manifest).exists():
        raise UserError(
            f"The manifest of {folder.path}, {recipe.data.manifest}, is not there any more; where is it? --data MANIFEST"
        )
    manifest = Manifest.load(data or recipe.data.manifest)
    classes = folder.dataset()["classes"]
    if data is None and manifest.sha256() != recipe.data.sha256:
        raise UserError(
            f"{recipe.data.manifest} has changed since {folder.path} was trained; name it with --data to use it"
        )
    rows = manifest.split(split, fold if data is not None else (fold or recipe.data.fold))
    if len(rows) == 0:
        raise UserError(
            f"There is no video in split '{split}' of {data or recipe.data.manifest}. {nearest(split, SPLITS)}"
        )
    if split != "train":
        _check_unseen(folder, manifest, rows, split)
    labels_N = class_indices(manifest, rows, classes)
    model = load_model(folder, checkpoint or trained.evaluation.checkpoint, allow_code=allow_code)
    where = build.placement(recipe, runtime)
    build.place(model, where)
    reader, workers = build.reader_and_workers(recipe, runtime, manifest, rows)
    scores = score(
        model,
        build.video_views(recipe, manifest, reader),
        rows,
        where=where,
        labels_N=labels_N,
        classes=classes,
        average=recipe.evaluation.average,
        batch_size=recipe.optim.batch_size,
        num_workers=workers,
        skip=(lambda failure: log(f"skipped: {failure.error}")) if recipe.data.on_error == "skip" else None,
    )
    if len(scores.skipped_ids):
        log(f"scored without {len(scores.skipped_ids)} of the {len(rows)} videos, which could not be read")
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        scores.save(Path(out))
    return scores


def load_model(folder: Run, which: str, *, allow_code: bool = False) -> VideoModel:
    """A run's model with the weights of a checkpoint, on the CPU. Raises UserError for a model of the user's own unless
    its code is allowed."""
    recipe = folder.recipe()
    if own_part(recipe.model.name) is not None:
        if not allow_code:
            raise UserError(
                f"{folder.path} holds a model of its own ('{recipe.model.name}'); loading it runs the code in "
                f"{folder.path / 'source'}. If you trust it: --allow-code (in Python allow_code=True)"
            )
        import_source(folder.path / "source", recipe.model.name, recipe.model.source_sha256)
    model = build.model(recipe, len(folder.dataset()["classes"]), pretrained=False)
    checkpoints.load_model(folder.checkpoints, model, which)
    return model


def figures(scores: Scores) -> dict[str, float]:
    """The figures of one evaluation; each says at which level it counts. Videos that were left out are counted, too."""
    skipped = len(scores.skipped_ids)
    return {
        "video_top1": scores.video_accuracy(),
        "video_top5": scores.video_accuracy(min(5, len(scores.classes))),
        "clip_top1": scores.clip_accuracy(),
        "mean_class": scores.mean_class_accuracy(),
        "loss": scores.cross_entropy(),
        "videos": len(scores.ids_N),
        "views": scores.num_views,
    } | ({"skipped": skipped} if skipped else {})


def class_indices(manifest: Manifest, rows: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels of rows as indices into a run's classes. Raises UserError for a class that the run does not know."""
    index = {name: i for i, name in enumerate(classes)}
    labels = manifest.text("label", rows).tolist()
    unknown = sorted(set(labels) - index.keys())
    if unknown:
        raise UserError(f"The run knows no class '{unknown[0]}'. {nearest(unknown[0], classes)}")
    return np.array([index[label] for label in labels], dtype=np.int64)


def _check_unseen(folder: Run, manifest: Manifest, rows: np.ndarray, split: str) -> None:
    """Refuse videos that the run was trained on; warn where only the name of a group is the same."""
    seen = folder.trained_on()
    known = set(seen["sha256"].tolist())
    both = sum(value in known for value in manifest.text("sha256", rows).tolist())
    if both:
        raise UserError(
            f"{folder.path} was trained on {both} of the {len(rows)} videos of split '{split}'; such a figure would flatter "
            "the model. Training accuracy is asked for with --split train"
        )
    groups = sorted((set(seen["group"].tolist()) - {""}) & set(manifest.text("group", rows).tolist()))
    if groups:
        log(
            f"warning: {len(groups)} groups of split '{split}' have the name of a group that was trained on ('{groups[0]}'). "
            "If they are the same sources, the figure flatters the model"
        )


def _forward(model: VideoModel, clips_VTHWC: torch.Tensor, where: Placement, snippet_frames: int) -> np.ndarray:
    preprocessing = model.preprocessing
    x_BCTHW = to_input(
        clips_VTHWC.to(where.device, non_blocking=where.non_blocking),
        None,
        mean=preprocessing.mean,
        std=preprocessing.std,
        snippet_frames=snippet_frames,
    )
    with where.autocast():
        out = model(x_BCTHW)
    logits_VK = out.logits_NBK[0] if isinstance(out, WeightedLogits) else out
    return logits_VK.float().cpu().numpy()


def _chunks(items: Iterable[Views], size: int) -> Iterator[list[Views]]:
    chunk: list[Views] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
