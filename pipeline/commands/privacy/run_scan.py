"""Looks through everything that a run wrote for identifiers of its pool."""

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.commands.privacy import file_texts, identifiers
from pipeline.commands.privacy.identifiers import Identifiers
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.tables import MANIFEST
from pipeline.measures.agreement import COHEN, FLEISS, KRIPPENDORFF
from pipeline.pool.sources import open_pool
from pipeline.runtime import run_files
from pipeline.runtime.run_dir import config_of

_OWN_CONFIG = (run_files.CONFIG, run_files.RESOLVED)  # tell the user's own options, the pool's address among them
_PATHS = ("column uri", "column path")  # of the manifest: the one place where paths stand
_BROKEN = (OSError, ValueError, KeyError, RuntimeError, SyntaxError, zipfile.BadZipFile, pa.ArrowException)


def scan(folder: Path, terms_file: Path | None = None) -> dict[str, Any]:
    """Look for identifiers of a run's pool in the run.

    Args:
        folder: The run.
        terms_file: Further terms, one a line.

    Returns:
        {"ok", "num_files", "num_terms", "num_too_short", "found": [{"file","place","kind","count"}], "unreadable":
        [file]}: never the identifier itself.

    Raises:
        InputError: the pool cannot be opened any more, or the terms cannot be read.
        RunDirError: the folder is no run.
    """
    listed = [] if terms_file is None else identifiers.listed_in(terms_file)
    terms = identifiers.of_pool(open_pool(config_of(folder).pool, cache_folder()), listed)
    counts: Counter[tuple[str, str, str]] = Counter()
    unreadable = []
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_private(folder, path)]
    for path in files:
        name = str(path.relative_to(folder))
        try:
            of_file = _counts(name, path.read_bytes(), terms)
        except _BROKEN:
            unreadable.append(name)
            continue
        counts.update({(name, place, kind): number for (place, kind), number in of_file.items()})
    rows = [{"file": file, "place": place, "kind": kind, "count": n} for (file, place, kind), n in counts.items()]
    return {
        "ok": not rows and not unreadable,
        "num_files": len(files),
        "num_terms": len(terms.kind_of),
        "num_too_short": terms.num_too_short,
        "found": rows,
        "unreadable": unreadable,
    }


def _counts(name: str, data: bytes, terms: Identifiers) -> Counter[tuple[str, str]]:
    base = Path(name).name
    counts: Counter[tuple[str, str]] = Counter()
    for place, text in (("name of the file", name), *file_texts.texts_of(base, data)):
        if (base == MANIFEST.file and place in _PATHS) or (base in _OWN_CONFIG and _tells_an_address(text)):
            continue
        if base == run_files.AGREEMENT and text in (COHEN, FLEISS, KRIPPENDORFF):
            continue  # a measure that is called after somebody
        for kind, number in terms.count_in(text).items():
            counts[place, kind] += number
    return counts


def _tells_an_address(line: str) -> bool:
    return line.strip().startswith(("uri:", "site:", "weights:", "name:", "patient_regex:"))


def _is_private(folder: Path, path: Path) -> bool:
    return path.relative_to(folder).parts[0] == run_files.PRIVATE
