"""Files from the web, into torch's own cache (`TORCH_HOME`), whole or not at all."""

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock

from muybridge.console import log, progress
from muybridge.errors import UserError
from muybridge.files import sha256_file

TIMEOUT_SECONDS = 30.0
"""Of silence."""
_CHUNK_BYTES = 1 << 20
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
"""As in resnet18-f37072fd.pth: the custom of PyTorch's hub."""


def download(url: str, *, sha256: str = "", folder: Path | None = None) -> Path:
    """The file's path in `folder` (default: torch's cache), where it may lie already. `sha256`: the digest's first digits,
    or all; empty: those in the file's name, if any.

    What a broken connection left is gone on with, where the digest can tell whether the whole is right. Raises UserError.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url} is no address of weights; http:// and https:// are")
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    name = Path(unquote(urlsplit(url).path)).name
    if not name:
        raise UserError(f"{url} names no file")
    in_name = _DIGEST_IN_NAME.search(name)
    sha256 = sha256 or (in_name[1] if in_name else "")
    file = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if file.is_file():
            if not sha256_file(file).startswith(sha256):
                raise UserError(
                    f"{file} is not the file published at {url}: its SHA-256 does not begin with {sha256}. Remove it, "
                    "and it is downloaded again"
                )
            return file
        partial = folder / f"{name}.partial"
        if not sha256:
            partial.unlink(missing_ok=True)
        by_hand = f"Download it by hand, put it at {file}, and call again; or give another file's path"
        try:
            _fetch(url, partial)
        except urllib.error.HTTPError as error:
            raise UserError(f"{url} cannot be downloaded: the server answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(f"{url} cannot be downloaded: {reason}. {by_hand}") from None
        digest = sha256_file(partial)
        if not digest.startswith(sha256):
            partial.unlink()
            raise UserError(f"{url} gave a wrong file: its SHA-256 is {digest}, and should begin with {sha256}")
        partial.replace(file)
    if not sha256:
        log(f"{file.name}: no checksum is published, so it was not checked (its SHA-256 is {digest})")
    return file


def _fetch(url: str, partial: Path) -> None:
    """Write the rest of a file behind what `partial` holds. Raises OSError where the connection ends too early."""
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
