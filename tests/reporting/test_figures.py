"""Figures of a paper or a talk: their sizes, their text, and what of the user's stays as it is."""

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import vl_convert
from command import call
from made_runs import PAIRS, make_run

import muybridge
from muybridge.analysis.comparison import compared
from muybridge.errors import UserError
from muybridge.reporting.figures import SIZES, write_figures
from muybridge.reporting.outlines import SVG, fonts_of, outlined
from muybridge.reporting.report import Report

MILLIMETRE = 72 / 25.4
WIDE = {"column": 85, "page": 175, "slide": 13.333 * 25.4}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    long = "tsm@timm:" + "a_very_long_name_of_a_network_" * 4
    return [make_run(folder / name[:20], model=name, pairs=PAIRS) for name in ("tsn_resnet18", long)]


@pytest.fixture(scope="module")
def report(runs):
    return Report.of({"set": compared(runs)}, with_frames=False)


@pytest.fixture(
    scope="module",
    params=["column", *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES if size != "column")],
)
def written(request, report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / request.param
    return SIZES[request.param], folder, write_figures(report, folder, size=request.param)


def pixels(png):
    with av.open(io.BytesIO(png)) as file:
        return next(file.decode(video=0)).to_ndarray(format="gray").astype(float)


def test_every_figure_has_the_size_that_was_asked_for(written):
    size, folder, _ = written
    wide = WIDE[folder.name]
    drawings = sorted(folder.glob("*.pdf"))
    assert len(drawings) > 8
    for pdf in drawings:
        box = [float(one) for one in re.search(rb"/MediaBox \[([\d. ]+)\]", pdf.read_bytes())[1].split()]
        assert box[2] == pytest.approx(wide * MILLIMETRE, abs=0.02), pdf
        assert box[3] <= size.height_mm * MILLIMETRE + 0.02
        if size.is_filled:
            assert box[2] / box[3] == pytest.approx(16 / 9, rel=1e-3)
        root = ElementTree.parse(pdf.with_suffix(".svg")).getroot()
        assert float(root.get("width").removesuffix("mm")) == pytest.approx(wide, abs=0.01)
        assert [float(one) for one in root.get("viewBox").split()] == pytest.approx(box, abs=0.02)


def test_text_is_paths_in_an_svg_and_has_its_font_in_a_pdf(written):
    _, folder, _ = written
    for svg in folder.glob("*.svg"):
        tags = {element.tag.removeprefix(f"{{{SVG}}}") for element in ElementTree.parse(svg).getroot().iter()}
        assert not tags & {"text", "script", "image", "style", "foreignObject", "a"}, svg
        assert "href" not in svg.read_text()
        assert b"/FontFile2" in svg.with_suffix(".pdf").read_bytes()


def test_text_of_charts_has_one_size_and_nothing_leaves_the_box(written):
    """But for a chart that is too tall for its box, and is drawn smaller."""
    size, folder, _ = written
    for svg in folder.glob("*.svg"):
        group = ElementTree.parse(svg).getroot().find(f"{{{SVG}}}g")
        left, top, scale = (float(one) for one in re.findall(r"-?[\d.]+", group.get("transform")))
        assert scale <= size.scale + 1e-4
        assert scale == pytest.approx(size.scale, rel=0.02) or top == pytest.approx(0, abs=0.1), svg
        assert left >= -1e-3
        assert top >= -1e-3


def test_the_page_of_captions_names_every_file(written):
    _, folder, names = written
    text = (folder / "README.md").read_text()
    assert {path.name for path in folder.iterdir()} == {*names, "figures.json"}
    for name in names[1:]:
        assert f"`{name}`" in text
    assert "95 %" in text  # captions


def test_outlines_are_those_of_the_font():
    """A drawing of text and of its paths are the same picture; a font's weight more is not."""

    def svg(weight):
        return (
            f'<svg xmlns="{SVG}" width="400" height="120" viewBox="0 0 400 120"><rect width="400" height="120" fill="white"/>'
            f'<text transform="translate(200,50)" text-anchor="middle" font-family="sans-serif" font-size="40px" '
            f'font-weight="{weight}">Äg&amp;8% (fi) é</text>'
            f'<text transform="translate(30,110) rotate(-10)" font-family="sans-serif" font-size="30px" '
            f'font-weight="{weight}">ijQ@ß</text></svg>'
        )

    plain, bold = svg("normal"), svg("bold")
    for drawing, other in ((plain, bold), (bold, plain)):
        paths, whole = outlined(drawing, fonts_of(vl_convert.svg_to_pdf(drawing)))
        assert whole
        assert "<text" not in paths
        assert 'aria-label="Äg&amp;8% (fi) é"' in paths
        shown, drawn, differing = (pixels(vl_convert.svg_to_png(one)) for one in (drawing, paths, other))
        error = np.abs(shown - drawn).mean()
        assert error < 0.25 * np.abs(shown - differing).mean()
        assert error < 0.1 * np.abs(shown - 255).mean()


def test_text_without_a_font_is_left_and_said():
    text = '<text transform="translate(9,50)" font-family="sans-serif" font-size="40px">ab</text>'
    drawing = f'<svg xmlns="{SVG}" width="90" height="90" viewBox="0 0 90 90">{text}</svg>'
    fonts = fonts_of(vl_convert.svg_to_pdf(drawing))
    del fonts[False, "b"]
    paths, whole = outlined(drawing, fonts)
    assert not whole
    assert "<text" in paths


def test_names_of_strangers_are_text_alone(tmp_path):
    classes = ("</svg><script>alert(1)</script>", "a\\b&<", "x\x1b[31m\x00", "\u8d70", "z" * 300, "\u202e{{7}}")
    made = make_run(tmp_path / "run", classes=classes, videos=12)
    write_figures(Report.of({"set": compared([made])}, with_frames=False), tmp_path / "f")
    [svg] = (tmp_path / "f").glob("confusion-*.svg")
    elements = list(ElementTree.parse(svg).getroot().iter())
    assert not {element.tag.removeprefix(f"{{{SVG}}}") for element in elements} & {"script", "text"}
    labels = {element.get("aria-label") or "" for element in elements}
    assert {"a\\b&<", "\\u202e{{7}}"} <= labels
    assert any(label.startswith("</svg><script>") for label in labels)  # cut where it is longer than its place


def test_what_is_the_users_stays(report, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    names = write_figures(report, tmp_path)
    few = replace(report, chapters=[replace(one, sections=one.sections[:1]) for one in report.chapters])
    left = write_figures(few, tmp_path, size="page")
    assert set(left) < set(names)
    assert {path.name for path in tmp_path.iterdir()} == {*left, "figures.json", "notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_an_error_before_anything_is_written(report, tmp_path):
    (tmp_path / "accuracy.pdf").write_text("mine")
    with pytest.raises(UserError, match=r"accuracy\.pdf: it is there already"):
        write_figures(report, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy.pdf"]
    (tmp_path / "accuracy.pdf").unlink()
    (tmp_path / "figures.json").write_text('{"files": ["notes.pdf"]}')
    with pytest.raises(UserError, match=r"figures\.json: it is there already"):
        write_figures(report, tmp_path)


def test_a_list_of_files_leads_nowhere_else(report, tmp_path):
    (tmp_path / "mine.pdf").write_text("mine")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "figures.json").write_text(
        '{"muybridge": "0", "files": ["../mine.pdf", "/etc/x.pdf", 3, "a.py"]}'
    )
    (tmp_path / "f" / "a.py").write_text("mine")
    write_figures(report, tmp_path / "f")
    assert (tmp_path / "mine.pdf").read_text() == (tmp_path / "f" / "a.py").read_text() == "mine"


def test_the_command_says_what_is_wrong_before_it_writes(runs, tmp_path):
    out = ["--out", tmp_path / "r.html"]
    for options, why in (
        (["--figures", tmp_path / "f", "--size", "poster"], "--size: 'poster' is unknown"),
        (["--size", "slide"], "--size: it is the size of figures"),
        (["--key", "k.pem"], "--key: it signs a card"),
    ):
        told = call("report", runs[0].path, *out, *options)
        assert told.exit_code == 2
        assert why in told.stderr
    assert not list(tmp_path.iterdir())


def test_figures_come_with_the_report(runs, tmp_path):
    made = muybridge.report(
        [run.path for run in runs], out=tmp_path / "r.html", figures=tmp_path / "f", size="slide", with_frames=False
    )
    assert made.figures == tmp_path / "f"
    assert (tmp_path / "f" / "result.tex").read_text() == (tmp_path / "r.files" / "result.tex").read_text()
