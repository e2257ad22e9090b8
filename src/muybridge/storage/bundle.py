"""Bundles: a run to hand on, as one file (NAME.muy) or a folder, checked by the hashes of its files.

A bundle is a small run folder: the weights that answer, labels, rules, results, and bundle.json, which lists every file with
its length and hash. NAME.muy is a zip of it without compression. It is opened wherever a run is, and no code runs: weights
are safetensors, all else is JSON and arrays. A user's model keeps its source, which runs only with consent, as a run's does.

A file is unpacked into a folder of this process, which is gone at its end. So nothing is written into it.
"""

import atexit
import functools
import hashlib
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from muybridge.errors import UserError
from muybridge.runtime.files import (
    as_kind,
    check_regular,
    parsed_json,
    read_as,
    sha256_file,
    used_up,
    within,
    write_durable,
)

FORMAT_VERSION = 1
NAME = "bundle.json"
SUFFIX = ".muy"
MOST_FILES = 10_000
LARGEST_LIST_BYTES = 2**24
"""Longest bundle.json that is read."""
_CHUNK_BYTES = 2**20


@with_config(ConfigDict(extra="forbid"))
class Listed(TypedDict):
    """A file of a bundle."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@with_config(ConfigDict(extra="allow"))
class Bundle(TypedDict):
    """bundle.json."""

    format_version: Literal[1]
    licence: str
    files: dict[str, Listed]


_unpacked: dict[Path, Path] = {}
"""Folders of this process, and the files that they were unpacked from."""


def opened(path: Path) -> Path:
    """Folder of a run, a bundle's checked; that of NAME.muy is unpacked. Any other path is returned as it is.

    Raises UserError where a file is not the one that was bundled.
    """
    if path.suffix == SUFFIX and path.is_file():
        about = path.resolve().stat()
        return _of_file(path.resolve(), about.st_size, about.st_mtime_ns)
    if (path / NAME).exists():
        check(path)
    return path


def check(folder: Path) -> dict[str, Any]:
    """Check every file that a bundle lists. Returns its bundle.json. Raises UserError."""
    about: dict[str, Any] = read_as(Bundle, folder / NAME)
    for name, listed in about["files"].items():
        file = within(folder, name)
        if not file.is_file() or file.stat().st_size != listed["bytes"] or sha256_file(file) != listed["sha256"]:
            raise UserError(
                f"{file}: it is not the file that was bundled. Get the bundle again, or bundle the run again"
            )
    return about


def check_writable(folder: Path) -> None:
    """Raise UserError for the folder of an unpacked file, which nothing may be kept in."""
    file = _unpacked.get(folder)
    if file is not None:
        raise UserError(
            f"{file}: it is a bundle in one file, into which nothing is written. Make a folder of it: muybridge bundle {file} "
            f"--out {file.stem}"
        )


def pack(folder: Path, file: Path) -> None:
    """Write a folder's files into one new file, uncompressed, in the order of their names, with one date for all."""
    with zipfile.ZipFile(file, "x", zipfile.ZIP_STORED) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            with packed.open(member, "w", force_zip64=True) as target, path.open("rb") as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)


@functools.lru_cache(maxsize=8)
def _of_file(file: Path, size: int, changed_ns: int) -> Path:
    """Folder of an unpacked file. Its length and date make a changed file another one."""
    check_regular(file)
    above = Path(tempfile.mkdtemp(prefix="muybridge-"))
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    folder = above / file.stem
    folder.mkdir()
    try:
        with zipfile.ZipFile(file) as packed:
            _unpack(packed, folder, file)
    except UserError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError,
    ) as error:  # fmt: skip
        raise UserError(f"{file}: not a bundle, or a damaged one: {error}. Get it again") from None
    except OSError as error:
        if used_up(error, above):
            raise
        raise UserError(
            f"{file}: it is damaged, or not a bundle: a name in it cannot be used ({error.strerror}). Get it again"
        ) from None
    _unpacked[folder] = file
    return folder


def _unpack(packed: zipfile.ZipFile, folder: Path, file: Path) -> None:
    members = {member.filename: member for member in packed.infolist()}
    if len(members) != len(packed.infolist()) or len(members) > MOST_FILES:
        raise UserError(f"{file}: it names a file twice, or holds more than {MOST_FILES}. Get it again")
    for member in members.values():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or kind not in (0, stat.S_IFREG):
            raise UserError(
                f"{file}: '{member.filename}' is not a plain, uncompressed file. Use one that `muybridge bundle` wrote"
            )
    if NAME not in members or members[NAME].file_size > LARGEST_LIST_BYTES:
        raise UserError(f"{file}: it has no list of its files. Use a file that `muybridge bundle` wrote")
    try:
        text = packed.read(NAME).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: {NAME} is not UTF-8 text: {error}. Get it again") from None
    about: dict[str, Any] = as_kind(Bundle, parsed_json(text, f"{file}: {NAME}"), f"{file}: {NAME}")
    if {NAME, *about["files"]} != set(members):
        raise UserError(f"{file}: its files are not those that it lists. Get it again")
    for name, listed in about["files"].items():
        if "\\" in name or ":" in name:
            raise UserError(f"{file}: '{name}' is not a name of a file. Use one that `muybridge bundle` wrote")
        target = within(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(members[name]) as source:
            if members[name].file_size != listed["bytes"] or _copied(source, target) != listed["sha256"]:
                raise UserError(f"{file}: '{name}' is not the file that was bundled. Get it again")
    write_durable(folder / NAME, text.encode())


def _copied(source: IO[bytes], target: Path) -> str:
    """Write a new file; its hash."""
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while part := source.read(_CHUNK_BYTES):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()
