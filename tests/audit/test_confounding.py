import numpy as np
import pytest

from pipeline.audit.checks import associations, confounding
from tests.support.audit_pools import many, scan, subject


def found(tmp_path, rows, **given):
    return {check.id: check for check in confounding.check(subject(tmp_path, rows, **given), {})}


def half(i):
    return ("normal", "sick")[i % 2]


def test_classes_spread_over_sources_and_people_are_quiet(tmp_path):
    rows = many(
        200,
        label=half,
        source=lambda i: ("a", "b")[i // 2 % 2],
        sex=lambda i: "MF"[i // 4 % 2],
        age_years=lambda i: 30.0 + i // 2 % 40,
    )
    checks = found(tmp_path, rows)
    assert {check.severity for check in checks.values()} == {"ok"}
    assert checks["source-label-confounding"].value == pytest.approx(0.0, abs=0.05)


def test_a_class_with_a_source_of_its_own_blocks_and_is_named(tmp_path):
    rows = [*many(100, label="normal", source="here"), *many(30, 200, label="covid", source="there")]
    check = found(tmp_path, rows)["source-label-confounding"]
    assert check.severity == "block"
    assert check.value == pytest.approx(1.0, abs=0.02)
    assert "covid" in check.message
    assert "here 100%" in check.message
    assert "there 100%" in check.message
    assert "100% of the information" in check.message
    assert check.table.columns == ("scans of", "here", "there")
    assert dict(check.table.rows[0:1] and {row[0]: row[1:] for row in check.table.rows}) == {
        "normal": (100, 0),
        "covid": (0, 30),
    }


def test_a_class_from_one_of_two_sources_is_a_warning(tmp_path):
    rows = [
        *many(60, label="sick", source="a"),
        *many(60, 100, label="normal", source="a"),
        *many(80, 200, label="normal", source="b"),
    ]
    check = found(tmp_path, rows)["source-label-confounding"]
    assert check.severity == "warn"
    assert 0.3 < check.value < 0.8


def test_patients_are_counted_not_scans(tmp_path):
    # One patient with a hundred scans from another source is one piece of evidence.
    rows = [
        *many(50, label=half, source="a"),
        *[scan(500 + i, label="sick", source="b", patient_id="many") for i in range(100)],
    ]
    assert found(tmp_path, rows)["source-label-confounding"].severity == "ok"


def test_an_unknown_source_of_one_class_is_a_warning_not_a_place_of_its_own(tmp_path):
    rows = [
        *many(60, label="normal", source=lambda i: "ab"[i % 2]),
        *many(60, 100, label="sick", source=None),
        *many(60, 200, label="other", source=lambda i: "ab"[i % 2]),
    ]
    check = found(tmp_path, rows)["source-label-confounding"]
    assert check.severity == "warn"
    assert "The source of sick is not known, that of other classes is" in check.message


def test_what_is_not_known_of_one_class_does_not_block(tmp_path):
    rows = [*many(60, label="normal", sex=lambda i: "MF"[i % 2]), *many(60, 100, label="sick", sex=None)]
    check = found(tmp_path, rows)["population-confounding"]
    assert check.severity == "warn"
    assert "The sex of sick is not known" in check.message


def test_classes_in_pairs_of_disjoint_sources_block(tmp_path):
    rows = [
        *many(80, label=lambda i: ("a", "b")[i % 2], source="x"),
        *many(80, 100, label=lambda i: ("c", "d")[i % 2], source="y"),
    ]
    check = found(tmp_path, rows)["source-label-confounding"]
    assert check.severity == "block"
    assert "shares no source with" in check.message


def test_one_source_has_nothing_to_confound(tmp_path):
    check = found(tmp_path, many(40, label=half))["source-label-confounding"]
    assert (check.severity, check.checked) == ("ok", True)
    assert "one source (site-a)" in check.message


def test_adults_against_children_are_named_by_age_and_by_population(tmp_path):
    adults = many(60, label="covid", age_years=lambda i: 40.0 + i % 30, population="adult")
    children = many(90, 200, label="normal", age_years=lambda i: 3.0 + i % 8, population="pediatric")
    check = found(tmp_path / "age", [*adults, *children])["population-confounding"]
    assert check.severity == "block"
    assert "adults against children" in check.message
    for row in (*adults, *children):
        row["age_years"] = None
    check = found(tmp_path / "word", [*adults, *children])["population-confounding"]
    assert check.severity == "block"
    assert "population" in check.message
    assert "adults against children" in check.message
    for row in adults:
        row["population"] = None
    check = found(tmp_path / "half", [*adults, *children])["population-confounding"]
    assert check.severity == "warn"
    for row in adults:
        row["source"] = "elsewhere"  # and nothing else says that they are the same people
    check = found(tmp_path / "away", [*adults, *children])["population-confounding"]
    assert check.severity == "block"
    assert "age of covid is not known, the others are children" in check.message


def test_nothing_known_of_people_cannot_be_checked(tmp_path):
    rows = many(40, label=half, age_years=None, sex=None, view="unknown")
    check = found(tmp_path, rows)["population-confounding"]
    assert (check.severity, check.checked) == ("ok", False)


def test_a_single_class_cannot_be_confounded(tmp_path):
    checks = found(tmp_path, many(40, label="normal", source=lambda i: "ab"[i % 2]))
    assert not checks["source-label-confounding"].checked
    assert not checks["population-confounding"].checked


def test_bias_corrected_v_is_near_nought_by_chance(tmp_path):
    rng = np.random.default_rng(0)
    places, labels = rng.integers(8, size=120), rng.integers(2, size=120)
    rows = many(120, label=lambda i: half(labels[i]), source=lambda i: f"s{places[i]}")
    assert (
        associations.associations(subject(tmp_path, rows), "source", np.array([r["source"] for r in rows], object))[
            0
        ].cramers_v
        < 0.2
    )


def test_sources_are_told_by_embedding_when_they_look_different(tmp_path):
    rng = np.random.default_rng(0)
    rows = many(120, label=half, source=lambda i: "ab"[i // 2 % 2])
    emb_ND = rng.normal(size=(120, 16))
    quiet = found(tmp_path / "same", rows, emb_ND=emb_ND)["source-predictable"]
    assert quiet.severity == "ok"
    assert quiet.value < 0.75
    emb_ND[:, 0] += np.array([6.0 * (row["source"] == "b") for row in rows])
    loud = found(tmp_path / "other", rows, emb_ND=emb_ND)["source-predictable"]
    assert loud.severity == "warn"
    assert loud.value > 0.99
    assert {row[0] for row in loud.table.rows} == {"source"}


def two_parts(of_train, of_test, num=80):
    """Halves of two classes in training and in test; who is sick comes from `of_train` or `of_test`."""
    other = {"a": "b", "b": "a"}
    return [
        scan(
            1000 * part + i,
            label=half(i),
            source=sick if half(i) == "sick" else other[sick],
            pool_split=side,
        )
        for part, (side, sick) in enumerate((("train", of_train), ("test", of_test)))
        for i in range(num)
    ]


def test_a_source_that_goes_with_opposite_classes_in_training_and_test_is_seen(tmp_path):
    check = found(tmp_path, two_parts("a", "b"))["source-label-confounding"]
    assert check.severity == "block"
    assert check.message.startswith("In the training part alone: sick shares no source")


def test_a_source_that_gives_the_label_away_in_the_test_alone_is_seen(tmp_path):
    rows = [
        *many(160, label=half, source=lambda i: "ab"[i // 2 % 2], pool_split="train"),
        *[row for row in two_parts("a", "a", num=40) if row["pool_split"] == "test"],
    ]
    check = found(tmp_path, rows)["source-label-confounding"]
    assert check.severity == "block"
    assert check.message.startswith("In the test part alone: ")


def test_what_is_worst_in_the_whole_pool_is_told_of_the_whole_pool(tmp_path):
    check = found(tmp_path, two_parts("a", "a"))["source-label-confounding"]
    assert check.severity == "block" and check.message.startswith("sick shares no source")
