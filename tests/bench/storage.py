"""The same scans in every form of storage: likeness of their vectors, groups of copies, AUROC of a probe."""

import argparse
import csv
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.contracts import config_file
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.measures import bootstrap
from pipeline.pool import duplicates, manifest
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import embed
from tests.bench import tables
from tests.embeddings.decoding.test_raster import png, tiff
from tests.support.dicom_files import file_bytes

NUM_SCANS, NUM_BOOTSTRAP = 600, 500
Deep = NDArray[np.uint16]


def _flat(deep: Deep, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.rint(deep / 257).astype(np.uint8)).save(stream, form, **options)
    return stream.getvalue()


def _jpeg(deep: Deep) -> bytes:
    return _flat(deep, "JPEG", quality=95)


def _dicom(deep: Deep) -> bytes:
    return file_bytes(4095 - (deep >> 4), BitsStored=12, PhotometricInterpretation="MONOCHROME1", PatientID="")


# Each from the same picture of 16 bits.
FORMS: dict[str, Callable[[Deep], bytes]] = {
    "8-bit PNG": _flat,
    "8-bit JPEG of quality 95": _jpeg,
    "16-bit PNG": lambda deep: png(deep),
    "12 bits in 16-bit PNG": lambda deep: png(deep >> 4),
    "10 bits in 16-bit PNG": lambda deep: png(deep >> 6),
    "16-bit TIFF, WhiteIsZero": lambda deep: tiff(65535 - deep, photometric=0),
    "12-bit DICOM, MONOCHROME1": _dicom,
}


ENDINGS = {"TIFF": ".tif", "DICOM": ".dcm", "JPEG": ".jpg"}


def main(data: Path, args: argparse.Namespace) -> None:
    """Write `results/storage.md`."""
    with tempfile.TemporaryDirectory() as folder:
        labels, patients = _write_pool(data / "kermany", Path(folder) / "pool")
        given = {"pool.uri": str(Path(folder) / "pool" / "manifest.csv"), "engine.backend": "serial"}
        ctx = StageContext(config_file.load(None, given), Path(folder) / "run", SerialEngine())
        ctx.folder.mkdir()
        for stage in (manifest, duplicates, embed):
            stage.run(ctx)
        emb_ND = np.load(ctx.folder / "embeddings.npy").astype(np.float32).reshape(len(FORMS), NUM_SCANS, -1)
        groups = np.array(DUPLICATES.read(ctx.folder)["canonical_id"].to_pylist()).reshape(len(FORMS), NUM_SCANS)
        whites = MANIFEST.read(ctx.folder)["white"].to_numpy().reshape(len(FORMS), NUM_SCANS)
    unit_FND = emb_ND / np.linalg.norm(emb_ND, axis=2, keepdims=True)
    seeds = range(args.seeds)
    own_FSN = np.array([[_probe(form_ND, form_ND, labels, patients, seed) for seed in seeds] for form_ND in emb_ND])
    from8_FSN = np.array([[_probe(emb_ND[0], form_ND, labels, patients, seed) for seed in seeds] for form_ND in emb_ND])
    rows = []
    for form, name in enumerate(FORMS):
        cosine_N = (unit_FND[0] * unit_FND[form]).sum(axis=1)
        same = int((groups[form] == groups[0]).sum())
        white = whites[form][0]
        rows.append(
            [
                name,
                "the file says it" if np.isnan(white) else f"{white:.0f}",
                f"{np.median(cosine_N):.4f}",
                f"{cosine_N.min():.4f}",
                f"{same} of {NUM_SCANS}",
                *_compared(own_FSN, form, labels, patients),
                *_compared(from8_FSN, form, labels, patients),
            ]
        )
    tables.write(
        "storage",
        "One picture, seven forms of storage",
        f"python -m tests.bench storage --seeds {args.seeds}",
        (
            "form",
            "white",
            "cosine to 8 bits, median",
            "least",
            "in the group of its 8 bits",
            "AUROC of a probe of its own",
            "less that of the 8 bits",
            "AUROC of the 8 bits' probe",
            "less that on the 8 bits",
        ),
        rows,
        f"{NUM_SCANS} scans of Kermany's training split, half of them pneumonia, each with random values below its 8 "
        "bits, so that 16 bits hold more than 8; all forms in one pool. The probe is logistic regression on 64 "
        "principal components of the vectors, five folds by patient; mean and 95 % interval over "
        f"{args.seeds} draws of the folds. The probe of its own has learned from the other patients in the same form, "
        "the 8 bits' probe from the other patients in 8 bits. *Less …*: the difference of those means, and its 95 % "
        f"interval over {NUM_BOOTSTRAP} redraws of the patients, the same for both; the probes are not learned again, "
        "so the interval of the first difference leaves out how much a probe changes with what it learns from.",
    )


def _write_pool(kermany: Path, pool: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Files of every form, form by form, and their manifest; labels and patients of one form."""
    table = pa_csv.read_csv(kermany / "manifest.csv").to_pylist()
    train = [row for row in table if row["official_split"] == "train"]
    rng = np.random.default_rng(0)
    chosen: list[dict[str, Any]] = []
    for label in ("normal", "pneumonia"):
        own = [row for row in train if row["label"] == label]
        chosen += [own[i] for i in rng.choice(len(own), NUM_SCANS // 2, replace=False)]
    deep = []
    for row in chosen:
        flat = np.asarray(Image.open(kermany / row["image_path"]).convert("L")).astype(np.uint16)
        deep.append((flat << 8) + rng.integers(0, 256, flat.shape, dtype=np.uint16))
    pool.mkdir()
    with (pool / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image_path", "label"])
        for form, (name, write) in enumerate(FORMS.items()):
            ending = next((end for kind, end in ENDINGS.items() if kind in name), ".png")
            for i, (row, values) in enumerate(zip(chosen, deep, strict=True)):
                path = f"form{form}_{i:04d}{ending}"
                (pool / path).write_bytes(write(values))
                writer.writerow([path, row["label"]])
    labels = np.array([row["label"] == "pneumonia" for row in chosen], np.int64)
    return labels, [str(row["patient_id"]) for row in chosen]


def _probe(
    train_ND: NDArray[np.float32],
    test_ND: NDArray[np.float32],
    labels: NDArray[np.int64],
    patients: list[str],
    seed: int,
) -> NDArray[np.float64]:
    """Probability of pneumonia of every scan, by a probe that has learned from other patients in another form."""
    prob_N = np.zeros(len(labels))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for train, test in folds.split(train_ND, labels, patients):
        probe = make_pipeline(StandardScaler(), PCA(64, random_state=0), LogisticRegression(C=0.1, max_iter=300))
        prob_N[test] = probe.fit(train_ND[train], labels[train]).predict_proba(test_ND[test])[:, 1]
    return prob_N


def _compared(prob_FSN: NDArray[np.float64], form: int, labels: NDArray[np.int64], patients: list[str]) -> list[str]:
    """AUROC over the draws of the folds, and its difference from that of the 8 bits."""
    aurocs = [float(roc_auc_score(labels, prob_N)) for prob_N in prob_FSN[form]]
    less = "–" if form == 0 else _difference(prob_FSN[form], prob_FSN[0], labels, patients)
    return [tables.mean_ci(aurocs, 4), less]


def _difference(
    prob_SN: NDArray[np.float64], other_SN: NDArray[np.float64], labels: NDArray[np.int64], patients: list[str]
) -> str:
    """Mean AUROC over the draws less the other's, with its interval over patients."""
    _, group_N = np.unique(patients, return_inverse=True)
    weight_BN = np.concatenate(list(bootstrap.draws(group_N, NUM_BOOTSTRAP, np.random.default_rng(0))))
    weight_BN = np.concatenate([np.ones((1, len(labels))), weight_BN])
    mean_2B = [
        np.mean([[roc_auc_score(labels, prob_N, sample_weight=w_N) for prob_N in side] for w_N in weight_BN], axis=1)
        for side in (prob_SN, other_SN)
    ]
    difference_B = mean_2B[0] - mean_2B[1]
    interval = bootstrap.percentile_interval(difference_B[1:], int(group_N.max()) + 1)
    assert interval is not None
    return f"{difference_B[0]:+.4f} ({interval[0]:+.4f} to {interval[1]:+.4f})"
