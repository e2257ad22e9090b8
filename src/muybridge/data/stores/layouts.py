"""A store of vectors in other layouts: one `.npy` file a video, or one HDF5 file with a dataset a video."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from muybridge.data.manifest import Manifest, from_columns
from muybridge.errors import UserError, nearest
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import is_partial, partial_name, within
from muybridge.video import FileReader, vectors

LAYOUTS = ("npy", "hdf5")
LONGEST = 120
"""Most characters of a label or an id in a path."""


def check_layout(name: str | None) -> None:
    """Raise UserError for a layout that is unknown, or whose library is missing."""
    if name is not None and name not in LAYOUTS:
        raise UserError(f"--format: '{name}' is unknown. {nearest(name, LAYOUTS)}")
    if name == "hdf5":
        try:
            import h5py  # noqa: F401
        except ImportError:
            raise UserError("--format: hdf5 needs h5py. Install it: pip install 'muybridge[hdf5]'") from None


def write(store: Path, layout: str) -> Path:
    """Write a finished store once more, as `STORE/npy/` or `STORE/hdf5/`, with a manifest that serves as the store's does.

    npy: `vectors/LABEL/NUMBER-ID.npy`, (T,D) a file. hdf5: `features.h5`, a dataset NUMBER-ID (T,D) a video, with the
    attributes id, label, group and its splits. Both are written whole or not at all. Raises UserError.
    """
    out = within(store, layout)
    for left in store.glob(f".{layout}.*"):  # of a call that was killed
        if left.is_dir() and not left.is_symlink() and is_partial(left.name):
            shutil.rmtree(left)
    manifest = Manifest.load(store)
    if out.exists():
        if not (out / "features.json").exists():
            raise UserError(f"{out}: it is there, and `features --format` did not write it. Remove it, or rename it")
        if Manifest.load(out).sha256() != manifest.sha256():
            raise UserError(f"{out}: it is of another store. Remove it, and repeat the command")
        log(f"{out} is written already")
        return out
    partial = partial_name(out)
    partial.mkdir()
    try:
        with progress(f"writing {layout}", len(manifest)) as bar:
            paths = []
            for path in (_as_npy if layout == "npy" else _as_hdf5)(manifest, partial):
                paths.append(path)
                bar.advance()
        columns = manifest.plain_columns()
        columns["path"] = np.array(paths, dtype=object)
        columns["start_frame"] = np.zeros(len(paths), dtype=np.int64)
        for name in ("features.json", "trained_on.json"):
            if (store / name).exists():
                shutil.copy(store / name, partial / name)
        from_columns(
            columns, classes=manifest.classes, root=partial, mirror=manifest.mirror,
            reversed_pairs=manifest.reversed_pairs, made_by=manifest.made_by, official_splits=manifest.official_splits,
            where=str(out),
        ).save(partial / "manifest.csv")  # fmt: skip
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def _read(manifest: Manifest) -> Iterator[tuple[int, str, str, np.ndarray]]:
    """(index, id, label, vectors in the type that is stored) of each row."""
    reader = FileReader()
    for index in range(len(manifest)):
        row = manifest.row(index)
        dtype = vectors.vectors_of(row.path).dtype
        label = str(manifest.text("label", np.array([index]))[0])
        yield index, row.id, label, reader.read(row, np.arange(row.num_frames)).astype(dtype)


def _plain(name: str) -> str:
    """A name as a part of a path on any system: its last characters, others than letters, digits, - and . as _."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)[-LONGEST:].strip(".") or "_"


def _as_npy(manifest: Manifest, out: Path) -> Iterator[str]:
    for index, name, label, vectors_TD in _read(manifest):
        plain = Path("vectors", _plain(label), f"{index:06d}-{_plain(name)}.npy")
        (out / plain.parent).mkdir(parents=True, exist_ok=True)
        np.save(within(out, plain), vectors_TD)
        yield plain.as_posix()


def _as_hdf5(manifest: Manifest, out: Path) -> Iterator[str]:
    import h5py

    with h5py.File(out / "features.h5", "w") as file:
        file.attrs["classes"] = json.dumps(list(manifest.classes))
        for index, name, label, vectors_TD in _read(manifest):
            plain = f"{index:06d}-{_plain(name)}"
            dataset = file.create_dataset(plain, data=vectors_TD)
            dataset.attrs["id"], dataset.attrs["label"] = name, label
            for column in ("group", *manifest.split_columns):
                dataset.attrs[column] = str(manifest.text(column, np.array([index]))[0])
            yield f"features.h5::{plain}"
