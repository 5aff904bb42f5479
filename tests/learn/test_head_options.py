"""`train.student_l2`, `pseudo.spread_alpha` and `train.adapt_rounds` change what they say they do."""

import numpy as np
import pytest

from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn.acceptance import Acceptance
from pipeline.rounds import learn_round
from pipeline.rounds.run_scans import Dataset
from pipeline.vectors import clusters
from tests.support.students import student_of
from tests.support.synthetic_run import options, synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("options"), num_scans=200, distance=1.5, rounds__num=3)


def student(run, **changed):
    """The fit of the student on 40 expert labels, nothing admitted."""
    ctx = options(run, **{"pseudo__propagate": 1.0} | changed)
    clusters.run(ctx)  # the neighbour graph
    config = ctx.config
    answers = {i: run.truth[i] for i in run.ids("train")[:40]}
    material = Dataset.open(run.ctx).material(ExpertLabels(answers, answers, {}), set())
    nothing = Acceptance(
        1.0, np.full(2, 0.5), np.full(2, 0.5), np.array([2.0, 2.0]), None, (False, False), config.pseudo
    )
    prob_TC = np.full((len(material.pool_T), 2), 0.5)
    return student_of(material, config, np.ones(40, bool), prob_TC, nothing)


def test_train_student_l2_is_the_penalty_of_the_student_alone(run):
    for penalty in (0.02, 3.0):
        assert student(run, train__student_l2=penalty, train__teacher_l2=7.0).l2 == penalty


def test_pseudo_spread_alpha_is_the_share_that_neighbours_hand_on(run):
    """None: a scan that nobody labelled is told nothing. The more, the further a label reaches and the less it says."""
    spread = []
    for alpha in (0.0, 0.2, 0.9):
        target_LC = student(run, pseudo__spread_alpha=alpha).lesson.target_LC
        spread.append(float(np.ptp(target_LC[(target_LC.max(axis=1) < 1.0)][:, 0])))
    assert spread[0] == pytest.approx(0.0, abs=1e-9) and spread[1] > spread[2] > 0.1


@pytest.mark.parametrize(
    ("adapt", "adapt_rounds", "expected"),
    [
        ("partial", "last", [False, False, True]),
        ("partial", "all", [True, True, True]),
        ("full", "last", [False, False, True]),
        ("head", "all", [False, False, False]),
        ("head", "last", [False, False, False]),
    ],
)
def test_train_adapt_rounds_says_which_rounds_adapt_the_network(run, adapt, adapt_rounds, expected):
    ctx = options(run, train__adapt=adapt, train__adapt_rounds=adapt_rounds)
    assert [learn_round.adapts(ctx, index, set()) for index in (1, 2, 3)] == expected


def test_the_round_after_which_nothing_is_left_to_ask_is_the_last(run):
    ctx = options(run, train__adapt="partial", train__adapt_rounds="last")
    assert learn_round.adapts(ctx, 1, set(run.ids("train"))) is True
