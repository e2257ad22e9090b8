"""Recipe and runtime: what changes a result, and what does not.

A **recipe** is one frozen value with everything that changes a result: data, clip, augmentation, model, optimisation,
evaluation, precision, seed. A **runtime** is what does not: device, workers, caches, how often to save. Recipes are
written in Python (`muybridge.recipes`), varied with `replace`, and stored as JSON wherever a run leaves a trace.

Only `build` and the verbs (train, evaluate, …) see a recipe; every part below takes plain keyword arguments.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from muybridge.errors import UserError, nearest
from muybridge.files import read_json

FORMAT_VERSION = 1

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
    """Dense sampling: frames between two of a clip (at `target_fps`, where that is given)."""
    target_fps: float | None = Field(default=None, gt=0)
    """Dense sampling: count the stride at this frame rate, so that a clip spans the same time in every video."""
    past_end: Literal["repeat", "mirror", "wrap"] = "wrap"
    """Dense sampling in a video shorter than the clip: hold the last frame, run back and forth, or start over."""
    modality: Literal["rgb", "difference"] = "rgb"
    """rgb: frames; difference: each frame's successor minus the frame, so that what stands still is zero (TSN's RGB
    difference; for a camera that does not move)."""
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
    pretrained_part: Literal["whole", "agreeing"] = "whole"
    """whole: every weight must find its place, and every place its weight, but for what is known to differ (a classifier of
    other classes, temporal modules over image weights); agreeing: those of equal name and shape are taken (2D ones for 3D
    places, too), all others stay as they are, and both are listed."""
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
    """Epochs (or hours, by `clock`) after which the learning rate falls."""
    milestone_factor: float = Field(default=0.1, gt=0, lt=1)
    """What it is multiplied with there."""
    clock: Literal["epochs", "hours"] = "epochs"
    """What the schedule goes by. hours: of training, validation not counted, to the end at stop.max_hours; two runs are then
    not the same to the bit."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; none: not clipped."""


Quantity = Literal["val.video_top1", "val.mean_class", "val.loss", "train.clip_top1", "train.loss"]


class Stop(Section):
    """What ends training before its epochs do. The run is then finished, and scored as any other."""

    max_hours: float | None = Field(default=None, gt=0)
    """Hours of training, validation not counted; none: no limit."""
    quantity: Quantity | None = None
    """What `target` and `patience_epochs` look at: a line's kind and a name in metrics.jsonl. A loss is the better the lower
    it is."""
    target: float | None = None
    """Stop as soon as the quantity is as good as this."""
    patience_epochs: int | None = Field(default=None, ge=1)
    """Stop when so many epochs have gone by since the quantity was at its best."""


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
        self._schedule_fits()
        self._stop_fits()
        if self.optim.batch_norm == "synced" and self.optim.micro_batch_size == 1:
            raise ValueError(
                "optim.batch_norm 'synced' needs optim.micro_batch_size of at least 2, or none: processes must go through the "
                "network equally often"
            )
        short_sides = self.augment.short_sides
        if short_sides is not None:
            if self.augment.crop != "random":
                raise ValueError(f"augment.short_sides belongs to augment.crop 'random', not '{self.augment.crop}'")
            if not self.clip.size <= short_sides[0] <= short_sides[1]:
                raise ValueError(
                    f"augment.short_sides is {list(short_sides)}: the smaller comes first, and is at least clip.size "
                    f"({self.clip.size}), for example [{self.clip.size * 8 // 7}, {self.clip.size * 10 // 7}]"
                )
        elif (
            self.clip.short_side is not None and self.clip.short_side < self.clip.size and self.augment.crop == "random"
        ):
            raise ValueError(
                f"augment.crop 'random' cuts {self.clip.size} pixels from a short side of {self.clip.short_side}; "
                "raise clip.short_side or lower clip.size"
            )
        return self

    def _schedule_fits(self) -> None:
        o = self.optim
        if o.epochs is None and self.stop.max_hours is None:
            raise ValueError("optim.epochs is none: then stop.max_hours must say when training ends")
        if o.clock == "hours":
            if self.stop.max_hours is None:
                raise ValueError("optim.clock 'hours' goes by stop.max_hours: give it")
            if o.epochs is not None:
                raise ValueError(
                    f"optim.clock 'hours' goes by stop.max_hours, and optim.epochs ({o.epochs}) might end it before: set "
                    "optim.epochs=none"
                )
            if o.schedule == "constant":
                raise ValueError("optim.schedule 'constant' goes by no clock: leave optim.clock at 'epochs'")
            if o.warmup_epochs:
                raise ValueError("optim.warmup_epochs goes by epochs, and optim.clock by hours: one of them only")
        elif o.epochs is None and o.schedule == "cosine":
            raise ValueError("optim.schedule 'cosine' ends with optim.epochs: give them, or optim.clock=hours")
        if o.epochs is not None and o.warmup_epochs >= o.epochs:
            raise ValueError(
                f"optim.warmup_epochs ({o.warmup_epochs:g}) must be below optim.epochs ({o.epochs}): "
                f"say both, for example optim.warmup_epochs={o.epochs / 10:g}"
            )
        if o.warmup_lr is not None and not (o.warmup_epochs and o.warmup_lr <= o.lr):
            raise ValueError(
                "optim.warmup_lr is where a warm-up starts: it needs optim.warmup_epochs, and is at most optim.lr"
            )
        if (o.schedule == "steps") != bool(o.milestones):
            raise ValueError(
                "optim.milestones belong to optim.schedule 'steps', and it to them: give both, for example "
                "optim.schedule=steps optim.milestones=[10,20]"
            )
        end = self.stop.max_hours if o.clock == "hours" else o.epochs
        if list(o.milestones) != sorted({m for m in o.milestones if m > o.warmup_epochs and (end is None or m < end)}):
            start = f"the warm-up ({o.warmup_epochs:g})" if o.warmup_epochs else "0"
            raise ValueError(
                f"optim.milestones is {list(o.milestones)}: they rise, from above {start} to below the {o.clock}"
                + (f" ({end:g})" if end is not None else "")
                + ". (To shorten a schedule as a whole: --shorten)"
            )

    def _stop_fits(self) -> None:
        s = self.stop
        if (s.quantity is None) != (s.target is None and s.patience_epochs is None):
            raise ValueError(
                "stop.quantity goes with stop.target, stop.patience_epochs, or both, for example stop.quantity=val.loss "
                "stop.patience_epochs=10"
            )
        every = self.evaluation.every_epochs
        if s.patience_epochs is not None and (s.quantity or "").startswith("val.") and s.patience_epochs < every:
            raise ValueError(
                f"stop.patience_epochs is {s.patience_epochs}, but val is measured every {every} epochs only "
                "(evaluation.every_epochs): one of them must change"
            )
        is_loss = s.quantity is not None and s.quantity.endswith("loss")
        if s.target is not None and not (s.target > 0 and (is_loss or s.target <= 1)):
            raise ValueError(
                f"stop.target is {s.target:g}, but {s.quantity} is {'above 0' if is_loss else 'a share, from 0 to 1'}"
            )


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


S = TypeVar("S", bound=Section)


def validated(kind: type[S], values: Mapping[str, Any], *, where: str | None = None) -> S:
    """`kind` from plain values, with errors for people. Raises UserError that names field, value and nearest name."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(_explain(error, kind, where or kind.__name__.lower())) from None


def replace(recipe: S, changes: Mapping[str, Any]) -> S:
    """A copy with dotted fields changed (`{"optim.lr": 0.1}`), validated again as a whole."""
    values = recipe.model_dump()
    for dotted, value in changes.items():
        _set(values, type(recipe), dotted, value)
    return validated(type(recipe), values)


def shortened(recipe: Recipe, factor: float) -> Recipe:
    """The same schedule in a part of its time: epochs, warm-up, milestones and hours times `factor` (at least one epoch).
    Raises UserError."""
    if not 0 < factor <= 1:
        raise UserError(f"A schedule is shortened to a share of it, more than 0 and at most 1, not {factor:g}")
    o, s = recipe.optim, recipe.stop
    epochs = None if o.epochs is None else max(1, round(o.epochs * factor))
    share = factor if o.epochs is None or epochs is None else epochs / o.epochs
    by_hours = o.clock == "hours"
    return replace(recipe, {
        "optim.epochs": epochs,
        "optim.min_steps": round(o.min_steps * factor),
        "optim.warmup_epochs": o.warmup_epochs * share,
        "optim.milestones": tuple(m * (factor if by_hours else share) for m in o.milestones),
        "stop.max_hours": None if s.max_hours is None else s.max_hours * factor,
    })  # fmt: skip


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """`["optim.lr=0.1", …]` as `{"optim.lr": 0.1, …}`; values are JSON, and a bare word is a string."""
    changes: dict[str, Any] = {}
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        if not equals or not dotted.strip():
            raise UserError(f"--set takes section.field=value, not '{setting}'. For example: --set optim.lr=0.02")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = {"None": None, "none": None, "True": True, "False": False}.get(text, _number(text))
        changes[dotted.strip()] = value
    return changes


def _number(text: str) -> float | str:
    """What JSON does not write as people do: .01, 1., +2."""
    try:
        return float(text) if any(digit.isdigit() for digit in text) else text
    except ValueError:
        return text


def diff(a: Section, b: Section) -> dict[str, tuple[Any, Any]]:
    """Dotted fields in which two recipes differ, with both values."""
    flat_a, flat_b = flat(a), flat(b)
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(name) != flat_b.get(name)
    }


def flat(section: Section) -> dict[str, Any]:
    """Dotted fields to values; options of a model are fields of their own."""
    return _flat(section.model_dump(), "")


def fingerprint(recipe: Recipe) -> str:
    """16 hex digits over all that changes a result. The manifest, and a file of weights, count by their content,
    not by where they lie."""
    values = recipe.model_dump()
    if values["data"]["sha256"] is not None:
        values["data"].pop("manifest")
    if values["model"]["pretrained_sha256"] is not None:
        values["model"].pop("pretrained")
    if values["model"]["weights_sha256"] is None:  # as in recipes of earlier versions
        values["model"].pop("weights_sha256")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def to_json(section: Section) -> str:
    return json.dumps({"format_version": FORMAT_VERSION, **section.model_dump()}, indent=2) + "\n"


def from_json(kind: type[S], path: Path) -> S:
    """Read a recipe or runtime file. Raises UserError that names the file and what is wrong in it."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no recipe: an object with sections is expected")
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format_version {version}; this muybridge reads {FORMAT_VERSION}")
    return validated(kind, values, where=str(path))


def fields(kind: type[Section], prefix: str = "") -> dict[str, str]:
    """Every dotted field with its documentation, as `--help` and the docs print it."""
    found: dict[str, str] = {}
    for name, info in kind.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            found |= fields(section, f"{prefix}{name}.")
        else:
            found[prefix + name] = " ".join((info.description or "").split())
    return found


def _set(values: dict[str, Any], kind: type[Section], dotted: str, value: Any) -> None:
    valid = fields(kind)
    is_option = dotted.startswith("model.options.") and dotted.count(".") == 2 and not dotted.endswith(".")
    if dotted not in valid and not is_option:
        endings = [name for name in valid if name.rsplit(".", 1)[-1] == dotted]
        hint = f"Did you mean '{endings[0]}'?" if endings else nearest(dotted, valid)
        raise UserError(f"There is no field '{dotted}' in a {kind.__name__.lower()}. {hint}")
    *sections, name = dotted.split(".")
    for section in sections:
        values = values[section]
    values[name] = value


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _explain(error: ValidationError, kind: type[Section], where: str) -> str:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        value = problem["input"]
        if problem["type"] == "extra_forbidden":
            lines.append(f"there is no field '{name}'. {nearest(name, fields(kind))}")
        elif problem["type"] == "literal_error":
            expected = problem.get("ctx", {}).get("expected", "")
            valid = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
            close = nearest(value, valid) if isinstance(value, str) else ""
            lines.append(f"{name} is {value!r}, but takes {expected}. {close}".rstrip())
        elif problem["type"] == "value_error":
            lines.append(problem["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{name} is {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return f"{where}: " + "; ".join(lines)
