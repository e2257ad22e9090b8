"""One file from the web, whole or not at all: resumed, checked, from the first of several addresses that gives it."""

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from muybridge.errors import UserError
from muybridge.runtime.console import byte_progress, log
from muybridge.runtime.files import sha256_file, sync_folder, write_json
from muybridge.text import gib

TIMEOUT_SECONDS = 30.0
"""Longest silence of a server."""
PAUSE_SECONDS = 1.0
"""Wait before the first new try; it doubles with every further one."""
_SLOWEST_BYTES_PER_SECOND = 1024
_CHUNK_BYTES = 1 << 20
_WEB_PAGE = (b"<!doctype html", b"<html")
_A_WEB_PAGE = "the answer is a web page, not a file (it may ask for a login or a consent)"
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP's status codes of a server that may answer better later."""


class NotDownloaded(Exception):
    """No address gave the file; `faults` has what was wrong with each."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__("; ".join(f"{url}: {fault}" for url, fault in faults.items()))
        self.faults = faults


class _Fault(Exception):
    """An address does not give the file."""


class _Broken(_Fault):
    """An address has not given all of the file, and may when asked again."""


def fetch(
    urls: Sequence[str],
    file: Path,
    *,
    sha256: str = "",
    num_bytes: int | None = None,
    retries: int = 0,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> str:
    """Download a file from the first of `urls` that gives it, and return its SHA-256.

    `sha256`: the digest's first digits, or all; `num_bytes`: its size; both are checked where they are known. What is there
    of an earlier call is continued where the server can, and either a digest checks the whole or the server vouches for an
    unchanged file. `retries`: how often a broken connection is tried again without a byte more. The caller sees to it that
    no other process does the same. Raises NotDownloaded, UserError where the disk has too little space, and OSError for
    what the disk refuses.
    """
    download = _Download(file, sha256, num_bytes, timeout_seconds)
    faults: dict[str, str] = {}
    for url in urls:
        try:
            return download.whole(url, retries)
        except _Fault as fault:
            faults[url] = str(fault)
            if len(faults) < len(set(urls)):
                log(f"{url}: {fault}; the next address is tried")
    raise NotDownloaded(faults)


def begun_bytes(file: Path) -> int:
    """Size of what an unfinished download of this file left."""
    partial = _partial(file)
    return partial.stat().st_size if partial.is_file() else 0


def _partial(file: Path) -> Path:
    return file.with_name(f"{file.name}.partial")


class _Download:
    """The download of one file, from any address."""

    def __init__(self, file: Path, sha256: str, num_bytes: int | None, timeout_seconds: float) -> None:
        self.file, self.sha256, self.num_bytes, self.timeout_seconds = file, sha256, num_bytes, timeout_seconds
        self.partial = _partial(file)
        self.origin = file.with_name(f"{file.name}.origin")
        """Where the partial file is from, and what tells whether the file there is still the same."""
        self.is_joined = False
        """Whether the partial file was received in several parts."""

    def whole(self, url: str, retries: int) -> str:
        """Download from one address. Raises _Fault."""
        self._all_of(url, retries)
        digest = sha256_file(self.partial)
        if not digest.startswith(self.sha256) and self.is_joined:  # the part that was there may be the wrong one
            self._drop()
            self._all_of(url, retries)
            digest = sha256_file(self.partial)
        if not digest.startswith(self.sha256):
            self._drop()
            raise _Fault(f"it gave a wrong file: its SHA-256 is {digest}, and should begin with {self.sha256}")
        self.origin.unlink(missing_ok=True)
        os.replace(self.partial, self.file)
        sync_folder(self.file.parent)
        return digest

    def _all_of(self, url: str, retries: int) -> None:
        left, most, pause = retries, begun_bytes(self.file), PAUSE_SECONDS
        while True:
            try:
                return self._append(url)
            except _Broken as broken:
                if begun_bytes(self.file) > most and retries:
                    left, most, pause = retries, begun_bytes(self.file), PAUSE_SECONDS
                if not left:
                    raise
                log(f"{url}: {broken}; tried again in {pause:.0f} s")
                time.sleep(pause)
                left, pause = left - 1, 2 * pause

    def _append(self, url: str) -> None:
        """Append what is missing, or begin again. Raises _Fault."""
        origin, have = self._known_origin(), begun_bytes(self.file)
        validator = origin["validator"] if origin.get("url") == url else None
        if not (validator or self.sha256):
            have = 0
        request = urllib.request.Request(url, headers={"User-Agent": "muybridge"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            if validator:
                request.add_header("If-Range", validator)
        try:
            response = _opener().open(request, timeout=self.timeout_seconds)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if self.sha256:  # all of it is here, or of another file: the digest decides
                    self.is_joined = True
                    return None
                self._drop()
                return self._append(url)
            text = f"the server answers {error.code} {error.reason}"
            raise (_Broken(text) if error.code in _PASSING else _Fault(text)) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(_reason(error)) from None
        except ValueError as error:
            raise _Fault(_reason(error)) from None
        with response:
            if response.headers.get_content_type() == "text/html":
                raise _Fault(_A_WEB_PAGE)
            start, total = _extent(response, have)
            if start and not have:
                raise _Fault("the server sends a part of the file, and was asked for the whole")
            if start and (start != have or _is_other(origin, validator, response, total)):
                self._drop()
                return self._append(url)
            if self.num_bytes is not None and total not in (None, self.num_bytes):
                raise _Fault(f"it has {total} bytes, and should have {self.num_bytes}")
            if start == 0:
                self._drop()
                write_json(self.origin, {"url": url, "validator": _validator(response), "num_bytes": total})
            self.is_joined = start > 0
            self._check_room(url, (total or 0) - start)
            return self._receive(response, start, total)

    def _receive(self, response: http.client.HTTPResponse, have: int, total: int | None) -> None:
        most = total if total is not None else self.num_bytes
        is_first = have == 0
        with (
            self.partial.open("r+b" if have else "wb") as file,
            byte_progress(self.file.name, most) as bar,
        ):
            file.seek(have)
            bar.advance(have)
            since, came = time.monotonic(), 0
            while data := _read(response):
                if is_first and data.lstrip()[:20].lower().startswith(_WEB_PAGE):
                    self._drop()
                    raise _Fault(_A_WEB_PAGE)
                is_first = False
                have, came = have + len(data), came + len(data)
                if most is not None and have > most:
                    self._drop()
                    raise _Fault(f"it sends more than {most} bytes")
                file.write(data)
                bar.advance(len(data))
                seconds = time.monotonic() - since
                if seconds > 2 * self.timeout_seconds:
                    if came < seconds * _SLOWEST_BYTES_PER_SECOND:
                        raise _Broken(f"it sends too slowly ({came} bytes in {seconds:.0f} s)")
                    since, came = time.monotonic(), 0
            file.flush()
            os.fsync(file.fileno())
        if most is not None and have != most:
            raise _Broken(f"the connection ended after {have} of {most} bytes")

    def _check_room(self, url: str, num_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self.file.parent).free
        if num_bytes > free_bytes:
            raise UserError(
                f"{self.file.parent}: {gib(free_bytes)} are free there, and {gib(num_bytes)} are still to come from {url}. "
                "Free some space, or choose another folder"
            )

    def _known_origin(self) -> dict:
        with suppress(OSError, ValueError):
            origin = json.loads(self.origin.read_text(encoding="utf-8"))
            if isinstance(origin, dict) and {"url", "validator", "num_bytes"} <= set(origin):
                return origin
        return {}

    def _drop(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows the web alone: a redirection leads to no file of this machine, and to no other protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _read(response: http.client.HTTPResponse) -> bytes:
    """The bytes that have come, empty at the end. Raises _Broken."""
    try:
        return response.read1(_CHUNK_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from None


def _extent(response: http.client.HTTPResponse, asked: int) -> tuple[int, int | None]:
    """First byte of an answer, and the size of the whole file where it is said."""
    length = response.headers.get("Content-Length", "")
    num_bytes = int(length) if length.isascii() and length.isdigit() else None
    if response.status != http.client.PARTIAL_CONTENT:
        return 0, num_bytes
    said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    start = int(said[1]) if said else asked
    if said and said[2] != "*":
        return start, int(said[2])
    return start, None if num_bytes is None else start + num_bytes


def _is_other(origin: dict, validator: str | None, response: http.client.HTTPResponse, total: int | None) -> bool:
    """Whether a part is of another file than what was received before."""
    is_changed = validator is not None and _validator(response) not in (None, validator)
    return is_changed or origin.get("num_bytes") not in (None, total)


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Header by which a server tells whether its file has changed: a strong ETag, or the time of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
