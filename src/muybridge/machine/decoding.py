"""Decoding: the FFmpeg that PyAV brings, and a small video of each codec, really encoded and decoded."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from muybridge.machine.finding import Asked, Finding, imported
from muybridge.runtime.launch import module_process

NAMES = ("H.264", "HEVC", "VP9", "AV1", "MPEG-4", "MJPEG")
"""Codecs that are tried (`muybridge.machine.codec`, which imports NumPy)."""
ESSENTIAL = "H.264"
CODEC_SECONDS = 15.0
AV = "pip install --force-reinstall av"


def look(asked: Asked) -> Iterator[Finding]:
    """Import PyAV, and try each codec in a process of its own, which may crash or hang alone."""
    av, why = imported("av")
    if av is None:
        yield Finding(
            "av-cannot-be-imported", "fault", f"PyAV cannot be imported, and no video can be read: {why}.", AV
        )
        return
    simplejpeg, why = imported("simplejpeg")
    if simplejpeg is None:
        yield Finding(
            "simplejpeg-cannot-be-imported",
            "fault",
            f"simplejpeg cannot be imported, and no pack can be read: {why}.",
            "pip install --force-reinstall simplejpeg",
        )
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    figures = {"av": av.__version__, "ffmpeg": getattr(av, "ffmpeg_version_info", None), "libraries": libraries}
    yield Finding(
        "ffmpeg",
        "good",
        f"PyAV {av.__version__} with FFmpeg {figures['ffmpeg'] or 'of unknown version'}.",
        figures=figures,
    )
    if asked.is_quick:
        return
    answers = {name: _tried(name, asked) for name in NAMES}
    rates = {name: answer["frames_per_s"] for name, answer in answers.items() if "frames_per_s" in answer}
    if rates:
        told = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
        yield Finding(
            "decoding",
            "good",
            f"Made videos of 320x240 come back right. Frames a second on one thread (measured): {told}.",
            figures={"frames_per_s": {name: round(rate, 1) for name, rate in rates.items()}},
        )
    for name, answer in answers.items():
        if "fault" in answer:
            lost = "most videos" if name == ESSENTIAL else f"videos of {name}"
            yield Finding(
                "codec-broken",
                "fault" if name == ESSENTIAL else "doubt",
                f"{name}: {answer['fault']}. On this machine {lost} cannot be read.",
                AV,
                {"codec": name},
            )
    untried = [name for name, answer in answers.items() if "untried" in answer]
    if untried:
        yield Finding(
            "codecs-untried",
            "note",
            f"Not tried, as this FFmpeg does not encode them: {', '.join(untried)}.",
            figures={"codecs": untried},
        )


def _tried(name: str, asked: Asked) -> dict[str, Any]:
    """Answer of the process that tries a codec; a `fault` where it crashes or hangs."""
    from muybridge.machine.codec import CODECS

    about = module_process("muybridge.machine.codec")
    about["args"] += [name, str(asked.scratch / f"try{CODECS[name][1]}")]
    try:
        process = subprocess.run(
            **about, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=CODEC_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"fault": f"the process that decodes it gives no answer within {CODEC_SECONDS:.0f} seconds"}
    if process.returncode < 0:
        return {"fault": f"the process that decodes it crashes ({signal.Signals(-process.returncode).name})"}
    try:
        answer: dict[str, Any] = json.loads(process.stdout)
    except ValueError:
        return {
            "fault": f"the process that decodes it fails: {(process.stderr.strip().splitlines() or ['no words'])[-1]}"
        }
    return answer
