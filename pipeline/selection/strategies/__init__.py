"""Selection strategies: which scans are worth an expert's minute. One file each, one signature.

In: vectors of the pool and who is labelled. Out: picks, best first. Every strategy is
`select(pool: SelectionPool, num: int, rng: Generator) -> list[Pick]`
"""

from collections.abc import Callable

import numpy as np

from pipeline.contracts.errors import InputError
from pipeline.selection.strategies import kmedoids, typiclust, uniform
from pipeline.selection.strategies.base import Pick, SelectionPool

Strategy = Callable[[SelectionPool, int, np.random.Generator], list[Pick]]

STRATEGIES: dict[str, Strategy] = {
    "typiclust": typiclust.select,
    "kmedoids": kmedoids.select,
    "random": uniform.select,
}


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
