import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.audit import probes


def ask(x_RM, class_R, group_R=None, stratum_R=None, kind="linear", seed=0, num_bootstrap=100):
    num = len(x_RM)
    return probes.probe(
        np.asarray(x_RM, float),
        np.array(class_R, object),
        np.array([f"g{i}" for i in range(num)] if group_R is None else group_R, object),
        None if stratum_R is None else np.array(stratum_R, object),
        kind=kind,
        num_bootstrap=num_bootstrap,
        rng=np.random.default_rng(seed),
    )


@pytest.fixture
def told():
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 60)
    return rng.normal(size=(120, 4)) + 1.2 * y[:, None] * [1, 0, 0, 0], np.array(["no", "yes"])[y]


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_what_is_there_is_found_and_what_is_not_is_not(told, kind):
    x, y = told
    score = ask(x, y, kind=kind)["yes"]
    assert 0.65 < score.auroc < 0.95
    assert score.auroc_ci95[0] < score.auroc < score.auroc_ci95[1]
    noise = ask(np.random.default_rng(5).normal(size=(120, 4)), y, kind=kind)["yes"]
    assert noise.lower < 0.5


def test_area_is_that_of_scikit_learn(told):
    x, y = told
    rng = np.random.default_rng(3)
    group = np.arange(120)
    prob = probes.out_of_fold(x, (y == "yes").astype(int), group, "linear", rng)
    score = probes.score(prob[:, 1], y == "yes", group, None, np.ones((2, 120)))
    assert score.auroc == pytest.approx(roc_auc_score(y == "yes", prob[:, 1]), abs=1e-12)


def test_a_group_is_never_on_both_sides():
    # Ten scans of each patient are nearly one point; the label is the patient's and otherwise random.
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(24), 10)
    label = rng.permutation(np.repeat(["no", "yes"], 12))[person]
    x = rng.normal(size=(24, 30))[person] + 0.01 * rng.normal(size=(240, 30))
    assert ask(x, label, [f"p{p}" for p in person])["yes"].auroc < 0.75
    assert ask(x, label)["yes"].auroc > 0.95  # what an image-level split would have claimed


def test_within_strata_what_the_stratum_gives_away_does_not_count():
    rng = np.random.default_rng(2)
    place = np.repeat([0, 1], 100)
    sick = rng.random(200) < np.where(place == 1, 0.8, 0.2)
    x = np.stack([place + 0.01 * rng.normal(size=200), rng.normal(size=200)], axis=1)
    score = ask(x, np.where(sick, "yes", "no"), stratum_R=place)["yes"]
    assert score.auroc > 0.7
    assert abs(score.within - 0.5) < 0.12
    assert score.fair[0] == score.within


def test_a_class_without_company_in_its_stratum_is_judged_over_all():
    x = np.concatenate([np.zeros((50, 1)), np.ones((50, 1))]) + 0.01 * np.random.default_rng(0).normal(size=(100, 1))
    place = ["a"] * 50 + ["b"] * 50
    score = ask(x, ["no"] * 50 + ["yes"] * 50, stratum_R=place)["yes"]
    assert score.within is None
    assert score.fair[0] == score.auroc == pytest.approx(1.0)


def test_too_few_groups_are_not_asked(told):
    x, y = told
    y = y.astype(object)
    y[:3] = "rare"
    assert set(ask(x, y)) == {"no", "yes"}
    assert ask(x[:10], ["no"] * 5 + ["yes"] * 5) == {}
    assert ask(x, y, ["one patient"] * 120) == {}


def test_the_same_seed_gives_the_same_score(told):
    x, y = told
    assert ask(x, y, seed=4) == ask(x, y, seed=4)


def test_trees_take_unknown_values(told):
    x, y = told
    x = x.copy()
    x[::7, 0] = np.nan
    x[:, 3] = np.nan
    assert ask(x, y, kind="trees")["yes"].auroc > 0.6


@pytest.mark.parametrize("num", [10, 25, 60])
@pytest.mark.parametrize("strata", [None, 2])
def test_a_perfect_ranking_is_no_milder_than_one_with_a_pair_wrong(num, strata):
    positive = np.repeat([True, False], num)
    score = np.concatenate([np.linspace(0.6, 1.0, num), np.linspace(0.0, 0.4, num)])
    once_wrong = score.copy()
    once_wrong[[0, -1]] = score[[-1, 0]]
    group, stratum = np.arange(2 * num), None if strata is None else np.arange(2 * num) % strata
    weight = probes.draws(2 * num, 200, np.random.default_rng(0))
    perfect, wrong = (probes.score(s, positive, group, stratum, weight) for s in (score, once_wrong))
    assert perfect.auroc == 1.0 > wrong.auroc
    assert perfect.lower >= wrong.lower
    assert perfect.auroc_ci95[0] >= wrong.auroc_ci95[0] and perfect.auroc_ci95[1] == 1.0
