"""Thresholds a model may decide alone at, held against simulated labels whose true error rates are known."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from pipeline.measures import act_or_defer
from pipeline.measures.act_or_defer import THRESHOLD_T, Certified
from pipeline.measures.plans import sequential_plan

CONFIDENCE = 0.95
HISTORIES = 300
SLOPE = 3.0  # logits are four times as far apart as the truth allows: an overconfident model


def sureness(z_N):
    """What an overconfident model says of scans whose signal is z: classes lie at -1 and 1, deviation 1."""
    return 1.0 / (1.0 + np.exp(-SLOPE * z_N))


def signal_at(threshold):
    return np.log(threshold / (1.0 - threshold)) / SLOPE


def test_the_share_of_a_class_that_is_decided_wrongly_keeps_its_promise_at_every_look():
    rng = np.random.default_rng(0)
    broken = certified = 0
    for _ in range(HISTORIES):
        sure_N = sureness(rng.normal(-1.0, 1.0, 250))  # "yes" would be wrong of all of these
        of_looks = [act_or_defer.certify_class(sure_N[:n], 0.1, CONFIDENCE).threshold for n in (40, 80, 120, 180, 250)]
        laxest = min((t for t in of_looks if t is not None), default=None)  # by whom stops when it suits best
        certified += laxest is not None
        broken += laxest is not None and norm.sf(signal_at(laxest), -1.0) > 0.1
    assert certified > 0.8 * HISTORIES
    assert broken <= binom.ppf(0.999, HISTORIES, 1.0 - CONFIDENCE)
    assert norm.sf(signal_at(0.95), -1.0) < 0.1 < norm.sf(signal_at(0.6), -1.0)  # both outcomes are open


def test_the_share_of_the_decided_that_is_wrong_keeps_its_promise():
    rng = np.random.default_rng(1)
    sure_P = sureness(np.concatenate([rng.normal(1.0, 1.0, 600), rng.normal(-1.0, 1.0, 1400)]))
    broken = certified = 0
    for _ in range(HISTORIES):
        wrong_N = rng.random(300) < 0.7
        sure_N = sureness(rng.normal(np.where(wrong_N, -1.0, 1.0), 1.0))
        threshold = act_or_defer.certify_decided(sure_N, wrong_N, sure_P, 0.15, CONFIDENCE).threshold
        if threshold is not None:
            certified += 1
            wrong, right = 0.7 * norm.sf(signal_at(threshold), -1.0), 0.3 * norm.sf(signal_at(threshold), 1.0)
            broken += wrong / (wrong + right) > 0.15
    assert certified > 0.1 * HISTORIES
    assert broken <= binom.ppf(0.999, HISTORIES, 1.0 - CONFIDENCE)
    wrong, right = 0.7 * norm.sf(signal_at(0.7), -1.0), 0.3 * norm.sf(signal_at(0.7), 1.0)
    assert wrong / (wrong + right) > 0.15  # a threshold that looks sensible breaks it


def test_it_is_the_fixed_sequence_of_the_sequential_plan_and_nothing_else():
    rng = np.random.default_rng(2)
    sure_N = sureness(rng.normal(-1.5, 1.0, 160))
    by_hand = None
    for threshold in THRESHOLD_T:
        error_N = (sure_N >= threshold).tolist()
        if sequential_plan.certified_precision(error_N, CONFIDENCE, 0.9) < 0.9:
            break
        by_hand = threshold
    assert by_hand is not None and act_or_defer.certify_class(sure_N, 0.1, CONFIDENCE).threshold == by_hand


def test_too_few_labels_are_refused_and_the_missing_counted():
    clean = act_or_defer.certify_class(np.full(71, 0.2), 0.05, CONFIDENCE)
    assert clean == Certified(None, 71, 0, 1)
    assert act_or_defer.certify_class(np.full(72, 0.2), 0.05, CONFIDENCE).threshold == pytest.approx(0.5)
    one_error = act_or_defer.certify_class(np.r_[0.99999, np.full(79, 0.2)], 0.05, CONFIDENCE)
    assert one_error == Certified(None, 80, 1, 32)  # one error takes 112
    hopeless = act_or_defer.certify_class(np.full(80, 0.99999), 0.05, CONFIDENCE)
    assert hopeless.threshold is None and hopeless.missing is None
    assert act_or_defer.certify_class(np.empty(0), 0.1, CONFIDENCE).missing == 36


def test_a_side_that_the_model_never_answers_has_no_threshold():
    silent = act_or_defer.certify_decided(np.full(90, 0.2), np.zeros(90, bool), np.full(500, 0.2), 0.05, CONFIDENCE)
    assert silent == Certified(None, 0, 0, None)


def test_both_promises_hold_only_where_both_were_tested():
    sure_P = np.linspace(0.5, 0.9999, 1000)
    begin = THRESHOLD_T[act_or_defer.first_of_decided(sure_P)]
    assert (sure_P >= begin).mean() >= 0.25
    lax, strict = Certified(0.6, 99, 0, 0), Certified(float(begin), 99, 0, 0)
    assert act_or_defer.stricter(lax, strict, sure_P) == strict.threshold
    assert act_or_defer.stricter(Certified(0.9999, 99, 0, 0), lax, sure_P) is None
    assert act_or_defer.stricter(lax, Certified(None, 3, 0, 69), sure_P) is None


def test_decisions_and_their_share():
    said = act_or_defer.decisions(np.array([0.01, 0.1, 0.5, 0.9, np.nan]), 0.1, 0.8)
    assert said.tolist() == ["no", "no", "ask a person", "yes", "ask a person"]
    assert set(act_or_defer.decisions(np.array([0.0, 1.0]), None, None)) == {"ask a person"}
    low, high = act_or_defer.share_interval(7, 40)
    assert binom.sf(6, 40, low) == pytest.approx(0.025) and binom.cdf(7, 40, high) == pytest.approx(0.025)
    assert act_or_defer.share_interval(0, 0) == (0.0, 1.0)
