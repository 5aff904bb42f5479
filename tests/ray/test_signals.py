"""A run on Ray listens on the loopback alone, ends cleanly by SIGTERM and when Ray dies, and leaves no process."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from pipeline.contracts.errors import EngineError
from pipeline.contracts.options.running import EngineConfig
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
    """Processes whose environment has the mark."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


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
    raised = {pid: Path(f"/proc/{pid}/exe").resolve().name for pid in marked(mark)}
    loopback = {f"{socket.ntohl(0x7F000001):08X}", f"0000000000000000FFFF0000{socket.ntohl(0x7F000001):08X}"}
    assert raised and listening(set(raised) | {run.pid}) <= loopback
    if ending == "SIGTERM":
        os.kill(run.pid, signal.SIGTERM)
    else:
        os.kill(next(pid for pid, name in raised.items() if name == ending), signal.SIGKILL)
    run.join(SECONDS)
    if ending == "SIGTERM":
        assert run.exitcode == 143
    else:
        assert run.exitcode == EngineError.exit_code
        assert "Ray has died: its process gcs_server is gone. Go on with --resume" in (tmp_path / "said").read_text()
    assert not marked(mark), "none of Ray's processes outlives its run, not for a moment"
