"""How frequent each class is among scans without labels, and how often the model is right of them.

Legend: N scans, C classes, B redraws of patients.
"""

from dataclasses import dataclass

import numpy as np

NUM_REDRAWS = 200
MAX_STEPS = 100
SMALLEST = 1e-6
BLIND = 0.1  # smallest singular value of a confusion matrix that still tells classes apart
ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval, or why there is none.

    Attributes:
        value: The estimate, 0..1; None: refused.
        low: Lower end.
        high: Upper end.
        refused: Why; None: it stands.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    refused: str | None = None


def redraws(group_N: np.ndarray, rng: np.random.Generator, num: int = NUM_REDRAWS) -> np.ndarray:
    """How often each scan counts when patients are redrawn with replacement, (B + 1, N); row 0 is the sample itself."""
    group, place_N = np.unique(group_N, return_inverse=True)
    count_BG = rng.multinomial(len(group), np.full(len(group), 1 / len(group)), num)
    return np.vstack([np.ones(len(group_N)), count_BG[:, place_N]]).astype(np.float64)


def em_shares(prob_NC: np.ndarray, prior_C: np.ndarray, weight_BN: np.ndarray) -> np.ndarray:
    """Class shares (B, C) that explain calibrated probabilities best, in each redraw.

    Args:
        prob_NC: Calibrated at `prior_C`.
        prior_C: Positive, sums to 1.
        weight_BN: How often each scan counts.

    Source: Saerens, Latinne & Decaestecker 2002 (maximum likelihood by EM under label shift).
    """
    ratio_NC = np.maximum(prob_NC, SMALLEST) / prior_C
    share_BC = np.tile(prior_C, (len(weight_BN), 1)).astype(np.float64)
    total_B1 = np.maximum(weight_BN.sum(1, keepdims=True), 1e-12)
    for _ in range(MAX_STEPS):
        before = share_BC
        # Sum over scans of w_n r_nc s_c / (r_n . s), without an array of redraws by scans by classes.
        per_scan_BN = weight_BN / (share_BC @ ratio_NC.T)
        share_BC = share_BC * (per_scan_BN @ ratio_NC) / total_B1
        if np.abs(share_BC - before).max() < 1e-6:
            break
    return share_BC


def at_shares(prob_NC: np.ndarray, prior_C: np.ndarray, share_C: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) had the classes these shares; see `calibrate.shift_prior`."""
    moved_NC = np.maximum(prob_NC, SMALLEST) * (share_C / prior_C)
    return np.asarray(moved_NC / moved_NC.sum(1, keepdims=True))


def bbse_shares(
    answer_N: np.ndarray, confusion_CC: np.ndarray, weight_BN: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """Class shares (B, C) from how often each answer is given and how often the model errs; None: it cannot tell.

    Args:
        answer_N: Class that the model named.
        confusion_CC: Held-out scans by true class (rows) and answer.
        weight_BN: How often each scan counts; row 0 is the sample, of the others the confusions are redrawn too.
        rng: Redraws them.

    Source: Lipton, Wang & Smola 2018 (black box shift estimation).
    """
    num_classes = len(confusion_CC)
    if (confusion_CC.sum(1) == 0).any():
        return None
    rate_CC = (confusion_CC / confusion_CC.sum(1, keepdims=True)).T  # answers by true class
    if np.linalg.svd(rate_CC, compute_uv=False)[-1] < BLIND:
        return None
    mean_BC = weight_BN @ np.eye(num_classes)[answer_N] / np.maximum(weight_BN.sum(1, keepdims=True), 1e-12)
    out_BC = np.empty_like(mean_BC)
    for b, mean_C in enumerate(mean_BC):
        drawn = rate_CC if b == 0 else np.column_stack([rng.dirichlet(row_C + 0.5) for row_C in confusion_CC])
        share_C = np.clip(np.linalg.lstsq(drawn, mean_C, rcond=None)[0], 0.0, None)
        out_BC[b] = share_C / max(share_C.sum(), 1e-12)
    return np.asarray(out_BC)


def estimates(share_BC: np.ndarray) -> list[Estimate]:
    """One estimate a class."""
    low_C, high_C = np.quantile(share_BC[1:], ENDS, axis=0)
    return [Estimate(float(v), float(a), float(b)) for v, a, b in zip(share_BC[0], low_C, high_C, strict=True)]


@dataclass(frozen=True)
class Judged:
    """What a question of the holdout came to, as the run measured it.

    Attributes:
        accuracy: Share of right answers.
        standard_error: Of that.
        confusion_CC: Scans by true class and answer.
    """

    accuracy: float
    standard_error: float
    confusion_CC: np.ndarray


def accuracy(reference_B: np.ndarray, batch_B: np.ndarray, judged: Judged, rng: np.random.Generator) -> Estimate:
    """Accuracy among scans without labels: that of the holdout, less what confidence has lost since.

    Args:
        reference_B: Mean probability of the given answer in the reference; row 0 is the sample, the others redraws.
        batch_B: The same of the batch.
        judged: The holdout.
        rng: Draws the holdout's accuracy.

    Source: difference of confidences, Guillory et al. 2021, "Predicting with confidence on unseen distributions".
    """
    accuracy_B = judged.accuracy + judged.standard_error * rng.standard_normal(len(batch_B))
    accuracy_B[0] = judged.accuracy
    estimate_B = np.clip(accuracy_B - (reference_B - batch_B), 0.0, 1.0)
    low, high = np.quantile(estimate_B[1:], ENDS)
    return Estimate(float(estimate_B[0]), float(low), float(high))


def like_the_batch(weight_N: np.ndarray, group_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of the reference, patient by patient, kept with a chance in proportion to their weight.

    What is kept has the class shares of the batch: if nothing else has moved, the two can no longer be told apart.

    Args:
        weight_N: Batch over reference: how many times as frequent scans of such probabilities are.
        group_N: Patient.
        rng: Keeps or drops.
    """
    group, place_N = np.unique(group_N, return_inverse=True)
    weight_G = np.bincount(place_N, weight_N) / np.bincount(place_N)
    kept_G = rng.random(len(group)) < weight_G / max(float(np.quantile(weight_G, 0.98)), 1e-12)
    return np.flatnonzero(kept_G[place_N])
