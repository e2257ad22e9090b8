"""Recipes of a learning report of 2020 that trains TSN and I3D on UCF101 and HMDB51 in few iterations.

Its results are *training* accuracy: compare them with `muybridge evaluate RUN --split train`.

Given by the report: SGD .9, weight decay 1e-4, lr .001 for VGG16 and .01 for ResNet50; batches of 5 to 15; milestones at
40, 70, 90, at 30, 50, or at 30, 55, 70 of 70 to 100 epochs of at most 100 or 200 iterations; a second run with milestones at
50 and 90 and 100 iterations. Left open by it and chosen here: batches of 10; the milestones of each model, with 100, 70 and
80 epochs; clips of TSN's three segments, and of 32 frames at a stride of 2 for I3D; ImageNet weights, which its library loads
by default (the text says none); crops, flips, and a dropout of .5.
"""

from muybridge.recipe.fields import replace
from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe

TSN_CLIP = Clip(num_frames=3, sampling="uniform", jitter="segment", size=224, short_side=256)
I3D_CLIP = Clip(num_frames=32, sampling="dense", stride_frames=2, size=224, short_side=256)


def tsn_vgg16_ucf101() -> Recipe:
    """TSN on VGG16, UCF101 (split 1).

    Source: a learning report of 2020. Chosen here: milestones at 40, 70 and 90 of 100 epochs, batches of 10, three
    segments, ImageNet weights.

    Published: *training* accuracy .80 after 100 epochs of 200 iterations.
    """
    return _recipe("tsn_vgg16", TSN_CLIP, lr=0.001, epochs=100, milestones=(40.0, 70.0, 90.0))


def i3d_resnet50_ucf101() -> Recipe:
    """I3D on ResNet50, UCF101.

    Source: a learning report of 2020. Chosen here: milestones at 30 and 50 of 70 epochs, batches of 10, 32 frames
    at a stride of 2, ImageNet weights.

    Published: *training* accuracy .81.
    """
    return _recipe("i3d_resnet50", I3D_CLIP, lr=0.01, epochs=70, milestones=(30.0, 50.0))


def tsn_resnet50_hmdb51() -> Recipe:
    """TSN on ResNet50, HMDB51.

    Source: a learning report of 2020. Chosen here: milestones at 30, 55 and 70 of 80 epochs, batches of 10, three
    segments, ImageNet weights.

    Published: *training* accuracy .82.
    """
    return _recipe("tsn_resnet50", TSN_CLIP, lr=0.01, epochs=80, milestones=(30.0, 55.0, 70.0))


def i3d_resnet50_hmdb51() -> Recipe:
    """I3D on ResNet50, HMDB51.

    Source: a learning report of 2020. Chosen here: milestones at 30, 55 and 70 of 80 epochs, batches of 10, 32
    frames at a stride of 2, ImageNet weights.

    Published: no result.
    """
    return _recipe("i3d_resnet50", I3D_CLIP, lr=0.01, epochs=80, milestones=(30.0, 55.0, 70.0))


def tsn_vgg16_ucf101_second() -> Recipe:
    """TSN on VGG16, UCF101 (split 1), the second run: milestones at 50 and 90 of 100 epochs of 100 iterations.

    Source: a learning report of 2020. Chosen here: batches of 10, three segments, ImageNet weights.

    Published: *training* accuracy .70 after 100 epochs of 100 iterations.
    """
    return _second_run(tsn_vgg16_ucf101())


def i3d_resnet50_ucf101_second() -> Recipe:
    """I3D on ResNet50, UCF101, the second run: milestones at 50 and 90 of 100 epochs of 100 iterations.

    Source: a learning report of 2020. Chosen here: batches of 10, 32 frames at a stride of 2, ImageNet
    weights.

    Published: no result.
    """
    return _second_run(i3d_resnet50_ucf101())


def tsn_resnet50_hmdb51_second() -> Recipe:
    """TSN on ResNet50, HMDB51, the second run: milestones at 50 and 90 of 100 epochs of 100 iterations.

    Source: a learning report of 2020. Chosen here: batches of 10, three segments, ImageNet weights.

    Published: no result.
    """
    return _second_run(tsn_resnet50_hmdb51())


def i3d_resnet50_hmdb51_second() -> Recipe:
    """I3D on ResNet50, HMDB51, the second run: milestones at 50 and 90 of 100 epochs of 100 iterations.

    Source: a learning report of 2020. Chosen here: batches of 10, 32 frames at a stride of 2, ImageNet
    weights.

    Published: no result.
    """
    return _second_run(i3d_resnet50_hmdb51())


def _second_run(first: Recipe) -> Recipe:
    """Second run: other milestones, and half the iterations."""
    return replace(first, {"optim.milestones": (50.0, 90.0), "optim.epochs": 100, "optim.steps_per_epoch": 100})


def _recipe(model: str, clip: Clip, *, lr: float, epochs: int, milestones: tuple[float, ...]) -> Recipe:
    return Recipe(
        clip=clip,
        augment=Augment(crop="multiscale", flip_probability=0.5),
        model=Model(name=model, pretrained="imagenet", dropout=0.5),
        optim=Optim(
            optimizer="sgd", lr=lr, lr_batch_size=10, momentum=0.9, weight_decay=1e-4, weight_decay_exempt="nothing",
            batch_size=10, schedule="steps", milestones=milestones, epochs=epochs, steps_per_epoch=200,
        ),
        evaluation=Evaluation(num_clips=1, num_crops=1, crop_fraction=224 / 256, every_epochs=10),
    )  # fmt: skip
