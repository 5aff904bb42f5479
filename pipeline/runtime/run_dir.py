"""A run directory: whose it is, who works in it, how far it came."""

import datetime as dt
import hashlib
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.contracts import config_file, tables
from pipeline.contracts.config import Config
from pipeline.contracts.damaged_files import set_aside
from pipeline.contracts.errors import RunBusy, RunDirError
from pipeline.runtime import private_files, ray_job, run_files
from pipeline.runtime.object_storage import session
from pipeline.runtime.object_storage.working_copy import WorkingCopy
from pipeline.runtime.processes import alive

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 1.0
PACKAGES = (
    "ray",
    "torch",
    "torchvision",
    "timm",
    "lightly",
    "onnxruntime",
    "scikit-learn",
    "numpy",
    "pyarrow",
    "pandas",
)


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run of ours."""
    return (folder / run_files.RESOLVED).is_file()


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else, before anything in it is touched.

    Raises:
        RunDirError: when it is a file, or holds files but no run.
    """
    if folder.exists() and not folder.is_dir():
        raise RunDirError("is a file", where=folder, fix="name another folder with --out")
    inside = names_inside(folder)
    if inside and not is_run(folder):
        raise RunDirError(
            f"holds something that is not a run ({', '.join(inside[:3])}{', …' if len(inside) > 3 else ''})",
            where=folder,
            fix="name an empty or new folder with --out; nothing was touched",
        )


def names_inside(folder: Path) -> list[str]:
    """Names of what a folder holds, without the lock; empty where there is no folder.

    Raises:
        RunDirError: it cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir() if path.name != run_files.LOCK) if folder.exists() else []
    except OSError as error:
        raise RunDirError(f"cannot be read ({error.strerror})", where=folder, fix="check its permissions") from error


@contextmanager
def locked(folder: Path, patience_seconds: float = PATIENCE_SECONDS, readable_by: str | None = None) -> Iterator[None]:
    """Hold the folder's lock; a second process is refused, a dead one's lock is free.

    Of a run at a URL the lock there is held as well, and what was done is published in the end.

    Args:
        folder: Run directory.
        patience_seconds: How long to wait for it: the labelling page holds it for moments.
        readable_by: Who may read what is written meanwhile; None: what the run's options say.

    Raises:
        RunBusy: when another process works in the folder.
        RunDirError: when it cannot be written, or is not ours.
    """
    from filelock import FileLock, Timeout

    refuse_foreign(folder)
    lock = FileLock(folder / run_files.LOCK, timeout=patience_seconds)
    with ExitStack() as held:
        try:
            held.enter_context(private_files.readable_by(folder, readable_by))
            lock.acquire()
        except Timeout:
            raise RunBusy(
                "another process is working in this run",
                where=folder,
                fix="wait for it, or name another folder with --out",
            ) from None
        except OSError as error:
            raise RunDirError(
                f"cannot be written ({error.strerror})",
                where=folder,
                fix="check its permissions, or name another --out",
            ) from error
        held.callback(lock.release)
        held.enter_context(session.held(folder, patience_seconds))
        yield


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Publish what is written to a run at a URL; nothing needs to be held of a run of this machine."""
    if WorkingCopy.of(folder) is None:
        yield
        return
    with locked(folder):
        yield


def write_status(
    folder: Path,
    state: str,
    stage: str | None = None,
    round_index: int | None = None,
    message: str | None = None,
) -> None:
    """Write `status.json`: running, waiting, done, blocked, stopped or failed; and which process wrote it."""
    entry = {"state": state, "stage": stage, "round": round_index, "message": message, "updated": _now()}
    process = {"process": alive.this_process()}
    tables.write_text(run_files.path(folder, run_files.STATUS), json.dumps(entry | process))


def status_as_it_is(folder: Path) -> bytes | None:
    """The bytes of `status.json`, for `restore_status`; None: there is none."""
    path = run_files.path(folder, run_files.STATUS)
    return path.read_bytes() if path.exists() else None


def restore_status(folder: Path, before: bytes) -> None:
    """Put back what `status_as_it_is` read."""
    tables.write_bytes(run_files.path(folder, run_files.STATUS), before)


def read_status(folder: Path) -> dict[str, Any]:
    """What `status.json` says; empty when there is none.

    Of a run that says it is running and whose process is gone the state is `died`. Where nobody can know from here,
    because it runs on another machine or in another container, the message says so.
    """
    status = _read_json(run_files.path(folder, run_files.STATUS))
    process = status.get("process")
    if status.get("state") != "running" or not process:
        return status
    is_alive = alive.lives(process)
    if is_alive is None:
        hint = f"its process {process['pid']} is on {process['host']}: whether it lives cannot be known from here"
        return status | {"message": hint}
    if not is_alive:
        hint = "its process ended without a word: killed, or the machine went down; go on with --resume"
        return status | {"state": "died", "message": hint}
    return status


def write_config(folder: Path, resolved: Config) -> dict[str, bytes]:
    """Keep the configuration as given and as resolved, and what it ran on; returns the files of before.

    A secret among the options goes to `private/` alone; of a run of an older version before it is struck out here.
    """
    if resolved.splits.salt is not None and is_run(folder):
        private_files.salt_of(folder, resolved.splits.salt)
    names = (run_files.RESOLVED, run_files.CONFIG)
    before = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    tables.write_text(folder / run_files.RESOLVED, config_file.dump(resolved))  # first: it makes the folder a run
    if resolved.splits.salt is not None:
        private_files.salt_of(folder, resolved.splits.salt)
    tables.write_text(folder / run_files.CONFIG, config_file.dump(resolved, only_given=True))
    tables.write_text(folder / run_files.ENV, json.dumps(environment(), indent=1))
    return before


def add_to_environment(folder: Path, more: Mapping[str, Any]) -> None:
    """Add to what the run says of where it ran."""
    tables.write_text(folder / run_files.ENV, json.dumps(_read_json(folder / run_files.ENV) | dict(more), indent=1))


def has_config(folder: Path, resolved: Config) -> bool:
    """Whether the folder was last written with this very configuration."""
    path = folder / run_files.RESOLVED
    return path.is_file() and path.read_text("utf-8") == config_file.dump(resolved)


def restore_config(folder: Path, before: dict[str, bytes]) -> None:
    """Put back what `write_config` replaced."""
    for name, data in before.items():
        tables.write_bytes(folder / name, data)


def environment() -> dict[str, Any]:
    """Versions and machine, without importing any of the packages."""
    versions = {}
    for name in (*PACKAGES, "faiss-gpu", "faiss-cpu"):
        try:
            versions[name.replace("-", "_")] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cxr_ssl": __version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        **({"job": job} if (job := ray_job.job()) else {}),
        **versions,
    }


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hash of what a stage depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits; "absent" when there is none."""
    if not path.exists():
        return "absent"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def file_facts(path: Path) -> dict[str, Any] | None:
    """Size and hash of a file, which change with it; None when there is none."""
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)} if path.is_file() else None


def stage_records(folder: Path) -> dict[str, dict[str, Any]]:
    """What each finished stage left: fingerprint, seconds, counts, files; nothing where that cannot be read."""
    try:
        return _read_records(folder)
    except _DAMAGED as error:
        path = run_files.path(folder, run_files.STAGES)
        log.warning("%s is damaged, so no stage counts as finished: %s: %s", path, type(error).__name__, error)
        return {}


def record_stage(folder: Path, record: dict[str, Any]) -> None:
    """Add or replace the record of one stage."""
    _write_records(folder, _records_to_change(folder) | {record["name"]: record})


def forget_stage(folder: Path, name: str) -> None:
    """Drop the record of a stage that is about to run."""
    records = _records_to_change(folder)
    if records.pop(name, None) is not None:
        _write_records(folder, records)


_DAMAGED = (ValueError, KeyError, TypeError)


def _read_records(folder: Path) -> dict[str, dict[str, Any]]:
    path = run_files.path(folder, run_files.STAGES)
    if not path.exists():
        return {}
    return {record["name"]: record for record in json.loads(path.read_text("utf-8"))["stages"]}


def _records_to_change(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        return _read_records(folder)
    except _DAMAGED as error:
        set_aside(run_files.path(folder, run_files.STAGES), f"{type(error).__name__}: {error}")
        return {}


def _write_records(folder: Path, records: Mapping[str, Any]) -> None:
    text = json.dumps({"stages": list(records.values())}, indent=1)
    tables.write_text(run_files.path(folder, run_files.STAGES), text)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RunDirError(f"is not JSON ({error})", where=path, fix="delete it and go on with --resume") from error
    return content


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def git_revision() -> str | None:
    """Revision of the code, short; in a job that of what was sent with it, None where nobody knows."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ray_job.revision()
    return result.stdout.strip() or ray_job.revision()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl`."""
    path = folder / run_files.METRICS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def config_of(folder: Path) -> Config:
    """The resolved configuration of a run."""
    if not is_run(folder):
        raise RunDirError("is not a run directory", where=folder, fix="give the folder that --out named")
    path = folder / run_files.RESOLVED
    config = config_file.load(path)
    network, pseudo = config.network.model_fields_set, config.pseudo.model_fields_set
    if "open_scans" in network or not network or "propagate" not in pseudo:
        return config
    # Before this option a network learned from the open scans where labels were spread over them.
    return config_file.load(path, {"network.open_scans": float(config.pseudo.propagate > 0.0)})
