import json

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline.evidence.decision_curve import THRESHOLDS_R, decision_curve, net_benefit
from pipeline.evidence.operating_points import SENSITIVITIES, SPECIFICITIES, _Targets, operating_points
from pipeline.evidence.predictive_values import predictive_values, ratio_interval


def draw(num_scans, num_classes=2, seed=0, *, ties=False):
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(0, num_classes, num_scans)
    logit_NC = rng.normal(size=(num_scans, num_classes)) * 1.2
    logit_NC[np.arange(num_scans), truth_N] += 1.5
    if ties:
        logit_NC = logit_NC.round()
    prob_NC = np.exp(logit_NC) / np.exp(logit_NC).sum(axis=1, keepdims=True)
    return prob_NC, (prob_NC[:, -1] > 0.4).astype(np.int64), truth_N, np.arange(num_scans) // 3


def points_of(args, num_bootstrap=0, findings=("normal", "a"), seed=0):
    prob_NC, predicted_N, truth_N, group_of_N = args
    rng = np.random.default_rng(seed)
    rows = operating_points(
        prob_NC,
        predicted_N,
        truth_N,
        findings,
        group_of_N,
        positive=1 if len(findings) == 2 else None,
        num_bootstrap=num_bootstrap,
        rng=rng,
    )
    json.dumps(rows, allow_nan=False)
    return rows


def best_on_the_curve(positive_N, score_N, weight_N=None):
    """Target to (sensitivity, specificity), read off scikit-learn's curve."""
    fpr, tpr, _ = sk.roc_curve(positive_N, score_N, sample_weight=weight_N, drop_intermediate=False)
    out = {}
    for level in SPECIFICITIES:
        i = np.flatnonzero(1 - fpr >= level - 1e-12)[-1]
        out[f"specificity {level:.2f}"] = (tpr[i], 1 - fpr[i])
    for level in SENSITIVITIES:
        i = np.flatnonzero(tpr >= level - 1e-12)[0]
        out[f"sensitivity {level:.2f}"] = (tpr[i], 1 - fpr[i])
    return out


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("num_scans", [30, 301])
def test_points_agree_with_scikit_learn(num_scans, ties):
    args = draw(num_scans, ties=ties)
    prob_NC, predicted_N, truth_N, _ = args
    rows = {row["target"]: row for row in points_of(args)}
    want = best_on_the_curve(truth_N, prob_NC[:, 1])
    assert set(rows) == {*want, "model"}
    for target, (sensitivity, specificity) in want.items():
        row = rows[target]
        assert (row["sensitivity"], row["specificity"]) == pytest.approx((sensitivity, specificity), abs=1e-9)
        cut = row["threshold_prob"]
        called_N = prob_NC[:, 1] >= cut if cut is not None else np.zeros(num_scans, bool)
        assert sk.recall_score(truth_N, called_N) == pytest.approx(row["sensitivity"], abs=1e-9)
        assert sk.recall_score(truth_N, called_N, pos_label=0) == pytest.approx(row["specificity"], abs=1e-9)
    assert rows["model"]["sensitivity"] == pytest.approx(sk.recall_score(truth_N, predicted_N), abs=1e-9)
    assert rows["model"]["specificity"] == pytest.approx(sk.recall_score(truth_N, predicted_N, pos_label=0), abs=1e-9)
    assert rows["model"]["threshold_prob"] is None


def test_thresholds_are_chosen_again_in_every_replicate():
    prob_NC, predicted_N, truth_N, _ = draw(80, ties=True)
    weight_BN = np.random.default_rng(1).integers(0, 4, (6, 80)).astype(float)
    table = _Targets(prob_NC[:, 1], predicted_N == 1, truth_N == 1)
    got = table.measure(weight_BN)
    for b, weight_N in enumerate(weight_BN):
        for target, (sensitivity, specificity) in best_on_the_curve(truth_N, prob_NC[:, 1], weight_N).items():
            held = target.split()[0]
            free, value = ("specificity", specificity) if held == "sensitivity" else ("sensitivity", sensitivity)
            assert got[f"{target}:{free}"][b] == pytest.approx(value, abs=1e-9)
            # What is held is asked of the printed threshold.
            called_N = prob_NC[:, 1] >= table.threshold[target]
            side = int(held == "sensitivity")
            kept = sk.recall_score(truth_N, called_N, sample_weight=weight_N, pos_label=side)
            assert got[f"{target}:{held}"][b] == pytest.approx(kept, abs=1e-9)


def test_points_have_intervals_around_their_values():
    for row in points_of(draw(150), num_bootstrap=100):
        for name in ("sensitivity", "specificity"):
            low, high = row[f"{name}_ci95"]
            assert 0 <= low <= row[name] <= high <= 1 and 0.01 < high - low < 0.6


def test_a_target_out_of_reach_calls_nothing():
    # The highest score is a negative's: any call costs half of the specificity.
    prob_N = np.array([0.9, 0.8, 0.7, 0.1])
    args = np.stack([1 - prob_N, prob_N], 1), np.array([1, 1, 1, 0]), np.array([0, 1, 1, 0]), np.arange(4)
    row = points_of(args)[0]
    assert (row["target"], row["threshold_prob"], row["sensitivity"], row["specificity"]) == (
        "specificity 0.80",
        None,
        0.0,
        1.0,
    )


def test_more_findings_are_each_against_the_rest_and_a_missing_class_is_undefined():
    prob_NC, _, truth_N, group_of_N = draw(90, 3)
    truth_N[truth_N == 1] = 0
    rows = points_of((prob_NC, prob_NC.argmax(1), truth_N, group_of_N), 50, ("a", "b", "c"))
    assert [row["finding"] for row in rows] == ["a"] * 6 + ["b"] * 6 + ["c"] * 6
    for row in rows[6:12]:
        assert row["sensitivity"] is None and row["sensitivity_ci95"] is None
        assert (row["specificity"] is None) == row["target"].startswith("sensitivity")
    assert rows[0]["sensitivity"] == pytest.approx(
        best_on_the_curve(truth_N == 0, prob_NC[:, 0])["specificity 0.80"][0], abs=1e-9
    )


def model_point(sensitivity, specificity, width=0.05):
    def interval(x):
        return [max(0, x - width), min(1, x + width)]

    return {
        "finding": "a",
        "target": "model",
        "sensitivity": sensitivity,
        "specificity": specificity,
        "sensitivity_ci95": interval(sensitivity),
        "specificity_ci95": interval(specificity),
    }


def test_predictive_values_are_bayes():
    rows = predictive_values([model_point(0.9, 0.8)], {"a": 0.3}, [0.01, 0.1])
    assert [(row["prevalence"], row["of"]) for row in rows] == [
        (0.01, "deployment"),
        (0.1, "deployment"),
        (0.3, "holdout"),
    ]
    for row in rows:
        p = row["prevalence"]
        assert row["ppv"] == pytest.approx(0.9 * p / (0.9 * p + 0.2 * (1 - p)), abs=1e-12)
        assert row["npv"] == pytest.approx(0.8 * (1 - p) / (0.8 * (1 - p) + 0.1 * p), abs=1e-12)
        for name in ("ppv", "npv"):
            assert 0 <= row[f"{name}_ci95"][0] < row[name] < row[f"{name}_ci95"][1] <= 1
    assert rows[0]["ppv"] < 0.05 < rows[2]["ppv"]  # rare: most calls are false


def test_the_holdouts_own_prevalence_gives_its_own_precision():
    args = draw(200)
    _, predicted_N, truth_N, _ = args
    rows = predictive_values(points_of(args), {"a": truth_N.mean()}, [])
    assert rows[0]["ppv"] == pytest.approx(sk.precision_score(truth_N, predicted_N), abs=1e-9)
    assert rows[0]["npv"] == pytest.approx(sk.precision_score(truth_N, predicted_N, pos_label=0), abs=1e-9)
    assert rows[0]["ppv_ci95"] is None


def test_no_false_alarm_is_no_certainty_and_no_call_no_value():
    row = predictive_values([model_point(0.9, 1.0)], {"a": 0.3}, [0.01])[0]
    assert row["ppv"] == 1.0 and row["ppv_ci95"][1] == 1.0 and row["ppv_ci95"][0] < 0.2
    row = predictive_values([model_point(0.0, 1.0)], {"a": 0.3}, [0.01])[0]
    assert row["ppv"] is None and row["ppv_ci95"] is None and row["npv"] == pytest.approx(0.99)
    undefined = model_point(0.5, 0.5) | {"sensitivity": None}
    assert predictive_values([undefined], {"a": 0.0}, [0.01])[0]["npv"] is None
    for bad in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="prevalence"):
            predictive_values([], {}, [bad])


def test_ratio_interval_covers_the_ratio_of_two_shares():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        (a, b), sizes = rng.binomial([40, 60], [0.8, 0.1]), np.array([40, 60])
        intervals = [
            (c - h, c + h)
            for p, n in zip((a / 40, b / 60), sizes, strict=True)
            for c, h in [
                ((p + 1.92 / n) / (1 + 3.84 / n), 1.96 / (1 + 3.84 / n) * np.sqrt(p * (1 - p) / n + 0.96 / n**2))
            ]
        ]
        low, high = ratio_interval(a / 40, intervals[0], b / 60, intervals[1])
        hits += low <= 8 <= high
    assert 0.935 <= hits / 2000 <= 0.975


def test_net_benefit_by_hand_and_under_weights():
    prob_NC, _, truth_N, group_of_N = draw(60)
    weight_BN = np.random.default_rng(0).integers(0, 3, (3, 60)).astype(float)
    got = net_benefit(prob_NC[:, 1], truth_N == 1, weight_BN)
    for b, weight_N in enumerate(weight_BN):
        for r, t in enumerate(THRESHOLDS_R):
            (_, fp), (_, tp) = sk.confusion_matrix(truth_N, prob_NC[:, 1] >= t, sample_weight=weight_N, labels=[0, 1])
            assert got[b, r] == pytest.approx((tp - fp * t / (1 - t)) / weight_N.sum(), abs=1e-9)
    curve = decision_curve(
        prob_NC, truth_N, ["n", "a"], group_of_N, positive=1, num_bootstrap=100, rng=np.random.default_rng(0)
    )
    assert [c["finding"] for c in curve] == ["a"]
    points = curve[0]["points"]
    assert [p["threshold"] for p in points] == pytest.approx(np.arange(1, 100) / 100)
    share = truth_N.mean()
    for point in points:
        t = point["threshold"]
        assert point["all"] == pytest.approx(share - (1 - share) * t / (1 - t), abs=1e-9) and point["none"] == 0
        assert point["ci95"][0] <= point["model"] <= point["ci95"][1]


def test_net_benefit_at_another_prevalence_is_that_of_a_pool_with_it():
    prob_NC, _, truth_N, _ = draw(400)
    positive_N = truth_N == 1
    # Weights that make the finding a tenth of the pool.
    weight_N = np.where(positive_N, 0.1 / positive_N.mean(), 0.9 / (1 - positive_N.mean()))
    want = net_benefit(prob_NC[:, 1], positive_N, weight_N[None])
    assert net_benefit(prob_NC[:, 1], positive_N, np.ones((1, 400)), 0.1) == pytest.approx(want, abs=1e-9)
    assert np.isnan(net_benefit(prob_NC[:, 1], np.zeros(400), np.ones((1, 400)), 0.1)).all()
    with pytest.raises(ValueError, match="prevalence"):
        decision_curve(
            prob_NC,
            truth_N,
            ["n", "a"],
            truth_N,
            positive=1,
            num_bootstrap=0,
            rng=np.random.default_rng(0),
            prevalence=1.0,
        )
