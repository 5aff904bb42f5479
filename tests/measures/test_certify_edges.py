"""The edges of certificates and estimates that a mutated line could move unseen."""

import numpy as np
import pytest

from pipeline.measures.certify import certify, checks_needed, estimate_thresholds, estimated_precision, lower_bound


def two_classes(top, num):
    """`num` scans of the first class, each with this probability."""
    return np.tile([top, 1 - top], (num, 1))


def test_a_scan_at_the_threshold_is_accepted():
    prob_NC, truth_N = two_classes(0.875, 20), np.zeros(20, int)
    assert estimated_precision(prob_NC, truth_N, None, [0.875, 1.01]) == pytest.approx((20 + 4.5) / 25)
    assert estimated_precision(prob_NC, truth_N, None, [0.876, 1.01]) is None


def test_a_scan_without_weight_is_allowed_and_counts_for_nothing():
    prob_NC, truth_N = two_classes(0.9, 24), np.repeat([0, 1], [20, 4])
    weight_N = np.repeat([1.0, 0.0], [20, 4])  # the four that are wrong
    assert estimated_precision(prob_NC, truth_N, weight_N, [0.5, 0.5]) == pytest.approx((20 + 4.5) / 25)
    assert estimate_thresholds(prob_NC, truth_N, weight_N, promise=0.95)[0] == pytest.approx(0.9)
    assert estimate_thresholds(prob_NC, truth_N, promise=0.95)[0] == 1.01


@pytest.mark.parametrize("weight", [-1e-9, np.nan, np.inf])
def test_a_weight_below_none_or_beyond_all_is_refused(weight):
    with pytest.raises(ValueError, match="weights finite and not negative"):
        estimated_precision(two_classes(0.9, 2), [0, 0], [1.0, weight], [0.5, 0.5])


def test_checks_are_counted_in_whole_numbers():
    for promise in (0.6, 0.9, 0.95, 0.99):
        needed = checks_needed(3, 4, promise, 0.95)
        assert isinstance(needed, int)
        assert lower_bound(3 + needed, 4 + needed, 0.95) >= promise > lower_bound(2 + needed, 3 + needed, 0.95)


@pytest.mark.parametrize("outside", [0.0, 1.0, -0.1, 1.5])
def test_what_is_outside_is_named(outside):
    with pytest.raises(ValueError, match=r"^confidence must be inside \(0, 1\)"):
        lower_bound(1, 2, outside)
    with pytest.raises(ValueError, match=r"^promise must be inside \(0, 1\)"):
        checks_needed(1, 2, outside, 0.95)
    with pytest.raises(ValueError, match=r"^confidence must be inside \(0, 1\)"):
        certify(["a"], ["a"], ["a", "b"], 0.9, outside)
    with pytest.raises(ValueError, match=r"^promise must be inside \(0, 1\)"):
        estimate_thresholds(two_classes(0.9, 2), [0, 0], promise=outside)
