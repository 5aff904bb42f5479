"""Every threshold of the audit: just on one side of it the check is quiet, just on the other it speaks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pipeline.audit.check import judged
from pipeline.audit.checks import cases, confounding, copies, left_out_source, shortcuts
from pipeline.audit.checks.left_out_source import LeftOut
from pipeline.audit.checks.shortcuts import LUNGS_MASKED, METADATA, Shortcuts
from pipeline.audit.probes import Score
from tests.support.audit_pools import many, scan, subject

STEP = 1e-6


def half(i):
    return ("normal", "sick")[i % 2]


def copy(number, of, **known):
    return scan(number, copy_of=f"{of:016x}", **({"kind": "exact", "patient_id": f"p{of}"} | known))


def partly_confounded(**column):
    """Sick from one of two places, normal from both: Cramér's V between .3 and .8."""
    ((name, (first, second)),) = column.items()
    places = [("sick", first, 60, 0), ("normal", first, 60, 100), ("normal", second, 80, 200)]
    return [row for label, place, count, start in places for row in many(count, start, label=label, **{name: place})]


def of_family(family, check_id):
    def ask(one):
        (check,) = [check for check in family(one) if check.id == check_id]
        return check

    return ask


def people(one):
    return confounding.check(one, {})


def told_by(lower):
    return Score(0.97, [lower, 1.0], None, None, 0.0, 30, 60, 60)


def of_population(lower):
    def ask(one):
        return confounding.check(one, {"sick": told_by(lower)})[-1]

    return ask


def of_shortcut(name, lower):
    def ask(one):
        found = Shortcuts({name: {"sick": told_by(lower)}}, num_scans=60)
        return shortcuts.check(one, found)[name == LUNGS_MASKED]

    return ask


def of_another_source(auroc_ci95):
    def ask(one):
        return left_out_source.check(one, [LeftOut("b", 60, ("normal", "sick"), 0.75, auroc_ci95, 1.0, [0.95, 1.0])])

    return ask


@dataclass(frozen=True)
class Case:
    """A threshold, a pool that comes to a known value of it, and what the check says on its two sides.

    Attributes:
        option: The threshold.
        ask: The check of a subject.
        rows: The pool.
        value: What the pool comes to; None: what the check itself measures.
        below: Severity where the threshold is below the value.
        at: Where it is just the value.
        above: Where it is above.
        others: Other options.
    """

    option: str
    ask: Any
    rows: Any
    value: float | None
    below: str
    at: str
    above: str
    others: tuple[tuple[str, Any], ...] = ()

    def severity(self, folder, limit):
        if limit < 0:
            pytest.skip("nothing is below it")
        return self.ask(subject(folder, self.rows, **dict(self.others) | {f"audit.{self.option}": limit})).severity


ALIKE = [row for i in range(5) for row in (scan(i, label="normal"), copy(50 + i, i, kind="near", label="normal"))]
ALIKE[1]["label"] = "sick"  # two visits of p0, or one of the labels is wrong
SPREAD = many(60, label=half, source=lambda i: "ab"[i // 2 % 2])
CASES = [
    Case(
        "warn_duplicate_share",
        of_family(copies.check, "exact-duplicates"),
        [*many(18), copy(90, 0), copy(91, 1)],
        0.1,
        *("warn", "ok", "ok"),
    ),
    Case(
        "warn_duplicate_share",
        of_family(copies.check, "near-duplicates"),
        [*many(18), copy(90, 0, kind="near"), copy(91, 1, kind="near")],
        0.1,
        *("warn", "ok", "ok"),
    ),
    Case(
        "block_conflict_share",
        of_family(copies.check, "label-conflict"),
        [*many(40, label=half), copy(90, 0, label="sick")],
        2 / 41,
        *("block", "warn", "warn"),
    ),
    Case(
        "warn_conflict_share",
        of_family(copies.check, "label-conflict"),
        ALIKE,
        0.2,
        *("warn", "ok", "ok"),
        (("audit.block_conflict_share", 1.0),),
    ),
    Case(
        "warn_quarantined_share",
        of_family(cases.check, "quarantined-scans"),
        [*many(97), *[scan(900 + i, status="quarantined", reason="empty") for i in range(3)]],
        3 / 100,
        *("warn", "ok", "ok"),
    ),
    Case(
        "warn_unknown_patient_share",
        of_family(cases.check, "missing-metadata"),
        many(100, patient_id=lambda i: None if i < 4 else f"p{i}"),
        0.04,
        *("warn", "ok", "ok"),
    ),
    *(
        Case(
            "warn_unknown_share",
            of_family(cases.check, "missing-metadata"),
            many(100, **{name: lambda i, blank=blank, filled=filled: blank if i < 19 else filled}),
            0.19,
            *("warn", "ok", "ok"),
        )
        for name, blank, filled in (
            ("sex", None, "M"),
            ("source", None, "a"),
            ("age_years", None, 40.0),
            ("view", "unknown", "PA"),
        )
    ),
    Case(
        "warn_min_class_share",
        of_family(cases.check, "class-imbalance"),
        many(100, label=lambda i: "rare" if i < 10 else "normal"),
        0.1,
        *("ok", "ok", "warn"),
    ),
    Case(
        "warn_association",
        of_family(people, "source-label-confounding"),
        partly_confounded(source=("a", "b")),
        None,
        *("warn", "ok", "ok"),
    ),
    Case(
        "block_association",
        of_family(people, "source-label-confounding"),
        partly_confounded(source=("a", "b")),
        None,
        *("block", "block", "warn"),
    ),
    Case(
        "warn_association",
        of_family(people, "population-confounding"),
        partly_confounded(sex=("M", "F")),
        None,
        *("warn", "ok", "ok"),
    ),
    Case(
        "block_association",
        of_family(people, "population-confounding"),
        partly_confounded(view=("AP", "PA")),
        None,
        *("block", "block", "warn"),
    ),
    Case("warn_shortcut_auroc", of_population(0.75), SPREAD, 0.75, *("warn", "ok", "ok")),
    Case("block_shortcut_auroc", of_population(0.9), SPREAD, 0.9, *("block", "block", "warn")),
    Case("warn_shortcut_auroc", of_shortcut(METADATA, 0.75), SPREAD, 0.75, *("warn", "ok", "ok")),
    Case("block_shortcut_auroc", of_shortcut(METADATA, 0.9), SPREAD, 0.9, *("block", "block", "warn")),
    Case("warn_shortcut_auroc", of_shortcut(LUNGS_MASKED, 0.75), SPREAD, 0.75, *("warn", "ok", "ok")),
    Case("block_shortcut_auroc", of_shortcut(LUNGS_MASKED, 0.9), SPREAD, 0.9, *("warn", "warn", "warn")),
    Case("warn_external_drop", of_another_source([0.7, 0.8]), SPREAD, 0.25, *("warn", "ok", "ok")),
    Case("warn_external_drop", of_another_source([0.7, 1.0]), SPREAD, 0.25, *("ok", "ok", "ok")),  # chance alone
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.option)
def test_a_check_changes_its_word_at_its_threshold(case, tmp_path):
    value = case.value
    if value is None:
        value = case.ask(subject(tmp_path, case.rows)).value
        assert 0.35 < value < 0.75
    assert [case.severity(tmp_path, value + step) for step in (-STEP, 0, STEP)] == [case.below, case.at, case.above]


def test_a_class_of_too_few_patients_is_named_below_the_number(tmp_path):
    rows = many(40, label=lambda i: "rare" if i < 6 else "normal")
    for limit, severity in ((6, "ok"), (7, "warn")):
        (check,) = [
            check
            for check in cases.check(subject(tmp_path, rows, **{"audit.warn_min_patients": limit}))
            if check.id == "too-few-cases"
        ]
        assert (check.severity, check.value, check.threshold) == (severity, 6.0, float(limit))


def test_sources_that_can_be_told_are_named_above_the_threshold(tmp_path):
    rng = np.random.default_rng(0)
    emb_ND = rng.normal(size=(60, 4))
    emb_ND[:, 0] += [1.5 * (row["source"] == "b") for row in SPREAD]
    given = {"emb_ND": emb_ND, "audit.num_bootstrap": 0}
    value = confounding.source_predictable(subject(tmp_path, SPREAD, **given)).value
    assert 0.7 < value < 0.98
    for step, severity in ((-STEP, "warn"), (0, "ok"), (STEP, "ok")):
        limit = {"audit.warn_source_auroc": value + step}
        check = confounding.source_predictable(subject(tmp_path, SPREAD, **given, **limit))
        assert (check.severity, check.threshold) == (severity, value + step)


@pytest.mark.parametrize(
    ("column", "check_id"), [("source", "source-label-confounding"), ("sex", "population-confounding")]
)
def test_what_may_be_chance_is_no_association(column, check_id, tmp_path):
    """Five and five who share nothing: p = .0016; five and six: p = .0009. A thousandth lies between."""
    for num, severity in ((5, "ok"), (6, "block")):
        rows = [*many(5, label="normal", **{column: "M"}), *many(num, 50, label="sick", **{column: "F"})]
        assert of_family(people, check_id)(subject(tmp_path / str(num), rows)).severity == severity


@pytest.mark.parametrize(
    ("column", "check_id"), [("source", "source-label-confounding"), ("sex", "population-confounding")]
)
def test_a_strong_association_of_few_is_no_warning(column, check_id, tmp_path):
    """Four of five against one of five: Cramér's V is .5 and p .06."""
    rows = [
        *many(5, label="normal", **{column: lambda i: "M" if i % 5 else "F"}),
        *many(5, 50, label="sick", **{column: lambda i: "F" if i % 5 else "M"}),
    ]
    one = subject(tmp_path, rows, **{"audit.block_association": 0.4})
    assert confounding.associations(one, column, np.array([row[column] for row in rows], object))[0].cramers_v > 0.4
    assert of_family(people, check_id)(one).severity == "ok"


@pytest.mark.parametrize(
    ("strict", "stops"), [(False, ["quarantined-scans"]), (True, ["quarantined-scans", "too-few-cases"])]
)
def test_warnings_stop_the_work_under_audit_strict_alone(strict, stops):
    found = {
        "strict": strict,
        "checks": [
            {"id": "quarantined-scans", "severity": "block"},
            {"id": "too-few-cases", "severity": "warn"},
            {"id": "label-conflict", "severity": "ok"},
        ],
    }
    assert sorted(judged(found, [])["blocking"]) == stops
