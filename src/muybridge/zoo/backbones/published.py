"""Addresses of image networks' published weights."""

from muybridge.zoo.base import Clips, Preprocessing, Published


def torchvision_imagenet(file: str, preprocessing: Preprocessing, *, size: int = 224) -> dict[str, Published]:
    """IMAGENET1K_V1 weights of torchvision, for images of `size` pixels.

    `file` as torchvision names it, with the first digits of its SHA-256.
    """
    network, _, sha256 = file.removesuffix(".pth").rpartition("-")
    about = f"torchvision's {network}, ImageNet-1k (IMAGENET1K_V1)"
    url = f"https://download.pytorch.org/models/{file}"
    return {"imagenet": Published(url, sha256, preprocessing, about, clips=Clips(1, size, 1))}
