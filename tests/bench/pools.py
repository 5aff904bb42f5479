"""The pools that benches run on, by name."""

import csv
import os
from pathlib import Path

from pipeline import stages
from pipeline.contracts import config_file
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

BECAUSE = "the method is measured, nothing is claimed about patients"  # why benches go on where the audit blocks
NIH = "nih-chestxray8"  # source of the part of covid3 in which no class has a source of its own


def uri(data: Path, name: str) -> str:
    """URI of a pool by its short name."""
    return {
        "kermany": str(data / "kermany" / "manifest.csv"),
        "covid3": str(data / "covid3" / "manifest.csv"),
        "pneumoniamnist": "medmnist:pneumoniamnist",
        "phantom": "phantom:",
    }[name]


def rows(name: str) -> list[dict[str, str]]:
    """Rows of a pool that has a table, with absolute paths."""
    manifest = Path(uri(Path(os.environ["CXR_SSL_DATA"]), name))
    with manifest.open(encoding="utf-8") as stream:
        return [row | {"image_path": str(manifest.parent / row["image_path"])} for row in csv.DictReader(stream)]


def four(data: Path, folder: Path) -> tuple[str, ...]:
    """NAME=POOL of the pools that curves over budgets are measured on; the manifest of one is written to a folder."""
    return (
        f"kermany={uri(data, 'kermany')}",
        f"covid3={uri(data, 'covid3')}",
        f"nih={nih_part(data, folder)}",
        "phantom=phantom:num_patients=600",
    )


def without_a_test(data: Path, folder: Path) -> dict[str, str]:
    """URI by name of the pools that may be tuned on: Kermany without its official test, and three others."""
    return {
        "kermany": str(without_official_test(data, folder)),
        "nih": str(nih_part(data, folder)),
        "covid3": uri(data, "covid3"),
        "phantom": "phantom:num_patients=600",
    }


def read(uri: str, folder: Path) -> StageContext:
    """A run of a pool up to its embeddings, in this process, with the options nobody set."""
    config = config_file.load(None, {"pool.uri": uri, "engine.backend": "serial"})
    folder.mkdir(parents=True, exist_ok=True)
    run_dir.write_config(folder, config)
    ctx = StageContext(config, folder, SerialEngine())
    stages.run_stages(ctx, stages.READ)
    return ctx


def without_official_test(data: Path, folder: Path) -> Path:
    """A manifest of the training part of Kermany, without the column that names the official split."""
    return _part(Path(uri(data, "kermany")), "official_split", "train", folder / "kermany-own.csv", ("official_split",))


def nih_part(data: Path, folder: Path) -> Path:
    """A manifest of covid3's scans of one source."""
    return _part(Path(uri(data, "covid3")), "source", NIH, folder / "nih.csv")


def _part(manifest: Path, column: str, value: str, path: Path, leave_out: tuple[str, ...] = ()) -> Path:
    """The rows of a manifest with a value in a column, with absolute paths, less some columns."""
    with manifest.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row[column] == value]
    rows = [{name: cell for name, cell in row.items() if name not in leave_out} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(row | {"image_path": str(manifest.parent / row["image_path"])} for row in rows)
    return path


OVERRIDES: dict[str, dict[str, object]] = {
    "kermany": {"pool.findings": ["normal", "pneumonia"]},
    "covid3": {"pool.findings": ["no_finding", "pneumonia", "covid"]},
    "pneumoniamnist": {},
    "phantom": {},
}
