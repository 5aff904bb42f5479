"""Where calls are cut: even odds, or halfway to the valley of the pool's scores."""

import numpy as np
import pytest

from pipeline.learn import operating_point

EVEN = np.array([0.5, 0.5])


MANY = np.array([40, 40])


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
    point = operating_point.choose("pool", hills(300, 300), EVEN, EVEN, MANY)
    assert point.kind == "pool"
    valley = operating_point.otsu_threshold(hills(300, 300)[:, 1])
    assert -1.0 < valley < 3.0
    assert calls(point, 0.5 * valley - 0.01) == 0 and calls(point, 0.5 * valley + 0.01) == 1


@pytest.mark.parametrize("prevalence_C", [[0.9, 0.1], [0.4, 0.3, 0.3]])
def test_a_rare_class_or_more_than_two_are_cut_at_even_odds(prevalence_C):
    prior_C = np.full(len(prevalence_C), 1 / len(prevalence_C))
    logit_TC = np.random.default_rng(0).normal(size=(50, len(prevalence_C)))
    point = operating_point.choose("pool", logit_TC, np.array(prevalence_C), prior_C, np.full(len(prior_C), 5))
    assert point.kind == "balanced"
    assert point.weights_C == pytest.approx(np.array(prevalence_C) / prior_C)


def test_a_class_of_few_labels_is_not_favoured():
    """At the prevalence, a scan as likely of either class: it is called by what each class has learned from."""
    prevalence_C, prior_C = np.array([0.9, 0.1]), np.array([0.706, 0.294])  # 40 labels and five
    point = operating_point.choose("balanced", hills(9, 9), prevalence_C, prior_C, np.array([40, 5]))
    assert (np.array([0.5, 0.5]) / point.weights_C).argmax() == 1
    assert (np.array([0.9, 0.1]) / point.weights_C).argmax() == 0  # at balanced weights it would be even


def test_the_most_probable_class_when_asked_for():
    point = operating_point.choose("prevalence", hills(9, 9), np.array([0.9, 0.1]), EVEN, MANY)
    assert point.kind == "prevalence" and (np.array([0.6, 0.4]) / point.weights_C).argmax() == 0


@pytest.mark.parametrize("wanted", ["pool", "balanced", "prevalence"])
@pytest.mark.parametrize(("few", "kept"), [([4, 40], [40, 40]), ([40, 4], [40, 40])])
def test_a_class_with_fewer_than_five_labels_wins_no_scan_by_the_operating_point(wanted, few, kept):
    """Of two classes with the same scores: with five labels and more the cut may favour either, with four only one."""
    rng = np.random.default_rng(3)
    prob_NC = rng.dirichlet([1, 1], 400)
    prevalence_C, prior_C = np.array([0.4, 0.6]), np.array([0.5, 0.5])
    rare = int(np.argmin(few))
    for left, right in ((-9.0, 1.0), (-1.0, 9.0)):  # a valley far to either side
        logit_TC = hills(300, 300, left, right)
        point = operating_point.choose(wanted, logit_TC, prevalence_C, prior_C, np.array(few))
        called_N = (prob_NC / point.weights_C).argmax(1)
        assert not ((called_N == rare) & (prob_NC.argmax(1) != rare)).any()
    shifted = [
        operating_point.choose(wanted, hills(300, 300, *pair), prevalence_C, prior_C, np.array(kept)).weights_C
        for pair in ((-9.0, 1.0), (-1.0, 9.0))
    ]
    wins = [((prob_NC / w).argmax(1) != prob_NC.argmax(1)).any() for w in shifted]
    assert any(wins) == (wanted != "prevalence")


def test_where_every_class_has_few_labels_the_most_probable_is_called():
    three = np.array([0.7, 0.2, 0.1])
    point = operating_point.choose("balanced", np.zeros((9, 3)), three, np.full(3, 1 / 3), np.array([4, 2, 0]))
    assert len(set(point.weights_C.tolist())) == 1


def test_a_class_without_labels_beside_well_known_ones_gets_the_largest_weight():
    prevalence_C, prior_C = np.array([0.6, 0.38, 0.02]), np.array([0.45, 0.45, 0.1])
    point = operating_point.choose("balanced", np.zeros((9, 3)), prevalence_C, prior_C, np.array([30, 20, 0]))
    assert point.weights_C[2] == point.weights_C.max()
    assert point.weights_C[:2] == pytest.approx((prevalence_C / prior_C)[:2])  # the others keep theirs
