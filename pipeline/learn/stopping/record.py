"""`rounds/RR/forecast.json`: what a round says of further labels, and the advice that follows from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.contracts.options.learning import StopConfig
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_files

Row = dict[str, Any]


def write(folder: Path, round_index: int, record: Row) -> None:
    """Write a round's record."""
    path = run_files.round_folder(folder, round_index) / run_files.FORECAST
    write_text(path, json.dumps(record, indent=1) + "\n")


def read(folder: Path, round_index: int) -> Row | None:
    """A round's record; None where it has none."""
    path = run_files.round_folder(folder, round_index) / run_files.FORECAST
    if not path.exists():
        return None
    content: Row = json.loads(path.read_text("utf-8"))
    return content


def read_all(folder: Path) -> list[Row]:
    """The records of a run, or of one finding of it, in the order of the rounds."""
    records = (read(folder, r) for r in run_files.rounds_with(folder, run_files.FORECAST))
    return [record for record in records if record is not None]


def latest(folder: Path) -> Row | None:
    """The record of the last round that has one."""
    records = read_all(folder)
    return records[-1] if records else None


def kappas(folder: Path, before_round: int) -> list[float | None]:
    """Agreement of each round before with the one before it, in order; None where it says nothing."""
    records = (read(folder, round_index) for round_index in range(1, before_round))
    return [None if record is None else record["stability"]["kappa"] for record in records]


def advice(stability: Mapping[str, Any], forecast: Mapping[str, Any], options: StopConfig) -> Row:
    """Whether to stop, by what, and why.

    Args:
        stability: See `stability.Stability`.
        forecast: See `forecast.describe`.
        options: What is too little.

    Returns:
        {"stop","by","why"}: `by` is a part of ["stable", "forecast"]; `why` is one line for each of the two.
    """
    by = [name for name, says in (("stable", stability["is_stable"]), ("forecast", _buys_little(forecast))) if says]
    return {"stop": bool(by), "by": by, "why": [_of_forecast(forecast, options), _of_stability(stability)]}


def _buys_little(forecast: Mapping[str, Any]) -> bool:
    return bool(forecast["buys_little"])


def _of_forecast(forecast: Mapping[str, Any], options: StopConfig) -> str:
    if forecast["why"]:
        return f"too early to say what further labels would buy: {forecast['why']}"
    gain = forecast["scores"]["auroc"]["gains"][-1]
    expected = (
        f"the next {gain['labels']} labels are expected to change the AUROC by {_signed(gain['mean'])} "
        f"({100 * forecast['confidence']:g} % interval {_signed(gain['low'])} to {_signed(gain['high'])})"
    )
    if not _buys_little(forecast):
        return expected
    return f"{expected}; that is less than stop.min_gain, {options.min_gain:g}"


def _of_stability(stability: Mapping[str, Any]) -> str:
    if stability["mean"] is None:
        wanted = stability["num_comparisons"]
        missing = stability["why"] or f"{wanted} comparisons of rounds in a row are needed"
        return f"too early to say whether predictions are stable: {missing}"
    state = "stable" if stability["is_stable"] else "still changing"
    return (
        f"predictions are {state}: kappa {stability['mean']:.3f} over the last {stability['num_comparisons']} "
        f"comparisons, stable from {stability['threshold']:g} on"
    )


def _signed(value: float) -> str:
    return f"{value:+.3f}"
