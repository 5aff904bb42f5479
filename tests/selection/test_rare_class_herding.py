"""While a rare class has few labels the default looks far out; otherwise it is Uncertainty Herding."""

import numpy as np
import pytest

from pipeline.selection import strategies
from pipeline.selection.strategies import rare_class_herding
from pipeline.vectors.matrix import unit_rows
from tests.support.selection_pools import pool_of, positions, probabilities

NUM, RARE = 300, 6


def crowd():
    """Most scans lie in three broad crowds; the last six, another class, in a direction of their own."""
    rng = np.random.default_rng(4)
    emb_ND = np.eye(12)[rng.integers(3, size=NUM)] + 0.25 * rng.normal(size=(NUM, 12))
    emb_ND[-RARE:] = np.eye(12)[7] + 0.4 * rng.normal(size=(RARE, 12))
    return unit_rows(emb_ND)


def asked(labels, num=10, name="rare_class_herding", **more):
    """Picks where the scans in `labels` have these classes, under a classifier that is nowhere sure."""
    class_N = np.full(NUM, -1)
    class_N[list(labels)] = list(labels.values())
    lengths = {} if name == "core_set" else {"length_N": np.random.default_rng(9).uniform(0.5, 1.5, NUM)}
    given = {"labelled": list(labels), "class_N": class_N, "prob_NC": probabilities(NUM, 2), **lengths, **more}
    return positions(strategies.get(name)(pool_of(crowd(), **given), num, np.random.default_rng(0)))


def of(*num_labels):
    """So many labels of each class, on the common scans."""
    classes = [c for c, num in enumerate(num_labels) for _ in range(num)]
    return dict(enumerate(classes))


def num_rare(picks):
    return sum(row >= NUM - RARE for row in picks)


def test_a_rare_class_is_found_far_out():
    assert num_rare(asked(of(20))) >= 3 > num_rare(asked(of(20), name="uncertainty_herding"))
    assert asked(of(20), length_N=None) == asked(of(20), name="core_set") != asked(of(20))


def plain_and_outstanding(middle=0.1):
    """Lengths of a crowd whose first scans lie near the middle of the pool; the last, of another class, stand out."""
    length_N = np.full(NUM, middle)
    length_N[-RARE:] = 1.0
    return length_N


def test_scans_that_stand_out_are_asked_for_beside_those_in_a_direction_of_their_own():
    """By angle alone, scans that hardly differ from the mean lie as far apart as those that stand out."""
    rng = np.random.default_rng(2)
    ball_ND = unit_rows(rng.normal(size=(NUM, 12)))
    ball_ND[-RARE:] = unit_rows(np.eye(12)[7] + 0.6 * rng.normal(size=(RARE, 12)))
    class_N = np.where(np.arange(NUM) < 20, 0, -1)
    given = {"labelled": range(20), "class_N": class_N, "prob_NC": probabilities(NUM, 2)}
    by_angle, in_turn = (
        positions(rare_class_herding.select(pool_of(ball_ND, length_N=length_N, **given), 10, np.random.default_rng(0)))
        for length_N in (None, plain_and_outstanding())
    )
    assert num_rare(in_turn) > num_rare(by_angle)
    assert in_turn[0] == by_angle[0] and in_turn[1] >= NUM - RARE > by_angle[1]


def test_queues_of_a_single_scan_take_turns_as_well():
    labels = of(20)
    for _ in range(12):
        [row] = asked(labels, num=1, length_N=plain_and_outstanding())
        labels[row] = int(row >= NUM - RARE)
        if labels[row]:
            break
    assert row >= NUM - RARE and len(labels) <= 22  # the second looks by distance


def test_scans_as_far_from_the_middle_as_each_other_are_told_apart_by_their_angles():
    assert asked(of(20), length_N=np.full(NUM, 7.0)) == asked(of(20), name="core_set")


@pytest.mark.parametrize("length_N", [np.zeros(NUM), plain_and_outstanding(middle=0.0)], ids=["all", "most"])
def test_scans_in_the_very_middle_are_asked_for_as_well(length_N):
    assert len(set(asked(of(20), num=50, length_N=length_N))) == 50


@pytest.mark.parametrize(
    "labels",
    [{}, of(15, 5), of(100), of(16, 4), of(8, 1)],
    ids=["no label", "enough of each", "no hope any more", "few, not rare", "one of nine"],
)
def test_otherwise_it_is_uncertainty_herding(labels):
    assert asked(labels) == asked(labels, name="uncertainty_herding")


@pytest.mark.parametrize(
    "labels", [of(99), of(30, 4), of(18, 2)], ids=["the last hope", "one too few", "just rare enough"]
)
def test_the_edges_of_the_rule(labels):
    assert asked(labels, length_N=None) == asked(labels, name="core_set")
    assert asked(labels) != asked(labels, name="uncertainty_herding")


@pytest.mark.parametrize(
    ("labels", "more", "said"),
    [
        ({}, {"prob_NC": None}, "there is no classifier yet; this queue is chosen as by max_herding"),
        (
            of(20),
            {},
            "a class is rare and has fewer than 5 labels; this queue is chosen as by core_set, by angle and by",
        ),
        (
            of(20),
            {"length_N": None},
            "a class is rare and has fewer than 5 labels; this queue is chosen as by core_set",
        ),
    ],
)
def test_the_log_names_what_was_asked_for_what_was_used_and_why(caplog, labels, more, said):
    with caplog.at_level("INFO"):
        asked(labels, **more)
    assert f"rare_class_herding: {said}" in caplog.text
    assert "uncertainty_herding" not in caplog.text


@pytest.mark.parametrize("labels, is_sought", [(of(22, 2), True), (of(*[3] * 8), False)], ids=["rare", "even"])
def test_a_class_of_its_even_share_is_not_rare(labels, is_sought):
    class_N = np.full(NUM, -1)
    class_N[list(labels)] = list(labels.values())
    prob_NC = probabilities(NUM, max(labels.values()) + 1)
    pool = pool_of(crowd(), labelled=labels, class_N=class_N, prob_NC=prob_NC)
    assert rare_class_herding.lacks_a_class(pool) == is_sought


def test_independent_findings_are_not_sought():
    pool = pool_of(crowd(), labelled=range(20), exclusive=False, prob_NC=probabilities(NUM, 2))
    assert not rare_class_herding.lacks_a_class(pool)
