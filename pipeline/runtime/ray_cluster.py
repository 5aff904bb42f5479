"""The Ray that tasks run on: a local one, or a cluster that was named; an address that is wrong is told at once.

Ray itself waits minutes for a cluster that is gone, and says nothing of ours meanwhile.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.contracts.errors import EngineError, InputError
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime.processes import ray_remains
from pipeline.runtime.processes.ray_watch import HEAD_EVERY_SECONDS, HeadLooks, RayWatch, dead_processes, session_folder
from pipeline.runtime.ray_job import is_in_a_job

ADDRESS = "RAY_ADDRESS"
# Ray's switch for firewalls that ask: all its servers listen on the loopback alone. Off by default on Linux.
_LOOPBACK_SWITCH = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "ENABLE_RAY_CLUSTER")
PATIENCE_SECONDS = 10.0  # for each of: a connection, and an answer over it
# What every gRPC server, as the head is, answers with a frame of settings (RFC 9113, sections 3.4 and 4.1).
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_HTTP2_HEADER_BYTES, _HTTP2_SETTINGS = 9, b"\x04"


class RunningRay(NamedTuple):
    """A Ray that this process is connected to.

    Attributes:
        ray: The module.
        is_ours: Whether it was started or joined here, so that it is left in the end.
        is_joined: Whether it is a cluster that was running before.
        watch: Ends the command when this Ray dies; None where somebody else started it in this process.
        marks: What its processes are known by, see `ray_remains`; None of a Ray that was not started here.
    """

    ray: Any
    is_ours: bool
    is_joined: bool
    watch: RayWatch | None = None
    marks: ray_remains.RayMarks | None = None


def is_named() -> bool:
    """Whether a cluster is named: by `RAY_ADDRESS`, or by the job that this process is."""
    return bool(os.environ.get(ADDRESS)) or is_in_a_job()


def refuse_dead() -> None:
    """Tell of a wrong `RAY_ADDRESS` before a pool is looked at; see `answering`."""
    if address := os.environ.get(ADDRESS):
        answering(address)


def connect(config: EngineConfig) -> RunningRay:
    """Start a quiet local Ray, or join the cluster that is named.

    Raises:
        InputError: `RAY_ADDRESS` names what no program can join.
        EngineError: nothing answers there, or Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return RunningRay(ray, is_ours=False, is_joined=False)
    address = answering(os.environ.get(ADDRESS) or "auto") if is_named() else "local"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address != "local":
            with _own_signals():
                ray.init(address=address, **quiet)  # resources are the cluster's: never passed here
            head = HeadLooks(lambda: answering(address))
            return RunningRay(ray, is_ours=True, is_joined=True, watch=RayWatch(head, HEAD_EVERY_SECONDS))
        with _own_signals(), on_loopback(), ray_remains.marked() as marks:
            ray.init(
                address=address,
                num_cpus=config.num_cpus or os.cpu_count() or 1,
                include_dashboard=False,
                object_store_memory=config.object_store_mb * 2**20,
                **quiet,
            )
            marks.session = session_folder(ray)
    except Exception as error:  # Ray raises a plain Exception when its start takes too long
        what = " ".join(str(error).split())[:300]
        if address != "local":
            fix = f"check the cluster at {address}, and that it runs Ray {ray.__version__} and this Python, as here"
            raise EngineError(f"the cluster cannot be joined: {what}", where=ADDRESS, fix=fix) from error
        fix = "set engine.backend=serial to run without Ray, or see `cxr-ssl doctor`"
        raise EngineError(f"Ray did not start: {what}", fix=fix) from error
    watch = RayWatch(lambda: dead_processes(ray))
    return RunningRay(ray, is_ours=True, is_joined=False, watch=watch, marks=marks)


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """A Ray that is started inside listens on the loopback alone; one that is joined must not be joined here."""
    from ray._private import ray_constants  # Ray reads the switch once, when it is imported

    variable, constant = _LOOPBACK_SWITCH
    before = os.environ.get(variable), getattr(ray_constants, constant)
    os.environ[variable] = "0"
    setattr(ray_constants, constant, False)
    try:
        yield
    finally:
        setattr(ray_constants, constant, before[1])
        os.environ.pop(variable)
        if before[0] is not None:
            os.environ[variable] = before[0]


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets a handler of SIGTERM that ends the program at once, and says a stack trace; ours comes back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and callable(before):
            signal.signal(signal.SIGTERM, before)


def answering(address: str) -> str:
    """The address of a cluster as `ray.init` takes it, once something has answered there.

    Args:
        address: `local`, `auto`, `HOST:PORT` of the head, or `ray://HOST:PORT` of its client server.

    Raises:
        InputError: it is the address for submitting jobs, or none at all.
        EngineError: nothing answers within 20 seconds, or `auto` finds no Ray on this machine.
    """
    if address == "local":
        return address
    if address.startswith(("http://", "https://")):
        raise InputError(
            "is the address that jobs are submitted to, which no program can join",
            value=address,
            where=ADDRESS,
            fix="submit with `cxr-ssl submit … --go`, or unset RAY_ADDRESS to run on this machine",
        )
    if address == "auto":
        address = _running_here()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        fix = "write HOST:PORT, ray://HOST:PORT, auto or local; or unset it to run on this machine"
        raise InputError("is no address of a cluster", value=address, where=ADDRESS, fix=fix)
    _wait_for_answer(host.strip("[]"), int(port), address)
    return address


def _running_here() -> str:
    """Address of the Ray that runs on this machine."""
    from ray._private import services  # Ray has no public way to ask without joining, which may take minutes

    try:
        address: str = services.canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError as error:
        fix = "start one with `ray start --head`, name its head as HOST:PORT, or unset RAY_ADDRESS"
        raise EngineError(f"auto: {str(error).split('. ')[0]}", where=ADDRESS, fix=fix) from error
    return address


def _wait_for_answer(host: str, port: int, address: str) -> None:
    """Return once the head answers: a port that is open may be another program's, or a process that hangs."""
    fix = "start the cluster, correct RAY_ADDRESS, or unset it to run on this machine"
    uses_tls = os.environ.get("RAY_USE_TLS", "0") in ("1", "true")  # Ray says what is wrong with certificates
    try:
        with socket.create_connection((host, port), PATIENCE_SECONDS) as connection:
            connection.sendall(b"" if uses_tls else _HTTP2_HELLO)
            answer = b"" if uses_tls else connection.recv(_HTTP2_HEADER_BYTES, socket.MSG_WAITALL)
    except OSError as error:
        what = f"no cluster answers ({error.strerror or error})"
        raise EngineError(what, value=address, where=ADDRESS, fix=fix) from error
    if not uses_tls and answer[3:4] != _HTTP2_SETTINGS:
        what = "what listens there is not the head of a Ray cluster"
        raise EngineError(what, value=address, where=ADDRESS, fix=fix)
