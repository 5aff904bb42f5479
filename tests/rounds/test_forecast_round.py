"""A round forecasts once for its answers, without the holdout; the rounds end by it only where that is asked for."""

import json
from dataclasses import replace

import pytest

from pipeline.contracts.config import Config
from pipeline.contracts.options.learning import StopConfig
from pipeline.contracts.tables import PREDICTIONS
from pipeline.learn.releases import frozen_release
from pipeline.learn.stopping import record
from pipeline.rounds import forecast_round, loop
from pipeline.rounds.question import Question
from pipeline.rounds.run_scans import Dataset
from tests.support import waiting_run as waiting
from tests.support.elsewhere import Elsewhere
from tests.support.synthetic_run import options, synthetic_run

SMALL = {
    "queue__budget": 20,
    "rounds__num": 3,
    "release__freeze_round": 0,
    "stop__advise": True,
    "stop__num_repeats": 2,
    "stop__min_labels": 30,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = synthetic_run(tmp_path_factory.mktemp("forecast") / "run", distance=1.5, **SMALL)
    loop.run(run.ctx)
    return run


@pytest.fixture
def copied(finished, tmp_path):
    """The same to go on with."""
    return waiting.moved(finished, waiting.copy_of(finished, tmp_path / "copied"))


def records(run):
    return record.read_all(run.folder)


def test_every_round_says_what_it_can(finished):
    first, second, third = records(finished)
    assert first["forecast"]["why"] == "20 expert labels, and 30 are needed (stop.min_labels)"
    assert first["stability"]["kappa"] is None
    assert second["forecast"]["why"] == "" and third["num_expert"] == 60
    score = third["forecast"]["scores"]["auroc"]
    assert [gain["labels"] for gain in score["gains"]] == [20, 50, 100]  # 120 scans are left to ask
    assert all(gain["low"] < gain["mean"] < gain["high"] for gain in score["gains"])
    assert 0.5 < score["now"] <= 1.0
    assert third["stability"]["kappa"] is not None and third["stability"]["mean"] is None  # two comparisons of three
    assert not third["advice"]["stop"] or third["advice"]["by"] == ["forecast"]


def test_tasks_of_rounds_need_nothing_of_the_runs_folder(finished, tmp_path):
    """Heads and forecasts on nodes that do not see it: the same bytes as in this process."""
    other = synthetic_run(tmp_path / "run", distance=1.5, **SMALL)
    engine = Elsewhere(other.folder)
    loop.run(replace(other.ctx, engine=engine))
    assert records(other) == records(finished)
    for number in (1, 2, 3):
        own, here = (PREDICTIONS.read(run.ctx.round_folder(number)) for run in (other, finished))
        assert own.equals(here)
    assert engine.num_tasks > 10  # a teacher and a student of six heads each, and draws of forecasts


def test_the_holdout_is_not_read_for_it(finished, tmp_path):
    """The same answers and another truth of the sealed scans: the same forecast, byte for byte."""
    swap = {"normal": "pneumonia", "pneumonia": "normal"}
    other = synthetic_run(tmp_path / "run", distance=1.5, **SMALL)
    other.table({i: swap[c] if other.split[i] == "holdout" else c for i, c in other.truth.items()})
    loop.run(other.ctx)
    assert [row["forecast"] for row in records(other)] == [row["forecast"] for row in records(finished)]
    assert [row["stability"] for row in records(other)] == [row["stability"] for row in records(finished)]


def test_resuming_computes_nothing_again_and_other_options_do(copied, monkeypatch):
    before = records(copied)
    monkeypatch.setattr(forecast_round.subset_fits, "fit_all", lambda *_: pytest.fail("computed again"))
    loop.run(copied.ctx)
    loop.run(options(copied, stop__when="stable"))  # what ends the rounds changes no forecast
    assert records(copied) == before
    monkeypatch.undo()
    loop.run(options(copied, stop__confidence=0.5))
    narrower = records(copied)[-1]["forecast"]["scores"]["auroc"]["gains"][-1]
    wider = before[-1]["forecast"]["scores"]["auroc"]["gains"][-1]
    assert wider["low"] < narrower["low"] < narrower["high"] < wider["high"]
    rows = [json.loads(line) for line in (copied.folder / "metrics.jsonl").read_text().splitlines()]
    assert all("forecast" in row["seconds"] for row in rows)
    loop.run(options(copied, stop__advise=False))
    assert records(copied) == []


def test_horizons_beyond_the_pool_are_left_out(copied):
    loop.run(options(copied, stop__horizons=[50, 200]))
    assert [gain["labels"] for gain in records(copied)[-1]["forecast"]["scores"]["auroc"]["gains"]] == [50]
    loop.run(options(copied, stop__horizons=[200]))
    assert records(copied)[-1]["forecast"]["why"].startswith("only 120 scans without a label are left")


# --- ending by it


def rounds_of(run):
    return len((run.folder / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("when", "changed", "num_rounds"),
    [
        ("stable", {"stop__agreement": 0.01, "stop__num_comparisons": 2}, 3),  # the third round has two comparisons
        ("forecast", {"stop__min_gain": 0.9}, 2),  # the second has labels enough
    ],
)
def test_the_rounds_end_where_they_are_told_to(tmp_path, when, changed, num_rounds):
    run = synthetic_run(tmp_path / "run", distance=1.5, **SMALL | {"rounds__num": 4, "stop__when": when} | changed)
    loop.run(run.ctx)
    assert rounds_of(run) == num_rounds
    loop.run(run.ctx)
    assert rounds_of(run) == num_rounds  # and stay ended


@pytest.mark.parametrize(
    ("when", "changed"),
    [
        ("never", {"stop__agreement": 0.01, "stop__num_comparisons": 2, "stop__min_gain": 0.9}),
        ("forecast", {"stop__min_gain": 0.0}),
    ],
)
def test_a_third_round_is_followed_by_a_fourth_where_nothing_ends_them(copied, when, changed):
    loop.run(options(copied, rounds__num=4, stop__when=when, **changed))
    assert rounds_of(copied) == 4


def test_no_end_while_blind_checks_are_to_come(tmp_path):
    changed = {"rounds__num": 4, "stop__when": "forecast", "stop__min_gain": 0.9, "release__freeze_round": 3}
    run = synthetic_run(tmp_path / "run", distance=3.0, **SMALL | changed)
    loop.run(run.ctx)
    assert rounds_of(run) == 4  # one is to be frozen after round 3, and 18 checks are too few
    state = frozen_release.state_of(run.folder, {})
    assert state["round"] == 3
    asked = Question(run.ctx, Dataset.open(run.ctx))
    assert "forecast" in record.read(run.folder, 2)["advice"]["by"] and not asked.ends(2)


def test_a_queue_that_people_may_have_seen_is_not_taken_back(copied):
    loop.run(options(copied, stop__when="forecast", stop__min_gain=0.9))
    assert rounds_of(copied) == 3


def test_an_end_before_the_last_round_would_leave_the_network_out():
    with pytest.raises(ValueError, match=r"train\.adapt_rounds: all"):
        Config.model_validate({"stop": {"when": "stable"}, "train": {"adapt": "partial"}})
    adapted = {"adapt": "partial", "adapt_rounds": "all"}
    assert Config.model_validate({"stop": {"when": "stable"}, "train": adapted}).stop.when == "stable"


def test_horizons_rise():
    with pytest.raises(ValueError, match="horizons must rise"):
        StopConfig(horizons=(50, 20))
    assert StopConfig(num_scans=50, horizons=(5, 10)).horizons == (5, 10)
