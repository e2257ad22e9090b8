"""JSON, and JSON Lines: an object a line."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.storage.predictions.delimited import text_lines


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line that is not empty. Raises UserError that names the line."""
    for number, line in text_lines(path):
        if line.strip():
            value = parsed(line, f"{path}, line {number}")
            if not isinstance(value, dict):
                raise UserError(f'{path}, line {number}: not an object. Give a line a video, as {{"video": …}}')
            yield number, value


def json_value(path: Path) -> Any:
    """The value of a JSON file. Raises UserError that names the place."""
    data = path.read_bytes()
    try:
        text = str(data, "utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 text ({error.reason}). Save it as UTF-8") from None
    del data
    return parsed(text, str(path))


def parsed(text: str, where: str) -> Any:
    """A JSON value. Raises UserError where the text is not JSON, or an object has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise UserError(f"{where}: its values are nested too deeply. Give a list of records") from None
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON: {error}. Correct it, or save it again") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key '{name[:60]}' is there twice")
    return made
