"""What the classifier sees: the leading principal components of the standardised embeddings, on one scale for all.

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
SAMPLE = 64_000_000  # numbers: 256 MB
EXACT_UP_TO = 1_500  # rows and dimensions; beyond, the exact axes take minutes


def principal_axes(emb_ND: np.ndarray, num_axes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (D,), leading axes (D, P) of the standardised embeddings, in embedding units, and their total variance.

    Each dimension is divided by its standard deviation (no less than a thousandth of the largest) before the axes are
    sought: stages of a network and means and mean squares have different scales, and a feature's scale says nothing of
    its worth. `(emb - mean) @ axes` are the components. Signs are fixed, so that runs agree. Computed from at most
    `SAMPLE` numbers, of rows evenly spaced.

    Args:
        emb_ND: Embeddings.
        num_axes: P wanted; no more than D or the rows less one.
    """
    most_rows = max(SAMPLE // emb_ND.shape[1], 2)
    sample = np.asarray(emb_ND[:: max(1, -(-len(emb_ND) // most_rows))], dtype=np.float32)
    mean_D = sample.mean(0, dtype=np.float64).astype(np.float32)
    sd_D = floored_sd(sample).astype(np.float32)
    standard = (sample - mean_D) / sd_D
    axes_DP = leading_axes(standard, num_axes)
    return mean_D, axes_DP / sd_D[:, None], float(np.square(standard).sum(1, dtype=np.float64).mean())


def floored_sd(x_ND: np.ndarray) -> np.ndarray:
    """Standard deviation of each dimension (D,), float64, no less than a thousandth of the largest; positive."""
    sd_D = x_ND.std(0, dtype=np.float64)
    return np.asarray(np.maximum(sd_D, max(1e-3 * float(sd_D.max()), 1e-12)))


def leading_axes(centred_ND: np.ndarray, num_axes: int) -> np.ndarray:
    """The axes of largest variance, orthonormal, (D, P), signs fixed, so that runs agree; P <= D and N - 1.

    By the smaller of the two square matrices, or by a sketch where both are large.
    """
    num, dim = centred_ND.shape
    num_axes = max(1, min(num_axes, num - 1, dim))
    if min(num, dim) > EXACT_UP_TO:
        from sklearn.utils.extmath import randomized_svd

        axes_DP = randomized_svd(centred_ND, num_axes, n_iter=4, random_state=0)[2].T.astype(np.float64)
    elif dim <= num:
        _, vector_DD = np.linalg.eigh((centred_ND.T @ centred_ND / num).astype(np.float64))
        axes_DP = vector_DD[:, ::-1][:, :num_axes]
    else:
        value_N, vector_NN = np.linalg.eigh((centred_ND @ centred_ND.T).astype(np.float64))
        length_P = np.sqrt(np.maximum(value_N[::-1][:num_axes], 1e-12))
        axes_DP = centred_ND.T @ vector_NN[:, ::-1][:, :num_axes] / length_P
    return np.asarray(axes_DP * np.sign(axes_DP[np.abs(axes_DP).argmax(0), np.arange(axes_DP.shape[1])]))


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
