import warnings

import krippendorff
import numpy as np
import pytest
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from pipeline.measures.agreement import intra, overall, pairwise
from tests.bench import consensus as bench


def raters(num_scans, num_readers, num_classes, error, seed=0):
    rng = np.random.default_rng(seed)
    truth_N1 = rng.integers(0, num_classes, (num_scans, 1))
    guess_NM = rng.integers(0, num_classes, (num_scans, num_readers))
    return np.where(rng.random((num_scans, num_readers)) < error, guess_NM, truth_N1)


def gaps(rating_NM, share, seed=1):
    return np.where(np.random.default_rng(seed).random(rating_NM.shape) < share, -1, rating_NM)


def all_of(rating_NM, num_classes, num_bootstrap=0, group_N=None, seed=0):
    group_N = np.arange(len(rating_NM)) if group_N is None else group_N
    return overall(rating_NM, group_N, num_classes, num_bootstrap, np.random.default_rng(seed))


@pytest.mark.parametrize(("num_readers", "num_classes", "error"), [(2, 2, 0.2), (3, 3, 0.5), (5, 4, 0.9)])
def test_kappas_are_those_of_statsmodels_and_krippendorff(num_readers, num_classes, error):
    rating_NM = raters(60, num_readers, num_classes, error)
    found = all_of(rating_NM, num_classes)
    assert found.fleiss.value == pytest.approx(fleiss_kappa(aggregate_raters(rating_NM)[0]), abs=1e-12)
    alpha = krippendorff.alpha(rating_NM.T.astype(float), level_of_measurement="nominal")
    assert found.krippendorff.value == pytest.approx(alpha, abs=1e-12)
    assert set(found.pairs) == {(a, b) for b in range(num_readers) for a in range(b)}
    for (a, b), pair in found.pairs.items():
        table_CC = np.zeros((num_classes, num_classes))
        np.add.at(table_CC, (rating_NM[:, a], rating_NM[:, b]), 1)
        assert pair.kappa.value == pytest.approx(cohens_kappa(table_CC).kappa, abs=1e-12)
        assert pair.share.value == pytest.approx((rating_NM[:, a] == rating_NM[:, b]).mean(), abs=1e-12)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_missing_readings(share):
    rating_NM = gaps(raters(80, 4, 3, 0.4), share)
    found = all_of(rating_NM, 3)
    with_nan = np.where(rating_NM < 0, np.nan, rating_NM)
    alpha = krippendorff.alpha(with_nan.T, level_of_measurement="nominal")
    assert found.krippendorff.value == pytest.approx(alpha, abs=1e-12)
    # Fleiss' kappa and the share by their definitions, one scan at a time.
    agreeing, class_share, num_readings = [], [], 0
    for row in rating_NM:
        read = row[row >= 0]
        if len(read) > 1:
            pairs = [x == y for i, x in enumerate(read) for j, y in enumerate(read) if i != j]
            agreeing.append(np.mean(pairs))
            class_share.append(np.bincount(read, minlength=3) / len(read))
            num_readings += len(read)
    chance = np.square(np.mean(class_share, axis=0)).sum()
    assert found.share.value == pytest.approx(np.mean(agreeing), abs=1e-12)
    assert found.fleiss.value == pytest.approx((np.mean(agreeing) - chance) / (1 - chance), abs=1e-12)
    assert (found.fleiss.num_scans, found.fleiss.num_readings) == (len(agreeing), num_readings)
    both_N = (rating_NM[:, [1, 3]] >= 0).all(axis=1)
    pair = found.pairs[1, 3]
    assert pair.kappa.num_scans == both_N.sum() and pair.kappa.num_readings == 2 * both_N.sum()
    assert pair.share.value == pytest.approx((rating_NM[both_N, 1] == rating_NM[both_N, 3]).mean())


def test_a_class_nobody_named_and_unread_scans_change_nothing():
    rating_NM = raters(40, 3, 2, 0.4)
    longer_NM = np.concatenate([rating_NM, np.full((9, 3), -1), [[0, -1, -1]]])
    patients = np.arange(50) % 17
    plain, longer = all_of(rating_NM, 2, 50, patients[:40]), all_of(longer_NM, 5, 50, patients)
    assert longer.fleiss.value == pytest.approx(plain.fleiss.value, abs=1e-12)
    assert longer.krippendorff.ci95 == pytest.approx(plain.krippendorff.ci95, abs=1e-12)
    assert longer.share.num_groups == 17 and longer.share.num_scans == 40


def test_the_interval_holds_the_value_and_narrows_with_patients():
    widths = []
    for num_scans in (40, 400):
        found = all_of(raters(num_scans, 3, 3, 0.3), 3, 300)
        measures = [found.share, found.fleiss, found.krippendorff]
        measures += [m for pair in found.pairs.values() for m in (pair.share, pair.kappa)]
        assert all(m.ci95[0] < m.value < m.ci95[1] <= 1 for m in measures)
        widths.append([m.ci95[1] - m.ci95[0] for m in measures])
    assert (np.array(widths[1]) < np.array(widths[0]) / 2).all()


def test_with_many_patients_the_interval_is_that_of_plain_percentiles():
    rating_N3, group_N = bench.readings(600, 0.1, 0.3, np.random.default_rng(0))
    low, high = bench.percentiles(rating_N3[:, :2], group_N, np.random.default_rng(0))
    kappa = pairwise(rating_N3[:, :2], group_N, 2, 2000, np.random.default_rng(0))[0, 1].kappa
    assert kappa.ci95 == pytest.approx([low, high], abs=0.15 * (high - low))


def test_scans_of_one_patient_are_not_independent():
    # Every scan five times, as of one patient: the same value, and an interval as if each were there once.
    rating_NM = raters(50, 2, 2, 0.4)
    five_NM, patient_N = np.repeat(rating_NM, 5, axis=0), np.repeat([f"p{i:02}" for i in range(50)], 5)
    once, five = all_of(rating_NM, 2, 400), all_of(five_NM, 2, 400, patient_N)
    naive = all_of(five_NM, 2, 400)
    assert five.fleiss.value == pytest.approx(once.fleiss.value)
    assert five.fleiss.ci95 == pytest.approx(once.fleiss.ci95)
    width, honest = (m.ci95[1] - m.ci95[0] for m in (naive.fleiss, five.fleiss))
    assert width < 0.6 * honest and five.share.num_groups == 50


def test_readers_who_never_differ_do_not_get_a_point():
    rating_NM = np.tile([[0, 0], [1, 1]], (15, 1))
    pair = all_of(rating_NM, 2, 100).pairs[0, 1]
    assert pair.kappa.value == 1 and pair.kappa.ci95[1] == 1 and 0.6 < pair.kappa.ci95[0] < 0.9
    rare_NM = np.zeros((30, 2), int)
    rare_NM[:2] = 1  # two rare scans say little of a kappa
    rare = all_of(rare_NM, 2, 100).pairs[0, 1]
    assert rare.kappa.value == 1 and rare.share.ci95 == pytest.approx(pair.share.ci95)
    assert rare.kappa.ci95[0] < 0.3


@pytest.mark.parametrize(
    ("rating_NM", "share"),
    [
        (np.full((5, 3), -1), None),  # nothing read
        (np.zeros((0, 2), int), None),  # nothing there
        (np.zeros((5, 1), int), None),  # one annotator
        (np.zeros((5, 0), int), None),  # none
        (np.array([[0, -1], [-1, 1], [1, -1]]), None),  # no scan in common
        (np.zeros((6, 2), int), 1.0),  # one class alone: they agree, but no kappa
    ],
)
def test_what_cannot_be_said_is_none_without_a_warning(rating_NM, share):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = all_of(rating_NM, 2, 50)
    assert found.share.value == share and (found.share.ci95 is None) == (share is None)
    assert found.fleiss.value is None is found.fleiss.ci95
    assert found.krippendorff.value is None is found.krippendorff.ci95
    assert all(pair.kappa.value is None is pair.kappa.ci95 for pair in found.pairs.values())


def test_one_patient_or_no_replicates_gives_a_value_without_interval():
    rating_NM = raters(30, 2, 2, 0.4)
    alone, none = all_of(rating_NM, 2, 100, np.zeros(30)), all_of(rating_NM, 2, 0)
    assert alone.fleiss.value == none.fleiss.value is not None
    assert alone.fleiss.ci95 is none.fleiss.ci95 is None


def test_readers_who_always_differ():
    pair = all_of(np.tile([[0, 1], [1, 0]], (10, 1)), 2, 100).pairs[0, 1]
    assert pair.kappa.value == pytest.approx(-1) and pair.share.value == 0
    assert pair.kappa.ci95[0] == pytest.approx(-1) and -1 < pair.kappa.ci95[1] < -0.5


def test_an_annotator_with_herself():
    first_P, later_P = np.array([0, 1, 1, 0, 2, -1, 1, 0]), np.array([0, 1, 0, 0, 2, 1, 1, 1])
    who_P = np.array([4, 4, 4, 4, 7, 7, 7, 9])
    found = intra(first_P, later_P, who_P, np.arange(8), 3, 50, np.random.default_rng(0))
    assert sorted(found) == [4, 7, 9]
    assert found[4].share.value == 0.75 and found[4].kappa.value == pytest.approx(0.5)
    assert found[7].share.num_scans == 2 and found[7].kappa.value == 1  # what named no class is left out
    assert found[9].kappa.value == 0 and found[9].share.value == 0 and found[9].share.ci95 is None
    nothing = np.zeros(0, int)
    assert intra(nothing, nothing, nothing, nothing, 3, 50, np.random.default_rng(0)) == {}


def test_the_same_generator_gives_the_same_intervals():
    rating_NM = gaps(raters(60, 3, 3, 0.3), 0.3)
    group_N = np.arange(60) // 2
    assert all_of(rating_NM, 3, 100, group_N) == all_of(rating_NM, 3, 100, group_N)
    assert all_of(rating_NM, 3, 100, group_N) != all_of(rating_NM, 3, 100, group_N, seed=1)
    pairs = pairwise(rating_NM, group_N, 3, 100, np.random.default_rng(0))
    assert {p: two.kappa.value for p, two in pairs.items()} == {
        p: two.kappa.value for p, two in all_of(rating_NM, 3).pairs.items()
    }


def test_what_is_no_rating_is_refused():
    ok = np.zeros((4, 2), int)
    for rating, group in ((ok + 3, range(4)), (ok - 2, range(4)), (ok * 0.5, range(4)), (ok, range(3)), (ok[0], [0])):
        with pytest.raises(ValueError, match="must be"):
            overall(rating, list(group), 3, 0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="first and"):
        intra(ok[:, 0], ok[:3, 0], ok[:, 0], ok[:, 0], 3, 0, np.random.default_rng(0))


def test_intervals_cover_where_plain_percentiles_do_not(monkeypatch):
    """A short form of the bench: kappa .8 of 30 patients; nominal 95."""
    monkeypatch.setattr(bench, "NUM_COVERAGE", 200)
    cell = bench.coverage_row(30, 0.5, 0.8, np.random.default_rng(3)).split(" | ")
    ours, plain = map(float, cell[3].split(" / "))
    assert plain < 92.5 < ours and ours > plain + 3
