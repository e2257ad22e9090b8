"""The package as a user gets it: a wheel and a source archive that lack nothing and are the same whenever they are built."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import muybridge

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "muybridge"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = {Requirement(text) for needed in (PROJECT["dependencies"], *EXTRAS.values()) for text in needed}


def build(out, epoch="1700000000"):
    """Both files, by the build backend of this environment, as nothing is fetched."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], check=True, capture_output=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": epoch},
    )  # fmt: skip
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(built):
    there = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }  # fmt: skip
    with zipfile.ZipFile(built[0]) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(about).decode())
    assert packed == there
    assert {"muybridge/py.typed", "muybridge/reporting/page/report.css", "muybridge/zoo/table.json"} <= packed
    assert metadata["Version"] == muybridge.__version__
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)


def test_the_source_archive_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "again", source], check=True,
        capture_output=True, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    (again,) = (tmp_path / "again").glob("*.whl")
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(built[0].read_bytes()).digest()


def test_the_citation_names_this_version():
    assert f"\nversion: {muybridge.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_what_is_installed_here_is_within_the_bounds():
    found = {}
    for requirement in REQUIREMENTS:
        try:
            found[requirement] = version(requirement.name)
        except ModuleNotFoundError:  # an extra that is not here
            continue
    wrong = {str(one): there for one, there in found.items() if not one.specifier.contains(there, prereleases=True)}
    assert not wrong


@pytest.mark.slow
def test_both_files_are_the_same_whenever_they_are_built(built, tmp_path):
    for before, after in zip(built, build(tmp_path), strict=True):
        assert before.name == after.name
        assert before.read_bytes() == after.read_bytes()


USER = """
import muybridge
from typing_extensions import assert_type
from muybridge.storage.run import Run

run = muybridge.train(model="tsm_resnet_tiny", data="set.csv", out="run")
assert_type(run, Run)
muybridge.train(model="tsm_resnet_tiny", data="set.csv", out=7)  # type: ignore[arg-type]
"""


@pytest.mark.slow
def test_from_an_empty_environment_to_a_report(built, tmp_path):
    """The wheel alone: no file of the repository is within reach."""
    venv.create(tmp_path / "venv", with_pip=True)
    python, muybridge_ = tmp_path / "venv" / "bin" / "python", tmp_path / "venv" / "bin" / "muybridge"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

    def run(*words):
        found = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"{words}\n{found.stdout[-2000:]}\n{found.stderr[-4000:]}"
        return found.stdout

    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", built[0], "mypy")
    assert run(python, "-c", "import muybridge; print(muybridge.__file__)").startswith(str(tmp_path / "venv"))
    assert json.loads(run(muybridge_, "models", "--json"))["models"]
    run(muybridge_, "demo", "--quick", "--out", "demo")
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
    predicted = run(muybridge_, "predict", "demo", next(tmp_path.glob("demo/videos-*/grow/*.mp4")), "--json")
    assert json.loads(predicted)
    (tmp_path / "user.py").write_text(USER)
    run(python, "-m", "mypy", "--strict", "user.py")
