"""The default for a folder of your own: few videos, from scratch, on whatever machine there is."""

from muybridge.recipe import Augment, Clip, Evaluation, Optim, Recipe


def small() -> Recipe:
    """Small labelled sets (tens to a few thousand clips) trained from scratch; dense clips and long schedules, since
    passes over a small set are cheap."""
    return Recipe(
        clip=Clip(num_frames=8, sampling="dense", stride_frames=2, size=96, short_side=112),
        augment=Augment(crop="multiscale", flip_probability=0.5),
        optim=Optim(
            optimizer="sgd", lr=0.05, lr_batch_size=16, batch_size=16, epochs=100, warmup_epochs=5,
            weight_decay=5e-4, label_smoothing=0.1, clip_grad_norm=5.0,
        ),
        evaluation=Evaluation(num_clips=4, every_epochs=5),
    )  # fmt: skip
