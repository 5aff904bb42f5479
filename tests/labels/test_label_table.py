import datetime as dt

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, NOT_CXR, ORACLE, POOL, Answer
from pipeline.contracts.errors import ContractError, InputError, RunDirError
from pipeline.contracts.tables import LABELS
from pipeline.labels import label_table, verdicts
from tests.support.people import say

FINDINGS = ("normal", "pneumonia", "covid")


def answer(image_id, finding, annotator="ann", round_index=1):
    return Answer(image_id, finding or CANNOT_TELL, annotator, round_index, dt.datetime(2026, 1, 2, tzinfo=dt.UTC))


def classes(folder, up_to_round=None):
    return verdicts.expert_classes(label_table.read(folder), FINDINGS, up_to_round)


def pseudo(folder, found, round_index=1):
    ids = np.array(list(found), dtype=object)
    index = np.array([FINDINGS.index(f) for f in found.values()], dtype=np.int64)
    label_table.replace_pseudo(folder, ids, index, np.full(len(ids), 0.9), FINDINGS, round_index)


def pseudo_ids(folder):
    return {row["image_id"] for row in label_table.read(folder).to_pylist() if row["origin"] == "pseudo"}


def test_one_row_a_finding_with_its_origin(tmp_path):
    assert say(tmp_path, [answer("a", "pneumonia"), answer("b", None)], FINDINGS) == 2
    rows = label_table.read(tmp_path).to_pylist()
    assert [(r["image_id"], r["finding"], r["value"]) for r in rows[:3]] == [
        ("a", "normal", 0.0),
        ("a", "pneumonia", 1.0),
        ("a", "covid", 0.0),
    ]
    assert all(np.isnan(r["value"]) for r in rows[3:])
    assert {(r["origin"], r["annotator"], r["round"], r["probability"]) for r in rows} == {("expert", "ann", 1, None)}
    assert classes(tmp_path) == {"a": "pneumonia", "b": None}


def test_the_same_file_twice_changes_nothing(tmp_path):
    given_ = [answer("a", "normal"), answer("b", None), answer("c", "covid")]
    say(tmp_path, given_, FINDINGS)
    before = (tmp_path / "labels.parquet").read_bytes()
    assert say(tmp_path, given_, FINDINGS) == 0
    assert (tmp_path / "labels.parquet").read_bytes() == before


def test_an_annotator_may_correct_and_the_first_answer_stays_on_record(tmp_path):
    for finding in ("normal", "covid", None, "covid"):
        assert say(tmp_path, [answer("a", finding)], FINDINGS) == 1
    assert classes(tmp_path) == {"a": "covid"}
    assert len(label_table.read(tmp_path)) == 4 * len(FINDINGS)
    say(tmp_path, [answer("a", None)], FINDINGS)
    assert classes(tmp_path) == {"a": None}


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        (["normal", "normal", "covid"], "normal"),
        (["covid", "normal", "normal"], "normal"),
        (["normal", "covid"], None),
        (["normal", None, None], "normal"),
        ([None, None], None),
        (["normal", "covid", "pneumonia"], None),
    ],
)
def test_majority_and_ties(tmp_path, votes, expected):
    say(tmp_path, [answer("a", v, annotator=f"ann{i}") for i, v in enumerate(votes)], FINDINGS)
    assert classes(tmp_path) == {"a": expected}


def test_the_order_in_which_answers_came_does_not_show(tmp_path):
    given_ = [answer(i, f, who) for i in "cab" for f, who in (("covid", "y"), ("normal", "x"))]
    for name, order in (("one", given_), ("other", given_[::-1])):
        (tmp_path / name).mkdir()
        for one in order:
            say(tmp_path / name, [one], FINDINGS)
    one, other = (tmp_path / name / "labels.parquet" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_scans_that_are_no_good_are_told_apart(tmp_path):
    say(tmp_path, [answer("a", BAD_QUALITY), answer("b", NOT_CXR, "x"), answer("b", "covid", "y")], FINDINGS)
    say(tmp_path, [answer("c", NOT_CXR, "x"), answer("c", NOT_CXR, "y"), answer("c", "covid", "z")], FINDINGS)
    table = label_table.read(tmp_path)
    assert classes(tmp_path) == {"a": None, "b": None, "c": None}
    assert verdicts.rejections(table) == {"a": BAD_QUALITY, "c": NOT_CXR}
    assert verdicts.disagreements(table) == ["b"]


def test_a_correction_counts_once_in_the_vote(tmp_path):
    say(tmp_path, [answer("a", "normal", "x"), answer("a", "covid", "y")], FINDINGS)
    say(tmp_path, [answer("a", "covid", "x")], FINDINGS)
    assert classes(tmp_path) == {"a": "covid"}


def test_an_earlier_round_does_not_know_later_answers(tmp_path):
    say(tmp_path, [answer("a", "normal", round_index=1), answer("b", "covid", round_index=2)], FINDINGS)
    assert classes(tmp_path, 1) == {"a": "normal"}
    assert classes(tmp_path, 2) == {"a": "normal", "b": "covid"}


def test_an_expert_beats_a_pseudo_label_whoever_comes_first(tmp_path):
    say(tmp_path, [answer("a", "normal"), answer("b", None)], FINDINGS)
    pseudo(tmp_path, {"a": "covid", "b": "covid", "c": "covid", "d": "normal"})
    assert pseudo_ids(tmp_path) == {"c", "d"}
    say(tmp_path, [answer("c", "normal", round_index=2)], FINDINGS)
    assert pseudo_ids(tmp_path) == {"d"}  # at once, not in the round after
    assert classes(tmp_path) == {"a": "normal", "b": None, "c": "normal"}


def test_pseudo_labels_are_those_of_the_last_round(tmp_path):
    pseudo(tmp_path, {"a": "covid", "b": "normal"}, round_index=1)
    pseudo(tmp_path, {"b": "covid"}, round_index=2)
    rows = [r for r in label_table.read(tmp_path).to_pylist() if r["value"] == 1.0]
    assert [(r["image_id"], r["finding"], r["round"], r["origin"]) for r in rows] == [("b", "covid", 2, "pseudo")]
    assert rows[0]["probability"] == pytest.approx(0.9)
    pseudo(tmp_path, {}, round_index=3)
    assert len(label_table.read(tmp_path)) == 0


def test_people_are_counted_apart_from_pool_and_oracle(tmp_path):
    given_ = [
        answer("a", "normal", POOL, 0),
        answer("b", "normal", ORACLE),
        answer("c", "covid"),
        answer("c", "normal", "second"),
    ]
    say(tmp_path, given_, FINDINGS)
    assert verdicts.human_answers(label_table.read(tmp_path)) == 1


def test_a_write_that_would_lose_an_expert_row_is_refused(tmp_path):
    say(tmp_path, [answer("a", "normal")], FINDINGS)
    with pytest.raises(ContractError, match="3 expert rows would be lost"):
        label_table._write(tmp_path, label_table.read(tmp_path), LABELS.empty())
    assert classes(tmp_path) == {"a": "normal"}


def test_class_array_leaves_out_what_nobody_could_tell():
    ids, class_N = verdicts.class_array({"a": "covid", "b": None, "c": "normal"}, FINDINGS)
    assert (ids, class_N.tolist()) == (["a", "c"], [2, 0])


SCANS = st.sampled_from("abcd")
STEPS = st.one_of(
    st.tuples(
        st.just("expert"),
        st.lists(st.tuples(SCANS, st.sampled_from([*FINDINGS, None]), st.sampled_from("xy")), max_size=4),
    ),
    st.tuples(st.just("pseudo"), st.dictionaries(SCANS, st.sampled_from(FINDINGS), max_size=4)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=7))
def test_no_expert_answer_is_ever_lost_or_outvoted_by_the_model(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("labels")
    latest, num_new = {}, 0
    for round_index, (kind, found) in enumerate(steps, start=1):
        if kind == "pseudo":
            pseudo(folder, found, round_index)
        else:
            for image_id, finding, annotator in found:
                changed = latest.get((image_id, annotator), "never") != finding
                latest[image_id, annotator] = finding
                num_new += changed
                assert say(folder, [answer(image_id, finding, annotator)], FINDINGS) == changed
        rows = label_table.read(folder).to_pylist()
        assert sum(r["origin"] == "expert" for r in rows) == num_new * len(FINDINGS)
        assert not pseudo_ids(folder) & {image_id for image_id, _ in latest}
        known = classes(folder)
        assert set(known) == {image_id for image_id, _ in latest}
        for image_id, finding in known.items():
            said = [f for (i, _), f in latest.items() if i == image_id and f is not None]
            assert finding == (said[0] if len(set(said)) == 1 else None)


def test_the_order_of_the_findings_does_not_matter(tmp_path):
    """A run resumed with its classes in another order, or with one more, keeps every answer."""
    given_answers = [answer("a", "normal"), answer("b", "pneumonia"), answer("c", None)]
    say(tmp_path, given_answers, FINDINGS)
    before = classes(tmp_path)
    table = label_table.read(tmp_path)
    assert verdicts.expert_classes(table, FINDINGS[::-1]) == before
    assert verdicts.expert_classes(table, ("abscess", *FINDINGS)) == before
    say(tmp_path, [answer("b", None)], ("abscess", *FINDINGS))
    assert classes(tmp_path)["b"] is None


def test_a_class_that_experts_used_may_not_go(tmp_path):
    say(tmp_path, [answer("a", "covid")], FINDINGS)
    with pytest.raises(InputError, match="covid"):
        verdicts.expert_classes(label_table.read(tmp_path), FINDINGS[:2])


def test_a_person_beats_a_label_that_came_with_the_pool(tmp_path):
    say(tmp_path, [answer("a", "normal")], FINDINGS)
    say(tmp_path, [answer("a", "covid", POOL, 0), answer("b", "covid", POOL, 0)], FINDINGS)
    assert classes(tmp_path) == {"a": "normal", "b": "covid"}
    assert verdicts.disagreements(label_table.read(tmp_path)) == []


def test_an_even_split_between_people_is_told(tmp_path):
    say(tmp_path, [answer("a", "normal", "x"), answer("a", "covid", "y")], FINDINGS)
    assert verdicts.disagreements(label_table.read(tmp_path)) == ["a"]
    say(tmp_path, [answer("a", "covid", "z")], FINDINGS)
    assert verdicts.disagreements(label_table.read(tmp_path)) == []
    assert classes(tmp_path) == {"a": "covid"}


@pytest.mark.parametrize(
    ("replies", "rejected", "disputed"),
    [
        ([BAD_QUALITY, NOT_CXR], True, False),
        ([BAD_QUALITY, NOT_CXR, "covid", "covid"], False, True),
        ([BAD_QUALITY] * 2 + [NOT_CXR] * 2 + ["covid"] * 3, True, False),
        ([BAD_QUALITY, "covid", "covid"], False, False),
        ([BAD_QUALITY, "covid", "normal"], False, True),
        ([BAD_QUALITY, CANNOT_TELL], True, False),
    ],
)
def test_whether_a_scan_is_any_good_is_voted_first(tmp_path, replies, rejected, disputed):
    say(tmp_path, [answer("a", reply, annotator=f"ann{i}") for i, reply in enumerate(replies)], FINDINGS)
    table = label_table.read(tmp_path)
    assert (set(verdicts.rejections(table)) == {"a"}) is rejected
    assert (verdicts.disagreements(table) == ["a"]) is disputed
    assert (classes(tmp_path) == {"a": None}) is (rejected or disputed)


@pytest.mark.parametrize("cut", ["a line", "some bytes"])
def test_a_shortened_journal_takes_no_label_with_it(tmp_path, cut):
    say(tmp_path, [answer("a", "normal")], FINDINGS)
    say(tmp_path, [answer("b", "covid")], FINDINGS)
    path, before = tmp_path / "answers.jsonl", (tmp_path / "labels.parquet").read_bytes()
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 1] if cut == "a line" else whole[:-40])
    with pytest.raises(RunDirError, match=r"lacks 1 answers that labels.parquet was made of.*backup"):
        label_table.settle(tmp_path, FINDINGS)
    assert (tmp_path / "labels.parquet").read_bytes() == before
    path.write_bytes(whole)
    assert not label_table.settle(tmp_path, FINDINGS)
