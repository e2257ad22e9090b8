"""Files from the web, into torch's own cache (`TORCH_HOME`), whole or not at all."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch

from muybridge.errors import UserError
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import sha256_file

TIMEOUT_SECONDS = 30.0
"""Longest silence of a server."""
_CHUNK_BYTES = 1 << 20
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
"""PyTorch's hub names files so: resnet18-f37072fd.pth."""


def download(url: str, *, sha256: str = "", folder: Path | None = None) -> Path:
    """Download a file, unless it is in `folder` (default: torch's cache) already, and return its path.

    `sha256`: the digest's first digits, or all; empty: those in the file's name, if any. A partial download is resumed if a
    digest can check the whole. Raises UserError.
    """
    try:
        is_web = urlsplit(url).scheme in ("http", "https") and url.isascii()
    except ValueError:
        is_web = False
    if not is_web:
        raise UserError(f"{url}: not an address of weights. Begin it with http:// or https://, in ASCII")
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    name = Path(unquote(urlsplit(url).path)).name
    if name in ("", ".", "..") or len(name) > 200:
        raise UserError(f"{url}: it names no file. Give the address of a file")
    sha256 = sha256 or digest_in(url)
    if not sha256:  # files of other addresses may have this name, and no digest tells them apart
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}.{name}"
    file = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    with FileLock(folder / f".{name}.lock"):
        if file.is_file():
            if not sha256_file(file).startswith(sha256):
                raise UserError(
                    f"{file}: it is not the file published at {url}, as its SHA-256 does not begin with {sha256}. "
                    "Remove it, and it is downloaded again"
                )
            return file
        partial = folder / f"{name}.partial"
        if not sha256:
            partial.unlink(missing_ok=True)
        by_hand = f"Download it by hand, put it at {file}, and call again; or give another file's path"
        try:
            _fetch(url, partial)
        except urllib.error.HTTPError as error:
            raise UserError(
                f"{url}: it cannot be downloaded: the server answers {error.code} {error.reason}. Check the address, "
                "or give a file's path"
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(f"{url}: it cannot be downloaded: {reason}. {by_hand}") from None
        digest = sha256_file(partial)
        if not digest.startswith(sha256):
            partial.unlink()
            raise UserError(
                f"{url}: it gave a wrong file: its SHA-256 is {digest}, and should begin with {sha256}. {by_hand}"
            )
        partial.replace(file)
    if not sha256:
        log(f"{file.name}: no checksum is published, so it was not checked (its SHA-256 is {digest})")
    return file


def digest_in(url: str) -> str:
    """The first digits of the SHA-256 in a file's name; empty without any."""
    match = _DIGEST_IN_NAME.search(urlsplit(url).path)
    return match[1] if match and not match[1].isdigit() else ""  # (a date)


def _fetch(url: str, partial: Path) -> None:
    """Append the rest of a file to `partial`. Raises OSError where the connection ends too early."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "muybridge"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it is here, or of another file
            return
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise OSError("the answer is a web page, not a file")
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        chunks = -(-(total or 0) // _CHUNK_BYTES)
        with partial.open("r+b" if have else "wb") as file, progress(f"{partial.stem} (MiB)", chunks) as bar:
            file.seek(have)
            bar.advance(have // _CHUNK_BYTES)
            while data := response.read(_CHUNK_BYTES):
                have += file.write(data)
                bar.advance()
    if total is not None and have != total:
        raise OSError(f"the connection ended after {have} of {total} bytes")
