"""Parquet, read by pyarrow where it is installed."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.predictions.table import Table


def read_parquet(path: Path) -> Table:
    """Read a table. Raises UserError for a damaged file, and where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: Parquet needs pyarrow, which is not installed. Install it: pip install 'muybridge[parquet]'; or save the "
            "table as CSV"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            names = list(schema.names)
            kept = [name for name, kind in zip(names, schema.types, strict=True) if _is_read(pyarrow, kind)]
            _check_size(path, file.metadata)
            table = file.read(columns=kept, use_threads=False)
        columns, classes = {}, {}
        faults = {name: "it holds neither text nor numbers" for name in names if name not in kept}
        for name in kept:
            try:
                columns[name], of_classes = _column(pyarrow, table.column(name).combine_chunks())
            except ValueError as error:
                faults[name] = str(error)
            else:
                if of_classes is not None:
                    classes[name] = of_classes
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError, pyarrow.ArrowException) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        cause = str(error).splitlines()[0][:120].rstrip(".") if str(error) else type(error).__name__
        raise UserError(f"{path}: not a whole Parquet file: {cause}. Write it again, or restore it") from None
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{path}: the column '{twice[:60]}' is there twice. Rename or remove one")
    return Table(str(path), "parquet", columns, lambda row: f"row {row + 1}", classes=classes, left_out=faults)


def _check_size(path: Path, metadata: Any) -> None:
    """Refuse a small file that would fill the memory. Raises ValueError."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    unpacked_bytes = sum(group.total_byte_size for group in groups)
    if unpacked_bytes > max(2**31, 100 * path.stat().st_size) or metadata.num_rows > 2**31:
        raise ValueError(f"it would unpack to {unpacked_bytes / 2**30:.1f} GiB")


def _is_read(pyarrow: Any, kind: Any) -> bool:
    """Whether columns of a type can hold text, numbers, lists of numbers, or numbers by class."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
    if types.is_struct(kind):
        return kind.num_fields > 0 and all(
            types.is_floating(kind.field(place).type) or types.is_integer(kind.field(place).type)
            for place in range(kind.num_fields)
        )
    is_number = types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)
    return bool(is_number or types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _column(pyarrow: Any, values: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A column as an array, and the names of its classes. Raises ValueError that says why it has no rows of numbers."""
    types, kind = pyarrow.types, values.type
    if types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if types.is_struct(kind):
        if values.null_count:
            raise ValueError("a row of it is empty")
        fields = [_column(pyarrow, values.field(place))[0] for place in range(kind.num_fields)]
        return np.stack(fields, axis=1), tuple(kind.field(place).name for place in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(pyarrow, values), None
    if types.is_integer(kind) and not values.null_count:
        return values.to_numpy(zero_copy_only=False), None
    if types.is_floating(kind) or types.is_integer(kind):
        return values.cast(kind if types.is_floating(kind) else pyarrow.float64()).to_numpy(zero_copy_only=False), None
    return np.array(["" if value is None else str(value) for value in values.to_pylist()], dtype=object), None


def _lists(pyarrow: Any, values: Any) -> np.ndarray:
    """(R,C) the numbers of a column of lists."""
    if values.null_count:
        raise ValueError("a row of it is empty")
    flat = values.flatten()
    if flat.null_count:
        raise ValueError("a list of it has an empty place")
    lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False)) if len(values) else np.array([0])
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(f"its lists have from {lengths.min()} to {lengths.max()} numbers")
    numbers: np.ndarray = flat.to_numpy(zero_copy_only=False).reshape(len(values), int(lengths[0]))
    return numbers[:, 0] if numbers.shape[1] == 1 else numbers
