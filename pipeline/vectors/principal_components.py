"""What the classifier sees: the leading principal components of the embeddings, on one scale for all backbones.

An L2-regularised linear head does not care about rotations, so leaving out the small components changes little and
makes a fit several times faster.
"""

from pathlib import Path

import numpy as np

from pipeline.contracts.tables import write_bytes
from pipeline.runtime import run_files

# N scans, D dimensions of the embedding, P principal components

RMS_NORM = 10.0  # centred embeddings are scaled to this root-mean-square norm, so that one l2 suits all backbones
ROWS_AT_ONCE = 16_384
SAMPLE = 50_000


def principal_axes(emb_ND: np.ndarray, num_axes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (D,), leading axes (D, P) with signs fixed so that runs agree, and the total variance.

    Computed from at most `SAMPLE` rows, evenly spaced.
    """
    sample = np.asarray(emb_ND[:: max(1, -(-len(emb_ND) // SAMPLE))], dtype=np.float32)
    mean_D = sample.mean(0, dtype=np.float64).astype(np.float32)
    centred = sample - mean_D
    value_D, vector_DD = np.linalg.eigh((centred.T @ centred / len(sample)).astype(np.float64))
    axes_DP = vector_DD[:, ::-1][:, : min(num_axes, emb_ND.shape[1])]
    axes_DP = axes_DP * np.sign(axes_DP[np.abs(axes_DP).argmax(0), np.arange(axes_DP.shape[1])])
    return mean_D, axes_DP, float(np.maximum(value_D, 0.0).sum())


def write(folder: Path, emb_ND: np.ndarray, train: np.ndarray, num_components: int) -> int:
    """Write `features.npy` (N, P), float32, and the basis that made it; returns P.

    Args:
        folder: Run directory.
        emb_ND: Embeddings of all scans.
        train: Rows of the training pool, which alone define the basis.
        num_components: P wanted; no more than D.
    """
    from safetensors.numpy import save

    mean_D, axes_DP, variance = principal_axes(emb_ND[train], num_components)
    basis_DP = (axes_DP * (RMS_NORM / np.sqrt(max(variance, 1e-12)))).astype(np.float32)
    partial = folder / f".{run_files.FEATURES}.part"
    out = np.lib.format.open_memmap(partial, "w+", np.float32, (len(emb_ND), basis_DP.shape[1]))
    for start in range(0, len(emb_ND), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        out[rows] = (np.asarray(emb_ND[rows], dtype=np.float32) - mean_D) @ basis_DP
    out.flush()
    del out
    partial.replace(folder / run_files.FEATURES)
    write_bytes(folder / run_files.BASIS, save({"mean_D": mean_D, "basis_DP": np.ascontiguousarray(basis_DP)}))
    return int(basis_DP.shape[1])


def load(folder: Path) -> np.ndarray:
    """Features of all scans (N, P), memory-mapped, read-only."""
    x_NP: np.ndarray = np.load(run_files.path(folder, run_files.FEATURES), mmap_mode="r")
    return x_NP


def load_basis(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and scaled basis (D, P): feature = (embedding - mean) @ basis."""
    from safetensors.numpy import load_file

    tensors = load_file(run_files.path(folder, run_files.BASIS))
    return tensors["mean_D"], tensors["basis_DP"]
