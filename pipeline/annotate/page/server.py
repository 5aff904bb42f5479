"""The labelling page over HTTP, for the annotators of one round."""

import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.annotate.page import markup, modules
from pipeline.annotate.page.api import A, Api, Asked, AskedAnswer, AskedNext, AskedNote, AskedPriors, AskedUndo
from pipeline.annotate.page.backend import Desk
from pipeline.contracts.errors import InputError
from pipeline.pages.served.guard import Guard, may_be, public_origin, reader_of
from pipeline.pages.served.json_routes import error_replies, json_route
from pipeline.pages.served.listening import LOOPBACK, OWN_NAMES, is_inside, run_page

logger = logging.getLogger(__name__)


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
    doors = markup.doors(desk.page.language)
    return Guard(inner, token, hosts, doors, origin=origin, readers=readers, reader_header=reader_header)


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


def _open_header(name: str) -> InputError:
    """Why a header that anybody could send is not believed."""
    return InputError(
        "anybody who reaches the page past the proxy could give any name",
        value=name,
        where="--reader-header",
        fix="give --url, the proxy's address, and leave --host out, so that the proxy alone reaches the page",
    )


def _post(path: str, kind: type[A], work: Callable[[A], dict[str, Any]]) -> Route:
    """A route for what one reader asks, refused to who came by another reader's link."""

    def refusal(request: Request, asked: A) -> Response | None:
        is_own = may_be(request, asked.annotator)
        return None if is_own else JSONResponse({"error": f"This link is not {asked.annotator}'s."}, 403)

    return json_route(path, kind, work, refusal)
