"""What a job is made of, and what is refused before anything is sent; `tests/ray/test_jobs.py` sends some."""

import http.server
import json
import shlex
import socket
import threading
import types
import zipfile

import numpy as np
import pytest

from pipeline.commands.cluster import client, submission
from pipeline.contracts.errors import EngineError
from tests.support.tiny import call

OUT = ("--out", "/shared/run")


@pytest.fixture
def code(tmp_path):
    """A folder to be sent, with one configuration."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mine.yaml").write_text("pool:\n  uri: /shared/scans\nqueue:\n  budget: 30\n")
    return folder


def refused(code, *words):
    answer = call("submit", "--working-dir", code, *words)
    assert answer.code == 2 and not answer.out
    return answer.message


def test_the_line_is_shown_and_goes_on_with_the_run(code):
    arguments = ("run", "--config", "mine.yaml", *OUT, "--set", "queue.budget=9", "-q")
    answer = call("submit", "--working-dir", code, "--env", "A=b c", *arguments, "--address", "http://head:8265")
    assert answer.code == 0, answer.err
    words = shlex.split(answer.out)
    assert words[:7] == ["ray", "job", "submit", "--address", "http://head:8265", "--working-dir", str(code)]
    variables = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
    assert variables.pop("A") == "b c" and set(variables) <= {"CXR_SSL_REVISION"}
    assert words[words.index("--") + 1 :] == ["python", "-m", "jobs.run_rounds", *arguments[1:], "--resume"]


@pytest.mark.parametrize(
    ("words", "module", "last"),
    [
        (("embed", "/shared/scans", *OUT), "jobs.embed", "--resume"),
        (("pretrain", "s3://bucket/scans", *OUT, "--overwrite"), "jobs.pretrain", "--overwrite"),
        (("audit", "/shared/run"), "jobs.audit", "/shared/run"),
        (("audit", "phantom:", *OUT), "jobs.audit", "/shared/run"),
        (("evaluate", "/shared/run", "--against", "/shared/other"), "jobs.evaluate", "/shared/other"),
        (("run", "-c", "/of/the/cluster.yaml", "-o", "/shared/run", "--dry-run"), "jobs.run_rounds", "--dry-run"),
        (("run", *OUT), "jobs.run_rounds", "--resume"),
    ],
)
def test_every_long_command_has_a_job(code, words, module, last):
    job = submission.prepare(words, code, [])
    assert job.words[0] == module and job.words[-1] == last
    assert job.entry.startswith(f"python -m {module} ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "/shared/run"), r"no such job (got 'status'). Known: run, embed"),
        ((), "no such job"),
        (("run", "--config", "mine.yaml"), "--out: a job needs a folder that outlives it"),
        (("audit", "phantom:"), "--out: a job needs a folder"),
        (("run", "--config", "mine.yaml", "--out", "runs/one"), "--out: is a path of this machine"),
        (("run", "--pool", "scans", *OUT), "--pool: is a path of this machine"),
        (("embed", "scans", *OUT), "the path: is a path of this machine"),
        (("evaluate", "runs/one"), "the path: is a path of this machine"),
        (("embed", "/shared/scans", *OUT, "--set", "embed.store=store"), "embed.store: is a path of this machine"),
        (("run", "--config=other.yaml", *OUT), "--config: there is no such file to be sent"),
        (("run", "--config", "mine.yaml", *OUT, "--set=queue.budgt=3"), "queue.budgt: unknown key"),
        (("run", "--config", "mine.yaml", *OUT, "--env", "A"), "--env: is no variable"),
    ],
)
def test_what_the_cluster_could_not_find_is_refused_here(code, words, message):
    assert message in refused(code, *words)


def test_a_mistake_in_the_configuration_is_told_before_anything_is_sent(code):
    (code / "mine.yaml").write_text("queue:\n  budget: none\n")
    assert "mine.yaml:2 queue.budget" in refused(code, "run", "--config", "mine.yaml", *OUT)
    assert "--working-dir: is no folder" in refused(code / "no", "run", "--config", "mine.yaml", *OUT)


def test_a_cluster_that_does_not_answer_or_is_none_is_told(code):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    go = ("submit", "--go", "--working-dir", code, "run", "--config", "mine.yaml", *OUT, "--address")
    answer = call(*go, f"http://127.0.0.1:{port}")
    assert answer.code == 1 and "--address: no cluster answers" in answer.message
    answer = call(*go, "ray://127.0.0.1:10001")
    assert answer.code == 2 and "is no address for jobs" in answer.message


class Guard(http.server.BaseHTTPRequestHandler):
    """Lets nobody in."""

    def do_GET(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"Unauthorized: Missing authentication token")

    def log_message(self, *_):
        pass


def test_a_cluster_that_wants_a_token_names_the_variables(code):
    with http.server.HTTPServer(("127.0.0.1", 0), Guard) as guard:
        threading.Thread(target=guard.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{guard.server_port}"
        answer = call("submit", "--go", "--working-dir", code, "run", *OUT, "--address", address)
        guard.shutdown()
    assert answer.code == 1 and "wants a token" in answer.message and "RAY_AUTH_MODE=token" in answer.message


class Dashboard:
    """What Ray's client sees of a head."""

    _server_ray_version = "2.60.0"

    def __init__(self, error=None, info=None, num_refused=10**6):
        self.error, self.info, self.taken, self.num_refused = error, info, [], num_refused

    def submit_job(self, **job):
        self.num_refused -= 1
        if self.error and self.num_refused >= 0:
            raise RuntimeError(self.error)
        self.taken.append(job)
        return "raysubmit_1"

    def get_job_info(self, job_id):
        return self.info

    async def tail_job_logs(self, job_id):
        yield "said "
        raise RuntimeError("WebSocket connection closed unexpectedly")


def ended(code, status="FAILED", message=""):
    state = types.SimpleNamespace(value=status, is_terminal=lambda: True)
    return types.SimpleNamespace(driver_exit_code=code, status=state, message=message)


@pytest.fixture
def dashboard(monkeypatch):
    def there(**what):
        head = Dashboard(**what)
        monkeypatch.setattr(client, "_connected", lambda address: head)
        return head

    return there


def sends(code):
    said = []
    return said, lambda: client.submit(submission.prepare(("run", *OUT), code, []), "http://head:8265", said.append)


STARTING = "Request failed with status code 500: No available agent to submit job, please try again later."


def test_a_head_whose_agent_is_starting_is_asked_again(code, dashboard, monkeypatch):
    monkeypatch.setattr(client, "POLL_SECONDS", 0.01)
    head = dashboard(info=ended(0, "SUCCEEDED"), error=STARTING, num_refused=3)
    _, send = sends(code)
    assert send() == ("raysubmit_1", 0) and len(head.taken) == 1


def test_a_head_whose_agent_never_starts_is_told(code, dashboard, monkeypatch):
    monkeypatch.setattr(client, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(client, "STARTED_WITHIN_SECONDS", 0.1)
    dashboard(info=ended(0), error=STARTING)
    _, send = sends(code)
    with pytest.raises(EngineError, match=r"the job was not taken: .*No available agent"):
        send()


def test_the_log_is_followed_and_the_exit_code_returned_also_when_the_log_breaks_off(code, dashboard):
    head = dashboard(info=ended(3))
    said, send = sends(code)
    assert send() == ("raysubmit_1", 3)
    assert "said " in said and "the log broke off" in said[-1]
    (job,) = head.taken
    assert job["metadata"]["entry"] == job["entrypoint"] == f"python -m jobs.run_rounds {' '.join(OUT)} --resume"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"error": "Request failed with status code 413: Too Large"}, "working directory is too large.*rayignore"),
        ({"error": "Request failed with status code 500"}, "the job was not taken.*500"),
        (
            {"info": ended(None, message="the runtime env\nfailed")},
            "without an exit code, failed: the runtime env failed",
        ),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_message(code, dashboard, what, message):
    from pipeline.contracts.errors import CxrSslError

    dashboard(**what)
    with pytest.raises(CxrSslError, match=message):
        sends(code)[1]()


def test_a_head_that_is_gone_is_told(code, dashboard, monkeypatch):
    head = dashboard()
    monkeypatch.setattr(head, "get_job_info", lambda job_id: 1 / 0)
    monkeypatch.setattr(client, "POLL_SECONDS", 0.0)
    with pytest.raises(EngineError, match=r"no longer answers.*submit the same line again"):
        sends(code)[1]()


def test_a_folder_that_is_too_large_is_refused_and_the_largest_files_named(code, dashboard, monkeypatch):
    head = dashboard(info=ended(0))
    (code / "scans").mkdir()
    (code / "scans" / "a.png").write_bytes(np.random.default_rng(0).bytes(3 * 2**20))
    monkeypatch.setattr(client, "MAX_UPLOAD_MIB", 2)
    answer = call("submit", "--go", "--working-dir", code, "run", *OUT)
    assert answer.code == 2
    assert "too large: a cluster takes 2 MiB, packed; largest: scans/a.png (3 MiB), mine.yaml" in answer.message
    (code / "scans" / "b.csv").write_bytes(bytes(30 * 2**20))
    assert "largest: scans/b.csv (30 MiB), scans/a.png" in refused(code, "run", *OUT, "--go")
    assert not head.taken
    (code / ".rayignore").write_text("scans/\n")
    assert call("submit", "--go", "--working-dir", code, "run", *OUT).code == 0
    assert set(client.files_sent(code)) == {".rayignore", "mine.yaml"}


def test_no_two_packages_are_alike(code, tmp_path):
    packages = [client.pack(code, tmp_path / f"{i}.zip") for i in range(2)]
    assert packages[0].read_bytes() != packages[1].read_bytes()
    assert "mine.yaml" in zipfile.ZipFile(packages[0]).namelist()
