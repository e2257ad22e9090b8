"""Samples of lm-evaluation-harness and lmms-eval: `--log_samples`, a JSON object a line.

`filtered_resps` holds the answer of a model that writes, or of multiple choice the log-likelihood of each choice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from muybridge.errors import UserError
from muybridge.storage.predictions.columns import Columns, found
from muybridge.storage.predictions.contents import Predictions
from muybridge.storage.predictions.records import Records
from muybridge.storage.predictions.table import predictions


def is_sample(record: Any) -> bool:
    """Whether a record is of such a file."""
    return isinstance(record, dict) and "doc_id" in record and ("filtered_resps" in record or "resps" in record)


def of_samples(
    path: str, samples: Iterable[tuple[int, Mapping[str, Any]]], columns: Columns, *, unit: str = "line"
) -> list[Predictions]:
    """Predictions of samples with their places: one a filter. Raises UserError that names the place."""
    by_filter: dict[str, Records] = {}
    choices: set[tuple[str, ...]] = set()
    is_numbered = True
    for place, sample in samples:
        where = f"{path}, {unit} {place}"
        if not is_sample(sample):
            raise UserError(f"{where}: it has no doc_id, or no filtered_resps. Write the samples again")
        doc = sample.get("doc")
        video = _video(doc, columns) if isinstance(doc, dict) else None
        is_numbered = is_numbered and video is None
        record: dict[str, Any] = {"video": str(sample["doc_id"]) if video is None else video}
        answer = sample.get("filtered_resps", sample.get("resps"))
        scores = _likelihoods(answer, where)
        target = sample.get("target")
        if scores is not None:
            named = _choices(doc) if isinstance(doc, dict) else None
            record["scores"] = scores
            if named is not None and len(named) == len(scores):
                choices.add(named)
                if isinstance(target, str) and target in named:
                    target = named.index(target)
        else:
            record["prediction"] = _text(answer, where)
        if target is not None and not isinstance(target, str | int):
            raise UserError(f"{where}: its target is neither text nor a number. Give the samples of a classification")
        record["label"] = target.strip() if isinstance(target, str) else target
        by_filter.setdefault(str(sample.get("filter", "none")), Records(path, unit)).add(record, place)
    is_choice = all("scores" in records.cells for records in by_filter.values())
    names = next(iter(choices)) if len(choices) == 1 and is_choice else None
    made: list[Predictions] = []
    for name, records in by_filter.items():
        table = replace(records.table("lm"), class_names=names, is_numbered=is_numbered)
        for one in predictions(table, Columns()):
            made.append(one if len(by_filter) == 1 else replace(one, model=name))
    if not made:
        raise UserError(f"{path}: it is empty. Give a file of samples")
    return made


def _video(doc: Mapping[str, Any], columns: Columns) -> str | None:
    """The video of a document, by the column that is named, or usual names."""
    name = columns.video or found("video", [name for name, value in doc.items() if isinstance(value, str | int)])
    value = None if name is None else doc.get(name)
    return str(value) if isinstance(value, str | int) and str(value) else None


def _choices(doc: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The texts of the choices."""
    value = doc.get("choices", doc.get("options", doc.get("candidates")))
    value = value.get("text") if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return tuple(value) if len(set(value)) == len(value) else None


def _likelihoods(answer: Any, where: str) -> list[float] | None:
    """Log-likelihood of each choice; None of an answer as text."""
    if not isinstance(answer, list) or len(answer) < 2:
        return None
    pairs = [one[0] if isinstance(one, list) and len(one) == 1 and isinstance(one[0], list) else one for one in answer]
    if not all(isinstance(one, list) and len(one) == 2 for one in pairs):
        return None
    try:
        return [float(one[0]) for one in pairs]
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: a log-likelihood is not a number. Write the samples again") from None


def _text(answer: Any, where: str) -> str:
    """The answer of a model that writes."""
    while isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, str | int) and not isinstance(answer, bool) and str(answer).strip():
        return str(answer).strip()
    raise UserError(
        f"{where}: it has no answer that is text, nor a log-likelihood for each choice. Write the samples again"
    )
