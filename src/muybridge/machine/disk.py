"""The folder to work in: may it be written, how much is free, what kind of disk it is, and how fast."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from muybridge.machine.finding import Asked, Finding
from muybridge.text import gib

NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "pvfs2", "fuse.sshfs",
    "fuse.gcsfuse", "fuse.s3fs", "fuse.rclone", "fuse.drive", "fuse.drivefs", "fuse.glusterfs", "fuse.juicefs", "virtiofs",
}  # fmt: skip
"""File systems that lie on another machine."""
IN_MEMORY = {"tmpfs", "ramfs"}
LEAST_BYTES = 2**28
"""A run does not end well with less."""
FEW_BYTES = 10 * 2**30
"""Doubt with less: UCF101 takes 7 GB as archive and 7 GB unpacked."""
FEW_FILES = 20_000
"""Doubt with fewer files left to make: UCF101 has 13,320 videos."""
TRIED_BYTES = 2**26
BLOCK_BYTES = 2**22
MOST_SECONDS = 1.5
"""Writing and reading end after so long each."""
BELIEVABLE_BYTES_PER_S = 8e9
"""A disk that reads faster is taken for memory."""
MOUNTS = Path("/proc/self/mountinfo")


def look(asked: Asked) -> Iterator[Finding]:
    """Write a file without a name to the folder, read it, and look at what is free."""
    try:
        usage = shutil.disk_usage(asked.folder)
        if not asked.folder.is_dir():
            raise NotADirectoryError
    except FileNotFoundError:
        yield Finding(
            "folder-missing", "fault", "The folder is not there.", "Make it, or name another: muybridge check FOLDER"
        )
        return
    except NotADirectoryError:
        yield Finding("folder-missing", "fault", "What is named is a file.", "Name a folder: muybridge check FOLDER")
        return
    except OSError as error:
        yield Finding(
            "folder-unreadable", "fault", f"The folder cannot be looked at: {error.strerror}.", "Name another folder"
        )
        return
    kind = kind_of(asked.folder)
    yield from _kind(kind)
    yield from _room(asked.folder, usage.free, usage.total)
    yield from _tried(asked)


def kind_of(folder: Path) -> str:
    """File system of a folder, as ext4; empty where the system does not say."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:  # not Linux
        return ""
    path, best, kind = os.path.realpath(folder), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def _kind(kind: str) -> Iterator[Finding]:
    if kind in NETWORK:
        yield Finding(
            "folder-on-network",
            "doubt",
            f"The folder lies on another machine ({kind}): many small files are read slowly.",
            "Pack the set onto a disk of this machine: muybridge pack set.csv --out /local/pack",
            {"kind": kind},
        )
    elif kind in IN_MEMORY:
        yield Finding(
            "folder-in-memory",
            "doubt",
            f"The folder lies in memory ({kind}): it is gone after a restart, and takes memory.",
            "Write runs to a disk",
            {"kind": kind},
        )


def _room(folder: Path, free: int, total: int) -> Iterator[Finding]:
    if not total:  # a file system of the kernel, which has no size
        return
    figures = {"free_bytes": free, "total_bytes": total}
    if free < LEAST_BYTES:
        yield Finding(
            "disk-full",
            "fault",
            f"{gib(free)} are free in the folder: no run fits.",
            "Free some space, or name another folder",
            figures,
        )
    elif free < FEW_BYTES:
        yield Finding(
            "disk-short",
            "doubt",
            f"{gib(free)} are free in the folder: too little for UCF101, which takes about 14 GB while it is unpacked.",
            "See docs/sets.md for what a set takes",
            figures,
        )
    else:
        yield Finding("disk", "good", f"{gib(free)} of {gib(total)} are free in the folder.", figures=figures)
    files = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if files is not None and files.f_files and files.f_favail < FEW_FILES:
        yield Finding(
            "disk-few-files",
            "doubt",
            f"Only {files.f_favail:,} more files can be made here.",
            "Pack the set: a pack has few files",
            {"files": files.f_favail},
        )


def _tried(asked: Asked) -> Iterator[Finding]:
    """Write and read a file that has no name, so that nothing is left behind even where this process is killed."""
    num_bytes = BLOCK_BYTES if asked.is_quick else TRIED_BYTES
    block = os.urandom(BLOCK_BYTES)
    try:
        with tempfile.TemporaryFile(dir=asked.folder, buffering=0) as file:
            started = time.perf_counter()
            written = 0
            while written < num_bytes and time.perf_counter() - started < MOST_SECONDS:
                written += file.write(block)
                os.fsync(file.fileno())
            rate = written / (time.perf_counter() - started)
            if asked.is_quick:
                yield Finding("folder-writable", "good", "The folder can be written.")
                return
            read_rate = _read(file, written)
    except PermissionError:
        yield Finding(
            "folder-not-writable",
            "fault",
            "The folder may not be written.",
            "Name one that you own: muybridge check FOLDER",
        )
        return
    except OSError as error:
        yield Finding(
            "folder-not-writable",
            "fault",
            f"The folder cannot be written: {error.strerror}.",
            "Free some space, or name another folder",
        )
        return
    from_memory = read_rate > BELIEVABLE_BYTES_PER_S
    told = "from memory, as the system kept it" if from_memory else "after the system was asked to forget it"
    yield Finding(
        "disk-speed",
        "good",
        f"The folder can be written: {rate / 1e6:.0f} MB/s to the disk, and {read_rate / 1e6:.0f} MB/s back, {told} (measured).",
        figures={
            "write_bytes_per_s": round(rate),
            "read_bytes_per_s": round(read_rate),
            "read_from_memory": from_memory,
        },
    )


def _read(file: IO[bytes], num_bytes: int) -> float:
    """Bytes a second of reading; the system is asked to drop its copy first, which some file systems ignore."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    started, read = time.perf_counter(), 0
    while read < num_bytes and time.perf_counter() - started < MOST_SECONDS:
        data = file.read(BLOCK_BYTES)
        if not data:
            break
        read += len(data)
    return read / max(time.perf_counter() - started, 1e-9)
