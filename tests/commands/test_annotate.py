"""`cxr-ssl annotate` as users start it: a real browser, a killed server, five people at once; then the label store."""

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from pipeline.annotate import worklist
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from tests.support import waiting_run as waiting
from tests.support.browser import ROOT, fresh_page, sit_down, wait_ready, wait_sent
from tests.support.tiny import call

NUM = 24
KEYS = {"normal": "1", "pneumonia": "2"}


class Annotate:
    """The command; the same port after a restart, a new token."""

    def __init__(self, run):
        self.run, self.port, self.process = run, 0, None

    def start(self):
        argv = [sys.executable, "-m", "pipeline", "annotate", str(self.run), "--port", str(self.port)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.link, self.port = re.search(r"(http://127\.0\.0\.1:(\d+)/\?token=\S+)", line).groups()
        return self.link

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture
def annotate():
    begun = []

    def begin(run):
        begun.append(Annotate(run))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process and one.process.poll() is None:
            one.kill()


def test_a_queue_through_a_reload_an_undo_and_kill_9(browser, tmp_path, annotate):
    few = {"queue__budget": 20, "queue__holdout_budget": 4, "queue__reread_share": 0.0}
    run = waiting.waiting_run(tmp_path / "run", num_scans=80, queue__min_seconds=0, **few)  # a script is fast
    server = annotate(run.folder)

    def label(page, num, *, wrong=False):
        for _ in range(num):
            image_id = wait_ready(page)
            right = run.truth[image_id]
            page.keyboard.press(KEYS["normal" if right == "pneumonia" else "pneumonia"] if wrong else KEYS[right])
            page.wait_for_function(
                "id => document.body.dataset.scan !== id || document.body.dataset.state === 'done'", arg=image_id
            )

    with fresh_page(browser) as page:
        sit_down(page, server.start(), "Dr. Lee")
        label(page, 8)
        page.reload()
        label(page, 4)
        label(page, 1, wrong=True)
        page.keyboard.press("z")
        page.wait_for_selector("#last:text-is('Taken back')")
        label(page, 3)
        server.kill()
        label(page, 2)  # they wait in the browser
        page.goto(server.start())
        label(page, NUM - 17)
        page.wait_for_selector("body[data-state=done]")
        wait_sent(page)
    server.stop()
    asked = waiting.queue_ids(run.folder)
    found = verdicts.latest(label_table.read(run.folder))
    assert found == {(image_id, "Dr. Lee"): run.truth[image_id] for image_id in asked}
    assert len(found) == NUM
    journal = Journal.open(run.folder)
    assert len(journal.active()) == NUM and len(journal.retracted) == 1
    assert all(one.answer.time is not None and one.answer.seconds > 0 for one in journal.active())
    assert "round 2" in waiting.waits(run)  # the answers are learnt from, and the next scans are asked for
    assert len(waiting.queue_ids(run.folder, 2)) == 20 and not set(waiting.queue_ids(run.folder, 2)) & set(asked)


@pytest.mark.slow
def test_five_annotators_at_once(tmp_path, annotate):
    """40 answers each; every request is sent twice, as after a lost reply."""
    run = waiting.waiting_run(tmp_path / "run", num_scans=240, queue__budget=200, queue__holdout_budget=0)
    server = annotate(run.folder)
    base, _, token = server.start().partition("/?token=")
    given, lock = {}, threading.Lock()

    def work(who):
        name = f"reader {who}"
        with httpx.Client(base_url=base, follow_redirects=True, timeout=60, headers={"Origin": base}) as client:
            client.get("/", params={"token": token})
            for i in range(40):
                asked = {"annotator": name, "num": 1, "held": []}
                (task,) = client.post("/api/next", json=asked).raise_for_status().json()["tasks"]
                body = {
                    "annotator": name,
                    "image_id": task["image_id"],
                    "reply": ("normal", "bad quality")[i % 2],
                    "certainty": None,
                    "seconds": 2.0,
                    "key": f"{who}-{i:03d}-of-this-test",
                }
                for _ in range(2):
                    client.post("/api/answer", json=body).raise_for_status()
                with lock:
                    given[task["image_id"], name] = body["reply"]

    with ThreadPoolExecutor(5) as people:
        list(people.map(work, range(5)))
    server.stop()
    assert len(given) == len({image_id for image_id, _ in given}) == 200  # nobody was given another's scan
    assert verdicts.latest(label_table.read(run.folder)) == given
    assert len(Journal.open(run.folder).entries) == 200
    found = worklist.open_worklist(run.folder, 1, [one.answer for one in Journal.open(run.folder).active()])
    assert found.open() == []


def test_a_run_without_a_queue_and_a_taken_port_are_told(tmp_path, annotate):
    refused = call("annotate", tmp_path)
    assert refused.code == 2 and "is not a run directory" in refused.message
    run = waiting.waiting_run(tmp_path / "run")
    server = annotate(run.folder)
    server.start()
    refused = call("annotate", run.folder, "--port", server.port)
    assert refused.code == 2 and "the port is taken" in refused.message and "--port" in refused.message
    with httpx.Client() as client:
        assert client.get(f"http://127.0.0.1:{server.port}/").status_code == 401
