"""Recipe of a 2018 reproduction of S3D (github.com/dewalg/action-recognition): five Kinetics classes, 24 hours per model."""

from muybridge.recipe.fields import replace
from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe, Stop


def five_class() -> Recipe:
    """Five classes of Kinetics from scratch at equal wall-clock time, 24 hours per model.

    Models: `i3d`, `s3d`, `s3dv3` and `s3dv3_topheavy`, on about 400 training and 25 validation videos per class.

    The study writes that it shuffles the frames of a video; its code reads them in order, as here. `five_class_shuffled`
    does what it writes.

    Source: a reproduction study of 2018: 64 successive frames of 224 pixels, batches of 5, plain SGD, lr .01, .001 after
    half of the time. From its code: no flips, no weight decay, a crop at any position (one per clip here, one per frame
    there). Chosen here: a short side of 256; its code has 324, and remarks that it was 256.

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


def five_class_shuffled() -> Recipe:
    """Five classes of Kinetics at equal wall-clock time, with the frames of training clips in random order.

    Source: a reproduction study of 2018, as it is written: the frames of a video are shuffled. Its code does not; `five_class`
    is the recipe of its code. All else is equal.

    Published: no result; the figures of the study are those of its code.
    """
    return replace(five_class(), {"clip.order": "shuffled"})
