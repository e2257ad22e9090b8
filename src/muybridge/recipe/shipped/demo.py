"""Recipe of the demo: five models on generated clips of 64x64 pixels, in minutes on two CPU cores."""

from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe


def demo() -> Recipe:
    """`motions` clips from scratch, scored on one clip per video; half a minute a model on 2 cores, of 2,000 videos.

    Source: ours. `muybridge demo` trains by a shorter one, on 1,600 videos.

    Published: none; expected: every temporal model ≥ .90 within time-reversed pairs, TSN at chance.
    """
    return Recipe(
        clip=Clip(num_frames=8, sampling="uniform", size=64),
        augment=Augment(crop="center", flip_probability=0.5),
        model=Model(dropout=0.0),
        optim=Optim(optimizer="adamw", lr=3e-3, weight_decay=0.05, batch_size=32, epochs=12, warmup_epochs=1),
        evaluation=Evaluation(num_clips=1),
    )
