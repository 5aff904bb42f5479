"""Who may speak to the labelling page: those with the token of this start, under our own name, from our own page."""

import hmac
import ipaddress
from collections.abc import Collection

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.annotators.page import markup

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ANY_ADDRESS = "*"  # in `hosts`: every IP address; a rebound name is never one


class Guard:
    """Lets requests through to `app` that come from the page we handed out; adds the headers that keep it closed.

    Args:
        app: What is guarded.
        token: The secret of the printed link; it becomes a cookie, so that it leaves the address bar.
        hosts: Names under which we may be reached, without port; `ANY_ADDRESS` admits all IP addresses.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str]) -> None:
        self.app, self.token = app, token
        self.hosts = {host.lower() for host in hosts} - {ANY_ADDRESS}
        self.any_address = ANY_ADDRESS in hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            return

        async def send_closed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refuse_sender(request := Request(scope)) or self._refuse_stranger(request)
        await (refused or self.app)(scope, receive, send_closed)

    def _refuse_sender(self, request: Request) -> Response | None:
        """A name that is not ours (DNS rebinding), or a write that another site asks for."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return _refusal(request, 403, "This page does not answer under that name. Open the link that was printed.")
        if request.method in ("GET", "HEAD"):
            return None
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if origin not in (None, f"http://{host}") or site not in (None, "same-origin", "none"):
            return _refusal(request, 403, "Answers are taken from the labelling page alone, not from another site.")
        return None

    def _refuse_stranger(self, request: Request) -> Response | None:
        """No valid token: 401; the token of the link: a cookie and the bare address."""
        cookie = f"cxr-ssl-{request.url.port or 80}"  # cookies know no port, and two pages may run on one machine
        if self._is_token(request.query_params.get("token")) and request.url.path == "/":
            # A link in a web mail is a foreign start: a redirect would come without our Strict cookie, a page does not.
            foreign = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            welcome = HTMLResponse(markup.onward_html()) if foreign else RedirectResponse("/", 303)
            welcome.set_cookie(cookie, self.token, httponly=True, samesite="strict", path="/")
            return welcome
        if self._is_token(request.cookies.get(cookie)):
            return None
        if request.url.path.startswith("/api/"):
            return _refusal(request, 401, "This page's link is no longer valid. Open the link that was printed last.")
        headers = {"Content-Security-Policy": f"default-src 'none'; style-src {markup.locked_style_hash()}"}
        return HTMLResponse(markup.locked_html(), 401, headers=headers)

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self.token.encode())

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.lower().removeprefix("[").removesuffix("]")
        if name in self.hosts:
            return True
        try:
            return self.any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _refusal(request: Request, status: int, text: str) -> Response:
    """The refusal; what the request still wanted to send is not read."""
    return JSONResponse({"error": text}, status, headers={"Connection": "close"} if request.method == "POST" else None)
