"""`verify`: read every file of a manifest again, and compare it with its hash."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.inputs import held_by
from muybridge.data.manifest import Manifest
from muybridge.data.stores.common import check_unchanged, videos_of
from muybridge.data.stores.parallel import in_order
from muybridge.data.stores.vectors import CheckedReader
from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.console import progress
from muybridge.runtime.files import check_regular
from muybridge.text import plural
from muybridge.video import DecodeError, FileReader, packs
from muybridge.video.readers import medium_of

MISSING = "no such file"


@dataclass(frozen=True)
class Verified:
    """Result of `verify`."""

    manifest: Path
    sha256: str
    """Hash of the manifest, as runs store it (`data.sha256`)."""
    files: int
    """Number of files that were read."""
    faults: list[dict[str, str]]
    """Files that are not as they were prepared: path and reason."""
    unhashed: int
    """Rows whose hash the manifest does not hold; they were only looked for."""

    @property
    def is_sound(self) -> bool:
        """Whether every file is as it was prepared."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "manifest": str(self.manifest)}

    def __str__(self) -> str:
        state = f"{plural(len(self.faults), 'file')} changed or missing" if self.faults else "as they were prepared"
        return f"{self.manifest}: {plural(self.files, 'file')}, {state}. sha256 {self.sha256}"


def verify(manifest: str | Path, *, jobs: int | None = None) -> Verified:
    """Hash every file of a manifest again, in parallel, and list those that are changed or missing.

    Also of a pack, whose files have hashes of their own, and of stored vectors, whose rows have checksums. Raises UserError.
    """
    source = Manifest.load(manifest)
    if held_by(source) is not None:
        units = [np.array([index]) for index in range(len(source))]
    elif (np.char.endswith(source.columns["path"], packs.SUFFIX.encode())).all():
        _, first = np.unique(source.columns["path"], return_index=True)
        units = [np.array([index]) for index in np.sort(first)]
    else:
        units = videos_of(source)
    hashes = source.text("sha256")

    def check(indices: np.ndarray, stop: Callable[[], bool]) -> str:
        row = source.row(int(indices[0]))
        file = row.path.partition("::")[0]
        try:
            if not os.path.exists(file):
                return MISSING
            check_regular(Path(file))
            if held_by(source) is not None:
                CheckedReader(FileReader()).read(row, np.arange(row.num_frames))
            elif medium_of(row.path) is packs:
                packs.check(row.path)
            else:
                check_unchanged(row, str(hashes[indices[0]]))
        except (DecodeError, UserError, OSError) as error:
            return DecodeError.of(row.path, error).reason
        return ""

    faults = []
    with progress("hashing", len(units)) as bar:
        for indices, reason in zip(units, in_order(check, units, jobs=jobs or processors.left().jobs), strict=True):
            if reason:
                faults.append({"path": str(source.text("path", indices[:1])[0]), "reason": reason})
            bar.advance()
    return Verified(Path(manifest), source.sha256(), len(units), faults, int((hashes == "").sum()))
