"""Two at once: one waits, or says who is there; nothing of either is lost."""

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from making import write_clip

from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.recipe import replace, to_json
from muybridge.runtime.files import is_partial, write_atomic
from muybridge.runtime.locks import is_locked, locked
from muybridge.storage.run import Run
from muybridge.training.loop import resume, train


def message(call, *arguments, **named):
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    return str(caught.value)


@contextmanager
def holder(folder, what="trains in it"):
    """Another process that holds the lock of a folder."""
    program = (
        f"from pathlib import Path; from muybridge.runtime.locks import locked\n"
        f"with locked(Path({str(folder)!r}), {what!r}):\n    print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "an argument"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate("\n")


def test_whoever_finds_a_lock_held_is_told_by_whom(tmp_path):
    with holder(tmp_path) as process:
        assert is_locked(tmp_path)
        said = message(locked(tmp_path, "reads it").__enter__)
        assert said.startswith(f"{tmp_path}: it is in use: process {process.pid} on ")
        assert "(-c 'an argument') reads it. Wait" in said
    assert not is_locked(tmp_path)
    with locked(tmp_path, "reads it"):
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        with locked(tmp_path, "reads it"):
            pass


def test_who_waits_gets_it(tmp_path):
    order = []

    def second():
        with locked(tmp_path, "goes second", wait_seconds=20):
            order.append("second")

    with locked(tmp_path, "goes first"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_that_is_removed_with_its_holder_is_held_by_one(tmp_path):
    """Whoever waited for a file that is gone by then must not hold it beside who makes it anew."""
    inside, most = [], []

    def work(number):
        for _ in range(30):
            with locked(tmp_path, "works", keep=False, wait_seconds=60):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.001)
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_trains_in_is_refused(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    with holder(tmp_path / "run") as process:
        assert f"process {process.pid} on" in message(train, recipe, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.parametrize("second", ["train", "resume"])
def test_a_folder_is_looked_at_again_once_its_lock_is_held(recipe, tmp_path, monkeypatch, second):
    """Between the look and the lock a whole run of another seed may have come to be."""
    folder = tmp_path / "run"
    if second == "resume":
        train(recipe, out=folder)
        (folder / "result.json").unlink()
    lock, calls = Run.lock, []

    @contextmanager
    def late(run):
        calls.append(run)
        if len(calls) == 1:  # before the first one holds it
            if second == "train":
                train(replace(recipe, {"seed": 7}), out=folder)
            else:
                resume(folder)
        with lock(run):
            yield

    monkeypatch.setattr(Run, "lock", late)
    if second == "train":
        assert "holds a run already" in message(train, recipe, out=folder)
        assert Run(folder).recipe().seed == 7
    else:
        resume(folder)  # it finds the run finished
    assert Run(folder).is_finished
    monkeypatch.undo()
    assert (
        train(replace(Run(folder).recipe(), {"data.sha256": None}), out=tmp_path / "alone").metrics_file.read_bytes()
        == (folder / "metrics.jsonl").read_bytes()
    )


def test_temporary_files_of_two_writers_have_names_of_their_own(tmp_path):
    path = tmp_path / "a.txt"

    def write(number):
        for _ in range(50):
            write_atomic(path, str(number) * 100_000)
            text = path.read_text()
            assert text == text[0] * 100_000

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_what_was_killed_while_it_wrote_leaves_nothing_that_counts(tmp_path):
    program = (
        "from muybridge.runtime import files; from pathlib import Path; import os\n"
        f"files.os.replace = lambda *names: os._exit(9)\nfiles.write_atomic(Path({str(tmp_path / 'a.txt')!r}), 'x')"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    [left] = tmp_path.iterdir()
    assert is_partial(left.name)
    write_atomic(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


@pytest.fixture
def videos(tmp_path):
    for label in ("run", "walk"):
        for number in range(6):
            write_clip(tmp_path / "v" / label / f"{number}.avi", 7 * number + 50 * (label == "run"))
    return tmp_path / "v"


def commands_at_once(*commands):
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "muybridge", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for words in commands
    ]  # fmt: skip
    found = [(process.communicate(timeout=300), process.returncode) for process in started]
    for (_, err), code in found:
        assert code in (0, 2), err
        assert "Traceback" not in err
        assert code == 0 or re.search(r"is in use: process \d+ on|holds a run already|is finished already", err), err
    assert 0 in [code for _, code in found]
    return found


@pytest.mark.slow
def test_prepare_twice_at_once(videos, tmp_path):
    alone = prepare(videos, out=tmp_path / "alone.csv").manifest.read_bytes()
    for _ in range(3):
        words = ["prepare", videos, "--out", tmp_path / "set.csv"]
        commands_at_once(words, words)
        assert (tmp_path / "set.csv").read_bytes() == alone
        assert not [path for path in tmp_path.iterdir() if is_partial(path.name)]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pack", "frames", "train", "compare", "report", "evaluate", "diagnose"])
def test_the_same_command_twice_at_once(recipe, made_set, run, tmp_path, command):
    out = tmp_path / "out"
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    words = {
        "pack": ["pack", made_set, "--out", out], "frames": ["frames", made_set, "--out", out],
        "train": ["train", tmp_path / "recipe.json", "--out", out],
        "compare": [
            "compare", "--data", made_set, "--recipe", tmp_path / "recipe.json", "--models", "tsn_resnet_tiny", "--out", out,
        ],
        "report": ["report", run.path, "--out", tmp_path / "r.html"],
        "evaluate": ["evaluate", run.path, "--out", tmp_path / "s.npz"], "diagnose": ["diagnose", run.path],
    }[command]  # fmt: skip
    commands_at_once(words, words)
    if command in ("pack", "frames"):
        assert len(Manifest.load(out)) == 60
    if command == "train":
        assert Run(out).metrics_file.read_bytes() == run.metrics_file.read_bytes()
    assert not [path for path in tmp_path.rglob("*") if is_partial(path.name)]
