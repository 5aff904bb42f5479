"""Heat maps by occlusion: what a place says for a finding is what the model loses when the place is covered.

A square patch is moved over the scan; where it lies the scan is replaced by a blurred copy of itself, and the drop of
the evidence for the finding, see `predictor.Answerer.evidence`, is noted (Zeiler & Fergus 2014, "Visualizing and
understanding convolutional networks", section 4.2; a blurred copy in place of grey: Fong & Vedaldi 2017). Some places
matter in every scan, whatever it shows: the heart is covered in none without effect. So the mean drop of the same place
in scans of the run is taken off; tests/bench/results/heat-maps.md shows what that does. A pixel has the mean of the
patches around it, weighted by a Gaussian of their distance. This asks nothing of the model but its answer, so it is the
same for a head on a frozen network and for a network of its own, and needs no torch.

Legend: S side in pixels, K patches, N scans.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]
Heat = NDArray[np.float64]
Evidence = Callable[[Floats], Mapping[str, NDArray[np.float64]]]
Drops = dict[str, NDArray[np.float64]]  # by finding what the evidence loses at each place (K,)

VERSION = 1  # raise it whenever maps of the same model change
PATCHES_ACROSS = 6  # a patch is a sixth of the side: about what a consolidation covers
STEPS = 9  # places of a patch along each side; neighbours overlap by more than a third
BLUR_SHARE = 1 / 8  # standard deviation of the blurred copy, in sides
SMOOTHING = 0.5  # standard deviation of the Gaussian that a map is smoothed with, in patches
SCANS_AT_ONCE = 27  # covered copies that lie in memory together


@dataclass(frozen=True)
class Reference:
    """What covering each place does in scans of the run, for one finding.

    Attributes:
        mean_K: Mean drop of the evidence.
    """

    mean_K: NDArray[np.float64]

    @classmethod
    def of(cls, drop_NK: NDArray[np.float64]) -> "Reference":
        """The reference of so many scans."""
        return cls(drop_NK.mean(0))

    def heat(self, drop_K: NDArray[np.float64], size_px: int) -> Heat:
        """The map (S, S) of a scan from its drops, in logits."""
        return spread(drop_K - self.mean_K, size_px)


def drops(square_SS: Floats, evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """How far the evidence for every finding falls when each place is covered (K,); 0 where that is not finite.

    Args:
        square_SS: What the network sees, float32 in [0, 1].
        evidence: The model: squares (N, 1, S, S) to the evidence for each finding (N,).
    """
    boxes = patches(len(square_SS))
    whole = evidence(square_SS[None, None])
    blurred_SS = gaussian_filter(square_SS, BLUR_SHARE * len(square_SS))
    parts: dict[str, list[NDArray[np.float64]]] = {finding: [] for finding in whole}
    for start in range(0, len(boxes), SCANS_AT_ONCE):
        covered = [_covered(square_SS, blurred_SS, box) for box in boxes[start : start + SCANS_AT_ONCE]]
        for finding, values_N in evidence(np.stack(covered)[:, None]).items():
            parts[finding].append(whole[finding][0] - values_N)
    return {finding: np.nan_to_num(np.concatenate(part), posinf=0.0, neginf=0.0) for finding, part in parts.items()}


def references(squares: Sequence[Floats], evidence: Evidence) -> dict[str, Reference]:
    """What covering each place does in scans of the run, for every finding."""
    of_scans = [drops(square_SS, evidence) for square_SS in squares]
    return {finding: Reference.of(np.stack([drop[finding] for drop in of_scans])) for finding in of_scans[0]}


def heat_maps(square_SS: Floats, evidence: Evidence, references: Mapping[str, Reference]) -> dict[str, Heat]:
    """A map (S, S) for every finding that has a reference: above 0 where the scan speaks for it more than others do."""
    of_places = drops(square_SS, evidence)
    return {finding: known.heat(of_places[finding], len(square_SS)) for finding, known in references.items()}


def patches(size_px: int) -> list[tuple[slice, slice]]:
    """Where the patch is laid: rows and columns of each place; together they cover the whole square."""
    side_px = max(1, round(size_px / PATCHES_ACROSS))
    starts = np.unique(np.rint(np.linspace(0, size_px - side_px, STEPS)).astype(int)).tolist()
    return [(slice(y, y + side_px), slice(x, x + side_px)) for y in starts for x in starts]


def hottest(heat_SS: Heat) -> tuple[int, int] | None:
    """Row and column of the middle of the hottest region; None of a map that is nowhere above 0."""
    top = float(heat_SS.max())
    if not top > 0.0:
        return None
    rows, columns = np.nonzero(heat_SS >= top - 1e-9 * abs(top))
    return round(float(rows.mean())), round(float(columns.mean()))


def _covered(square_SS: Floats, blurred_SS: Floats, box: tuple[slice, slice]) -> Floats:
    copy_SS = square_SS.copy()
    copy_SS[box] = blurred_SS[box]
    return copy_SS


def spread(heat_K: NDArray[np.float64], size_px: int) -> Heat:
    """A map (S, S) from the heat of each place: the mean of the places around a pixel, weighted by their distance."""
    boxes, axis_S = patches(size_px), np.arange(size_px) + 0.5
    sd_px = SMOOTHING * size_px / PATCHES_ACROSS
    rows, columns = ([(box[axis].start + box[axis].stop) / 2 for box in boxes] for axis in (0, 1))
    # A Gaussian of the distance is a product of one of the row and one of the column, so two thin products do.
    down_SK, across_SK = (
        np.exp(-0.5 * ((axis_S[:, None] - np.array(middles)[None, :]) / sd_px) ** 2) for middles in (rows, columns)
    )
    weight_SS = down_SK @ across_SK.T
    return np.asarray((down_SK * heat_K) @ across_SK.T / weight_SS)
