"""Job arrays of Slurm and PBS, against stand-ins of `sbatch` and `qsub` that run what they are given."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from command import call, document
from test_work import Results, said, scores

import muybridge
from muybridge.errors import UserError
from muybridge.recipe import replace, to_json
from muybridge.runtime.leases import Leases
from muybridge.storage.run import Run
from muybridge.studies import work as working
from muybridge.studies.batch import MARKS, submit

STAND_IN = """#!{python}
# Runs the elements of the array in its head, as many at once as it says, in the background.
import os, re, subprocess, sys
script = open(sys.argv[1]).read()
first, last, most = re.search(r"(?:--array=|#PBS -J )([0-9]+)-([0-9]+)%([0-9]+)", script).groups()
print("Submitted batch job 77" if "SBATCH" in script else "77[].server", flush=True)
if os.fork():
    sys.exit()
os.setsid()
for stream in (1, 2):  # whoever called it does not wait for the jobs
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
open(sys.argv[1] + ".pid", "w").write(str(os.getpid()))
left, running = list(range(int(first), int(last) + 1)), []
output = open(sys.argv[1] + ".txt", "a")
while left or running:
    while left and len(running) < int(most):
        environment = dict(os.environ, SLURM_ARRAY_TASK_ID=str(left.pop(0)))
        running.append(subprocess.Popen(["bash", sys.argv[1]], env=environment, stdout=output, stderr=output))
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    running = [process for process in running if process.poll() is None]
os.unlink(sys.argv[1] + ".pid")
"""


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "qsub"):
        file = folder / name
        file.write_text(STAND_IN.format(python=sys.executable))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture(scope="module")
def short(recipe):
    return replace(recipe, {"optim.epochs": 4, "evaluation.num_clips": 1, "evaluation.num_crops": 1})


def asked(short, out, **more):
    return {"data": short.data.manifest, "recipe": short, "out": out, **more}


def test_the_script_of_nine_runs_on_four_gpus(short, tmp_path):
    made = muybridge.compare(
        ["tsn_resnet_tiny", "tsm_resnet_tiny", "tam_resnet_tiny"], **asked(short, tmp_path / "my study", seeds=3),
        cluster="slurm", jobs=4, time="08:00:00", partition="gpu", extra=["#SBATCH --mem=32G"], plan_only=True,
    )  # fmt: skip
    lines = made.submitted.script.read_text().splitlines()
    assert made.submitted.answer is None
    assert {
        "#SBATCH --array=1-9%4", "#SBATCH --gpus-per-node=1", "#SBATCH --time=08:00:00", "#SBATCH --partition=gpu",
        "#SBATCH --mem=32G", "#SBATCH --signal=B:TERM@120", "#SBATCH --job-name=muybridge-my-study",
    } <= set(lines)  # fmt: skip
    assert (
        lines[-1] == f"exec {sys.executable} -m muybridge work '{tmp_path / 'my study'}' --max-runs 1 --lost-after 60"
    )
    assert subprocess.run(["bash", "-n", made.submitted.script]).returncode == 0


def test_pbs_and_several_gpus_a_run(short, tmp_path):
    recipe_file = tmp_path / "recipe.json"
    recipe_file.write_text(to_json(short))
    words = [
        "compare", "--models", "tsn_resnet_tiny,tsm_resnet_tiny", "--data", short.data.manifest, "--recipe", recipe_file,
        "--out", tmp_path / "s", "--cluster", "pbs", "--gpus-per-run", 4, "--queue", "long", "--time", "1:00:00", "--dry-run",
    ]  # fmt: skip
    made = document(call(*words, "--json"))
    lines = (tmp_path / "s" / "cluster" / "pbs.sh").read_text().splitlines()
    assert {"#PBS -J 1-2", "#PBS -l select=1:ncpus=16:ngpus=4", "#PBS -l walltime=01:00:00", "#PBS -q long"} <= set(
        lines
    )
    assert "torch.distributed.run --standalone --nproc-per-node=4 -m muybridge work" in lines[-1]
    assert made["array"] == {
        "script": str(tmp_path / "s" / "cluster" / "pbs.sh"), "elements": 2, "runs_each": 1, "answer": None,
        "command": ["qsub", str(tmp_path / "s" / "cluster" / "pbs.sh")],
    }  # fmt: skip


def test_what_cannot_be_submitted_is_refused(short, tmp_path, monkeypatch):
    models, where = ["tsn_resnet_tiny"], asked(short, tmp_path / "s", cluster="slurm")
    for limit in ("tomorrow", "30:00", "1:99:00", "00:00:00", "1-30:00:00", "08:00:00\n", "٠8:00:00"):
        with pytest.raises(UserError, match=r"--time: .* is not a time\. Give it as HH:MM:SS, or as D-HH:MM:SS"):
            muybridge.compare(models, **where, time=limit)
    for line in ("#PBS -V", "#SBATCHx", "#SBATCH --mem=1G\ntouch x", "#SBATCH --mem=1G\rtouch x", ""):
        with pytest.raises(
            UserError, match=r"--extra: .* is not one line for slurm\. Begin a line of the head with '#SBATCH '"
        ):
            muybridge.compare(models, **where, extra=[line])
    for partition in ("gpu\ntouch x", "gpu --uid=0", "$(touch x)", "", "-x"):
        with pytest.raises(UserError, match=r"--partition: .* is not a name\. Give one word"):
            muybridge.compare(models, **where, partition=partition)
    with pytest.raises(UserError, match=r"--out: .*s\\n#SBATCH --uid=0' has a line break or the like"):
        muybridge.compare(models, **where | {"out": f"{tmp_path / 's'}\n#SBATCH --uid=0"})
    assert list(tmp_path.iterdir()) == [], "nothing was planned"
    with pytest.raises(UserError, match=r"--mixed-versions: it is for runs on a cluster. Give it with --cluster ray"):
        muybridge.compare(models, **where, mixed_versions=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"--cluster slurm: sbatch is not on this machine.*--dry-run"):
        muybridge.compare(models, **where)
    refusing = tmp_path / "sbatch"
    refusing.write_text("#!/bin/sh\nprintf 'sbatch: error:\\n invalid partition specified: gpu.\\n' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UserError, match=r"sbatch: error: invalid partition specified: gpu\. Change the options"):
        muybridge.compare(models, **where)
    refusing.write_bytes(b"#!/bin/sh\nprintf 'job \\377 7'\n")
    assert muybridge.compare(models, **where).submitted.answer == "job \ufffd 7"


def head_and_body(plan, system, **options):
    made = submit(plan.path, system, only_write=True, **options)
    lines = made.script.read_text().splitlines()
    assert subprocess.run(["bash", "-n", made.script]).returncode == 0
    first = next(number for number, line in enumerate(lines) if number and not line.startswith(f"{MARKS[system]} "))
    return made, lines[:first], lines[first:]


def test_times_are_written_as_each_system_reads_them(short, tmp_path):
    plan = muybridge.compare(["tsn_resnet_tiny"], **asked(short, tmp_path / "s", plan_only=True))
    for limit, written in (("1-02:03:04", "26:03:04"), ("8:00:00", "08:00:00"), ("120:00:00", "120:00:00")):
        assert f"#SBATCH --time={written}" in head_and_body(plan, "slurm", time=limit)[1]
        assert f"#PBS -l walltime={written}" in head_and_body(plan, "pbs", time=limit)[1]


def test_commands_go_before_the_worker_and_marked_lines_into_the_head(short, tmp_path):
    plan = muybridge.compare(["tsn_resnet_tiny"], **asked(short, tmp_path / "s", plan_only=True))
    _, head, body = head_and_body(plan, "pbs", extra=["module load cuda", "#PBS -V", "export X=1"])
    assert "#PBS -V" in head
    assert [line for line in body if not line.startswith("#")][:2] == ["module load cuda", "export X=1"]
    assert body[-1].startswith("exec ")


def test_a_percent_sign_in_the_path_is_no_pattern_of_slurms(short, tmp_path):
    plan = muybridge.compare(["tsn_resnet_tiny"], **asked(short, tmp_path / "a%A", plan_only=True))
    [output] = [line for line in head_and_body(plan, "slurm")[1] if "--output" in line]
    assert output == f"#SBATCH --output={tmp_path}/a%%A/cluster/slurm-%A-%a.txt"


def test_runs_share_elements_where_an_array_would_be_longer_than_slurm_takes(short, tmp_path):
    plan = muybridge.compare(["tsn_resnet_tiny"], **asked(short, tmp_path / "s", plan_only=True))
    content = json.loads((plan.path / "plan.json").read_text())
    for open_runs, elements, each in ((1000, 1000, 1), (1001, 501, 2), (2500, 834, 3)):
        content["runs"] |= {f"more-{number}": {"recipe": {}} for number in range(open_runs - 1)}
        (plan.path / "plan.json").write_text(json.dumps(content))
        made, head, body = head_and_body(plan, "slurm")
        assert (made.elements, made.runs_each) == (elements, each)
        assert f"#SBATCH --array=1-{elements}" in head
        assert f"--max-runs {each} " in body[-1]


def test_a_dry_run_checks_the_options_of_a_cluster(short, tmp_path):
    recipe_file = tmp_path / "recipe.json"
    recipe_file.write_text(to_json(short))
    words = [
        "compare", "--models", "tsn_resnet_tiny", "--data", short.data.manifest, "--recipe", recipe_file, "--out",
        tmp_path / "s", "--dry-run",
    ]  # fmt: skip
    for options, message in (
        (["--cluster", "slrum"], "--cluster: 'slrum' is unknown. Did you mean 'slurm'"),
        (["--cluster", "ray://"], "--cluster: 'ray://' names no machine. Give ray://HOST:PORT"),
        (["--time", "08:00:00"], "--time: it is for runs on a cluster"),
        (["--jobs", 3], "--jobs: it is for runs on a cluster"),
        (["--partition", ""], "--partition: it is for runs on a cluster"),
        (["--plan-only", "--search", "optim.lr=1,2"], "it is decided here. Leave out --plan-only"),
        (["--cluster", "ray", "--race"], "it is decided here. Leave out --cluster"),
    ):
        made = call(*words, *options)
        assert (made.exit_code, message in made.stderr) == (2, True), made.stderr


def test_commands_to_copy_are_quoted(short, tmp_path):
    recipe_file = tmp_path / "recipe.json"
    recipe_file.write_text(to_json(short))
    words = ["compare", "--models", "tsn_resnet_tiny", "--data", short.data.manifest, "--recipe", recipe_file]
    study = tmp_path / "my study"
    planned = call(*words, "--out", study, "--plan-only").stdout
    assert f"muybridge work '{study}'" in planned
    assert (
        f"sbatch '{study}/cluster/slurm.sh'" in call(*words, "--out", study, "--cluster", "slurm", "--dry-run").stdout
    )


@pytest.mark.slow
@pytest.mark.parametrize(("system", "command"), [("slurm", "sbatch"), ("pbs", "qsub")])
def test_an_array_of_twelve_that_is_killed_and_submitted_again(short, stand_ins, tmp_path, system, command):
    models = ("tsn_resnet_tiny", "tsm_resnet_tiny", "tam_resnet_tiny")
    out = tmp_path / "s"
    options = {"cluster": system, "jobs": 3, "lost_after": 8.0}
    made = muybridge.compare(models, **asked(short, out, seeds=4), **options)
    assert (made.submitted.elements, "77" in made.submitted.answer) == (12, True)
    pid = made.submitted.script.with_name(f"{system}.sh.pid")
    with Results(out) as results:
        while len(results.seen) < 4:
            time.sleep(0.05)
        os.killpg(int(pid.read_text()), signal.SIGKILL)
        pid.unlink()
        left = 12 - len(Leases(out / working.FOLDER).standing().done)
        again = muybridge.compare(models, **asked(short, out, seeds=4), **options)
        assert again.submitted.elements in (left, left - 1), "the runs that are open"
        while not pid.exists():
            time.sleep(0.05)
        while pid.exists():
            time.sleep(0.2)
    whole = muybridge.compare(models, **asked(short, tmp_path / "serial", seeds=4))
    assert {name: len(stamps) for name, stamps in results.seen.items()} == {run.name: 1 for run in whole.runs}
    assert scores(out) == scores(whole.path)
    assert said(out) == said(whole.path)


@pytest.mark.slow
def test_torchrun_restarts_a_run_at_its_step(short, tmp_path):
    """One of two processes is killed: torchrun starts both again, and the run continues from its last checkpoint."""
    long = replace(short, {"optim.epochs": 20})
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def plan(name):
        return muybridge.compare(["tsn_resnet_tiny"], **asked(long, tmp_path / name, plan_only=True)).runs[0]

    def start(run):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3",
            "-m", "muybridge", "work", str(run.path.parents[1]), "--lost-after", "6", "--set", "runtime.checkpoint_steps=2",
        ]  # fmt: skip
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)

    killed, undisturbed = plan("killed"), plan("whole")
    process = start(killed)
    while not (killed.checkpoints / "last").exists() or killed.saved_step() < 8:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(children[1]), signal.SIGKILL)
    told = process.communicate(timeout=300)[1]
    assert process.returncode == 0, told
    assert "resuming at step" in told
    whole = start(undisturbed)
    told = whole.communicate(timeout=300)[1]
    assert whole.returncode == 0, told
    assert killed.metrics_file.read_bytes() == undisturbed.metrics_file.read_bytes()
    assert Run(killed.path).environment()["processes"] == 2
