"""What the commands do with a run: start, resume, plan, report."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.audit import overrides
from pipeline.commands import claim
from pipeline.commands.growth import growing
from pipeline.commands.request import Request, prepared
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import AuditBlocked, CxrSslError, InputError, WaitingForLabels
from pipeline.contracts.tables import POOL_LABELS
from pipeline.evidence import site_adaptation
from pipeline.labels import classes
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.object_storage import session
from pipeline.runtime.processes import stop_signals
from pipeline.runtime.progress import Progress
from pipeline.runtime.run_dir import config_of, read_metrics
from pipeline.runtime.threads import limited
from pipeline.runtime.watching import trackers
from pipeline.runtime.workplace import workplace

log = logging.getLogger(__name__)


def execute(request: Request) -> dict[str, Any]:
    """Run the stages; returns {"out","state","metrics","stages","report"}.

    Raises:
        WaitingForLabels: when experts have to answer first.
        InputError: see `site_adaptation.check`.
    """
    out, config = prepared(request)
    growing.check(out, request.grow, resume=request.resume)
    site_adaptation.check(config)
    trackers.check(config)
    with workplace(config, out) as place, run_dir.locked(out, readable_by=config.privacy.readable_by):
        claim.claim(out, resume=request.resume, overwrite=request.overwrite)
        before = run_dir.write_config(out, config)
        place.record()
        overrides.add(out, list(request.accept))
        with (
            trackers.following(out, config),
            Progress(quiet=request.quiet, folder=out) as progress,
            _state(out) as state,
        ):
            publish_progress = session.publishing(out, progress)
            ctx = StageContext(config, out, place.engine, publish_progress, failed=progress.failed)
            try:
                ctx = _grown(_with_classes_checked(ctx, request), request, state)
                records = stages.run_stages(ctx, request.stages)
            except InputError:
                run_dir.restore_config(out, before)  # a mistyped option must not stick to the run
                raise
            stop_signals.check()
            place.engine.close()  # elsewhere `workplace` does, once the state is written
            run_dir.write_status(out, "done")
    return {
        "out": str(out),
        "state": "done",
        "metrics": read_metrics(out),
        "stages": {name: record["counts"] | {"seconds": record["seconds"]} for name, record in records.items()},
        "report": str(out / run_files.REPORT) if (out / run_files.REPORT).exists() else None,
    }


def _with_classes_checked(ctx: StageContext, request: Request) -> StageContext:
    """The run, so that a pool that names no classes is refused before its scans are read; later a stage looks at them.

    The pool is listed once: its list may take long, and what it says is looked at where it is listed for the manifest.
    """
    is_read = (ctx.folder / POOL_LABELS.file).exists()
    if is_read or request.stages is not None:
        return ctx
    return replace(ctx, listed=partial(classes.check_listed, ctx.config.pool))


def _grown(ctx: StageContext, request: Request, state: "_State") -> StageContext:
    """The run after the pools that were named have joined it; a pool that is refused leaves it as it was."""
    try:
        config = growing.grow(ctx, request.grow, rounds_are_given="rounds.num" in request.overrides)
    except CxrSslError:
        state.is_as_before = True
        raise
    if config is not ctx.config:
        run_dir.write_config(ctx.folder, config)
    return replace(ctx, config=config)


def dry_run(request: Request) -> dict[str, Any]:
    """What `execute` would do; writes nothing but the cache of generated pools."""
    from pipeline.pool.sources import open_pool

    out, config = prepared(request)
    growing.check(out, request.grow, resume=request.resume)
    pool = open_pool(config.pool, cache_folder())
    num_labelled = len(pool.scans) - pool.scans["label"].null_count
    context = StageContext(config, out, SerialEngine())
    return {
        "out": str(out),
        "num_scans": len(pool.scans),
        "num_labelled": num_labelled,
        "stages": stages.plan(context),
        **({"grow": _listed(config, request.grow)} if request.grow else {}),
    }


def _listed(config: Config, pools: tuple[str, ...]) -> list[dict[str, Any]]:
    """What would join, as far as it can be told without opening a scan."""
    from pipeline.pool.growth import joining

    return [{"pool": pool, "num_scans": len(joining.paths_listed(config, pool))} for pool in pools]


def rebuild_report(folder: Path) -> dict[str, Any]:
    """Write the report again from what is on disk."""
    config = config_of(folder)
    with limited(config.engine.driver_threads), run_dir.locked(folder):
        stages.function("report", config)(StageContext(config, folder, SerialEngine()))
    return {"report": str(folder / run_files.REPORT)}


@dataclass
class _State:
    """How the run that is held stands.

    Attributes:
        is_as_before: Whether what is refused has touched nothing of it.
    """

    is_as_before: bool = False


@contextmanager
def _state(folder: Path) -> Iterator[_State]:
    """Leave a true `status.json` whatever happens."""
    held, before = _State(), run_dir.status_as_it_is(folder)
    try:
        with stop_signals.as_it_was():
            yield held
    except (WaitingForLabels, AuditBlocked) as stop:
        state = "waiting" if isinstance(stop, WaitingForLabels) else "blocked"
        _write_status(folder, state, run_dir.read_status(folder), stop.what)
        raise
    except KeyboardInterrupt as stop:
        with stop_signals.held_back(), suppress(OSError):
            _write_status(folder, "stopped", run_dir.read_status(folder), stop_signals.in_words(stop))
        raise stop_signals.stopped(stop, where=folder, fix="what is finished is kept; go on with --resume") from None
    except BaseException as error:
        with (
            stop_signals.held_back(),
            suppress(OSError),
        ):  # the disk may be full, and that is then what the user has to hear
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            if held.is_as_before and before is not None:
                run_dir.restore_status(folder, before)
            else:
                _write_status(folder, "failed", run_dir.read_status(folder), message)
            if not isinstance(error, CxrSslError):
                (folder / run_files.CRASH_LOG).write_text(traceback.format_exc(), "utf-8")
                error.add_note(f"details in {folder / run_files.CRASH_LOG}")
        raise


def _write_status(folder: Path, state: str, before: dict[str, Any], message: str) -> None:
    run_dir.write_status(folder, state, before.get("stage"), before.get("round"), message)
