"""The neighbour graph of the pool, and labels that spread along it.

Zhou, Bousquet, Lal, Weston, Schoelkopf: Learning with local and global consistency (NIPS 2003), eq. in section 2:
F <- alpha * S F + (1 - alpha) * Y with S = D^-1/2 W D^-1/2, W from the nearest neighbours in embedding space.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

# N scans, D dimensions, C findings, K neighbours

EXACT_UP_TO = 50_000  # above this, neighbours come from an inverted file instead of exhaustive search
BANDWIDTH = 0.1  # of exp((cosine - 1) / BANDWIDTH), in units of cosine of centred embeddings
MAX_ITERATIONS, LOOK_EVERY = 50, 5
UNCHANGED = 1e-14  # relative, so that a scan whom little reaches counts as much; 50 iterations give the same to 1e-12


def neighbors(unit_ND: np.ndarray, num_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbours of each row by cosine, itself left out.

    Args:
        unit_ND: Rows of unit norm, float32.
        num_neighbors: K; lowered to N - 1 in a small pool.

    Returns:
        index_NK (int32) and cosine_NK (float32); -1 where an approximate search found fewer.
    """
    import faiss

    num, dim = unit_ND.shape
    wanted = min(num_neighbors, num - 1)
    index: Any
    if num <= EXACT_UP_TO:
        index = faiss.IndexFlatIP(dim)
    else:
        lists = int(np.sqrt(num))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = 1234
        index.train(np.ascontiguousarray(unit_ND[:: max(1, num // (64 * lists))]))
        index.nprobe = max(8, lists // 32)
    if faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(unit_ND)
    cosine, neighbor_index = index.search(unit_ND, wanted + 1)
    out_index = np.full((num, wanted), -1, np.int32)
    out_cosine = np.full((num, wanted), -1.0, np.float32)
    other = neighbor_index != np.arange(num)[:, None]
    other[other.all(1), -1] = False  # a scan with exact copies may miss itself: drop its last neighbour
    out_index[:] = neighbor_index[other].reshape(num, wanted)
    out_cosine[:] = cosine[other].reshape(num, wanted)
    return out_index, out_cosine


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
    graph_NN: sp.csr_matrix, rows: np.ndarray, classes: np.ndarray, num_classes: int, alpha: float
) -> np.ndarray:
    """Spread the labels of a few scans over the graph.

    Each class starts with the same mass and is normalised to the same mass afterwards (class mass normalisation,
    Zhu, Ghahramani, Lafferty 2003, section 4), so that the answer is for balanced classes.

    Args:
        graph_NN: From `graph`.
        rows: Positions of the labelled scans.
        classes: Class index of each of them.
        num_classes: C.
        alpha: Share of a label that neighbours hand on, 0 to < 1.

    Returns:
        prob_NC; a scan that no label reaches gets 1 / C for each class.
    """
    start_NC = np.zeros((graph_NN.shape[0], num_classes))
    start_NC[rows, classes] = 1.0
    start_NC /= np.maximum(start_NC.sum(0), 1.0)
    mass_NC = start_NC
    for iteration in range(1, MAX_ITERATIONS + 1):
        before_NC, mass_NC = mass_NC, alpha * (graph_NN @ mass_NC) + (1.0 - alpha) * start_NC
        if iteration % LOOK_EVERY == 0 and bool((np.abs(mass_NC - before_NC) <= UNCHANGED * mass_NC).all()):
            break
    mass_NC = mass_NC / np.maximum(mass_NC.sum(0), 1e-300)
    total_N1 = mass_NC.sum(1, keepdims=True)
    reached = total_N1[:, 0] > 1e-30
    prob_NC = np.full_like(mass_NC, 1.0 / num_classes)
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
