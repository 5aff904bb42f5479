"""A run directory: whose it is, who works in it, how far it came."""

import datetime as dt
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import __version__, config_file, contracts
from pipeline.config import Config
from pipeline.errors import CxrSslError, RunBusy, RunDirError

log = logging.getLogger(__name__)
RESOLVED, STATUS, STAGES_FILE, LOCK = "resolved.yaml", "status.json", "stages.json", ".lock"
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
    return (folder / RESOLVED).is_file()


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ours, or refuse.

    Raises:
        RunDirError: when it holds something else, or a run and neither `resume` nor `overwrite` is set.
    """
    if not _inside(folder):
        return
    refuse_foreign(folder)
    if overwrite or (not resume and not _has_begun(folder)):
        _set_aside(folder)
    elif not resume:
        state = read_status(folder).get("state", "unknown")
        raise RunDirError(
            f"holds a run already (state: {state})",
            where=folder,
            fix="add --resume to go on with it, or --overwrite",
        )


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else, before anything in it is touched.

    Raises:
        RunDirError: when it is a file, or holds files but no run.
    """
    if folder.exists() and not folder.is_dir():
        raise RunDirError("is a file", where=folder, fix="name another folder with --out")
    inside = _inside(folder)
    if inside and not is_run(folder):
        raise RunDirError(
            f"holds something that is not a run ({', '.join(inside[:3])}{', …' if len(inside) > 3 else ''})",
            where=folder,
            fix="name an empty or new folder with --out; nothing was touched",
        )


def _inside(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.name != LOCK) if folder.exists() else []
    except OSError as error:
        raise RunDirError(f"cannot be read ({error.strerror})", where=folder, fix="check its permissions") from error


def _has_begun(folder: Path) -> bool:
    """Whether a stage has left anything: a run that failed before, for a mistyped pool say, is simply started again."""
    return bool(stage_records(folder)) or (folder / "labels.parquet").exists() or (folder / "rounds").exists()


def _may_hold_human_answers(folder: Path) -> bool:
    from pipeline import labels
    from pipeline.annotators import tables
    from pipeline.journal import Journal

    try:
        if Journal.open(folder).given or labels.human_answers(labels.read(folder)) > 0:
            return True
        queues = [*folder.glob("rounds/*/queue.csv"), *folder.glob("rounds/*/annotators/*/queue.csv")]
        return any(tables.is_filled(path.name, path.read_text("utf-8-sig", errors="replace")) for path in queues)
    except (CxrSslError, OSError):
        return True  # unreadable: who knows what somebody could still save from it


def _set_aside(folder: Path) -> None:
    """Empty the folder; a run with answers of people is moved, not deleted."""
    if _may_hold_human_answers(folder):
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
        kept = folder.with_name(f"{folder.name}.before-{stamp}")
        kept.mkdir()
        for path in [p for p in folder.iterdir() if p.name != LOCK]:
            path.rename(kept / path.name)
        log.warning("answers of people in %s were moved to %s", folder, kept)
        return
    for path in [p for p in folder.iterdir() if p.name != LOCK]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def locked(folder: Path, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the folder's lock; a second process is refused, a dead one's lock is free.

    Args:
        folder: Run directory.
        patience_seconds: How long to wait for it: the labelling page holds it for moments.

    Raises:
        RunBusy: when another process works in the folder.
        RunDirError: when it cannot be written, or is not ours.
    """
    from filelock import FileLock, Timeout

    refuse_foreign(folder)
    lock = FileLock(folder / LOCK, timeout=patience_seconds)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunBusy(
            "another process is working in this run",
            where=folder,
            fix="wait for it, or name another folder with --out",
        ) from None
    except OSError as error:
        raise RunDirError(
            f"cannot be written ({error.strerror})", where=folder, fix="check its permissions, or name another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_status(
    folder: Path,
    state: str,
    stage: str | None = None,
    round_index: int | None = None,
    message: str | None = None,
) -> None:
    """Write `status.json`: running, waiting, done, blocked or failed."""
    entry = {"state": state, "stage": stage, "round": round_index, "message": message, "updated": _now()}
    contracts.write_text(folder / STATUS, json.dumps(entry))


def read_status(folder: Path) -> dict[str, Any]:
    """What `status.json` says; empty when there is none."""
    return _read_json(folder / STATUS)


def write_config(folder: Path, resolved: Config) -> dict[str, bytes]:
    """Keep the configuration as given and as resolved, and what it ran on; returns the files of before."""
    names = (RESOLVED, "config.yaml")
    before = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    contracts.write_text(folder / RESOLVED, config_file.dump(resolved))  # first: it makes the folder a run
    contracts.write_text(folder / "config.yaml", config_file.dump(resolved, only_given=True))
    contracts.write_text(folder / "env.json", json.dumps(environment(), indent=1))
    return before


def has_config(folder: Path, resolved: Config) -> bool:
    """Whether the folder was last written with this very configuration."""
    path = folder / RESOLVED
    return path.is_file() and path.read_text("utf-8") == config_file.dump(resolved)


def restore_config(folder: Path, before: dict[str, bytes]) -> None:
    """Put back what `write_config` replaced."""
    for name, data in before.items():
        contracts.write_bytes(folder / name, data)


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
        "git": _git_revision(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
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


def stage_records(folder: Path) -> dict[str, dict[str, Any]]:
    """What each finished stage left: fingerprint, seconds, counts."""
    return {record["name"]: record for record in _read_json(folder / STAGES_FILE).get("stages", [])}


def record_stage(folder: Path, record: dict[str, Any]) -> None:
    """Add or replace the record of one stage."""
    records = stage_records(folder)
    records[record["name"]] = record
    contracts.write_text(folder / STAGES_FILE, json.dumps({"stages": list(records.values())}, indent=1))


def forget_stage(folder: Path, name: str) -> None:
    """Drop the record of a stage that is about to run."""
    records = stage_records(folder)
    if records.pop(name, None) is not None:
        contracts.write_text(folder / STAGES_FILE, json.dumps({"stages": list(records.values())}, indent=1))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RunDirError(f"is not JSON ({error})", where=path, fix="delete it and go on with --resume") from error
    return found


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _git_revision() -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
