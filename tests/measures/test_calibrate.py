import numpy as np
import pytest

from pipeline.measures.calibrate import (
    apply_temperature,
    class_weights,
    estimate_prevalence,
    fit_temperature,
    learning_prior,
    shift_prior,
)
from pipeline.measures.folds import group_index, grouped_folds
from tests.support.call_count import num_calls


def labelled(num_scans, seed=0, spread=2.0):
    """Logits whose softmax is the true posterior."""
    rng = np.random.default_rng(seed)
    logit_NC = rng.normal(size=(num_scans, 3)) * spread
    prob_NC = apply_temperature(logit_NC, 1.0)
    return logit_NC, (rng.random(num_scans)[:, None] > prob_NC.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(temperature):
    logit_NC, truth_N = labelled(5000)
    assert fit_temperature(logit_NC * temperature, truth_N) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 1000.0])
def test_twenty_separable_labels_never_give_certainty(scale):
    truth_N = np.repeat([0, 1], 10)
    logit_NC = np.eye(2)[truth_N] * 2 * scale - scale
    temperature = fit_temperature(logit_NC, truth_N)
    assert 0.25 <= temperature <= 8.0
    if scale <= 10:  # beyond, the clip of T at 8 decides, not the labels
        assert apply_temperature(logit_NC, temperature).max() < 0.9999
    in_reach = fit_temperature(logit_NC / scale * 5, truth_N)
    assert apply_temperature(logit_NC / scale * 5, in_reach).max() < 0.99


def test_useless_logits_are_cooled_and_no_labels_change_nothing():
    rng = np.random.default_rng(0)
    logit_NC, truth_N = rng.normal(size=(400, 2)) * 3, rng.integers(0, 2, 400)
    assert fit_temperature(logit_NC, truth_N) > 5
    assert fit_temperature(np.empty((0, 2)), []) == 1.0
    assert fit_temperature(logit_NC, truth_N, np.zeros(400)) == 1.0


def test_weights_count_as_copies_do_in_direction_but_not_in_strength():
    logit_NC, truth_N = labelled(300)
    weight_N = np.where(truth_N == 0, 3.0, 1.0)
    weighted = fit_temperature(logit_NC, truth_N, weight_N)
    copies = np.repeat(np.arange(300), weight_N.astype(int))
    assert weighted == pytest.approx(fit_temperature(logit_NC[copies], truth_N[copies]), rel=0.03)
    assert fit_temperature(logit_NC, truth_N, weight_N * 100) == pytest.approx(weighted, abs=1e-6)
    assert fit_temperature(logit_NC, truth_N) == fit_temperature(logit_NC, truth_N, np.ones(300))


def test_temperature_keeps_the_ranking():
    logit_NC, _ = labelled(50)
    assert (apply_temperature(logit_NC, 4.0).argmax(axis=1) == logit_NC.argmax(axis=1)).all()
    assert apply_temperature([[1e4, 0.0]], 1.0).tolist() == [[1.0, 0.0]]


def test_a_class_grows_into_its_weight():
    """Nearly its number with few labels, as much as any other with many."""
    truth_N = np.array([0, 0, 0, 1])
    weight_C = class_weights(truth_N, 2)
    assert weight_C[1] / weight_C[0] == pytest.approx(13 / 11)
    assert weight_C[truth_N].sum() == pytest.approx(4)
    assert learning_prior(truth_N, 2) == pytest.approx(weight_C * [3, 1] / 4)
    many_N = np.repeat([0, 1], [9000, 1000])
    assert class_weights(many_N, 2)[many_N].sum() == pytest.approx(10_000)
    assert learning_prior(many_N, 2) == pytest.approx([0.5, 0.5], abs=0.003)
    assert (learning_prior([0, 0, 1], 3) > 0).all() and learning_prior([], 2) == pytest.approx([0.5, 0.5])
    assert class_weights(truth_N, 3)[2] == 0
    assert class_weights([], 2).tolist() == [0, 0]


def test_prevalence_moves_from_the_experts_mix_to_the_uniform_slice():
    assert estimate_prevalence([0, 0], [0, 0]).tolist() == [0.5, 0.5]
    start = estimate_prevalence([0, 0], [5, 15])
    assert start == pytest.approx([0.5 * 0.5 + 0.5 * 6 / 22, 0.5 * 0.5 + 0.5 * 16 / 22])
    late_C = estimate_prevalence([200, 800], [900, 100])
    assert late_C == pytest.approx([0.2, 0.8], abs=0.002)
    assert late_C.sum() == pytest.approx(1) and (estimate_prevalence([0, 0, 9], [0, 0, 9]) > 0).all()


def test_prior_shift_is_bayes_and_can_be_undone():
    prob_NC = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    there = shift_prior(prob_NC, [0.5, 0.5], [0.26, 0.74])
    assert there[0] == pytest.approx([0.26, 0.74])
    assert there[1, 1] == pytest.approx(0.1 * 0.74 / (0.1 * 0.74 + 0.9 * 0.26))
    assert there[2].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(shift_prior(there, [0.26, 0.74], [0.5, 0.5]), prob_NC, atol=1e-12)


def test_prior_shift_restores_calibration():
    rng = np.random.default_rng(0)
    truth_N = (rng.random(40_000) < 0.74).astype(int)
    score_N = rng.normal(size=40_000) + 2 * truth_N
    balanced_N = 1 / (1 + np.exp(-(2 * score_N - 2)))  # posterior where both classes are as frequent
    shifted_N = shift_prior(np.c_[1 - balanced_N, balanced_N], [0.5, 0.5], [0.26, 0.74])[:, 1]
    assert shifted_N.mean() == pytest.approx(truth_N.mean(), abs=0.005)
    near = (shifted_N > 0.6) & (shifted_N < 0.8)
    assert truth_N[near].mean() == pytest.approx(shifted_N[near].mean(), abs=0.02)


def folds(groups, truth, num_folds=5, seed=0):
    fold_N = grouped_folds(groups, truth, num_folds, np.random.default_rng(seed))
    by_group = {}
    for group, fold in zip(groups, fold_N, strict=True):
        assert by_group.setdefault(group, fold) == fold
    assert set(fold_N) == set(range(min(num_folds, len(by_group))))
    return fold_N


def test_folds_are_stratified():
    rng = np.random.default_rng(0)
    patient_N = rng.integers(0, 120, 300)
    truth_N = (rng.random(300) < 0.26).astype(int)
    fold_N = folds([f"p{i}" for i in patient_N], truth_N)
    positives = np.bincount(fold_N, weights=truth_N)
    assert np.ptp(positives) <= 2 and np.ptp(np.bincount(fold_N)) <= 20


def test_folds_repeat_and_ignore_row_order():
    rng = np.random.default_rng(1)
    groups, truth_N = [f"p{i}" for i in rng.integers(0, 30, 80)], rng.integers(0, 3, 80)
    fold_N, order = folds(groups, truth_N), rng.permutation(80)
    assert (folds(groups, truth_N) == fold_N).all()
    assert (folds([groups[i] for i in order], truth_N[order]) == fold_N[order]).all()


def test_few_groups_and_rare_classes():
    assert sorted(folds(["a", "b", "b"], [0, 1, 1])) == [0, 1, 1]
    truth = [0] * 18 + [1, 1]
    fold_N = folds([f"p{i}" for i in range(20)], truth)
    assert fold_N[18] != fold_N[19]
    # Both patients with class 1 are large, so evenness alone might put them together.
    groups = ["big1"] * 40 + ["big2"] * 40 + [f"p{i}" for i in range(6)]
    fold_N = folds(groups, [1, *[0] * 39, 1, *[0] * 39, *[0] * 6], num_folds=2)
    assert fold_N[0] != fold_N[40]


def test_overlapping_rare_classes_are_freed_where_three_folds_allow_it():
    groups, truth = list("aabbcc") + ["d"] * 3, [0, 2, 0, 1, 1, 2, 3, 3, 3]
    fold_N = folds(groups, truth, num_folds=3)
    for c in range(3):
        assert len({f for f, t in zip(fold_N, truth, strict=True) if t == c}) > 1
    folds(groups, truth, num_folds=2)  # a triangle has no such assignment; it must still end


def test_work_grows_with_the_number_of_groups_and_not_with_its_square():
    truth_N = np.random.default_rng(0).integers(0, 3, 2000)
    few, many = (num_calls(lambda num=num: folds(list(range(num)), truth_N[:num])) for num in (200, 2000))
    assert many < 15 * few


def test_group_index_is_sorted_by_name():
    assert group_index(["b", "a", "b"]).tolist() == [1, 0, 1]
    assert group_index(np.array([7, 3])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_temperature([[1.0, np.nan]], [0]), "finite"),
        (lambda: fit_temperature([[1.0]], [0]), "C >= 2"),
        (lambda: fit_temperature([[1.0, 2.0]], [2]), "class indices"),
        (lambda: fit_temperature([[1.0, 2.0]], [0.5]), "integers"),
        (lambda: fit_temperature([[1.0, 2.0]], [0, 1]), "truth"),
        (lambda: fit_temperature([[1.0, 2.0]], [0], [-1.0]), "weights"),
        (lambda: apply_temperature([[1.0, 2.0]], 0.0), "positive"),
        (lambda: class_weights([0, 5], 2), "class indices"),
        (lambda: estimate_prevalence([1, -1], [0, 0]), "negative"),
        (lambda: estimate_prevalence([1, 1], [0, 0, 0]), "counts"),
        (lambda: shift_prior([[0.5, 0.5]], [0.0, 1.0], [0.5, 0.5]), "prior"),
        (lambda: shift_prior([[0.5, 0.5]], [0.5, 0.5], [0.5, 0.6]), "prior"),
        (lambda: shift_prior([[0.0, 0.0]], [0.5, 0.5], [0.5, 0.5]), "row"),
        (lambda: grouped_folds(["a", "a"], [0, 1], 5, np.random.default_rng(0)), "2 groups"),
        (lambda: grouped_folds(["a", "b"], [0, 1], 1, np.random.default_rng(0)), "2 folds"),
        (lambda: grouped_folds(["a", None], [0, 1], 2, np.random.default_rng(0)), "patient group"),
        (lambda: grouped_folds(["a", float("nan")], [0, 1], 2, np.random.default_rng(0)), "patient group"),
        (lambda: grouped_folds(["a"], [0, 1], 2, np.random.default_rng(0)), "truth"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
