"""Folds that several questions share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.measures.folds import UNKNOWN, grouped_folds, shared_folds


@st.composite
def answers(draw):
    """Patients with one to three scans; each question is answered for some of the scans."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_groups, num_questions = draw(st.integers(6, 40)), draw(st.integers(1, 5))
    group_N = np.repeat(np.arange(num_groups), rng.integers(1, 4, num_groups))
    class_NQ = (rng.random((len(group_N), num_questions)) < rng.uniform(0.1, 0.5, num_questions)).astype(np.int64)
    class_NQ[rng.random(class_NQ.shape) < draw(st.sampled_from([0.0, 0.3, 0.8]))] = UNKNOWN
    return [f"p{g}" for g in group_N], class_NQ, draw(st.sampled_from([3, 5])), rng


@settings(max_examples=150, deadline=None)
@given(answers())
def test_each_question_is_known_in_every_training_part(given_answers):
    groups, class_NQ, num_folds, rng = given_answers
    fold_N = shared_folds(groups, class_NQ, num_folds, rng)
    fold_of_group = {}
    for group, fold in zip(groups, fold_N, strict=True):
        assert fold_of_group.setdefault(group, fold) == fold
    assert len(set(fold_N.tolist())) == num_folds
    for class_N in class_NQ.T:
        for known_N in (class_N != UNKNOWN, class_N == 0, class_N == 1):
            if len({group for group, known in zip(groups, known_N, strict=True) if known}) >= 2:
                assert len(set(fold_N[known_N].tolist())) >= 2


def test_of_one_question_they_are_its_own():
    rng = np.random.default_rng(0)
    groups, class_N = [f"p{i // 2}" for i in range(60)], rng.integers(3, size=60)
    own = grouped_folds(groups, class_N, 5, np.random.default_rng(1))
    np.testing.assert_array_equal(shared_folds(groups, class_N[:, None], 5, np.random.default_rng(1)), own)


def test_a_question_without_answers_has_no_say():
    groups, class_N = [f"p{i}" for i in range(30)], np.arange(30) % 2
    nobody_knows = np.column_stack([class_N, np.full(30, UNKNOWN)])
    own, other = (shared_folds(groups, of, 5, np.random.default_rng(1)) for of in (class_N[:, None], nobody_knows))
    np.testing.assert_array_equal(own, other)


def test_one_patient_cannot_be_held_out_of_anything():
    with pytest.raises(ValueError, match="2 groups"):
        shared_folds(["a", "a"], np.array([[0], [1]]), 5, np.random.default_rng(0))
