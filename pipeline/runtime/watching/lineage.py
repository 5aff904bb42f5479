"""`lineage.jsonl`: an OpenLineage event, as one line of JSON, when a stage begins and when it ends.

Source: OpenLineage 2-0-2, RunEvent (https://openlineage.io/spec/2-0-2/OpenLineage.json), and the facets named below.
"""

import datetime as dt
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline import __version__
from pipeline.contracts.errors import AuditBlocked, WaitingForLabels
from pipeline.runtime import run_files

PRODUCER = f"urn:cxr-ssl:{__version__}"
_SPEC = "https://openlineage.io/spec"
SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
NAMESPACE = "cxr-ssl"
# A run that stops for its annotators or its audit has not failed, and has not done its work either.
_STOPS = (WaitingForLabels, AuditBlocked, KeyboardInterrupt)


@dataclass(frozen=True)
class Job:
    """One run of one stage.

    Attributes:
        folder: Run directory.
        stage: Name of the stage.
        inputs: Files it reads, and addresses such as the pool's.
        outputs: Files that it writes.
    """

    folder: Path
    stage: str
    inputs: Sequence[Path | str]
    outputs: Sequence[Path]


@contextmanager
def events(job: Job) -> Iterator[None]:
    """Write START now, and in the end COMPLETE, ABORT (it waits for people, or was stopped) or FAIL."""
    run = {"runId": str(uuid.uuid4())}
    _write(job, "START", run)
    try:
        yield
    except BaseException as error:
        failed = {"message": str(error).partition("\n")[0] or type(error).__name__, "programmingLanguage": "python"}
        facets = {"errorMessage": _facet("1-0-1", "ErrorMessageRunFacet", failed)}
        try:
            _write(job, "ABORT" if isinstance(error, _STOPS) else "FAIL", run | {"facets": facets})
        except OSError as second:  # the disk may be full, and that is then what the user has to hear
            error.add_note(f"{run_files.LINEAGE} could not be written either: {second.strerror}")
        raise
    _write(job, "COMPLETE", run)


def _write(job: Job, kind: str, run: dict[str, Any]) -> None:
    ends_well = kind == "COMPLETE"
    event = {
        "eventType": kind,
        "eventTime": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        "run": run,
        "job": {"namespace": NAMESPACE, "name": f"{job.folder.resolve().name}.{job.stage}"},
        "inputs": [_dataset(name) for name in job.inputs],
        "outputs": [_dataset(path) | (_size(path) if ends_well else {}) for path in job.outputs],
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    }
    line = json.dumps(event, ensure_ascii=False) + "\n"
    path = job.folder / run_files.LINEAGE
    with path.open("a+b") as stream:
        if stream.tell() and not _ends_in_newline(path):
            line = "\n" + line  # a process that died has left half a line
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _dataset(name: Path | str) -> dict[str, Any]:
    """By the naming of OpenLineage: `file` and a path, or a scheme with its authority, and the path there."""
    address = urlsplit(str(name))
    if isinstance(name, Path) or len(address.scheme) < 2:  # a drive's letter is no scheme
        return {"namespace": "file", "name": str(Path(name).absolute())}
    namespace = f"{address.scheme}://{address.hostname}" if address.hostname else address.scheme
    return {"namespace": namespace, "name": address.path.lstrip("/") or str(name)}


def _size(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    size = _facet("1-0-2", "OutputStatisticsOutputDatasetFacet", {"size": path.stat().st_size})
    return {"outputFacets": {"outputStatistics": size}}


def _facet(version: str, name: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}",
        **content,
    }
