"""Default recipe for a small set: few videos, from scratch, on any machine."""

from muybridge.recipe.sections import Augment, Clip, Evaluation, Optim, Recipe


def small() -> Recipe:
    """Small labelled sets (tens to a few thousand clips) from scratch: dense clips, AdamW, at least 1000 steps.

    Training clips are cropped and flipped.

    Source: ours.

    Published: none; shown on Weizmann in docs/weizmann.md.
    """
    return Recipe(
        clip=Clip(num_frames=8, sampling="dense", stride_frames=2, size=96, short_side=112),
        augment=Augment(crop="multiscale", flip_probability=0.5),
        optim=Optim(
            optimizer="adamw", lr=2e-3, weight_decay=0.05, batch_size=16, epochs=30, min_steps=1000, warmup_epochs=1,
            label_smoothing=0.1,
        ),
        evaluation=Evaluation(num_clips=5, every_epochs=5),
    )  # fmt: skip
