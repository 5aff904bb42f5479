"""Watch a folder that scans arrive in: each file is predicted once, when it has stopped growing.

What was done is a line in `watched.jsonl`, written after the scan's own files. So a watcher that was ended, however it
was, goes on where it stopped; a scan that was being done then is done again, with the same result. A file that cannot
be used is moved to `quarantine/` with the reason beside it. The smallest deployment: one process, no server.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.predict import columns, decisions, other_scans, predict_pool, predictor, scan_shard, writers
from pipeline.predict import recipe as recipe_of
from pipeline.predict.predict_pool import Beside
from pipeline.predict.recipe import Recipe
from pipeline.predict.scan_files import ScanFiles
from pipeline.predict.scan_shard import Shard
from pipeline.runtime import run_dir

log = logging.getLogger(__name__)
STATE, LOCK, ROWS, QUARANTINE = "watched.jsonl", "watch.lock", "rows", "quarantine"
POLL_SECONDS = 2.0
FILES_AT_ONCE = 16
_UNFINISHED = (".part", ".tmp", ".partial", ".crdownload", ".filepart")  # names that senders use while they write
_Stamp = tuple[int, int]


@dataclass
class Done:
    """What a watcher has done since it began.

    Attributes:
        num_predicted: Scans with a row.
        num_quarantined: Files that could not be used.
    """

    num_predicted: int = 0
    num_quarantined: int = 0


def open_outbox(out: str, inbox: Path) -> Path:
    """The folder that a watcher writes to: a new one, or one that a watcher has written to before.

    Raises:
        InputError: `out` does not end in /, holds something else, or lies in the folder that is watched or around it.
    """
    path = Path(out).absolute()
    if not out.endswith("/"):
        raise InputError("a watcher writes a folder", value=out, where="--out", fix="end it in /")
    if not inbox.is_dir():
        raise InputError("is no folder that can be watched", value=str(inbox), where="POOL", fix="name a folder")
    if path.is_relative_to(inbox.absolute()) or inbox.absolute().is_relative_to(path):
        raise InputError("lies in the folder that is watched, or around it", value=out, where="--out", fix="move it")
    if path.exists() and any(path.iterdir()) and not (path / STATE).exists():
        raise InputError("holds something else", value=out, where="--out", fix="name a new folder")
    path.mkdir(parents=True, exist_ok=True)
    (path / STATE).touch()
    return path


def prepared(run: Path, inbox: str, overrides: dict[str, Any], beside: Beside) -> tuple[Recipe, ScanFiles]:
    """How a watcher predicts, and what it writes beside the rows; the folders of that may be there already.

    Raises:
        InputError: see `predict_pool.predict`.
    """
    run_dir.config_of(run)  # it is a run
    how = recipe_of.of_run(run, other_scans.config_for(run, inbox, overrides))
    model = predict_pool.loaded(how)
    for folder in (beside.heat_maps, beside.dicom):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    rules = decisions.rules_of(how.questions)
    return how, predict_pool.scan_files(model, rules, beside.heat_maps, beside.dicom)


def watch(
    recipe: Recipe,
    files: ScanFiles,
    inbox: Path,
    outbox: Path,
    wait: Callable[[], bool],
) -> Done:
    """Predict what arrives until it is told to stop.

    Args:
        recipe: How.
        files: What is written beside the rows.
        inbox: The folder that is watched, with its folders.
        outbox: See `open_outbox`.
        wait: Waits for the next look; False: stop.
    """
    known, done = _known(outbox / STATE), Done()
    before: dict[str, _Stamp] = {}
    while True:
        now = dict(_arrived(inbox))
        still = [name for name, stamp in now.items() if before.get(name) == stamp and known.get(name) != stamp]
        for start in range(0, len(still), FILES_AT_ONCE):
            for name, row in _predicted(recipe, files, inbox, still[start : start + FILES_AT_ONCE]):
                _put_away(inbox, outbox, name, row, done)
                known[name] = now[name]
                _note(outbox / STATE, name, now[name], row)
        before = now
        if not wait():
            return done


def _arrived(inbox: Path) -> Iterator[tuple[str, _Stamp]]:
    """Files in the folder by their path in it, with size and time of the last change; links and hidden ones are not."""
    for place, folders, names in os.walk(inbox):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or name.lower().endswith(_UNFINISHED) or path.is_symlink():
                continue
            try:
                facts = path.stat()
            except OSError:
                continue  # it went away, or may not be looked at; it is looked for again
            yield path.relative_to(inbox).as_posix(), (facts.st_size, facts.st_mtime_ns)


def _predicted(recipe: Recipe, files: ScanFiles, inbox: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    uris = tuple(str((inbox / name).absolute()) for name in names)
    table = scan_shard.predict_shard(Shard(recipe, tuple(names), uris, files))
    yield from zip(
        names, decisions.decided(table, files.rules, predictor.load(recipe).findings).to_pylist(), strict=True
    )


def _put_away(inbox: Path, outbox: Path, name: str, row: dict[str, Any], done: Done) -> None:
    """Write the row of a scan; move a file that cannot be used to quarantine."""
    place = writers.sidecar_name(name, row["image_id"])
    if row["status"] == columns.OK:
        write_text(outbox / ROWS / place, json.dumps(row, ensure_ascii=False, indent=1))
        done.num_predicted += 1
        return
    log.warning("%s cannot be used: %s", name, row["reason"])
    write_text(outbox / QUARANTINE / place, json.dumps(row, ensure_ascii=False, indent=1))
    done.num_quarantined += 1
    target = outbox / QUARANTINE / place.removesuffix(".json")
    try:
        shutil.move(inbox / name, target)
    except OSError as error:
        log.warning("%s stays where it is: %s", name, error.strerror or error)


def _note(state: Path, name: str, stamp: _Stamp, row: dict[str, Any]) -> None:
    line = {"path": name, "bytes": stamp[0], "changed_ns": stamp[1], "status": row["status"], "sha256": row["sha256"]}
    with state.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _known(state: Path) -> dict[str, _Stamp]:
    """Files that are done; a last line that was cut off is left out, and its file is done again."""
    known: dict[str, _Stamp] = {}
    text = state.read_text("utf-8", errors="replace")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        write_text(state, text)
    for line in text.splitlines():
        entry = json.loads(line)
        known[entry["path"]] = entry["bytes"], entry["changed_ns"]
    return known
