"""Reads a run of independent findings for its overview: its own files, and one folder after the other."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc

from pipeline.annotate import worklist
from pipeline.audit import page_data
from pipeline.contracts import config_file, finding_line
from pipeline.contracts.tables import LABELS, SPLIT_TABLE
from pipeline.labels import label_table, verdicts
from pipeline.report import gather
from pipeline.report.cautions import cautions
from pipeline.report.gather import Row
from pipeline.report.methods import adapted
from pipeline.report.model_card import model_card
from pipeline.report.overview.data import Overview, Part
from pipeline.runtime import run_files
from pipeline.runtime.growth import auroc
from pipeline.runtime.growth import record as growth


def read(folder: Path, folders: Mapping[str, Path]) -> Overview:
    """Read the run and, one after the other, its findings.

    Args:
        folder: The run directory.
        folders: Finding to the folder of its own.
    """
    table = LABELS.read(folder) if (folder / LABELS.file).is_file() else LABELS.empty()
    experts = table.filter(pc.equal(table["origin"], "expert"))["image_id"]
    read_ids = set(pc.unique(experts).to_pylist())
    train_ids = _train(folder)
    rounds = sorted(_lines(folder / run_files.METRICS), key=lambda row: row["round"])
    latest = (rounds[-1].get("findings") or {}) if rounds else {}
    seen = read_ids if train_ids is None else read_ids & train_ids
    text = (folder / run_files.RESOLVED).read_text("utf-8") if (folder / run_files.RESOLVED).is_file() else ""
    config = config_file.values_of(text)
    return Overview(
        folder=folder,
        parts=[_part(finding, place, latest.get(finding) or {}, seen) for finding, place in folders.items()],
        config=config,
        config_text=text,
        env=_json(folder / run_files.ENV),
        status=_json(folder / run_files.STATUS),
        rounds=rounds,
        stages=_json(folder / run_files.STAGES).get("stages", []),
        audit=page_data.read(folder) if (folder / run_files.AUDIT).is_file() else None,
        annotators=_json(folder / run_files.AGREEMENT),
        num_read=len(seen),
        asked=_asked(folder, oracle=bool(config.get("oracle"))),
        joined=[asdict(part) for part in growth.parts(folder)],
    )


def _part(finding: str, folder: Path, row: Row, read_ids: set[str]) -> Part:
    """One finding; its run is read, the little that is compared is kept, and the rest forgotten."""
    if not folder.is_dir():  # it was moved away, or copied without it
        return Part(finding, folder, row)
    run = gather.gather(folder)
    present, absent = _experts(folder, finding, read_ids)
    return Part(
        finding,
        folder,
        row,
        present=present,
        absent=absent,
        num_open=len(read_ids - present - absent),
        verdict=run.audit.verdict if run.audit else None,
        flow=run.flow,
        reference=run.reference,
        outlook=run.forecasts[-1] if run.forecasts else {},
        agreement=run.annotators.get("agreement") or {},
        backbone=run.backbone,
        cautions=tuple(cautions(run)),
        card=model_card(run),
        network=adapted(run),
        grown=auroc.auroc_in(folder),
    )


def _experts(folder: Path, finding: str, read_ids: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Scans of `read_ids` with the finding and without it, by the majority of the experts."""
    if not (folder / LABELS.file).is_file():
        return frozenset(), frozenset()
    absent, present = finding_line.question(finding)
    classes = verdicts.expert_classes(LABELS.read(folder), (absent, present))
    ids_of = {
        name: frozenset(i for i, c in classes.items() if c == name and i in read_ids) for name in (absent, present)
    }
    return ids_of[present], ids_of[absent]


def _train(folder: Path) -> set[str] | None:
    if not (folder / SPLIT_TABLE.file).is_file():
        return None
    table = run_files.read(folder, SPLIT_TABLE, ["image_id", "split"])
    return set(table.filter(pc.equal(table["split"], "train"))["image_id"].to_pylist())


def _asked(folder: Path, *, oracle: bool) -> tuple[int, int, int] | None:
    """The latest round with a queue, its scans, and those of them that still wait for an answer."""
    round_index = run_files.latest_round(folder)
    if round_index is None:
        return None
    answers = verdicts.answers(label_table.read(folder), run_files.asked(folder), round_index)
    open_work = worklist.open_worklist(folder, round_index, answers, oracle=oracle)
    return round_index, len(open_work.asks), len(open_work.open())


def _json(path: Path) -> Row:
    content: Row = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def _lines(path: Path) -> Iterable[Row]:
    return (json.loads(line) for line in path.read_text("utf-8").splitlines()) if path.is_file() else ()
