"""Atomic writes, and paths that stay inside their folder: everything muybridge leaves on disk goes through here.

A file is written under a temporary name, flushed to the disk, and renamed; the rename is flushed too. A process killed at
any of these moments leaves the old file or the new one, never a part. Two processes that write the same file at once never
share a temporary file. Inside a folder, `within` follows no link and no name that leads out.
"""

import csv
import errno
import functools
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from muybridge.errors import UserError

PARTIAL = ".partial"
"""Suffix of files that are being written; a leading dot hides them."""
_ENDING = 8 * "0" + PARTIAL
"""Ending of their names, with the digits that make each unique."""


_fences: list[Callable[[], None]] = []
"""Checks that are made before every write."""


@contextmanager
def fenced(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before every write of this process in the block; what it raises, the write raises."""
    _fences.append(check)
    try:
        yield
    finally:
        _fences.remove(check)


def check_fences() -> None:
    """Make the checks of all blocks of `fenced`; whatever writes in place calls it first."""
    for check in tuple(_fences):
        check()


def within(folder: Path, name: str | Path) -> Path:
    """Path of a file to write, truncate or delete inside a folder.

    Raises UserError where its name, or a link on the way, leads out of the folder.
    """
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise UserError(
            f"'{name}': it leads out of {folder}, where nothing is written or deleted. Use a name inside of it"
        )
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise UserError(
                f"{path}: it is a link. Nothing inside {folder} is written, truncated or deleted through a link, as "
                "it may lead to other files of yours. Replace the link by what it names, or remove it"
            )
    return path


def partial_name(path: Path) -> Path:
    """Unique temporary name beside `path`, for a file that will be renamed to it."""
    return path.with_name(f"{hidden_name(path.name)}{secrets.token_hex(4)}{PARTIAL}")


def hidden_name(name: str) -> str:
    """Beginning of the hidden names beside one file, and beside no other; short, as a name may be as long as it can be."""
    return f".{name}." if len(name) <= 40 else f".{name[:31]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}."


def is_partial(name: str) -> bool:
    """Whether it is a temporary file, which a process that was killed may leave."""
    return name.startswith(".") and name.endswith(PARTIAL)


def clear_partials(folder: Path, *, of: Iterable[str] | None = None) -> None:
    """Remove the unfinished files of killed processes. Call it only in the one process that may write there.

    `of`: names of the files that only this process may write; none: all files of the folder.
    """
    begins = None if of is None else {*map(hidden_name, of)}
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            is_of = begins is None or path.name[: -len(_ENDING)] in begins
            if is_of and is_partial(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def write_durable(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk. Not atomic: for files inside a folder that is renamed as a whole."""
    check_fences()
    new_only = os.O_CREAT | os.O_EXCL  # neither an existing file nor the target of a link
    binary = getattr(os, "O_BINARY", 0)  # Windows would write \r\n for \n
    descriptor = os.open(path, os.O_WRONLY | new_only | binary, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:  # a full disk does not name the file
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    if os.name == "nt":  # Windows flushes renames itself and cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file by `data`, completely or not at all."""
    partial = partial_name(path)
    try:
        write_durable(partial, data.encode() if isinstance(data, str) else data)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes | str) -> None:
    """Write a file that is not there yet, completely or not at all. Raises UserError where the name is taken."""
    partial = partial_name(path)
    try:
        write_durable(partial, data.encode() if isinstance(data, str) else data)
        rename_new(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside a file or folder to be, which is gone after the block with all that is still in it.

    Of a disk that is full OSError names `path`.
    """
    check_fences()
    folder = partial_name(path)
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if used_up(error, path.parent):  # a copy names the file that was to be copied
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rename_new(source: Path, target: Path) -> None:
    """Give a whole file its name, never in the place of another. Raises UserError where the name is taken."""
    check_fences()
    descriptor = os.open(source, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if target.exists() or target.is_symlink():
                raise FileExistsError from None
            os.rename(source, target)
        else:
            source.unlink()
    except FileExistsError:
        raise UserError(f"{target}: it is there already. Choose another name, or remove it") from None
    sync_folder(target.parent)


def write_together(contents: Mapping[Path, str]) -> None:
    """Replace files that belong together.

    All are on the disk before the first is replaced, and the last one is missing meanwhile. A process killed then leaves a
    recognisably incomplete set, never an old file with a new one.
    """
    partials = {path: partial_name(path) for path in contents}
    try:
        for path, text in contents.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            write_durable(partials[path], text.encode())
        *_, last = contents
        if last.exists() or last.is_symlink():
            last.unlink()
            sync_folder(last.parent)
        for path, partial in partials.items():
            os.replace(partial, path)
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Format rows as CSV with line feeds."""
    text = io.StringIO()
    plain, quoting = csv.writer(text, lineterminator="\n"), csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in map(
        list, rows
    ):  # (before Python 3.13 a lone carriage return is not quoted, and readers end the line there)
        (quoting if any("\r" in cell for cell in row if isinstance(cell, str)) else plain).writerow(row)
    return text.getvalue()


def allocate(path: Path) -> None:
    """Take the space of a file now: a full disk is then an error, not the end of the process. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def check_regular(path: Path) -> None:
    """Raise UserError for a pipe or a device, which would be read for ever. A missing file is left to the reader."""
    with suppress(OSError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path}: not a regular file (a pipe or a device). Give a regular file")


def check_folder(path: Path) -> None:
    """Raise UserError where a folder is to be, and it, or one above it, is a file or a link to nothing."""
    for place in (*reversed(path.parents), path):
        if not place.is_dir() and (place.exists() or place.is_symlink()):
            what = "a file, not a folder" if place.exists() else "a broken link"
            raise UserError(f"{place}: it is {what}. Remove or rename it, or choose another folder")


def check_writable(folder: Path) -> None:
    """Raise UserError for a folder that can neither be written into nor made."""
    check_folder(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: nothing can be written there. Choose another folder, or ask for the right to write")


def used_up(error: OSError, folder: Path) -> str:
    """Reason why a folder takes no more (its disk is full), or an empty string where the error has another."""
    if error.errno == errno.EDQUOT:
        return "your quota is used up"
    if error.errno != errno.ENOSPC:
        return ""
    with suppress(OSError, AttributeError):  # (Windows has no inodes)
        disk = os.statvfs(folder)
        if disk.f_files and not disk.f_favail:
            return "the disk takes no more files (its inodes are used up)"
    return "the disk is full"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented by two spaces."""
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def read_text(path: Path) -> str:
    """Read UTF-8 text. Raises UserError that names the file."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: it cannot be read ({error.strerror}). Check that it is there and may be read"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}. Restore it, or save it as UTF-8") from None


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError that names the file."""
    return parsed_json(read_text(path), str(path))


def parsed_json(text: str, where: str) -> Any:
    """Parse JSON. Raises UserError that names the place for invalid JSON and for text that cannot be encoded."""
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # lone surrogates are valid JSON
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}. Restore it, or correct it") from None


def read_as(kind: Any, path: Path) -> Any:
    """Read JSON as a type that pydantic knows. Raises UserError that names the file and the field."""
    return as_kind(kind, read_json(path), str(path))


def as_kind(kind: Any, value: Any, where: str) -> Any:
    """Validate a value as a type that pydantic knows. Raises UserError that names the field."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{where}: it is damaged: {f'{field}: ' if field else ''}{first['msg'].lower()}. Restore it, or correct it"
        ) from None


def check_format(values: Mapping[str, Any], known: int, where: str | Path) -> None:
    """Raise UserError where what was read has another `format_version` than the one that is known."""
    version = values.get("format_version")
    if type(version) is not int or version != known:
        raise UserError(
            f"{where}: it has format_version {json.dumps(version)[:40]}, but this muybridge reads {known}. Use the muybridge "
            "that wrote it"
        )


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def owned(path: Path) -> Path:
    """Give a file that will be changed in place a content of its own: one with other hard links is copied first."""
    if path.exists() and path.stat().st_nlink > 1:
        write_atomic(path, path.read_bytes())
    return path
