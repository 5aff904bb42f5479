"""Slices of the pool: their scans, patients and labels, in an order that people read, and which lack labels."""

import pyarrow as pa
import pytest

from pipeline.audit.checks import unlabelled_slices
from pipeline.contracts.tables import CLUSTERS
from tests.support.audit_pools import many, scan, subject


def test_slices_show_where_no_label_is(tmp_path):
    rows = many(
        100, sex=lambda i: "MF"[i % 2], split="train", label=lambda i: "normal" if i % 2 == 0 and i < 60 else None
    )
    table = {(row["by"], row["slice"]): row for row in unlabelled_slices.coverage(subject(tmp_path, rows))}
    assert table["sex", "M"]["num_labelled"] == 30
    assert table["sex", "M"]["note"] is None
    assert (table["sex", "F"]["num_labelled"], table["sex", "F"]["note"]) == (0, "no label")
    assert table["sex", "F"]["share"] == 0.5
    assert table["age band", "40-64"]["num_scans"] == 100


def test_sealed_scans_are_not_the_pool_that_labels_cover(tmp_path):
    rows = [*many(10, split="train", label="normal"), *many(10, 50, split="holdout", label="normal")]
    table = unlabelled_slices.coverage(subject(tmp_path, rows))
    assert {row["num_scans"] for row in table} == {10}


def slices(folder, rows, by):
    return {row["slice"]: row for row in unlabelled_slices.coverage(subject(folder, rows)) if row["by"] == by}


def test_shares_and_patients_of_a_slice(tmp_path):
    """Eight scans of seven patients, a quarter of them from b; three of the four labels are from a."""
    rows = [
        *many(6, source="a", label=lambda i: "normal" if i < 3 else None),
        *many(2, 10, source="b", patient_id="p10", label=lambda i: "normal" if i == 10 else None),
    ]
    rows = [row | {"population": "clinic" if row["source"] == "a" else "ward"} for row in rows]
    table = slices(tmp_path, rows, "source")
    assert {name: row["num_scans"] for name, row in table.items()} == {"a": 6, "b": 2}
    assert {name: row["num_patients"] for name, row in table.items()} == {"a": 6, "b": 1}
    assert {name: row["share"] for name, row in table.items()} == {"a": 0.75, "b": 0.25}
    assert {name: row["share_labelled"] for name, row in table.items()} == {"a": 0.75, "b": 0.25}
    assert set(slices(tmp_path, rows, "population")) == {"clinic", "ward"}


def test_without_a_label_nothing_is_a_share_of_the_labels(tmp_path):
    table = slices(tmp_path, many(8, source=lambda i: "ab"[i % 2]), "source")
    assert {(row["num_labelled"], row["share_labelled"], row["note"]) for row in table.values()} == {(0, None, None)}


@pytest.mark.parametrize(("labelled", "note"), [(3, None), (2, "few labels"), (0, "no label")])
def test_few_labels_are_two_deviations_below_the_nine_expected(tmp_path, labelled, note):
    """Of 18 labels a half of the pool expects nine, and three are two standard deviations below."""
    rows = [
        *many(20, source="a", label=lambda i: "normal" if i < labelled else None),
        *many(20, 50, source="b", label=lambda i: "normal" if i < 50 + 18 - labelled else None),
    ]
    table = slices(tmp_path, rows, "source")
    assert (table["a"]["note"], table["b"]["note"]) == (note, None)


def test_slices_of_numbers_are_in_their_order(tmp_path):
    ages = (70.0, 45.0, 1.0, 20.0, 10.0, None)
    rows = [scan(i, age_years=age) for i, age in enumerate(ages)]
    assert list(slices(tmp_path, rows, "age band")) == ["0-1", "2-17", "18-39", "40-64", "65+", "unknown"]
    rows = many(12)
    subject(tmp_path / "clusters", rows)
    ids = [row["image_id"] for row in rows]
    columns = {field.name: [0.0] * 12 for field in CLUSTERS.schema} | {"image_id": ids, "cluster": range(12)}
    CLUSTERS.write(tmp_path / "clusters", pa.table(columns, schema=CLUSTERS.schema))
    assert list(slices(tmp_path / "clusters", rows, "cluster")) == [str(i) for i in range(12)]
