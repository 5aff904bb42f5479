"""MLflow and TensorBoard hear of options, every round once, and the report; without them nothing is imported."""

import importlib.util
import json
import struct
import subprocess
import sys
import types

import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.watching import trackers


def run_with(folder, **options):
    """A run that stopped, and its options."""
    folder.mkdir(exist_ok=True)
    config = config_file.load(None, {"pool.uri": "phantom:", "splits.salt": "hidden-salt-of-ours", **options})
    run_dir.write_config(folder, config)
    return config


def finish(folder, rounds, state):
    rows = [{"round": r, "auroc": 0.5 + r / 10, "ece": {"after": 0.1 * r}, "learner": "x", "f": None} for r in rounds]
    write_text(folder / run_files.METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    write_text(folder / run_files.REPORT, "<html></html>")
    run_dir.write_status(folder, state)


class FakeMlflow:
    """The calls of `MlflowClient` that are used, by its documentation (MLflow 3, Python API)."""

    def __init__(self):
        self.params, self.metrics, self.files, self.states, self.runs = {}, [], [], [], 0

    def __call__(self, tracking_uri):
        return self

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "1"

    def create_run(self, experiment_id, run_name, tags):
        self.runs += 1
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        self.params |= dict(params)
        self.metrics += [(metric[0], metric[1], metric[3]) for metric in metrics]

    def log_artifact(self, run_id, path, folder):
        self.files.append(folder)

    def update_run(self, run_id, status):
        self.states.append(status)

    def set_terminated(self, run_id, status):
        self.states.append(status)


@pytest.fixture
def mlflow(monkeypatch):
    fake = FakeMlflow()
    entities = types.SimpleNamespace(Metric=lambda *given: given, Param=lambda *given: given)
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=fake))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return fake


def test_mlflow_hears_of_each_round_once_over_two_commands(tmp_path, mlflow):
    config = run_with(tmp_path, **{"track.mlflow": "https://tracking"})
    with trackers.following(tmp_path, config):
        finish(tmp_path, [1, 2], "waiting")
    with trackers.following(tmp_path, config):
        finish(tmp_path, [1, 2, 3], "done")
    assert [entry for entry in mlflow.metrics if entry[0] == "auroc"] == [
        ("auroc", pytest.approx(0.6), 1),
        ("auroc", pytest.approx(0.7), 2),
        ("auroc", pytest.approx(0.8), 3),
    ]
    assert {name for name, _, _ in mlflow.metrics} == {"round", "auroc", "ece/after"}
    assert (mlflow.runs, mlflow.states, mlflow.files) == (1, ["RUNNING", "FINISHED"], ["report", "report"])
    assert mlflow.params["pool.uri"] == '"phantom:"' and mlflow.params["rounds.num"] == "5"
    assert "hidden-salt" not in json.dumps(mlflow.params)


def test_a_tracker_that_fails_ends_no_run(tmp_path, mlflow, monkeypatch, caplog):
    config = run_with(tmp_path, **{"track.mlflow": "https://tracking"})
    monkeypatch.setattr(FakeMlflow, "create_run", lambda self, *_, **__: 1 / 0)
    with trackers.following(tmp_path, config):
        finish(tmp_path, [1], "done")
    assert "MLflow was not told of this run: division by zero" in caplog.text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs cxr-ssl[mlflow]")
def test_a_real_mlflow_that_keeps_its_runs_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    address = (tmp_path / "mlruns").as_uri()
    folder = tmp_path / "run"
    config = run_with(folder, **{"track.mlflow": address})
    with trackers.following(folder, config):
        finish(folder, [1, 2], "done")
    client = MlflowClient(tracking_uri=address)
    [run] = client.search_runs([client.get_experiment_by_name("cxr-ssl").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["rounds.num"]) == ("run", "FINISHED", "5")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "auroc")] == [(1, 0.6), (2, 0.7)]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "report")] == ["report/index.html"]


def scalars(folder):
    """(name, round) of every scalar in the event files: records of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(value.tag, event.step) for value in event.summary.value]
            data = data[16 + length :]
    return found


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is None, reason="needs cxr-ssl[tensorboard]")
def test_tensorboard_has_each_round_once_over_two_commands(tmp_path):
    config = run_with(tmp_path, **{"track.tensorboard": True})
    for rounds in ([1, 2], [1, 2, 3]):
        with trackers.following(tmp_path, config):
            finish(tmp_path, rounds, "done")
    found = [step for name, step in scalars(tmp_path / run_files.TENSORBOARD) if name == "auroc"]
    assert sorted(found) == [1, 2, 3]


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_one_that_is_not_installed_is_told_before_the_run(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    asked = {"mlflow": "file:///x", "tensorboard": True}
    with pytest.raises(InputError, match=rf"cxr-ssl\[{name}\]"):
        trackers.check(config_file.load(None, {f"track.{name}": asked[name]}))
    trackers.check(config_file.load(None, {}))


def test_nothing_of_theirs_is_imported_unasked():
    code = "import sys, pipeline.commands.run; assert not {'mlflow', 'tensorboardX'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
