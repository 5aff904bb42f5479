"""Associations by hand: Cramér's V of more than two places, and the words that say where a class comes from."""

from itertools import chain

import numpy as np
import pytest

from pipeline.audit.checks import associations, confounding
from tests.support.audit_pools import many, subject


def pool(counts):
    """Scans by (label, source)."""
    starts = np.cumsum([0, *counts.values()])
    return list(
        chain.from_iterable(
            many(num, int(start), label=label, source=source)
            for ((label, source), num), start in zip(counts.items(), starts, strict=False)
        )
    )


def of_sources(folder, rows):
    sources_N = np.array([row["source"] for row in rows], object)
    return associations.associations(subject(folder, rows), "source", sources_N)


def test_cramers_v_of_three_places_is_bergsmas(tmp_path):
    table = {("normal", "a"): 12, ("normal", "b"): 6, ("normal", "c"): 2, ("sick", "a"): 3, ("sick", "b"): 7}
    table[("sick", "c")] = 10
    found = of_sources(tmp_path, pool(table))[0]
    count = np.array([[12, 6, 2], [3, 7, 10]])
    total = count.sum()
    expected = count.sum(axis=1, keepdims=True) * count.sum(axis=0) / total
    phi2 = ((count - expected) ** 2 / expected).sum() / total - 2 / (total - 1)
    smaller = min(2 - 1 / (total - 1), 3 - 4 / (total - 1)) - 1
    assert found.cramers_v == pytest.approx(np.sqrt(phi2 / smaller), abs=1e-12)
    assert 1e-4 < found.p_value < 0.01 and not found.exclusive and found.against is None


def test_the_words_name_the_two_commonest_places_of_a_class_and_of_the_others(tmp_path):
    table = {("normal", "a"): 10, ("normal", "b"): 30, ("normal", "c"): 20, ("normal", "d"): 40, ("sick", "a"): 15}
    found = {one.finding: one.words for one in of_sources(tmp_path, pool(table))}
    assert found["sick"] == "sick: a 100%; the others: d 40%, b 30%"
    assert found["normal"] == "normal: d 40%, b 30%; the others: a 100%"


@pytest.mark.parametrize(("shift", "severity"), [(0.0, "ok"), (4.0, "ok"), (14.0, "warn"), (-14.0, "warn")])
def test_people_of_a_class_who_are_fourteen_years_older_or_younger_are_seen(shift, severity, tmp_path):
    rng = np.random.default_rng(1)
    age_N = rng.normal(50, 14, 240).clip(18, 90)
    rows = many(
        240,
        label=lambda i: "sick" if i % 2 else "normal",
        age_years=lambda i: float(age_N[i] + (shift if i % 2 else 0.0)),
    )
    check = confounding.check(subject(tmp_path, rows), {})[-1]
    assert (check.id, check.severity) == ("population-confounding", severity)
    if severity == "warn":
        assert f"years {'older' if shift > 0 else 'younger'} than the others" in check.message


def test_an_age_gap_is_named_above_its_threshold(tmp_path):
    rows = many(200, label=lambda i: "sick" if i % 2 else "normal", age_years=lambda i: 50.0 + i % 9 + 12.0 * (i % 2))
    gap = associations.age_gaps(subject(tmp_path, rows))[0]
    assert gap.finding == "sick" and gap.years == 12.0
    for limit, is_told in ((11.9, True), (12.0, False)):
        one = subject(tmp_path, rows, **{"audit.warn_age_gap_years": limit})
        assert ("sick are 12 years older" in confounding.check(one, {})[-1].message) is is_told
