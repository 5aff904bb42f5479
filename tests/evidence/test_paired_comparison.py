import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.multitest import multipletests

from pipeline.evidence.paired_comparison import METRICS, compare
from pipeline.measures import bootstrap
from pipeline.measures.delong import covariance, delong, placements
from pipeline.measures.holdout_metrics import evaluate

# 43 patients with ovarian cancer: albumin, total protein, Krebs-Goplerud score, outcome. DeLong et al. 1988, as
# SAS/STAT lists the complete cases (PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves").
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def draw(num_scans=150, num_classes=2, seed=0, blur=0.5, *, ties=False):
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(0, num_classes, num_scans)
    logit_NC = rng.normal(size=(num_scans, num_classes))
    logit_NC[np.arange(num_scans), truth_N] += 1.5
    probs = []
    for noise in (0.0, blur):
        z_NC = logit_NC + noise * rng.normal(size=logit_NC.shape)
        z_NC = z_NC.round() if ties else z_NC
        probs.append(np.exp(z_NC) / np.exp(z_NC).sum(axis=1, keepdims=True))
    return probs, truth_N, [f"f{c}" for c in range(num_classes)], [f"p{i // 3}" for i in range(num_scans)]


def run(probs, truth_N, findings, groups, num_bootstrap=100, seed=0):
    (a, b), rng = probs, np.random.default_rng(seed)
    got = compare(
        a,
        a.argmax(1),
        b,
        b.argmax(1),
        truth_N,
        findings,
        groups,
        positive=1 if len(findings) == 2 else None,
        num_bootstrap=num_bootstrap,
        rng=rng,
    )
    json.dumps(got, allow_nan=False)
    assert [row["metric"] for row in got["metrics"]] == list(METRICS)
    return got


@pytest.mark.parametrize("num_classes", [2, 3])
def test_both_sides_are_the_published_metrics(num_classes):
    probs, truth_N, findings, groups = draw(num_classes=num_classes)
    got = run(probs, truth_N, findings, groups)
    for side, prob_NC in zip(("first", "second"), probs, strict=True):
        want = evaluate(
            prob_NC,
            prob_NC.argmax(1),
            truth_N,
            findings,
            groups,
            positive=1 if len(findings) == 2 else None,
            num_bootstrap=0,
            rng=np.random.default_rng(0),
        )
        for row in got["metrics"]:
            assert row[side] == pytest.approx(getattr(want, row["metric"]), abs=1e-12)
            assert row["difference"] == pytest.approx(row["second"] - row["first"])
    p = [row["p_value"] for row in got["metrics"]]
    assert [row["p_holm"] for row in got["metrics"]] == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert [row["finding"] for row in got["delong"]] == (findings[1:] if num_classes == 2 else findings)


def test_replicates_are_paired():
    """The slow way: copy the rows of the drawn patients, and ask scikit-learn about both models."""
    probs, truth_N, findings, groups = draw(90)
    got = {row["metric"]: row for row in run(probs, truth_N, findings, groups, 120, seed=4)["metrics"]}
    names, slow = sorted(set(groups)), {"auroc": [], "accuracy": [], "brier": []}
    for counts_K in np.random.default_rng(4).multinomial(30, np.full(30, 1 / 30), size=120):
        drawn = np.repeat(np.arange(90), [counts_K[names.index(g)] for g in groups])
        truth, (a, b) = truth_N[drawn], [p[drawn] for p in probs]
        slow["auroc"].append(sk.roc_auc_score(truth, b[:, 1]) - sk.roc_auc_score(truth, a[:, 1]))
        slow["accuracy"].append((b.argmax(1) == truth).mean() - (a.argmax(1) == truth).mean())
        slow["brier"].append(sk.brier_score_loss(truth, b[:, 1]) - sk.brier_score_loss(truth, a[:, 1]))
    for name, difference_B in slow.items():
        interval = bootstrap.percentile_interval(difference_B, 30)
        assert got[name]["difference_ci95"] == pytest.approx(interval, abs=1e-9)
        assert got[name]["p_value"] == pytest.approx(bootstrap.two_sided_p(difference_B, 30), abs=1e-9)
    # Paired: far narrower than two intervals side by side.
    alone = evaluate(
        probs[0],
        probs[0].argmax(1),
        truth_N,
        findings,
        groups,
        positive=1 if len(findings) == 2 else None,
        num_bootstrap=120,
        rng=np.random.default_rng(4),
    )
    assert np.ptp(got["auroc"]["difference_ci95"]) < np.ptp(alone.auroc_ci95)


def test_a_model_does_not_differ_from_itself_and_does_from_noise():
    (a, _), truth_N, findings, groups = draw()
    same = run((a, a), truth_N, findings, groups)
    assert all(row["difference"] == 0 and row["p_value"] == row["p_holm"] == 1.0 for row in same["metrics"])
    assert same["delong"][0]["p_value"] is None  # no variance, no test
    noise = np.random.default_rng(1).dirichlet([1, 1], len(a))
    other = run((a, noise), truth_N, findings, groups, 500)
    for row in other["metrics"]:
        assert row["p_holm"] < 0.05 and (row["difference"] > 0) == (row["metric"] == "brier")
    assert other["delong"][0]["p_value"] < 1e-4 and other["delong"][0]["p_value_clustered"] < 1e-4


def test_without_replicates_or_one_class_there_is_no_test():
    probs, truth_N, findings, groups = draw()
    assert all(
        r["p_value"] is r["difference_ci95"] is None for r in run(probs, truth_N, findings, groups, 0)["metrics"]
    )
    alone = run(probs, np.zeros_like(truth_N), findings, groups)
    by_name = {row["metric"]: row for row in alone["metrics"]}
    assert by_name["auroc"]["difference"] is by_name["auroc"]["p_value"] is by_name["sensitivity"]["p_holm"] is None
    assert by_name["accuracy"]["p_value"] is not None and alone["delong"][0]["first"] is None
    with pytest.raises(ValueError, match="150 scans but 2 groups"):
        run(probs, truth_N, findings, groups[:2])
    with pytest.raises(ValueError, match="shapes do not match"):
        run((probs[0], probs[1][:9]), truth_N, findings, groups)


def slow_delong(scores_MN, positive_N):
    """The definition, pair by pair: areas, and the covariance of the placement values."""
    x_MP, y_MQ = scores_MN[:, positive_N], scores_MN[:, ~positive_N]
    wins_MPQ = (x_MP[:, :, None] > y_MQ[:, None]) + 0.5 * (x_MP[:, :, None] == y_MQ[:, None])
    v10, v01 = wins_MPQ.mean(axis=2), wins_MPQ.mean(axis=1)
    return wins_MPQ.mean(axis=(1, 2)), np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_delong_agrees_with_its_definition(seed, ties):
    probs, truth_N, _, _ = draw(60 + 30 * seed, seed=seed, ties=ties)
    scores_2N, positive_N = np.stack([p[:, 1] for p in probs]), truth_N == 1
    area_2, cov_22 = slow_delong(scores_2N, positive_N)
    got = delong(*scores_2N, positive_N, np.arange(len(truth_N)))
    assert (got["first"], got["second"]) == pytest.approx(tuple(area_2), abs=1e-9)
    assert got["first"] == pytest.approx(sk.roc_auc_score(positive_N, scores_2N[0]), abs=1e-9)
    se = np.sqrt(cov_22[0, 0] + cov_22[1, 1] - 2 * cov_22[0, 1])
    assert got["se"] == pytest.approx(se, abs=1e-9)
    assert got["p_value"] == pytest.approx(2 * stats.norm.sf(abs(np.diff(area_2)[0]) / se), abs=1e-9)
    # One scan a patient: Obuchowski's variance is DeLong's.
    assert got["se_clustered"] == pytest.approx(se, abs=1e-9) and "independent" in got["note"]


def test_delongs_own_example():
    rows = np.array(OVARIAN.split(), float).reshape(-1, 4)
    positive_N = rows[:, 3] == 1
    scores_3N = np.stack([rows[:, 0], rows[:, 1], 10 - rows[:, 2]])
    unit_N = np.arange(len(rows))
    area_3, place_3P, place_3Q = placements(scores_3N, positive_N)
    cov_33 = covariance(area_3, place_3P, place_3Q, unit_N[positive_N], unit_N[~positive_N])
    # Printed with four digits: albumin, protein, Krebs-Goplerud.
    assert area_3 == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    assert np.sqrt(np.diag(cov_33)) == pytest.approx([0.0927, 0.1000, 0.1028], abs=5e-5)
    contrast = np.array([[1, 0, -1], [0, 1, -1]])
    gap, cov_22 = contrast @ area_3, contrast @ cov_33 @ contrast.T
    assert gap @ np.linalg.solve(cov_22, gap) == pytest.approx(2.5340, abs=5e-5)
    got = delong(scores_3N[2], scores_3N[0], positive_N, unit_N)
    assert (got["difference"], got["se"], got["p_value"]) == pytest.approx((0.0108, 0.0953, 0.9102), abs=5e-5)


def test_clusters_widen_obuchowskis_error_alone():
    probs, truth_N, _, _ = draw(60)
    rows = np.repeat(np.arange(60), 5)
    once = delong(probs[0][:, 1], probs[1][:, 1], truth_N == 1, np.arange(60))
    five = delong(probs[0][rows, 1], probs[1][rows, 1], truth_N[rows] == 1, rows)
    assert five["se_clustered"] == pytest.approx(once["se"], abs=1e-9)  # copies add nothing
    assert five["se"] < 0.5 * once["se"]
    one_patient = delong(probs[0][:, 1], probs[1][:, 1], truth_N == 1, np.where(truth_N == 1, 0, np.arange(60)))
    assert one_patient["se"] is not None and one_patient["se_clustered"] is None
    with pytest.raises(ValueError, match="differ"):
        delong([0.1], [0.2], [True, False], np.arange(2))


def test_mixed_patients_agree_with_a_jackknife_over_patients():
    """Patients with scans of both kinds, where Obuchowski's covariance term matters."""
    rng = np.random.default_rng(0)
    group_of_N = np.repeat(np.arange(120), 8)
    truth_N = rng.integers(0, 2, 960)
    effect_N = rng.normal(size=120)[group_of_N]
    a, b = truth_N + effect_N + 0.5 * rng.normal(size=960), np.zeros(960)
    got = delong(a, b, truth_N == 1, group_of_N)
    left_out = []
    for k in range(120):
        keep = group_of_N != k
        left_out.append(sk.roc_auc_score(truth_N[keep], b[keep]) - sk.roc_auc_score(truth_N[keep], a[keep]))
    assert got["se_clustered"] == pytest.approx(np.sqrt(119 * np.var(left_out)), rel=0.03)
    # An effect that both kinds of scan share cancels in part; told apart, the patients' kinds would not.
    apart = delong(a, b, truth_N == 1, group_of_N + 120 * truth_N)
    assert got["se_clustered"] < 0.9 * apart["se_clustered"]
