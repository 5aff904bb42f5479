"""Serves a page of ours at an address, until somebody ends it."""

import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pipeline.contracts.errors import InputError
from pipeline.pages.served import slow_senders
from pipeline.pages.served.guard import ANY_ADDRESS

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
OWN_NAMES = (LOOPBACK, "localhost", "::1")
QUIET: dict[str, Any] = {"access_log": False, "log_config": None, "log_level": "warning", "server_header": False}


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
    with listening_socket(host, port) as sock:
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


def _outer_names() -> tuple[str, ...]:
    """Names other machines may use; whatever address they use is ours, since a rebound name is no address."""
    return socket.gethostname(), socket.getfqdn(), ANY_ADDRESS


def listening_socket(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is known before anything is promised.

    Of a name that stands for both kinds of address it is the IPv4 one: who asks "localhost" tries that one in any case.
    """
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        family, kind, protocol = min(addresses, key=lambda address: address[0] != socket.AF_INET)[:3]
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
