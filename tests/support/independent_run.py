"""A run of independent findings that waits for its annotators, as far as they see it: written by hand, not drawn."""

import json

import pyarrow as pa

from pipeline.contracts import config_file
from pipeline.contracts.finding_line import Independent
from pipeline.contracts.tables import QUEUE, write_text
from pipeline.runtime import run_files
from tests.support.synthetic_run import synthetic_run

FINDINGS = Independent(("effusion", "mass", "nodule"))
NUM = 6


def independent_run(folder, findings=FINDINGS, **options):
    """A queue of six scans of the training pool, none of them answered."""
    given = {"pool__findings": list(findings), "pool__findings_are": "independent", **options}
    run = synthetic_run(folder, num_scans=40, num_holdout=10, oracle=False, labelled=(), **given)
    write_text(folder / run_files.RESOLVED, config_file.dump(run.ctx.config))
    draw(folder, 1, run.ids("train")[:NUM])
    return run


def draw(folder, round_index, image_ids, kind="representative"):
    """A round's queue."""
    place = folder / "rounds" / f"{round_index:02d}"
    place.mkdir(parents=True)
    rows = [
        {"image_id": image_id, "rank": rank, "kind": kind, "cluster": None, "score": None, "proposed": None}
        for rank, image_id in enumerate(image_ids, start=1)
    ]
    QUEUE.write(place, pa.Table.from_pylist(rows, QUEUE.schema))
    write_text(place / "queue.json", json.dumps({"queue": {}}))
