"""Addresses of image networks' published weights."""

from muybridge.zoo.base import Preprocessing, Published


def torchvision_imagenet(file: str, preprocessing: Preprocessing) -> dict[str, Published]:
    """IMAGENET1K_V1 weights of torchvision; `file` as torchvision names it, with the first digits of its SHA-256."""
    network, _, sha256 = file.removesuffix(".pth").rpartition("-")
    about = f"torchvision's {network}, ImageNet-1k (IMAGENET1K_V1)"
    return {"imagenet": Published(f"https://download.pytorch.org/models/{file}", sha256, preprocessing, about)}
