import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.measures import consensus as module
from pipeline.measures.bootstrap import wilson
from pipeline.measures.consensus import consensus, label_issues, suspect_annotators
from tests.bench import consensus as bench

GOOD = bench.MODELS[0]


def sure(class_N, num_classes, prob=0.99):
    prob_NC = np.full((len(class_N), num_classes), (1 - prob) / (num_classes - 1))
    prob_NC[np.arange(len(class_N)), class_N] = prob
    return prob_NC


def test_without_a_model_the_majority_decides_and_a_split_stays_open():
    rating_NM = np.array([[-1, -1, -1], [2, -1, -1], [1, 1, -1], [0, 0, 2], [0, 1, -1], [0, 1, 2]])
    found = consensus(rating_NM)
    assert found.class_N.tolist() == [-1, 2, 1, 0, -1, -1]
    assert found.how_N.tolist() == ["unread", "single", "agreed", "majority", "undecided", "undecided"]
    assert np.isnan(found.quality_N).all() and np.isnan(found.annotator_quality_M).all()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_model_has_no_say_where_readers_do_not_differ(num_classes):
    sample = bench.draw(num_classes, bench.FIFTH, GOOD, 0)
    rating_NM = sample.rating_NM
    class_N = consensus(rating_NM).class_N
    against_NC = sure((np.maximum(class_N, 0) + 1) % num_classes, num_classes)
    found = consensus(rating_NM, against_NC)
    one_N = np.array([len(set(row[row >= 0])) == 1 for row in rating_NM])
    assert 200 < one_N.sum() < 300
    assert (found.class_N[one_N] == class_N[one_N]).all()
    assert set(found.how_N[one_N]) == {"single", "agreed"} and set(found.how_N[~one_N]) == {"crowdlab"}


def test_a_class_that_nobody_gave_is_never_chosen():
    # A model that readers can trust, and that is sure of a third class on 20 scans on which they differ.
    sample = bench.draw(3, bench.TWO, bench.Model(0.99), 0)
    differ = np.flatnonzero([len(set(row[row >= 0])) == 2 for row in sample.rating_NM])[:20]
    third = np.array([({0, 1, 2} - set(row)).pop() for row in sample.rating_NM[differ]])
    prob_NC = sample.prob_NC.copy()
    prob_NC[differ] = sure(third, 3, 1 - 1e-9)
    found = consensus(sample.rating_NM, prob_NC)
    assert (found.class_N[differ] != third).all() and "crowdlab" in found.how_N[differ]
    own_N = bench.unrestricted(bench.Sample(sample.truth_N, prob_NC, sample.rating_NM))
    assert (own_N[differ] == third).any()  # cleanlab as it comes does


def test_a_good_model_decides_between_two_who_differ():
    sample = bench.draw(2, bench.TWO, bench.Model(0.95), 0)
    found = consensus(sample.rating_NM, sample.prob_NC)
    split_N = found.how_N == "crowdlab"
    assert split_N.sum() > 50 and (consensus(sample.rating_NM).class_N[split_N] == -1).all()
    assert (found.class_N == sample.truth_N)[split_N].mean() > 0.85
    shared_N = (sample.rating_NM >= 0).sum(axis=1) > 1
    assert (np.isfinite(found.quality_N) == shared_N).all()
    assert ((found.quality_N >= 0) & (found.quality_N <= 1))[shared_N].all()
    assert found.quality_N[found.how_N == "agreed"].mean() > found.quality_N[split_N].mean()
    assert found.annotator_quality_M.argmin() == bench.BAD


def test_scans_without_a_probability_fall_back_to_the_majority():
    sample = bench.draw(3, bench.ALL, GOOD, 1)
    prob_NC = sample.prob_NC.copy()
    prob_NC[::2] = np.nan
    found, plain = consensus(sample.rating_NM, prob_NC), consensus(sample.rating_NM)
    assert (found.class_N[::2] == plain.class_N[::2]).all() and (found.how_N[::2] == plain.how_N[::2]).all()
    assert np.isnan(found.quality_N[::2]).all() and (found.how_N[1::2] == "crowdlab").any()


def test_few_scans_read_twice_are_left_to_the_majority():
    sample = bench.draw(2, bench.ALL, GOOD, 0)
    enough, few = (slice(0, module.MIN_SHARED - less) for less in (0, 1))
    assert "crowdlab" in consensus(sample.rating_NM[enough], sample.prob_NC[enough]).how_N
    found = consensus(sample.rating_NM[few], sample.prob_NC[few])
    assert "crowdlab" not in found.how_N and "majority" in found.how_N
    assert (found.class_N == consensus(sample.rating_NM[few]).class_N).all()


def test_an_annotator_who_shares_no_scan_has_no_quality_and_changes_nothing():
    sample = bench.draw(2, bench.ALL, GOOD, 0)
    alone_NM = np.concatenate([np.full((20, 3), -1), sample.rating_NM])
    alone_NM = np.column_stack([alone_NM, np.where(np.arange(320) < 20, 1, -1)])
    prob_NC = np.concatenate([np.full((20, 2), 0.5), sample.prob_NC])
    found, plain = consensus(alone_NM, prob_NC), consensus(sample.rating_NM, sample.prob_NC)
    assert np.isnan(found.annotator_quality_M[3])
    assert found.annotator_quality_M[:3].tolist() == plain.annotator_quality_M.tolist()
    assert (found.class_N[20:] == plain.class_N).all() and (found.how_N[:20] == "single").all()


def test_a_class_without_a_reading_leaves_no_gap():
    sample = bench.draw(2, bench.ALL, GOOD, 0)
    prob_NC = np.insert(sample.prob_NC * 0.9, 1, 0.1, axis=1)  # a class between, that nobody names
    found = consensus(sample.rating_NM * 2, prob_NC)
    plain = consensus(sample.rating_NM, sample.prob_NC)
    assert (found.class_N == plain.class_N * 2).all() and (found.how_N == plain.how_N).all()
    assert found.quality_N == pytest.approx(plain.quality_N, abs=1e-4)


@st.composite
def any_ratings(draw):
    num_scans, num_readers, num_classes = draw(st.integers(0, 50)), draw(st.integers(0, 4)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rating_NM = rng.integers(-1, draw(st.integers(1, num_classes)), (num_scans, num_readers))
    kind = draw(st.sampled_from(["even", "sharp", "any"]))
    prob_NC = {
        "even": np.full((num_scans, num_classes), 1 / num_classes),
        "sharp": np.eye(num_classes)[rng.integers(0, num_classes, num_scans)],
        "any": rng.dirichlet(np.ones(num_classes), num_scans),
    }[kind]
    return rating_NM, np.where(rng.random((num_scans, 1)) < draw(st.sampled_from([0, 0.3, 1])), np.nan, prob_NC)


@settings(max_examples=60, deadline=None)
@given(any_ratings())
def test_whatever_comes_no_warning_no_chance_and_only_classes_that_were_given(given_ratings):
    rating_NM, prob_NC = given_ratings
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = consensus(rating_NM, prob_NC)
        suspect_annotators(rating_NM, np.arange(len(rating_NM)) // 2)
    np.random.seed(1)  # noqa: NPY002 - cleanlab breaks some ties with it
    again = consensus(rating_NM, prob_NC)
    assert (again.class_N == found.class_N).all() and (again.how_N == found.how_N).all()
    for row, label, how in zip(rating_NM, found.class_N, found.how_N, strict=True):
        named = set(row[row >= 0])
        assert label in named or (label == -1 and how in ("unread", "undecided"))
        assert (how == "unread") == (not named) and (len(named) > 1) == (how in ("crowdlab", "majority", "undecided"))


def test_an_even_model_and_even_readers_leave_a_split_open(capsys, monkeypatch):
    def drawn(*_):
        raise AssertionError("cleanlab broke a tie by chance")

    monkeypatch.setattr(np.random, "choice", drawn)
    # Two readers alike in all, who differ on some scans of which the model knows nothing.
    rating_NM = np.array([[0, 0], [1, 1]] * 20 + [[0, 1], [1, 0]] * 4)
    found = consensus(rating_NM, np.full((48, 2), 0.5))
    assert set(found.how_N[40:]) == {"undecided"} and (found.class_N[40:] == -1).all()
    assert capsys.readouterr() == ("", "")


def test_what_is_no_rating_or_probability_is_refused():
    ok, half = np.zeros((4, 2), int), np.full((4, 2), 0.5)
    for rating, prob in (
        (ok - 2, half),
        (ok + 2, half),
        (ok, half[:3]),
        (ok * 0.5, half),
        (ok, half + 1),
        (ok[0], None),
    ):
        with pytest.raises(ValueError, match=r"ratings|probabilities"):
            consensus(rating, prob)
    with pytest.raises(ValueError, match="patients"):
        suspect_annotators(ok, np.zeros(3))


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("design", [bench.ALL, bench.FIFTH, bench.TWO])
def test_consensus_beats_the_majority_with_one_reader_wrong_in_30_per_cent(num_classes, design):
    """A short form of the bench: 8 seeds; an even split counts as a draw."""
    found = [bench.scores(bench.draw(num_classes, design, GOOD, seed)) for seed in range(8)]
    gain = np.array([f["ours"] - f["half"] for f in found])
    assert gain.mean() > 0.004 and (gain >= 0).sum() >= 5
    if design == bench.ALL:  # 300 scans a seed: seen in each of them
        assert gain.mean() > 2.4 * gain.std(ddof=1) / np.sqrt(8) and (gain >= 0).all()


@pytest.mark.parametrize("model", [bench.Model(0.6), bench.Model(0.6, 3), bench.Model(0.87, 1, bench.COPY)])
def test_a_bad_model_does_little_harm(model):
    """Cleanlab as it comes is led astray by one that has learnt the bad reader's answers."""
    found = [bench.scores(bench.draw(2, bench.ALL, model, seed)) for seed in range(8)]
    assert np.mean([f["ours"] - f["half"] for f in found]) > -0.006
    if model.of == bench.COPY:
        assert np.mean([f["cleanlab"] - f["half"] for f in found]) < -0.05


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_bad_annotator_is_named_and_good_ones_are_not(num_classes, monkeypatch):
    monkeypatch.setattr(bench, "NUM_CREWS", 20)
    assert bench.suspected("5, 10, 30 %", num_classes, bench.ALL, 1) == (1, 0)
    assert bench.suspected("5, 10, 5, 10, 5 %", num_classes, bench.ALL, 5) == (None, 0)
    hit, accused = bench.suspected("10, 30 %", num_classes, bench.ALL, 5)
    assert hit == accused == 0  # of two who differ, either may be right


def test_a_suspect_is_described():
    rating_NM = bench.draw(3, bench.ALL, GOOD, 0).rating_NM
    (suspect,) = suspect_annotators(rating_NM, np.arange(300))
    others, own = rating_NM[:, :2], rating_NM[:, 2:]
    assert suspect.annotator == bench.BAD and suspect.num_scans == 300
    assert suspect.agreement == pytest.approx((others == own).mean())
    assert suspect.others == pytest.approx((others[:, 0] == others[:, 1]).mean())
    low, high = suspect.gap_ci95
    assert module.MIN_GAP < low < suspect.others - suspect.agreement < high


def test_the_gap_is_newcombes():
    # Two others on every scan and a scan a patient: paired shares, whose variances lose one scan.
    a_N, b_N, bad_N = bench.draw(2, bench.ALL, GOOD, 1).rating_NM.T
    (suspect,) = suspect_annotators(np.column_stack([a_N, b_N, bad_N]), np.arange(300))
    own_N, rest_N = ((a_N == bad_N) * 1.0 + (b_N == bad_N)) / 2, (a_N == b_N) * 1.0
    ends = []
    for share_N in (own_N, rest_N):
        size = share_N.mean() * (1 - share_N.mean()) / (share_N.var(ddof=1) / 300)
        ends.append((share_N.mean(), *wilson(share_N.mean(), size, stats.t.ppf(0.975, 299))))
    (own, low, high), (rest, least, most) = ends
    phi = np.corrcoef(own_N, rest_N)[0, 1]
    for end, first, second in ((0, rest - least, high - own), (1, most - rest, own - low)):
        reach = np.sqrt(first**2 - 2 * phi * first * second + second**2)
        assert suspect.gap_ci95[end] == pytest.approx(rest - own + (reach if end else -reach))


def test_scans_read_by_two_name_nobody_however_bad():
    """Other scans of others say nothing of hers: they may be easier."""
    for times in (1, 5):
        rating_NM = bench.draw(2, bench.TWO, GOOD, 1, num_scans=300 * times).rating_NM
        assert suspect_annotators(rating_NM, np.arange(len(rating_NM))) == []


def test_many_scans_of_few_patients_accuse_nobody():
    rating_NM = np.repeat(bench.draw(3, bench.ALL, GOOD, 0).rating_NM[:12], 25, axis=0)
    assert suspect_annotators(rating_NM, np.arange(300))  # as if each were another patient's
    assert suspect_annotators(rating_NM, np.arange(300) // 25) == []
    assert suspect_annotators(rating_NM, np.zeros(300)) == []


def planted(num_wrong, seed=0):
    sample = bench.draw(3, bench.ALL, bench.Model(0.9), seed)
    label_N = sample.truth_N.copy()
    label_N[:num_wrong] = (label_N[:num_wrong] + 1) % 3
    return label_N, sample.prob_NC


def test_planted_label_errors_are_found_and_the_worst_come_first():
    label_N, prob_NC = planted(30)
    found = label_issues(label_N, prob_NC, 300)
    wrong_I = found.row_I < 30
    assert wrong_I.sum() > 20 and wrong_I[:10].mean() >= 0.8 and len(found.row_I) < 70
    assert (np.diff(found.label_prob_I) >= -1e-5).all() and len(set(found.row_I)) == len(found.row_I)
    assert (found.class_I == label_N[found.row_I]).all() and (found.model_class_I != found.class_I).all()
    assert found.model_prob_I == pytest.approx(prob_NC[found.row_I].max(axis=1))
    few = label_issues(label_N, prob_NC, 7)
    assert few.row_I.tolist() == found.row_I[:7].tolist()


def test_no_label_issue_without_a_label_a_probability_or_enough_of_both():
    label_N, prob_NC = planted(30)
    label_N[:15], prob_NC[15:30] = -1, np.nan
    assert (label_issues(label_N, prob_NC, 300).row_I >= 30).all()
    for rows in (slice(0), slice(100, 115)):
        assert len(label_issues(label_N[rows], prob_NC[rows], 9).row_I) == 0
    assert len(label_issues(np.zeros(300, int), prob_NC, 9).row_I) == 0  # one class
    assert len(label_issues(label_N, prob_NC * np.nan, 9).row_I) == 0
    label_N, prob_NC = planted(30)
    assert len(label_issues(label_N, prob_NC, 0).row_I) == 0
    rare = np.flatnonzero(label_N == 2)[module.MIN_OF_CLASS :]
    label_N[rare] = -1
    assert 2 not in label_issues(label_N, prob_NC, 300).class_I


def test_a_model_that_finds_the_label_as_probable_as_any_contradicts_nobody():
    label_N, prob_NC = planted(60)
    tied = np.flatnonzero(label_N == 0)[:20]
    prob_NC[tied] = [0.5, 0.5, 0]
    found = label_issues(label_N, prob_NC, 300)
    assert len(found.row_I) > 40 and not set(found.row_I) & set(tied)
