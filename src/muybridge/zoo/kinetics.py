"""Weights of Kinetics-400, and the names of its classes.

`kinetics400.txt` are the 400 labels of Kay et al. 2017 in alphabetical order, which is the order of the classifiers of all
its public weights: DeepMind's label_map.txt, torchvision's `categories` and PyTorchVideo's kinetics_classnames.json agree.
"""

from pathlib import Path

from muybridge.zoo.base import Clips, Preprocessing, Published

CLASSES = tuple((Path(__file__).parent / "kinetics400.txt").read_text(encoding="utf-8").splitlines())
"""Names of the 400 classes, in the order of the classifiers."""


def of_kinetics(url: str, sha256: str, preprocessing: Preprocessing, about: str, clips: Clips) -> Published:
    """Weights whose last training set was Kinetics-400. `about`: the authors and the network."""
    return Published(url, sha256, preprocessing, f"{about}, Kinetics-400, {clips}", clips=clips, classes=CLASSES)
