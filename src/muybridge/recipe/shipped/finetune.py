"""Recipe for a small set and a network that knows pictures."""

from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe


def finetune() -> Recipe:
    """Small labelled sets (tens to a few thousand clips) from ImageNet weights: AdamW, early layers slowly, at least 200 steps.

    Source: ours. Rates that fall from layer to layer are in the manner of BEiT and MAE. Batch norms keep the statistics of
    their weights: those of a few clips are too few. Methods that bring norms of their own (nln, s3d) need them: set
    optim.batch_norm=local there.

    Published: none; shown on Weizmann in docs/weizmann.md.
    """
    return Recipe(
        clip=Clip(num_frames=8, sampling="dense", stride_frames=2, size=112, short_side=128),
        augment=Augment(crop="multiscale", flip_probability=0.5),
        model=Model(pretrained="imagenet"),
        optim=Optim(
            optimizer="adamw", lr=1e-3, backbone_lr=0.5, layer_decay=0.9, weight_decay=0.05, batch_size=8,
            batch_norm="frozen", epochs=10, min_steps=200, warmup_epochs=1, label_smoothing=0.1,
        ),
        evaluation=Evaluation(num_clips=5, every_epochs=5),
    )  # fmt: skip
