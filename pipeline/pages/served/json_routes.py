"""Requests of a page's scripts: JSON in, JSON or an error in words for people out."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.contracts.errors import InputError, RunDirError

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
B = TypeVar("B", bound=BaseModel)


def json_route(
    path: str,
    kind: type[B],
    work: Callable[[B], dict[str, Any] | Response],
    refusal: Callable[[Request, B], Response | None] = lambda request, asked: None,
) -> Route:
    """A route that reads a `kind` from the body and sends what `work` returns, as JSON unless it is a response."""

    async def endpoint(request: Request) -> Response:
        try:
            asked = kind.model_validate_json(await _body(request))
        except ValidationError as error:
            mistakes = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()[:5]]
            return JSONResponse({"error": f"This request cannot be used: {'; '.join(mistakes)}."}, 400)
        refused = refusal(request, asked)
        if refused is not None:
            return refused
        sent = await run_in_threadpool(work, asked)
        return sent if isinstance(sent, Response) else JSONResponse(sent)

    return Route(path, endpoint, methods=["POST"])


async def _body(request: Request) -> bytes:
    """The body, never more of it than allowed."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send JSON, with the content type application/json.")
    body = bytearray()
    if int(request.headers.get("content-length", "0")) <= MAX_BODY_BYTES:  # the server below admits digits only
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                break
        else:
            return bytes(body)
    raise HTTPException(413, f"More than {MAX_BODY_BYTES} bytes: no request is that long.", {"Connection": "close"})


def error_replies() -> Mapping[Any, Callable[[Request, Exception], Response]]:
    """What a page is sent for each kind of error: words for people, never a path."""
    return {
        InputError: _refused,
        RunDirError: _unavailable,
        OSError: _unsaved,
        HTTPException: _missing,
        Exception: _broken,
    }


def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _unavailable(request: Request, error: Exception) -> Response:
    """The run's files, not the answer, are at fault: the page keeps it and tries again; the words name a path."""
    logger.error("%s", error)
    return JSONResponse({"error": "The run's files cannot be used just now; look at the server's messages."}, 503)


def _unsaved(request: Request, error: Exception) -> Response:
    """The disk's own words without the path it names."""
    logger.error("what was sent could not be saved: %s", error)
    why = getattr(error, "strerror", None) or "the disk refused it"
    return JSONResponse({"error": f"It could not be saved on the server: {why}."}, 507)


def _missing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _broken(request: Request, error: Exception) -> Response:
    """Whatever it was, its words may hold a path; the server logs them."""
    return JSONResponse({"error": "The server made a mistake; its log says which."}, 500)
