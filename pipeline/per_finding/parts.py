"""The folder of each finding: its configuration, projections of labels and queues."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.answers import CANNOT_TELL, REMARKS
from pipeline.contracts.tables import LABELS, POOL_LABELS, QUEUE, Contract, write_bytes, write_text
from pipeline.labels import label_table, verdicts
from pipeline.labels.classes import findings_of
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.finding_folders import FOLDER, INDEX, known_names


def parts_of(ctx: StageContext) -> dict[str, StageContext]:
    """The context of each finding's folder, made or brought up to date."""
    contexts = {}
    names = _names(findings_of(ctx), known_names(ctx.folder))
    for finding, name in names.items():
        pool = ctx.config.pool.model_copy(update={"finding": finding})
        config = ctx.config.model_copy(update={"pool": pool})
        part = replace(ctx, config=config, folder=ctx.folder / FOLDER / name, whole=ctx)
        part.folder.mkdir(parents=True, exist_ok=True)
        _unlink_shared(part.folder)
        if not run_dir.has_config(part.folder, config):
            run_dir.write_config(part.folder, config)
        _copy_environment(ctx.folder, part.folder)
        _write_pool_labels(ctx.folder, part.folder, finding)
        contexts[finding] = part
    rows = [{"finding": finding, "folder": part.folder.name} for finding, part in contexts.items()]
    index = {"findings": rows, "names": known_names(ctx.folder) | names}
    write_text(ctx.folder / FOLDER / INDEX, json.dumps(index, indent=1, ensure_ascii=False))
    return contexts


def project_labels(table: pa.Table, finding: str) -> pa.Table:
    """The expert rows of a label table as answers to the question of one finding.

    A person who left the finding open could not tell. A pool that says nothing of it says nothing, and so does a person
    who was not asked for it: no row.
    """
    rows = table.filter(pc.and_(pc.equal(table["origin"], "expert"), pc.equal(table["finding"], finding)))
    value = rows["value"].to_numpy().astype(np.float32)
    remark = np.asarray(pc.is_in(rows["reply"], value_set=pa.array(REMARKS)), dtype=bool)
    machine = np.asarray(pc.is_in(rows["annotator"], value_set=pa.array(verdicts.MACHINES)), dtype=bool)
    asked = pa.array(
        [r for r in pc.unique(rows["reply"]).to_pylist() if r in REMARKS or finding in finding_line.read(r)]
    )
    silent = machine | ~np.asarray(pc.is_in(rows["reply"], value_set=asked.cast(pa.string())), dtype=bool)
    keep = pa.array(~(silent & ~remark & np.isnan(value)))
    rows, value, remark = rows.filter(keep), value[np.asarray(keep)], remark[np.asarray(keep)]
    absent, present = finding_line.question(finding)
    named = np.where(np.isnan(value), CANNOT_TELL, np.where(value == 1.0, present, absent))
    reply = pc.if_else(pa.array(remark), rows["reply"], pa.array(named.astype(object), pa.string()))
    twice = _with(rows, LABELS, "reply", reply).take(pa.array(np.repeat(np.arange(len(rows)), 2)))
    names = pa.array([absent, present] * len(rows), pa.string())
    values = pa.array(np.stack([1.0 - value, value], axis=1).ravel().astype(np.float32))
    return _with(_with(twice, LABELS, "finding", names), LABELS, "value", values)


def disagreements(table: pa.Table, findings: Sequence[str]) -> list[str]:
    """Scans on some finding of which the annotators' latest answers are split evenly."""
    return sorted({i for finding in findings for i in verdicts.disagreements(project_labels(table, finding))})


def write_labels(part: Path, table: pa.Table, finding: str) -> None:
    """Bring a finding's label table up to date; its pseudo-labels stay until the next round is published."""
    before = label_table.read(part)
    pseudo = before.filter(pc.equal(before["origin"], "pseudo"))
    LABELS.write(part, pa.concat_tables([project_labels(table, finding), pseudo]).combine_chunks())


def write_queue(part_round: Path, queue: pa.Table, proposed: dict[str, str]) -> None:
    """A finding's copy of the run's queue, with its own proposals: they are frozen before anybody is asked."""
    column = pa.array([proposed.get(image_id) for image_id in queue["image_id"].to_pylist()], pa.string())
    part_round.mkdir(parents=True, exist_ok=True)
    QUEUE.write(part_round, _with(queue, QUEUE, "proposed", column))


def _write_pool_labels(folder: Path, part: Path, finding: str) -> None:
    table = POOL_LABELS.read(folder)
    lines = pc.unique(table["label"]).drop_null()
    classes = pa.array([finding_line.class_of(line, finding) for line in lines.to_pylist()], pa.string())
    label = classes.take(pc.index_in(table["label"], value_set=lines).combine_chunks())
    of_finding = _with(table, POOL_LABELS, "label", label)
    if not (part / POOL_LABELS.file).exists() or not POOL_LABELS.read(part).equals(of_finding):
        POOL_LABELS.write(part, of_finding)


def _with(table: pa.Table, contract: Contract, name: str, values: Any) -> pa.Table:
    """The table with other values in one column of its contract."""
    return table.set_column(table.column_names.index(name), contract.schema.field(name), values)


def _names(findings: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """A folder's name for each finding: letters, digits, dots, dashes; no two alike, and what was given stays given."""
    names = dict(known)
    for finding in findings:
        plain = re.sub(r"[^\w.-]+", "-", finding).strip("-.") or "finding"
        taken = {INDEX, *(name.casefold() for name in names.values())}
        name, number = plain, 2
        while name.casefold() in taken:
            name, number = f"{plain}-{number}", number + 1
        names.setdefault(finding, name)
    return {finding: names[finding] for finding in findings}


def _copy_environment(run: Path, part: Path) -> None:
    """Say of a finding what was said of its run: the version and machine that worked on it last."""
    now, before = run / run_files.ENV, part / run_files.ENV
    if now.exists() and not (before.exists() and now.read_bytes() == before.read_bytes()):
        write_bytes(before, now.read_bytes())


def _unlink_shared(part: Path) -> None:
    """Take away the links to the run's files that version 0.1 made here: `run_files` finds what they named."""
    for path in part.iterdir():
        if path.is_symlink() and path.name in run_files.SHARED:
            path.unlink()
