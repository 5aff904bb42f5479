"""What the checks of who and where tell beside their severity: the limit that was passed, the scans, the words."""

import pytest

from pipeline.audit.checks import confounding
from tests.support.audit_pools import many, scan, subject


def found(folder, rows, **given):
    return {check.id: check for check in confounding.check(subject(folder, rows, **given), {})}


def split_by(column):
    """Sick from the first of two places, normal from both: Cramér's V between .3 and .8."""
    return [
        *many(60, label="sick", **{column: "M"}),
        *many(60, 100, label="normal", **{column: "M"}),
        *many(80, 200, label="normal", **{column: "F"}),
    ]


@pytest.mark.parametrize(
    ("column", "check_id"), [("source", "source-label-confounding"), ("sex", "population-confounding")]
)
def test_the_limit_told_is_the_one_that_was_passed(column, check_id, tmp_path):
    given = {"audit.warn_association": 0.25, "audit.block_association": 0.9}
    warned = found(tmp_path, split_by(column), **given)[check_id]
    assert (warned.severity, warned.threshold) == ("warn", 0.25) and warned.fix
    assert f"differs in {column} from the other classes" in warned.message
    blocked = found(tmp_path, split_by(column), **given | {"audit.block_association": 0.3})[check_id]
    assert (blocked.severity, blocked.threshold) == ("block", 0.3)


def test_scans_of_a_confounded_class_are_shown_with_label_and_source(tmp_path):
    check = found(tmp_path, split_by("source"))["source-label-confounding"]
    assert len(check.evidence) == 12 and {row["note"] for row in check.evidence} <= {
        "sick, M",
        "normal, M",
        "normal, F",
    }


def test_what_is_not_known_of_a_class_is_said_in_one_sentence_and_compared_in_no_row(tmp_path):
    both = {"sex": lambda i: "MF"[i % 2], "age_years": lambda i: (30.0, 50.0)[i // 2 % 2]}
    rows = [*many(60, label="normal", **both), *many(60, 100, label="sick", sex=None, age_years=None)]
    check = found(tmp_path, rows)["population-confounding"]
    sentence = "The age band and sex of sick are not known, those of other classes are: they cannot be compared."
    assert sentence in check.message and check.message.count("cannot be compared") == 1
    assert check.table.rows and all(words for *_, words in check.table.rows)


def test_one_source_goes_along_with_nothing(tmp_path):
    check = found(tmp_path, many(40, label=lambda i: ("normal", "sick")[i % 2]))["source-label-confounding"]
    assert (check.value, check.checked, check.severity) == (0.0, True, "ok")


@pytest.mark.parametrize(("num_known", "told"), [(20, True), (19, False)])
def test_ages_speak_for_a_class_from_half_of_its_scans_on(num_known, told, tmp_path):
    adults = [scan(i, label="sick", age_years=50.0 if i < num_known else None) for i in range(40)]
    children = many(40, 100, label="normal", age_years=5.0)
    message = found(tmp_path, [*adults, *children])["population-confounding"].message
    assert ("adults against children." in message) is told
    assert ("The age of sick is not known" in message) is not told
