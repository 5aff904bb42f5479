"""Faults as other people make them, planted in clean pools: caught, for the right reason, and how often by mistake."""

import csv
import os
import re
import shutil
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.bench import pools, tables
from tests.bench.audit import audited

Row = dict[str, Any]
Plant = Callable[[list[Row], np.random.Generator, Path], list[Row]]
NUM_PATIENTS, SIDE_PX, NUM_REAL = 300, 96, 300
SETTINGS = {
    "preprocess.size_px": SIDE_PX,
    "audit.num_bootstrap": 50,
    "audit.max_scans": 400,
    "audit.max_equalised_scans": 0,
    "duplicates.changed": False,  # copies as people make them have a bench of their own
}
# The checks that this bench is about; on real scans others have true faults to find.
OURS = ("not-chest-x-rays", "labels-look-wrong", "patient-ids-doubtful", "classes-differ-across-splits")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        plant: Changes the rows of a clean pool; pictures that it makes lie in the folder it is given.
        check: The check that must fire.
        reason: A pattern of its message.
        base: The clean pool it is planted in.
    """

    plant: Plant
    check: str
    reason: str
    base: str = "phantoms"


def relabelled(share: float) -> Plant:
    """Labels exchanged for another class at random."""

    def plant(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
        names = sorted({row["label"] for row in rows})
        for row in rows:
            if rng.random() < share:
                row["label"] = rng.choice([name for name in names if name != row["label"]])
        return rows

    return plant


def respelled(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
    """A fifth of the patients of several scans, one scan moved to the test under another spelling."""
    seen: Counter[str] = Counter()
    for row in rows:
        number = int(re.sub(r"\D", "", row["patient_id"]))
        row["patient_id"] = f"P{number:05d}"
        seen[row["patient_id"]] += 1
        if seen[row["patient_id"]] == 2 and number % 2 == 0:
            row["patient_id"], row["official_split"] = f"pat-{number}", "test"
        elif number % 2 == 0:
            row["official_split"] = "train"
    return rows


def named_after_files(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
    """The id is the file's name."""
    return [row | {"patient_id": Path(row["image_path"]).stem} for row in rows]


def placeholder(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """An eighth of the scans under one id."""
    return [row | ({"patient_id": "99999"} if rng.random() < 0.125 else {}) for row in rows]


def older(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
    """Everybody with pneumonia is fourteen years older."""
    for row in rows:
        if row["label"] == "pneumonia" and row["age"] != "":
            row["age"] = min(float(row["age"]) + 14, 100)
    return rows


def other_shares(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """Three of four normal scans are left out of the test, of the others three of four in training."""
    return [
        row for row in rows if (row["label"] == "normal") != (row["official_split"] == "test") or rng.random() < 0.25
    ]


def reversed_sources(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
    """Each source goes with opposite classes in training and test."""
    for row in rows:
        row["source"] = "ab"[(row["label"] == "normal") ^ (row["official_split"] == "test")]
    return rows


def spelled_sources(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """One source in three spellings."""
    for row in rows:
        row["source"] = rng.choice(["Site A", "site-a", "SITE_A"])
    return rows


def impossible(column: str, value: str) -> Plant:
    """Three scans with a value that cannot be, beside ones that can."""

    def plant(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
        wrong = set(rng.choice(len(rows), 3, replace=False).tolist())
        usual = {"age": 50, "StudyDate": "2020-02-03"}[column]
        return [row | {column: value if i in wrong else row.get(column) or usual} for i, row in enumerate(rows)]

    return plant


def across(side: str) -> Plant:
    """A fifth of the patients of several scans have the first in the test and the others on another side."""

    def plant(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
        seen: set[str] = set()
        for row in rows:
            if int(re.sub(r"\D", "", row["patient_id"])) % 3 == 0:
                row["official_split"] = side if row["patient_id"] in seen else "test"
                seen.add(row["patient_id"])
        return rows

    return plant


def repainted(num: int, paint: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Plant:
    """Pictures that are replaced by what is made of them."""

    def plant(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
        for i in rng.choice(len(rows), num, replace=False):
            with Image.open(rows[i]["image_path"]) as image:
                pixels = np.asarray(image.convert("L").resize((256, 256)))
            path = folder / f"{i}.png"
            Image.fromarray(paint(pixels, rng)).save(path)
            rows[i]["image_path"] = str(path)
        return rows

    return plant


def _noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, pixels.shape, dtype=np.uint8)


def _blank(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (120 + rng.normal(0, 2, pixels.shape)).astype(np.uint8)


def _strip(_: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (1, 60_000), dtype=np.uint8)


def _shapes(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    picture = np.full_like(pixels, rng.integers(0, 100))
    for _ in range(4):
        top, left, height, width = rng.integers(10, 120, 4)
        picture[top : top + height, left : left + width] = rng.integers(100, 256)
    return picture


def _photograph(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize(pixels.shape, Image.Resampling.BICUBIC))


def turned(quarters: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """A quarter turn, or several."""
    return lambda pixels, _: np.ascontiguousarray(np.rot90(pixels, -quarters))


FAULTS = {
    "10 % of labels wrong": Fault(relabelled(0.1), "labels-look-wrong", "labels look wrong"),
    "20 % of labels wrong": Fault(relabelled(0.2), "labels-look-wrong", "labels look wrong"),
    "10 % of labels wrong, kermany": Fault(relabelled(0.1), "labels-look-wrong", "labels look wrong", "kermany"),
    "20 % of labels wrong, kermany": Fault(relabelled(0.2), "labels-look-wrong", "labels look wrong", "kermany"),
    "3 ages of 400": Fault(impossible("age", "400"), "missing-metadata", "not understood.*400"),
    "3 study dates in the future": Fault(impossible("StudyDate", "2999-01-01"), "missing-metadata", "in the future"),
    "3 study dates of no calendar": Fault(impossible("StudyDate", "2020-02-30"), "missing-metadata", "no day of"),
    "ids respelled across the split": Fault(respelled, "patient-ids-doubtful", "differ in spelling alone"),
    "ids are names of files": Fault(named_after_files, "patient-ids-doubtful", "names of their files"),
    "a placeholder as an id": Fault(placeholder, "patient-ids-doubtful", "of .* scans"),
    "patients in training and test": Fault(across("train"), "patient-across-splits", "in training and in test"),
    "patients in validation and test": Fault(across("val"), "patient-across-splits", "in validation and in test"),
    "a class 14 years older": Fault(older, "population-confounding", "pneumonia.* older|age"),
    "class shares differ": Fault(other_shares, "classes-differ-across-splits", "in training and .* in the test"),
    "sources reversed in the test": Fault(reversed_sources, "source-label-confounding", "part alone"),
    "one source in three spellings": Fault(spelled_sources, "missing-metadata", "spelled in several ways"),
    "3 pictures of noise": Fault(repainted(3, _noise), "not-chest-x-rays", "noise"),
    "3 near-blanks": Fault(repainted(3, _blank), "not-chest-x-rays", "blank"),
    "3 drawings": Fault(repainted(3, _shapes), "not-chest-x-rays", "drawing"),
    "3 colour pictures": Fault(repainted(3, _photograph), "not-chest-x-rays", "colour"),
    "a strip of 1 × 60,000 pixels": Fault(repainted(1, _strip), "not-chest-x-rays", "long and thin"),
    "5 scans turned by 90 degrees": Fault(repainted(5, turned(1)), "not-chest-x-rays", "turned by 90"),
    "5 scans turned by 180 degrees": Fault(repainted(5, turned(2)), "not-chest-x-rays", "turned by 180"),
    "5 scans mirrored": Fault(
        repainted(5, lambda p, _: np.ascontiguousarray(p[:, ::-1])), "not-chest-x-rays", "mirror"
    ),
}


def main(data: Path, given: Namespace) -> None:
    """Write `results/planted.md`, anew after every fault; a seed takes some minutes of one core."""
    found: dict[str, list[str | None]] = {name: [] for name in FAULTS}
    alarms: dict[str, list[set[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CXR_SSL_CACHE"] = str(Path(folder) / "cache")
        for seed in range(given.seeds):
            base = phantoms(Path(folder), seed)
            clean_pools = {"phantoms": base, **real(data, seed)}
            for name, clean in clean_pools.items():
                fired = not_ok(audit_rows(clean, Path(folder)))
                counted = set(fired) if name == "phantoms" else set(fired) & set(OURS)
                alarms.setdefault(name, []).append(counted)
                sys.stderr.writelines(f"clean {name}, seed {seed}: {fired[check]}\n" for check in sorted(counted))
                _write(found, alarms, given.seeds)
            for name, fault in FAULTS.items():
                pictures = Path(folder) / "pictures"
                pictures.mkdir()
                planted = fault.plant(
                    [dict(row) for row in clean_pools[fault.base]], np.random.default_rng(seed), pictures
                )
                found[name].append(not_ok(audit_rows(planted, Path(folder))).get(fault.check))
                shutil.rmtree(pictures)
                _write(found, alarms, given.seeds)


def _write(found: dict[str, list[str | None]], alarms: dict[str, list[set[str]]], seeds: int) -> None:
    rows: list[tuple[str, ...]] = []
    num_caught, num_right, total = 0, 0, 0
    for name, messages in found.items():
        caught = [message for message in messages if message is not None]
        right = [message for message in caught if re.search(FAULTS[name].reason, message)]
        rows.append((name, FAULTS[name].check, *(f"{len(some)} of {len(messages)}" for some in (caught, right))))
        num_caught, num_right, total = num_caught + len(caught), num_right + len(right), total + len(messages)
    for name, fired in alarms.items():
        names = ", ".join(f"{check} {num}" for check, num in Counter(c for some in fired for c in some).items())
        rows.append((f"none: {name}", names or "none fired", f"{sum(map(bool, fired))} of {len(fired)} accused", "–"))
    tables.write(
        "planted",
        "Faults as people make them, planted one at a time",
        f"python -m tests.bench planted --seeds {seeds}",
        ("fault planted", "check", "caught", "right reason"),
        rows,
        f"Phantom pools of {NUM_PATIENTS} patients at {SIDE_PX} px, samples of {NUM_REAL} real scans: {num_caught} of "
        f"{total} caught, {num_right} for the right reason. Of a clean phantom pool every check counts; of real scans, "
        f"which have faults of their own, {', '.join(OURS)}.",
    )


def not_ok(audit: Row) -> dict[str, str]:
    """Messages of the checks that warn or block."""
    return {check["id"]: check["message"] for check in audit["checks"] if check["severity"] != "ok"}


def audit_rows(rows: list[Row], folder: Path) -> Row:
    """The audit of a manifest of these rows."""
    path, out = folder / "manifest.csv", folder / "out"
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    content = audited(str(path), out, **SETTINGS)
    shutil.rmtree(out)
    return content


def phantoms(folder: Path, seed: int) -> list[Row]:
    """Rows of a clean phantom pool, split by patient."""
    from pipeline.contracts.config import PoolConfig
    from pipeline.pool.sources import open_pool

    uri = f"phantom:num_patients={NUM_PATIENTS},size_px=128,seed={seed}"
    scans = open_pool(PoolConfig(uri=uri), folder / "phantoms").scans
    names = {"image_path": "uri", "label": "label", "patient_id": "patient_id", "source": "source", "age": "age_years"}
    names |= {"sex": "sex", "view": "view", "official_split": "pool_split"}
    rows = [
        dict(zip(names, values, strict=True))
        for values in zip(*(scans[n].to_pylist() for n in names.values()), strict=True)
    ]
    number = {patient: i for i, patient in enumerate(sorted({row["patient_id"] for row in rows} - {None}))}
    for row in rows:
        place = number.get(row["patient_id"], len(number))
        row |= {"patient_id": f"x{place}", "official_split": "test" if place % 4 == 0 else "train"}
        row |= {key: "" for key, value in row.items() if value is None}
    return rows


def real(data: Path, seed: int) -> dict[str, list[Row]]:
    """Samples of Kermany and of covid3's scans of one source."""
    samples = {}
    for name in ("kermany", "covid3"):
        manifest = Path(pools.uri(data, name))
        with manifest.open(encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if name == "kermany" or row["source"] == pools.NIH]
        chosen = np.random.default_rng(seed).choice(len(rows), NUM_REAL, replace=False)
        samples[name] = [rows[i] | {"image_path": str(manifest.parent / rows[i]["image_path"])} for i in chosen]
        samples[name] = [{k: v for k, v in row.items() if k != "official_split"} for row in samples[name]]
    return samples
