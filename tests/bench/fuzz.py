"""Mutated files and bombs against all that reads other people's files: rows and reasons, within the limits?

Pictures go through the guarded process; pools' tables, configurations and files of answers are opened as the commands
open them.
"""

import csv
import io
import json
import logging
import random
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
from PIL import Image
from pydicom.data import get_testdata_file

from pipeline.annotate import import_files
from pipeline.contracts import config_file
from pipeline.contracts.errors import CxrSslError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import reading
from pipeline.pool.reading import ReadingOptions
from pipeline.pool.sources import open_pool
from tests.bench import tables
from tests.support.mutated_files import mutated

HEADER = ("files", "number", "used", "with a reason", "crashes of a run", "decoder ended", "slowest, s", "peak, MiB")
DICOM_FILES = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPGExtended.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
)
ROWS_OF_TABLE = 20
SIDE_PX = 64
OPTIONS = ReadingOptions(100_000_000)


def main(_: Path, args: Namespace) -> None:
    """Write `results/fuzz.md`."""
    pictures, texts = _pictures_as_made(), _texts_as_made()
    each = args.files // (len(pictures) + len(texts))
    rows: list[tuple[Any, ...]] = []
    logging.disable(logging.WARNING)  # what was forgiven is told of thousands of tables
    for kind, originals in pictures.items():
        rows.append(_pictures(kind, originals, each, random.Random(f"{kind} {args.seeds}")))
        _write(rows, args)
    for kind, data, opened in texts:
        rows.append(_texts(kind, data, each, random.Random(f"{kind} {args.seeds}"), opened))
        _write(rows, args)
    logging.disable(logging.NOTSET)
    rows += [_pictures(kind, [data], 1, None) for kind, data in _bombs().items()]
    _write(rows, args)


def _write(rows: list[tuple[Any, ...]], args: Namespace) -> None:
    """The kinds so far: the whole takes long."""
    tables.write(
        "fuzz",
        "Mutated files and bombs",
        f"python -m tests.bench fuzz --files {args.files} --seeds {args.seeds}",
        HEADER,
        rows,
        "One to eight changes a file (a bit, bytes cut out, doubled or overwritten), the seed is that of the command. "
        "`crashes of a run`: an error that is not one of ours. `decoder ended`: the process of its own was killed by "
        "a signal, a limit of time or of memory; the run goes on. Peak: the largest memory that the process held that "
        "read files of this kind, its libraries (about 80 MiB of the decoder's, a few hundred of the run's) and the "
        "file included.",
    )


def _encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=form, **options)
    return stream.getvalue()


def _pictures_as_made() -> dict[str, list[bytes]]:
    """Files of each format, of which one is drawn for each mutated file."""
    ramp = np.add.outer(np.arange(SIDE_PX), np.arange(SIDE_PX))
    grey, deep = Image.fromarray(ramp.astype(np.uint8)), Image.fromarray((ramp * 30).astype(np.uint16))
    return {
        "PNG": [_encoded(grey, "PNG"), _encoded(deep, "PNG"), _encoded(grey.convert("P"), "PNG")],
        "JPEG": [_encoded(grey, "JPEG"), _encoded(grey.convert("RGB"), "JPEG", progressive=True)],
        "TIFF": [
            _encoded(grey, "TIFF", compression="tiff_lzw"),
            _encoded(deep, "TIFF"),
            _encoded(grey, "TIFF", compression="jpeg"),
            _encoded(grey.convert("1"), "TIFF", compression="group4"),
        ],
        "DICOM": [Path(str(get_testdata_file(name))).read_bytes() for name in DICOM_FILES],
    }


def _bombs() -> dict[str, bytes]:
    """Small files of large pictures, each just below `pool.max_pixels`."""
    large = (10_000, 9_999)
    return {
        "bomb: TIFF of floats": _encoded(Image.new("F", large), "TIFF", compression="tiff_adobe_deflate"),
        "bomb: TIFF of 16 bits": _encoded(Image.new("I;16", large), "TIFF", compression="tiff_adobe_deflate"),
        "bomb: PNG in colour": _encoded(Image.new("RGB", large), "PNG"),
        "bomb: PNG of 8 bits": _encoded(Image.new("L", large), "PNG"),
        "large: PNG of 16 bits, 4,280 x 3,520": _encoded(
            Image.fromarray(np.tile(np.arange(4280, dtype=np.uint16), (3520, 1))), "PNG"
        ),
    }


def _pictures(kind: str, originals: list[bytes], number: int, rng: random.Random | None) -> tuple[Any, ...]:
    used, ended, crashes, slowest, peak = 0, 0, 0, 0.0, 0.0
    for _ in range(number):
        data = originals[0] if rng is None else mutated(rng.choice(originals), rng)
        start = time.perf_counter()
        try:
            read = reading.read_scan(data, OPTIONS)
        except Exception as error:  # noqa: BLE001 - what this bench counts
            crashes += 1
            sys.stderr.write(f"{kind}: {type(error).__name__} {error}\n")
            continue
        slowest = max(slowest, time.perf_counter() - start)
        reason = read.facts.get("reason")
        used += reason is None
        ended += reason is not None and reason.startswith("it cannot be decoded: it")
        peak = max(peak, _peak_of_guard())
    return (kind, number, used, number - used - crashes, crashes, ended, f"{slowest:.2f}", f"{peak:.0f}")


def _peak_of_guard() -> float:
    process = reading._guard(OPTIONS)._process
    return 0.0 if process is None else _peak_mib(process.pid)


def _peak_mib(process: int | str) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text("ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def _texts_as_made() -> list[tuple[str, bytes, Callable[[Path], Any]]]:
    """Name, content and reader of each kind of file that is opened in the run's own process."""
    rows = [("image_path", "label", "patient_id", "age", "sex")]
    rows += [(f"{i}.png", ("normal", "sick")[i % 2], f"p{i}", str(40 + i), "MF"[i % 2]) for i in range(ROWS_OF_TABLE)]
    scans = [f"{i:016x}" for i in range(ROWS_OF_TABLE)]
    answers = [("image_id", "rank", "label", "certainty", "annotator", "round")]
    fiftyone = json.dumps({"classes": ["normal", "sick"], "labels": dict.fromkeys(scans, 1)})
    answers += [(scan, str(i), ("normal", "sick")[i % 2], "sure", "ann", "1") for i, scan in enumerate(scans)]
    known = import_files.Scans({scan: [1] for scan in scans}, frozenset(), frozenset(), 1, None)

    def pool(path: Path) -> Any:
        return open_pool(PoolConfig(uri=str(path)), path.parent)

    def harvest(path: Path) -> Any:
        return import_files.harvest([path], known, ("normal", "sick"), import_files.Who())

    return [
        ("manifest.csv", _csv(rows), pool),
        ("manifest.xlsx", _workbook(rows), pool),
        ("config.yaml", config_file.dump(config_file.load(None, {})).encode(), config_file.load),
        ("answers.csv", _csv(answers), harvest),
        ("answers.xlsx", _workbook(answers), harvest),
        ("label-studio.json", json.dumps([_label_studio_task(scan) for scan in scans]).encode(), harvest),
        ("fiftyone.json", fiftyone.encode(), harvest),
    ]


def _csv(rows: list[tuple[str, ...]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


def _workbook(rows: list[tuple[str, ...]]) -> bytes:
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(stream)
    return stream.getvalue()


def _label_studio_task(scan: str) -> dict[str, Any]:
    choice = {"from_name": "finding", "to_name": "image", "type": "choices", "value": {"choices": ["sick"]}}
    told = {"id": 1, "completed_by": 1, "was_cancelled": False, "lead_time": 3.5, "updated_at": "2026-03-01T10:00:00Z"}
    return {"id": 1, "data": {"image_id": scan, "round": 1}, "annotations": [told | {"result": [choice]}]}


def _texts(kind: str, data: bytes, number: int, rng: random.Random, opened: Callable[[Path], Any]) -> tuple[Any, ...]:
    counts, slowest = Counter[str](), 0.0
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak counts from here
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, kind)
        for _ in range(number):
            path.write_bytes(mutated(data, rng))
            start = time.perf_counter()
            try:
                opened(path)
                counts["used"] += 1
            except CxrSslError:
                counts["refused"] += 1
            except Exception as error:  # noqa: BLE001 - what this bench counts
                counts["crashes"] += 1
                sys.stderr.write(f"{kind}: {type(error).__name__} {error}\n")
            slowest = max(slowest, time.perf_counter() - start)
    peak = f"{_peak_mib('self'):.0f}"
    return (kind, number, counts["used"], counts["refused"], counts["crashes"], 0, f"{slowest:.2f}", peak)
