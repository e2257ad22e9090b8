"""Published results: what the file says, typed again by hand from the sources, and its multiply-adds counted again."""

import subprocess
import sys
from collections import Counter

import pytest

from muybridge.analysis.published import DATA_SETS, published
from muybridge.errors import UserError
from muybridge.zoo import entries
from muybridge.zoo.count import count

ROWS = [row for data in DATA_SETS for row in published(data)]
MINI = [row for row in ROWS if row.source == "Chen et al. 2021, mini benchmark"]
COUNTED = [row for row in ROWS if row.conv_macs is not None]
CLASSES = {"mini_ssv2": 87, "mini_kinetics": 200, "mini_moments": 200, "kinetics400": 400, "kinetics5": 5}


def model(row):
    return f"{row.method}_{row.backbone}" if row.backbone else row.method


def the(rows, **wanted):
    """The only one of these rows with these values."""
    (found,) = [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]
    return found


def test_how_many_there_are():
    assert {data: len(published(data)) for data in DATA_SETS} == {
        "mini_ssv2": 104, "mini_kinetics": 104, "mini_moments": 96, "kinetics400": 6, "kinetics5": 2, "ucf101": 12,
        "hmdb51": 1, "ucf11": 1,
    }  # fmt: skip
    assert all(row.data == data for data in DATA_SETS for row in published(data))
    lines = subprocess.run(
        [sys.executable, "-c", "from muybridge.analysis import published as p; from importlib.resources import files\n"
         "import sys\n"
         "text = files('muybridge.analysis').joinpath('published.csv').read_text()\n"
         "print(text.count(chr(10)), 'torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert lines.split() == [str(1 + len(ROWS)), "False"]  # none is left out, none needs torch


def test_the_mini_benchmark_is_whole():
    assert len(MINI) == 288
    settings = Counter((row.data, row.method, row.backbone, row.temporal_pooling, row.num_frames) for row in MINI)
    assert set(settings.values()) == {1}
    assert {key[1:] for key in settings} == {
        (method, backbone, pooling, frames)
        for method in ("tsn", "tam", "i3d", "s3d")
        for backbone in ("inceptionv1", "resnet18", "resnet50")
        for pooling in (False, True)
        for frames in (8, 16, 32, 64)
    }
    assert {(row.sampling, row.size, row.views, row.split) for row in MINI} == {("uniform", 224, "1 x 1", "val")}


@pytest.mark.parametrize(
    ("data", "name", "pooling", "frames", "top1", "top5"),
    [
        ("mini_ssv2", "tsn_inceptionv1", False, 8, 33.1384, 63.6156),
        ("mini_ssv2", "tsn_inceptionv1", True, 8, 53.2672, 81.0153),
        ("mini_ssv2", "tsn_resnet18", False, 64, 32.08, 62.9573),
        ("mini_ssv2", "s3d_inceptionv1", True, 64, 67.2172, 91.0993),
        ("mini_ssv2", "i3d_resnet18", False, 64, 65.1411, 89.1008),
        ("mini_ssv2", "tam_resnet50", False, 64, 71.5532, 92.5052),
        ("mini_ssv2", "tam_resnet50", True, 8, 54.5216, 81.4476),
        ("mini_kinetics", "tsn_resnet50", True, 64, 75.2489, 91.8648),
        ("mini_kinetics", "s3d_resnet50", True, 64, 74.9898, 91.9207),  # not finished
        ("mini_kinetics", "i3d_resnet50", False, 64, 77.6965, 92.8601),  # not finished
        ("mini_kinetics", "tam_resnet50", False, 64, 78.3252, 93.4105),  # the highest
        ("mini_moments", "s3d_resnet18", True, 8, 19.12, 40.73),  # the lowest
        ("mini_moments", "tsn_resnet18", False, 32, 20.92, 41.65),  # lower than with 16 frames
        ("mini_moments", "tam_resnet50", True, 64, 29.2766, 55.3957),
    ],
)
def test_values_of_the_mini_benchmark(data, name, pooling, frames, top1, top5):
    method, _, backbone = name.partition("_")
    row = the(MINI, data=data, method=method, backbone=backbone, temporal_pooling=pooling, num_frames=frames)
    assert (row.top1, row.top5) == (pytest.approx(top1 / 100, abs=1e-9), pytest.approx(top5 / 100, abs=1e-9))


def test_what_was_not_finished_says_so():
    odd = {(row.name, row.note) for row in ROWS if "not finished" in (row.note or "")}
    counted = "parameters and MACs counted by muybridge"
    assert odd == {
        ("S3D-ResNet50, 64 frames, temporal pooling", f"training not finished: 43 of 45 epochs; {counted}"),
        ("I3D-ResNet50, 64 frames, no temporal pooling", f"training not finished: 41 of 45 epochs; {counted}"),
    }


TABLE_3 = {
    ("mini_ssv2", 8, "inceptionv1"): (33.1, 56.4, 58.2, 59.7),
    ("mini_ssv2", 8, "resnet50"): (33.9, 62.6, 61.6, 65.4, 64.1, 53.0),
    ("mini_ssv2", 16, "inceptionv1"): (34.7, 61.8, 63.7, 63.9),
    ("mini_ssv2", 16, "resnet50"): (35.3, 66.2, 65.7, 68.6, 67.4, 55.0),
    ("mini_kinetics", 8, "inceptionv1"): (70.4, 68.1, 68.3, 68.8),
    ("mini_kinetics", 8, "resnet50"): (72.1, 73.3, 71.5, 74.1, 74.1, 73.7),
    ("mini_kinetics", 16, "inceptionv1"): (70.5, 70.9, 70.7, 70.0),
    ("mini_kinetics", 16, "resnet50"): (72.5, 75.5, 73.4, 76.4, 75.6, 74.5),
}


@pytest.mark.parametrize(("data", "frames", "backbone"), TABLE_3)
def test_table_3(data, frames, backbone):
    """A row of its own only where the mini benchmark has none; there the row repeats what the table prints."""
    alike = {"backbone": backbone, "num_frames": frames, "temporal_pooling": False}
    methods = ("tsn", "i3d", "tconv", "tam", "tsm", "nln")
    for method, printed in zip(methods, TABLE_3[data, frames, backbone], strict=False):
        row = the(published(data), method=method, **alike)
        if method in ("tsn", "i3d", "tam"):
            assert row.note.endswith(f"Table 3 prints {printed} %")
            assert row.top1 * 100 == pytest.approx(printed, abs=0.0501 if (method, printed) != ("i3d", 75.5) else 0.08)
        else:
            assert row.source == "Chen et al. 2021, Table 3"
            assert row.top1 * 100 == pytest.approx(printed, abs=1e-9)


@pytest.mark.parametrize(
    ("data", "label", "top1", "split"),
    [
        ("kinetics400", "TSN-ResNet50", 0.749, "val"),
        ("kinetics400", "TAM-ResNet50", 0.7618, "val"),
        ("kinetics400", "I3D-ResNet50", 0.7661, "val"),
        ("kinetics400", "SlowFast-ResNet50 8x8", 0.764, "val"),
        ("kinetics400", "TAM-ResNet50 from scratch", 0.7561, "val"),
        ("kinetics400", "I3D-ResNet50 from scratch", 0.7654, "val"),
        ("kinetics5", "S3D", 0.68, "val"),
        ("kinetics5", "I3D", 0.64, "val"),
        ("ucf101", "single frame, VGG16-1024", 0.626, None),
        ("ucf101", "LSTM of 1 layer over VGG16-1024", 0.671, None),
        ("ucf101", "LSTM of 2 layers over VGG16-1024", 0.648, None),
        ("ucf101", "LSTM of 3 layers over VGG16-1024", 0.62, None),
        ("ucf101", "first baseline", 0.439, "test"),
        ("ucf101", "slow fusion", 0.654, "test"),
        ("ucf101", "single frame", 0.73, "test"),
        ("ucf101", "LSTM", 0.826, "test"),
        ("ucf101", "LSTM with optical flow", 0.886, "test"),
        ("ucf101", "TSN-VGG16, 100 iterations an epoch", 0.7, "train"),
        ("ucf101", "TSN-VGG16, 200 iterations an epoch", 0.8, "train"),
        ("ucf101", "I3D-ResNet50", 0.81, "train"),
        ("hmdb51", "TSN-ResNet50", 0.82, "train"),
        ("ucf11", "CNN+LSTM", 0.75, "val"),
    ],
)
def test_values_of_others(data, label, top1, split):
    row = the(published(data), label=label)
    assert (row.top1, row.split) == (top1, split)


def test_top5():
    others = {row.label: row.top5 for row in ROWS if row not in MINI and row.top5 is not None}
    assert others == {
        "single frame, VGG16-1024": 0.853, "LSTM of 1 layer over VGG16-1024": 0.886,
        "LSTM of 2 layers over VGG16-1024": 0.865, "LSTM of 3 layers over VGG16-1024": 0.857,
    }  # fmt: skip


def test_training_accuracies_never_pass_for_others():
    trained = [row for row in ROWS if row.split == "train"]
    assert trained == [row for row in ROWS if row.source == "learning report 2020"]
    assert len(trained) == 4
    assert all(row.name.endswith("accuracy on its training videos") for row in trained)
    assert all("training videos" in row.note for row in trained)
    assert {row.split for row in ROWS} == {"train", "val", "test", None}


def test_shares():
    assert all(0 < row.top1 < 1 for row in ROWS)
    assert all(row.top1 < row.top5 < 1 for row in ROWS if row.top5 is not None)


def test_no_two_rows_pass_for_each_other():
    assert {key: n for key, n in Counter((row.data, row.source, row.name) for row in ROWS).items() if n > 1} == {}


def test_names_for_people():
    row = the(MINI, data="mini_ssv2", method="tam", backbone="resnet50", temporal_pooling=False, num_frames=8)
    assert row.name == "TAM-ResNet50, 8 frames, no temporal pooling"
    assert the(published("kinetics5"), method="s3d").name == "S3D, 64 frames"
    assert the(published("ucf101"), label="single frame").name == "single frame, 1 frame"


def test_what_is_counted_says_so_and_is_a_model_of_muybridge():
    known = {entry.name for entry in entries()}
    assert len(COUNTED) == 288 + 16 + 6 + 2
    assert {model(row) for row in COUNTED} <= known
    assert [row for row in ROWS if (row.params is None) != (row.conv_macs is None)] == []
    assert [row for row in ROWS if ("MACs counted by muybridge" in (row.note or "")) != (row in COUNTED)] == []


@pytest.mark.parametrize(
    ("data", "name", "pooling", "frames"),
    [
        ("mini_ssv2", "tam_resnet50", False, 8),
        ("mini_ssv2", "tsn_resnet18", True, 16),
        ("mini_moments", "s3d_resnet18", False, 8),
        ("mini_kinetics", "i3d_resnet50", True, 64),
        ("mini_moments", "tam_inceptionv1", True, 64),
        ("mini_kinetics", "nln_resnet50", False, 16),
        ("kinetics400", "slowfast_resnet50", None, 32),
    ],
)
def test_costs_are_counted_again(data, name, pooling, frames):
    method, _, backbone = name.partition("_")
    alike = {"method": method, "backbone": backbone, "temporal_pooling": pooling, "num_frames": frames}
    row = the(published(data), **alike)
    cost = count(name, num_classes=CLASSES[data], num_frames=frames, size=row.size, temporal_pooling=bool(pooling))
    assert (row.params, row.conv_macs) == (cost.params, cost.conv_macs)


@pytest.mark.parametrize(
    ("name", "params", "conv_macs"),
    [
        ("tsn_inceptionv1", 5_689_079, 11_978_817_536),
        ("tsn_resnet50", 23_686_295, 32_697_090_048),
        ("i3d_inceptionv1", 12_376_439, 33_806_581_760),  # printed as 33.6 G
        ("i3d_resnet50", 46_339_607, 64_180_322_304),
        ("tconv_inceptionv1", 17_206_775, 32_177_266_688),
        ("tconv_resnet50", 71_474_327, 106_992_893_952),
        ("tam_inceptionv1", 5_706_503, 12_047_006_720),
        ("tam_resnet50", 23_725_655, 32_831_963_136),
        ("tsm_resnet50", 23_686_295, 32_697_090_048),
        ("nln_resnet50", 31_044_759, 49_138_761_728),  # convolutions alone; printed as 196 G
        ("s3d_inceptionv1", 7_992_503, 19_933_921_280),  # not in the table; of the study's code
        ("s3d_resnet50", 27_485_079, 39_517_814_784),  # likewise
    ],
)
def test_costs_are_those_of_the_study(name, params, conv_macs):
    method, _, backbone = name.partition("_")
    alike = {"method": method, "backbone": backbone, "temporal_pooling": False, "num_frames": 8}
    row = the(published("mini_ssv2"), **alike)
    assert (row.params, row.conv_macs) == (params, conv_macs)


def test_costs_go_by_frames_and_classes():
    """So that the rows that are not counted again follow from those of 8 frames and 87 classes."""
    wide = {"inceptionv1": 1024, "resnet18": 512, "resnet50": 2048}
    of_study = [row for row in COUNTED if row.data.startswith("mini_")]
    first = {
        (model(row), row.temporal_pooling): row for row in of_study if row.data == "mini_ssv2" and row.num_frames == 8
    }
    for row in of_study:
        base = first[model(row), row.temporal_pooling]
        assert row.conv_macs * 8 == base.conv_macs * row.num_frames
        assert row.params == base.params + (CLASSES[row.data] - 87) * (wide[row.backbone] + 1)
    for (name, pooling), row in first.items():
        if pooling:
            assert row.params == first[name, False].params
            assert row.conv_macs < first[name, False].conv_macs


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", [row for row in COUNTED if row.data == "mini_ssv2" and row.num_frames == 8], ids=lambda row: row.name
)
def test_every_network_is_counted_again(row):
    cost = count(model(row), num_classes=87, num_frames=8, size=row.size, temporal_pooling=row.temporal_pooling)
    assert (row.params, row.conv_macs) == (cost.params, cost.conv_macs)


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'mini_kinetics'"):
        published("mini_kinetic")


def test_read_once():
    assert published("ucf11") is published("ucf11")
