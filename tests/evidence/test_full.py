import json

import numpy as np
import pytest

from pipeline.evidence import full as evidence_full
from pipeline.measures import holdout_metrics

PARTS = ["overall", "operating_points", "predictive_values", "calibration", "decision_curve", "slices"]


def draw(num_scans, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(0, num_classes, num_scans)
    logit_NC = rng.normal(size=(num_scans, num_classes))
    logit_NC[np.arange(num_scans), truth_N] += 1.3
    prob_NC = np.exp(logit_NC) / np.exp(logit_NC).sum(axis=1, keepdims=True)
    names = ["normal", "a", "b"][:num_classes]
    return prob_NC, prob_NC.argmax(1), truth_N, names, [f"p{i // 2}" for i in range(num_scans)]


def full(args, slices, seed=0, prevalences=(0.01, 0.1), num_bootstrap=40):
    rng = np.random.default_rng(seed)
    got = evidence_full.full(
        *args,
        slices,
        positive=1 if len(args[3]) == 2 else None,
        prevalences=prevalences,
        num_bootstrap=num_bootstrap,
        rng=rng,
    )
    assert list(got) == PARTS
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    return got


@pytest.mark.parametrize("num_classes", [2, 3])
def test_all_parts_speak_of_the_same_scans(num_classes):
    args = draw(120, num_classes)
    got = full(args, {"sex": ["F", "M"] * 60})
    alone = holdout_metrics.evaluate(
        *args, positive=1 if len(args[3]) == 2 else None, num_bootstrap=40, rng=np.random.default_rng(0)
    )
    assert got["overall"] == alone.to_json()  # to the bit, whatever follows
    listed = args[3][1:] if num_classes == 2 else args[3]
    for part in ("calibration", "decision_curve"):
        assert [row["finding"] for row in got[part]] == listed
    assert {row["finding"] for row in got["operating_points"]} == set(listed)
    for row in got["operating_points"]:
        if row["target"] == "model":
            per_class = alone.per_class[row["finding"]]
            for name in ("sensitivity", "specificity"):
                assert row[name] == pytest.approx(getattr(per_class, name), abs=1e-12)
    for row in got["predictive_values"]:
        if row["of"] == "holdout":
            assert row["ppv"] == pytest.approx(alone.per_class[row["finding"]].precision, abs=1e-12)
    assert [row["slice"] for row in got["slices"]] == ["F", "M"]
    assert len(got["predictive_values"]) == 3 * len(listed)


def test_the_same_seed_gives_the_same_bytes():
    args = draw(60, 2)
    once, twice = (json.dumps(full(args, {"view": ["PA", "AP", "LL"] * 20}, seed=3)) for _ in range(2))
    assert once == twice != json.dumps(full(args, {"view": ["PA", "AP", "LL"] * 20}, seed=4))


@pytest.mark.parametrize(
    "change",
    [
        {"truth_N": np.zeros(20, int)},
        {"truth_N": np.ones(20, int)},
        {"groups": ["one"] * 20},
        {"prob_NC": np.full((20, 2), 0.5)},
        {"prob_NC": np.eye(2)[np.arange(20) % 2]},
    ],
)
def test_poor_holdouts_have_gaps_and_no_errors(change):
    prob_NC, predicted_N, truth_N, names, groups = draw(20, 2, seed=1)
    got = full(
        (
            change.get("prob_NC", prob_NC),
            predicted_N,
            change.get("truth_N", truth_N),
            names,
            change.get("groups", groups),
        ),
        {"sex": ["F"] * 20, "age": ["old"] * 19 + [None]},
    )
    if "groups" in change:
        assert got["calibration"][0]["slope_ci95"] is None and got["calibration"][0]["slope"] is not None
        assert all(row["sensitivity_ci95"] is None for row in got["operating_points"])


def test_no_replicates_leave_the_values():
    got = full(draw(50, 2), {"sex": ["F", "M"] * 25}, num_bootstrap=0)
    assert got["overall"]["auroc"] is not None and got["overall"]["auroc_ci95"] is None
    assert got["calibration"][0]["slope"] is not None and got["calibration"][0]["slope_ci95"] is None
    assert all(point["ci95"] is None for point in got["decision_curve"][0]["points"])
    assert got["slices"][0]["accuracy_ci95"] is None


def test_bad_input_is_refused():
    args = draw(20, 2)
    with pytest.raises(ValueError, match="prevalence"):
        full(args, {}, prevalences=(1.5,))
    with pytest.raises(ValueError, match="values of 'sex'"):
        full(args, {"sex": ["F"]})
    with pytest.raises(ValueError, match="groups"):
        full((*args[:4], ["p"]), {})
