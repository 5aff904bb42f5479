"""How large a pool `cxr-ssl explore` opens: memory and seconds of its server, paint and hover of its page in Chromium.

A run's folder is written as it is: a million random vectors and tables, no scan behind them but one tiny picture. The
page is served by the command itself, in a process of its own, twice: while the map is drawn, and from the map kept.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.tables import CLUSTERS, DUPLICATES, MANIFEST, POOL_LABELS, PREDICTIONS, SPLIT_TABLE, write_text
from pipeline.explore import neighbor_map
from pipeline.runtime import run_files
from pipeline.vectors.matrix import save_ids
from tests.bench import tables

# N scans

NUM_SCANS = (100_000, 1_000_000)
CLASSES = ("normal", "pneumonia")
NUM_HOVERS, NUM_REQUESTS, NUM_GROUPS = 40, 5, 12
SLOW = 4  # times slower than this machine: what Chromium makes of its processor to stand for a phone
HEADER = (
    "scans",
    "page",
    "seconds until it can be opened",
    "memory of the server, GB",
    "first answer of the map, kB",
    "median seconds: map",
    "gallery",
    "filter",
    "first paint in Chromium, s",
    "hover: ring, ms (95th percentile)",
    "words and picture, ms",
    f"on a processor {SLOW} times slower: first paint, s",
    "ring, ms",
)


def main(_data: Path, _given: Namespace) -> None:
    """Measure and write `results/explore-scale.md`."""
    rows: list[list[str]] = []
    for num in NUM_SCANS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_run(Path(temporary) / "run", num)
            rows += [_measured(folder, num, page) for page in ("the map is drawn", "the map is kept")]
    notes = (
        "Memory is the most the server ever held (VmHWM), shared pages of files included; on another day of the same "
        "machine seconds differ, which has other work (load "
        f"{os.getloadavg()[1]:.0f}). Median of {NUM_REQUESTS} requests over loopback. Beyond 100,000 scans a sample of "
        "100,000 is sent. First paint: from opening the link until the points stand on the canvas; hover: "
        f"{NUM_HOVERS} places, until the ring is painted, and until words and picture are; the pointer rests 40 ms "
        "before they are asked for. The slower processor is Chromium's own throttling."
    )
    command = "python -m tests.bench explore_scale"
    tables.write("explore-scale", "The page of a large pool", command, HEADER, rows, notes)


def write_run(folder: Path, num: int) -> Path:
    """A run as it is after a round, without what needs scans."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / "scan.png")
    ids = [hashlib.sha256(str(i).encode()).hexdigest()[:16] for i in range(num)]
    digests = [hashlib.sha256(i.encode()).hexdigest() for i in ids]
    group_N = rng.integers(NUM_GROUPS, size=num)
    class_N = rng.integers(len(CLASSES), size=num)
    split_N = np.where(rng.random(num) < 0.2, "holdout", "train")
    nothing = [None] * num
    known = {
        "image_id": ids,
        "uri": [f"{folder}/scan.png"] * num,
        "path": [f"hospital-{group}/{i}.png" for i, group in zip(ids, group_N, strict=True)],
        "sha256": digests,
        "phash": [digest[:16] for digest in digests],
        "picture_hash": [digest * 2 for digest in digests],
        "view": ["PA"] * num,
        "patient_id": [digest[:12] for digest in digests],
        "source": [f"hospital {group}" for group in group_N],
        "age_years": rng.integers(1, 95, num).astype(np.float32),
        "status": ["ok"] * num,
    }
    _write(MANIFEST, folder, {name: known.get(name, nothing) for name in MANIFEST.schema.names})
    unique = {"group_id": digests, "canonical_id": ids, "kind": ["unique"] * num}
    _write(DUPLICATES, folder, {"image_id": ids, **unique, "distance_bits": nothing, "change": nothing})
    _write(SPLIT_TABLE, folder, {"image_id": ids, "group_id": digests, "split": split_N, "reason": nothing})
    xy_N2 = rng.normal(size=(num, 2)).astype(np.float32)
    place = {"similarity": xy_N2[:, 0], "x": xy_N2[:, 0], "y": xy_N2[:, 1]}
    _write(CLUSTERS, folder, {"image_id": ids, "cluster": group_N.astype(np.int32), **place})
    labels = [CLASSES[c] if i < 1000 else None for i, c in enumerate(class_N)]
    _write(POOL_LABELS, folder, {"image_id": ids, "label": labels, "pool_split": nothing})
    prob_N = rng.random(num).astype(np.float32)
    said = {"split": split_N, "round": np.ones(num, np.int32), "predicted": [CLASSES[c] for c in class_N]}
    probabilities = {f"prob_{CLASSES[0]}": 1 - prob_N, f"prob_{CLASSES[1]}": prob_N}
    PREDICTIONS.write(folder, pa.table({"image_id": ids, **said, **probabilities}))
    components = np.lib.format.open_memmap(
        folder / run_files.SIMILARITY, "w+", np.float32, (num, neighbor_map.NUM_COMPONENTS)
    )
    centre_GP = 2 * rng.normal(size=(NUM_GROUPS, neighbor_map.NUM_COMPONENTS))
    for start in range(0, num, 50_000):
        groups = group_N[start : start + 50_000]
        components[start : start + 50_000] = centre_GP[groups] + rng.normal(size=(len(groups), components.shape[1]))
    components.flush()
    np.save(folder / run_files.EMBEDDINGS, np.asarray(components[:, :8], np.float16))
    save_ids(folder, pa.array(ids))
    write_text(folder / run_files.BACKBONE, json.dumps({"name": "gaussians", "dim": 8}))
    config = config_file.load(None, {"pool.findings": list(CLASSES), "engine.backend": "serial"})
    write_text(folder / run_files.RESOLVED, config_file.dump(config))
    return folder


def _write(contract, folder: Path, columns: dict) -> None:
    contract.write(folder, pa.table(columns, schema=contract.schema))


def _measured(folder: Path, num: int, name: str) -> list[str]:
    start = time.perf_counter()
    with _served(folder) as (link, process):
        seconds = time.perf_counter() - start
        base, _, token = link.partition("/?token=")
        with httpx.Client(base_url=base, follow_redirects=True, timeout=120, headers={"Origin": base}) as client:
            client.get("/", params={"token": token}).raise_for_status()
            client.post("/api/about", json={}).raise_for_status()
            everything = {"where": []}
            drawn = _asked(client, "points", {"choice": everything, "color": "source"})
            listed = _asked(client, "gallery", {"choice": everything, "order": {"by": "uncertainty"}, "show": []})
            some = {"where": [{"column": "source", "values": ["hospital 3"]}, {"column": "age_years", "low": 50}]}
            filtered = _asked(client, "points", {"choice": some, "color": "predicted"})
        quick, slow = _in_chromium(link), _in_chromium(link, SLOW)
        peak_gb = _peak_kb(process.pid) / 1e6
    row = [f"{num:,}", name, f"{seconds:.1f}", f"{peak_gb:.2f}", f"{drawn[1] / 1e3:,.0f}"]
    row += [f"{seconds:.2f}" for seconds, _ in (drawn, listed, filtered)]
    return [*row, *quick, *slow[:2]]


def _asked(client: httpx.Client, path: str, body: dict) -> tuple[float, int]:
    """Median seconds of a request, and bytes of its answer."""
    seconds = []
    for _ in range(NUM_REQUESTS):
        start = time.perf_counter()
        answer = client.post(f"/api/{path}", json=body)
        answer.raise_for_status()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), len(answer.content)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`cxr-ssl explore` as a user starts it: the link it prints, and its process."""
    argv = [sys.executable, "-m", "pipeline", "explore", str(folder), "--port", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in iter(process.stdout.readline, "") if "http://" in line)
        yield line[line.index("http://") :].strip(), process
    finally:
        process.terminate()
        process.wait(30)


def _peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


HOVER = """async ([num, wait]) => {
  const canvas = document.getElementById('canvas'), ring = document.getElementById('ring');
  const box = canvas.getBoundingClientRect(), ringed = [], told = [];
  const frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < num; i++) {
    const across = 0.3 + 0.4 * ((i * 37 % num) / num), down = 0.3 + 0.4 * (i / num);
    const [x, y] = [box.left + box.width * across, box.top + box.height * down];
    const place = () => ring.getAttribute('cx') + ring.getAttribute('cy');
    const before = place(), start = performance.now();
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: x, clientY: y, pointerId: 1, bubbles: true }));
    if (ring.getAttribute('visibility') !== 'visible' || place() === before) continue;
    await frame();
    ringed.push(performance.now() - start);
    const hover = document.getElementById('hover'), picture = document.getElementById('hover-picture');
    const old = picture.src;
    while ((hover.hidden || picture.src === old || !picture.complete) && performance.now() - start < wait)
      await new Promise((next) => setTimeout(next, 2));
    if (!hover.hidden && picture.src !== old) told.push(performance.now() - start);
  }
  return [ringed, told];
}"""


def _in_chromium(link: str, slower: int = 1) -> list[str]:
    """First paint in seconds, the ring and the words of hovering in milliseconds; dashes without a browser."""
    from tests.support.browser import chromium, fresh_page
    from tests.support.groups import chromium_program

    if chromium_program() is None:
        return ["–"] * 3
    with chromium() as browser, fresh_page(browser, hurried=False) as page:
        if slower > 1:
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        start = time.perf_counter()
        page.goto(link)
        page.wait_for_function("() => document.body.dataset.drawn !== undefined", timeout=60_000)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        painted = time.perf_counter() - start
        page.wait_for_selector(".card img")
        page.wait_for_timeout(1000)
        ringed, told = page.evaluate(HOVER, [NUM_HOVERS, 5000])
    return [f"{painted:.2f}", _ms(ringed), _ms(told)]


def _ms(milliseconds: list[float]) -> str:
    """Median, and the 95th percentile."""
    if not milliseconds:
        return "–"
    return f"{np.median(milliseconds):.0f} ({np.quantile(milliseconds, 0.95):.0f})"
