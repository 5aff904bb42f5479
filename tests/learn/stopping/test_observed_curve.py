"""Scores of the draws: pairs of the same fold, means over draws, and a covariance by patients."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.learn.stopping import observed_curve
from pipeline.learn.stopping.subset_fits import Draw

NUM = 60


def draw_of(score_SE, fold_E):
    prob_SEC = np.stack([1 - score_SE, score_SE], axis=2)
    return Draw(np.arange(1, len(score_SE) + 1) * 10.0, fold_E, prob_SEC)


def test_auroc_compares_scans_of_the_same_fold_alone():
    rng = np.random.default_rng(0)
    class_E, fold_E = np.arange(NUM) % 2, np.arange(NUM) // 20
    score_E = rng.random(NUM) * 0.5 + 0.2 * class_E
    shifted_E = score_E + fold_E * 0.1  # another head, another level: no pair within a fold changes
    plain, shifted = (
        observed_curve.observe([draw_of(s[None], fold_E)], class_E, [f"p{i}" for i in range(NUM)], rng)["auroc"]
        for s in (score_E, shifted_E)
    )
    by_fold = [roc_auc_score(class_E[fold_E == f], score_E[fold_E == f]) for f in range(3)]
    assert plain.score_S[0] == pytest.approx(np.mean(by_fold))  # equal pairs in every fold
    assert shifted.score_S[0] == pytest.approx(plain.score_S[0])


def test_ties_count_half():
    class_E, fold_E = np.arange(NUM) % 2, np.zeros(NUM, int)
    curve = observed_curve.observe(
        [draw_of(np.full((1, NUM), 0.5), fold_E)], class_E, [f"p{i}" for i in range(NUM)], np.random.default_rng(0)
    )
    assert curve["auroc"].score_S[0] == 0.5


def test_scores_are_means_over_draws_and_balanced_counts_classes_alike():
    class_E, fold_E = np.array([0] * 45 + [1] * 15), np.zeros(NUM, int)
    all_right, all_first = class_E[None].astype(float), np.zeros((1, NUM))
    curves = observed_curve.observe(
        [draw_of(all_right, fold_E), draw_of(all_first, fold_E)],
        class_E,
        [f"p{i}" for i in range(NUM)],
        np.random.default_rng(0),
    )
    assert curves["accuracy"].score_S[0] == pytest.approx((1.0 + 0.75) / 2)
    assert curves["balanced_accuracy"].score_S[0] == pytest.approx((1.0 + 0.5) / 2)


def test_few_patients_make_a_score_less_sure():
    rng = np.random.default_rng(2)
    class_E, fold_E = np.repeat(np.arange(12) % 2, 10), np.zeros(120, int)
    patient_E = np.repeat(rng.random(12) * 0.6, 10)
    draw = draw_of(np.stack([patient_E + 0.3 * class_E, patient_E + 0.35 * class_E]), fold_E)
    alone, series = (
        observed_curve.observe([draw], class_E, groups, np.random.default_rng(0))["auroc"].covariance_SS
        for groups in ([f"s{i}" for i in range(120)], [f"p{i // 10}" for i in range(120)])
    )
    assert alone.shape == (2, 2) and series[0, 0] > 2 * alone[0, 0] > 0
    assert series[0, 1] > 0.3 * series[0, 0]  # the sizes share their scans


def test_a_class_of_few_labels_is_not_judged():
    assert observed_curve.judged_classes(np.array([0] * 20 + [1] * 5 + [2] * 4), 4) == [0, 1]
