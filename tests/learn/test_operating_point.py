"""Where calls are cut: even odds, or halfway to the valley of the pool's scores."""

import numpy as np
import pytest

from pipeline.learn import operating_point

EVEN = np.array([0.5, 0.5])


def hills(num_left, num_right, left=-3.0, right=5.0):
    rng = np.random.default_rng(0)
    score_T = np.concatenate([rng.normal(left, 1, num_left), rng.normal(right, 1, num_right)])
    return np.column_stack([np.zeros(len(score_T)), score_T])


def calls(point, score):
    """The class of a calibrated log-odds at even odds, whose prevalence is even as well."""
    prob_C = np.array([1.0, np.exp(score)]) / (1 + np.exp(score))
    return int((prob_C / point.weights_C).argmax())


def test_otsu_is_the_cut_of_largest_variance_between():
    rng = np.random.default_rng(1)
    score_T = np.concatenate([rng.normal(-2, 1, 40), rng.normal(3, 1, 25)])
    cuts = (np.sort(score_T)[1:] + np.sort(score_T)[:-1]) / 2

    def between(cut):
        low, high = score_T[score_T < cut], score_T[score_T > cut]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    assert operating_point.otsu_threshold(score_T) == pytest.approx(max(cuts, key=between))
    assert operating_point.otsu_threshold(np.array([2.0, 2.0])) == 2.0
    assert operating_point.otsu_threshold(np.array([4.0])) == 4.0


def test_the_cut_is_halfway_to_the_valley():
    point = operating_point.choose("pool", hills(300, 300), EVEN, EVEN)
    assert point.kind == "pool"
    valley = operating_point.otsu_threshold(hills(300, 300)[:, 1])
    assert -1.0 < valley < 3.0
    assert calls(point, 0.5 * valley - 0.01) == 0 and calls(point, 0.5 * valley + 0.01) == 1


@pytest.mark.parametrize("prevalence_C", [[0.9, 0.1], [0.4, 0.3, 0.3]])
def test_a_rare_class_or_more_than_two_are_cut_at_even_odds(prevalence_C):
    prior_C = np.full(len(prevalence_C), 1 / len(prevalence_C))
    logit_TC = np.random.default_rng(0).normal(size=(50, len(prevalence_C)))
    point = operating_point.choose("pool", logit_TC, np.array(prevalence_C), prior_C)
    assert point.kind == "balanced"
    assert point.weights_C == pytest.approx(np.array(prevalence_C) / prior_C)


def test_a_class_of_few_labels_is_not_favoured():
    """At the prevalence, a scan as likely of either class: it is called by what each class has learned from."""
    prevalence_C, prior_C = np.array([0.9, 0.1]), np.array([0.88, 0.12])  # 40 labels and one
    point = operating_point.choose("balanced", hills(9, 9), prevalence_C, prior_C)
    assert (np.array([0.5, 0.5]) / point.weights_C).argmax() == 1
    assert (np.array([0.9, 0.1]) / point.weights_C).argmax() == 0  # at balanced weights it would be even


def test_the_most_probable_class_when_asked_for():
    point = operating_point.choose("prevalence", hills(9, 9), np.array([0.9, 0.1]), EVEN)
    assert point.kind == "prevalence" and (np.array([0.6, 0.4]) / point.weights_C).argmax() == 0
