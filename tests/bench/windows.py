"""Pools that hold scans as DICOM files and again as PNGs made with another window: do they find each other?"""

import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.measures import bootstrap
from pipeline.pool import duplicates, manifest
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import tables
from tests.support.dicom_files import file_bytes

NUM_TWICE, NUM_ONCE = 40, 40  # scans of a pool that are there as a PNG too, and those that are not
OWN_WINDOW = (2048, 2600)  # centre and width of the DICOM files, of values up to 4095
WINDOWS = {
    "all values": (2048, 4096),
    "a little wider": (2048, 3000),
    "narrower": (2048, 2000),
    "half as wide": (2048, 1200),
    "of the dark half": (1200, 1400),
    "of the light half": (2800, 1400),
}
HEADER = ("window of the PNG", "centre, width", "clipped, median", "found, share", "95 % interval", "others joined")
Deep = NDArray[np.uint16]


def main(data: Path, args: Namespace) -> None:
    """Write `results/windows.md`."""
    rows = [_row(data / "kermany", name, window, args.seeds) for name, window in WINDOWS.items()]
    tables.write(
        "windows",
        "DICOM, and PNG made with another window",
        f"python -m tests.bench windows --seeds {args.seeds}",
        HEADER,
        rows,
        f"Pools of {NUM_TWICE + NUM_ONCE} scans of Kermany as DICOM files of 12 bits, with a window of centre "
        f"{OWN_WINDOW[0]} and width {OWN_WINDOW[1]}, {NUM_TWICE} of them as a PNG of 8 bits as well; "
        f"{args.seeds} pools a row, default options. *Clipped*: pixels of the PNG that are black or white. *Found*: "
        "both are one picture in `duplicates.parquet`, and therefore on one side of every split; Wilson's interval. "
        "*Others joined*: scans of two different originals that were taken for one picture.",
    )


def _row(kermany: Path, name: str, window: tuple[int, int], num_pools: int) -> list[str]:
    found, joined, clipped = 0, 0, list[float]()
    for seed in range(num_pools):
        with tempfile.TemporaryDirectory() as folder:
            clipped += _write_pool(kermany, Path(folder) / "pool", window, seed)
            picture_of = _pictures(Path(folder))
        found += sum(picture_of[f"{i}.dcm"] == picture_of[f"{i}.png"] for i in range(NUM_TWICE))
        originals: dict[str, set[str]] = {}
        for path, picture in picture_of.items():
            originals.setdefault(picture, set()).add(Path(path).stem)
        joined += sum(len(stems) - 1 for stems in originals.values())
    total = NUM_TWICE * num_pools
    low, high = bootstrap.wilson(found / total, total, 1.96)
    return [
        name,
        f"{window[0]}, {window[1]}",
        f"{np.median(clipped):.2f}",
        f"{found / total:.3f}",
        f"{low:.2f} to {high:.2f}",
        str(joined),
    ]


def _write_pool(kermany: Path, pool: Path, window: tuple[int, int], seed: int) -> list[float]:
    """The files and their manifest; the share of each PNG that is clipped."""
    rng = np.random.default_rng(seed)
    table = pa_csv.read_csv(kermany / "manifest.csv").to_pylist()
    pool.mkdir()
    names, clipped = [], []
    for i, row in enumerate(rng.choice(len(table), NUM_TWICE + NUM_ONCE, replace=False)):
        flat = np.asarray(Image.open(kermany / table[row]["image_path"]).convert("L")).astype(np.uint16)
        deep = (flat << 4) + rng.integers(0, 16, flat.shape, dtype=np.uint16)
        tags = {"WindowCenter": OWN_WINDOW[0], "WindowWidth": OWN_WINDOW[1]}
        (pool / f"{i}.dcm").write_bytes(file_bytes(deep, BitsStored=12, PatientID=f"P{i}", **tags))
        names.append(f"{i}.dcm")
        if i < NUM_TWICE:
            grey = _shown(deep, window)
            Image.fromarray(grey).save(pool / f"{i}.png")
            names.append(f"{i}.png")
            clipped.append(float(np.isin(grey, (0, 255)).mean()))
    (pool / "manifest.csv").write_text("\n".join(["image_path", *names]) + "\n", "utf-8")
    return clipped


def _shown(deep: Deep, window: tuple[int, int]) -> NDArray[np.uint8]:
    centre, width = window
    unit = np.clip((deep - (centre - width / 2)) / width, 0, 1)
    return np.rint(255 * unit).astype(np.uint8)


def _pictures(folder: Path) -> dict[str, str]:
    """Path of each scan to the picture that it shows, as the stages say it."""
    given = {"pool.uri": str(folder / "pool" / "manifest.csv"), "engine.backend": "serial"}
    ctx = StageContext(config_file.load(None, given), folder / "run", SerialEngine())
    ctx.folder.mkdir()
    manifest.run(ctx)
    duplicates.run(ctx)
    paths, pictures = MANIFEST.read(ctx.folder)["path"], DUPLICATES.read(ctx.folder)["canonical_id"]
    return dict(zip(paths.to_pylist(), pictures.to_pylist(), strict=True))
