"""Processors that are left, and threads that share them."""

import ctypes
import os
import struct
import subprocess
import sys

import pytest

from muybridge.runtime import processors, waiting
from muybridge.runtime.launch import module_process
from muybridge.runtime.processors import Processors


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine of `logical` processors, `siblings` of which share a core; files are as Linux has them."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)

    def make(logical, siblings=1, *, affinity=None, quota=None, files=None):
        monkeypatch.setattr(processors, "SYSTEM", tmp_path)
        monkeypatch.setattr(processors.os, "cpu_count", lambda: logical)
        monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(affinity or range(logical)))
        monkeypatch.setattr(processors.cgroups, "processors", lambda: quota)
        topology = {
            f"system/cpu/cpu{n}/topology/thread_siblings_list": f"{n - n % siblings}-{n - n % siblings + siblings - 1}\n"
            for n in range(logical)
        }
        for name, text in (topology | (files or {})).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return processors.left()

    return make


def test_a_thread_a_physical_core_and_a_decoder_a_logical_one(machine):
    found = machine(8, siblings=2)
    assert found == Processors(usable=8, cores=4, quota=None)
    assert (found.threads, found.jobs) == (4, 8)


def test_affinity_counts_the_cores_that_it_names(machine):
    found = machine(8, siblings=2, affinity={0, 1, 4, 6})  # two threads of one core, and one of each of two others
    assert (found.usable, found.threads) == (4, 3)


def test_slow_cores_of_intel_do_not_compute_but_decode(machine):
    found = machine(12, siblings=2, files={
        "cpu_core/cpus": "0-7\n", "cpu_atom/cpus": "8-11\n",
        **{f"system/cpu/cpu{n}/topology/thread_siblings_list": f"{n}\n" for n in range(8, 12)},
    })  # fmt: skip
    assert (found.threads, found.jobs) == (4, 12)


def test_slow_cores_of_arm_do_not_compute(machine):
    found = machine(8, files={
        f"system/cpu/cpu{n}/cpu_capacity": f"{1024 if n >= 6 else 400}\n" for n in range(8)
    })  # fmt: skip
    assert (found.threads, found.jobs) == (2, 8)


@pytest.mark.parametrize(("quota", "threads", "jobs"), [
    (None, 8, 8), (0.5, 1, 1), (1.2, 1, 2), (1.5, 2, 2), (3.4, 3, 4), (16.0, 8, 8),
])  # fmt: skip
def test_a_quota_limits_threads_to_the_nearest_number(machine, quota, threads, jobs):
    found = machine(8, quota=quota)
    assert (found.threads, found.jobs) == (threads, jobs)


def test_processes_of_torchrun_share_a_machine_unless_a_batch_system_has_parted_it(machine, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert machine(8).threads == 2
    assert machine(8, affinity={2, 3}).threads == 2


@pytest.mark.parametrize(("cores", "computes", "workers", "threads"), [
    (2, True, 1, 1), (8, True, 2, 6), (64, True, 8, 56), (1, True, 1, 1), (16, False, 8, 8), (4, False, 4, 1),
])  # fmt: skip
def test_decoders_and_threads_have_cores_of_their_own(cores, computes, workers, threads):
    found = Processors(usable=cores, cores=cores, quota=None)
    assert found.workers(computes=computes) == workers
    assert found.threads_beside(workers) == threads


def test_children_wait_briefly_unless_the_user_has_chosen(monkeypatch):
    for name in waiting.WAITING_SET_BY:
        monkeypatch.delenv(name, raising=False)
    assert module_process("muybridge")["env"]["GOMP_SPINCOUNT"] == str(waiting.SPINS)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in module_process("muybridge")["env"]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert module_process("muybridge")["env"]["GOMP_SPINCOUNT"] == "7"


SLICES = """
import ctypes, struct, threading, time
from muybridge.runtime.waiting import share_with_others
def slice_of(thread):
    out = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall({getattr}, thread, out, 56, 0) == 0
    return struct.unpack("=IIQiIQ", out.raw[:32])[5]
share_with_others()
seen = []
begun = threading.Thread(target=lambda: seen.append(slice_of(threading.get_native_id())))
begun.start(); begun.join()
print(slice_of(0), *seen)
"""


@pytest.mark.skipif(os.uname().sysname != "Linux" or os.uname().machine != "x86_64", reason="Linux on x86-64")
def test_threads_that_start_later_have_short_slices():
    out = ctypes.create_string_buffer(56)
    if ctypes.CDLL(None).syscall(315, 0, out, 56, 0) or not struct.unpack("=IIQiIQ", out.raw[:32])[5]:
        pytest.skip("this Linux has no slices of threads (6.12)")
    shown = subprocess.run(
        [sys.executable, "-c", SLICES.replace("{getattr}", "315")], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [str(waiting.SLICE_NANOSECONDS)] * 2
