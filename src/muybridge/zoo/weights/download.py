"""Files from the web, into torch's own cache (`TORCH_HOME`), whole or not at all."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch

from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.runtime.download import NotDownloaded, fetch
from muybridge.runtime.files import sha256_file

TIMEOUT_SECONDS = 30.0
"""Longest silence of a server."""
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
"""PyTorch's hub names files so: resnet18-f37072fd.pth."""


def download(url: str, *, sha256: str = "", folder: Path | None = None) -> Path:
    """Download a file, unless it is in `folder` (default: torch's cache) already, and return its path.

    `sha256`: the digest's first digits, or all; empty: those in the file's name, if any. A partial download is resumed
    (`runtime.download`). Raises UserError.
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
        try:
            digest = fetch((url,), file, sha256=sha256, timeout_seconds=TIMEOUT_SECONDS)
        except NotDownloaded as error:
            raise UserError(
                f"{url}: it cannot be downloaded: {error.faults[url]}. Check the address; or download it by hand, put it at "
                f"{file}, and call again; or give another file's path"
            ) from None
        except OSError as error:
            raise UserError(
                f"{file}: it cannot be written: {error.strerror}. Free some space, or allow writing there"
            ) from None
    if not sha256:
        log(f"{file.name}: no checksum is published, so it was not checked (its SHA-256 is {digest})")
    return file


def digest_in(url: str) -> str:
    """The first digits of the SHA-256 in a file's name; empty without any."""
    match = _DIGEST_IN_NAME.search(urlsplit(url).path)
    return match[1] if match and not match[1].isdigit() else ""  # (a date)
