"""The well-known public COVID set, made again from its two origins, and draws of it that share no patient.

The first release of the COVID-19 Radiography Database (Chowdhury et al. 2020) holds 219 COVID-19, 1,341 normal and
1,345 viral pneumonia scans: the latter two are those classes of the training split of Kermany et al. 2018, children
of one hospital. The former come from collections such as ieee8023/covid-chestxray-dataset, of which the pool given
here holds a part. So ours has fewer COVID scans than the original, from one of its sources.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import write_bytes
from pipeline.pool.sources import open_pool

# N scans, C classes, G groups

NORMAL, VIRAL, COVID = "normal", "viral_pneumonia", "covid"
FINDINGS = (NORMAL, VIRAL, COVID)
KERMANY_POPULATION = "pediatric"  # one to five years old, as their paper says
NUM_TRIES = 50
_KERMANY_PATIENT = re.compile(r"(person\d+_(?:virus|bacteria)|(?:NORMAL2-)?IM-\d+)")
_COLUMNS = ("image_path", "label", "patient_id", "source", "population", "age", "sex", "view")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Rows of one repetition; no group is in two of the three.

    Attributes:
        train: To learn from.
        val: To stop by.
        test: To be scored on.
    """

    train: Ints
    val: Ints
    test: Ints


def write_set(covid: str, kermany: str, folder: Path) -> Path:
    """Write the manifest of the set, under a name of its own for every content; returns its path.

    Args:
        covid: Pool with scans labelled covid, of known patients.
        kermany: Pool of Kermany et al. 2018; viral scans are known by their file names.
        folder: Where it goes.

    Raises:
        InputError: a pool cannot be read, or lacks a class or its patients.
    """
    from pyarrow import csv

    table = pa.concat_tables([_kermany(kermany), _covid(covid)])
    for finding in FINDINGS:
        if finding not in table["label"].unique().to_pylist():
            raise InputError(f"no scan is {finding}", where=kermany, fix="give the pool of Kermany et al. 2018")
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    data = sink.getvalue().to_pybytes()
    path = folder / f"reference-{hashlib.sha256(data).hexdigest()[:12]}.csv"
    write_bytes(path, data)
    return path


def _covid(uri: str) -> pa.Table:
    scans = open_pool(PoolConfig(uri=uri), cache_folder()).scans
    label = pc.utf8_lower(scans["label"])
    covid = scans.filter(pc.fill_null(pc.starts_with(label, "covid"), False))
    if not len(covid):
        known = sorted(pc.unique(scans["label"]).drop_null().to_pylist())
        raise InputError(
            "no scan of this pool is labelled covid",
            value=known[:5],
            where="--covid",
            fix="give a manifest with image_path, label and patient_id, such as covid3/manifest.csv",
        )
    return _rows(covid, "covid", [COVID] * len(covid), covid["patient_id"].to_pylist(), "--covid")


def _kermany(uri: str) -> pa.Table:
    scans = open_pool(PoolConfig(uri=uri), cache_folder()).scans
    if scans["pool_split"].null_count < len(scans):
        scans = scans.filter(pc.fill_null(pc.equal(pc.utf8_lower(scans["pool_split"]), "train"), False))
    paths = scans["path"].to_pylist()
    finding = [_finding(label, path) for label, path in zip(scans["label"].to_pylist(), paths, strict=True)]
    kept = np.flatnonzero([name is not None for name in finding])
    if not len(kept):
        raise InputError(
            "holds no normal and no viral scan of Kermany's training split",
            value=uri,
            where="--kermany",
            fix="give its folder (chest_xray) or a manifest with label, official_split and the original file names",
        )
    scans = scans.take(pa.array(kept))
    own = scans["patient_id"].to_pylist()
    from_name = [_patient(path) for path in scans["path"].to_pylist()]
    patients = [own_id or read for own_id, read in zip(own, from_name, strict=True)]
    return _rows(scans, "kermany", [finding[i] for i in kept], patients, "--kermany")


def _finding(label: str | None, path: str) -> str | None:
    if label is not None and label.lower() == "normal":
        return NORMAL
    return VIRAL if "virus" in path.rpartition("/")[2].lower() else None


def _patient(path: str) -> str | None:
    match = _KERMANY_PATIENT.search(path.rpartition("/")[2])
    return match[1] if match else None


def _rows(
    scans: pa.Table, name: str, labels: Sequence[str | None], patients: Sequence[str | None], where: str
) -> pa.Table:
    """Rows of one origin; its patients and its source get names of their own."""
    unknown = sum(patient is None for patient in patients)
    if unknown:
        raise InputError(
            f"the patients of {unknown} of {len(patients)} scans are not known",
            where=where,
            fix="add a patient_id column: without it a patient could be in training and in test",
        )
    population = scans["population"]
    columns = {
        "image_path": scans["uri"],
        "label": pa.array(labels, pa.string()),
        "patient_id": pa.array([f"{name}/{patient}" for patient in patients]),
        "source": pc.fill_null(scans["source"], name),
        "population": pc.fill_null(population, KERMANY_POPULATION) if name == "kermany" else population,
        "age": scans["age_years"].cast(pa.string()),
        "sex": scans["sex"],
        "view": scans["view"],
    }
    return pa.table(columns).select(_COLUMNS)


def draw(class_N: Ints, group_N: Ints, num_test: int, val_share: float, rng: np.random.Generator) -> Draw:
    """Test scans by group, as many of each class; of the rest some to stop by.

    Args:
        class_N: Class index of each scan.
        group_N: Group number of each scan; rows in an order that every machine has.
        num_test: Test scans a class, exactly.
        val_share: Part of the other scans of each class to stop by.
        rng: Order of the groups.

    Raises:
        InputError: a class is too small.
    """
    num_classes = int(class_N.max()) + 1
    test = taken(class_N, group_N, np.full(num_classes, num_test), rng)
    rest = np.setdiff1d(np.arange(len(class_N)), test)
    quota_C = np.rint(val_share * np.bincount(class_N[rest], minlength=num_classes)).astype(np.int64)
    val = rest[_whole_groups(class_N[rest], group_N[rest], quota_C, rng)]
    return Draw(np.setdiff1d(rest, val), val, test)


def taken(class_N: Ints, group_N: Ints, quota_C: Ints, rng: np.random.Generator) -> Ints:
    """Rows of whole groups in random order, exactly `quota_C` of each class, sorted.

    Raises:
        InputError: the groups do not make up these numbers.
    """
    for _ in range(NUM_TRIES):  # an order may leave a place for one scan and patients with two
        rows = _whole_groups(class_N, group_N, quota_C, rng)
        count_C = np.bincount(class_N[rows], minlength=len(quota_C))
        if (count_C == quota_C).all():
            return rows
    raise InputError(
        f"too few scans: {quota_C.tolist()} of each class are wanted and whole patients make up "
        f"{count_C.tolist()} of {np.bincount(class_N, minlength=len(quota_C)).tolist()}",
        where="bench reference",
        fix="give larger pools",
    )


def _whole_groups(class_N: Ints, group_N: Ints, quota_C: Ints, rng: np.random.Generator) -> Ints:
    """Rows of groups in random order, each taken if it still fits; a group is never cut."""
    _, code_N = np.unique(group_N, return_inverse=True)
    num_groups, num_classes = int(code_N.max(initial=-1)) + 1, len(quota_C)
    size_GC = np.zeros((num_groups, num_classes), np.int64)
    np.add.at(size_GC, (code_N, class_N), 1)
    left_C = quota_C.copy()
    chosen_G = np.zeros(num_groups, np.bool_)
    for group in rng.permutation(num_groups):
        if (size_GC[group] <= left_C).all():
            chosen_G[group] = True
            left_C -= size_GC[group]
    return np.flatnonzero(chosen_G[code_N])
