"""Run the notebooks of the course and store their outputs, or find where stored outputs differ from new ones.

    python docs/course/make.py                        # runs all notebooks, one after the other, and stores what they show
    python docs/course/make.py first_hour             # one of them
    python docs/course/make.py --check                # stores nothing, exits with 1 where an output differs from the stored one
    python docs/course/make.py --check --words        # compares words alone: figures of another machine differ in last digits

It exits with 1 where a notebook fails, too, and nothing of that one is stored.

A notebook runs whole in a new kernel, on one thread, with a scratch folder as its temporary folder. A cell tagged `varies`
shows what no two runs share, such as seconds and memory: it is run, and not compared. Of pictures only the kind is compared.
"""

import argparse
import difflib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

COURSE = Path(__file__).parent
VARIES = "varies"
"""Tag of a cell whose outputs are not compared."""
SECONDS_A_CELL = 1200
NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?|[-+−]?\.\d+")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "COLUMNS": "110", "NO_COLOR": "1"}


def names() -> list[str]:
    """Names of all notebooks."""
    return sorted(path.stem for path in COURSE.glob("*.ipynb"))


def stored(name: str) -> nbformat.NotebookNode:
    """A notebook as it is stored. Raises SystemExit for a name that is not there."""
    path = COURSE / f"{name}.ipynb"
    if not path.exists():
        sys.exit(f"{name}: no such notebook. The course has {', '.join(names())}")
    return nbformat.read(path, as_version=4)


def run(notebook: nbformat.NotebookNode) -> tuple[nbformat.NotebookNode, float]:
    """A copy of a notebook with the outputs of a new run, and the seconds that it took."""
    fresh = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | ONE_THREAD | {"TMPDIR": scratch}
        client = NotebookClient(
            fresh, timeout=SECONDS_A_CELL, coalesce_streams=True, resources={"metadata": {"path": scratch}}
        )
        started = time.monotonic()
        client.execute(env=environment)
        seconds = time.monotonic() - started
        for cell in fresh.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = [output for output in (_shown(one, scratch) for one in cell.outputs) if output]
    fresh.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return fresh, seconds


def _shown(output: nbformat.NotebookNode, scratch: str) -> nbformat.NotebookNode | None:
    """An output without what a reader has no use for: progress on the error stream, and names of temporary folders."""
    if output.output_type == "stream":
        if output.name == "stderr":
            return None
        output.text = _without(output.text, scratch)
    elif "data" in output:
        for kind, content in output.data.items():
            if kind.startswith("text/"):
                output.data[kind] = _without(content, scratch)
    return output


def _without(text: str, scratch: str) -> str:
    """Text in which paths begin at the notebook's own folder."""
    return re.sub(rf"{re.escape(scratch)}(/tmp\w+)?/?", "", text)


def differences(before: nbformat.NotebookNode, after: nbformat.NotebookNode, *, words: bool = False) -> list[str]:
    """Lines that tell where the outputs of two runs differ. `words`: numbers do not count."""
    pairs = zip(_comparable(before, words), _comparable(after, words), strict=True)
    return [
        line
        for number, (old, new) in enumerate(pairs)
        if old != new
        for line in difflib.unified_diff(old, new, f"cell {number}, stored", f"cell {number}, now", lineterm="", n=0)
    ]


def _comparable(notebook: nbformat.NotebookNode, words: bool) -> Iterator[list[str]]:
    """Lines of each cell's outputs."""
    for cell in notebook.cells:
        lines: list[str] = []
        if cell.cell_type == "code" and VARIES not in cell.metadata.get("tags", []):
            for output in cell.outputs:
                lines += _lines(output)
        yield [NUMBER.sub("#", line) for line in lines] if words else lines


def _lines(output: nbformat.NotebookNode) -> list[str]:
    if output.output_type == "stream":
        return output.text.splitlines()
    if output.output_type == "error":
        return [f"{output.ename}: {output.evalue}"]
    lines = []
    for kind, content in sorted(output.data.items()):
        is_text = kind in ("text/plain", "text/html", "text/markdown")
        text = re.sub(r"(data:image/\w+;base64,)[\w+/=]+|(?<=alt\.)\w+\(\.\.\.\)", r"\1", content) if is_text else ""
        lines += [kind, *re.sub(r" at 0x[0-9a-f]+", "", text).splitlines()]
    return lines


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks; none: all")
    parser.add_argument("--check", action="store_true", help="store nothing; exit with 1 where an output differs")
    parser.add_argument("--words", action="store_true", help="with --check: numbers do not count")
    arguments = parser.parse_args()
    wrong = False
    for name in arguments.names or names():
        before = stored(name)
        try:
            after, seconds = run(before)
        except CellExecutionError as error:
            wrong = True
            print(f"{name}: a cell fails", error, sep="\n", flush=True)
            continue
        found = differences(before, after, words=arguments.words) if arguments.check else []
        wrong |= bool(found)
        print(f"{name}: {seconds:.0f} s{', differs' if found else ''}", *found, sep="\n", flush=True)
        if not arguments.check:
            nbformat.write(after, COURSE / f"{name}.ipynb")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
