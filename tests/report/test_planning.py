"""The section on further labels: the forecast, what came of earlier ones, stability, and what a certificate takes."""

import json

import pytest

from pipeline.measures.plans import sequential_plan
from pipeline.report import build
from pipeline.report.gather import gather
from pipeline.report.planning import certificates, when_to_stop
from tests.support import report_text, sketched_chart
from tests.support.forecast_records import write_forecasts
from tests.support.report_runs import fake_run
from tests.support.report_text import words_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = fake_run(tmp_path_factory.mktemp("planning") / "run", num_scans=160)
    write_forecasts(run, by=("stable",))
    with sketched_chart.drawn():
        build(run)
    return run


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report" / "index.html").read_text("utf-8")


def test_it_says_what_is_advised_and_that_people_decide(page):
    words = words_of(page)
    assert "consider stopping here: the predictions hardly change any more. It is advice only; people decide." in words
    assert "After 100 expert labels, the next 100 are expected to change the AUROC by +0.020" in words
    assert "(90% interval −0.010 to +0.050)" in words
    assert report_text.stands_alone(page) and report_text.says_nothing_broken(page)


def test_the_table_holds_every_horizon_and_score(page):
    rows = report_text.table_under(page, "Forecast")
    assert [row[0] for row in rows] == ["+20", "+50", "+100"]
    assert rows[1] == ["+50", *["+0.010", "−0.005 to +0.025"] * 3]
    assert page.count('id="forecast-') > 0 and "AUROC, out of fold" in page


def test_what_came_is_the_change_of_the_holdout(folder, page):
    scored = {
        row["num_expert"]: row["holdout"]["auroc"]
        for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    }
    rows = when_to_stop.checked(gather(folder))
    assert [(row["num_labels"], row["labels"]) for row in rows] == [(40, 20), (60, 20), (80, 20)]
    assert rows[0]["came"] == pytest.approx(scored[60] - scored[40])
    assert all(row["is_inside"] == (-0.002 <= row["came"] <= 0.01) for row in rows)
    assert len(report_text.table_under(page, "Forecasts and what came")) == 3


def test_stability_of_every_round(page):
    rows = report_text.table_under(page, "Stability")
    assert rows[0] == ["1", "200", "–", "–", "this round or the one before has no classifier"]
    assert rows[-1] == ["5", "200", "1.000", "0.995", "stable"]


def test_too_early_is_said_with_its_reason(tmp_path):
    run = fake_run(tmp_path / "run", num_scans=120, num_rounds=1)
    write_forecasts(run, num_rounds=1)
    build(run)
    words = words_of((run / "report" / "index.html").read_text("utf-8"))
    assert "Too early to say what further labels would buy: 20 expert labels, and 30 are needed" in words
    assert (
        "Too early to say whether the predictions are stable: this round or the one before has no classifier" in words
    )


def test_a_run_without_forecasts_says_so(tmp_path):
    run = fake_run(tmp_path / "run", num_scans=120, num_rounds=1)
    build(run)
    assert "Nothing was forecast" in words_of((run / "report" / "index.html").read_text("utf-8"))


# --- certificates


def with_options(folder, **sections):
    run = gather(folder)
    for section, values in sections.items():
        run.config[section] |= values
    return run


def test_the_plan_of_every_target_and_the_runs_own_promise(folder, page):
    rows = report_text.table_under(page, "Checks needed")
    by_promise = {row[0]: row[1:6] for row in rows}
    assert list(by_promise) == ["90.0%", "95.0%", "97.0%", "99.0%"]  # the release of this run promises .97
    assert by_promise["90.0%"] == ["36", "54", "73", "94", "114"]
    assert by_promise["95.0%"] == ["72", "112", "151", "192", "236"]


def test_the_share_of_a_budget(folder):
    run = with_options(folder, rounds={"num": 8}, queue={"budget": 20})
    assert [b.name for b in certificates.budgets(run)] == [
        "next queue",
        "the 3 rounds left",
        "100 labels",
        "234 labels",
        "500 labels",
    ]
    first = certificates.targets(run)[0]
    assert first.share == [None, pytest.approx(36 / 60), 0.36, pytest.approx(36 / 234), pytest.approx(36 / 500)]


def test_the_chances_are_those_of_the_plan(folder, page):
    rows = report_text.table_under(page, "Chance of a certificate")
    assert len(rows) == 4 * len(certificates.TRUTHS)
    exact = sequential_plan.chance_certified(0.9, 0.95, 0.98, 5)
    assert rows[1] == ["90.0%", "98.0%", *(f"{100 * chance:.0f}%" for chance in exact)]


def test_the_present_state_and_what_the_rounds_left_can_do(folder):
    run = with_options(folder, rounds={"num": 15}, queue={"budget": 20}, release={"check_share": 0.6})
    texts = certificates.present_state(run)
    assert texts[0].endswith("25 scans have been checked in its order, with 0 errors.")
    assert texts[1] == "97 further checks without an error would certify it."
    assert texts[2].startswith(
        "The rounds left pay for up to 120 checks; the chance that they certify it is 0% if 97.0%"
    )
    assert certificates.present_state(with_options(folder, rounds={"num": 5}))[2:] == []


def test_no_table_for_one_of_several_findings(folder):
    assert certificates.plan(with_options(folder, pool={"finding": "mass"})) is None


def test_before_and_after_the_checks(folder):
    run = gather(folder)
    release = run.rounds[-1]["release"]
    assert certificates.present_state(with_release(run, None)) == [
        "No release is frozen yet, so every check is still to come."
    ]
    certified = release | {"state": "certified", "certified_tier": "whole"}
    assert "holds its promise of 97.0%" in certificates.present_state(with_release(run, certified))[0]
    used_up = json.loads(json.dumps(release))
    used_up["tiers"][0]["checks_needed"] = None
    assert certificates.present_state(with_release(run, used_up))[-1] == "No number of further checks can certify it."


def test_a_certified_tier_is_named_beside_the_one_under_check(folder):
    run = gather(folder)
    release = json.loads(json.dumps(run.rounds[-1]["release"]))
    first, second = release["tiers"]
    first |= {"tier": "surest", "holds": True, "bound": 0.931, "num_checked": 36, "num_scans": 72, "checks_needed": 0}
    second |= {"tier": "whole", "holds": False, "num_checked": 1, "num_errors": 0, "checks_needed": 30}
    texts = certificates.present_state(with_release(run, release | {"state": "checking"}))
    assert "the surest tier (72 scans) is certified: at least 93.1% of it are right, after 36 checks" in texts[0]
    assert texts[1].startswith("Of the whole of the release") and "1 scan has been checked in its order" in texts[1]
    assert texts[2] == "30 further checks without an error would certify it."


def with_release(run, release):
    run.rounds[-1]["release"] = release
    return run
