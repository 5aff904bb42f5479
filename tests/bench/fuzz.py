"""Mutated files and bombs against the manifest stage: does a run end with rows and reasons, within its limits?

Pictures go through the guarded process; tables and configurations are opened as a run opens them.
"""

import io
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

from pipeline.contracts import config_file
from pipeline.contracts.config import PoolConfig
from pipeline.contracts.errors import CxrSslError
from pipeline.pool import reading
from pipeline.pool.reading import ReadingOptions
from pipeline.pool.sources import open_pool
from tests.bench import tables
from tests.support.mutated_files import mutated

HEADER = ("files", "number", "used", "with a reason", "crashes of a run", "decoder ended", "slowest, s", "peak, MiB")
ROWS_OF_TABLE = 20
SIDE_PX = 64
OPTIONS = ReadingOptions(100_000_000)


def main(_: Path, args: Namespace) -> None:
    """Write `results/fuzz.md`."""
    rng = random.Random(args.seeds)
    each = args.files // 7
    rows = [_pictures(kind, data, each, rng) for kind, data in _originals().items()]
    rows += [_texts(kind, data, each, rng, opened) for kind, data, opened in _tables()]
    rows += [_pictures(kind, data, 1, None) for kind, data in _bombs().items()]
    tables.write(
        "fuzz",
        "Mutated files and bombs",
        f"python -m tests.bench fuzz --files {args.files} --seeds {args.seeds}",
        HEADER,
        rows,
        "One to eight changes a file (a bit, bytes cut out, doubled or overwritten), the seed is that of the command. "
        "`crashes of a run`: an error that is not one of ours. `decoder ended`: the process of its own was killed by "
        "a signal, a limit of time or of memory; the run goes on. Peak: the largest memory that process ever held, "
        "its libraries (about 80 MiB) and the file included.",
    )


def _encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=form, **options)
    return stream.getvalue()


def _originals() -> dict[str, bytes]:
    grey = Image.fromarray(np.add.outer(np.arange(SIDE_PX), np.arange(SIDE_PX)).astype(np.uint8))
    return {
        "PNG": _encoded(grey, "PNG"),
        "JPEG": _encoded(grey, "JPEG"),
        "TIFF": _encoded(grey, "TIFF", compression="tiff_lzw"),
        "DICOM": Path(str(get_testdata_file("CT_small.dcm"))).read_bytes(),
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


def _pictures(kind: str, data: bytes, number: int, rng: random.Random | None) -> tuple[Any, ...]:
    used, ended, crashes, slowest, peak = 0, 0, 0, 0.0, 0.0
    for _ in range(number):
        start = time.perf_counter()
        try:
            read = reading.read_scan(data if rng is None else mutated(data, rng), OPTIONS)
        except Exception as error:  # noqa: BLE001 - what this bench counts
            crashes += 1
            sys.stderr.write(f"{kind}: {type(error).__name__} {error}\n")
            continue
        slowest = max(slowest, time.perf_counter() - start)
        reason = read.facts.get("reason")
        used += reason is None
        ended += reason is not None and reason.startswith("it cannot be decoded: it")
        peak = max(peak, _peak_mib())
    return (kind, number, used, number - used - crashes, crashes, ended, f"{slowest:.2f}", f"{peak:.0f}")


def _peak_mib() -> float:
    process = reading._guard(OPTIONS)._process
    if process is None:
        return 0.0
    try:
        status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def _tables() -> list[tuple[str, bytes, Callable[[Path], Any]]]:
    header = ("image_path", "label", "patient_id", "age", "sex")
    rows = [(f"{i}.png", ("normal", "sick")[i % 2], f"p{i}", 40 + i, "MF"[i % 2]) for i in range(ROWS_OF_TABLE)]
    text = "\n".join(",".join(map(str, row)) for row in (header, *rows))
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in (header, *rows):
        book.active.append(row)
    book.save(stream)
    config = config_file.dump(config_file.load(None, {}))
    return [
        ("manifest.csv", text.encode(), lambda path: open_pool(PoolConfig(uri=str(path)), path.parent)),
        ("manifest.xlsx", stream.getvalue(), lambda path: open_pool(PoolConfig(uri=str(path)), path.parent)),
        ("config.yaml", config.encode(), config_file.load),
    ]


def _texts(kind: str, data: bytes, number: int, rng: random.Random, opened: Callable[[Path], Any]) -> tuple[Any, ...]:
    counts, slowest = Counter[str](), 0.0
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
    return (kind, number, counts["used"], counts["refused"], counts["crashes"], 0, f"{slowest:.2f}", "–")
