"""Video classifiers of Hugging Face's transformers by name, `hf:NAME` (the extra `[hub]`).

VideoMAE, TimeSformer, ViViT, V-JEPA 2, …. NAME is one of the hub or a folder with a `config.json`, from which alone the
network is built; its weights come with `load_weights(model, "hub")`.
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.zoo.base import IMAGENET, LibraryWeights, Preprocessing, VideoModel
from muybridge.zoo.heads import HEADS, Head

Probe = Literal["own", "linear", "attentive"]


class HubClassifier(VideoModel):
    """A classifier of transformers with `fc` in the place of its last layer; T = 1 after it.

    With a `pool`: its encoder alone, the pool, a head over its tokens, and `fc`.
    """

    def __init__(
        self,
        classifier: Any,
        pool: Head | None,
        *,
        num_classes: int,
        num_frames: int,
        dropout: float,
        frozen: bool,
    ) -> None:
        """`frozen`: the encoder gets no gradient and stays in eval mode."""
        config = classifier.config
        super().__init__(config.hidden_size, num_classes, dropout=dropout, in_channels=_channels(config))
        classifier.classifier = nn.Identity()
        self.network = classifier if pool is None else classifier.base_model
        self.pool = pool
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False)
        self._set_frames(config, num_frames)
        self.fixed_size = _side(getattr(config, "image_size", None) or config.crop_size)
        takes = inspect.signature(self.network.forward).parameters
        # V-JEPA 2's predictor has no part in classification
        self._options = {"skip_predictor": True} if "skip_predictor" in takes else {}

    def _set_frames(self, config: Any, num_frames: int) -> None:
        """Set the clip lengths that the network answers rightly.

        V-JEPA 2 turns queries and keys by their place in time, whatever the length; a part of a tubelet would be dropped.
        TimeSformer reads its length in every layer from `config`, and stretches its time embeddings to it. The others have
        an embedding for each place of one length.
        """
        self.usual_frames = getattr(config, "num_frames", None) or config.frames_per_clip
        if config.model_type == "vjepa2":
            self.min_frames = self.frames_multiple = config.tubelet_size
        elif config.model_type == "timesformer":
            config.num_frames = self.fixed_frames = num_frames
        else:
            self.fixed_frames = self.usual_frames

    @property
    def encoder(self) -> nn.Module:
        """The network without its head."""
        return self.network.base_model

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD, T = 1."""
        out = self.network(**{self.network.main_input_name: x_BCTHW.transpose(1, 2)}, **self._options)
        return out.logits[:, None] if self.pool is None else self.pool(out.last_hidden_state)[0]

    def train(self, mode: bool = True) -> "HubClassifier":
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def fresh_names(self) -> tuple[str, ...]:
        """The pool's parameters: the hub has no weights for them."""
        return () if self.pool is None else tuple(f"pool.{name}" for name in self.pool.state_dict())


def build(
    *,
    name: str,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
    in_channels: int,
    frozen: bool = False,
    probe: Probe = "own",
    probe_blocks: int = 0,
    revision: str | None = None,
) -> VideoModel:
    """Build a classifier of the hub, with fresh weights.

    `frozen`: the encoder stays as it is, in eval mode; only what follows it learns. `probe`: "own", the head of the
    network; "linear", the mean of the encoder's tokens and a linear layer; "attentive", attentive pooling, with
    `probe_blocks` of self-attention before it, and a linear layer. `revision`: a commit, tag or branch of the hub's
    repository. Raises UserError.
    """
    if temporal_pooling:
        raise UserError(f"hf:{name}: it has no temporal pooling. Set model.temporal_pooling=false")
    if probe not in ("own", "linear", "attentive"):
        raise UserError(f"hf:{name}: probe '{probe}' is unknown. Choose own, linear or attentive")
    if probe_blocks < 0:
        raise UserError(f"hf:{name}: probe_blocks is {probe_blocks}, not a number of blocks. Give 0 or more")
    if probe_blocks and probe != "attentive":
        raise UserError(
            f"hf:{name}: probe_blocks are the attentive probe's, but here probe is '{probe}'. Set probe=attentive, or "
            "leave probe_blocks out"
        )
    transformers = _transformers(name)
    with _quiet(name):
        config = transformers.AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        if "/" in str(getattr(config, "_attn_implementation", "")):  # code of the hub's, for attention
            raise UserError(
                f"hf:{name}: its configuration asks for code from {config._attn_implementation}, which is not run. "
                "Choose another model"
            )
        kinds = transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING
        if type(config) not in kinds:
            types = ", ".join(sorted(kind.model_type for kind in kinds))
            raise UserError(
                f"hf:{name}: it is a network of type '{config.model_type}', which classifies no videos ({types} do). "
                "Choose another model"
            )
        if getattr(config, "attention_type", "") == "space_only":  # transformers answers for every frame alone
            raise UserError(
                f"hf:{name}: its attention is 'space_only', for which transformers gives no answer for a clip. Choose "
                "another model"
            )
        if _channels(config) != in_channels:
            raise UserError(
                f"hf:{name}: it takes clips of {_channels(config)} channels, but a clip has {in_channels} here. "
                "Choose another clip.modality or model"
            )
        classifier = transformers.AutoModelForVideoClassification.from_config(config, dtype=torch.float32)
        preprocessing = _preprocessing(transformers, name, revision)
    pool: Head | None = None
    if probe == "linear":
        pool = HEADS["mean_pool"].build(config.hidden_size)
    elif probe == "attentive":
        pool = HEADS["attentive"].build(config.hidden_size, depth=probe_blocks + 1, heads=config.num_attention_heads)
    names = _class_names(config)
    model = HubClassifier(
        classifier, pool, num_classes=num_classes, num_frames=num_frames, dropout=dropout, frozen=frozen
    )
    model.preprocessing = preprocessing
    model.published = {
        "hub": LibraryWeights(
            url=name if Path(name).is_dir() else f"https://huggingface.co/{name}",
            sha256="",
            preprocessing=preprocessing,
            about=f"hf:{name}" + (f" at {revision}" if revision else ""),
            fetch=partial(_weights, name, revision, probe, num_classes),
            classes=names,
        )
    }
    return model


def _weights(name: str, revision: str | None, probe: Probe, num_classes: int, whole: bool) -> dict[str, torch.Tensor]:
    """The hub's weights by our names, loaded by transformers, which knows their older names.

    With a probe: the encoder's alone; the rest, a head, is logged. `whole`: raises UserError for a weight that is missing
    or has no place; the classifier may be missing where it would be for other classes. Not `whole`: those that the network
    takes, of a checkpoint of pretraining the encoder's.
    """
    transformers = _transformers(name)
    with _quiet(name):
        loaded, info = transformers.AutoModelForVideoClassification.from_pretrained(
            name, revision=revision, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )  # fmt: skip
    prefix = f"{loaded.base_model_prefix}."
    state = loaded.state_dict()
    encoder = {key for key in state if key.startswith(prefix)}
    parts = {prefix.removesuffix("."), *dict(loaded.base_model.named_children())}  # an encoder's own file has no prefix
    missing, homeless = set(info["missing_keys"]), set(info["unexpected_keys"])
    left_out = (set(state) - encoder - missing) | {key for key in homeless if key.partition(".")[0] not in parts}
    misfits = {key for key, *shapes in info["mismatched_keys"]}
    if probe != "own":
        missing, misfits = missing & encoder, misfits & encoder
        homeless = {key for key in homeless if key.partition(".")[0] in parts}
    fresh: set[str] = set()
    if not whole:
        fresh, missing, misfits, homeless = missing | misfits, set(), set(), set()
    elif loaded.config.num_labels != num_classes:
        fresh = {key for key in missing if key.startswith("classifier.")}
    kinds = {"missing": missing - fresh, "of another shape": misfits, "without a place in the network": homeless}
    faults = [f"{what}: {_listed(keys)}" for what, keys in kinds.items() if keys]
    if faults:
        is_head = not (missing | misfits) & encoder and probe == "own"
        advice = (
            "If they are an encoder's, without this head: probe='linear' or 'attentive'"
            if is_head
            else "Choose another model"
        )
        raise UserError(f"hf:{name}: its weights do not fit its {type(loaded).__name__}: {'; '.join(faults)}. {advice}")
    if probe != "own":
        if left_out:
            log(f"hf:{name}: left out for the probe: {_listed(left_out)}")
        return {f"network.{key.removeprefix(prefix)}": state[key] for key in encoder - fresh}
    return {
        key.replace("classifier.", "fc.", 1) if key.startswith("classifier.") else f"network.{key}": tensor
        for key, tensor in state.items()
        if key not in fresh
    }


def _preprocessing(transformers: Any, name: str, revision: str | None) -> Preprocessing:
    """The normalisation of the network's own processor (of values of 0 to 255), for values of 0 to 1."""
    for file_name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = transformers.utils.cached_file(
            name, file_name, revision=revision,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        if path is not None:
            with open(path, encoding="utf-8") as file:
                return _read_processor(json.load(file))
    return IMAGENET


def _read_processor(processor: dict[str, Any]) -> Preprocessing:
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    # ViViT's subtracts 1 after that
    is_centred = processor.get("offset", processor.get("video_processor_type") == "VivitVideoProcessor")
    mean, std = processor.get("image_mean", IMAGENET.mean), processor.get("image_std", IMAGENET.std)
    if not processor.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return Preprocessing(tuple((m + is_centred) / scale for m in mean), tuple(s / scale for s in std))


def _class_names(config: Any) -> tuple[str, ...]:
    """The classes that a configuration names (`id2label`); empty where it has only the library's numbers."""
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    is_numbered = names == [f"LABEL_{index}" for index in range(len(names))]
    return () if is_numbered or len(set(names)) < len(names) else tuple(names)


def _channels(config: Any) -> int:
    return int(getattr(config, "num_channels", getattr(config, "in_chans", 3)))


def _side(size: int | list[int] | tuple[int, int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise UserError(
            f"image size: the network is for images of {size} pixels, and only squares can be fed here. Choose "
            "another model"
        )
    return sides.pop()


def _transformers(name: str) -> Any:
    try:
        import transformers
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"hf:{name}: transformers does not import here: {error}. Install it: pip install 'muybridge[hub]'"
        ) from None
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if version < OLDEST:
        raise UserError(
            f"hf:{name}: transformers {transformers.__version__} is older than {'.'.join(map(str, OLDEST))}. Install a newer "
            "one: pip install 'muybridge[hub]'"
        )
    if version in WRONG:
        raise UserError(
            f"hf:{name}: transformers {transformers.__version__} loads some weights as zeros without saying so. "
            "Install another version: pip install 'muybridge[hub]'"
        )
    return transformers


OLDEST = (5, 4)
"""First version of transformers that the extra `[hub]` takes: earlier ones read other keys of configurations."""
WRONG = {(5, 8), (5, 16), (5, 17)}
"""Versions of transformers that leave VideoMAE's biases of queries and values without weights (measured)."""


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence transformers' reports and bars, and turn its exceptions into UserErrors."""
    from transformers.utils import logging

    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise UserError(
            f"hf:{name}: {message.rstrip('.')}. Check the name, and whether its files can be reached"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


def _listed(keys: Any) -> str:
    ordered = sorted(keys)
    return f"{len(ordered)} ({', '.join(ordered[:4])}{', …' if len(ordered) > 4 else ''})"
