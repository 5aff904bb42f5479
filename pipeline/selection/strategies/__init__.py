"""Selection strategies: which scans are worth an expert's minute. One file each, one signature.

In: vectors of the pool, who is labelled, what the last round's classifier says. Out: picks, best first. Every
strategy is `select(pool: SelectionPool, num: int, rng: Generator) -> list[Pick]`
"""

from collections.abc import Callable

import numpy as np

from pipeline.contracts.errors import InputError
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import (
    badge,
    bald,
    core_set,
    drop_query,
    entropy,
    facility_location,
    kmedoids,
    margin,
    max_herding,
    prob_cover,
    rare_class_herding,
    slice_stratified,
    typiclust,
    uncertainty_herding,
    uniform,
)

PICKS = 2
"""Rises when a strategy picks other scans than before, so that simulated histories kept from then are not mixed."""

Strategy = Callable[[SelectionPool, int, np.random.Generator], list[Pick]]

STRATEGIES: dict[str, Strategy] = {
    "rare_class_herding": rare_class_herding.select,
    "uncertainty_herding": uncertainty_herding.select,
    "max_herding": max_herding.select,
    "prob_cover": prob_cover.select,
    "facility_location": facility_location.select,
    "typiclust": typiclust.select,
    "kmedoids": kmedoids.select,
    "core_set": core_set.select,
    "badge": badge.select,
    "margin": margin.select,
    "entropy": entropy.select,
    "bald": bald.select,
    "drop_query": drop_query.select,
    "slice_stratified": slice_stratified.select,
    "random": uniform.select,
}

NEED_PROBABILITIES = frozenset(
    {"rare_class_herding", "uncertainty_herding", "badge", "margin", "entropy", "slice_stratified"}
)
"""Strategies that look at the last round's probabilities, where there are any."""


def get(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        InputError: naming the strategies there are.
    """
    if name not in STRATEGIES:
        raise InputError(
            "unknown strategy", value=name, where="strategy.name", fix=f"use one of {', '.join(STRATEGIES)}"
        )
    return STRATEGIES[name]
