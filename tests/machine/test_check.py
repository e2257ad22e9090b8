"""`check` says what is wrong with a machine: broken ones are made of stubs, scripts and folders as a broken machine has them."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from command import call

import muybridge
from muybridge.machine import check as checking
from muybridge.machine import codec, decoding, disk, finding, graphics, memory, packages, processor, programs
from muybridge.machine.finding import Asked, private
from muybridge.runtime.processors import Processors

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def needed(name):
    """What the package asks for, as pyproject.toml has it."""
    return next(text for text in PROJECT["dependencies"] if text.startswith(name))


@pytest.fixture
def asked(tmp_path):
    """What looks are asked; nothing is measured."""
    for name in ("folder", "scratch"):
        (tmp_path / name).mkdir()
    return Asked(tmp_path / "folder", tmp_path / "scratch", is_quick=True)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Puts a module in front of the installed one, for the processes that look."""
    place = tmp_path / "stubs"

    def write(name, text):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text(textwrap.dedent(text))
        monkeypatch.setattr(sys, "path", [str(place), *sys.path])

    return write


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a script in the place of nvidia-smi."""

    def write(text):
        script = tmp_path / "bin" / "nvidia-smi"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return write


def answers(*names, asked, seconds=60.0):
    """Findings of looks in a process of their own, by their checks."""
    question = {"folder": str(asked.folder), "scratch": str(asked.scratch), "quick": asked.is_quick}
    return {one.check: one for one in checking._answers(names, question, seconds)}


def found(look, asked):
    return {one.check: one for one in look(asked)}


GPU_TORCH = """
    __version__ = "2.9.1+cu128"
    class version:
        cuda, hip = "12.8", None
    class cuda:
        is_available = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 1)
        get_device_name = staticmethod(lambda index: "NVIDIA GeForce GTX 1080")
        get_device_capability = staticmethod(lambda index: (6, 1))
        get_arch_list = staticmethod(lambda: ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"])
"""
"""A torch for CUDA, as far as the look asks it."""
CPU_TORCH = """
    __version__ = "2.13.0+cpu"
    class version:
        cuda = hip = None
"""


def test_a_torch_that_cannot_be_imported_is_one_line_and_the_other_looks_are_taken(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    library = tmp_path / "anna" / "venv" / "lib" / "libcudart.so.12"
    stub("torch", f"raise ImportError({f'{library}: cannot open shared object file'!r})")
    work = tmp_path / "work"
    work.mkdir()
    result = call("check", work, "--quick", "--json")
    assert result.exit_code == 1, result.output
    told = json.loads(result.stdout)
    assert not told["works"]
    by_check = {one["check"]: one for one in told["findings"]}
    fault = by_check["torch-cannot-be-imported"]
    assert "libcudart.so.12: cannot open shared object file" in fault["text"]
    assert fault["remedy"].startswith("pip install")
    assert [one["check"] for one in told["findings"] if one["rank"] == "fault"] == ["torch-cannot-be-imported"]
    assert {"python", "ffmpeg", "folder-writable"} <= set(by_check)
    assert "Traceback" not in result.output
    assert "anna" not in result.output
    assert not list(work.iterdir())
    assert not list(Path(tempfile.gettempdir()).glob("muybridge-check-*"))


def test_an_empty_name_is_no_folder():
    result = call("check", "", "--quick")
    assert result.exit_code == 2
    assert "the name of the folder is empty" in result.stderr


def test_a_missing_decoder_is_a_fault(stub, asked):
    stub("av", "raise ModuleNotFoundError(\"No module named 'av'\")")
    (fault,) = answers("decoding", asked=asked).values()
    assert (fault.check, fault.rank, fault.look) == ("av-cannot-be-imported", "fault", "decoding")
    assert fault.remedy == "pip install --force-reinstall av"


def test_a_crash_keeps_what_was_found_before_it(stub, asked):
    stub("torch", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    told = answers("processor", "graphics", asked=asked)
    assert "processors" in told
    assert told["graphics-crashed"].rank == "fault"
    assert "SIGSEGV" in told["graphics-crashed"].text
    assert "torch" in told["graphics-crashed"].remedy


def test_a_look_that_hangs_is_ended_with_what_it_started(stub, asked):
    mark = asked.scratch / "pid"
    stub("torch", f"""
        import os, subprocess, time
        child = subprocess.Popen(["sleep", "300"])
        open({str(mark)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(300)
    """)  # fmt: skip
    started = time.monotonic()
    told = answers("processor", "graphics", asked=asked, seconds=5.0)
    assert time.monotonic() - started < 30
    assert "processors" in told
    assert (told["graphics-hangs"].rank, told["graphics-hangs"].look) == ("fault", "graphics")
    for number in map(int, mark.read_text().split()):
        wait_for(lambda n=number: not psutil.pid_exists(n) or psutil.Process(n).status() == psutil.STATUS_ZOMBIE)


def test_what_a_program_leaves_behind_is_ended_with_it(tmp_path, monkeypatch):
    (tmp_path / "leaver").write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/pid\n")
    (tmp_path / "leaver").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "no answer" in programs.answer_of("leaver", seconds=1.0)[1]
    number = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(("driver", "torch", "check", "remedy"), [
    ("470.57.02", GPU_TORCH, "driver-too-old", "torch==2.7.1 --index-url https://download.pytorch.org/whl/cu118"),
    ("535.104.05", CPU_TORCH, "torch-without-cuda", "torch --index-url https://download.pytorch.org/whl/cu126"),
    ("580.65.06", CPU_TORCH, "torch-without-cuda", "--force-reinstall torch"),
    ("535.104.05", GPU_TORCH, "gpu-of-another-architecture", "cu126"),
    ("440.33.01", CPU_TORCH, "torch-without-cuda", "no torch is left for driver 440.33.01"),
    ("440.33.01", GPU_TORCH, "driver-too-old", "no torch is left for driver 440.33.01"),
])  # fmt: skip
def test_driver_torch_and_gpu_that_do_not_fit(stub, nvidia_smi, asked, driver, torch, check, remedy):
    nvidia_smi(f'echo "NVIDIA A100-SXM4-40GB, {driver}, 40960, 12"')
    stub("torch", torch)
    told = answers("graphics", asked=asked)
    assert list(told) == [check]
    assert told[check].rank == ("doubt" if check == "torch-without-cuda" else "fault")
    assert told[check].remedy.endswith(remedy) or "cu126" in told[check].remedy
    if torch == CPU_TORCH:
        assert told[check].figures["gpus"] == [
            {"name": "NVIDIA A100-SXM4-40GB", "total_bytes": 40960 * 2**20, "used_bytes": 12 * 2**20}
        ]


@pytest.mark.parametrize(("capability", "built_for", "runs"), [
    ((8, 6), ["sm_80"], True), ((8, 0), ["sm_86"], False), ((9, 0), ["sm_80", "compute_80"], True),
    ((6, 1), ["sm_75", "compute_90"], False), ((9, 0), ["sm_90a"], True), ((10, 0), ["sm_90a", "compute_90a"], False),
    ((12, 0), ["sm_90", "sm_120"], True), ((12, 1), ["sm_100"], False), ((9, 0), ["gfx90a"], False),
])  # fmt: skip
def test_kernels_run_on_gpus_by_the_rule_of_cuda(capability, built_for, runs):
    assert graphics.runs_on(capability, built_for) is runs


def test_an_nvidia_smi_that_hangs_is_left(nvidia_smi, monkeypatch):
    nvidia_smi("sleep 300")
    monkeypatch.setattr(graphics, "SMI_SECONDS", 0.5)
    monkeypatch.setattr(graphics, "DRIVER", Path("/nowhere"))
    started = time.monotonic()
    driver, _, why = graphics.asked_driver()
    assert time.monotonic() - started < 10
    assert (driver, why) == ("", "it gives no answer within 0.5 seconds")


def test_the_driver_is_read_from_the_system_where_nvidia_smi_fails(nvidia_smi, tmp_path, monkeypatch):
    nvidia_smi('echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9')
    version = tmp_path / "version"
    version.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version\n"
    )
    monkeypatch.setattr(graphics, "DRIVER", version)
    driver, _, why = graphics.asked_driver()
    assert driver == "535.104.05"
    assert "couldn't communicate" in why
    assert programs.answer_of("no-such-program", seconds=1.0) == ("", "it is not installed")


def test_a_program_that_prints_no_text_is_not_called_a_hang(nvidia_smi, monkeypatch):
    nvidia_smi(r"printf '\377\376\200'")
    monkeypatch.setattr(graphics, "DRIVER", Path("/nowhere"))
    assert graphics.asked_driver() == ("", graphics._on_the_bus(), "")
    nvidia_smi("echo it gives you no answer; exit 1")
    assert not graphics.asked_driver()[2].startswith("it gives no answer")


def test_only_numbers_are_taken_for_numbers(nvidia_smi, asked, monkeypatch):
    monkeypatch.setattr(graphics, "DRIVER", Path("/nowhere"))
    nvidia_smi(f'echo "A, 550, ², 1"; echo "B, 550, {"9" * 5000}, 1"; echo "C, 550.1/../home/bob <b>, 10, 1"')
    driver, cards, _ = graphics.asked_driver()
    assert (driver, [card["name"] for card in cards]) == ("", ["C"])
    assert graphics.major("²") == 0
    for text in ("²", "9" * 5000, "٣", "-1"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert "processors" in str(list(found(processor.look, asked)))


def test_a_gpu_without_a_driver_is_seen_on_the_bus(tmp_path, monkeypatch):
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"), ("c", "0x8086", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    monkeypatch.setattr(graphics, "DEVICES", tmp_path)
    assert graphics._on_the_bus() == [{"name": "an NVIDIA GPU"}]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts metadata of packages in front of the installed ones."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def write(name, version, *lines):
        folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines]) + "\n"
        )

    extras = [
        f"Requires-Dist: {one}; extra == '{extra}'"
        for extra, needs in project["optional-dependencies"].items() for one in needs
    ]  # fmt: skip
    write("muybridge", muybridge.__version__, f"Requires-Python: {project['requires-python']}",
          *(f"Requires-Dist: {one}" for one in project["dependencies"]), *extras)  # fmt: skip
    return write


def test_versions_are_held_against_the_bounds_of_the_package_itself(installed, asked):
    assert not [one for one in packages.look(asked) if one.rank == "fault"]
    installed("numpy", "1.20.3")
    installed("transformers", "5.16.1")
    installed("timm", "0.9.2")
    told = list(packages.look(asked))
    by_package = {one.figures["package"]: one for one in told if "package" in one.figures}
    assert (by_package["numpy"].check, by_package["numpy"].rank) == ("package-version", "fault")
    assert by_package["numpy"].remedy == f"pip install '{needed('numpy')}'"
    assert (by_package["transformers"].check, by_package["transformers"].rank) == ("package-known-as-wrong", "doubt")
    assert "!=5.16.*" in by_package["transformers"].text
    assert (by_package["timm"].check, by_package["timm"].rank) == ("package-version", "doubt")


def test_what_is_missing_is_named_with_the_command(installed, asked, monkeypatch):
    real = metadata.version
    absent = {"simplejpeg", "optuna", "onnxscript", "wandb"}

    def version(name):
        if name in absent:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    told = {one.check: one for one in packages.look(asked)}
    assert told["package-missing"].rank == "fault"
    assert told["package-missing"].remedy == f"pip install '{needed('simplejpeg')}'"
    assert "search" in told["extras-not-installed"].figures["extras"]
    assert any("export (without onnxscript" in one for one in told["extras-in-part"].figures["extras"])


@pytest.mark.parametrize(("torch", "vision", "doubtful"), [
    ("2.13.0+cpu", "0.28.0", False), ("2.6.0", "0.21.0", False), ("2.13.0", "0.27.1", True), ("2.6.0+cu124", "0.28.0", True),
])  # fmt: skip
def test_torchvision_must_be_that_of_torch(installed, torch, vision, doubtful):
    installed("torch", torch)
    installed("torchvision", vision)
    assert [one.check for one in packages._pairs()] == ["torchvision-of-another-torch"] * doubtful


def test_every_extra_has_a_purpose():
    assert set(packages.EXTRAS) == set(PROJECT["optional-dependencies"]) - {"dev", "bench"}


def test_a_folder_that_may_not_be_written_is_a_finding(asked):
    """/sys may be written by nobody, not even by root."""
    told = found(disk.look, Asked(Path("/sys/kernel"), asked.scratch, is_quick=True))
    assert told["folder-not-writable"].rank == "fault"
    assert found(disk.look, Asked(asked.folder / "none", asked.scratch, True))["folder-missing"].rank == "fault"


def test_a_disk_without_space_is_a_finding(asked, monkeypatch):
    monkeypatch.setattr(disk.tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    told = found(disk.look, asked)
    assert told["folder-not-writable"].rank == "fault"
    assert "No space left" in told["folder-not-writable"].text
    for free, check, rank in ((2**20, "disk-full", "fault"), (2**31, "disk-short", "doubt"), (2**40, "disk", "good")):
        monkeypatch.setattr(
            disk.shutil, "disk_usage", lambda _, free=free: disk.shutil._ntuple_diskusage(2**41, 0, free)
        )
        assert found(disk.look, asked)[check].rank == rank


def test_what_a_disk_does_is_measured_and_nothing_stays(asked):
    told = found(disk.look, Asked(asked.folder, asked.scratch, is_quick=False))
    assert told["disk-speed"].figures["write_bytes_per_s"] > 0
    assert told["disk-speed"].figures["read_bytes_per_s"] > 0
    assert not list(asked.folder.iterdir())


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"30 22 0:40 / {tmp_path}/home rw shared:1 - nfs4 server:/export/anna rw\n"
        f"31 30 0:41 / {tmp_path}/home/fast\\040disk rw - xfs /dev/sdb rw\n"
        f"32 22 0:42 / {tmp_path}/content rw - fuse.drive drive rw\n"
    )
    monkeypatch.setattr(disk, "MOUNTS", mounts)
    kinds = {name: disk.kind_of(tmp_path / name) for name in ("home/x", "home/fast disk/y", "homes", "content", "x")}
    assert kinds == {
        "home/x": "nfs4", "home/fast disk/y": "xfs", "homes": "ext4", "content": "fuse.drive", "x": "ext4",
    }  # fmt: skip
    assert [one.check for one in disk._kind("nfs4")] == ["folder-on-network"]
    assert [one.check for one in disk._kind("tmpfs")] == ["folder-in-memory"]
    assert not list(disk._kind("ext4"))


def test_small_shared_memory_is_a_doubt(monkeypatch):
    system = os.statvfs("/dev/shm")
    sizes = {
        "f_bsize": 4096,
        "f_frsize": 4096,
        "f_blocks": 2**26 // 4096,
        "f_bfree": 2**26 // 4096,
        "f_bavail": 2**26 // 4096,
    }
    small = os.statvfs_result([*sizes.values(), *list(system)[5:]])
    monkeypatch.setattr(memory.os, "statvfs", lambda _: small)
    (told,) = memory.shared("/dev/shm")
    assert (told.check, told.rank) == ("shared-memory-small", "doubt")
    assert told.figures == {"size_bytes": 2**26, "free_bytes": 2**26}
    assert "--shm-size" in told.remedy


@pytest.mark.parametrize(("quota", "threads", "check", "remedy"), [
    (2.5, None, "", ""), (2.0, "16", "threads", "export OMP_NUM_THREADS=2"), (None, "16", "", ""), (None, None, "", ""),
])  # fmt: skip
def test_more_threads_than_processors_are_a_doubt(asked, monkeypatch, quota, threads, check, remedy):
    monkeypatch.setattr(processor, "left", lambda: Processors(usable=16, cores=16, quota=quota))
    monkeypatch.setattr(processor.os, "cpu_count", lambda: 16)
    for name in processor.THREADS:
        monkeypatch.delenv(name, raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    told = found(processor.look, asked)
    assert told["processors"].figures["processors"] == 16
    assert ("threads" in told) == bool(check)
    if check:
        assert (told[check].rank, told[check].remedy) == ("doubt", remedy)


@pytest.mark.parametrize(("quota", "usable", "set_to", "words"), [
    (1.5, 2, None, "1.5 of 2 processors are left to this process, by a quota; a training computes with 2 threads."),
    (None, 1, None, "1 of 2 processors are left to this process, by an affinity; a training computes with 1 thread."),
    (1.5, 2, "1", "1.5 of 2 processors are left to this process, by a quota."),
])  # fmt: skip
def test_a_quota_is_told_as_it_is(asked, monkeypatch, quota, usable, set_to, words):
    monkeypatch.setattr(processor, "left", lambda: Processors(usable=usable, cores=usable, quota=quota))
    monkeypatch.setattr(processor.os, "cpu_count", lambda: 2)
    for name in processor.THREADS:
        monkeypatch.delenv(name, raising=False)
    if set_to:
        monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    told = found(processor.look, asked)
    assert (told["processors"].rank, told["processors"].text) == ("note", words)
    if set_to:
        assert (
            told["threads"].text
            == "OMP_NUM_THREADS=1: a training uses no more threads, though it would use 2 by itself."
        )


def test_codecs_are_encoded_decoded_and_compared(asked):
    told = found(decoding.look, Asked(asked.folder, asked.scratch, is_quick=False))
    rates = told["decoding"].figures["frames_per_s"]
    assert {"H.264", "VP9", "MPEG-4", "MJPEG"} <= set(rates)
    assert min(rates.values()) > 0
    assert "codec-broken" not in told
    assert not list(asked.scratch.iterdir())
    assert set(decoding.NAMES) == set(codec.CODECS)


def test_frames_that_come_back_wrong_are_told(asked, monkeypatch):
    path = str(asked.scratch / "try.mp4")
    assert codec.tried("H.264", path)["frames_per_s"] > 0
    real, levels = codec.encode, codec.levels()
    for others, words in ((levels[::-1], "wrong"), (levels[:-5], "43 of 48 frames")):

        def encode(path, name, others=others):
            with monkeypatch.context() as patch:
                patch.setattr(codec, "levels", lambda: others)
                real(path, name)

        with monkeypatch.context() as patch:
            patch.setattr(codec, "encode", encode)
            assert words in codec.tried("H.264", path)["fault"]


@pytest.mark.parametrize(("name", "rank"), [("H.264", "fault"), ("AV1", "doubt")])
def test_a_decoder_that_crashes_is_named(asked, monkeypatch, name, rank):
    monkeypatch.setattr(decoding, "NAMES", (name,))
    monkeypatch.setattr(decoding, "module_process", lambda _: {"args": [sys.executable, "-c", "import os; os.abort()"]})
    told = found(decoding.look, Asked(asked.folder, asked.scratch, is_quick=False))
    assert told["codec-broken"].rank == rank
    assert "SIGABRT" in told["codec-broken"].text


def test_nothing_says_whose_machine_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setattr(finding.socket, "gethostname", lambda: "lab-7.uni.example")
    monkeypatch.setattr(finding.getpass, "getuser", lambda: "anna")
    folder = Path("/home/anna/secret project")
    told = private(
        {
            "a": "/home/anna/.venv/lib/libcudart.so.12: not found",
            "b": ["on lab-7.uni.example by anna", "OSError: '/mnt/share of ben/x.mp4'"],
            "c": f"{folder} is full",
            "d": "see https://download.pytorch.org/whl/cu126 and /dev/shm, or C:\\Users\\Anna\\x.dll",
            "e": 3,
        },
        folder,
    )  # fmt: skip
    text = json.dumps(told)
    assert not [word for word in ("anna", "Anna", "lab-7", "secret", "uni.example") if word in text]
    assert "libcudart.so.12: not found" in told["a"]
    assert told["c"] == "(folder) is full"
    assert "https://download.pytorch.org/whl/cu126 and /dev/shm" in told["d"]
    assert told["e"] == 3


@pytest.fixture
def ours(monkeypatch):
    """Says whose machine it is."""

    def say(home="/home/bob", user="bob", host="lab-7.uni.example"):
        monkeypatch.setenv("HOME", home)
        monkeypatch.setattr(finding.socket, "gethostname", lambda: host)
        monkeypatch.setattr(finding.getpass, "getuser", lambda: user)

    return say


@pytest.mark.parametrize(("text", "clean"), [
    ("/data/Jane Doe/secret project/torch/x.so: cannot open", "…/x.so: cannot open"),
    ("'/mnt/share of ben/my film.mp4' is gone", "'…' is gone"), ("/srv/o'brien/alice/f", "…"), ("in /etc", "in …"),
    ("file:///home/bob/x and s3://jane/x", "… and …"), ("lib:/home/bob/lib/y.so:/opt/z", "lib:…/y.so:…"),
    (r"C:/Users/jane/x.py, C:\Users\Jane Doe\x.dll", "…/x.py, …/x.dll"), (r"\\fileserver\jane\x.dll", "…/x.dll"),
    ("/home/bob", "~"), ("/home/bobby", "…"), ("/home/jane.doe", "…"), ("/work/my set is full", "(folder) is full"),
    ("/work/my set/of jane/x", "…"), ("bob@lab-7: no user 'bob' on lab-7", "(user)@(host): no user '(user)' on (host)"),
    ("http://bob:word@proxy:3128/x", "http://proxy:3128/x"), ("/dev/shm/jane/x", "…"),
])  # fmt: skip
def test_paths_of_any_form_are_left_out(ours, text, clean):
    ours()
    assert private(text, Path("/work/my set")) == clean


@pytest.mark.parametrize("text", [
    "/dev/shm has 23.54 GiB, see /proc/self/mountinfo", "5 MB/s, 4 clips/s and/or 1/2", "a / b",
    "see https://download.pytorch.org/whl/cu126", "bobbing along", "a bob",
])  # fmt: skip
def test_words_that_are_no_path_and_no_name_stay(ours, text):
    ours(home="/d")
    assert private(text, Path("/dev")) == text


@pytest.mark.parametrize("word", ["fault", "good", "gpu", "disk", "folder", "there", "free"])
def test_names_that_are_ordinary_words_change_no_finding(ours, word):
    ours(home=f"/home/{word}", user=word, host=word)
    one = finding.Finding("no-gpu", "fault", "The folder is not there: no disk is free. No gpu.", look=word)
    assert one.private(Path("/work")) == one


def test_a_user_of_any_name_gets_the_same_verdict(monkeypatch, tmp_path):
    monkeypatch.setattr(checking, "LOOKS", ((("disk",), 20.0),))
    monkeypatch.setenv("LOGNAME", "fault")
    checked = muybridge.check(tmp_path / "none", quick=True)
    assert not checked.works
    assert [(one.check, one.rank) for one in checked.findings] == [("folder-missing", "fault")]


def test_long_errors_are_cleaned_before_they_are_cut(ours):
    ours()
    for padding in range(560, 640):
        error = RuntimeError("x" * (padding // 2) + " on lab-7.uni.example " + "y" * 400)
        text = finding.Finding("x", "fault", finding.reason(error)).private(Path("/work")).text
        assert len(text) <= finding.MOST_LETTERS
        assert "lab" not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_check_leaves_nothing(stub, tmp_path, number):
    mark, place = tmp_path / "begun", tmp_path / "temporary"
    place.mkdir()
    stub("psutil", f"import time; open({str(mark)!r}, 'w').close(); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", "import muybridge; muybridge.check(quick=True)"],
        env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    wait_for(mark.exists)
    assert list(place.iterdir())
    process.send_signal(number)
    process.wait()
    wait_for(lambda: not list(place.iterdir()))


def test_what_libraries_leave_is_removed(stub, asked):
    stub("torch", """
        import tempfile
        folder = tempfile.mkdtemp()
        raise ImportError(folder)
    """)  # fmt: skip
    answers("graphics", asked=asked)
    assert list(asked.scratch.iterdir())


def wait_for(there, seconds=20.0):
    """Wait until something is so, and fail where it does not come."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_result_shows_itself():
    one = finding.Finding("x", "fault", "<b>bad</b>.", "mend it", look="disk")
    checked = checking.Checked((one, finding.Finding("y", "good", "fine.", look="disk")), False, 1.0)
    assert not checked.works
    assert str(checked) == "muybridge cannot work on this machine as it is: 1 fault"
    assert "&lt;b&gt;bad" in checked._repr_html_()
    assert checked.as_rows()[0] == {
        "look": "disk",
        "rank": "fault",
        "check": "x",
        "text": "<b>bad</b>.",
        "remedy": "mend it",
    }


@pytest.mark.parametrize(("rank", "status"), [("fault", 1), ("doubt", 0), ("good", 0)])
def test_the_command_says_what_to_do_and_how_it_stands(monkeypatch, rank, status):
    one = finding.Finding("x", rank, "\x1b[31mbad.", "pip install x", look="disk")
    monkeypatch.setattr(checking, "check", lambda folder, *, quick: checking.Checked((one,), quick, 1.0))
    result = call("check")
    assert result.exit_code == status
    line, remedy, last = result.stdout.splitlines()
    assert line.split() == [rank, "disk", "\\x1b[31mbad."]
    assert remedy.split(maxsplit=1) == ["->", "pip install x"]
    assert ("cannot work" in last) == (rank == "fault")


@pytest.mark.slow
def test_a_sound_machine_can_work(tmp_path):
    checked = muybridge.check(tmp_path)
    assert checked.works, [one.text for one in checked.findings if one.rank == "fault"]
    by_check = {one.check: one for one in checked.findings}
    assert by_check["training"].figures["train_clips_per_s"] > 0
    assert by_check["batches"].figures["models"]["tsm_resnet_tiny"]["batch_size"] > 8
    text = json.dumps(checked.as_json())
    names = {socket.gethostname(), str(Path.home()), str(tmp_path)} - {"localhost", "/"}
    assert not [name for name in names if name in text]
    assert not list(tmp_path.iterdir())
