"""Recipes of the 2021 study, "Deep Analysis of CNN-based Spatio-temporal Representations for Action Recognition".

Source: Chen et al., CVPR 2021, its supplement, and its code where both are silent
(github.com/IBM/action-recognition-pytorch).

One recipe trains every model of it: `--model tam_resnet50`, `--model i3d_inceptionv1 --set model.temporal_pooling=true`, …
"""

from muybridge.errors import UserError
from muybridge.recipe.fields import replace
from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe

MINI_BATCH_SIZES = {8: 72, 16: 72, 32: 48, 64: 36}
"""Batch size by number of frames; the learning rate is .01 with each."""


def mini(num_frames: int = 8, *, kinetics: bool = False, large: bool = False, as_coded: bool = False) -> Recipe:
    """Half of the classes of a large set, with uniform sampling.

    8 frames start from ImageNet; more frames start from the run of half the frames, given by `--pretrained RUN`.

    Source: Chen et al. 2021, protocol of the mini sets. Tests see the centre, 224 pixels of a short side of 224, as it is
    written; the study's code crops 224 of 256 pixels, as the recipes `…_as_coded` do. Dense sampling (`--set
    clip.sampling=dense`) takes consecutive frames. At 32 frames the study has batches of 60 to 48, here 48; its large
    networks have batches of 36 with synchronised norms, as `mini_32_large` does. From its code: all parameters decay, and
    all segments share one offset.

    Published: top-1 of one clip and its centre, 8 / 16 frames (table 3). Mini-SSV2, ResNet50: TSN 33.9 / 35.3, I3D 62.6 / 66.2,
    TAM 65.4 / 68.6, TSM 64.1 / 67.4; InceptionV1: TSN 33.1 / 34.7, I3D 56.4 / 61.8, TAM 59.7 / 63.9. Mini-Kinetics, ResNet50:
    TSN 72.1 / 72.5, I3D 73.3 / 75.5, TAM 74.1 / 76.4, TSM 74.1 / 75.6; InceptionV1: TSN 70.4 / 70.5, I3D 68.1 / 70.9, TAM 68.8 /
    70.0.

    `kinetics`: the longer schedules of Mini-Kinetics. `large`: batches of 36 with synchronised norms at 32 frames, too.
    `as_coded`: tests crop 224 of 256 pixels. Raises UserError for a number of frames that the study lacks.
    """
    if num_frames not in MINI_BATCH_SIZES:
        raise UserError(
            f"clip.num_frames: the mini protocol has clips of 8, 16, 32 or 64 frames, not {num_frames}. For another "
            f"number, take one of those and add --set clip.num_frames={num_frames}"
        )
    first = Recipe(
        clip=Clip(num_frames=8, sampling="uniform", jitter="shared", stride_frames=1, size=224, short_side=256),
        augment=Augment(crop="multiscale", flip_probability=0.5),
        model=Model(pretrained="imagenet", inflation="repeat", dropout=0.5),
        optim=Optim(
            optimizer="sgd", lr=0.01, lr_batch_size=72, momentum=0.9, weight_decay=5e-4, weight_decay_exempt="nothing",
            batch_size=72, schedule="cosine", epochs=100 if kinetics else 75,
        ),
        evaluation=Evaluation(num_clips=1, num_crops=1, crop_fraction=224 / 256 if as_coded else 1.0),
    )  # fmt: skip
    if num_frames == 8:
        return first
    is_large = large or num_frames == 64
    batch_size = MINI_BATCH_SIZES[64 if is_large else num_frames]
    return replace(first, {
        "clip.num_frames": num_frames,
        "model.pretrained": f"the run of {num_frames // 2} frames",
        "optim.batch_size": batch_size,
        "optim.lr_batch_size": batch_size,
        "optim.batch_norm": "synced" if is_large else "local",
        "optim.schedule": "steps",
        "optim.milestones": (15.0, 30.0, 40.0) if kinetics else (10.0, 20.0, 30.0),
        "optim.epochs": 45 if kinetics else 35,
    })  # fmt: skip


def kinetics_full() -> Recipe:
    """Full large sets, as SlowFast is trained: 32 frames at a stride of 2, 196 epochs of large batches.

    Source: Chen et al. 2021, protocol of the full sets, which follows SlowFast (Feichtenhofer et al. 2019): batch norms see
    the 8 clips of a GPU. It starts from ImageNet or, with `--pretrained none`, from scratch, as networks without ImageNet
    weights must (SlowFast, X3D and others).

    Published: Kinetics-400, 10 clips × 3 crops of 256 pixels: TSN-ResNet50 with temporal pooling 74.9, TAM-ResNet50 76.2,
    I3D-ResNet50 76.6, SlowFast-ResNet50 8x8 76.4 (table 1); I3D from ImageNet / none 76.6 / 76.5, TAM 76.2 / 75.6 (table 2).

    It trains on 224 pixels and tests on 256. A run is validated and saved only seven times, as 30 views of a video take
    as long as 30 videos: add `--set runtime.checkpoint_steps=1000`.
    """
    return Recipe(
        clip=Clip(num_frames=32, sampling="dense", stride_frames=2, past_end="wrap", size=224, short_side=256),
        augment=Augment(crop="random", short_sides=(256, 320), flip_probability=0.5),
        model=Model(pretrained="imagenet", inflation="repeat", dropout=0.5),
        optim=Optim(
            optimizer="sgd", lr=1.6, lr_batch_size=1024, momentum=0.9, weight_decay=1e-4, weight_decay_exempt="nothing",
            batch_size=1024, micro_batch_size=8, warmup_epochs=34, warmup_lr=0.01, schedule="cosine", epochs=196,
        ),
        evaluation=Evaluation(num_clips=10, num_crops=3, size=256, every_epochs=28),
    )  # fmt: skip


def ssv2_full() -> Recipe:
    """Full Something-Something V2: trained as `kinetics_full`, but 32 frames of the whole video, and 2 × 3 test views.

    Source: Chen et al. 2021, protocol of the full sets; uniform sampling and the views are those of the test command in
    its code. Chosen here: training is that of `kinetics_full` in all else, as the study names one protocol for full sets.
    The study mirrors clips; `muybridge prepare … --mirror off` switches it off where a class names a direction.

    Published: 2 clips × 3 crops of 256 pixels: I3D-ResNet50 62.84, TAM-ResNet50 63.83, I3D-ResNet101 64.29, TAM-ResNet101
    65.32 (its code's page).
    """
    return replace(kinetics_full(), {
        "clip.sampling": "uniform", "clip.jitter": "shared", "clip.stride_frames": 1, "evaluation.num_clips": 2,
    })  # fmt: skip


def transfer() -> Recipe:
    """Transfer from a run on Kinetics (`--pretrained RUN`) to a smaller set.

    Source: Chen et al. 2021, transfer from Kinetics: 32 frames, SGD, batches of 48 with synchronised norms. Weight
    decay, augmentation and testing are those of `mini`, as the study names no others.

    Published: no result is shipped; the study `transfer` compares it with a run without Kinetics.
    """
    return replace(mini(32), {
        "model.pretrained": "the run on Kinetics",
        "optim.batch_norm": "synced",
        "optim.schedule": "cosine",
        "optim.milestones": (),
        "optim.epochs": 45,
    })  # fmt: skip
