"""Weights that others trained: where they are found, whose they are, and what they are called here.

`SOURCES` are tried in this order. To add one: a module here with a `SOURCE`, and a line below.
"""

from muybridge.zoo.weights import (
    hugging_face,
    image_networks,
    pyslowfast,
    pytorch_i3d,
    pytorchvideo,
    study_2021,
    torchvision_s3d,
    torchvision_video,
    tsm,
)
from muybridge.zoo.weights import (
    muybridge as own,
)
from muybridge.zoo.weights.source import Source

SOURCES: tuple[Source, ...] = (
    own.SOURCE,
    hugging_face.SOURCE,
    tsm.SOURCE,
    *study_2021.SOURCES,
    *image_networks.SOURCES,
    pytorch_i3d.SOURCE,
    torchvision_s3d.SOURCE,
    torchvision_video.SOURCE,
    pytorchvideo.SOURCE,
    pyslowfast.SOURCE,
    own.IMAGE_NETWORK,
)
