"""Shapes of the files of a run, as they are checked when they are read (format: docs/formats.md)."""

from math import inf
from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

_more = with_config(ConfigDict(extra="allow"))
"""Files may hold further fields."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0, lt=inf)]
_Rate = Annotated[float, Field(gt=0, lt=inf)]
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures between which one is fitted."""
_Temperature = Annotated[float, Field(ge=COLDEST, le=HOTTEST, strict=True)]


@_more
class ChangeOfClass(TypedDict):
    """Change of the vectors of a class along a video."""

    first: Annotated[list[_Amount], Field(min_length=2)]
    previous: _Amount


@_more
class Change(TypedDict):
    """Change of stored vectors along a video."""

    classes: dict[str, ChangeOfClass]
    videos: _Amount


@_more
class StageOne(TypedDict):
    """Accuracy of the network behind stored vectors, on one split."""

    videos: _Count
    trained_on: _Count
    frame_top1: _Share
    frame_top5: NotRequired[_Share]
    frame_top10: NotRequired[_Share]
    video_top1: _Share
    video_top5: NotRequired[_Share]
    video_top10: NotRequired[_Share]


@_more
class Features(TypedDict):
    """The store of vectors that a run was trained on."""

    network: str
    source: str
    change: NotRequired[Change]
    accuracy: NotRequired[dict[str, dict[str, StageOne]]]


@_more
class Dataset(TypedDict):
    """dataset.json."""

    classes: list[str]
    mirror: dict[str, str] | None
    reversed_pairs: list[tuple[str, str]]
    split_sizes: dict[str, _Count]
    class_sizes: NotRequired[dict[str, list[_Count]]]
    official_splits: NotRequired[list[_Count]]
    longest_trained_seconds: float
    features: NotRequired[Features]
    made_by: NotRequired[str]


@_more
class Candidate(TypedDict):
    """Settings of one copy that was trained with others, and its metrics on val."""

    lr: _Amount
    weight_decay: _Amount
    video_top1: NotRequired[_Share]
    loss: NotRequired[float]
    diverged: NotRequired[bool]


@_more
class Candidates(TypedDict):
    """candidates.json."""

    tried: Annotated[list[Candidate], Field(min_length=1)]
    chosen: _Count


@_more
class Pause(TypedDict):
    """Val where a training was paused."""

    seconds: _Amount
    video_top1: _Share
    loss: _Amount


@_more
class Pauses(TypedDict):
    """pauses.json."""

    steps: dict[Annotated[str, Field(pattern=r"^[0-9]+$")], Pause]


@_more
class ViewCost(TypedDict):
    """Multiply-adds of a view of another size."""

    conv_macs: _Count
    macs: _Count


@_more
class Cost(TypedDict):
    """cost.json."""

    params: _Count
    conv_macs: _Count
    macs: _Count
    test: NotRequired[ViewCost]


_Threads = Annotated[int, Field(ge=1)]


@_more
class Continued(TypedDict):
    """Fields of environment.json that were other ones from a step on."""

    from_step: _Count
    threads: NotRequired[_Threads]


@_more
class Environment(TypedDict):
    """environment.json."""

    python: str
    torch: str
    processor: str
    device: str
    threads: _Threads | None
    deterministic: NotRequired[bool]
    continued: NotRequired[list[Continued]]


@_more
class Metrics(TypedDict):
    """Metrics of a split."""

    video_top1: _Share
    video_top5: NotRequired[_Share]
    clip_top1: NotRequired[_Share]
    mean_class: NotRequired[_Share]
    videos: _Count


@_more
class Result(TypedDict):
    """result.json."""

    steps: _Count
    val: NotRequired[Metrics]
    test: NotRequired[Metrics]


@_more
class Measured(TypedDict):
    """A line of metrics.jsonl."""

    kind: str
    epoch: _Count
    step: _Count
    loss: NotRequired[float]
    clip_top1: NotRequired[_Share]
    video_top1: NotRequired[_Share]
    video_top5: NotRequired[_Share]
    mean_class: NotRequired[_Share]
    uniform_loss: NotRequired[_Amount]
    constant_loss: NotRequired[_Amount]
    majority: NotRequired[_Share]
    val_majority: NotRequired[_Share]
    clips: NotRequired[_Count]
    correct: NotRequired[_Count]
    most_common: NotRequired[_Count]
    confidence: NotRequired[_Share]
    spread: NotRequired[_Amount]
    relus: NotRequired[_Count]
    dead_relus: NotRequired[_Count]
    dead: NotRequired[_Share]
    update: NotRequired[_Amount]


@_more
class FusedPart(TypedDict):
    """A run whose scores were fused."""

    path: str
    name: str
    fingerprint: str
    manifest: str
    setting: str
    seed: int
    fold: int | None
    test_sha256: str
    val_sha256: str | None
    steps: _Count
    epochs: _Amount
    train_seconds: _Amount


@_more
class ChosenOnVal(TypedDict):
    """Right answers on val by the weights that were chosen there, and by equal ones."""

    videos: _Count
    right: _Count
    right_equal: _Count
    loss: _Amount
    loss_equal: _Amount
    low: float
    high: float


@_more
class Fused(TypedDict):
    """fused.json."""

    format_version: Literal[1]
    name: str
    setting: str
    average: Literal["logits", "probabilities"]
    rule: Literal["auto", "equal", "given"]
    weights: Annotated[list[_Share], Field(min_length=2)]
    chosen: ChosenOnVal | None
    parts: Annotated[list[FusedPart], Field(min_length=2)]


@_more
class Threshold(TypedDict):
    """Probability below which a run answers "unknown", and what that gives on val."""

    rule: str
    value: Annotated[_Share, Field(strict=True)]
    answered: _Share
    precision: _Share
    precision_low: _Share
    method: str
    cost: _Amount | None
    cost_of_all: _Amount | None


@_more
class Calibration(TypedDict):
    """calibration.json."""

    format_version: Literal[1]
    temperature: _Temperature
    low: _Temperature | None
    high: _Temperature | None
    videos: _Count
    sources: _Count
    loss: _Amount
    loss_before: _Amount
    calibration_error: _Share
    calibration_error_before: _Share
    checkpoint: str
    weights: str
    scores_sha256: str
    threshold: Threshold | None


@_more
class Timing(TypedDict):
    """A line of timing.jsonl."""

    epoch: _Count
    train_seconds: _Amount
    train_clips_per_s: _Rate
    seconds: NotRequired[_Amount]


@_more
class Speed(TypedDict):
    """speed.json."""

    batch_size: NotRequired[_Count]
    forward_clips_per_s: NotRequired[_Rate | None]
    train_clips_per_s: NotRequired[_Rate | None]
    peak_memory_bytes: NotRequired[_Rate | None]


@_more
class Changes(TypedDict):
    """Largest changes of logits by the order of the frames."""

    reversed: _Amount


@_more
class Diagnosis(TypedDict):
    """diagnosis.json."""

    accuracy: NotRequired[dict[str, _Share]]
    largest_change: Changes


@_more
class Skipped(TypedDict):
    """A video that could not be read."""

    path: str
    cause: str


@_more
class AllSkipped(TypedDict):
    """skipped.json."""

    videos: dict[str, Skipped]


_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Figure = Annotated[float, Field(gt=-inf, lt=inf)]


@_more
class CardRun(TypedDict):
    """A run of a model on a card."""

    seed: int
    fold: int | None
    recipe: str
    scores_sha256: _Sha256


@_more
class CardModel(TypedDict):
    """A model on a card."""

    name: str
    seeds: _Count
    videos: _Count
    accuracy: _Share
    low: _Share
    high: _Share
    answers_sha256: _Sha256
    runs: list[CardRun]
    scores_sha256: list[_Sha256]


@_more
class CardPair(TypedDict):
    """Verdict on a pair of models on a card."""

    a: str
    b: str
    difference: _Figure
    low: _Figure
    high: _Figure
    p: _Share
    apart: bool


@_more
class CardSet(TypedDict):
    """A data set on a card."""

    data: str
    manifests: list[str]
    test_sha256: _Sha256
    test_videos: _Count
    measure: Literal["video_top1", "mean_class"]
    models: Annotated[list[CardModel], Field(min_length=1)]
    pairs: list[CardPair]
    verdict: str


@_more
class Signature(TypedDict):
    """Signature of a card."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


@_more
class Judged(TypedDict):
    """Options by which `judge` read predictions."""

    split: str
    fold: int | None
    format: str | None
    column: dict[str, str | list[str]]
    scores: str | None
    seed_pattern: str | None


class Card(TypedDict):
    """Card of a result."""

    format_version: Literal[1]
    kind: Literal["muybridge card"]
    muybridge: str
    title: str
    date: str
    sets: Annotated[list[CardSet], Field(min_length=1)]
    judged: NotRequired[Judged]
    sha256: _Sha256
    signature: NotRequired[Signature]
