"""Every snippet of README and docs is run, as it stands, on small data: shell by the command that is installed, Python by
Python. Marked slow.

Recipes are cut to a taste by `--set`, which comes last and wins. What needs a network, a library that is not here, or a
cluster is replaced or left out: `INSTEAD` and `NOT_HERE` say what, and why.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import motions
from muybridge.data.stores.jpegs import frames
from muybridge.recipe import replace, to_json
from muybridge.recipe.shipped import load
from muybridge.training.loop import train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DOCS = ROOT / "docs"
PAGES = [
    "README.md",
    *(f"docs/{page.relative_to(DOCS)}" for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("networks/*.md")])),
]
PAGES.remove("docs/api.md")  # whose blocks are one program: tests/test_api_page.py

SMALL = {
    "optim.epochs": 1, "optim.warmup_epochs": 0, "optim.min_steps": 0, "optim.batch_size": 8, "clip.size": 64,
    "clip.short_side": 64, "augment.crop": "center", "augment.short_sides": None, "evaluation.every_epochs": 1,
}  # fmt: skip
VIEWS = {"evaluation.num_clips": 1, "evaluation.num_crops": 1}
SHORT = {
    "stop.max_hours": 0.002, "optim.milestones": [0.001], "clip.num_frames": 49, "clip.size": 209, "optim.batch_size": 2, **VIEWS,
}  # fmt: skip
"""For a study by the clock: the fewest frames and pixels that its networks take."""

NOT_HERE = {
    "make ": "what this test is run by",
    "python3 -m venv": "installs",
    "pip install": "installs",
    "srun ": "needs a cluster",
    "ray start ": "needs other machines",
    "torchrun --nnodes": "needs other machines",
    "muybridge compare --study pretraining": "needs ImageNet's weights",
    "muybridge predict i3d --pretrained": "needs Kinetics' weights",
    "muybridge evaluate slowfast_resnet50 --pretrained": "needs Kinetics' weights",
    "python benchmarks/loader.py": "needs the readers that it compares with",
    "python benchmarks/imbalance.py": "takes an hour",
    "OMP_NUM_THREADS=1 python benchmarks/predict.py": "takes minutes",
    "muybridge stream live camera:0": "needs a camera",
    "muybridge stream live rtsp": "needs a camera",
    "muybridge stream live - --raw": "needs frames of another program",
    "muybridge prepare --set": "needs the videos of that set; tests/data/test_sets.py makes some",
    "muybridge train small --model i3d --data flow": "needs pytorch-i3d's weights of flow",
    "muybridge compare --study two_streams": "takes an hour",
    "muybridge compare --study two_stream_features": "needs vectors of both streams; tests/studies/test_two_streams.py has some",
    "muybridge fuse runs/tsm-seed0": "needs three seeds; tests/evaluation/test_fuse.py has some",
    "muybridge prepare --csv train.csv": "needs a list of Kinetics; tests/data/test_sets.py makes one",
    "MUYBRIDGE_RUN=": "runs until it is stopped; tests/test_benchmarks.py starts it",
    "muybridge judge": "needs predictions of another tool; tests/cli/test_judge.py has some",
    "curl ": "needs that service",
    "muybridge measure tsm_resnet50 --num-frames 8": "takes minutes without a GPU",
    "openssl ": "another program",
    "muybridge report study --card signed.json": "needs a key; tests/reporting/test_card.py makes some",
    "muybridge verify signed.json": "needs that card",
    "muybridge export runs/causal": "needs a run that looks back; tests/inference/test_export.py has one",
    "find ": "a pipe; tests/inference/test_answers.py reads paths from standard input",
    "python benchmarks/service.py": "starts that service",
    "muybridge prepare --csv activity_net.json": "needs a list of ActivityNet",
    "jupyter lab": "waits for a browser",
    "python docs/course/make.py": "takes minutes; tests/test_course.py runs notebooks",
    "muybridge prepare --csv train.json": "needs a list of Something-Something",
}
if importlib.util.find_spec("timm") is None:
    NOT_HERE["muybridge train --model i3d@timm"] = "needs timm"
INSTEAD = {
    "--threshold precision=0.95": "--threshold cost_wrong=1,cost_unknown=2",  # six val videos promise nothing
    "--pretrained imagenet": "--pretrained none",  # are fetched
    "features tsn_efficientnet_lite0 --pretrained none": "features tsn_efficientnet_lite0 --pretrained imagenet",  # a package's
    "--pretrained kinetics400": "--pretrained none",
    "hf:MCG-NJU/videomae-base-finetuned-kinetics": "hf:videomae",
    "tsm@mynets:mnasnet": "tsm@mynets:network",  # needs torchvision
    "step-00000120": "STEP",  # of a longer run
    "--out r8": "--out r8 --pretrained none",  # the recipe's are ImageNet's
    "--nproc-per-node 4": "--nproc-per-node 2",
    "muybridge demo --out demo": "muybridge demo --quick --out demo",
    "motions videos2000 --clips 2000": "motions videos2000 --clips 60",
    ",tam_resnet_tiny,i3d_resnet_tiny,s3d_resnet_tiny --seeds 3 --out longer": ",tam_resnet_tiny --epochs 1 --out longer",
    " --cluster ray://FIRST:6379": " --dry-run",  # needs other machines
    "--cluster slurm": "--cluster slurm --dry-run",
    "--models i3d_resnet50 --out big": "--models tsn_resnet_tiny --out big",
    "--out set.csv --shard 1/4": "--out shared.csv --shard 1/4",
    "--shorten 0.05": "--shorten 0.01",
    "benchmarks/cuda.py    ": "benchmarks/cuda.py --device cpu --quick    ",  # needs a GPU
    "--device cpu --quick": "--device cpu --quick --only environment",  # tests/test_benchmarks.py runs all of it
    "--page cuda.json": "--page cuda.json --out cuda.md",  # figures of a CPU are not for the documents
    "--models tsn_resnet50,tam_resnet50 --out mini": "--models tsn_resnet_tiny,tam_resnet_tiny --out mini",
    "--models i3d_resnet50 --out transfer": "--models i3d_resnet_tiny --out transfer",
    "cost_wrong=5,cost_unknown=1": "cost_wrong=1,cost_unknown=1",  # a run of one epoch is wrong too often
    " --trials 16 --halving 3": " --trials 2",  # one epoch has no rungs
    "--models tsn_resnet18,tsm_resnet18 --seeds 3 --out study": "--models tsn_resnet_tiny,tsm_resnet_tiny --seeds 1 --out study",
    "tsn_resnet18,tsm_resnet18,tam_resnet18 --seeds 10 --race": "tsn_resnet_tiny,tsm_resnet_tiny --seeds 4 --race",
    ":log:10 --search-by grid": ":log:2 --search-by grid",
    "motions set --clips 600": "motions set --clips 60",
    "motions made --clips 800": "motions made --clips 60",
    "--set model.options.size=32": "--set model.options.size=64",  # of the clips here
    "predict study some.mp4": "predict run some.mp4",
    "--out tsm8.onnx --int8": "--out tsm8.onnx",  # so few val videos cannot show a loss
    "--out tsm16.onnx --fp16": "--out tsm16.onnx",
    ",tam_resnet_tiny,i3d_resnet_tiny,s3d_resnet_tiny --data set/manifest.csv": " --data set/manifest.csv",
    "--out race --race --seeds 5": "--out race-of-five --race --seeds 4",  # another page's race is there
    "method=tsn,tam --only backbone=resnet50 --only num_frames=8,16": "method=tam --only backbone=resnet50 --only num_frames=8",
}


def blocks(page):
    """The code of a page: its language, its text, and the line that it begins in."""
    text = (ROOT / page).read_text()
    for found in re.finditer(r"^( *)```(sh|python)\n(.*?)^ *```", text, flags=re.M | re.S):
        code = "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True))
        yield found[2], code, text[: found.start()].count("\n") + 1


def named(manifest, path):
    """A manifest under another name."""
    about = json.loads(Path(f"{manifest}.json").read_text())
    about["root"] = str((manifest.parent / about["root"]).resolve())
    shutil.copy(manifest, path)
    Path(f"{path}.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """What the documents take for given: folders of videos, sets, lists, arrays, runs."""
    base = tmp_path_factory.mktemp("world")
    for number, name in enumerate(
        ("set", "ssv2", "k400", "k", "kinetics", "hmdb51", "mini_kinetics", "five", "other", "videos")
    ):
        named(motions(base / "made-videos" / name, clips=60, seed=number).manifest, base / f"{name}.csv")
    videos = sorted((base / "made-videos" / "set").rglob("*.mp4"))
    for folder, name in (("videos", "v_{label}_g{n:02d}_c01.mp4"), ("new", "{n}.mp4")):
        for label in {video.parent.name for video in videos}:
            source = videos if folder == "videos" else sorted((base / "made-videos" / "other").rglob("*.mp4"))
            for n, video in enumerate(one for one in source if one.parent.name == label):
                (base / folder / label).mkdir(parents=True, exist_ok=True)
                shutil.copy(video, base / folder / label / name.format(label=label, n=n))
    for video in (base / "videos").rglob("*.mp4"):
        group = base / "UCF11_updated_mpg" / video.parent.name / video.stem.removesuffix("_c01")
        group.mkdir(parents=True)
        shutil.copy(video, group)
    people = ("anna", "bo", "chi", "dee", "eve", "finn")
    for label in sorted({video.parent.name for video in videos})[:3]:
        (base / "weizmann" / label).mkdir(parents=True)
        for person, video in zip(people, (one for one in videos if one.parent.name == label), strict=False):
            shutil.copy(video, base / "weizmann" / label / f"{person}_{label}.mp4")
    (base / "others" / "juggle").mkdir(parents=True)
    for n, video in enumerate(sorted((base / "made-videos" / "five").rglob("*.mp4"))[:8]):
        shutil.copy(video, base / "others" / "juggle" / f"{n}.mp4")
    for name in ("some", "walk"):
        shutil.copy(videos[0], base / f"{name}.mp4")
    frames(base / "set.csv", out=base / "frames-made")
    (base / "frames-made").rename(base / "frames")
    for name in ("train", "val", "classes"):
        shutil.copy(base / "frames" / f"{name}.txt", base / f"{name}.txt")
    shutil.copytree(base / "made-videos" / "set", base / "moved")
    named(base / "moved" / "manifest.csv", base / "moved" / "set.csv")
    import numpy as np

    rng = np.random.default_rng(0)
    np.save(base / "clips.npy", rng.integers(0, 255, (40, 8, 32, 32, 3), dtype=np.uint8))
    np.save(base / "labels.npy", np.array(["a", "b"] * 20))
    (base / "mynets.py").write_text(
        "from torch import nn\n\n\ndef network():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))\n"
    )
    import transformers

    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        image_size=224, patch_size=32, num_frames=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=5,
    )  # fmt: skip
    transformers.AutoModelForVideoClassification.from_config(config).save_pretrained(base / "videomae")
    recipe = replace(load("small"), {**SMALL, "data.manifest": str(base / "set.csv"), "evaluation.num_clips": 2})
    (base / "base.json").write_text(to_json(recipe))
    for name, model in (
        ("tsm", "tsm_resnet18"), ("tam", "tam_resnet18"), ("i3d", "i3d_resnet18"), ("tsn", "tsn_resnet18"),
        ("deep", "tsn_resnet50"),
    ):  # fmt: skip
        train(replace(recipe, {"model.name": model}), out=base / "made-runs" / name)
    return base


GIVEN = {
    "docs/calibration.md": {"run": "tsm"},
    "docs/cluster.md": {"runs/tsm": "tsm"},
    "docs/diagnosis.md": {"run": "tsm"},
    "docs/evaluation.md": {"run": "tsm"},
    "docs/export.md": {"runs/tsm": "tsm"},
    "docs/learning.md": {"runs/tsm": "tsm"},
    "docs/motion.md": {"runs/rgb": "tsn", "runs/flow": "tsm"},
    "docs/predict.md": {"run": "tsm"},
    "docs/production.md": {"runs/tsm": "tsm"},
    "docs/models.md": {"runs/tsm_resnet18": "tsm", "runs/tsn_resnet50": "deep", "runs/kinetics": "tsn"},
    "docs/recipes.md": {"runs/i3d": "i3d"},
    "docs/report.md": {"runs/tsm": "tsm", "runs/tam": "tam", "other/i3d": "i3d"},
}
"""Runs that a page takes for given."""


@pytest.fixture
def world(base, tmp_path):
    """One of its own for a page, at the end of the same length of path: manifests name their root."""
    shutil.copytree(base, tmp_path / "world", dirs_exist_ok=True)
    return tmp_path / "world"


def settings(changes):
    return [word for field, value in changes.items() for word in ("--set", f"{field}={json.dumps(value)}")]


def small(words):
    """The words of a command with those that cut it to a taste."""
    words = list(words)
    command = words[words.index("muybridge") + 1]
    if command == "measure":  # the largest batch fills the memory
        return [*words, "--no-largest"]
    if command not in ("train", "compare") or "--resume" in words:
        return words
    if "equal_time" in words:
        return [*words, *settings(SHORT)]
    changes = SMALL | VIEWS
    given = {words[index + 1].partition("=")[0] for index, word in enumerate(words) if word == "--set"}
    for option in {"--epochs", "--steps"}.intersection(words):  # a length is given once
        words[words.index(option) + 1] = "1"
        changes = {field: value for field, value in changes.items() if field not in ("optim.epochs", "optim.min_steps")}
    hf = any(word.startswith("hf:") for word in words)
    changes = {field: value for field, value in changes.items() if not (hf and field in given)}
    follows = words[words.index(command) + 1]
    is_cut = bool({"--epochs", "--steps"}.intersection(words)) or (follows.startswith("-") and "--study" not in words)
    whole = [] if is_cut else ["--shorten", "0.01"]
    if whole:  # a schedule of its own
        changes = {field: value for field, value in changes.items() if field.partition(".")[0] != "optim"}
        changes["optim.batch_size"] = 8
    if "mine.py:sizes" in words:  # which varies them
        del changes["clip.size"], changes["clip.short_side"]
    if ("--study" in words or whole) and "--pretrained" not in words:
        changes["model.pretrained"] = None
    return [*words, *([] if "--shorten" in words else whole), *settings(changes)]


def video_ids(made):
    """Ids of test videos."""
    manifest = Manifest.load(made)
    return iter(manifest.text("id", manifest.split("test")).tolist())


def fits(line):
    return next((why for start, why in NOT_HERE.items() if line.startswith(start)), None)


def run(words, world):
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "BROWSER": "true", "HF_HUB_OFFLINE": "1",
        "SMALL_SETTINGS": json.dumps(SMALL | VIEWS), "HOME": str(world),
    }  # fmt: skip
    found = subprocess.run(words, cwd=world, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert found.returncode == 0, f"{shlex.join(map(str, words))}\n{found.stdout[-2000:]}\n{found.stderr[-4000:]}"
    return found


def globbed(word, line, world):
    """A word as a shell expands it: patterns in quotes are for the command."""
    if "*" not in word or f"'{word}'" in line or f'"{word}"' in line:
        return [word]
    return sorted(str(path.relative_to(world)) for path in world.glob(word)) or [word]


def shell(code, world):
    """Each line that runs, one after the other."""
    for line in code.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#") or fits(line):
            continue
        for words, others in INSTEAD.items():
            line = line.replace(words, others)
        if "STEP" in line:
            line = line.replace("STEP", max((world / "runs" / "tsm" / "checkpoints").glob("step-*")).name)
        for video in re.findall(r"--video (\S+)", line):  # of a larger set
            made = world / ("videos2000/manifest.csv" if "longer" in line else "set.csv")
            line = line.replace(video, next(video_ids(made)))
        words = [one for word in shlex.split(line, comments=True) for one in globbed(word, line, world)]
        if "--resume" in words:  # a run that was stopped
            (world / words[words.index("--resume") + 1] / "result.json").unlink(missing_ok=True)
        assignments = []
        while re.match(r"[A-Z_]+=", words[0]):
            assignments.append(words.pop(0))
        if words[0] == "python":
            words = [sys.executable, str(ROOT / words[1]), *words[2:], *BENCHMARKS[words[1]]]
        else:
            words = small(words)
        run([*(["env", *assignments] if assignments else []), *words], world)


BENCHMARKS = {
    "benchmarks/cuda.py": [],
    "benchmarks/scale.py": ["--quick"],
    "benchmarks/imbalance.py": ["--clips", "450", "--seeds", "1", "--epochs", "1"],
    "benchmarks/models.py": ["tsn_resnet_tiny", "tsm_resnet_tiny", "--rounds", "1"],
    "benchmarks/evaluate.py": [
        "--rounds",
        "1",
        "--videos",
        "2",
        "--models",
        "tsn_resnet_tiny",
        "--clips",
        "2",
        "--crops",
        "1",
    ],
    "benchmarks/train.py": ["--rounds", "1", "--steps", "1", "--models", "tsn_resnet_tiny"],
}

FIRST = {
    "docs/diagnosis.md": ["muybridge compare --data set.csv --models tsn_resnet18,tsm_resnet18 --out study"],
    "docs/cards.md": ["muybridge compare --data set.csv --models tsn_resnet18,tsm_resnet18 --out study"],
    "docs/report.md": ["muybridge compare --data set.csv --models tsn_resnet18,tsm_resnet18,i3d_resnet18 --out study"],
    "docs/evaluation.md": [
        "muybridge prepare new --all test --out new.csv",
        "muybridge prepare others --all test --out others.csv",
    ],
    "docs/benchmarks.md": ["muybridge prepare weizmann --out weizmann.csv --group '/([a-z]+)_'"],
}
"""What a page takes for done."""


@pytest.mark.parametrize("page", [page for page in PAGES if any(True for _ in blocks(page))])
def test_every_snippet_runs(page, world):
    for name, made in GIVEN.get(page, {}).items():
        shutil.copytree(world / "made-runs" / made, world / name)
    for line in FIRST.get(page, []):
        shell(line, world)
    for language, code, number in blocks(page):
        if language == "sh":
            shell(code, world)
            continue
        name = re.match(r"# (\w+\.py)\n", code)
        if "torchvision" in code or "google.colab" in code:  # which are not here
            continue
        if page.startswith("docs/networks/"):  # an idea in a few lines, no program
            continue
        file = world / (name[1] if name else f"snippet_{number}.py")
        if name is None and page == "docs/diagnosis.md":
            code = f"import muybridge\n{code}".replace("grow/00024.mp4", next(video_ids(world / "set.csv")))
        file.write_text(code)
        run([sys.executable, str(ROOT / "tests" / "small_driver.py"), str(file)], world)
