import numpy as np
import pytest
from scipy.stats import binomtest, norm

from pipeline.measures.calibrate import apply_temperature, fit_temperature
from pipeline.measures.certify import (
    NO_THRESHOLD,
    Certificate,
    certify,
    checks_needed,
    estimate_thresholds,
    estimated_precision,
    lower_bound,
)


@pytest.mark.parametrize(("correct", "checked"), [(1, 1), (5, 9), (0, 4), (58, 59), (290, 299)])
def test_lower_bound_is_clopper_pearson(correct, checked):
    want = binomtest(correct, checked, alternative="greater").proportion_ci(0.95, method="exact").low
    assert lower_bound(correct, checked, 0.95) == pytest.approx(want, abs=1e-9)


def test_known_bounds():
    assert lower_bound(0, 0, 0.95) == 0.0
    assert lower_bound(59, 59, 0.95) == pytest.approx(0.9505, abs=5e-5)
    assert lower_bound(58, 58, 0.95) < 0.95 < lower_bound(59, 59, 0.95)


@pytest.mark.parametrize(("promise", "checks"), [(0.90, 29), (0.95, 59), (0.98, 149), (0.99, 299)])
def test_clean_checks_needed(promise, checks):
    assert checks_needed(0, 0, promise, 0.95) == checks


@pytest.mark.parametrize(("correct", "checked"), [(0, 0), (10, 11), (58, 60), (0, 3), (30, 30)])
def test_checks_needed_is_the_smallest(correct, checked):
    more = checks_needed(correct, checked, 0.9, 0.95)
    assert lower_bound(correct + more, checked + more, 0.95) >= 0.9
    assert more == 0 or lower_bound(correct + more - 1, checked + more - 1, 0.95) < 0.9


@pytest.mark.parametrize("precision", [0.8, 0.95, 0.97, 0.99])
@pytest.mark.parametrize("checked", [20, 59, 150, 400])
def test_bound_covers(precision, checked):
    correct = np.random.default_rng(checked).binomial(checked, precision, 4000)
    bounds = {k: lower_bound(int(k), checked, 0.95) for k in np.unique(correct)}
    covered = np.mean([bounds[k] <= precision for k in correct])
    assert covered >= 0.95 - 0.01  # 3 standard errors of 4,000 draws


def test_certificates_by_class_and_pooled():
    proposed = ["opacity"] * 80 + ["normal"] * 20
    truth = ["opacity"] * 79 + ["normal"] + ["normal"] * 20
    got = certify(proposed, truth, ["normal", "opacity"], 0.95, 0.95)
    assert list(got) == ["normal", "opacity", "pooled"]
    normal, opacity, pooled = got.values()
    assert (normal.num_checked, normal.num_correct, normal.confidence) == (20, 20, 0.975)
    assert (opacity.num_checked, opacity.num_correct) == (80, 79)
    assert (pooled.num_checked, pooled.num_correct, pooled.confidence) == (100, 99, 0.95)
    assert normal.lower_bound == lower_bound(20, 20, 0.975)
    assert not normal.holds and normal.checks_needed == 72 - 20
    assert pooled.holds and pooled.checks_needed == 0 and pooled.finding == "pooled"
    alone = certify(proposed, truth, ["normal", "opacity"], 0.95, 0.95, family=False)
    assert alone["normal"].checks_needed == 59 - 20 and alone["pooled"] == pooled
    looks = certify(proposed, truth, ["normal", "opacity"], 0.95, 0.95, num_looks=5)
    assert looks["pooled"].confidence == pytest.approx(0.99)
    assert looks["normal"].confidence == pytest.approx(0.995)


def test_no_checks_certify_nothing():
    got = certify([], [], ["a", "b"], 0.97, 0.95)
    assert got["pooled"] == Certificate("pooled", 0, 0, 0.0, 0.97, 0.95, False, 99)
    assert not any(c.holds for c in got.values())


def test_family_keeps_the_error_of_all_classes_together():
    """Three classes just under the promise: any certificate is false; at most 5 % of runs issue one."""
    rng, false = np.random.default_rng(0), 0
    findings = ["a", "b", "c"]
    for _ in range(600):
        proposed = [f for f in findings for _ in range(110)]
        wrong = rng.random(330) > 0.9499
        truth = [findings[(findings.index(p) + w) % 3] for p, w in zip(proposed, wrong, strict=True)]
        got = certify(proposed, truth, findings, 0.95, 0.95)
        false += any(got[f].holds for f in findings)
    assert false / 600 <= 0.05 + 0.02


def column(prob_of_one):
    prob = np.asarray(prob_of_one, float)
    return np.c_[1 - prob, prob]


def test_threshold_by_hand():
    # 12 clean scans are what .97 needs however sure the scores: (12 + 4.5) / 17 = .9706.
    assert estimate_thresholds(column([0.99] * 11), [1] * 11, promise=0.97).tolist() == [NO_THRESHOLD] * 2
    prob_NC = column(np.linspace(0.99, 0.91, 12))
    assert estimate_thresholds(prob_NC, [1] * 12, promise=0.97) == pytest.approx([NO_THRESHOLD, 0.91])
    # The thirteenth is wrong: the threshold closes above it, also if many right ones follow.
    more = column([*np.linspace(0.99, 0.91, 12), 0.9, *np.linspace(0.89, 0.51, 200)])
    got = estimate_thresholds(more, [1] * 12 + [0] + [1] * 200, promise=0.97)
    assert got == pytest.approx([NO_THRESHOLD, 0.91])


def test_tied_scans_are_accepted_together_or_not_at_all():
    prob_NC = column([0.95] * 20 + [0.8] * 4)
    assert estimate_thresholds(prob_NC, [1] * 20 + [1, 1, 0, 0], promise=0.97)[1] == 0.95
    assert estimate_thresholds(prob_NC, [1] * 18 + [0] * 2 + [1] * 4, promise=0.97)[1] == NO_THRESHOLD


def test_max_share_caps_what_a_class_accepts():
    prob_NC = column(np.linspace(0.99, 0.8, 100))
    got = estimate_thresholds(prob_NC, [1] * 100, promise=0.97, max_share=0.5)
    assert (prob_NC[:, 1] >= got[1]).sum() == 50
    tied = estimate_thresholds(column([0.99] * 100), [1] * 100, promise=0.97, max_share=0.5)
    assert tied[1] == NO_THRESHOLD


def test_weights_shrink_the_evidence_and_move_the_share():
    prob_NC = column([0.95] * 40)
    uneven = np.array([50.0] * 2 + [1.0] * 38)  # worth 4 scans
    assert estimate_thresholds(prob_NC, [1] * 40, uneven, promise=0.97)[1] == NO_THRESHOLD
    truth = [1] * 39 + [0]
    light, heavy = np.array([1.0] * 39 + [0.1]), np.array([1.0] * 39 + [3.0])
    assert estimate_thresholds(prob_NC, truth, light, promise=0.97)[1] == 0.95
    assert estimate_thresholds(prob_NC, truth, heavy, promise=0.97)[1] == NO_THRESHOLD
    same = estimate_thresholds(prob_NC, truth, light * 7, promise=0.97)
    assert same.tolist() == estimate_thresholds(prob_NC, truth, light, promise=0.97).tolist()


def test_overconfident_scores_alone_open_nothing():
    rng = np.random.default_rng(0)
    prob_NC = column(np.where(rng.random(200) < 0.7, 0.9999, 0.0001))
    truth_N = np.where(rng.random(200) < 0.85, prob_NC.argmax(axis=1), 1 - prob_NC.argmax(axis=1))
    assert estimate_thresholds(prob_NC, truth_N, promise=0.97).tolist() == [NO_THRESHOLD] * 2
    low = estimate_thresholds(column([0.99] * 9), [1] * 9, promise=0.6)
    assert low.tolist() == [NO_THRESHOLD] * 2  # fewer than 10 scans are no evidence


def test_estimated_precision():
    prob_NC, truth = column([0.95] * 20 + [0.8] * 4), [1] * 20 + [1, 1, 0, 0]
    got = estimated_precision(prob_NC, truth, None, [NO_THRESHOLD, 0.9])
    assert got == pytest.approx(24.5 / 25)
    assert estimated_precision(prob_NC, truth, None, [NO_THRESHOLD] * 2) is None
    assert estimated_precision(np.empty((0, 2)), np.empty(0), None, [0.5, 0.5]) is None


SEPARATION = np.sqrt(2) * norm.ppf(0.98)  # AUROC .98 of two unit normals
PREVALENCE = 0.74


def draw_scans(num_scans, rng, separation=SEPARATION):
    """Logits three times too steep, as an overfitted head gives them."""
    truth_N = (rng.random(num_scans) < PREVALENCE).astype(int)
    score_N = rng.normal(size=num_scans) + separation * truth_N
    logit_N = separation * score_N - separation**2 / 2 + np.log(PREVALENCE / (1 - PREVALENCE))
    return np.c_[np.zeros(num_scans), 3 * logit_N], truth_N


def simulate(num_labels, num_runs=100, promise=0.97, separation=SEPARATION):
    """Precision of the accepted scans, share accepted, estimate: means over runs that accept, but share."""
    pool_NC, pool_truth_N = draw_scans(8000, np.random.default_rng(99), separation)
    right_N = pool_NC.argmax(axis=1) == pool_truth_N
    rng, runs, shares = np.random.default_rng(num_labels), [], []
    for _ in range(num_runs):
        logit_NC, truth_N = draw_scans(num_labels, rng, separation)
        temperature = fit_temperature(logit_NC, truth_N)
        prob_NC = apply_temperature(logit_NC, temperature)
        threshold_C = estimate_thresholds(prob_NC, truth_N, promise=promise)
        pool_prob_NC = apply_temperature(pool_NC, temperature)
        accepted_N = pool_prob_NC.max(axis=1) >= threshold_C[pool_NC.argmax(axis=1)]
        shares.append(accepted_N.mean())
        if accepted_N.any():
            estimate = estimated_precision(prob_NC, truth_N, None, threshold_C)
            runs.append((right_N[accepted_N].mean(), np.nan if estimate is None else estimate))
    precision, estimate = np.nanmean(runs, axis=0) if runs else (np.nan, np.nan)
    lowest = np.quantile([r[0] for r in runs], 0.05) if runs else np.nan
    return precision, np.mean(shares), estimate, lowest, len(runs) / num_runs


@pytest.mark.parametrize(("num_labels", "min_share"), [(50, 0.4), (100, 0.55), (234, 0.7)])
def test_estimate_keeps_the_promise_on_average(num_labels, min_share):
    precision, share, estimate, lowest, _ = simulate(num_labels)
    assert precision >= 0.97 and share >= min_share and lowest >= 0.95
    assert estimate == pytest.approx(precision, abs=0.015)


def test_twenty_labels_accept_no_junk():
    precision, share, *_ = simulate(20)
    assert precision >= 0.97 and share < 0.5
    # AUROC .7: next to nothing can be told apart at .97, so next to nothing may be accepted.
    _, share, *_ = simulate(20, separation=np.sqrt(2) * norm.ppf(0.7))
    assert share < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lower_bound(3, 2, 0.95), "impossible"),
        (lambda: lower_bound(1, 2, 1.0), "confidence"),
        (lambda: checks_needed(0, 0, 1.0, 0.95), "promise"),
        (lambda: certify(["a"], [], ["a", "b"], 0.9, 0.9), "1 proposals but 0"),
        (lambda: certify(["a"], ["x"], ["a", "b"], 0.9, 0.9), "unknown findings"),
        (lambda: certify([], [], ["a", "pooled"], 0.9, 0.9), "pooled"),
        (lambda: certify([], [], ["a", "b"], 0.9, 0.9, num_looks=0), "num_looks"),
        (lambda: estimate_thresholds([[0.5, 0.5]], [2], promise=0.9), "class indices"),
        (lambda: estimate_thresholds([[0.5, np.nan]], [1], promise=0.9), "0..1"),
        (lambda: estimate_thresholds([0.5], [1], promise=0.9), "C >= 2"),
        (lambda: estimate_thresholds([[0.5, 0.5]], [1, 1], promise=0.9), "truth is"),
        (lambda: estimate_thresholds([[0.5, 0.5]], [1], promise=1.0), "promise"),
        (lambda: estimate_thresholds([[0.5, 0.5]], [1], promise=0.9, max_share=0.0), "max_share"),
        (lambda: estimated_precision([[0.5, 0.5]], [1], None, [0.5]), "thresholds"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
