"""What many runs and many machines cost: finding the next of 5,000 runs, listing them, and packing by two nodes.

    python benchmarks/cluster.py MANIFEST [--runs 5000] [--json]       # plans on copies of a manifest of `muybridge motions`
    python benchmarks/cluster.py MANIFEST --pack [--json]              # packs by one node, and by two nodes of Ray

Seconds are of the wall; `cpu` beside them is what this process computed, on a machine that others use, too.
"""

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))


@contextmanager
def timed(rows: list[dict[str, Any]], what: str) -> Iterator[None]:
    """Add a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    rows.append({"what": what, "seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu})


def many_runs(manifest: str, count: int, folder: Path) -> list[dict[str, Any]]:
    """Plan, find, list."""
    from made_runs import make_run

    import muybridge
    from muybridge.recipe import Recipe, Runtime, replace, to_json
    from muybridge.storage import plan as plans
    from muybridge.storage.study import StudyRecord
    from muybridge.studies.work import FOLDER, Worker
    from muybridge.studies.workplace import Workplace

    rows: list[dict[str, Any]] = []
    sets: list[str] = []
    for name in "abc":
        sets.append(str(folder / name))
        shutil.copytree(Path(manifest).parent, sets[-1])
    study, models = folder / "study", ["tsn_resnet_tiny", "tsm_resnet_tiny"]
    recipe = replace(Recipe(), {"clip.size": 32, "optim.epochs": 1, "optim.warmup_epochs": 0})
    with timed(rows, f"plan {count} runs over 3 sets"):
        muybridge.compare(models, data=sets, recipe=recipe, seeds=-(-count // 6), out=study, plan_only=True)
    names = list(plans.StoredPlan.load(study).runs)

    def take() -> str:
        plans._load.cache_clear()
        worker = Worker(Workplace.at(study, Runtime()))
        with ExitStack() as held:
            return worker._take(held)

    with timed(rows, "find the first run"):
        assert take() == names[0]
    for name in names[:-1]:
        (study / FOLDER / f"{name}.done").write_text("{}")
    with timed(rows, "find the last open run"):
        assert take() == names[-1]
    made = make_run(folder / "made")
    stored = plans.StoredPlan.load(study)
    for name in names:
        shutil.copytree(made.path, study / "runs" / name)
        (study / "runs" / name / "recipe.json").write_text(to_json(replace(stored.recipe(name), {"precision": "fp32"})))
    with timed(rows, "muybridge runs, all of them finished"):
        assert len(muybridge.runs(study)) == len(names)
    with timed(rows, "the report's start: which runs are finished"):
        record = StudyRecord.load(study)
        assert all(record.run(name).is_finished for name in record.runs)
    return rows


def packing(manifest: str, folder: Path) -> list[dict[str, Any]]:
    """One node and two nodes, each with one CPU."""
    from ray_nodes import Nodes

    rows: list[dict[str, Any]] = []
    for number in (1, 2):
        nodes = Nodes(Path(tempfile.mkdtemp(prefix="mbray", dir="/tmp")))
        try:
            for name in ("head", "second")[:number]:
                nodes.start(name, cpus=1, head=name == "head")
            command = [sys.executable, "-m", "muybridge", "pack", manifest, "--out", str(folder / f"by{number}"), "--cluster",
                       f"ray://{nodes.address}", "--json"]  # fmt: skip
            with timed(rows, f"pack by {number} node(s) of one CPU"):
                said = subprocess.run(command, env=nodes.environment, check=True, capture_output=True, text=True).stdout
            rows[-1]["videos_per_s"] = json.loads(said)["videos"] / rows[-1]["seconds"]
        finally:
            for name in ("second", "head"):
                nodes.kill(name)
            shutil.rmtree(nodes.folder, ignore_errors=True)
    with timed(rows, "pack --jobs 1, no cluster"):
        command = [sys.executable, "-m", "muybridge", "pack", manifest, "--out", str(folder / "alone"), "--jobs", "1"]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    names = sorted(path.name for path in (folder / "alone").iterdir())
    for number in (1, 2):
        same, differing, failed = filecmp.cmpfiles(folder / "alone", folder / f"by{number}", names, shallow=False)
        assert (sorted(same), differing, failed) == (names, [], []), (differing, failed)
    rows.append({"what": f"the same bytes in {len(names)} files", "seconds": 0.0, "cpu": 0.0})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        found = (
            packing(arguments.manifest, place)
            if arguments.pack
            else many_runs(arguments.manifest, arguments.runs, place)
        )
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for row in found:
            more = f"  {row['videos_per_s']:.1f} videos/s" if "videos_per_s" in row else ""
            print(f"{row['what']:50} {row['seconds']:8.2f} s  cpu {row['cpu']:7.2f} s{more}")
