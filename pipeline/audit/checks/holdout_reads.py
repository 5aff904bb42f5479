"""How often the sealed holdout was read: a holdout that guided choices is a holdout no more."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.audit.audited_pool import Subject
from pipeline.audit.check import Check, Table
from pipeline.runtime import run_files

EVALUATIONS = ("evaluate", "evidence", "comparison")  # readers that score a model which people then may change


def check(subject: Subject) -> Check:
    """The reads on record."""
    why = "Every look at the holdout that leads to a change makes its numbers a little too good."
    fix = "Choose by the calibration scores, not by the holdout; after many looks seal a new one."
    reads = read_log(subject.folder)
    if not reads:
        return Check("holdout-access", "ok", "No read of the holdout is on record.", why, fix, checked=False)
    limit = subject.config.audit.warn_holdout_reads
    counts = Counter(str(read["reader"]) for read in reads)
    num = sum(counts[reader] for reader in EVALUATIONS)
    parts = ", ".join(f"{reader} {count}" for reader, count in sorted(counts.items()))
    return Check(
        "holdout-access",
        "warn" if num > limit else "ok",
        f"Reads of the holdout's labels: {len(reads)} ({parts}); {num} of them scored a model.",
        why,
        fix,
        count=len(reads),
        value=float(num),
        threshold=float(limit),
        table=Table(
            ("time", "reader", "round", "scans"),
            tuple((read["time"], read["reader"], read.get("round"), read.get("num_scans")) for read in reads[-40:]),
        ),
    )


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Every logged read, oldest first."""
    path = folder / run_files.HOLDOUT_READS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
