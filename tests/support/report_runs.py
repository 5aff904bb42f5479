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

from pipeline.contracts import config_file, tables

BUDGET = 20
PATIENT_PREFIX = "patienthash"


def table(contract, columns, extra=None):
    num_rows = len(next(iter(columns.values())))
    blank = {f.name: [None] * num_rows for f in contract.schema if f.nullable}  # columns the report does not look at
    arrays = [pa.array((blank | columns)[f.name], f.type) for f in contract.schema]
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
            "sensitivity_ci95": [max(0.0, tp / (tp + fn) - 0.05), min(1.0, tp / (tp + fn) + 0.04)],
            "specificity": tn / (tn + fp),
            "specificity_ci95": [max(0.0, tn / (tn + fp) - 0.05), min(1.0, tn / (tn + fp) + 0.04)],
            "precision": tp / max(1, tp + fp),
            "f1": float(f1_score(hit_N, yes_N)),
            "tp": tp,
            "fp": fp,
            "tn": tn,
            "fn": fn,
            "num_positive": tp + fn,
        }
    accuracy, balanced = float((said_N == truth_N).mean()), float(balanced_accuracy_score(truth_N, said_N))
    prevalence = {f: float((truth_N == c).mean()) for c, f in enumerate(findings)}
    auroc = float(np.mean([row["auroc"] for row in per_class.values()]))
    binary = per_class[findings[positive]]
    mean = {
        k: float(np.mean([row[k] for row in per_class.values()])) for k in ("sensitivity", "specificity", "f1", "auprc")
    }
    top = {k: binary[k] for k in mean} if len(findings) == 2 else mean
    return {
        "auroc": auroc,
        "auroc_ci95": [auroc - 0.019, min(1.0, auroc + 0.016)],
        "accuracy": accuracy,
        "accuracy_ci95": [accuracy - 0.03, min(1.0, accuracy + 0.028)],
        "balanced_accuracy": balanced,
        "balanced_accuracy_ci95": [balanced - 0.032, min(1.0, balanced + 0.03)],
        **top,
        "auprc_ci95": [top["auprc"] - 0.04, min(1.0, top["auprc"] + 0.03)],
        "sensitivity_ci95": [top["sensitivity"] - 0.05, min(1.0, top["sensitivity"] + 0.04)],
        "specificity_ci95": [top["specificity"] - 0.05, min(1.0, top["specificity"] + 0.04)],
        "f1_ci95": [top["f1"] - 0.03, min(1.0, top["f1"] + 0.03)],
        "ece": 0.0478,
        "brier": 0.1123,
        "confusion": confusion_matrix(truth_N, said_N, labels=range(len(findings))).tolist(),
        "num_scans": len(truth_N),
        "num_groups": len(truth_N) - 7,
        "prevalence": prevalence,
        "majority_accuracy": max(prevalence.values()),
        "positive": findings[positive] if len(findings) == 2 else None,
        "per_class": per_class,
    }


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
    tables.PREDICTIONS.write(
        folder,
        table(
            tables.PREDICTIONS,
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
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path, compress_level=0)
    return str(path)


def _manifest(folder, ids, uris, bad_N, holdout_N, truth_N, findings):
    num = len(ids)
    tables.MANIFEST.write(
        folder,
        table(
            tables.MANIFEST,
            {
                "image_id": ids,
                "uri": uris,
                "path": [f"secret-name-{i}.png" for i in range(num)],
                "sha256": [None if b else "0" * 64 for b in bad_N],
                "phash": [None if b else "0" * 16 for b in bad_N],
                "width_px": [56] * num,
                "height_px": [64] * num,
                "bit_depth": [8] * num,
                "format": ["PNG"] * num,
                "view": ["PA"] * num,
                "patient_id": [f"{PATIENT_PREFIX}{i // 2}" for i in range(num)],
                "source": ["site-a"] * num,
                "population": [None] * num,
                "age_years": [None] * num,
                "sex": [None] * num,
                "status": ["quarantined" if b else "ok" for b in bad_N],
                "reason": ["truncated file" if b else None for b in bad_N],
            },
        ),
    )
    labels = [findings[t] for t in truth_N]
    tables.POOL_LABELS.write(
        folder, table(tables.POOL_LABELS, {"image_id": ids, "label": labels, "pool_split": [None] * num})
    )
    kinds = ["near" if i in (8, 9) else "exact" if i == 12 else "unique" for i in range(num)]
    groups = [f"g{i // 2}" for i in range(num)]
    tables.DUPLICATES.write(
        folder,
        table(
            tables.DUPLICATES,
            {
                "image_id": ids,
                "group_id": groups,
                "canonical_id": ids,
                "kind": kinds,
                "distance_bits": [0] * num,
                "change": [None] * num,
            },
        ),
    )
    split = ["excluded" if b else "holdout" if h else "train" for b, h in zip(bad_N, holdout_N, strict=True)]
    tables.SPLIT_TABLE.write(
        folder,
        table(
            tables.SPLIT_TABLE,
            {"image_id": ids, "group_id": groups, "split": split, "reason": [None] * num},
        ),
    )


def _clusters(folder, ids, bad_N, truth_N, rng, num_findings):
    good = np.flatnonzero(~bad_N)
    centre = rng.normal(0, 1, (10, 2)) * (3, 2)
    cluster = (truth_N * 3 + rng.integers(0, 4, len(ids))) % 10
    xy = centre[cluster] + rng.normal(0, 0.7, (len(ids), 2))
    tables.CLUSTERS.write(
        folder,
        table(
            tables.CLUSTERS,
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
    tables.QUEUE.write(
        folder,
        table(
            tables.QUEUE,
            {
                "image_id": ids,
                "rank": range(1, len(ids) + 1),
                "kind": ["uniform" if i in uniform else "representative" for i in range(len(ids))],
                "cluster": [1] * len(ids),
                "score": [0.5] * len(ids),
                "proposed": [None] * len(ids),
            },
        ),
    )


def _round(number, truth_N, prob_NC, findings, num_rounds, num_scans):
    checked = 5 * number
    release = {
        "number": 1,
        "round": 1,
        "promise": 0.97,
        "confidence": 0.95,
        "num_scans": 60,
        "num_surest": 30,
        "num_releases": 1,
        "certified_tier": None,
        "checks_needed": 122 - checked,
        "tiers": [
            {
                "tier": tier,
                "num_scans": size,
                "num_checked": checked,
                "num_errors": 0,
                "bound": 0.05 ** (1 / checked),
                "holds": False,
                "checks_needed": 122 - checked,
            }
            for tier, size in (("surest", 30), ("whole", 60))
        ],
    }
    certificate = {
        "num_checked": checked,
        "num_correct": checked,
        "lower_bound": 0.05 ** (1 / checked),
        "promise": 0.97,
        "confidence": 0.95,
        "holds": False,
        "checks_needed": 99 - checked,
    }
    per_class = number * BUDGET // len(findings)
    by_class = dict.fromkeys(findings, per_class) | {findings[0]: number * BUDGET - per_class * (len(findings) - 1)}
    return {
        "round": number,
        "num_expert": number * BUDGET,
        "expert_by_class": by_class,
        "num_pseudo": int(num_scans * (0.28 + 0.06 * number)),
        "pseudo_precision": 0.9612 + 0.004 * number,
        "pseudo_precision_estimated": 0.9703 + 0.002 * number,
        "pseudo_precision_certified": None if number < 2 else certificate["lower_bound"],
        "release": release,
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
        "flip_rate_by_class": dict.fromkeys(findings, 0.2 / number),
        **_pseudo_checks(number, findings),
        "holdout": scores(truth_N, prob_NC, findings),
        "seconds": {"train": 1.5, "evaluate": 0.7},
    }


def _pseudo_checks(number, findings):
    """Flips and second opinion: of ten more accepted a round and class, one flipped, two disagree."""
    each = 10 * number
    agree = {"num_compared": each, "num_agreeing": each - 2, "share": (each - 2) / each}
    flipped = {"num_compared": each, "num_flipped": 1, "share": 1 / each}
    num = len(findings)

    def of_all(counted, name):
        total = {"num_compared": num * each, name: num * counted[name], "share": counted["share"]}
        return total | {"by_class": dict.fromkeys(findings, counted)}

    return {
        "pseudo_flips": None if number == 1 else of_all(flipped, "num_flipped") | {"num_withdrawn": 3},
        "second_opinion": of_all(agree, "num_agreeing")
        | {"num_neighbors": 5, "precision_agreeing": 0.98, "precision_disagreeing": 0.71},
        "pseudo_left_out": {"second_opinion": 0, "max_share": 7, "cap_per_class": number - 1, "cap_per_cluster": 0},
    }


def _labels(folder, ids, truth, findings):
    rows = [
        (i, f, float(c == t), n // BUDGET + 1, findings[t])
        for n, (i, t) in enumerate(zip(ids, truth, strict=True))
        for c, f in enumerate(findings)
    ]
    tables.LABELS.write(
        folder,
        table(
            tables.LABELS,
            {
                "image_id": [r[0] for r in rows],
                "finding": [r[1] for r in rows],
                "value": [r[2] for r in rows],
                "reply": [r[4] for r in rows],
                "origin": ["expert"] * len(rows),
                "annotator": ["oracle"] * len(rows),
                "answer": [1 + sorted({r[0] for r in rows}).index(row[0]) for row in rows],
                "round": [r[3] for r in rows],
                "probability": [None] * len(rows),
                "time": [None] * len(rows),
            },
        ),
    )


def _settings(folder):
    config = config_file.load(None, {"oracle": True, "pool.uri": "/data/pool"})
    (folder / "resolved.yaml").write_text(config_file.dump(config), "utf-8")
    _write(
        folder / "env.json",
        {"cxr_ssl": "0.1.0", "git": "abc1234", "python": "3.11.9", "cpus": 2, "torch": "2.9.0"},
    )
    _write(
        folder / "backbone.json",
        {
            "name": "efficientnet_lite0",
            "weights_hash": "579344248a93e230",
            "origin": "ImageNet-1k",
            "licence": "Apache-2.0",
            "dim": 1280,
            "size_px": 224,
        },
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


OVERRIDE = {"check": "all", "because": "teaching demo, never for patients", "time": "2025-03-04T05:06:07+00:00"}
PASSED = ("exact-duplicates", "patient-across-splits", "label-conflict")


def check_row(check_id, severity, **more):
    """A check as `pipeline.audit.check.Check.to_json` writes it."""
    return {
        "id": check_id,
        "title": check_id.replace("-", " ").capitalize(),
        "severity": severity,
        "count": 0,
        "value": None,
        "threshold": None,
        "message": f"Message of {check_id}.",
        "why": f"Why {check_id} matters.",
        "fix": f"How to mend {check_id}.",
        "evidence": [],
        "table": None,
        "checked": True,
        "accepted": None,
    } | more


def audit_content(verdict, ids, *, override=None, findings=("normal", "pneumonia")):
    """`audit.json` of a pool with that verdict; `ids` become evidence."""
    checks = [check_row(name, "ok", value=0.0, threshold=0.05) for name in PASSED]
    accepted = override["because"] if override else None
    if verdict != "valid":
        checks.append(check_row("no-external-test", "warn", checked=False, message="All scans come from one source."))
        checks.append(
            check_row(
                "near-duplicates",
                "warn",
                count=62,
                value=0.0755,
                threshold=0.05,
                message="62 scans are near copies of another one.",
                evidence=[{"image_id": i, "note": f"copy number {n}"} for n, i in enumerate(ids)],
                accepted=accepted,
            )
        )
    if verdict == "invalid":
        checks.append(
            check_row(
                "source-label-confounding",
                "block",
                count=2,
                value=0.97,
                threshold=0.8,
                accepted=accepted,
                message="Every pneumonia scan comes from site-b.",
                evidence=[{"image_id": ids[0], "note": "from site-b"}] if ids else [],
                table={"columns": ["source", *findings], "rows": [["site-a", 120, 0], ["site-b", None, 0.25]]},
            )
        )
    return {
        "verdict": verdict,
        "phase": "final",
        "strict": False,
        "blocking": ["source-label-confounding"] if verdict == "invalid" and not override else [],
        "facts": {"num_scans": 400, "num_patients": 200, "labels": {"normal": 150, "pneumonia": 250}},
        "overrides": [override] if override else [],
        "checks": checks,
        **_audit_extras(findings),
    }


def _audit_extras(findings):
    auroc = {
        "model": 0.91,
        "equalised": 0.86,
        "lungs-masked": 0.62,
        "metadata": 0.97,
        "grey-levels": 0.6,
        "population": 0.55,
        "run": 0.93,
    }
    shortcuts = [
        {
            "finding": finding,
            "probe": probe,
            "auroc": value,
            "auroc_ci95": [value - 0.05, min(1, value + 0.04)],
            "num_scans": 300,
            "num_groups": 150,
            "auroc_within_source": value - 0.1,
        }
        for finding in findings
        for probe, value in auroc.items()
    ]
    external = [
        {
            "source": "site-a",
            "num_scans": 210,
            "findings": list(findings),
            "auroc": 0.74,
            "auroc_ci95": [0.66, 0.81],
            "auroc_within": 0.92,
            "auroc_within_ci95": [0.88, 0.95],
            "reason": None,
        },
        {
            "source": "site-b",
            "num_scans": 40,
            "findings": [],
            "auroc": None,
            "auroc_ci95": None,
            "auroc_within": None,
            "auroc_within_ci95": None,
            "reason": "it has one class only",
        },
    ]
    groups = [("sex", "F", 190, 40), ("sex", "M", 200, 60), ("age_band", "0–17", 30, 0), ("age_band", "65+", 90, 30)]
    slices = [
        {
            "by": by,
            "slice": name,
            "num_scans": scans,
            "num_patients": scans // 2,
            "num_labelled": labelled,
            "share": scans / 400,
            "share_labelled": labelled / 100,
            "note": None if labelled else "no labels",
        }
        for by, name, scans, labelled in [*groups, *(("cluster", str(c), 10, c % 3) for c in range(30))]
    ]
    return {"shortcuts": shortcuts, "external": external, "slices": slices}


def write_audit(folder, verdict, **options):
    """Write `audit.json`, its evidence taken from the manifest where there is one."""
    ids = tables.MANIFEST.read(folder)["image_id"].to_pylist()[:12] if (folder / "manifest.parquet").exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "audit.json", audit_content(verdict, ids, **options))


def evaluation_content(findings=("normal", "pneumonia"), *, kind="holdout", pool="/data/pool"):
    """`evaluation.json` with one row more of everything than a page could forget."""
    points = [
        {
            "finding": f,
            "target": target,
            "threshold_prob": None if target == "model" else 0.31,
            "sensitivity": 0.812,
            "sensitivity_ci95": [0.74, 0.88],
            "specificity": 0.903,
            "specificity_ci95": [0.85, 0.94],
        }
        for f in findings
        for target in ("specificity 0.90", "sensitivity 0.95", "model")
    ]
    values = [
        {
            "finding": f,
            "prevalence": p,
            "of": "holdout" if p == 0.1 else "deployment",
            "ppv": p * 2,
            "ppv_ci95": [p, p * 3],
            "npv": 1 - p / 5,
            "npv_ci95": [1 - p / 4, 1 - p / 6],
        }
        for f in findings
        for p in (0.01, 0.1)
    ]
    curve = [
        {
            "threshold": t / 20,
            "model": 0.4 - t / 50,
            "ci95": [0.35 - t / 50, 0.45 - t / 50],
            "all": 0.4 - t / 25,
            "none": 0.0,
        }
        for t in range(1, 19)
    ]
    slices = [
        {
            "by": "sex",
            "slice": "F",
            "num_scans": 44,
            "num_groups": 30,
            "num_positive": 20,
            "auroc": 0.871,
            "auroc_ci95": [0.78, 0.94],
            "accuracy": 0.8,
            "accuracy_ci95": [0.7, 0.9],
            "difference": -0.062,
            "difference_ci95": [-0.15, 0.02],
            "p_value": 0.13,
            "p_holm": 0.26,
            "reason": None,
        },
        {
            "by": "sex",
            "slice": "M",
            "num_scans": 41,
            "num_groups": 29,
            "num_positive": 20,
            "auroc": 0.761,
            "auroc_ci95": [0.66, 0.85],
            "accuracy": 0.7,
            "accuracy_ci95": [0.6, 0.8],
            "difference": -0.172,
            "difference_ci95": [-0.25, -0.08],
            "p_value": 0.0001,
            "p_holm": 0.0002,
            "reason": None,
        },
        {
            "by": "age_band",
            "slice": "0–17",
            "num_scans": 3,
            "num_groups": 2,
            "num_positive": 0,
            "auroc": None,
            "auroc_ci95": None,
            "accuracy": None,
            "accuracy_ci95": None,
            "difference": None,
            "difference_ci95": None,
            "p_value": None,
            "p_holm": None,
            "reason": "no positive scan",
        },
    ]
    overall = {
        "auroc": 0.933,
        "auroc_ci95": [0.9, 0.96],
        "accuracy": 0.85,
        "accuracy_ci95": [0.8, 0.9],
        "balanced_accuracy": 0.84,
        "balanced_accuracy_ci95": [0.79, 0.89],
        "ece": 0.06,
        "brier": 0.12,
        "num_scans": 85,
        "num_groups": 80,
    }
    return {
        "scope": {
            "kind": kind,
            "pool": pool,
            "round": 5,
            "num_scans": 85,
            "num_groups": 80,
            "findings": list(findings),
        },
        "overall": overall,
        "operating_points": points,
        "predictive_values": values,
        "calibration": [
            {"finding": f, "slope": 0.84, "slope_ci95": [0.7, 1.0], "intercept": -0.21, "intercept_ci95": [-0.5, 0.1]}
            for f in findings
        ],
        "decision_curve": [{"finding": f, "points": curve} for f in findings],
        "slices": slices,
    }


COMPARISON = {
    "a": "run-two",
    "b": "run-baseline",
    "num_scans": 85,
    "num_groups": 80,
    "metrics": [
        {
            "metric": "auroc",
            "a": 0.933,
            "b": 0.901,
            "difference": 0.032,
            "ci95": [0.004, 0.061],
            "p_value": 0.021,
            "p_holm": 0.042,
        },
        {
            "metric": "balanced_accuracy",
            "a": 0.84,
            "b": 0.83,
            "difference": 0.01,
            "ci95": [-0.03, 0.05],
            "p_value": 0.6,
            "p_holm": 0.6,
        },
    ],
    "delong": [{"difference": 0.032, "p_value": 0.019, "note": "DeLong takes scans for independent; these are not."}],
}


def write_evaluation(folder, findings=("normal", "pneumonia")):
    """Write everything that `cxr-ssl evaluate` may leave: the holdout, a comparison, an external test, the log."""
    _write(folder / "evaluation.json", evaluation_content(findings))
    _write(folder / "comparison.json", COMPARISON)
    other = evaluation_content(findings, kind="external", pool="/data/other")
    other["overall"] |= {"auroc": 0.701, "auroc_ci95": [0.62, 0.78]}
    other["audit"] = {"num_shared_patients": 4, "num_copies": 2}
    _write(folder / "external" / "other-hospital" / "evaluation.json", other)
    _jsonl(
        folder / "holdout_access.jsonl",
        [
            {"time": f"2025-01-01T00:00:0{n}+00:00", "reader": reader, "round": number, "num_scans": scans}
            for n, (reader, number, scans) in enumerate(
                [("evaluate", 1, 85), ("evaluate", 2, 85), ("reference", 1, 85), ("report", None, None)]
            )
        ],
    )


def _write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def _jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
