"""Limits of containers and batch systems, read from folders as Linux has them."""

import psutil
import pytest

from muybridge.runtime import cgroups


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes files below a root of cgroups; `own` is what /proc/self/cgroup says."""
    root = tmp_path / "cgroup"
    monkeypatch.setattr(cgroups, "ROOT", root)
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    return write


def test_memory_of_a_container_leaves_out_files_that_may_be_dropped(groups):
    groups("0::/\n", {
        "memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 200\ninactive_file 600\n",
    })  # fmt: skip
    assert cgroups.memory_left() == (1000, 700)
    assert cgroups.free_bytes() == 700


def test_the_tightest_of_nested_groups_counts(groups):
    groups("0::/slurm/job\n", {
        "memory.max": "max\n", "memory.current": "5\n",
        "slurm/memory.max": "5000\n", "slurm/memory.current": "4900\n",
        "slurm/job/memory.max": "2000\n", "slurm/job/memory.current": "500\n",
        "slurm/cpu.max": "400000 100000\n", "slurm/job/cpu.max": "max 100000\n",
    })  # fmt: skip
    assert cgroups.memory_left() == (5000, 100)
    assert cgroups.processors() == 4.0


def test_version_1_has_its_own_files(groups):
    groups("5:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n", {
        "memory/memory.limit_in_bytes": "3000\n", "memory/memory.usage_in_bytes": "1000\n",
        "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 400\n",
        "cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert cgroups.memory_left() == (3000, 2400)
    assert cgroups.processors() == 1.5


@pytest.mark.parametrize("files", [
    {"memory.max": "max\n", "memory.current": "5\n", "cpu.max": "max 100000\n"},
    {"memory.max": "9223372036854771712\n", "memory.current": "5\n"}, {"memory.max": "odd\n", "memory.current": ""}, {},
])  # fmt: skip
def test_no_limit_is_none(groups, files):
    groups("0::/\n", files)
    assert cgroups.memory_left() is None
    assert cgroups.processors() is None
    assert 0 < cgroups.free_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize("files", [
    {"cpu.max": "100000 0\n"}, {"cpu.max": "9" * 400 + " 100000\n"}, {"cpu.max": "-1 100000\n"}, {"cpu.max": "²\n"},
    {"memory.max": "-5\n", "memory.current": "5\n"}, {"memory.stat": "\n"},
])  # fmt: skip
def test_what_no_kernel_writes_is_no_limit(groups, files):
    groups("0::/\n", files)
    assert cgroups.memory_left() is None
    assert cgroups.processors() is None


def test_a_group_may_have_any_name(groups):
    groups("", {})
    folder = cgroups.ROOT / "job-\udcff"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text("150000 100000\n")
    cgroups.OWN.write_bytes(b"0::/job-\xff\n")
    assert cgroups.processors() == 1.5


def test_the_time_that_a_quota_stopped_is_seconds_in_both_versions(groups):
    groups("0::/slurm/job\n", {
        "cpu.stat": "usage_usec 9\n", "slurm/cpu.stat": "usage_usec 9\nthrottled_usec 2500000\n",
        "slurm/job/cpu.stat": "nr_throttled 3\nthrottled_usec 1250000\n",
    })  # fmt: skip
    assert cgroups.stopped_seconds() == 2.5
    groups(
        "4:cpu,cpuacct:/docker/x\n", {"cpu,cpuacct/none": "", "cpu/docker/x/cpu.stat": "throttled_time 1250000000\n"}
    )
    assert cgroups.stopped_seconds() == 1.25
    groups("", {})
    assert cgroups.stopped_seconds() == 0.0
