"""`cxr-ssl predict`, `serve` and `monitor`: what a run's latest model says of other scans, and whether it still may."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError
from pipeline.predict import predict_pool
from pipeline.predict.deployed import watch as watching
from pipeline.predict.predict_pool import Beside
from pipeline.runtime.progress import Progress


def predict(
    run: Path, pool: str, out: str, overrides: dict[str, Any], quiet: bool, beside: Beside | None = None
) -> dict[str, Any]:
    """Predict the scans of a pool; see `predict_pool.predict`."""
    with Progress(quiet=quiet) as progress:
        return predict_pool.predict(run, pool, out, overrides, progress, beside)


def watch(run: Path, inbox: str, out: str, overrides: dict[str, Any], beside: Beside) -> dict[str, Any]:
    """Predict what arrives in a folder until the process is told to end; see `predict.deployed.watch`.

    Returns:
        {"out", "num_predicted", "num_quarantined"}.

    Raises:
        InputError: see `watch.open_outbox`; another watcher has the folder; or the run has no classifier.
    """
    from filelock import FileLock, Timeout

    outbox = watching.open_outbox(out, Path(inbox))
    lock = FileLock(outbox / watching.LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError("another watcher writes there", value=out, where="--out", fix="end that one") from error
    with lock, _ended() as ended:
        how, files = watching.prepared(run, inbox, overrides, beside)
        done = watching.watch(how, files, Path(inbox), outbox, lambda: not ended.wait(watching.POLL_SECONDS))
    return {"out": out, **asdict(done)}


@contextmanager
def _ended() -> Iterator[threading.Event]:
    """Set when the process is told to end, by Ctrl-C or by who runs it; what is being done is then finished."""
    event = threading.Event()
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(run: Path, host: str, port: int, token_file: Path | None, max_bytes: int, num_replicas: int) -> None:
    """Serve until told to end; see `service.serve` and, of several processes, `replicas.serve`.

    Raises:
        InputError: see there; or the extra `serve` is not installed.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is not installed", where="serve", fix="pip install 'cxr-ssl[serve]'") from error
    from pipeline.predict.deployed import replicas, service

    token = service.token_of(token_file, host)
    if num_replicas > 1:
        replicas.serve(run, host, port, token_file, max_bytes, num_replicas)
    else:
        service.serve(run, host, port, token, max_bytes)


def monitor(run: Path, pool: str, out: Path, overrides: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Hold the scans of a pool against the run's own; see `monitor_pool.monitor`."""
    from pipeline.monitor import monitor_pool  # here, because it draws charts, which take long to import

    with Progress(quiet=quiet) as progress:
        return monitor_pool.monitor(run, pool, out, overrides, progress)
