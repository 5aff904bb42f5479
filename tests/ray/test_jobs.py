"""Jobs on a real head: what is submitted ends as the run of a laptop does, and waits for annotators in between."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.contracts.tables import MANIFEST
from tests.support import ray_head
from tests.support.tiny import FAST, call, make_pool

ROOT = Path(__file__).parents[2]
# Tasks of two threads: one at a time, so that only one worker has to import what it needs.
OPTIONS = (
    *FAST,
    "--set",
    "engine.backend=auto",
    "--set",
    "engine.threads_per_task=2",
    "--set",
    "audit.num_bootstrap=0",
    "--set",
    "calibrate.num_folds=2",
)


@pytest.fixture
def sent(ray_session, tmp_path):
    """A folder with this code alone, as it is sent; the cluster's `python` is this one."""
    code = tmp_path / "code"
    for name in ("pipeline", "embeddings", "jobs", "configs"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    cache = f"CXR_SSL_CACHE={os.environ['CXR_SSL_CACHE']}"
    return ["--go", "--address", ray_head.dashboard(), "--working-dir", code, "--env", f"PATH={path}", "--env", cache]


def unlabelled(folder):
    def row(i):
        return ("", f"p{i // 2}", "train") if i < 20 else (("normal", "sick")[i // 2 % 2], f"p{i // 2}", "test")

    return make_pool(folder, num=28, columns=("label", "patient_id", "official_split"), row=row) / "manifest.csv"


def answer_queue(folder):
    """Fill in the sheet, from the names of the files, and import it."""
    manifest = MANIFEST.read(folder).to_pylist()
    number = {row["image_id"]: int(Path(row["path"]).stem[1:]) for row in manifest}
    sheet = folder / "rounds" / "01" / "queue.csv"
    rows = list(csv.DictReader(sheet.open(encoding="utf-8", newline="")))
    for row in rows:
        row["label"] = ("normal", "sick")[number[row["image_id"]] // 2 % 2]
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert call("labels", "import", folder, sheet, "--annotator", "Ann").code == 0


def results(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        del row["seconds"], row["fingerprint"]  # that of a manifest, whose pseudonyms are each run's own
    return rows, (folder / "predictions.parquet").read_bytes(), (folder / "embeddings.npy").read_bytes()


@pytest.mark.ray
def test_a_job_waits_for_annotators_goes_on_and_ends_as_a_run_here(sent, tmp_path):
    pool = unlabelled(tmp_path / "pool")

    def arguments(out):
        return ["run", "--pool", pool, "--rounds", "1", "--budget", "10", "--out", tmp_path / out, "-q", *OPTIONS]

    first = call("submit", *sent, *arguments("job"))
    assert first.code == 3, first.err
    assert "waiting: round 1 waits for 10 of 10 labels" in first.err and "submit the same line again" in first.out
    environment = json.loads((tmp_path / "job" / "env.json").read_text())
    assert environment["job"]["id"] == first.out.split()[1]
    assert environment["job"]["entry"].startswith("python -m jobs.run_rounds --pool")
    assert environment["git"] and environment["engine"]["backend"] == "ray"
    assert call(*arguments("here")).code == 3
    for out in ("job", "here"):
        answer_queue(tmp_path / out)
    second = call("submit", *sent, *arguments("job"))
    assert second.code == 0, second.err
    assert call(*arguments("here"), "--resume").code == 0
    assert results(tmp_path / "job") == results(tmp_path / "here")
    assert json.loads((tmp_path / "here" / "env.json").read_text())["engine"]["backend"] == "serial"


@pytest.mark.ray
def test_a_node_without_the_package_is_told(ray_session, tmp_path):
    bare = tmp_path / "bin" / "python"  # sees nothing but Python itself
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    (tmp_path / "empty").mkdir()
    given = [
        "--address",
        ray_head.dashboard(),
        "--working-dir",
        tmp_path / "empty",
        "--env",
        f"PATH={bare.parent}:/bin",
    ]
    answer = call("submit", "--go", *given, "embed", "phantom:", "--out", tmp_path / "out")
    assert answer.code == 1 and not (tmp_path / "out").exists()
    assert "the node that ran the job has no jobs" in answer.message and "--working-dir" in answer.message


@pytest.mark.ray
def test_another_version_of_ray_is_told(ray_session, tmp_path, monkeypatch):
    import ray

    theirs = ray.__version__
    monkeypatch.setattr(ray, "__version__", "2.59.9")
    answer = call(
        "submit", "--go", "--address", ray_head.dashboard(), "--working-dir", tmp_path, "run", "--out", "/shared/run"
    )
    assert answer.code == 2
    assert f"the cluster runs Ray {theirs}, and this is 2.59.9. Install ray=={theirs} here" in answer.message
