"""A map of the pool in two dimensions on which neighbours stay neighbours: t-SNE of landmarks, the rest between them.

Barnes-Hut t-SNE (van der Maaten 2014, JMLR 15) from the first two principal components as its start, which keeps the
large structure and makes the map the same in every run (Kobak and Berens 2019, Nature Communications 10). It takes
minutes beyond some ten thousand scans, so a larger pool is mapped by landmarks: every other scan stands at the weighted
mean of the landmarks that are most like it.

Legend: N scans, P components, L landmarks, K nearest of them.
"""

from collections.abc import Iterator

import numpy as np

from pipeline.vectors.principal_components import leading_axes
from pipeline.vectors.row_blocks import row_blocks

MAX_LANDMARKS = 3_000
NUM_COMPONENTS = 50  # what t-SNE compares; further ones are mostly noise and slow the neighbours down
PERPLEXITY = 30.0  # neighbours that a scan feels
NUM_NEAREST = 8  # landmarks between which another scan stands
START_SPREAD = 1e-4  # standard deviation of the start: small, so that points can still pass each other
FEWEST = 5  # scans that t-SNE can do something with


def place(unit_NP: np.ndarray, rng: np.random.Generator, max_landmarks: int = MAX_LANDMARKS) -> np.ndarray:
    """Where each scan stands on the map, (N, 2), float32; the axes have no unit.

    The same input and generator give the same bytes, whatever the number of threads.

    Args:
        unit_NP: Vectors of unit norm, by which scans are alike. A row that is not finite stands at the middle.
        rng: Draws the landmarks, where there are more scans than `max_landmarks`.
        max_landmarks: L.
    """
    from threadpoolctl import threadpool_limits

    xy_N2 = np.zeros((len(unit_NP), 2), np.float32)
    usable, landmarks = _landmarks(unit_NP, rng, max_landmarks)
    with threadpool_limits(1):  # sums of several threads come in another order each time
        xy_N2[landmarks] = _embedded(np.asarray(unit_NP[landmarks], np.float32))
    others = np.setdiff1d(usable, landmarks)
    if len(others):
        xy_N2[others] = _between(unit_NP, others, unit_NP[landmarks], xy_N2[landmarks])
    return xy_N2


def distances(unit_NP: np.ndarray, rng: np.random.Generator, max_landmarks: int = MAX_LANDMARKS) -> np.ndarray:
    """1 less the cosine to the K-th nearest landmark (N,), float32, 0 to 2; NaN for a row that is not finite."""
    usable, landmarks = _landmarks(unit_NP, rng, max_landmarks)
    distance_N = np.full(len(unit_NP), np.nan, np.float32)
    for block, cosine_NK, _ in _nearest(unit_NP, usable, unit_NP[landmarks]):
        distance_N[block] = 1.0 - cosine_NK[:, -1]
    return distance_N


def _landmarks(unit_NP: np.ndarray, rng: np.random.Generator, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are finite, and those among them that are drawn as landmarks."""
    usable = np.flatnonzero(np.isfinite(unit_NP).all(axis=1))
    return usable, np.sort(rng.permutation(usable)[:most])


def _embedded(unit_LP: np.ndarray) -> np.ndarray:
    """t-SNE of the landmarks (L, 2)."""
    num = len(unit_LP)
    if num < 2:
        return np.zeros((num, 2), np.float32)
    centred_LP = unit_LP - unit_LP.mean(0)
    component_LP = centred_LP @ leading_axes(centred_LP, NUM_COMPONENTS).astype(np.float32)
    start_L2 = np.zeros((num, 2), np.float32)
    start_L2[:, : component_LP.shape[1]] = component_LP[:, :2]
    if num < FEWEST or not start_L2.std():
        return start_L2
    from sklearn.manifold import TSNE

    start_L2 *= START_SPREAD / max(float(start_L2[:, 0].std()), 1e-12)
    tsne = TSNE(init=start_L2, perplexity=min(PERPLEXITY, (num - 1) / 3), random_state=0, n_jobs=1)
    return np.asarray(tsne.fit_transform(component_LP), np.float32)


def _between(unit_NP: np.ndarray, rows: np.ndarray, unit_LP: np.ndarray, xy_L2: np.ndarray) -> np.ndarray:
    """Weighted mean of the places of the landmarks nearest to each of some rows.

    A landmark's weight falls with its squared distance, on the scale of the nearest K of that scan.
    """
    places = []
    for _, cosine_NK, nearest_NK in _nearest(unit_NP, rows, unit_LP):
        behind_NK = cosine_NK[:, :1] - cosine_NK  # half the squared distance beyond that of the nearest
        weight_NK = np.exp(-3.0 * behind_NK / np.maximum(behind_NK[:, -1:], 1e-6))
        weight_NK /= weight_NK.sum(1, keepdims=True)
        places.append((xy_L2[nearest_NK] * weight_NK[:, :, None]).sum(1))
    return np.concatenate(places).astype(np.float32)


def _nearest(
    unit_NP: np.ndarray, rows: np.ndarray, unit_LP: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Block by block: some rows, and cosine and place of the K landmarks nearest to each, the nearest first."""
    import faiss

    index = faiss.IndexFlatIP(unit_LP.shape[1])
    index.add(np.ascontiguousarray(unit_LP, np.float32))
    for of_block in row_blocks(len(rows)):
        block = rows[of_block]
        cosine_NK, nearest_NK = index.search(np.asarray(unit_NP[block], np.float32), min(NUM_NEAREST, len(unit_LP)))
        yield block, cosine_NK, nearest_NK
