"""Read a pool that is to join a run, once, into a folder of its own, and say what of it is new."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import MANIFEST, POOL_LABELS
from pipeline.pool import manifest, splits, whites
from pipeline.pool.listing.chosen import NO_COLUMN
from pipeline.pool.sources import open_pool
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.runtime.growth.record import Part

log = logging.getLogger(__name__)
_SHOWN = 5  # names
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
    there = StageContext(_config_there(ctx, part.pool, findings), folder, ctx.engine, ctx.progress, failed=ctx.failed)
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
    return pa.concat_tables([run_files.read(place, MANIFEST, _COMPARED) for place in places])


def _config_there(ctx: StageContext, pool: str, findings: tuple[str, ...]) -> Config:
    """The run's configuration for a pool that joins: its white is the run's, its columns are the run's if they fit.

    Independent findings are the run's, also where its own pool's labels have named them.
    """
    more: dict[str, Any] = {"white": whites.of_run(ctx.folder, ctx.config.pool.white)}
    if ctx.config.pool.asks_several:
        more["findings"] = tuple(findings)
    return _fitting(ctx.config, pool, more)


def paths_listed(config: Config, pool: str) -> list[str]:
    """Paths of the scans that a pool lists, before any is opened."""
    paths: list[str] = open_pool(_fitting(config, pool, {}).pool, cache_folder()).scans["path"].to_pylist()
    return paths


def _fitting(config: Config, pool: str, more: Mapping[str, Any]) -> Config:
    """A configuration with another pool: its options, but for those that speak of a column which is not there.

    What is not applied is said. A condition that no scan meets, or a pattern of patients that matches none, is not such
    an option: all scans would join against the study's rule, or patients would stand on both sides.

    Raises:
        InputError: the pool cannot be read with the options that are left.
    """
    there = config.pool.model_copy(update={"uri": pool, "root": None, **more})
    while True:
        try:
            opened = open_pool(there, cache_folder())
            if opened.refusal is not None and config.pool.root is not None and there.root is None:
                below = there.model_copy(update={"root": config.pool.root})
                if open_pool(below, cache_folder()).refusal is None:
                    log.info("paths of %s begin in pool.root: below the table itself there is none of its scans", pool)
                    there = below
                    continue
        except InputError as error:
            option, without = _without_lacking(error, there)
            if option is None:
                raise
            log.warning("%s of the run is not applied to %s: %s", option, pool, error.what)
            there = without
            continue
        if config.pool.patient_regex and not there.patient_regex and opened.scans["patient_id"].null_count:
            raise InputError(
                f"matches no path of {pool}, and not every scan there has a patient in a column",
                value=config.pool.patient_regex,
                where="pool.patient_regex",
                fix="rename its files as the run's are, or give them in a table with a column for the patient",
            )
        break
    return config.model_copy(update={"pool": there})


def _without_lacking(error: InputError, asked: PoolConfig) -> tuple[str | None, PoolConfig]:
    """The option that speaks of what a pool does not have, if the error is of that kind, and the options without it."""
    where = str(error.where or "")
    if where.startswith("pool.where") and error.what == NO_COLUMN and error.value in asked.where:
        left = {name: written for name, written in asked.where.items() if name != error.value}
        return f"pool.where.{error.value}", asked.model_copy(update={"where": left})
    if asked.patient_regex and where == "pool.patient_regex":
        return "pool.patient_regex", asked.model_copy(update={"patient_regex": None})
    if asked.columns and "pool.columns" in f"{error.what} {error.fix}":
        return "pool.columns", asked.model_copy(update={"columns": {}})
    return None, asked


def _refuse_other_classes(label: pa.ChunkedArray, pool: str, findings: tuple[str, ...]) -> None:
    named = set(pc.unique(label).to_pylist()) - {None}
    if finding_line.are_independent(findings):  # a line may name others beside: nobody here asks for those
        named = {name for line in named for name in finding_line.named(line) or (line,)}
        if named & set(findings):
            _say_what_is_left_out(named - set(findings), pool)
            return
    stray = sorted(named - set(findings))
    if stray:
        shown = ", ".join(stray[:_SHOWN])
        raise InputError(
            f"{pool} names classes that the run does not have ({shown}); it has {', '.join(findings)}",
            value=stray[0],
            where=record.OPTION,
            fix="name its labels as the run does, or leave them blank; for other classes start a new run",
        )


def _say_what_is_left_out(names: set[str], pool: str) -> None:
    if names:
        told = ", ".join(sorted(names)[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        log.warning("%s names findings that the run does not ask for, and they are left out: %s", pool, told)


def _say_if_deeper(folder: Path, scans: pa.Table, pool: str) -> None:
    """Warn where scans hold values above every white that the run has decided on."""
    known = pc.unique(run_files.read(folder, MANIFEST, ["white"])["white"]).drop_null().to_pylist()
    count_by_white = pc.value_counts(scans["white"].drop_null()).to_pylist()
    deeper = {row["values"]: row["counts"] for row in count_by_white if row["values"] not in known}
    if known and deeper:
        log.warning(
            "%d scans of %s hold values above the run's white (%s): their own is kept, %s; the others are read with "
            "the run's",
            sum(deeper.values()),
            pool,
            ", ".join(map(str, sorted(known))),
            ", ".join(map(str, sorted(deeper))),
        )
