"""Values of a pickle, read without running code: plain values, arrays of NumPy, and tensors of PyTorch as such arrays.

The machine below knows the operations of pickles (protocols 2 to 5) that build plain values. A name in the file is never
imported: it stands for one of the few functions in `_CALLS`, or it is refused. Tensors are read from what torch.save writes
(a zip, or its older form) and from plain pickles of them, without torch.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.scores import check_unpacked

MAGIC = 0x1950A86A20F9469CFC6C
"""Number that the older form of torch.save begins with."""

DAMAGES = (
    ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, EOFError, MemoryError, struct.error,
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError,
)  # fmt: skip
"""Errors that a damaged file leads to."""

_TYPES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bfloat16", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1",
    "UntypedStorage": "u1",
}  # fmt: skip
_DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "bfloat16", "int64": "i8", "int32": "i4", "int16": "i2",
    "int8": "i1", "uint8": "u1", "bool": "b1",
}  # fmt: skip


def unpickled(path: Path) -> Any:
    """The value of a file: plain Python values and arrays. Raises UserError that names what it wanted to run."""
    data = path.read_bytes()
    try:
        if data[:2] == b"PK":
            return _zipped(path, data)
        machine = _Machine(str(path), memoryview(data))
        value = machine.run()
        return _older(str(path), memoryview(data), machine.shared) if type(value) is int and value == MAGIC else value
    except UserError:
        raise
    except DAMAGES as error:
        cause = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UserError(f"{path}: a damaged pickle ({cause}). Write it again, or restore it") from None


def _zipped(path: Path, data: bytes) -> Any:
    """The value of a file that torch.save wrote since PyTorch 1.6."""
    check_unpacked(path)
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        main = next((name for name in packed.namelist() if name.rpartition("/")[2] == "data.pkl"), None)
        if main is None:
            raise ValueError("a zip without the file data.pkl")
        folder = main.removesuffix("data.pkl")
        if f"{folder}byteorder" in packed.namelist() and packed.read(f"{folder}byteorder") != b"little":
            raise ValueError("numbers of another byte order")
        kept: dict[str, bytes] = {}

        def storage(kind: str, key: str) -> _Storage:
            if key not in kept:
                kept[key] = packed.read(f"{folder}data/{key}")
            return _Storage(kind, memoryview(kept[key]))

        return _Machine(str(path), memoryview(packed.read(main)), storage=storage).run()


def _older(path: str, data: memoryview, shared: "_Shared") -> Any:
    """The value of a file of older versions of torch.save; the numbers of a tensor in a plain pickle are one, too."""
    machine = _Machine(path, data, shared=shared)
    machine.position = next((len(head) for head in shared.heads if data[: len(head)] == head), 0)
    if not machine.position:
        if machine.run() != MAGIC or machine.run() != 1001 or machine.run().get("little_endian") is not True:
            raise ValueError("not a file of torch.save")
        shared.heads.append(bytes(data[: machine.position]))
    start = machine.position
    asked: dict[str, str] = {}

    def first(kind: str, key: str) -> _Pending:
        asked[key] = kind
        return _Pending(key)

    machine.storage = first
    value = machine.run()
    kept: dict[str, _Storage] = {}
    for key in machine.run():
        (count,) = struct.unpack("<q", machine.take(8))
        kept[key] = _Storage(asked[key], machine.take(count * _item_bytes(asked[key])))
    if type(value) is _Pending:
        return kept[value.key]
    machine.position = start
    machine.storage = lambda _, key: kept[key]
    return machine.run()


def _item_bytes(kind: str) -> int:
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


class _Storage(NamedTuple):
    """Numbers of tensors."""

    kind: str
    data: memoryview


class _Pending(NamedTuple):
    """Numbers of tensors that follow later in the file."""

    key: str


class _Name(NamedTuple):
    """A name in a pickle; it is never imported."""

    name: str


class _Kind(NamedTuple):
    """A type of numbers, of storages or tensors."""

    kind: str


class _Made:
    """An array or its dtype between the call that makes it and the state that fills it."""

    def __init__(self, fill: Callable[[Any], Any]) -> None:
        self.fill = fill
        self.kept_at: list[int] = []


class _Shared:
    """State that the machines of one file share: how many bytes it may still make of what it repeats, and known heads."""

    def __init__(self, num_bytes: int) -> None:
        self.left = max(2**30, 100 * num_bytes)
        self.heads: list[bytes] = []
        """Beginnings of files of torch.save that were read."""

    def spend(self, num_bytes: int) -> None:
        """Count bytes. Raises ValueError where it is too much."""
        self.left -= num_bytes
        if self.left < 0:
            raise ValueError("it would fill the memory")


class _Machine:
    """Reads pickles that lie one after the other."""

    def __init__(
        self, path: str, data: memoryview, *, storage: Callable[[str, str], Any] | None = None,
        shared: _Shared | None = None,
    ) -> None:  # fmt: skip
        self.path, self.data, self.position = path, data, 0
        self.storage = storage
        self.shared = shared or _Shared(len(data))
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the next pickle."""
        self.stack, self.marks, self.memo = [], [], {}
        data, handlers = self.data, _HANDLERS
        while True:
            operation = data[self.position]
            self.position += 1
            if operation == 0x2E:  # STOP
                (value,) = self.stack
                return value
            handler = handlers.get(operation)
            if handler is None:
                raise ValueError(f"operation {operation:#x} at byte {self.position - 1} is not known")
            handler(self)

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        end = self.position + count
        if not self.position <= end <= len(self.data):
            raise ValueError("it ends too early")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, size: int, *, signed: bool = False) -> int:
        """The next bytes as a whole number."""
        if size == 1 and not signed:
            self.position += 1
            return self.data[self.position - 1]
        return int.from_bytes(self.take(size), "little", signed=signed)

    def text(self, count: int) -> str:
        """The next bytes as text."""
        return str(self.take(count), "utf-8", "surrogatepass")

    def line(self) -> str:
        """The rest of a line."""
        part = bytes(self.data[self.position : self.position + 512])
        end = part.index(b"\n")
        self.position += end + 1
        return part[:end].decode()

    def marked(self) -> list[Any]:
        """All values since the last mark."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def keep(self, key: int) -> None:
        """Remember the last value."""
        value = self.stack[-1]
        self.memo[key] = value
        if type(value) is _Made:
            value.kept_at.append(key)

    def push_tuple(self, count: int) -> None:
        """Join the last values."""
        if len(self.stack) < count:
            raise ValueError("a tuple of more values than there are")
        values = tuple(self.stack[-count:])
        self.stack[-count:] = [values]

    def append(self, values: list[Any]) -> None:
        """Append to the list before them."""
        last = self.stack[-1]
        if type(last) is not list:
            raise ValueError("something is appended to what is not a list")
        last.extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Put keys and values into the dictionary before them."""
        last = self.stack[-1]
        if type(last) is not dict or len(values) % 2:
            raise ValueError("entries of what is not a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int):
                raise ValueError("a key of a dictionary that is neither text nor a number")
            last[key] = value

    def name(self, name: str) -> None:
        """A name: that of a type, or of one of the few functions. Raises UserError for any other."""
        module, _, last = name.rpartition(".")
        if module in ("torch", "torch.storage") and last in _TYPES:
            self.stack.append(_Kind(_TYPES[last]))
        elif module == "torch" and last in _DTYPES:
            self.stack.append(_Kind(_DTYPES[last]))
        elif name in _CALLS:
            self.stack.append(_Name(name))
        else:
            raise UserError(
                f"{self.path}: the pickle wants to run '{name[:80]}', and nothing of a file is run. Save arrays, lists and "
                "dictionaries instead, or a CSV"
            )

    def call(self) -> None:
        """One of the few functions, with its arguments."""
        arguments = self.stack.pop()
        called = self.stack.pop()
        if type(called) is not _Name or type(arguments) is not tuple:
            raise ValueError("a call of something else than a function")
        self.stack.append(_CALLS[called.name](self, *arguments))

    def build(self) -> None:
        """The state of an array or a dtype."""
        state = self.stack.pop()
        made = self.stack.pop()
        if type(made) is not _Made:
            raise ValueError("a state of what has none")
        value = made.fill(state)
        for key in made.kept_at:
            self.memo[key] = value
        self.stack.append(value)

    def stored(self) -> None:
        """Numbers of tensors that lie elsewhere in the file."""
        what, kind, key, *_ = self.stack.pop()
        if what != "storage" or type(kind) is not _Kind or type(key) is not str or self.storage is None:
            raise ValueError("it refers to something outside")
        self.stack.append(self.storage(kind.kind, key))


_PLAIN = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[US]\d{1,6}|O8?)")


def _dtype(machine: _Machine, text: str, *_: Any) -> _Made:
    """numpy.dtype(text)."""
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"an array of type '{text[:20]}'")

    def fill(state: tuple[Any, ...]) -> np.dtype:
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise ValueError("an array of a type of several parts")
        return np.dtype(text) if order == "|" else np.dtype(text).newbyteorder(order)

    return _Made(fill)


def _new_array(machine: _Machine, *_: Any) -> _Made:
    """numpy.core.multiarray._reconstruct: an array whose state follows."""

    def fill(state: tuple[Any, ...]) -> Any:
        _, shape, dtype, is_fortran, content = state
        if type(content) is list and dtype == np.dtype("O"):
            if len(shape) != 1 or shape[0] != len(content):
                raise ValueError("an array of objects that is not a list")
            return content
        return _array(machine, content, dtype, shape, "F" if is_fortran else "C")

    return _Made(fill)


def _array(machine: _Machine, content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """An array of bytes."""
    if (
        type(content) not in (bytes, bytearray, memoryview)
        or not isinstance(dtype, np.dtype)
        or dtype.kind not in "biufUS"
    ):
        raise ValueError("an array that is not of numbers or text")
    if order not in ("C", "F"):
        raise ValueError("an array in an unknown order")
    values = np.frombuffer(content, dtype) if len(content) else np.empty(0, dtype)
    if dtype.kind == "U" or not dtype.isnative:
        machine.shared.spend(values.nbytes)  # copied below; the bytes may be those of other arrays, too
    if dtype.kind == "U":
        values.tolist()  # raises ValueError for what are no characters
    return values.reshape(_sizes(shape), order=order).astype(dtype.newbyteorder("="), copy=False)  # type: ignore[call-overload]


def _sizes(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or len(shape) > 8 or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise ValueError("an array of an impossible shape")
    return shape


def _from_buffer(machine: _Machine, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """numpy._core.numeric._frombuffer."""
    return _array(machine, content, dtype, shape, order)


def _scalar(machine: _Machine, dtype: Any, content: Any = b"") -> Any:
    """numpy.core.multiarray.scalar."""
    return _array(machine, content, dtype, (), "C").item()


def _encoded(machine: _Machine, text: str, encoding: str = "utf-8") -> bytes:
    """_codecs.encode, by which old protocols keep bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes kept as '{encoding[:20]}'")
    machine.shared.spend(len(text))
    return text.encode("latin-1")


def _numbers(machine: _Machine, content: Any) -> Any:
    """torch.storage._load_from_bytes: the numbers of a tensor in a plain pickle."""
    machine.shared.spend(len(content))
    return _older(machine.path, memoryview(content), machine.shared)


def _tensor(
    machine: _Machine, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None,
    *rest: Any,
) -> np.ndarray | None:  # fmt: skip
    """torch._utils._rebuild_tensor_v2, and _v3 with the type of its numbers."""
    if type(storage) is _Pending:
        return None  # the first look at a file, in which the numbers follow
    kind = next((part.kind for part in rest if type(part) is _Kind), storage.kind)
    values = np.frombuffer(storage.data, "<u2" if kind == "bfloat16" else f"<{kind}")
    sizes, strides = _sizes(size), _sizes(stride)
    if type(offset) is not int or len(sizes) != len(strides) or offset < 0:
        raise ValueError("a tensor of an impossible shape")
    count = int(np.prod(sizes, dtype=object)) if sizes else 1
    if not count:
        return np.empty(sizes, np.float32 if kind == "bfloat16" else values.dtype)
    last = offset + sum((one - 1) * step for one, step in zip(sizes, strides, strict=True))
    if last >= len(values) or count > len(values):
        raise ValueError("a tensor of more numbers than there are")
    byte_strides = tuple(step * values.itemsize for step in strides)
    tensor = np.lib.stride_tricks.as_strided(values[offset:], sizes, byte_strides, writeable=False)
    if kind != "bfloat16":
        return tensor
    machine.shared.spend(4 * count)
    return (tensor.astype(np.uint32) << 16).view(np.float32)  # the same values


def _parameter(machine: _Machine, tensor: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter."""
    return tensor


def _dictionary(machine: _Machine, *arguments: Any) -> dict[Any, Any]:
    """collections.OrderedDict."""
    made: dict[Any, Any] = {}
    for pair in arguments[0] if arguments else ():
        key, value = pair
        if type(key) not in (str, int):
            raise ValueError("a key of a dictionary that is neither text nor a number")
        made[key] = value
    return made


def _size(machine: _Machine, sizes: Any = ()) -> tuple[Any, ...]:
    """torch.Size."""
    return tuple(sizes)


def _array_type(machine: _Machine, *_: Any) -> Any:
    """numpy.ndarray, which is named and never called."""
    raise ValueError("a call of something else than a function")


_CALLS: Mapping[str, Callable[..., Any]] = {
    **{f"numpy.{core}.multiarray._reconstruct": _new_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    "numpy.dtype": _dtype, "numpy.ndarray": _array_type, "_codecs.encode": _encoded, "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _tensor, "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_tensor": _tensor, "torch._utils._rebuild_parameter": _parameter, "torch.Size": _size,
    "torch.storage._load_from_bytes": _numbers,
}  # fmt: skip
"""All that a pickle may call, and what is done instead."""


def _short_text(machine: _Machine, size: int) -> None:
    machine.stack.append(machine.text(machine.number(size)))


def _bytes(machine: _Machine, size: int) -> None:
    machine.stack.append(bytes(machine.take(machine.number(size))))


def _old_text(machine: _Machine, size: int) -> None:
    machine.stack.append(str(machine.take(machine.number(size)), "latin-1"))


def _stack_name(machine: _Machine) -> None:
    last, module = machine.stack.pop(), machine.stack.pop()
    machine.name(f"{module}.{last}")


def _line_name(machine: _Machine) -> None:
    machine.name(f"{machine.line()}.{machine.line()}")


def _dict_of_marked(machine: _Machine) -> None:
    values = machine.marked()
    machine.stack.append({})
    machine.set_items(values)


def _popped(machine: _Machine) -> list[Any]:
    value = machine.stack.pop()
    return [value]


def _popped_pair(machine: _Machine) -> list[Any]:
    value = machine.stack.pop()
    return [machine.stack.pop(), value]


_HANDLERS: Mapping[int, Callable[[_Machine], object]] = {
    0x80: lambda m: m.take(1), 0x95: lambda m: m.take(8),  # PROTO, FRAME
    ord("("): lambda m: m.marks.append(len(m.stack)), ord("0"): lambda m: m.stack.pop(), ord("1"): lambda m: m.marked(),
    ord("N"): lambda m: m.stack.append(None), 0x88: lambda m: m.stack.append(True), 0x89: lambda m: m.stack.append(False),
    ord("J"): lambda m: m.stack.append(m.number(4, signed=True)), ord("K"): lambda m: m.stack.append(m.number(1)),
    ord("M"): lambda m: m.stack.append(m.number(2)),
    0x8A: lambda m: m.stack.append(m.number(m.number(1), signed=True)),
    ord("G"): lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: _short_text(m, 4), 0x8C: lambda m: _short_text(m, 1), 0x8D: lambda m: _short_text(m, 8),
    ord("B"): lambda m: _bytes(m, 4), ord("C"): lambda m: _bytes(m, 1), 0x8E: lambda m: _bytes(m, 8),
    0x96: lambda m: _bytes(m, 8), ord("T"): lambda m: _old_text(m, 4), ord("U"): lambda m: _old_text(m, 1),
    ord("]"): lambda m: m.stack.append([]), ord("a"): lambda m: m.append(_popped(m)),
    ord("e"): lambda m: m.append(m.marked()), ord("l"): lambda m: m.stack.append(m.marked()),
    ord(")"): lambda m: m.stack.append(()), ord("t"): lambda m: m.stack.append(tuple(m.marked())),
    0x85: lambda m: m.push_tuple(1), 0x86: lambda m: m.push_tuple(2), 0x87: lambda m: m.push_tuple(3),
    ord("}"): lambda m: m.stack.append({}), ord("d"): _dict_of_marked, ord("s"): lambda m: m.set_items(_popped_pair(m)),
    ord("u"): lambda m: m.set_items(m.marked()), ord("q"): lambda m: m.keep(m.number(1)),
    ord("r"): lambda m: m.keep(m.number(4)), 0x94: lambda m: m.keep(len(m.memo)),
    ord("h"): lambda m: m.stack.append(m.memo[m.number(1)]), ord("j"): lambda m: m.stack.append(m.memo[m.number(4)]),
    ord("c"): _line_name, 0x93: _stack_name, ord("R"): lambda m: m.call(), 0x81: lambda m: m.call(),
    ord("b"): lambda m: m.build(), ord("Q"): lambda m: m.stored(),
}  # fmt: skip
"""Deeds of the operations, by their byte."""
