"""Predictions of independent findings, written as one line a scan."""

import numpy as np

from pipeline.contracts import finding_line
from pipeline.per_finding import rounds

FINDINGS = ("effusion", "mass", "nodule")
MEANING = {1: 1.0, 0: 0.0, -1: float("nan")}


def test_every_scan_has_the_line_of_its_own_findings():
    state_NF = np.random.default_rng(0).integers(-1, 2, (200, len(FINDINGS))).astype(np.int8)
    one_by_one = [
        finding_line.write({name: MEANING[state] for name, state in zip(FINDINGS, row, strict=True)}, FINDINGS)
        for row in state_NF.tolist()
    ]
    assert rounds._lines(state_NF, FINDINGS).to_pylist() == one_by_one
    assert rounds._lines(state_NF[:0], FINDINGS).to_pylist() == []
