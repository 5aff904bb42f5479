"""The real tables of eight public sets, by our readers and torchxrayvision's loaders: counts, cells, time, memory."""

import json
import re
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sets import opening, registry
from pipeline.pool.sets.public_set import SetFolder
from pipeline.pool.sources import open_pool
from pipeline.tables.notes import Notes
from tests.bench import tables
from tests.support import public_sets

HEADER = (
    "set",
    "tables",
    "scans",
    "patients",
    "findings",
    "readings, readers",
    "uncertain",
    "cells compared",
    "the same",
    "unknown here alone",
    "otherwise different",
    "wall s",
    "CPU s",
    "MB",
)
NOTES = """\
Ours, and behind the stroke torchxrayvision 1.5.7's, with every view and every scan of a patient; – where it has none.
A cell is a scan and a finding that both have; findings that it joins from several of the owner's names are joined for
the comparison, present where one of them is. Time and memory are of a process that opens the set with all its scans
listed, `nih` from a folder of 112,120 (empty) files, the others from a list of names.

Why they differ:

- **padchest**: `unchanged`, `exclude` and `suboptimal study` speak of another picture or of none; what such a row does
  not name is unknown here and absent there. Eleven pictures that the owner marks `EXCLUDE` are left out here; 103 rows
  without labels, 21 files and children under ten there.
- **vinbig**: a finding is present here where two of three readers say so, there where any does; by that rule the cells
  are the same ({any_reader}).
- **openi**: the headings that coders gave are read here, those that a program found there; `Lesion` is no heading.
- **siim**: a row there is a mask, a scan here.
- **rsna**: `patientId` names a picture; there it counts as a person.
"""


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/public-sets.md`; `data` and `given` are not used: the tables come with a package."""
    if public_sets.DATA is None:
        raise SystemExit(public_sets.MISSING)
    rows: list[tuple[Any, ...]] = []
    any_reader = ""
    for name in public_sets.TABLES:
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary) / "set"
            folder = public_sets.folder_with(name, place)
            whole, peer = public_sets.ours(name, folder), public_sets.peers(name, place)
            if whole.readings is not None:
                of_any = public_sets.compared(name, whole, peer, public_sets.of_any_reader(whole))
                any_reader = f"{of_any['same']:,} of {of_any['cells']:,}"
            rows.append(_row(name, whole, peer, _measured(name, place, whole.file_N.to_pylist())))
    tables.write(
        "public-sets",
        "Twelve real tables of public sets",
        "python -m tests.bench sets",
        HEADER,
        rows,
        NOTES.format(any_reader=any_reader),
    )


def _row(name: str, whole: Any, peer: Any, measured: tuple[float, float, float]) -> tuple[Any, ...]:
    counts = public_sets.compared(name, whole, peer)
    patients = whole.about.get("patient_id")
    own_patients = f"{len(set(patients.to_pylist()) - {None}):,}" if patients is not None else "–"
    peer_patients = f"{len(set(peer.patient_N)):,}" if peer.patient_N is not None else "–"
    readings = "–"
    if whole.readings is not None:
        readings = f"{len(whole.readings.scan_R):,}, {len(set(whole.readings.reader_R.to_pylist()))}"
    differ = counts["present here"] + counts["present there"] + counts["unknown there"]
    return (
        name,
        len(public_sets.TABLES[name]),
        f"{len(whole.file_N):,} / {len(peer.file_N):,}",
        f"{own_patients} / {peer_patients}",
        f"{len(whole.findings)} / {len(peer.findings)}",
        readings,
        f"{whole.num_uncertain:,}",
        f"{counts['cells']:,}",
        f"{counts['same']:,}",
        f"{counts['unknown here']:,}",
        f"{differ:,}",
        *(f"{value:.1f}" for value in measured[:2]),
        f"{measured[2]:.0f}",
    )


def _measured(name: str, place: Path, files: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MB of a process that opens the whole set."""
    if name == "nih":
        images = place / "images"
        images.mkdir()
        for file in files:
            (images / file).touch()
    listed = place / "files.json"
    listed.write_text(json.dumps(None if name == "nih" else files))
    command = [sys.executable, "-c", "import sys; from tests.bench import sets; sets.measure(*sys.argv[1:])"]
    out = subprocess.run([*command, name, str(place), str(listed)], capture_output=True, text=True, check=True)
    wall, cpu, peak_mb = json.loads(out.stdout)
    return wall, cpu, peak_mb


def measure(name: str, place: str, listed: str) -> None:
    """Open a set and write seconds and peak memory, as JSON, to standard output; in a process of its own."""
    config = PoolConfig(uri=f"{name}:{place}", findings_are="independent")
    files = json.loads(Path(listed).read_text())
    Path(listed).unlink()
    wall, cpu = time.perf_counter(), time.process_time()
    if files is None:
        open_pool(config, Path(place))
    else:
        own = [path.name for path in Path(place).iterdir()]
        folder = SetFolder(place, (*own, *(f if f.endswith((".jpg", ".png")) else f"{f}.png" for f in files)))
        reader = registry.reader_of(name)
        assert reader is not None
        opening.opened(reader, folder, config, Notes(place))
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    status = Path("/proc/self/status").read_text()  # of this process alone, which getrusage is not
    peak_kb = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
    sys.stdout.write(json.dumps([*seconds, peak_kb / 1024]))
