"""One GPU in eight minutes: is what muybridge answers there right, does it repeat, how fast is it, and what does that cost?

    python benchmarks/cuda.py [--device cuda] [--out cuda.json] [--only PART] [--quick] [--minutes 8]
    python benchmarks/cuda.py --page cuda.json [--out docs/cuda.md]

The parts, each in a process of its own with a limit of time, so that whatever ends one leaves the others (cuda_parts.py has
what they do):

environment  device, driver, versions
answers      every family and every paper's own network against the CPU, fp32: logits, gradients, and whether they repeat
resume       a run that is killed after its first checkpoint and resumed, against one that nothing disturbed, byte for byte
precisions   bf16, fp16 with a scaled loss, torch.compile: are losses finite, and near those of fp32?
speed        clips a second, the largest batch, and the share of the measured peak
settings     what each reproducible setting, and each way to feed the device, costs a step
demo         `muybridge demo --quick`: seconds and accuracies

The JSON is written anew after each part. Progress goes to standard error. The exit status is 1 where a part failed.
`--quick` shrinks everything: does it run? Its figures mean nothing. `--device cpu` leaves out what only CUDA has, and says so.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
PAGE = HERE.parent.parent / "docs" / "cuda.md"
MINUTES = 8.0
BUDGETS = {
    "environment": 15, "answers": 70, "resume": 65, "precisions": 65, "speed": 150, "settings": 75, "demo": 40,
}  # fmt: skip
"""Seconds of each part, of eight minutes. What one leaves is added to the next."""
GRACE_SECONDS = 3.0
"""A part that does not end by itself at its limit is ended so much later."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, cpu")
    parser.add_argument("--out", type=Path, help="cuda.json; with --page: docs/cuda.md")
    parser.add_argument("--only", choices=BUDGETS, metavar="PART", help="|".join(BUDGETS))
    parser.add_argument("--quick", action="store_true", help="does it run? No figure to trust")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="limit of all parts together")
    parser.add_argument("--page", type=Path, metavar="JSON", help="write the page of these results, and run nothing")
    arguments = parser.parse_args()
    if arguments.page is not None:
        results = json.loads(arguments.page.read_text(encoding="utf-8"))
        on_cuda = results["device"].startswith("cuda")
        if arguments.out is None and (results["quick"] or not on_cuda):
            parser.error(
                f"{arguments.page} has no figures of a GPU for {PAGE.name}; --out FILE writes its page elsewhere"
            )
        (arguments.out or PAGE).write_text(page(results), encoding="utf-8")
        return
    results = run_parts(
        [arguments.only] if arguments.only else list(BUDGETS),
        device=arguments.device, quick=arguments.quick, minutes=arguments.minutes, out=arguments.out or Path("cuda.json"),
    )  # fmt: skip
    failed = [name for name, part in results["parts"].items() if not part["ok"]]
    print(f"failed: {', '.join(failed)}" if failed else "all parts passed")
    sys.exit(1 if failed else 0)


def run_parts(parts: Sequence[str], *, device: str, quick: bool, minutes: float, out: Path) -> dict[str, Any]:
    """Results of the parts, which are written to `out` after each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part is ended, too
    started = time.time()
    share = minutes * 60 / sum(BUDGETS[name] for name in parts)
    results: dict[str, Any] = {
        "written_by": "benchmarks/cuda.py", "format_version": 1, "device": device, "quick": quick,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)), "parts": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(parts):
            later = sum(BUDGETS[other] * share for other in parts[number + 1 :])
            job = {
                "part": name, "device": device, "quick": quick, "since": started,
                "until": started + minutes * 60 - later, "out": str(Path(folder) / f"{name}.json"), "folder": folder,
            }  # fmt: skip
            results["parts"][name] = run_part(job)
            results["seconds"] = round(time.time() - started, 1)
            write(out, results)
    return results


def run_part(job: dict[str, Any]) -> dict[str, Any]:
    """What a part has found, in a process that may crash or hang."""
    started, file = time.time(), Path(job["out"])
    process = subprocess.Popen(
        [sys.executable, "-P", str(HERE.with_name("cuda_parts.py")), "part", json.dumps(job)],
        stdout=2,
        start_new_session=True,
    )
    late = False
    try:
        process.wait(max(0.0, job["until"] + GRACE_SECONDS - started))
    except subprocess.TimeoutExpired:
        late = True
    finally:
        end_group(process)
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"checks": [], "left_out": []}
    doing = found.pop("doing", "nothing yet")
    if late:
        found["error"] = f"Ended at its limit of time, while at: {doing}"
    elif process.returncode != 0 and not found.get("error"):
        found["error"] = f"The process ended with status {process.returncode}, while at: {doing}"
    found.setdefault("error", None)
    found["seconds"] = round(time.time() - started, 1)
    found["limit_seconds"] = round(job["until"] - started, 1)
    found["ok"] = found["error"] is None and all(check["ok"] for check in found["checks"])
    return found


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a part, and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write(path: Path, values: Any) -> None:
    """JSON, whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def page(results: dict[str, Any]) -> str:
    """Markdown of all that was found."""
    lines = [f"<!-- Written by `{results['written_by']} --page`, from the results of {results['started']}. -->", ""]
    lines += ["# On a GPU", ""]
    if results["quick"]:
        lines += ["**Of a quick try: its figures mean nothing.**", ""]
    if not results["device"].startswith("cuda"):
        lines += ["**Of a CPU: nothing here was measured on a GPU.**", ""]
    lines += [f"One run of all parts took {results['seconds']:.0f} s.", ""]
    lines += table(
        ["part", "result", "seconds", "checks"],
        [
            [
                name,
                "pass" if part["ok"] else "FAIL",
                f"{part['seconds']:.0f}",
                f"{sum(check['ok'] for check in part['checks'])} of {len(part['checks'])}" if part["checks"] else "",
            ]
            for name, part in results["parts"].items()
        ],
    )
    for name, part in results["parts"].items():
        lines += [f"## {name.capitalize()}", "", ABOUT[name], ""]
        lines += SECTIONS[name](part)
        failed = [check for check in part["checks"] if not check["ok"]]
        if failed:
            lines += ["Failed:", ""] + [f"- {code(check['name'])}: {check['detail']}" for check in failed] + [""]
        if part["error"]:
            lines += ["Ended by an error:", "", "```", part["error"].strip(), "```", ""]
        if part["left_out"]:
            lines += ["Left out:", ""] + [f"- {entry['what']}: {entry['why']}" for entry in part["left_out"]] + [""]
    return "\n".join(lines).rstrip() + "\n"


ABOUT = {
    "environment": "What everything below depends on.",
    "answers": (
        "The same weights and clips on the device, placed as `train` places them, and on the CPU, in fp32 without TF32. "
        "*Logits* is the largest difference over the largest logit, in evaluation mode. *Gradient* is the difference of the "
        "norms of all gradients, in training mode, over that norm. Both pass up to 1e-3. *Repeats*: two passes give the same "
        "bits. Operations of which torch says that they need not are listed."
    ),
    "resume": (
        "A run was killed by SIGKILL after its first checkpoint and resumed. Its weights, optimiser, metrics and scores are "
        "compared with those of an undisturbed run, byte for byte."
    ),
    "precisions": (
        "A few training steps on made clips, from the same weights. A precision passes where its losses are finite and their "
        "mean is within a tenth of that of fp32. A compiled network that fails is noted, and no failure."
    ),
    "speed": (
        "Random clips that lie on the device; a training step is pixels to input, forward, loss, backward and update. Medians. "
        "*Peak* is the share of what a large matrix product reaches in the same precision. It counts two operations a "
        "multiply-add, and training as three forward passes. *Free* is training with `runtime.deterministic=false`. The "
        "largest batch was predicted from the memory of two small ones, then tried."
    ),
    "settings": (
        "Training steps with one thing changed at a time; the ways take turns. Given are medians, and the median ratio to "
        "neighbouring steps as muybridge runs them: below 1 is faster. Settings that a process takes once were measured in "
        "processes of their own, in turns too."
    ),
    "demo": "`muybridge demo --quick`, from nothing to the report.",
}
"""What each part did."""


def table(header: list[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table, and an empty one."""
    if not rows:
        return []
    shown = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [
        f"| {' | '.join(header)} |", f"| {' | '.join('---' for _ in header)} |",
        *(f"| {' | '.join(row)} |" for row in shown), "",
    ]  # fmt: skip


def code(text: str) -> str:
    return f"`{text}`"


def number(value: float | None, form: str = ".3g") -> str:
    return "" if value is None else format(value, form)


def environment_section(part: dict[str, Any]) -> list[str]:
    return table(["", ""], [[name, value] for name, value in part.get("environment", {}).items()])


def answers_section(part: dict[str, Any]) -> list[str]:
    return table(
        ["network", "clip", "logits", "gradient", "repeats", "operations that need not repeat"],
        [
            [
                row["model"], f"{row['num_frames']} x {row['size']}²", number(row["logits_relative"], ".1e"),
                number(row["gradient_norm_relative"], ".1e"), "yes" if row["repeats"] else "NO",
                ", ".join(map(code, row["nondeterministic"])),
            ]
            for row in part.get("rows", [])
        ],
    )  # fmt: skip


def resume_section(part: dict[str, Any]) -> list[str]:
    def differences(files: list[str] | None) -> str:
        return "" if files is None else ", ".join(map(code, files)) or "none"

    return table(
        ["network", "precision", "killed at step", "of", "files compared", "resumed differs in", "repeated differs in"],
        [
            [
                row["model"], row["precision"], row["killed_at_step"], row["steps"], row["files"],
                differences(row["resumed_differs"]), differences(row["repeated_differs"]),
            ]
            for row in part.get("rows", [])
        ],
    )  # fmt: skip


def precisions_section(part: dict[str, Any]) -> list[str]:
    return table(
        ["network", "way", "first loss", "mean loss", "÷ fp32", "ms a step", "first step s", "note"],
        [
            [
                row["model"], row["way"], number(row["first_loss"], ".4f"), number(row["mean_loss"], ".4f"),
                number(row["mean_to_fp32"], ".4f"), number(row["milliseconds"], ".1f"),
                number(row["first_step_seconds"], ".1f"), row["note"],
            ]
            for row in part.get("rows", [])
        ],
    )  # fmt: skip


def speed_section(part: dict[str, Any]) -> list[str]:
    lines = table(
        ["precision", "matrix", "peak, TFLOP/s"],
        [[name, f"{peak['size']}²", number(peak["tflops"], ".1f")] for name, peak in part.get("peaks", {}).items()],
    )
    for title, rows in grouped(part.get("rows", []), "table"):
        lines += [f"**{title}**", ""]
        lines += table(
            [
                "network", "precision", "G multiply-adds", "batch", "forward clips/s", "peak", "training clips/s", "peak",
                "free clips/s", "GiB", "largest batch", "training clips/s at it", "forward clips/s at it",
                "published, V100",
            ],
            [
                [
                    row["model"] + (" with temporal pooling" if row["temporal_pooling"] else ""), row["precision"],
                    number(row["macs"] / 1e9, ".1f"), row["batch_size"], number(row["forward_clips_per_s"]),
                    number(row["forward_peak_share"], ".0%"), number(row["train_clips_per_s"]),
                    number(row["train_peak_share"], ".0%"), number(row["free_train_clips_per_s"]),
                    number(row["peak_gib"], ".1f"), number(row["max_batch_size"], "d"),
                    number(row["max_batch_train_clips_per_s"]), number(row["max_batch_forward_clips_per_s"]),
                    number(row["published_v100_clips_per_s"]),
                ]
                for row in rows
            ],
        )  # fmt: skip
    measured = part.get("measure_model")
    if measured:
        lines += [
            f"`muybridge measure {measured['model']}` answers {number(measured['train_clips_per_s'])} training clips/s and "
            f"{number(measured['forward_clips_per_s'])} forward, in batches of {measured['batch_size']}.",
            "",
        ]
    return lines


def settings_section(part: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for title, rows in grouped(part.get("rows", []), "table"):
        lines += [f"**{title}**", ""]
        lines += table(
            ["way", "ms a step", "÷ as muybridge runs"],
            [[row["way"], number(row["milliseconds"], ".2f"), number(row["ratio"], ".3f")] for row in rows],
        )
    return lines


def demo_section(part: dict[str, Any]) -> list[str]:
    lines = table(
        ["network", "test top-1", "seconds of training", "clips/s, last epoch"],
        [
            [
                row["model"],
                number(row["video_top1"], ".3f"),
                number(row["train_seconds"], ".1f"),
                number(row["clips_per_s"]),
            ]
            for row in part.get("rows", [])
        ],
    )
    if "wall_seconds" in part:
        lines += [f"{part['wall_seconds']:.1f} s in all.", ""]
    return lines


SECTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "environment": environment_section, "answers": answers_section, "resume": resume_section,
    "precisions": precisions_section, "speed": speed_section, "settings": settings_section, "demo": demo_section,
}  # fmt: skip


def grouped(rows: list[dict[str, Any]], name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for title in dict.fromkeys(row[name] for row in rows):
        yield title, [row for row in rows if row[name] == title]


if __name__ == "__main__":
    main()
