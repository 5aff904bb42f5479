"""Slice-stratified: a part of the pool that nobody has labelled yet comes first, and within it what covers most.

The parts are `strategy.slice_column` of the manifest: sources, populations, views. A strategy that looks at vectors
alone may pass over a small hospital, and the figures for it then rest on nothing; here labels follow the parts'
sizes, and no part with scans stays without. Within a part the choice is that of Uncertainty Herding.
"""

import numpy as np

from pipeline.selection import coverage, uncertainty
from pipeline.selection.coverage import Coverage
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import uncertainty_herding

# N scans of the pool, M candidates, S slices


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Up to `num` scans; the score is the uncertainty newly covered, and `cluster` is the slice."""
    if pool.slice_N is None:
        uncertainty.say_fallback("slice_stratified", "the pool has one slice", "uncertainty_herding")
        return uncertainty_herding.select(pool, num, rng, "slice_stratified")
    scans = OpenScans(pool, num, rng)
    if not scans.wants_more:
        return []
    kernel = coverage.gaussian(pool.config.bandwidth)
    chosen = Coverage(pool, scans, kernel, rng, uncertainty_herding.weights(pool, "slice_stratified"))
    slice_M = pool.slice_N[scans.rows_M]
    num_slices = int(pool.slice_N.max()) + 1
    size_S = np.bincount(pool.slice_N, minlength=num_slices)
    labels_S = np.bincount(pool.slice_N[pool.covered_N], minlength=num_slices)
    while scans.wants_more:
        slice_ = _next_slice(size_S, labels_S, np.bincount(slice_M[scans.open_M], minlength=num_slices) > 0)
        place = chosen.best(slice_M == slice_)
        scans.take(place, float(chosen.gain_M[place]), slice_)
        chosen.add(place)
        labels_S[slice_] += 1
    return scans.picks


def _next_slice(size_S: np.ndarray, labels_S: np.ndarray, has_open_S: np.ndarray) -> int:
    """A slice without labels, the largest of them; then the one farthest behind its share of the labels."""
    behind_S = (labels_S.sum() + 1) * size_S / size_S.sum() - labels_S
    return int(np.lexsort((-behind_S, labels_S > 0, ~has_open_S))[0])
