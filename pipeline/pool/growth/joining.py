"""Read a pool that is to join a run, once, into a folder of its own, and say what of it is new."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, POOL_LABELS
from pipeline.pool import manifest, splits, whites
from pipeline.pool.sources import open_pool
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.runtime.growth.record import Part

log = logging.getLogger(__name__)
_COMPARED = ("image_id", "sha256", "patient_id")


def read(ctx: StageContext, part: Part, findings: tuple[str, ...]) -> Part:
    """Read every scan of a part; nothing of the run itself is changed.

    Args:
        ctx: The run.
        part: As `record.begin` noted it.
        findings: The run's classes.

    Returns:
        The part with its counts; `num_new` 0: the run has every picture of it already.

    Raises:
        InputError: the pool cannot be read, or names classes that the run does not have.
    """
    folder = record.part_folder(ctx.folder, part.part)
    there = StageContext(_config_there(ctx, part.pool), folder, ctx.engine, ctx.progress, failed=ctx.failed)
    run_dir.write_config(folder, there.config)
    manifest.run(there)
    labels = POOL_LABELS.read(folder)
    _refuse_other_classes(labels["label"], part.pool, findings)
    if splits.uses_own_split(there.config.splits, labels["pool_split"]):
        splits.refuse_unknown_names(labels["pool_split"])
    scans = run_files.read(folder, MANIFEST)
    _say_if_deeper(ctx.folder, scans, part.pool)
    part = counted(_scans_so_far(ctx.folder), scans, part)
    if part.num_new and part.num_patients_shared:
        log.warning(
            "%d of the %d patients of %s are the run's already by their ids, and keep their side; where two hospitals "
            "count alike, give ids that differ (pool.patient_regex, or the table's column)",
            part.num_patients_shared,
            part.num_patients,
            part.pool,
        )
    return part


def counted(own: pa.Table, scans: pa.Table, part: Part) -> Part:
    """A part with how many of its scans the run had already.

    Args:
        own: The run's scans, with those of the parts before.
        scans: The part's.
        part: The part.
    """
    usable = pc.equal(scans["status"], "ok")
    has = pc.or_(*(pc.is_in(scans[name], value_set=own[name].combine_chunks()) for name in ("image_id", "sha256")))
    new = pc.and_(usable, pc.invert(has))
    num_new, num_there = (int(pc.sum(rows).as_py() or 0) for rows in (new, pc.and_(usable, has)))
    patients = pc.unique(scans["patient_id"]).drop_null()
    shared = pc.is_in(patients, value_set=pc.unique(own["patient_id"]).drop_null())
    return replace(
        part,
        num_scans=len(scans),
        num_new=num_new,
        num_already_there=num_there,
        num_unusable=int(pc.sum(pc.invert(usable)).as_py() or 0),
        num_patients=len(patients),
        num_patients_shared=int(pc.sum(shared).as_py() or 0),
    )


def _scans_so_far(folder: Path) -> pa.Table:
    """The run's scans and those of all parts that have joined, of which its manifest may not know yet.

    Columns image_id, sha256 and patient_id; a scan may come twice.
    """
    places = [folder, *(record.part_folder(folder, part.part) for part in record.parts(folder))]
    return pa.concat_tables([run_files.read(place, MANIFEST).select(_COMPARED) for place in places])


def _config_there(ctx: StageContext, pool: str) -> Config:
    """The run's configuration for a pool that joins: its white is the run's, its columns are the run's if they fit."""
    white = whites.of_run(ctx.folder, ctx.config.pool.white)
    return _fitting(ctx.config, pool, {"white": white})


def num_listed(config: Config, pool: str) -> int:
    """Scans that a pool lists, before any is opened."""
    return len(open_pool(_fitting(config, pool, {}).pool, cache_folder()).scans)


def _fitting(config: Config, pool: str, more: Mapping[str, Any]) -> Config:
    """A configuration with another pool: its options where they fit there.

    Raises:
        InputError: the pool cannot be read with them, nor without its column names, patients and conditions.
    """
    own = config.pool
    plain: dict[str, Any] = {"uri": pool, "root": None, **more}
    unmapped: dict[str, Any] = {"columns": {}, "patient_regex": None}
    attempts: tuple[Mapping[str, Any], ...] = ({}, unmapped, {**unmapped, "where": {}})
    first: InputError | None = None
    for attempt in attempts:
        there = own.model_copy(update={**plain, **attempt})
        try:
            open_pool(there, cache_folder())
        except InputError as error:
            first = first or error
            continue
        if "where" in attempt and own.where:
            log.warning("pool.where cannot be asked of %s, so all of its scans are taken", pool)
        return config.model_copy(update={"pool": there})
    assert first is not None
    raise first


def _refuse_other_classes(label: pa.ChunkedArray, pool: str, findings: tuple[str, ...]) -> None:
    stray = sorted(set(label.to_pylist()) - {None} - set(findings))
    if stray:
        raise InputError(
            f"{pool} names classes that the run does not have ({', '.join(stray[:5])}); it has {', '.join(findings)}",
            value=stray[0],
            where=record.OPTION,
            fix="name its labels as the run does, or leave them blank; for other classes start a new run",
        )


def _say_if_deeper(folder: Path, scans: pa.Table, pool: str) -> None:
    """Warn where scans hold values above every white that the run has decided on."""
    known = pc.unique(run_files.read(folder, MANIFEST)["white"]).drop_null().to_pylist()
    found = pc.value_counts(scans["white"].drop_null()).to_pylist()
    deeper = {row["values"]: row["counts"] for row in found if row["values"] not in known}
    if known and deeper:
        log.warning(
            "%d scans of %s hold values above the run's white (%s): their own is kept, %s; the others are read with "
            "the run's",
            sum(deeper.values()),
            pool,
            ", ".join(map(str, sorted(known))),
            ", ".join(map(str, sorted(deeper))),
        )
