"""Whether a model's heat maps may be shown: two checks that a picture of edges, or of chance, does not pass.

1. The map must depend on what the model has learned: with the weights shuffled it must be another one (Adebayo et al.
   2018, "Sanity checks for saliency maps").
2. The map must point at what changed the model's mind: opacities are planted into the run's own scans; where one raises
   the evidence for a finding, the hottest point of the map must lie in it far more often than by chance. Chance is how
   often the hottest point of one scan lies in the opacity of another, so that a habit of pointing at the lungs earns
   nothing.

Legend: S side in pixels, K scans with a map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.predict.heat_maps import occlusion
from pipeline.predict.heat_maps.occlusion import Drops, Evidence, Floats, Heat, Reference
from pipeline.predict.heat_maps.planted import Planted, plant

MIN_GAIN = 0.5  # of logits: what the opacity must raise the finding by
MAX_PLANTED, MIN_PLANTED = 20, 10  # scans of a finding with an opacity that raises it
NUM_SHUFFLED = 6  # of those, maps made again with shuffled weights
MAX_SIMILARITY = 0.5  # mean absolute rank correlation with those
MARGIN = 3.0  # times chance; the lower bound of the share inside must be above
CONFIDENCE = 0.95  # one-sided, of that bound
_POINTS = 16  # of a map along each side, in rank correlations


@dataclass(frozen=True)
class Check:
    """What the checks of a finding came to.

    Attributes:
        num_planted: Scans with an opacity that raised the finding's evidence.
        num_inside: Of those, scans whose hottest point lies in the opacity.
        inside_low: Lower end of the one-sided 95 % interval of that share; None without scans.
        chance: How often the hottest point of one scan lies in the opacity of another, and no less than the share of
            the picture that an opacity covers; None without scans.
        similarity: Mean absolute rank correlation of maps with those of shuffled weights, by what was shuffled.
        reason: Why maps of the finding are not shown; None: they are.
    """

    num_planted: int
    num_inside: int
    inside_low: float | None
    chance: float | None
    similarity: dict[str, float]
    reason: str | None


def measure(
    model: Evidence,
    references: Mapping[str, Reference],
    shuffled: Mapping[str, Evidence],
    squares: Sequence[Floats],
    rng: np.random.Generator,
) -> dict[str, Check]:
    """Check the maps of every finding that a model speaks of.

    Args:
        model: Squares (N, 1, S, S) to evidence (N,) of each finding.
        references: What covering each place does in scans of the run, by finding.
        shuffled: Models with shuffled weights, by what was shuffled.
        squares: Scans of the run that opacities are planted into.
        rng: Draws them.
    """
    planted = [plant(square_SS, rng) for square_SS in squares]
    rows_of = _raised(model, squares, planted)
    size_px, drops = len(squares[0]), dict[int, Drops]()
    for row in sorted({row for rows in rows_of.values() for row in rows}):
        drops[row] = occlusion.drops(planted[row].square_SS, model)
    similarity = {
        what: similarities(other, planted, drops, {finding: rows[:NUM_SHUFFLED] for finding, rows in rows_of.items()})
        for what, other in shuffled.items()
    }
    return {
        finding: judge(
            [occlusion.hottest(references[finding].heat(drops[row][finding], size_px)) for row in rows],
            [planted[row] for row in rows],
            {what: of_findings[finding] for what, of_findings in similarity.items() if finding in of_findings},
        )
        for finding, rows in rows_of.items()
    }


def judge(
    hottest: Sequence[tuple[int, int] | None], planted: Sequence[Planted], similarity: Mapping[str, float]
) -> Check:
    """Whether the maps of one finding may be shown.

    Args:
        hottest: Of every scan's map the hottest point; None: it has none.
        planted: The scans.
        similarity: See `Check`.
    """
    from scipy.stats import beta  # takes longer to import than to predict a scan

    num = len(planted)
    if num < MIN_PLANTED:
        few = f"a planted opacity raises it in {num} scans; {MIN_PLANTED} are needed to check whether maps point at it"
        return Check(num, 0, None, None, dict(similarity), few)
    inside_KK = np.array(
        [[point is not None and bool(scan.mask_SS[point]) for scan in planted] for point in hottest], dtype=bool
    )
    num_inside = int(np.trace(inside_KK))
    swapped = float((inside_KK.sum() - num_inside) / (num * (num - 1)))
    chance = max(swapped, float(np.mean([scan.mask_SS.mean() for scan in planted])))
    low = float(beta.ppf(1 - CONFIDENCE, num_inside, num - num_inside + 1)) if num_inside else 0.0
    reason: str | None = None
    alike = max(similarity, key=lambda what: similarity[what], default=None)
    if low <= MARGIN * chance:
        reason = (
            f"the hottest point lies in the planted opacity in {num_inside} of {num} scans (at least {low:.2f} of "
            f"all), where chance alone gives {chance:.2f}"
        )
    elif alike is not None and similarity[alike] > MAX_SIMILARITY:
        reason = (
            f"with shuffled weights ({alike}) the maps stay alike: mean rank correlation {similarity[alike]:.2f}, "
            f"at most {MAX_SIMILARITY} is allowed"
        )
    return Check(num, num_inside, low, chance, dict(similarity), reason)


def rank_correlation(one_SS: Heat, other_SS: Heat) -> float:
    """Absolute rank correlation of two maps, 0..1; 0 where one of them is flat."""
    step = max(1, len(one_SS) // _POINTS)
    first_S, other = (heat_SS[step // 2 :: step, step // 2 :: step].ravel() for heat_SS in (one_SS, other_SS))
    if np.ptp(first_S) == 0 or np.ptp(other) == 0:
        return 0.0
    from scipy.stats import spearmanr

    return abs(float(spearmanr(first_S, other).statistic))


def _raised(model: Evidence, squares: Sequence[Floats], planted: Sequence[Planted]) -> dict[str, list[int]]:
    """Of each finding the first scans whose evidence the opacity raises."""
    rows_of: dict[str, list[int]] = {}
    for row, (square_SS, scan) in enumerate(zip(squares, planted, strict=True)):
        for finding, odds_2 in model(np.stack([square_SS, scan.square_SS])[:, None]).items():
            rows = rows_of.setdefault(finding, [])
            if odds_2[1] - odds_2[0] >= MIN_GAIN and len(rows) < MAX_PLANTED:
                rows.append(row)
    return rows_of


def similarities(
    other: Evidence, planted: Sequence[Planted], drops: Mapping[int, Drops], rows_of: Mapping[str, list[int]]
) -> dict[str, float]:
    """Of each finding the mean rank correlation of a model's maps with those of another.

    Both are compared with the same scans, these very ones, so that equal models have equal maps.

    Args:
        other: The other model.
        planted: Scans.
        drops: What covering does in the first model, by place of the scan among `planted`.
        rows_of: Of each finding the places of the scans that are looked at; with fewer than two there is no answer.
    """
    rows = sorted({row for rows in rows_of.values() for row in rows})
    of_other = {row: occlusion.drops(planted[row].square_SS, other) for row in rows}
    similarity: dict[str, float] = {}
    for finding, own in rows_of.items():
        if len(own) >= 2:
            pairs = zip(*(_maps(of_model, finding, own, planted) for of_model in (drops, of_other)), strict=True)
            similarity[finding] = float(np.mean([rank_correlation(one_SS, other_SS) for one_SS, other_SS in pairs]))
    return similarity


def _maps(drops: Mapping[int, Drops], finding: str, rows: list[int], planted: Sequence[Planted]) -> list[Heat]:
    """Maps of scans, compared with each other."""
    reference = Reference.of(np.stack([drops[row][finding] for row in rows]))
    return [reference.heat(drops[row][finding], len(planted[row].square_SS)) for row in rows]
