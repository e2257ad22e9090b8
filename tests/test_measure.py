"""Parameters and multiply-adds, to the last digit, as published (2021 study, tables 1 and 3)."""

import pytest

from muybridge.measure import count

TABLE_3 = {
    "tsn_resnet50": (23_686_295, 32_697_090_048),
    "i3d_resnet50": (46_339_607, 64_180_322_304),
    "tam_resnet50": (23_725_655, 32_831_963_136),
    "tsm_resnet50": (23_686_295, 32_697_090_048),
    "s3d_resnet50": (27_485_079, 39_517_814_784),
}


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3(name):
    cost = count(name, num_classes=87, num_frames=8, size=224)
    assert (cost.params, cost.conv_macs) == TABLE_3[name]
    assert cost.macs - cost.conv_macs == 8 * 2048 * 87  # the classifier, a frame at a time


@pytest.mark.parametrize(
    ("name", "temporal_pooling", "giga_macs"),
    [("tsn_resnet50", True, 73.85), ("tam_resnet50", False, 171.53), ("i3d_resnet50", False, 335.31)],
)
def test_table_1(name, temporal_pooling, giga_macs):
    cost = count(name, num_classes=400, num_frames=32, size=256, temporal_pooling=temporal_pooling)
    assert cost.conv_macs / 1e9 == pytest.approx(giga_macs, rel=1e-3)


@pytest.mark.parametrize("name", TABLE_3)
def test_temporal_pooling_costs_no_parameters(name):
    pooled = count(name, num_classes=87, num_frames=8, size=224, temporal_pooling=True)
    assert pooled.params == TABLE_3[name][0]
    assert pooled.conv_macs < TABLE_3[name][1]
