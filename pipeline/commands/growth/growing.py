"""`cxr-ssl run --grow POOL`: other pools join a run before its stages go on."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.labels import verdicts
from pipeline.labels.classes import findings_of
from pipeline.pages.wording import plural
from pipeline.runtime import finding_folders, run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import auroc, record

log = logging.getLogger(__name__)


def check(folder: Path, pools: Sequence[str], *, resume: bool) -> None:
    """Refuse to grow what cannot grow, before anything is written.

    Raises:
        RunDirError: there is no run, or it has not read its own pool yet.
        InputError: `resume` is not set.
    """
    if not pools:
        return
    if not run_dir.is_run(folder):
        raise RunDirError(
            "there is no run to grow", where=folder, fix="name its folder with --out, or begin a run without --grow"
        )
    if not resume:
        raise InputError("goes on with a run that is there", where=record.OPTION, fix="add --resume")
    if not all((folder / table.file).exists() for table in (MANIFEST, SPLIT_TABLE)):
        raise RunDirError(
            "the run has not read its own pool yet, and cannot grow",
            where=folder,
            fix=f"let it begin first: cxr-ssl run --out {folder} --resume",
        )


def grow(ctx: StageContext, pools: Sequence[str], *, rounds_are_given: bool) -> Config:
    """Let pools join a run: their scans are read, and noted in `growth.json`. Also those of a try that was interrupted.

    Args:
        ctx: The run, whose folder is held.
        pools: Addresses.
        rounds_are_given: Whether the number of rounds was asked for; where it was not, a run that has drawn all its
            queues gets one round more.

    Returns:
        The configuration to go on with.

    Raises:
        InputError: see `joining.read`; the pool is then forgotten again.
    """
    begun = [part.pool for part in record.asked(ctx.folder) if not part.joined]
    for pool in dict.fromkeys([*begun, *(_address(pool) for pool in pools)]):
        _join(ctx, pool)
    part, num = record.last(ctx.folder), ctx.config.rounds.num
    if part is None or num >= part.first_queue:
        return ctx.config
    if rounds_are_given:
        log.warning("rounds.num is %d, and their queues are drawn: nothing of part %d is asked about", num, part.part)
        return ctx.config
    log.info("the queues of all %d rounds are drawn; one more asks about the grown pool (--rounds: otherwise)", num)
    rounds = ctx.config.rounds.model_copy(update={"num": part.first_queue})
    return ctx.config.model_copy(update={"rounds": rounds})


def _address(pool: str) -> str:
    """A local address whole, so that the folder it is given from does not matter."""
    path = Path(pool).expanduser()
    return str(path.absolute()) if path.exists() else pool


def _join(ctx: StageContext, pool: str) -> None:
    """Let one pool join, if it brings a scan that the run did not have."""
    from pipeline.pool.growth import joining  # reads pools; `status` looks at this module and answers at once

    open_part = next((part for part in record.asked(ctx.folder) if part.pool == pool and not part.joined), None)
    again = next((part for part in record.parts(ctx.folder) if part.pool == pool and _is_new(ctx.folder, part)), None)
    if again is not None and not _has_gained(ctx, again):
        log.info("%s has joined as part %d, and no round has learned from it yet: going on", pool, again.part)
        return
    part = open_part or record.begin(ctx.folder, pool)
    place = record.part_folder(ctx.folder, part.part)
    try:
        part = joining.read(ctx, part, findings_of(ctx))
    except Exception:  # whatever it was: a part that cannot be read must not keep the run from going on without it
        _forget(ctx.folder, part, place)
        raise
    if not part.num_new:
        _forget(ctx.folder, part, place)
        unusable = f", {part.num_unusable} are unusable" if part.num_unusable else ""
        log.warning(
            "nothing of %s is new: of %s the run has %d already%s; it stays as it is",
            pool,
            plural(part.num_scans, "scan"),
            part.num_already_there,
            unusable,
        )
        return
    record.join(ctx.folder, part)
    log.info(
        "part %d: %s of %s, %d of them new, %d already there, %d unusable",
        part.part,
        plural(part.num_scans, "scan"),
        pool,
        part.num_new,
        part.num_already_there,
        part.num_unusable,
    )


def _is_new(folder: Path, part: record.Part) -> bool:
    """Whether no round has been finished since a part joined: naming it again goes on with it."""
    return (run_files.last_round(folder) or 0) < part.first_queue


def _has_gained(ctx: StageContext, part: record.Part) -> bool:
    """Whether a pool lists scans that were not there when the part was read."""
    from pipeline.pool.growth import joining

    then = set(run_files.read(record.part_folder(ctx.folder, part.part), MANIFEST, ["path"])["path"].to_pylist())
    return not then.issuperset(joining.paths_listed(ctx.config, part.pool))


def _forget(folder: Path, part: record.Part, place: Path) -> None:
    record.forget(folder, part)
    shutil.rmtree(place, ignore_errors=True)


def standing(folder: Path, table: pa.Table) -> dict[str, Any] | None:
    """What `status` says of a run that has grown; None of another.

    Args:
        folder: The run.
        table: Its label table.

    Returns:
        {"parts": the rows of `growth.json` with "num_labels", "compared": [{"which","before","now",
        "difference","difference_ci95"}]}: expert answers about each part, and the AUROC of the model before
        and now on the holdout of before, the new one and both, with the interval of the difference; empty before there
        are two models. Of independent findings each row has its "finding".
    """
    parts = record.parts(folder)
    if not parts:
        return None
    answered = pa.array(sorted(verdicts.read_whole(table)), pa.string())
    part_A = record.part_of(folder, answered)
    rows = [asdict(part) | {"num_labels": int((part_A == part.part).sum())} for part in parts]
    findings = finding_folders.parts_in(folder)
    compared = [{"finding": f} | row for f, part in findings.items() for row in auroc.auroc_in(part)]
    return {"parts": rows, "compared": compared if findings else auroc.auroc_in(folder)}
