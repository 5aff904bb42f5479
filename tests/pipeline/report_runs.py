"""Builds a run directory as the rounds leave it, with simulated scores, to test the report alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
)

from pipeline import config as configs
from pipeline import contracts

BUDGET = 20
PATIENT_PREFIX = "patienthash"


def table(contract, columns, extra=None):
    arrays = [pa.array(columns[f.name], f.type) for f in contract.schema]
    out = pa.table(arrays, schema=contract.schema)
    for name, values in (extra or {}).items():
        out = out.append_column(name, pa.array(values, pa.float32()))
    return out


def scores(truth_N, prob_NC, findings):
    """Holdout metrics in the shape the rounds write them."""
    said_N = prob_NC.argmax(1)
    positive = len(findings) - 1
    per_class = {}
    for c, finding in enumerate(findings):
        hit_N, yes_N = truth_N == c, said_N == c
        tp, fp, fn, tn = (int(v.sum()) for v in (hit_N & yes_N, ~hit_N & yes_N, hit_N & ~yes_N, ~hit_N & ~yes_N))
        auroc = float(roc_auc_score(hit_N, prob_NC[:, c]))
        per_class[finding] = {
            "auroc": auroc,
            "auroc_ci95": [auroc - 0.021, min(1.0, auroc + 0.017)],
            "auprc": float(average_precision_score(hit_N, prob_NC[:, c])),
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "precision": tp / max(1, tp + fp),
            "f1": float(f1_score(hit_N, yes_N)),
            "tp": tp, "fp": fp, "tn": tn, "fn": fn,
            "num_positive": tp + fn,
        }  # fmt: skip
    accuracy, balanced = float((said_N == truth_N).mean()), float(balanced_accuracy_score(truth_N, said_N))
    prevalence = {f: float((truth_N == c).mean()) for c, f in enumerate(findings)}
    auroc = float(np.mean([row["auroc"] for row in per_class.values()]))
    binary = per_class[findings[positive]]
    mean = {
        k: float(np.mean([row[k] for row in per_class.values()])) for k in ("sensitivity", "specificity", "f1", "auprc")
    }
    top = {k: binary[k] for k in mean} if len(findings) == 2 else mean
    return {
        "auroc": auroc, "auroc_ci95": [auroc - 0.019, min(1.0, auroc + 0.016)],
        "accuracy": accuracy, "accuracy_ci95": [accuracy - 0.03, min(1.0, accuracy + 0.028)],
        "balanced_accuracy": balanced,
        "balanced_accuracy_ci95": [balanced - 0.032, min(1.0, balanced + 0.03)],
        **top,
        "sensitivity_ci95": [top["sensitivity"] - 0.05, min(1.0, top["sensitivity"] + 0.04)],
        "specificity_ci95": [top["specificity"] - 0.05, min(1.0, top["specificity"] + 0.04)],
        "f1_ci95": [top["f1"] - 0.03, min(1.0, top["f1"] + 0.03)],
        "ece": 0.0478, "brier": 0.1123,
        "confusion": confusion_matrix(truth_N, said_N, labels=range(len(findings))).tolist(),
        "num_scans": len(truth_N), "num_groups": len(truth_N) - 7,
        "prevalence": prevalence, "majority_accuracy": max(prevalence.values()),
        "per_class": per_class,
    }  # fmt: skip


def fake_run(folder: Path, *, findings=("normal", "pneumonia"), num_scans=400, num_rounds=5, pictures=None, seed=0):
    """Write a finished oracle run; `pictures` are existing image files to use instead of noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    num_findings = len(findings)
    ids = [hashlib.sha256(f"{seed}/{i}".encode()).hexdigest()[:16] for i in range(num_scans)]
    share = np.array([1.0] + [1.6] * (num_findings - 1))
    truth_N = rng.choice(num_findings, num_scans, p=share / share.sum())
    holdout_N = rng.random(num_scans) < 0.22
    skill_NR = rng.normal(0, 1.25, (num_scans, num_findings))
    uris = [_picture(folder, i, truth_N[i], rng, pictures) for i in range(num_scans)]
    bad_N = np.zeros(num_scans, bool)
    bad_N[[3, 17, 40]] = True
    holdout_N &= ~bad_N
    _manifest(folder, ids, uris, bad_N, holdout_N, truth_N, findings)
    _clusters(folder, ids, bad_N, truth_N, rng, num_findings)

    def prob_NC(strength):
        logits = skill_NR * 1.0 + strength * np.eye(num_findings)[truth_N]
        e = np.exp(1.2 * (logits - logits.max(1, keepdims=True)))
        return e / e.sum(1, keepdims=True)

    pool = [i for i in rng.permutation(num_scans) if not holdout_N[i] and not bad_N[i]]
    metrics, reference = [], []
    for number in range(1, num_rounds + 1):
        queue = pool[(number - 1) * BUDGET : number * BUDGET]
        rounds = folder / "rounds" / f"{number:02d}"
        _queue(rounds, [ids[i] for i in queue], rng)
        strength = 1.5 + 0.22 * number
        metrics.append(
            _round(number, truth_N[holdout_N], prob_NC(strength)[holdout_N], findings, num_rounds, num_scans)
        )
        weaker = scores(truth_N[holdout_N], prob_NC(strength - 0.25)[holdout_N], findings)
        reference.append({"round": number, "num_expert": number * BUDGET, "holdout": weaker})
        loss = (0.69 * np.exp(-np.arange(24) / (4 + number)) + 0.12 + 0.01 * number).tolist()
        _write(
            rounds / "model" / "training.json",
            {"teacher": {"loss": loss[:15]}, "student": {"loss": loss, "val_loss": [v + 0.05 for v in loss]}},
        )
    _jsonl(folder / "metrics.jsonl", metrics)
    _jsonl(folder / "reference.jsonl", reference)
    _labels(
        folder,
        [ids[i] for i in pool[: num_rounds * BUDGET]],
        [truth_N[i] for i in pool[: num_rounds * BUDGET]],
        findings,
    )
    final = prob_NC(1.5 + 0.22 * num_rounds)
    good = np.flatnonzero(~bad_N)
    contracts.PREDICTIONS.write(
        folder,
        table(
            contracts.PREDICTIONS,
            {
                "image_id": [ids[i] for i in good],
                "split": ["holdout" if holdout_N[i] else "train" for i in good],
                "round": [num_rounds] * len(good),
                "predicted": [findings[final[i].argmax()] for i in good],
            },
            {f"prob_{f}": final[good, c] for c, f in enumerate(findings)},
        ),
    )
    _settings(folder)
    return folder


def _picture(folder, index, truth, rng, pictures):
    if pictures:
        return str(pictures[index % len(pictures)])
    path = folder / "pool" / f"secret-name-{index}.png"
    path.parent.mkdir(exist_ok=True)
    y, x = np.mgrid[-1:1:64j, -1:1:56j]
    lungs = np.exp(-(((np.abs(x) - 0.42) / 0.3) ** 2 + (y / 0.7) ** 2))
    grey = (
        150
        - 110 * lungs
        + 40 * truth * np.exp(-(((x - 0.4) / 0.2) ** 2 + ((y - 0.3) / 0.2) ** 2))
        + rng.normal(0, 9, x.shape)
    )
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path)
    return str(path)


def _manifest(folder, ids, uris, bad_N, holdout_N, truth_N, findings):
    num = len(ids)
    contracts.MANIFEST.write(
        folder,
        table(
            contracts.MANIFEST,
            {
                "image_id": ids, "uri": uris, "path": [f"secret-name-{i}.png" for i in range(num)],
                "sha256": [None if b else "0" * 64 for b in bad_N],
                "phash": [None if b else "0" * 16 for b in bad_N],
                "width_px": [56] * num, "height_px": [64] * num,
                "bit_depth": [8] * num, "format": ["PNG"] * num,
                "view": ["PA"] * num, "patient_id": [f"{PATIENT_PREFIX}{i // 2}" for i in range(num)],
                "source": ["site-a"] * num,
                "age_years": [None] * num, "sex": [None] * num,
                "status": ["quarantined" if b else "ok" for b in bad_N],
                "reason": ["truncated file" if b else None for b in bad_N],
            },
        ),
    )  # fmt: skip
    labels = [findings[t] for t in truth_N]
    contracts.POOL_LABELS.write(
        folder, table(contracts.POOL_LABELS, {"image_id": ids, "label": labels, "pool_split": [None] * num})
    )
    kinds = ["near" if i in (8, 9) else "exact" if i == 12 else "unique" for i in range(num)]
    groups = [f"g{i // 2}" for i in range(num)]
    contracts.DUPLICATES.write(
        folder,
        table(
            contracts.DUPLICATES,
            {
                "image_id": ids,
                "group_id": groups,
                "canonical_id": ids,
                "kind": kinds,
                "distance_bits": [0] * num,
            },
        ),
    )
    split = ["excluded" if b else "holdout" if h else "train" for b, h in zip(bad_N, holdout_N, strict=True)]
    contracts.SPLIT_TABLE.write(
        folder,
        table(
            contracts.SPLIT_TABLE,
            {"image_id": ids, "group_id": groups, "split": split, "reason": [None] * num},
        ),
    )


def _clusters(folder, ids, bad_N, truth_N, rng, num_findings):
    good = np.flatnonzero(~bad_N)
    centre = rng.normal(0, 1, (10, 2)) * (3, 2)
    cluster = (truth_N * 3 + rng.integers(0, 4, len(ids))) % 10
    xy = centre[cluster] + rng.normal(0, 0.7, (len(ids), 2))
    contracts.CLUSTERS.write(
        folder,
        table(
            contracts.CLUSTERS,
            {
                "image_id": [ids[i] for i in good],
                "cluster": cluster[good],
                "similarity": rng.random(len(good)),
                "x": xy[good, 0],
                "y": xy[good, 1],
            },
        ),
    )


def _queue(folder, ids, rng):
    uniform = set(rng.permutation(len(ids))[: len(ids) // 5])
    contracts.QUEUE.write(
        folder,
        table(
            contracts.QUEUE,
            {
                "image_id": ids, "rank": range(1, len(ids) + 1),
                "kind": ["uniform" if i in uniform else "representative" for i in range(len(ids))],
                "cluster": [1] * len(ids), "score": [0.5] * len(ids), "proposed": [None] * len(ids),
            },
        ),
    )  # fmt: skip


def _round(number, truth_N, prob_NC, findings, num_rounds, num_scans):
    checked = 5 * number
    certificate = {
        "num_checked": checked, "num_correct": checked, "lower_bound": 0.05 ** (1 / checked), "promise": 0.97,
        "confidence": 0.95, "holds": False, "checks_needed": 99 - checked,
    }  # fmt: skip
    return {
        "round": number,
        "num_expert": number * BUDGET,
        "num_pseudo": int(num_scans * (0.28 + 0.06 * number)),
        "pseudo_precision": 0.9612 + 0.004 * number,
        "pseudo_precision_estimated": 0.9703 + 0.002 * number,
        "pseudo_precision_certified": None if number < 2 else certificate["lower_bound"],
        "pseudo_share": 0.38 + 0.07 * number,
        "threshold_prob": {f: 0.87 + 0.02 * c for c, f in enumerate(findings)},
        "certificates": {
            **{f: {**certificate, "num_checked": checked // 2, "num_correct": checked // 2} for f in findings},
            "pooled": certificate,
        },
        "prevalence": {f: 1 / len(findings) for f in findings},
        "temperature": 1.3,
        "calibration_auroc": 0.93,
        "rolled_back": number == num_rounds - 1 and num_rounds > 2,
        "gate": "estimated",
        "operating_point": "balanced",
        "flip_rate": 0.2 / number,
        "holdout": scores(truth_N, prob_NC, findings),
        "seconds": {"train": 1.5, "evaluate": 0.7},
    }


def _labels(folder, ids, truth, findings):
    rows = [
        (i, f, float(c == t), n // BUDGET + 1)
        for n, (i, t) in enumerate(zip(ids, truth, strict=True))
        for c, f in enumerate(findings)
    ]
    contracts.LABELS.write(
        folder,
        table(
            contracts.LABELS,
            {
                "image_id": [r[0] for r in rows], "finding": [r[1] for r in rows],
                "value": [r[2] for r in rows],
                "origin": ["expert"] * len(rows), "annotator": ["oracle"] * len(rows),
                "answer": [1 + sorted({r[0] for r in rows}).index(row[0]) for row in rows],
                "round": [r[3] for r in rows],
                "probability": [None] * len(rows), "time": [None] * len(rows),
            },
        ),
    )  # fmt: skip


def _settings(folder):
    config = configs.load(None, {"oracle": True, "pool.uri": "/data/pool"})
    (folder / "resolved.yaml").write_text(configs.dump(config), "utf-8")
    _write(
        folder / "env.json",
        {"cxr_ssl": "0.1.0", "git": "abc1234", "python": "3.11.9", "cpus": 2, "torch": "2.9.0"},
    )
    _write(
        folder / "status.json",
        {"state": "done", "stage": "report", "round": 5, "updated": "2025-01-01T00:00:00Z"},
    )
    counts = {
        "manifest": {"scans": 400, "quarantined": 3},
        "embed": {"scans": 397},
        "clusters": {"clusters": 10},
    }
    seconds = {
        "manifest": 41.2,
        "duplicates": 6.1,
        "embed": 188.4,
        "clusters": 2.2,
        "rounds": 34.7,
        "report": 3.2,
    }
    stages = [{"name": name, "seconds": s, "counts": counts.get(name, {})} for name, s in seconds.items()]
    _write(folder / "stages.json", {"stages": stages})


def _write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def _jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
