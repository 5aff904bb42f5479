"""The set of 25 + 25 scans, drawn often: what a test of ten scans can say."""

from typing import Any

import numpy as np

from pipeline.baselines import heads, reconstruction, scoring
from pipeline.baselines.material import Material
from pipeline.baselines.reconstruction import COVID, FINDINGS, NORMAL, VIRAL
from pipeline.baselines.scoring import Scored

# P scans of the two classes, M inputs

NUM_TRAIN, NUM_TEST = 20, 5  # scans a class
DRAWS = 5  # a seed


def measure(scans: Material, num_seeds: int, emb: dict[str, np.ndarray]) -> dict[str, Any]:
    """Heads on each of `emb` and trees on facts of the file, learnt from 40 scans.

    Tested on ten scans as published, and on all others of the two classes whose patients were not learnt from.
    """
    pair = np.flatnonzero(scans.class_N != FINDINGS.index(VIRAL))
    class_P = (scans.class_N[pair] == FINDINGS.index(COVID)).astype(np.int64)
    group_P = scans.group_N[pair]
    facts = {name: scans.facts_named(columns)[pair] for name, columns in heads.FACTS.items()}
    inputs: dict[str, Any] = {name: emb_ND[pair] for name, emb_ND in emb.items()} | facts
    ten: dict[str, list[Scored]] = {name: [] for name in inputs}
    others: dict[str, list[Scored]] = {name: [] for name in inputs}
    for seed in range(num_seeds * DRAWS):
        train, test, rest = _draw(class_P, group_P, scans.ctx.rng("bench/small", seed))
        asked = np.concatenate([test, rest])
        for name, x_PM in inputs.items():
            if name in emb:
                prob = heads.frozen(x_PM, class_P, train, asked, scans.ctx.config.train)
            else:
                prob = heads.facts_alone(x_PM, class_P, train, asked)
            ten[name].append(Scored(prob[: len(test)], class_P[test], group_P[test].tolist()))
            others[name].append(Scored(prob[len(test) :], class_P[rest], group_P[rest].tolist()))
        scans.ctx.progress("25 + 25", seed + 1, num_seeds * DRAWS)
    rng, names = scans.ctx.rng("bench/small-scores"), (NORMAL, COVID)
    rows = [
        {
            "key": key,
            "ten": scoring.figures(ten[key], names, rng),
            "others": scoring.figures(others[key], names, rng, num_bootstrap=0),
        }
        for key in inputs
    ]
    return {
        "num_draws": num_seeds * DRAWS,
        "num_train_a_class": NUM_TRAIN,
        "num_test_a_class": NUM_TEST,
        "rows": rows,
    }


def _draw(class_P: np.ndarray, group_P: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Training, test and all other scans; no patient is in two of them."""
    train = reconstruction.taken(class_P, group_P, np.full(2, NUM_TRAIN), rng)
    free = np.flatnonzero(~np.isin(group_P, group_P[train]))
    test = free[reconstruction.taken(class_P[free], group_P[free], np.full(2, NUM_TEST), rng)]
    rest = free[~np.isin(group_P[free], group_P[test])]
    return train, test, rest
