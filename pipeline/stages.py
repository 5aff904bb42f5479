"""The stages of a run, in order. This list drives the CLI, resume, and the reading order in docs/.

A stage is reused when its fingerprint is the same (the options it reads, the fingerprint of the stage before, the
pool's content and the version of the code) and its files are those it left, by size and hash.
"""

import importlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings import backbones
from pipeline import __version__
from pipeline.contracts.config import Config
from pipeline.contracts.tables import CLUSTERS, DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE
from pipeline.labels.classes import check_labels
from pipeline.learn.network import adapter
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.runtime.object_storage import session
from pipeline.runtime.processes import stop_signals
from pipeline.runtime.watching import lineage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: As shown to users.
        module: Where `run(ctx) -> counts` lives; imported when the stage runs.
        reads: Sections of the configuration it depends on.
        outputs: Files that must be there for it to count as finished.
        always: Run it every time; it finds out itself what is done.
        purpose: One line for people.
        after: Stages whose files it reads; "pool" is the pool itself.
        of_several: The module for a run of independent findings, where that is another one.
        may_leave: Further files that it writes in some runs.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    outputs: tuple[str, ...]
    purpose: str
    after: tuple[str, ...]
    always: bool = False
    of_several: str | None = None
    may_leave: tuple[str, ...] = ()


STAGES: tuple[Stage, ...] = (
    Stage(
        "manifest",
        "pipeline.pool.manifest",
        ("pool", "splits"),
        (MANIFEST.file, POOL_LABELS.file),
        "one row a scan; broken scans are quarantined",
        ("pool",),
        always=True,
    ),
    Stage(
        "duplicates",
        "pipeline.pool.duplicates",
        ("duplicates",),
        (DUPLICATES.file,),
        "exact and near copies, patient groups",
        ("pool", "manifest"),
    ),
    Stage(
        "splits",
        "pipeline.pool.splits",
        ("splits",),
        (SPLIT_TABLE.file,),
        "training pool and sealed holdout, by group",
        ("manifest", "duplicates"),
    ),
    Stage(
        "pretrain",
        "pipeline.vectors.pretrain",
        ("pretrain", "backbone"),
        (run_files.PRETRAINING,),
        "the backbone learns from the training pool's scans, without labels; nothing for pretrain.epochs 0",
        ("pool", "manifest", "splits"),
        may_leave=tuple(f"{run_files.PRETRAINED}/{name}" for name in (backbones.CARD, backbones.WEIGHTS)),
    ),
    Stage(
        "embed",
        "pipeline.vectors.embed",
        ("backbone", "preprocess", "embed"),
        (run_files.EMBEDDINGS, run_files.EMBEDDED, run_files.BACKBONE, run_files.NOT_EMBEDDED),
        "scans to vectors, addressed by content",
        ("pool", "manifest", "splits", "pretrain"),
    ),
    Stage(
        "clusters",
        "pipeline.vectors.clusters",
        ("cluster", "train", "pseudo"),
        (CLUSTERS.file, run_files.FEATURES, run_files.BASIS, run_files.SIMILARITY),
        "k-means, features, the map; neighbours with pseudo.propagate",
        ("splits", "embed"),
        may_leave=(run_files.NEIGHBORS,),
    ),
    Stage(
        "audit",
        "pipeline.audit.stage",
        ("audit", "oracle"),
        (run_files.AUDIT,),
        "leaks, confounding, shortcuts, too little data: before labels are spent",
        ("pool", "manifest", "duplicates", "splits", "embed", "clusters"),
        of_several="pipeline.per_finding.audit",
    ),
    Stage(
        "reports",
        "pipeline.radiology_reports.stage",
        ("pool", "reports"),
        (),
        "radiology reports to labels of a tier of their own; nothing without pool.reports",
        ("pool", "manifest"),
        may_leave=(run_files.REPORT_LABELS, run_files.REPORTS_READ),
        always=True,
    ),
    Stage(
        "rounds",
        "pipeline.rounds.loop",
        (),
        (run_files.METRICS,),
        "queue, labels, training, pseudo-labels, evaluation",
        ("manifest", "duplicates", "splits", "embed", "clusters", "audit"),
        always=True,
        of_several="pipeline.per_finding.rounds",
    ),
    Stage(
        "reference",
        "pipeline.rounds.random_reference",
        ("rounds", "strategy", "queue", "train", "network", "calibrate", "pseudo", "evaluate", "oracle"),
        (),
        "random selection on the same budget",
        ("manifest", "duplicates", "splits", "embed", "clusters", "rounds"),
        of_several="pipeline.per_finding.random_reference",
    ),
    Stage(
        "evidence",
        "pipeline.evidence.stage",
        ("evaluate", "audit"),
        (run_files.AUDIT,),
        "the sealed holdout in detail; the audit's last word",
        ("manifest", "splits", "embed", "clusters", "audit", "rounds"),
        of_several="pipeline.per_finding.evidence",
    ),
    Stage(
        "report",
        "pipeline.report",
        (),
        (run_files.REPORT, run_files.MODEL_CARD),
        "the evidence on one page",
        ("pool", "manifest", "duplicates", "splits", "clusters", "audit", "rounds"),
        of_several="pipeline.per_finding.report",
    ),
)


# Labels, external tests and the command `report` write these again, long after their stage.
WRITTEN_AGAIN = frozenset({run_files.AUDIT, run_files.REPORT, run_files.MODEL_CARD})


def run_stages(ctx: StageContext, names: tuple[str, ...] | None = None) -> dict[str, dict[str, Any]]:
    """Run the stages in order, reusing what is finished; returns each stage's record."""
    records: dict[str, dict[str, Any]] = {}
    before = "start"
    for stage in STAGES:
        if names is not None and stage.name not in names:
            continue
        records[stage.name] = _run_one(ctx, stage, before)
        before = records[stage.name]["fingerprint"]
        if stage.name == "manifest" and names is None:
            check_labels(ctx)  # before hours of embedding
            adapter.check(ctx)
    return records


def plan(ctx: StageContext) -> list[dict[str, Any]]:
    """For `--dry-run`: each stage, whether it would be reused, and the counts it left last time."""
    records = run_dir.stage_records(ctx.folder)
    rows = []
    before, chain = "start", True
    for stage in STAGES:
        record = records.get(stage.name, {})
        expected = _fingerprint(ctx.config, stage, before, record.get("content"))
        chain = chain and record.get("fingerprint") == expected and not _not_as_left(ctx, stage, record)
        rows.append(
            {
                "stage": stage.name,
                "purpose": stage.purpose,
                "reuse": chain and not stage.always,
                "always": stage.always,
                "counts": record.get("counts", {}),
            }
        )
        before = record.get("fingerprint", expected)
    return rows


def _run_one(ctx: StageContext, stage: Stage, before: str) -> dict[str, Any]:
    record = run_dir.stage_records(ctx.folder).get(stage.name)
    expected = _fingerprint(ctx.config, stage, before, None)
    if not stage.always and record and record["fingerprint"] == expected:
        wrong = _not_as_left(ctx, stage, record)
        if not wrong:
            log.info("%s: finished before, kept", stage.name)
            return record
        log.warning("%s: done again, these files are not as it left them: %s", stage.name, ", ".join(wrong))
    stop_signals.check()
    run_dir.write_status(ctx.folder, "running", stage.name)
    run_dir.forget_stage(ctx.folder, stage.name)  # until it has finished, what it wrote counts for nothing
    start = time.perf_counter()
    with lineage.events(_lineage_of(ctx, stage)):
        counts = function(stage.name, ctx.config)(ctx)
    content = _content(ctx, stage)
    fresh = {
        "name": stage.name,
        "place": STAGES.index(stage),
        "fingerprint": _fingerprint(ctx.config, stage, before, content),
        "content": content,
        "seconds": round(time.perf_counter() - start, 3),
        "counts": counts,
        "files": {name: run_dir.file_facts(ctx.folder / name) for name in (*stage.outputs, *stage.may_leave)},
    }
    run_dir.record_stage(ctx.folder, fresh)
    session.publish(ctx.folder)
    if counts:  # a stage that a run has no need of says nothing
        counted = ", ".join(f"{k} {v}" for k, v in counts.items() if v is not None)
        log.info("%s: %s (%.1f s)", stage.name, counted, fresh["seconds"])
    return fresh


def _lineage_of(ctx: StageContext, stage: Stage) -> lineage.Job:
    """Which files a stage reads and writes; what a stage before may leave counts where it is there."""
    before = [earlier for earlier in STAGES if earlier.name in stage.after]
    may_read = (ctx.folder / name for earlier in before for name in earlier.may_leave)
    inputs: list[Path | str] = []
    if "pool" in stage.after:
        inputs = [ctx.config.pool.uri, *(part.pool for part in record.parts(ctx.folder))]
    inputs += [ctx.folder / name for earlier in before for name in earlier.outputs]
    return lineage.Job(
        ctx.folder,
        stage.name,
        [*inputs, *(path for path in may_read if path.exists())],
        [ctx.folder / name for name in (*stage.outputs, *stage.may_leave)],
    )


def _fingerprint(config: Config, stage: Stage, before: str, content: str | None) -> str:
    sections = {name: getattr(config, name) for name in stage.reads}
    plain = {name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in sections.items()}
    return run_dir.fingerprint(
        {
            "stage": stage.name,
            "config": plain,
            "seed": config.seed,
            "weights": _weights_hash(config) if "backbone" in stage.reads else None,
            "before": before,
            "content": content,
            "version": __version__,
        }
    )


def _content(ctx: StageContext, stage: Stage) -> str | None:
    """What an ever-running stage left; the others are determined by their inputs."""
    return "-".join(run_dir.file_hash(ctx.folder / name) for name in stage.outputs) if stage.always else None


def _weights_hash(config: Config) -> str | None:
    """A file of weights, or a pretrained backbone, may be replaced under the same name."""
    return "-".join(run_dir.file_hash(path) for path in backbones.files_of(config.backbone)) or None


def _not_as_left(ctx: StageContext, stage: Stage, record: Mapping[str, Any]) -> list[str]:
    """Files of a finished stage that are gone, cut off or changed since it wrote them."""
    left = record.get("files", {})
    wrong = [
        name
        for name in (*stage.outputs, *stage.may_leave)
        if name not in WRITTEN_AGAIN and (name not in left or run_dir.file_facts(ctx.folder / name) != left[name])
    ]
    again = (name for name in stage.outputs if name in WRITTEN_AGAIN)
    return [*wrong, *(name for name in again if not _has_its_end(ctx.folder / name))]


def _has_its_end(path: Path) -> bool:
    """Whether a text that others than its stage may have written again is there and not cut off."""
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json":
            json.loads(text)
    except (OSError, ValueError):
        return False
    return text.rstrip().endswith("</html>") if path.suffix == ".html" else bool(text)


def function(name: str, config: Config) -> Callable[[StageContext], dict[str, Any]]:
    """What a stage runs: of independent findings some run something else."""
    stage = next(stage for stage in STAGES if stage.name == name)
    module = stage.of_several if stage.of_several and config.pool.asks_several else stage.module
    stage_function: Callable[[StageContext], dict[str, Any]] = importlib.import_module(module).run
    return stage_function


READ = ("manifest", "duplicates", "splits", "embed", "clusters")

READ_WITHOUT_SPLIT = ("manifest", "duplicates", "embed")
