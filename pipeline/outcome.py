"""What a round leaves: a classifier, pseudo-labels, predictions and one row of metrics."""

import json
import logging
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import audit, evaluate, features, labels, pseudo, queues, rollback, selftrain
from pipeline.adapt import Adapter
from pipeline.certify import Certificate
from pipeline.context import StageContext
from pipeline.contracts import POOL_LABELS, PREDICTIONS, PSEUDO, QUEUE, write_bytes, write_text
from pipeline.dataset import Dataset
from pipeline.models import Classifier, preprocessing
from pipeline.network import Trained
from pipeline.readings import Heard
from pipeline.selftrain import Learned
from pipeline.several.layout import whole_of
from pipeline.train import Head

# N scans with a vector, E expert-labelled, C findings

log = logging.getLogger(__name__)
# After a roll-back these are those of the round before, whose model and pseudo-labels stay in force.
OF_THE_MODEL = (
    "learner", "pseudo_precision_estimated", "threshold_prob", "temperature", "prevalence", "operating_point",
)  # fmt: skip


def learn_round(
    ctx: StageContext,
    data: Dataset,
    round_index: int,
    heard: Heard,
    clock: dict[str, float],
) -> dict[str, Any]:
    """Learn from the answers so far, write the round's files, and return its row of metrics.

    Args:
        ctx: The stage's context.
        data: The run's scans.
        round_index: From 1.
        heard: What experts have said up to this round.
        clock: Seconds of each step are added here.
    """
    folder, config = ctx.round_folder(round_index), ctx.config
    material, ids = data.material(heard, _uniform(ctx, round_index))
    certificates = pseudo.certificates(
        ctx.folder, heard.answers, data.findings, config.pseudo, round_index, config.rounds.num, data.group
    )
    row: dict[str, Any] = {
        "num_expert": len(material.expert_E),
        "gate": config.pseudo.gate,
        "certificates": {name: asdict(found) for name, found in certificates.items()},
        "pseudo_precision_certified": certified_bound(certificates),
    }
    reason = cannot_learn(material.class_E, material.group_E)
    if reason:
        log.warning("round %d: no classifier yet, %s", round_index, reason)
        for stale in ("pseudo.parquet", "predictions.parquet", rollback.OOF):
            (folder / stale).unlink(missing_ok=True)
        shutil.rmtree(folder / "model", ignore_errors=True)
        return row | _nothing_learned(data.findings)
    with timed(clock, "audit"):
        audit.recheck(ctx)
    admitted = pseudo.open_classes(config.pseudo.gate, data.findings, certificates)
    with timed(clock, "train"):
        rng = ctx.rng("learn", round_index)
        adapter = adapter_of(ctx, data, round_index, heard.answers, folder)
        learned = selftrain.learn(material, config, ctx.engine, len(data.findings), admitted, rng, adapter)
        model = classifier(ctx, data, learned)
        oof_prob_EC = model.probabilities(learned.oof_logit_EC)
    before = ctx.round_folder(round_index - 1)
    with timed(clock, "pseudo"):
        rolled_back = rollback.is_worse(
            before, ids, oof_prob_EC, material.class_E, list(material.group_E), data.findings,
            config.pseudo.rollback_auroc, ctx.rng("rollback", round_index),
        )  # fmt: skip
        if rolled_back:
            rollback.carry_over(
                before, folder, ids, [f for f, open_ in zip(data.findings, admitted, strict=True) if open_]
            )
        else:
            rollback.save_oof(folder, ids, oof_prob_EC, data.findings)
            pseudo.save(folder, data.ids_N[learned.open_T], learned.decisions, learned.threshold_C, data.findings)
        row |= _pseudo_row(ctx, data, round_index, learned)
        if rolled_back:
            earlier = json.loads((before / "metrics.json").read_text("utf-8"))
            row |= {name: earlier[name] for name in OF_THE_MODEL}
    if rolled_back:
        prob_NC, predicted_N = _predictions(before, data)
    else:
        prob_NC = model.probabilities(learned.student_logit_NC)
        predicted_N = model.classes(prob_NC)
    with timed(clock, "evaluate"):
        row["flip_rate"] = _flip_rate(before, data, predicted_N)
        row["holdout"] = evaluate.evaluate(ctx, round_index, prob_NC, predicted_N, data.findings)
    row |= {"calibration_auroc": rollback.oof_auroc(oof_prob_EC, material.class_E), "rolled_back": rolled_back}
    _save_model(ctx, round_index, model, learned, row)
    names = [data.findings[c] for c in predicted_N]
    write_predictions(ctx, data, round_index, names, dict(zip(data.findings, prob_NC.T, strict=True)))
    if adapter is not None:
        adapter.clean()
    return row


def adapter_of(
    ctx: StageContext, data: Dataset, round_index: int, answered: Collection[str], folder: Path
) -> Adapter | None:
    """What trains the network in this round; None where the backbone stays as it is."""
    return Adapter(ctx, data.ids_N, folder / "network") if adapts(ctx, round_index, answered) else None


def adapts(ctx: StageContext, round_index: int, answered: Collection[str]) -> bool:
    """Whether this round adapts the network: each does, or the last one, after which nothing is left to ask."""
    train = ctx.config.train
    if train.adapt == "head" or train.adapt_rounds == "all" or round_index >= ctx.config.rounds.num:
        return train.adapt != "head"
    whole = whole_of(ctx.folder)
    if whole is not None:  # a finding's part of a run: what is left to ask is the run's matter
        pool = ctx.config.pool.model_copy(update={"finding": None})
        ctx = replace(ctx, folder=whole, config=ctx.config.model_copy(update={"pool": pool}))
        answered = labels.read_whole(labels.read(whole))
    return not queues.selection_pool(ctx, set(answered)).candidate_N.any()


def publish(ctx: StageContext, data: Dataset, round_index: int) -> None:
    """Make this round the run's latest: its predictions, and its pseudo-labels in the label store."""
    folder = ctx.round_folder(round_index)
    latest, own = ctx.folder / "predictions.parquet", folder / "predictions.parquet"
    if not own.exists():
        latest.unlink(missing_ok=True)
    elif not latest.exists() or latest.read_bytes() != own.read_bytes():
        write_bytes(latest, own.read_bytes())
    found = PSEUDO.read(folder) if (folder / "pseudo.parquet").exists() else PSEUDO.empty()
    admitted = found.filter(found["admitted"])
    index = {finding: i for i, finding in enumerate(data.findings)}
    labels.replace_pseudo(
        ctx.folder,
        admitted["image_id"].to_numpy(zero_copy_only=False),
        np.array([index[finding] for finding in admitted["finding"].to_pylist()], dtype=np.int64),
        admitted["probability"].to_numpy(),
        data.findings,
        round_index,
    )


def cannot_learn(class_E: np.ndarray, group_E: Any) -> str | None:
    """Why these expert labels give no classifier; None when they do."""
    if len(np.unique(class_E)) < 2:
        return f"the {len(class_E)} expert labels name fewer than two classes"
    if len(set(group_E)) < 2:
        return "the expert labels are of one patient"
    return None


@contextmanager
def timed(clock: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds spent inside to `clock[name]`."""
    start = time.perf_counter()
    yield
    clock[name] = clock.get(name, 0.0) + time.perf_counter() - start


def _uniform(ctx: StageContext, round_index: int) -> set[str]:
    found: set[str] = set()
    for r in range(1, round_index + 1):
        queue = QUEUE.read(ctx.round_folder(r))
        found |= set(queue.filter(pc.equal(queue["kind"], "uniform"))["image_id"].to_pylist())
    if ctx.config.pool.finding is None or ctx.config.oracle:
        return found
    pool = POOL_LABELS.read(ctx.folder)  # drawn for another finding: this one was known, and is no sample of the open
    return found - set(pool.filter(pc.is_valid(pool["label"]))["image_id"].to_pylist())


def classifier(ctx: StageContext, data: Dataset, learned: Learned) -> Classifier:
    """The classifier of what was learned, at the configured operating point."""
    weights_C = evaluate.operating_weights(learned.prevalence_C, ctx.config.evaluate.operating_point)
    return Classifier(learned.student, data.findings, learned.temperature, learned.prevalence_C, weights_C)


def _save_model(ctx: StageContext, round_index: int, model: Classifier, learned: Learned, row: dict[str, Any]) -> None:
    path = ctx.folder / "backbone.json"
    card = {name: row[name] for name in ("num_expert", "num_pseudo", "rolled_back")}
    card |= {
        "round": round_index,
        "learner": row["learner"],
        "backbone": json.loads(path.read_text("utf-8")) if path.exists() else None,
        "preprocessing": preprocessing(ctx.config),
    }
    folder = ctx.round_folder(round_index) / "model"
    if row["rolled_back"]:
        before = ctx.round_folder(round_index - 1) / "model"
        for name in ("model.safetensors", "model.onnx"):
            write_bytes(folder / name, (before / name).read_bytes())
        write_text(folder / "card.json", json.dumps(json.loads((before / "card.json").read_text("utf-8")) | card))
    else:
        model.save(folder, card, features.load_basis(ctx.folder))
    curves = {"teacher": _curves(learned.teacher), "student": _curves(learned.student)}
    if learned.curves is not None:
        curves["network"] = {
            "loss": learned.curves.trace,
            "val_loss": None,
            "epoch_val_loss": learned.curves.val or None,
        }
    write_text(folder / "training.json", json.dumps(curves))


def _curves(model: Head | Trained) -> dict[str, Any]:
    return {"loss": model.loss, "val_loss": model.val_loss or None} if isinstance(model, Head) else {}


def _pseudo_row(ctx: StageContext, data: Dataset, round_index: int, learned: Learned) -> dict[str, Any]:
    """What is known of the round's pseudo-labels."""
    found = PSEUDO.read(ctx.round_folder(round_index))
    admitted = found.filter(found["admitted"])
    return {
        "learner": learned.learner,
        "network_gain": learned.network_gain,
        "num_pseudo": len(admitted),
        "num_accepted": int(pc.sum(pc.equal(found["decision"], "accept")).as_py() or 0),
        "pseudo_share": len(admitted) / max(len(found), 1),
        "pseudo_precision": _realised(ctx, data, admitted),
        "pseudo_precision_estimated": learned.precision_estimated,
        "threshold_prob": {f: float(t) for f, t in zip(data.findings, learned.threshold_C, strict=True)},
        "temperature": learned.temperature,
        "prevalence": {f: float(p) for f, p in zip(data.findings, learned.prevalence_C, strict=True)},
        "operating_point": ctx.config.evaluate.operating_point,
    }


def _realised(ctx: StageContext, data: Dataset, admitted: pa.Table) -> float | None:
    """Share of pseudo-labels that agree with the pool's own labels; only an oracle run knows."""
    if not ctx.config.oracle or len(admitted) == 0:
        return None
    position = pc.index_in(admitted["image_id"], value_set=data.pool_labels["image_id"].combine_chunks())
    agree = pc.mean(pc.equal(data.pool_labels["label"].take(position), admitted["finding"])).as_py()
    return None if agree is None else float(agree)


def _flip_rate(before: Path, data: Dataset, predicted_N: np.ndarray) -> float | None:
    """Share of the training pool whose class changed since the round before; None in the first."""
    if not (before / "predictions.parquet").exists():
        return None
    return float((_predictions(before, data)[1] != predicted_N)[data.train_T].mean())


def _predictions(folder: Path, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) and classes (N,) a round has left, in the order of the run's scans."""
    table = PREDICTIONS.read(folder)
    table = table.take(pc.index_in(pa.array(data.ids_N, pa.string()), value_set=table["image_id"].combine_chunks()))
    prob_NC = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in data.findings])
    index = pc.index_in(table["predicted"], value_set=pa.array(data.findings, pa.string()))
    return prob_NC.astype(np.float64), np.asarray(index.to_numpy(), np.int64)


def write_predictions(
    ctx: StageContext, data: Dataset, round_index: int, predicted_N: Sequence[str], prob_N: Mapping[str, np.ndarray]
) -> None:
    """Write a round's `predictions.parquet`: what is said of every scan, and the probability of each finding."""
    table = pa.table(
        {
            "image_id": data.ids_N,
            "split": [data.split[image_id] for image_id in data.ids_N],
            "round": np.full(len(data.ids_N), round_index, np.int32),
            "predicted": predicted_N,
        },
        schema=PREDICTIONS.schema,
    )
    for finding, values_N in prob_N.items():
        table = table.append_column(f"prob_{finding}", pa.array(values_N.astype(np.float32)))
    PREDICTIONS.write(ctx.round_folder(round_index), table)


def certified_bound(certificates: dict[str, Certificate]) -> float | None:
    """Lower bound over all classes; None before the first blind check."""
    pooled = certificates["pooled"]
    return pooled.lower_bound if pooled.num_checked > 0 else None


def _nothing_learned(findings: tuple[str, ...]) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        (
            "pseudo_precision",
            "pseudo_precision_estimated",
            "temperature",
            "network_gain",
            "calibration_auroc",
            "flip_rate",
            "holdout",
            "operating_point",
        )
    )
    return empty | {
        "num_pseudo": 0, "num_accepted": 0, "pseudo_share": 0.0, "rolled_back": False,
        "threshold_prob": dict.fromkeys(findings), "prevalence": dict.fromkeys(findings),
    }  # fmt: skip
