"""What would more labels buy: a power law of the error, and how sure it is at twice the videos."""

import json

import numpy as np
import pytest
from made_runs import make_run

import muybridge
from muybridge.analysis.comparison import compared
from muybridge.analysis.label_budget import _name, curves
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.reporting.report import Report, document
from muybridge.studies.plan import of_models

SHARES = (0.25, 0.5, 1.0)
VIDEOS = 400


def run_of(folder, share, error, *, seed=0, model="tsm_resnet_tiny", hard_N=None, videos=VIDEOS, groups=0):
    """A run on a share of 800 training videos; the hardest videos are wrong."""
    hard_N = np.random.default_rng(7).permutation(videos) / videos if hard_N is None else hard_N
    run = make_run(
        folder / f"{model}-{share}-{seed}", model=model, seed=seed, videos=videos, groups=groups,
        correct_N=hard_N >= error, changes={"data.train_share": share},
    )  # fmt: skip
    about = json.loads((run.path / "dataset.json").read_text())
    about["split_sizes"]["train"] = round(800 * share)
    (run.path / "dataset.json").write_text(json.dumps(about))
    return run


def law(share, b=4.0, c=0.5):
    return b * (800 * share) ** -c


@pytest.fixture
def falling(tmp_path):
    return compared([run_of(tmp_path, share, law(share)) for share in SHARES])


def test_a_power_law_is_found_and_read_at_twice_the_videos(falling):
    [curve] = curves(falling)
    assert curve.name == "tsm_resnet_tiny"
    assert curve.videos == (200, 400, 800)
    b, c = curve.fit
    assert (b, c) == pytest.approx((4.0, 0.5), rel=0.1)
    assert curve.at_twice.value == pytest.approx(1 - law(2), abs=0.01)
    assert curve.gain.value == pytest.approx(law(1) - law(2), abs=0.01)
    assert curve.misfit < 0.01
    assert curve.gain.low > 0
    assert "twice the training videos (1600) would give" in str(curve)
    assert document({"made": falling})["label_budget"][0]["twice_videos"] == 1600


def test_where_nothing_falls_it_is_not_told(tmp_path):
    rng = np.random.default_rng(1)
    runs = [run_of(tmp_path, share, 0.3, hard_N=rng.random(60), videos=60) for share in SHARES]
    [curve] = curves(compared(runs))
    assert curve.gain.low <= 0 <= curve.gain.high
    assert "cannot be told from these shares" in str(curve)


def test_groups_make_it_less_sure(tmp_path):
    order = np.arange(VIDEOS) % 8 / 8 + np.arange(VIDEOS) / VIDEOS / 100  # errors come with the group
    alone = [run_of(tmp_path / "a", share, law(share), hard_N=order) for share in SHARES]
    together = [run_of(tmp_path / "b", share, law(share), hard_N=order, groups=8) for share in SHARES]
    widths = []
    for runs in (alone, together):
        [curve] = curves(compared(runs))
        widths.append(curve.at_twice.high - curve.at_twice.low)
    assert widths[1] > 1.5 * widths[0]


def test_models_have_a_curve_each_and_one_share_has_none(tmp_path):
    runs = [
        run_of(tmp_path, share, law(share, c=c), model=model)
        for share in SHARES
        for model, c in (("tsm_resnet_tiny", 0.5), ("tsn_resnet_tiny", 0.4))
    ]
    found = {curve.name: curve for curve in curves(compared(runs))}
    assert set(found) == {"tsm_resnet_tiny", "tsn_resnet_tiny"}
    assert found["tsm_resnet_tiny"].fit[1] > found["tsn_resnet_tiny"].fit[1]
    assert curves(compared(runs[-2:])) == []


def test_shares_of_different_tests_are_no_curve(tmp_path):
    runs = [run_of(tmp_path, 0.5, 0.4), run_of(tmp_path, 1.0, 0.3, videos=300)]
    assert curves(compared(runs)) == []


def test_a_perfect_model_is_no_infinite_logarithm(tmp_path):
    [curve] = curves(compared([run_of(tmp_path, share, 0.0) for share in SHARES]))
    assert np.isfinite([*curve.fit, curve.at_twice.low, curve.gain.high]).all()


def test_names_lose_their_share(falling):
    assert [_name(model) for model in falling.models] == ["tsm_resnet_tiny"] * 3


def test_the_report_has_the_section(falling):
    page = Report.of({"made": falling}, with_frames=False).page()
    assert "Label budget" in page
    assert "power law of the error" in page


def test_a_plan_repeats_every_run_on_every_share(recipe):
    plan = of_models(["tsm_resnet_tiny", "tsn_resnet_tiny"], recipe=recipe, data=[recipe.data.manifest])
    budgeted = plan.budgeted((0.5, 1.0))
    assert [run.recipe.data.train_share for run in budgeted.runs.values()] == [0.5, 1.0, 0.5, 1.0]
    assert budgeted.varies["train_share"] == ("data.train_share",)
    for shares, said in (((0.5,), "two or more"), ((0.5, 0.5), "different"), ((0.5, 1.5), "1.5 is not a share")):
        with pytest.raises(UserError, match=said):
            plan.budgeted(shares)


def test_a_plan_refuses_the_shares_that_training_does(recipe, tmp_path):
    with pytest.raises(UserError, match=r"--label-budget\): 1e-09 of .* is 1 training video, and two are needed"):
        muybridge.plan(
            ["tsm_resnet_tiny"],
            data=recipe.data.manifest,
            recipe=recipe,
            out=tmp_path / "study",
            label_budget=[1e-9, 1.0],
        )


def test_compare_trains_nested_shares_and_says_what_they_buy(recipe, tmp_path):
    study = muybridge.compare(
        ["tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study", label_budget=[0.5, 1.0],
        epochs=1, changes={"optim.warmup_epochs": 0.0},
    )  # fmt: skip
    assert sorted(run.name for run in study.runs) == ["tsm_resnet_tiny-share0.5-seed0", "tsm_resnet_tiny-share1-seed0"]
    small, large = (set(run.trained_on()["id"].tolist()) for run in sorted(study.runs, key=lambda run: run.name))
    assert small < large
    assert len(large) == len(Manifest.load(recipe.data.manifest).split("train"))
    [curve] = curves(study.comparison)
    assert curve.videos == (len(small), len(large))
    assert not study.comparison.differences, "the study varies the share on purpose"
    assert "label_budget" in json.loads((tmp_path / "study" / "report.json").read_text())


@pytest.mark.slow
def test_coverage_at_twice_the_videos(tmp_path):
    """Where the law holds, the interval holds the truth about as often as it says: videos of uneven difficulty, three seeds."""
    draw, held, studies = np.random.default_rng(0), 0, 60
    truth = 1 - law(2)
    for number in range(studies):
        own_N = draw.beta(1, 1, VIDEOS)  # how hard a video is
        runs = []
        for share in SHARES:
            for seed in range(3):
                error = np.clip(law(share) + draw.normal(0, 0.01), 0.01, 0.99)
                wrong_N = draw.random(VIDEOS) < own_N ** ((1 - error) / error)  # mean of a beta(1, 1) to a power
                runs.append(run_of(tmp_path / str(number), share, 0.5, seed=seed, hard_N=np.where(wrong_N, 0.0, 1.0)))
        [curve] = curves(compared(runs))
        held += curve.at_twice.low <= truth <= curve.at_twice.high
    assert held / studies >= 0.85
