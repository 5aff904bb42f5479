"""What the rounds so far know of the pool: predictions of the last classifier, experts' classes, slices."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import MANIFEST, PREDICTIONS
from pipeline.labels import label_table, verdicts
from pipeline.labels.classes import findings_of
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.selection.pool import SelectionPool

# N scans of the training pool, C findings

log = logging.getLogger(__name__)


def knowledge_of(ctx: StageContext, round_index: int, pool: SelectionPool) -> SelectionPool:
    """The pool with what is known of it when a round's queue is drawn.

    Args:
        ctx: The stage's context.
        round_index: Of the queue, from 1; the predictions are those of the round before.
        pool: The training pool.
    """
    findings = findings_of(ctx)
    exclusive = not ctx.config.pool.asks_several
    return replace(
        pool,
        prob_NC=_predicted(ctx, round_index - 1, pool, findings),
        exclusive=exclusive,
        class_N=_classes(ctx, pool, findings) if exclusive else None,
        slice_N=_slices(ctx, pool),
        num_classes=max(len(findings), 2),
    )


def _predicted(
    ctx: StageContext, round_index: int, pool: SelectionPool, findings: tuple[str, ...]
) -> np.ndarray | None:
    """Probabilities (N, C) that a round left; None where it has no classifier."""
    folder = record.folder_before(ctx.folder, round_index + 1)
    if not (folder / PREDICTIONS.file).exists():
        return None
    table = PREDICTIONS.read(folder)
    position = pc.index_in(pa.array(pool.ids_N), value_set=table["image_id"].combine_chunks())
    if position.null_count:
        log.info("round %d predicted other scans; its probabilities are not used", round_index)
        return None
    table = table.take(position)
    return np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in findings]).astype(np.float64)


def _classes(ctx: StageContext, pool: SelectionPool, findings: tuple[str, ...]) -> np.ndarray:
    """Index of the class that experts gave (N,), -1 where none or none of these classes."""
    ids, class_L = verdicts.class_array(verdicts.expert_classes(label_table.read(ctx.folder), findings), findings)
    position = pc.index_in(pa.array(pool.ids_N), value_set=pa.array(ids, pa.string())).fill_null(-1).to_numpy()
    return np.where(position >= 0, np.append(class_L, -1)[position], -1).astype(np.int64)


def _slices(ctx: StageContext, pool: SelectionPool) -> np.ndarray | None:
    """Part of the pool each scan belongs to (N,), by a column of the manifest; None where there is but one."""
    name = ctx.config.strategy.slice_column
    manifest = run_files.read(ctx.folder, MANIFEST, ["image_id", name])
    position = pc.index_in(pa.array(pool.ids_N), value_set=manifest["image_id"].combine_chunks())
    value = manifest[name].take(position).combine_chunks().fill_null("unknown")
    parts = pc.dictionary_encode(value)
    return parts.indices.to_numpy().astype(np.int64) if len(parts.dictionary) > 1 else None
