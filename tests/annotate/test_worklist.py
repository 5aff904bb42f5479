"""One list says what a round waits for: which scans, of how many readers."""

import itertools
import json
import re

import numpy as np
import pyarrow as pa
import pytest

from pipeline.annotate import worklist
from pipeline.annotate.worklist import BLOCK, Ask, open_worklist, rereads
from pipeline.contracts.answers import CANNOT_TELL, Answer
from pipeline.contracts.options.labelling import QueueConfig
from pipeline.contracts.tables import QUEUE, write_text
from pipeline.runtime import run_files


def draw(folder, round_index, kinds, **queue):
    """A queue of scans s00, s01, … with these kinds, or of given scans."""
    kinds = kinds if isinstance(kinds, dict) else {f"s{i:02d}": kind for i, kind in enumerate(kinds)}
    place = folder / "rounds" / f"{round_index:02d}"
    columns = {
        "image_id": list(kinds),
        "rank": np.arange(1, len(kinds) + 1, dtype=np.int32),
        "kind": list(kinds.values()),
        "cluster": [None] * len(kinds),
        "score": [None] * len(kinds),
        "proposed": [None] * len(kinds),
    }
    place.mkdir(parents=True, exist_ok=True)
    QUEUE.write(place, pa.table(columns, schema=QUEUE.schema))
    write_text(place / "queue.json", json.dumps({"queue": queue}))
    return folder


def said(image_id, annotator="ann", round_index=1, reply="normal"):
    return Answer(image_id, reply, annotator, round_index)


def open_ids(found):
    return {ask.image_id: found.missing(ask) for ask in found.open()}


def test_one_reader_a_scan(tmp_path):
    draw(tmp_path, 1, ["representative", "uniform", "holdout"])
    found = open_worklist(tmp_path, 1, [said("s01"), said("elsewhere")])
    assert open_ids(found) == {"s00": 1, "s02": 1}
    found.hear(said("s01", "bob"))
    found.hear(said("s00", reply=CANNOT_TELL))  # an answer too
    assert open_ids(found) == {"s02": 1}
    assert [ask.rank for ask in found.asks] == [1, 2, 3]


def test_several_readers_are_several_people(tmp_path):
    draw(tmp_path, 1, ["uniform"] * 2, readers_per_scan=2)
    found = open_worklist(tmp_path, 1, [said("s00"), said("s00", round_index=2), said("s01"), said("s01", "bob")])
    assert open_ids(found) == {"s00": 1}
    ask = found.by_id["s00"]
    assert not found.lacks(ask, "ann") and found.lacks(ask, "bob")
    assert open_ids(open_worklist(tmp_path, 1, [said("s00"), said("s01")], oracle=True)) == {}


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (0.25, 5), (1.0, 20)])
def test_a_share_is_read_once_more(tmp_path, share, num):
    kinds = ["uniform"] * 10 + ["holdout"] * 10 + ["dispute", "doubt"]
    draw(tmp_path, 1, kinds, double_read_share=share, readers_per_scan=2)
    asks = open_worklist(tmp_path, 1, []).asks
    assert [ask.readers for ask in asks].count(3) == num
    assert [ask.readers for ask in asks].count(2) == 20 - num
    assert [ask.readers for ask in asks[-2:]] == [1, 1]  # second looks are never read twice
    assert asks == open_worklist(tmp_path, 1, []).asks
    assert {ask.readers for ask in open_worklist(tmp_path, 1, [], oracle=True).asks} == {1}


class TestDesigns:
    """`queue.design`: what is asked for where two readers differ."""

    def test_an_adjudicator_is_asked_where_two_differ_and_nowhere_else(self, tmp_path):
        draw(tmp_path, 1, ["uniform"] * 3 + ["dispute"], design="two_and_adjudicator")
        found = open_worklist(tmp_path, 1, [said("s00"), said("s01"), said("s03", reply="other")])
        assert open_ids(found) == {"s00": 1, "s01": 1, "s02": 2}
        found.hear(said("s00", "bob", reply="pneumonia"))
        found.hear(said("s01", "bob"))
        ask, agreed = found.by_id["s00"], found.by_id["s01"]
        assert open_ids(found) == {"s00": 1, "s02": 2} and found.disputed(ask) == ["normal", "pneumonia"]
        assert not found.lacks(ask, "cleo") and found.awaits(ask, "cleo") and not found.awaits(agreed, "cleo")
        assert not found.awaits(ask, "ann")  # who read it judges nobody
        assert found.summary() == (
            "round 1 waits for 2 of 7 labels; 1 of its scans wait for an adjudicator (annotate --adjudicator NAME)"
        )
        (decision,) = sign_as(found, "s00", "cleo", adjudicates=True)
        assert decision.annotator == "cleo (adjudicator)"
        assert open_ids(found) == {"s02": 2} and found.readers["s00"] == {"ann", "bob"}
        found.hear(said("s00", "bob"))  # she agrees after all
        assert open_ids(found) == {"s02": 2}

    def test_a_third_reader_is_asked_where_two_differ(self, tmp_path):
        draw(tmp_path, 1, ["uniform"] * 2, design="two_of_three")
        found = open_worklist(tmp_path, 1, [])
        answers = [said("s00"), said("s00", "bob", reply="other"), said("s00", "cleo"), said("s01"), said("s01", "bob")]
        signed = worklist.sign(found, answers)
        assert [answer.annotator for answer in signed] == ["ann", "bob", "cleo (third reader)", "ann", "bob"]
        assert open_ids(found) == {} and found.readers["s00"] == {"ann", "bob", "cleo"}
        again = worklist.sign(found, [said("s00", "cleo", reply="other"), said("s00", "bob")])
        assert [answer.annotator for answer in again] == ["cleo (third reader)", "bob"]  # corrections keep their place
        two = open_worklist(tmp_path, 1, answers[:2])
        assert two.lacks(two.by_id["s00"], "cleo") and not two.lacks(two.by_id["s00"], "bob")

    def test_what_the_pool_says_disputes_nobody(self, tmp_path):
        draw(tmp_path, 1, ["uniform"], design="two_of_three")
        found = open_worklist(tmp_path, 1, [said("s00", "pool", 0, "other"), said("s00")])
        assert open_ids(found) == {}

    def test_an_oracle_reads_once(self, tmp_path):
        draw(tmp_path, 1, ["uniform"], design="two_and_adjudicator")
        assert open_ids(open_worklist(tmp_path, 1, [said("s00", "oracle")], oracle=True)) == {}

    def test_the_design_says_how_many_read(self):
        assert QueueConfig(design="two_of_three").readers_per_scan == 1
        for more in ({"readers_per_scan": 2}, {"double_read_share": 0.5}):
            with pytest.raises(ValueError, match="says how many read a scan"):
                QueueConfig(design="two_and_adjudicator", **more)


def sign_as(found, image_id, person, **more):
    answer = said(image_id, found.signed(image_id, person, **more))
    found.hear(answer)
    return [answer]


@pytest.mark.parametrize("kind", ["dispute", "doubt"])
def test_a_second_look_needs_an_answer_of_this_round(tmp_path, kind):
    draw(tmp_path, 1, ["uniform"] * 2)
    draw(tmp_path, 2, {"s00": kind, "s05": "uniform"})
    before = [said("s00"), said("s00", "bob"), said("s05", round_index=1)]
    found = open_worklist(tmp_path, 2, before)
    assert open_ids(found) == {"s00": 1}  # whenever the other was answered, it is
    ask = found.by_id["s00"]
    assert found.lacks(ask, "ann") and found.lacks(ask, "cleo")
    found.hear(said("s00", "ann", 2))
    assert open_ids(found) == {}


def test_a_queue_drawn_before_its_options_were_kept_has_one_reader(tmp_path):
    draw(tmp_path, 1, ["uniform"])
    (tmp_path / "rounds" / "01" / "queue.json").unlink()
    assert [ask.readers for ask in open_worklist(tmp_path, 1, []).asks] == [1]


def test_everybody_has_an_order_of_her_own_within_blocks_of_priority(tmp_path):
    draw(tmp_path, 1, ["uniform"] * 35)
    found = open_worklist(tmp_path, 1, [])
    orders = {name: sorted(found.asks, key=lambda ask: worklist.turn(ask, name)) for name in ("ann", "bob", "cleo")}
    for order in orders.values():
        assert [(ask.rank - 1) // BLOCK for ask in order] == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 5
        assert [ask.rank for ask in order] != list(range(1, 36))
    assert len({tuple(ask.rank for ask in order) for order in orders.values()}) == 3
    again = open_worklist(tmp_path, 1, [said("s00")])
    assert sorted(again.asks, key=lambda ask: worklist.turn(ask, "ann")) == orders["ann"]  # and it stays


def test_the_place_of_a_dispute_tells_nobody_that_she_made_it(tmp_path):
    draw(tmp_path, 2, {"s00": "dispute"} | {f"s{i:02d}": "uniform" for i in range(1, 25)})
    found = open_worklist(tmp_path, 2, [said("s00", "ann"), said("s00", "bob"), said("s01", "cleo")])
    for name in ("ann", "bob", "cleo"):
        order = [ask.image_id for ask in sorted(found.asks, key=lambda ask: worklist.turn(ask, name))]
        assert order.index("s00") < BLOCK


def test_rereads_come_in_their_share_without_a_beat():
    places = {name: [worklist.num_rereads(name, 2, n, 0.1) for n in range(2001)] for name in ("ann", "bob")}
    for counts in places.values():
        assert counts[0] == 0 and {b - a for a, b in itertools.pairwise(counts)} == {0, 1}
        assert 150 < counts[-1] < 250
        first = [n for n in range(1, 2001) if counts[n] > counts[n - 1]]
        assert len({b - a for a, b in itertools.pairwise(first)}) > 5
    assert places["ann"] != places["bob"]
    assert worklist.num_rereads("ann", 2, 500, 0.0) == 0


class TestRereads:
    def test_own_answers_of_earlier_rounds_asked_once(self, tmp_path):
        draw(tmp_path, 1, {"a": "uniform", "b": "representative", "c": "recheck", "h": "holdout", "d": "dispute"})
        draw(tmp_path, 2, {"e": "uniform", "f": "uniform"})
        draw(tmp_path, 3, {"g": "uniform", "f": "doubt"})
        answers = [said(i) for i in "abchd"] + [said(i, round_index=2) for i in "ef"] + [said("g", round_index=3)]
        answers += [said("a", round_index=2), said("c", "bob"), said("x", "bob")]
        found = rereads(tmp_path, answers, "ann", 3)
        assert sorted(found) == ["b", "c", "d", "e"]  # not: twice (a), sealed (h), asked now (f), of this round (g)
        assert rereads(tmp_path, answers, "bob", 3) == ["c"]
        assert rereads(tmp_path, answers, "nobody", 3) == []
        assert found == rereads(tmp_path, answers[::-1], "ann", 3)

    def test_one_read_again_this_round_stays_on_the_list(self, tmp_path):
        draw(tmp_path, 1, {"a": "uniform"})
        draw(tmp_path, 2, {"b": "uniform"})
        assert rereads(tmp_path, [said("a"), said("a", round_index=2)], "ann", 2) == ["a"]

    def test_the_order_is_everybodys_own_and_another_each_round(self, tmp_path):
        draw(tmp_path, 1, ["uniform"] * 20)
        draw(tmp_path, 2, {"x": "uniform"})
        draw(tmp_path, 3, {"y": "uniform"})
        answers = [said(f"s{i:02d}", name) for i in range(20) for name in ("ann", "bob")]
        orders = [rereads(tmp_path, answers, name, r) for name in ("ann", "bob") for r in (2, 3)]
        assert len({tuple(order) for order in orders}) == 4
        assert {frozenset(order) for order in orders} == {frozenset(f"s{i:02d}" for i in range(20))}


def test_what_a_run_has_asked(tmp_path):
    assert (run_files.asked(tmp_path), run_files.latest_round(tmp_path), run_files.run_code(tmp_path)) == (
        {},
        None,
        None,
    )
    draw(tmp_path, 1, {"a": "uniform", "b": "representative"})
    code = run_files.run_code(tmp_path)
    draw(tmp_path, 2, {"c": "uniform", "a": "dispute"})
    assert run_files.asked(tmp_path) == {"a": 1, "b": 1, "c": 2}
    assert run_files.latest_round(tmp_path) == 2
    assert {i: set(found) for i, found in run_files.kinds(tmp_path, 3).items()} == {
        "a": {"uniform", "dispute"},
        "b": {"representative"},
        "c": {"uniform"},
    }
    assert run_files.kinds(tmp_path, 2) == {"a": {"uniform": 1}, "b": {"representative": 1}}
    assert run_files.run_code(tmp_path) == code  # it never changes
    other = draw(tmp_path / "other", 1, {"b": "representative", "a": "uniform"})
    assert run_files.run_code(other) != code
    assert re.fullmatch("r[0-9a-f]{11}", code)  # a spreadsheet would take digits alone, or 12e3, for a number


def test_an_ask_of_the_first_kind_is_no_second_look():
    kinds = ("representative", "uniform", "recheck", "holdout", "dispute", "doubt")
    assert [kind for kind in kinds if Ask("a", 1, kind, 1).again] == ["dispute", "doubt"]


def test_it_says_what_it_waits_for(tmp_path):
    draw(tmp_path, 1, ["uniform"] * 4, readers_per_scan=2)
    assert open_worklist(tmp_path, 1, []).summary() == "round 1 waits for 8 of 8 labels"
    read = [said(f"s{i:02d}", "ann") for i in range(4)]
    found = open_worklist(tmp_path, 1, read).summary()
    assert found == "round 1 waits for 4 of 8 labels; 4 scans need another reader than ann"
    assert open_worklist(tmp_path, 1, [*read, *(said(f"s{i:02d}", "bob") for i in range(4))]).summary() == ""


def test_who_answers_by_file_hears_of_the_scans_that_no_file_holds(tmp_path):
    draw(tmp_path, 1, ["uniform"] * 3)
    table = tmp_path / "rounds" / "01" / "queue.csv"
    write_text(table, "image_id,label\ns00,\ns01,\n")
    assert "shows the rest; 1 with burnt-in text in the browser alone" in worklist.how_to_answer(tmp_path, 1)
    write_text(table, "image_id,label\ns00,\ns01,\ns02,\n")
    assert "shows them all)" in worklist.how_to_answer(tmp_path, 1)
