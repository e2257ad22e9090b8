"""User code: names that mean code, consent to run it, and how it is found, hashed, kept in a run and imported.

Two names mean code: `module:function`, a model or (behind `METHOD@`) an image network; and `file.py:function`, a recipe or
a study. Naming it on the command line, or as an argument of a function, is the consent to run it. A name that was read
from a file (a run, a study, a recipe's JSON) needs `--allow-code`. Without consent nothing is imported: `call` refuses.

A run keeps the source files of its model (RUN/source) and is loaded from these alone.
"""

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any, Literal

from muybridge.errors import UserError, nearest
from muybridge.former_names import resolve_former_names
from muybridge.runtime.files import sha256_file, within, write_atomic

Consent = bool | Literal["mine"]
"""Consent to run the code of a run's model: none, the copy that the run keeps, or ("mine") the user's module on the path.

With "mine" nothing that the run keeps is executed.
"""

LIBRARIES = ("timm", "hf")
"""Prefixes before a colon that name a library's networks, not a module."""


# --- names


@dataclass(frozen=True)
class ModelName:
    """A parsed model name."""

    method: str
    """The part before an @, or empty."""
    library: str
    """One of LIBRARIES, or empty."""
    network: str
    """A registered name, or the network's name in the library or in user code."""

    @property
    def code(self) -> str | None:
        """The `module:function` that it names, or None."""
        return self.network if not self.library and ":" in self.network else None


def parsed(name: str) -> ModelName:
    """Parse a model name. Raises UserError for an invalid one."""
    if name.startswith("hf:"):  # a folder's name may have an @ in it
        return ModelName("", "hf", name.removeprefix("hf:"))
    method, at, network = name.rpartition("@")
    if "@" in method or (at and not method):
        raise UserError(
            f"'{name}': more than one @, or nothing before it. Write METHOD@module:function or METHOD@timm:NAME"
        )
    library, colon, rest = network.partition(":")
    if not colon or library not in LIBRARIES:
        return ModelName(method, "", network)
    if library == "hf":
        raise UserError(
            f"'{name}': hf: names a whole video classifier. Give METHOD@ an image network: METHOD@timm:NAME or "
            "METHOD@module:function"
        )
    if not method:
        raise UserError(f"'{name}': an image network alone. Put a method before it, for example tsm@{name}")
    return ModelName(method, library, rest)


def resolved_name(name: str) -> str:
    """Name that is valid from any folder: `hf:FOLDER` with the folder's absolute path."""
    model = parsed(name)
    return f"hf:{Path(model.network).resolve()}" if model.library == "hf" and Path(model.network).is_dir() else name


# --- consent

_allowed: set[str] = set()


def allow(name: str) -> None:
    """Allow the code of a model that the user named, from Python's path."""
    code = parsed(name).code
    if code is not None:
        _leave_run()
        _allowed.add(code)


def from_here(name: str) -> None:
    """Allow the code of a model that was named on the command line; search its module in the current folder, too.

    The current folder is searched last.
    """
    allow(name)
    if parsed(name).code is not None:
        look_here()


def look_here() -> None:
    """Append the current folder to the import path."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def check_consent(name: str, *, where: str | Path, allow_code: bool) -> None:
    """Raise UserError where a name that was read from a file means code without consent.

    `where`: the file, for the message.
    """
    code = parsed(name).code
    if code is None or code in _allowed:
        return
    if not allow_code:
        raise UserError(
            f"{where}: it names code for its model ('{name}'), which can do anything. If you trust it: --allow-code "
            "(in Python allow_code=True)"
        )
    allow(name)


# --- calls


def call(code: str, **arguments: Any) -> Any:
    """Call the function `module:function`.

    Raises UserError where it is missing, not allowed, or fails; then with the line in the user's file.
    """
    target = function(code)
    with explained(code):
        return target(**arguments)


def function(code: str) -> Callable[..., Any]:
    """Import the function `module:function`. Raises UserError where that fails or is not allowed."""
    module_name, _, name = code.partition(":")
    _check_module(code, module_name)
    _check_allowed(code)
    _forget_changed(code, module_name)
    with explained(code):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if module_name != error.name and not module_name.startswith(f"{error.name}."):
                raise
            raise UserError(
                f"Model '{code}': the module '{error.name}' is not found on Python's path. Add its folder to PYTHONPATH"
            ) from error
    target = getattr(module, name, None)
    if not callable(target):
        raise UserError(f"Model '{code}': '{module_name}' has no function '{name}'. Name one that it has")
    return target


_imported: dict[str, dict[str, str]] = {}
"""Hashes of the files of each module, when it was imported."""


def _forget_changed(code: str, module: str) -> None:
    """Forget a module whose files have changed, so that the code that runs is the code that is hashed.

    Its bytecode is deleted: Python takes it for that of any source of the same length and second.
    """
    files = source_files(code)
    hashes = {name: sha256_file(path) for name, path in files.items()}
    if _imported.get(module) == hashes:
        return
    for path in files.values():
        with suppress(OSError):  # there is none, or the folder is read-only
            os.unlink(importlib.util.cache_from_source(str(path)))
    if module in _imported:
        for name in _module_names(files):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
    _imported[module] = hashes


def _module_names(files: Mapping[str, Path]) -> dict[str, Path]:
    """Map module names to files, from the names under which a run keeps them."""
    modules = {}
    for stored_as, path in files.items():
        parts = stored_as.removesuffix(".py").split("/")
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def function_in_file(name: str, what: str) -> Callable[..., Any]:
    """Import the function `file.py:function`, which makes a `what` (a recipe, a study).

    Importing and calling it raise UserError with the line of an error. The name must come from the user.
    """
    file, _, wanted = name.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"{path}: no such file to take the {what} '{wanted}' from. Check the path")
    module = importlib.util.module_from_spec(spec)
    with explained(str(path), path):
        spec.loader.exec_module(module)
    make = getattr(module, wanted, None)
    if not callable(make):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{path}: it has no function '{wanted}'. {nearest(wanted, functions)}")

    @wraps(make)
    def explaining(*arguments: Any, **named: Any) -> Any:
        with explained(name, path):
            return make(*arguments, **named)

    return explaining


@contextmanager
def explained(what: str, file: Path | None = None) -> Iterator[None]:
    """Report errors in user code as UserError with file and line, and let it import former module names.

    The message names `what`, and the last line of user code in the traceback: in `file`, or outside of all libraries.
    """
    try:
        with resolve_former_names():
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        path, line = _line(error, file)
        where = (
            f"{what}, line {line}" if file is not None and line else f"'{what}', {path}, line {line}" if line else what
        )
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{where}: {type(error).__name__}: {said}. Correct this code") from error


def _line(error: BaseException, file: Path | None) -> tuple[str, int | None]:
    frames = traceback.extract_tb(error.__traceback__)
    if file is not None:
        users = [frame for frame in frames if Path(frame.filename).absolute() == file.absolute()]
    else:
        users = [frame for frame in frames if not _is_library(Path(frame.filename))]
    if isinstance(error, SyntaxError) and error.filename and not users:
        return error.filename, error.lineno
    return (users[-1].filename, users[-1].lineno) if users else ("", None)


def _is_library(path: Path) -> bool:
    """Whether a file belongs to Python, an installed package, or muybridge."""
    parts = path.parts
    here = Path(__file__).parent
    return (
        path.name.startswith("<")
        or "site-packages" in parts
        or "dist-packages" in parts
        or path.is_relative_to(os.path.dirname(os.__file__))
        or path.is_relative_to(here)
    )


def _check_allowed(code: str) -> None:
    if code not in _allowed:
        raise UserError(
            f"'{code}': it is code, and nobody has allowed it to run. If you trust it: --allow-code (in Python "
            "allow_code=True)"
        )


def _check_module(code: str, module: str) -> None:
    """Raise UserError for an invalid module name, such as a path."""
    if not all(part.isidentifier() for part in module.split(".")):
        stem = Path(module).stem
        example = (
            f"Write '{stem}' for {stem}.py in the current folder or on Python's path"
            if stem
            else "Write MODULE:FUNCTION"
        )
        raise UserError(f"Model '{code}': '{module}' is not a valid module name. {example}")


# --- files


def source_files(name: str) -> dict[str, Path]:
    """Source files of a model's code, by the names under which a run keeps them.

    The file of its module, and all files beside it that it imports, directly or not; of an installed package, only the
    module's file. Empty for a name that means no code. Raises UserError where the module is not found.
    """
    code = parsed(name).code
    if code is None:
        return {}
    module = code.partition(":")[0]
    _check_module(code, module)
    _check_allowed(code)
    try:
        with explained(code):
            spec = importlib.util.find_spec(module)  # imports the packages above it
    except UserError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError | ValueError):
            raise
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(
            f"Model '{name}': the module '{module}' is not found on Python's path. Add its folder to PYTHONPATH"
        )
    file = Path(spec.origin)
    depth = module.count(".") + (file.name == "__init__.py")
    root = file.absolute().parents[depth]
    if _is_library(file):
        return {file.absolute().relative_to(root).as_posix(): file}
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        for path in _files_of(root, waiting.pop()):
            stored_as = path.relative_to(root).as_posix()
            if stored_as not in files:
                files[stored_as] = path
                waiting += _imports(path, root)
    return files


def _files_of(root: Path, module: str) -> list[Path]:
    """Files of a module and of its parent packages, as far as they lie below `root`."""
    files, folder = [], root
    for part in module.split("."):
        file, package = folder / f"{part}.py", folder / part / "__init__.py"
        files += [path for path in (file, package) if path.is_file()]
        folder = folder / part
    return files


def _imports(path: Path, root: Path) -> Iterator[str]:
    """Names of modules that a file may import, also inside functions."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # reported when it is imported
        return
    package = list(path.relative_to(root).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (part for part in [base, *(f"{base}.{name.name}".strip(".") for name in node.names)] if part)


def source_sha256(name: str) -> str | None:
    """Hash of the source files of a model's code; None for a name that means no code."""
    return _sha256(source_files(name))


def _sha256(files: Mapping[str, Path]) -> str | None:
    if not files:
        return None
    hashes = {name: sha256_file(path) for name, path in sorted(files.items())}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in hashes.items()).encode()).hexdigest()


def keep_source(run: Path, name: str) -> None:
    """Copy the files of a model's code into a run's folder `source`."""
    for stored_as, path in source_files(name).items():
        target = within(run, f"source/{stored_as}")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, path.read_bytes())


def use_copy(folder: Path, name: str, sha256: str | None, *, allow_code: bool) -> None:
    """Let a model's code be imported from the copy in `folder` (made by `keep_source`), after all that is on Python's path.

    A name that means no code is left alone. Raises UserError where the code is not allowed, or the copy is not that of
    `sha256`.
    """
    code = parsed(name).code
    if code is None:
        return
    source = folder / "source"
    if code not in _allowed and not allow_code:
        raise UserError(
            f"{source}: the code of a model ('{name}') lies there, and can do anything. If you trust it: --allow-code "
            "(in Python allow_code=True)"
        )
    files = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*.py")) if path.is_file()}
    if _sha256(files) != sha256:
        raise UserError(
            f"{source}: it is missing, or holds other files than those of '{name}'. Repeat the call that planned the study"
        )
    allow(name)
    if str(source.resolve()) not in sys.path:
        sys.path.append(str(source.resolve()))
        importlib.invalidate_caches()


# --- code that a run keeps


class _SourceAlone(SourceFileLoader):
    """Compiles the hashed source; reads and writes no bytecode."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _RunSource:
    """Finds the modules of a run's code in its folder `source`, before others of the same names."""

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        self.folder, self.modules = folder, _module_names(files)

    def owns(self, name: str) -> bool:
        """Whether a name is one of these modules, or a package of one."""
        return name in self.modules or any(other.startswith(f"{name}.") for other in self.modules)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Spec of one of these modules, or None."""
        file = self.modules.get(name)
        if file is not None:
            inside = [str(file.parent)] if file.name == "__init__.py" else None
            return importlib.util.spec_from_file_location(
                name, file, loader=_SourceAlone(name, str(file)), submodule_search_locations=inside
            )
        if self.owns(name):  # a package without a file of its own
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(self.folder.joinpath(*name.split(".")))]
            return spec
        return None


def use_source(run: Path, name: str, sha256: str | None, *, allow_code: Consent) -> bool:
    """Let a model's code be imported from the folder `source` of a run, and from nowhere else.

    Returns False for a name that means no code, and where the user's module is used instead ("mine"). Raises UserError
    where it is not allowed, or the files are not those that the run was trained with.
    """
    code = parsed(name).code
    if code is None:
        return False
    if allow_code == "mine":
        _check_allowed(code)
        allow(name)
        if source_sha256(name) != sha256:
            raise UserError(
                f"{run}: it was trained with another '{name}' than the one on Python's path. Restore that code"
            )
        return False
    if not allow_code:
        raise UserError(
            f"{run}: it holds the code of its model ('{name}'), and loading it runs the code in {run / 'source'}. If "
            "you trust it: --allow-code (in Python allow_code=True)"
        )
    module = code.partition(":")[0]
    _check_module(code, module)
    if module.partition(".")[0] in {*sys.stdlib_module_names, "muybridge", "torch", "numpy"}:
        raise UserError(
            f"{run}: its model's name '{name}' must not take the place of the module '{module}'. Rename the module, "
            "and train again"
        )
    folder = run / "source"
    old = folder / f"{module.rpartition('.')[2]}.py"  # runs of earlier versions kept one file
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py")) if path.is_file()}
    if set(files) == {old.name}:
        files = {module.replace(".", "/") + ".py": old}
    if not files or _sha256(files) != sha256:
        raise UserError(
            f"{folder}: it is missing, or holds other files than those that the run was trained with. Restore it"
        )
    _leave_run()
    source = _RunSource(folder, files)
    sys.meta_path.insert(0, source)
    for loaded in list(sys.modules):
        if source.owns(loaded):
            del sys.modules[loaded]
    _allowed.add(code)
    if (folder / NETWORK).is_file():
        _networks[code] = folder / NETWORK
    return True


NETWORK = "network.pickle"
"""File in a run's folder `source`: the network as its function returned it, without weights."""

_networks: dict[str, Path] = {}


def is_kept(name: str) -> bool:
    """Whether a model's code comes from a run that is being loaded."""
    module = (parsed(name).code or "").partition(":")[0]
    return any(finder.owns(module) for finder in sys.meta_path if isinstance(finder, _RunSource))


def stored_network(code: str) -> Path | None:
    """File of the network that a run keeps, so that its function need not be called again; None where it keeps none."""
    return _networks.get(code)


def _leave_run() -> None:
    """Find modules on Python's path again."""
    for source in [finder for finder in sys.meta_path if isinstance(finder, _RunSource)]:
        sys.meta_path.remove(source)
        for loaded in [name for name in sys.modules if source.owns(name)]:
            del sys.modules[loaded]
    _networks.clear()
    importlib.invalidate_caches()
