"""Temperatures, thresholds, coverage and what tells known clips from unknown ones."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import beta, binom

from muybridge.analysis.calibration import (
    FEWEST,
    Evidence,
    Rule,
    choose_threshold,
    fit_temperature,
    is_at_edge,
    mean_loss,
)
from muybridge.analysis.coverage import RiskCoverage, told_apart
from muybridge.errors import UserError
from muybridge.storage.calibration import Calibrated, tempered

ALONE = ""


def honest(rng, videos, classes=5, sharpness=2.0):
    """Probabilities whose labels are drawn from them: no temperature but 1 is right."""
    logits_NK = sharpness * rng.normal(size=(videos, classes))
    probabilities_NK = softmax(logits_NK, axis=1)
    labels_N = np.array([rng.choice(classes, p=row) for row in probabilities_NK])
    return logits_NK, labels_N


# --- temperature


@pytest.mark.parametrize("known", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(known):
    logits_NK, labels_N = honest(np.random.default_rng(1), 4000)
    too_sure_NK = softmax(known * logits_NK, axis=1)
    found = fit_temperature(too_sure_NK, labels_N, np.full(4000, ALONE))
    assert found.value == pytest.approx(known, rel=0.06)
    assert found.low < known < found.high
    assert found.may_be_one == (known == 1)
    back_NK = tempered(too_sure_NK, found.value)
    np.testing.assert_allclose(back_NK, softmax(known / found.value * logits_NK, axis=1), atol=1e-9)
    assert mean_loss(back_NK, labels_N) == min(
        mean_loss(tempered(too_sure_NK, found.value * factor), labels_N) for factor in (0.97, 0.99, 1, 1.01, 1.03)
    )


def test_intervals_of_temperatures_cover():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(100):
        logits_NK, labels_N = honest(rng, 60)
        found = fit_temperature(softmax(2 * logits_NK, axis=1), labels_N, np.full(60, ALONE))
        covered += found.low <= 2 <= found.high
    assert 0.88 <= covered / 100 <= 0.99


def test_videos_of_one_source_count_once():
    """Each video ten times: the temperature is the same, and the interval that of the videos."""
    logits_NK, labels_N = honest(np.random.default_rng(3), 80)
    probabilities_NK = softmax(2 * logits_NK, axis=1)
    single = fit_temperature(probabilities_NK, labels_N, np.full(80, ALONE))
    sources_N = np.array([f"{i:02d}" for i in range(80)])
    tenfold = [np.repeat(values, 10, axis=0) for values in (probabilities_NK, labels_N, sources_N)]
    grouped, blind = fit_temperature(*tenfold), fit_temperature(*tenfold[:2], np.full(800, ALONE))
    assert grouped.value == pytest.approx(single.value, rel=1e-4)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), rel=1e-6)
    assert blind.high - blind.low < 0.5 * (grouped.high - grouped.low)


def test_right_answers_alone_say_nothing():
    probabilities_NK = softmax(np.eye(4)[np.arange(40) % 4] * 3, axis=1)
    found = fit_temperature(probabilities_NK, np.arange(40) % 4, np.full(40, ALONE))
    assert (found.value, found.low, found.may_be_one) == (1.0, None, True)


def test_few_videos_get_no_interval_and_an_end_is_seen_as_one():
    logits_NK, labels_N = honest(np.random.default_rng(5), 40)
    probabilities_NK, alone_N = softmax(logits_NK, axis=1), np.full(40, ALONE)
    for count, has_interval in ((FEWEST - 1, False), (FEWEST, True)):
        found = fit_temperature(probabilities_NK[:count], labels_N[:count], alone_N[:count])
        assert (found.low is not None) == has_interval
        assert not is_at_edge(found.value)
    sources_N = np.array([f"{i % 4}" for i in range(40)])
    assert fit_temperature(probabilities_NK, labels_N, sources_N).low is None, "sources count"
    wrong = fit_temperature(probabilities_NK, (probabilities_NK.argmax(1) + 1) % probabilities_NK.shape[1], alone_N)
    assert is_at_edge(wrong.value)


def test_a_temperature_of_one_changes_no_bit_and_zeros_stay():
    probabilities_NK = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])
    assert tempered(probabilities_NK, 1.0) is probabilities_NK
    np.testing.assert_allclose(tempered(probabilities_NK, 2.0)[0], [1, 0, 0], atol=1e-100)
    np.testing.assert_allclose(tempered(probabilities_NK, np.array([1.0, 0.5]))[1], np.array([4, 25, 9]) / 38)
    assert Calibrated(3.0).probabilities(probabilities_NK)[1].argmax() == 1


# --- thresholds


def answers(rng, videos, right_if):
    """Probabilities of answers, and which are right, where an answer of u is so with probability right_if(u)."""
    sure_N = rng.random(videos)
    return sure_N, rng.random(videos) < right_if(sure_N)


def true_precision(right_if, threshold):
    return right_if(np.linspace(threshold, 1, 4001)).mean()


@pytest.mark.parametrize("right_if", [lambda u: 0.7 + 0.3 * u**0.3, lambda u: u**0.2, lambda u: 0.85 + 0.15 * u])
def test_the_precision_is_kept_in_95_percent(right_if):
    rng = np.random.default_rng(4)
    given = broken = 0
    for _ in range(300):
        sure_N, right_N = answers(rng, 300, right_if)
        try:
            chosen = choose_threshold(Rule(precision=0.9), sure_N, right_N, np.full(300, ALONE))
        except UserError:
            continue
        given += 1
        broken += true_precision(right_if, chosen.value) < 0.9
        assert chosen.precision_low >= 0.9
    assert given > 150
    assert broken / 300 <= 0.05


def test_the_precision_is_kept_where_videos_share_sources():
    """Videos of a source are right or wrong together: as if there were a quarter of them."""
    rng = np.random.default_rng(5)
    groups_N = np.repeat(np.arange(150), 4).astype(str)

    def right_if(sure_N):
        return 0.7 + 0.3 * sure_N

    broken, blind = 0, 0
    for _ in range(100):
        sure_G, right_G = answers(rng, 150, right_if)
        sure_N, right_N = np.repeat(sure_G, 4), np.repeat(right_G, 4)
        for groups in (groups_N, np.full(600, ALONE)):
            try:
                chosen = choose_threshold(Rule(precision=0.9), sure_N, right_N, groups)
            except UserError:
                continue
            is_broken = true_precision(right_if, chosen.value) < 0.9
            broken, blind = (broken + is_broken, blind) if groups is groups_N else (broken, blind + is_broken)
    assert broken / 100 <= 0.05
    assert blind / 100 > 0.1


def test_a_bound_is_clopper_and_pearsons():
    """Of 100 videos 97 are right: 0.915 to 0.994 (Clopper & Pearson 1934, by the binomial's own tails)."""
    right_N = np.arange(100) >= 3
    low = Evidence.of(right_N, np.arange(100)).low()
    assert low == pytest.approx(beta.ppf(0.025, 97, 4))
    assert binom.sf(96, 100, low) == pytest.approx(0.025)
    assert (
        Evidence.of(np.ones(71, bool), np.arange(71)).low() < 0.95 < Evidence.of(np.ones(72, bool), np.arange(72)).low()
    )
    assert Evidence.of(np.zeros(9, bool), np.arange(9)).low() == 0
    whole = Evidence.of(np.repeat(right_N, 5), np.repeat(np.arange(100), 5))
    assert whole.low() == pytest.approx(low, abs=0.002)
    assert Evidence.of(np.ones(100, bool), np.repeat(np.arange(10), 10)).low() == pytest.approx(0.025**0.1)


def test_a_threshold_is_the_lowest_that_does():
    """60 sure answers, all right, then 40 that are right by turns: beyond the 72nd, too many are wrong."""
    sure_N = np.linspace(1, 0.01, 100)
    right_N = np.where(np.arange(100) < 60, True, np.arange(100) % 2 == 0)
    chosen = choose_threshold(Rule(precision=0.9), sure_N, right_N, np.full(100, ALONE))
    through = (sure_N >= chosen.value).sum()
    assert chosen.answered == through / 100
    assert chosen.precision == right_N[:through].mean()
    assert beta.ppf(0.025, right_N[:through].sum(), through - right_N[:through].sum() + 1) >= 0.9
    for more in range(through + 1, 101):
        right = right_N[:more].sum()
        assert beta.ppf(0.025, right, more - right + 1) < 0.9


def test_equal_probabilities_go_together():
    sure_N = np.repeat([0.9, 0.6], [50, 50])
    right_N = np.concatenate([np.ones(60, bool), np.zeros(40, bool)])
    chosen = choose_threshold(Rule(precision=0.8), sure_N, right_N, np.full(100, ALONE))
    assert (chosen.value, chosen.answered) == (0.9, 0.5)


def test_what_val_cannot_promise_is_refused_with_what_could():
    right_N = np.arange(40) >= 0
    with pytest.raises(UserError, match=r"it has 40 videos, and it takes 72 at least, with every answer right"):
        choose_threshold(Rule(precision=0.95), np.linspace(0, 1, 40), right_N, np.full(40, ALONE))
    with pytest.raises(UserError, match=r"it has 8 sources of videos, and it takes 72 at least"):
        choose_threshold(Rule(precision=0.95), np.linspace(0, 1, 40), right_N, np.repeat(np.arange(8), 5).astype(str))
    fair_N = np.arange(100) % 25 > 0  # 96 % right
    with pytest.raises(
        UserError, match=r"the most is 0\.9\d\d.*; answered alike, about (\d+) val videos could"
    ) as told:
        choose_threshold(Rule(precision=0.95), np.full(100, 0.5), fair_N, np.full(100, ALONE))
    enough = int(str(told.value).split("about ")[1].split()[0])
    times = enough // 100
    assert beta.ppf(0.025, 96 * times, 4 * times + 1) >= 0.95 > beta.ppf(0.025, 96 * (times - 1), 4 * (times - 1) + 1)
    with pytest.raises(UserError, match=r"train a better model"):
        choose_threshold(Rule(precision=0.95), np.full(100, 0.5), np.arange(100) % 2 > 0, np.full(100, ALONE))


def test_costs_by_hand():
    """Wrong costs 5, unknown 1. Right, right, wrong, right, wrong from the surest on: 2 answers cost (0 + 3 · 1) / 5."""
    sure_N, right_N = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 1, 0, 1, 0]) > 0
    chosen = choose_threshold(Rule(cost_wrong=5, cost_unknown=1), sure_N, right_N, np.full(5, ALONE))
    assert (chosen.value, chosen.cost, chosen.cost_of_all) == (0.8, pytest.approx(0.6), pytest.approx(2.0))
    cheap = choose_threshold(Rule(cost_wrong=1, cost_unknown=2), sure_N, right_N, np.full(5, ALONE))
    assert (cheap.value, cheap.answered) == (0.0, 1.0)
    with pytest.raises(UserError, match="every answer costs more than none"):
        choose_threshold(Rule(cost_wrong=5, cost_unknown=1), sure_N, ~np.ones(5, bool), np.full(5, ALONE))


def test_honest_probabilities_get_chows_threshold():
    """Chow 1970: an answer pays if it is wrong with less than cost_unknown / cost_wrong."""
    rng = np.random.default_rng(6)
    sure_N = rng.random(20_000)
    chosen = choose_threshold(
        Rule(cost_wrong=5, cost_unknown=1), sure_N, rng.random(20_000) < sure_N, np.full(20_000, ALONE)
    )
    assert chosen.value == pytest.approx(1 - 1 / 5, abs=0.04)


@pytest.mark.parametrize(
    "text", ["0.95", "precision=1", "precision=x", "cost_wrong=5", "cost_wrong=-1,cost_unknown=1", "a=1", ""]
)
def test_a_rule_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="--threshold"):
        Rule.parsed(text)


def test_a_rule_is_written_as_it_is_read():
    for text in ("precision=0.95", "cost_wrong=5.0,cost_unknown=1.0"):
        assert str(Rule.parsed(text)) == text


# --- coverage


def test_risk_and_coverage_by_hand():
    curve = RiskCoverage.of(np.array([[0.9, 0.5, 0.7, 0.6]]), np.array([[True, False, True, False]]))
    np.testing.assert_allclose(curve.risk_N, [0, 0, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert (curve.accuracy(0.5), curve.accuracy(1), curve.accuracy(0)) == (1, 0.5, 1)


def test_equally_sure_answers_count_in_any_order():
    """The mean over all orders of three equally sure answers, one of which is wrong."""
    curve = RiskCoverage.of(np.array([[0.9, 0.5, 0.5, 0.5]]), np.array([[True, True, False, True]]))
    orders = [[0, 1 / 2, 1 / 3, 1 / 4], [0, 0, 1 / 3, 1 / 4], [0, 0, 0, 1 / 4]]
    np.testing.assert_allclose(curve.risk_N, np.mean(orders, axis=0))


# --- known and unknown


def test_auroc_is_a_count_with_ties():
    rng = np.random.default_rng(7)
    known_N, unknown_M = rng.integers(2, 9, 41) / 10, rng.integers(0, 7, 30) / 10
    pairs = np.sign(known_N[:, None] - unknown_M[None])
    found = told_apart(known_N, unknown_M)
    assert found.auroc == pytest.approx((pairs + 1).mean() / 2)
    points = sorted({*known_N, *unknown_M}, reverse=True)
    precision = [(known_N >= t).sum() / ((known_N >= t).sum() + (unknown_M >= t).sum()) for t in points]
    recall = [(known_N >= t).mean() for t in points]
    steps = np.diff([0, *recall])
    assert found.aupr == pytest.approx((steps * precision).sum())
    assert found.fpr95 == min((unknown_M >= t).mean() for t in points if (known_N >= t).mean() >= 0.95)


def test_known_and_unknown_apart_and_alike():
    apart = told_apart(np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.3]))
    assert (apart.auroc, apart.aupr, apart.fpr95, apart.known_share) == (1, 1, 0, 0.4)
    alike = told_apart(np.full(4, 0.5), np.full(12, 0.5))
    assert (alike.auroc, alike.aupr, alike.fpr95) == (0.5, alike.known_share, 1)
