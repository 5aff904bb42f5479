"""A real Label Studio server on loopback, and a sitting of two annotators in it.

`python -m tests.support.label_studio_server install` installs it; with `exports` it writes `exports/` anew, from a
sitting of 12 scans, and `exports_several/`, from one about independent findings.
"""

import contextlib
import hashlib
import http.cookiejar
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.annotate.filled_row import Filled
from pipeline.annotate.label_studio import tasks as label_studio_tasks
from pipeline.contracts.answers import CERTAINTIES, REMARKS
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.finding_line import NONE, Independent

HOME = cache_folder().absolute() / "label-studio-1.23.2"  # the user's cache: the tests have one of their own
LOCK = Path(__file__).with_name("label_studio.lock")
EXPORTS = Path(__file__).parents[1] / "annotate" / "exports"
EXPORTS_SEVERAL = Path(__file__).parents[1] / "annotate" / "exports_several"  # of independent findings
FINDINGS = (
    "normal",
    "COVID-19",
    'a "quoted" <b>name</b> & it\'s',
    "=1+1",
    "+plus",
    "-minus",
    "@at",
    "Pneumothorax rechts, groß",
    "肺炎; viral",
    "<script>alert(1)</script>",
    "&lt;b&gt;",
    "$image",
    'costs $rank {"choices": [1]}',
    '["normal"]',
)
RUN, ROUND, FOLDER = "4c0ffee00001", 3, "run & Röntgen 1/rounds/03/images"
ADMIN, SECOND, PASSWORD, TOKEN = (
    "first@example.org",
    "second@example.org",
    "an hour of darkness",
    "0123456789abcdef" * 2,
)
INDEPENDENT = Independent(("effusion", "Ödem, rechts", "$image", 'a "quoted" one'))
CHOSEN = {  # choices made together to the answer they are; None: they contradict each other
    ("effusion",): "effusion",
    ("effusion", "$image"): "effusion|$image",
    ("?Ödem, rechts",): "?Ödem, rechts",
    ("Ödem, rechts", "?$image"): "Ödem, rechts|?$image",
    ('a "quoted" one', "effusion", "Ödem, rechts"): 'a "quoted" one|effusion|Ödem, rechts',
    (NONE,): NONE,
    (REMARKS[1],): REMARKS[1],
    ("effusion", NONE): None,
    ("effusion", REMARKS[1]): None,
}
KINDS = ("JSON", "JSON_MIN", "CSV", "TSV")
NUM_UNANSWERED = 4  # skipped, begun, submitted empty, never opened


def is_installed() -> bool:
    """Whether there is one to test against."""
    return "CXR_SSL_LABEL_STUDIO" in os.environ or (HOME / "complete").exists()


def interpreter() -> Path:
    """A Python with Label Studio: `CXR_SSL_LABEL_STUDIO`, else that of `HOME`, made now where it is missing."""
    if chosen := os.environ.get("CXR_SSL_LABEL_STUDIO"):
        return Path(chosen)
    python = HOME / "bin" / "python"
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{HOME}.lock"):  # whoever is at it already is waited for
        if not is_installed():
            shutil.rmtree(HOME, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
            # Versions are pinned and what is not imported is not compiled: half the time.
            pinned = ["--quiet", "--no-input", "--no-deps", "--no-compile", "--requirement", LOCK]
            subprocess.run([python, "-m", "pip", "install", *pinned], check=True)
            (HOME / "complete").touch()
    return python


@dataclass(frozen=True)
class Server:
    """A running server; its first user is ADMIN, who holds TOKEN."""

    url: str
    media: Path

    def fetch(self, method: str, path: str, body: object = None, token: str = TOKEN) -> bytes:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
        )
        try:
            with _direct().open(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None

    def call(self, method: str, path: str, body: object = None, token: str = TOKEN) -> Any:
        return json.loads(self.fetch(method, path, body, token) or b"null")

    def sign_up(self, email: str) -> str:
        """Make another user the way a person does, by the form; returns the token."""
        cookies = http.cookiejar.CookieJar()
        browser = _direct(urllib.request.HTTPCookieProcessor(cookies))
        browser.open(f"{self.url}/user/signup/", timeout=60).read()
        secret = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
        form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": secret}
        browser.open(f"{self.url}/user/signup/", urllib.parse.urlencode(form).encode(), timeout=60).read()
        return str(json.load(browser.open(f"{self.url}/api/current-user/token", timeout=60))["token"])

    def project(self, title: str, findings: tuple[str, ...] = FINDINGS) -> int:
        config = label_studio_tasks.labelling_config(findings)
        self.fetch("POST", "/api/projects/validate/", {"label_config": config})
        return int(self.call("POST", "/api/projects/", {"title": title, "label_config": config})["id"])

    def load(self, project: int, tasks: list[dict[str, Any]]) -> list[int]:
        """Import tasks; returns their numbers in order."""
        return list(self.call("POST", f"/api/projects/{project}/import?return_task_ids=true", tasks)["task_ids"])

    def export(self, project: int, kind: str, *, everything: bool = False) -> str:
        path = f"/api/projects/{project}/export?exportType={kind}&download_all_tasks={str(everything).lower()}"
        return self.fetch("GET", path).decode("utf-8")

    def snapshot(self, project: int, kind: str) -> str:
        """An export that tells e-mails, as the Enterprise edition's exports and snapshots can."""
        options = {"annotations__completed_by": {"only_id": False}}
        made = self.call("POST", f"/api/projects/{project}/exports/", {"serialization_options": options})
        path = f"/api/projects/{project}/exports/{made['id']}"
        while (status := self.call("GET", path)["status"]) in ("created", "in_progress"):
            time.sleep(0.1)
        assert status == "completed", status
        return self.fetch("GET", f"{path}/download?exportType={kind}").decode("utf-8")


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """A server with a fresh database in `folder`, on a free port of loopback, told to report to nobody."""
    python = interpreter()
    shutil.copytree(fresh_database(python), folder / "data")
    with _running(python, folder) as server:
        yield server


def fresh_database(python: Path) -> Path:
    """The data of a server that has just started for the first time: its migrations take a minute, a copy none.

    It is kept where `HOME` is, under the name of the versions that made it.
    """
    versions = hashlib.sha256(LOCK.read_bytes() + str(python).encode()).hexdigest()[:12]
    kept = HOME.with_name(f"{HOME.name}-database-{versions}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
                with _running(python, Path(scratch)):
                    pass
                (Path(scratch) / "data").rename(kept)
    return kept


@contextlib.contextmanager
def _running(python: Path, folder: Path) -> Iterator[Server]:
    """A server whose data lie in `folder/data`; what is missing of them it makes."""
    media = folder / "media"
    media.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # it also reads bare names such as HOST and DEBUG
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_USERNAME": ADMIN,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(media),
    }
    code = "import sys; from label_studio.server import main; sys.exit(main())"
    options = [
        "start",
        "--no-browser",
        "--internal-host",
        "127.0.0.1",
        "--port",
        str(port),
        "--enable-legacy-api-token",
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-c", code, *options], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", media)
        _await(server, process, folder / "server.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Sitting:
    """Annotators' work in a project.

    Attributes:
        project: Its number.
        texts: Kind of export to its text.
        answers: What the export must say, by scan and account number; `where` empty, `time` None.
    """

    project: int
    texts: dict[str, str]
    answers: dict[tuple[str, str], Filled]


def sit(server: Server, num_scans: int, period: int = 10) -> Sitting:
    """Two people answer `num_scans` tasks in every way a person can; four more tasks are left without an answer.

    Of `period` answers, five or more, one is given after a skip, one is corrected in place, one by a second
    annotation, and one task is read by the second annotator as well.
    """
    second = server.sign_up(SECOND)
    numbers = {
        email: str(server.call("GET", "/api/current-user/whoami", token=token)["id"])
        for email, token in ((ADMIN, TOKEN), (SECOND, second))
    }
    replies = [*FINDINGS, *REMARKS]
    scans = [(scan_of(i), i + 1) for i in range(num_scans + NUM_UNANSWERED)]
    project = server.project(f"Round of {num_scans}")
    tasks = server.load(
        project,
        label_studio_tasks.tasks(
            scans, _url, run=RUN, round_index=ROUND, findings=FINDINGS, annotator="Dr. Jörg O'Neill"
        ),
    )
    answers = {}
    for i, ((image_id, _), task) in enumerate(zip(scans[:num_scans], tasks, strict=False)):
        reply, certainty = replies[i % len(replies)], ("", *CERTAINTIES)[i % 3]
        way = {1: "skip", 2: "correct", 3: "again"}.get(i % period, "answer")
        _annotate(server, task, _result(reply, certainty), 1 + i / 8, TOKEN, way)
        answers[image_id, numbers[ADMIN]] = _filled(image_id, reply, numbers[ADMIN], certainty, 1 + i / 8)
        if i % period == 4:
            reply, certainty = replies[(i + 1) % len(replies)], ("", *CERTAINTIES)[(i + 1) % 3]
            _annotate(server, task, _result(reply, certainty), 7.25, second, "answer")
            answers[image_id, numbers[SECOND]] = _filled(image_id, reply, numbers[SECOND], certainty, 7.25)
    skipped, begun, empty, _ = tasks[num_scans:]
    server.call("POST", f"/api/tasks/{skipped}/annotations/", {"result": [], "was_cancelled": True, "lead_time": 2})
    server.call("POST", f"/api/tasks/{begun}/drafts", {"result": _result("normal", ""), "lead_time": 3})
    server.call("POST", f"/api/tasks/{empty}/annotations/", {"result": [], "lead_time": 4})
    texts = {kind: server.export(project, kind) for kind in KINDS}
    texts |= {"JSON all": server.export(project, "JSON", everything=True)}
    texts |= {f"{kind} e-mails": server.snapshot(project, kind) for kind in KINDS[:3]}
    return Sitting(project, texts, answers)


def sit_with_several(server: Server) -> dict[str, str]:
    """One person chooses each of `CHOSEN` for a scan of a project of independent findings; the exports by kind."""
    project = server.project("Several", INDEPENDENT)
    scans = [(scan_of(i), i + 1) for i in range(len(CHOSEN))]
    tasks = server.load(
        project, label_studio_tasks.tasks(scans, _url, run=RUN, round_index=ROUND, findings=INDEPENDENT)
    )
    for i, (chosen, task) in enumerate(zip(CHOSEN, tasks, strict=True)):
        _annotate(server, task, _result(list(chosen), ("", *CERTAINTIES)[i % 3]), 1 + i / 8, TOKEN, "answer")
    return {kind: server.export(project, kind) for kind in KINDS}


def scan_of(i: int) -> str:
    """A scan's id."""
    return f"{2**63 + 7919 * i:016x}"


def write_exports(texts: dict[str, str], folder: Path) -> None:
    """Keep what a server exported."""
    for kind, text in texts.items():
        suffix = {"CSV": "csv", "TSV": "tsv"}.get(kind.partition(" ")[0], "json")
        name = f"{kind.lower().replace(' ', '-').replace('_', '-')}.{suffix}"
        (folder / name).write_bytes(text.encode("utf-8"))


def _annotate(server: Server, task: int, result: list[dict[str, Any]], seconds: float, token: str, way: str) -> None:
    """Answer a task, at once or after another answer or a skip that does not count."""
    path, body = f"/api/tasks/{task}/annotations/", {"result": result, "lead_time": seconds, "was_cancelled": False}
    other = {"result": [] if way == "skip" else _result("normal", "sure"), "was_cancelled": way == "skip"}
    if way in ("skip", "correct"):
        first = server.call("POST", path, {**other, "lead_time": 0.5}, token)
        server.call("PATCH", f"/api/annotations/{first['id']}/", body, token)
        return
    if way == "again":
        server.call("POST", path, {**other, "lead_time": 0.5}, token)
    server.call("POST", path, body, token)


def _result(reply: str | list[str], certainty: str) -> list[dict[str, Any]]:
    chosen = {"finding": reply if isinstance(reply, list) else [reply]}
    chosen |= {"certainty": [certainty]} if certainty else {}
    return [
        {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": choices}}
        for name, choices in chosen.items()
    ]


def _filled(image_id: str, reply: str, reader: str, certainty: str, seconds: float) -> Filled:
    return Filled("", image_id, reply, reader, certainty, seconds, None, ROUND, RUN)


def _url(image_id: str) -> str:
    return label_studio_tasks.local_files_url(f"{FOLDER}/{image_id}.png")


def _direct(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


def _await(server: Server, process: subprocess.Popen[bytes], log: Path, patience_s: float = 300) -> None:
    for _ in range(int(patience_s / 0.5)):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            _direct().open(f"{server.url}/health", timeout=10).read()
            return
        time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


def main(work: str) -> None:
    """Install Label Studio with a database of its own, or keep what it exports."""
    if work == "install":
        fresh_database(interpreter())
        return
    with tempfile.TemporaryDirectory() as scratch, serve(Path(scratch)) as running:
        write_exports(sit(running, 12).texts, EXPORTS)
        write_exports(sit_with_several(running), EXPORTS_SEVERAL)


if __name__ == "__main__":
    main(sys.argv[1])
