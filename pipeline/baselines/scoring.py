"""Figures over several draws: their mean, an interval for the patients, the spread for draw and training."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.measures import bootstrap
from pipeline.measures.folds import group_index
from pipeline.measures.weighted_metrics import Scores, number

# N scans of all draws together, T of one, C classes, B replicates

Floats = NDArray[np.float64]
NUM_BOOTSTRAP = 1000
OF_A_CLASS = ("sensitivity", "specificity", "auroc")


@dataclass(frozen=True)
class Scored:
    """Test scans of one draw.

    Attributes:
        prob_TC: Probabilities; the highest one is the answer.
        class_T: Truth.
        group_T: Patient groups, the same names in all draws.
    """

    prob_TC: Floats
    class_T: NDArray[np.int64]
    group_T: Sequence[Hashable]


def figures(
    draws: Sequence[Scored], findings: Sequence[str], rng: np.random.Generator, num_bootstrap: int = NUM_BOOTSTRAP
) -> dict[str, Any]:
    """Mean of each metric over the draws, `{"value","ci95","sd","draws"}`, and the confusion matrix of all.

    The interval redraws patients, and one who was tested in several draws comes and goes in all of them: it is the
    mean's. `sd` says how far single draws (another split, another training) lie apart; None for one.

    Args:
        draws: At least one.
        findings: C names, in the order of the columns.
        rng: Of the replicates.
        num_bootstrap: Replicates; 0: no interval.
    """
    scores = [_scores(draw.prob_TC, draw.class_T) for draw in draws]
    stop_D = np.cumsum([len(draw.class_T) for draw in draws])
    parts = [slice(stop - len(draw.class_T), stop) for draw, stop in zip(draws, stop_D.tolist(), strict=True)]
    group_N = group_index([group for draw in draws for group in draw.group_T])

    def each(weight_BN: Floats) -> list[dict[str, Floats]]:
        return [score.measure(weight_BN[:, part]) for score, part in zip(scores, parts, strict=True)]

    def mean(weight_BN: Floats) -> dict[str, Floats]:
        of_draws = each(weight_BN)
        return {name: np.mean([of_draw[name] for of_draw in of_draws], axis=0) for name in of_draws[0]}

    single = each(np.ones((1, len(group_N))))
    replicate_B = bootstrap.replicates(mean, group_N, num_bootstrap, rng)
    together = _scores(
        np.concatenate([draw.prob_TC for draw in draws]), np.concatenate([draw.class_T for draw in draws])
    )
    informed = together.informed(group_N)
    out: dict[str, Any] = {}
    for own_name, published_name in _names(findings).items():
        value_D = np.array([float(draw[published_name][0]) for draw in single])
        value = float(value_D.mean())
        out[own_name] = {
            "value": number(value),
            "ci95": informed[published_name].interval(value, replicate_B[published_name]) if replicate_B else None,
            "sd": float(value_D.std(ddof=1)) if len(value_D) > 1 else None,
            "draws": value_D.tolist(),
        }
    return out | {
        "confusion": together.confusion_CC.tolist(),
        "num_tests": len(group_N),
        "num_groups": int(group_N.max()) + 1,
    }


def _scores(prob_NC: Floats, class_N: NDArray[np.int64]) -> Scores:
    return Scores(prob_NC, prob_NC.argmax(1).astype(np.int64), class_N, positive=None)


def _names(findings: Sequence[str]) -> dict[str, str]:
    """Our names of the metrics, `sensitivity_covid`, and those of `weighted_metrics.Scores`, `sensitivity:2`."""
    of_classes = {f"{name}_{finding}": f"{name}:{c}" for c, finding in enumerate(findings) for name in OF_A_CLASS}
    return {"accuracy": "accuracy"} | of_classes
