"""Formats: frame rates, sizes, lengths against a clip, and headers that count other frames than there are."""

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from muybridge.data.doctor.finding import Case, Example, Finding, first
from muybridge.text import listed, plural

MIXED_RATES = 1.05
"""Ratio of the highest frame rate to the lowest from which rates are mixed."""
OWN = 0.9
"""Share of a class with a size or rate of its own, from which the class is known by it; and of the videos of that size."""
FEW = 5
"""Videos of a class below which its sizes say nothing."""


def rates(case: Case) -> Iterator[Finding]:
    """Finding on mixed frame rates: a dense clip then spans other times in other videos."""
    fps_N = case.manifest.columns["fps"]
    low, high = float(fps_N.min()), float(fps_N.max())
    if case.clip is None or case.clip.fps is not None or high < MIXED_RATES * low:
        return
    common = Counter(np.round(fps_N).astype(int).tolist()).most_common()
    counted = ", ".join(f"{count} at {rate}" for rate, count in common[:4]) + (", …" if len(common) > 4 else "")
    command = f"muybridge train … --set clip.fps={low:g}"
    is_dense = case.clip.sampling == "dense"
    yield Finding(
        "mixed-rates", "doubt" if is_dense else "note",
        f"Frame rates differ ({low:g} to {high:g} a second: {counted} videos), so a dense clip spans up to {high / low:.1f} "
        f"times as long in one video as in another{'' if is_dense else '. Uniform clips, as here, are the same share of any'}.",
        command if is_dense else "", figures={"lowest": low, "highest": high},
    )  # fmt: skip


def sizes(case: Case) -> Iterator[Finding]:
    """Findings on classes that their frame size, or their rate, gives away."""
    columns = case.manifest.columns
    size_N = np.array([f"{w} × {h}" for w, h in zip(columns["width"], columns["height"], strict=True)])
    rate_N = np.array([f"{fps:g} frames a second" for fps in np.round(columns["fps"], 2)])
    for what, values_N in (("size", size_N), ("rate", rate_N)):
        if len(set(values_N.tolist())) > len(values_N) / 4:
            continue  # nearly all differ: no class has one to itself
        _, code_N = np.unique(values_N, return_inverse=True)
        count_VK = np.zeros((int(code_N.max()) + 1, len(case.manifest.classes)))
        np.add.at(count_VK, (code_N, case.labels_N), 1)
        share_N = count_VK[code_N, case.labels_N] / count_VK.sum(1)[code_N]
        own = []
        for k, name in enumerate(case.manifest.classes):
            rows = np.flatnonzero(case.labels_N == k)
            alone = rows[share_N[rows] >= OWN]
            if len(rows) >= FEW and len(alone) >= OWN * len(rows):
                value, count = Counter(values_N[alone].tolist()).most_common(1)[0]
                own.append((name, value, count, len(rows), alone))
        if own:
            said = listed([f"{name} ({count} of {total}: {value})" for name, value, count, total, _ in own])
            scaling = "muybridge pack … --short-side 128" if what == "size" else "muybridge train … --set clip.fps=…"
            remedy = "Traces of it stay: borders, blur, aspect. Bring all videos to one form before they are coded."
            yield Finding(
                f"a-{what}-of-its-own", "doubt",
                f"Told by the frame {what} alone: {said}. {remedy}", scaling, (),
                tuple(
                    Example((int(alone[0]),), f"{case.ids[alone[0]]} ({name}): {value}")
                    for name, value, _, _, alone in own[:4]
                ),
                {"classes": [name for name, *_ in own]},
            )  # fmt: skip


def lengths(case: Case) -> Iterator[Finding]:
    """Findings on videos that are shorter than a clip, and on clips that see little of a video."""
    if case.clip is None:
        return
    columns, clip = case.manifest.columns, case.clip
    frames_N, fps_N = columns["num_frames"].astype(np.float64), columns["fps"]
    if clip.sampling == "dense":
        stride_N = clip.stride_frames * (fps_N / clip.fps if clip.fps else np.ones(len(fps_N)))
        span_N = (clip.num_frames - 1) * stride_N + clip.snippet_frames
        what = f"{clip.num_frames} frames, {clip.stride_frames} apart"
    else:
        span_N = np.full(len(fps_N), float(clip.num_frames))
        what = f"{clip.num_frames} frames"
    short = np.flatnonzero(frames_N < span_N)
    if len(short):
        order = short[np.argsort(frames_N[short] / span_N[short], kind="stable")]
        room = float(np.quantile((frames_N - clip.snippet_frames) / np.maximum(span_N - clip.snippet_frames, 1), 0.05))
        fits = max(1, 1 + int((clip.num_frames - 1) * min(room, 1.0)))
        yield Finding(
            "shorter-than-a-clip", "doubt" if len(short) > 0.05 * len(frames_N) else "note",
            f"Shorter than a clip ({what}): {plural(len(short), 'video')} of {len(frames_N)}. Frames are shown more than "
            f"once. The shortest: {case.ids[order[0]]} ({int(frames_N[order[0]])} frames).",
            f"muybridge train … --set clip.num_frames={fits}" if fits < clip.num_frames else "", first(order, len(order)),
        )  # fmt: skip
    seen = float(np.median(span_N / frames_N))
    if clip.sampling == "dense" and seen < 0.1:
        yield Finding(
            "long-videos", "note",
            f"A clip of {what} spans {seen:.0%} of the median video: one clip in a test sees little of it.",
            "muybridge evaluate … --set evaluation.num_clips=10", figures={"seen": seen},
        )  # fmt: skip


def headers(case: Case) -> Iterator[Finding]:
    """Finding on files whose header counts other frames than can be decoded."""
    if case.looks_N is None:
        return
    columns, said_N = case.manifest.columns, case.looks_N["declared_frames"]
    is_whole_N = np.array([re.search(r"#[0-9.]*-[0-9.]*$", name) is None for name in case.ids])
    wrong_N = is_whole_N & (columns["start_frame"] == 0) & (said_N > 0) & (abs(said_N - columns["num_frames"]) > 1)
    rows = np.flatnonzero(wrong_N)
    if len(rows):
        order = rows[np.argsort(-abs(said_N[rows] / columns["num_frames"][rows] - 1), kind="stable")]
        worst = order[0]
        yield Finding(
            "header-frames", "note",
            f"Another number of frames in the header than can be decoded: {plural(len(rows), 'file')}. The decoded ones count. "
            f"The worst: {case.ids[worst]} ({said_N[worst]} in the header, {columns['num_frames'][worst]} decoded). Where many "
            "are missing, the file was cut off.",
            "", first(order, len(order)),
        )  # fmt: skip
