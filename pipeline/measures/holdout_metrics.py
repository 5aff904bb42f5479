"""The evidence on the sealed holdout: metrics with patient-cluster intervals.

Shapes: N images, C findings, K groups (patients), B bootstrap replicates, T distinct thresholds.

Every metric is a function of the scans' weights (`measures/weighted_metrics.py`), every interval one of the
rules of `measures/bootstrap.py`. Undefined is NaN inside, None outside.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats, Ints
from pipeline.measures.folds import group_index
from pipeline.measures.holdout_record import ClassMetrics, HoldoutMetrics, Interval
from pipeline.measures.weighted_metrics import Scores, number

NUM_ECE_BINS = 15


def evaluate(
    prob_NC: ArrayLike,
    predicted_N: ArrayLike,
    truth_N: ArrayLike,
    findings: Sequence[str],
    groups_N: Sequence[Hashable],
    *,
    positive: int | None,
    num_bootstrap: int,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> HoldoutMetrics:
    """All metrics of one set of scans; None where undefined.

    With a positive class `auroc`, `auprc`, `sensitivity`, `specificity` and `f1` are its own, and `positive` names
    it. Without: one-vs-rest, the plain mean over the classes the truth holds. A class the truth lacks has None for
    its own values and no part in a mean. `balanced_accuracy` is the mean recall of the classes present. `auprc` is
    the average precision (no interpolation).

    `brier` is, with a positive class, the mean of `(p - y)^2` of it (0..1); else the mean over scans of the sum over
    classes (0..2). `ece`: see `expected_calibration_error`.

    Intervals: `bootstrap.ranking_interval` for `auroc` and `auprc`, `bootstrap.share_interval` for the rest,
    over redrawn patient groups. A replicate in which the metric is
    undefined, for instance because it drew no patient of one class, is dropped; where fewer than half
    remain, or fewer than two groups inform the metric (one patient holds all positive scans), the
    interval is None. The keys end in `ci95` whatever `confidence` is.

    Args:
        prob_NC: Probabilities, rows sum to 1, (N, C).
        predicted_N: Class index chosen at the operating point, (N,).
        truth_N: Class index, (N,).
        findings: C names.
        groups_N: Patient-group ids, (N,).
        positive: Index of the class that the headline is of; None where it is of all of them.
        num_bootstrap: Replicates; 0 leaves every interval None.
        rng: Draws the replicates; the only randomness.
        confidence: Of the two-sided intervals, inside (0, 1).

    Raises:
        ValueError: On no scans, shapes that do not match, values out of range, or a scan without a group.
    """
    prob_NC, predicted_N, truth_N = checked(prob_NC, predicted_N, truth_N, findings, positive)
    if len(groups_N) != len(truth_N):
        raise ValueError(f"{len(truth_N)} scans but {len(groups_N)} groups")
    if num_bootstrap < 0 or not 0.0 < confidence < 1.0:
        raise ValueError(f"cannot draw {num_bootstrap} replicates at confidence {confidence}")
    group_of_N = group_index(groups_N)
    scores = Scores(prob_NC, predicted_N, truth_N, positive)
    value, interval = values_and_intervals(scores, group_of_N, num_bootstrap, rng, confidence)
    return _recorded(scores, prob_NC, findings, int(group_of_N.max()) + 1, value, interval)


def _recorded(
    scores: Scores,
    prob_NC: Floats,
    findings: Sequence[str],
    num_groups: int,
    value: Mapping[str, float],
    interval: Mapping[str, Interval],
) -> HoldoutMetrics:
    num_scans = len(scores.truth_N)
    count_C = np.bincount(scores.truth_N, minlength=len(findings))
    return HoldoutMetrics(
        auroc=number(value["auroc"]),
        auroc_ci95=interval.get("auroc"),
        auprc=number(value["auprc"]),
        auprc_ci95=interval.get("auprc"),
        accuracy=number(value["accuracy"]),
        accuracy_ci95=interval.get("accuracy"),
        balanced_accuracy=number(value["balanced_accuracy"]),
        balanced_accuracy_ci95=interval.get("balanced_accuracy"),
        sensitivity=number(value["sensitivity"]),
        sensitivity_ci95=interval.get("sensitivity"),
        specificity=number(value["specificity"]),
        specificity_ci95=interval.get("specificity"),
        f1=number(value["f1"]),
        f1_ci95=interval.get("f1"),
        ece=expected_calibration_error(prob_NC.max(axis=1), prob_NC.argmax(axis=1) == scores.truth_N),
        brier=float(scores.brier_N.mean()),
        confusion=scores.confusion_CC.tolist(),
        num_scans=num_scans,
        num_groups=num_groups,
        prevalence={f: float(n / num_scans) for f, n in zip(findings, count_C, strict=True)},
        majority_accuracy=float(count_C.max() / num_scans),
        positive=None if scores.positive is None else findings[scores.positive],
        per_class={f: _class_metrics(c, scores.confusion_CC, value, interval) for c, f in enumerate(findings)},
    )


def values_and_intervals(
    scores: Scores, group_of_N: Ints, num_bootstrap: int, rng: np.random.Generator, confidence: float = 0.95
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Every metric of `scores`, NaN where undefined, and its interval over redrawn groups, None likewise."""
    value = {k: float(v[0]) for k, v in scores.measure(np.ones((1, len(group_of_N)))).items()}
    informed = scores.informed(group_of_N)
    return value, {
        name: informed[name].interval(value[name], value_B, confidence)
        for name, value_B in bootstrap.replicates(scores.measure, group_of_N, num_bootstrap, rng).items()
    }


def expected_calibration_error(confidence_N: ArrayLike, correct_N: ArrayLike, num_bins: int = NUM_ECE_BINS) -> float:
    """Mean gap between confidence and correctness over bins of equal mass, 0..1.

    Args:
        confidence_N: Probability of the most probable class, (N,).
        correct_N: Whether that class is the truth, (N,).
        num_bins: Bins; with fewer scans, one scan a bin.

    Source: Guo et al. 2017; equal mass after Nguyen & O'Connor 2015.
    """
    bins = reliability(confidence_N, correct_N, num_bins)
    total = sum(b["count"] for b in bins)
    return float(sum(b["count"] / total * abs(b["confidence"] - b["accuracy"]) for b in bins)) if bins else 0.0


def reliability(prob_N: ArrayLike, correct_N: ArrayLike, num_bins: int = 10) -> list[dict[str, float]]:
    """Bins of equal mass, least confident first: `{"confidence", "accuracy", "count"}`.

    Scans with the same probability share their mean correctness, so that the order of the rows does not
    decide which bin an error falls into.
    """
    prob, correct = np.asarray(prob_N, np.float64), np.asarray(correct_N, np.float64)
    if prob.shape != correct.shape or prob.ndim != 1 or num_bins < 1:
        raise ValueError(f"cannot put {prob.shape} probabilities and {correct.shape} answers in {num_bins} bins")
    if not len(prob):
        return []
    distinct, tie_N, size = np.unique(prob, return_inverse=True, return_counts=True)
    mean = np.bincount(tie_N, weights=correct) / size
    prob_sorted, correct_sorted = np.repeat(distinct, size), np.repeat(mean, size)
    parts = np.array_split(np.arange(len(prob)), min(num_bins, len(prob)))
    return [
        {
            "confidence": float(prob_sorted[i].mean()),
            "accuracy": float(correct_sorted[i].mean()),
            "count": len(i),
        }
        for i in parts
    ]


def _class_metrics(
    c: int, confusion_CC: Ints, value: Mapping[str, float], interval: Mapping[str, Interval]
) -> ClassMetrics:
    tp = int(confusion_CC[c, c])
    fn, fp = int(confusion_CC[c].sum()) - tp, int(confusion_CC[:, c].sum()) - tp
    return ClassMetrics(
        auroc=number(value.get(f"auroc:{c}")),
        auroc_ci95=interval.get(f"auroc:{c}"),
        auprc=number(value.get(f"auprc:{c}")),
        sensitivity=number(value.get(f"sensitivity:{c}")),
        sensitivity_ci95=interval.get(f"sensitivity:{c}"),
        specificity=number(value.get(f"specificity:{c}")),
        specificity_ci95=interval.get(f"specificity:{c}"),
        precision=number(value.get(f"precision:{c}")),
        f1=number(value.get(f"f1:{c}")),
        tp=tp,
        fp=fp,
        tn=int(confusion_CC.sum()) - tp - fn - fp,
        fn=fn,
        num_positive=tp + fn,
    )


def checked(
    prob_NC: ArrayLike, predicted_N: ArrayLike, truth_N: ArrayLike, findings: Sequence[str], positive: int | None
) -> tuple[Floats, Ints, Ints]:
    """The arrays as float64 and int64, refused where they cannot be what they are said to be.

    Raises:
        ValueError: As `evaluate` does.
    """
    prob, predicted, truth = np.asarray(prob_NC, np.float64), np.asarray(predicted_N), np.asarray(truth_N)
    if len(findings) < 2 or len(set(findings)) != len(findings):
        raise ValueError(f"at least two different findings are needed, not {list(findings)}")
    if positive is not None and not 0 <= positive < len(findings):
        raise ValueError(f"the positive class must be 0..{len(findings) - 1}, not {positive}")
    if prob.shape != (len(truth), len(findings)) or predicted.shape != truth.shape or truth.ndim != 1:
        raise ValueError(
            f"shapes do not match: probabilities {prob.shape}, predicted {predicted.shape}, "
            f"truth {truth.shape}, {len(findings)} findings"
        )
    if not len(truth):
        raise ValueError("there are no scans to evaluate")
    # Written so that NaN fails as well.
    if not ((prob >= 0).all() and (np.abs(prob.sum(axis=1) - 1) < 1e-3).all()):
        raise ValueError("probabilities must not be negative and every row must sum to 1")
    for name, values in (("predicted", predicted), ("truth", truth)):
        if not (np.issubdtype(values.dtype, np.integer) and ((values >= 0) & (values < len(findings))).all()):
            raise ValueError(f"{name} must be class indices 0..{len(findings) - 1}")
    return prob, predicted.astype(np.int64), truth.astype(np.int64)
