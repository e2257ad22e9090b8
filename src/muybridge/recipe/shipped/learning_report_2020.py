"""Recipes of a learning report of 2020 that trains TSN and I3D on UCF101 and HMDB51 in few iterations.

Its results are *training* accuracy: compare them with `muybridge evaluate RUN --split train`.

Given by the report: SGD .9, weight decay 1e-4, batches of 5 or 15, the learning rate of each batch, the epochs and their
falls by a tenth, no pretrained weights for TSN; epochs of 200 iterations, 100 in its second run of TSN on VGG16. Given by the
notebooks it follows (GluonCV's tutorials, and the networks they name): three segments; 32 frames at a stride of 2; multi-scale
crops of 224 of 340 x 256 pixels, flips; a dropout of .9 in VGG16 and of .5 in ResNet50; I3D grown from a ResNet50 that knows
ImageNet. Chosen here: what both leave open, as each recipe says.
"""

from muybridge.recipe.fields import replace
from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe

TSN_CLIP = Clip(num_frames=3, sampling="uniform", jitter="segment", size=224, short_side=256)
I3D_CLIP = Clip(num_frames=32, sampling="dense", stride_frames=2, size=224, short_side=256)


def tsn_vgg16_ucf101() -> Recipe:
    """TSN on VGG16, UCF101 (split 1), from scratch: batches of 5, 100 epochs of 200 iterations.

    Source: a learning report of 2020. Chosen here: tests of one clip, 224 of 256 pixels, every 10 epochs.

    Published: *training* accuracy .80 after 100 epochs of 200 iterations.
    """
    recipe = _recipe("tsn_vgg16", TSN_CLIP, batch_size=5, lr=0.001, epochs=100, milestones=(40.0, 70.0, 90.0))
    return replace(recipe, {"model.dropout": 0.9})


def tsn_vgg16_ucf101_second() -> Recipe:
    """TSN on VGG16, UCF101 (split 1), the second run: falls at 50 and 90 of 100 epochs of 100 iterations.

    Source: a learning report of 2020. Chosen here: tests of one clip, 224 of 256 pixels, every 10 epochs.

    Published: *training* accuracy .70 after 100 epochs of 100 iterations.
    """
    return replace(tsn_vgg16_ucf101(), {"optim.milestones": (50.0, 90.0), "optim.steps_per_epoch": 100})


def tsn_resnet50_hmdb51() -> Recipe:
    """TSN on ResNet50, HMDB51, from scratch: batches of 15, 70 epochs.

    Source: a learning report of 2020. Chosen here: 200 iterations an epoch; tests of one clip, 224 of 256 pixels, every 10
    epochs.

    Published: *training* accuracy .82.
    """
    return _recipe("tsn_resnet50", TSN_CLIP, batch_size=15, lr=0.01, epochs=70, milestones=(30.0, 50.0))


def i3d_resnet50_ucf101() -> Recipe:
    """I3D on ResNet50, UCF101, from ImageNet: batches of 5, 80 epochs.

    Source: a learning report of 2020. Chosen here: 200 iterations an epoch; tests of one clip, 224 of 256 pixels, every 10
    epochs.

    Published: *training* accuracy .81.
    """
    return _i3d()


def i3d_resnet50_hmdb51() -> Recipe:
    """I3D on ResNet50, HMDB51, from ImageNet: batches of 5, 80 epochs.

    Source: a learning report of 2020. Chosen here: 200 iterations an epoch; tests of one clip, 224 of 256 pixels, every 10
    epochs.

    Published: no result.
    """
    return _i3d()


def _i3d() -> Recipe:
    recipe = _recipe("i3d_resnet50_gluoncv", I3D_CLIP, batch_size=5, lr=0.01, epochs=80, milestones=(30.0, 55.0, 70.0))
    return replace(recipe, {"model.pretrained": "imagenet"})


def _recipe(
    model: str, clip: Clip, *, batch_size: int, lr: float, epochs: int, milestones: tuple[float, ...]
) -> Recipe:
    return Recipe(
        clip=clip,
        augment=Augment(crop="multiscale", flip_probability=0.5),
        model=Model(name=model, pretrained=None, dropout=0.5),
        optim=Optim(
            optimizer="sgd", lr=lr, lr_batch_size=batch_size, momentum=0.9, weight_decay=1e-4,
            weight_decay_exempt="nothing", batch_size=batch_size, schedule="steps", milestones=milestones,
            epochs=epochs, steps_per_epoch=200,
        ),
        evaluation=Evaluation(num_clips=1, num_crops=1, crop_fraction=224 / 256, every_epochs=10),
    )  # fmt: skip
