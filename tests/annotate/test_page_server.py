"""The labelling page's server: what it gives, what it refuses, and that no answer is lost or doubled."""

import concurrent.futures
import contextlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.parse

import httpx2 as httpx
import pytest
from starlette import testclient
from typer.testing import CliRunner

from embeddings.decode import DecodeError
from pipeline import cli
from pipeline.annotate.page import markup, server
from pipeline.annotate.page.backend import Task
from pipeline.contracts.errors import InputError
from pipeline.pages.served import guard, json_routes
from pipeline.pages.served.guard import public_origin
from pipeline.pages.served.listening import listening_socket
from tests.support.browser import ROOT, TOKEN, Served, listening
from tests.support.fake_page_session import FINDINGS, FakeDesk, draw, image_id
from tests.support.waiting_run import waiting_run

BASE = "http://127.0.0.1:8017"
COOKIE = "cxr-ssl-8017"
ANNA = {"annotator": "Anna"}
WRITES = ("enter", "next", "answer", "undo", "priors", "mine", "note")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder / "images", 6)
    return folder


@pytest.fixture
def desk(tmp_path, pictures):
    (tmp_path / "images").symlink_to(pictures / "images")
    return FakeDesk(tmp_path, 6)


def open_page(desk, cookie=TOKEN, **more):
    app = server.app(desk, TOKEN, server.OWN_NAMES, name="run")
    client = testclient.TestClient(app, base_url=BASE, follow_redirects=False, raise_server_exceptions=False, **more)
    if cookie:
        client.cookies.set(COOKIE, cookie)
    return client


PUBLIC = "https://labels.example.org"


@pytest.fixture
def client(desk):
    return open_page(desk)


def answer(i=0, reply="normal", **more):
    key = f"key-{random.getrandbits(60)}"
    return ANNA | {"image_id": image_id(i), "reply": reply, "certainty": "sure", "seconds": 2.5, "key": key} | more


def kept(desk):
    return [(a["annotator"], a["image_id"], a["reply"]) for a in desk.answers]


# --- the way in


def test_the_links_token_becomes_a_strict_cookie_and_leaves_the_address(desk):
    client = open_page(desk, cookie=None)
    hello = client.get(f"/?token={TOKEN}")
    assert (hello.status_code, hello.headers["location"]) == (303, "/")
    cookie = hello.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    page = client.get("/")
    assert page.status_code == 200 and "Round 2" in page.text and TOKEN not in page.text


def test_a_link_in_a_web_mail_still_leads_in(desk):
    hello = open_page(desk, cookie=None).get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": "cross-site"})
    assert hello.status_code == 200 and TOKEN in hello.headers["set-cookie"]
    assert 'http-equiv="refresh"' in hello.text and TOKEN not in hello.text


@pytest.mark.parametrize("cookie", [None, "wrong", "", TOKEN + "x", "ü", TOKEN[:-1]])
def test_without_the_token_nothing_is_shown_and_the_way_in_is_told(desk, cookie):
    client = open_page(desk, None)
    headers = {"Cookie": f"{COOKIE}={cookie}".encode()} if cookie is not None else {}
    for path in ("/", "/?token=wrong", "/?token=%ff", f"/image/{image_id(0)}", "/static/page.js", "/nothing"):
        refused = client.get(path, headers=headers)
        assert refused.status_code == 401, path
        assert "Open the link that" in refused.text and "Round 2" not in refused.text
    refused = client.post("/api/answer", json=answer(), headers=headers)
    assert refused.status_code == 401 and "Open the link" in refused.json()["error"]
    assert desk.answers == []


def test_the_token_in_a_link_opens_the_first_page_only(desk):
    client = open_page(desk, None)
    assert client.get(f"/image/{image_id(0)}?token={TOKEN}").status_code == 401
    assert client.post(f"/api/answer?token={TOKEN}", json=answer()).status_code == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8017",
        "127.0.0.1.evil.example:8017",
        "localhost.evil:8017",
        "10.0.0.7",
        "",
        "[::2]",
    ],
)
def test_a_name_that_is_not_ours_is_refused(client, desk, host):
    for response in (
        client.get("/", headers={"Host": host}),
        client.get(f"/?token={TOKEN}", headers={"Host": host}),
        client.post("/api/answer", json=answer(), headers={"Host": host}),
    ):
        assert response.status_code == 403 and "set-cookie" not in response.headers
    assert desk.answers == []


@pytest.mark.parametrize("host", ["127.0.0.1:8017", "localhost:8017", "LOCALHOST:8017", "[::1]:8017"])
def test_our_own_names_are_ours(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_other_machines_come_by_address_but_not_by_a_rebound_name(desk):
    hosts = (*server.OWN_NAMES, "workstation", guard.ANY_ADDRESS)
    client = testclient.TestClient(server.app(desk, TOKEN, hosts), base_url=BASE, cookies={COOKIE: TOKEN})
    seen = {
        host: client.get("/", headers={"Host": host}).status_code
        for host in (
            "10.0.0.7:8017",
            "[fe80::1]:8017",
            "workstation:8017",
            "evil.example:8017",
            "*:8017",
        )
    }
    assert list(seen.values()) == [200, 200, 200, 403, 403]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8017"},
        {"Origin": ""},
        {"Origin": f"{BASE}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_writes_of_other_sites_are_refused(client, desk, headers):
    for name in WRITES:
        refused = client.post(f"/api/{name}", json=answer(), headers=headers)
        assert refused.status_code == 403 and "not from another site" in refused.json()["error"]
    assert desk.answers == []


def test_our_own_page_may_write(client, desk):
    body = answer()
    assert client.post("/api/answer", json=body, headers={"Origin": BASE, "Sec-Fetch-Site": "same-origin"}).is_success
    assert kept(desk) == [("Anna", image_id(0), "normal")]


# --- behind a TLS proxy


def behind_proxy(desk, host):
    """The page as a proxy asks for it that hands on the name it was asked under, or gives its own."""
    app = server.app(desk, TOKEN, server.OWN_NAMES, name="run", origin=PUBLIC)
    return testclient.TestClient(app, headers={"Host": host}, base_url=BASE, follow_redirects=False)


@pytest.mark.parametrize("host", ["labels.example.org", "Labels.Example.org:443", "127.0.0.1:8017"])
def test_behind_a_tls_proxy_the_page_works_under_its_public_origin(desk, host):
    client = behind_proxy(desk, host)
    hello = client.get(f"/?token={TOKEN}")
    assert (hello.status_code, hello.headers["location"]) == (303, "/")
    cookie, *flags = hello.headers["set-cookie"].split("; ")
    assert "Secure" in flags
    given = {"Cookie": cookie, "Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"}
    assert client.get("/", headers=given).status_code == 200
    assert client.post("/api/answer", json=answer(), headers=given).status_code == 200
    for origin in ("http://labels.example.org", "https://labels.example.org:8443", "https://evil.example", "null"):
        assert client.post("/api/answer", json=answer(1), headers=given | {"Origin": origin}).status_code == 403
    assert client.get("/", headers=given | {"Host": "evil.example"}).status_code == 403
    assert kept(desk) == [("Anna", image_id(0), "normal")]


def test_without_a_proxy_no_public_name_is_ours(client, desk):
    assert client.get("/", headers={"Host": "labels.example.org"}).status_code == 403
    assert client.post("/api/answer", json=answer(), headers={"Origin": PUBLIC}).status_code == 403
    hello = open_page(desk, None).get(f"/?token={TOKEN}")
    assert "secure" not in hello.headers["set-cookie"].lower()


def test_the_link_leads_to_the_proxy(tmp_path):
    told = []

    def ready(link):
        told.append(link)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.serve(FakeDesk(tmp_path, 1), port=0, token=TOKEN, url="https://Labels.Example.org/", ready=ready)
    assert told == [f"{PUBLIC}/?token={TOKEN}"]


def test_the_command_hands_the_proxys_address_on(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr("pipeline.annotate.page.server.serve", lambda desk, **more: given.update(more))
    run = waiting_run(tmp_path / "run")
    for args in ([], ["--url", PUBLIC]):
        assert CliRunner().invoke(cli.app, ["annotate", str(run.folder), *args]).exit_code == 0
        assert given["url"] == (PUBLIC if args else None)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://labels.example.org", PUBLIC),
        (" https://LABELS.example.org:443/ ", PUBLIC),
        ("https://labels.example.org:8443", f"{PUBLIC}:8443"),
        ("https://röntgen.example", "https://xn--rntgen-wxa.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_address_becomes_the_origin_that_browsers_give(url, origin):
    assert public_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "labels.example.org",
        "http://labels.example.org",
        "https://",
        "https://labels.example.org/cxr",
        "",
        "https://:8443",
        "https://labels.example.org/?a=1",
        "https://labels.example.org/#a",
        "https://me:pw@labels.example.org",
        "https://labels.example.org:port",
        "https://[::1",
        "https://a..b",
        "https://labels.example.org:99999",
    ],
)
def test_an_address_the_page_cannot_have_is_refused_with_the_way_out(tmp_path, url):
    with pytest.raises(InputError, match=r"--url: is no address of a TLS proxy.*Give https://"):
        server.serve(FakeDesk(tmp_path, 1), port=0, url=url, ready=lambda link: pytest.fail("it promised a page"))


# --- what is said to every browser


def test_every_answer_is_closed_to_other_sites(client, desk):
    desk.full = True
    responses = [
        client.get("/"),
        client.get("/static/page.js"),
        client.get(f"/image/{image_id(0)}"),
        client.get("/nothing"),
        client.post("/api/answer", json=answer()),
        client.post("/api/answer", content=b"{"),
        client.get("/", headers={"Host": "evil.example"}),
        open_page(desk, None).get("/"),
    ]
    assert {r.status_code for r in responses} == {200, 401, 403, 404, 415, 507}
    for response in responses:
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        is_image = response.headers["content-type"] == "image/png"
        assert response.headers["cache-control"] == ("private, no-store" if is_image else "no-store")


def test_the_page_runs_no_inline_script_and_takes_nothing_from_elsewhere(client):
    page = client.get("/").text
    assert re.findall(r"<script(?![^>]*(?: src=\"/static/|type=\"application/json\"))", page) == []
    assert re.findall(r"\son\w+=|style=\"|https?://", page) == []
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        response = client.get(name)
        assert response.is_success and "https://" not in response.text


def test_labels_and_titles_are_text_not_markup(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    page = open_page(FakeDesk(tmp_path, 1, findings=(evil, "b"), title=evil)).get("/").text
    assert "<script>alert" not in page and "<img" not in page
    config = re.search(r'<script type="application/json" id="config">(.*?)</script>', page)[1]
    assert json.loads(config)["findings"][0] == evil


# --- pictures


def test_a_picture_is_served_as_it_is(client, pictures):
    response = client.get(f"/image/{image_id(3)}")
    assert response.content == (pictures / "images" / f"{image_id(3)}.png").read_bytes()
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "name",
    [
        "../answers.jsonl",
        "..%2fanswers.jsonl",
        "%2e%2e%2fanswers.jsonl",
        "..%252fanswers.jsonl",
        "..%5canswers.jsonl",
        "%2fetc%2fpasswd",
        f"{image_id(0)}.png",
        f"{image_id(0)}%00",
        f"{image_id(0)}%0a",
        f"{image_id(0)}/..",
        image_id(0).upper().replace("0", "A"),
        image_id(99),
        "",
        "0",
        "%ff%fe",
        f"..%2fimages%2f{image_id(0)}",
    ],
)
def test_only_scans_of_the_queue_are_pictures(client, desk, name):
    desk.log.write_text("secret\n")
    asked = []
    desk.picture = lambda i, inner=desk.picture: asked.append(i) or inner(i)
    response = client.get(f"/image/{name}")
    assert response.status_code == 404 and "secret" not in response.text
    assert all(re.fullmatch("[0-9a-f]{16}", i) for i in asked)


def test_a_scan_without_a_picture_is_a_404_without_its_path(desk, client):
    desk.ids.append(image_id(77))
    response = client.get(f"/image/{image_id(77)}")
    assert response.status_code == 404 and str(desk.folder) not in response.text


def unreadable(cause):
    """As `embeddings.decode` puts what the disk or Pillow says."""
    error = DecodeError("the file cannot be read: somehow")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(5, "Input/output error", "/secret/scan.png"), 503),
        (PermissionError(13, "Permission denied", "/secret/scan.png"), 503),
        (unreadable(OSError(116, "Stale file handle", "/secret/scan.png")), 503),
        (unreadable(OSError("image file is truncated")), 404),  # Pillow's: no disk says so
        (unreadable(None), 404),
    ],
    ids=repr,
)
def test_a_disk_that_is_away_for_a_moment_is_no_missing_scan(desk, client, error, status):
    def picture(image_id):
        raise error

    desk.picture = picture
    for response in (client.get(f"/image/{image_id(0)}"), client.head(f"/image/{image_id(0)}")):
        assert response.status_code == status
        assert "secret" not in response.text and response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name", ["server.py", "..%2fserver.py", "page.html.j2", "locked.css", "offline.js", "%2fetc%2fpasswd"]
)
def test_only_the_pages_own_pieces_are_static(client, name):
    assert client.get(f"/static/{name}").status_code == 404


# --- answers


def test_from_sitting_down_to_the_end(client, desk):
    entered = client.post("/api/enter", json={"annotator": "  Anna   B "}).json()
    assert entered["annotator"] == "Anna B" and entered["progress"]["left"] == 6
    tasks = client.post("/api/next", json={"annotator": "Anna B", "num": 3, "held": [image_id(0)]}).json()["tasks"]
    assert [Task(**task | {"differing": tuple(task["differing"])}) for task in tasks] == [
        Task(image_id(1), 2),
        Task(image_id(2), 3, num_priors=2),
        Task(image_id(3), 4),
    ]
    seen = client.post("/api/priors", json={"annotator": "Anna B", "image_id": image_id(2)}).json()
    assert seen == {"priors": [image_id(0), image_id(1)], "deep": []}
    given = client.post("/api/answer", json=answer(2, annotator="Anna B")).json()["progress"]
    assert (given["done"], given["left"], given["seconds_per_scan"]) == (1, 5, 2.5)
    back = client.post("/api/undo", json={"annotator": "Anna B", "key": "undo-key-1"}).json()
    assert back["task"]["image_id"] == image_id(2) and back["progress"]["done"] == 0 and desk.answers == []
    assert client.post("/api/undo", json={"annotator": "Anna B", "key": "undo-key-2"}).json()["task"] is None


def test_whoever_is_given_a_scan_hears_whether_it_has_16_bits(client, desk):
    desk.is_deep = lambda scan: scan in (image_id(0), image_id(2))
    assert client.post("/api/next", json={"annotator": "Anna", "num": 2, "held": []}).json()["deep"] == [image_id(0)]
    priors = client.post("/api/priors", json={"annotator": "Anna", "image_id": image_id(2)}).json()
    assert priors == {"priors": [image_id(0), image_id(1)], "deep": [image_id(0)]}
    client.post("/api/answer", json=answer(2))
    assert client.post("/api/undo", json=ANNA | {"key": "undo-key-1"}).json()["deep"] == [image_id(2)]
    assert client.post("/api/undo", json=ANNA | {"key": "undo-key-2"}).json()["deep"] == []


def test_a_request_that_is_repeated_counts_once(client, desk):
    body = answer()
    for _ in range(3):
        assert client.post("/api/answer", json=body).is_success
    client.post("/api/answer", json=answer(1))
    assert len(desk.answers) == 2
    for _ in range(3):
        assert client.post("/api/undo", json=ANNA | {"key": "the-same-undo"}).json()["task"]["number"] == 2
    assert kept(desk) == [("Anna", image_id(0), "normal")]


@pytest.mark.parametrize("other", [{"reply": "nodule"}, {"image_id": image_id(1)}, {"annotator": "Ben"}])
def test_another_answer_under_a_known_key_is_refused(client, desk, other):
    body = answer()
    assert client.post("/api/answer", json=body).is_success
    refused = client.post("/api/answer", json=body | other)
    assert refused.status_code == 400 and "said something else" in refused.json()["error"]
    assert kept(desk) == [("Anna", image_id(0), "normal")]


def test_an_undo_takes_back_the_answer_it_names(client, desk):
    bodies = [answer(i) for i in range(3)]
    for body in bodies:
        client.post("/api/answer", json=body)
    asked = ANNA | {"key": "undo-the-first", "of": bodies[0]["key"]}
    for _ in range(2):
        assert client.post("/api/undo", json=asked).json()["task"]["image_id"] == image_id(0)
    assert [row[1] for row in kept(desk)] == [image_id(1), image_id(2)]
    assert client.post("/api/undo", json=ANNA | {"key": "undo-a-path", "of": "../../x"}).status_code == 400


def test_a_new_queue_is_told_with_the_next_scans_and_to_who_comes_anew(client, desk):
    desk.title, desk.findings = "Round 3", ("normal", "other")
    told = client.post("/api/next", json=ANNA | {"num": 1}).json()
    assert (told["title"], told["findings"]) == ("Round 3", ["normal", "other"])
    page = client.get("/").text
    assert "Round 3" in page and "Round 2" not in page and "effusion" not in page


@pytest.mark.parametrize("name", ["", "   ", "<b>Anna</b>", "=cmd()", "a\u0000b", "oracle", "x" * 65, "a\ud800"])
def test_a_name_that_is_none_is_refused_with_the_way_out(client, name):
    refused = client.post(
        "/api/enter", content=json.dumps({"annotator": name}), headers={"Content-Type": "application/json"}
    )
    assert refused.status_code == 400 and len(refused.json()["error"]) > 20


BAD_BODIES = {
    "truncated": json.dumps(answer())[:-9].encode(),
    "empty": b"",
    "not UTF-8": json.dumps(answer()).encode().replace(b"normal", b"\xff\xfe"),
    "UTF-16": json.dumps(answer()).encode("utf-16"),
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 20000,
    "no scan": json.dumps(ANNA | {"reply": "normal"}).encode(),
    "number for a text": json.dumps(answer(reply=7)).encode(),
    "text for a number": json.dumps(answer(seconds="2")).encode(),
    "negative": json.dumps(answer(seconds=-1)).encode(),
    "NaN": json.dumps(answer(seconds=float("nan"))).encode(),
    "infinite": b'{"seconds": 1e999}',
    "more than asked": json.dumps(answer(admin=True)).encode(),
    "path as scan": json.dumps(answer(image_id="../../etc/passwd")).encode(),
    "scan with newline": json.dumps(answer(image_id=image_id(0) + "\n")).encode(),
    "long reply": json.dumps(answer(reply="x" * 300)).encode(),
    "no key": json.dumps(answer(key="")).encode(),
    "unknown scan": json.dumps(answer(99)).encode(),
    "unknown reply": json.dumps(answer(reply="fracture")).encode(),
    "nobody": json.dumps(answer(annotator="")).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_cannot_be_used_is_refused_with_the_reason(client, desk, body):
    refused = client.post("/api/answer", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400 and len(refused.json()["error"]) > 20
    assert "Traceback" not in refused.text and str(ROOT) not in refused.text
    assert desk.answers == []


def test_a_mistake_is_named(client):
    refused = client.post("/api/answer", json=answer(seconds="soon", reply=1)).json()["error"]
    assert "reply: " in refused and "seconds: " in refused


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_form_of_another_site_is_no_answer(client, desk, kind):
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/api/answer", content=json.dumps(answer()), headers=headers).status_code == 415
    assert desk.answers == []


def test_answers_are_not_read_from_addresses(client):
    for name in WRITES:
        assert client.get(f"/api/{name}").status_code == 405
    assert client.put("/api/answer", json=answer()).status_code == 405


def test_a_full_disk_is_told_without_its_path_and_the_same_answer_is_taken_later(client, desk):
    first, second = answer(0), answer(1)
    assert client.post("/api/answer", json=first).is_success
    desk.full = True
    refused = client.post("/api/answer", json=second)
    assert refused.status_code == 507
    assert refused.json() == {"error": "It could not be saved on the server: No space left on device."}
    desk.full = False
    assert client.post("/api/answer", json=second).is_success
    assert len(FakeDesk(desk.folder, 6).answers) == 2


def test_a_mistake_of_ours_shows_no_inside(client, desk):
    def broken(*_):
        raise RuntimeError(f"at {desk.folder}: patient 123")

    desk.answer = broken
    refused = client.post("/api/answer", json=answer())
    assert refused.status_code == 500 and "patient" not in refused.text and str(desk.folder) not in refused.text
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_body_over_the_limit_is_refused_and_one_below_is_read(client):
    long = {"num": 5, "held": [image_id(i) for i in range(3000)]}
    assert len(json.dumps(long)) < json_routes.MAX_BODY_BYTES
    assert client.post("/api/next", json=ANNA | long).is_success
    padded = json.dumps(ANNA | long).ljust(json_routes.MAX_BODY_BYTES + 1)
    refused = client.post("/api/next", content=padded, headers={"Content-Type": "application/json"})
    assert refused.status_code == 413 and "65536 bytes" in refused.json()["error"]


# --- a server that really listens


def test_an_upload_of_two_gigabytes_is_refused_unread(desk):
    with listening(desk) as base:
        port = int(base.rpartition(":")[2])
        head = (
            f"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: cxr-ssl-{port}={TOKEN}\r\n"
            "Content-Type: application/json\r\n"
        )
        for more, block in (
            (f"Content-Length: {2 << 30}\r\n\r\n", b"x" * 65536),
            ("Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sender:
                sender.sendall((head + more).encode())
                num_sent = 0
                with contextlib.suppress(ConnectionError):  # it hangs up in the middle of the upload
                    while num_sent < 64 << 20:
                        sender.sendall(block)
                        num_sent += len(block)
                assert num_sent < 64 << 20, "the server goes on reading"
                with contextlib.suppress(ConnectionError):
                    reply = sender.recv(4096)
                    assert reply.startswith(b"HTTP/1.1 413") or reply == b""
        refused = httpx.post(
            f"{base}/api/answer",
            content=b"x" * 70000,
            cookies={f"cxr-ssl-{port}": TOKEN},
            headers={"Content-Type": "application/json"},
        )
        assert refused.status_code == 413
        assert httpx.get(f"{base}/", cookies={f"cxr-ssl-{port}": TOKEN}).is_success
    assert desk.answers == []


def test_five_annotators_at_once_lose_and_double_nothing(tmp_path):
    num, each = 400, 80
    desk = FakeDesk(tmp_path, num, shared=True)

    def work(annotator, base):
        rng, mine = random.Random(annotator), []
        port = base.rpartition(":")[2]
        with httpx.Client(base_url=base, cookies={f"cxr-ssl-{port}": TOKEN}, timeout=30) as client:
            while len(mine) < each:
                body = {"annotator": annotator, "num": 8, "held": []}
                tasks = client.post("/api/next", json=body).json()["tasks"]
                for task in tasks[: each - len(mine)]:
                    body = answer(0, rng.choice(FINDINGS), annotator=annotator, image_id=task["image_id"])
                    for _ in range(2 if rng.random() < 0.2 else 1):  # a fifth is sent twice, as after a lost reply
                        assert client.post("/api/answer", json=body).is_success
                    mine.append((annotator, task["image_id"], body["reply"]))
                    if rng.random() < 0.1:
                        key = {"annotator": annotator, "key": f"undo-{rng.getrandbits(60)}"}
                        undone = [client.post("/api/undo", json=key).json()["task"]["image_id"] for _ in range(2)]
                        assert undone == [mine[-1][1]] * 2
                        again = answer(0, "nodule", annotator=annotator, image_id=mine.pop()[1])
                        assert client.post("/api/answer", json=again).is_success
                        mine.append((annotator, again["image_id"], "nodule"))
        return mine

    with listening(desk) as base, concurrent.futures.ThreadPoolExecutor(5) as pool:
        given = [row for rows in pool.map(lambda i: work(f"Reader {i}", base), range(5)) for row in rows]
    assert len(given) == num == len({image for _, image, _ in given})
    assert sorted(kept(FakeDesk(tmp_path, num, shared=True))) == sorted(given)


def test_a_taken_port_names_the_option(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port: the port is taken.*127.0.0.1:{port}.*Give another with --port"):
            server.serve(FakeDesk(tmp_path, 1), port=port, ready=lambda link: pytest.fail("it promised a page"))


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 99999), ("192.0.2.1", 0)])
def test_an_address_that_is_not_ours_to_use_is_an_input_error(tmp_path, host, port):
    with pytest.raises(InputError, match="cannot listen there"):
        server.serve(FakeDesk(tmp_path, 1), host=host, port=port)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_when_told(tmp_path, end):
    with Served(tmp_path, 3) as served:
        link = urllib.parse.urlsplit(served.link)
        assert link.query == f"token={TOKEN}" and link.hostname == "127.0.0.1"
        assert httpx.get(served.link, follow_redirects=True).is_success
        served.process.send_signal(end)
        code = served.process.wait(20)
        assert served.process.stdout.read() == ""
        assert code == 0


def test_each_start_has_a_token_of_its_own(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.support.fake_page_session import FakeDesk\n"
        "from pipeline.annotate.page.server import serve\n"
        "def ready(link): sys.stdout.write(link); raise KeyboardInterrupt\n"
        "for _ in range(2):\n"
        "    try: serve(FakeDesk(Path(sys.argv[1]), 1), port=0, ready=ready)\n"
        "    except KeyboardInterrupt: pass\n"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    tokens = re.findall(r"token=([\w-]+?)(?=http|$)", out.stdout)
    assert len(set(tokens)) == 2 and all(len(token) >= 43 for token in tokens)


def test_every_remark_has_its_own_key():
    assert len(set(markup.LETTERS.values())) == len(markup.LETTERS)
    assert not set(markup.LETTERS.values()) & set("uzirpwxotmafvlekd")


class TestWhoMaySpeak:
    """A link of a reader's own, and a proxy that signs people in: nobody answers as another."""

    def client(self, desk, token, cookie, **more):
        app = server.app(desk, token, server.OWN_NAMES, name="run", **more)
        client = testclient.TestClient(app, base_url=BASE, follow_redirects=False, raise_server_exceptions=False)
        client.cookies.set(COOKIE, cookie)
        return client

    def test_a_link_of_her_own_speaks_in_her_name_alone(self, desk):
        own = {"secret-of-anna": "Anna", "secret-of-ben": "Ben"}
        anna = self.client(desk, None, "secret-of-anna", readers=own)
        assert anna.post("/api/answer", json=answer(0)).status_code == 200
        refused = anna.post("/api/answer", json=answer(1) | {"annotator": "Ben"})
        assert refused.status_code == 403 and "not Ben's" in refused.json()["error"]
        for path in ("enter", "mine"):
            assert anna.post(f"/api/{path}", json={"annotator": "Ben"}).status_code == 403
        assert kept(desk) == [("Anna", image_id(0), "normal")]
        assert '"reader": "Anna"' in anna.get("/").text
        assert self.client(desk, None, TOKEN, readers=own).get("/").status_code == 401  # no link for everybody
        anna.cookies.clear()
        link = anna.get("/?token=secret-of-ben")
        assert link.status_code == 303 and link.cookies[COOKIE] == "secret-of-ben"

    def test_the_link_of_everybody_is_not_the_adjudicators(self, desk):
        client = self.client(desk, TOKEN, TOKEN, readers={"secret-of-lee": "Dr Lee"})
        assert client.post("/api/enter", json=ANNA).status_code == 200
        assert client.post("/api/enter", json={"annotator": "dr lee"}).status_code == 403
        assert '"reader": ""' in client.get("/").text

    def test_a_proxy_says_who_is_signed_in(self, desk):
        client = self.client(desk, TOKEN, TOKEN, reader_header="X-Forwarded-User")
        assert client.post("/api/enter", json=ANNA).status_code == 401 == client.get("/").status_code
        signed_in = {"X-Forwarded-User": "Anna"}
        assert client.post("/api/answer", json=answer(0), headers=signed_in).status_code == 200
        assert client.post("/api/answer", json=answer(1) | {"annotator": "Ben"}, headers=signed_in).status_code == 403
        client.cookies.clear()
        assert client.get("/", headers=signed_in).status_code == 401  # the header alone opens nothing

    @pytest.mark.parametrize("more", [{}, {"url": PUBLIC, "host": "0.0.0.0"}])
    def test_a_header_is_believed_only_behind_the_proxy(self, desk, more):
        with pytest.raises(InputError, match="past the proxy"):
            server.serve(desk, port=0, reader_header="X-Forwarded-User", **more)


def test_notes_own_answers_and_examples(client, desk):
    client.post("/api/answer", json=answer(0))
    shape = {"kind": "arrow", "x0": 1.5, "y0": 2, "x1": 3, "y1": 4}
    note = ANNA | {"image_id": image_id(0), "comment": " left ", "flag": True, "shapes": [shape]}
    assert client.post("/api/note", json=note).json() == {}
    assert client.post("/api/note", json=note | {"shapes": [shape | {"kind": "circle"}]}).status_code == 400
    assert client.post("/api/note", json=note | {"comment": "x" * 5000}).status_code == 400
    (mine,) = client.post("/api/mine", json=ANNA).json()["answers"]
    assert (mine["image_id"], mine["reply"], mine["certainty"]) == (image_id(0), "normal", "sure")
    assert (mine["note"]["comment"], mine["note"]["flag"], mine["note"]["shapes"][0]["x0"]) == ("left", True, 1.5)
    desk.full = True
    refused = client.post("/api/note", json=note)
    assert refused.status_code == 507 and "/secret/place" not in refused.text
    assert client.get("/example/0/1").headers["content-type"] == "image/png"
    assert client.get("/example/0/x").status_code == 404


def test_a_name_of_both_kinds_of_address_is_listened_to_on_the_ipv4_one(monkeypatch):
    def both(host, port, **more):
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(socket.AF_INET6, *stream, ("::1", 0, 0, 0)), (socket.AF_INET, *stream, ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with listening_socket("localhost", 0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
