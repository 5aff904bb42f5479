"""What a part of a grown pool lacks of its share of labels, and which of its scans come first."""

import numpy as np

from pipeline.contracts.options.labelling import StrategyConfig
from pipeline.selection import grown_parts
from pipeline.selection.pictures import Pictures
from pipeline.selection.pool import SelectionPool


def lacking(part_N, labelled_N, budget, *, first_N=None, askable_N=None):
    first_N = np.ones(len(part_N), bool) if first_N is None else first_N
    pictures = Pictures(first_N, labelled_N, first_N & ~labelled_N if askable_N is None else askable_N)
    return grown_parts.missing(part_N, pictures, budget).tolist()


def test_a_part_is_owed_its_share_of_all_labels():
    part_N = np.repeat([0, 1, 2], [60, 30, 10])
    labelled_N = np.zeros(100, bool)
    labelled_N[:20] = True
    assert lacking(part_N, labelled_N, 20) == [0, 12, 4]
    labelled_N[60:80] = True
    assert lacking(part_N, labelled_N, 20) == [0, 0, 6]
    assert lacking(part_N, labelled_N, 1000) == [0, 10, 10]  # no more than there are scans


def test_a_part_is_not_owed_copies_of_other_scans():
    part_N = np.repeat([0, 1], [60, 40])
    first_N = np.arange(100) < 70  # 30 of part 1 show pictures of part 0
    assert lacking(part_N, np.zeros(100, bool), 70, first_N=first_N) == [0, 10]


def test_a_part_is_owed_no_more_than_may_be_asked():
    part_N = np.repeat([0, 1], [60, 40])
    askable_N = np.arange(100) < 63
    assert lacking(part_N, np.zeros(100, bool), 20, askable_N=askable_N) == [0, 3]


def test_the_runs_own_pool_is_owed_nothing():
    assert lacking(np.zeros(10, int), np.zeros(10, bool), 5) == [0]


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
