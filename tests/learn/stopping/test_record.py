"""The advice follows from what was measured, and says why in a line each."""

import pytest

from pipeline.contracts.options.learning import StopConfig
from pipeline.learn.stopping import record
from pipeline.learn.stopping.stability import FIRST

OPTIONS = StopConfig()
UNKNOWN = {"why": "only 4 of sick", "buys_little": False, "scores": {}, "confidence": 0.9}
STABLE = {"mean": 0.995, "is_stable": True, "why": "", "num_comparisons": 3, "threshold": 0.99}
CHANGING = STABLE | {"mean": 0.9, "is_stable": False}


def expected(high, buys_little):
    gains = [{"labels": 100, "mean": 0.004, "low": -0.002, "high": high}]
    return {"why": "", "confidence": 0.9, "buys_little": buys_little, "scores": {"auroc": {"gains": gains}}}


def test_nothing_measured_is_no_reason_to_stop():
    said = record.advice(STABLE | {"mean": None, "is_stable": False, "why": FIRST}, UNKNOWN, OPTIONS)
    assert (said["stop"], said["by"]) == (False, [])
    assert said["why"] == [
        "too early to say what further labels would buy: only 4 of sick",
        f"too early to say whether predictions are stable: {FIRST}",
    ]


@pytest.mark.parametrize(
    ("stability", "buys_little", "by"),
    [
        (CHANGING, False, []),
        (STABLE, False, ["stable"]),
        (CHANGING, True, ["forecast"]),
        (STABLE, True, ["stable", "forecast"]),
    ],
)
def test_either_is_enough_for_advice(stability, buys_little, by):
    said = record.advice(stability, expected(0.009, buys_little), OPTIONS)
    assert (said["stop"], said["by"]) == (bool(by), by)
    assert (
        "the next 100 labels are expected to change the AUROC by +0.004 (90 % interval -0.002 to +0.009)"
        in (said["why"][0])
    )
    assert ("less than stop.min_gain" in said["why"][0]) is buys_little


def test_records_are_read_back_in_order(tmp_path):
    assert record.read(tmp_path, 1) is None and record.latest(tmp_path) is None
    for round_index, kappa in ((1, None), (3, 0.8)):
        record.write(tmp_path, round_index, {"round": round_index, "stability": {"kappa": kappa}})
    assert [row["round"] for row in record.read_all(tmp_path)] == [1, 3]
    assert record.latest(tmp_path)["round"] == 3
    assert record.kappas(tmp_path, 4) == [None, None, 0.8]
