"""Holm's step-down correction: the chance of any false alarm among several tests stays at the level of one."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values in the order given; tests that were not made (None) stay None and do not count.

    The i-th smallest of m is multiplied by `m - i + 1`, and never falls below a smaller one's.

    Raises:
        ValueError: If a p-value is outside [0, 1].

    Source: Holm 1979.
    """
    made = [i for i, p in enumerate(p_values) if p is not None]
    p_M = np.array([p_values[i] for i in made], np.float64)
    if not ((p_M >= 0) & (p_M <= 1)).all():
        raise ValueError(f"p-values must be within 0..1, not {p_M.tolist()}")
    order = np.argsort(p_M, kind="stable")
    stepped_M = np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1))
    adjusted: list[float | None] = [None] * len(p_values)
    for i, p in zip(order, stepped_M, strict=True):
        adjusted[made[i]] = min(1.0, float(p))
    return adjusted
