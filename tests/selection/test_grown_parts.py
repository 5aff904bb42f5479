"""What a part of a grown pool lacks of its share of labels, and which of its scans come first."""

import numpy as np

from pipeline.contracts.config import StrategyConfig
from pipeline.selection import grown_parts
from pipeline.selection.pool import SelectionPool


def test_a_part_is_owed_its_share_of_all_labels():
    part_N = np.repeat([0, 1, 2], [60, 30, 10])
    labelled_N = np.zeros(100, bool)
    labelled_N[:20] = True
    assert grown_parts.missing(part_N, labelled_N, 20).tolist() == [0, 12, 4]
    labelled_N[60:80] = True
    assert grown_parts.missing(part_N, labelled_N, 20).tolist() == [0, 0, 6]
    assert grown_parts.missing(part_N, labelled_N, 1000).tolist() == [0, 10, 10]  # no more than there are scans


def test_the_runs_own_pool_is_owed_nothing():
    assert grown_parts.missing(np.zeros(10, int), np.zeros(10, bool), 5).tolist() == [0]


def pool(unit_ND, candidate_N):
    num = len(unit_ND)
    return SelectionPool(
        ids_N=np.array([f"{i:03d}" for i in range(num)]),
        unit_ND=unit_ND,
        labelled_N=~candidate_N,
        candidate_N=candidate_N,
        group_N=np.arange(num),
        config=StrategyConfig(),
    )


def test_the_half_least_like_the_parts_before_is_kept():
    angle_N = np.concatenate([np.zeros(20), np.linspace(0, np.pi / 2, 10)])
    unit_ND = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1).astype(np.float32)
    part_N = np.repeat([0, 1], [20, 10])
    candidate_N = np.ones(30, bool)
    candidate_N[29] = False  # answered
    kept = grown_parts.least_alike(pool(unit_ND, candidate_N), part_N, 1, num=2)
    assert np.flatnonzero(kept.candidate_N).tolist() == [24, 25, 26, 27, 28]
    many = grown_parts.least_alike(pool(unit_ND, candidate_N), part_N, 1, num=7)
    assert many.candidate_N.sum() == 7
