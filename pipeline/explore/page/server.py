"""The page of the pool over HTTP."""

import logging
import re
import secrets
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from embeddings.decoding.unusable import DecodeError
from pipeline.explore.page.api import About, Api, Export, Find, Gallery, Mark, Points, Scan, View
from pipeline.explore.viewer import Viewer
from pipeline.pages.served.doors import doors
from pipeline.pages.served.guard import Guard, public_origin
from pipeline.pages.served.json_routes import error_replies, json_route
from pipeline.pages.served.listening import LOOPBACK, OWN_NAMES, run_page
from pipeline.pages.served.shared_files import STYLE, path_of
from pipeline.pages.template_env import environment
from pipeline.runtime import run_files

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
SHARED = ("dom.js", "post.js", STYLE)
TYPES = {".js": "text/javascript", ".css": "text/css"}
REPORTS = {name.rpartition("/")[2]: name for name in (run_files.REPORT, run_files.AUDIT_PAGE, run_files.CHECKLISTS)}
REPORT_POLICY = (  # a report carries its own scripts and asks nobody for anything
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

LOCKED = {
    "language": "en",
    "page_name": "Page of the pool",
    "locked_title": "This page needs its link",
    "locked_text": "Open the link that cxr-ssl explore printed when it was started; it ends in /?token=… and is new at "
    "every start.",
    "locked_kept": "Tags, saved views and wishes are kept with the run.",
    "locked_ask": "No link? Ask whoever started the page.",
    "onward": "Go to the page of the pool",
}


def app(viewer: Viewer, token: str, hosts: Collection[str] = OWN_NAMES, *, origin: str | None = None) -> ASGIApp:
    """The page as an ASGI application.

    Args:
        viewer: The run.
        token: The secret of the link.
        hosts: Names under which we may be reached, without port.
        origin: See `Guard`.
    """
    api = Api(viewer)

    async def picture(request: Request) -> Response:
        large = request.url.path.startswith("/image/")
        try:
            content = await run_in_threadpool(viewer.picture, request.path_params["image_id"], large=large)
        except DecodeError as error:
            logger.warning("a scan cannot be shown: %s", error)
            content = None
        except OSError as error:
            logger.error("a picture cannot be read just now: %s", error)
            raise HTTPException(503, "The server cannot read this scan just now; look at its messages.") from None
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    routes = [
        Route("/", _page),
        Route("/static/{file}", _asset),
        Route("/thumbnail/{image_id}", picture),
        Route("/image/{image_id}", picture),
        Route("/report/{file}", _report_of(viewer.folder)),
        json_route("/api/about", About, api.about),
        json_route("/api/points", Points, api.points),
        json_route("/api/gallery", Gallery, api.gallery),
        json_route("/api/scan", Scan, api.scan),
        json_route("/api/find", Find, api.find),
        json_route("/api/tag", Mark, api.tag),
        json_route("/api/wish", Mark, api.wish),
        json_route("/api/view", View, api.view),
        json_route("/api/export", Export, api.export),
    ]
    inner = Starlette(routes=routes, exception_handlers=error_replies())
    return Guard(inner, token, hosts, doors(LOCKED), origin=origin)


def serve(
    viewer: Viewer,
    *,
    host: str = LOOPBACK,
    port: int = 8018,
    token: str | None = None,
    url: str | None = None,
    ready: Callable[[str], None] = lambda link: None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM; see `pipeline.pages.served.listening.run_page`.

    Raises:
        InputError: when the address, the port or `url` cannot be used.
    """
    secret = token or secrets.token_urlsafe()
    origin = None if url is None else public_origin(url)

    def page(hosts: Collection[str]) -> ASGIApp:
        return app(viewer, secret, hosts, origin=origin)

    def opened(address: str) -> None:
        ready(f"{origin or address}/?token={secret}")

    run_page(page, "page of the pool", host=host, port=port, opened=opened)


async def _page(request: Request) -> Response:
    return HTMLResponse(_html())


async def _asset(request: Request) -> Response:
    name = request.path_params["file"]
    if name not in _assets():
        raise HTTPException(404)
    return Response(_assets()[name], media_type=TYPES[Path(name).suffix])


def _report_of(folder: Path) -> Callable[[Request], object]:
    """The run's report, on which the links back to this page show."""

    async def report(request: Request) -> Response:
        name = REPORTS.get(request.path_params["file"])
        path = None if name is None else folder / name
        if path is None or not path.is_file():
            raise HTTPException(404)
        text = re.sub("<body(?=[ >])", "<body data-served", path.read_text("utf-8"), count=1)
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    return report


@cache
def _assets() -> dict[str, str]:
    own = {path.name: path.read_text("utf-8") for path in STATIC.iterdir() if path.suffix in TYPES}
    return {name: path_of(name, STATIC).read_text("utf-8") for name in SHARED} | own


@cache
def _html() -> str:
    scripts = sorted(name for name in _assets() if name.endswith(".js"))
    return environment(STATIC).get_template("explore.html.j2").render(scripts=scripts)
