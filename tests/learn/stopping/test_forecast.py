"""The forecast: an interval where the labels allow it, a reason where they do not."""

import numpy as np
import pytest

from pipeline.contracts.options.learning import StopConfig
from pipeline.learn.stopping import forecast, power_law
from pipeline.learn.stopping.observed_curve import METRICS, Observed

OPTIONS = StopConfig()
FINDINGS = ("normal", "sick")
SIZES = np.array([20.0, 40.0, 60.0, 80.0])


def curve(left=0.1, share=0.8, exponent=0.6, sd=0.001):
    """Scores on a power law, and how sure they are."""
    score_S = 1.0 - left * ((1 - share) + share * (SIZES / 100) ** -exponent)
    return Observed(SIZES, score_S, np.eye(4) * sd**2)


def groups(num):
    return [f"p{i}" for i in range(num)]


def test_a_clear_curve_is_continued():
    law = power_law.fit(curve(), 100)
    truth = 0.1 * 0.8 * (1 - 2**-0.6)
    gain = law.gain(100, 0.9)
    assert gain.mean == pytest.approx(truth, abs=0.006)
    assert gain.low < truth < gain.high
    assert law.score(100) == pytest.approx(0.9, abs=0.005)


def test_a_flat_curve_promises_nothing():
    steep, flat = (power_law.fit(curve(exponent=c), 100).gain(100, 0.9) for c in (0.9, 0.01))
    assert flat.mean < 0.4 * steep.mean
    perfect = power_law.fit(Observed(SIZES, np.ones(4), np.eye(4) * 1e-6), 100).gain(100, 0.9)
    assert perfect.mean < 0.001


def test_more_labels_buy_more_and_are_less_sure():
    law = power_law.fit(curve(), 100)
    gains = [law.gain(labels, 0.9) for labels in (20, 50, 100)]
    assert [g.mean for g in gains] == sorted(g.mean for g in gains)
    widths = [g.high - g.low for g in gains]
    assert widths == sorted(widths)


def test_a_wider_interval_for_more_confidence_and_for_a_vaguer_curve():
    law = power_law.fit(curve(), 100)
    inner, outer = law.gain(50, 0.5), law.gain(50, 0.95)
    assert outer.low < inner.low < inner.high < outer.high
    vague = power_law.fit(curve(sd=0.03), 100).gain(50, 0.9)
    sure = law.gain(50, 0.9)
    assert vague.high - vague.low > sure.high - sure.low


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ((10, 19), "29 expert labels, and 30 are needed"),
        ((36, 4), "only 4 of sick, and 5 labels of each class are needed"),
        ((40, 0), "only 0 of sick"),
        ((20, 20), ""),
    ],
)
def test_too_early(counts, why):
    class_E = np.repeat([0, 1], counts)
    said = forecast.too_early(class_E, groups(len(class_E)), FINDINGS, OPTIONS)
    assert said.startswith(why) and bool(said) == bool(why)


def test_too_few_patients():
    class_E = np.repeat([0, 1], 30)
    assert "labels of 6 patients" in forecast.too_early(class_E, [f"p{i // 10}" for i in range(60)], FINDINGS, OPTIONS)
    one_sick = [f"p{i}" for i in range(30)] + ["q"] * 30
    assert "2 of each class" in forecast.too_early(class_E, one_sick, FINDINGS, OPTIONS)


def test_the_fewest_labels_are_an_option():
    options = StopConfig(min_labels=10)
    assert forecast.too_early(np.repeat([0, 1], 8), groups(16), FINDINGS, options) == ""


def test_what_is_written_down():
    options = StopConfig(confidence=0.8, min_gain=0.5)
    said = forecast.describe(dict.fromkeys(METRICS, curve()), 100, [10, 40], options)
    assert (said["why"], said["num_labels"], said["confidence"]) == ("", 100, 0.8)
    score = said["scores"]["auroc"]
    assert [gain["labels"] for gain in score["gains"]] == [10, 40]
    assert score["curve"][-1]["num_labels"] == 140
    assert score["curve"][-1]["high"] == pytest.approx(score["now"] + score["gains"][-1]["high"])
    assert all(point["low"] is None for point in score["curve"] if point["num_labels"] <= 100)
    assert said["buys_little"]
    assert not forecast.describe(dict.fromkeys(METRICS, curve()), 100, [100], StopConfig(min_gain=0.0))["buys_little"]
