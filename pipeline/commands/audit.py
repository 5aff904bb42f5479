"""What `cxr-ssl audit` does: the audit of a pool in a folder of its own, or of a run in its folder."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.audit import stage
from pipeline.commands import request as commands_request
from pipeline.commands.request import Request
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.object_store import is_url, local_path
from pipeline.labels import classes
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.finding_folders import refuse_part
from pipeline.runtime.object_storage import session
from pipeline.runtime.progress import Progress
from pipeline.runtime.workplace import workplace
from pipeline.stages import READ, READ_WITHOUT_SPLIT

log = logging.getLogger(__name__)


def audit_pool(request: Request) -> dict[str, Any]:
    """Audit a pool, or the run in a folder; returns `audit.json` with {"out","report"}. Never raises for a verdict.

    Raises:
        InputError: the pool cannot be read, or the folder holds something else.
    """
    from pipeline.audit import overrides

    uri = str(request.overrides.get("pool.uri", ""))
    if is_url(uri) and session.holds_run(uri):
        uri = str(session.folder_of(uri))
    is_run = bool(uri) and run_dir.is_run(local_path(uri))
    out, config = _of_a_run(request, local_path(uri).absolute()) if is_run else _of_a_pool(request, uri)
    with workplace(config, out) as place, run_dir.locked(out, readable_by=config.privacy.readable_by):
        if not is_run:
            run_dir.write_config(out, config)
            place.record()
        overrides.add(out, list(request.accept))
        with Progress(quiet=request.quiet) as progress:
            ctx = StageContext(config, out, place.engine, progress)
            if not is_run:
                _read(ctx)
            classes.check_positive(ctx)
            _audit(ctx, is_run=is_run)
        result = stage.read(out) or {}
        if not is_run:
            run_dir.write_status(out, "blocked" if result["blocking"] else "done", "audit")
    return result | {"out": str(out), "report": str(out / run_files.AUDIT_PAGE)}


def _audit(ctx: StageContext, *, is_run: bool) -> None:
    from pipeline.per_finding import audit as audits
    from pipeline.per_finding import parts

    phase = stage.FINAL if is_run else stage.POOL
    if not ctx.config.pool.asks_several:
        stage.write(ctx.folder, stage.examine(ctx, phase))
        if is_run:
            stage.conclude(ctx)
        return
    stage.write(ctx.folder, audits.examine(ctx, phase))
    if is_run:
        for part in parts.parts_of(ctx).values():
            stage.conclude(part)
        audits.conclude(ctx)


def _of_a_run(request: Request, folder: Path) -> tuple[Path, Config]:
    if request.out is not None:
        raise InputError("a run is audited in its own folder", where="--out", fix="leave --out away")
    refuse_part(folder)
    options = {key: value for key, value in request.overrides.items() if key != "pool.uri"}
    return folder, commands_request.load_config(replace(request, overrides=options, resume=True, out=folder), folder)


def _of_a_pool(request: Request, uri: str) -> tuple[Path, Config]:
    """A folder for the audit of this pool alone, and its configuration, which no earlier audit has a part in."""
    out = (request.out or Path("runs") / f"audit-{commands_request.next_number('audit')}").absolute()
    run_dir.refuse_foreign(out)
    if run_dir.is_run(out):
        before = run_dir.config_of(out).pool.uri
        if run_files.has_rounds(out):
            raise RunDirError(
                "holds a run", where=out, fix=f"audit it with `cxr-ssl audit {out}`, or name another --out"
            )
        if not _same_pool(before, uri):
            raise RunDirError("holds the audit of another pool", value=before, where=out, fix="name another --out")
    return out, commands_request.load_config(replace(request, resume=False), out)


def _same_pool(uri: str, other: str) -> bool:
    return uri == other or local_path(uri).resolve() == local_path(other).resolve()


def _read(ctx: StageContext) -> None:
    """What an audit needs of a pool: its scans, copies, vectors, and a split if one can be drawn."""
    try:
        stages.run_stages(ctx, READ)
    except InputError as error:
        if error.where != "splits":
            raise
        log.warning("no split can be drawn, the audit goes on without one: %s", error.what)
        stages.run_stages(ctx, READ_WITHOUT_SPLIT)
