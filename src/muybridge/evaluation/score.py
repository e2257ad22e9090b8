"""Per-view scores: each distinct frame of a video is decoded once, each distinct input goes through the network once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch

from muybridge.data.inputs import Input
from muybridge.data.loader import ViewLoader, ahead_on_device
from muybridge.data.order import num_batches
from muybridge.data.sampling import Order
from muybridge.data.transforms import MIRRORED_FROM
from muybridge.data.views import Unreadable, VideoViews, Views
from muybridge.errors import Diverged, UserError
from muybridge.runtime.console import progress
from muybridge.runtime.device import Placement
from muybridge.runtime.distributed import ALONE, Processes
from muybridge.storage.scores import Average, Scores, ViewGrid
from muybridge.zoo import VideoModel, WeightedLogits


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
    text: str | None = "evaluating",
    loader: ViewLoader | None = None,
    skip: Callable[[Unreadable], None] | None = None,
    processes: Processes = ALONE,
) -> dict[Order, Scores]:
    """Score every view of every row in each of the orders of `views.orders`; each row exactly once, in order.

    `labels_N` are class indices of the `rows`. Several `processes` score a part each, and all get the whole. `loader` is
    one of these `views` whose worker processes are kept; by default one is started for this call. `skip` is called with
    each video that cannot be read, which is then left out of the scores, while they name it; by default its DecodeError
    is raised. The model is left in the mode it came in. `text` stands beside the bar; None: no bar.

    Raises UserError if no video can be read, Diverged for logits that are not finite.
    """
    rows = np.array([int(row) for row in rows], dtype=np.int64)
    mirrored_K = mirrored_classes(views.manifest.mirror, classes) if views.num_crops > MIRRORED_FROM else None
    shard = processes.shard(range(len(rows)))
    scored: list[int] = []
    left_out: dict[int, Unreadable] = {}
    logits: list[np.ndarray] = []
    clip_starts: list[np.ndarray] = []
    pinned = where.device.type == "cuda"
    source_context = nullcontext(loader) if loader else ViewLoader(views, num_workers=num_workers, pin_memory=pinned)
    with source_context as source, progress(text, len(shard)) as bar, testing(model), torch.inference_mode():

        def readable() -> Iterator[Views]:
            for index, item in zip(shard, source.batches(rows[shard]), strict=True):
                if isinstance(item, Views):
                    scored.append(index)
                    clip_starts.append(item.clip_start_V)
                    yield item
                    continue
                if skip is None or not item.skippable:
                    raise item.error
                left_out[index] = item
                bar.advance()

        items = ahead_on_device(readable(), where.device)
        videos = (_distinct_inputs(item, model, views) for item in items)
        for chunk in _chunks(videos, batch_size):
            logits_VK = _logits(model, chunk, where, batch_size, views.input)
            if mirrored_K is not None:
                mirrored_V = np.concatenate([video.views.mirrored_V for video in chunk])
                logits_VK[mirrored_V] = logits_VK[mirrored_V][:, mirrored_K]
            if not np.isfinite(logits_VK).all():
                names = views.manifest.text("id", np.array([video.views.row for video in chunk]))
                raise Diverged(
                    f"{', '.join(names[:3])}: the network's answer is not finite, as its weights are damaged or need "
                    "another precision. Use another checkpoint, or --set precision=fp32"
                )
            logits.append(logits_VK)
            bar.advance(len(chunk))

    by_index: dict[
        int, tuple[np.ndarray, np.ndarray]
    ] = {}  # logits (O,V,K) and starts of the clips, by index into rows
    if scored:
        logits_NOVK = np.concatenate(logits).reshape(len(scored), len(views.orders), views.num_views, len(classes))
        by_index = dict(zip(scored, zip(logits_NOVK, clip_starts, strict=True), strict=True))
    for others, left_out_there in processes.gathered((by_index, left_out)):
        by_index, left_out = by_index | others, left_out | left_out_there
    if skip is not None:
        for index in sorted(left_out):  # every process hears of all
            skip(left_out[index])
    if not by_index:
        raise UserError(f"videos: none of {len(rows)} could be read. Check the first: {left_out[0].error}")
    kept, manifest = sorted(by_index), views.manifest
    return {
        order: Scores(
            classes=tuple(classes),
            ids_N=manifest.text("id", rows[kept]),
            labels_N=np.asarray(labels_N)[kept],
            groups_N=manifest.text("group", rows[kept]),
            video_V=np.repeat(np.arange(len(kept)), views.num_views),
            clip_start_V=np.concatenate([by_index[index][1][: views.num_views] for index in kept]),
            crop_V=np.tile(np.arange(views.num_crops), views.num_clips * len(kept)),
            logits_VK=np.concatenate([by_index[index][0][number] for index in kept]),
            average=average,
            skipped_ids=manifest.text("id", rows[sorted(left_out)]),
            grid=ViewGrid(views.spec.sampling, views.num_clips, views.num_crops),
        )
        for number, order in enumerate(views.orders)
    }


def batches(num_videos: int, num_views: int, batch_size: int) -> list[int]:
    """Numbers of clips that `score` puts through a network together, that of most batches first.

    Where no frame is shown twice: what is the same goes through once.
    """
    videos = min(num_videos, -(-batch_size // num_views))
    counts: Counter[int] = Counter()
    for together, times in ((videos, num_videos // videos), (num_videos % videos, 1)):
        clips = together * num_views
        for part in np.array_split(np.arange(clips), num_batches(clips, batch_size)) if clips else ():
            counts[len(part)] += times
    return [clips for clips, _ in counts.most_common()]


@contextmanager
def testing(model: VideoModel) -> Iterator[None]:
    """Switch all modules to evaluation mode for the block; each gets back its own mode.

    Frozen norms do not train with the rest. Nothing is switched if all are in it already: other threads may be computing.
    """
    in_training = [module for module in model.modules() if module.training]
    if in_training:
        model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def mirrored_classes(mirror: Mapping[str, str] | None, classes: Sequence[str]) -> np.ndarray:
    """(K,) index of the class that each class becomes in a mirrored image."""
    names = list(classes)
    return np.array([names.index((mirror or {}).get(name, name)) for name in names])


class _Video(NamedTuple):
    """The views of a video, and what of them goes through the network: U distinct inputs, S of which make a view."""

    views: Views
    pictures_UF: np.ndarray
    mirrored_U: np.ndarray
    input_VS: np.ndarray
    like_V: np.ndarray
    """(V,) index of a view with the same logits: itself, or an earlier one of the same time steps in another order."""


def _distinct_inputs(item: Views, model: VideoModel, views: VideoViews) -> _Video:
    """An input is a clip; one time step, where the network looks at single frames."""
    num_views, num_frames = item.picture_VF.shape
    steps = num_frames // views.input.step_frames if model.looks_at == "frame" else 1
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
    """(U,) index of the first of each distinct row, in sorted order, and (N,) index of each row's distinct one.

    The result of `numpy.unique` along an axis, which may answer Ctrl-C with a TypeError.
    """
    order_N = np.lexsort(rows_NF.T[::-1])  # stable: of equal rows the first comes first
    new_N = np.ones(len(rows_NF), dtype=bool)
    new_N[1:] = (rows_NF[order_N[1:]] != rows_NF[order_N[:-1]]).any(axis=1)
    which_N = np.empty(len(rows_NF), dtype=np.int64)
    which_N[order_N] = np.cumsum(new_N) - 1
    return order_N[new_N], which_N


def _chunks(videos: Iterable[_Video], num_clips: int) -> Iterator[list[_Video]]:
    """Lists of videos whose distinct inputs together are as many as those of `num_clips` clips.

    Clips of a list are equally long: whole videos of other lengths begin a new one, so that none is padded.
    """
    chunk: list[_Video] = []
    for video in videos:
        if chunk and chunk[0].views.picture_VF.shape != video.views.picture_VF.shape:
            yield chunk
            chunk = []
        chunk.append(video)
        if sum(len(part.mirrored_U) for part in chunk) >= num_clips * video.input_VS.shape[1]:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _logits(model: VideoModel, chunk: Sequence[_Video], where: Placement, batch_size: int, input: Input) -> np.ndarray:
    """(V,K) of all views of the videos, by at most `batch_size` clips, or as many frames, at a time."""
    pictures_PHWC = torch.cat([video.views.pictures_PHWC for video in chunk])
    pictures_PHWC = pictures_PHWC.to(where.device, non_blocking=where.non_blocking)
    pictures_UF = _joined([video.pictures_UF for video in chunk], [len(video.views.pictures_PHWC) for video in chunk])
    input_VS = _joined([video.input_VS for video in chunk], [len(video.mirrored_U) for video in chunk])
    like_V = _joined([video.like_V for video in chunk], [len(video.like_V) for video in chunk])
    mirrored_U = np.concatenate([video.mirrored_U for video in chunk])
    num_frames = chunk[0].views.picture_VF.shape[1] // input.step_frames
    steps = input_VS.shape[1]
    outs: list[torch.Tensor] = []
    for part in np.array_split(np.arange(len(mirrored_U)), num_batches(len(mirrored_U), batch_size * steps)):
        mirrored_B = torch.from_numpy(mirrored_U[part]).to(where.device) if mirrored_U[part].any() else None
        x = input.to_model(
            pictures_PHWC[torch.from_numpy(pictures_UF[part]).to(where.device)],
            mirrored_B,
            mean=model.preprocessing.mean,
            std=model.preprocessing.std,
        )
        with where.autocast():
            if model.looks_at == "frame":
                sizes = [-1] * x.dim()
                sizes[input.time_axis] = num_frames
                model.check_input(x.expand(sizes))
                outs.append(model.features(x)[:, 0])
            else:
                outs.append(answer(model, x))
    of_views_VSK = torch.cat(outs)[torch.from_numpy(input_VS).to(where.device)]
    with where.autocast():
        logits_VK = model.head(of_views_VSK) if model.looks_at == "frame" else of_views_VSK[:, 0]
    return logits_VK.float().cpu().numpy()[like_V]


def answer(model: VideoModel, x_BCTHW: torch.Tensor) -> torch.Tensor:
    """(B,K) logits, also of a model that returns several sets of them."""
    out = model(x_BCTHW)
    return out.logits_NBK[0] if isinstance(out, WeightedLogits) else out


def _joined(parts: Sequence[np.ndarray], lengths: Sequence[int]) -> np.ndarray:
    """Indices into parts of the given lengths, as indices into all parts joined."""
    firsts = np.cumsum([0, *lengths[:-1]])
    return np.concatenate([part + first for part, first in zip(parts, firsts, strict=True)])
