"""Tiny pools in the shape of the two that the reference bench takes, made of phantoms."""

import csv
import os
import shutil
from pathlib import Path

from pipeline.pool.phantoms import PhantomSpec, write_pool

PREVALENCES = {"normal": 0.4, "pneumonia": 0.3, "effusion": 0.3}


def two_pools(folder, num_patients=60, size_px=64):
    """Write them; returns the COVID manifest and Kermany's. The COVID scans are larger: the file gives them away."""
    sick, well = folder / "covid", folder / "kermany"
    spec = {"num_patients": num_patients, "size_px": size_px, "prevalences": PREVALENCES}
    covid = [row for row in _phantoms("covid", spec | {"size_px": size_px + 16}) if row["label"] == "pneumonia"]
    others = [row for row in _phantoms("kermany", spec | {"seed": 1}) if row["label"] != "pneumonia"]
    _copy(
        sick,
        [(f"c{i}{row['ending']}", row) for i, row in enumerate(covid)],
        "label,patient_id,source",
        lambda row: f"COVID-19,{row['patient_id']},collection",
    )
    named = []
    for i, row in enumerate(others):
        number = int("".join(filter(str.isdigit, row["patient_id"])))
        name = f"IM-{number:04d}-{i:04d}" if row["label"] == "normal" else f"person{number}_virus_{i}"
        named.append((name + row["ending"], row))
    _copy(
        well,
        named,
        "label,official_split",
        lambda row: ("NORMAL" if row["label"] == "normal" else "PNEUMONIA") + ",train",
    )
    return sick / "manifest.csv", well / "manifest.csv"


def _phantoms(name, spec):
    """Drawn once for all tests."""
    name = f"{name}-{spec['num_patients']}-{spec['size_px']}"
    manifest = write_pool(PhantomSpec(**spec), Path(os.environ["CXR_SSL_CACHE"], "known-set", name))
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["file"] = manifest.parent / row["image_path"]
        row["ending"] = row["file"].suffix
    return rows


def _copy(folder, named, columns, tell):
    folder.mkdir(parents=True)
    lines = [f"image_path,{columns}"]
    for name, row in named:
        shutil.copyfile(row["file"], folder / name)
        lines.append(f"{name},{tell(row)}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
