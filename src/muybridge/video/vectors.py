"""Stored vectors: a `.npy` file of float16 or float32 (N,D), read in place. Row n is the vector of frame n.

`muybridge features` writes them, and so does any program that saves an array of two axes. `FILE.h5::NAME` is a dataset of an
HDF5 file, by the extra `[hdf5]`.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from muybridge.video.arrays import SUFFIX, mapped
from muybridge.video.decode import VideoInfo
from muybridge.video.errors import DecodeError
from muybridge.video.indices import as_asked, distinct_frames

IN_HDF5 = ".h5::"
"""Between an HDF5 file's name and that of a dataset in it."""


def vectors_of(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a file as (N,D), without loading it. Raises DecodeError, also where the library of an HDF5 file is missing."""
    file, inside, dataset = os.fspath(path).partition(IN_HDF5)
    file += inside.removesuffix("::")
    if os.path.exists(file) and not os.path.isfile(file):
        raise DecodeError(path, "it is not a regular file")
    try:
        return _mapped(file, dataset, os.stat(file).st_mtime_ns)
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None


@functools.lru_cache(maxsize=4096)
def _mapped(path: str, dataset: str, mtime_ns: int) -> np.ndarray:
    vectors = _in_hdf5(path, mtime_ns, dataset) if dataset else mapped(path)
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32) or vectors.size == 0:
        raise DecodeError(
            path, f"is {vectors.dtype} of shape {vectors.shape}; vectors are float16 or float32 of shape (N,D)"
        )
    return vectors


def _in_hdf5(path: str, mtime_ns: int, name: str) -> Any:
    file = _hdf5(path, mtime_ns)
    import h5py

    try:
        parts = name.strip("/").split("/")
        links = [file.get("/".join(parts[: end + 1]), getlink=True) for end in range(len(parts))]
        found = file[name] if all(isinstance(link, h5py.HardLink) for link in links) else None
        if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
            raise DecodeError(path, f"it has no dataset '{name}' of its own (links are not followed)")
        return found
    except (KeyError, RuntimeError, OSError, ValueError) as error:
        raise DecodeError(path, f"its dataset '{name}' cannot be read ({type(error).__name__}: {error})") from None


@functools.lru_cache(maxsize=8)
def _hdf5(path: str, mtime_ns: int) -> Any:
    try:
        import h5py
    except ImportError:
        raise DecodeError(path, "reading it needs h5py: pip install 'muybridge[hdf5]'") from None
    return h5py.File(path, "r")


def frames(
    path: str | os.PathLike[str], *, start_frame: int = 0, short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Yield the vectors from `start_frame` on, each (D,) float32. They have no size to scale."""
    vectors_ND = vectors_of(path)
    for index in range(start_frame, len(vectors_ND)):
        yield _checked(path, vectors_ND[index : index + 1], np.array([index]))[0]


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    short_side: int | None = None,
    seekable: bool = False,
) -> np.ndarray:
    """Read the vectors at `indices` (any order, repeats allowed) as (T,D) float32.

    Raises DecodeError past the last one, and for numbers that are not finite.
    """
    distinct, positions = distinct_frames(indices)
    vectors_ND = vectors_of(path)
    if distinct[-1] >= len(vectors_ND):
        raise DecodeError(path, f"vector {distinct[-1]} was asked for, but there are {len(vectors_ND)}")
    first, last = int(distinct[0]), int(distinct[-1])
    is_run = last - first == len(distinct) - 1  # neighbours are one read
    return as_asked(
        _checked(path, vectors_ND[first : last + 1] if is_run else vectors_ND[distinct], distinct), positions
    )


def _checked(path: str | os.PathLike[str], vectors_TD: np.ndarray, indices_T: np.ndarray) -> np.ndarray:
    read_TD = np.array(vectors_TD, dtype=np.float32)
    if not np.isfinite(read_TD).all():
        index = int(indices_T[np.flatnonzero(~np.isfinite(read_TD).all(1))[0]])
        raise DecodeError(path, f"vector {index} is damaged: it holds numbers that are not finite")
    return read_TD


def width(path: str | os.PathLike[str]) -> int:
    """Numbers in each vector of a file, D. Raises DecodeError."""
    return int(vectors_of(path).shape[1])


def is_vectors(path: str | os.PathLike[str]) -> bool:
    """Whether the path names a `.npy` file of two axes; False for one that cannot be read."""
    if IN_HDF5 in os.fspath(path):
        return True
    if not os.fspath(path).endswith(SUFFIX):
        return False
    try:
        return os.path.isfile(path) and _has_two_axes(os.fspath(path), os.stat(path).st_mtime_ns)
    except (OSError, DecodeError):
        return False


@functools.lru_cache(maxsize=2**16)
def _has_two_axes(path: str, mtime_ns: int) -> bool:
    return mapped(path).ndim == 2


def probe(path: str | os.PathLike[str], *, fps: float) -> VideoInfo:
    """Describe a file of the vectors of one video; `fps` is given, as arrays hold none. Raises DecodeError."""
    vectors_ND = vectors_of(path)
    if not np.isfinite(vectors_ND).all():
        raise DecodeError(path, "it holds numbers that are not finite")
    return VideoInfo(len(vectors_ND), 0, fps, vectors_ND.shape[1], 1, np.arange(len(vectors_ND)) / fps, seekable=False)
