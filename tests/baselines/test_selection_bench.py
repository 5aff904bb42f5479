"""`cxr-ssl bench selection`: histories, figures, and the whole on phantoms."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.baselines.curves import asking, figures, report, selection_curve, selection_figures, selection_report
from pipeline.baselines.curves.asking import History
from pipeline.commands.benches import curves as bench_curves
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.selection.strategies import core_set
from tests.support.small_bench_pool import small_pool
from tests.support.tiny import call

BUDGETS = (4, 8, 16)


def history(strategy, seed=0, rare=None, path="pool"):
    return History(pool=path, name="pool", rare=rare, strategy=strategy, seed=seed, budgets=BUDGETS, config=Config())


def simulate(one):
    return selection_curve.simulate([one])[0]


@pytest.fixture
def loaded(monkeypatch):
    pool = small_pool()
    monkeypatch.setattr(asking.bench_pool, "load", lambda path: pool)
    return pool


@pytest.mark.parametrize("strategy", ["random", "uncertainty_herding", "typiclust", "badge", "drop_query"])
def test_a_history_learns_and_repeats_itself(loaded, strategy):
    curve = simulate(history(strategy))
    assert curve == simulate(history(strategy))
    assert curve != simulate(history(strategy, seed=1))
    assert len(curve["auroc"]) == len(curve["accuracy"]) == 3
    assert curve["auroc"][-1] > 0.9
    assert 2 <= curve["labels_until_two_classes"] == curve["labels_until_all_classes"] <= 16


def test_strategies_see_how_far_each_scan_is_from_the_middle(loaded, monkeypatch):
    seen = []
    monkeypatch.setitem(
        asking.strategies.STRATEGIES,
        "max_herding",
        lambda pool, num, rng: seen.append(pool) or core_set.select(pool, num, rng),
    )
    simulate(history("max_herding"))
    assert len(seen) == len(BUDGETS)
    np.testing.assert_allclose(seen[0].unit_ND * seen[0].length_N[:, None], loaded.similar_TP, rtol=1e-4, atol=1e-5)


def test_a_history_without_a_second_class_is_at_chance(monkeypatch):
    pool = small_pool()
    healthy = replace(pool, class_T=np.zeros_like(pool.class_T))
    monkeypatch.setattr(asking.bench_pool, "load", lambda path: healthy)
    curve = simulate(history("margin"))
    assert curve["auroc"] == [0.5] * 3 and curve["labels_until_two_classes"] is None
    assert curve["accuracy"] == [pytest.approx((pool.class_H == 0).mean())] * 3


def test_the_rarest_illness_is_cut_down_and_the_holdout_stays():
    pool = small_pool()
    thin = pool.thinned(0.05, np.random.default_rng(0))
    num_ill, num_healthy = int((thin.class_T == 1).sum()), int((thin.class_T == 0).sum())
    assert num_healthy == (pool.class_T == 0).sum()
    assert num_ill == round(0.05 / 0.95 * num_healthy)
    np.testing.assert_array_equal(thin.class_H, pool.class_H)
    assert (pool.thinned(0.9, np.random.default_rng(0)).class_T == pool.class_T).all()  # it is rarer already
    assert (pool.thinned(1e-6, np.random.default_rng(0)).class_T == 1).sum() == 1


def test_areas_by_hand():
    assert figures.area([10, 100], [0.5, 0.7]) == pytest.approx(0.6)
    assert figures.area([10, 100, 1000], [0.5, 0.7, 0.7]) == pytest.approx(0.65)
    assert figures.area([10, 100, 1000], [0.5, 0.7, 0.7], up_to=100) == pytest.approx(0.6)
    assert figures.area([10], [0.8]) == pytest.approx(0.8)


def curves(gains, pool="p", name="margin"):
    """Histories of random at .7, and of a strategy that many points above it; one a seed."""
    common = {"pool": pool, "budgets": [10, 100], "accuracy": [0.5, 0.5], "labels_until_two_classes": 3}
    for seed, gain in enumerate(gains):
        yield common | {"strategy": name, "seed": seed, "auroc": [0.7 + gain] * 2, "labels_until_all_classes": 20}
        yield common | {"strategy": "random", "seed": seed, "auroc": [0.7] * 2, "labels_until_all_classes": None}


def test_figures_are_paired_with_random_and_losses_stay_losses():
    rows = selection_figures.figures([*curves([0.01, 0.02, 0.03, 0.05]), *curves([-0.02] * 4, "q")])
    won, reference, lost, _ = rows
    assert (won["strategy"], reference["strategy"]) == ("margin", "random")
    assert won["gain"]["mean"] == pytest.approx(0.0275) and won["win_rate"] == 1.0
    assert won["gain"]["half"] == pytest.approx(3.182 * np.std([0.01, 0.02, 0.03, 0.05], ddof=1) / 2, rel=1e-3)
    assert lost["gain"]["mean"] == pytest.approx(-0.02) and lost["win_rate"] == 0.0
    assert won["p_holm"] == pytest.approx(min(1.0, 2 * won["p"]))  # two comparisons
    assert reference["gain"] is None and reference["p_holm"] is None
    assert won["all_classes_by_50"] == 1.0 and reference["all_classes_by_50"] == 0.0


def test_one_seed_has_no_interval_and_no_test():
    row = selection_figures.figures(list(curves([0.01])))[0]
    assert row["gain"] == {"mean": pytest.approx(0.01), "half": None} and row["p_holm"] is None


def test_the_table_puts_the_largest_gain_first_and_random_last():
    rows = selection_figures.figures([*curves([0.01, 0.02]), *curves([0.03, 0.04], name="badge")])
    result = {"rows": rows, "budgets": [10, 100], "num_seeds": 2, "date": "2026-01-01", "out": "x"}
    table = selection_report.gains(result)
    assert [line[1] for line in table.rows] == ["badge", "margin", "random"]
    assert all(len(line) == len(table.header) for line in table.rows)
    assert "| badge |" in report.markdown(selection_report.report_of(result), result)


@pytest.mark.parametrize("text", ["", "10,x", "20,10", "10,10", "1,5"])
def test_budgets_that_do_not_rise_are_refused(text):
    with pytest.raises(InputError, match="budgets are whole numbers"):
        bench_curves.read_budgets(text)
    assert bench_curves.read_budgets("10, 20,35") == (10, 20, 35)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out", "x"], "at least one pool is needed"),
        (["--pool", "phantom:"], "a folder for the result is needed"),
        (["--pool", "phantom:", "--out", "x", "--seeds", "0"], "at least one seed"),
        (["--pool", "phantom:", "--out", "x", "--rare", "2"], "a share is between 0 and 1"),
        (["--pool", "phantom:", "--out", "x", "--strategy", "luck"], "unknown strategy"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("bench", "selection", *argv)
    assert answer.code != 0 and message in answer.err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_whole_bench_goes_on_where_it_stopped(tmp_path, monkeypatch):
    pool = "phantoms=phantom:num_patients=60"
    small = ["--set", "engine.backend=serial", "--set", "preprocess.size_px=64", "--budgets", "4,8,16", "--seeds", "2"]
    argv = ["bench", "selection", "--pool", pool, "--strategy", "max_herding", "--rare", "0.1", "--out", tmp_path / "o"]
    answer = call(*argv, *small, "--json")
    assert answer.code == 0, answer.err
    rows = answer.json["rows"]
    assert [(row["pool"], row["strategy"]) for row in rows] == [
        ("phantoms", "max_herding"),
        ("phantoms", "random"),
        ("phantoms, 10 %", "max_herding"),
        ("phantoms, 10 %", "random"),
    ]
    assert json.loads((tmp_path / "o" / "selection.json").read_text())["rows"] == rows
    assert "max_herding" in (tmp_path / "o" / "selection.md").read_text()
    page = (tmp_path / "o" / "selection.html").read_text()
    assert page.count("<svg") == 2 and "max_herding" in page

    def never(histories):
        raise AssertionError("it was done before")

    monkeypatch.setattr(selection_curve, "simulate", never)
    assert call(*argv, *small, "--json").json["rows"] == rows
