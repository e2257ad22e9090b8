"""From a table's columns to predictions, whatever file the table was in."""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from muybridge.errors import UserError, nearest
from muybridge.storage.predictions.columns import (
    LISTS,
    OTHERS,
    USUAL,
    Columns,
    MissingColumn,
    found,
    plain,
    prefixed,
    usual_prefixes,
)
from muybridge.storage.predictions.contents import Predictions
from muybridge.text import plural

MOST_LETTERS = 4096
"""Most characters of a name of a video or class."""


@dataclass(frozen=True)
class Table:
    """Columns of R rows."""

    path: str
    format: str
    columns: Mapping[str, np.ndarray]
    """Columns by name: (R,) text (object), numbers, or (R,C) numbers of a column that holds lists."""
    place: Callable[[int], str]
    """The place of a row in the file: "line 3"."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the C numbers of a column that holds them by name."""
    class_names: tuple[str, ...] | None = None
    """Names of all classes, where the file lists them apart."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Columns that hold no rows of text or numbers, and why."""
    is_numbered: bool = False
    """Whether the names of the videos are their numbers in the file."""
    notes: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """R."""
        return len(next(iter(self.columns.values()), ()))


def is_text(columns: Columns) -> Callable[[str], bool]:
    """Whether a column is read as text even where all its cells are numbers: names, labels, seeds."""
    named, usual = set(columns.named()) - set(columns.of_scores), {name for kind in USUAL.values() for name in kind}
    return lambda name: name in named or plain(name) in usual


def predictions(table: Table, columns: Columns) -> list[Predictions]:
    """Predictions of a table: one a model, seed and split. Raises UserError that names the file and the row."""
    names = list(table.columns)
    for name in columns.named():
        if name not in table.columns:
            missing = f"cannot be read: {table.left_out[name]}" if name in table.left_out else "is not there"
            raise MissingColumn(f"{table.path}: the column '{name}' {missing}. {nearest(name, names)}")
    if not table.num_rows:
        raise UserError(f"{table.path}: it has no rows. Give a file with predictions")
    whole = _with_row_a_video(table, columns)
    if whole is not table:  # the column of the scores is another now
        table, columns = whole, replace(columns, scores=None)
    names = list(table.columns)
    free = [name for name in names if name not in columns.named()]
    roles = {kind: getattr(columns, kind) or found(kind, free) for kind in USUAL if kind != "answer"}
    answers = columns.answers or tuple(name for name in [found("answer", free)] if name is not None)
    given = columns
    if len(answers) == 1 and table.columns[answers[0]].ndim == 2:  # predictions may be scores
        given, answers = replace(given, scores=columns.scores or answers[0]), ()
    taken = {name for name in roles.values() if name is not None} | set(answers)
    notes = list(table.notes)
    scores = _scores(table, given, taken, answers, notes)
    if scores is None and not answers:
        raise _no_answers(table, taken)
    classes = table.class_names if scores is None else _class_names(table, scores)
    videos = _videos(table, roles["video"], notes)
    labels = None if roles["label"] is None else _classes(table, roles["label"], classes)
    groups = None if roles["group"] is None else _text(table, roles["group"])
    views = None if roles["view"] is None else _text(table, roles["view"])
    told = {name: _classes(table, name, classes, is_answer=True) for name in answers}
    used = taken | (set() if scores is None else set(scores.names))
    unused = [name for name in names if name not in used and plain(name)]
    unused += [f"{name} ({why})" for name, why in table.left_out.items()]
    if unused:
        notes.append(f"not read: {', '.join(unused[:6])}{', …' if len(unused) > 6 else ''}")
    parts = _parts(table, roles)
    made = []
    for model, seed, split, rows_R in parts:
        if views is not None:
            _check_views(table, videos[rows_R], views[rows_R], rows_R)
        common = (*notes, *_of_views(videos[rows_R]))
        scores_RC = None if scores is None else scores.values_RC[rows_R] if len(parts) > 1 else scores.values_RC
        for answer in answers or (None,):
            answers_R, differ = _answers(None if answer is None else told[answer][rows_R], scores_RC, classes)
            made.append(
                Predictions(
                    path=table.path, format=table.format, videos_R=videos[rows_R], scores_RC=scores_RC, answers_R=answers_R,
                    labels_R=None if labels is None else labels[rows_R],
                    groups_R=None if groups is None else groups[rows_R], classes=classes,
                    model=answer if len(answers) > 1 else model, seed=seed, split=split,
                    is_numbered=roles["video"] is None or table.is_numbered,
                    are_text=not any(_is_number(table.columns[name]) for name in (*answers, roles["label"]) if name),
                    notes=(*common, *differ),
                )
            )  # fmt: skip
    return made


_CLASS = ("class", "class_name", "category")
_CLASS_OR_OTHERS = ("label", "prediction", "predicted", "pred")
"""Usual names of the column of a table with a row a class; the second may hold the truth or an answer as well."""


def _with_row_a_video(table: Table, columns: Columns) -> Table:
    """The table with the scores of a video in one row, where it has a row for each of its classes: video, class, score.

    Raises UserError where a class of a video is missing, or there twice.
    """
    names = [name for name, values in table.columns.items() if values.ndim == 1]
    video = columns.video or found("video", names)
    scores = [name for name in columns.of_scores if name in names] or [
        name for usual in (*LISTS, "confidence") for name in names if plain(name) == usual
    ]
    if video is None or columns.answers or not scores or not _is_number(table.columns[scores[0]]):
        return table
    if usual_prefixes(names) or any(values.ndim > 1 for values in table.columns.values()):
        return table
    score = scores[0]
    kinds = [getattr(columns, kind) or found(kind, names) for kind in ("model", "seed", "split", "view")]
    key_R = np.zeros(table.num_rows, dtype=np.int64)
    for name in (video, *(name for name in kinds if name is not None)):
        _, code_R = np.unique(_text(table, name), return_inverse=True)
        _, key_R = np.unique(key_R * (code_R.max() + 1) + code_R, return_inverse=True)
    taken = {video, score, columns.label, *kinds}
    for usual in (*_CLASS, *_CLASS_OR_OTHERS):
        for name in names:
            if plain(name) == usual and name not in taken and _has_row_a_class(table, name, key_R, usual in _CLASS):
                return _pivoted(table, name, score, key_R, video)
    return table


def _has_row_a_class(table: Table, name: str, key_R: np.ndarray, is_surely_class: bool) -> bool:
    """Whether the rows of most videos have different classes, so that the column is not that of the truth or of views."""
    _, class_R = np.unique(_text(table, name), return_inverse=True)
    pairs = np.unique(key_R * (class_R.max() + 1) + class_R)
    several = np.bincount(pairs // (class_R.max() + 1)) > 1
    if is_surely_class:
        return float(several.mean()) >= 0.5
    return bool(several.all()) and len(pairs) == len(key_R)


def _pivoted(table: Table, name: str, score: str, key_R: np.ndarray, video: str) -> Table:
    """The table with a row a key, and the scores of its classes as one column."""
    classes, class_R = np.unique(_text(table, name), return_inverse=True)
    if all(re.fullmatch(r"\d{1,9}", one) for one in classes.tolist()):
        order = np.argsort(classes.astype(np.int64), kind="stable")
        classes, class_R = classes[order], np.argsort(order)[class_R]
    _, first, key_R = np.unique(key_R, return_index=True, return_inverse=True)
    order = np.argsort(first)
    first, key_R = first[order], np.argsort(order)[key_R]
    videos = _text(table, video)
    counts = np.bincount(key_R * len(classes) + class_R, minlength=len(first) * len(classes)).reshape(len(first), -1)
    if counts.max() > 1:
        key, which = np.argwhere(counts > 1)[0]
        row = int(np.flatnonzero((key_R == key) & (class_R == which))[1])
        raise UserError(
            f"{table.path}, {table.place(row)}: '{videos[row]}' has the class '{classes[which]}' twice. Remove one, or name the "
            "column that numbers the views: --column view=…"
        )
    if counts.min() < 1:
        key, which = np.argwhere(counts < 1)[0]
        raise UserError(
            f"{table.path}: it has a row a class, and '{videos[first[key]]}' has none of the class '{classes[which]}' (as "
            f"{int((counts < 1).any(1).sum())} of {plural(len(first), 'video')}). Write the scores of all classes, or the best "
            "class of each video alone"
        )
    values_RC = np.empty(counts.shape)
    values_RC[key_R, class_R] = table.columns[score]
    made: dict[str, np.ndarray] = {}
    left_out = dict(table.left_out)
    for other, values in table.columns.items():
        if other in (name, score):
            continue
        if (values[first][key_R] == values).all():
            made[other] = values[first]
        else:
            left_out[other] = "it differs between the classes of a video"
    are_places = classes.tolist() == [str(place) for place in range(len(classes))]
    note = f"it has a row a class: {plural(len(classes), 'class')} by '{name}', and their scores by '{score}'"
    return replace(
        table, columns={**made, "scores": values_RC}, place=lambda row: table.place(int(first[row])), left_out=left_out,
        classes={} if are_places else {"scores": tuple(classes.tolist())}, notes=(*table.notes, note),
    )  # fmt: skip


def _answers(
    answers_R: np.ndarray | None, scores_RC: np.ndarray | None, classes: tuple[str, ...] | None
) -> tuple[np.ndarray | None, list[str]]:
    """(R,) answers, and what is to be noted of them; None where the highest scores say the same."""
    if answers_R is None or scores_RC is None:
        return answers_R, []
    differ = int((_best(scores_RC, classes, answers_R) != answers_R).sum())
    if not differ:
        return None, []
    return answers_R, [f"{differ} answers are not the class with the highest score"]


def _best(scores_RC: np.ndarray, classes: tuple[str, ...] | None, answers_R: np.ndarray) -> np.ndarray:
    """(R,) the class with the highest score, as the answers name classes."""
    best_R = scores_RC.argmax(1)
    if answers_R.dtype.kind == "U":
        return np.array(classes if classes is not None else range(scores_RC.shape[1]), dtype=np.str_)[best_R]
    return best_R


def _class_names(table: Table, scores: "_Scores") -> tuple[str, ...] | None:
    """Names of the classes in the order of the scores."""
    count = scores.values_RC.shape[1]
    if scores.classes is not None or table.class_names is None:
        names = scores.classes
    elif len(table.class_names) != count:
        raise UserError(
            f"{table.path}: it names {len(table.class_names)} classes, and has {count} scores a row. Correct the names, or leave "
            "them out"
        )
    else:
        names = table.class_names
    if names is not None:
        twice = next((name for name, number in Counter(names).items() if number > 1), None)
        if twice is not None:
            raise UserError(f"{table.path}: the class '{twice[:60]}' is there twice. Rename one")
    return names


@dataclass(frozen=True)
class _Scores:
    values_RC: np.ndarray
    classes: tuple[str, ...] | None
    names: tuple[str, ...]
    """The columns that they were read from."""


def _scores(
    table: Table, columns: Columns, taken: set[str], answers: Sequence[str], notes: list[str]
) -> _Scores | None:
    """The scores of a table, by the columns that a user names, or by usual ones; None: it has none."""
    free = [name for name in table.columns if name not in taken]
    given = columns.of_scores
    if len(answers) > 1:
        if given:
            raise UserError(
                f"{table.path}: several columns of answers have no scores of their own. Name one, or leave the scores out"
            )
        return None
    if len(given) > 1:
        return _by_columns(table, list(given), "")
    if given:
        if given[0] in table.columns:
            return _listed(table, given[0])
        several = prefixed(free, given[0])
        if len(several) < 2:
            raise MissingColumn(
                f"{table.path}: no two columns begin with '{given[0]}', and none is called that. Name the columns of the "
                f"scores: --column scores=… {nearest(given[0], table.columns)}"
            )
        return _by_columns(table, several, given[0])
    by_prefix = usual_prefixes(free)
    if len(by_prefix) > 1:
        raise UserError(
            f"{table.path}: columns begin with {' and '.join(map(repr, by_prefix))}, so which are the scores is open. Say it: "
            f"--column scores={next(iter(by_prefix))}"
        )
    if by_prefix:
        ((prefix, several),) = by_prefix.items()
        return _by_columns(table, several, prefix)
    by_plain = {plain(name): name for name in reversed([*free, *table.left_out])}
    for usual in LISTS:
        name = by_plain.get(usual)
        if name is not None and name in table.left_out:
            raise UserError(
                f"{table.path}: the scores in '{name}' cannot be read: {table.left_out[name]}. Give each row a score for each "
                "class"
            )
        if name is not None and (table.columns[name].ndim == 2 or _begins_as_list(table.columns[name])):
            return _listed(table, name)
    if answers:
        return None
    _check_gaps(table, [name for name in free if plain(name) not in OTHERS | {""}])
    rest = [
        n for n in free if table.columns[n].ndim == 1 and _is_number(table.columns[n]) and plain(n) not in OTHERS | {""}
    ]
    if len(rest) < 2 or all((table.columns[name] == np.floor(table.columns[name])).all() for name in rest):
        return None  # whole numbers are classes rather than scores
    notes.append(f"{len(rest)} columns of numbers were taken as the scores of classes, {rest[0]} to {rest[-1]}")
    return _by_columns(table, rest, "")


def _is_number(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf"


def _check_gaps(table: Table, names: Sequence[str]) -> None:
    """Raise UserError for a column of scores that a cell keeps from being one: it would be a class that is left out."""
    if not any(_is_number(table.columns[name]) for name in names):
        return
    for name in names:
        values = table.columns[name]
        if values.dtype.kind != "O":
            continue
        cells = [str(cell).strip() for cell in values.tolist()]
        numbers = [cell for cell in cells if is_number(cell)]
        if 2 * len(numbers) >= len(cells) and not all(re.fullmatch(r"[-+]?\d+", cell) for cell in numbers):
            raise _not_numbers(table, name)


def _not_numbers(table: Table, name: str) -> UserError:
    """Error of the first cell of a column of scores that is not a number."""
    row, text = _not_a_number(table.columns[name])
    what = f"'{text}' in the column '{name}' is not a number" if text.strip() else f"the column '{name}' is empty"
    comma = " Write it with a decimal point" if re.fullmatch(r"[-+]?\d*,\d+", text.strip()) else " Correct it"
    return UserError(
        f"{table.path}, {table.place(row)}: {what}.{comma}, or name the columns of the scores: --column scores=…"
    )


def _begins_as_list(values: np.ndarray) -> bool:
    return values.dtype.kind == "O" and str(values[0]).lstrip()[:1] in ("[", "{", "(")


def _by_columns(table: Table, names: list[str], prefix: str) -> _Scores:
    """Scores that have a column a class."""
    for name in names:
        values = table.columns[name]
        if not _is_number(values) or values.ndim != 1:
            if values.ndim != 1:
                raise UserError(f"{table.path}: the column '{name}' holds lists. Name it alone: --column scores={name}")
            raise _not_numbers(table, name)
    suffixes = [name.removeprefix(prefix) for name in names]
    if all(re.fullmatch(r"\d{1,9}", suffix) for suffix in suffixes):
        order = sorted(range(len(names)), key=lambda place: int(suffixes[place]))
        if [int(suffixes[place]) for place in order] == list(range(len(names))):
            names = [names[place] for place in order]
            return _Scores(_finite(table, _joined(table, names), names), None, tuple(names))
    return _Scores(_finite(table, _joined(table, names), names), tuple(suffixes), tuple(names))


def _joined(table: Table, names: list[str]) -> np.ndarray:
    """(R,C) values of columns, without a copy where they lie side by side."""
    arrays = [table.columns[name] for name in names]
    first = arrays[0]
    base = first.base
    if isinstance(base, np.ndarray) and base.ndim == 2 and first.dtype == base.dtype:
        begin = (first.ctypes.data - base.ctypes.data) // base.itemsize
        block = base[:, begin : begin + len(arrays)] if base.flags.c_contiguous else base[:0]
        if block.shape == (table.num_rows, len(arrays)) and all(
            one.ctypes.data == block[:, place].ctypes.data and one.strides == block[:, place].strides
            for place, one in enumerate(arrays)
        ):
            return block
    return np.stack(arrays, axis=1)


def _not_a_number(values: np.ndarray) -> tuple[int, str]:
    """Row and text of the first cell that is not a number."""
    row = next((row for row, cell in enumerate(values.tolist()) if not is_number(str(cell))), 0)
    return row, str(values[row])[:40]


def is_number(cell: str) -> bool:
    """Whether text is a number; of the underscores that Python allows in it, it is not."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _finite(table: Table, values_RC: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Scores that are checked to be finite numbers."""
    if values_RC.dtype.kind not in "iuf":
        raise UserError(
            f"{table.path}: '{names[0]}' has {str(values_RC.flat[0])[:20]} where a score should be. Give each row a number for "
            "each class"
        )
    if values_RC.dtype.kind != "f" or values_RC.dtype.itemsize < 4:
        values_RC = values_RC.astype(np.float64)
    is_bad_R = ~np.isfinite(values_RC).all(1)
    if is_bad_R.any():
        row = int(is_bad_R.argmax())
        place = int((~np.isfinite(values_RC[row])).argmax())
        where = f"the column '{names[place]}'" if len(names) == values_RC.shape[1] else f"score {place} of '{names[0]}'"
        raise UserError(
            f"{table.path}, {table.place(row)}: {where} is {values_RC[row, place]}, which is not a finite number. Correct it, or "
            "remove the row"
        )
    return values_RC


def _listed(table: Table, name: str) -> _Scores:
    """Scores of one column that holds them as lists, or by class."""
    values = table.columns[name]
    if values.ndim == 2:
        if values.shape[1] < 2:
            raise UserError(f"{table.path}: '{name}' has lists of one number. Give a score for each class")
        return _Scores(_finite(table, values, [name]), table.classes.get(name), (name,))
    if values.dtype.kind != "O":
        raise UserError(
            f"{table.path}: '{name}' has one number a row, and not a score for each class. Name the columns of the scores: "
            "--column scores=…"
        )
    rows: list[np.ndarray] = []
    classes: tuple[str, ...] | None = None
    for row, cell in enumerate(values.tolist()):
        names, numbers = parsed_list(str(cell), f"{table.path}, {table.place(row)}, column '{name}'")
        if row and (names is None) == (classes is None) and names is not None and classes is not None:
            numbers = _in_order(numbers, names, classes, f"{table.path}, {table.place(row)}, column '{name}'")
        elif row and ((names is None) != (classes is None) or len(numbers) != len(rows[0])):
            raise UserError(
                f"{table.path}, {table.place(row)}: '{name}' has {len(numbers)} numbers, and the first row has {len(rows[0])}. "
                "Give as many in each row"
            )
        else:
            classes = names if not row else classes
        rows.append(numbers)
    if len(rows[0]) < 2:
        raise UserError(f"{table.path}: '{name}' has lists of one number. Give a score for each class")
    return _Scores(_finite(table, np.stack(rows), [name]), classes, (name,))


def _in_order(numbers: np.ndarray, names: tuple[str, ...], classes: tuple[str, ...], where: str) -> np.ndarray:
    """Numbers by name in the order of the first row's."""
    if names == classes:
        return numbers
    by_name = dict(zip(names, numbers.tolist(), strict=True))
    if len(by_name) != len(names) or by_name.keys() != set(classes):
        odd = next(iter(by_name.keys() ^ set(classes)), names[0])
        raise UserError(f"{where}: it has other classes than the first row ('{odd[:60]}'). Give the same in each row")
    return np.array([by_name[name] for name in classes])


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|NaN|Infinity)")


def parsed_list(cell: str, where: str) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """Names, where it has any, and numbers of a cell: JSON, or as Python or NumPy prints it. Raises UserError."""
    inner = cell.strip()
    try:
        if inner[:1] == "{":
            if inner.count("{") > 1 or "[" in inner or "(" in inner:
                raise ValueError("it holds lists in lists")
            by_name = json.loads(inner) if '"' in inner else ast.literal_eval(inner)
            names = tuple(str(name) for name in by_name)
            values = list(by_name.values())
            if not all(type(value) in (int, float) for value in values):
                raise ValueError("a value is not a number")
            return names, np.array(values, dtype=np.float64)
        if inner[:1] not in "[(" or inner[-1:] not in "])" or not inner:
            raise ValueError("not a list")
        cells = inner[1:-1].replace(",", " ").split()
        if not all(map(_NUMBER.fullmatch, cells)):
            odd = next(one for one in cells if not _NUMBER.fullmatch(one))
            raise ValueError(
                "numbers were left out when it was printed" if odd == "..." else f"'{odd[:30]}' is not a number"
            )
        return None, np.array(list(map(float, cells)), dtype=np.float64)
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError, OverflowError) as error:
        cause = str(error).splitlines()[0][:80] if str(error) else "it is too deep"
        raise UserError(f"{where}: not a list of scores: {cause}. Write it as JSON: [0.1, 0.9]") from None


def _videos(table: Table, name: str | None, notes: list[str]) -> np.ndarray:
    """(R,) names of the rows' videos; the numbers of the rows where the table has none."""
    if name is None:
        notes.append("the file names no videos: its rows are in the order of the test list")
        return np.arange(table.num_rows).astype(np.str_)
    videos = _text(table, name)
    if (videos == "").any():
        row = int((videos == "").argmax())
        raise UserError(
            f"{table.path}, {table.place(row)}: the column '{name}' names no video. Fill it in, or remove the row"
        )
    return videos


def _text(table: Table, name: str) -> np.ndarray:
    """(R,) a column as text."""
    values = table.columns[name]
    if values.ndim != 1:
        raise UserError(f"{table.path}: the column '{name}' holds lists, not names. Name another column")
    if values.dtype.kind == "f" and ((values == np.floor(values)) & (abs(values) < 2**53)).all():
        values = values.astype(np.int64)
    texts = [str(value) for value in values.tolist()]
    row = max(range(len(texts)), key=lambda place: len(texts[place]))
    if len(texts[row]) > MOST_LETTERS:
        raise UserError(
            f"{table.path}, {table.place(row)}: '{texts[row][:20]}…' in the column '{name}' has {len(texts[row])} characters. "
            "Name another column"
        )
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise UserError(f"{table.path}: the column '{name}' has text that is not Unicode. Correct it") from None
    return np.array(texts, dtype=np.str_)


_WHOLE = re.compile(r"([-+]?\d{1,9})(\.0*)?")


def _classes(table: Table, name: str, classes: tuple[str, ...] | None, *, is_answer: bool = False) -> np.ndarray:
    """(R,) a column of classes: numbers where all are, and not names of the scores' columns; else names."""
    values = table.columns[name]
    if values.ndim != 1:
        raise UserError(
            f"{table.path}: '{name}' has several classes a video, and a comparison needs one. Give the one class of each video"
        )
    if _is_number(values):
        if (
            values.dtype.kind == "f"
            and not (np.isnan(values) | (np.isfinite(values) & (values == np.floor(values)))).all()
        ):
            raise UserError(
                f"{table.path}: the column '{name}' has numbers that are not whole, so they are not classes. Name another column"
            )
        texts = np.array(["" if np.isnan(value) else str(int(value)) for value in values.tolist()], dtype=np.str_)
    else:
        texts = np.char.strip(_text(table, name))
    if is_answer and (texts == "").any():
        place = table.place(int((texts == "").argmax()))
        raise UserError(f"{table.path}, {place}: it has no answer ('{name}' is empty). Fill it in, or remove the row")
    unique, inverse_R = np.unique(texts, return_inverse=True)
    if classes is not None and _is_number(values):
        check_order(classes, f"{table.path}, column '{name}'")
    matches = [_WHOLE.fullmatch(text) for text in unique.tolist()]
    is_numbered = all(match or not text for match, text in zip(matches, unique.tolist(), strict=True))
    if any(re.match(r"0\d", text) for text in unique.tolist()):
        return texts  # 007 is a name
    if not is_numbered or not any(matches) or (classes is not None and set(unique.tolist()) - {""} <= set(classes)):
        return texts
    numbers = np.array([-1 if match is None else int(match[1]) for match in matches], dtype=np.int64)
    return numbers[inverse_R]


def check_order(classes: Sequence[str], where: str) -> None:
    """Raise UserError for numbers of classes that are called by numbers, and not in order from 0 on."""
    if all(re.fullmatch(r"\d{1,9}", name) for name in classes) and list(classes) != list(map(str, range(len(classes)))):
        shown = ", ".join(classes[:4]) + (", …" if len(classes) > 4 else "")
        raise UserError(
            f"{where}: classes are called by numbers ({shown}), so whether a 2 is the class '2' or the one at place 2 is open. "
            "Give the names as text, as a CSV does"
        )


def _parts(
    table: Table, roles: Mapping[str, str | None]
) -> list[tuple[str | None, int | None, str | None, np.ndarray]]:
    """Model, seed, split and rows of each part of a table, in the order in which they come."""
    whole = np.arange(table.num_rows)
    kinds = [kind for kind in ("model", "seed", "split") if roles[kind] is not None]
    if not kinds:
        return [(None, None, None, whole)]
    texts = [_text(table, str(roles[kind])) for kind in kinds]
    codes_R = np.zeros(table.num_rows, dtype=np.int64)
    for text in texts:
        _, inverse_R = np.unique(text, return_inverse=True)
        _, codes_R = np.unique(codes_R * (inverse_R.max() + 1) + inverse_R, return_inverse=True)
    parts = []
    together = np.split(np.argsort(codes_R, kind="stable"), np.cumsum(np.bincount(codes_R))[:-1])
    for rows_R in sorted(together, key=lambda rows_R: int(rows_R[0])):
        row = int(rows_R[0])
        values = dict(zip(kinds, (str(text[row]) for text in texts), strict=True))
        seed = values.get("seed") or None
        match = None if seed is None else _WHOLE.fullmatch(seed)
        if seed is not None and match is None:
            raise UserError(
                f"{table.path}, {table.place(row)}: the seed '{seed[:40]}' is not a whole number. Correct it, or name another "
                "column: --column seed=…"
            )
        parts.append(
            (
                values.get("model") or None, None if match is None else int(match[1]), values.get("split") or None,
                rows_R,
            )
        )  # fmt: skip
    return parts


def _check_views(table: Table, videos_R: np.ndarray, views_R: np.ndarray, rows_R: np.ndarray) -> None:
    """Raise UserError where a video has a view twice, by the column that numbers them."""
    seen: dict[tuple[str, str], int] = {}
    for row, key in zip(rows_R.tolist(), zip(videos_R.tolist(), views_R.tolist(), strict=True), strict=True):
        if key in seen:
            raise UserError(
                f"{table.path}, {table.place(row)}: view '{key[1][:40]}' of '{key[0][:80]}' is there twice, first in "
                f"{table.place(seen[key])}. Remove one"
            )
        seen[key] = row


def _of_views(videos_R: np.ndarray) -> list[str]:
    """Note of the videos that have several rows."""
    _, counts = np.unique(videos_R, return_counts=True)
    if counts.max() == 1:
        return []
    each = str(counts.max()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    return [f"videos have {each} rows each, which are taken as their views"]


def _no_answers(table: Table, taken: set[str]) -> UserError:
    """Error of a table without answers: it names the columns that may be those of one or several models."""
    ranked = [
        name for name in table.columns if name not in taken and re.fullmatch(r"(top|rank|pred)_?\d+", plain(name))
    ]
    if len(ranked) > 1:
        return UserError(
            f"{table.path}: {ranked[0]} to {ranked[-1]} are the best classes of each video in their order. The first can be "
            f"judged: --column answer={ranked[0]}. For top-5 and calibration write a score for each class"
        )
    free = [
        name
        for name, values in list(table.columns.items())[:64]
        if name not in taken and plain(name) and _may_answer(name, values)
    ]
    if free:
        which = "may hold the answers of several models" if len(free) > 1 else "may hold the answers"
        return UserError(
            f"{table.path}: no column is called as answers or scores are, and {', '.join(free[:8])} {which}. Say it: "
            f"--column answer={','.join(free[:8])}"
        )
    return UserError(
        f"{table.path}: no column holds answers or scores (it has {', '.join(list(table.columns)[:12])}). Name them: --column "
        "answer=NAME, or --column scores=PREFIX"
    )


def _may_answer(name: str, values: np.ndarray) -> bool:
    """Whether a column looks like answers: text or whole numbers, of which some come again."""
    if values.ndim != 1 or plain(name) in OTHERS:
        return False
    if _is_number(values) and not (values == np.floor(values)).all():
        return False
    return len(values) == 1 or len(np.unique(values)) < len(values)
