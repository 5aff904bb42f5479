"""A small run that has learned a round, for the page that looks at its pool: gaussians, one tiny picture, seconds."""

import json

from pipeline.contracts import config_file
from pipeline.contracts.tables import write_text
from pipeline.rounds import loop
from pipeline.runtime import run_files
from tests.support.synthetic_run import synthetic_run

SMALL = {"num_scans": 120, "num_holdout": 40, "num_copies": 4, "distance": 0.8, "queue__budget": 30, "rounds__num": 1}


def explored_run(folder, **options):
    """A finished round of an oracle; classes that overlap, so that some scans are mistaken; two scans flagged."""
    run = synthetic_run(folder, **{**SMALL, **options})
    write_text(folder / run_files.RESOLVED, config_file.dump(run.ctx.config))
    loop.run(run.ctx)
    flagged = (("near-duplicates", run.ids("train")[:2]), ("label-conflict", run.ids("holdout")[:2]))
    audit = {"verdict": "caution", "checks": [check(name, ids) for name, ids in flagged]}
    write_text(folder / run_files.AUDIT, json.dumps(audit))
    return run


def check(name, ids):
    rows = [{"image_id": image_id, "note": ""} for image_id in ids]
    return {"id": name, "title": name, "severity": "warn", "evidence": rows}
