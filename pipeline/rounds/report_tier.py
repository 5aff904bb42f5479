"""What a round takes from radiology reports: the checks that count, in the order they were drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import POOL_LABELS, REPORT_CHECK
from pipeline.learn.material import Material, SoftLabels
from pipeline.learn.scan_rows import ScanRows
from pipeline.radiology_reports import soft_labels
from pipeline.radiology_reports.soft_labels import FromReports
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext

CHECKS = ("uniform", REPORT_CHECK)  # drawn by chance from the pool, and from what reports say


def counts(material: Material, reports: FromReports, pseudo: pa.Table | None = None) -> dict[str, Any]:
    """The fields of a round's row that speak of radiology reports; none where the pool has none.

    Args:
        material: What the round learns from.
        reports: What they tell it.
        pseudo: Its pseudo-labels; None: it has none. A report that trains comes before one.
    """
    if not reports.learned:
        return {}
    trains_T = np.zeros(len(material.pool_T), bool) if material.reports is None else material.reports.weight_T > 0.0
    by_report = material.pool_T.keep(trains_T & material.open_T)
    admitted = ScanRows.of([] if pseudo is None else pseudo.filter(pseudo["admitted"])["image_id"])
    return {
        "num_report": len(by_report),
        "num_report_and_pseudo": int(by_report.among(admitted).sum()),
        "reports": [error.to_json() for error in reports.learned],
    }


def of_round(
    ctx: StageContext, classes: Sequence[str], round_index: int, answers: Mapping[str, str | None]
) -> FromReports:
    """What the reports of a run tell a question, by the answers up to a round.

    Args:
        ctx: Of the question.
        classes: Its C classes.
        round_index: The last round whose queue was answered; 0: none.
        answers: The experts' class by scan, by majority; None: they could not tell.
    """
    if soft_labels.fingerprint(ctx.folder, ctx.config) is None:
        return FromReports()
    asks = run_files.asks_of(ctx.folder, round_index + 1)
    known = known_before(ctx)
    checks = [image_id for image_id, _, kind in asks if kind in CHECKS and image_id not in known]
    return soft_labels.from_reports(ctx.folder, ctx.config, classes, checks, answers)


def known_before(ctx: StageContext) -> set[str]:
    """Scans of which the pool itself says whether they show the finding: drawn for another one, they check nothing."""
    if ctx.config.pool.finding is None or ctx.config.oracle:
        return set()
    pool = POOL_LABELS.read(ctx.folder)
    return set(pool.filter(pc.is_valid(pool["label"]))["image_id"].to_pylist())


def soft(reports: FromReports, data: Dataset, weight: float) -> SoftLabels | None:
    """What a round trains on from reports, along the training pool; None: nothing."""
    if not reports.used or weight <= 0.0:
        return None
    target_TC, weight_T = reports.targets(data.pool_T.image_id.to_pylist(), len(data.findings), weight)
    return SoftLabels(target_TC, weight_T)
