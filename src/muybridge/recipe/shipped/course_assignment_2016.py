"""Recipes of a course assignment of 2016: an image network on single frames of UCF101, then an LSTM over its vectors.

    muybridge train frame_ucf101 --data ucf101.csv --out frames
    muybridge features frames --data ucf101.csv --out vectors
    muybridge train lstm_ucf101 --data vectors --out lstm

Given by the assignment: VGG16 with a layer of 1,024 before the classifier, of which only the top layers are trained; the
vector of every frame stored; an LSTM of one to three layers over 120 frames, back-propagation cut every 30; a short video
runs backwards and forwards, a long one gives a random segment; late steps may count more; its LSTM's outputs go through a
linear layer and a sigmoid; training ends by the training loss. Chosen here: what it leaves open, as each recipe says.
"""

from muybridge.recipe.sections import Augment, Clip, Evaluation, Model, Optim, Recipe, Stop


def frame_ucf101() -> Recipe:
    """Stage one: VGG16 on single frames of UCF101 (split 1), a layer of 1,024, only the top layers trained.

    Source: a course assignment of 2016. Chosen here: weights of ImageNet, SGD at .01, batches of 64, 20 epochs; tests of 25
    frames, 224 of 256 pixels. `muybridge features` then tells the accuracy of a frame over all frames.

    Published: test accuracy of a frame .626, top-5 .853, top-10 .915.
    """
    return Recipe(
        clip=Clip(num_frames=1, sampling="uniform", size=224, short_side=256),
        augment=Augment(crop="multiscale", flip_probability=0.5),
        model=Model(name="tsn_vgg16", pretrained="imagenet", options={"width": 1024}, dropout=0.5),
        optim=Optim(
            optimizer="sgd", lr=0.01, lr_batch_size=64, momentum=0.9, weight_decay=5e-4, batch_size=64, train_from="top",
            epochs=20,
        ),
        evaluation=Evaluation(num_clips=25, crop_fraction=224 / 256, every_epochs=5),
    )  # fmt: skip


def lstm_ucf101() -> Recipe:
    """Stage two: an LSTM over stored vectors of UCF101 (split 1), 120 frames, back-propagation cut every 30.

    Source: a course assignment of 2016. Chosen here: 256 units, 512 after them; Adam at .001, batches of 64, gradients of
    norm 5 at most, at most 50 epochs; training ends once its loss has not fallen for 5. Tests look at the whole video.

    Published: test accuracy .671, top-5 .886, top-10 .939 with one layer; .648, .865, .928 with two; .620, .857, .916 with
    three.
    """
    return Recipe(
        clip=Clip(num_frames=120, sampling="dense", stride_frames=1, past_end="mirror"),
        augment=Augment(crop="center", flip_probability=0.0),
        model=Model(name="lstm", options={"num_layers": 1, "width": 256, "hidden": 512, "truncate": 30}, dropout=0.5),
        optim=Optim(
            optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=64, epochs=50, schedule="constant", clip_grad_norm=5.0,
        ),
        stop=Stop(metric="train.loss", patience_epochs=5),
        evaluation=Evaluation(num_clips=1, whole=True, every_epochs=5),
    )  # fmt: skip
