"""Processors that are left, and threads that share them."""

import ctypes
import os
import platform
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
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)

    def make(logical, siblings=1, *, affinity=None, parent=None, quota=None, files=None):
        own = set(affinity or range(logical))
        monkeypatch.setattr(processors, "SYSTEM", tmp_path)
        monkeypatch.setattr(processors.os, "cpu_count", lambda: logical)
        monkeypatch.setattr(
            processors.os, "sched_getaffinity", lambda process: set(parent or own) if process else own, raising=False
        )
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


def capacities(*kinds):
    """Files of an Arm processor: (number of cores, capacity) of each kind."""
    each = [capacity for number, capacity in kinds for _ in range(number)]
    return {f"system/cpu/cpu{n}/cpu_capacity": f"{capacity}\n" for n, capacity in enumerate(each)}


@pytest.mark.parametrize(("kinds", "threads"), [
    pytest.param([(4, 250), (3, 871), (1, 1024)], 4, id="Cortex-A55, A77, a faster A77"),
    pytest.param([(4, 397), (2, 1008), (2, 1024)], 4, id="RK3588, two bins of big cores"),
    pytest.param([(4, 460), (4, 1024)], 4, id="Apple M1"),
    pytest.param([(4, 523), (4, 1024)], 4, id="Apple M2, eight would be 2 % faster"),
    pytest.param([(2, 460), (8, 1024)], 8, id="Apple M1 Pro"),
    pytest.param([(6, 293), (2, 1024)], 2, id="SC7180, six Cortex-A55 add a seventh"),
    pytest.param([(4, 741), (4, 1024)], 8, id="MT8183, Cortex-A53 nearly as fast as A73"),
    pytest.param([(2, 741), (2, 498), (4, 1024)], 6, id="three kinds"),
    pytest.param([(8, 1024)], 8, id="one kind"),
])  # fmt: skip
def test_slow_cores_of_arm_compute_where_a_step_is_faster_with_them(machine, kinds, threads):
    found = machine(8 if sum(number for number, _ in kinds) == 8 else 10, files=capacities(*kinds))
    assert (found.threads, found.jobs) == (threads, sum(number for number, _ in kinds))


@pytest.mark.parametrize(("fast", "slow", "threads"), [
    (2, 8, 10),  # i7-1255U: ten at a third are 3.3
    (1, 4, 5),  # i5-L16G7
    (4, 8, 4),  # i7-1260P: twelve at a third are no more than four
    (8, 16, 8),  # i9-13900K
])  # fmt: skip
def test_slow_cores_of_intel_compute_where_the_fast_ones_are_few(machine, fast, slow, threads):
    found = machine(2 * fast + slow, siblings=2, files={
        "cpu_core/cpus": f"0-{2 * fast - 1}\n", "cpu_atom/cpus": f"{2 * fast}-{2 * fast + slow - 1}\n",
        **{f"system/cpu/cpu{n}/topology/thread_siblings_list": f"{n}\n" for n in range(2 * fast, 2 * fast + slow)},
    })  # fmt: skip
    assert (found.threads, found.jobs) == (threads, 2 * fast + slow)


def test_an_affinity_to_slow_cores_alone_leaves_those(machine):
    files = capacities((4, 397), (4, 1024))
    assert machine(8, affinity={0, 1, 2}, files=files).threads == 3


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
    assert machine(8, affinity={2, 3}, parent=range(8)).threads == 2  # each has two of its own
    assert machine(16, affinity=range(8), parent=range(16)).threads == 4  # two on each of two nodes


def test_in_a_container_processes_of_torchrun_share_what_it_has(machine, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    found = machine(16, affinity=range(8))  # docker --cpuset-cpus 0-7
    assert (found.threads, found.jobs) == (2, 2)
    assert machine(32, affinity=range(4), quota=6.0).quota == 1.5
    assert machine(32, affinity={0, 1}, parent=range(8), quota=6.0).quota == 1.5  # a quota is that of all


@pytest.mark.parametrize(("text", "by_torchrun", "is_set"), [
    ("1", False, True), ("4", True, True), ("4,2", False, True), (" 2 ", False, True),
    ("1", True, False), ("", False, False), ("0", False, False), ("abc", False, False), ("4,x", False, False),
    ("-1", False, False),
])  # fmt: skip
def test_a_number_of_threads_is_set_where_libraries_take_it_and_torchrun_did_not_write_it(
    machine, monkeypatch, text, by_torchrun, is_set
):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    if by_torchrun:
        launch = {
            "RANK": "0",
            "WORLD_SIZE": "2",
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": "none",
        }
        for name, value in launch.items():
            monkeypatch.setenv(name, value)
    assert processors.threads_set_by_user() == is_set
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert processors.threads_set_by_user()


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


@pytest.mark.parametrize("text", ["many", "-5", "", "5000 x"])
def test_what_openmp_refuses_is_no_choice(monkeypatch, text):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", text)
    assert module_process("muybridge")["env"]["GOMP_SPINCOUNT"] == str(waiting.SPINS)


SLICES = """
import ctypes, struct, threading, time
from muybridge.runtime.waiting import share_with_others
def slice_of(thread):
    out = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall({getattr}, thread, out, 56, 0) == 0
    return struct.unpack("=IIQiIQ", out.raw[:32])[5]
before = slice_of(0)
share_with_others()
seen = []
begun = threading.Thread(target=lambda: seen.append(slice_of(threading.get_native_id())))
begun.start(); begun.join()
print(before, slice_of(0), *seen)
"""


def slices(**variables):
    """Nanoseconds of the main thread before and after `share_with_others`, and of a thread that starts later."""
    out = ctypes.create_string_buffer(56)
    if ctypes.CDLL(None).syscall(315, 0, out, 56, 0) or not struct.unpack("=IIQiIQ", out.raw[:32])[5]:
        pytest.skip("this Linux has no slices of threads (6.12)")
    left = {name: value for name, value in os.environ.items() if name not in waiting.WAITING_SET_BY}
    command = [sys.executable, "-c", SLICES.replace("{getattr}", "315")]
    shown = subprocess.run(command, env=left | variables, capture_output=True, text=True, check=True)
    return [int(word) for word in shown.stdout.split()]


linux = pytest.mark.skipif((platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="Linux on x86-64")


@linux
def test_threads_that_start_later_have_short_slices():
    assert slices()[1:] == [waiting.SLICE_NANOSECONDS] * 2
    assert slices(GOMP_SPINCOUNT=str(waiting.SPINS))[1:] == [waiting.SLICE_NANOSECONDS] * 2  # as a parent has set it


@linux
@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "passive"}])
def test_where_the_user_has_chosen_slices_stay_as_they_are(chosen):
    before, *after = slices(**chosen)
    assert after == [before] * 2
