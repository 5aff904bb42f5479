import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.measures.certify import checks_needed, estimate_thresholds, lower_bound
from pipeline.measures.folds import grouped_folds
from pipeline.measures.holdout_metrics import evaluate
from pipeline.measures.weighted_metrics import RankOrder

quick = settings(max_examples=60, deadline=None, derandomize=True)


@quick
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40),
)
def test_areas_agree_with_scikit_learn_under_ties_and_weights(rows):
    score, positive, weight = (np.array(x) for x in zip(*rows, strict=True))
    auroc, auprc = RankOrder(score.astype(float), positive).areas(weight[None].astype(float))
    if weight[positive].sum() == 0:
        assert np.isnan(auroc[0]) and np.isnan(auprc[0])
    elif weight[~positive].sum() == 0:
        assert np.isnan(auroc[0]) and abs(auprc[0] - 1) < 1e-12
    else:
        assert abs(auroc[0] - roc_auc_score(positive, score, sample_weight=weight)) < 1e-9
        assert abs(auprc[0] - average_precision_score(positive, score, sample_weight=weight)) < 1e-9


@quick
@given(st.integers(2, 4), st.integers(1, 25), st.integers(0, 2**20))
def test_evaluate_is_always_json_and_every_value_a_share(num_classes, num_scans, seed):
    rng = np.random.default_rng(seed)
    prob_NC = rng.dirichlet(np.ones(num_classes), num_scans)
    truth_N, predicted_N = rng.integers(0, num_classes, (2, num_scans))
    groups = [f"p{i}" for i in rng.integers(0, 6, num_scans)]
    names = [f"f{c}" for c in range(num_classes)]
    got = evaluate(
        prob_NC, predicted_N, truth_N, names, groups, positive=1 if len(names) == 2 else None, num_bootstrap=30, rng=rng
    ).to_json()
    json.dumps(got, allow_nan=False)
    assert np.array(got["confusion"]).sum() == num_scans
    for name in (
        "auroc",
        "auprc",
        "accuracy",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "f1",
        "ece",
    ):
        assert got[name] is None or -1e-9 <= got[name] <= 1 + 1e-9
        interval = got.get(f"{name}_ci95")
        assert interval is None or -1e-9 <= interval[0] <= interval[1] <= 1 + 1e-9


@quick
@given(st.integers(0, 300), st.integers(0, 20), st.sampled_from([0.8, 0.95, 0.97]), st.sampled_from([0.9, 0.99]))
def test_bound_rises_with_agreement_and_stays_under_the_share(correct, wrong, promise, confidence):
    checked = correct + wrong
    bound = lower_bound(correct, checked, confidence)
    assert 0 <= bound <= (correct / checked if checked else 0)
    assert bound <= lower_bound(correct + 1, checked + 1, confidence)
    more = checks_needed(correct, checked, promise, confidence)
    assert lower_bound(correct + more, checked + more, confidence) >= promise
    assert more == 0 or lower_bound(correct + more - 1, checked + more - 1, confidence) < promise


@quick
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=2, max_size=40),
    st.integers(3, 6),
    st.integers(0, 99),
)
def test_folds_keep_groups_whole_and_every_class_in_training(rows, num_folds, seed):
    groups, truth_N = [g for g, _ in rows], np.array([c for _, c in rows])
    if len(set(groups)) < 2:
        return
    fold_N = grouped_folds(groups, truth_N, num_folds, np.random.default_rng(seed))
    assert len({(g, f) for g, f in zip(groups, fold_N, strict=True)}) == len(set(groups))
    assert set(fold_N) == set(range(min(num_folds, len(set(groups)))))
    for c in set(truth_N):
        holders = {g for g, t in zip(groups, truth_N, strict=True) if t == c}
        # Four classes on three folds or more always allow it: their conflicts form no K4. With two groups,
        # two folds exist, one group in each.
        if len(holders) >= 2:
            assert len(set(fold_N[truth_N == c])) >= 2


@quick
@given(st.integers(0, 120), st.integers(0, 2**20), st.sampled_from([0.8, 0.9, 0.97]))
def test_what_a_threshold_accepts_keeps_the_promise_on_the_labels(num_labels, seed, promise):
    rng = np.random.default_rng(seed)
    prob_NC = rng.dirichlet([0.3, 0.3, 0.3], num_labels).round(2).reshape(num_labels, 3)
    truth_N = np.array([rng.choice(3, p=p / p.sum()) for p in prob_NC], dtype=int)
    threshold_C = estimate_thresholds(prob_NC, truth_N, promise=promise)
    stricter_C = estimate_thresholds(prob_NC, truth_N, promise=0.98)
    predicted_N = prob_NC.argmax(axis=1)
    for c in range(3):
        assert 0 < threshold_C[c] <= 1.01 and stricter_C[c] >= threshold_C[c]
        accepted_N = (predicted_N == c) & (prob_NC.max(axis=1) >= threshold_C[c])
        if accepted_N.any():
            assert (truth_N == c)[accepted_N].mean() >= min(promise, 0.9) - 1e-9
            assert accepted_N.sum() >= 10
