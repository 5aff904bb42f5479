"""What a run that has grown does before its next round: how its last model sees the new scans, and what a queue owes.

Shapes: N scans with a vector, C findings.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import MANIFEST, PREDICTIONS, SPLIT_TABLE
from pipeline.learn.classifier import Classifier
from pipeline.learn.network import predict_scans
from pipeline.rounds.round_outputs import predictions_table
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.selection import grown_parts
from pipeline.selection.pictures import pictures_of
from pipeline.vectors.matrix import Vectors

log = logging.getLogger(__name__)


def predict(runs: Sequence[tuple[StageContext, Dataset]]) -> None:
    """Let models of the last round before the run grew predict the grown pool, once: `grown/NN/predictions.parquet`.

    It is what the next round is compared with, and what the first queue knows of the new scans.

    Args:
        runs: The run and its scans; of independent findings each one's part of it. They are predicted in one pass, so
            that a network which findings share runs once.
    """
    asked = [(ctx, data, part) for ctx, data in runs if (part := _unasked(ctx, data)) is not None]
    models = [Classifier.load(ctx.round_folder(part.after_round) / run_files.MODEL) for ctx, _, part in asked]
    for (ctx, data, part), model, logit_NC in zip(asked, models, _logits(asked, models), strict=True):
        prob_NC = model.probabilities(logit_NC)
        named = [model.findings[c] for c in model.classes(prob_NC)]
        columns = dict(zip(model.findings, prob_NC.T, strict=True))
        place = record.before_folder(ctx.folder, part.part)
        PREDICTIONS.write(place, predictions_table(data, part.after_round, named, columns))
        log.info("round %d's model was asked about the %d scans of the grown pool", part.after_round, len(prob_NC))


def _unasked(ctx: StageContext, data: Dataset) -> record.Part | None:
    """The part that joined last, where a model from before has not predicted the pool yet."""
    part = record.last(ctx.folder)
    if part is None or not (ctx.round_folder(part.after_round) / PREDICTIONS.file).exists():
        return None
    return None if has_predicted(record.before_folder(ctx.folder, part.part), data) else part


def has_predicted(place: Path, data: Dataset) -> bool:
    """Whether a folder holds predictions of the pool as it is now, for each finding that is asked for now."""
    if not (place / PREDICTIONS.file).exists():
        return False
    table = PREDICTIONS.read(place)
    has_all = {f"prob_{finding}" for finding in data.findings} <= set(table.column_names)
    return has_all and bool(table["image_id"].to_pylist() == data.scans_N.image_id.to_pylist())


def _logits(asked: Sequence[tuple[StageContext, Dataset, Any]], models: Sequence[Classifier]) -> list[np.ndarray]:
    """Logits (N, C) of all scans by each model of an earlier round: heads see vectors, networks the scans."""
    networks = {str(i): model.model for i, model in enumerate(models) if isinstance(model.model, Path)}
    of_networks: dict[str, np.ndarray] = {}
    if networks:
        ctx, data, _ = asked[int(next(iter(networks)))]  # all parts have the scans of the run
        manifest = run_files.read(ctx.folder, MANIFEST, ["image_id", "uri"])
        row = pc.index_in(data.scans_N.image_id, value_set=manifest["image_id"].combine_chunks())
        of_networks = predict_scans.logits_of_all(ctx, networks, manifest["uri"].take(row).to_pylist())
    return [
        of_networks[str(i)]
        if str(i) in of_networks
        else model.logits(Vectors.open(asked[i][0].folder).emb_ND, engine=asked[i][0].engine)
        for i, model in enumerate(models)
    ]


def asking_parts(folder: Path, round_index: int) -> list[int]:
    """Parts whose holdout is asked for along with the queue of a round: the first that is drawn since they joined."""
    own = [record.OWN] if round_index == 1 else []
    return own + [part.part for part in record.parts(folder) if part.first_queue == round_index]


def owed(ctx: StageContext, answered: set[str], queue: pa.Table) -> list[dict[str, Any]]:
    """What `queue.json` says of each part of a run that has grown; nothing of a run that never has.

    Args:
        ctx: The run.
        answered: Scans that had an expert's answer before this queue.
        queue: As it was drawn.

    Returns:
        [{"part","num_scans","num_labels","share_of_pool","share_of_labels","num_missing","num_least_alike",
        "num_in_queue"}]: scans of the training pool and answers among them, before this queue; labels that the part
        lacks of its share once it is answered, a picture counted once, and no more than may be asked; of its scans in
        the queue those taken first, and all.
    """
    if not record.parts(ctx.folder):
        return []
    splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "split"])
    has_vector = Vectors.open(ctx.folder).has(splits["image_id"])
    ids = splits.filter(pc.and_(pc.equal(splits["split"], "train"), has_vector))["image_id"]
    part_T = record.part_of(ctx.folder, ids)
    labelled_T = np.asarray(pc.is_in(ids, value_set=pa.array(sorted(answered), pa.string())))
    asked_T = np.asarray(pc.is_in(ids, value_set=queue["image_id"].combine_chunks()))
    chosen = queue.filter(pc.equal(queue["kind"], "representative"))["image_id"].combine_chunks()
    chosen_T = np.asarray(pc.is_in(ids, value_set=chosen))
    missing_S = grown_parts.missing(part_T, pictures_of(ctx, ids, answered), ctx.config.queue.budget)
    rows = []
    for part, num_missing in enumerate(missing_S.tolist()):
        own_T = part_T == part
        num_chosen = int((chosen_T & own_T).sum())
        num_blind = int((asked_T & own_T).sum()) - num_chosen
        rows.append(
            {
                "part": part,
                "num_scans": int(own_T.sum()),
                "num_labels": int((labelled_T & own_T).sum()),
                "share_of_pool": float(own_T.mean()),
                "share_of_labels": float((labelled_T & own_T).sum() / max(labelled_T.sum(), 1)),
                "num_missing": num_missing,
                "num_least_alike": min(max(num_missing - num_blind, 0), num_chosen),
                "num_in_queue": int((asked_T & own_T).sum()),
            }
        )
    return rows
