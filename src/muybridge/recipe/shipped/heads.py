"""Recipe for heads over stored vectors: many are trained at once, and chosen on val."""

from muybridge.recipe.sections import Augment, Clip, Evaluation, Optim, Recipe

LRS = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
"""Learning rates of V-JEPA 2's probes (Assran et al. 2025, appendix)."""
DECAYS = (0.01, 0.1, 0.4, 0.8)
"""Their weight decays."""


def heads() -> Recipe:
    """Heads over stored vectors (`muybridge features`): 20 settings trained at once, the best on val scored once.

    Clips of 120 vectors, short videos back and forth; in tests the whole video.

    Source: V-JEPA 2's evaluation (its grid, AdamW, 20 epochs, cosine to zero, no warm-up). Chosen here: the choice is made on
    val, where theirs is on the test set; batches of 32, at least 400 steps.

    Published: none.
    """
    return Recipe(
        clip=Clip(num_frames=120, sampling="dense", stride_frames=1, past_end="mirror"),
        augment=Augment(crop="center", flip_probability=0.0),
        optim=Optim(
            optimizer="adamw", lr=1e-3, weight_decay=0.01, lr_grid=LRS, weight_decay_grid=DECAYS, batch_size=32, epochs=20,
            min_steps=400,
        ),
        evaluation=Evaluation(num_clips=1, whole=True, every_epochs=1000),
    )  # fmt: skip
