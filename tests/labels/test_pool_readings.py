"""Readings that came with the pool: answers of people, once, of training scans alone."""

import pyarrow as pa
import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import Independent
from pipeline.contracts.tables import POOL_READINGS, SPLIT_TABLE
from pipeline.labels import label_table, pool_readings, verdicts
from pipeline.labels.agreement_report import agreement_of
from pipeline.labels.journal import Journal
from pipeline.per_finding.parts import project_labels

FINDINGS = Independent(("edema", "mass"))
TRAIN = ("a", "b", "c")
ROWS = [
    *(("a", "R1", "edema=1|mass=0"), ("a", "R2", "edema=1|mass=0"), ("a", "R3", "edema=0|mass=0")),
    *(("b", "R1", "edema=0|mass=1"), ("b", "R2", "edema=0|mass=0")),
    *(("c", "R1", None), ("c", "R2", "edema=0|mass=?")),
    ("sealed", "R1", "edema=1|mass=1"),
    ("d", None, "edema=1|mass=1"),
]


def write(folder, rows=ROWS):
    columns = dict(zip(("image_id", "reader", "label"), zip(*rows, strict=True), strict=True))
    columns["provenance"] = ["physician, on the scan"] * len(rows)
    POOL_READINGS.write(folder, pa.table(columns, schema=POOL_READINGS.schema))


def settled(folder):
    label_table.settle(folder, FINDINGS)
    return label_table.read(folder)


def test_readings_become_answers_of_people(tmp_path):
    write(tmp_path)
    assert pool_readings.enter(tmp_path, pa.chunked_array([TRAIN])) == {"a", "b", "c"}, (
        "without a reader, or sealed: no reading"
    )
    table = settled(tmp_path)
    assert verdicts.human_answers(table) == 3 and set(table["round"].to_pylist()) == {0}
    edema, mass = (verdicts.expert_classes(project_labels(table, f), (f"no {f}", f)) for f in FINDINGS)
    assert edema == {"a": "edema", "b": "no edema", "c": "no edema"}, "two of three"
    assert mass["a"] == "no mass" and mass["b"] is None and mass["c"] is None, "one against one; nobody says"


def test_they_are_entered_once_and_grow_with_the_pool(tmp_path):
    write(tmp_path, ROWS[:3])
    pool_readings.enter(tmp_path, pa.chunked_array([TRAIN]))
    before = (tmp_path / "answers.jsonl").read_bytes()
    pool_readings.enter(tmp_path, pa.chunked_array([TRAIN]))
    assert (tmp_path / "answers.jsonl").read_bytes() == before
    write(tmp_path)
    pool_readings.enter(tmp_path, pa.chunked_array([TRAIN]))
    journal = Journal.open(tmp_path)
    assert [batch.kind for batch in journal.batches.values()] == ["pool", "pool"]
    assert len(journal.active()) == 6 and (tmp_path / "answers.jsonl").read_bytes().startswith(before)


def test_agreement_is_known_before_anybody_is_asked(tmp_path):
    rows = [(f"s{i}", f"R{k}", f"edema={int(i % 2 == 0)}|mass=0") for i in range(20) for k in range(2)]
    rows[0] = ("s0", "R0", "edema=0|mass=0")
    write(tmp_path, rows)
    ids = sorted({row[0] for row in rows})
    splits = {"image_id": ids, "group_id": ids, "split": ["train"] * len(ids), "reason": [None] * len(ids)}
    SPLIT_TABLE.write(tmp_path, pa.table(splits, schema=SPLIT_TABLE.schema))
    pool_readings.enter(tmp_path, pa.chunked_array([ids]))
    agreed = agreement_of(tmp_path, project_labels(settled(tmp_path), "edema"), ("no edema", "edema"), 20)
    assert agreed["num_annotators"] == 2 and agreed["share"]["value"] == pytest.approx(0.95)
    assert 0.8 < agreed["fleiss"]["value"] < 1


def test_a_pool_without_readings_has_no_journal(tmp_path):
    assert pool_readings.enter(tmp_path, pa.chunked_array([TRAIN])) == set()
    write(tmp_path, ROWS[-1:])
    assert (
        pool_readings.enter(tmp_path, pa.chunked_array([["d"]])) == set() and not (tmp_path / "answers.jsonl").exists()
    )


def test_a_name_that_nobody_may_have_is_refused(tmp_path):
    write(tmp_path, [("a", "model", "edema=1|mass=0")])
    with pytest.raises(InputError, match=r"the pool's readers.*reserved"):
        pool_readings.enter(tmp_path, pa.chunked_array([TRAIN]))
