"""Files that are either whole or not there: everything muybridge leaves on disk goes through here.

A file is written beside its place, flushed to the disk, and renamed; the rename is flushed too. A process killed at any
of these moments leaves the old file or the new one, never a part.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from muybridge.errors import UserError


def write_durable(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk. Not atomic: for files inside a folder that is renamed as a whole."""
    binary = getattr(os, "O_BINARY", 0)  # Windows would write \r\n for \n
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | binary, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:  # a full disk does not say which file it was
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries, so that a rename in it outlives a power cut."""
    if os.name == "nt":  # Windows flushes renames itself and cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    write_durable(partial, data.encode() if isinstance(data, str) else data)
    os.replace(partial, path)
    sync_folder(path.parent)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
