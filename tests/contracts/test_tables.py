import errno
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contracts import storage, tables
from pipeline.contracts.errors import ContractError
from pipeline.contracts.tables import CONTRACTS, LABELS, MANIFEST, PREDICTIONS

SAMPLES = {
    pa.string(): "a",
    pa.int32(): 1,
    pa.int64(): 1,
    pa.int16(): 1,
    pa.float32(): 0.5,
    pa.bool_(): True,
    pa.timestamp("ms", tz="UTC"): 0,
}
each = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)


def good(contract, num=2):
    """Rows that satisfy the contract, distinct in every text column without a fixed set of values."""
    fixed = dict(contract.values)
    columns = {}
    for field in contract.schema:
        if field.name in fixed:
            values = [fixed[field.name][0]] * num
        elif field.type == pa.string():
            values = [f"{field.name}{i}" for i in range(num)]
        else:
            values = [SAMPLES[field.type]] * num
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns, schema=contract.schema)


def put(table, name, values, kind=None):
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values, kind or table.schema.field(name).type))


@each
def test_write_and_read_give_the_same(contract, tmp_path):
    table = good(contract)
    path = contract.write(tmp_path, table)
    assert path == tmp_path / f"{contract.name}.parquet"
    assert contract.read(tmp_path) == table
    assert contract.check(contract.empty()).num_rows == 0


@each
def test_the_order_of_columns_is_restored(contract):
    table = good(contract)
    assert contract.check(table.select(table.column_names[::-1])).column_names == contract.schema.names


@each
def test_a_missing_column_is_named(contract):
    for name in contract.schema.names:
        with pytest.raises(ContractError, match=rf"'{name}'.*missing"):
            contract.check(good(contract).drop_columns([name]))


@each
def test_a_column_too_many_is_named(contract):
    with pytest.raises(ContractError, match=r"unknown columns.*stray"):
        contract.check(good(contract).append_column("stray", pa.array([1, 2])))


@each
def test_another_type_is_named(contract):
    for name in contract.schema.names:
        with pytest.raises(ContractError, match=f"column {name} is binary"):
            contract.check(put(good(contract), name, [b"x", b"y"], pa.binary()))


@each
def test_nulls_where_none_may_be(contract):
    required = [field for field in contract.schema if not field.nullable]
    assert required
    for field in required:
        table = good(contract).cast(pa.schema([f.with_nullable(True) for f in contract.schema]))
        value = table[field.name][0].as_py()
        with pytest.raises(ContractError, match=f"column {field.name} has 1 nulls"):
            contract.check(put(table, field.name, [value, None]))


@each
def test_values_outside_the_list(contract):
    for name, _ in contract.values:
        with pytest.raises(ContractError, match=f"column {name} holds.*nonsense"):
            contract.check(put(good(contract), name, ["nonsense", "nonsense"]))


@each
def test_repeated_keys(contract):
    table = good(contract, 1)
    twice = pa.concat_tables([table, table])
    if contract.key:
        with pytest.raises(ContractError, match="repeat"):
            contract.check(twice)
    else:
        assert contract.check(twice).num_rows == 2


def test_only_the_label_table_may_repeat_rows():
    assert [contract for contract in CONTRACTS if not contract.key] == [LABELS]


def test_open_columns_are_kept_behind_the_others():
    table = good(PREDICTIONS).append_column("prob_sick", pa.array([0.1, 0.9], pa.float32()))
    assert PREDICTIONS.check(table).column_names == [*PREDICTIONS.schema.names, "prob_sick"]


def test_a_bad_table_is_never_written(tmp_path):
    with pytest.raises(ContractError):
        LABELS.write(tmp_path, good(LABELS).drop_columns(["value"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"junk", b"PAR1 but no more PAR1"])
def test_a_file_that_is_no_table_is_named(tmp_path, data):
    (tmp_path / "labels.parquet").write_bytes(data)
    with pytest.raises(ContractError, match=r"labels\.parquet.*cannot be read"):
        LABELS.read(tmp_path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"labels\.parquet"):
        LABELS.read(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "WAITS_SECONDS", ())
    path = tmp_path / "a.txt"
    tables.write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        tables.write_text(path, "new")
    assert path.read_text("utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_same_table_gives_the_same_bytes(tmp_path):
    first = tables.LABELS.write(tmp_path / "a", good(LABELS)).read_bytes()
    assert tables.LABELS.write(tmp_path / "b", good(LABELS)).read_bytes() == first


def test_only_the_columns_asked_for_are_read_and_in_that_order(tmp_path):
    MANIFEST.write(tmp_path, good(MANIFEST))
    assert MANIFEST.read(tmp_path, ["status", "image_id"]) == good(MANIFEST).select(["status", "image_id"])
    PREDICTIONS.write(tmp_path, good(PREDICTIONS).append_column("prob_sick", pa.array([0.1, 0.9], pa.float32())))
    assert PREDICTIONS.read(tmp_path, ("prob_sick",)).to_pydict() == {
        "prob_sick": [pytest.approx(0.1), pytest.approx(0.9)]
    }


def test_a_part_of_a_table_is_checked_as_the_whole_is(tmp_path):
    path = tmp_path / MANIFEST.file
    tables.write_parquet(path, good(MANIFEST).append_column("stray", pa.array([1, 2])))
    with pytest.raises(ContractError, match=r"unknown columns.*stray"):
        MANIFEST.read(tmp_path, ["uri"])
    tables.write_parquet(path, put(good(MANIFEST), "status", ["ok", "odd"]))
    assert len(MANIFEST.read(tmp_path, ["uri"])) == 2, "a column that was not asked for is not read"
    with pytest.raises(ContractError, match=r"status holds \['odd'\]"):
        MANIFEST.read(tmp_path, ["uri", "status"])
    tables.write_parquet(path, put(good(MANIFEST), "image_id", ["a", "a"]))
    with pytest.raises(ContractError, match="rows repeat"):
        MANIFEST.read(tmp_path, ["image_id"])


@pytest.mark.parametrize("num", [0, 1, 6, 7])
def test_rows_are_packed_in_groups_of_a_bounded_size(num, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_A_GROUP", 3)
    path = LABELS.write(tmp_path, good(LABELS, num))
    meta = pq.ParquetFile(path).metadata
    sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    assert sizes == {0: [0], 1: [1], 6: [3, 3], 7: [3, 3, 1]}[num]
    assert LABELS.read(tmp_path) == good(LABELS, num)
    assert pq.read_table(path) == good(LABELS, num), "any program that knows Parquet reads it as one table"


def test_the_pieces_that_a_table_was_made_of_do_not_show_in_its_file(tmp_path):
    whole = good(LABELS, 50)
    pieces = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 1), whole.slice(8)])
    for name, table in (("whole", whole), ("pieces", pieces)):
        LABELS.write(tmp_path / name, table)
    assert (tmp_path / "whole" / LABELS.file).read_bytes() == (tmp_path / "pieces" / LABELS.file).read_bytes()


@pytest.mark.parametrize("write", ["table", "copy"])
def test_a_table_that_cannot_be_written_whole_leaves_the_one_before(write, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "WAITS_SECONDS", ())
    path, other = LABELS.write(tmp_path, good(LABELS, 2)), LABELS.write(tmp_path / "other", good(LABELS, 3))
    writes = {"table": lambda: LABELS.write(tmp_path, good(LABELS, 3)), "copy": lambda: tables.copy_file(other, path)}

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        writes[write]()
    assert pq.read_table(path) == good(LABELS, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [LABELS.file, "other"]
    writes[write]()
    assert path.read_bytes() == other.read_bytes()


def test_a_column_that_the_file_lacks_is_named(tmp_path):
    LABELS.write(tmp_path, LABELS.empty())
    with pytest.raises(ContractError, match=r"columns \['prob_mass'\] are missing"):
        LABELS.read(tmp_path, ["image_id", "prob_mass"])


def test_a_disk_that_is_full_is_named_by_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: …")  # as Arrow words it, without the file

    monkeypatch.setattr(storage, "WAITS_SECONDS", ())
    monkeypatch.setattr(pq, "ParquetWriter", full)
    with pytest.raises(OSError, match="No space left on device") as failure:
        tables.write_parquet(tmp_path / "labels.parquet", LABELS.empty())
    assert failure.value.filename == str(tmp_path / "labels.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_to_copy_that_is_gone_is_the_one_that_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as failure:
        tables.copy_file(tmp_path / "gone.parquet", tmp_path / "predictions.parquet")
    assert str(failure.value.filename) == str(tmp_path / "gone.parquet")
    assert list(tmp_path.iterdir()) == []
