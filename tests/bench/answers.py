"""A thousand answers by five readers while the labelling page is killed ten times among 300 half-sent requests.

The page is the command people use, `cxr-ssl annotate RUN --reader …`, ended by `kill -9` and started again on its port;
each reader comes by a link of her own, answers without a pause, and sends an answer again, under its key, until it is
acknowledged. A tenth of the answers are sent twice, as after a lost reply.
"""

import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from pipeline.pages.served.listening import listening_socket
from tests.bench import tables
from tests.bench.page import run_with_queue
from tests.support.half_requests import HalfRequests

NUM_ANSWERS, NUM_KILLS, NUM_SLOW = 1000, 10, 300
READERS = ("Dr Adler", "Dr Brandt", "Dr Conti", "Dr Dahl", "Dr Evans")
REPLIES = ("normal", "pneumonia")
TASKS_AT_ONCE = 8  # as the page asks
MAX_AFTER_ANSWER_SECONDS = 0.05  # a kill comes so long after an acknowledged answer at most
SENT_TWICE, IN_ANOTHERS_NAME = 0.1, 0.02  # shares of the answers
RETRY_SECONDS = 0.02
PATIENCE_SECONDS = 120.0
HEADER = (
    "seed",
    "kills",
    "half-sent requests open, median",
    "answers acknowledged",
    "lost",
    "doubled",
    "changed hands",
    "scans read twice",
    "p50, ms",
    "p95, ms",
    "caught by a kill: answers",
    "longest wait, s",
)


@dataclass(frozen=True)
class Given:
    """An answer that the page has acknowledged."""

    key: str
    reader: str
    image_id: str
    reply: str
    seconds: float  # of the request that was acknowledged
    waited_seconds: float  # since it was first sent
    was_interrupted: bool


@dataclass
class Server:
    """The page as a process, and the links that it printed last."""

    folder: Path
    port: int
    process: "subprocess.Popen[str] | None" = None
    links: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start, and wait for the links."""
        named = [part for name in READERS for part in ("--reader", name)]
        command = [sys.executable, "-m", "pipeline", "annotate", str(self.folder), "--port", str(self.port), *named]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
        links: dict[str, str] = {}
        assert self.process.stdout is not None
        while len(links) < len(READERS):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the labelling page did not start")
            if match := re.search(r"(Dr \w+): (http://\S+)", line):
                links[match[1]] = match[2]
        self.links = links

    def end(self, *, kill: bool) -> None:
        """`kill -9`, or the end that SIGTERM brings."""
        assert self.process is not None
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Reader:
    """One reader's page: takes scans, answers them, sends each answer until it is acknowledged."""

    def __init__(self, name: str, server: Server, given: list[Given], seed: int) -> None:
        self.name, self.server, self.given = name, server, given
        self.rng = random.Random(f"{name} {seed}")
        self.client, self.link = httpx.Client(), ""
        self.num_tried, self.num_refused = 0, 0

    def work(self) -> None:
        """Answer until nothing is left."""
        tasks: list[str] = []
        while True:
            if not tasks:
                asked = {"annotator": self.name, "num": TASKS_AT_ONCE, "held": []}
                found, _, _, _ = self._send("/api/next", asked)
                tasks = [task["image_id"] for task in found.json()["tasks"]]
                if not tasks:
                    return
            self._send(f"/image/{tasks[0]}", None)
            self._answer(tasks.pop(0))

    def _answer(self, image_id: str) -> None:
        body = self._body(image_id)
        if self.rng.random() < IN_ANOTHERS_NAME:
            other = self.rng.choice([name for name in READERS if name != self.name])
            refused, _, _, _ = self._send("/api/answer", self._body(image_id) | {"annotator": other})
            self.num_tried += 1
            self.num_refused += refused.status_code == 403
        reply, seconds, waited, was_interrupted = self._send("/api/answer", body)
        reply.raise_for_status()
        self.given.append(Given(body["key"], self.name, image_id, body["reply"], seconds, waited, was_interrupted))
        if self.rng.random() < SENT_TWICE:
            self._send("/api/answer", body)[0].raise_for_status()

    def _body(self, image_id: str) -> dict[str, Any]:
        key = f"{self.rng.getrandbits(96):024x}"
        reply = self.rng.choice(REPLIES)
        told = {"annotator": self.name, "image_id": image_id, "reply": reply, "certainty": "sure", "seconds": 2.0}
        return told | {"key": key}

    def _send(self, path: str, body: dict[str, Any] | None) -> tuple[httpx.Response, float, float, bool]:
        """The reply, its seconds, those since the first try, and whether a try failed."""
        first, was_interrupted = time.perf_counter(), False
        while time.perf_counter() - first < PATIENCE_SECONDS:
            start = time.perf_counter()
            try:
                if self.link != self.server.links[self.name]:
                    self._come_in()
                    start = time.perf_counter()
                reply = self.client.get(path) if body is None else self.client.post(path, json=body)
            except httpx.HTTPError:
                time.sleep(RETRY_SECONDS)
            else:
                if reply.status_code != 401:
                    end = time.perf_counter()
                    return reply, end - start, end - first, was_interrupted
                self.link = ""
                time.sleep(RETRY_SECONDS)
            was_interrupted = True
        raise TimeoutError(f"{self.name}: {path} was not answered")

    def _come_in(self) -> None:
        link = self.server.links[self.name]
        base = link.partition("/?")[0]
        self.client.close()
        self.client = httpx.Client(base_url=base, follow_redirects=True, timeout=30, headers={"Origin": base})
        self.client.get(link).raise_for_status()
        self.link = link


def main(_: Path, args: Namespace) -> None:
    """Write `results/answers.md`."""
    measured = [_measure(seed, NUM_KILLS, NUM_SLOW) for seed in range(args.seeds)]
    quiet = _measure(0, 0, 0)
    rows = [_row(str(seed), one) for seed, one in enumerate(measured)]
    rows.append(_row("0, left in peace", quiet))
    shares = [statistics.quantiles([1000 * a.seconds for a in one["given"]], n=20)[-1] for one in measured]
    tried, refused = (sum(one[what] for one in measured) for what in ("num_tried", "num_refused"))
    tables.write(
        "answers",
        "A thousand answers while the labelling page is killed and beset",
        f"python -m tests.bench answers --seeds {args.seeds}",
        HEADER,
        rows,
        f"{NUM_ANSWERS:,} scans, each to be read once, by {len(READERS)} readers at once, without a pause, each by a "
        f"link of her own. p50, p95: the request that was acknowledged, with the answer synced to disk, at the client; "
        f"p95 over the seeds: {tables.mean_ci(shares, 1)} ms. An answer that a kill caught waits for the new start of "
        "the page, which lies with whoever starts it: *longest wait*. A request that a kill cut off, and a tenth of "
        "all others, were sent again under the same key. *Lost*, *doubled*: in the journal or the label table. "
        "*Changed hands*: not under the name, for the scan or with the reply that was sent; of "
        f"{tried} answers tried in another reader's name {refused} were refused. *Scans read twice*: given to a second "
        "reader as well. Closed connections of the half-sent requests were opened again at once. The last row: no "
        "kill, no half-sent request.",
    )


def _measure(seed: int, num_kills: int, num_slow: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = run_with_queue(Path(temporary) / "run", NUM_ANSWERS).folder
        with listening_socket("127.0.0.1", 0) as sock:
            port = sock.getsockname()[1]
        server, given = Server(folder, port), list[Given]()
        server.start()
        readers = [Reader(name, server, given, seed) for name in READERS]
        with HalfRequests(port, num_slow) as slow, ThreadPoolExecutor(len(readers)) as people:
            working = [people.submit(reader.work) for reader in readers]
            kills = _kill(server, given, num_kills, random.Random(seed), working)
            for work in working:
                work.result()
        server.end(kill=False)
        return {
            "given": given,
            "kills": kills,
            "num_tried": sum(reader.num_tried for reader in readers),
            "num_refused": sum(reader.num_refused for reader in readers),
            "open": statistics.median(slow.num_open) if slow.num_open else 0,
            **_compared(folder, given),
        }


def _kill(server: Server, given: list[Given], num: int, rng: random.Random, working: list[Any]) -> int:
    """Kill and start again after shares of the answers drawn by chance; how often."""
    kills = 0
    for number in sorted(rng.randrange(20, NUM_ANSWERS - 40) for _ in range(num)):
        while len(given) < number and not all(work.done() for work in working):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, MAX_AFTER_ANSWER_SECONDS))
        server.end(kill=True)
        server.start()
        kills += 1
    return kills


def _compared(folder: Path, given: list[Given]) -> dict[str, int]:
    """What the journal and the label table hold, against what was acknowledged."""
    kept = {entry.key: entry.answer for entry in Journal.open(folder).active()}
    sent = {answer.key: answer for answer in given}
    said = Counter((answer.image_id, answer.person) for answer in kept.values())
    settled = verdicts.latest(label_table.read(folder))
    return {
        "lost": len(set(sent) - set(kept)) + len(set(said) - set(settled)),
        "doubled": said.total() - len(said) + len(set(settled) - set(said)),
        "changed": sum(
            key not in sent
            or (answer.person, answer.image_id, answer.reply) != _said(sent[key])
            or settled.get((answer.image_id, answer.person)) != answer.reply
            for key, answer in kept.items()
        ),
        "read_twice": sum(num > 1 for num in Counter(image_id for image_id, _ in said).values()),
    }


def _said(answer: Given) -> tuple[str, str, str]:
    return answer.reader, answer.image_id, answer.reply


def _row(name: str, one: dict[str, Any]) -> list[Any]:
    ms = [1000 * answer.seconds for answer in one["given"]]
    waits = [answer.waited_seconds for answer in one["given"] if answer.was_interrupted]
    return [
        name,
        one["kills"],
        f"{one['open']:.0f}",
        f"{len(ms):,}",
        one["lost"],
        one["doubled"],
        one["changed"],
        one["read_twice"],
        f"{statistics.median(ms):.1f}",
        f"{statistics.quantiles(ms, n=20)[-1]:.1f}",
        len(waits),
        f"{max(waits, default=0):.1f}",
    ]
