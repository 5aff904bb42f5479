"""The page over HTTP: behind the same guard as the labelling page, read-only but for marks, bounded and escaped."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette import testclient

from pipeline.explore.page import server
from pipeline.explore.viewer import Viewer
from pipeline.pages.served.listening import OWN_NAMES
from pipeline.runtime import run_files
from pipeline.selection.marks import Marks
from tests.support.browser import TOKEN
from tests.support.explored_run import explored_run

BASE, COOKIE = "http://127.0.0.1:8018", "cxr-ssl-8018"
ALL = {"where": [], "lasso": [], "named": []}
PATHS = ("about", "points", "gallery", "scan", "tag", "wish", "view", "export")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return explored_run(tmp_path_factory.mktemp("explored") / "run")


@pytest.fixture(scope="module")
def app(run):
    return server.app(Viewer(run.folder, run.ctx.config), TOKEN, OWN_NAMES)


@pytest.fixture
def client(app):
    opened = testclient.TestClient(app, base_url=BASE, follow_redirects=False, raise_server_exceptions=False)
    opened.cookies.set(COOKIE, TOKEN)
    return opened


def marked(who="Ann", **more):
    return {"who": who, "choice": {**ALL, "where": [{"column": "split", "values": ["train"]}]}} | more


@pytest.mark.parametrize("path", ["/", "/thumbnail/0123456789abcdef", "/report/index.html", "/static/explore.js"])
def test_nothing_is_seen_without_the_links_token(app, path):
    stranger = testclient.TestClient(app, base_url=BASE, follow_redirects=False)
    assert stranger.get(path).status_code == 401


@pytest.mark.parametrize("path", PATHS)
def test_no_request_is_answered_to_strangers_other_names_or_other_sites(app, client, path):
    assert testclient.TestClient(app, base_url=BASE).post(f"/api/{path}", json={}).status_code == 401
    assert client.post(f"/api/{path}", json={}, headers={"Host": "evil.example"}).status_code == 403
    assert client.post(f"/api/{path}", json={}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post(f"/api/{path}", json={"strange": 1}).status_code == 400
    assert client.get(f"/api/{path}").status_code == 405


def test_the_page_and_what_it_needs_come_closed(client):
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for name in (*server._assets(),):
        reply = client.get(f"/static/{name}")
        assert reply.status_code == 200 and reply.headers["content-type"].partition(";")[0] in server.TYPES.values()
    assert client.get("/static/..%2fserver.py").status_code == 404
    assert client.get("/static/page.js").status_code == 404  # the labelling page's


def test_scans_are_pictures_without_anything_else_in_the_file(client, run):
    small, large = (client.get(f"/{kind}/{run.ids('train')[0]}") for kind in ("thumbnail", "image"))
    picture = Image.open(io.BytesIO(small.content))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (32, 32)) and not picture.getexif()
    assert Image.open(io.BytesIO(large.content)).size == (32, 32)
    assert client.get("/thumbnail/ffffffffffffffff").status_code == 404
    assert client.get("/thumbnail/..%2f..%2fetc").status_code == 404


def test_points_of_a_lasso_and_their_scans(client, run):
    whole = client.post("/api/points", json={"choice": ALL, "color": "label"})
    num, meant = np.frombuffer(whole.content[:8], "<u4")
    assert num == meant == 120 and len(whole.content) == 8 + 9 * 120
    lasso = [[0, 0], [65535, 0], [65535, 32000], [0, 32000]]
    part = client.post("/api/gallery", json={"choice": ALL | {"lasso": lasso}, "num": 200}).json()
    assert 0 < part["num"] < 120 and all(card["y"] <= 32000 for card in part["scans"])
    box = client.post("/api/points", json={"choice": ALL, "box": [0, 0, 65535, 32000]}).content
    assert np.frombuffer(box[:8], "<u4")[1] == part["num"]
    row = int(np.frombuffer(whole.content, "<u4", 1, 8)[0])
    assert client.post("/api/scan", json={"row": row}).json()["scan"]["image_id"] in run.truth
    assert client.post("/api/scan", json={"row": 10**6}).json() == {"scan": None}


def test_marks_are_kept_with_who_and_bounded(client, run):
    assert client.post("/api/tag", json=marked(tag="odd")).json()["num"] == 80
    assert client.post("/api/tag", json=marked(tag="odd", give=False)).json()["num"] == 80
    script = "<script>alert(1)</script>" * 400
    refused = client.post("/api/tag", json=marked(tag=script))
    assert refused.status_code == 400 and "is no name of a tag" in refused.json()["error"]
    assert client.post("/api/tag", json=marked(tag="x" * 70_000)).status_code in (400, 413)
    assert client.post("/api/tag", json=marked(who="<b>", tag="odd")).status_code == 400
    assert client.post("/api/tag", json=marked(tag="odd", choice=ALL | {"named": ["f" * 16]})).status_code == 400
    view = {"who": "Ann", "name": "mistakes", "choice": ALL, "color": "label", "order": {"by": "outlier"}}
    (kept,) = client.post("/api/view", json=view).json()["about"]["views"]
    assert (kept["who"], kept["view"]["order"]["by"]) == ("Ann", "outlier")
    events = (run.folder / run_files.MARKS).read_text("utf-8").splitlines()
    assert len(events) == 3 and Marks.open(run.folder).tags == {}


def test_the_report_is_served_beside_with_its_links_open(client, run):
    assert client.get("/report/index.html").status_code == 404  # not written yet
    path = run.folder / run_files.REPORT
    path.parent.mkdir()
    path.write_text("<html><body>a report</body></html>", "utf-8")
    reply = client.get("/report/index.html")
    assert "<body data-served>" in reply.text and "'unsafe-inline'" in reply.headers["content-security-policy"]
    assert "connect-src" not in reply.headers["content-security-policy"]
    assert client.get("/report/..%2f..%2fresolved.yaml").status_code == 404
