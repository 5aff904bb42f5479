"""How long the labelling page takes for an answer and a picture, in a queue of 5,000, for one annotator and five."""

import statistics
import tempfile
import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.tables import QUEUE
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from pipeline.runtime import run_files
from tests.bench import tables

NUM_SCANS, NUM_PICTURES, SIDE_PX = 5000, 12, 2048
ALONE, TEAM, EACH = 300, 5, 200
TOKEN = "a-token-for-the-bench"


def main(_data: Path, _given: Namespace) -> None:
    """Write `results/page.md`."""
    from pipeline.annotate.page.server import serve
    from pipeline.annotate.page_session import Desk

    with tempfile.TemporaryDirectory() as temporary:
        run = run_with_queue(Path(temporary) / "run", NUM_SCANS)
        desk = Desk(run.folder, run.ctx.config, ("normal", "pneumonia"))
        links: list[str] = []
        ready = threading.Event()
        threading.Thread(
            target=lambda: serve(desk, port=0, token=TOKEN, ready=lambda link: (links.append(link), ready.set())),
            daemon=True,
        ).start()
        ready.wait()
        base = links[0].partition("/?")[0]
        alone = _label(base, "alone", ALONE)
        with ThreadPoolExecutor(TEAM) as people:
            team = list(people.map(lambda i: _label(base, f"reader {i}", EACH), range(TEAM)))
        desk.close()
        given = Journal.open(run.folder).active()
        scans = {one.answer.image_id for one in given}
        settled = len(verdicts.latest(label_table.read(run.folder)))
    together = {what: [s for one in team for s in one[what]] for what in alone}
    rows = [[what, _ms(alone[what]), _ms(together[what])] for what in ("answer", "next", "picture")]
    tables.write(
        "page",
        "The labelling page: milliseconds of one request, median (95th percentile)",
        "python -m tests.bench page",
        ("request", "one annotator", f"{TEAM} at once, without a pause"),
        rows,
        f"A queue of {NUM_SCANS:,} scans; {ALONE} answers alone, then {TEAM} × {EACH}; measured at the client, through "
        f"HTTP; every answer is synced to disk before it is acknowledged. Pictures are PNGs of {SIDE_PX} × {SIDE_PX}. "
        f"Answers given {ALONE + TEAM * EACH:,}, in the journal {len(given):,} of {len(scans):,} scans, in the label "
        f"table {settled:,}: none lost, none doubled.",
    )
    assert len(given) == len(scans) == settled == ALONE + TEAM * EACH


def run_with_queue(folder: Path, num_scans: int):
    """A run whose first queue holds so many scans; their pictures lie there already."""
    from tests.support.synthetic_run import synthetic_run

    run = synthetic_run(folder, num_scans=num_scans + 100, oracle=False, labelled=())
    (folder / run_files.RESOLVED).write_text(config_file.dump(run.ctx.config), "utf-8")
    ids = run.ids("train")[:num_scans]
    blank = [None] * len(ids)
    QUEUE.write(
        run.ctx.round_folder(1),
        pa.table(
            {
                "image_id": ids,
                "rank": np.arange(1, len(ids) + 1, dtype=np.int32),
                "kind": ["representative"] * len(ids),
                "cluster": blank,
                "score": blank,
                "proposed": blank,
            },
            schema=QUEUE.schema,
        ),
    )
    images = run.ctx.round_folder(1) / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    grey = rng.normal(0, 3, (SIDE_PX, SIDE_PX)) + np.linspace(60, 190, SIDE_PX)[:, None]
    first = [images / f"{image_id}.png" for image_id in ids[:NUM_PICTURES]]
    for i, path in enumerate(first):
        Image.fromarray((grey + i).clip(0, 255).astype(np.uint8)).save(path)
    for i, image_id in enumerate(ids[NUM_PICTURES:]):
        (images / f"{image_id}.png").symlink_to(first[i % NUM_PICTURES])
    assert len(ids) == num_scans
    return run


def _label(base: str, name: str, num: int) -> dict[str, list[float]]:
    """Label `num` scans as the page does; seconds of each request."""
    seconds: dict[str, list[float]] = {"answer": [], "next": [], "picture": []}
    with httpx.Client(base_url=base, follow_redirects=True, timeout=60, headers={"Origin": base}) as client:
        client.get("/", params={"token": TOKEN})
        client.post("/api/enter", json={"annotator": name}).raise_for_status()
        tasks: list[dict] = []
        for i in range(num):
            if not tasks:
                found = _timed(
                    seconds["next"], client.post, "/api/next", json={"annotator": name, "num": 8, "held": []}
                )
                tasks = found.json()["tasks"]
            image_id = tasks.pop(0)["image_id"]
            _timed(seconds["picture"], client.get, f"/image/{image_id}")
            body = {"annotator": name, "image_id": image_id, "reply": "normal", "certainty": "sure", "seconds": 1.5}
            _timed(
                seconds["answer"],
                client.post,
                "/api/answer",
                json=body | {"key": f"{name}-{i}".replace(" ", "-") + "-of-the-bench"},
            )
    return seconds


def _timed(seconds: list[float], call, *args, **options):
    start = time.perf_counter()
    answer = call(*args, **options)
    seconds.append(time.perf_counter() - start)
    answer.raise_for_status()
    return answer


def _ms(seconds: list[float]) -> str:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return f"{1000 * statistics.median(seconds):.1f} ({1000 * p95:.1f})"
