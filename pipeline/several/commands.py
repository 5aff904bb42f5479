"""What `evaluate` and `export` do: of a run of independent findings the same, finding by finding."""

import logging
from pathlib import Path
from typing import Any

from pipeline import run_dir
from pipeline.appraisal import evaluate_run
from pipeline.context import StageContext
from pipeline.engine import SerialEngine
from pipeline.errors import InputError, RunDirError
from pipeline.export import export
from pipeline.runs import config_of
from pipeline.several import evaluation, layout, report

log = logging.getLogger(__name__)


def evaluate(folder: Path, pool: str | None, against: Path | None, overrides: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a run; see `appraisal.evaluate_run`.

    Returns:
        What that returns; of independent findings {"findings": {finding: what it returns}, "report"}, without
        those that have no classifier yet.

    Raises:
        InputError: the other run asks for other findings, or no finding can be evaluated.
    """
    parts = layout.parts_in(folder)
    if not parts and against is not None and layout.parts_in(against):
        raise InputError(
            "is a run of independent findings, this one tells classes apart", where=str(against),
            fix=f"compare with one of its findings, such as {next(iter(layout.parts_in(against).values()))}",
        )  # fmt: skip
    if not parts:
        return evaluate_run(folder, pool, against, overrides)
    others = layout.parts_in(against) if against is not None else {}
    if against is not None and set(others) != set(parts):
        raise InputError(
            "the runs ask for other findings", value=", ".join(others) or "exclusive classes", where=str(against),
            fix=f"compare runs that ask for {', '.join(parts)}",
        )  # fmt: skip
    with run_dir.locked(folder):
        found, why = {}, None
        for finding, part in parts.items():
            if _has_classifier(finding, part):
                try:
                    found[finding] = evaluate_run(part, pool, others.get(finding), overrides)
                except InputError as error:
                    why = error
                    log.warning("%s is left out: %s", finding, error)
        if why is not None and not found:
            raise why
        if not found:
            raise InputError(
                "no finding has a classifier yet", where=folder, fix="go on with `cxr-ssl run --resume` first"
            )
        evaluation.summarise(StageContext(config_of(folder), folder, SerialEngine()))
        page = report.build(folder)
    return {"findings": found, "report": str(page)}


def export_model(run: Path, out: Path) -> dict[str, Any]:
    """Write the classifier of a run, of independent findings each into a folder of its own; see `export.export`.

    Returns:
        What that returns; of independent findings {"out", "findings": {finding: what it returns}}.

    Raises:
        RunDirError: `out` is not empty, or no finding has a classifier yet.
    """
    if not layout.parts_in(run):
        return export(run, out)
    out = out.absolute()
    if out.exists() and any(out.iterdir()):
        raise RunDirError("the folder is not empty", value=str(out), where="--out", fix="name a new one")
    parts = {f: part for f, part in layout.parts_in(run).items() if _has_classifier(f, part)}
    if not parts:
        raise RunDirError("no finding has a classifier yet", where=run, fix="go on with `cxr-ssl run --resume` first")
    return {"out": str(out), "findings": {finding: export(part, out / part.name) for finding, part in parts.items()}}


def _has_classifier(finding: str, part: Path) -> bool:
    if (part / "predictions.parquet").exists():
        return True
    log.warning("%s has no classifier yet and is left out", finding)
    return False
