"""Archives of a set: downloaded, checked, unpacked and remembered, so that a call that was interrupted is repeated.

Everything of it lies in `.downloads` below the set's root: unfinished downloads, archives that are kept, and a record of
each that is done (its SHA-256, where it was unpacked). A file that the user puts into the root under an archive's name is
taken instead of a download, and is never removed.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from muybridge.data.sets.archives import Archive
from muybridge.data.sets.unpack import Limits, Unpacked, check_unpacker, is_archive, unpack
from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.runtime.download import NotDownloaded, begun_bytes, fetch
from muybridge.runtime.files import (
    PARTIAL,
    check_folder,
    clear_partials,
    read_as,
    sha256_file,
    used_up,
    within,
    write_json,
)
from muybridge.runtime.locks import locked
from muybridge.text import gib, plural

DOWNLOADS = ".downloads"
"""Folder below the root."""
RETRIES = 5
"""New tries of a broken connection that brings no byte more."""


@dataclass(frozen=True)
class Obtained:
    """Record of an archive that was downloaded and unpacked."""

    name: str
    folder: str
    """Folder below the root that it was unpacked into."""
    sha256: str
    num_bytes: int
    num_files: int
    unpacked_bytes: int
    entries: tuple[str, ...]
    """Names in that folder."""
    is_kept: bool = False
    """Whether the archive is to stay."""


def obtain(
    archives: Sequence[Archive], root: Path, *, keep: bool = False, limits: Limits | None = None
) -> list[Obtained]:
    """Download and unpack archives below `root`, but for what an earlier call has done.

    A call that was killed is repeated: it ends with the same files. `keep`: archives stay in `root/.downloads`. Files that
    are no archives (lists) are placed as they are. Raises UserError: nothing is left half unpacked, and what is downloaded
    stays.
    """
    places = [_Place(archive, root) for archive in archives]
    try:
        downloads = within(root, DOWNLOADS)
        for folder in (downloads, *(folder for place in places for folder in (place.folder, place.file.parent))):
            check_folder(folder)
        downloads.mkdir(parents=True, exist_ok=True)
        with locked(downloads, "downloads into it"):
            _check_before(root, [place for place in places if place.done() is None], keep)
            return [place.obtain(keep, limits or Limits()) for place in places]
    except OSError as error:
        if what := used_up(error, root):
            raise UserError(
                f"{root}: {what}. Remove some files there, and repeat the command: what is downloaded stays"
            ) from None
        raise UserError(
            f"{error.filename or root}: {error.strerror}. Check that {root} may be written to, or choose another folder"
        ) from None


def _check_before(root: Path, places: "Sequence[_Place]", keep: bool) -> None:
    """Raise UserError where the disk has too little space, or a program is missing: before the first byte comes."""
    for place in places:
        check_unpacker(place.name)
    to_come = {place: place.missing_bytes() for place in places}
    unpacked_bytes = sum(place.archive.num_bytes or 0 for place in places)
    archive_bytes = sum(to_come.values()) if keep else max(to_come.values(), default=0)
    free_bytes = shutil.disk_usage(root).free
    if archive_bytes + unpacked_bytes > free_bytes:
        raise UserError(
            f"{root}: {gib(free_bytes)} are free there, and at least {gib(archive_bytes + unpacked_bytes)} are needed: "
            f"{gib(archive_bytes)} to download and {gib(unpacked_bytes)} to unpack. Free some space, or choose another folder"
        )


class _Place:
    """An archive and its files below the root."""

    def __init__(self, archive: Archive, root: Path) -> None:
        self.archive, self.root = archive, root
        self.name = PurePosixPath(unquote(urlsplit(archive.urls[0]).path)).name
        for url in archive.urls:
            if urlsplit(url).scheme not in ("http", "https") or not url.isascii():
                raise UserError(f"{url}: not an address of the web. Begin it with http:// or https://, in ASCII")
        if self.name in ("", ".", ".."):
            raise UserError(f"{archive.urls[0]}: it names no file. Give the address of a file")
        self.folder = within(root, archive.folder)
        downloads = within(root, Path(DOWNLOADS) / archive.folder)
        self.file, self.record = downloads / self.name, downloads / f"{self.name}.json"
        self.users = within(root, self.name)
        """Where the user may put the file."""

    def done(self) -> Obtained | None:
        """Record of an earlier call, if what it left is there, and the published file is still that one."""
        if not self.record.is_file():
            return None
        obtained = read_as(Obtained, self.record)
        is_there = all((self.folder / name).exists() for name in obtained.entries)
        return obtained if is_there and obtained.sha256 == (self.archive.sha256 or obtained.sha256) else None

    def missing_bytes(self) -> int:
        """Bytes still to come, as far as it is known."""
        if self.users.is_file() or self.file.is_file():
            return 0
        return max(0, (self.archive.num_bytes or 0) - begun_bytes(self.file))

    def obtain(self, keep: bool, limits: Limits) -> Obtained:
        """Do what is left to do."""
        obtained = self.done()
        if obtained is None:
            obtained = self._obtain(keep, limits)
        if not (keep or obtained.is_kept):
            self.file.unlink(missing_ok=True)
        return obtained

    def _obtain(self, keep: bool, limits: Limits) -> Obtained:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        clear_partials(self.file.parent)
        file = self.users if self.users.is_file() else self.file
        digest = self._checked(file) if file.is_file() else self._download()
        unpacked = unpack(file, self.folder, limits=limits) if is_archive(self.name) else self._placed(file)
        obtained = Obtained(
            self.name, self.archive.folder, digest, file.stat().st_size, unpacked.num_files, unpacked.num_bytes,
            unpacked.entries, keep,
        )  # fmt: skip
        write_json(self.record, asdict(obtained))
        log(f"{self.name}: {plural(unpacked.num_files, 'file')}, {gib(unpacked.num_bytes)}, in {self.folder}")
        return obtained

    def _checked(self, file: Path) -> str:
        """Digest of a file that is there. Raises UserError where it is not the published one."""
        digest = sha256_file(file)
        if self.archive.sha256 not in (None, digest):
            raise UserError(
                f"{file}: it is not the published file: its SHA-256 is {digest}, and should be {self.archive.sha256}. "
                "Remove it, and it is downloaded"
            )
        return digest

    def _download(self) -> str:
        archive = self.archive
        try:
            digest = fetch(
                archive.urls, self.file, sha256=archive.sha256 or "", num_bytes=archive.num_bytes, retries=RETRIES
            )
        except NotDownloaded as error:
            raise UserError(
                f"{self.name}: it cannot be downloaded: {error}. Repeat the command; or download it by hand, put it at "
                f"{self.users}, and repeat it"
            ) from None
        if archive.sha256 is None:
            log(f"{self.name}: no checksum is published, so it was not checked (its SHA-256 is {digest})")
        return digest

    def _placed(self, file: Path) -> Unpacked:
        """Put another file than an archive where it belongs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = within(self.folder, self.name)
        num_bytes = file.stat().st_size
        if target != file:
            if target.exists() and sha256_file(target) != sha256_file(file):
                raise UserError(
                    f"{target}: it is there already, with other content than the published file. Remove or rename it"
                )
            partial = within(self.folder, f".{self.name}{PARTIAL}")
            shutil.copyfile(file, partial)
            partial.replace(target)
        return Unpacked(1, num_bytes, (self.name,))
