"""Two rounds on real scans, labelled by keyboard in a real browser, from the first queue to the report.

A small network makes the vectors and runs are called in this process; the page is served as a user serves it.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.contracts.tables import MANIFEST, QUEUE
from pipeline.labels.journal import Journal
from tests.support.browser import ROOT, fresh_page, sit_down, wait_ready, wait_sent
from tests.support.tiny import FAST, call

DATA = os.environ.get("CXR_SSL_DATA")
FINDINGS = ("no_finding", "pneumonia", "covid")
pytestmark = [pytest.mark.real, pytest.mark.slow]  # in parts and on made-up scans: test_annotate, test_end_to_end
BECAUSE = "a drill: covid3's sources give its classes away, and no result of it is believed"
NUM_ROUNDS, BUDGET, HOLDOUT_BUDGET = 2, 10, 15


@pytest.fixture
def pool(tmp_path):
    """covid3 with every label taken away, and the truth by path, which the annotators know."""
    source = Path(DATA) / "covid3" / "manifest.csv"
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = rows[::10]  # of all three classes; a tenth is enough for the drill
    truth = {row["image_path"]: row["label"] for row in rows}
    path = tmp_path / "pool.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"label": "", "image_path": source.parent / row["image_path"]})
    return path, truth


class Served:
    """`cxr-ssl annotate`, as a user starts it."""

    def __init__(self, run):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "annotate", str(run), "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline().strip()
        self.link = line[line.index("http://") :]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def label_all(page, classes):
    """Answer by keyboard until nothing is left; how many answers were given."""
    num = 0
    while True:
        page.wait_for_selector("body[data-ready=true], body[data-state=done]")
        if page.get_attribute("body", "data-state") == "done":
            break
        image_id = wait_ready(page)
        page.keyboard.press(str(FINDINGS.index(classes[image_id]) + 1))
        num += 1
        page.wait_for_function(
            "id => document.body.dataset.scan !== id || document.body.dataset.state === 'done'", arg=image_id
        )
    return num


def cxr_ssl(*argv, code=0):
    done = call(*argv)
    assert done.code == code, done.err
    return done


def test_rounds_through_the_page(browser, pool, tmp_path):
    path, truth = pool
    run = tmp_path / "run"
    options = {
        "queue.holdout_budget": HOLDOUT_BUDGET,
        "queue.min_seconds": 0,  # a script is faster than a person
        "pool.findings": f"[{', '.join(FINDINGS)}]",
        "audit.num_bootstrap": 20,
    }
    given = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    rounds = ("--rounds", NUM_ROUNDS, "--budget", BUDGET, "--accept", "all", "--because", BECAUSE)
    cxr_ssl("run", "--pool", path, "--out", run, "-q", *FAST, *rounds, *given, code=3)
    manifest = MANIFEST.read(run)
    classes = {
        row["image_id"]: next(label for end, label in truth.items() if row["uri"].endswith(end))
        for row in manifest.select(["image_id", "uri"]).to_pylist()
    }
    asked = {}
    for round_index in range(1, NUM_ROUNDS + 1):
        queue = QUEUE.read(run / "rounds" / f"{round_index:02d}")["image_id"].to_pylist()
        assert len(queue) == BUDGET + (HOLDOUT_BUDGET if round_index == 1 else 0)
        with Served(run) as served, fresh_page(browser) as page:
            sit_down(page, served.link, "Dr Lee")
            num = label_all(page, classes)
            wait_sent(page)
        given = Journal.open(run).active()
        new = {one.answer.image_id: one.answer.reply for one in given if one.answer.round_index == round_index}
        assert len(new) == num and new == {image_id: classes[image_id] for image_id in new}
        assert set(queue) <= set(new) and set(new) - set(queue) <= set(asked)  # the others: her own, asked again
        asked |= new
        cxr_ssl("run", "--out", run, "--resume", "-q", code=3 if round_index < NUM_ROUNDS else 0)
    status = cxr_ssl("status", run, "--json").json
    assert (status["state"], status["rounds_finished"], status["num_expert"]) == ("done", NUM_ROUNDS, len(asked))
    (lee,) = status["labels"]["annotators"]
    assert lee["annotator"] == "Dr Lee" and lee["num_answers"] == len(Journal.open(run).active())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["num_expert"] for row in rows] == sorted(row["num_expert"] for row in rows)
    assert rows[-1]["holdout"]["num_scans"] == HOLDOUT_BUDGET
    assert (run / "report" / "index.html").exists()
