"""The demo's recipe: five models on made clips of 64x64 pixels, in minutes on two CPU cores."""

from muybridge.recipe import Augment, Clip, Evaluation, Optim, Recipe


def demo() -> Recipe:
    """`muybridge demo`: `motions` clips from scratch, one clip a video in evaluation. On 2 cores about a minute a model;
    expected: every temporal model ≥ .90 within time-reversed pairs, TSN at chance."""
    return Recipe(
        clip=Clip(num_frames=8, sampling="uniform", size=64),
        augment=Augment(crop="center", flip_probability=0.5),
        optim=Optim(
            optimizer="sgd", lr=0.1, batch_size=32, epochs=10, warmup_epochs=1, weight_decay=5e-4, clip_grad_norm=5.0
        ),
        evaluation=Evaluation(num_clips=1),
    )
