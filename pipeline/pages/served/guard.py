"""Who may speak to a page of ours: those with the token of this start, under our own name, from our own page."""

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.contracts.errors import InputError
from pipeline.pages.served.doors import Doors
from pipeline.pages.served.slow_senders import KNOWN

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
        token: The secret of the printed link; it becomes a cookie, so that it leaves the address bar. None: only
            readers who have a link of their own come in.
        hosts: Names under which we may be reached, without port; `ANY_ADDRESS` admits all IP addresses.
        doors: What somebody without the link sees.
        origin: Our address behind a TLS proxy, from `public_origin`; browsers then keep the cookie to TLS.
        readers: Token of each reader's own link to the reader's name: who came by it answers under that name alone.
        reader_header: Header in which the proxy before the page says who is signed in; a request without it is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        hosts: Collection[str],
        doors: Doors,
        *,
        origin: str | None = None,
        readers: Mapping[str, str] | None = None,
        reader_header: str | None = None,
    ) -> None:
        self.app, self.token, self.doors, self.origin = app, token, doors, origin
        self.readers, self.reader_header = dict(readers or {}), reader_header
        self.public_name = _bare_name(origin.removeprefix("https://")) if origin else None
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
        refused = refused or self._refuse_unnamed(request)
        scope[KNOWN] = refused is None or refused.status_code < 400  # the link's own answer welcomes, too
        await (refused or self.app)(scope, receive, send_closed)

    def _refuse_sender(self, request: Request) -> Response | None:
        """A name that is not ours (DNS rebinding), or a write that another site asks for."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return _refusal(request, 403, "This page does not answer under that name. Open the link that was printed.")
        if request.method in ("GET", "HEAD"):
            return None
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        local = None if _bare_name(host) == self.public_name else f"http://{host}"  # a proxy may hand on either name
        if origin not in (None, local, self.origin) or site not in (None, "same-origin", "none"):
            return _refusal(request, 403, "Requests are taken from this page alone, not from another site.")
        return None

    def _refuse_stranger(self, request: Request) -> Response | None:
        """No valid token: 401; the token of the link: a cookie and the bare address."""
        cookie = f"cxr-ssl-{request.url.port or 80}"  # cookies know no port, and two pages may run on one machine
        token = request.query_params.get("token")
        if token is not None and self._is_token(token) and request.url.path == "/":
            # A link in a web mail is a foreign start: a redirect would come without our Strict cookie, a page does not.
            foreign = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            welcome = HTMLResponse(self.doors.onward) if foreign else RedirectResponse("/", 303)
            secure = self.origin is not None
            welcome.set_cookie(cookie, token, httponly=True, samesite="strict", path="/", secure=secure)
            return welcome
        kept = request.cookies.get(cookie)
        if self._is_token(kept):
            request.state.reader = self._reader_of(kept)
            request.state.taken = frozenset(name.casefold() for name in self.readers.values())
            return None
        if request.url.path.startswith("/api/"):
            return _refusal(request, 401, "This page's link is no longer valid. Open the link that was printed last.")
        headers = {"Content-Security-Policy": f"default-src 'none'; style-src {self.doors.locked_style}"}
        return HTMLResponse(self.doors.locked, 401, headers=headers)

    def _refuse_unnamed(self, request: Request) -> Response | None:
        """Behind a proxy that signs people in: who is not named by it, or is named in another link."""
        if self.reader_header is None:
            return None
        name = request.headers.get(self.reader_header, "").strip()
        if not name:
            return _refusal(request, 401, "Nobody is signed in: come by the address of the proxy.")
        request.state.reader = name
        return None

    def _is_token(self, candidate: str | None) -> bool:
        known = [*self.readers, *(() if self.token is None else (self.token,))]
        return candidate is not None and any(_same(candidate, token) for token in known)

    def _reader_of(self, token: str | None) -> str | None:
        """Whose own link a token is of."""
        return next((name for own, name in self.readers.items() if token is not None and _same(token, own)), None)

    def _is_ours(self, host: str) -> bool:
        name = _bare_name(host)
        if name in self.hosts or (name and name == self.public_name):
            return True
        try:
            return self.any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _same(candidate: str, token: str) -> bool:
    return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), token.encode())


def reader_of(request: Request) -> str | None:
    """Who alone may answer in this request; None: whoever gives a name."""
    reader: str | None = getattr(request.state, "reader", None)
    return reader


def may_be(request: Request, annotator: str) -> bool:
    """Whether a request may speak in a name: its reader's own, or else one that nobody has a link for."""
    reader = reader_of(request)
    if reader is not None:
        return annotator.casefold() == reader.casefold()
    return annotator.casefold() not in getattr(request.state, "taken", ())


def public_origin(url: str) -> str:
    """The origin browsers give for the address of a TLS proxy in front of the page.

    Raises:
        InputError: when it is not `https://HOST` or `https://HOST:PORT`.
    """
    try:
        parts = urlsplit(url.strip())
        name, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:  # no port, half an IPv6 address, no host name
        name, port, parts = "", None, urlsplit("")
    rest = parts.path.strip("/") + parts.query + parts.fragment
    if parts.scheme != "https" or not name or "@" in parts.netloc or rest:
        fix = "give https:// and the proxy's host, without a path: the page needs a name of its own"
        raise InputError("is no address of a TLS proxy", value=url, where="--url", fix=fix)
    shown = f"[{name}]" if ":" in name else name
    return f"https://{shown}" if port in (None, 443) else f"https://{shown}:{port}"


def _bare_name(host: str) -> str:
    """A host as requests name it, without port and brackets."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name.lower().removeprefix("[").removesuffix("]")


def _refusal(request: Request, status: int, text: str) -> Response:
    """The refusal; what the request still wanted to send is not read."""
    return JSONResponse({"error": text}, status, headers={"Connection": "close"} if request.method == "POST" else None)
