"""A course project of 2019: three small networks on UCF-11, 30 frames of 64 x 64 pixels."""

from muybridge.recipe.fields import replace, with_network
from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe, Stop


def ucf11() -> Recipe:
    """UCF-11 at 64 x 64 with `cnn_lstm` (also `c3d_small`, `vgg9`), until validation accuracy reaches .75.

    Source: a course project of 2019: Adam at .001, batches of 16, at most 128 epochs of 256 batches, and the weights of
    cnn_lstm from a normal distribution with a standard deviation of .1. Other networks begin as they do elsewhere.
    Augmentation, dropout and weight decay, which it does not name, are off. One frame of each of 30 equal parts is ours.

    Published: cnn_lstm .75 on 160 validation clips of a random split, where training stops; c3d_small and vgg9 did not learn.
    (Clips of one recording are on both sides of such a split; `prepare --group` keeps them apart.)
    """
    return Recipe(
        clip=Clip(num_frames=30, sampling="uniform", jitter="segment", size=64, short_side=64),
        augment=Augment(crop="center", flip_probability=0.0),
        model=Model(name="cnn_lstm", pretrained=None, init_std=0.1, dropout=0.0),
        optim=Optim(
            optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=16, schedule="constant", epochs=128,
            steps_per_epoch=256,
        ),
        stop=Stop(metric="val.video_top1", target=0.75),
        evaluation=Evaluation(num_clips=1, num_crops=1),
    )  # fmt: skip


def ucf11_c3d() -> Recipe:
    """UCF-11 with `c3d_small`, as `ucf11` trains `cnn_lstm`, at a learning rate with which it learns.

    Source: a course project of 2019, all but the rate. Chosen here: 2e-4 after a warm-up of one epoch, and the weights of
    the network's authors. At the .001 of `ucf11` its ReLUs fall silent within a hundred steps (docs/ucf11.md).

    Published: it did not learn.
    """
    return _slower("c3d_small")


def ucf11_vgg9() -> Recipe:
    """UCF-11 with `vgg9`, as `ucf11` trains `cnn_lstm`, at a learning rate with which it learns.

    Source: a course project of 2019, all but the rate. Chosen here: 2e-4 after a warm-up of one epoch, and the weights of
    the network's authors. At the .001 of `ucf11` its ReLUs fall silent within a hundred steps (docs/ucf11.md).

    Published: it did not learn.
    """
    return _slower("vgg9")


def _slower(model: str) -> Recipe:
    return replace(with_network(ucf11(), model), {"optim.lr": 2e-4, "optim.warmup_epochs": 1.0})
