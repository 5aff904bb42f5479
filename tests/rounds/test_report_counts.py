"""A scan that trains by a report and has a pseudo-label is counted as both, and drawn once."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from pipeline.learn.scan_rows import ScanRows
from pipeline.report.figures import num_by_report_alone
from pipeline.rounds import report_tier


def test_scans_with_a_report_and_a_pseudo_label_are_in_one_bar():
    material = SimpleNamespace(
        pool_T=ScanRows.of(["a", "b", "c", "d"]),
        open_T=np.array([True, True, True, False]),
        reports=SimpleNamespace(weight_T=np.array([1.0, 1.0, 0.0, 1.0])),
    )
    reports = SimpleNamespace(learned=[SimpleNamespace(to_json=dict)])
    pseudo = pa.table({"image_id": ["a", "b", "c"], "admitted": [True, False, True]})
    row = report_tier.counts(material, reports, pseudo)
    assert (row["num_report"], row["num_report_and_pseudo"], num_by_report_alone(row)) == (2, 1, 1)
