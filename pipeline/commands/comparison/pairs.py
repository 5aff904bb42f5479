"""Paired differences between the first run and each of the others, finding by finding, where they share a holdout."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.commands import compare
from pipeline.commands.comparison.records import RunRecord
from pipeline.contracts.errors import CxrSslError
from pipeline.contracts.tables import PREDICTIONS
from pipeline.measures.holm import holm
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.finding_folders import parts_in

Row = dict[str, Any]


def against(reference: RunRecord, others: Sequence[RunRecord]) -> tuple[list[Row], list[Row]]:
    """Compare runs with one of them, and log in each that its holdout was read.

    Args:
        reference: The run that all are compared with; it has scores.
        others: Runs; one without scores is not paired.

    Returns:
        The pairs: {"a", "b", "finding", "num_scans", "num_groups", "metrics", "delong"}, see `compare.paired`; a
        difference is b's score less a's. `finding` is None where classes exclude each other. `p_holm` is Holm's over
        every test of all the pairs. And what could not be paired: {"a", "b", "finding", "reason"}.
    """
    pairs: list[Row] = []
    apart: list[Row] = []
    reads: dict[Path, int] = {}
    for other in others:
        for finding, own, theirs, reason in _questions(reference, other):
            names: Row = {"a": reference.name, "b": other.name, "finding": finding}
            if reason is None:
                try:
                    comparison = compare.paired(StageContext(run_dir.config_of(own), own, SerialEngine()), theirs)
                except CxrSslError as error:
                    reason = error.what
                else:
                    pairs.append(comparison | names)
                    reads |= {folder: max(reads.get(folder, 0), comparison["num_scans"]) for folder in (own, theirs)}
            if reason is not None:
                apart.append(names | {"reason": reason})
    for folder, num_scans in reads.items():
        compare.log_reads([folder], num_scans)
    _correct(pairs)
    return pairs, apart


def _questions(first: RunRecord, other: RunRecord) -> Iterator[tuple[str | None, Path, Path, str | None]]:
    """What two runs are asked: the finding, its folder in each run, and why it cannot be compared."""
    own, theirs = parts_in(first.folder), parts_in(other.folder)
    if other.reason is not None:
        yield None, first.folder, other.folder, other.reason
    elif bool(own) != bool(theirs):
        yield None, first.folder, other.folder, "one tells classes apart, the other asks for independent findings"
    elif not own:
        yield None, first.folder, other.folder, None
    for finding in dict.fromkeys((*own, *theirs)) if own and theirs and other.reason is None else ():
        if finding not in own or finding not in theirs:
            owner = first if finding in own else other
            yield finding, first.folder, other.folder, f"only {owner.name} asks for it"
        else:
            both = own[finding], theirs[finding]
            scored = all((folder / PREDICTIONS.file).exists() for folder in both)
            yield finding, *both, None if scored else "one of the runs has no classifier for it yet"


def _correct(pairs: list[Row]) -> None:
    """Put Holm's correction over all tests of the page in place of that over one pair's."""
    rows = [row for pair in pairs for row in pair["metrics"]]
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
