"""What `cxr-ssl evaluate` does: of a run of independent findings the same, finding by finding."""

import json
import logging
from pathlib import Path
from typing import Any

from pipeline import report
from pipeline.commands.compare import compared
from pipeline.commands.external_test import external
from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.labels import decision_thresholds
from pipeline.per_finding import evidence
from pipeline.per_finding import report as report_of_findings
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.finding_folders import has_classifier, parts_in
from pipeline.runtime.progress import Progress
from pipeline.runtime.run_dir import config_of
from pipeline.runtime.threads import limited
from pipeline.runtime.workplace import workplace

log = logging.getLogger(__name__)


def evaluate(folder: Path, pool: str | None, against: Path | None, overrides: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a run; see `evaluate_run`.

    Returns:
        What that returns; of independent findings {"findings": {finding: what it returns}, "report"}, without
        those that have no classifier yet.

    Raises:
        InputError: the other run asks for other findings, or no finding can be evaluated.
    """
    parts = parts_in(folder)
    others = parts_in(against) if against is not None else {}
    if others and not parts:
        raise InputError(
            "is a run of independent findings, this one tells classes apart",
            where=str(against),
            fix=f"compare with one of its findings, such as {next(iter(others.values()))}",
        )
    if not parts:
        return evaluate_run(folder, pool, against, overrides)
    if against is not None and set(others) != set(parts):
        raise InputError(
            "the runs ask for other findings",
            value=", ".join(others) or "exclusive classes",
            where=str(against),
            fix=f"compare runs that ask for {', '.join(parts)}",
        )
    with run_dir.locked(folder):
        results, why = {}, None
        for finding, part in parts.items():
            if has_classifier(finding, part):
                try:
                    results[finding] = evaluate_run(part, pool, others.get(finding), overrides)
                except InputError as error:
                    why = error
                    log.warning("%s is left out: %s", finding, error)
        if why is not None and not results:
            raise why
        if not results:
            raise InputError(
                "no finding has a classifier yet", where=folder, fix="go on with `cxr-ssl run --out RUN --resume` first"
            )
        evidence.summarise(StageContext(config_of(folder), folder, SerialEngine()))
        page = report_of_findings.build(folder)
    return {"findings": results, "report": str(page)}


def evaluate_run(folder: Path, pool: str | None, against: Path | None, overrides: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a run: on its own holdout, on another pool, or beside another run.

    Args:
        folder: The run.
        pool: Another pool, or None.
        against: Another run, or None.
        overrides: Options for this evaluation, such as `evaluate.prevalences` or the other pool's `pool.columns`.

    Raises:
        InputError: no round is finished, the other run or pool cannot be compared with, or another class would be the
            finding.
    """
    _refuse_other_finding(folder, run_dir.config_of(folder), overrides)
    config = config_file.load(folder / run_files.RESOLVED, overrides)
    if run_files.last_round(folder) is None:
        raise InputError(
            "no round is finished yet", where=folder, fix="go on with `cxr-ssl run --out RUN --resume` first"
        )
    with run_dir.locked(folder), limited(config.engine.driver_threads):
        if pool is not None:
            with workplace(config, folder) as place, Progress(quiet=True) as progress:
                evaluation = external(StageContext(config, folder, place.engine, progress), pool, overrides)
        else:
            ctx = StageContext(config, folder, SerialEngine())
            evaluation = compared(ctx, against) if against is not None else _own(ctx)
        report.build(folder)
    return evaluation | {"report": str(folder / run_files.REPORT)}


def _refuse_other_finding(folder: Path, own: Config, overrides: dict[str, Any]) -> None:
    """Refuse another `pool.positive` than the rounds were scored with: one report would speak of two findings."""
    wanted = overrides.get("pool.positive")
    if wanted is not None and wanted != own.pool.positive:
        raise InputError(
            "cannot change here: the rounds were scored before, and the report shows both",
            value=wanted,
            where="pool.positive",
            fix=f"score them again: cxr-ssl run --out {folder} --resume --set 'pool.positive=\"{wanted}\"'",
        )


def _own(ctx: StageContext) -> dict[str, Any]:
    from pipeline.evidence import stage as evidence_stage

    evidence_stage.run(ctx)
    path = ctx.folder / run_files.EVALUATION
    if not path.exists():
        raise InputError(
            "no label of the holdout is known", where=ctx.folder, fix="import the labels the first queue asked for"
        )
    evaluation: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if ctx.config.evaluate.promise_error is not None:
        evaluation["act_or_defer"] = decision_thresholds.read(ctx.folder)
    return evaluation
