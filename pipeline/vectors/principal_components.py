"""Two views of the embeddings, each its leading principal components.

- **Features**, what the classifier sees: of all pooled stages, on one scale for all backbones. An L2-regularised linear
  head does not care about rotations, so leaving out the small components changes little and makes a fit several times
  faster. How much a dimension counts is halfway between what it varies by and the same for all: see
  `dimension_factors`.
- **Similarity**, by which clusters, neighbours and queues tell which scans are alike: of the backbone's own embedding,
  as it is. A classifier may weigh the stages, a cosine cannot.
"""

from functools import partial
from pathlib import Path

import numpy as np

from pipeline.contracts.tables import write_bytes
from pipeline.runtime import run_files
from pipeline.runtime.engine import Engine
from pipeline.vectors.matrix import UnitRows
from pipeline.vectors.row_blocks import map_blocks

# N scans, D dimensions of the embedding, P principal components

RMS_NORM = 10.0  # centred embeddings are scaled to this root-mean-square norm, so that one l2 suits all backbones
OWN_SHARE = 0.5  # of a dimension's share of the variance that is its own; the rest is the same for all
SAMPLE = 64_000_000  # numbers: 256 MB
EXACT_UP_TO = 1_500  # rows and dimensions; beyond, the exact axes take minutes


def principal_axes(
    emb_ND: np.ndarray, num_axes: int, rows_M: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (D,), leading axes (D, P) of the embeddings times `dimension_factors`, and the variance of all dimensions.

    Axes are in embedding units: `(emb - mean) @ axes` are the components. Signs are fixed, so that runs agree. Computed
    from at most `SAMPLE` numbers, of rows evenly spaced.

    Args:
        emb_ND: Embeddings.
        num_axes: P wanted; no more than D or the rows less one.
        rows_M: The rows that count; None: all.
    """
    sample = evenly_spaced(emb_ND, rows_M)
    mean_D = sample.mean(0, dtype=np.float64).astype(np.float32)
    factor_D = dimension_factors(sample).astype(np.float32)
    scaled_ND = (sample - mean_D) * factor_D
    axes_DP = leading_axes(scaled_ND, num_axes)
    return mean_D, axes_DP * factor_D[:, None], float(np.square(scaled_ND).sum(1, dtype=np.float64).mean())


def dimension_factors(x_ND: np.ndarray) -> np.ndarray:
    """What each dimension is multiplied by (D,), float64, before axes are sought; positive.

    Stages of a network, and their means and mean squares, have very different scales. A scale says something of a
    dimension's worth, and not all: as they are, a few wide dimensions decide alone; standardised, those that hardly
    vary are as loud as those that tell scans apart. So a dimension's share of the total variance becomes the mean of
    its own and an equal one (`OWN_SHARE`). Inner products are then the mean of those of the embeddings as they are and
    of the standardised ones, each of total variance 1. Measured: `python -m tests.bench features`.
    """
    sd_D = floored_sd(x_ND)
    variance_D = np.square(sd_D)
    share_D = OWN_SHARE * variance_D / variance_D.sum() + (1.0 - OWN_SHARE) / len(sd_D)
    return np.asarray(np.sqrt(share_D) / sd_D)


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


def write(
    folder: Path, emb_ND: np.ndarray, train: np.ndarray, num_components: int, engine: Engine | None = None
) -> int:
    """Write `features.npy` (N, P), float32, and the basis that made it; returns P.

    Args:
        folder: Run directory.
        emb_ND: Embeddings of all scans.
        train: Rows of the training pool, which alone define the basis.
        num_components: P wanted; no more than D.
        engine: Where a large pool is projected; None: here.
    """
    from safetensors.numpy import save

    mean_D, axes_DP, variance = principal_axes(emb_ND, num_components, train)
    basis_DP = (axes_DP * (RMS_NORM / np.sqrt(max(variance, 1e-12)))).astype(np.float32)
    _project(emb_ND, mean_D, basis_DP, folder / run_files.FEATURES, engine)
    write_bytes(folder / run_files.BASIS, save({"mean_D": mean_D, "basis_DP": np.ascontiguousarray(basis_DP)}))
    return int(basis_DP.shape[1])


def write_similarity(
    folder: Path, own_ND: np.ndarray, train: np.ndarray, num_components: int, engine: Engine | None = None
) -> None:
    """Write `similarity.npy` (N, P), float32: centred on the training pool, not standardised.

    Args:
        folder: Run directory.
        own_ND: The backbone's own embedding of all scans.
        train: Rows of the training pool, which alone define the axes.
        num_components: P wanted; no more than D or the training scans less one.
        engine: Where a large pool is projected; None: here.
    """
    sample = evenly_spaced(own_ND, train)
    mean_D = sample.mean(0, dtype=np.float64).astype(np.float32)
    axes_DP = leading_axes(sample - mean_D, num_components).astype(np.float32)
    _project(own_ND, mean_D, axes_DP, folder / run_files.SIMILARITY, engine)


def project(emb_ND: np.ndarray, mean_D: np.ndarray, basis_DP: np.ndarray) -> np.ndarray:
    """`(emb - mean) @ basis` (N, P), float32.

    Added up in double precision, so that a scan's features are the same to the last bit but one whether it is one of
    ten thousand or alone.
    """
    emb, mean, basis = (array.astype(np.float64, copy=False) for array in (emb_ND, mean_D, basis_DP))
    return np.asarray((emb - mean) @ basis, np.float32)


def _project(emb_ND: np.ndarray, mean_D: np.ndarray, basis_DP: np.ndarray, path: Path, engine: Engine | None) -> None:
    """Write `(emb - mean) @ basis`, float32, block by block, to a temporary name first."""
    unfinished = path.with_name(f".{path.name}.part")
    out = np.lib.format.open_memmap(unfinished, "w+", np.float32, (len(emb_ND), basis_DP.shape[1]))
    projected = partial(project, mean_D=mean_D, basis_DP=basis_DP)
    for rows, x_BP in map_blocks(engine, projected, emb_ND, basis_DP.size):
        out[rows] = x_BP
    out.flush()
    del out
    unfinished.replace(path)


def evenly_spaced(emb_ND: np.ndarray | UnitRows, rows_M: np.ndarray | None = None) -> np.ndarray:
    """At most `SAMPLE` numbers of the rows wanted (None: all), float32, of rows evenly spaced among them."""
    num = len(emb_ND) if rows_M is None else len(rows_M)
    most_rows = max(SAMPLE // emb_ND.shape[1], 2)
    spaced = slice(None, None, max(1, -(-num // most_rows)))
    return np.asarray(emb_ND[spaced if rows_M is None else rows_M[spaced]], dtype=np.float32)


def load_similarity(folder: Path) -> np.ndarray:
    """The view by which scans are alike (N, P), memory-mapped, read-only."""
    similar_NP: np.ndarray = np.load(run_files.path(folder, run_files.SIMILARITY), mmap_mode="r")
    return similar_NP


def load(folder: Path) -> np.ndarray:
    """Features of all scans (N, P), memory-mapped, read-only."""
    x_NP: np.ndarray = np.load(run_files.path(folder, run_files.FEATURES), mmap_mode="r")
    return x_NP


def load_basis(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and scaled basis (D, P): feature = (embedding - mean) @ basis."""
    from safetensors.numpy import load_file

    tensors = load_file(run_files.path(folder, run_files.BASIS))
    return tensors["mean_D"], tensors["basis_DP"]
