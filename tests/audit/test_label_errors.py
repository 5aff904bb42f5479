"""Labels that look wrong, told from cases that are only hard."""

import numpy as np
import pytest

from pipeline.audit.checks import label_errors
from tests.support.audit_pools import many, subject

NUM = 400


def pool(folder, *, noise=0.0, apart=4.0, seed=0, **options):
    """Two classes whose embeddings lie `apart` standard deviations from each other; some labels are exchanged."""
    rng = np.random.default_rng(seed)
    truth_N = np.arange(NUM) % 2
    wrong_N = rng.random(NUM) < noise
    emb_ND = rng.normal(size=(NUM, 8))
    emb_ND[:, 0] += apart * truth_N
    labels = np.where(truth_N ^ wrong_N, "sick", "normal")
    one = subject(folder, many(NUM, label=lambda i: str(labels[i])), emb_ND=emb_ND, **options)
    return one, wrong_N


@pytest.mark.parametrize("seed", range(3))
def test_a_fifth_of_wrong_labels_is_reported_with_the_likeliest_scans(seed, tmp_path):
    one, wrong_N = pool(tmp_path, noise=0.2, seed=seed)
    check = label_errors.check(one)
    assert check.severity == "warn" and check.value > check.threshold
    assert 0.1 < sum(row[1] * row[2] for row in check.table.rows) / NUM < 0.3
    named = [int(row["image_id"], 16) for row in check.evidence]
    assert len(named) == 24 and wrong_N[named].mean() > 0.9
    assert "looks like" in check.evidence[0]["note"]


def three_classes(folder, *, seed, noise=0.0, one_sided=0.0):
    """Three classes of 105 scans; some labels exchanged, or some of the last class called by the first's name."""
    rng = np.random.default_rng(seed)
    truth_N = np.arange(315) % 3
    emb_ND = rng.normal(size=(315, 24))
    emb_ND[np.arange(315), truth_N] += 5.0
    wrong_N = rng.random(315) < np.where(truth_N == 2, one_sided, 0.0) + noise
    label_N = np.where(wrong_N, (truth_N + (1 if one_sided else rng.integers(1, 3, 315))) % 3, truth_N)
    return subject(folder, many(315, label=lambda i: "abc"[label_N[i]]), emb_ND=emb_ND), wrong_N


@pytest.mark.parametrize("planted", [{"noise": 0.1}, {"noise": 0.2}, {"one_sided": 0.3}])
def test_wrong_labels_of_three_classes_are_reported_though_no_class_alone_shows_them(planted, tmp_path):
    for seed in range(3):
        one, wrong_N = three_classes(tmp_path / str(seed), seed=seed, **planted)
        check = label_errors.check(one)
        assert check.severity == "warn" and "labels look wrong" in check.message
        assert wrong_N[[int(row["image_id"], 16) for row in check.evidence[:10]]].mean() > 0.7


def test_right_labels_of_three_classes_are_left_in_peace(tmp_path):
    checks = [label_errors.check(three_classes(tmp_path / str(seed), seed=seed)[0]) for seed in range(6)]
    assert {check.severity for check in checks} == {"ok"} and {check.value for check in checks} == {0.0}


@pytest.mark.parametrize("apart", [1.0, 2.0, 4.0])
def test_hard_cases_are_no_wrong_labels(apart, tmp_path):
    check = label_errors.check(pool(tmp_path, apart=apart)[0])
    assert (check.severity, check.count, check.evidence) == ("ok", 0, ())


def test_a_check_changes_its_word_at_its_threshold(tmp_path):
    value = label_errors.check(pool(tmp_path, noise=0.2)[0]).value
    for step, severity in ((-1e-6, "warn"), (0.0, "ok"), (1e-6, "ok")):
        one, _ = pool(tmp_path, noise=0.2, **{"audit.warn_wrong_label_share": value + step})
        assert label_errors.check(one).severity == severity


def test_without_two_classes_or_embeddings_nothing_is_checked(tmp_path):
    for name, label in (("one", "sick"), ("none", None)):
        one = subject(tmp_path / name, many(40, label=label), emb_ND=np.zeros((40, 4)))
        assert not label_errors.check(one).checked
    assert not label_errors.check(subject(tmp_path / "bare", many(40, label="sick"))).checked


def test_where_the_embedding_knows_nothing_of_the_classes_no_label_is_doubted(tmp_path):
    for seed in range(3):
        check = label_errors.check(pool(tmp_path / str(seed), apart=0.0, seed=seed)[0])
        assert (check.severity, check.checked) == ("ok", False) and "AUROC" in check.message
