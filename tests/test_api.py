"""The Python API: what it answers, and that its types hold in a user's file. `Classifier`: see test_predict.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import api
from pipeline.api.results import audit_from
from pipeline.contracts.tables import MANIFEST, PREDICTIONS
from tests.support.report_runs import fake_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("api")
    Image.new("L", (8, 8), 90).save(place / "scan.png")
    return fake_run(place / "run", num_scans=120, num_rounds=2, pictures=[place / "scan.png"])


def vectors(num=60, dim=6):
    return np.random.default_rng(3).normal(size=(num, dim))


# --- select


def test_rows_are_chosen_that_have_no_label_and_none_twice():
    labelled = [0, 5, 9]
    rows = api.select(vectors(), 12, labelled=labelled)
    assert rows.dtype == np.int64 and len(set(rows.tolist())) == 12 and not set(rows.tolist()) & set(labelled)
    mask_N = np.isin(np.arange(60), labelled)
    assert rows.tolist() == api.select(vectors(), 12, labelled=mask_N).tolist()
    assert sorted(api.select(vectors(8), 99, labelled=[1]).tolist()) == [0, 2, 3, 4, 5, 6, 7]
    assert api.select(vectors(3), 2, labelled=[0, 1, 2]).tolist() == []


def test_the_strategy_its_options_and_the_seed_are_heard():
    plain = api.select(vectors(), 5, strategy="max_herding").tolist()
    assert plain == api.select(vectors(), 5, options={"strategy.name": "max_herding"}).tolist()
    assert plain != api.select(vectors(), 5, strategy="max_herding", options={"strategy.bandwidth": 0.05}).tolist()
    draws = {tuple(api.select(vectors(), 5, strategy="random", seed=seed).tolist()) for seed in (0, 0, 1)}
    assert len(draws) == 2


def test_probabilities_and_patients_count():
    prob_NC = np.full((60, 2), [0.99, 0.01])
    prob_NC[[7, 31]] = 0.5
    assert set(api.select(vectors(), 2, strategy="entropy", probabilities=prob_NC).tolist()) == {7, 31}
    patients = ["one"] * 30 + [f"p{i}" for i in range(30)]
    rows = api.select(vectors(), 20, strategy="core_set", groups=patients)
    assert (rows < 30).sum() <= 1


def test_classes_let_the_default_look_for_a_rare_one():
    classes = np.full(60, -1)
    classes[:20] = 0
    prob_NC = np.full((60, 2), [0.9, 0.1])
    given = {"labelled": range(20), "probabilities": prob_NC}
    sought = api.select(vectors(), 6, classes=classes, **given).tolist()
    assert sought != api.select(vectors(), 6, **given).tolist()
    assert (
        sought == api.select(vectors(), 6, classes=classes, probabilities=prob_NC).tolist()
    )  # labelled by their class
    frequent = np.where(np.arange(60) < 20, np.arange(60) % 2, -1)
    assert api.select(vectors(), 6, classes=frequent, **given).tolist() == api.select(vectors(), 6, **given).tolist()


def test_a_vector_that_is_not_finite_is_never_chosen():
    emb_ND = vectors(10)
    emb_ND[4, 2] = np.nan
    assert sorted(api.select(emb_ND, 10).tolist()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "must be 1 or more"),
        ({"embeddings": np.zeros(5)}, "another shape"),
        ({"embeddings": [["a", "b"]]}, "no array of numbers"),
        ({"labelled": [60]}, "no rows of the embeddings"),
        ({"labelled": [True, False]}, "another shape"),
        ({"labelled": [0.5]}, "no rows of the embeddings"),
        ({"groups": ["a"]}, "another length"),
        ({"probabilities": np.zeros((3, 2))}, "another shape"),
        ({"classes": [0, 1]}, "another shape"),
        ({"classes": np.full(60, 0.5)}, "are no classes"),
        ({"classes": np.full(60, -2)}, "are no classes"),
        ({"classes": np.full(60, 2), "probabilities": np.full((60, 2), 0.5)}, "beyond the 2 columns"),
        ({"strategy": "best"}, "unknown strategy"),
        ({"options": {"strategy.width": 1}}, "unknown key"),
    ],
)
def test_wrong_arguments_are_exceptions(arguments, message):
    with pytest.raises(api.InputError, match=message):
        api.select(**({"embeddings": vectors(), "n": 3} | arguments))


# --- Run, audit, compare


def test_tables_of_a_run_come_with_paths(folder):
    run = api.Run(folder)
    place = dict(zip(run.scans["image_id"], run.scans["path"], strict=True))
    assert len(place) == len(MANIFEST.read(folder)) == 120
    for frame in (run.labels, run.predictions):
        assert frame["path"].tolist() == [place[i] for i in frame["image_id"]] and frame["uri"].notna().all()
    table = PREDICTIONS.read(folder)
    assert run.predictions["prob_pneumonia"].tolist() == pytest.approx(table["prob_pneumonia"].to_pylist())
    assert len(run.labels) == 2 * 40 and run.metrics["holdout.auroc"].notna().tolist() == [True, True]
    assert run.config["pool"]["uri"] == "/data/pool" and "state='done', rounds_finished=2" in repr(run)


def test_the_report_is_written_again(folder):
    page = api.Run(folder).report()
    assert page == folder / "report" / "index.html" and "</html>" in page.read_text("utf-8")


def test_what_is_not_there_is_an_exception_or_none(folder, tmp_path):
    with pytest.raises(api.InputError, match="is not a run directory"):
        api.Run(tmp_path)
    with pytest.raises(api.InputError, match="not embedded yet"):
        _ = api.Run(folder).embeddings
    with pytest.raises(api.InputError, match="no round of this run has learned a classifier"):
        api.Classifier.load(folder)


def test_runs_are_compared(folder, tmp_path):
    other = api.Run(shutil.copytree(folder, tmp_path / "other"))
    found = api.compare(folder, other, out=tmp_path / "page.html")
    assert found.runs["run"].tolist() == ["run", "other"] and found.runs["scores.auroc"].nunique() == 1
    assert (found.differences["difference"].dropna() == 0).all() and "auroc" in found.differences["metric"].tolist()
    assert found.page.is_file()


def test_an_audit_says_its_verdict_and_stops_a_script_on_request(tmp_path):
    content = {
        "verdict": "invalid",
        "blocking": ["exact-duplicates"],
        "checks": [{"id": "exact-duplicates", "severity": "block", "message": "2 copies.", "fix": "Drop them."}],
    }
    audit = audit_from(content, tmp_path / "audit.html")
    assert audit.checks.loc[0, "severity"] == "block"
    with pytest.raises(api.AuditBlocked, match="exact-duplicates: 2 copies"):
        audit.raise_if_blocked()
    audit_from(content | {"blocking": []}, tmp_path / "audit.html").raise_if_blocked()


@pytest.mark.slow
def test_types_hold_in_a_user_s_file(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pipeline.api import Classifier, Run, select\n"
        "run = Run('runs/first')\n"
        "names: list[str] = Classifier.load(run).classes_.tolist()\n"
        "row: int = int(select(run.embeddings, 3, labelled=[0])[0])\n"
        "wrong: int = run.report()\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file", "pyproject.toml"]
    checked = subprocess.run(
        [*command, str(mine)], cwd=ROOT, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1 and "mine.py:5" in errors[0], checked.stdout + checked.stderr


def test_run_takes_pools_that_join(folder, tmp_path, monkeypatch):
    from pipeline.commands import run as commands_run

    asked = []
    monkeypatch.setattr(commands_run, "execute", asked.append)
    api.run(None, folder, grow=[tmp_path / "other", "phantom:"], resume=True)
    assert (asked[0].grow, asked[0].resume) == ((str(tmp_path / "other"), "phantom:"), True)
