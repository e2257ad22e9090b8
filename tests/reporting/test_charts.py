"""The report's charts, as drawn (vl-convert)."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import vl_convert
from made_runs import CLASSES, PAIRS, make_run

from muybridge.analysis.comparison import compared
from muybridge.analysis.published import published
from muybridge.reporting.charts import accuracy, classes, cost, curves, settings, style
from muybridge.reporting.charts.coverage import coverage

MACS, TRAIN, FORWARD, MEMORY = cost.COSTS


@pytest.fixture
def near_equal(tmp_path):
    """Five models of nearly the same cost, two seeds, two folds, groups, pairs."""
    macs = {"tsn": 50.0e6, "tsm": 50.7e6, "tea": 51.5e6, "tdn": 52e6, "ctnet": 50.2e6}
    return [
        make_run(
            tmp_path / f"{model}-{seed}-{fold}", model=model, seed=seed, fold=fold, groups=4, pairs=PAIRS,
            macs=count, params=count / 150, accuracy=0.6 + 0.05 * place,
        )
        for place, (model, count) in enumerate(macs.items()) for seed in (0, 1) for fold in (1, 2)
    ]  # fmt: skip


def svg_of(chart):
    return vl_convert.vegalite_to_svg(style.themed(chart))


def drawn_texts(chart):
    """Every text of the chart that is seen."""
    found = re.findall(r"<text([^>]*)>([^<]*)</text>", svg_of(chart))
    return [text for attributes, text in found if 'opacity="0"' not in attributes]


def numbers(texts):
    return [float(text) for text in texts if re.fullmatch(r"\d+(\.\d+)?", text)]


def rows_of(chart, key, *, whole=False):
    """The rows that a chart draws, of the first data that has this field, or of the longest such."""

    def walk(part):
        if isinstance(part, dict):
            values = part.get("values")
            if isinstance(values, list) and values and isinstance(values[0], dict) and key in values[0]:
                yield values
            for one in part.values():
                yield from walk(one)
        elif isinstance(part, list):
            for one in part:
                yield from walk(one)

    found = list(walk(style.themed(chart)))
    return max(found, key=len) if whole else found[0]


# --- accuracy


def test_accuracy_ticks_never_pass_1(tmp_path):
    accuracies = {"a": 1.0, "b": 0.995}
    runs = [make_run(tmp_path / name, model=name, videos=400, accuracy=value) for name, value in accuracies.items()]
    comparison = compared(runs)
    for chart in (cost.accuracy_against(comparison, MACS), accuracy.accuracies(comparison)):
        ticks = numbers(drawn_texts(chart))
        assert len(ticks) >= 3
        assert max(ticks) == 1.0


def test_every_model_has_its_interval_and_its_name(near_equal):
    comparison = compared(near_equal)
    rows = rows_of(accuracy.accuracies(comparison), "low")
    assert [row["model"] for row in rows] == [model.name for model in comparison.models]
    for row, model in zip(rows, comparison.models, strict=True):
        assert (row["low"], row["value"], row["high"]) == (
            model.accuracy.low,
            model.accuracy.value,
            model.accuracy.high,
        )
    assert {"tsn", "tsm", "tea", "tdn", "ctnet"} <= set(drawn_texts(accuracy.accuracies(comparison)))


def test_differences_are_from_the_best_downwards(tmp_path):
    runs = [make_run(tmp_path / m, model=m, videos=300, accuracy=a) for m, a in (("a", 0.9), ("b", 0.5))]
    comparison = compared(runs)
    [row] = rows_of(accuracy.from_the_best(comparison), "judged")
    verdict = comparison.verdicts[0, 1]
    assert (row["model"], row["judged"]) == ("b", "told apart")
    assert (row["low"], row["value"], row["high"]) == (-verdict.high, -verdict.difference.value, -verdict.low)
    assert row["high"] < 0


@pytest.mark.parametrize("name", ["a\x1bb", "a\\x1bb"])
def test_a_title_holds_no_control_characters(tmp_path, name):
    runs = [
        make_run(tmp_path / str(n), model=m, videos=30, accuracy=a)
        for n, (m, a) in enumerate([(name, 0.9), ("c", 0.5)])
    ]
    svg = svg_of(accuracy.from_the_best(compared(runs)))
    assert "x1bb" in svg
    assert "\x1b" not in svg
    assert vl_convert.svg_to_png(svg)


def test_long_names_are_shortened_in_charts_and_stay_distinct(tmp_path):
    base = "package_with_a_long_name.module:"
    models = [base + "build_first_long_network_name", base + "build_other_long_network_name", base + "x" * 60]
    runs = [make_run(tmp_path / str(i), model=model) for i, model in enumerate(models)]
    shown = [row["name"] for row in rows_of(accuracy.accuracies(compared(runs)), "name")]
    assert len(set(shown)) == 3
    assert len(min(shown, key=len)) <= style.LONGEST_NAME


def spread_over(run, num_bins):
    """The run, its answers' probabilities in so many bins of reliability."""
    scores = run.scores()
    chosen_V = np.linspace(0.5, 0.95, num_bins)[scores.video_V % num_bins]
    margin_V = np.log(chosen_V * (len(CLASSES) - 1) / (1 - chosen_V))
    logits_VK = margin_V[:, None] * np.eye(len(CLASSES))[scores.logits_VK.argmax(1)]
    run.save_scores("test", replace(scores, logits_VK=logits_VK.astype(np.float32)))
    return run


def test_reliability_draws_bins_and_the_line_of_honesty(tmp_path):
    comparison = compared([spread_over(make_run(tmp_path / "a", accuracy=0.8), 4)])
    chart = accuracy.reliability(comparison, 12)
    rows = rows_of(chart, "answers")
    assert (len(rows), sum(row["answers"] for row in rows)) == (4, 60)
    assert rows_of(chart, "x") == [{"x": 0, "y": 0}, {"x": 1, "y": 1}]


def test_a_reliability_line_of_three_points_is_not_drawn(tmp_path):
    few, many = (spread_over(make_run(tmp_path / f"{n}", model=f"m{n}"), n) for n in (3, 5))
    assert accuracy.reliability(compared([few]), 12) is None
    assert {row["model"] for row in rows_of(accuracy.reliability(compared([few, many]), 12), "answers")} == {"m5"}


def test_intervals_that_say_nothing_are_not_drawn(tmp_path):
    """Videos of one source alone: an accuracy may be anything from 0 to 1, a difference from -1 to 1."""
    runs = [make_run(tmp_path / m, model=m, accuracy=a, groups=1, pairs=PAIRS) for m, a in (("a", 0.9), ("b", 0.5))]
    comparison = compared(runs)
    assert (comparison.models[0].accuracy.low, comparison.models[0].accuracy.high) == (0.0, 1.0)
    for draw in (accuracy.accuracies, accuracy.from_the_best, accuracy.direction):
        assert draw(comparison) is None
    known = compared(
        [make_run(tmp_path / f"k{m}", model=m, accuracy=a, pairs=PAIRS) for m, a in (("a", 0.9), ("b", 0.5))]
    )
    for draw in (accuracy.accuracies, accuracy.from_the_best, accuracy.direction):
        assert draw(known) is not None


def test_coverage_is_drawn_unless_all_is_right(tmp_path):
    right, other = make_run(tmp_path / "a", accuracy=1.0), make_run(tmp_path / "b", model="b", accuracy=0.9)
    assert coverage(compared([right]), 12) is None
    assert {row["model"] for row in rows_of(coverage(compared([right, other]), 12), "coverage")} == {
        "tsm_resnet_tiny",
        "b",
    }


# --- cost


def test_multiply_adds_are_written_with_m_and_g(tmp_path):
    macs = {"small": 40e6, "large": 2.4e9}
    comparison = compared([make_run(tmp_path / name, model=name, macs=count) for name, count in macs.items()])
    texts = drawn_texts(cost.accuracy_against(comparison, MACS))
    assert {"50M", "500M", "2G"} <= set(texts)
    assert not any(re.fullmatch(r"[\d.]+[mB]", text) for text in texts)


def test_the_parameter_key_shows_no_zero(tmp_path):
    runs = [make_run(tmp_path / str(count), model=str(count), params=count) for count in (310_746, 11_200_000)]
    texts = drawn_texts(cost.accuracy_against(compared(runs), MACS))
    assert {"310k", "11M"} <= set(texts)
    assert {"0", "0.0", "0M"}.isdisjoint(texts)


def test_models_stand_where_their_cost_is(near_equal):
    """However near they are to each other: an axis with numbers is not to be lied on."""
    comparison = compared(near_equal)
    chart = cost.accuracy_against(comparison, MACS)
    assert {row["model"]: row["cost"] for row in rows_of(chart, "parameters", whole=True)} == {
        model.name: model.cost["conv_macs"] for model in comparison.models
    }
    assert style.themed(chart)["layer"][0]["encoding"]["x"]["field"] == "cost"


def test_multiply_adds_are_all_of_them_where_convolutions_are_not_most(tmp_path):
    """A transformer's convolutions are next to nothing of it."""
    runs = [make_run(tmp_path / m, model=m) for m in ("conv", "transformer")]
    assert cost.costs_of([compared(runs)])[0] is MACS
    file = runs[1].path / "cost.json"
    file.write_text(json.dumps({**runs[1].cost(), "conv_macs": 1_000_000, "macs": 170_000_000}))
    comparison = compared(runs)
    assert cost.costs_of([comparison])[0] is cost.ALL_MACS
    front = cost.pareto(comparison, cost.ALL_MACS)
    assert [model.name for model in front] == ["conv"], "the cheaper one of two that are as good"


def test_the_pareto_front_by_hand(tmp_path):
    """b is beaten by a (cheaper and better); d costs the most and is the best; e costs as much as a and is worse."""
    known = {"a": (10, 0.7), "b": (20, 0.6), "c": (30, 0.8), "d": (90, 0.9), "e": (10, 0.5)}
    runs = [
        make_run(tmp_path / m, model=m, macs=1e6 * macs, accuracy=value, videos=100, speed={"forward_clips_per_s": 900.0 / macs})
        for m, (macs, value) in known.items()
    ]  # fmt: skip
    comparison = compared(runs)
    assert [model.name for model in cost.pareto(comparison, MACS)] == ["a", "c", "d"]
    assert [model.name for model in cost.pareto(comparison, FORWARD)] == ["a", "c", "d"]  # the fastest first
    line = rows_of(cost.accuracy_against(comparison, MACS), "accuracy")
    assert [row["model"] for row in line] == ["a", "c", "d"]


def test_what_was_not_measured_is_not_drawn(tmp_path):
    runs = [
        make_run(tmp_path / "a", model="a", speed={"peak_memory_bytes": 5e8}),
        make_run(tmp_path / "b", model="b", epochs=0),
    ]
    comparison = compared(runs)
    known = {one.name: [model.name for model in cost.known(comparison, one)] for one in cost.COSTS}
    assert known == {"macs": ["a", "b"], "train_speed": ["a"], "forward_speed": [], "memory": ["a"]}
    assert [row["model"] for row in rows_of(cost.accuracy_against(comparison, MEMORY), "parameters")] == ["a"]


def test_colour_is_the_method_symbol_the_backbone_and_hollow_is_pooled(tmp_path):
    models = ["tam_resnet18", "tam_resnet50", "i3d_resnet18", "i3d_resnet50"]
    runs = [make_run(tmp_path / m, model=m) for m in models]
    runs.append(make_run(tmp_path / "pooled", model="tam_resnet18", changes={"model.temporal_pooling": True}))
    comparison = compared(runs)
    assert set(style.methods([comparison])) == {"tam", "i3d"}
    assert list(style.backbones([comparison]).values()) == ["circle", "square"]
    palette = style.colors(comparison)
    assert len(set(palette.values())) == len(comparison.models)  # shades of the method's colour
    spec = style.themed(cost.accuracy_against(comparison, MACS))
    marks = [layer["mark"]["filled"] for layer in spec["layer"] if layer["mark"]["type"] == "point"]
    assert marks == [True, False]
    assert {"method", "i3d", "tam", "backbone", "resnet18", "resnet50"} <= set(
        drawn_texts(cost.accuracy_against(comparison, MACS))
    )


def test_published_results_are_grey_and_named_as_such(tmp_path):
    comparison = compared([make_run(tmp_path / "a", model="tam_resnet50", macs=32e9)])
    chart = cost.accuracy_against(comparison, MACS, published=published("mini_ssv2"))
    rows = rows_of(chart, "source")
    assert all(row["model"].startswith("published: ") for row in rows)
    tam = next(row for row in rows if row["model"] == "published: TAM-ResNet50, 8 frames, no temporal pooling")
    assert (tam["value"], tam["cost"]) == (0.654378, 32_831_963_136)
    assert not {"source"} & set(rows_of(chart, "parameters")[0])  # never in one table with one's own
    behind = style.themed(chart)["layer"][0]
    assert behind["mark"]["color"] == style.GRAY
    training = cost.accuracy_against(comparison, MACS, published=published("ucf101"))
    assert "training" not in str(style.themed(training))


@pytest.mark.parametrize("paper", ["#ffffff", "#14181d"])
def test_every_colour_stands_out_from_light_and_dark_paper(tmp_path, paper):
    """WCAG 2.2, 1.4.11: 3 to 1 for what is needed to understand a graphic; shades, too."""
    runs = [
        make_run(tmp_path / f"{method}{frames}", model=f"m{method}_resnet18", changes={"clip.num_frames": frames})
        for method in range(12) for frames in (8, 16, 32, 64)
    ]  # fmt: skip
    palette = style.colors(compared(runs))
    assert len(palette) == 48
    for color in [*palette.values(), *style.COLORS, style.GRAY]:
        assert style.contrast(color, paper) >= 3
    assert style.contrast("#000000", "#ffffff") == pytest.approx(21)


# --- views and frames


def test_accuracy_over_frames_joins_what_differs_in_frames_alone(tmp_path):
    runs = [
        make_run(tmp_path / f"{m}{f}{pooling}", model=m, accuracy=a + f / 100,
                 changes={"clip.num_frames": f, "model.temporal_pooling": pooling})
        for m, a in (("tam_resnet18", 0.6), ("tsn_resnet18", 0.3)) for f in (8, 16, 32) for pooling in (False, True)
    ]  # fmt: skip
    rows = rows_of(settings.over_frames(compared(runs)), "frames")
    lines = {}
    for row in rows:
        lines.setdefault(row["line"], set()).add(row["frames"])
    assert len(lines) == 4
    assert all(frames == {8, 16, 32} for frames in lines.values())
    starts = [
        make_run(tmp_path / f"{f}{p}", changes={"clip.num_frames": f, "model.pretrained": p})
        for f in (8, 16)
        for p in (None, "x")
    ]
    lines = {row["line"] for row in rows_of(settings.over_frames(compared(starts)), "frames")}
    assert len(lines) == 2, "what starts from other weights is another line"
    texts = drawn_texts(settings.over_frames(compared(runs), published("mini_ssv2")))
    assert {"8", "16", "32", "64"} <= set(texts)  # the published ones go further
    assert settings.over_frames(compared(runs[:1])) is None


# --- classes


def test_empty_cells_are_white_and_full_ones_dark(tmp_path):
    comparison = compared([make_run(tmp_path / "a", accuracy=1.0)])
    order = classes.order_of_classes(comparison)
    svg = svg_of(classes.confusion(comparison, comparison.models[0], order))
    fills = re.findall(r'aria-roledescription="rect mark"[^>]*fill="([^"]+)"', svg)
    assert len(fills) == len(CLASSES) ** 2
    assert fills.count("white") == len(CLASSES) ** 2 - len(CLASSES)
    assert fills.count("rgb(8, 48, 107)") == len(CLASSES)


def test_a_matrix_of_101_classes_stays_small_and_legible(tmp_path):
    names = [f"class_{i:03d}" for i in range(101)]
    comparison = compared([make_run(tmp_path / "a", classes=names, videos=202)])
    chart = classes.confusion(comparison, comparison.models[0], classes.order_of_classes(comparison))
    assert chart.to_dict()["width"] <= 440
    assert len(rows_of(chart, "count")) <= 202
    named = [text for text in drawn_texts(chart) if text.startswith("class_")]
    assert 20 < len(named) < 101  # labels that would overlap are left out


def test_rows_of_a_matrix_are_shares_of_the_true_class(tmp_path):
    comparison = compared([make_run(tmp_path / "a", accuracy=0.5)])
    rows = rows_of(classes.confusion(comparison, comparison.models[0], classes.order_of_classes(comparison)), "share")
    by_class = {}
    for row in rows:
        by_class[row["true"]] = by_class.get(row["true"], 0.0) + row["share"]
    assert set(by_class) == set(CLASSES)
    assert all(total == pytest.approx(1, abs=1e-3) for total in by_class.values())


def test_counts_can_be_read_on_every_shade():
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text."""
    ends = [[int(shade[i : i + 2], 16) for i in (1, 3, 5)] for shade in classes.SHADES]
    for share in np.linspace(0, 1, 101):
        mixed = [round(a + share * (b - a)) for a, b in zip(*ends, strict=True)]
        ink = "#ffffff" if share > classes.WHITE_FROM else "#000000"
        assert style.contrast(ink, "#" + "".join(f"{part:02x}" for part in mixed)) >= 4.5


def test_classes_that_are_confused_lie_together(tmp_path):
    """a and d, b and e, c and f are taken for each other; in the manifest they lie three apart."""
    run = make_run(tmp_path / "a", classes=tuple("abcdef"), videos=120)
    scores = run.scores()
    partner = (scores.labels_N + 3) % 6
    answer = np.where(np.arange(120) % 7 < 3, partner, scores.labels_N)
    logits = 4.0 * np.eye(6, dtype=np.float32)[answer]
    run.save_scores("test", type(scores)(**{**scores.__dict__, "logits_VK": np.repeat(logits, scores.num_views, 0)}))
    order = classes.order_of_classes(compared([run]))
    places = {name: order.index(k) for k, name in enumerate("abcdef")}
    assert sorted(order) == list(range(6))
    assert all(abs(places[a] - places[b]) == 1 for a, b in ("ad", "be", "cf"))


def test_gains_are_class_by_class_and_any_two_can_be_chosen(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a) for m, a in (("a", 0.9), ("b", 0.7), ("c", 0.5))]
    comparison = compared(runs)
    chart = classes.gains(comparison, 0, 2)
    params = {param["name"]: param for param in style.themed(chart)["params"]}
    assert (params["A"]["value"], params["B"]["value"]) == ("a", "c")
    assert params["A"]["bind"]["options"] == ["a", "b", "c"]
    gain_K = comparison.models[0].class_accuracy_K - comparison.models[2].class_accuracy_K
    found = {
        name: float(gain.replace("−", "-")) for name, gain in re.findall(r"class: (\w+); gain: ([^;]+);", svg_of(chart))
    }
    assert found == pytest.approx(dict(zip(CLASSES, gain_K, strict=True)), abs=2e-3)


# --- curves


@pytest.mark.parametrize("epochs", [1, 2, 14, 100])
def test_curves_show_every_epoch_from_one_on(tmp_path, epochs):
    comparison = compared([make_run(tmp_path / "a", epochs=epochs)])
    for quantity in ("loss", "accuracy"):
        chart = curves.curves(comparison, quantity, 24)
        texts = drawn_texts(chart)
        assert {"1", str(epochs)} <= set(texts)
        assert len({row["epoch"] for row in rows_of(chart, "epoch")}) == epochs
        assert any("val" in text and "train" in text for text in texts)  # the axis says what is plotted


def test_long_curves_are_thinned_and_end_where_they_end(tmp_path):
    rows = rows_of(curves.curves(compared([make_run(tmp_path / "a", epochs=250)]), "loss", 24), "epoch")
    epochs = sorted({row["epoch"] for row in rows})
    assert len(epochs) == curves.MOST_POINTS
    assert (epochs[0], epochs[-1]) == (1, 250)


@pytest.mark.parametrize(("epoch_seconds", "unit", "last"), [(60.0, "minutes", 4), (3600.0, "hours", 4)])
def test_curves_over_time_are_in_minutes_where_training_was_short(tmp_path, epoch_seconds, unit, last):
    run = make_run(tmp_path / "a")
    lines = [
        json.loads(line) | {"train_seconds": epoch_seconds}
        for line in (run.path / "timing.jsonl").read_text().splitlines()
    ]
    (run.path / "timing.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    chart = curves.curves(compared([run]), "accuracy", 24, over="hours")
    assert [row[unit] for row in rows_of(chart, "epoch") if row["part"] == "val"] == pytest.approx([1, 2, 3, last])
    texts = drawn_texts(chart)
    assert any(text.startswith(f"{unit} of training") for text in texts)
    assert {0.0, float(last)} <= set(numbers(texts))


def test_baselines_are_drawn_where_they_are_near(tmp_path):
    near, far = compared([make_run(tmp_path / "a", accuracy=0.3)]), compared([make_run(tmp_path / "b", accuracy=0.95)])
    for chart in (accuracy.accuracies(near), cost.accuracy_against(near, MACS), curves.curves(near, "accuracy", 24)):
        assert [row["at"] for row in rows_of(chart, "at")] == pytest.approx([1 / 6, 1 / 6])
    chart = cost.accuracy_against(far, MACS)
    assert '"at"' not in json.dumps(style.themed(chart))
    assert min(numbers(drawn_texts(chart))) > 0.5


def test_the_accuracy_chart_always_has_its_baselines(tmp_path):
    """On the axis while intervals stay readable, else as a mark at its end and in its title."""
    far = compared([make_run(tmp_path / "a", accuracy=0.95)])
    chart = accuracy.accuracies(far)
    assert [row["at"] for row in rows_of(chart, "at")] == pytest.approx([1 / 6, 1 / 6])
    assert min(numbers(drawn_texts(chart))) < 0.3
    assert any("dotted: chance and majority class 0.167" in text for text in drawn_texts(chart))
    sure = compared([make_run(tmp_path / "b", accuracy=0.99, videos=12000, views=1)])
    broken = accuracy.accuracies(sure)
    assert rows_of(broken, "beyond") == [{"beyond": "chance and majority class 0.167"}]
    assert '"at"' not in json.dumps(style.themed(broken)), "no line where its value is not"
    assert any("off the axis, to the left: chance and majority class 0.167" in text for text in drawn_texts(broken))
    assert min(numbers(drawn_texts(broken))) > 0.9
    [low, high] = style.themed(broken)["layer"][-2]["encoding"]["x"]["scale"]["domain"]
    assert sure.models[0].accuracy.high - sure.models[0].accuracy.low > accuracy.LEAST_WIDTH * (high - low)


def test_baselines_of_an_uneven_test_are_means_over_classes(tmp_path):
    """Always giving the larger of two classes is right on nine of ten videos, and on half of a class."""
    run = make_run(tmp_path / "a", classes=("large", "small"), videos=100, views=1)
    labels_N = np.array([0] * 90 + [1] * 10)
    run.save_scores(
        "test", replace(run.scores(), labels_N=labels_N, logits_VK=4 * np.eye(2, dtype=np.float32)[labels_N])
    )
    comparison = compared([run])
    assert comparison.by_class
    assert [row["at"] for row in rows_of(accuracy.accuracies(comparison), "at")] == pytest.approx([0.5, 0.5])


def test_a_loss_that_was_not_a_number_is_not_drawn(tmp_path):
    run = make_run(tmp_path / "a")
    run.write_metrics({"kind": "train", "epoch": 5, "step": 50, "loss": float("nan"), "clip_top1": 0.5, "lr": 0.1})
    rows = rows_of(curves.curves(compared([run]), "loss", 24), "epoch")
    assert all(math.isfinite(row["value"]) for row in rows)


@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_a_loss_that_explodes_is_drawn_inside_the_axes(tmp_path, epochs):
    """As a line outside of them would make the drawing as high as the loss."""
    run = make_run(tmp_path / "a", epochs=epochs)
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    lines[0]["loss"] = 1e12
    run.metrics_file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    drawn = vl_convert.vegalite_to_svg(style.themed(curves.curves(compared([run]), "loss", 24)))
    width, height = (float(side) for side in re.findall(r'(?:width|height)="([0-9.]+)"', drawn)[:2])
    assert max(width, height) < 1000


# --- one model among many


def test_all_but_the_isolated_model_fade(tmp_path):
    """As the page does it on a click: by setting one value."""
    runs = [make_run(tmp_path / m, model=m) for m in "ab"]
    comparison = compared(runs)
    for chart in (
        accuracy.accuracies(comparison),
        cost.accuracy_against(comparison, MACS),
        curves.curves(comparison, "loss", 24),
    ):
        spec = style.themed(chart)
        assert [param for param in spec["params"] if param["name"] == "isolated"] == [{"name": "isolated", "value": ""}]
        shown = vl_convert.vegalite_to_svg(spec)
        spec["params"][0]["value"] = "a"
        assert f'opacity="{style.FADED}"' not in shown
        assert f'opacity="{style.FADED}"' in vl_convert.vegalite_to_svg(spec)
