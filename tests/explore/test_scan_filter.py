"""Which scans are meant: clauses, lasso, names; their order; and the points that are sent of them."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.errors import InputError
from pipeline.explore import map_points, scan_filter
from pipeline.explore.columns import category, flag, number
from pipeline.explore.scan_filter import Choice, Clause, Order
from pipeline.explore.scan_table import SIDE, ScanTable

NUM = 200


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    age_N = np.where(np.arange(NUM) % 10 == 0, np.nan, np.arange(NUM))
    source = pa.array([None if i % 7 == 0 else "ab"[i % 2] for i in range(NUM)])
    return ScanTable(
        ids_N=pa.array([f"{i:016x}" for i in range(NUM)]),
        xy_N2=rng.integers(0, SIDE, (NUM, 2)).astype(np.uint16),
        columns={
            "source": category("source", "scan", source),
            "age": number("age", "scan", age_N),
            "mistake": flag("mistake", "model", np.arange(NUM) < 20),
        },
        picture_N=np.arange(NUM) // 2,
        sealed_N=np.zeros(NUM, bool),
        missing=(),
    )


def chosen(table, *where, **more):
    return scan_filter.rows_of(table, Choice(where=where, **more)).tolist()


def test_clauses_hold_together_and_not_known_is_a_value(table):
    assert chosen(table) == list(range(NUM))
    assert chosen(table, Clause(column="mistake", values=("yes",))) == list(range(20))
    of_b = Clause(column="source", values=("b",))
    assert chosen(table, of_b) == [i for i in range(NUM) if i % 2 and i % 7]
    both = chosen(table, of_b, Clause(column="age", low=50, high=99.5))
    assert both == [i for i in range(50, 100) if i % 2 and i % 7 and i % 10]
    assert chosen(table, Clause(column="source", values=(None,))) == list(range(0, NUM, 7))
    assert chosen(table, Clause(column="age", values=(None,))) == list(range(0, NUM, 10))
    assert chosen(table, Clause(column="source", values=("elsewhere",))) == []
    with pytest.raises(InputError, match="no such column"):
        chosen(table, Clause(column="<script>", values=("b",)))


def test_a_lasso_holds_what_lies_within_it_also_where_it_bends_in(table):
    x_N, y_N = table.xy_N2.astype(int).T
    half = SIDE // 2
    square = ((0, 0), (half, 0), (half, half), (0, half))
    assert chosen(table, lasso=square) == np.flatnonzero((x_N <= half) & (y_N <= half)).tolist()
    bent = ((0, 0), (SIDE, 0), (SIDE, SIDE), (half, half), (0, SIDE))  # a notch from above
    above_N = y_N > np.maximum(SIDE - x_N, x_N)
    assert chosen(table, lasso=bent) == np.flatnonzero(~above_N).tolist()


def test_names_choose_and_strange_names_choose_nothing(table):
    assert chosen(table, named=(f"{3:016x}", f"{999:016x}")) == [3]


def test_an_order_is_stable_and_what_is_not_known_comes_last(table):
    rows = np.arange(NUM)
    by_age = scan_filter.sort(table, rows, Order(by="age"))
    known = [i for i in by_age.tolist() if i % 10]
    assert known == sorted(known, reverse=True) and by_age.tolist()[: len(known)] == known
    assert scan_filter.sort(table, rows, Order(by="age", descending=False))[0] == 1
    chance = scan_filter.sort(table, rows, Order())
    assert sorted(chance) == rows.tolist() and chance.tolist() != rows.tolist()
    assert scan_filter.sort(table, rows[::-1], Order()).tolist() == chance.tolist()
    copies = scan_filter.sort(table, rows, Order(by="copies"))
    assert np.diff(table.picture_N[copies]).min() >= 0


@pytest.mark.parametrize("by", ["", "copies", "age", "source"])
@pytest.mark.parametrize("most", [1, 17, NUM])
def test_the_first_page_is_that_of_the_whole_order(table, by, most):
    rows = np.arange(3, NUM)
    first = scan_filter.sort(table, rows, Order(by=by), most)[:most]
    assert first.tolist() == scan_filter.sort(table, rows, Order(by=by))[:most].tolist()


def decoded(data):
    num, meant = np.frombuffer(data, "<u4", 2)
    rows = np.frombuffer(data, "<u4", num, 8)
    x, y = (np.frombuffer(data, "<u2", num, 8 + 4 * num + 2 * num * i) for i in range(2))
    return meant, rows, x, y, np.frombuffer(data, "u1", num, 8 + 8 * num)


def test_points_come_as_bytes_and_too_many_are_thinned_by_chance(table):
    rows = np.arange(0, NUM, 2)
    meant, sent, x, y, color = decoded(map_points.encoded(table, rows, table.columns["source"]))
    assert (meant, sent.tolist()) == (100, rows.tolist())
    assert (np.column_stack([x, y]) == table.xy_N2[rows]).all()
    expected = [map_points.NO_COLOR if i % 7 == 0 else i % 2 for i in rows]
    assert color.tolist() == expected
    few = decoded(map_points.encoded(table, np.arange(NUM), None, 30))
    fewer = decoded(map_points.encoded(table, np.arange(NUM), None, 20))
    assert (few[0], len(few[1]), len(fewer[1])) == (NUM, 30, 20)
    assert set(fewer[1]) < set(few[1])  # a smaller share keeps its points
    age = decoded(map_points.encoded(table, np.arange(NUM), table.columns["age"]))[4]
    assert age[0] == map_points.NO_COLOR and age[1] == 0 and age[NUM - 1] == map_points.NUM_SHADES - 1
