"""A run's model over HTTP: POST /predict takes the bytes of one scan and answers with its row as JSON.

GET /health and GET /metrics (Prometheus) say how it goes. Scans that come together are predicted together. One process,
or several (`replicas`); files are read in a guarded process beside each, so that a hostile scan ends nothing. Not for
diagnostic use.

Legend: N scans of a batch, S side in pixels.
"""

import asyncio
import hmac
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pipeline.contracts.errors import InputError
from pipeline.predict import decisions, other_scans, predict_pool, recipe, scan_shard

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)
TOKEN = "CXR_SSL_TOKEN"
SHORTEST_TOKEN = 16  # characters
BATCH_SIZE = 16
BATCH_SECONDS = 0.005  # what a scan waits for others
MAX_WAITING = 256
MAX_BYTES = 2**26  # of a scan
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # of the histogram


@dataclass
class Model:
    """A run's model, and the batches that it is asked about.

    Attributes:
        folder: The run.
        max_bytes: Of a scan.
    """

    folder: Path
    max_bytes: int
    waiting: "asyncio.Queue[tuple[bytes, asyncio.Future[dict[str, Any]]]]" = field(init=False)

    def __post_init__(self) -> None:
        config = other_scans.config_for(self.folder, str(self.folder), {})
        self.recipe = recipe.of_run(self.folder, config)
        self.rules = decisions.rules_of(self.recipe.questions)
        self.loaded = predict_pool.loaded(self.recipe)
        self.identity = recipe.identity(self.recipe)
        self.sides = other_scans.ScansOfRun(self.recipe.run)

    async def work(self) -> None:
        """Answer what waits, batch by batch, until cancelled."""
        while True:
            batch = [await self.waiting.get()]
            await asyncio.sleep(BATCH_SECONDS)
            while len(batch) < BATCH_SIZE and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            try:
                rows = await asyncio.to_thread(self.rows, [data for data, _ in batch])
            except Exception as error:
                log.exception("a batch of %d scans failed", len(batch))
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(RuntimeError(f"{type(error).__name__}"))
                continue
            for (_, answer), row in zip(batch, rows, strict=True):
                if not answer.done():  # who asked may have gone
                    answer.set_result(row)

    def rows(self, scans: list[bytes]) -> list[dict[str, Any]]:
        """The rows of scans, as `cxr-ssl predict` writes them."""
        table = scan_shard.predict_bytes(self.recipe, scans)
        place = table.schema.get_field_index("in_run")
        table = table.set_column(place, table.schema.field(place), self.sides.sides(table["sha256"]))
        rows: list[dict[str, Any]] = decisions.decided(table, self.rules, self.loaded.findings).to_pylist()
        return rows


def app(folder: Path, token: str | None, max_bytes: int = MAX_BYTES) -> "Starlette":
    """The application.

    Args:
        folder: The run.
        token: What askers must know; None: nothing.
        max_bytes: A longer body is refused before it is read to its end.

    Raises:
        InputError: the run has no classifier.
    """
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    model, registry = Model(folder, max_bytes), CollectorRegistry()
    answers = Counter("cxr_ssl_answers", "Answers by HTTP status.", ["status"], registry=registry)
    seconds = Histogram("cxr_ssl_answer_seconds", "From a request to its answer.", buckets=SECONDS, registry=registry)
    Gauge("cxr_ssl_waiting", "Scans that wait.", registry=registry).set_function(lambda: model.waiting.qsize())

    async def predict(request: "Request") -> "Response":
        start = perf_counter()
        status, content = await _answered(request, model, token)
        answers.labels(str(status)).inc()
        seconds.observe(perf_counter() - start)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"} if status == 503 else None
        return JSONResponse(content, status, headers)

    async def health(_: "Request") -> "Response":
        worker: asyncio.Task[None] = service.state.worker
        known = {"model": model.identity.fingerprint, "round": model.identity.round_index}
        is_well = not worker.done()
        return JSONResponse({"status": "ok" if is_well else "broken", **known}, 200 if is_well else 503)

    async def metrics(request: "Request") -> "Response":
        if not _knows(request, token):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    @asynccontextmanager
    async def lifespan(running: "Starlette") -> AsyncIterator[None]:
        model.waiting = asyncio.Queue(MAX_WAITING)
        running.state.worker = asyncio.create_task(model.work())
        yield
        running.state.worker.cancel()
        with suppress(asyncio.CancelledError):
            await running.state.worker

    routes = [Route("/predict", predict, methods=["POST"]), Route("/health", health), Route("/metrics", metrics)]
    service = Starlette(routes=routes, lifespan=lifespan)
    return service


async def _answered(request: "Request", model: Model, token: str | None) -> tuple[int, dict[str, Any]]:
    """HTTP status and content for one scan."""
    if not _knows(request, token):
        return 401, {"error": "the token is missing or wrong"}
    data = await _body(request, model.max_bytes)
    if data is None:
        return 413, {"error": f"a scan may have {model.max_bytes} bytes at most"}
    if not data:
        return 400, {"error": "the body is empty; send the bytes of one scan"}
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    try:
        model.waiting.put_nowait((data, answer))
    except asyncio.QueueFull:
        return 503, {"error": "too many scans wait; try again"}
    try:
        row = await answer
    except RuntimeError as error:
        return 500, {"error": f"the scan could not be predicted ({error})"}
    row |= {"not_for_diagnostic_use": True, "model": model.identity.fingerprint}
    return (200 if row["status"] == "ok" else 422), row


def _knows(request: "Request", token: str | None) -> bool:
    """Whether a request brings the token; takes equally long for every wrong one."""
    if token is None:
        return True
    shown = request.headers.get("authorization", "")
    return hmac.compare_digest(shown.encode("utf-8", "replace"), f"Bearer {token}".encode())


async def _body(request: "Request", max_bytes: int) -> bytes | None:
    """The body; None of one that is too long, of which no more is read."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        return None
    parts, num_bytes = [], 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > max_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


def serve(folder: Path, host: str, port: int, token: str | None, max_bytes: int) -> None:
    """Serve with one process until told to end.

    Args:
        folder: The run.
        host: Address to listen on.
        port: The same.
        token: What askers must know; None: nothing.
        max_bytes: Of a scan.

    Raises:
        InputError: the run has no classifier, or the address or the port cannot be used.
    """
    import uvicorn

    from pipeline.pages.served.listening import listening_socket

    service = app(folder, token, max_bytes)

    with listening_socket(host, port) as sock:
        log.info("serving %s on http://%s:%d", folder, host, port)
        config = uvicorn.Config(service, log_level="warning", access_log=False)
        with suppress(KeyboardInterrupt):  # uvicorn has closed by then and hands the signal on
            uvicorn.Server(config).run(sockets=[sock])


def token_of(file: Path | None, host: str) -> str | None:
    """The token that askers must know; None: they need none.

    Args:
        file: Holds it; None: the variable `TOKEN` does.
        host: Address that is listened on.

    Raises:
        InputError: it cannot be read, is short, or is missing where others can ask.
    """
    try:
        token = file.read_text("utf-8").strip() if file is not None else os.environ.get(TOKEN)
    except OSError as error:
        raise InputError("cannot be read", value=str(file), where="--token-file", fix=str(error.strerror)) from error
    if token is not None and len(token) < SHORTEST_TOKEN:
        where = "--token-file" if file is not None else TOKEN
        raise InputError(f"the token is shorter than {SHORTEST_TOKEN} characters", where=where, fix="draw a longer one")
    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise InputError("others could ask without a token", value=host, where="--host", fix=f"set {TOKEN}")
    return token
