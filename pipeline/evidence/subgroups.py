"""Where does the model do worst? Every sub-population against the rest, with intervals and honest p-values.

Shapes: N scans, C findings, K groups (patients), S slices, F shuffles.

The p-value is that of "inside the slice the model is right as often as outside". It comes from a permutation
over patients: each gets the outcomes (right or wrong) of another patient with about as many scans, in random
order. So what scans of one patient have in common stays in, and it serves slices of patients (sex) and those
that cut through patients (view), and keeps its level (`tests/bench/results/coverage.md`). A test that knows the
spread inside a small slice from that slice alone does not: without a mistake in it there is none (flipping the
signs of patients' scores called 9 times in 100 at a level of 5, in a slice of ten patients).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts.healthy_class import healthy_among
from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats, Ints
from pipeline.measures.holdout_metrics import values_and_intervals
from pipeline.measures.holm import holm
from pipeline.measures.weighted_metrics import Scores, number

MIN_SCANS = 20  # of a slice that is tested
NUM_SHUFFLES = 1999
MIN_STRATUM = 10  # patients who exchange outcomes; a rarer number of scans joins the next
UNKNOWN = "unknown"
ROUNDING = 1e-9

_METRICS = ("auroc", "accuracy", "balanced_accuracy")


def slice_table(
    prob_NC: Floats,
    predicted_N: Ints,
    truth_N: Ints,
    findings: Sequence[str],
    group_of_N: Ints,
    slices: Mapping[str, Sequence[str | None]],
    *,
    positive: int | None,
    num_bootstrap: int,
    rng: np.random.Generator,
    min_scans: int = MIN_SCANS,
) -> list[dict[str, Any]]:
    """One row per slice, in the order of `slices` and of the names.

    Args:
        prob_NC: Probabilities, (N, C).
        predicted_N: Class index at the operating point, (N,).
        truth_N: Class index, (N,).
        findings: C names.
        group_of_N: Patient-group number 0..K-1, (N,).
        slices: What is sliced by (`"sex"`) to each scan's slice, (N,); None, NaN or "" is `"unknown"`.
        positive: Index of the class that is the finding; None where no single one is.
        num_bootstrap: Replicates of the intervals; 0 leaves them None.
        rng: Draws replicates and shuffles.
        min_scans: Smaller slices get their counts and values, no interval and no p.

    Returns:
        `{"by", "slice", "num_scans", "num_groups", "num_positive", "auroc", "auroc_ci95", "accuracy",
        "accuracy_ci95", "balanced_accuracy", "balanced_accuracy_ci95", "difference", "difference_ci95",
        "p_value", "p_holm", "reason"}`. `num_positive` counts cases: scans of the positive class, else of
        any class but a healthy one. `difference` is the accuracy inside minus that outside; its interval puts both
        sides' together as if they were independent. AUROC and balanced accuracy are None where a finding is missing.
        `p_holm` is Holm's over all slices tested; `reason` says why one was not, else None.

    Raises:
        ValueError: If a list of slices is not one per scan.

    Source: Newcombe 1998, method 10 (difference); Holm 1979.
    """
    marks = _marks(slices, len(truth_N))
    sample = _Sample(prob_NC, predicted_N, truth_N, group_of_N)
    cases = _cases(findings, positive)
    rows = [
        {"by": by, "slice": name}
        | _row(sample.part(inside_N), sample.part(~inside_N), positive, cases, num_bootstrap, rng, min_scans)
        for by, name, inside_N in marks
    ]
    correct_N = (predicted_N == truth_N).astype(np.float64)
    tested = [i for i, row in enumerate(rows) if row["reason"] is None]
    for i, p in zip(tested, permutation_p(correct_N, [marks[i][2] for i in tested], group_of_N, rng), strict=True):
        rows[i]["p_value"] = p
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows


def _marks(slices: Mapping[str, Sequence[str | None]], num_scans: int) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """What is sliced by, the slice's name and which scans are in it, (N,), of every slice."""
    marks: list[tuple[str, str, NDArray[np.bool_]]] = []
    for by, names in slices.items():
        if len(names) != num_scans:
            raise ValueError(f"{num_scans} scans but {len(names)} values of {by!r}")
        name_N = np.array(
            [UNKNOWN if name is None or name != name or name == "" else str(name) for name in names], object
        )
        marks += [(by, name, name_N == name) for name in sorted(set(name_N))]
    return marks


def permutation_p(
    correct_N: Floats, inside_SN: Sequence[NDArray[np.bool_]], group_of_N: Ints, rng: np.random.Generator
) -> list[float]:
    """Two-sided p of "right as often inside as outside" for each slice, at least 1 / (F + 1).

    The null: patients with about as many scans could have had each other's outcomes, and so could the scans
    of a patient. Exact where no patients of unequal size had to be put in one stratum.

    Args:
        correct_N: 1 where the call was right, (N,).
        inside_SN: Scans of each slice, S times (N,).
        group_of_N: Patient-group number of each scan, (N,).
        rng: Draws the shuffles, the same for all slices.

    Source: Good 2005 (restricted permutation); Winkler et al. 2015 (blocks of exchangeable units).
    """
    if not len(inside_SN):
        return []
    by_patient_N = np.argsort(group_of_N, kind="stable")
    size_K = np.bincount(group_of_N)
    start_K = np.cumsum(size_K) - size_K
    patient_N = np.repeat(np.arange(len(size_K)), size_K)
    slot_N = np.arange(len(group_of_N)) - start_K[patient_N]
    by_stratum_K, stratum_K = _strata(size_K)
    outcome_N = (correct_N - correct_N.mean())[by_patient_N]
    inside_NS = np.asarray(inside_SN, np.float64).T[by_patient_N]
    inside_NS -= inside_NS.mean(axis=0)  # a total that changes with unequal sizes has no part in it
    seen_S, as_far_S = np.abs(outcome_N @ inside_NS), np.zeros(len(inside_SN), np.int64)
    chunk = max(1, bootstrap.CHUNK_CELLS // len(group_of_N))
    for start in range(0, NUM_SHUFFLES, chunk):
        size = min(chunk, NUM_SHUFFLES - start)
        donor_FK = np.empty((size, len(size_K)), np.int64)
        drawn_FK = np.argsort(stratum_K + rng.random((size, len(size_K))), axis=1)
        donor_FK[:, by_stratum_K] = by_stratum_K[drawn_FK]
        shuffled_FN = np.argsort(patient_N + rng.random((size, len(patient_N))), axis=1)
        donor_FN = donor_FK[:, patient_N]
        place_FN = (start_K[donor_FN] + slot_N % size_K[donor_FN]).astype(np.int64)
        moved_FN = outcome_N[np.take_along_axis(shuffled_FN, place_FN, axis=1)]
        as_far_S += (np.abs(moved_FN @ inside_NS) >= seen_S - ROUNDING).sum(axis=0)
    return [float(p) for p in (1 + as_far_S) / (1 + NUM_SHUFFLES)]


def _strata(size_K: Ints) -> tuple[Ints, Ints]:
    """Patients ordered by size, and the stratum of each in that order: one size each where it has enough patients."""
    by_size_K = np.argsort(size_K, kind="stable")
    size_K = size_K[by_size_K]
    stratum_K = np.zeros(len(size_K), np.int64)
    first = 0
    for k in range(1, len(size_K)):
        left = len(size_K) - k
        if size_K[k] != size_K[k - 1] and k - first >= MIN_STRATUM and left >= MIN_STRATUM:
            first = k
        stratum_K[k] = first
    return by_size_K, stratum_K


class _Sample(NamedTuple):
    """Scans with what is known of them; the groups are numbered 0..K-1."""

    prob_NC: Floats
    predicted_N: Ints
    truth_N: Ints
    group_of_N: Ints

    def part(self, inside_N: NDArray[np.bool_]) -> "_Sample":
        group_of_inside_N = np.unique(self.group_of_N[inside_N], return_inverse=True)[1]
        return _Sample(self.prob_NC[inside_N], self.predicted_N[inside_N], self.truth_N[inside_N], group_of_inside_N)

    def accuracy(self, num_bootstrap: int, rng: np.random.Generator) -> tuple[float, list[float] | None]:
        """The accuracy and its interval."""
        correct_N = (self.predicted_N == self.truth_N).astype(np.float64)

        def measure(weight_BN: Floats) -> dict[str, Floats]:
            return {"accuracy": weight_BN @ correct_N / weight_BN.sum(axis=1)}

        value, num_groups = float(correct_N.mean()), int(self.group_of_N.max()) + 1
        value_B = bootstrap.replicates(measure, self.group_of_N, num_bootstrap, rng).get("accuracy", np.empty(0))
        return value, bootstrap.share_interval(value, value_B, num_groups, num_groups - 1)


def _row(
    inside: _Sample,
    outside: _Sample,
    positive: int | None,
    cases: Sequence[int],
    num_bootstrap: int,
    rng: np.random.Generator,
    least: int,
) -> dict[str, Any]:
    num_scans, num_groups = len(inside.truth_N), int(inside.group_of_N.max()) + 1
    reason: str | None
    if num_scans < least:
        num_bootstrap, reason = 0, f"fewer than {least} scans"
    elif num_groups < 2:
        reason = "one patient only"
    else:
        reason = None if len(outside.truth_N) else "no scan outside the slice"
    scores = Scores(inside.prob_NC, inside.predicted_N, inside.truth_N, positive)
    value, interval = values_and_intervals(scores, inside.group_of_N, num_bootstrap, rng)
    num_positive = int(np.isin(inside.truth_N, cases).sum())
    row: dict[str, Any] = {"num_scans": num_scans, "num_groups": num_groups, "num_positive": num_positive}
    for metric in _METRICS:
        defined = metric == "accuracy" or len(scores.present) == scores.num_classes
        row[metric] = number(value[metric]) if defined else None
        row[f"{metric}_ci95"] = interval.get(metric) if defined else None
    row |= {"difference": None, "difference_ci95": None, "p_value": None, "p_holm": None, "reason": reason}
    if len(outside.truth_N):
        rest, rest_ci = outside.accuracy(0 if reason else num_bootstrap, rng)
        row["difference"] = value["accuracy"] - rest
        row["difference_ci95"] = _difference_interval(value["accuracy"], row["accuracy_ci95"], rest, rest_ci)
    return row


def _difference_interval(
    inside: float, inside_ci: list[float] | None, outside: float, outside_ci: list[float] | None
) -> list[float] | None:
    if inside_ci is None or outside_ci is None:
        return None
    difference = inside - outside
    low = difference - np.hypot(inside - inside_ci[0], outside_ci[1] - outside)
    high = difference + np.hypot(inside_ci[1] - inside, outside - outside_ci[0])
    return [float(low), float(high)]


def _cases(findings: Sequence[str], positive: int | None) -> list[int]:
    """Indices of the classes whose scans count as cases."""
    healthy = healthy_among(findings)
    return [c for c, finding in enumerate(findings) if finding not in healthy] if positive is None else [positive]
