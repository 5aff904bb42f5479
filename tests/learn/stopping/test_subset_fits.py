"""Heads on growing subsets: whole patients, inside each other, and never scored on what they learned from."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.heads.head import Problem
from pipeline.learn.heads.training import train_loop
from pipeline.learn.stopping import subset_fits
from pipeline.learn.stopping.subset_fits import SHARES, Labels
from pipeline.measures import calibrate

NUM = 60


def labels(seed=0, num=NUM, classes=2, distance=2.0, scans_per_patient=2):
    rng = np.random.default_rng(seed)
    class_E = np.arange(num) // scans_per_patient % classes
    x_EP = rng.normal(size=(num, 6)).astype(np.float32)
    x_EP[np.arange(num), class_E] += distance
    return Labels(x_EP, class_E, [f"p{i // scans_per_patient}" for i in range(num)], classes)


def test_subsets_grow_inside_each_other_by_whole_patients():
    given = labels(classes=3)
    rows = np.arange(12, NUM)
    subsets = subset_fits.nested_subsets(given, rows, np.random.default_rng(3))
    assert [len(subset) for subset in subsets] == [round(share * NUM) for share in SHARES]
    for smaller, larger in itertools.pairwise(subsets):
        assert set(smaller) < set(larger) <= set(rows)
    for subset in subsets:
        inside = {given.group_E[row] for row in subset}
        assert [row for row in rows if given.group_E[row] in inside] == subset.tolist()
        share_C = np.bincount(given.class_E[subset], minlength=3) / len(subset)
        assert np.abs(share_C - 1 / 3).max() < 0.2


def test_a_scan_is_scored_by_heads_that_did_not_see_its_patient():
    """With every label flipped at random and features that name the patient, only leaking heads could be right."""
    rng = np.random.default_rng(1)
    groups = [f"p{i // 4}" for i in range(80)]
    class_E = np.repeat(rng.integers(2, size=20), 4)
    x_EP = 5.0 * np.repeat(np.eye(20), 4, axis=0).astype(np.float32)
    draw = subset_fits.fit_draw(Labels(x_EP, class_E, groups, 2), TrainConfig(), seed=0)
    assert (draw.prob_SEC[-1].argmax(1) == class_E).mean() < 0.75
    for group in set(groups):
        assert len(set(draw.fold_E[[i for i, g in enumerate(groups) if g == group]])) == 1


def test_more_labels_are_better_where_there_is_something_to_learn():
    scores = []
    for seed in range(4):
        given = labels(seed, num=120, distance=1.5)
        draw = subset_fits.fit_draw(given, TrainConfig(), seed)
        scores.append([(prob_EC.argmax(1) == given.class_E).mean() for prob_EC in draw.prob_SEC])
    means = np.mean(scores, axis=0)
    assert means[-1] > means[0] and means[-1] > 0.75


def test_the_same_seed_gives_the_same_draw():
    first, again, other = (subset_fits.fit_draw(labels(), TrainConfig(), seed) for seed in (5, 5, 6))
    assert first.prob_SEC.tobytes() == again.prob_SEC.tobytes()
    assert first.fold_E.tolist() != other.fold_E.tolist()


def test_a_subset_of_one_class_says_nothing_of_any_scan():
    x_EP, class_E = np.eye(40), np.array([0] * 36 + [1] * 4)
    given = Labels(x_EP, class_E, [f"p{i}" for i in range(40)], 2)
    prob_NC = subset_fits._probabilities(x_EP, given, np.arange(8), np.arange(40) > 30, 10.0)
    assert (prob_NC == 0.5).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_that_of_the_rounds(classes):
    given = labels(classes=classes)
    config = TrainConfig()
    weight_L = calibrate.class_weights(given.class_E, classes)[given.class_E]
    problem = Problem(given.x_EP, np.eye(classes)[given.class_E], weight_L, config.teacher_l2)
    logit_EC = train_loop(problem, config, 0).logits(given.x_EP)
    weight_CP, bias_C = subset_fits.fit_head(given.x_EP, given.class_E, classes, config.teacher_l2)
    mine_EC = given.x_EP @ weight_CP.T + bias_C
    np.testing.assert_allclose(softmax(mine_EC, axis=1), softmax(logit_EC, axis=1), atol=2e-3)


def test_a_class_without_a_label_is_never_called():
    given = labels(classes=2)
    weight_CP, bias_C = subset_fits.fit_head(given.x_EP, given.class_E * 2, 3, 10.0)
    assert (given.x_EP @ weight_CP.T + bias_C).argmax(1).tolist().count(1) == 0


def test_in_their_own_span_heads_are_the_same():
    x_EP = np.random.default_rng(0).normal(size=(12, 40))
    turned = subset_fits._in_own_span(x_EP)
    assert turned.shape == (12, 12)
    np.testing.assert_allclose(turned @ turned.T, x_EP @ x_EP.T, atol=1e-9)
