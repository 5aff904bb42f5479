"""What the findings' parts say, put together: a round's row, the audit, the evidence."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.runtime import run_dir

Row = dict[str, Any]
RANK = {"ok": 0, "warn": 1, "block": 2}
LOWER_IS_WORSE = ("class-imbalance", "too-few-cases")
MAX_QUOTED = 3  # findings whose message a merged check repeats


def merged_row(round_index: int, num_read: int, rows: Mapping[str, Row]) -> Row:
    """One row of `metrics.jsonl` for all findings.

    Args:
        round_index: From 1.
        num_read: Scans that experts have answered.
        rows: The row of each finding.

    Returns:
        Sums of counts and means of rates over the findings that have them. `pseudo_precision_certified` is the worst
        bound, and None as long as one finding has no blind check. Each bound holds by itself, see `releases` for all at
        once.
    """
    every = list(rows.values())
    bounds = [row["pseudo_precision_certified"] for row in every]
    return {
        "round": round_index,
        "num_expert": num_read,
        "num_pseudo": sum(row["num_pseudo"] for row in every),
        "num_accepted": sum(row["num_accepted"] for row in every),
        "pseudo_share": mean(row["pseudo_share"] for row in every),
        "pseudo_precision": _by_count(every, "pseudo_precision"),
        "pseudo_precision_estimated": _by_count(every, "pseudo_precision_estimated"),
        "pseudo_precision_certified": None if None in bounds else min(bounds),
        "gate": every[0]["gate"],
        "rolled_back": any(row["rolled_back"] for row in every),
        "calibration_auroc": mean(row["calibration_auroc"] for row in every),
        "flip_rate": mean(row["flip_rate"] for row in every),
        "holdout": _holdout(rows),
        "findings": dict(rows),
        "seconds": _added(row["seconds"] for row in every),
        "fingerprint": run_dir.fingerprint({finding: row["fingerprint"] for finding, row in rows.items()}),
    }


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None of none."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _by_count(rows: list[Row], name: str) -> float | None:
    """Mean of a precision over all pseudo-labels."""
    known = [(row[name], row["num_pseudo"]) for row in rows if row[name] is not None and row["num_pseudo"]]
    total = sum(num for _, num in known)
    return sum(value * num for value, num in known) / total if total else None


def _holdout(rows: Mapping[str, Row]) -> Row | None:
    scored = {f: HoldoutMetrics.from_json(row["holdout"]) for f, row in rows.items() if row["holdout"]}
    if not scored:
        return None
    every = list(scored.values())
    return {
        "auroc": mean(metrics.auroc for metrics in every),
        "accuracy": mean(metrics.accuracy for metrics in every),
        "balanced_accuracy": mean(metrics.balanced_accuracy for metrics in every),
        "sensitivity": mean(metrics.sensitivity for metrics in every),
        "specificity": mean(metrics.specificity for metrics in every),
        "num_scans": max(metrics.num_scans for metrics in every),
        "num_groups": max(metrics.num_groups for metrics in every),
        "num_findings": len(scored),
        "per_class": {finding: metrics.to_json()["per_class"][finding] for finding, metrics in scored.items()},
    }


def _added(clocks: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for clock in clocks:
        for name, seconds in clock.items():
            total[name] = round(total.get(name, 0.0) + seconds, 3)
    return total


def merged_audit(audits: Mapping[str, Row]) -> Row:
    """One audit for all findings: every check once, at its worst.

    Args:
        audits: The audit of each finding, as `audit.examine` returns it.
    """
    first = next(iter(audits.values()))
    checks: dict[str, dict[str, Row]] = {}
    for finding, audit in audits.items():
        for check in audit["checks"]:
            checks.setdefault(check["id"], {})[finding] = check
    facts = first["facts"] | {
        "classes": {finding: audit["facts"]["classes"].get(finding, 0) for finding, audit in audits.items()},
        "num_labelled": max(audit["facts"]["num_labelled"] for audit in audits.values()),
        "labels_hash": run_dir.fingerprint(
            {finding: audit["facts"]["labels_hash"] for finding, audit in audits.items()}
        ),
    }
    return first | {
        "facts": facts,
        "checks": [_worst(of) for of in checks.values()],
        "shortcuts": _distinct(row for audit in audits.values() for row in audit["shortcuts"]),
        "external": _distinct(row for audit in audits.values() for row in audit["external"]),
    }


def _worst(of: Mapping[str, Row]) -> Row:
    """The worst of one check, with what it says of the findings that are as bad."""
    rank = max(RANK[check["severity"]] for check in of.values())
    bad = {f: check for f, check in sorted(of.items(), key=_badness) if RANK[check["severity"]] == rank}
    worst = next(iter(bad.values()))
    if len({check["message"] for check in of.values()}) == 1:
        return worst
    quoted = [f"{finding}: {check['message']}" for finding, check in list(bad.items())[:MAX_QUOTED]]
    more = f" (and {len(bad) - MAX_QUOTED} more findings)" if len(bad) > MAX_QUOTED else ""
    return worst | {"message": " ".join(quoted) + more, "count": max(check["count"] for check in bad.values())}


def _badness(item: tuple[str, Row]) -> float:
    """Sort key of findings by a check's number, the worst first; those without one last, else in their order."""
    value = item[1]["value"]
    if value is None:
        return math.inf
    return float(value) if item[1]["id"] in LOWER_IS_WORSE else -float(value)


def _distinct(rows: Iterable[Row]) -> list[Row]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(row, sort_keys=True) for row in rows)]
