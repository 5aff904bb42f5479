import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evidence import full
from pipeline.evidence.calibration_slope import fit
from pipeline.evidence.predictive_values import predictive_values
from pipeline.measures.bootstrap import percentile_interval, ranking_interval, share_interval, two_sided_p, wilson
from pipeline.measures.delong import delong
from pipeline.measures.holm import holm

quick = settings(max_examples=40, deadline=None, derandomize=True)
shares = st.floats(0, 1)


@quick
@given(st.integers(2, 4), st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**20))
def test_full_is_always_json_and_every_interval_holds_its_value(num_classes, num_scans, num_groups, seed):
    rng = np.random.default_rng(seed)
    prob_NC = rng.dirichlet(np.ones(num_classes), num_scans).round(1 + seed % 3)
    prob_NC[:, 0] = np.maximum(0, 1 - prob_NC[:, 1:].sum(axis=1))
    prob_NC /= prob_NC.sum(axis=1, keepdims=True)
    truth_N, predicted_N = rng.integers(0, num_classes, (2, num_scans))
    got = full.full(
        prob_NC,
        predicted_N,
        truth_N,
        [f"f{c}" for c in range(num_classes)],
        [f"p{i}" for i in rng.integers(0, num_groups, num_scans)],
        {"by": rng.choice(["x", "y"], num_scans).tolist()},
        positive=1 if num_classes == 2 else None,
        prevalences=(0.05,),
        num_bootstrap=20,
        rng=rng,
    )
    json.dumps(got, allow_nan=False)
    for part in ("operating_points", "predictive_values", "slices"):
        for row in got[part]:
            for name in ("sensitivity", "specificity", "ppv", "npv", "accuracy", "auroc", "difference"):
                interval = row.get(f"{name}_ci95")
                if interval is not None:
                    low = -1 if name == "difference" else 0
                    assert low - 1e-9 <= interval[0] <= row[name] + 1e-9
                    assert row[name] - 1e-9 <= interval[1] <= 1 + 1e-9
    for curve in got["decision_curve"]:
        assert all(p["model"] <= p["threshold"] + 1 and p["none"] == 0 for p in curve["points"])


@quick
@given(shares, st.floats(1, 1e4), st.floats(0.5, 5))
def test_wilson_holds_its_share_and_narrows_with_size(share, size, quantile):
    low, high = wilson(share, size, quantile)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    bigger = wilson(share, size * 2, quantile)
    assert bigger[1] - bigger[0] < high - low


@quick
@given(st.lists(shares, min_size=2, max_size=50), st.integers(2, 100))
def test_intervals_lie_in_the_unit_interval_around_the_value(values, num_groups):
    value = float(np.median(values))
    share = share_interval(value, values, num_groups, num_groups - 1)
    for low, high in (share, ranking_interval(value, values, num_groups)):
        assert 0 <= low <= value <= high <= 1 and high > low


@quick
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=200), st.integers(2, 60))
def test_p_is_a_share_alike_from_both_sides(difference_B, num_groups):
    p = two_sided_p(difference_B, num_groups)
    assert 0 < p <= 1
    assert abs(p - two_sided_p([-d for d in difference_B], num_groups)) < 1e-9
    low, high = percentile_interval(difference_B, num_groups)
    assert min(difference_B) <= low <= high <= max(difference_B)


@quick
@given(st.lists(shares, min_size=1, max_size=30))
def test_holm_never_lowers_a_p_nor_exceeds_bonferroni_and_keeps_the_order(p_values):
    got = holm(p_values)
    assert all(p <= a <= min(1, p * len(p_values)) + 1e-12 for a, p in zip(got, p_values, strict=True))
    by_p = [a for _, a in sorted(zip(p_values, got, strict=True))]
    assert by_p == sorted(by_p)


@quick
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40))
def test_calibration_is_stationary_where_it_is_defined(rows):
    prob_N, positive_N, weight_N = (np.array(x) for x in zip(*rows, strict=True))
    slope_B, intercept_B = fit(prob_N, positive_N, weight_N[None].astype(float))
    x_N = np.log(np.clip(prob_N, 1e-6, 1 - 1e-6) / (1 - np.clip(prob_N, 1e-6, 1 - 1e-6)))
    both = weight_N[positive_N].sum() > 0 and weight_N[~positive_N].sum() > 0
    assert np.isfinite(intercept_B[0]) == both
    if both:
        error_N = positive_N - 1 / (1 + np.exp(-(intercept_B[0] + x_N)))
        assert abs(weight_N @ error_N) < 1e-8 * weight_N.sum()  # as many expected as seen
    assert both or np.isnan(slope_B[0])


@quick
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)
)
def test_delong_turns_around_with_its_models(rows):
    a, b, positive_N, group_of_N = (np.array(x) for x in zip(*rows, strict=True))
    one, other = delong(a, b, positive_N, group_of_N), delong(b, a, positive_N, group_of_N)
    assert (one["first"], one["second"]) == (other["second"], other["first"])
    for name in ("se", "p_value", "se_clustered", "p_value_clustered"):
        assert (one[name] is None) == (other[name] is None)
        assert one[name] is None or abs(one[name] - other[name]) < 1e-9


@quick
@given(shares, shares, st.floats(0.001, 0.5), st.floats(0.001, 0.999))
def test_predictive_values_rise_and_fall_with_prevalence(sensitivity, specificity, width, prevalence):
    point = {"finding": "a", "target": "model"}
    for name, value in (("sensitivity", sensitivity), ("specificity", specificity)):
        point |= {name: value, f"{name}_ci95": [max(0.0, value - width), min(1.0, value + width)]}
    low, high = predictive_values([point], {"a": 0.5}, [prevalence / 2, prevalence])[:2]
    for name, up in (("ppv", 1), ("npv", -1)):
        if low[name] is not None:
            assert up * (high[name] - low[name]) >= -1e-12
            for row in (low, high):
                assert 0 <= row[f"{name}_ci95"][0] <= row[name] + 1e-9
                assert row[name] - 1e-9 <= row[f"{name}_ci95"][1] <= 1
