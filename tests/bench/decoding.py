"""How often a full-size scan is decoded from the manifest to the audit, and what that costs, with and without kept
squares.

Legend: H height, W width of a picture.
"""

import csv
import io
import json
import os
import shutil
import tempfile
import time
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
from PIL import Image

from embeddings import decode
from embeddings.decoding.grey import squashed
from pipeline import stages
from pipeline.audit import stage as audit_stage
from pipeline.contracts import config_file
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.pool import manifest
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import tables
from tests.support.dicom_files import file_bytes

NUM_SCANS = 60
PASSES = 2
HEIGHT_PX = 2400
STAGES = ("manifest", "duplicates", "embed", "audit")
_GRAIN = 4.0  # of 255: what a detector adds


@dataclass
class Cost:
    """Of one stage: pictures decoded, and seconds of the processor in this process and those it started."""

    num_decoded: int = 0
    cpu_seconds: float = 0.0


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/decoding.md`."""
    rows: list[list[Any]] = []
    sizes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        with mock.patch.dict(os.environ, CXR_SSL_CACHE=str(Path(folder) / "first")):
            _read(Path(folder) / "run-first", _pool(data, Path(folder) / "warm-up", _as_jpeg, 12), 0.0)  # the ONNX file
        models = Path(folder) / "first" / "embeddings" / "backbones"
        for kind, encode in KINDS.items():
            pool = _pool(data, Path(folder) / kind.split()[0], encode, NUM_SCANS)
            passes = [_both_ways(Path(folder), pool, models) for _ in range(PASSES)]
            rows += _rows(kind, [costs for costs, _ in passes])
            sizes.append(f"{kind} {passes[0][1] / NUM_SCANS / 1000:.0f} kB")
        draft = _draft(Path(folder) / "JPEG")
    notes = (
        f"{NUM_SCANS} scans a pool: real scans (covid3) enlarged to {HEIGHT_PX} px with the grain of a detector; this "
        f"process alone, one thread; {PASSES} passes, both ways in turn, each with an empty cache but for the "
        "network's ONNX file. Seconds are those of the processor a scan, mean of the passes; the last column is the "
        "smallest and the largest ratio of a pass. Manifest, copies, embeddings and audit "
        "had the same bytes both ways (the bench stops otherwise; when the holdout was read is left out)."
        f" A kept scan takes: {', '.join(sizes)}. {draft}"
    )
    header = ("pool", "stage", "decoded a scan, 0 kept", "kept", "CPU s a scan, 0 kept", "kept", "kept / 0 kept")
    tables.write("decoding", "Full-size scans, decoded once", "python -m tests.bench decoding", header, rows, notes)


def _rows(kind: str, passes: list[dict[bool, dict[str, Cost]]]) -> list[list[Any]]:
    rows = []
    for name in (*STAGES, "all"):
        parts = STAGES if name == "all" else (name,)
        decoded, seconds = (
            {way: [sum(getattr(costs[way][part], of) for part in parts) for costs in passes] for way in (False, True)}
            for of in ("num_decoded", "cpu_seconds")
        )
        ratios = [after / before for after, before in zip(seconds[True], seconds[False], strict=True)]
        rows.append(
            [
                kind,
                name,
                *(f"{np.mean(decoded[way]) / NUM_SCANS:.2f}" for way in (False, True)),
                *(f"{np.mean(seconds[way]) / NUM_SCANS:.3f}" for way in (False, True)),
                f"{min(ratios):.2f} – {max(ratios):.2f}",
            ]
        )
    return rows


def _both_ways(folder: Path, pool: Path, models: Path) -> tuple[dict[bool, dict[str, Cost]], int]:
    """Costs of the stages without and with kept squares, and the bytes that are kept."""
    costs, left = {}, {}
    for is_kept in (False, True):
        cache, run = folder / "cache", folder / "run"
        shutil.copytree(models, cache / "embeddings" / "backbones")
        with mock.patch.dict(os.environ, CXR_SSL_CACHE=str(cache)):
            costs[is_kept] = _read(run, pool, 20.0 if is_kept else 0.0)
        left[is_kept] = _left(run)
        num_bytes = sum(path.stat().st_size for path in cache.glob("shrunk/**/*.shrunk"))
        shutil.rmtree(cache)
        shutil.rmtree(run)
    other = [name for name, content in left[False].items() if left[True][name] != content]
    if other:
        raise AssertionError(f"what is kept changes {other}")
    return costs, num_bytes


def _left(run: Path) -> dict[str, bytes]:
    """What must not depend on what is kept."""
    audit = json.loads((run / run_files.AUDIT).read_text())
    names = (MANIFEST.file, DUPLICATES.file, run_files.EMBEDDINGS, run_files.PIXELS, run_files.AUDIT_PICTURES)
    checks = {check["id"]: json.dumps(check).encode() for check in audit["checks"]}
    del checks["holdout-access"]  # it says when
    return {name: (run / name).read_bytes() for name in names} | checks


def _read(run: Path, pool: Path, shrunk_gb: float) -> dict[str, Cost]:
    """Run the stages that read scans; what each cost."""
    run.mkdir()
    options = {"pool.uri": str(pool), "engine.backend": "serial", "engine.shrunk_gb": shrunk_gb, "splits.salt": "bench"}
    config = config_file.load(None, options)
    ctx = StageContext(config, run, SerialEngine())
    costs = {name: Cost() for name in STAGES}
    for name in ("manifest", "duplicates", "splits", "embed", "clusters"):
        with _counted(costs.get(name, Cost())):
            stages.function(name, config)(ctx)
    with _counted(costs["audit"]):
        audit_stage.write(run, audit_stage.examine(ctx, audit_stage.POOL))
    return costs


@contextmanager
def _counted(cost: Cost) -> Iterator[None]:
    """Count what is decoded here, and by the guarded process of the manifest stage."""
    open_grey, read_scan = decode.open_grey, manifest.read_scan  # type: ignore[attr-defined]

    def counted(of: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            cost.num_decoded += 1
            return of(*arguments, **options)

        return count

    start = _cpu_seconds()
    with (
        mock.patch.object(decode, "open_grey", counted(open_grey)),
        mock.patch.object(manifest, "read_scan", counted(read_scan)),
    ):
        yield
    cost.cpu_seconds += _cpu_seconds() - start


def _cpu_seconds() -> float:
    """Of this process and of those it has started that still run."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def _pool(data: Path, folder: Path, encode: Callable[[np.ndarray], bytes], num: int) -> Path:
    """A pool of as many scans of each class, full size; its manifest."""
    folder.mkdir()
    with (data / "covid3" / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    by_class: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_class.setdefault(row["label"], []).append(row)
    chosen = [row for group in by_class.values() for row in group[: num // len(by_class)]]
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image_path", "label", "patient_id", "source"])
        for i, row in enumerate(chosen):
            with Image.open(data / "covid3" / row["image_path"]) as image:
                width_px = round(HEIGHT_PX * image.width / image.height)
                large = image.convert("L").resize((width_px, HEIGHT_PX), Image.Resampling.BICUBIC)
            grey_HW = np.asarray(large, np.float32) + _GRAIN * rng.standard_normal(large.size[::-1], np.float32)
            (folder / f"{i}.bin").write_bytes(encode(np.clip(grey_HW, 0, 255)))
            writer.writerow([f"{i}.bin", row["label"], row["patient_id"], row["source"]])
    return folder / "manifest.csv"


def _as_jpeg(grey_HW: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(grey_HW.astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _as_dicom(grey_HW: np.ndarray) -> bytes:
    number = f"1.2.3.{zlib.crc32(grey_HW.tobytes())}"
    return file_bytes((grey_HW * 16).astype(np.uint16), BitsStored=12, StudyInstanceUID=number, SOPInstanceUID=number)


KINDS = {"JPEG of 8 bits": _as_jpeg, "DICOM of 12 bits": _as_dicom}


def _draft(folder: Path) -> str:
    """What Pillow's decoding at half the size, and shrinking in two steps, would save and change of a square."""
    seconds: dict[str, list[float]] = {"whole": [], "draft": [], "gap": []}
    apart: dict[str, list[int]] = {"draft": [], "gap": []}
    for path in sorted(folder.glob("*.bin"))[:20]:
        data, squares = path.read_bytes(), {}
        for way, many in seconds.items():
            start = time.process_time()
            image = Image.open(io.BytesIO(data))
            if way == "draft":
                image.draft("L", (image.width // 2, image.height // 2))
            image.load()
            squares[way] = (
                image.resize((224, 224), Image.Resampling.BILINEAR, reducing_gap=2.0)
                if way == "gap"
                else squashed(image, 224)
            )
            many.append(1000 * (time.process_time() - start))
        for way, most in apart.items():
            difference = np.asarray(squares[way], np.int16) - np.asarray(squares["whole"], np.int16)
            most.append(int(np.abs(difference).max()))
    ms = {way: float(np.mean(many)) for way, many in seconds.items()}
    return (
        f"Decoding a JPEG and shrinking it to 224 px takes {ms['whole']:.0f} ms; {ms['draft']:.0f} ms decoded at half "
        f"the size (`draft`), which moves greys of the square by up to {max(apart['draft'])} of 255, and "
        f"{ms['gap']:.0f} ms shrunk in two steps (`reducing_gap`), by up to {max(apart['gap'])}. Neither is used: "
        "text burnt in is looked for in the whole picture, and every embedding would change."
    )
