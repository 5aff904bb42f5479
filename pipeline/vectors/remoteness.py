"""How far scans lie from the nearest others of their pool, in the embedding.

Legend: N scans of the pool, R scans asked about, K with an embedding, M of those that are compared with, D dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors.principal_components import floored_sd

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

NUM_NEIGHBORS = 8  # a few scans of one foreign kind do not hide each other
MAX_REFERENCE = 2_000


@dataclass(frozen=True)
class Remoteness:
    """Mean distance to the nearest others, as a multiple of the pool's median; two measures, (R,) each.

    Attributes:
        distance_R: Euclidean, of standardised embeddings.
        angle_R: One less their cosine.
    """

    distance_R: Floats
    angle_R: Floats


def measure(emb_ND: Floats, rows_R: Rows, known_K: Rows, rng: np.random.Generator) -> Remoteness:
    """Remoteness of some scans of a pool.

    Args:
        emb_ND: Embeddings of the pool.
        rows_R: Scans asked about.
        known_K: Scans that may be compared with; more than `NUM_NEIGHBORS`.
        rng: Draws the scans of a large pool that are compared with.
    """
    rows_M = np.sort(rng.permutation(known_K)[:MAX_REFERENCE])
    mean_D, sd_D = emb_ND[rows_M].mean(axis=0), floored_sd(emb_ND[rows_M]).astype(np.float32)
    reference_MD = (emb_ND[rows_M] - mean_D) / sd_D
    usual = [float(np.median(values_M)) for values_M in _to_nearest(reference_MD, rows_M, reference_MD, rows_M)]
    of_asked = _to_nearest((emb_ND[rows_R] - mean_D) / sd_D, rows_R, reference_MD, rows_M)
    distance_R, angle_R = (
        np.asarray(values_R / max(middle, 1e-6), np.float32) for values_R, middle in zip(of_asked, usual, strict=True)
    )
    return Remoteness(distance_R, angle_R)


def _to_nearest(asked_RD: Floats, rows_R: Rows, reference_MD: Floats, rows_M: Rows) -> tuple[Floats, Floats]:
    """Mean distance to the nearest of the reference and mean angle to them, a scan itself left out, (R,) each."""
    product_RM = asked_RD @ reference_MD.T
    square_R, square_M = np.square(asked_RD).sum(axis=1), np.square(reference_MD).sum(axis=1)
    norm_RM = np.sqrt(np.maximum(square_R[:, None] * square_M, 1e-12))
    distance_RM = np.sqrt(np.maximum(square_R[:, None] + square_M - 2 * product_RM, 0))
    itself_RM = rows_R[:, None] == rows_M
    means = []
    for far_RM in (distance_RM, 1 - product_RM / norm_RM):
        far_RM[itself_RM] = np.inf
        means.append(np.partition(far_RM, NUM_NEIGHBORS - 1, axis=1)[:, :NUM_NEIGHBORS].mean(axis=1))
    return np.asarray(means[0], np.float32), np.asarray(means[1], np.float32)
