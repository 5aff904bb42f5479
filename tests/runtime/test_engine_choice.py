"""`engine.backend: auto`: what runs in this process, what goes to Ray, and what is told and kept of it. No Ray runs."""

import json
import os

import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import EngineError, InputError
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime import engine as engines
from pipeline.runtime import ray_cluster, run_dir
from pipeline.runtime.engine import AutoEngine, SerialEngine, make_engine, uses_gpu
from pipeline.runtime.ray_engine import RayEngine
from pipeline.runtime.workplace import workplace


class Cluster:
    """Stands for Ray: runs shards here, backwards, and knows whether it was started."""

    started, fails = 0, False


@pytest.fixture
def cluster(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    state = Cluster()

    def start(engine):
        if state.fails:
            raise EngineError("Ray did not start: it timed out", fix="see doctor")
        state.started += 1

    def map_shards(engine, function, shards, *, on_gpu=False):
        return ((i, function(shards[i])) for i in reversed(range(len(shards))))

    monkeypatch.setattr(RayEngine, "start", start)
    monkeypatch.setattr(RayEngine, "map_shards", map_shards)
    monkeypatch.setattr(RayEngine, "num_gpus", lambda engine: 0.0)
    monkeypatch.setattr(ray_cluster, "answering", lambda address: address)
    return state


def auto(notes=None, **options):
    given = {"num_cpus": 2, "ray_from_scans": 100} | options
    return make_engine(EngineConfig(**given), note=lambda choice: notes is None or notes.append(choice))


def order(engine):
    return [index for index, _ in engine.map_shards(abs, [1, 2, 3])]


HERE, THERE = [0, 1, 2], [2, 1, 0]


@pytest.mark.parametrize(
    ("options", "expected", "where", "why"),
    [
        ({}, {"num_scans": 99}, HERE, "more than it saves below 100 scans"),
        ({}, {"num_scans": 100}, THERE, "100 scans, and engine.ray_from_scans is 100"),
        ({}, {"num_networks": 1}, HERE, "below 100 scans"),
        ({}, {"num_networks": 2}, THERE, "2 networks are trained side by side"),
        ({"num_cpus": 1}, {"num_scans": 10**6, "num_networks": 9}, HERE, "one task at a time"),
        ({"threads_per_task": 2}, {"num_scans": 10**6}, HERE, "one task at a time"),
        ({}, None, THERE, "tasks of unknown length"),
        ({"backend": "serial"}, {"num_scans": 10**6}, HERE, "engine.backend asks for it"),
        ({"backend": "ray"}, {"num_scans": 1}, THERE, "engine.backend asks for it"),
    ],
)
def test_where_tasks_run_and_why(cluster, options, expected, where, why):
    notes = []
    engine = auto(notes, **options)
    if expected is not None:
        engine.expect(**expected)
    assert order(engine) == where
    assert [note.backend for note in notes] == [{0: "serial", 2: "ray"}[where[0]]]
    assert why in notes[0].why


def test_more_work_goes_over_to_ray_and_less_does_not_come_back(cluster):
    notes = []
    engine = auto(notes)
    for num_scans, where in ((10, HERE), (100, THERE), (10, THERE)):
        engine.expect(num_scans)
        assert order(engine) == where
    assert [note.backend for note in notes] == ["serial", "ray"]


def test_nothing_to_do_starts_nothing(cluster):
    engine = auto()
    engine.expect(10**6)
    assert list(engine.map_shards(abs, [])) == []
    assert cluster.started == 0


def test_a_ray_that_does_not_start_leaves_the_work_here_with_a_warning(cluster, caplog):
    notes, cluster.fails = [], True
    engine = auto(notes)
    engine.expect(100)
    assert order(engine) == HERE and engine.num_slots() == 1
    engine.expect(10**6)  # it is not tried again
    assert order(engine) == HERE
    assert [note.backend for note in notes] == ["ray", "serial"] and "it timed out" in notes[1].why
    assert caplog.text.count("goes on without Ray") == 1


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"])
def test_a_cluster_that_is_named_is_used_for_little_work_too_and_its_failure_is_an_error(cluster, monkeypatch, name):
    monkeypatch.setenv(name, "10.0.0.1:6379")
    engine = auto()
    engine.expect(1)
    assert order(engine) == THERE
    cluster.fails = True
    with pytest.raises(EngineError, match="it timed out"):
        order(auto())


def test_several_workers_are_rays(cluster):
    engine = auto()
    engine.expect(1)
    assert uses_gpu(engine, EngineConfig(), 2, "train.num_workers") is False
    assert cluster.started and order(engine) == THERE
    cluster.fails = True
    with pytest.raises(EngineError, match="it timed out"):
        auto().start()
    with pytest.raises(InputError, match=r"train\.num_workers.*engine\.backend=ray"):
        SerialEngine().start()


def test_gpus_that_are_not_there_are_refused_before_a_choice(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"engine\.num_gpus_per_task"):
        auto(num_gpus_per_task=1.0)


def test_a_task_here_has_its_own_threads_and_the_driver_its_own_again():
    config = EngineConfig(backend="serial", threads_per_task=3, driver_threads=1)
    before = os.environ.get("OMP_NUM_THREADS")
    stream = SerialEngine(config).map_shards(lambda _: os.environ["OMP_NUM_THREADS"], "ab")
    assert next(stream) == (0, "3")
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert list(stream) == [(1, "3")]


def test_the_choice_is_kept_with_the_run_once_the_folder_is_its_own(cluster, tmp_path):
    config = config_file.load(None, {"engine.ray_from_scans": 100, "engine.num_cpus": 2, "engine.driver_threads": 2})
    assert isinstance(make_engine(config.engine), AutoEngine)
    with workplace(config, tmp_path) as place:
        assert os.environ["OMP_NUM_THREADS"] == "2"
        place.engine.expect(5)
        assert list(tmp_path.iterdir()) == []
        run_dir.write_config(tmp_path, config)
        place.record()
        kept = json.loads((tmp_path / "env.json").read_text())["engine"]
        assert kept == {"backend": "serial", "why": kept["why"], "driver_threads": 2, "task_threads": 1}
        place.engine.expect(100)
        kept = json.loads((tmp_path / "env.json").read_text())
        assert kept["engine"]["backend"] == "ray" and "python" in kept


def test_every_line_of_the_log_says_where_tasks_run(caplog):
    caplog.set_level("INFO")
    engines.say_choice(engines.Choice("serial", "it is small"))
    assert "tasks run in this process: it is small" in caplog.text
