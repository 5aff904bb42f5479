"""The neighbour graph of the pool, and labels that spread along it.

Zhou, Bousquet, Lal, Weston, Schoelkopf: Learning with local and global consistency (NIPS 2003), eq. in section 2:
F <- alpha * S F + (1 - alpha) * Y with S = D^-1/2 W D^-1/2, W from the nearest neighbours in embedding space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from pipeline.vectors.matrix import UnitRows
from pipeline.vectors.row_blocks import row_blocks

# N scans, M of them in the graph, D dimensions, C findings, K neighbours, F sets of labels, L = F x C

EXACT_UP_TO = 50_000  # above this, neighbours come from an inverted file instead of exhaustive search
LISTS_PER_ROOT = 4  # lists of the inverted file, as a multiple of the root of N: as much work to find as to read them
NUM_PROBES = 32  # lists that are read for each scan, however many there are; see tests/bench/results/neighbors.md
ROWS_A_LIST = 40  # that its k-means learns from; faiss wants 39
BANDWIDTH = 0.1  # of exp((cosine - 1) / BANDWIDTH), in units of cosine of centred embeddings
SPREAD_ERROR = 1e-12  # what is left out of a label's spread, of its mass
MAX_ITERATIONS = 2_000  # enough for an alpha of .986


def neighbors(
    unit_ND: np.ndarray | UnitRows, num_neighbors: int, rows_M: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbours of each row by cosine, itself left out.

    Args:
        unit_ND: Rows of unit norm, float32.
        num_neighbors: K; lowered to M - 1 in a small pool.
        rows_M: The rows that are asked about and found, which are counted from 0 by their place here; None: all.

    Returns:
        index_MK (int32) and cosine_MK (float32); -1 where an approximate search found fewer.
    """
    rows_M = np.arange(len(unit_ND)) if rows_M is None else rows_M
    num = len(rows_M)
    wanted = min(num_neighbors, num - 1)
    index = _index_of(unit_ND, rows_M)
    index_MK, cosine_MK = np.empty((num, wanted), np.int32), np.empty((num, wanted), np.float32)
    for rows in row_blocks(num):
        places = np.arange(rows.start, rows.stop)
        cosine, neighbor_index = index.search(unit_ND[rows_M[places]], wanted + 1)
        other = neighbor_index != places[:, None]
        other[other.all(1), -1] = False  # a scan with exact copies may miss itself: drop its last neighbour
        index_MK[places] = neighbor_index[other].reshape(len(places), wanted)
        cosine_MK[places] = cosine[other].reshape(len(places), wanted)
    return index_MK, cosine_MK


def _index_of(unit_ND: np.ndarray | UnitRows, rows_M: np.ndarray) -> Any:
    """A FAISS index of the rows: exhaustive up to `EXACT_UP_TO`, else an inverted file."""
    import faiss

    num, dim = len(rows_M), unit_ND.shape[1]
    index: Any = faiss.IndexFlatIP(dim)
    if num > EXACT_UP_TO:
        lists = int(LISTS_PER_ROOT * np.sqrt(num))
        index = faiss.IndexIVFFlat(index, dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = 1234
        index.train(unit_ND[rows_M[:: max(1, num // (ROWS_A_LIST * lists))]])
        index.nprobe = NUM_PROBES
    if faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_all_gpus(index)
    for rows in row_blocks(num):
        index.add(unit_ND[rows_M[rows]])
    return index


def graph(index_NK: np.ndarray, cosine_NK: np.ndarray) -> sp.csr_matrix:
    """Symmetric, normalised adjacency S (N, N) of the neighbour lists."""
    num, wanted = index_NK.shape
    weight = np.exp((cosine_NK.astype(np.float64) - 1.0) / BANDWIDTH)
    weight[index_NK < 0] = 0.0
    rows = np.repeat(np.arange(num), wanted)
    adjacency = sp.csr_matrix((weight.ravel(), (rows, np.maximum(index_NK, 0).ravel())), (num, num))
    adjacency = adjacency.maximum(adjacency.T)
    degree = np.asarray(adjacency.sum(1)).ravel()
    inverse = sp.diags(1.0 / np.sqrt(np.maximum(degree, 1e-12)))
    return (inverse @ adjacency @ inverse).tocsr()


def spread(
    graph_NN: sp.csr_matrix, labels: Sequence[tuple[np.ndarray, np.ndarray]], num_classes: int, alpha: float
) -> list[np.ndarray]:
    """Spread several sets of labels, such as those of the folds, over the graph: all of them at once.

    Each class starts with the same mass and is normalised to the same mass afterwards (class mass normalisation,
    Zhu, Ghahramani, Lafferty 2003, section 4), so that the answer is for balanced classes. The iteration of Zhou et
    al. leaves out alpha^n S^n (F* - Y) after n steps, and S has no eigenvalue above 1: there are as many steps as make
    alpha^n `SPREAD_ERROR`.

    Args:
        graph_NN: From `graph`.
        labels: Of each set the positions of the labelled scans, and their class index.
        num_classes: C.
        alpha: Share of a label that neighbours hand on, 0 to < 1.

    Returns:
        prob_NC of each set; a scan that no label reaches gets 1 / C for each class.
    """
    start_NFC = np.zeros((graph_NN.shape[0], len(labels), num_classes))
    for fold, (rows, classes) in enumerate(labels):
        start_NFC[rows, fold, classes] = 1.0
    start_NL = (start_NFC / np.maximum(start_NFC.sum(0), 1.0)).reshape(len(start_NFC), -1)
    mass_NL = start_NL
    for _ in range(num_iterations(alpha)):
        mass_NL = alpha * (graph_NN @ mass_NL) + (1.0 - alpha) * start_NL
    mass_NFC = mass_NL.reshape(start_NFC.shape)
    return [_balanced(mass_NFC[:, fold]) for fold in range(len(labels))]


def num_iterations(alpha: float) -> int:
    """Steps after which a spread is exact to `SPREAD_ERROR`; 40 for an alpha of .5."""
    return 1 if alpha == 0.0 else min(MAX_ITERATIONS, int(np.ceil(np.log(SPREAD_ERROR) / np.log(alpha))))


def _balanced(mass_NC: np.ndarray) -> np.ndarray:
    """Probabilities of each scan, once every class has the same mass."""
    mass_NC = mass_NC / np.maximum(mass_NC.sum(0), 1e-300)
    total_N1 = mass_NC.sum(1, keepdims=True)
    reached = total_N1[:, 0] > 1e-30
    prob_NC = np.full_like(mass_NC, 1.0 / mass_NC.shape[1])
    prob_NC[reached] = mass_NC[reached] / total_N1[reached]
    return np.asarray(prob_NC)


def save(path: Path, index_NK: np.ndarray, cosine_NK: np.ndarray) -> None:
    """Write the neighbour lists as one safetensors file."""
    from safetensors.numpy import save as pack

    from pipeline.contracts.tables import write_bytes

    write_bytes(path, pack({"index": index_NK, "cosine": cosine_NK.astype(np.float16)}))


def load(path: Path) -> sp.csr_matrix:
    """Read neighbour lists and build their graph."""
    from safetensors.numpy import load_file

    lists = load_file(path)
    return graph(lists["index"], lists["cosine"].astype(np.float32))
