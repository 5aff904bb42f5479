import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import config_file
from pipeline.contracts.errors import ContractError, InputError
from pipeline.contracts.options.scans import SplitsConfig
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE
from pipeline.pool import splits
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine


def tables(rows):
    """Rows of (image_id, patient or None, group, status)."""
    num = len(rows)
    values = {name: [None] * num for name in MANIFEST.schema.names}
    values |= {name: ["x"] * num for name in ("uri", "path")}
    values["view"] = ["PA"] * num
    values["image_id"] = [row[0] for row in rows]
    values["sha256"] = [f"sha-{row[0]}" for row in rows]
    values["patient_id"] = [row[1] for row in rows]
    values["status"] = [row[3] for row in rows]
    values["reason"] = [None if row[3] == "ok" else "it is empty" for row in rows]
    copies = {
        "image_id": values["image_id"],
        "group_id": [row[2] for row in rows],
        "canonical_id": values["image_id"],
        "kind": ["unique"] * num,
        "distance_bits": [None] * num,
        "change": [None] * num,
    }
    return pa.table(values, schema=MANIFEST.schema), pa.table(copies, schema=DUPLICATES.schema)


def run(tmp_path, rows, pool_split=None, label=None, source=None, **options):
    tmp_path.mkdir(parents=True, exist_ok=True)
    manifest, duplicates = tables(rows)
    if source is not None:
        place = MANIFEST.schema.get_field_index("source")
        manifest = manifest.set_column(place, "source", pa.array(source, pa.string()))
    MANIFEST.write(tmp_path, manifest)
    DUPLICATES.write(tmp_path, duplicates)
    names = {"image_id": [row[0] for row in rows], "label": label or [None] * len(rows)}
    names["pool_split"] = pool_split or [None] * len(rows)
    POOL_LABELS.write(tmp_path, pa.table(names, schema=POOL_LABELS.schema))
    ctx = StageContext(config_file.load(None, options), tmp_path, SerialEngine())
    return splits.run(ctx), SPLIT_TABLE.read(tmp_path).to_pylist()


def singles(num):
    return [(f"i{i}", f"p{i}", f"g{i}", "ok") for i in range(num)]


def test_the_pools_own_split(tmp_path):
    names = ["train", "VAL", "training", "test", "Testing", "holdout", None]
    counts, rows = run(tmp_path, singles(7), names)
    assert [row["split"] for row in rows] == ["train"] * 3 + ["holdout"] * 3 + ["train"]
    assert counts == {"num_train": 4, "num_holdout": 3, "num_excluded": 0, "num_leaks_excluded": 0}


def test_a_train_scan_of_a_holdout_group_is_excluded(tmp_path, caplog):
    rows = [*singles(3), ("i9", "p1", "g1", "ok"), ("j", "q", "gq", "quarantined"), ("k", "q", "gq", "ok")]
    with caplog.at_level(logging.WARNING):
        counts, table = run(tmp_path, rows, ["train", "train", "test", "test", "test", "train"])
    assert [row["split"] for row in table] == ["train", "excluded", "holdout", "holdout", "excluded", "train"]
    assert table[1]["reason"] == "its group has a scan in the holdout"
    assert table[4]["reason"] == "quarantined: it is empty"
    assert counts["num_leaks_excluded"] == 1
    assert "1 scans of the pool's training split are excluded" in caplog.text


def test_unknown_split_names_are_named(tmp_path):
    with pytest.raises(InputError, match=r"\['fold1', 'fold2'\].*splits\.column=none"):
        run(tmp_path, singles(3), ["fold1", "train", "Fold2"])


def test_a_share_of_the_groups_is_sealed(tmp_path):
    counts, rows = run(tmp_path, singles(2000), **{"splits.holdout_fraction": 0.3})
    assert abs(counts["num_holdout"] / 2000 - 0.3) < 0.04
    assert {row["split"] for row in rows} == {"train", "holdout"}


def test_the_column_can_be_ignored_and_the_draw_matters(tmp_path):
    ignored = run(tmp_path, singles(200), ["train"] * 200, **{"splits.column": "none"})[1]
    (tmp_path / "splits.parquet").unlink()
    salted = run(tmp_path, singles(200), **{"splits.draw": "other"})[1]
    assert {row["split"] for row in ignored} == {"train", "holdout"}
    assert [row["split"] for row in ignored] != [row["split"] for row in salted]


@pytest.mark.parametrize(
    ("num", "names", "message"),
    [
        (
            3,
            ["train", "val", "train"],
            "the holdout would be empty: 3 scans in 3 groups, 0 excluded. Set splits.column",
        ),
        (2, ["test", "test"], "the train pool would be empty"),
        (1, None, "would be empty: 1 scans in 1 groups, 0 excluded. Add scans of more patients"),
    ],
)
def test_an_empty_side_is_an_error(tmp_path, num, names, message):
    with pytest.raises(InputError) as caught:
        run(tmp_path, singles(num), names)
    assert message in str(caught.value)


@pytest.mark.parametrize(("column", "what"), [(1, "patients"), (2, "groups")])
def test_a_leak_is_never_written(column, what):
    rows = [list(row) for row in singles(4)]
    rows[3][column] = rows[0][column]
    manifest, duplicates = tables(rows)
    values = {"image_id": manifest["image_id"], "group_id": duplicates["group_id"]}
    values |= {"split": ["train", "train", "holdout", "holdout"], "reason": [None] * 4}
    table = pa.table(values, schema=SPLIT_TABLE.schema)
    with pytest.raises(ContractError, match=f"1 {what} are in both"):
        splits.assert_no_leak(table, manifest, duplicates)


def grouped(patients):
    """One scan per entry (None: unknown patient); the patient is the group."""
    return [(f"i{i}", p and f"p{p}", f"g{p}" if p else f"s{i}", "ok") for i, p in enumerate(patients)]


PATIENTS = st.lists(st.one_of(st.none(), st.integers(1, 12)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(PATIENTS, PATIENTS, st.sampled_from([0.1, 0.5]))
def test_growing_the_pool_moves_nobody(old, new, fraction):
    config = SplitsConfig(holdout_fraction=fraction)
    before = splits.by_hash(*tables(grouped(old)), config).to_pylist()
    grown_tables = tables(grouped(old + new))
    grown = splits.by_hash(*grown_tables, config)
    after = {row["image_id"]: row["split"] for row in grown.to_pylist()}
    assert all(after[row["image_id"]] == row["split"] for row in before)
    splits.assert_no_leak(grown, *grown_tables)


@settings(max_examples=60, deadline=None)
@given(PATIENTS, st.integers(0, 2**16))
def test_the_order_of_the_pool_does_not_matter(patients, seed):
    rows = grouped(patients)
    order = np.random.default_rng(seed).permutation(len(rows))
    config = SplitsConfig()
    first = {row["image_id"]: row["split"] for row in splits.by_hash(*tables(rows), config).to_pylist()}
    shuffled = splits.by_hash(*tables([rows[i] for i in order]), config).to_pylist()
    assert first == {row["image_id"]: row["split"] for row in shuffled}


def test_what_was_sealed_stays_sealed_when_a_new_scan_joins_two_groups(tmp_path):
    """The joined group may get another key; its sealed scans must not become training scans."""
    rows = singles(60)
    _, first = run(tmp_path, rows)
    (tmp_path / "rounds").mkdir()  # labels may have been given
    sealed = {row["image_id"] for row in first if row["split"] == "holdout"}
    free = next(row["image_id"] for row in first if row["split"] == "train")
    for held in sorted(sealed):
        joined = [(i, p, "joined" if i in (held, free) else g, s) for i, p, g, s in rows]
        _, now = run(tmp_path, joined)
        split = {row["image_id"]: row["split"] for row in now}
        assert split[held] == "holdout"
        assert split[free] == "excluded"
        (tmp_path / "splits.parquet").unlink()
        run(tmp_path, rows)


@given(num=st.integers(3, 60), rare=st.integers(3, 20), draw=st.text("abc", min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_rare_class_is_sealed_in_its_share(tmp_path_factory, num, rare, draw):
    rows = singles(num + rare)
    label = ["normal"] * num + ["rare"] * rare
    _, found = run(tmp_path_factory.mktemp("s"), rows, label=label, **{"splits.draw": draw})
    sealed = [row["split"] == "holdout" for row in found]
    for start, stop in ((0, num), (num, num + rare)):
        assert sum(sealed[start:stop]) == max(round(0.2 * (stop - start)), 1)


def test_a_stratum_is_a_label_at_a_source(tmp_path):
    label, source = ["normal", "sick"] * 40, ["a", "a", "b", "b"] * 20
    _, found = run(tmp_path, singles(80), label=label, source=source)
    sealed = [(label[i], source[i]) for i, row in enumerate(found) if row["split"] == "holdout"]
    assert {key: sealed.count(key) for key in set(sealed)} == dict.fromkeys(
        [("normal", "a"), ("normal", "b"), ("sick", "a"), ("sick", "b")], 4
    )


def test_in_a_large_stratum_new_patients_move_nobody_even_in_a_new_run(tmp_path):
    _, before = run(tmp_path / "a", singles(400), label=["normal"] * 400)
    _, after = run(tmp_path / "b", singles(900), label=["normal"] * 900)
    assert [row["split"] for row in after[:400]] == [row["split"] for row in before]


def test_a_source_can_be_sealed_as_an_external_test(tmp_path):
    rows = [*singles(6), ("i6", "p0", "g0", "ok")]
    source = ["here", "here", "here", "there", "there", None, "there"]
    counts, found = run(tmp_path, rows, ["train"] * 7, source=source, **{"splits.holdout_source": "there"})
    assert [row["split"] for row in found] == ["excluded", "train", "train", "holdout", "holdout", "train", "holdout"]
    assert counts["num_leaks_excluded"] == 1
    with pytest.raises(InputError, match=r"no such|no scan is of this source.*\['here', 'there'\]"):
        run(tmp_path, rows, source=source, **{"splits.holdout_source": "nowhere"})


def test_a_scan_that_was_trained_on_is_left_out_of_every_later_draw():
    def table(groups, sides):
        columns = {"image_id": sorted(groups), "group_id": [groups[i] for i in sorted(groups)], "split": sides}
        return pa.table(columns | {"reason": [None] * len(sides)}, schema=SPLIT_TABLE.schema)

    kept = table({"a": "1", "b": "2"}, ["train", "holdout"])
    drawn = table({"a": "1", "b": "1", "new": "1"}, ["train"] * 3)  # a copy has joined the two groups
    for _ in range(3):
        kept = splits.keep_sealed(drawn, kept)
        assert kept["split"].to_pylist() == ["excluded", "holdout", "holdout"]
    apart = table({"a": "1", "b": "2"}, ["holdout", "holdout"])
    assert splits.keep_sealed(apart, kept)["split"].to_pylist() == ["train", "holdout"]
