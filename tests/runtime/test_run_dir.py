import json

import pytest
import yaml

from pipeline.annotate import queue_csv
from pipeline.commands import claim
from pipeline.commands.request import Request, load_config
from pipeline.contracts import config_file
from pipeline.contracts.answers import ORACLE, POOL, Answer
from pipeline.contracts.config import Config
from pipeline.contracts.errors import RunDirError
from pipeline.labels import label_table
from pipeline.runtime import run_dir, run_files
from tests.support.people import say

FINDINGS = ("normal", "sick")


@pytest.fixture
def run(tmp_path):
    """A run whose first stage is finished."""
    folder = tmp_path / "run"
    claim.claim(folder, resume=False, overwrite=False)
    with run_dir.locked(folder):
        run_dir.write_config(folder, Config(seed=3))
    run_dir.record_stage(folder, {"name": "manifest", "fingerprint": "f", "counts": {}})
    return folder


def siblings(run):
    return sorted(path.name for path in run.parent.iterdir() if path != run)


def test_a_new_and_an_empty_folder_are_claimed(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/deep"):
        with run_dir.locked(tmp_path / name):
            claim.claim(tmp_path / name, resume=False, overwrite=False)
            run_dir.write_config(tmp_path / name, Config())
        assert run_dir.is_run(tmp_path / name)


def test_what_it_was_given_and_what_it_became_are_both_kept(run):
    assert (run / "config.yaml").read_text("utf-8") == "seed: 3\n"
    assert config_file.load(run / "resolved.yaml") == Config(seed=3)
    found = json.loads((run / "env.json").read_text("utf-8"))
    assert found["torch"]
    assert found["cpus"] >= 1


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_something_else_is_refused_before_it_is_touched(tmp_path, resume, overwrite):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(RunDirError, match=r"not a run \(thesis\.txt\)"), run_dir.locked(tmp_path):
        raise AssertionError("the lock was given")
    with pytest.raises(RunDirError, match="not a run"):
        claim.claim(tmp_path, resume=resume, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_neither_mixed_nor_lost(run):
    run_dir.write_status(run, "done")
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(RunDirError, match=r"state: done.*--resume.*--overwrite"):
        claim.claim(run, resume=False, overwrite=False)
    claim.claim(run, resume=True, overwrite=False)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_overwrite_empties_a_run_that_no_person_worked_in(run):
    (run / "rounds" / "01").mkdir(parents=True)
    (run / "rounds" / "01" / "queue.csv").write_text("image_id,rank,file,label\na,1,a.png,\n")
    label_table.add_answers(run, [Answer("a", "sick", POOL, 0), Answer("b", "sick", ORACLE, 1)], FINDINGS)
    claim.claim(run, resume=False, overwrite=True)
    assert [path.name for path in run.iterdir()] == [run_files.LOCK]
    assert siblings(run) == []


def imported(run):
    say(run, [Answer("a", "sick", "Ann", 1)], FINDINGS)


def filled_in(run):
    (run / "rounds" / "01").mkdir(parents=True)
    (run / "rounds" / "01" / "queue.csv").write_text("image_id;rank;file;label\na;1;a.png;\nb;2;b.png;sick\n")


def unreadable(run):
    (run / "labels.parquet").write_bytes(b"junk")


@pytest.mark.parametrize("work", [imported, filled_in, unreadable])
def test_overwrite_moves_what_people_did_aside(run, work):
    work(run)
    before = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    claim.claim(run, resume=False, overwrite=True)
    assert [path.name for path in run.iterdir()] == [run_files.LOCK]
    (name,) = siblings(run)
    assert name.startswith("run.before-")
    kept = run.parent / name
    after = {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    assert after == {path: data for path, data in before.items() if path.name != run_files.LOCK}


def test_a_filled_queue_is_known_as_one():
    for text, filled in (("image_id,label\na,\nb,  \n", False), ("image_id,label\na,\nb,?\n", True)):
        assert queue_csv.is_filled("queue.csv", text) is filled


def test_a_run_that_failed_before_its_first_stage_starts_again(run):
    (run / run_files.STAGES).unlink()
    claim.claim(run, resume=False, overwrite=False)
    assert not run_dir.is_run(run)


def test_the_lock_is_for_one(run):
    with (
        run_dir.locked(run),
        pytest.raises(RunDirError, match="another process is working"),
        run_dir.locked(run),
    ):
        raise AssertionError("two hold it")
    with run_dir.locked(run):  # given back, also after an error
        pass


def test_status_is_what_was_written_last(run):
    assert run_dir.read_status(run) == {}
    run_dir.write_status(run, "running", "embed")
    run_dir.write_status(run, "waiting", "rounds", 2, "for Ann")
    found = run_dir.read_status(run)
    assert {key: found[key] for key in ("state", "stage", "round", "message")} == {
        "state": "waiting",
        "stage": "rounds",
        "round": 2,
        "message": "for Ann",
    }
    assert found["updated"].endswith("+00:00")
    written = {"state": "running", "process": found["process"] | {"started": "long ago"}}
    (run / "status.json").write_text(json.dumps(written))
    assert run_dir.read_status(run)["state"] == "died"
    written["process"]["host"] = "another"
    (run / "status.json").write_text(json.dumps(written))
    elsewhere = run_dir.read_status(run)
    assert elsewhere["state"] == "running" and "is on another: whether it lives cannot be known" in elsewhere["message"]
    (run / "status.json").write_text("{")
    with pytest.raises(RunDirError, match="not JSON"):
        run_dir.read_status(run)


def test_a_stage_has_one_record(run):
    run_dir.record_stage(run, {"name": "splits", "fingerprint": "a"})
    run_dir.record_stage(run, {"name": "manifest", "fingerprint": "b"})
    records = run_dir.stage_records(run)
    assert {name: record["fingerprint"] for name, record in records.items()} == {"manifest": "b", "splits": "a"}


def test_fingerprints_follow_values_and_not_their_order():
    one = run_dir.fingerprint({"a": 1, "b": {"c": [1, 2]}})
    assert one == run_dir.fingerprint({"b": {"c": [1, 2]}, "a": 1})
    others = [{"a": 2, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [2, 1]}}, {"a": "1", "b": {"c": [1, 2]}}, {"a": 1}]
    assert one not in {run_dir.fingerprint(parts) for parts in others}


def test_hashes_of_files(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert run_dir.file_hash(tmp_path / "a") == run_dir.file_hash(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"y")
    assert run_dir.file_hash(tmp_path / "a") != run_dir.file_hash(tmp_path / "b")
    assert run_dir.file_hash(tmp_path / "c") == "absent"


def test_a_configuration_that_was_refused_is_taken_back(run):
    before = run_dir.write_config(run, Config(seed=4))
    run_dir.restore_config(run, before)
    assert config_file.load(run / "resolved.yaml").seed == 3


@pytest.mark.parametrize(("propagate", "meant"), [(0.0, 0.0), (0.5, 1.0)])
def test_a_run_without_an_option_goes_on_as_it_went_without_it(run, propagate, meant):
    """Before `network.open_scans` a network learned from the open scans where labels were spread over them."""
    resolved = run / run_files.RESOLVED
    tree = yaml.safe_load(resolved.read_text())
    del tree["network"]["open_scans"]
    tree["pseudo"]["propagate"] = propagate
    resolved.write_text(yaml.safe_dump(tree))
    assert run_dir.config_of(run).network.open_scans == meant
    resume = Request(resume=True, out=run, overrides={"pseudo.propagate": 1.0})
    assert load_config(resume, run).network.open_scans == meant
