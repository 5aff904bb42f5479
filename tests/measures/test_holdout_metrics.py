import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from pipeline.measures import bootstrap
from pipeline.measures.folds import group_index
from pipeline.measures.holdout_metrics import evaluate, expected_calibration_error, reliability
from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.measures.weighted_metrics import Scores
from tests.support.call_count import num_calls

KEYS = [
    "auroc",
    "auroc_ci95",
    "auprc",
    "auprc_ci95",
    "accuracy",
    "accuracy_ci95",
    "balanced_accuracy",
    "balanced_accuracy_ci95",
    "sensitivity",
    "sensitivity_ci95",
    "specificity",
    "specificity_ci95",
    "f1",
    "f1_ci95",
    "ece",
    "brier",
    "confusion",
    "num_scans",
    "num_groups",
    "prevalence",
    "majority_accuracy",
    "positive",
    "per_class",
]
CLASS_KEYS = {
    "auroc",
    "auroc_ci95",
    "auprc",
    "sensitivity",
    "sensitivity_ci95",
    "specificity",
    "specificity_ci95",
    "precision",
    "f1",
    "tp",
    "fp",
    "tn",
    "fn",
    "num_positive",
}


def draw(num_scans, num_classes, seed=0, *, ties=False):
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(0, num_classes, num_scans)
    logit_NC = rng.normal(size=(num_scans, num_classes))
    logit_NC[np.arange(num_scans), truth_N] += 1.3
    if ties:
        logit_NC = logit_NC.round()
    prob_NC = np.exp(logit_NC) / np.exp(logit_NC).sum(axis=1, keepdims=True)
    groups = [f"p{i // 2}" for i in range(num_scans)]
    return prob_NC, prob_NC.argmax(axis=1), truth_N, [f"f{c}" for c in range(num_classes)], groups


def run(prob_NC, predicted_N, truth_N, findings, groups, num_bootstrap=0, seed=0, **more):
    rng = np.random.default_rng(seed)
    more = {"positive": 1 if len(findings) == 2 else None} | more
    result = evaluate(prob_NC, predicted_N, truth_N, findings, groups, num_bootstrap=num_bootstrap, rng=rng, **more)
    assert HoldoutMetrics.from_json(json.loads(json.dumps(result.to_json()))) == result
    result = result.to_json()
    assert list(result) == KEYS
    assert all(set(v) == CLASS_KEYS for v in result["per_class"].values())
    json.dumps(result, allow_nan=False)
    return result


@pytest.mark.parametrize("ties", [False, True])
def test_two_findings_agree_with_scikit_learn(ties):
    prob_NC, _, truth_N, findings, groups = draw(301, 2, ties=ties)
    predicted_N = (prob_NC[:, 1] >= 0.4).astype(int)  # the operating point is not the argmax
    got = run(prob_NC, predicted_N, truth_N, findings, groups)
    want = {
        "auroc": sk.roc_auc_score(truth_N, prob_NC[:, 1]),
        "auprc": sk.average_precision_score(truth_N, prob_NC[:, 1]),
        "accuracy": sk.accuracy_score(truth_N, predicted_N),
        "balanced_accuracy": sk.balanced_accuracy_score(truth_N, predicted_N),
        "sensitivity": sk.recall_score(truth_N, predicted_N),
        "specificity": sk.recall_score(truth_N, predicted_N, pos_label=0),
        "f1": sk.f1_score(truth_N, predicted_N),
        "brier": sk.brier_score_loss(truth_N, prob_NC[:, 1]),
    }
    assert {k: got[k] for k in want} == pytest.approx(want, abs=1e-9)
    assert got["confusion"] == sk.confusion_matrix(truth_N, predicted_N).tolist()
    assert (got["num_scans"], got["num_groups"]) == (301, 151)
    assert got["majority_accuracy"] == max(got["prevalence"].values()) == np.bincount(truth_N).max() / 301
    assert got["per_class"]["f1"]["precision"] == pytest.approx(sk.precision_score(truth_N, predicted_N))
    assert got["per_class"]["f1"]["auroc"] == got["auroc"]


@pytest.mark.parametrize("ties", [False, True])
def test_three_findings_agree_with_scikit_learn(ties):
    prob_NC, predicted_N, truth_N, findings, groups = draw(200, 3, ties=ties)
    got = run(prob_NC, predicted_N, truth_N, findings, groups)
    onehot_NC = np.eye(3)[truth_N]
    want = {
        "auroc": sk.roc_auc_score(truth_N, prob_NC, multi_class="ovr", average="macro"),
        "auprc": sk.average_precision_score(onehot_NC, prob_NC, average="macro"),
        "accuracy": sk.accuracy_score(truth_N, predicted_N),
        "balanced_accuracy": sk.balanced_accuracy_score(truth_N, predicted_N),
        "sensitivity": sk.recall_score(truth_N, predicted_N, average="macro"),
        "f1": sk.f1_score(truth_N, predicted_N, average="macro"),
        "brier": ((prob_NC - onehot_NC) ** 2).sum(axis=1).mean(),
    }
    assert {k: got[k] for k in want} == pytest.approx(want, abs=1e-9)
    for c, name in enumerate(findings):
        (tn, fp), (fn, tp) = sk.confusion_matrix(truth_N == c, predicted_N == c)
        mine = got["per_class"][name]
        assert [mine[k] for k in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]
        assert mine["specificity"] == pytest.approx(tn / (tn + fp))
        assert mine["num_positive"] == tp + fn


@pytest.mark.parametrize("num_classes", [2, 3])
def test_weighted_replicates_agree_with_scikit_learn(num_classes):
    prob_NC, predicted_N, truth_N, _, _ = draw(120, num_classes, ties=True)
    weight_BN = np.random.default_rng(1).integers(0, 4, (5, 120)).astype(float)
    weight_BN[4] = np.random.default_rng(2).random(120)
    got = Scores(prob_NC, predicted_N, truth_N, positive=None).measure(weight_BN)
    for b, w in enumerate(weight_BN):
        for c in range(num_classes):
            y, score, called = truth_N == c, prob_NC[:, c], predicted_N == c
            want = {
                "auroc": sk.roc_auc_score(y, score, sample_weight=w),
                "auprc": sk.average_precision_score(y, score, sample_weight=w),
                "sensitivity": sk.recall_score(y, called, sample_weight=w),
                "specificity": sk.recall_score(y, called, sample_weight=w, pos_label=False),
                "precision": sk.precision_score(y, called, sample_weight=w),
                "f1": sk.f1_score(y, called, sample_weight=w),
            }
            assert {k: got[f"{k}:{c}"][b] for k in want} == pytest.approx(want, abs=1e-9)
        assert got["accuracy"][b] == pytest.approx(sk.accuracy_score(truth_N, predicted_N, sample_weight=w))


def test_a_class_missing_from_the_truth_has_no_values_and_no_part_in_the_mean():
    prob_NC, predicted_N, truth_N, findings, groups = draw(90, 3)
    keep = truth_N != 1
    args = prob_NC[keep], predicted_N[keep], truth_N[keep], findings, np.array(groups)[keep]
    got = run(*args, num_bootstrap=50)
    missing = got["per_class"]["f1"]
    assert [missing[k] for k in ("auroc", "auroc_ci95", "auprc", "sensitivity", "specificity", "f1")] == [None] * 6
    assert missing["num_positive"] == 0 and missing["fp"] == int((predicted_N[keep] == 1).sum())
    others = [got["per_class"][f]["auroc"] for f in ("f0", "f2")]
    assert got["auroc"] == pytest.approx(np.mean(others))
    assert got["auroc_ci95"] is not None


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_has_no_ranking(only):
    prob_NC, predicted_N, _, findings, groups = draw(20, 2)
    got = run(prob_NC, predicted_N, np.full(20, only), findings, groups, num_bootstrap=20)
    assert got["auroc"] is None and got["auroc_ci95"] is None and got["specificity"] is None
    assert got["accuracy"] == pytest.approx((predicted_N == only).mean())
    assert got["balanced_accuracy"] == pytest.approx(got["accuracy"])


def test_intervals_do_not_depend_on_chunks_or_row_order(monkeypatch):
    args = draw(60, 3)
    whole = run(*args, num_bootstrap=200)
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 60 * 7)
    chunked = run(*args, num_bootstrap=200)
    flat = {k: v for k, v in whole.items() if k.endswith("ci95")}
    for name, interval in flat.items():
        assert chunked[name] == pytest.approx(interval, abs=1e-12)
    order = np.random.default_rng(5).permutation(60)
    moved = run(args[0][order], args[1][order], args[2][order], args[3], np.array(args[4])[order], num_bootstrap=200)
    assert moved["auroc_ci95"] == pytest.approx(whole["auroc_ci95"], abs=1e-12)
    assert moved["ece"] == pytest.approx(whole["ece"], abs=1e-12)


def test_bootstrap_matches_drawing_patients_row_by_row():
    """The slow way: copy the rows of the drawn patients and ask scikit-learn."""
    prob_NC, predicted_N, truth_N, findings, groups = draw(80, 2, seed=3)
    scores, group_of_N = Scores(prob_NC, predicted_N, truth_N, positive=1), group_index(groups)
    quick = bootstrap.replicates(scores.measure, group_of_N, 300, np.random.default_rng(9))["auroc"]
    names, rng, slow = sorted(set(groups)), np.random.default_rng(9), []
    for counts_K in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=300):
        drawn = np.repeat(np.arange(80), [counts_K[names.index(g)] for g in groups])
        slow.append(sk.roc_auc_score(truth_N[drawn], prob_NC[drawn, 1]))
    assert quick == pytest.approx(np.array(slow), abs=1e-9)
    got = run(prob_NC, predicted_N, truth_N, findings, groups, num_bootstrap=300, seed=9)
    patients = min(bootstrap.effective_groups(group_of_N, truth_N == c) for c in (0, 1))
    want = bootstrap.ranking_interval(got["auroc"], slow, patients)
    assert got["auroc_ci95"] == pytest.approx(want, abs=1e-9)


def test_clustered_scans_widen_the_interval():
    prob_NC, predicted_N, truth_N, findings, _ = draw(100, 2)
    rows = np.repeat(np.arange(100), 8)
    args = prob_NC[rows], predicted_N[rows], truth_N[rows], findings
    by_scan = run(*args, [str(i) for i in range(800)], num_bootstrap=400)["accuracy_ci95"]
    by_patient = run(*args, [str(i) for i in rows], num_bootstrap=400)["accuracy_ci95"]
    assert np.ptp(by_patient) > 2 * np.ptp(by_scan)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """Accuracy .8 by patient, 120 patients with 3 identical scans: 300 pools."""
    rng, hits = np.random.default_rng(0), 0
    for seed in range(300):
        right_N = np.repeat(rng.random(120) < 0.8, 3).astype(int)
        truth_N = np.tile([0, 1, 1], 120)
        predicted_N = np.where(right_N == 1, truth_N, 1 - truth_N)
        lo, hi = run(np.full((360, 2), 0.5), predicted_N, truth_N, ["a", "b"], np.repeat(np.arange(120), 3), 200, seed)[
            "accuracy_ci95"
        ]
        hits += lo <= 0.8 <= hi
    assert 0.91 <= hits / 300 <= 0.98


def test_an_interval_needs_two_patients_and_half_of_the_replicates():
    prob_NC, predicted_N, truth_N, findings, _ = draw(30, 2)
    one = run(prob_NC, predicted_N, truth_N, findings, ["p"] * 30, num_bootstrap=50)
    assert one["num_groups"] == 1 and one["accuracy"] is not None and one["accuracy_ci95"] is None
    # Class 1 lives in one patient of two: what others of its kind would show is anybody's guess.
    truth_N = np.array([0, 0, 1, 1])
    few = run(np.full((4, 2), 0.5), truth_N, truth_N, findings, ["a", "a", "b", "b"], num_bootstrap=400, seed=1)
    assert few["sensitivity"] == 1.0 and few["sensitivity_ci95"] is None and few["auroc_ci95"] is None
    rare = run(
        np.full((5, 3), 1 / 3),
        [0, 0, 1, 1, 2],
        [0, 0, 1, 1, 2],
        ["a", "b", "c"],
        list("aabbc"),
        num_bootstrap=400,
    )
    assert rare["auroc"] == 0.5 and rare["auroc_ci95"] is None  # all three patients in 2 of 9 draws
    assert run(*draw(10, 2))["auroc_ci95"] is None


def test_no_mistake_is_not_certainty():
    truth_N = np.repeat([0, 1], 20)
    got = run(np.eye(2)[truth_N], truth_N, truth_N, ["a", "b"], np.arange(40) // 2, num_bootstrap=100)
    # Ten patients a class, so at most Wilson's interval of ten of ten.
    assert got["sensitivity_ci95"] == pytest.approx(bootstrap.wilson(1.0, 10, stats.t.ppf(0.975, 19)))
    assert got["auroc_ci95"] == pytest.approx(bootstrap.wilson(1.0, 10, stats.t.ppf(0.975, 18)))
    assert got["accuracy_ci95"] == pytest.approx(bootstrap.wilson(1.0, 20, stats.t.ppf(0.975, 19)))


def test_replicates_are_drawn_together():
    for scans in (draw(624, 2), draw(250, 3)):
        one, thousand = (num_calls(lambda num=num, s=scans: run(*s, num_bootstrap=num)) for num in (1, 1000))
        assert thousand < 10 * one  # one after the other they would cost 1000


def test_calibration_error_by_hand():
    assert expected_calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0.0)
    assert expected_calibration_error([0.6, 0.6, 0.9, 0.9], [0, 1, 1, 1], num_bins=2) == pytest.approx(0.1)
    rng = np.random.default_rng(0)
    conf = rng.uniform(0.5, 1, 60_000)
    assert expected_calibration_error(conf, rng.random(60_000) < conf) < 0.02
    assert expected_calibration_error(conf, rng.random(60_000) < conf - 0.2) == pytest.approx(0.2, abs=0.02)
    shuffled = np.random.default_rng(1).permutation(7)
    tied, right = np.array([0.5] * 5 + [0.7] * 2), np.array([1, 0, 0, 0, 1, 1, 0])
    assert expected_calibration_error(tied[shuffled], right[shuffled], 3) == pytest.approx(
        expected_calibration_error(tied, right, 3)
    )


def test_reliability_bins_hold_equal_mass():
    bins = reliability(np.linspace(0.5, 1, 103), np.ones(103))
    assert [b["count"] for b in bins] == [11] * 3 + [10] * 7
    assert [b["confidence"] for b in bins] == sorted(b["confidence"] for b in bins)
    assert reliability([], []) == []
    with pytest.raises(ValueError, match="bins"):
        reliability([0.5], [1, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prob_NC": np.full((4, 2), math.nan)}, "sum to 1"),
        ({"prob_NC": np.full((4, 2), 0.7)}, "sum to 1"),
        ({"prob_NC": np.full((3, 2), 0.5)}, "shapes"),
        ({"truth_N": [0, 1, 2, 0]}, "truth must be class indices 0..1"),
        ({"predicted_N": [0, 1, -1, 0]}, "predicted must be class indices"),
        ({"predicted_N": [0.0, 1.0, 1.0, 0.0]}, "predicted must be class indices"),
        ({"findings": ["a", "a"]}, "two different findings"),
        ({"groups_N": ["p"]}, "4 scans but 1 groups"),
        ({"groups_N": ["p", None, "q", "r"]}, "patient group"),
        ({"confidence": 1.0}, "confidence 1.0"),
        ({"positive": 2}, "must be 0..1, not 2"),
        ({"num_bootstrap": -1}, "-1 replicates"),
    ],
)
def test_bad_input_is_named(change, message):
    args = {
        "prob_NC": np.full((4, 2), 0.5),
        "predicted_N": [0, 1, 1, 0],
        "truth_N": [0, 1, 0, 1],
        "findings": ["a", "b"],
        "groups_N": list("pqrs"),
        "positive": 1,
        "num_bootstrap": 2,
    }
    with pytest.raises(ValueError, match=message):
        evaluate(**(args | change), rng=np.random.default_rng(0))


def test_no_scans_are_refused():
    with pytest.raises(ValueError, match="no scans"):
        evaluate(np.empty((0, 2)), [], [], ["a", "b"], [], positive=1, num_bootstrap=0, rng=np.random.default_rng(0))
