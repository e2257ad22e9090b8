"""One evaluation for every model: in training, alone, and in `predict`.

`score` computes per-view scores, once; clip and video accuracy, and every figure of the report, come from those. Each
distinct frame of a video is decoded once, each distinct input goes through the network once: clips that show the same
frames, or, where a network looks at single frames, those that clips share.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from muybridge import build, distributed
from muybridge import checkpoint as checkpoints
from muybridge.build import Placement
from muybridge.console import log, progress
from muybridge.data.loader import Unreadable, VideoViews, ViewLoader, Views, ahead_on_device, num_batches
from muybridge.data.manifest import SPLITS, Manifest
from muybridge.data.sampling import Order
from muybridge.data.transforms import MIRRORED_FROM, to_input
from muybridge.distributed import ALONE, Processes
from muybridge.errors import Diverged, UserError, nearest
from muybridge.models import VideoModel, WeightedLogits
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runs import Run
from muybridge.scores import Average, Scores, ViewGrid
from muybridge.scores import figures as figures
from muybridge.user_code import Consent, use_source
from muybridge.video import Reader


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
    """Scores of every view of every row; each row exactly once, in order. See `score_orders`."""
    return score_orders(
        model, views, rows, where=where, labels_N=labels_N, classes=classes, average=average, batch_size=batch_size,
        num_workers=num_workers, text=text, loader=loader, skip=skip, processes=processes,
    )["ordered"]  # fmt: skip


def score_orders(
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
) -> dict[Order, Scores]:
    """Scores of every view of every row, by the order of its frames; each row exactly once, in order. `labels_N` and `rows`
    belong together. Several `processes` score a part each, and all get the whole.

    `loader`: one of these `views` whose worker processes are kept; none: they are started for this call. A video that
    cannot be read raises its DecodeError; or, where `skip` is given, it is handed to it and left out of the scores, which
    name it. Raises UserError where none is left. The model is left in the mode it came in.
    """
    rows = np.array([int(row) for row in rows], dtype=np.int64)
    mirrored_K = _mirrored_classes(views.manifest.mirror, classes) if views.num_crops > MIRRORED_FROM else None
    own_places = processes.share(range(len(rows)))
    places: list[int] = []
    left_out: dict[int, Unreadable] = {}
    logits: list[np.ndarray] = []
    clip_starts: list[np.ndarray] = []
    pinned = where.device.type == "cuda"
    own = nullcontext(loader) if loader else ViewLoader(views, num_workers=num_workers, pin_memory=pinned)
    with own as source, progress(text, len(own_places)) as bar, testing(model), torch.inference_mode():

        def readable() -> Iterator[Views]:
            for place, item in zip(own_places, source.batches(rows[own_places]), strict=True):
                if isinstance(item, Views):
                    places.append(place)
                    clip_starts.append(item.clip_start_V)
                    yield item
                    continue
                if skip is None or not item.skippable:
                    raise item.error
                left_out[place] = item
                bar.advance()

        items = ahead_on_device(readable(), where.device)
        videos = (_distinct_inputs(item, model, views) for item in items)
        for chunk in _chunks(videos, batch_size):
            logits_VK = _logits(model, chunk, where, batch_size, views.spec.snippet_frames)
            if mirrored_K is not None:
                mirrored_V = np.concatenate([video.views.mirrored_V for video in chunk])
                logits_VK[mirrored_V] = logits_VK[mirrored_V][:, mirrored_K]
            if not np.isfinite(logits_VK).all():
                names = views.manifest.text("id", np.array([video.views.row for video in chunk]))
                raise Diverged(
                    f"The network's answer to {', '.join(names[:3])} is no finite number: its weights are damaged, or "
                    "they need another precision (precision=fp32)"
                )
            logits.append(logits_VK)
            bar.advance(len(chunk))

    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by a row's place: its logits, and where its clips start
    if places:
        logits_NOVK = np.concatenate(logits).reshape(len(places), len(views.orders), views.num_views, len(classes))
        found = dict(zip(places, zip(logits_NOVK, clip_starts, strict=True), strict=True))
    for theirs, without in processes.gathered((found, left_out)):
        found, left_out = found | theirs, left_out | without
    if skip is not None:
        for place in sorted(left_out):  # every process hears of all
            skip(left_out[place])
    if not found:
        raise UserError(f"Not one of {len(rows)} videos could be read; the first is {left_out[0].error}")
    kept, manifest = sorted(found), views.manifest
    return {
        order: Scores(
            classes=tuple(classes),
            ids_N=manifest.text("id", rows[kept]),
            labels_N=np.asarray(labels_N)[kept],
            groups_N=manifest.text("group", rows[kept]),
            video_V=np.repeat(np.arange(len(kept)), views.num_views),
            clip_start_V=np.concatenate([found[place][1][: views.num_views] for place in kept]),
            crop_V=np.tile(np.arange(views.num_crops), views.num_clips * len(kept)),
            logits_VK=np.concatenate([found[place][0][number] for place in kept]),
            average=average,
            skipped_ids=manifest.text("id", rows[sorted(left_out)]),
            grid=ViewGrid(views.spec.sampling, views.num_clips, views.num_crops),
        )
        for number, order in enumerate(views.orders)
    }


def evaluate(
    run: str | Path | Run,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    fold: int | None = None,
    checkpoint: str | None = None,
    changes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Scores:
    """Score a run on a split: of its own manifest, or of another one with the same classes (`data`).

    `changes` are dotted fields of the recipe's sections `evaluation` and `clip` (more views, say), or `data.on_error`.
    `split`: "test", "val" or "train"; none: test, or val of a set without a test (which is said).
    Testing on videos that the run was trained on is refused, unless `split` is "train". Videos that cannot be read are an
    error, or, with `data.on_error` skip, said and left out. Scores are written to `out`, where it is given.
    A run of a `module:function` model brings that file along; it is imported only with `allow_code`. Raises UserError.
    """
    folder = Run.open(run)
    if out is not None:
        check_scores_file(Path(out))
    with prepared(
        folder, data=data, split=split, fold=fold, checkpoint=checkpoint, changes=changes, allow_code=allow_code,
        runtime=runtime,
    ) as task:  # fmt: skip
        scores = task.scores()["ordered"]
        if out is not None and task.processes.is_first:
            scores.save(Path(out))
        return scores


@dataclass(frozen=True)
class Task:
    """A run and the videos that it is to be scored on, everything checked and loaded."""

    run: Run
    recipe: Recipe
    checkpoint: str
    data: str
    """The manifest, as it was named."""
    split: str
    manifest: Manifest
    dataset: dict[str, Any]
    """What the run knows of its own."""
    rows: np.ndarray
    labels_N: np.ndarray
    trained_on_N: np.ndarray
    """bool."""
    model: VideoModel
    where: Placement
    reader: Reader
    num_workers: int
    processes: Processes

    def scores(self, orders: Sequence[Order] = ("ordered",), *, text: str = "evaluating") -> dict[Order, Scores]:
        """Of all videos that can be read, in each order of their frames."""
        skips = self.recipe.data.on_error == "skip"
        found = score_orders(
            self.model,
            build.video_views(self.recipe, self.manifest, self.reader, orders=orders),
            self.rows,
            where=self.where,
            labels_N=self.labels_N,
            classes=self.dataset["classes"],
            average=self.recipe.evaluation.average,
            batch_size=build.scoring_batch_size(self.recipe),
            num_workers=self.num_workers,
            text=text,
            skip=(lambda failure: log(f"skipped: {failure.error}")) if skips else None,
            processes=self.processes,
        )
        skipped_ids = found[orders[0]].skipped_ids
        if len(skipped_ids):
            log(f"scored without {len(skipped_ids)} of the {len(self.rows)} videos, which could not be read")
        scored_N = ~np.isin(self.manifest.text("id", self.rows), skipped_ids)
        num_trained_on = int((self.trained_on_N & scored_N).sum())
        return {
            order: dataclasses.replace(scores, split=self.split, num_trained_on=num_trained_on)
            for order, scores in found.items()
        }


@contextmanager
def prepared(
    run: Run,
    *,
    data: str | Path | None,
    split: str | None,
    fold: int | None,
    checkpoint: str | None,
    changes: Mapping[str, Any] | None,
    allow_code: Consent,
    runtime: Runtime | None,
) -> Iterator[Task]:
    """What is done before a run is scored, as `evaluate` says. What ends the block is told to the other processes."""
    trained = run.recipe()
    open_fields = ("evaluation.", "clip.", "data.on_error")
    wrong = [name for name in changes or {} if not name.startswith(open_fields)]
    if wrong:
        raise UserError(f"An evaluation changes evaluation.…, clip.… and data.on_error only, not '{wrong[0]}'")
    recipe = replace(trained, changes or {})
    runtime = runtime or Runtime()
    if data is None and not Path(recipe.data.manifest).exists():
        raise UserError(
            f"The manifest of {run.path}, {recipe.data.manifest}, is not there any more; where is it? --data MANIFEST"
        )
    processes = distributed.join(build.device(runtime))
    with processes.telling():
        manifest = Manifest.load(data or recipe.data.manifest)
        dataset = run.dataset()
        if data is None and manifest.sha256() != recipe.data.sha256:
            raise UserError(
                f"{recipe.data.manifest} has changed since {run.path} was trained; name it with --data to use it"
            )
        fold = recipe.data.fold if fold is None and data is None else fold
        if split is None:
            split = next((name for name in ("test", "val") if len(manifest.split(name, fold))), "test")
            if split == "val":
                log(f"{data or recipe.data.manifest} has no test split: val is scored, on which settings may be chosen")
        rows = manifest.split(split, fold)
        if len(rows) == 0:
            there = [name for name in SPLITS if len(manifest.split(name, fold))]
            known = f"Its videos are in {', '.join(there)} (--split)" if split in SPLITS else nearest(split, SPLITS)
            raise UserError(f"There is no video in split '{split}' of {data or recipe.data.manifest}. {known}")
        trained_on_N = _trained_on(run, manifest, rows, split)
        labels_N = class_indices(manifest, rows, dataset["classes"])
        which = checkpoint or trained.evaluation.checkpoint
        model = load_model(run, which, allow_code=allow_code)
        where = build.placement(recipe, runtime)
        build.place(model, where)
        reader, workers = build.reader_and_workers(recipe, runtime, manifest, rows[processes.rank :: processes.count])
        if manifest.mirror is not None:  # what the model's classes become, not those of another manifest
            manifest = dataclasses.replace(manifest, mirror=dataset["mirror"])
        yield Task(
            run=run,
            recipe=recipe,
            checkpoint=which,
            data=str(data or recipe.data.manifest),
            split=split,
            manifest=manifest,
            dataset=dataset,
            rows=rows,
            labels_N=labels_N,
            trained_on_N=trained_on_N,
            model=model,
            where=where,
            reader=reader,
            num_workers=workers,
            processes=processes,
        )


def check_scores_file(out: Path) -> None:
    """Raises UserError, before anything is computed, for what scores cannot be written to."""
    if out.suffix != ".npz" or out.is_dir():
        raise UserError(
            f"--out is the file that scores are written to, a .npz; '{out}' is not. For example: {out.stem}.npz"
        )
    if out.exists():
        try:
            Scores.load(out)
        except UserError as error:
            raise UserError(f"--out {out} is there and holds no scores; choose another name ({error})") from None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {out.parent} cannot be made: {error.strerror}") from None
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"--out {out}: {out.parent} may not be written to")


def load_model(folder: Run, which: str, *, allow_code: Consent = False) -> VideoModel:
    """A run's model with the weights of a checkpoint, on the CPU. Raises UserError for a model of the user's own unless
    its code is allowed."""
    recipe = folder.recipe()
    use_source(folder.path, recipe.model.name, recipe.model.source_sha256, allow_code=allow_code)
    model = build.model(recipe, len(folder.dataset()["classes"]), pretrained=False)
    checkpoints.load_model(folder.checkpoints, model, which)
    return model


def class_indices(manifest: Manifest, rows: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels of rows as indices into a run's classes. Raises UserError for a class that the run does not know."""
    index = {name: i for i, name in enumerate(classes)}
    labels = manifest.text("label", rows).tolist()
    unknown = sorted(set(labels) - index.keys())
    if unknown:
        raise UserError(f"The run knows no class '{unknown[0]}'. {nearest(unknown[0], classes)}")
    return np.array([index[label] for label in labels], dtype=np.int64)


def _trained_on(folder: Run, manifest: Manifest, rows: np.ndarray, split: str) -> np.ndarray:
    """(N,) bool: was the run, or one that it builds upon, trained on the video, by its content? Raises UserError where it
    was on any, but for the split "train"; warns where only the name of a group is the same."""
    seen = folder.trained_on()
    known_N = np.isin(manifest.text("sha256", rows), folder.seen_sha256())
    if split == "train":
        return known_N
    if known_N.any():
        raise UserError(
            f"{folder.path}, or a run that it builds upon, was trained on {known_N.sum()} of the {len(rows)} videos of split "
            f"'{split}'; such a figure would flatter the model. Training accuracy is asked for with --split train"
        )
    groups = sorted((set(seen["group"].tolist()) - {""}) & set(manifest.text("group", rows).tolist()))
    if groups:
        log(
            f"warning: {len(groups)} groups of split '{split}' have the name of a group that was trained on ('{groups[0]}'). "
            "If they are the same sources, the figure flatters the model"
        )
    return known_N


@contextmanager
def testing(model: VideoModel) -> Iterator[None]:
    """All modules in evaluation mode; afterwards each in the mode it came in (frozen norms do not train with the rest).
    Nothing is switched where all are in it already: other threads may be computing."""
    in_training = [module for module in model.modules() if module.training]
    if in_training:
        model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def _mirrored_classes(mirror: Mapping[str, str] | None, classes: Sequence[str]) -> np.ndarray:
    """(K,) which class of a mirrored picture means each class."""
    names = list(classes)
    return np.array([names.index((mirror or {}).get(name, name)) for name in names])


class _Video(NamedTuple):
    """The views of a video, and what of them goes through the network: U distinct inputs, S of which make a view."""

    views: Views
    pictures_UF: np.ndarray
    mirrored_U: np.ndarray
    input_VS: np.ndarray
    like_V: np.ndarray
    """The view that has the same logits: itself, or an earlier one of the same time steps in another order."""


def _distinct_inputs(item: Views, model: VideoModel, views: VideoViews) -> _Video:
    """An input is a clip; one time step, where the network looks at single frames."""
    num_views, num_frames = item.picture_VF.shape
    steps = num_frames // views.spec.snippet_frames if model.looks_at == "frame" else 1
    shown = np.column_stack([item.picture_VF.reshape(num_views * steps, -1), np.repeat(item.mirrored_V, steps)])
    first_U, input_of = _distinct_rows(shown)
    distinct = shown[first_U]
    input_VS = input_of.reshape(num_views, steps)
    like_V = np.arange(num_views)
    if len(views.orders) > 1 and type(model).head is VideoModel.head:  # a mean over time, of any order
        first, same_V = _distinct_rows(np.sort(input_VS, axis=1))
        like_V = first[same_V]
    return _Video(item, distinct[:, :-1], distinct[:, -1].astype(bool), input_VS, like_V)


def _distinct_rows(rows_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(U,) where each distinct row is first seen, the rows in sorted order, and (N,) which of them every row is. What
    `numpy.unique` finds along an axis, but that it may answer Ctrl-C with a TypeError."""
    order_N = np.lexsort(rows_NF.T[::-1])  # stable: of equal rows the first comes first
    new_N = np.ones(len(rows_NF), dtype=bool)
    new_N[1:] = (rows_NF[order_N[1:]] != rows_NF[order_N[:-1]]).any(axis=1)
    which_N = np.empty(len(rows_NF), dtype=np.int64)
    which_N[order_N] = np.cumsum(new_N) - 1
    return order_N[new_N], which_N


def _chunks(videos: Iterable[_Video], num_clips: int) -> Iterator[list[_Video]]:
    """Videos until their distinct inputs are as many as so many clips have."""
    chunk: list[_Video] = []
    for video in videos:
        chunk.append(video)
        if sum(len(part.mirrored_U) for part in chunk) >= num_clips * video.input_VS.shape[1]:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _logits(
    model: VideoModel, chunk: Sequence[_Video], where: Placement, batch_size: int, snippet_frames: int
) -> np.ndarray:
    """(V,K) of all views of the videos, by at most `batch_size` clips, or as many frames, at a time."""
    pictures_PHWC = torch.cat([video.views.pictures_PHWC for video in chunk])
    pictures_PHWC = pictures_PHWC.to(where.device, non_blocking=where.non_blocking)
    pictures_UF = _joined([video.pictures_UF for video in chunk], [len(video.views.pictures_PHWC) for video in chunk])
    input_VS = _joined([video.input_VS for video in chunk], [len(video.mirrored_U) for video in chunk])
    like_V = _joined([video.like_V for video in chunk], [len(video.like_V) for video in chunk])
    mirrored_U = np.concatenate([video.mirrored_U for video in chunk])
    num_frames = chunk[0].views.picture_VF.shape[1] // snippet_frames
    steps = input_VS.shape[1]
    outs: list[torch.Tensor] = []
    for part in np.array_split(np.arange(len(mirrored_U)), num_batches(len(mirrored_U), batch_size * steps)):
        mirrored_B = torch.from_numpy(mirrored_U[part]).to(where.device) if mirrored_U[part].any() else None
        x_BCTHW = to_input(
            pictures_PHWC[torch.from_numpy(pictures_UF[part]).to(where.device)],
            mirrored_B,
            mean=model.preprocessing.mean,
            std=model.preprocessing.std,
            snippet_frames=snippet_frames,
        )
        with where.autocast():
            if model.looks_at == "frame":
                model.check_input(x_BCTHW.expand(-1, -1, num_frames, -1, -1))
                outs.append(model.features(x_BCTHW)[:, 0])
            else:
                outs.append(answer(model, x_BCTHW))
    of_views_VSK = torch.cat(outs)[torch.from_numpy(input_VS).to(where.device)]
    with where.autocast():
        logits_VK = model.head(of_views_VSK) if model.looks_at == "frame" else of_views_VSK[:, 0]
    return logits_VK.float().cpu().numpy()[like_V]


def answer(model: VideoModel, x_BCTHW: torch.Tensor) -> torch.Tensor:
    """(B,K) logits, also of a model that returns several sets of them."""
    out = model(x_BCTHW)
    return out.logits_NBK[0] if isinstance(out, WeightedLogits) else out


def _joined(parts: Sequence[np.ndarray], lengths: Sequence[int]) -> np.ndarray:
    """Indices into things of which a part has so many, as indices into all of them."""
    firsts = np.cumsum([0, *lengths[:-1]])
    return np.concatenate([part + first for part, first in zip(parts, firsts, strict=True)])
