"""What makes a vector cheaper: OpenVINO, in full and in half precision, and smaller squares; and what it costs.

OpenVINO is no dependency; where it is not installed its rows are left out, and that is said.
"""

import importlib.util
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embeddings import backbones, extract
from embeddings.backbones import Backbone
from embeddings.shrunk.read_shrunk import square_of
from pipeline.contracts.options.vectors import BackboneConfig
from pipeline.vectors import principal_components
from tests.bench import pools, tables

SIZES = (128, 160, 192, 224)
OWN_SIZE = 224
NUM_SCANS, NUM_LABELS, NUM_COMPONENTS = 500, 100, 64
MAX_PIXELS = 10**8
Forward = Callable[[np.ndarray], np.ndarray]


@dataclass
class Way:
    """One way to make vectors of a pool.

    Attributes:
        name: As in the table.
        size_px: Side of the square.
        forward: (1, 1, S, S) -> (1, D).
        seconds: CPU seconds a scan, of each pass.
        emb_ND: Vectors of the last pass.
    """

    name: str
    size_px: int
    forward: Forward
    seconds: list[float] = field(default_factory=list)
    emb_ND: np.ndarray = field(default_factory=lambda: np.empty(0))


def main(data: Path, given: Namespace) -> None:
    """Write `results/runtimes.md`; the passes of all ways alternate."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        backbone = backbones.resolve(BackboneConfig())
        model_of = {size: extract.export_onnx(backbone, "stages", size, Path(folder)) for size in SIZES}
        for pool, source in (("kermany", None), ("covid3", pools.NIH)):
            scans = _scans(pool, source)
            ways = _ways(backbone, model_of)
            square_of_size = {size: _squares(scans, size) for size in SIZES}
            for _ in range(3):
                for way in ways:
                    _embed(way, square_of_size[way.size_px])
            label_N = np.array([row["label"] not in ("normal", "no_finding") for row in scans], int)
            group_N = np.unique([row["patient_id"] for row in scans], return_inverse=True)[1]
            name = pool if source is None else "NIH part of covid3"
            rows += _rows(name, ways, label_N, group_N, given.seeds)
    tables.write(
        "runtimes",
        "Cheaper vectors, and what they cost",
        f"python -m tests.bench runtimes --seeds {given.seeds}",
        ("pool", "way", "CPU, of onnxruntime at 224 px", "cosine to it, median", "least", "AUROC", "less its AUROC"),
        rows,
        _notes(given.seeds),
    )


def _ways(backbone: Backbone, model_of: dict[int, Path]) -> list[Way]:
    own = [
        Way(f"onnxruntime, {size} px", size, extract.forward_of(backbone, "stages", size, path, 1)[0])
        for size, path in model_of.items()
    ]
    own.reverse()  # the one that all others are compared with is the first
    if importlib.util.find_spec("openvino") is None:
        return own
    kinds = {"OpenVINO": "f32", "OpenVINO, bfloat16": "bf16"}
    return own + [
        Way(f"{name}, {OWN_SIZE} px", OWN_SIZE, _openvino(model_of[OWN_SIZE], kind)) for name, kind in kinds.items()
    ]


def _openvino(model: Path, precision: str) -> Forward:
    """The same file through OpenVINO, on one thread.

    Raises:
        ValueError: the CPU does not have that precision.
    """
    import openvino

    core = openvino.Core()
    if precision.upper().replace("F32", "FP32") not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError(f"this CPU has no {precision}")
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    loaded = core.read_model(str(model))
    loaded.reshape([1, 1, OWN_SIZE, OWN_SIZE])
    request = core.compile_model(loaded, "CPU", settings).create_infer_request()

    def forward(scan_11SS: np.ndarray) -> np.ndarray:
        return np.array(request.infer({"scan": scan_11SS})["emb"])

    return forward


def _embed(way: Way, scan_NSS: np.ndarray) -> None:
    start = time.process_time()
    way.emb_ND = extract.as_stored(np.concatenate([way.forward(scan_SS[None, None]) for scan_SS in scan_NSS]))
    way.seconds.append((time.process_time() - start) / len(scan_NSS))


def _scans(pool: str, source: str | None) -> list[dict[str, str]]:
    """Scans of a pool, at most `NUM_SCANS`, one a patient."""
    rows = [row for row in pools.rows(pool) if source is None or row["source"] == source]
    one_each = list({row["patient_id"]: row for row in rows if row.get("official_split") != "test"}.values())
    return [one_each[i] for i in np.random.default_rng(0).permutation(len(one_each))[:NUM_SCANS]]


def _squares(scans: list[dict[str, str]], size_px: int) -> np.ndarray:
    return np.stack([square_of(row["image_path"], size_px, MAX_PIXELS, None)[0] for row in scans])


def _rows(pool: str, ways: list[Way], label_N: np.ndarray, group_N: np.ndarray, seeds: int) -> list[list[str]]:
    own = ways[0]
    auroc_WS = np.array([[_probe(way.emb_ND, label_N, group_N, seed) for seed in range(seeds)] for way in ways])
    rows = []
    for way, auroc_S in zip(ways, auroc_WS, strict=True):
        same = way.size_px == own.size_px
        cosine_N = _cosine(way.emb_ND, own.emb_ND) if same else np.full(1, np.nan)
        ratio = np.array(way.seconds) / np.array(own.seconds)
        rows.append(
            [
                pool,
                way.name,
                f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
                f"{np.median(cosine_N):.5f}" if same else "–",
                f"{cosine_N.min():.5f}" if same else "–",
                tables.mean_ci(auroc_S.tolist()),
                "–" if way is own else tables.mean_ci((auroc_S - auroc_WS[0]).tolist(), 4),
            ]
        )
    return rows


def _cosine(emb_ND: np.ndarray, other_ND: np.ndarray) -> np.ndarray:
    own, other = (array.astype(np.float64) for array in (emb_ND, other_ND))
    return (own * other).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1))


def _probe(emb_ND: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, seed: int) -> float:
    """AUROC on all other patients of a logistic regression on `NUM_LABELS` scans."""
    x_ND = emb_ND.astype(np.float32)
    folds = StratifiedGroupKFold(len(label_N) // NUM_LABELS, shuffle=True, random_state=seed)
    _, train = next(folds.split(x_ND, label_N, group_N))
    test = np.setdiff1d(np.arange(len(label_N)), train)
    mean_D, basis_DP, _ = principal_components.principal_axes(x_ND, NUM_COMPONENTS)
    x_NP = (x_ND - mean_D) @ basis_DP
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))
    model.fit(x_NP[train], label_N[train])
    return float(roc_auc_score(label_N[test], model.decision_function(x_NP[test])))


def _notes(seeds: int) -> str:
    return (
        f"{NUM_SCANS} scans a pool at most, one a patient (kermany without its official test). CPU: seconds of one "
        "thread for the network alone, one scan at a time, over those of the first line in the same pass; median and "
        "range of three passes that alternate. AUROC: logistic regression on the pool's own leading "
        f"{NUM_COMPONENTS} components, learned from {NUM_LABELS} labels, asked about all other patients; mean and 95 % "
        f"t-interval over {seeds} draws, the same for all lines, and so is *less its AUROC*, paired. Vectors are "
        f"rounded to half precision, as the store keeps them. {_openvino_version()}"
    )


def _openvino_version() -> str:
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed, so its lines are missing."
    import openvino

    return f"OpenVINO {openvino.__version__}."
