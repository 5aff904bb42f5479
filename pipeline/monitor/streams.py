"""What is compared between a batch and the reference, stream by stream, and what of it has moved.

Every variable of every stream has one p-value, from permutations of whole patients that all of them share; Holm's
correction over all of them keeps the chance that a batch like the reference is called moved below one level.

Legend: N scans of both samples, B choices of patients, Q leading features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.contracts.options.evidence import MonitorConfig
from pipeline.measures.holm import holm
from pipeline.monitor import permutation_tests, picture_facts
from pipeline.monitor.observation import CATEGORIES, NUMBERS
from pipeline.monitor.sample import Sample, confidences

EMBEDDINGS, PICTURES, METADATA, PREDICTIONS, OUTSIDE, SLICES = (
    "embeddings",
    "pictures",
    "metadata",
    "predictions",
    "outside",
    "slices",
)
NUM_COMPONENTS = 8
MAX_CATEGORIES = 20
MAX_CLOUD = 600  # scans a side whose distances are all computed
FEWEST_KNOWN = 0.5  # share of both samples of which a column must be known to be compared


@dataclass(frozen=True)
class Reading:
    """What one variable came to.

    Attributes:
        stream: One of the six.
        variable: Its name.
        test: What was asked: `KS`, `chi-square`, `MMD`, `growth`, `beta-binomial`.
        statistic: Of the real sides.
        p_value: By permutation of patients.
        p_holm: The same, corrected for all variables.
        moved: Whether that is at most the level.
        reference: What the reference has: a median, or a share of each value.
        batch: What the batch has.
        effect: Of numbers the shift of the median over the spread of the reference; of categories the largest change
            of a share; else None.
    """

    stream: str
    variable: str
    test: str
    statistic: float
    p_value: float
    p_holm: float
    moved: bool
    reference: Any
    batch: Any
    effect: float | None


@dataclass
class _Question:
    stream: str
    variable: str
    test: str
    statistic: float
    p_value: float
    summary: tuple[Any, Any, float | None]


@dataclass(frozen=True)
class OutsideRule:
    """How a scan came to be called outside: by a threshold that `num_held_out` scans have fixed for a rate."""

    num_held_out: int
    false_alarm_rate: float


@dataclass
class Comparison:
    """Both samples side by side.

    Attributes:
        readings: One a variable.
        not_compared: Variable to why it was not.
        growth: Slice number to (share in the reference, share in the batch), of those that grew, most first.
    """

    readings: list[Reading] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)
    growth: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def moved(self) -> list[Reading]:
        """What has moved."""
        return [reading for reading in self.readings if reading.moved]

    def of(self, stream: str) -> list[Reading]:
        """The variables of a stream."""
        return [reading for reading in self.readings if reading.stream == stream]


class _Comparer:
    """Asks question after question of the same two samples and the same choices of patients."""

    def __init__(self, reference: Sample, batch: Sample, num_permutations: int, rng: np.random.Generator) -> None:
        self.reference, self.batch = reference, batch
        self.is_batch_N = np.r_[np.zeros(len(reference), bool), np.ones(len(batch), bool)]
        groups = [np.unique(side.group_N, return_inverse=True)[1] for side in (reference, batch)]
        self.group_N = np.r_[groups[0], groups[1] + groups[0].max() + 1]
        self.side_BN = permutation_tests.sides(self.is_batch_N, self.group_N, num_permutations, rng)
        self.questions: list[_Question] = []
        self.not_compared: dict[str, str] = {}

    def ask_numbers(self, stream: str, variable: str, reference_N: np.ndarray, batch_N: np.ndarray) -> None:
        """Kolmogorov-Smirnov of a number, of the scans of which it is known."""
        value_N = np.r_[reference_N, batch_N]
        known_N = np.isfinite(value_N)
        if not self._is_known(variable, known_N):
            return
        spread = np.subtract(*np.percentile(reference_N[np.isfinite(reference_N)], (75, 25))) / 1.349
        ends = (float(np.nanmedian(reference_N)), float(np.nanmedian(batch_N)))
        if np.ptp(value_N[known_N]) == 0:
            self.not_compared[variable] = "the same in every scan"
            return
        statistic_B = permutation_tests.kolmogorov_smirnov(value_N[known_N], self.side_BN[:, known_N])
        effect = (ends[1] - ends[0]) / max(spread, float(np.nanstd(reference_N)) * 0.1, 1e-9)
        self._add(stream, variable, "KS", statistic_B, (*ends, float(np.clip(effect, -99, 99))))

    def ask_words(self, stream: str, variable: str, reference: Sequence[Any], batch: Sequence[Any]) -> None:
        """Chi-square of a category, of the scans of which it is known; rare values are one."""
        both = [*reference, *batch]
        known_N = np.array([word is not None for word in both])
        if not self._is_known(variable, known_N):
            return
        value, place_N, count = np.unique(
            np.array([str(word) for word in both if word is not None]), return_inverse=True, return_counts=True
        )
        if len(value) < 2:
            self.not_compared[variable] = f"the same in every scan ({value[0]})"
            return
        kept = np.sort(np.argsort(-count, kind="stable")[:MAX_CATEGORIES])
        names = [*value[kept].tolist(), "other"]
        rank = np.full(len(value), len(kept))
        rank[kept] = np.arange(len(kept))
        category_N = rank[place_N]
        statistic_B = permutation_tests.chi_square(category_N, len(names), self.side_BN[:, known_N])
        self._add(stream, variable, "chi-square", statistic_B, _shares(category_N, self.is_batch_N[known_N], names))

    def ask_cloud(self, x_NQ: np.ndarray, rng: np.random.Generator) -> None:
        """MMD of the features."""
        rows = np.sort(
            np.concatenate([rng.permutation(np.flatnonzero(self.is_batch_N == side))[:MAX_CLOUD] for side in (0, 1)])
        )
        statistic_B = permutation_tests.mean_discrepancy(x_NQ[rows], self.side_BN[:, rows])
        self._add(EMBEDDINGS, "all components", "MMD", statistic_B, (None, None, None))

    def ask_growth(self) -> np.ndarray:
        """The slice that grew most; returns by how many standard errors each did (K,)."""
        category_N = np.r_[self.reference.cluster_N, self.batch.cluster_N]
        growth_B, growth_K = permutation_tests.largest_growth(category_N, int(category_N.max()) + 1, self.side_BN)
        self._add(SLICES, "slice that grew most", "growth", growth_B, (None, None, None))
        return np.where(growth_K > np.quantile(growth_B, 0.95), growth_K, 0.0)

    def ask_outside(self, rule: OutsideRule) -> None:
        """Share outside, one scan a patient at most: patients, not scans, are independent."""
        is_outside_N = np.array([bool(flag) for flag in self.batch.table["outside"].to_pylist()])
        group_N = np.unique(self.batch.group_N, return_inverse=True)[1]
        share_G = np.bincount(group_N, is_outside_N) / np.bincount(group_N)
        p_value = permutation_tests.too_many_outside(
            int(np.floor(share_G.sum() + 1e-9)), len(share_G), rule.num_held_out, rule.false_alarm_rate
        )
        share = float(is_outside_N.mean())
        summary = (rule.false_alarm_rate, share, share - rule.false_alarm_rate)
        self.questions.append(_Question(OUTSIDE, "share outside", "beta-binomial", share, p_value, summary))

    def _is_known(self, variable: str, known_N: np.ndarray) -> bool:
        shares = {
            "reference": float(known_N[~self.is_batch_N].mean()),
            "batch": float(known_N[self.is_batch_N].mean()),
        }
        poor = [f"known of {share:.0%} of the {name}" for name, share in shares.items() if share < FEWEST_KNOWN]
        if poor:
            self.not_compared[variable] = ", ".join(poor)
        return not poor

    def _add(self, stream: str, variable: str, test: str, statistic_B: np.ndarray, summary: Any) -> None:
        p_value = permutation_tests.p_value(statistic_B)
        self.questions.append(_Question(stream, variable, test, float(statistic_B[0]), p_value, summary))

    def answers(self, level: float) -> list[Reading]:
        """All questions with Holm's correction."""
        corrected = holm([question.p_value for question in self.questions])
        return [
            Reading(
                q.stream,
                q.variable,
                q.test,
                q.statistic,
                q.p_value,
                float(p or 0.0),
                bool((p or 0.0) <= level),
                *q.summary,
            )
            for q, p in zip(self.questions, corrected, strict=True)
        ]


def compare(
    reference: Sample,
    batch: Sample,
    findings: Sequence[str],
    rule: OutsideRule | None,
    config: MonitorConfig,
    rng: np.random.Generator,
    *,
    independent: bool = False,
    skip: Callable[[str], str | None] = lambda stream: None,
) -> Comparison:
    """Compare a batch with the reference in every stream.

    Args:
        reference: At least one patient.
        batch: At least one patient.
        findings: The model's.
        rule: What outside means; None: it cannot be said.
        config: Level and number of permutations.
        rng: Draws patients.
        independent: Whether the findings are independent.
        skip: By stream why it is left out; None: it is not.
    """
    comparer = _Comparer(reference, batch, config.num_permutations, rng)
    growth_K = np.empty(0)
    for stream, ask in _asks(comparer, findings, rule, independent, rng).items():
        why = skip(stream)
        if why is not None:
            comparer.not_compared[stream] = why
            continue
        result = ask()
        growth_K = growth_K if result is None else result
    shares = [np.bincount(side.cluster_N, minlength=len(growth_K)) / max(len(side), 1) for side in (reference, batch)]
    grown = [int(k) for k in np.argsort(-growth_K, kind="stable") if growth_K[k] > 0]
    growth = {k: (float(shares[0][k]), float(shares[1][k])) for k in grown}
    return Comparison(comparer.answers(config.false_alarm_rate), comparer.not_compared, growth)


def _asks(
    comparer: _Comparer,
    findings: Sequence[str],
    rule: OutsideRule | None,
    independent: bool,
    rng: np.random.Generator,
) -> dict[str, Callable[[], np.ndarray | None]]:
    """What each stream asks."""
    reference, batch = comparer.reference, comparer.batch

    def embeddings() -> None:
        x_NQ = np.concatenate([side.matrix("features") for side in (reference, batch)])
        comparer.ask_cloud(x_NQ, rng)
        for q in range(min(NUM_COMPONENTS, x_NQ.shape[1])):
            both = x_NQ[: len(reference), q], x_NQ[len(reference) :, q]
            comparer.ask_numbers(EMBEDDINGS, f"component {q + 1}", *both)

    def pictures() -> None:
        for fact in picture_facts.FACTS:
            comparer.ask_numbers(PICTURES, fact, reference.numbers(fact), batch.numbers(fact))
        own_NX, new_NX = (side.matrix("thumbnail") for side in (reference, batch))
        own_N = picture_facts.likeness_among(own_NX, reference.group_N)
        comparer.ask_numbers(PICTURES, "likeness", own_N, picture_facts.likeness(new_NX, own_NX.mean(0)))

    def metadata() -> None:
        for name in CATEGORIES:
            comparer.ask_words(METADATA, name, reference.words(name), batch.words(name))
        for name in NUMBERS:
            comparer.ask_numbers(METADATA, name, reference.numbers(name), batch.numbers(name))

    def predictions() -> None:
        sides = [confidences(side, findings, independent) for side in (reference, batch)]
        for question, confidence_N in sides[0].items():
            comparer.ask_numbers(PREDICTIONS, f"confidence in {question}", confidence_N, sides[1][question])
        for finding in findings if independent or len(findings) > 2 else findings[-1:]:
            comparer.ask_numbers(
                PREDICTIONS, f"probability of {finding}", *(side.probabilities(finding) for side in (reference, batch))
            )
        comparer.ask_words(PREDICTIONS, "answers", *(side.table["answer"].to_pylist() for side in (reference, batch)))

    def outside() -> None:
        if rule is None:
            comparer.not_compared[OUTSIDE] = "too few held-out scans for that rate of false alarms"
        else:
            comparer.ask_outside(rule)

    def slices() -> np.ndarray | None:
        if not len(reference.cluster_N):
            comparer.not_compared[SLICES] = "the run has no clusters"
            return None
        return comparer.ask_growth()

    return {
        EMBEDDINGS: embeddings,
        PICTURES: pictures,
        METADATA: metadata,
        PREDICTIONS: predictions,
        OUTSIDE: outside,
        SLICES: slices,
    }


def _shares(category_N: np.ndarray, is_batch_N: np.ndarray, names: Sequence[str]) -> tuple[Any, Any, float]:
    """Share of each value in the reference and in the batch, and the largest change."""
    shares = []
    for side in (False, True):
        count_K = np.bincount(category_N[is_batch_N == side], minlength=len(names))
        shares.append(count_K / max(count_K.sum(), 1))
    there = [k for k in range(len(names)) if shares[0][k] + shares[1][k] > 0]
    of_side = [{names[k]: float(share_K[k]) for k in there} for share_K in shares]
    return of_side[0], of_side[1], float(np.abs(shares[1] - shares[0]).max())
