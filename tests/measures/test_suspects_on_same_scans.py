"""A reader is compared with the others on the scans she read: on a table of many readers, made and real."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.measures.consensus import overruled_readers, suspect_annotators

NUM_READERS = 17
BAD = 4


def readers_of_three(num_scans, seed, *, num_classes=2, bad_error=None):
    """Ratings (N, 17), three a scan: every reader errs alike, more on hard scans, and the hard ones go to few readers.

    A third of the scans are hard (errors of 25 %, else 2 %); readers 0 to 2 read three in four of them.
    """
    rng = np.random.default_rng(seed)
    hard_N = rng.random(num_scans) < 1 / 3
    favoured_N = np.where(hard_N, rng.random(num_scans) < 0.75, rng.random(num_scans) < 0.02)
    weight_NM = np.where(favoured_N[:, None], np.arange(NUM_READERS) < 3, np.arange(NUM_READERS) > 2) + 1e-9
    rank_NM = (rng.random((num_scans, NUM_READERS)) * weight_NM).argsort(axis=1)[:, ::-1].argsort(axis=1)
    truth_N = (rng.random(num_scans) < 0.3) * 1
    error_NM = np.repeat(np.where(hard_N, 0.25, 0.02)[:, None], NUM_READERS, axis=1)
    if bad_error is not None:
        error_NM[:, BAD] = bad_error
    wrong_NM = rng.random(error_NM.shape) < error_NM
    other_NM = (truth_N[:, None] + rng.integers(1, num_classes, error_NM.shape)) % num_classes
    return np.where(rank_NM < 3, np.where(wrong_NM, other_NM, truth_N[:, None]), -1)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_who_reads_the_hard_scans_is_not_accused_of_it(num_classes):
    rating_NM = readers_of_three(6000, 0, num_classes=num_classes)
    read_NM = rating_NM >= 0
    assert (read_NM.sum(axis=1) == 3).all() and read_NM.sum(axis=0).min() > 200
    # Over the whole pool they do look bad: the others agree with them far less than among themselves.
    agreed_N = np.array([len(set(row[row >= 0])) == 1 for row in rating_NM])
    assert agreed_N[read_NM[:, 0]].mean() < agreed_N[~read_NM[:, :3].any(axis=1)].mean() - 0.3
    assert suspect_annotators(rating_NM, np.arange(6000) // 2) == []


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_bad_one_of_many_is_named_with_the_shares_of_her_own_scans(num_classes):
    rating_NM = readers_of_three(6000, 1, num_classes=num_classes, bad_error=0.3)
    (suspect,) = suspect_annotators(rating_NM, np.arange(6000))
    hers_NM = rating_NM[rating_NM[:, BAD] >= 0]
    others_N2 = np.array([np.delete(row, BAD)[np.delete(row, BAD) >= 0] for row in hers_NM])
    assert (suspect.annotator, suspect.num_scans) == (BAD, len(hers_NM))
    assert suspect.agreement == pytest.approx((others_N2 == hers_NM[:, [BAD]]).mean())
    assert suspect.others == pytest.approx((others_N2[:, 0] == others_N2[:, 1]).mean())


def test_scans_she_did_not_read_change_nothing():
    rating_NM = readers_of_three(3000, 2, bad_error=0.3)
    (before,) = suspect_annotators(rating_NM, np.arange(3000))
    more_NM = np.zeros((4000, NUM_READERS), int)  # easy ones, on which all the others agree
    more_NM[:, BAD] = -1
    with_easy_NM = np.concatenate([rating_NM, more_NM])
    after = [s for s in suspect_annotators(with_easy_NM, np.arange(7000)) if s.annotator == BAD]
    assert after == [before]


def two_and_a_decision(rating_NM, seed=0):
    """The first two of each scan's three readers, by lot, and what the third decides where they differ."""
    rng = np.random.default_rng(seed)
    order_N3 = (np.where(rating_NM >= 0, rng.random(rating_NM.shape), -1)).argsort(axis=1)[:, :-4:-1]
    first_NM = np.full_like(rating_NM, -1)
    np.put_along_axis(first_NM, order_N3[:, :2], np.take_along_axis(rating_NM, order_N3[:, :2], axis=1), axis=1)
    said_N3 = np.take_along_axis(rating_NM, order_N3, axis=1)
    return first_NM, np.where(said_N3[:, 0] != said_N3[:, 1], said_N3[:, 2], -1)


def test_two_readings_and_a_decision_name_the_bad_one_and_not_who_reads_the_hard_scans():
    rating_NM = readers_of_three(9000, 1, bad_error=0.3)
    first_NM, decision_N = two_and_a_decision(rating_NM)
    assert suspect_annotators(first_NM, np.arange(9000)) == []  # of two who differ, either may be right
    rows = overruled_readers(first_NM, decision_N, np.arange(9000))
    assert [row.annotator for row in rows if row.stands_out] == [BAD] and len(rows) == NUM_READERS
    bad = rows[BAD]
    assert bad.num_scans == (first_NM[:, BAD] >= 0).sum() and bad.share > bad.others + 0.15
    good = overruled_readers(*two_and_a_decision(readers_of_three(9000, 2)), np.arange(9000))
    assert not any(row.stands_out for row in good)


def vinbig_table():
    spec = find_spec("torchxrayvision")
    path = Path(spec.origin).parent / "data" / "vinbigdata-train.csv.gz" if spec and spec.origin else None
    return path if path is not None and path.is_file() else None


@pytest.mark.skipif(vinbig_table() is None, reason="needs the package torchxrayvision, for its table of readings")
def test_real_readings_of_seventeen_radiologists():
    """15,000 scans of VinBig, each read by three: one reader stands out on one finding; over all scans 11 did."""
    with gzip.open(vinbig_table()) as stream:
        table = pd.read_csv(stream, usecols=["image_id", "rad_id", "class_name"])
    row_K, ids = pd.factorize(table["image_id"], sort=True)
    column_K, names = pd.factorize(table["rad_id"], sort=True)
    assert (len(ids), len(names)) == (15_000, NUM_READERS)
    named = []
    for finding in sorted(set(table["class_name"])):
        rating_NM = np.full((len(ids), len(names)), -1)
        rating_NM[row_K, column_K] = 0
        shown_K = (table["class_name"] == finding).to_numpy()
        rating_NM[row_K[shown_K], column_K[shown_K]] = 1
        found = suspect_annotators(rating_NM, np.arange(len(ids)))
        named += [(finding, names[suspect.annotator], suspect.num_scans) for suspect in found]
    assert named == [("Pleural thickening", "R9", 6125)]
