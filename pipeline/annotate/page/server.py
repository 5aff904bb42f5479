"""The labelling page over HTTP, for the annotators of one round."""

import errno
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.annotate.page import markup, modules, slow_senders
from pipeline.annotate.page.api import A, Api, Asked, AskedAnswer, AskedNext, AskedNote, AskedPriors, AskedUndo
from pipeline.annotate.page.backend import Desk
from pipeline.annotate.page.guard import ANY_ADDRESS, Guard, may_be, public_origin, reader_of
from pipeline.contracts.errors import InputError, RunDirError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
OWN_NAMES = (LOOPBACK, "localhost", "::1")
MAX_BODY_BYTES = 64 * 1024
B = TypeVar("B", bound=BaseModel)
QUIET: dict[str, Any] = {"access_log": False, "log_config": None, "log_level": "warning", "server_header": False}


def app(
    desk: Desk,
    token: str | None,
    hosts: Collection[str] = OWN_NAMES,
    *,
    name: str | None = None,
    origin: str | None = None,
    readers: Mapping[str, str] | None = None,
    reader_header: str | None = None,
) -> ASGIApp:
    """The labelling page as an ASGI application.

    Args:
        desk: The scans to read, and where answers go.
        token: The secret of the link.
        hosts: Names under which we may be reached, without port.
        name: The run that answers waiting in a browser belong to, whatever its round; default: the desk's title now.
        origin: See `Guard`, as `readers` and `reader_header`.
        readers: Token of a link of somebody's own to the name.
        reader_header: Header that names who is signed in.
    """
    api = Api(desk)
    files = _Files(api, name or desk.title)
    inner = Starlette(
        routes=[
            Route("/", files.page),
            Route("/static/{file}", files.asset),
            Route("/image/{image_id}", files.picture),
            Route("/example/{definition:int}/{number:int}", files.example),
            _post("/api/enter", Asked, api.enter),
            _post("/api/next", AskedNext, api.next),
            _post("/api/answer", AskedAnswer, api.answer),
            _post("/api/undo", AskedUndo, api.undo),
            _post("/api/priors", AskedPriors, api.priors),
            _post("/api/mine", Asked, api.mine),
            _post("/api/note", AskedNote, api.note),
        ],
        exception_handlers=error_replies(),
    )
    language = desk.page.language
    return Guard(inner, token, hosts, origin, readers=readers, reader_header=reader_header, language=language)


class _Files:
    """What a browser loads: the page, its scripts and style, and pictures, which none keeps.

    Others may use the machine, and a scan read again must not come quicker than a new one.
    """

    def __init__(self, api: Api, owner: str) -> None:
        self.api, self.owner = api, owner

    async def page(self, request: Request) -> Response:
        config = {**self.api.question(), "name": self.owner, "reader": reader_of(request) or ""}
        return HTMLResponse(markup.page_html(config, self.api.desk.page))

    async def asset(self, request: Request) -> Response:
        file = request.path_params["file"]
        if file not in markup.TYPES:
            raise HTTPException(404)
        return Response(modules.asset(file), media_type=markup.TYPES[file])

    async def picture(self, request: Request) -> Response:
        return await self._png(self.api.picture, request.path_params["image_id"])

    async def example(self, request: Request) -> Response:
        return await self._png(self.api.example, request.path_params["definition"], request.path_params["number"])

    async def _png(self, read: Callable[..., bytes | None], *which: str | int) -> Response:
        try:
            content = await run_in_threadpool(read, *which)
        except OSError as error:
            logger.error("a picture cannot be read just now: %s", error)
            raise HTTPException(503, "The server cannot read this scan just now; look at its messages.") from None
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, no-store"})


def serve(
    desk: Desk,
    *,
    host: str = LOOPBACK,
    port: int = 8017,
    token: str | None = None,
    name: str | None = None,
    url: str | None = None,
    readers: Sequence[str] = (),
    reader_header: str | None = None,
    named_only: bool = False,
    ready: Callable[[str], None] = lambda link: None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        desk: The scans to read, and where answers go.
        host: Address to listen on; other machines reach the page when it is not a loopback address.
        port: Port; 0 takes a free one.
        token: The secret of the link; a fresh one unless given.
        name: See `app`.
        url: Address of a TLS proxy in front of the page, `https://HOST[:PORT]`; the link leads there.
        readers: People who get a link of their own, under which nobody else's name can be given.
        reader_header: Header in which that proxy says who is signed in.
        named_only: No link for everybody: only `readers` come in.
        ready: Called with the link once the page can be opened; with several, a line for each reader.

    Raises:
        InputError: when the address, the port or `url` cannot be used.
    """
    token = token or secrets.token_urlsafe()
    origin = public_origin(url) if url is not None else None
    if reader_header is not None and not (is_inside(host) and origin):
        raise _open_header(reader_header)
    own = {secrets.token_urlsafe(): reader for reader in readers}
    shared = None if named_only else token

    def page(hosts: Collection[str]) -> ASGIApp:
        return app(desk, shared, hosts, name=name, origin=origin, readers=own, reader_header=reader_header)

    def opened(address: str) -> None:
        base = origin or address
        links = [f"{reader}: {base}/?token={secret}" for secret, reader in own.items()]
        ready("\n  ".join(["" if shared is None else f"{base}/?token={shared}", *links]))

    run_page(page, "labelling page", host=host, port=port, opened=opened)


def run_page(
    page: Callable[[Collection[str]], ASGIApp], what: str, *, host: str, port: int, opened: Callable[[str], None]
) -> None:
    """Serve a page of ours until Ctrl-C or SIGTERM.

    Args:
        page: Makes it from the names under which we may be reached.
        what: What it is, for messages.
        host: Address to listen on; other machines reach the page when it is not a loopback address.
        port: Port; 0 takes a free one.
        opened: Called with our address once the page can be opened.

    Raises:
        InputError: when the address or the port cannot be used.
    """
    inside = is_inside(host)
    if not inside:
        logger.warning("the %s answers other machines too, unencrypted: use it in a network you trust", what)
    with _listen(host, port) as sock:
        config = uvicorn.Config(
            page((*OWN_NAMES, host, *(() if inside else _outer_names()))),
            http=slow_senders.protocol(),
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=3,
            **QUIET,
        )
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        opened(f"http://{shown}:{sock.getsockname()[1]}")
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that whoever called us can tidy up, too
        try:
            uvicorn.Server(config).run(sockets=[sock])
        except KeyboardInterrupt:  # uvicorn has closed by then and hands the signal on
            logger.info("the %s is closed; everything sent is saved", what)


def is_inside(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in OWN_NAMES or host.startswith("127.")


def _open_header(name: str) -> InputError:
    """Why a header that anybody could send is not believed."""
    return InputError(
        "anybody who reaches the page past the proxy could give any name",
        value=name,
        where="--reader-header",
        fix="give --url, the proxy's address, and leave --host out, so that the proxy alone reaches the page",
    )


def _outer_names() -> tuple[str, ...]:
    """Names other machines may use; whatever address they use is ours, since a rebound name is no address."""
    return socket.gethostname(), socket.getfqdn(), ANY_ADDRESS


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is known before anything is promised."""
    try:
        family, kind, protocol = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][:3]
        sock = socket.socket(family, kind, protocol)  # asyncio sends at once only where the protocol is named
        try:
            if os.name == "posix":  # a restart may follow at once; elsewhere this would share the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
        return sock
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        what = "the port is taken, perhaps by another page of ours" if taken else f"cannot listen there ({error})"
        fix = "give another with --port, or stop the other one" if taken else "give another address or --port"
        raise InputError(what, value=f"{host}:{port}", where="--port", fix=fix) from None


def _post(path: str, kind: type[A], work: Callable[[A], dict[str, Any]]) -> Route:
    """A route for what one reader asks, refused to who came by another reader's link."""

    def refusal(request: Request, asked: A) -> Response | None:
        is_own = may_be(request, asked.annotator)
        return None if is_own else JSONResponse({"error": f"This link is not {asked.annotator}'s."}, 403)

    return json_route(path, kind, work, refusal)


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
    raise HTTPException(413, f"More than {MAX_BODY_BYTES} bytes: no answer is that long.", {"Connection": "close"})


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
    logger.error("an answer could not be saved: %s", error)
    why = getattr(error, "strerror", None) or "the disk refused it"
    return JSONResponse({"error": f"The answer could not be saved on the server: {why}."}, 507)


def _missing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _broken(request: Request, error: Exception) -> Response:
    """Whatever it was, its words may hold a path; the server logs them."""
    return JSONResponse({"error": "The server made a mistake; its log says which."}, 500)
