"""The drawing of a model: whole XML, nothing outside the paper, nothing hostile in it."""

import re
from textwrap import dedent
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.errors import UserError
from muybridge.reporting.drawing import KINDS, WIDTH, drawing
from muybridge.text import millions
from muybridge.zoo import entries

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["tsn_resnet_tiny", "i3d", "slowfast_resnet50", "s3dv3", "lstm", "cnn_lstm", "x3d_s", "nln_resnet50"]


def drawn(folder, name, **arguments):
    path = folder / "drawing.svg"
    value = muybridge.models(name, draw=path, **arguments)
    assert value["drawing"] == str(path)
    return value, ElementTree.fromstring(path.read_text(encoding="utf-8"))


def texts(root):
    return [each.text for each in root.iter(f"{SVG}text")]


def check_whole(root):
    """Boxes lie on the paper, inside one another or apart; text has begun and ended on it."""
    height = float(root.get("height"))
    boxes = []
    for rect in root.iter(f"{SVG}rect"):
        x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
        right, low = x + float(rect.get("width")), y + float(rect.get("height"))
        assert -0.2 <= x <= right <= WIDTH + 0.2
        assert 0 <= y <= low <= height
        if rect.get("class") in ("card", "box", "chip", "look"):
            boxes.append((x, y, right, low))
    for i, (x, y, right, low) in enumerate(boxes):
        for left, top, end, bottom in boxes[i + 1 :]:
            apart = right <= left + 0.2 or end <= x + 0.2 or low <= top + 0.2 or bottom <= y + 0.2
            inside = x - 0.2 <= left and y - 0.2 <= top and end <= right + 0.2 and bottom <= low + 0.2
            assert apart or inside
    for text in root.iter(f"{SVG}text"):
        wide, anchor = 6.0 * len(text.text), text.get("text-anchor")  # the least that a letter of 12 pixels takes
        left = float(text.get("x")) - {None: 0, "end": wide, "middle": wide / 2}[anchor]
        assert left >= 0, text.text
        assert left + 0.9 * wide <= WIDTH, text.text


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_is_whole(name, tmp_path):
    value, root = drawn(tmp_path, name)
    check_whole(root)
    assert root.find(f"{SVG}title").text.startswith(name)
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "path",
        "text",
    }
    shown = " ".join(texts(root))
    for stage in value["structure"]["stages"]:
        assert stage["name"] in shown


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_every_model_is_drawn(name, tmp_path):
    check_whole(drawn(tmp_path, name)[1])


def test_where_frames_meet_is_marked_and_counted(tmp_path):
    value, root = drawn(tmp_path, "tsm_resnet_tiny")
    looks = value["structure"]["looks"]
    assert [look["kind"] for look in looks] == ["shift"] * 4 + ["mean"]
    marked = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "look"]
    assert len(marked) == 5
    assert "4 temporal shifts and 1 mean over frames" in " ".join(texts(root))


def test_the_legend_names_what_occurs(tmp_path):
    value, root = drawn(tmp_path, "tsm_resnet_tiny")
    occurring = {look["kind"] for look in value["structure"]["looks"]}
    for kind, (_, _, line) in KINDS.items():
        assert (line in texts(root)) == (kind in occurring)


def test_cells_are_the_frames_that_pass(tmp_path):
    _, root = drawn(tmp_path, "i3d", num_frames=32)
    cells = [len(re.findall("M", each.get("d"))) + 1 for each in root.iter(f"{SVG}path") if each.get("class") == "cell"]
    assert cells[:6] == [32, 16, 16, 16, 8, 4]


def test_connections_of_pathways_are_drawn(tmp_path):
    value, root = drawn(tmp_path, "slowfast_resnet50", num_frames=32)
    arrows = [each for each in root.iter(f"{SVG}path") if each.get("class") == "mark" and not each.get("transform")]
    assert len(arrows) == len(value["structure"]["laterals"]) == 4
    assert len([text for text in texts(root) if text.startswith("fast: 7×1×1")]) == 4


def test_the_band_covers_what_the_step_in_the_middle_sees(tmp_path):
    """It lies over the cells, as it is hard to see behind them."""
    value, root = drawn(tmp_path, "tsm_resnet_tiny", num_frames=8)
    bands = [(i, each) for i, each in enumerate(root) if each.get("class") == "see"]
    cell = (WIDTH - 24) / 8
    seen = [1, *(stage["behind"] + 1 + stage["ahead"] for stage in value["structure"]["stages"])]
    assert len(bands) == len(seen)
    for (index, band), frames in zip(bands, seen, strict=True):
        if frames <= 4:  # the clip's ends cut the others
            assert float(band.get("width")) == pytest.approx(frames * cell, abs=0.2)
        assert root[index + 1].get("class") == "mid"
    assert all(root[index - 1].get("class") == "cell" for index, _ in bands[:-1])


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg"):
        muybridge.models("s3d_resnet_tiny", draw=tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_hostile_names_are_text(tmp_path):
    value, _ = drawn(tmp_path, "tsm_resnet_tiny")
    hostile = '</text><script>alert(1)</script>\x1b[31m"&\u202e' + "x" * 300
    value["model"] = hostile
    for stage in value["structure"]["stages"]:
        stage["name"] = hostile
        for block in stage["blocks"]:
            block["kind"] = block["kind"] and hostile
            for branch in block["branches"]:
                for op in branch:
                    op["label"] = hostile
    svg = drawing(value)
    root = ElementTree.fromstring(svg)
    assert not list(root.iter(f"{SVG}script"))
    assert "\x1b" not in svg
    assert "\u202e" not in svg
    assert root.find(f"{SVG}title").text.startswith("</text><script>alert(1)</script>\\x1b[31m")
    check_whole(root)


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "drawing.svg"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"drawing\.svg: it exists already"):
        muybridge.models("tsn_resnet_tiny", draw=path)
    assert path.read_text() == "mine"


def test_mistakes_are_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match=r"--draw: '.*tsn\.png' does not end in \.svg"):
        muybridge.models("tsn_resnet_tiny", draw=tmp_path / "tsn.png")
    with pytest.raises(UserError, match="--draw: a drawing shows one model"):
        muybridge.models(draw=tmp_path / "all.svg")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"--draw: it does not end in \.svg"):
        muybridge.models("tsn_resnet_tiny", draw="")


def test_a_place_that_takes_no_file_is_named_as_it_was_given(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--draw: .*/file/tiny\.SVG cannot be written: .* Name another place"):
        muybridge.models("tsn_resnet_tiny", draw=tmp_path / "file" / "tiny.SVG")


def test_the_command_draws(tmp_path):
    path = tmp_path / "new" / "tiny.svg"
    answer = CliRunner().invoke(app, ["models", "tsm_resnet_tiny", "--draw", str(path)])
    assert answer.exit_code == 0, answer.output
    assert "Drawn:" in answer.output
    assert path.read_text(encoding="utf-8").startswith("<svg ")


NETWORKS = """
    import torch
    from torch import nn
    from muybridge.zoo import VideoModel

    class Net(VideoModel):
        def __init__(self, what, classes, branches=0, sides=(1,)):
            super().__init__(8, classes, dropout=0.0)
            self.what, self.first = what, nn.Conv3d(3, 8, 1)
            self.several = Several([nn.Conv3d(8, 8, sides[i % len(sides)], padding="same") for i in range(branches)])

        def features(self, x):
            return self.what(self, self.first(x)).mean((3, 4)).transpose(1, 2)

    class Several(nn.ModuleList):
        def forward(self, x):
            return sum(each(x) for each in self)

    def stop(net, x):
        raise SystemExit(0)

    def fail(net, x):
        raise RuntimeError("the wrong clip")

    def function(net, x):
        return nn.functional.conv3d(x, net.first.weight.new_zeros(8, 8, 3, 3, 3), padding=1)

    class Odd(nn.Conv3d):
        __hash__ = None

    def odd(net, x):
        return x

    def exits(*, num_classes, **_): return Net(stop, num_classes)
    def raises(*, num_classes, **_): return Net(fail, num_classes)
    def functions(*, num_classes, **_): return Net(function, num_classes)
    def same(*, num_classes, **_): return Net(lambda net, x: net.several(x), num_classes, 200)
    def other(*, num_classes, **_): return Net(lambda net, x: net.several(x), num_classes, 13, range(1, 26, 2))

    def unhashable(*, num_classes, **_):
        net = Net(odd, num_classes)
        net.odd = Odd(8, 8, 1)
        return net
"""


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """A module with a user's networks."""
    (tmp_path / "drawn_networks.py").write_text(dedent(NETWORKS))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "drawn_networks"


@pytest.mark.parametrize(("name", "words"), [
    ("exits", r"line \d+: SystemExit: 0"), ("raises", r"line \d+: RuntimeError: the wrong clip"),
    ("unhashable", "unhashable type: 'Odd'"),
])  # fmt: skip
def test_a_network_that_fails_is_named(networks, tmp_path, name, words):
    with pytest.raises(UserError, match=f"{networks}.*{words}. Correct this code"):
        muybridge.models(f"{networks}:{name}", draw=tmp_path / "drawing.svg")
    assert not (tmp_path / "drawing.svg").exists()


def test_what_is_not_drawn_is_said(networks, tmp_path):
    _, root = drawn(tmp_path, f"{networks}:functions")
    macs = millions(8 * 8 * 27 * 8 * 112 * 112)
    assert f"Not drawn: {macs} multiply-adds outside of modules." in " ".join(texts(root))
    check_whole(root)


def test_many_branches_stay_on_the_paper(networks, tmp_path):
    _, root = drawn(tmp_path, f"{networks}:same")
    check_whole(root)
    assert {"200 branches, summed", "×200"} <= set(texts(root))
    (tmp_path / "drawing.svg").unlink()
    _, root = drawn(tmp_path, f"{networks}:other", num_frames=2, size=16)
    check_whole(root)
    assert len([rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "look"]) == 12 + 1  # and the mean
