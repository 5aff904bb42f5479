"""The arithmetic of a prediction, in numpy alone: it goes with an exported model as it stands here.

Legend: N scans, C classes, P features, Q of them that are looked at, R scans of the training pool that are compared
with, H held-out scans, B redraws of the calibration.
"""

import math

import numpy as np

NUM_NEIGHBORS = 5  # one odd scan in the training pool makes none of its like known
CONFIDENCE = 0.95
ROWS_AT_ONCE = 512


def scaled(x_NP: np.ndarray, scale_Q: np.ndarray) -> np.ndarray:
    """The leading features, each over its spread (N, Q), float32."""
    return np.asarray(x_NP[:, : len(scale_Q)] * scale_Q, np.float32)


def kth_distances(
    x_NQ: np.ndarray,
    reference_RQ: np.ndarray,
    num_neighbors: int = NUM_NEIGHBORS,
    group_N: np.ndarray | None = None,
    group_R: np.ndarray | None = None,
) -> np.ndarray:
    """Euclidean distance to the k-th nearest row of a reference (N,), float64; inf of none.

    Args:
        x_NQ: Rows that are asked for.
        reference_RQ: Rows they are compared with; with fewer than k the farthest counts.
        num_neighbors: k.
        group_N: Patient of each row, as a number; its own patient's rows do not count. None: all count.
        group_R: The same of the reference.
    """
    reference = reference_RQ.astype(np.float64, copy=False)
    square_R = np.square(reference).sum(1)
    place = min(num_neighbors, len(reference)) - 1
    out_N = np.empty(len(x_NQ))
    for start in range(0, len(x_NQ), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        block = np.asarray(x_NQ[rows], np.float64)
        square_BR = np.square(block).sum(1)[:, None] + square_R - 2.0 * block @ reference.T
        if group_N is not None and group_R is not None:
            square_BR[group_N[rows, None] == group_R[None, :]] = np.inf
        out_N[rows] = np.sqrt(np.maximum(np.partition(square_BR, place, axis=1)[:, place], 0.0))
    return out_N


def threshold(held_out_H: np.ndarray, false_alarm_rate: float) -> float | None:
    """The distance beyond which a scan counts as outside; None: too few held-out scans to promise the rate.

    The split-conformal quantile: of new scans like the held-out ones no larger share lies beyond it, on average.

    Args:
        held_out_H: Distances of scans that belong, rising.
        false_alarm_rate: Inside (0, 1).

    Source: Vovk, Gammerman & Shafer 2005; for outliers Bates et al. 2023.
    """
    rank = math.ceil((len(held_out_H) + 1) * (1.0 - false_alarm_rate))
    return float(held_out_H[rank - 1]) if 1 <= rank <= len(held_out_H) else None


def log_softmax(logit_NC: np.ndarray) -> np.ndarray:
    """Logarithm of `softmax` (N, C), float64."""
    exact = np.asarray(logit_NC, np.float64)
    exact = exact - exact.max(-1, keepdims=True)
    return np.asarray(exact - np.log(np.exp(exact).sum(-1, keepdims=True)))


def calibration_interval(
    logit_NC: np.ndarray,
    prob_NC: np.ndarray,
    temperature_B: np.ndarray,
    bias_BC: np.ndarray,
    log_prior_BC: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end for each scan and class, (N, C) both; the probability itself lies between.

    Args:
        logit_NC: Calibrated logits at balanced classes, the temperature taken out.
        prob_NC: The probabilities.
        temperature_B: Of those logits in each redraw; 1 leaves them.
        bias_BC: Added to them after that.
        log_prior_BC: Logarithm of the pool's class shares in each redraw.
    """
    low_NC, high_NC = prob_NC.copy(), prob_NC.copy()
    for start in range(0, len(logit_NC), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        moved_BNC = logit_NC[None, rows] / temperature_B[:, None, None] + (bias_BC + log_prior_BC)[:, None, :]
        prob_BNC = np.exp(log_softmax(moved_BNC))
        ends_2NC = np.quantile(prob_BNC, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
        low_NC[rows] = np.minimum(ends_2NC[0], prob_NC[rows])
        high_NC[rows] = np.maximum(ends_2NC[1], prob_NC[rows])
    return low_NC, high_NC
