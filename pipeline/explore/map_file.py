"""The map of a run's pool and how unusual each scan is: worked out once, kept in `explore.safetensors`.

Legend: N embedded scans, P components.
"""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import SPLIT_TABLE, write_bytes
from pipeline.explore import neighbor_map
from pipeline.predict import outside
from pipeline.runtime import private_files, run_dir, run_files
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors, unit_rows
from pipeline.vectors.row_blocks import row_blocks

log = logging.getLogger(__name__)

VERSION = 1  # raise it whenever the file means something else
SAMPLE_ROWS = 65_536  # that the axes of a run without similarity are of
MAX_OUTSIDE = 200_000  # scans; beyond, the distance of each to ten thousand others takes too long for a page
FEWEST_TRAIN = 20  # scans of a training pool whose spread can be known
OUTSIDE, LANDMARKS = "outside", "landmarks"
MEANING = {
    OUTSIDE: "distance to the training pool over the distance that few known scans exceed: above 1 is outside",
    LANDMARKS: "distance to the scans most like it, 0 to 2",
}


@dataclass(frozen=True)
class PoolMap:
    """Where each embedded scan stands, in the order of `embeddings.parquet`.

    Attributes:
        xy_N2: On the map, float32, without a unit.
        outlier_N: How unusual the scan is, float32, more is more; NaN where that is not known.
        outlier_by: `outside` or `landmarks`: what that number means, see `MEANING`.
    """

    xy_N2: np.ndarray
    outlier_N: np.ndarray
    outlier_by: str


def of_run(folder: Path) -> PoolMap:
    """The map of a run.

    Raises:
        RunDirError: when nothing is embedded yet.
    """
    if not run_files.path(folder, run_files.EMBEDDED).exists():
        raise RunDirError(
            "has no vectors yet, so there is no map",
            where=folder,
            fix=f"embed its scans first: cxr-ssl run --out {folder} --resume",
        )
    path, fingerprint = run_files.path(folder, run_files.EXPLORE), _fingerprint(folder)
    kept = _read(path, fingerprint)
    if kept is not None:
        return kept
    made = _made(folder)
    with private_files.readable_by(folder), contextlib.suppress(OSError):  # a run that may only be read
        _keep(path, made, fingerprint)
    return made


def _made(folder: Path) -> PoolMap:
    log.info("the map is drawn; that is done once, and takes a minute for thousands of scans")
    vectors = Vectors.open(folder)
    unit_NP = _similar(folder, vectors)
    xy_N2 = neighbor_map.place(unit_NP, np.random.default_rng(0))
    score_N = _outside_scores(folder) if _has_reference(folder, vectors) else None
    if score_N is not None and np.isfinite(score_N).any():
        return PoolMap(xy_N2, score_N, OUTSIDE)
    return PoolMap(xy_N2, neighbor_map.distances(unit_NP, np.random.default_rng(0)), LANDMARKS)


def _similar(folder: Path, vectors: Vectors) -> np.ndarray:
    """By what scans are alike: the leading components of their own embedding, of unit norm (N, P), float32."""
    num = neighbor_map.NUM_COMPONENTS
    if run_files.path(folder, run_files.SIMILARITY).exists():
        return unit_rows(principal_components.load_similarity(folder)[:, :num])
    own_ND = vectors.own_ND
    sample_ND = np.asarray(own_ND[:: max(1, len(own_ND) // SAMPLE_ROWS)], np.float32)
    mean_D = sample_ND.mean(0)
    axes_DP = principal_components.leading_axes(sample_ND - mean_D, num).astype(np.float32)
    blocks = [
        principal_components.project(own_ND[rows], mean_D, axes_DP) for rows in row_blocks(len(own_ND), own_ND.shape[1])
    ]
    return unit_rows(np.concatenate(blocks))


def _has_reference(folder: Path, vectors: Vectors) -> bool:
    """Whether a run has what its scans may be called outside of, and not too many of them."""
    needed = (run_files.FEATURES, run_files.BASIS, SPLIT_TABLE.file)
    if len(vectors.ids) > MAX_OUTSIDE or not all(run_files.path(folder, name).exists() for name in needed):
        return False
    splits = run_files.read(folder, SPLIT_TABLE)
    return len(vectors.positions(splits.filter(pc.equal(splits["split"], "train"))["image_id"])) >= FEWEST_TRAIN


def _outside_scores(folder: Path) -> np.ndarray:
    known = outside.of_run(folder)
    x_NP = principal_components.load(folder)
    rate = run_dir.config_of(folder).predict.false_alarm_rate
    scores = [known.scores(np.asarray(x_NP[rows], np.float32), rate) for rows in row_blocks(len(x_NP))]
    return np.concatenate(scores).astype(np.float32)


def _fingerprint(folder: Path) -> str:
    """Changes whenever the scans, the split or the vectors do."""
    names = (run_files.EMBEDDED, run_files.SIMILARITY, run_files.BASIS, SPLIT_TABLE.file)
    facts = {name: run_dir.file_hash(run_files.path(folder, name)) for name in names}
    return run_dir.fingerprint({"version": VERSION, "files": facts})


def _read(path: Path, fingerprint: str) -> PoolMap | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                return None
            return PoolMap(file.get_tensor("xy_N2"), file.get_tensor("outlier_N"), metadata["outlier_by"])
    except (OSError, SafetensorError):
        return None


def _keep(path: Path, made: PoolMap, fingerprint: str) -> None:
    from safetensors.numpy import save

    arrays = {"xy_N2": made.xy_N2, "outlier_N": made.outlier_N}
    write_bytes(path, save(arrays, {"fingerprint": fingerprint, "outlier_by": made.outlier_by}))
