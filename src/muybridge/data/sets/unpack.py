"""Archives of strangers, unpacked: zip, tar and rar, and archives inside of them; all of an archive, or nothing.

Libraries read the formats: zipfile, tarfile, and rarfile with a program for compressed rar. None of them writes. Every
member passes one function here, which alone makes files. So one rule decides for all formats where a file may lie, and
links, devices and other special files are never made.
"""

import bz2
import filecmp
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn, cast

from muybridge.errors import UserError
from muybridge.runtime.console import byte_progress
from muybridge.runtime.files import PARTIAL, check_folder, check_regular, used_up, within
from muybridge.text import gib, plural

SUFFIXES = (".zip", ".rar", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Ends of the names of archives; what a file really is, its content says."""
UNPACKERS = {
    "unrar": ("p", "-inul", "-p-"),
    "unar": ("-q", "-o", "-"),
    "7zz": ("e", "-so", "-bd", "-p"),
    "7z": ("e", "-so", "-bd", "-p"),
    "bsdtar": ("-x", "-O", "-f"),
}
"""Programs for compressed rar, the best first, with the arguments that print the content of all files, one after the other."""
_CHUNK_BYTES = 1 << 20
_RAR = b"Rar!\x1a\x07"
_MOST_FOLDERS = 100
_MOST_HEADER_BYTES = 1 << 22
"""Headers of one file in a tar, which are kept in memory."""
_MOST_PADDING_BYTES = 1 << 24
"""Zeros at the end of a tar. Tapes have a MiB; a download whose rest never came may have any number."""
_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\10")
_STORED = 0x30
"""Rar's method without compression."""
_RAR_3 = 29
"""Version of rar that a file of rar 3 asks for, if it is compressed."""


@dataclass(frozen=True)
class Limits:
    """Largest archive that is unpacked."""

    num_files: int = 10_000_000
    num_bytes: int = 2**42
    ratio: float = 200.0
    """Bytes that a byte of the archive may become. Videos become one, text some ten."""
    small_bytes: int = 2**28
    """Content that is always taken, as short lists of many like lines are packed best."""
    depth: int = 3
    """Archives within archives."""

    def of(self, archive_bytes: int) -> int:
        """Most bytes that an archive of this size may become."""
        return int(min(self.num_bytes, max(self.small_bytes, self.ratio * archive_bytes)))


@dataclass(frozen=True)
class Unpacked:
    """Content of an archive that was unpacked."""

    num_files: int
    num_bytes: int
    entries: tuple[str, ...]
    """Names in the folder that it was unpacked into, without those below them."""


@dataclass(frozen=True)
class _Member:
    """A file or folder of an archive."""

    name: str
    is_folder: bool
    chunks: Callable[[], Iterator[bytes]]
    """Its content. Members are read in their order."""


@dataclass(frozen=True)
class _Content:
    members: Iterator[_Member]
    num_files: int | None = None
    """None: only reading all of it tells."""
    num_bytes: int | None = None


def unpack(file: Path, folder: Path, *, limits: Limits = Limits()) -> Unpacked:
    """Unpack an archive, and the archives inside it, into a folder: all files, or none.

    Files that are there already are kept where their content is the same, and refused otherwise. The files of archives
    inside lie where those lay. Raises UserError.
    """
    check_regular(file)
    if not file.is_file():
        raise UserError(f"{file}: not found. Check its name")
    unfinished = folder / f".{file.name}{PARTIAL}"
    try:
        check_folder(unfinished)
        folder.mkdir(parents=True, exist_ok=True)
        within(folder, unfinished.name)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        unpacking = _Unpacking(file, unfinished, limits)
        unpacking.all()
        _flush()
        entries = _move(file, unfinished, folder)
    except OSError as error:
        if what := used_up(error, folder):
            raise UserError(
                f"{folder}: {what}, and {file.name} needs more. Remove some files there, or choose another folder"
            ) from None
        raise UserError(
            f"{file}: it cannot be unpacked ({error.strerror}: {error.filename}). Check that {folder} may be written to, "
            "or choose another folder"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Unpacked(unpacking.num_files, unpacking.num_bytes, tuple(entries))


def is_archive(name: str) -> bool:
    """Whether a file's name is that of an archive."""
    return name.lower().endswith(SUFFIXES)


def check_unpacker(name: str) -> None:
    """Raise UserError where a file of this name is an archive that nothing here can unpack."""
    if name.lower().endswith(".rar"):
        _rarfile(name)
        if not _unpackers():
            _refuse_without_unpacker(name)


class _Unpacking:
    """The content of one archive on its way into an empty folder."""

    def __init__(self, file: Path, folder: Path, limits: Limits) -> None:
        self.file, self.folder, self.limits = file, folder, limits
        self.num_files = self.num_bytes = self._written_bytes = 0
        self._most_bytes = limits.of(file.stat().st_size)
        self._kinds: dict[str, tuple[str, bool]] = {}
        """By a path without case: how it is written, and whether it is a folder."""

    def all(self) -> None:
        """Unpack the archive, then those inside it."""
        waiting = [(self.file, PurePosixPath(), 1)]
        while waiting:
            archive, place, depth = waiting.pop(0)
            if depth > self.limits.depth:
                raise UserError(
                    f"{self.file}: it holds archives within archives, more than {self.limits.depth} deep "
                    f"({place / archive.name}). To have it all the same, unpack it by hand"
                )
            inner = self._unpack(archive, place)
            waiting += [(self.folder / path, path.parent, depth + 1) for path in inner]
            if depth > 1:
                self.num_files, self.num_bytes = self.num_files - 1, self.num_bytes - archive.stat().st_size
                archive.unlink()

    def _unpack(self, archive: Path, place: PurePosixPath) -> list[PurePosixPath]:
        """Unpack one archive; returns the paths of those inside it."""
        inner: list[PurePosixPath] = []
        where, num_files = str(self.file), 0
        if archive != self.file:
            where += f": '{archive.relative_to(self.folder).as_posix()}' in it"
        with _told(where, self.file.name), _opened(archive, where) as content:
            self._check(content.num_files or 0, content.num_bytes or 0)
            free_bytes = shutil.disk_usage(self.folder).free
            if (content.num_bytes or 0) > free_bytes:
                raise UserError(
                    f"{self.folder.parent}: {gib(free_bytes)} are free there, and {gib(content.num_bytes or 0)} are needed to "
                    f"unpack {self.file.name}. Free some space, or choose another folder"
                )
            with byte_progress(f"unpacking {archive.name}", content.num_bytes) as bar:
                for member in content.members:
                    path = self._place(where, place, member)
                    if path == place and not member.is_folder:
                        raise ValueError("a file in it has no name")
                    if member.is_folder:
                        (self.folder / path).mkdir(parents=True, exist_ok=True)
                        continue
                    num_files += 1
                    self._write(where, self.folder / path, member, bar.advance)
                    if is_archive(path.name):
                        inner.append(path)
            if not num_files:
                raise ValueError("it holds no file")
        return list(dict.fromkeys(inner))

    def _place(self, where: str, place: PurePosixPath, member: _Member) -> PurePosixPath:
        """Path of a member inside the folder. Raises UserError where its name leads elsewhere, or collides."""
        name = member.name.replace("\\", "/")  # (archives that Windows made)
        path = PurePosixPath(name)
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in path.parts or "\0" in name:
            raise UserError(
                f"{where}: '{member.name}' in it leads out of the folder that it is unpacked into. Do not trust it. "
                "Download it from elsewhere"
            )
        path = place / path
        if len(path.parts) > _MOST_FOLDERS:
            raise UserError(
                f"{where}: a file in it is more than {_MOST_FOLDERS} folders deep. If you trust it, unpack it by hand"
            )
        for number in range(1, len(path.parts) + 1):
            part = PurePosixPath(*path.parts[:number])
            is_folder = number < len(path.parts) or member.is_folder
            key = unicodedata.normalize("NFC", str(part)).casefold()
            known, was_folder = self._kinds.setdefault(key, (str(part), is_folder))
            if known != str(part) or was_folder != is_folder:
                raise UserError(
                    f"{where}: it holds '{known}' and '{part}', of which one would overwrite the other. To have both, "
                    "unpack it by hand"
                )
        return path

    def _write(self, where: str, path: Path, member: _Member, advance: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._compare(where, path, member)
            return
        self._check(1, 0)
        self.num_files += 1
        with path.open("xb") as file:
            for chunk in member.chunks():
                self._check(0, len(chunk))
                self.num_bytes += len(chunk)
                self._written_bytes += len(chunk)
                file.write(chunk)
                advance(len(chunk))

    def _compare(self, where: str, path: Path, member: _Member) -> None:
        """Raise UserError unless a member has the content of the file that has its name."""
        with path.open("rb") as file:
            is_same = all(file.read(len(chunk)) == chunk for chunk in member.chunks()) and not file.read(1)
        if not is_same:
            raise UserError(
                f"{where}: it holds '{member.name}' twice, with other content. To have it all the same, unpack it by hand"
            )

    def _check(self, num_files: int, num_bytes: int) -> None:
        """Raise UserError where so much more is too much."""
        if self.num_files + num_files > self.limits.num_files:
            raise UserError(
                f"{self.file}: it holds more than {plural(self.limits.num_files, 'file')}. If you trust it, unpack it by hand"
            )
        if self._written_bytes + num_bytes > self._most_bytes:
            raise UserError(
                f"{self.file}: it unpacks to more than {gib(self._most_bytes)}, too much for an archive of "
                f"{gib(self.file.stat().st_size)}. If you trust it, unpack it by hand"
            )


# Moved as a whole


def _move(file: Path, unfinished: Path, folder: Path) -> list[str]:
    """Move all that was unpacked; returns the names in the folder. Nothing is moved where one file would be replaced."""
    _check_free(unfinished, folder, file.name)
    entries = sorted(path.name for path in unfinished.iterdir())
    _merge(unfinished, folder)
    return entries


def _check_free(source: Path, folder: Path, name: str) -> None:
    """Raise UserError where a file would be replaced by another."""
    for path in sorted(source.iterdir()):
        target = within(folder, path.name)
        if not target.exists():
            continue
        if path.is_dir() and target.is_dir():
            _check_free(path, target, name)
        elif path.is_dir() or target.is_dir() or not filecmp.cmp(path, target, shallow=False):
            raise UserError(
                f"{target}: it is there already, with other content than in {name}. Remove or rename it, or choose another "
                "folder"
            )


def _merge(source: Path, folder: Path) -> None:
    for path in sorted(source.iterdir()):
        target = folder / path.name
        if not target.exists():
            path.rename(target)
        elif path.is_dir():
            _merge(path, target)


def _flush() -> None:
    """Bring all that was written to the disk, before a rename says that it is whole."""
    if hasattr(os, "sync"):
        os.sync()


# Formats


@contextmanager
def _opened(archive: Path, where: str) -> Iterator[_Content]:
    """Open an archive by its content. Raises UserError, and what the libraries raise."""
    start = _start(archive)
    opened = _rar if start.startswith(_RAR) else _zip if start.startswith(_ZIP) else _tar
    with opened(archive, where) as content:
        yield content


def _start(archive: Path) -> bytes:
    with archive.open("rb") as file:
        return file.read(10)


_DAMAGES: tuple[type[Exception], ...] = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, IndexError, NotImplementedError,
    RuntimeError, ValueError, OSError,
)  # fmt: skip
"""Errors of the libraries that mean a bad archive."""


@contextmanager
def _told(where: str, name: str) -> Iterator[None]:
    """Turn what libraries say about an archive in the block into a UserError. `name`: the file to download again."""
    try:
        yield
    except UserError:
        raise
    except _DAMAGES as error:
        if isinstance(error, OSError) and error.errno is not None:  # the machine's; gzip's and bzip2's have no number
            raise
        raise UserError(
            f"{where}: it is damaged, or not an archive that can be read here ({_said(error)}). Remove {name}, "
            "and download it again"
        ) from None


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _chunks(opened: Callable[[Any], Any], info: object) -> Iterator[bytes]:
    """Content of a member, which a library opens."""
    with opened(info) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _refuse_special(where: str, name: str) -> NoReturn:
    raise UserError(
        f"{where}: '{name}' in it is a link or a device, which is never unpacked. If you trust the archive, unpack it by hand"
    )


def _refuse_locked(where: str) -> NoReturn:
    raise UserError(f"{where}: it is locked by a password. To have it all the same, unpack it by hand")


@contextmanager
def _zip(archive: Path, where: str) -> Iterator[_Content]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        num_files = _zip_count(archive)
        if num_files not in (len(infos) % 2**16, 2**16 - 1):
            raise zipfile.BadZipFile(f"{plural(num_files, 'file')} announced, {len(infos)} found")
        yield _Content(_zip_members(opened, infos, where), len(infos), sum(info.file_size for info in infos))


def _zip_count(archive: Path) -> int:
    """Number of files that the end of a zip announces, modulo 2**16, or 2**16 - 1 for any (zip64). zipfile ignores it.

    A wrong length in the list of files makes one entry swallow the next (APPNOTE.TXT 4.3.16).
    """
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - (22 + 2**16)))
        end = file.read()
    return int.from_bytes(end[end.rindex(b"PK\5\6") + 10 :][:2], "little")


def _zip_members(opened: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo], where: str) -> Iterator[_Member]:
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse_special(where, info.filename)
        if info.flag_bits & 1:
            _refuse_locked(where)
        is_folder = info.orig_filename.endswith(("/", "\\"))
        yield _Member(info.orig_filename, is_folder, partial(_chunks, opened.open, info))


class _TarBytes:
    """Bytes of a tar for tarfile. While it reads a header, it is held to a number of them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.last = b""
        """What the last call read."""
        self.left: int | None = _MOST_HEADER_BYTES
        """None: any number."""

    def read(self, num_bytes: int) -> bytes:
        """Read this number of bytes, or what is left. Raises tarfile.ReadError where a header is too long."""
        if self.left is not None:
            if not 0 <= num_bytes <= self.left:  # (a header may announce less than nothing)
                raise tarfile.ReadError(f"a header in it is longer than {gib(_MOST_HEADER_BYTES)}")
            self.left -= num_bytes
        self.last = self._file.read(num_bytes)
        return self.last


@contextmanager
def _tar(archive: Path, where: str) -> Iterator[_Content]:
    with _decompressed(archive) as file:
        data = _TarBytes(file)
        with tarfile.open(fileobj=cast(IO[bytes], data), mode="r:") as opened:
            yield _Content(_tar_members(opened, data, where))


def _decompressed(archive: Path) -> IO[bytes]:
    start = _start(archive)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(archive))
    if re.match(rb"BZh[1-9]1AY&SY", start):
        return cast(IO[bytes], bz2.open(archive))
    if start.startswith(b"\xfd7zXZ"):
        return cast(IO[bytes], lzma.open(archive))
    return archive.open("rb")


def _tar_members(opened: tarfile.TarFile, data: _TarBytes, where: str) -> Iterator[_Member]:
    end = 0
    while (info := opened.next()) is not None:
        data.left = None
        vars(opened)["members"] = []  # (it would keep all of them)
        if opened.offset <= end:  # sizes below zero lead there, for ever
            raise tarfile.ReadError("its headers lead back")
        if sum(len(field) + len(value) for field, value in opened.pax_headers.items()) > _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"its headers are longer than {gib(_MOST_HEADER_BYTES)}")
        end = opened.offset
        if not (info.isreg() or info.isdir()):
            _refuse_special(where, info.name)
        yield _Member(info.name, info.isdir(), partial(_chunks, opened.extractfile, info))
        data.left = _MOST_HEADER_BYTES
    data.left = None
    _check_end(data)


def _check_end(data: _TarBytes) -> None:
    """Read to the end, where compression has its checksums. Raises tarfile.ReadError unless all of it are zeros.

    tarfile takes a damaged header for the end in silence, and zeros within, where a part of a download is missing.
    """
    if data.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends too early, or is damaged within")
    num_bytes = 0
    while chunk := data.read(_CHUNK_BYTES):
        num_bytes += len(chunk)
        if chunk.count(0) < len(chunk):
            raise tarfile.ReadError("more follows its end, or zeros stand where a part is missing")
        if num_bytes > _MOST_PADDING_BYTES:
            raise tarfile.ReadError(f"more than {gib(_MOST_PADDING_BYTES)} at its end are zeros")


# Rar


def _rarfile(where: str) -> Any:
    try:
        import rarfile
    except ImportError:
        raise UserError(
            f"{where}: reading rar needs the package rarfile. Install it: pip install 'muybridge[rar]'"
        ) from None
    return rarfile


@contextmanager
def _rar(archive: Path, where: str) -> Iterator[_Content]:
    """Read headers by rarfile, and content by a program that prints it: none is given a path to write to."""
    rarfile = _rarfile(where)
    blocks: list[Any] = []
    try:
        with rarfile.RarFile(archive, info_callback=blocks.append) as opened:
            if opened.needs_password():
                _refuse_locked(where)
            if any(block.flags & _more_volumes(rarfile, block) for block in blocks):
                _refuse_volumes(where)
            infos = opened.infolist()
            if fault := opened.strerror() or _missing_end(rarfile, blocks, archive.stat().st_size):
                raise ValueError(fault)
            for info in infos:
                if info.file_redir or not (info.is_file() or info.is_dir()):
                    _refuse_special(where, info.filename)
            files = [info for info in infos if info.is_file()]
            is_stored = all(info.compress_type == _STORED or not info.file_size for info in files)
            program = None if is_stored else _unpacker_of(archive, files, where)
            with _printing(program, archive) if program else nullcontext() as output:

                def chunks(info: Any) -> Iterator[bytes]:
                    if not info.file_size:
                        return iter(())
                    return (
                        _rar_chunks(output, info, program, where) if output and program else _chunks(opened.open, info)
                    )

                members = (_Member(info.filename, info.is_dir(), partial(chunks, info)) for info in infos)
                yield _Content(members, len(infos), sum(info.file_size for info in files))
    except rarfile.NeedFirstVolume:
        _refuse_volumes(where)
    except rarfile.Error as error:
        raise ValueError(str(error)) from None


def _refuse_volumes(where: str) -> NoReturn:
    raise UserError(f"{where}: it is one of several volumes. To have them all the same, unpack them by hand")


def _more_volumes(rarfile: Any, block: Any) -> int:
    """Flags of a block of rar that say that another file continues the archive."""
    if block.type == rarfile.RAR_BLOCK_ENDARC:
        return int(rarfile.RAR_ENDARC_NEXT_VOLUME)
    return int(rarfile.RAR_FILE_SPLIT_AFTER) if block.type == rarfile.RAR_BLOCK_FILE else 0


def _missing_end(rarfile: Any, blocks: Sequence[Any], num_bytes: int) -> str:
    """Fault of a rar's end, or an empty string. Rar 2 has no block for the end: its last block ends where the file does."""
    last = blocks[-1] if blocks else None
    if last is not None and last.type == rarfile.RAR_BLOCK_ENDARC:
        return ""
    newest = max((block.extract_version or 0 for block in blocks if block.type == rarfile.RAR_BLOCK_FILE), default=0)
    if last is not None and newest < _RAR_3 and last.data_offset + last.add_size == num_bytes:
        return ""
    return "its end is missing"


def _unpackers() -> list[str]:
    return [name for name in UNPACKERS if shutil.which(name)]


def _refuse_without_unpacker(where: str) -> NoReturn:
    raise UserError(
        f"{where}: nothing here unpacks rar. Install one of {', '.join(UNPACKERS)}: apt install unar (Debian, Ubuntu), brew "
        "install unar (macOS), conda install -c conda-forge libarchive (bsdtar)"
    )


def _unpacker_of(archive: Path, files: Sequence[Any], where: str) -> str:
    """First program here that prints the first file of an archive rightly: not each of them knows every rar."""
    first = next(info for info in files if info.file_size)
    for program in _unpackers():
        with _printing(program, archive) as output, suppress(UserError):
            for _ in _rar_chunks(output, first, program, where):
                pass
            return program
    if _unpackers():
        raise UserError(
            f"{where}: {', '.join(_unpackers())} cannot unpack it. Install another program (apt install unar, brew install "
            "unar), or download it again"
        )
    _refuse_without_unpacker(where)


@contextmanager
def _printing(program: str, archive: Path) -> Iterator[IO[bytes]]:
    """Run a program that prints all files of an archive, and give what it prints.

    Some programs of these names (unrar-free) write the files where they are called instead: that is an empty folder.
    """
    with tempfile.TemporaryDirectory(prefix="muybridge-", ignore_cleanup_errors=True) as empty:
        process = subprocess.Popen(
            [program, *UNPACKERS[program], str(archive.absolute())], cwd=empty,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _rar_chunks(output: IO[bytes], info: Any, program: str, where: str) -> Iterator[bytes]:
    """The next file of what a program prints. Raises UserError where it is not the one that the headers announce."""
    left, crc, blake = info.file_size, 0, _rarfile(where).Blake2SP()
    while left:
        chunk = output.read(min(left, _CHUNK_BYTES))
        if not chunk:
            break
        left, crc = left - len(chunk), zlib.crc32(chunk, crc)
        if info.CRC is None:
            blake.update(chunk)
        yield chunk
    is_right = crc == info.CRC if info.CRC is not None else blake.digest() == info.blake2sp_hash
    if left or not is_right:
        raise UserError(
            f"{where}: '{info.filename}' in it is damaged, or {program} cannot unpack it. Install another program (apt "
            "install unar, brew install unar), or download it again"
        )
