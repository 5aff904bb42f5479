"""`cxr-ssl bench pseudo`: ways to learn from the same labels, figures, and the whole on phantoms."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from pipeline.baselines.curves import asking, pseudo_curve, pseudo_figures, pseudo_references, pseudo_report, report
from pipeline.baselines.curves.asking import Asked
from pipeline.baselines.curves.pseudo_curve import WAYS, WayHistory
from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.learn import self_training
from pipeline.runtime.engine import SerialEngine
from tests.support.small_bench_pool import small_pool
from tests.support.tiny import FAST, call

BUDGETS = (12, 40)
POOL = small_pool(num=400, num_train=300)


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    monkeypatch.setattr(asking.bench_pool, "load", lambda path: POOL)


def histories(*ways, seed=0, strategy="random", rare=None, **options):
    config = config_file.load(None, {key.replace("__", "."): value for key, value in options.items()})
    common = {"name": "pool", "rare": rare, "budgets": BUDGETS, "config": config, "strategy": strategy}
    return [WayHistory(pool=Path("pool"), way=way, seed=seed, **common) for way in ways]


@pytest.fixture(scope="module")
def learned():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking.bench_pool, "load", lambda path: POOL)
        return {curve["way"]: curve for curve in pseudo_curve.simulate(histories(*WAYS))}


def test_every_way_learns_what_separates_the_classes(learned):
    assert list(learned) == list(WAYS)
    for way, curve in learned.items():
        assert len(curve["auroc"]) == len(curve["accuracy"]) == len(curve["ece"]) == len(BUDGETS), way
        assert curve["auroc"][-1] > 0.95, way
        assert all(0.0 <= value <= 1.0 for value in curve["ece"]), way


def test_a_way_is_the_same_alone_and_with_others(learned):
    for way in ("average", "label_spreading"):
        assert pseudo_curve.simulate(histories(way)) == [learned[way]]
    assert pseudo_curve.simulate(histories("average", seed=1)) != [learned["average"]]


def test_the_average_is_what_a_round_of_the_product_learns(learned):
    """`self_training.learn` on the labels of the last budget gives the same scores."""
    history = histories("average")[0]
    *_, asked = asking.ask(history, POOL)
    material = pseudo_curve._Scans.of(POOL, history).material(asked)
    rng = history.rng(f"learn/{BUDGETS[-1]}")
    round_ = self_training.learn(material, history.config, SerialEngine(), 2, (True, True), rng)
    model = round_.classifier(POOL.findings)
    prob_HC = model.probabilities(round_.student_logit_NC[len(POOL.class_T) :])
    assert (model.classes(prob_HC) == POOL.class_H).mean() == learned["average"]["accuracy"][-1]
    admitted = round_.decisions.admitted_N
    assert learned["average"]["pseudo"][-1]["num"] == admitted.sum() > 0


def test_what_the_holdout_says_changes_nothing_that_is_learned():
    """Other true classes in the holdout, other scores; the pseudo-labels are the same."""
    turned = replace(POOL, class_H=1 - POOL.class_H)
    ways = histories("pseudo", "self_training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking.bench_pool, "load", lambda path: turned)
        other = pseudo_curve.simulate(ways)
    for before, after in zip(pseudo_curve.simulate(ways), other, strict=True):
        assert before["pseudo"] == after["pseudo"]
        assert after["auroc"][-1] == pytest.approx(1.0 - before["auroc"][-1])


def test_pseudo_labels_are_counted_and_compared_with_the_truth(learned):
    assert learned["expert"]["pseudo"] == [None, None]
    ours = learned["pseudo"]["pseudo"]
    assert ours == learned["average"]["pseudo"] == learned["pseudo+neighbours"]["pseudo"]
    last = ours[-1]
    assert 0.9 < last["realised"] <= 1.0 and 0.9 < last["estimated"] <= 1.0
    assert last["share"] == last["num"] / (len(POOL.class_T) - BUDGETS[-1])
    theirs = learned["self_training"]["pseudo"][-1]
    assert theirs["estimated"] is None and theirs["num"] > 0 and theirs["realised"] > 0.9


def test_where_nothing_is_admitted_pseudo_labels_change_nothing():
    expert, pseudo = pseudo_curve.simulate(histories("expert", "pseudo", pseudo__precision=0.999))
    assert [point["num"] for point in pseudo["pseudo"]] == [0, 0]
    assert all(point["realised"] is None for point in pseudo["pseudo"])
    assert pseudo["auroc"] == expert["auroc"] and pseudo["ece"] == expert["ece"]


def test_options_of_the_students_change_the_students_alone():
    ways = ("expert", "pseudo+neighbours")
    plain = pseudo_curve.simulate(histories(*ways))
    for option, value in (("pseudo__propagate", 0.1), ("train__student_l2", 50.0), ("pseudo__num_neighbors", 3)):
        expert, student = pseudo_curve.simulate(histories(*ways, **{option: value}))
        assert expert == plain[0], option
        assert student["ece"] != plain[1]["ece"], option


def test_without_a_second_class_every_way_is_at_chance(monkeypatch):
    healthy = replace(POOL, class_T=np.zeros_like(POOL.class_T))
    monkeypatch.setattr(asking.bench_pool, "load", lambda path: healthy)
    for curve in pseudo_curve.simulate(histories(*WAYS)):
        accuracy = pytest.approx((POOL.class_H == 0).mean())
        assert curve["auroc"] == [0.5, 0.5] and curve["accuracy"] == [accuracy] * 2 and curve["pseudo"] == [None] * 2


def test_another_strategy_draws_other_labels_for_all_ways():
    """Of its queues a fifth is uniform, and only that says how frequent a class is."""
    random, chosen = (list(asking.ask(histories("expert", strategy=name)[0], POOL)) for name in ("random", "margin"))
    assert set(random[-1].rows_L) != set(chosen[-1].rows_L)
    assert random[-1].uniform_L.all()
    assert [asked.uniform_L.sum() for asked in chosen] == [round(0.2 * 12), round(0.2 * 12) + round(0.2 * 28)]
    np.testing.assert_array_equal(chosen[0].rows_L, chosen[1].rows_L[:12])


def first_labels(num=40):
    rows = np.concatenate([np.flatnonzero(POOL.class_T == c)[: num // 2] for c in (0, 1)])
    return Asked(POOL, rows, np.ones(num, bool), Config())


def test_the_regression_of_self_training_is_the_teacher(monkeypatch):
    """On the labels alone (no pass that adds any) scikit-learn's probabilities are our head's."""
    from sklearn import semi_supervised

    original = semi_supervised.SelfTrainingClassifier
    monkeypatch.setattr(semi_supervised, "SelfTrainingClassifier", lambda base: original(base, threshold=1.0 - 1e-12))
    asked = first_labels()
    found = pseudo_references.self_training(asked)
    assert (found.guess_T == pseudo_references.NO_GUESS).all()
    ours_HC = softmax(asked.head.logits(POOL.x_HP).astype(np.float64), axis=1)
    np.testing.assert_allclose(found.prob_HC, ours_HC, atol=2e-3)


def test_references_know_no_label_but_those_asked_for():
    asked = first_labels()
    for reference in (pseudo_references.self_training, pseudo_references.label_spreading):
        hidden = POOL.class_T.copy()
        hidden[~np.isin(np.arange(len(hidden)), asked.rows_L)] = 0
        blind = reference(Asked(replace(POOL, class_T=hidden), asked.rows_L, asked.uniform_L, asked.config))
        seen = reference(asked)
        np.testing.assert_array_equal(seen.prob_HC, blind.prob_HC)
        np.testing.assert_array_equal(seen.guess_T, blind.guess_T)
        assert (seen.guess_T[asked.rows_L] == pseudo_references.NO_GUESS).all()
        np.testing.assert_allclose(seen.prob_HC.sum(1), 1.0)


def test_label_spreading_sees_pool_and_holdout_alike():
    """By what makes scans alike, whatever the head sees: features that are turned about change nothing."""
    asked = first_labels()
    turned = replace(POOL, x_TP=POOL.x_TP[:, ::-1].copy(), x_HP=-POOL.x_HP)
    other = pseudo_references.label_spreading(Asked(turned, asked.rows_L, asked.uniform_L, asked.config))
    plain = pseudo_references.label_spreading(asked)
    np.testing.assert_array_equal(other.prob_HC, plain.prob_HC)
    assert roc_auc_score(POOL.class_H, plain.prob_HC[:, 1]) > 0.9


def test_a_class_nobody_named_has_no_probability_and_an_island_has_even_odds():
    """Two far islands, labels on one of them alone; a third class that no label names."""
    rng = np.random.default_rng(0)
    x_NP = rng.normal(scale=0.01, size=(80, 6)).astype(np.float32)
    x_NP[:40, 0] += 1.0
    x_NP[40:, 1] += 1.0
    class_N = rng.integers(2, size=80)
    islands = replace(
        POOL, findings=("a", "b", "c"), x_TP=x_NP, similar_TP=x_NP, class_T=class_N, group_T=np.arange(80)
    )
    islands = replace(islands, x_HP=x_NP[[0, 60]], similar_HP=x_NP[[0, 60]], class_H=class_N[[0, 60]])
    found = pseudo_references.label_spreading(Asked(islands, np.arange(20), np.ones(20, bool), Config()))
    assert found.prob_HC[0, 2] == 0.0 and found.prob_HC[0].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found.prob_HC[1], 1.0 / 3.0)
    assert (found.guess_T[40:] == pseudo_references.NO_GUESS).all() and (found.guess_T[20:40] >= 0).all()


# --- figures ----------------------------------------------------------------------------------------------------------


def curves(gains, pool="p", way="average", estimated=0.9, realised=0.8):
    """Histories of expert labels at .7, and of a way that many points above; one a seed, nothing admitted at first."""
    for seed, gain in enumerate(gains):
        common = {"pool": pool, "seed": seed, "budgets": [10, 100]}
        values = {"auroc": [0.7 + gain] * 2, "accuracy": [0.7 - gain] * 2, "ece": [0.1 - gain] * 2}
        nothing = {"num": 0, "share": 0.0, "estimated": None, "realised": None}
        some = {"num": 50, "share": 0.5, "estimated": estimated, "realised": realised + 0.2 * (seed % 2)}
        yield common | {"way": way, **values, "pseudo": [nothing, some]}
        alone = {"auroc": [0.7] * 2, "accuracy": [0.7] * 2, "ece": [0.1] * 2, "pseudo": [None, None]}
        yield common | {"way": "expert", **alone}


def test_figures_are_paired_with_expert_labels_and_losses_stay_losses():
    rows = pseudo_figures.figures([*curves([0.01, 0.02, 0.03, 0.05]), *curves([-0.02] * 4, "q")])
    won, reference, lost, _ = rows
    assert reference["gain"] is None and reference["pseudo"] is None
    assert won["gain"]["auroc"]["mean"] == pytest.approx(0.0275) and won["gain"]["auroc"]["win_rate"] == 1.0
    assert won["gain"]["accuracy"]["mean"] == pytest.approx(-0.0275) and won["gain"]["accuracy"]["win_rate"] == 0.0
    assert won["gain"]["ece"]["mean"] == pytest.approx(-0.0275)
    assert won["gain"]["ece"]["win_rate"] == 1.0  # less is better
    assert lost["gain"]["auroc"]["win_rate"] == 0.0 and lost["gain"]["ece"]["win_rate"] == 0.0
    for measure in ("auroc", "accuracy"):
        gain = won["gain"][measure]
        assert gain["p_holm"] == pytest.approx(min(1.0, 2 * gain["p"]))  # two comparisons of each measure
    assert won["area"]["auroc"]["mean"] == pytest.approx(0.7275)


def test_the_difference_of_estimated_and_realised_precision_by_hand():
    """Even seeds are .1 too high, odd seeds .1 too low; the budget at which nothing was admitted counts for nothing."""
    pseudo = pseudo_figures.figures(list(curves([0.01] * 4)))[0]["pseudo"]
    assert pseudo["signed"]["mean"] == pytest.approx(0.0) and pseudo["absolute"]["mean"] == pytest.approx(0.1)
    assert pseudo["difference"][0] is None and pseudo["difference"][1]["mean"] == pytest.approx(0.0)
    assert pseudo["num_compared"] == 4
    assert [figure["mean"] for figure in pseudo["num"]] == [0, 50]
    assert pseudo["estimated"][0] is None and pseudo["realised"][1]["mean"] == pytest.approx(0.9)


def test_the_tables_show_every_way_and_shared_pseudo_labels_once():
    found = [
        *curves([0.01, 0.02]),
        *curves([0.03, 0.01], way="pseudo"),
        *curves([0.0, 0.0], way="none", estimated=None),
    ]
    result = {"rows": pseudo_figures.figures(found), "budgets": [10, 100], "num_seeds": 2, "date": "2026-01-01"}
    said = pseudo_report.report_of(result | {"out": "x"})
    gains, values, precision = said.tables
    assert [line[1] for line in gains.rows] == ["pseudo", "average", "none", "expert"]
    assert [line[1] for line in precision.rows] == ["average, pseudo", "none"]
    for table in (gains, values, precision):
        assert all(len(line) == len(table.header) for line in table.rows)
    text = report.markdown(said, result)
    assert text.count("## ") == 2 and pseudo_report.HOW in text
    assert list(said.charts) == ["p"] and len(said.charts["p"]) == 3


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out", "x"], "at least one pool is needed"),
        (["--pool", "phantom:", "--out", "x", "--way", "luck"], "no such way to learn"),
        (["--pool", "phantom:", "--out", "x", "--strategy", "luck"], "unknown strategy"),
        (["--pool", "phantom:", "--out", "x", "--strategy", "random", "--strategy", "margin"], "by one strategy"),
        (["--pool", "phantom:", "--out", "x", "--set", "pseudo.gate=off"], "there is nothing to compare"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("bench", "pseudo", *argv)
    assert answer.code != 0 and message in answer.err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_whole_bench_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.undo()
    pool = "phantoms=phantom:num_patients=60"
    small = [*FAST, "--budgets", "8,16", "--seeds", "2"]
    argv = ["bench", "pseudo", "--pool", pool, "--rare", "0.1", "--out", tmp_path / "o", *small, "--json"]
    some = call(*argv, "--way", "average")
    assert some.code == 0, some.err
    assert [(row["pool"], row["way"]) for row in some.json["rows"]] == [
        ("phantoms", "expert"),
        ("phantoms", "average"),
        ("phantoms, 10 %", "expert"),
        ("phantoms, 10 %", "average"),
    ]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "o" / "histories").iterdir()}
    answer = call(*argv)
    assert answer.code == 0, answer.err
    rows = answer.json["rows"]
    assert [row["way"] for row in rows] == [*WAYS, *WAYS]
    alone, before = ([row for row in found if row["way"] == "expert"] for found in (rows, some.json["rows"]))
    assert alone == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # those histories were not run again
    assert json.loads((tmp_path / "o" / "pseudo.json").read_text())["rows"] == rows
    assert "label_spreading" in (tmp_path / "o" / "pseudo.md").read_text()
    assert (tmp_path / "o" / "pseudo.html").read_text().count("<svg") == 2 * 3

    def never(histories):
        raise AssertionError("it was done before")

    monkeypatch.setattr(pseudo_curve, "simulate", never)
    assert call(*argv).json["rows"] == rows
