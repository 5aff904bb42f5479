import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline.evidence import subgroups
from pipeline.evidence.subgroups import permutation_p, slice_table
from pipeline.measures.holdout_metrics import evaluate
from tests.bench import coverage


def draw(num_scans=240, num_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(0, num_classes, num_scans)
    logit_NC = rng.normal(size=(num_scans, num_classes))
    logit_NC[np.arange(num_scans), truth_N] += 1.5
    prob_NC = np.exp(logit_NC) / np.exp(logit_NC).sum(axis=1, keepdims=True)
    return prob_NC, prob_NC.argmax(axis=1), truth_N, np.arange(num_scans) // 2


def table(args, by, findings=("normal", "a"), num_bootstrap=60, seed=0, **more):
    prob_NC, predicted_N, truth_N, group_of_N = args
    rng = np.random.default_rng(seed)
    rows = slice_table(
        prob_NC,
        predicted_N,
        truth_N,
        findings,
        group_of_N,
        by,
        positive=1 if len(findings) == 2 else None,
        num_bootstrap=num_bootstrap,
        rng=rng,
        **more,
    )
    json.dumps(rows, allow_nan=False)
    return rows


def test_a_row_is_the_evaluation_of_the_slice_alone():
    args = prob_NC, predicted_N, truth_N, group_of_N = draw()
    sex = np.where(group_of_N % 3, "F", "M")
    first, second = table(args, {"sex": sex.tolist()})
    inside_N = sex == "F"
    alone = evaluate(
        prob_NC[inside_N],
        predicted_N[inside_N],
        truth_N[inside_N],
        ["normal", "a"],
        [f"{group:04d}" for group in group_of_N[inside_N]],
        positive=1,
        num_bootstrap=60,
        rng=np.random.default_rng(0),
    )
    for key in ("auroc", "auroc_ci95", "accuracy", "accuracy_ci95", "balanced_accuracy", "num_scans", "num_groups"):
        assert first[key] == pytest.approx(getattr(alone, key), abs=1e-9)
    assert (first["by"], first["slice"], second["slice"]) == ("sex", "F", "M")
    assert first["num_positive"] == truth_N[inside_N].sum() and first["reason"] is None
    gap = (predicted_N == truth_N)[inside_N].mean() - (predicted_N == truth_N)[~inside_N].mean()
    assert first["difference"] == pytest.approx(gap) == pytest.approx(-second["difference"])
    assert first["p_value"] == second["p_value"]  # of two slices each is the other's rest
    # Newcombe's square-and-add of the two sides' intervals.
    low = gap - np.hypot(first["accuracy"] - first["accuracy_ci95"][0], second["accuracy_ci95"][1] - second["accuracy"])
    assert first["difference_ci95"][0] == pytest.approx(low, abs=0.01)


def test_the_slice_where_the_model_fails_is_found_and_the_others_are_not():
    prob_NC, predicted_N, truth_N, group_of_N = draw(600)
    cluster = np.array(list("abcdef"))[np.random.default_rng(1).integers(0, 6, 300)[group_of_N]]
    bad_N = cluster == "d"
    predicted_N = np.where(bad_N, np.random.default_rng(2).integers(0, 2, 600), predicted_N)
    rows = table((prob_NC, predicted_N, truth_N, group_of_N), {"cluster": cluster.tolist()})
    found = {row["slice"]: row for row in rows}
    assert found["d"]["p_holm"] < 0.01 and found["d"]["difference_ci95"][1] < 0
    assert all(row["p_holm"] > 0.05 for name, row in found.items() if name != "d")
    want = multipletests([row["p_value"] for row in rows], method="holm")[1]
    assert [row["p_holm"] for row in rows] == pytest.approx(want.tolist(), abs=1e-12)


def test_slices_that_cannot_be_tested_say_why_and_do_not_count():
    args = draw(200)
    names = ["big"] * 188 + [None] * 6 + [""] * 6
    rows = table(args, {"by": names, "whole": ["x"] * 200, "site": ["one"] * 100 + ["two"] * 100})
    reasons = {(row["by"], row["slice"]): row["reason"] for row in rows}
    assert reasons == {
        ("by", "big"): None,
        ("by", "unknown"): "fewer than 20 scans",
        ("whole", "x"): "no scan outside the slice",
        ("site", "one"): None,
        ("site", "two"): None,
    }
    small, whole = rows[1], rows[2]
    assert small["num_scans"] == 12 and small["accuracy"] is not None and small["difference"] is not None
    assert [small[k] for k in ("accuracy_ci95", "auroc_ci95", "difference_ci95", "p_value", "p_holm")] == [None] * 5
    assert whole["accuracy_ci95"] is not None and whole["difference"] is None and whole["p_value"] is None
    tested = [row["p_value"] for row in rows if row["reason"] is None]
    assert [r["p_holm"] for r in rows if r["reason"] is None] == pytest.approx(multipletests(tested, method="holm")[1])
    one = table((*args[:3], np.r_[np.zeros(100, int), np.arange(1, 101)]), {"site": ["one"] * 100 + ["two"] * 100})
    assert [row["reason"] for row in one] == ["one patient only", None]
    assert one[0]["accuracy_ci95"] is None and one[1]["difference_ci95"] is None and one[1]["p_value"] is not None
    assert table(args, {}) == []


def test_three_findings_and_a_slice_without_one_of_them():
    prob_NC, predicted_N, truth_N, group_of_N = draw(300, 3)
    inside_N = truth_N != 2
    rows = table(
        (prob_NC, predicted_N, truth_N, group_of_N),
        {"by": np.where(inside_N, "in", "out").tolist()},
        ("No Finding", "a", "b"),
    )
    assert rows[0]["num_positive"] == (truth_N == 1).sum() and rows[1]["num_positive"] == (truth_N == 2).sum()
    for row in rows:
        assert row["auroc"] is row["auroc_ci95"] is row["balanced_accuracy"] is None and row["accuracy"] is not None
    unnamed = table((prob_NC, predicted_N, truth_N, group_of_N), {"by": ["x"] * 300}, ("c", "a", "b"))
    assert unnamed[0]["num_positive"] == 300  # no class is called normal: all are cases


def test_a_list_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="240 scans but 3 values of 'sex'"):
        table(draw(), {"sex": ["F"] * 3})


def test_single_scans_give_the_permutation_p_of_the_table():
    """One scan a patient: the exact p of the two-by-two table, by the same distance from the mean."""
    rng = np.random.default_rng(0)
    correct_N, inside_N = (rng.random(60) < 0.8).astype(float), rng.random(60) < 0.4
    wrong = np.arange(61)
    table_p = stats.hypergeom.pmf(wrong, 60, int(60 - correct_N.sum()), int(inside_N.sum()))
    centre = (60 - correct_N.sum()) * inside_N.mean()
    seen = abs((1 - correct_N)[inside_N].sum() - centre)
    want = table_p[np.abs(wrong - centre) >= seen - 1e-9].sum()
    got = permutation_p(correct_N, [inside_N], np.arange(60), rng)[0]
    assert got == pytest.approx(want, abs=4 * np.sqrt(want * (1 - want) / subgroups.NUM_SHUFFLES) + 1e-3)


def test_identical_scans_of_a_patient_count_once():
    rng = np.random.default_rng(3)
    correct_K, inside_K = (rng.random(40) < 0.7).astype(float), np.arange(40) < 20
    once = permutation_p(correct_K, [inside_K], np.arange(40), np.random.default_rng(0))[0]
    rows = np.repeat(np.arange(40), 9)
    nine = permutation_p(correct_K[rows], [inside_K[rows]], rows, np.random.default_rng(0))[0]
    assert nine == pytest.approx(once, abs=0.05) and once > 0.05
    scans = permutation_p(correct_K[rows], [inside_K[rows]], np.arange(360), np.random.default_rng(0))[0]
    assert scans < once / 2


@pytest.mark.parametrize("kind", ["a tenth of the patients", "half of the patients", "half of the scans"])
def test_the_test_keeps_its_level(kind, monkeypatch):
    monkeypatch.setattr(subgroups, "NUM_SHUFFLES", 199)
    ours, naive = coverage.slice_error(40, kind, 400, np.random.default_rng(5))
    assert ours <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)
    assert ours > 0.005  # it can reject
    if kind != "half of the scans":
        assert naive > ours + 0.02


def test_patients_exchange_with_those_of_their_size():
    by_size_K, stratum_K = subgroups._strata(np.array([1] * 12 + [7, 9] + [2] * 15 + [3] * 4))
    sizes = np.array([1] * 12 + [7, 9] + [2] * 15 + [3] * 4)[by_size_K]
    assert (np.diff(sizes) >= 0).all()
    strata = [sorted(set(sizes[stratum_K == s].tolist())) for s in np.unique(stratum_K)]
    assert strata == [[1], [2, 3, 7, 9]]  # six patients of 3, 7 and 9 scans are too few for one of their own
