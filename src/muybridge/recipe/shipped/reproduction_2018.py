"""A reproduction of S3D of 2018 (github.com/dewalg/action-recognition): five classes of Kinetics, 24 hours a model."""

from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe, Stop


def five_class() -> Recipe:
    """Five classes from scratch at equal wall-clock: about 400 training and 25 validation videos a class, 24 hours for each of
    `i3d`, `s3d`, `s3dv3` and `s3dv3_topheavy`.

    Source: a reproduction study of 2018: 64 successive frames of 224 pixels, batches of 5, plain SGD, lr .01, .001 after
    half of the time. No mirroring, no weight decay and a crop at any place are its code's (one crop a clip here, one a
    frame there). Frames of a short side of 256 are chosen: its code has 324, and remarks that it was 256.

    Published: top-1 S3D .68, I3D .64, S3D-v3 5 to 10 points under S3D, top-heavy on a par with S3D.
    """
    return Recipe(
        clip=Clip(num_frames=64, sampling="dense", stride_frames=1, past_end="wrap", size=224, short_side=256),
        augment=Augment(crop="random", flip_probability=0.0),
        model=Model(pretrained=None, dropout=0.5),
        optim=Optim(
            optimizer="sgd", lr=0.01, lr_batch_size=5, momentum=0.0, weight_decay=0.0, batch_size=5, epochs=None,
            schedule_unit="hours", schedule="steps", milestones=(12.0,),
        ),
        stop=Stop(max_hours=24.0),
        evaluation=Evaluation(num_clips=1, num_crops=1, crop_fraction=224 / 256),
    )  # fmt: skip
