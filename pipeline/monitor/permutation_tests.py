"""Has one number, category or cloud of vectors moved between two samples? Permutations of whole patients say.

Scans of one patient are alike, so patients, not scans, change sides: under "nothing has moved" every choice of as many
patients is as likely to be the batch as the one that is. A p-value is the share of choices whose statistic is at least
as large, the real one counted, so it holds exactly for any statistic (Phipson & Smyth 2010).

Legend: N scans of both samples, B choices of patients of which row 0 is the real one, K categories, Q features.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float32]
ROWS_AT_ONCE = 250


def sides(is_batch_N: np.ndarray, group_N: np.ndarray, num_permutations: int, rng: np.random.Generator) -> Floats:
    """Membership in the batch, 1 or 0, (B, N) with B = permutations + 1; row 0 is the real one.

    Args:
        is_batch_N: Whether a scan is of the batch; all scans of a group are on one side.
        group_N: Patient as a number from 0.
        num_permutations: How many choices are drawn.
        rng: Draws them.
    """
    num_groups = int(group_N.max()) + 1
    of_batch_G = np.zeros(num_groups, bool)
    of_batch_G[group_N[is_batch_N]] = True
    out_BN = np.empty((num_permutations + 1, len(group_N)), np.float32)
    out_BN[0] = is_batch_N
    for b in range(num_permutations):
        out_BN[b + 1] = rng.permutation(of_batch_G)[group_N]
    return out_BN


def p_value(statistic_B: np.ndarray) -> float:
    """Share of choices that are at least as extreme as the real one, row 0, itself counted."""
    return float((statistic_B >= statistic_B[0] - 1e-9).mean())


def kolmogorov_smirnov(value_N: np.ndarray, side_BN: Floats) -> np.ndarray:
    """Largest distance of the two distribution functions, 0..1, (B,); 0 where a side is empty.

    Args:
        value_N: Finite numbers.
        side_BN: From `sides`.
    """
    order = np.argsort(value_N, kind="stable")
    is_last_N = np.r_[np.diff(value_N[order]) > 0, True]
    out_B = np.zeros(len(side_BN))
    for start in range(0, len(side_BN), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        batch_BN = side_BN[rows][:, order].astype(np.float64)
        num_B = batch_BN.sum(1, keepdims=True)
        rest_B = len(value_N) - num_B
        weight_BN = batch_BN / np.maximum(num_B, 1) - (1 - batch_BN) / np.maximum(rest_B, 1)
        distance_B = np.abs(np.cumsum(weight_BN, axis=1)[:, is_last_N]).max(1)
        out_B[rows] = np.where((num_B[:, 0] > 0) & (rest_B[:, 0] > 0), distance_B, 0.0)
    return out_B


def chi_square(category_N: np.ndarray, num_categories: int, side_BN: Floats) -> np.ndarray:
    """Pearson's chi-square of side by category, (B,).

    Args:
        category_N: Category as a number from 0.
        num_categories: K.
        side_BN: From `sides`.
    """
    batch_BK, total_K = _counts(category_N, num_categories, side_BN)
    share_B = batch_BK.sum(1, keepdims=True) / len(category_N)
    expected_BK = share_B * total_K
    variance_BK = np.maximum(expected_BK * (1 - share_B), 1e-12)
    return np.asarray((np.square(batch_BK - expected_BK) / variance_BK).sum(1))


def largest_growth(category_N: np.ndarray, num_categories: int, side_BN: Floats) -> tuple[np.ndarray, np.ndarray]:
    """How much a category's share is larger in the batch, in standard errors: the largest (B,), and all real ones (K,).

    One statistic for all categories: its null distribution is that of the largest, so that looking at many is paid for
    (Westfall & Young 1993).
    """
    batch_BK, total_K = _counts(category_N, num_categories, side_BN)
    num = len(category_N)
    num_B = batch_BK.sum(1, keepdims=True)
    rest_B = num - num_B
    difference_BK = batch_BK / np.maximum(num_B, 1) - (total_K - batch_BK) / np.maximum(rest_B, 1)
    share_K = total_K / num
    error_BK = np.sqrt(
        np.maximum(share_K * (1 - share_K), 1e-9) * (1 / np.maximum(num_B, 1) + 1 / np.maximum(rest_B, 1))
    )
    growth_BK = difference_BK / error_BK
    return growth_BK.max(1), growth_BK[0]


def mean_discrepancy(x_NQ: np.ndarray, side_BN: Floats) -> np.ndarray:
    """Squared maximum mean discrepancy with a Gaussian kernel as wide as the median distance, (B,).

    Source: Gretton et al. 2012, "A kernel two-sample test"; as a test for shift Rabanser et al. 2019.
    """
    x = np.asarray(x_NQ, np.float64)
    square_N = np.square(x).sum(1)
    square_NN = np.maximum(square_N[:, None] + square_N[None] - 2 * x @ x.T, 0.0)
    median = float(np.median(square_NN[np.triu_indices(len(x), 1)])) if len(x) > 1 else 1.0
    kernel_NN = np.exp(-square_NN / max(median, 1e-12)).astype(np.float32)
    np.fill_diagonal(kernel_NN, 0.0)  # a scan is no evidence of what its like are
    out_B = np.empty(len(side_BN))
    for start in range(0, len(side_BN), ROWS_AT_ONCE):
        batch_BN = side_BN[start : start + ROWS_AT_ONCE]
        num_B = batch_BN.sum(1, keepdims=True)
        weight_BN = batch_BN / np.maximum(num_B, 1) - (1 - batch_BN) / np.maximum(len(x) - num_B, 1)
        out_B[start : start + len(batch_BN)] = (weight_BN @ kernel_NN * weight_BN).sum(1)
    return out_B


def too_many_outside(num_outside: int, num: int, num_held_out: int, false_alarm_rate: float) -> float:
    """p-value of so many new scans above the threshold that held-out scans have fixed.

    Exact for scans like those: the number above a rank of H others follows a beta-binomial law (Vovk 2012,
    "Conditional validity of inductive conformal predictors", proposition 2).
    """
    above = num_held_out + 1 - int(np.ceil((num_held_out + 1) * (1.0 - false_alarm_rate)))
    return float(stats.betabinom.sf(num_outside - 1, num, max(above, 1e-9), num_held_out + 1 - above))


def _counts(category_N: np.ndarray, num_categories: int, side_BN: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Scans of the batch by category (B, K), and of both samples (K,)."""
    one_hot_NK = np.eye(num_categories, dtype=np.float32)[category_N]
    return (side_BN @ one_hot_NK).astype(np.float64), one_hot_NK.sum(0).astype(np.float64)
