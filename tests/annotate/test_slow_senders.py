"""Connections that send half a request: they are closed, and keep nobody from the page."""

import contextlib
import http.client
import socket
import urllib.parse

import httpx2 as httpx
import pytest

from pipeline.pages.served import slow_senders
from tests.support.browser import TOKEN, listening
from tests.support.fake_page_session import FakeDesk

HALF_HEADERS = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
HALF_BODY = b"POST /api/enter HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"
PATIENT = 60.0  # seconds until a test gives up


def opened(base, num, sent):
    address = urllib.parse.urlsplit(base)
    held = [socket.create_connection((address.hostname, address.port), PATIENT) for _ in range(num)]
    for each in held:
        with contextlib.suppress(ConnectionError):  # it was let go already
            each.sendall(sent)
    return held


def is_closed(connection):
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def enter(base):
    return httpx.get(f"{base}/?token={TOKEN}", timeout=PATIENT, follow_redirects=False)


def asked(connection):
    connection.request("GET", f"/?token={TOKEN}")
    reply = connection.getresponse()
    reply.read()
    return reply.status


@pytest.mark.parametrize("sent", [b"", HALF_HEADERS, HALF_BODY])
def test_whoever_sends_no_whole_request_in_time_is_let_go(tmp_path, sent):
    with listening(FakeDesk(tmp_path, 1), http=slow_senders.protocol(request_seconds=0.2)) as base:
        assert all(is_closed(each) for each in opened(base, 3, sent))
        assert enter(base).status_code == 303


def test_hundreds_of_half_requests_lock_nobody_out(tmp_path):
    limits = slow_senders.protocol(request_seconds=PATIENT, max_waiting=20)
    with listening(FakeDesk(tmp_path, 1), http=limits) as base:
        held = opened(base, 300, HALF_HEADERS)
        assert enter(base).status_code == 303
        assert all(is_closed(each) for each in held[:200]), "those that waited longest go first"
        for each in held:
            each.close()


def test_who_has_had_a_reply_is_the_last_to_be_let_go(tmp_path):
    limits = slow_senders.protocol(request_seconds=PATIENT, max_waiting=20)
    with listening(FakeDesk(tmp_path, 1), http=limits) as base:
        address = urllib.parse.urlsplit(base)
        reader = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENT)
        first = asked(reader)
        held = opened(base, 100, HALF_HEADERS)
        assert all(is_closed(each) for each in held[:70])
        reader.auto_open = False  # on the same connection, or not at all
        assert asked(reader) == first == 303
        for each in held:
            each.close()


def test_a_refusal_makes_nobody_known(tmp_path):
    limits = slow_senders.protocol(request_seconds=PATIENT, max_waiting=20)
    with listening(FakeDesk(tmp_path, 1), http=limits) as base:
        address = urllib.parse.urlsplit(base)
        reader = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENT)
        first = asked(reader)
        strangers = []
        for _ in range(40):  # one after another: who waits longest is who came first
            strangers += opened(base, 1, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HALF_HEADERS)
            assert strangers[-1].recv(4096).startswith(b"HTTP/1.1 4"), "whoever shows no token has a reply as well"
        assert all(is_closed(each) for each in strangers[:20]), "a reply to a stranger keeps its place for nobody"
        reader.auto_open = False  # on the same connection, or not at all
        assert asked(reader) == first == 303
        for each in strangers:
            each.close()


def test_an_open_connection_serves_one_request_after_another(tmp_path):
    with listening(FakeDesk(tmp_path, 1)) as base, httpx.Client(base_url=base, follow_redirects=False) as client:
        assert [client.get(f"/?token={TOKEN}").status_code for _ in range(3)] == [303] * 3
