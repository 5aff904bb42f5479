"""How strongly a class goes along with a property of the scans: mutual information, counts and p-values."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.audited_pool import Names, Subject, known, named

MAX_P = 0.001  # an association by chance is none


@dataclass(frozen=True)
class Association:
    """How a class goes with a category.

    Attributes:
        cramers_v: Bias-corrected, 0..1.
        p_value: Of independence (chi-squared).
        exclusive: Nobody without the class shares a category with anybody who has it.
        words: Where the class and where the others come from.
        against: The one class it was compared with; None: all others.
        missing: It is not the values that go with the class, but whether they are known.
    """

    column: str
    finding: str
    cramers_v: float
    p_value: float
    exclusive: bool
    words: str
    against: str | None = None
    missing: bool = False


def associations(subject: Subject, column: str, values_N: Names) -> list[Association]:
    """Classes against one column, strongest first: its known values, and whether they are known at all.

    Every class against all others; two classes against each other where they have no value in common; and a class
    whose values are unknown where those of others are known. Empty where there is nothing to compare.
    """
    rows = subject.labelled
    known_rows = rows[known(values_N[rows])]
    by_class = _one_against_the_rest(subject, column, values_N, known_rows)
    alone = {association.finding for association in by_class if association.exclusive}
    by_class += [
        association
        for association in _pairs(subject, column, values_N, known_rows)
        if not alone & {association.finding, association.against}
    ]
    known_N = np.where(known(values_N), "known", "unknown").astype(object)
    unknown = _one_against_the_rest(subject, column, known_N, rows)
    by_class += [
        replace(association, missing=True)
        for association in unknown
        if _mostly_unknown(subject, association.finding, known_N) and association.exclusive
    ]
    return sorted(by_class, key=strongest_first)


def _one_against_the_rest(subject: Subject, column: str, values_N: Names, rows: NDArray[np.int64]) -> list[Association]:
    categories, count_CV = _counts(subject, values_N, rows)
    if len(categories) < 2 or len(subject.findings) < 2:
        return []
    # Backwards: of two classes that mirror each other the one that is not normal is named.
    return [
        _association(column, finding, "the others", categories, count_CV[c], np.delete(count_CV, c, axis=0).sum(axis=0))
        for c, finding in reversed(list(enumerate(subject.findings)))
    ]


def _pairs(subject: Subject, column: str, values_N: Names, rows: NDArray[np.int64]) -> list[Association]:
    """Pairs of classes with no value in common: nothing can tell them apart but the place."""
    categories, count_CV = _counts(subject, values_N, rows)
    of_pairs = []
    for c, d in combinations(range(len(subject.findings)), 2):
        association = _association(
            column, subject.findings[d], subject.findings[c], categories, count_CV[d], count_CV[c]
        )
        if association.exclusive:
            of_pairs.append(replace(association, against=subject.findings[c]))
    return of_pairs


def _counts(subject: Subject, values_N: Names, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64]]:
    """The categories, and how many people of each class are in each, (C, V)."""
    units = set(zip(subject.person_N[rows], subject.label_N[rows], values_N[rows], strict=True))
    counts = Counter((label, value) for _, label, value in units)
    categories = sorted({value for _, value in counts})
    return categories, np.array([[counts[f, v] for v in categories] for f in subject.findings], dtype=np.float64)


def _mostly_unknown(subject: Subject, finding: str, known_N: Names) -> bool:
    return bool((known_N[subject.label_N == finding] == "unknown").mean() > 0.5)


@dataclass(frozen=True)
class AgeGap:
    """How much older the people of a class are than the others.

    Attributes:
        finding: The class.
        years: Median of the class less that of the others.
        age_years: Both medians.
        p_value: Of equal ages (Mann-Whitney).
    """

    finding: str
    years: float
    age_years: tuple[float, float]
    p_value: float


def age_gaps(subject: Subject) -> list[AgeGap]:
    """Every class against the others, the widest gap first; classes without known ages are left out.

    Bands of age lose a shift of some years that every reader of the paper would see, and so does a probe of few people.
    """
    from scipy.stats import mannwhitneyu

    rows = subject.labelled[np.isfinite(subject.age_N[subject.labelled])]
    ages: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        ages.setdefault((subject.label_N[row], subject.person_N[row]), []).append(float(subject.age_N[row]))
    gaps = []
    for finding in reversed(subject.findings):
        own = [float(np.mean(years)) for (label, _), years in ages.items() if label == finding]
        rest = [float(np.mean(years)) for (label, _), years in ages.items() if label != finding]
        if own and rest:
            medians = (float(np.median(own)), float(np.median(rest)))
            p_value = float(mannwhitneyu(own, rest).pvalue)
            gaps.append(AgeGap(finding, medians[0] - medians[1], medians, p_value))
    return sorted(gaps, key=lambda gap: -round(abs(gap.years), 6))


def mutual_information(subject: Subject, values_N: Names) -> float | None:
    """Mutual information of label and column over the entropy of the label, 0..1; None where it is not defined."""
    from sklearn.metrics import mutual_info_score

    rows = subject.labelled
    if len(subject.findings) < 2:
        return None
    label_R = subject.label_N[rows].astype(str)
    entropy = mutual_info_score(label_R, label_R)
    return float(mutual_info_score(label_R, named(values_N[rows]).astype(str)) / entropy)


def _association(
    column: str,
    finding: str,
    others: str,
    categories: list[str],
    own_V: NDArray[np.float64],
    rest_V: NDArray[np.float64],
) -> Association:
    table_2V = np.stack([own_V, rest_V])
    if (table_2V.sum(axis=0) > 0).sum() < 2 or not table_2V.sum(axis=1).all():
        return Association(column, finding, 0.0, 1.0, False, "")
    cramers_v, p_value = bias_corrected_v(table_2V)
    exclusive = bool(own_V.sum() > 0 and not ((own_V > 0) & (rest_V > 0)).any())
    words = f"{_mostly(finding, own_V, categories)}; {_mostly(others, rest_V, categories)}"
    return Association(column, finding, cramers_v, p_value, exclusive, words)


def bias_corrected_v(count_2V: NDArray[np.float64]) -> tuple[float, float]:
    """Cramér's V of a table of two rows, less what chance alone gives, and the p-value of independence.

    0 and 1 where a row is empty or fewer than two columns are filled.

    Source: Bergsma 2013.
    """
    from scipy.stats import chi2_contingency

    count_2V = count_2V[:, count_2V.sum(axis=0) > 0]
    total, width = count_2V.sum(), count_2V.shape[1]
    if width < 2 or not count_2V.sum(axis=1).all():
        return 0.0, 1.0
    statistic, p_value, degrees, _ = chi2_contingency(count_2V, correction=False)
    phi2 = max(0.0, statistic / total - degrees / (total - 1))
    smaller = min(2 - 1 / (total - 1), width - (width - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(phi2 / smaller))) if smaller > 0 else 0.0, float(p_value)


def _mostly(who: str, count_V: NDArray[np.float64], categories: list[str]) -> str:
    order = [v for v in np.argsort(-count_V, kind="stable")[:2] if count_V[v] > 0]
    parts = [f"{categories[v]} {count_V[v] / count_V.sum():.0%}" for v in order]
    return f"{who}: {', '.join(parts)}"


def strongest_first(association: Association) -> tuple[bool, bool, float]:
    """Sort key: known before missing, exclusive before shared, then by the strength of the association."""
    return association.missing, not association.exclusive, -round(association.cramers_v, 6)
