"""What the commands do with a run: start, resume, plan, report."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import config_file, run_dir, stages, strategies
from pipeline.audit import overrides
from pipeline.audit.check import Override
from pipeline.config import Config
from pipeline.context import StageContext, cache_folder
from pipeline.engine import SerialEngine, make_engine
from pipeline.errors import AuditBlocked, CxrSslError, InputError, RunDirError, Stopped, WaitingForLabels
from pipeline.several.layout import refuse_part
from pipeline.tracking import Progress

log = logging.getLogger(__name__)
FIXED_ON_RESUME = ("seed", "oracle", "splits")
CRASH_LOG = "crash.log"


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        config_file: YAML, or None.
        overrides: Dotted options that win over the file.
        out: Run directory; None: `runs/NAME-1`, -2, ….
        resume: Go on with what is there.
        overwrite: Start again.
        quiet: No progress.
        stages: Only these; None: all.
        accept: Overrides of the audit, to be written down with the run.
    """

    config_file: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False
    stages: tuple[str, ...] | None = None
    accept: tuple[Override, ...] = ()


def execute(request: Request) -> dict[str, Any]:
    """Run the stages; returns {"out","state","metrics","stages","report"}.

    Raises:
        WaitingForLabels: when experts have to answer first.
    """
    out, config = prepared(request)
    engine = make_engine(config.engine)
    with run_dir.locked(out):
        run_dir.claim(out, resume=request.resume, overwrite=request.overwrite)
        before = run_dir.write_config(out, config)
        overrides.add(out, list(request.accept))
        with Progress(quiet=request.quiet) as progress, _state(out):
            try:
                records = stages.run_stages(StageContext(config, out, engine, progress), request.stages)
            except InputError:
                run_dir.restore_config(out, before)  # a mistyped option must not stick to the run
                raise
            finally:
                engine.close()
        run_dir.write_status(out, "done")
    return {
        "out": str(out),
        "state": "done",
        "metrics": read_metrics(out),
        "stages": {name: record["counts"] | {"seconds": record["seconds"]} for name, record in records.items()},
        "report": str(out / "report" / "index.html") if (out / "report" / "index.html").exists() else None,
    }


def dry_run(request: Request) -> dict[str, Any]:
    """What `execute` would do; writes nothing but the cache of generated pools."""
    from pipeline.pools import open_pool

    out, config = prepared(request)
    pool = open_pool(config.pool, cache_folder())
    num_labelled = len(pool.scans) - pool.scans["label"].null_count
    context = StageContext(config, out, SerialEngine())
    return {
        "out": str(out),
        "num_scans": len(pool.scans),
        "num_labelled": num_labelled,
        "stages": stages.plan(context),
    }


def rebuild_report(folder: Path) -> dict[str, Any]:
    """Write the report again from what is on disk."""
    config = config_of(folder)
    with run_dir.locked(folder):
        stages.function("report", config)(StageContext(config, folder, SerialEngine()))
    return {"report": str(folder / "report" / "index.html")}


def prepared(request: Request) -> tuple[Path, Config]:
    """Folder and configuration of a request, or what is wrong with it, before anything is written."""
    if request.resume and request.overwrite:
        raise InputError("--resume and --overwrite contradict each other", fix="give one of them")
    out = _out_folder(request)
    run_dir.refuse_foreign(out)
    refuse_part(out)
    config = load_config(request, out)
    strategies.get(config.strategy.name)
    return out, config


def load_config(request: Request, out: Path) -> Config:
    """The configuration of a request: on resume without --config that of the run, else the file, else quickstart."""
    path = request.config_file
    resolved = out / run_dir.RESOLVED
    if request.resume and resolved.exists():
        before = config_file.load(resolved)
        config = config_file.load(path or resolved, request.overrides)
        for name in FIXED_ON_RESUME if (out / "rounds").exists() else ():
            changed = _changed(getattr(before, name), getattr(config, name), name)
            if changed is not None:
                option, was, now = changed
                raise InputError(
                    f"cannot change on --resume, the run has {was}", value=now, where=option,
                    fix="name a new folder with --out",
                )  # fmt: skip
        return config
    if path is None and "pool.uri" not in request.overrides:
        path = quickstart()
    return config_file.load(path, request.overrides)


def _changed(before: Any, now: Any, name: str) -> tuple[str, str, Any] | None:
    """The first option that differs, what it was and what it is asked to be; a salt stays secret."""
    if before == now:
        return None
    if not hasattr(before, "model_dump"):
        return name, repr(before), now
    key, was = next((key, value) for key, value in before.model_dump().items() if getattr(now, key) != value)
    return (f"{name}.{key}", "another", "…") if key == "salt" else (f"{name}.{key}", repr(was), getattr(now, key))


def quickstart() -> Path:
    """The configuration of a run without --config and --pool."""
    return Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl`."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


@contextmanager
def _state(folder: Path) -> Iterator[None]:
    """Leave a true `status.json` whatever happens."""
    try:
        yield
    except (WaitingForLabels, AuditBlocked) as stop:
        state = "waiting" if isinstance(stop, WaitingForLabels) else "blocked"
        _write_status(folder, state, run_dir.read_status(folder), stop.what)
        raise
    except KeyboardInterrupt:
        _write_status(folder, "failed", run_dir.read_status(folder), "stopped by the user")
        raise Stopped("stopped", where=folder, fix="what is finished is kept; go on with --resume") from None
    except BaseException as error:
        with suppress(OSError):  # the disk may be full, and that is then what the user has to hear
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            _write_status(folder, "failed", run_dir.read_status(folder), message)
            if not isinstance(error, CxrSslError):
                (folder / CRASH_LOG).write_text(traceback.format_exc(), "utf-8")
                error.add_note(f"details in {folder / CRASH_LOG}")
        raise


def _write_status(folder: Path, state: str, before: dict[str, Any], message: str) -> None:
    run_dir.write_status(folder, state, before.get("stage"), before.get("round"), message)


def _out_folder(request: Request) -> Path:
    if request.out is not None:
        return request.out.absolute()
    name = (
        request.config_file.stem
        if request.config_file
        else "quickstart"
        if "pool.uri" not in request.overrides
        else "run"
    )
    number = next_number(name)
    if request.resume and number > 1:
        number -= 1
    return (Path("runs") / f"{name}-{number}").absolute()


def next_number(name: str) -> int:
    """The first number whose folder `runs/NAME-number` is free."""
    number = 1
    while (Path("runs") / f"{name}-{number}").exists():
        number += 1
    return number


def config_of(folder: Path) -> Config:
    """The resolved configuration of a run."""
    if not run_dir.is_run(folder):
        raise RunDirError("is not a run directory", where=folder, fix="give the folder that --out named")
    return config_file.load(folder / run_dir.RESOLVED)
