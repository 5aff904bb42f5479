"""A round on disk: predictions, pseudo-labels, the model, one row of metrics; and how it is published."""

import filecmp
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import PREDICTIONS, PSEUDO, copy_file, write_bytes, write_text
from pipeline.labels import label_table
from pipeline.labels.classes import positive_among
from pipeline.learn.classifier import Classifier, preprocessing
from pipeline.learn.heads.head import Head
from pipeline.learn.network.design import Trained
from pipeline.learn.rollback import Fall
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.self_training import Learned
from pipeline.rounds.pseudo_checks import flip_shares
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import principal_components

# After a roll-back these are those of the round before, whose model and pseudo-labels stay in force.
OF_THE_MODEL = (
    "learner",
    "pseudo_precision_estimated",
    "pseudo_left_out",
    "threshold_prob",
    "temperature",
    "prevalence",
    "operating_point",
)


def write_metrics(ctx: StageContext) -> int:
    """Write `metrics.jsonl`, one line a finished round; returns how many there are."""
    rows = run_files.finished_rows(ctx.folder, ctx.config.rounds.num)
    write_text(ctx.folder / run_files.METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def publish(ctx: StageContext, data: Dataset, round_index: int) -> None:
    """Make this round the run's latest: its predictions, and its pseudo-labels in the label store."""
    folder = ctx.round_folder(round_index)
    latest, own = ctx.folder / PREDICTIONS.file, folder / PREDICTIONS.file
    if not own.exists():
        latest.unlink(missing_ok=True)
    elif not latest.exists() or not filecmp.cmp(latest, own, shallow=False):
        copy_file(own, latest)
    pseudo = PSEUDO.read(folder) if (folder / PSEUDO.file).exists() else PSEUDO.empty()
    admitted = pseudo.filter(pseudo["admitted"])
    label_table.replace_pseudo(
        ctx.folder,
        admitted["image_id"],
        pc.index_in(admitted["finding"], value_set=pa.array(data.findings, pa.string())).to_numpy(),
        admitted["probability"].to_numpy(),
        data.findings,
        round_index,
    )


def save_model(ctx: StageContext, round_index: int, model: Classifier, learned: Learned, row: dict[str, Any]) -> None:
    """Write the round's classifier and its card into `model/`."""
    path = run_files.path(ctx.folder, run_files.BACKBONE)
    positive = positive_among(ctx.config.pool, model.findings)
    card = {name: row[name] for name in ("num_expert", "num_pseudo", "rolled_back")}
    card |= {
        "round": round_index,
        "learner": row["learner"],
        "positive": None if positive is None else model.findings[positive],
        "backbone": json.loads(path.read_text("utf-8")) if path.exists() else None,
        "preprocessing": preprocessing(ctx.config),
    }
    folder = ctx.round_folder(round_index) / run_files.MODEL
    if row["rolled_back"]:
        before = ctx.round_folder(round_index - 1) / run_files.MODEL
        for name in (run_files.MODEL_WEIGHTS, run_files.MODEL_ONNX):
            write_bytes(folder / name, (before / name).read_bytes())
        write_text(folder / run_files.CARD, json.dumps(json.loads((before / run_files.CARD).read_text("utf-8")) | card))
    else:
        model.save(folder, card, principal_components.load_basis(ctx.folder))
    curves = {"teacher": _curves(learned.teacher), "student": _curves(learned.student)}
    if learned.curves is not None:
        curves["network"] = {
            "loss": learned.curves.trace,
            "val_loss": None,
            "epoch_val_loss": learned.curves.val or None,
        }
    write_text(folder / run_files.TRAINING, json.dumps(curves))


def _curves(model: Head | Trained) -> dict[str, Any]:
    return {"loss": model.loss, "val_loss": model.val_loss or None} if isinstance(model, Head) else {}


def pseudo_row(ctx: StageContext, data: Dataset, round_index: int, learned: Learned) -> dict[str, Any]:
    """The fields of a round's row that speak of its pseudo-labels and of the model in use."""
    pseudo, acceptance = PSEUDO.read(ctx.round_folder(round_index)), learned.acceptance
    admitted = pseudo.filter(pseudo["admitted"])
    return {
        "learner": learned.learner,
        "network_gain": learned.network_gain,
        "network_worse": None if learned.network_gain is None else _by_measure(learned.network_worse),
        "network_findings": list(learned.network_questions) or None,
        "num_pseudo": len(admitted),
        "num_accepted": int(pc.sum(pc.equal(pseudo["decision"], "accept")).as_py() or 0),
        "pseudo_share": len(admitted) / max(len(pseudo), 1),
        "pseudo_precision": _realised(ctx, data, admitted),
        "pseudo_precision_estimated": acceptance.precision_estimated,
        "pseudo_left_out": learned.decisions.left_out,
        "threshold_prob": {f: float(t) for f, t in zip(data.findings, acceptance.threshold_C, strict=True)},
        "temperature": learned.temperature,
        "prevalence": {f: float(p) for f, p in zip(data.findings, acceptance.prevalence_C, strict=True)},
        "operating_point": learned.operating_point.kind,
    }


def _realised(ctx: StageContext, data: Dataset, admitted: pa.Table) -> float | None:
    """Share of pseudo-labels that agree with the pool's own labels; only an oracle run knows."""
    if not ctx.config.oracle or len(admitted) == 0:
        return None
    position = pc.index_in(admitted["image_id"], value_set=data.pool_labels["image_id"].combine_chunks())
    agree = pc.mean(pc.equal(data.pool_labels["label"].take(position), admitted["finding"])).as_py()
    return None if agree is None else float(agree)


def _by_measure(falls: Sequence[Fall]) -> dict[str, float]:
    return {fall.measure: fall.amount for fall in falls}


def flip_rates(before: Path, data: Dataset, predicted_N: np.ndarray) -> dict[str, Any]:
    """`flip_rate`, the share of the training pool whose class changed since the round before, and by that class."""
    if not (before / PREDICTIONS.file).exists():
        return dict.fromkeys(("flip_rate", "flip_rate_by_class"))
    rows_T = data.scans_N.positions(data.pool_T)
    before_T, now_T = predictions(before, data)[1][rows_T], predicted_N[rows_T]
    return {
        "flip_rate": float((before_T != now_T).mean()),
        "flip_rate_by_class": flip_shares(before_T, now_T, data.findings),
    }


def predictions(folder: Path, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) and classes (N,) a round has left, in the order of the run's scans."""
    table = PREDICTIONS.read(folder)
    table = table.take(ScanRows.of(table["image_id"]).positions(data.scans_N))
    prob_NC = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in data.findings])
    index = pc.index_in(table["predicted"], value_set=pa.array(data.findings, pa.string()))
    return prob_NC.astype(np.float64), np.asarray(index.to_numpy(), np.int64)


def write_predictions(
    ctx: StageContext, data: Dataset, round_index: int, predicted_N: Sequence[str], prob_N: Mapping[str, np.ndarray]
) -> None:
    """Write a round's `predictions.parquet`.

    Args:
        ctx: The stage's context.
        data: The run's scans; the arrays lie along `scans_N`.
        round_index: From 1.
        predicted_N: Class of each scan, or its line of findings.
        prob_N: Probability of each finding, 0 to 1; NaN: it has no classifier yet.
    """
    PREDICTIONS.write(ctx.round_folder(round_index), predictions_table(data, round_index, predicted_N, prob_N))


def predictions_table(
    data: Dataset, round_index: int, predicted_N: Sequence[str] | pa.Array, prob_N: Mapping[str, np.ndarray]
) -> pa.Table:
    """Predictions of the run's scans as rows of the contract; see `write_predictions`."""
    ids_N = data.scans_N.image_id
    table = pa.table(
        {
            "image_id": ids_N,
            "split": data.sides(data.scans_N),
            "round": np.full(len(ids_N), round_index, np.int32),
            "predicted": predicted_N,
        },
        schema=PREDICTIONS.schema,
    )
    for finding, values_N in prob_N.items():
        table = table.append_column(f"prob_{finding}", pa.array(values_N.astype(np.float32)))
    return table


def nothing_learned(findings: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a round's row without a classifier: null, or zero for counts."""
    empty: dict[str, Any] = dict.fromkeys(
        (
            "pseudo_precision",
            "pseudo_precision_estimated",
            "temperature",
            "network_gain",
            "network_worse",
            "network_findings",
            "calibration_auroc",
            "flip_rate",
            "flip_rate_by_class",
            "pseudo_flips",
            "pseudo_left_out",
            "second_opinion",
            "holdout",
            "operating_point",
        )
    )
    return empty | {
        "num_pseudo": 0,
        "num_accepted": 0,
        "pseudo_share": 0.0,
        "rolled_back": False,
        "threshold_prob": dict.fromkeys(findings),
        "prevalence": dict.fromkeys(findings),
    }
