"""The sections of a recipe and of a runtime: every field, its default and what it means."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.recipe import rules

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Section(BaseModel):
    """Strict, frozen, and closed: a wrong type or an unknown field is an error, never a default."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Data(Section):
    """Which videos."""

    manifest: str = ""
    """Path of the manifest (a CSV that `muybridge prepare` writes)."""
    fold: int | None = Field(default=None, ge=1)
    """Which of the manifest's splits: column `split_<fold>`; none where there is one split."""
    sha256: str | None = None
    """Hash of the manifest, filled in when training starts: two runs with the same hash saw the same videos."""
    on_error: Literal["stop", "skip"] = "stop"
    """A video that cannot be read stops the run, or is left out of its batch and of the scores: then it is said, kept in
    the run's skipped.json, and counted in the result."""


def _known_input(name: str) -> str:
    """Raises ValueError."""
    try:
        return inputs.find(name).name
    except UserError as error:
        raise ValueError(str(error)) from None


class Clip(Section):
    """How frames of a video become one clip (see `muybridge.data.sampling`)."""

    num_frames: int = Field(default=8, ge=1, le=2**16)
    """Frames in a clip."""
    sampling: Literal["uniform", "dense"] = "uniform"
    """uniform: one frame of each of `num_frames` equal segments (a video shorter than the clip is stretched: its frames
    are repeated in order, the middle of every segment, in training as in tests); dense: consecutive frames,
    `stride_frames` apart."""
    jitter: Literal["segment", "shared"] = "segment"
    """Uniform sampling in training: one random offset a segment, or one shared by all segments."""
    stride_frames: int = Field(default=2, ge=1)
    """Dense sampling: frames between two of a clip (at `fps`, where that is given)."""
    fps: float | None = Field(default=None, gt=0)
    """Dense sampling: count the stride at this frame rate, so that a clip spans the same time in every video."""
    past_end: Literal["repeat", "mirror", "wrap"] = "wrap"
    """Dense sampling in a video shorter than the clip: hold the last frame, run back and forth, or start over."""
    modality: Annotated[str, AfterValidator(_known_input)] = inputs.DEFAULT
    """What the network is shown, by its name in the table of inputs (`muybridge.data.inputs`)."""
    size: int = Field(default=112, ge=1)
    """Height and width of the model's input, pixels."""
    short_side: int | None = Field(default=None, ge=1)
    """Scale frames when decoding so that their short side has this many pixels; none keeps the file's size."""


def _plain_tuple(value: Any) -> Any:
    """A list, as JSON has it, as the tuple it stands for."""
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: Any) -> Any:
    """A name alone as a tuple of it."""
    return (value,) if isinstance(value, str) else _plain_tuple(value)


class Augment(Section):
    """What training does to a clip: one draw a clip, all its frames alike, in the order of these fields."""

    crop: Literal["multiscale", "random", "center"] = "multiscale"
    """multiscale: sides of 1, .875, .75, .66 of the short side at 13 fixed points; random: any place; center: as in
    evaluation."""
    short_sides: Annotated[tuple[int, int], BeforeValidator(_plain_tuple)] | None = None
    """Random crops: scale the frame to a short side drawn from these two and all between, [256, 320] in the papers that
    crop 224 pixels; none: crop the frame as it is. It is relative to the frame that is read, whatever `clip.short_side`."""
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """Mirror left and right; labels follow the manifest's mirror map, and a manifest can switch mirroring off."""
    brightness: float = Field(default=0.0, ge=0)
    """Multiply by a factor of 1 - x … 1 + x (at least 0); 0: off."""
    contrast: float = Field(default=0.0, ge=0)
    """Stretch the distance from the clip's mean gray by a factor of 1 - x … 1 + x (at least 0); 0: off."""
    saturation: float = Field(default=0.0, ge=0)
    """Stretch the distance from each pixel's gray by a factor of 1 - x … 1 + x (at least 0); 0: off."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Turn the hue by -x … x of the colour circle; 0: off."""
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    """Turn the picture by -x … x degrees about its centre, black where nothing was; 0: off. Labels do not follow: where
    classes name a direction, keep it small."""


class Model(Section):
    """Which network."""

    name: str = ""
    """A name that `muybridge models` lists; `METHOD@module:function` or `METHOD@timm:NAME` for a method over an image
    network that you bring; `hf:NAME` for a video classifier of the Hugging Face hub; `module:function` for your own."""
    init_std: float | None = Field(default=None, gt=0)
    """Draw all fresh weights, but for biases and norms, from a normal distribution of this standard deviation; none: as the
    network's authors do."""
    pretrained: str | None = "auto"
    """Weights to start from: public ones by what they were trained on (`imagenet`, `kinetics400`, `hub`), a run folder, a
    file, or a URL; none: fresh weights; auto: `hub` for `hf:` networks, else none."""
    strict: bool = True
    """Every weight must find its place, and every place its weight, but for what is known to differ (a classifier of other
    classes, temporal modules over image weights). false: matching tensors are loaded (2D ones for 3D places, too), all
    others stay as they are, and both are listed."""
    inflation: Literal["divide", "repeat"] = "divide"
    """Weights of images in 3D convolutions: divided by the length in time, so that a still clip gives the picture's
    response, or repeated as they are (2021 study)."""
    temporal_pooling: bool = False
    """Halve time three times inside the network."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout before the classifier."""
    options: dict[str, bool | int | float | str] = {}
    """Further keyword arguments of the model's builder."""
    source_sha256: str | None = None
    """Hash of the files of a `module:function` model, filled in when training starts."""
    weights_sha256: str | None = None
    """Hash of the weights that such a function brings along, filled in when training starts."""
    pretrained_sha256: str | None = None
    """Hash of the file of weights to start from, filled in when training starts."""


class Optim(Section):
    """How the weights move."""

    optimizer: Literal["sgd", "adamw", "adam"] = "sgd"
    """SGD with Nesterov-free momentum, AdamW, or Adam (whose weight decay is part of the gradient)."""
    lr: float = Field(default=0.01, gt=0)
    """Peak learning rate, quoted for `lr_batch_size`."""
    lr_batch_size: int | None = Field(default=None, ge=1)
    """SGD's `lr` is meant for this batch size and scaled linearly to `batch_size`; none: taken as it is."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD's momentum."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Weight decay, of all parameters that are not exempt."""
    weight_decay_exempt: Literal["norms_and_biases", "norms", "nothing"] = "norms_and_biases"
    """Which parameters do not decay: those of norms and all biases; those of norms; none."""
    batch_size: int = Field(default=16, ge=1)
    """Clips an update, over all processes. A pass is cut into batches of this size or one less: no clip is dropped."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Clips that go through the network at a time, and that a batch norm sees; the gradients of an update's clips are
    accumulated. None: all that a process has of an update."""
    batch_norm: Literal["local", "synced", "partial", "frozen"] = "local"
    """Statistics that batch norms use in training. local: of the clips that a process has at a time; synced: of those of
    all processes; frozen: the ones they came with, and their weights stay, too; partial: so for all but the first (Wang
    et al. 2016, section 4.2)."""
    train_from: str | None = None
    """Train only this module and those that `muybridge models NAME` lists after it; "head": only the classifier. What lies
    before is frozen, with its norms. None: all is trained."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Score and keep a running mean of the weights, which takes 1 - x of the new ones after each update; none: the weights
    themselves."""
    epochs: int | None = Field(default=30, ge=1)
    """Passes over the training videos; none: until stop.max_hours."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """Let an epoch be so many updates, fewer or more than a pass (the iteration cap of some papers): one pass follows the
    other without regard to epochs. None: an epoch is a pass."""
    min_steps: int = Field(default=0, ge=0)
    """At least so many updates: a small set is passed over more often than `epochs` says."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Linear warm-up."""
    warmup_lr: float | None = Field(default=None, gt=0)
    """Learning rate that the warm-up starts from, quoted and scaled as `lr` is; none: a hundredth of the peak."""
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """What follows the warm-up. cosine: half a cosine that ends at zero; steps: times `milestone_factor` at each of the
    `milestones`."""
    milestones: Annotated[tuple[float, ...], BeforeValidator(_plain_tuple)] = ()
    """Epochs (or hours, by `schedule_unit`) after which the learning rate falls."""
    milestone_factor: float = Field(default=0.1, gt=0, lt=1)
    """What it is multiplied with there."""
    schedule_unit: Literal["epochs", "hours"] = "epochs"
    """Unit of the schedule and its milestones. hours: of training, validation not counted, to the end at stop.max_hours; two
    runs are then not the same to the bit."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; none: not clipped."""


Metric = Literal["val.video_top1", "val.mean_class", "val.loss", "train.clip_top1", "train.loss"]


class Stop(Section):
    """What ends training before its epochs do. The run is then finished, and scored as any other."""

    max_hours: float | None = Field(default=None, gt=0)
    """Hours of training, validation not counted; none: no limit."""
    metric: Metric | None = None
    """What `target` and `patience_epochs` look at: a line's kind and a name in metrics.jsonl. A loss is the better the lower
    it is."""
    target: float | None = None
    """Stop as soon as the metric is as good as this."""
    patience_epochs: int | None = Field(default=None, ge=1)
    """Stop when so many epochs have gone by since the metric was at its best."""


class Evaluation(Section):
    """How a video is scored: the mean over its views (clips × crops)."""

    num_clips: int = Field(default=1, ge=1, le=2**16)
    """Temporal clips a video."""
    num_crops: Literal[1, 3, 5, 10] = 1
    """1: centre; 3: start, centre and end of the longer side; 5: centre and corners; 10: those and their mirror images."""
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """Side of the crop as a share of the short side (224/256 in the papers that resize to 256)."""
    average: Literal["logits", "probabilities"] = "logits"
    """What is averaged over the views."""
    every_epochs: int = Field(default=1, ge=1)
    """Validate, and save, after every so many epochs, and after the last."""
    score_test: bool = True
    """Score the test split, once, at the end. False where settings are being searched: that sees val alone."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights are scored on the test split, once: the last, or the best on val (never chosen on test)."""


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
    """fp32, bf16 or fp16 (autocast; fp16 with a scaled loss), or auto: bf16 where the hardware has it, by rule and not by
    timing; the run's recipe says which it was."""
    seed: int = Field(default=0, ge=0)
    """Every draw is keyed by it."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        rules.check(self)
        return self


class Runtime(Section):
    """What changes no result."""

    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, …"""
    num_workers: int | None = Field(default=None, ge=0)
    """Decoding processes; none: 0 where the set fits the RAM cache, else one a core (at most 8)."""
    cache_gib: float | None = Field(default=None, ge=0)
    """Memory for decoded frames; none: a quarter of what is free; 0: no cache."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the model; none: torch's own choice. (Bit-identity holds for one number of threads.)"""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Also save every so many steps, beside the saves at `evaluation.every_epochs`."""
    compile: bool = False
    """Compile the network (torch.compile): a slow start, then faster steps on a GPU. The last bits differ."""
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], BeforeValidator(_one_or_more)] = ()
    """Also send what is measured to these (the extra `track`): one, or several as ["tensorboard","wandb"]."""
    tracker_project: str = "muybridge"
    """What the run belongs to there: the project of Weights & Biases, the experiment of MLflow."""
