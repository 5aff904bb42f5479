import fcntl
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.contracts.errors import EngineError, InputError
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime import ray_engine, ray_nodes
from pipeline.runtime.engine import SerialEngine, make_engine
from pipeline.runtime.ray_engine import RayEngine
from pipeline.runtime.ray_nodes import Places

# Functions are nested where workers run them: Ray then ships them by value, whatever the test module is called.


def results(engine, function, shards):
    return dict(engine.map_shards(function, shards))


def square():
    return lambda number: number * number


@pytest.mark.ray
def test_ray_gives_what_serial_gives(ray_session):
    shards = list(range(17))
    assert results(ray_session, square(), shards) == results(SerialEngine(), square(), shards)
    assert results(ray_session, square(), []) == {}
    assert ray_session.num_slots() == 2


@pytest.mark.ray
def test_work_runs_in_other_processes_with_the_threads_asked_for(ray_session):
    found = results(ray_session, lambda _: (os.getpid(), os.environ["OMP_NUM_THREADS"]), [0, 1, 2])
    assert os.getpid() not in {pid for pid, _ in found.values()}
    assert {threads for _, threads in found.values()} == {"1"}


@pytest.mark.ray
def test_a_task_whose_worker_died_is_run_again(ray_session, tmp_path):
    marker = tmp_path / "died"

    def dies_once(number):
        if number == 3 and not marker.exists():
            marker.touch()
            os._exit(1)
        return number + 100

    assert results(ray_session, dies_once, [1, 2, 3]) == {0: 101, 1: 102, 2: 103}
    assert marker.exists()


@pytest.mark.ray
def test_a_task_that_always_dies_gives_up_with_a_way_out(ray_session, tmp_path):
    engine = RayEngine(EngineConfig(max_retries=1))

    def dies(number):
        with (tmp_path / "attempts").open("a") as stream:
            stream.write("x")
        os._exit(1)

    with pytest.raises(EngineError, match=r"the worker of shard 0 died again after every retry.*--resume"):
        list(engine.map_shards(dies, [7]))
    assert (tmp_path / "attempts").read_text() == "xx"


@pytest.mark.parametrize("name", ["ObjectStoreFullError", "OutOfDiskError"])
def test_a_result_without_room_is_told_with_a_way_out(name):
    from ray import exceptions as errors_of_ray

    class Full:
        """A Ray whose store or disk is full."""

        exceptions = errors_of_ray

        def get(self, _):
            raise getattr(errors_of_ray, name)("object store is full")

    with pytest.raises(EngineError, match=r"the result of shard 3 was lost or found no room.*--resume"):
        ray_engine._result(Full(), None, 3)


@pytest.mark.ray
def test_a_gpu_that_is_not_there_is_refused_before_any_work(ray_session, tmp_path):
    engine = RayEngine(EngineConfig(num_gpus_per_task=1.0))

    def work(number):
        (tmp_path / "worked").touch()

    for _ in range(2):  # the second time as well: Ray runs by then
        with pytest.raises(InputError, match="asks for 1 GPUs and there are 0") as caught:
            list(engine.map_shards(work, [1]))
    assert caught.value.where == "engine.num_gpus_per_task"
    assert not (tmp_path / "worked").exists()


@pytest.mark.ray
def test_training_on_a_gpu_that_is_not_there_is_refused_before_any_work(ray_session, tmp_path):
    with pytest.raises(InputError, match="a GPU is asked for and there is none") as caught:
        make_engine(EngineConfig(backend="ray", use_gpu=True))
    assert caught.value.where == "engine.use_gpu"
    engine = RayEngine(EngineConfig(use_gpu=True))
    for use in (
        engine.start,
        engine.num_slots,
        lambda: list(engine.map_shards(lambda n: (tmp_path / "x").touch(), [1])),
    ):
        with pytest.raises(InputError, match=r"engine\.use_gpu"):
            use()
    assert not (tmp_path / "x").exists()
    assert isinstance(make_engine(EngineConfig(backend="ray", use_gpu=False)), RayEngine)


@pytest.mark.ray
def test_exceptions_come_through_as_themselves(ray_session, tmp_path):
    def unusable(number):
        with (tmp_path / "attempts").open("a") as stream:
            stream.write("x")
        raise InputError("no such weights", value=number, where="backbone.weights", fix="name another file")

    with pytest.raises(InputError) as caught:
        list(ray_session.map_shards(unusable, [5]))
    assert type(caught.value) is InputError
    assert str(caught.value) == "backbone.weights: no such weights (got 5). Name another file."
    assert (caught.value.what, caught.value.exit_code) == ("no such weights", 2)
    assert "unusable" in str(caught.value.__cause__)  # where it happened
    assert (tmp_path / "attempts").read_text() == "x"  # a mistake is not retried

    def broken(number):
        raise FloatingPointError("the training loss is nan")

    with pytest.raises(FloatingPointError, match=r"^the training loss is nan$"):
        list(ray_session.map_shards(broken, [5]))


@pytest.mark.ray
def test_arrays_in_flight_fill_no_more_than_their_share_of_the_object_store(ray_session, tmp_path, monkeypatch):
    engine = RayEngine(EngineConfig())
    share = 40 * 2**20 / ray_session._ready().cluster_resources()["object_store_memory"]
    monkeypatch.setattr(ray_engine, "SENT_SHARE", share)

    def visit(block):
        (tmp_path / str(int(block[0]))).touch()
        return len(block)

    blocks = [np.full(3_000_000, i, np.float64) for i in range(4)]  # 23 MiB each
    results_of = engine.map_shards(visit, blocks)
    first = next(results_of)
    time.sleep(0.5)  # while nobody asks for more, only what is in flight can finish
    assert len(list(tmp_path.iterdir())) == 1
    assert dict([first, *results_of]) == dict.fromkeys(range(4), 3_000_000)


@pytest.mark.ray
def test_no_more_than_two_tasks_a_slot_are_in_flight(ray_session, tmp_path):
    def work(number):
        (tmp_path / str(number)).touch()
        return number

    stream = ray_session.map_shards(work, range(40))
    next(stream)
    time.sleep(0.5)  # while nobody asks for more, only what is in flight can finish
    assert len(list(tmp_path.iterdir())) <= 2 * ray_session.num_slots()
    assert len(dict(stream)) == 39


@pytest.mark.ray
def test_results_come_as_they_finish(ray_session, tmp_path):
    taken = tmp_path / "the second result was taken"

    def work(number):
        while number == 0 and not taken.exists():
            time.sleep(0.05)
        return number

    order = []
    for index, _ in ray_session.map_shards(work, range(2)):
        order.append(index)
        taken.touch()
    assert order == [1, 0]


@pytest.mark.ray
def test_close_leaves_a_ray_that_ran_before(ray_session):
    import ray

    engine = RayEngine(EngineConfig())
    engine.start()
    engine.close()
    assert ray.is_initialized()
    assert results(ray_session, square(), [3]) == {0: 9}


@pytest.mark.ray
def test_a_path_that_only_the_driver_sees_is_told_with_its_node(ray_session, tmp_path):
    import ray

    own = fcntl.fcntl(os.open(tmp_path, os.O_RDONLY), fcntl.F_DUPFD, 900)  # a number that no worker has open
    folder, other = tmp_path / "run", Path(f"/proc/self/fd/{own}")
    node = ray.nodes()[0]
    with ray_nodes._marked(Places((folder,), other)) as paths:
        lack_of = {node["NodeManagerAddress"]: lack for node, lack in ray_nodes._ask(ray, [node], paths)}
        (mark,) = folder.iterdir()
        mark.unlink()
        assert [lack for _, lack in ray_nodes._ask(ray, [node], paths)] == [str(folder)]
    assert list(lack_of.values()) == [str(other)]
    with pytest.raises(EngineError, match=rf"node {node['NodeManagerAddress']}: cannot see.*{other}.*storage"):
        ray_nodes.refuse_lack(lack_of)
    ray_nodes.check(ray, Places((folder,), other))  # one node, which this process is on: nothing to ask


def test_serial_runs_in_this_process_in_order():
    engine = SerialEngine()
    assert list(engine.map_shards(lambda n: (n, os.getpid()), "ab")) == [
        (0, ("a", os.getpid())),
        (1, ("b", os.getpid())),
    ]
    assert engine.num_slots() == 1
    with pytest.raises(InputError, match=r"engine\.backend=ray"):
        engine.start()


def test_serial_is_lazy_and_lets_exceptions_through():
    seen = []

    def work(number):
        seen.append(number)
        if number == 1:
            raise KeyError("no vector")
        return number

    stream = SerialEngine().map_shards(work, [0, 1, 2])
    assert next(stream) == (0, 0) and seen == [0]
    with pytest.raises(KeyError, match="no vector"):
        next(stream)


def test_the_backend_is_chosen_by_name():
    assert isinstance(make_engine(EngineConfig(backend="serial")), SerialEngine)
    assert isinstance(make_engine(EngineConfig(backend="ray")), RayEngine)


@pytest.mark.parametrize("options", [{"use_gpu": True}, {"num_gpus_per_task": 0.5}])
def test_the_serial_engine_refuses_a_gpu_that_is_not_there(options, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=next(iter(options))):
        make_engine(EngineConfig(backend="serial", **options))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert isinstance(make_engine(EngineConfig(backend="serial", **options)), SerialEngine)


def test_a_ray_that_does_not_start_names_the_way_out(monkeypatch):
    def fails(**options):
        raise OSError("no space left on device")

    monkeypatch.setattr("ray.init", fails)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(EngineError, match=r"Ray did not start: no space left on device.*engine.backend=serial"):
        RayEngine(EngineConfig()).start()
