"""A run on Ray listens on the loopback alone, ends cleanly by SIGTERM and when Ray dies, and leaves no process."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.contracts.errors import EngineError
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime.processes import ray_remains
from tests.support.forked import SERVER

SECONDS = 60.0


def listening(pids: set[int]) -> set[str]:
    """Addresses that these processes listen on, as /proc/net has them."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(link.readlink()))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def marked(mark: str) -> set[int]:
    """Processes whose environment has the mark, as far as Ray has not written titles over it."""
    pids = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                pids.add(int(path.parent.name))
        except OSError:
            continue
    return pids


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended and that nobody has asked about does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def work(mark: str, folder: str) -> None:
    """In a process of its own: tasks that take for ever; a Ray that dies, then a signal."""
    os.environ["CXR_SSL_CACHE"] = mark
    from pipeline.runtime.processes import stop_signals
    from pipeline.runtime.ray_engine import RayEngine

    def wait(number: int) -> None:
        (Path(folder) / f"task-{number}").touch()
        time.sleep(600)

    engine = RayEngine(EngineConfig(num_cpus=1, object_store_mb=80))
    code = 0
    try:
        with stop_signals.handled(), stop_signals.as_it_was():
            list(engine.map_shards(wait, [1]))
    except EngineError as error:
        (Path(folder) / "said").write_text(str(error), "utf-8")
        code = error.exit_code
    except stop_signals.StopSignal as stop:
        code = stop_signals.stopped(stop, fix="go on").exit_code
    finally:
        engine.close()
    os._exit(code)


def until(there: Path) -> None:
    """Wait for a file."""
    end = time.monotonic() + SECONDS
    while not there.exists():
        assert time.monotonic() < end, there
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.parametrize("ending", ["SIGTERM", "gcs_server"])
def test_a_run_on_ray_that_is_ended(tmp_path, ending):
    mark = f"{tmp_path}/mark"
    run = SERVER.Process(target=work, args=(mark, str(tmp_path)))
    run.start()
    until(tmp_path / "task-1")
    processes = psutil.Process(run.pid).children(recursive=True)
    loopback = {f"{socket.ntohl(0x7F000001):08X}", f"0000000000000000FFFF0000{socket.ntohl(0x7F000001):08X}"}
    assert processes and listening({process.pid for process in processes} | {run.pid}) <= loopback
    if ending == "SIGTERM":
        os.kill(run.pid, signal.SIGTERM)
    else:
        next(process for process in processes if process.name() == ending).kill()
    run.join(SECONDS)
    if ending == "SIGTERM":
        assert run.exitcode == 143
    else:
        assert run.exitcode == EngineError.exit_code
        assert "Ray has died: its process gcs_server is gone. Go on with --resume" in (tmp_path / "said").read_text()
    left = {process.pid for process in processes if lives(process)} | marked(mark)
    assert not left, "none of Ray's processes outlives its run, not for a moment"


@pytest.mark.ray
def test_a_process_that_has_lost_its_mark_is_known_by_its_open_log(tmp_path):
    session = tmp_path / "session"
    session.mkdir()
    waits = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (session / "agent.log").open("w") as log, (tmp_path / "other.log").open("w") as elsewhere:
        agent = psutil.Popen(waits, stdout=log)
        stranger = psutil.Popen(waits, stdout=elsewhere)
    with ray_remains.marked() as marks:
        worker = psutil.Popen(waits)
    marks.session = session
    ray_remains.end(marks)
    assert not lives(agent) and not lives(worker) and lives(stranger)
    stranger.kill()
    for process in (agent, worker, stranger):
        process.wait()


def test_a_ray_that_does_not_start_whole_leaves_nothing():
    with pytest.raises(OSError, match="no room"), ray_remains.marked():
        worker = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        raise OSError("no room")
    assert not lives(worker)
    worker.wait()
