"""Write the table of results from the reports that are stored here: into README.md, docs/results.md and so the start page.

    python docs/results/make.py                          # writes both
    python docs/results/make.py --check                  # exits with 1 where one differs from what it would write
    python docs/results/make.py --store NAME REPORT.json # keeps of a report what the tables need, as NAME.json

A stored report is the report.json of a finished study without what the tables do not need: curves, classes, pictures, paths.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
README, PAGE = ROOT / "README.md", HERE.parent / "results.md"
MARKED = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.S)

STUDIES = {
    "demo": {
        "name": "made videos",
        "set": "1,600 made videos, 10 classes; most pairs differ in the direction of time alone",
        "page": "tour.md",
        "repeat": "muybridge demo --out demo",
    },
    "weizmann": {
        "name": "Weizmann, from scratch",
        "set": "Weizmann, 90 real clips, 10 actions, 9 people, person-disjoint; from scratch",
        "page": "motion.md",
        "repeat": """\
muybridge prepare weizmann --out weizmann.csv --group '/([a-z]+)_' --folds 3
muybridge compare --recipe small --models tsn_resnet_tiny,tsm_resnet_tiny --data weizmann.csv \\
    --streams rgb,rgb_difference --seeds 3 --out motion --set evaluation.every_epochs=100
muybridge diagnose motion/runs/*-rgb-seed* motion/runs/*-rgb_difference-seed*
muybridge report motion/runs/*-rgb-seed* motion/runs/*-rgb_difference-seed* --out weizmann.html""",
    },
    "weizmann-finetuned": {
        "name": "Weizmann, fine-tuned",
        "set": "The same clips; fine-tuned from ImageNet's weights",
        "page": "weizmann.md",
        "repeat": """\
muybridge compare --recipe finetune --models tsn_efficientnet_lite0,tsm_efficientnet_lite0 --data weizmann.csv \\
    --seeds 3 --out finetuned --set evaluation.every_epochs=100""",
    },
}
"""Stored reports in the order of the table: its word for the set, what was tested, the page about it, and the commands
that repeat it."""

OF_REPORT = ("title", "muybridge", "measure", "about", "groups", "verdicts")
OF_MODEL = (
    "model",
    "seeds",
    "videos",
    "views",
    "video_top1",
    "low",
    "high",
    "interval",
    "of_seeds",
    "params",
    "conv_macs",
)
HEAD = ["set", "model", "video top-1 [95 %]", "letter", "seeds", "frames shuffled", "conv MACs"]
OPENING = """\
# Results

What models reached here, from the reports of finished studies. `docs/results/make.py` writes this page, the same table in
the README and the one on the start page. Every figure is on the test split, which was scored once.

Brackets are 95 % intervals: over videos where there is one seed, over sources and seeds where there are several
([how](statistics.md)). Models of one set that share a letter cannot be told apart. One seed compares runs, not models.
"Frames shuffled" is the accuracy of the same networks when the frames of each clip come in another order
([diagnosis](diagnosis.md)). A dash means that it was not tried. Multiply-adds are those of convolutions, for one clip."""
SHARED = "Models of one set that share a letter cannot be told apart."
OTHER = [
    ("Weizmann by frame differences, 3 seeds: I3D, TSM, TSN", ".919, .900, .881; none told apart", "weizmann"),
    ("The same with frames shuffled", ".570, .641, .881", "weizmann"),
    ("Logits against the original code, float64", "all near 1e-15 of the largest", "fidelity"),
    ("Intervals of three and five seeds that answer alike: coverage", "94.4 to 96.3 %", "statistics"),
    ("A JPEG pack against plain PyAV, UCF-like files", "28 times as fast", "benchmarks"),
    ("Training loop against the network alone, TSM on ResNet18", ".979 of its clips a second", "benchmarks"),
]
"""Further figures: question, answer, and the page that says how it was measured."""

TWICE = """\
Weizmann by frame differences was trained twice, here by an earlier version of muybridge than above. The same seeds gave
other runs, and TSN and TSM changed places. Neither study tells them apart."""
"""Why the two tables have two figures of what looks like one."""


def stored(name: str) -> dict[str, Any]:
    """A stored report."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def table(to_docs: str) -> str:
    """The table of all stored reports. `to_docs`: the way from the page to docs/."""
    rows = []
    for name, study in STUDIES.items():
        report = stored(name)
        for rank, model in enumerate(report["models"]):
            rows.append([
                f"[{study['name']}]({to_docs}{study['page']})" if rank == 0 else "",
                _called(model["model"]), f"{model['video_top1']:.3f} [{model['low']:.3f}, {model['high']:.3f}]",
                _letters(report["groups"], model["model"]), str(model["seeds"]),
                "–" if model["shuffled"] is None else f"{model['shuffled']:.3f}", f"{model['conv_macs'] / 1e6:.1f} M",
            ])  # fmt: skip
    return _markdown(HEAD, rows)


def other(to_docs: str) -> str:
    """The table of further figures."""
    rows = [[question, measured, f"[{name}]({to_docs}{name}.md)"] for question, measured, name in OTHER]
    return _markdown(["question", "measured", "source"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def _called(model: str) -> str:
    """A model's name as the table has it."""
    name, _, input_kind = model.partition(" (modality=")
    return f"`{name}`" + (f", {input_kind.rstrip(')')}" if input_kind else "")


def _letters(groups: list[list[str]], model: str) -> str:
    """A letter for each group that cannot be told apart within."""
    return " ".join(letter for letter, group in zip("abcdefgh", groups, strict=False) if model in group)


def page() -> str:
    """The page of results."""
    parts = [OPENING, "## What was reached", table("").rstrip(), "## How to repeat it"]
    for name, study in STUDIES.items():
        report = stored(name)
        few = report["models"][0]
        seeds = "one seed" if few["seeds"] == 1 else f"{few['seeds']} seeds"
        parts += [
            f"### {name}",
            f"{study['set']}. {few['videos']} test videos, views a video: {few['views']}, {seeds}. The interval: "
            f"{few['interval'].replace('Wilson', 'Wilson’s')}. From [the stored report](results/{name}.json).",
            f"```sh\n{study['repeat']}\n```",
        ]
    return "\n\n".join([*parts, "## Other figures", f"{other('')}\n{TWICE}\n"])


def readme() -> str:
    """The README with both tables between its marks. Raises SystemExit where it has none."""
    tables = f"{table('docs/')}\n{SHARED}\n\n{other('docs/')}\n{TWICE}\n"
    text, count = MARKED.subn(lambda marks: marks[1] + tables + marks[2], README.read_text(encoding="utf-8"))
    return text if count == 1 else sys.exit(f"{README}: it lacks the marks <!-- results --> and <!-- /results -->")


def store(name: str, file: Path) -> None:
    """Keep of a report what the tables need. Raises SystemExit for an unknown name, or another file."""
    if name not in STUDIES:
        sys.exit(f"{name}: no such study. STUDIES names them: {', '.join(STUDIES)}")
    try:
        report = json.loads(
            file.read_text(encoding="utf-8"), parse_constant=lambda word: sys.exit(f"{file}: it has {word}")
        )
    except (OSError, ValueError) as error:
        sys.exit(f"{file}: it cannot be read ({error})")
    if not isinstance(report, dict) or not report.get("models"):
        sys.exit(f"{file}: it is no report.json of a finished study")
    kept = {key: report[key] for key in OF_REPORT}
    kept["models"] = []
    for model in report["models"]:
        orders = (model["diagnosis"] or {"accuracy": {}})["accuracy"]
        kept["models"].append({**{key: model[key] for key in OF_MODEL}, "shuffled": orders.get("shuffled")})
    (HERE / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--store", name, file]:
            store(name, Path(file))
        case ["--check"]:
            stale = [
                path.name for path, text in ((PAGE, page()), (README, readme())) if path.read_text("utf-8") != text
            ]
            print(*(f"{name} is out of date: python docs/results/make.py" for name in stale), sep="\n")
            sys.exit(bool(stale))
        case []:
            PAGE.write_text(page(), encoding="utf-8")
            README.write_text(readme(), encoding="utf-8")
        case _:
            sys.exit(__doc__)
