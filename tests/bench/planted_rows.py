"""Faults in a pool's table: what people write into it, leave out of it or mix up. No picture is changed.

A plant changes the rows of a clean pool; pictures that it makes lie in the folder it is given.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
Plant = Callable[[list[Row], np.random.Generator, Path], list[Row]]


def split_by_patient(rows: list[Row], num_parts: int = 4) -> list[Row]:
    """A part of the patients in the test, the others in training; rows that have a split keep it."""
    for row in rows:
        in_test = zlib.crc32(str(row["patient_id"]).encode()) % num_parts == 0
        row["official_split"] = row.get("official_split") or ("test" if in_test else "train")
    return rows


def ill(row: Row) -> bool:
    """Whether it is of the class that faults are planted in."""
    return bool(row["label"] == "pneumonia")


def relabelled(share: float, only: str | None = None) -> Plant:
    """Labels exchanged for another class at random, of one class alone if it is named."""

    def plant(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
        names = sorted({row["label"] for row in rows})
        for row in rows:
            if only in (None, row["label"]) and rng.random() < share:
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


def placeholder(word: str, share: float) -> Plant:
    """A part of the scans under one id."""
    return lambda rows, rng, _: [row | ({"patient_id": word} if rng.random() < share else {}) for row in rows]


def merged(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """Eight pairs of patients of another sex, or of ages far apart, under one id."""
    first: dict[str, Row] = {}
    for row in rows:
        if row["sex"] and row["age"] != "":
            first.setdefault(row["patient_id"], row)
    free = list(rng.permutation(sorted(first)))
    new_id: dict[str, str] = {}
    while free and len(new_id) < 8:
        one = free.pop()
        other = next((two for two in free if _another_person(first[one], first[two])), None)
        if other is not None:
            free.remove(other)
            new_id[other] = one
    return [row | {"patient_id": new_id.get(row["patient_id"], row["patient_id"])} for row in rows]


def _another_person(one: Row, other: Row) -> bool:
    return bool(one["sex"] != other["sex"] or abs(float(one["age"]) - float(other["age"])) > 30)


def older(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
    """Everybody with pneumonia is fourteen years older."""
    for row in rows:
        if ill(row) and row["age"] != "":
            row["age"] = min(float(row["age"]) + 14, 100)
    return rows


def goes_with(column: str, of_ill: str, of_others: str) -> Plant:
    """Nine of ten scans that break a rule (the ill have one value, the others another) are left out."""

    def plant(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
        return [row for row in rows if row[column] == (of_ill if ill(row) else of_others) or rng.random() < 0.1]

    return plant


def blanked(column: str) -> Plant:
    """A column is known of everybody but the ill."""
    return lambda rows, _, __: [row | ({column: ""} if ill(row) else {}) for row in rows]


def other_shares(side: str) -> Plant:
    """Three of four scans of the ill are left out of one side, and of the others three of four out of training."""

    def plant(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
        rows = split_by_patient(rows)
        if side == "val":
            numbers = sorted({row["patient_id"] for row in rows if row["official_split"] == "train"})
            chosen = set(rng.choice(numbers, len(numbers) // 3, replace=False).tolist())
            rows = [row | ({"official_split": "val"} if row["patient_id"] in chosen else {}) for row in rows]
        sides = {side: True, "train": False}
        return [
            row for row in rows if ill(row) != sides.get(row["official_split"], not ill(row)) or rng.random() < 0.25
        ]

    return plant


def small_holdout(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """Three patients of each class in the test, all others in training."""
    chosen: set[str] = set()
    for label in sorted({row["label"] for row in rows}):
        patients = sorted({row["patient_id"] for row in rows if row["label"] == label})
        chosen |= set(rng.choice(patients, 3, replace=False).tolist())
    return [row | {"official_split": "test" if row["patient_id"] in chosen else "train"} for row in rows]


def rare(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """Four scans of the ill are left."""
    kept = set(rng.choice([i for i, row in enumerate(rows) if ill(row)], 4, replace=False).tolist())
    return [row for i, row in enumerate(rows) if not ill(row) or i in kept]


def reversed_sources(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
    """Each source goes with opposite classes in training and test."""
    for row in rows:
        row["source"] = "ab"[(row["label"] == "normal") ^ (row["official_split"] == "test")]
    return rows


def own_source(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """The ill come from one hospital, nineteen of twenty of the others from another."""
    return [row | {"source": "north" if ill(row) or rng.random() < 0.05 else "south"} for row in rows]


def spelled(*names: str) -> Plant:
    """One source in several spellings."""
    return lambda rows, rng, _: [row | {"source": str(rng.choice(names))} for row in rows]


def impossible(column: str, value: str) -> Plant:
    """Three scans with a value that cannot be, beside ones that can."""

    def plant(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
        wrong = set(rng.choice(len(rows), 3, replace=False).tolist())
        usual = {"age": 50, "StudyDate": "2020-02-03"}[column]
        return [row | {column: value if i in wrong else row.get(column) or usual} for i, row in enumerate(rows)]

    return plant


def moved_dates(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """All dates lie in the 22nd century, as where they were moved to hide them."""
    return [row | {"StudyDate": f"21{rng.integers(10, 99)}-0{rng.integers(1, 10)}-11"} for row in rows]


def across(side: str) -> Plant:
    """A third of the patients of several scans have the first in the test and the others on another side."""

    def plant(rows: list[Row], _: np.random.Generator, __: Path) -> list[Row]:
        seen: set[str] = set()
        for row in rows:
            if int(re.sub(r"\D", "", row["patient_id"])) % 3 == 0:
                row["official_split"] = side if row["patient_id"] in seen else "test"
                seen.add(row["patient_id"])
        return rows

    return plant
