"""`cxr-ssl compare`: which runs are meant, what is said of them, and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.commands.comparison import options, pairs
from pipeline.commands.comparison.records import RunRecord, read_all
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.finding_folders import refuse_part

ENDING = ".html"


def compare(paths: Sequence[Path], out: Path | None) -> dict[str, Any]:
    """Compare runs, or tell the history of the runs in a folder.

    Args:
        paths: Two runs or more, of which the first is what the others are compared with; or one folder that holds runs.
        out: Page to write, `.html`; None: `runs/comparison-1.html`, -2, ….

    Returns:
        {"kind": "runs" or "history", "reference", "runs", "options", "pairs", "not_paired", "page"}: see
        `RunRecord.to_json`, `options.differing` and `pairs.against`. A history reads no holdout and has no pairs.

    Raises:
        InputError: there is nothing to compare, a folder is no run, or a run is named twice.
    """
    from pipeline.commands.comparison import page

    where = _place(out)
    is_history = len(paths) == 1 and not run_dir.is_run(paths[0])
    records = _history(paths[0]) if is_history else _runs(paths)
    reference = next((record for record in records if record.reason is None), None)
    made: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    if reference is not None and not is_history:
        made = pairs.against(reference, [record for record in records if record is not reference])
    result = {
        "kind": "history" if is_history else "runs",
        "reference": reference.name if reference is not None and not is_history else None,
        "runs": [record.to_json() for record in records],
        "options": options.differing(records),
        "pairs": made[0],
        "not_paired": made[1],
        "page": str(where),
    }
    write_text(where, page.html(records, result))
    return result


def _runs(paths: Sequence[Path]) -> list[RunRecord]:
    """The records of runs that were named one by one."""
    seen: dict[Path, Path] = {}
    for path in paths:
        run_dir.config_of(path)  # it is a run, and its options can be read
        refuse_part(path)
        real = path.resolve()
        if real in seen:
            raise InputError("is named twice", value=str(path), where="RUN", fix="name each run once")
        seen[real] = path
    if len(paths) < 2:
        raise InputError(
            "one run alone cannot be compared",
            value=str(paths[0]) if paths else None,
            where="RUN",
            fix="name another run too, or the folder that holds several: its history",
        )
    return read_all(paths)


def _history(folder: Path) -> list[RunRecord]:
    """The records of the runs that lie directly in a folder, the oldest first."""
    if not folder.is_dir():
        raise InputError("no such folder", value=str(folder), where="RUN", fix="name runs, or a folder that holds runs")
    inside = [folder / name for name in run_dir.names_inside(folder)]
    runs = [path for path in inside if run_dir.is_run(path)]
    if not runs:
        raise InputError(
            "is no run, and no run lies directly in it",
            value=str(folder),
            where="RUN",
            fix="name the folders that --out named, or the folder above them",
        )
    return sorted(read_all(runs), key=lambda record: (record.updated, record.name))


def _place(out: Path | None) -> Path:
    """Where the page goes.

    Raises:
        InputError: it is no page, or a folder.
    """
    if out is None:
        number = 1
        while (place := Path("runs") / f"comparison-{number}{ENDING}").exists():
            number += 1
        return place.absolute()
    if out.suffix.lower() != ENDING:
        raise InputError("is no page", value=str(out), where="--out", fix=f"name a file that ends in {ENDING}")
    if out.is_dir() or run_files.REPORT in out.absolute().as_posix():
        raise InputError("is taken", value=str(out), where="--out", fix="name another file")
    return out.absolute()
