"""A run that waits for its annotators, and the files they would send back."""

import csv
import datetime as dt
import io
import json
import shutil
import zipfile
from dataclasses import replace

from pipeline.contracts import config_file
from pipeline.contracts.errors import WaitingForLabels
from pipeline.contracts.tables import QUEUE, write_text
from pipeline.rounds import loop
from pipeline.runtime import run_files
from tests.support.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia")
WHEN = dt.datetime(2026, 3, 1, 10, tzinfo=dt.UTC)
SMALL = {"num_scans": 70, "num_holdout": 20, "queue__budget": 10, "queue__holdout_budget": 4, "rounds__num": 3}


def waiting_run(folder, **options):
    """No label anywhere: a queue of 10 scans of the training pool and 4 of the holdout, as files."""
    run = synthetic_run(folder, oracle=False, labelled=(), **{**SMALL, **options})
    write_text(folder / run_files.RESOLVED, config_file.dump(run.ctx.config))  # the commands take it for a run
    waits(run)
    return run


def moved(run, folder):
    """The run as it goes on in a copy of its folder."""
    return replace(run, ctx=replace(run.ctx, folder=folder))


def copy_of(run, folder):
    """The same run elsewhere, for one test to spoil."""
    shutil.copytree(run.folder, folder)
    return folder


def waits(run):
    """Go on with the rounds; what the run waits for then, None when it is done."""
    try:
        loop.run(run.ctx)
    except WaitingForLabels as waiting:
        return str(waiting)
    return None


def queue_rows(folder, round_index=1):
    return QUEUE.read(folder / "rounds" / f"{round_index:02d}").sort_by("rank").to_pylist()


def queue_ids(folder, round_index=1):
    return [row["image_id"] for row in queue_rows(folder, round_index)]


def reading(image_id, reply, annotator="Ann", *, certainty=None, seconds=3.5, time=WHEN, round_index=1):
    """One answer, as every route below writes it."""
    return {
        "image_id": image_id,
        "label": reply,
        "certainty": certainty or "",
        "seconds": seconds,
        "labelled_at": time,
        "annotator": annotator,
        "round": round_index,
    }


def as_csv(
    path,
    readings,
    run,
    columns=("image_id", "rank", "file", "label", "certainty", "seconds", "labelled_at", "annotator", "round", "run"),
):
    """`answers.csv` as the page of a bundle saves it."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for rank, row in enumerate(readings, start=1):
        file = f"images/{row['image_id']}.png"
        writer.writerow(row | {"labelled_at": stamp(row), "rank": rank, "file": file, "run": run})
    path.write_text(stream.getvalue(), "utf-8")
    return path


def as_bundle(path, readings, run):
    """The bundle with the table put in, as a whole."""
    table = as_csv(path.with_suffix(".csv"), readings, run).read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("bundle/index.html", "<html></html>")
        bundle.writestr("bundle/queue.csv", "image_id,label\n")
        bundle.writestr("bundle/answers.csv", table)
    return path


def as_full_json(path, readings, run):
    """Label Studio's JSON: a task a scan, an annotation a reader; accounts are e-mail addresses here."""
    by_scan = {}
    for row in readings:
        by_scan.setdefault(row["image_id"], []).append(row)
    tasks, number = [], 0
    for image_id, rows in by_scan.items():
        annotations = []
        for row in rows:
            number += 1
            result = [_choice("finding", row["label"])]
            result += [_choice("certainty", row["certainty"])] if row["certainty"] else []
            annotations.append(
                {
                    "id": number,
                    "completed_by": {"id": 1, "email": row["annotator"]},
                    "was_cancelled": False,
                    "lead_time": row["seconds"],
                    "updated_at": stamp(row),
                    "result": result,
                }
            )
        data = {"image": "/x.png", "image_id": image_id, "rank": 1, "round": rows[0]["round"], "run": run}
        tasks.append({"id": len(tasks) + 1, "data": data, "annotations": annotations, "drafts": []})
    path.write_text(json.dumps(tasks), "utf-8")
    return path


def as_min_json(path, readings, run):
    """Label Studio's JSON-MIN: an entry an annotation."""
    entries = [_flat(row, run, number) for number, row in enumerate(readings, start=1)]
    path.write_text(json.dumps(entries), "utf-8")
    return path


def as_label_studio_csv(path, readings, run):
    """Label Studio's CSV."""
    entries = [_flat(row, run, number) for number, row in enumerate(readings, start=1)]
    for entry in entries:
        entry["finding"] = json.dumps(entry["finding"]) if isinstance(entry["finding"], dict) else entry["finding"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(entries[0]))
    writer.writeheader()
    writer.writerows(entries)
    path.write_text(stream.getvalue(), "utf-8", newline="")
    return path


ROUTES = {
    "answers.csv": as_csv,
    "bundle.zip": as_bundle,
    "full.json": as_full_json,
    "min.json": as_min_json,
    "studio.csv": as_label_studio_csv,
}


def send(path, readings, folder):
    """Write a file of the kind its name tells, for this run."""
    return ROUTES[path.name](path, readings, run_files.run_code(folder))


def stamp(row):
    return row["labelled_at"].isoformat(timespec="milliseconds") if row["labelled_at"] else ""


def _choice(control, value):
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": value.split("|")}}


def _flat(row, run, number):
    several = {"choices": row["label"].split("|")}
    finding = several if "|" in row["label"] else row["label"]  # as Label Studio tells several choices, and one
    return {
        "image": "/x.png",
        "image_id": row["image_id"],
        "rank": 1,
        "round": row["round"],
        "run": run,
        "id": number,
        "finding": finding,
        "annotator": row["annotator"],
        "annotation_id": number,
        "created_at": stamp(row),
        "updated_at": stamp(row),
        "lead_time": row["seconds"],
        "certainty": row["certainty"] or None,
    }
