"""Scans as `monitor` sees them, without a picture: gaussian features of two classes, and a look of the pictures."""

import numpy as np
import pyarrow as pa

from pipeline.audit.picture_facts import GRID
from pipeline.monitor import observation, sample
from pipeline.predict import columns

FINDINGS = ("normal", "sick")
PRIOR_C = np.array([0.7, 0.3])


def scans(rng, num, *, share=0.3, scans_a_patient=1, change=None, name="r"):
    """A sample of `num` scans.

    Args:
        rng: Draws everything.
        num: Scans.
        share: Of them that are sick.
        scans_a_patient: Consecutive scans of one patient, who has a look of their own.
        change: Called with the row of each scan, as a dict, to plant something.
        name: Of its patients.
    """
    is_sick_N = rng.permutation(num) < round(share * num)
    look_N = np.repeat(rng.normal(size=-(-num // scans_a_patient)), scans_a_patient)[:num]
    usual_X = np.linspace(-1, 1, GRID * GRID)
    rows = []
    for row in range(num):
        x_Q = rng.normal(size=6)
        x_Q[0] += 3.0 * is_sick_N[row]
        x_Q[1] += 0.5 * look_N[row]
        odds = np.exp(3.0 * x_Q[0] - 4.5) * PRIOR_C[1] / PRIOR_C[0]
        prob = odds / (1 + odds)
        scan = {
            "path": f"{row}.png",
            "image_id": f"{name}{row:015d}",
            "sha256": f"{name}{row}",
            "status": columns.OK,
            "answer": FINDINGS[int(prob >= 0.5)],
            "outside_score": 0.6 + 0.1 * rng.random(),
            "outside": bool(rng.random() < 0.05),
            observation.PATIENT: f"{name}{row // scans_a_patient}",
            "view": "PA",
            "sex": "FM"[row % 2],
            "source": "here",
            "age_years": float(rng.integers(1, 12)),
            "brightness": 0.5 + 0.04 * look_N[row] + 0.02 * rng.normal(),
            "contrast": 0.6 + 0.05 * rng.normal(),
            "sharpness": -3 + 0.1 * rng.normal(),
            "noise": -4 + 0.1 * rng.normal(),
            "features": x_Q.tolist(),
            "thumbnail": (usual_X + 0.2 * rng.normal(size=len(usual_X))).tolist(),
        }
        for finding, value in zip(FINDINGS, (1 - prob, prob), strict=True):
            scan |= dict.fromkeys(columns.names_of(finding), value)
        if change is not None:
            change(scan)
        rows.append(scan)
    table = pa.Table.from_pylist(rows, schema=observation.schema(FINDINGS))
    return sample.of_table(table, table[observation.PATIENT].to_pylist(), np.eye(4, 6))
