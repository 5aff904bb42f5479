"""Which candidates are still open while a queue is filled: a patient once before any patient comes twice."""

import numpy as np

from pipeline.selection.pool import Pick, SelectionPool

# N scans of the pool, M of them candidates in random order

TIE = 1e-5  # relative difference of two scores that rounding may have made


class OpenScans:
    """The candidates a strategy chooses among, in random order, and those it may still take.

    A pool of more than `strategy.max_candidates` is sampled, so that the work of a pick does not grow with the pool;
    a sample is never smaller than ten times what is wanted. One pass forbids a patient once a scan of theirs is
    taken; when no patient is left, those asked before come again.

    Args:
        pool: What may be seen.
        num: How many scans are wanted.
        rng: Draws the sample, and decides between candidates of equal score.

    Attributes:
        rows_M: Positions of the candidates in the pool, in random order.
        open_M: Whether each may be taken now.
    """

    def __init__(self, pool: SelectionPool, num: int, rng: np.random.Generator) -> None:
        self.pool, self.num = pool, num
        candidate_N = pool.candidate_N if pool.queued_N is None else pool.candidate_N & ~pool.queued_N
        rows_M = rng.permutation(np.flatnonzero(candidate_N))
        self.rows_M: np.ndarray = rows_M[: max(pool.config.max_candidates, 10 * num)]
        self._left_M = np.ones(len(self.rows_M), bool)
        group_M = pool.group_N[self.rows_M]
        self._by_group = np.argsort(group_M, kind="stable")
        self._group_M, self._sorted_M = group_M, group_M[self._by_group]
        self.open_M = np.ones(len(self.rows_M), bool)
        if pool.queued_N is not None:
            self.open_M = ~np.isin(group_M, pool.group_N[pool.queued_N])
            self._reopen()
        self.picks: list[Pick] = []

    @property
    def wants_more(self) -> bool:
        """Whether fewer are taken than wanted, and some are left to take."""
        return len(self.picks) < self.num and bool(self.open_M.any())

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Place among the candidates of each position of the pool; -1 where it is none."""
        by_row = np.argsort(self.rows_M, kind="stable")
        at_N = np.searchsorted(self.rows_M, rows, sorter=by_row)
        place = by_row[np.minimum(at_N, len(by_row) - 1)]
        return np.where(self.rows_M[place] == rows, place, -1)

    def best(self, score_M: np.ndarray) -> int:
        """The open candidate of the highest score: its place among `rows_M`; one of those that tie, at random."""
        score_M = np.where(self.open_M, score_M, -np.inf)
        top = float(score_M.max())
        return int(np.argmax(score_M >= top - TIE * max(abs(top), 1e-30)))

    def take(self, place: int, score: float | None = None, cluster: int | None = None) -> None:
        """Take the candidate at a place of `rows_M`; its patient's other scans close."""
        self.picks.append(Pick(str(self.pool.ids_N[self.rows_M[place]]), score, cluster))
        self._left_M[place] = False
        first, last = (np.searchsorted(self._sorted_M, self._group_M[place], side=side) for side in ("left", "right"))
        self.open_M[self._by_group[first:last]] = False
        self._reopen()

    def take_highest(self, score_M: np.ndarray) -> list[Pick]:
        """Take candidates by a score that no choice changes, highest first, until enough are taken; all picks."""
        while self.wants_more:
            place = self.best(score_M)
            self.take(place, float(score_M[place]))
        return self.picks

    def _reopen(self) -> None:
        if not self.open_M.any():
            self.open_M = self._left_M.copy()
