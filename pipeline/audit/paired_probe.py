"""The same probe of the same scans shown in two ways: what is lost with what was taken out of them.

Legend: R scans of the probe, K of classes that can be compared, M inputs, B bootstrap replicates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import probes
from pipeline.audit.probes import Cases, Floats, Ints, Score
from pipeline.measures.bootstrap import effective_groups, percentile_interval
from pipeline.measures.weighted_metrics import RankOrder


@dataclass(frozen=True)
class Loss:
    """AUROC of one class against the others before and after something was taken out of the scans.

    Attributes:
        plain: Of the scans as they are.
        altered: Of the altered scans.
        difference: The first less the second, of the AUROC to judge by (`Score.fair`).
        difference_ci95: Its interval over the same redrawn patients; None where it cannot be had.
    """

    plain: Score
    altered: Score
    difference: float
    difference_ci95: list[float] | None

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.difference_ci95 is not None and self.difference_ci95[0] > 0.0


def losses(
    plain_RM: NDArray[Any],
    altered_RM: NDArray[Any],
    class_R: NDArray[Any],
    group_R: NDArray[Any],
    stratum_R: NDArray[Any],
    *,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Loss]:
    """What each class that has enough groups loses; empty where fewer than two have. See `probes.probe`.

    Both ways share folds and redrawn patients, so what they have in common leaves the difference. The fits are not
    repeated within a replicate: the interval is that of other patients for the same two probes.
    """
    cases = probes.comparable(class_R, group_R, stratum_R)
    if cases is None:
        return {}
    seed = int(rng.integers(2**63))
    both_KC = [
        probes.out_of_fold(x_RM[cases.kept_R], cases.code_K, cases.group_K, "linear", np.random.default_rng(seed))
        for x_RM in (plain_RM, altered_RM)
    ]
    weight_BG = probes.draws(cases.num_groups, num_bootstrap, rng)
    return {
        name: _loss(both_KC[0][:, i], both_KC[1][:, i], cases.code_K == c, cases, weight_BG)
        for i, (c, name) in enumerate(cases.classes)
    }


def _loss(plain_K: Floats, altered_K: Floats, positive_K: NDArray[np.bool_], cases: Cases, weight_BG: Floats) -> Loss:
    plain, altered = (
        probes.score(score_K, positive_K, cases.group_K, cases.stratum_K, weight_BG) for score_K in (plain_K, altered_K)
    )
    stratum_K = cases.stratum_K if plain.is_judged_within else None  # the same for both: the scans alone decide
    weight_BK = weight_BG[:, cases.group_K]
    difference_B = _areas(plain_K, positive_K, stratum_K, weight_BK) - _areas(
        altered_K, positive_K, stratum_K, weight_BK
    )
    return Loss(
        plain=plain,
        altered=altered,
        difference=plain.fair[0] - altered.fair[0],
        difference_ci95=percentile_interval(difference_B, _num_informed(cases.group_K, positive_K)),
    )


def _areas(score_K: Floats, positive_K: NDArray[np.bool_], stratum_K: NDArray[Any] | None, weight_BK: Floats) -> Floats:
    """AUROC under each redraw (B,): within strata, or over all pairs where none are given."""
    if stratum_K is None:
        return np.asarray(RankOrder(score_K, positive_K).areas(weight_BK)[0])
    return probes.within_strata(score_K, positive_K, stratum_K, weight_BK)


def _num_informed(group_K: Ints, positive_K: NDArray[np.bool_]) -> int:
    """Patients of the rarer side, several scans of one not counting for several."""
    return int(min(effective_groups(group_K, side_K) for side_K in (positive_K, ~positive_K)))
