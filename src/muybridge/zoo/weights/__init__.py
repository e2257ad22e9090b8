"""Weights that others trained: found, recognised, and renamed to the names here.

`SOURCES` are tried in this order. To add one: a module here with a `SOURCE`, and a line below.
"""

from muybridge.zoo.weights import (
    gluoncv,
    hugging_face,
    image_networks,
    muybridge,
    pyslowfast,
    pytorch_i3d,
    pytorchvideo,
    study_2021,
    torchvision_s3d,
    torchvision_video,
    tsm,
)
from muybridge.zoo.weights.source import Source

SOURCES: tuple[Source, ...] = (
    muybridge.SOURCE,
    hugging_face.SOURCE,
    tsm.SOURCE,
    *study_2021.SOURCES,
    *image_networks.SOURCES,
    pytorch_i3d.SOURCE,
    torchvision_s3d.SOURCE,
    torchvision_video.SOURCE,
    pytorchvideo.SOURCE,
    pyslowfast.SOURCE,
    gluoncv.SOURCE,
    muybridge.IMAGE_NETWORK,
)
