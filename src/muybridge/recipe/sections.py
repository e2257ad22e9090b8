"""Sections of a recipe and of a runtime: every field, its default and its meaning."""

import sys
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.recipe import rules

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Strict, frozen and closed section: a wrong type or an unknown field is an error, never a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Data(Section):
    """Videos that a run is trained and scored on."""

    manifest: str = ""
    """Path of the manifest (a CSV that `muybridge prepare` writes)."""
    fold: int | None = Field(default=None, ge=1)
    """Number of the fold, from 1: the manifest's column `split_<fold>`. none: its only split."""
    sha256: str | None = None
    """SHA-256 of the manifest, filled in when training starts. Two runs with the same hash and share saw the same videos."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training videos that is trained on, drawn by the seed: whole groups, every class at the same pace; a
    smaller share lies in a larger one. Val and test stay whole (`compare --label-budget`)."""
    balanced_sampling: bool = False
    """Draw each class equally often: a pass has as many clips as before, but videos of rare classes come several times, each
    time as another clip, and not every video of a common class comes in every pass."""
    on_error: Literal["stop", "skip"] = "stop"
    """Effect of a video that cannot be read. stop: the run ends with an error; skip: the video is left out of its batch
    and of the scores, logged, listed in the run's skipped.json, and counted in the result."""


def _known_input(name: str) -> str:
    """Name of an input, checked. Raises ValueError that names the nearest."""
    try:
        return inputs.find(name).name
    except UserError as error:
        raise ValueError(str(error)) from None


class Clip(Section):
    """Frames of a video that become one clip (see `muybridge.data.sampling`)."""

    num_frames: int = Field(default=8, ge=1, le=2**16)
    """Number of frames in a clip."""
    sampling: Literal["uniform", "dense"] = "uniform"
    """Choice of frames. uniform: one frame from each of `num_frames` equal segments of the video; dense: consecutive
    frames, `stride_frames` apart. A video shorter than a uniform clip is stretched: its frames are repeated in order (the
    middle of every segment, in training as in tests)."""
    jitter: Literal["segment", "shared"] = "segment"
    """Random offset of uniform sampling in training. segment: one per segment; shared: one for all segments."""
    stride_frames: int = Field(default=2, ge=1)
    """Stride of dense sampling, in frames of the video (at the rate `fps`, if that is set)."""
    fps: float | None = Field(default=None, gt=0)
    """Frame rate in frames per second at which dense sampling counts its stride, so that a clip spans the same time in
    every video. none: the video's own."""
    past_end: Literal["repeat", "mirror", "wrap", "absent"] = "wrap"
    """Past the end of a short video, in dense sampling and in stacks longer than the video (`stack`). repeat: hold the
    last frame; mirror: run back and forth; wrap: start over; absent: the network leaves such steps out (for stored
    vectors; `num_frames` is then the longest clip)."""
    order: Literal["ordered", "shuffled"] = "ordered"
    """Order of the time steps of a training clip. ordered: as they are in the video; shuffled: at random, anew for every
    clip. Tests keep the order of the video (`muybridge diagnose` tests other orders)."""
    modality: Annotated[str, AfterValidator(_known_input)] = inputs.DEFAULT
    """Input of the network, by its name in the table of inputs (`muybridge.data.inputs`)."""
    stack: int | None = Field(default=None, ge=1, le=64)
    """Length of the stacks of an input of stacks: the differences, or the fields of motion, in one time step. none: the
    input's own (5, TSN's)."""
    size: int = Field(default=112, ge=1)
    """Height and width of the network's input, in pixels."""
    short_side: int | None = Field(default=None, ge=1)
    """Short side in pixels that frames are scaled to when they are decoded. none: the file's size."""


def _plain_tuple(value: Any) -> Any:
    """Turn a list, as JSON has it, into a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: Any) -> Any:
    """Turn a single name into a tuple."""
    return (value,) if isinstance(value, str) else _plain_tuple(value)


def _as_weights(value: Any) -> Any:
    """Weights of classes as tuples: of numbers, or of pairs of a name and a number. Raises ValueError for others."""
    if value is None or value == "balanced":
        return value
    given = list(value.items()) if isinstance(value, dict) else value
    weights = tuple(map(_plain_tuple, given)) if isinstance(given, list | tuple) else ()
    named = [one for one in weights if isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str)]
    numbers = [number for _, number in named] if len(named) == len(weights) else weights
    if not numbers or not all(_is_weight(number) for number in numbers):
        raise ValueError(
            f"optim.class_weights: {value!r} is neither balanced nor numbers above 0. Write balanced, a number for each class "
            'as [1, 3], or some by name as {"NAME": 3}'
        )
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise ValueError(f"optim.class_weights: '{twice[0]}' has two weights. Give each class one")
    return weights


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


class Augment(Section):
    """Augmentation of training clips: one draw per clip for all its frames, in the order of these fields."""

    crop: Literal["multiscale", "random", "center"] = "multiscale"
    """Crop of a training clip. multiscale: sides of 1, .875, .75 or .66 of the short side at 13 fixed points (TSN);
    random: any position; center: as in evaluation."""
    short_sides: Annotated[tuple[int, int], BeforeValidator(_plain_tuple)] | None = None
    """Scale jitter of random crops: smallest and largest short side in pixels, from which one is drawn ([256, 320] in
    the papers that crop 224 pixels), whatever `clip.short_side`. none: the frame is cropped at the size it was read."""
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of a left-right flip. Labels follow the manifest's mirror map; a manifest can switch flips off."""
    brightness: float = Field(default=0.0, ge=0)
    """Brightness jitter: multiply pixels by a factor from 1 - x to 1 + x (at least 0). 0: off."""
    contrast: float = Field(default=0.0, ge=0)
    """Contrast jitter: multiply the distance from the clip's mean gray by 1 - x to 1 + x (at least 0). 0: off."""
    saturation: float = Field(default=0.0, ge=0)
    """Saturation jitter: multiply the distance from each pixel's gray by 1 - x to 1 + x (at least 0). 0: off."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Hue jitter: turn the hue by -x to x of the colour circle (x up to 0.5). 0: off."""
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    """Rotation jitter: turn frames by -x to x degrees about their centre, with black corners. 0: off. Labels do not follow:
    keep it small where classes name a direction."""


class Model(Section):
    """Network and the weights it starts from."""

    name: str = ""
    """Name of the network: one that `muybridge models` lists; `METHOD@module:function` or `METHOD@timm:NAME` (a temporal
    method over another image network); `hf:NAME` (a video classifier of the Hugging Face hub); or `module:function` (your
    own)."""
    init_std: float | None = Field(default=None, gt=0)
    """Standard deviation of the normal distribution that fresh weights are drawn from, biases and norms excepted. none: the
    initialisation of the network's authors."""
    pretrained: str | None = "auto"
    """Weights to start from: public ones by their training set (`imagenet`, `kinetics400`, `hub`), a run folder, a file
    or a URL. none: fresh weights; auto: `hub` for `hf:` networks, else none."""
    strict: bool = True
    """Strict loading of pretrained weights. true: every tensor must match, except a classifier of other classes and
    temporal modules over image weights; false: matching tensors are loaded (2D ones into 3D layers, too), the rest stay
    fresh, and both are listed."""
    inflation: Literal["divide", "repeat"] = "divide"
    """Inflation of 2D image weights into 3D convolutions. divide: divided by the kernel's length in time, so that a static
    clip gives the image's response; repeat: repeated as they are (2021 study)."""
    temporal_pooling: bool = False
    """Temporal pooling: halve the time axis three times inside the network."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout probability before the classifier."""
    options: dict[str, bool | int | float | str] = {}
    """Further keyword arguments of the network's builder, each as `model.options.NAME`."""
    source_sha256: str | None = None
    """SHA-256 of the source files of a `module:function` network, filled in when training starts."""
    weights_sha256: str | None = None
    """SHA-256 of the weights that a `module:function` network comes with, filled in when training starts."""
    pretrained_sha256: str | None = None
    """SHA-256 of the file of pretrained weights, filled in when training starts."""


class Optim(Section):
    """Optimizer, batches, schedule and regularisation."""

    optimizer: Literal["sgd", "adamw", "adam"] = "sgd"
    """Optimizer. sgd: SGD with plain (not Nesterov) momentum; adamw: decoupled weight decay; adam: weight decay added to
    the gradient."""
    lr: float = Field(default=0.01, gt=0)
    """Peak learning rate; for SGD, the one at a batch of `lr_batch_size` clips."""
    lr_grid: Annotated[tuple[float, ...], BeforeValidator(_plain_tuple)] = ()
    """Learning rates to try at once. A copy of the network is trained for each pair of a rate and a decay of
    `weight_decay_grid`, all on the same batches; the best on val answers, and it alone is scored on the test split. For
    heads on stored vectors, as every copy takes memory. empty: `lr` alone."""
    weight_decay_grid: Annotated[tuple[float, ...], BeforeValidator(_plain_tuple)] = ()
    """Weight decays to try at once, as `lr_grid`. empty: `weight_decay` alone."""
    lr_batch_size: int | None = Field(default=None, ge=1)
    """Batch size in clips for which `lr` is quoted: SGD's rate is scaled linearly to `batch_size`. none: not scaled."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Weight decay of the parameters that `weight_decay_exempt` does not exempt."""
    weight_decay_exempt: Literal["norms_and_biases", "norms", "nothing"] = "norms_and_biases"
    """Parameters without weight decay: those of norms and all biases; those of norms only; or nothing."""
    batch_size: int = Field(default=16, ge=1)
    """Clips per step, over all processes. A pass is cut into batches of this size or one less: no clip is dropped."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Clips per forward pass, which are those that a batch norm sees; their gradients are accumulated over a step.
    none: all clips of a step that a process has."""
    batch_norm: Literal["local", "synced", "partial", "frozen"] = "local"
    """Statistics that batch norms use in training. local: those of the clips in one forward pass of a process; synced:
    those of all processes; frozen: the stored ones, and the norms' weights are frozen, too; partial: frozen for all norms
    but the first (Wang et al. 2016, section 4.2)."""
    train_from: str | None = None
    """First module that is trained, by its name in `muybridge models NAME`; the modules before it are frozen, with their
    norms. "head": only the classifier is trained. none: everything is."""
    backbone_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the image network that a model has grown from, relative to `lr`; of a model without one, that of
    everything but the classifier. none: the same."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Factor of the learning rate for each layer from the classifier down, within what `backbone_lr` is for; the
    classifier has the whole (see `muybridge.zoo.layer_groups`). none: all layers have the same."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay x of an exponential moving average of the weights, which is scored and kept: each step adds 1 - x of the new
    weights. none: the weights themselves are scored."""
    epochs: int | None = Field(default=30, ge=1)
    """Number of epochs (passes over the training videos). none: until stop.max_hours."""
    steps: int | None = Field(default=None, ge=1)
    """Number of steps in all, whatever `epochs` and `min_steps` say: warm-up and milestones keep their share of the
    training. none: as many as the epochs have."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """Steps per epoch, fewer or more than a pass (the iteration cap of some papers); passes follow each other across
    epochs. none: an epoch is one pass."""
    min_steps: int = Field(default=0, ge=0)
    """Least number of steps in all: a small set gets more epochs than `epochs` until it is reached. 0: no minimum."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Length of the linear warm-up, in epochs. 0: no warm-up."""
    warmup_lr: float | None = Field(default=None, gt=0)
    """Learning rate at the start of the warm-up, quoted and scaled as `lr` is. none: a hundredth of the peak."""
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """Learning rate schedule after the warm-up. cosine: half a cosine down to zero; steps: multiplied by
    `milestone_factor` at each of the `milestones`; constant: the peak."""
    milestones: Annotated[tuple[float, ...], BeforeValidator(_plain_tuple)] = ()
    """Epochs (or hours, see `schedule_unit`) at which schedule `steps` lowers the learning rate."""
    milestone_factor: float = Field(default=0.1, gt=0, lt=1)
    """Factor by which the learning rate is multiplied at each milestone."""
    schedule_unit: Literal["epochs", "hours"] = "epochs"
    """Unit of the schedule and its milestones. hours: hours of training without validation, up to stop.max_hours; two runs
    are then not identical to the bit."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing: share of the target that is spread over all classes. 0: off."""
    class_weights: Annotated[
        Literal["balanced"] | tuple[Positive, ...] | tuple[tuple[str, Positive], ...] | None,
        BeforeValidator(_as_weights),
    ] = None
    """Weights of the classes in the loss. balanced: inverse to their numbers of training videos; or numbers, one for each
    class in the manifest's order, or by name as {"NAME": 3} (the others have 1). They are scaled to a mean of 1 over the
    training videos. none: every video counts the same."""
    logit_adjustment: float = Field(default=0.0, ge=0, le=1000)
    """Factor tau of logit adjustment: in training, tau times the logarithm of a class's share of the training videos is added
    to its logit, so that without it rare classes are answered more often (Menon et al. 2021; 1 is theirs). 0: off; at most
    1000."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; larger ones are scaled down to it. none: no clipping."""


Metric = Literal["val.video_top1", "val.mean_class", "val.loss", "train.clip_top1", "train.loss"]


class Stop(Section):
    """Early stopping. A run that ends early is finished, and scored as any other."""

    max_hours: float | None = Field(default=None, gt=0)
    """Largest training time in hours, validation not counted. none: no limit."""
    metric: Metric | None = None
    """Metric that `target` and `patience_epochs` watch, as KIND.NAME of metrics.jsonl. A lower loss is better, a higher
    accuracy. none: no early stopping by a metric."""
    target: float | None = None
    """Value of the metric at which training stops (an accuracy from 0 to 1, or a loss). none: no target."""
    patience_epochs: int | None = Field(default=None, ge=1)
    """Number of epochs without a better metric after which training stops. none: no limit."""


class Evaluation(Section):
    """Scoring of a video: the mean over its views (clips × crops)."""

    num_clips: int = Field(default=1, ge=1, le=2**16)
    """Number of clips per video."""
    num_crops: Literal[1, 3, 5, 10] = 1
    """Number of crops per clip. 1: centre; 3: start, centre and end of the longer side; 5: centre and corners; 10: those
    five and their mirror images."""
    size: int | None = Field(default=None, ge=1)
    """Height and width of the network's input in tests, in pixels. none: `clip.size`, as in training."""
    whole: bool = False
    """Score a video as one clip of all its frames, however many (for stored vectors). false: by clips of
    `clip.num_frames`."""
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """Side of a test crop as a fraction of the short side (224/256 in the papers that resize to 256)."""
    average: Literal["logits", "probabilities"] = "logits"
    """Scores that are averaged over the views of a video."""
    every_epochs: int = Field(default=1, ge=1)
    """Epochs between two validations, each with a checkpoint; the last epoch is always validated."""
    score_test: bool = True
    """Score the test split once, at the end. false: validation only, as in a search of settings."""
    checkpoint: Literal["last", "best"] = "last"
    """Weights that are scored on the test split: the last, or the best by validation (never chosen on test)."""


class Recipe(Section):
    """Everything that changes a result."""

    data: Data = Data()
    clip: Clip = Clip()
    augment: Augment = Augment()
    model: Model = Model()
    optim: Optim = Optim()
    stop: Stop = Stop()
    evaluation: Evaluation = Evaluation()
    precision: Precision = "auto"
    """Numeric precision: fp32, or autocast to bf16 or fp16 (with a scaled loss). auto: bf16 where the hardware supports
    it, else fp32; the run's recipe records which."""
    seed: int = Field(default=0, ge=0)
    """Seed that every random draw is keyed by."""

    @property
    def candidates(self) -> list[tuple[float, float]]:
        """Learning rate and weight decay of each copy that is trained at once; one pair without a grid."""
        o = self.optim
        return [(lr, decay) for lr in o.lr_grid or (o.lr,) for decay in o.weight_decay_grid or (o.weight_decay,)]

    @property
    def test_size(self) -> int:
        """Height and width of the network's input in tests, in pixels."""
        return self.evaluation.size or self.clip.size

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        rules.check(self)
        return self


class Runtime(Section):
    """Settings that change no result."""

    device: str = "auto"
    """Device: cpu, cuda, cuda:1, … auto: CUDA where there is one, else the CPU."""
    num_workers: int | None = Field(default=None, ge=0, le=4096)
    """Number of decoding processes. none: 0 where the set fits the RAM cache, else one per core (at most 8)."""
    cache_gib: float | None = Field(default=None, ge=0)
    """Memory for decoded frames, in GiB. none: a quarter of the free memory; 0: no cache."""
    threads: int | None = Field(default=None, ge=1, le=4096)
    """CPU threads. none: one a core, fewer beside others. Runs are identical to the bit under the same number only."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Steps between extra checkpoints, beside those of `evaluation.every_epochs`. none: no extra ones."""
    deterministic: bool = True
    """On a GPU, use algorithms that give the same bits every time. false: PyTorch's defaults, which may be faster; runs may
    then differ in their last bits. CPUs are not affected."""
    compile: bool = False
    """Compile the network (torch.compile): a slow start, then faster steps on a GPU. Results differ in their last bits. An
    evaluation or a prediction that cannot compile says so and does without."""
    inference: Literal["auto", "plain"] = "auto"
    """Way in which networks answer in evaluations and predictions. auto: a faster one, with the scores of the trained network
    to 1e-4 (norms folded into convolutions, long evaluations compiled). plain: that of training, to the bit."""
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], BeforeValidator(_one_or_more)] = ()
    """Experiment trackers that metrics are also sent to (needs the extra `track`): one, or several as
    ["tensorboard","wandb"]."""
    tracker_project: str = "muybridge"
    """Name of the project (Weights & Biases) or experiment (MLflow) that runs are tracked under."""
