"""Versions of Python and of the packages that muybridge needs, against the bounds in its own metadata."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from muybridge import __version__
from muybridge.machine.finding import Asked, Finding
from muybridge.machine.programs import whole_number

EXTRAS = {
    "timm": "image networks of timm",
    "hub": "networks of Hugging Face",
    "flow": "optical flow",
    "raft": "optical flow by RAFT",
    "search": "searches of compare",
    "hdf5": "stored vectors as HDF5",
    "parquet": "predictions as Parquet",
    "rar": "archives of UCF101 and HMDB51",
    "lite": "ImageNet weights of EfficientNet-Lite0",
    "course": "the notebooks that teach",
    "cluster": "compare over Ray",
    "export": "export to ONNX",
    "openvino": "export to OpenVINO",
    "sign": "signed cards",
    "site": "make site",
    "track": "TensorBoard, Weights & Biases, MLflow",
}
"""Purpose of each extra."""

SHOWN = ("torch", "numpy", "av")


def look(asked: Asked) -> Iterator[Finding]:
    """Compare what is installed with what muybridge says that it needs."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Finding(
            "packaging-missing",
            "fault",
            "The package packaging is not installed, and no version can be compared.",
            "pip install packaging",
        )
        return
    try:
        about = metadata.distribution("muybridge")
    except metadata.PackageNotFoundError:
        yield Finding(
            "muybridge-not-installed",
            "doubt",
            "muybridge is imported from a folder and not installed: its bounds are unknown.",
            "In the folder of its pyproject.toml: pip install -e .",
        )
        return
    if about.version != __version__:
        yield Finding(
            "muybridge-of-another-version",
            "doubt",
            f"muybridge {__version__} is imported, but {about.version} is installed: the bounds below are those of the latter.",
            "Install what you use: pip install -e .",
            {"muybridge": __version__, "installed": about.version},
        )
    yield from _python(about.metadata["Requires-Python"] or "")
    needs = [Requirement(text) for text in about.requires or ()]
    base = [one for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [finding for one in base if (finding := _held(one, "fault", "muybridge needs it")) is not None]
    yield from wrong
    have = {name: _version(name) for name in sorted({one.name for one in base})}
    if not wrong:
        shown = ", ".join(f"{name} {have.get(name)}" for name in SHOWN)
        yield Finding(
            "packages",
            "good",
            f"muybridge {__version__}: {shown}; all {len(base)} packages that it needs are as it needs them.",
            figures={"muybridge": __version__, **have},
        )
    yield from _pairs()
    yield from _extras(needs)


def _python(bound: str) -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    figures = {"python": version, "implementation": platform.python_implementation(), "system": platform.system(),
               "release": platform.release(), "architecture": platform.machine()}  # fmt: skip
    if SpecifierSet(bound).contains(version, prereleases=True):
        words = f"Python {version} on {platform.system()}, {platform.machine()}."
        yield Finding("python", "good", words, figures=figures)
    else:
        yield Finding(
            "python-version",
            "fault",
            f"Python {version}: muybridge needs {bound}.",
            "Make an environment with a newer Python: python3.11 -m venv .venv",
            figures,
        )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _held(need: Any, rank: Any, why: str) -> Finding | None:
    """Finding about a package that is missing, too old, or of a version that is known as wrong."""
    version = _version(need.name)
    wanted = f"{need.name}{need.specifier}"
    figures = {"package": need.name, "version": version, "wanted": str(need.specifier)}
    if version is None:
        return Finding(
            "package-missing", rank, f"{need.name} is not installed: {why}.", f"pip install '{wanted}'", figures
        )
    if need.specifier.contains(version, prereleases=True):
        return None
    excluded = [one for one in need.specifier if one.operator == "!=" and not one.contains(version, prereleases=True)]
    if excluded:
        text = f"{need.name} {version} is a version that is known as wrong ({', '.join(map(str, excluded))})."
        return Finding("package-known-as-wrong", rank, text, f"pip install '{wanted}'", figures)
    text = f"{need.name} {version} is not a version that muybridge takes ({need.specifier}): {why}."
    return Finding("package-version", rank, text, f"pip install '{wanted}'", figures)


def _pairs() -> Iterator[Finding]:
    """torchvision, where it is installed, must be the release of the same day as torch: 0.(n + 15) of 2.n."""
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None or not torch.startswith("2.") or not vision.startswith("0."):
        return
    minor = whole_number(torch.split(".")[1])
    wanted = None if minor is None else minor + 15
    if wanted is not None and vision.split(".")[1] != str(wanted):
        yield Finding(
            "torchvision-of-another-torch",
            "doubt",
            f"torchvision {vision} is not the one of torch {torch}: timm and others that import it fail.",
            f"pip install 'torchvision==0.{wanted}.*', or, as muybridge does not need it: pip uninstall torchvision",
            {"torch": torch, "torchvision": vision},
        )


def _extras(needs: list[Any]) -> Iterator[Finding]:
    here, partly, absent = [], [], []
    for extra in EXTRAS:
        own = [
            one for one in needs if one.name != "muybridge" and one.marker is not None
            and not one.marker.evaluate({"extra": ""}) and one.marker.evaluate({"extra": extra})
        ]  # fmt: skip
        if not own:  # metadata of another version
            continue
        if all(_version(one.name) is None for one in own):
            absent.append(extra)
            continue
        missing = [one.name for one in own if _version(one.name) is None]
        wrong = [
            finding for one in own if one.name not in missing
            and (finding := _held(one, "doubt", f"the extra {extra} needs it")) is not None
        ]  # fmt: skip
        yield from wrong
        if missing:
            partly.append(f"{extra} (without {', '.join(missing)})")
        elif not wrong:
            here.append(extra)
    if here:
        yield Finding("extras", "good", f"Extras that are installed: {', '.join(here)}.", figures={"extras": here})
    if partly:
        yield Finding(
            "extras-in-part",
            "note",
            f"Extras that are installed in part: {', '.join(partly)}.",
            figures={"extras": partly},
        )
    if absent:
        named = ", ".join(f"{extra} ({EXTRAS[extra]})" for extra in absent)
        yield Finding(
            "extras-not-installed",
            "note",
            f"Extras that are not installed: {named}.",
            f"Where you need one: {_pip()} install 'muybridge[{absent[0]}]'",
            {"extras": absent},
        )


def _pip() -> str:
    return "pip" if sys.prefix != sys.base_prefix else "python -m pip"
