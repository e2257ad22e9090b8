"""Card of a result: a small JSON with the hashes of what a comparison is made of, its figures and its verdicts, signed.

    card = card_of(comparisons)            hashes and figures
    write_card(card, path, key=key)        with the hash of the card, and a signature where there is a key
    check_card(path, comparisons)          is it whole, who signed it, and do the scores give the same figures?

The hash and the signature are of the canonical JSON: sorted keys, no blanks, ASCII.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muybridge import __version__
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.analysis.verdict import verdict_on
from muybridge.errors import UserError
from muybridge.recipe import fingerprint
from muybridge.runtime.files import as_kind, check_folder, check_format, check_regular, read_json, write_new
from muybridge.storage import shapes
from muybridge.text import plural

FORMAT_VERSION = 1
KIND = "muybridge card"
TOLERANCE = 1e-9
"""Difference of two figures that rounding may make on another machine."""
LONGEST_KEY = 65_536
"""Bytes of a file of a key."""


_P = 2**255 - 19
LOW_ORDER = {
    0, 1, _P - 1, _P, _P + 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
}  # fmt: skip
"""y of the points of Ed25519's curve whose order divides eight: a signature by such a key fits, whoever made it."""


def card_of(
    comparisons: Mapping[str, Comparison], *, title: str = "", judged: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Content of a card, without its hash. `judged`: how predictions of other tools were read; None: of runs alone."""
    return {
        "format_version": FORMAT_VERSION, "kind": KIND, "muybridge": __version__, "title": title,
        "date": datetime.now(UTC).date().isoformat(), "sets": [_set(name, one) for name, one in comparisons.items()],
        **({} if judged is None else {"judged": dict(judged)}),
    }  # fmt: skip


def check_place(path: Path) -> None:
    """Raise UserError where a card cannot be written: a file is there, or its folder is a file."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: it is there already. Choose another --card, or remove it")
    check_folder(path.parent)


def write_card(card: Mapping[str, Any], path: Path, *, key: Any = None) -> None:
    """Write a new card with its hash. `key`: of `private_key`; signs it. Raises UserError where the file is there."""
    content = {**card, "sha256": _sha256(card)}
    if key is not None:
        content["signature"] = {
            "algorithm": "ed25519", "public_key": key.public_key().public_bytes_raw().hex(),
            "signature": key.sign(_canonical(card)).hex(),
        }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, json.dumps(content, indent=2) + "\n")


def is_card(path: Path) -> bool:
    """Whether a file is JSON, as a card is, and no manifest or pack."""
    check_regular(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip()[:1] == b"{"


def read_card(path: Path) -> dict[str, Any]:
    """Read a card. Raises UserError for another file."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{path}: it is JSON, and not a card of muybridge's. Name a card (report --card) or a manifest")
    check_format(content, FORMAT_VERSION, path)
    as_kind(shapes.Card, content, str(path))
    twice = _named_twice(content)
    if twice:
        raise UserError(f"{path}: it is damaged: {twice} is there twice. Restore it")
    return content


def _named_twice(card: Mapping[str, Any]) -> str:
    """Name of the first thing that a card states twice, of which one could hide the other; else empty."""
    for of_set in card["sets"]:
        models, pairs = of_set["models"], [tuple(sorted((one["a"], one["b"]))) for one in of_set["pairs"]]
        runs = [(model["name"], run["seed"], run["fold"]) for model in models for run in model["runs"]]
        for what, names in (("model", [one["name"] for one in models]), ("pair", pairs), ("run", runs)):
            for name, count in Counter(names).items():
                if count > 1:
                    return f"the {what} {name!r} of {of_set['data']}"
    sets = Counter(of_set["data"] for of_set in card["sets"])
    return next((f"the data set {name!r}" for name, count in sets.items() if count > 1), "")


@dataclass(frozen=True)
class Checked:
    """A figure or hash of a card beside the one that the scores give."""

    name: str
    said: Any
    found: Any

    @property
    def agrees(self) -> bool:
        """Whether both are the same, but for rounding."""
        numbers = [one for one in (self.said, self.found) if type(one) in (int, float)]
        if len(numbers) == 2:
            return bool(abs(self.said - self.found) <= TOLERANCE)
        return type(self.said) is type(self.found) and bool(self.said == self.found)


@dataclass(frozen=True)
class CheckedCard:
    """Result of `verify` on a card."""

    path: Path
    title: str
    is_whole: bool
    """Whether its content has the hash that it states."""
    public_key: str | None
    """Key that signed it, in hexadecimal; None where it is not signed."""
    is_signed: bool
    """Whether the signature fits the content and the key, and the key is the one that was asked for."""
    figures: tuple[Checked, ...]
    """Figures and hashes beside those that the scores give; empty where no scores were given."""
    reason: str = ""
    """Fault of the signature."""
    other_version: str = ""
    """Version of muybridge that worded the verdict, if that is another one: then its sentence is not derived again."""

    @property
    def differing(self) -> list[Checked]:
        """Figures and hashes that do not agree."""
        return [one for one in self.figures if not one.agrees]

    @property
    def is_sound(self) -> bool:
        """Whether it is whole, its signature fits if there is one, and every figure agrees."""
        return self.is_whole and not self.reason and not self.differing

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "card": str(self.path), "title": self.title, "is_sound": self.is_sound, "is_whole": self.is_whole,
            "public_key": self.public_key, "is_signed": self.is_signed, "reason": self.reason,
            "other_version": self.other_version,
            "figures": [
                {"name": one.name, "said": one.said, "found": one.found, "agrees": one.agrees} for one in self.figures
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        whole = "as it was written" if self.is_whole else "changed since it was written: its hash does not fit"
        signed = self.reason or f"signed by {self.public_key}" if self.public_key or self.reason else "not signed"
        if not self.figures:
            return f"{self.path}: {whole}; {signed}; no scores given, so its figures were not derived again"
        wrong = len(self.differing)
        agree = f"{len(self.figures) - wrong} of {plural(len(self.figures), 'figure')} and hashes agree"
        worded = (
            f"; the sentence, worded by muybridge {self.other_version}, was not derived" if self.other_version else ""
        )
        return f"{self.path}: {whole}; {signed}; {agree}{worded}"


def check_card(
    path: Path, comparisons: Mapping[str, Comparison] | None = None, *, public_key: str | None = None
) -> CheckedCard:
    """Check a card: its hash, its signature, and every figure, by comparisons of the scores that it is of.

    `public_key`: the one that must have signed it, in hexadecimal (`public_key`). Raises UserError for a file that is no
    card, and for a signed one where the package cryptography is missing.
    """
    content = read_card(path)
    card = {name: value for name, value in content.items() if name not in ("sha256", "signature")}
    signature = content.get("signature")
    figures: tuple[Checked, ...] = ()
    if comparisons is not None:
        figures = tuple(_beside(card, card_of(comparisons)))
    reason = _fault(card, signature, public_key, path)
    other_version = "" if content["muybridge"] == __version__ or not figures else content["muybridge"]
    return CheckedCard(
        path, content["title"], content["sha256"] == _sha256(card),
        None if signature is None else signature["public_key"], signature is not None and not reason, figures, reason,
        other_version,
    )  # fmt: skip


def private_key(path: Path) -> Any:
    """Read an Ed25519 key to sign with: PEM, or the form of OpenSSH, without a password. Raises UserError."""
    key = _loaded(path, private=True)
    _ed25519(path, key, "Ed25519PrivateKey", "private")
    return key


def public_key(path: Path) -> str:
    """Read a public Ed25519 key, PEM or of OpenSSH, as hexadecimal; a private one gives its public one. Raises UserError."""
    key = _loaded(path, private=False)
    _ed25519(path, key, "Ed25519PublicKey", "public")
    value: str = key.public_bytes_raw().hex()
    return value


def _loaded(path: Path, *, private: bool) -> Any:
    """A key of any kind; None where the file holds none."""
    tools = _cryptography(f"--key {path}")
    serialization = tools.serialization
    check_regular(path)
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_KEY)
    except OSError as error:
        raise UserError(f"{path}: the key cannot be read ({error.strerror}). Check its name") from None
    ways = [(serialization.load_pem_private_key, True), (serialization.load_ssh_private_key, True)]
    if not private:
        ways += [(serialization.load_pem_public_key, False), (serialization.load_ssh_public_key, False)]
    for load, is_private in ways:
        try:
            key = load(data, None) if is_private else load(data)
        except TypeError:
            raise UserError(f"{path}: the key has a password. Give one without") from None
        except (ValueError, tools.UnsupportedAlgorithm):
            continue
        return key.public_key() if is_private and not private else key
    return None


def _ed25519(path: Path, key: Any, kind: str, called: str) -> None:
    if not isinstance(key, getattr(_cryptography(str(path)).ed25519, kind)):
        raise UserError(
            f"{path}: it is not a {called} Ed25519 key. Make one: openssl genpkey -algorithm ed25519 -out key.pem"
        )


class _Cryptography:
    """Parts of the package cryptography. Raises ImportError without it."""

    def __init__(self) -> None:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self.serialization, self.ed25519 = serialization, ed25519
        self.InvalidSignature, self.UnsupportedAlgorithm = InvalidSignature, UnsupportedAlgorithm


def _cryptography(what: str) -> _Cryptography:
    try:
        return _Cryptography()
    except ImportError:
        raise UserError(
            f"{what}: signatures need the package cryptography, which is not installed. Install it: pip install "
            "'muybridge[sign]'"
        ) from None


def _fault(card: Mapping[str, Any], signature: Mapping[str, str] | None, asked: str | None, path: Path) -> str:
    """Fault of a signature; empty where it fits, or where the card has no signature and no key was asked for."""
    if signature is None:
        return "not signed, though a key was asked for" if asked is not None else ""
    tools = _cryptography(f"{path}: it is signed")
    if int.from_bytes(bytes.fromhex(signature["public_key"]), "little") % 2**255 in LOW_ORDER:
        return "its public key is one by which anybody can sign anything"
    if asked is not None and signature["public_key"] != asked:
        return f"signed by another key than the one that was asked for: {signature['public_key']}"
    try:
        key = tools.ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
        key.verify(bytes.fromhex(signature["signature"]), _canonical(card))
    except (tools.InvalidSignature, ValueError):
        return "the signature is forged, or the card was changed after it was signed"
    return ""


def _canonical(card: Mapping[str, Any]) -> bytes:
    return json.dumps(card, sort_keys=True, separators=(",", ":")).encode()


def _sha256(card: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(card)).hexdigest()


def _set(name: str, c: Comparison) -> dict[str, Any]:
    """Entry of one data set on a card."""
    first, videos = c.models[0], c.common[0]
    test = sorted(
        [first.answers[0].ids_N[video].item(), c.classes[first.labels_N[video]]] for video in videos.tolist()
    )  # fmt: skip
    hashes = {dataset.sha256 for model in c.models for dataset, _ in model.tested if dataset.sha256 is not None}
    return {
        "data": name, "manifests": sorted(hashes),
        "test_sha256": hashlib.sha256(json.dumps(test).encode()).hexdigest(), "test_videos": len(test),
        "measure": "mean_class" if c.by_class else "video_top1",
        "models": [_model(c, model) for model in c.models],
        "pairs": [
            {
                "a": c.models[a].name, "b": c.models[b].name, "difference": verdict.difference.value, "low": verdict.low,
                "high": verdict.high, "p": verdict.p, "apart": bool(verdict.apart),
            }
            for (a, b), verdict in c.verdicts.items()
        ],
        "verdict": _verdict(c),
    }  # fmt: skip


def _model(c: Comparison, model: ModelResult) -> dict[str, Any]:
    interval = c.measure(model)
    recipes = [(run, run.recipe()) for run in model.runs]
    return {
        "name": model.name, "seeds": model.num_seeds, "videos": model.num_videos, "accuracy": interval.value,
        "low": interval.low, "high": interval.high, "answers_sha256": _answers(model),
        "runs": [
            {
                "seed": recipe.seed, "fold": recipe.data.fold, "recipe": fingerprint(recipe),
                "scores_sha256": run.scores("test").sha256(),
            }
            for run, recipe in recipes
        ],
        "scores_sha256": list(model.scores_sha256),
    }  # fmt: skip


def _answers(model: ModelResult) -> str:
    """Hash of what every video is and was called, by each seed."""
    classes = model.classes
    names = [*classes, ""]  # the last one's index is -1: no class
    digest = hashlib.sha256()
    for answers in model.answers:
        lines = zip(
            answers.ids_N.tolist(), answers.split_N.tolist(), answers.groups_N.tolist(),
            [classes[label] for label in answers.labels_N], [names[label] for label in answers.predicted_N], strict=True,
        )  # fmt: skip
        digest.update(json.dumps(sorted(lines)).encode())
    return digest.hexdigest()


def _verdict(c: Comparison) -> str:
    """The sentence that says what was found."""
    return verdict_on(c).headline


def _beside(card: Mapping[str, Any], derived: Mapping[str, Any]) -> Iterator[Checked]:
    """Every figure and hash of a card beside the one that was derived; None where one of both lacks it."""
    is_same_version = card["muybridge"] == derived["muybridge"]  # a sentence may be worded anew
    said, found = (dict(_leaves(of, with_words=is_same_version)) for of in (card, derived))
    for name in dict.fromkeys([*said, *found]):
        yield Checked(name, said.get(name), found.get(name))


def _leaves(card: Mapping[str, Any], *, with_words: bool) -> Iterator[tuple[str, Any]]:
    """Figures and hashes of a card, by names that tell what they are of."""
    for of_set in card["sets"]:
        data = of_set["data"]
        for number, digest in enumerate(of_set["manifests"]):
            yield f"{data}: manifest {number + 1}", digest
        yield f"{data}: ids and labels of the test", of_set["test_sha256"]
        yield f"{data}: test videos", of_set["test_videos"]
        yield f"{data}: measure", of_set["measure"]
        if with_words:
            yield f"{data}: verdict", of_set["verdict"]
        for model in of_set["models"]:
            of = f"{data}: {model['name']}"
            for name in ("seeds", "videos", "accuracy", "low", "high"):
                yield f"{of}: {name}", model[name]
            yield f"{of}: answers", model["answers_sha256"]
            for run in model["runs"]:
                fold = "" if run["fold"] is None else f", fold {run['fold']}"
                yield f"{of}: recipe of seed {run['seed']}{fold}", run["recipe"]
                yield f"{of}: scores of seed {run['seed']}{fold}", run["scores_sha256"]
            for number, digest in enumerate(model["scores_sha256"]):
                yield f"{of}: scores of file {number + 1}", digest
        for pair in map(_by_name, of_set["pairs"]):
            for name in ("difference", "low", "high", "p", "apart"):
                yield f"{data}: {pair['a']} minus {pair['b']}: {name}", pair[name]


def _by_name(pair: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pair in the order of the names, as models that are equally good have no other."""
    if pair["a"] <= pair["b"]:
        return pair
    turned = {
        "a": pair["b"],
        "b": pair["a"],
        "difference": -pair["difference"],
        "low": -pair["high"],
        "high": -pair["low"],
    }
    return {**pair, **turned}
