"""Closes connections that keep the labelling page waiting, so that whoever opens hundreds locks nobody out.

A request is whole within a moment: its headers are short, and an answer has less than 64 KiB. A connection that has not
sent a whole request in time is closed; where too many wait at once, the one that has waited longest goes first, and
those that showed the link's token, as a reader's page between two answers, go last. A reply alone is no token: a
stranger gets one, too. The one that came just now stays, for it may be a reader who opens the link.
"""

import asyncio
from collections.abc import Iterable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
KNOWN = "cxr_ssl.is_known"  # key in a request's scope: it came with a token, see `guard`
MAX_WAITING = 400  # connections; a process may hold about a thousand files open


def protocol(request_seconds: float = REQUEST_SECONDS, max_waiting: int = MAX_WAITING) -> type[H11Protocol]:
    """The protocol of one server, to be given to `uvicorn.Config(http=…)`.

    Args:
        request_seconds: Time a connection has to send a whole request, headers and body.
        max_waiting: Connections that may be without a whole request at once.
    """
    waiting: dict[H11Protocol, asyncio.TimerHandle] = {}  # in the order in which they began to wait

    class Impatient(H11Protocol):
        """HTTP/1.1 with a time limit for requests."""

        is_known = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            is_known = bool((self.scope or {}).get(KNOWN))
            super().on_response_complete()
            self.is_known = self.is_known or is_known
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.transport.is_closing() or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
                self._forget()
            elif self not in waiting:
                waiting[self] = self.loop.call_later(request_seconds, self._close)
                if len(waiting) > max_waiting:
                    _first_to_go(waiting)._close()  # type: ignore[attr-defined]

        def _forget(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

        def _close(self) -> None:
            self._forget()
            self.transport.abort()

    return Impatient


def _first_to_go(waiting: Iterable[H11Protocol]) -> H11Protocol:
    """Of all but the newest: the longest waiting that showed no token; where all did, the longest waiting."""
    in_order = list(waiting)[:-1]
    strangers = (each for each in in_order if not each.is_known)  # type: ignore[attr-defined]
    return next(strangers, in_order[0])
