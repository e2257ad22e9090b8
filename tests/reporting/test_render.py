"""Drawings, by one process or by two."""

import re

import altair as alt
import psutil
import pytest

from muybridge.errors import UserError
from muybridge.reporting import render as drawing
from muybridge.reporting.render import drawn
from muybridge.runtime.processors import Processors


def drawings(folder, count):
    folder.mkdir()
    rows = alt.Data(values=[{"x": x, "y": x * x} for x in range(5)])
    return [
        (
            folder / f"{i}",
            alt.Chart(rows).mark_line(clip=True).encode(x="x:Q", y="y:Q").properties(title=f"{i}").to_dict(),
        )
        for i in range(count)
    ]


def helpers():
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "muybridge.reporting.render" in process.cmdline()]


def test_two_processes_draw_what_one_does(tmp_path, monkeypatch):
    with drawn(drawings(tmp_path / "one", 5)):
        assert not helpers()
    monkeypatch.setattr(drawing.processors, "left", lambda: Processors(usable=2, cores=2, quota=None))
    monkeypatch.setattr(drawing, "MANY", 4)
    with drawn(drawings(tmp_path / "two", 5)):
        assert len(helpers()) == 1
    assert not helpers()
    names = {f"{i}.{ending}" for i in range(5) for ending in ("svg", "png")}
    for name in names:
        one, two = (tmp_path / by / name for by in ("one", "two"))
        if name.endswith("png"):
            assert one.read_bytes() == two.read_bytes()
        else:  # a process numbers what it clips
            assert re.sub(r"clip\d+", "", one.read_text()) == re.sub(r"clip\d+", "", two.read_text())
    assert {path.name for path in (tmp_path / "two").iterdir()} == names


@pytest.mark.parametrize("which", [0, 1], ids=["ours", "theirs"])
def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch, which):
    monkeypatch.setattr(drawing.processors, "left", lambda: Processors(usable=2, cores=2, quota=None))
    monkeypatch.setattr(drawing, "MANY", 1)
    asked = drawings(tmp_path / "out", 2)
    (tmp_path / "out" / f"{which}.png").mkdir()
    with pytest.raises((UserError, OSError), match=rf"{which}\.png"), drawn(asked):
        pass
    assert not helpers()


def test_what_is_broken_off_leaves_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing.processors, "left", lambda: Processors(usable=2, cores=2, quota=None))
    monkeypatch.setattr(drawing, "MANY", 1)

    def broken_off():
        with drawn(drawings(tmp_path / "out", 2)):
            assert helpers()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert not helpers()
