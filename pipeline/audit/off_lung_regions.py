"""Where scans of one class are bright or dark outside the lungs and others are not: markers, tubes, electrodes, rims.

The probe on erased scans says that something there tells the label; this says where to look.

Legend: R scans looked at, X cells of a thumbnail, G its side.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.alterations import lungs
from pipeline.audit import picture_facts
from pipeline.audit.audited_pool import Subject
from pipeline.audit.picture_facts import GRID

Floats = NDArray[np.float32]

MAX_SCANS = 120  # of the class, and as many of the others
MIN_SHARE = 0.15  # of the class, where next to none of the others are so
_RARE = 0.02  # part of the others that may be as bright
_MAX_P = 0.01  # that any cell stands out by chance
_DOWN, _ACROSS = ("top", "middle", "bottom"), ("left", "centre", "right")


@dataclass(frozen=True)
class Region:
    """A place where scans of a class stand out.

    Attributes:
        words: What is to be seen, such as `bright at the top left`.
        share: Part of the class's scans, 0..1.
        rows: Those scans, the clearest first; rows of the subject.
    """

    words: str
    share: float
    rows: NDArray[np.int64]


def standing_out(subject: Subject, finding: str, rows: NDArray[np.int64]) -> Region | None:
    """Where scans of a class stand out from the others; None where they do nowhere.

    Args:
        subject: The pool.
        finding: The class.
        rows: Scans that a probe has looked at.
    """
    is_own_R = subject.label_N[rows] == finding
    rng = subject.rng("regions")
    chosen = np.concatenate([_some(rows[side_R], rng) for side_R in (is_own_R, ~is_own_R)])
    _, grid_RX = picture_facts.measure(subject.ctx, subject.scans.take(pa.array(chosen)))
    seen_R = np.isfinite(grid_RX).all(axis=1)
    region = strongest(grid_RX[seen_R], (subject.label_N[chosen] == finding)[seen_R])
    if region is None:
        return None
    words, share, order = region
    return Region(words, share, chosen[seen_R][order])


def strongest(grid_RX: Floats, is_own_R: NDArray[np.bool_]) -> tuple[str, float, NDArray[np.int64]] | None:
    """The cell outside the lungs that most scans of the class pass and next to none of the others.

    Args:
        grid_RX: Thumbnails of `picture_facts.grid`.
        is_own_R: Scans of the class.

    Returns:
        What is to be seen, the part of the class that shows it, and its scans, the clearest first.
    """
    if is_own_R.sum() < 2 or (~is_own_R).sum() < 2:
        return None
    outside_X = _outside_the_lungs(grid_RX)
    best: tuple[float, str, NDArray[np.int64]] | None = None
    for sign, what in ((1.0, "bright"), (-1.0, "dark")):
        value_RX = sign * grid_RX
        limit_X = np.quantile(value_RX[~is_own_R], 1 - _RARE, axis=0) + 1e-4
        beyond_RX = value_RX > limit_X
        share_X = beyond_RX[is_own_R].mean(axis=0) * (outside_X & _is_no_chance(beyond_RX, is_own_R))
        cell = int(share_X.argmax())
        if share_X[cell] >= MIN_SHARE and (best is None or share_X[cell] > best[0]):
            beyond_R = np.where(is_own_R, value_RX[:, cell] - limit_X[cell], -1.0)
            order = np.argsort(-beyond_R, kind="stable")[: int((beyond_R > 0).sum())]
            best = (float(share_X[cell]), f"{what} at the {_place(cell)}", order.astype(np.int64))
    return None if best is None else (best[1], best[0], best[2])


def _is_no_chance(beyond_RX: NDArray[np.bool_], is_own_R: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells that more of the class pass than chance would have it among all cells (Fisher's exact test, Bonferroni)."""
    from scipy.stats import hypergeom

    own_X, all_X = beyond_RX[is_own_R].sum(axis=0), beyond_RX.sum(axis=0)
    p_X = hypergeom.sf(own_X - 1, len(is_own_R), all_X, int(is_own_R.sum()))
    return np.asarray(p_X * 2 * beyond_RX.shape[1] < _MAX_P, np.bool_)


def _outside_the_lungs(grid_RX: Floats) -> NDArray[np.bool_]:
    mean_GG = grid_RX.mean(axis=0).reshape(GRID, GRID)
    unit_GG = (mean_GG - mean_GG.min()) / max(float(np.ptp(mean_GG)), 1e-6)
    return ~lungs.lung_region(unit_GG.astype(np.float32)).mask_SS.ravel()


def _place(cell: int) -> str:
    """`top left`, of the picture as it is shown."""
    down, across = divmod(cell, GRID)
    return f"{_DOWN[3 * down // GRID]} {_ACROSS[3 * across // GRID]}"


def _some(rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= MAX_SCANS else np.sort(rng.choice(rows, MAX_SCANS, replace=False))
