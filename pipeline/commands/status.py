"""Where a run stands: how far it came, what was asked and answered, by whom, and what it waits for."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.annotate import worklist
from pipeline.audit import stage as audit_stage
from pipeline.commands import release
from pipeline.commands.growth import growing
from pipeline.contracts import finding_line
from pipeline.contracts.config import Config
from pipeline.contracts.tables import SPLIT_TABLE
from pipeline.labels import agreement_report, class_counts, label_table, verdicts
from pipeline.labels.classes import findings_of
from pipeline.labels.journal import Journal
from pipeline.learn.stopping import record
from pipeline.per_finding import parts as per_finding_parts
from pipeline.runtime import finding_folders, run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.run_dir import config_of, read_metrics
from pipeline.runtime.watching import progress_file

NUM_BOOTSTRAP = 500


def status(folder: Path) -> dict[str, Any]:
    """How far a run came.

    Returns:
        {"state","stage","round","message","updated","progress","rounds","rounds_finished","num_expert",
        "num_disagreements","waiting","labels","labels_by_class","release","stop","growth","reports","audit"};
        `progress` is what a running run said last, see `progress_file`, None otherwise; `labels` tells of people's
        answers, see `of_labels`; `labels_by_class` of the classes, see `by_class`, of independent findings one a
        finding; `release` of what may be released, see `release.standing`; `stop` of what further labels would buy, see
        `when_to_stop`; `growth` of pools that joined, see `growing.standing`; `reports` of what radiology reports are
        good for, by blind checks; `audit` of its verdict, see `of_audit`.
    """
    config = config_of(folder)
    state = run_dir.read_status(folder)
    table = label_table.read(folder)
    label_counts = of_labels(folder, config)
    parts = finding_folders.parts_in(folder)
    disputed = per_finding_parts.disagreements(table, list(parts)) if parts else verdicts.disagreements(table)
    return state | {
        "progress": progress_file.read(folder) if state.get("state") == "running" else None,
        "rounds": config.rounds.num,
        "rounds_finished": len(read_metrics(folder)),
        "num_expert": len({image_id for image_id, _ in verdicts.latest(table)} | label_counts.pop("image_ids")),
        "num_disagreements": len(disputed),
        "waiting": _waiting(folder, state, label_counts),
        "labels": label_counts | _agreement(folder, table, config, parts),
        "labels_by_class": _by_class_of_each(table, parts) if parts else by_class(folder, table, config),
        "release": release.standing(folder, config),
        "stop": when_to_stop(folder, parts),
        "growth": growing.standing(folder, table),
        "reports": of_reports(folder, parts),
        "audit": of_audit(folder),
    }


def of_audit(folder: Path) -> dict[str, Any] | None:
    """{"verdict","blocks","accepted"}: what blocks, and whether somebody let the work go on; None: no audit."""
    audit = audit_stage.read(folder)
    if audit is None:
        return None
    blocks = [check for check in audit["checks"] if check["severity"] == "block"]
    return {
        "verdict": audit["verdict"],
        "blocks": [check["id"] for check in blocks],
        "accepted": bool(blocks) and all(check.get("accepted") for check in blocks),
    }


def of_reports(folder: Path, parts: dict[str, Path]) -> list[dict[str, Any]]:
    """What the last finished round learned of radiology reports, of independent findings of each; empty without any."""
    rows = []
    for own in parts.values() or (folder,):
        last = run_files.last_round(own)
        if last is not None:
            row = json.loads((run_files.round_folder(own, last) / run_files.ROW).read_text("utf-8"))
            rows += row.get("reports", [])
    return rows


def when_to_stop(folder: Path, parts: dict[str, Path]) -> dict[str, Any] | None:
    """What the last round says of further labels; None before a round has finished, or with `stop.advise` off.

    Returns:
        {"round","stop","by","why","forecast","stability"} of the last round, see `stopping.record`; of independent
        findings {"round","stop","findings"}: the same for each, and `stop` where all of them say so.
    """
    each = {finding: advised for finding, part in parts.items() if (advised := _advised(part)) is not None}
    if not parts:
        return _advised(folder)
    if not each:
        return None
    stop = len(each) == len(parts) and all(advised["stop"] for advised in each.values())
    return {"round": max(advised["round"] for advised in each.values()), "stop": stop, "findings": each}


def _advised(folder: Path) -> dict[str, Any] | None:
    latest = record.latest(folder)
    if latest is None:
        return None
    advised: dict[str, Any] = {"round": latest["round"]} | latest["advice"]
    return advised | {name: latest[name] for name in ("forecast", "stability")}


def _agreement(folder: Path, table: pa.Table, config: Config, parts: dict[str, Path]) -> dict[str, Any]:
    """`agreement`; of independent findings `agreement_of` each instead."""
    if not verdicts.human_answers(table):
        return {"agreement": None}
    if parts:
        each = {
            finding: agreement_report.agreement_of(
                part, per_finding_parts.project_labels(table, finding), finding_line.question(finding), NUM_BOOTSTRAP
            )
            for finding, part in parts.items()
        }
        return {"agreement": None, "agreement_of": each}
    findings = findings_of(StageContext(config, folder, SerialEngine()))
    return {"agreement": agreement_report.agreement_of(folder, table, findings, NUM_BOOTSTRAP)}


def _by_class_of_each(table: pa.Table, parts: dict[str, Path]) -> dict[str, Any]:
    return {
        finding: by_class(part, per_finding_parts.project_labels(table, finding), config_of(part))
        for finding, part in parts.items()
    }


def by_class(folder: Path, table: pa.Table, config: Config) -> dict[str, Any]:
    """Expert labels of the training pool by class: now, and as each finished round had them.

    Returns:
        {"now": {class: number}, "rounds": [{"round", "expert_by_class"}], "warnings"}; `now` is empty before there are
        splits; `warnings` has a sentence for each class that has too few labels now.
    """
    now: dict[str, int] = {}
    if run_files.path(folder, SPLIT_TABLE.file).exists():  # the classes are known, and which scans train
        now = class_counts.count_in(folder, table, findings_of(StageContext(config, folder, SerialEngine())))
    rounds = [{name: row.get(name) for name in ("round", "expert_by_class")} for row in read_metrics(folder)]
    return {"now": now, "rounds": rounds, "warnings": class_counts.warnings(now)}


def of_labels(folder: Path, config: Config) -> dict[str, Any]:
    """What people were asked and have answered.

    Returns:
        {"round","num_asked","asked_by_kind","num_open","num_readings_open","waits_for" of the latest queue;
        "annotators": [{"annotator","num_answers","num_round","num_rejected","num_unsure","seconds_per_scan"}];
        "image_ids" of all they answered}.
    """
    standing = Journal.open(folder).active()
    round_index = run_files.latest_round(folder)
    label_counts: dict[str, Any] = {
        "round": round_index,
        "num_asked": 0,
        "asked_by_kind": {},
        "num_open": 0,
        "num_readings_open": 0,
        "waits_for": "",
    }
    if round_index is not None:
        table = label_table.read(folder)
        table_answers = verdicts.answers(table, run_files.asked(folder), round_index)
        answers = [*table_answers, *(entry.answer for entry in standing)]
        open_work = worklist.open_worklist(folder, round_index, answers, oracle=config.oracle)
        label_counts |= {
            "num_asked": len(open_work.asks),
            "asked_by_kind": dict(Counter(ask.kind for ask in open_work.asks)),
            "num_open": len(open_work.open()),
            "num_readings_open": sum(open_work.missing(ask) for ask in open_work.open()),
            "waits_for": open_work.summary(),
        }
    label_counts["annotators"] = agreement_report.annotators(folder)
    label_counts["image_ids"] = {entry.answer.image_id for entry in standing}
    return label_counts


def _waiting(folder: Path, state: dict[str, Any], label_counts: dict[str, Any]) -> str | None:
    """What the run waits for now, labels given since its last stop taken into account."""
    if state.get("state") != "waiting":
        return state.get("message")
    if label_counts["waits_for"]:
        return f"{label_counts['waits_for']}\n{worklist.how_to_answer(folder, label_counts['round'])}"
    return f"every label is there: cxr-ssl run --out {folder} --resume"
