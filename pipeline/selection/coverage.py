"""Cover the pool: the greedy choice that ProbCover, MaxHerding, Uncertainty Herding and facility location share.

The coverage of a set S of scans is the mean over the pool of `weight(x) * max over s in S of kernel(x, s)`. It is
submodular, so adding the scan of the largest gain, again and again, reaches 1 - 1/e of the best set at least
(Nemhauser, Wolsey, Fisher 1978), and a gain only ever falls: one computed earlier is a bound (lazy greedy, Minoux
1978). Nothing of size N x N is made: the mean is over a random sample of the pool (`strategy.max_reference`,
more for a long queue).
"""

from collections.abc import Callable

import numpy as np

from pipeline.selection.open_scans import TIE, OpenScans
from pipeline.selection.pool import Pick, SelectionPool

# N scans of the pool, M candidates, R scans of the reference sample, L labelled or queued, B candidates at once, D dims

Kernel = Callable[[np.ndarray], np.ndarray]
PER_PICK = 2  # scans of the reference sample for each pick, at least
BATCH = 128  # candidates whose gain is computed again at once
CELLS_AT_ONCE = 2**23


def gaussian(bandwidth: float) -> Kernel:
    """`exp(-|x - y|^2 / (2 bandwidth^2))` of unit vectors, from their cosine."""
    steepness = np.float32(1.0 / bandwidth**2)
    return lambda cosine: np.asarray(np.exp(steepness * (cosine - np.float32(1.0))))


def ball(radius: float) -> Kernel:
    """1 within the radius, else 0; the distance is that of unit vectors."""
    least_cosine = np.float32(1.0 - radius**2 / 2.0 - 1e-6)
    return lambda cosine: (cosine >= least_cosine).astype(np.float32)


def clipped_cosine(cosine: np.ndarray) -> np.ndarray:
    """The cosine where it is positive, else 0."""
    return np.asarray(np.maximum(cosine, np.float32(0.0)))


class Coverage:
    """How well the scans chosen so far cover the pool, and what each candidate would add.

    Args:
        pool: What may be seen; scans labelled or queued cover already.
        scans: The candidates.
        kernel: From a cosine to a similarity, 0 to 1.
        rng: Draws the reference sample.
        weight_N: Weight of each scan of the pool, >= 0; None: all weigh the same.
    """

    def __init__(
        self,
        pool: SelectionPool,
        scans: OpenScans,
        kernel: Kernel,
        rng: np.random.Generator,
        weight_N: np.ndarray | None = None,
    ) -> None:
        self.kernel, self.unit_ND, self.scans = kernel, pool.unit_ND, scans
        num_reference = min(max(pool.config.max_reference, PER_PICK * scans.num), len(pool.ids_N))
        reference = np.sort(rng.choice(len(pool.ids_N), num_reference, replace=False))
        self.unit_RD = pool.unit_ND[reference]
        weight_R = np.ones(len(reference)) if weight_N is None else np.asarray(weight_N[reference], np.float64)
        total = float(weight_R.sum())
        self.weight_R = (weight_R / total if total > 0 else np.full(len(weight_R), 1 / len(weight_R))).astype(
            np.float32
        )
        self.covered_R = np.zeros(len(reference), np.float32)
        for rows in _blocks(np.flatnonzero(pool.covered_N), len(reference)):
            np.maximum(self.covered_R, self._similarity(rows).max(axis=0), out=self.covered_R)
        self.gain_M = np.concatenate([self._gains(rows) for rows in _blocks(scans.rows_M, len(reference))])
        self._fresh_M = np.ones(len(scans.rows_M), bool)

    def best(self, allowed_M: np.ndarray | None = None) -> int:
        """The open candidate that adds most, its place among the candidates; its gain is then exact.

        Args:
            allowed_M: Which candidates may be taken, of those that are open; at least one. None: all.
        """
        open_M = self.scans.open_M if allowed_M is None else self.scans.open_M & allowed_M
        while True:
            bound_M = np.where(open_M, self.gain_M, -np.inf)
            stale_M = open_M & ~self._fresh_M
            fresh_best = float(bound_M[~stale_M].max(initial=-np.inf))
            if fresh_best >= float(bound_M[stale_M].max(initial=-np.inf)):
                return int(np.argmax(bound_M >= fresh_best - TIE * max(abs(fresh_best), 1e-30)))
            order_M = np.where(stale_M, bound_M, -np.inf)
            num = min(BATCH, int(stale_M.sum()))
            places = np.argpartition(-order_M, num - 1)[:num]
            self.gain_M[places] = self._gains(self.scans.rows_M[places])
            self._fresh_M[places] = True

    def add(self, place: int) -> None:
        """Cover what the candidate at a place covers."""
        np.maximum(self.covered_R, self._similarity(self.scans.rows_M[[place]])[0], out=self.covered_R)
        self._fresh_M[:] = False

    def _similarity(self, rows_B: np.ndarray) -> np.ndarray:
        return np.asarray(self.kernel(self.unit_ND[rows_B] @ self.unit_RD.T))

    def _gains(self, rows_B: np.ndarray) -> np.ndarray:
        added_BR = self._similarity(rows_B)
        added_BR -= self.covered_R
        np.maximum(added_BR, 0.0, out=added_BR)
        return np.asarray(added_BR @ self.weight_R)


def select(
    pool: SelectionPool, num: int, rng: np.random.Generator, kernel: Kernel, weight_N: np.ndarray | None = None
) -> list[Pick]:
    """Take the scan that adds most to the coverage, again and again; the score of a pick is what it added.

    Args:
        pool: What may be seen.
        num: How many scans are wanted; fewer come back when the pool runs out.
        rng: Draws the samples of a large pool, and decides between candidates that add the same.
        kernel: From a cosine to a similarity, 0 to 1.
        weight_N: Weight of each scan of the pool, >= 0; None: all weigh the same.
    """
    scans = OpenScans(pool, num, rng)
    if not scans.wants_more:
        return []
    coverage = Coverage(pool, scans, kernel, rng, weight_N)
    while scans.wants_more:
        place = coverage.best()
        scans.take(place, float(coverage.gain_M[place]))
        coverage.add(place)
    return scans.picks


def _blocks(rows: np.ndarray, num_reference: int) -> list[np.ndarray]:
    """The rows in blocks whose similarities to the reference fit into memory; none for no rows."""
    at_once = max(1, CELLS_AT_ONCE // max(num_reference, 1))
    return [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
