"""The loop with people: it stops, takes what they answer, and goes on where it stopped."""

import csv
import json

import pyarrow.compute as pc
import pytest

from pipeline.contracts.answers import CANNOT_TELL, Answer
from pipeline.contracts.errors import WaitingForLabels
from pipeline.contracts.tables import PSEUDO, QUEUE
from pipeline.rounds import loop
from tests.support.people import say
from tests.support.synthetic_run import FINDINGS, options, synthetic_run


def metrics(run):
    path = run.folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def queue_ids(run, round_index):
    return QUEUE.read(run.ctx.round_folder(round_index))["image_id"].to_pylist()


def answer(run, round_index, ids=None, **changed):
    """An annotator who knows the truth answers the queue, or a part of it."""
    ids = queue_ids(run, round_index) if ids is None else ids
    given = [Answer(i, changed.get(i, run.truth[i]) or CANNOT_TELL, "ann", round_index) for i in ids]
    return say(run.folder, given, FINDINGS[:2])


@pytest.fixture
def run(tmp_path):
    """No label anywhere: 60 scans of the holdout, 140 of the training pool."""
    return synthetic_run(
        tmp_path / "run",
        num_scans=200,
        oracle=False,
        labelled=(),
        rounds__num=2,
        queue__budget=20,
        queue__holdout_budget=25,
    )


def test_stops_for_its_annotators_and_says_what_to_do(run):
    with pytest.raises(WaitingForLabels, match="round 1 waits for 45 of 45 labels") as caught:
        loop.run(run.ctx)
    folder = run.ctx.round_folder(1)
    assert caught.value.exit_code == 3
    assert f"cxr-ssl labels import {run.folder} {folder / 'queue.csv'} --annotator NAME" in str(caught.value)
    assert "--resume" in str(caught.value)
    kinds = QUEUE.read(folder)["kind"].to_pylist()
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"representative": 16, "uniform": 4, "holdout": 25}
    with (folder / "queue.csv").open(newline="") as stream:
        assert [row["image_id"] for row in csv.DictReader(stream)] == queue_ids(run, 1)
    assert (folder / "queue.html").exists() and (folder / "queue.labelstudio.json").exists()
    assert metrics(run) == []


def test_goes_on_after_the_answers_and_asks_for_the_holdout_once(run):
    with pytest.raises(WaitingForLabels):
        loop.run(run.ctx)
    answer(run, 1)
    with pytest.raises(WaitingForLabels, match="round 2 waits for 20 of 20 labels"):
        loop.run(run.ctx)
    first = metrics(run)
    assert [row["num_expert"] for row in first] == [20]  # the holdout's answers train nothing
    assert first[0]["holdout"]["auroc"] > 0.9
    assert sum(first[0]["holdout"]["confusion"][0] + first[0]["holdout"]["confusion"][1]) == 25
    kinds = QUEUE.read(run.ctx.round_folder(2))["kind"].to_pylist()
    proposed = PSEUDO.read(run.ctx.round_folder(1)).filter(pc.field("decision") == "accept")
    num_recheck = min(len(proposed), 1)  # one of twenty, where something was proposed
    expected = {"representative": 16 - num_recheck, "uniform": 4, "recheck": num_recheck}
    assert {kind: kinds.count(kind) for kind in ("representative", "uniform", "recheck")} == expected
    assert len(kinds) == 20
    assert not set(queue_ids(run, 1)) & set(queue_ids(run, 2))
    answer(run, 2)
    assert loop.run(run.ctx)["num_expert"] == 40
    assert metrics(run)[0] == first[0]  # round 1 was kept as it was


def test_partial_answers_wait_again_for_the_rest(run):
    with pytest.raises(WaitingForLabels):
        loop.run(run.ctx)
    ids = queue_ids(run, 1)
    before = QUEUE.read(run.ctx.round_folder(1))
    answer(run, 1, ids[:30])
    with pytest.raises(WaitingForLabels, match="round 1 waits for 15 of 45 labels"):
        loop.run(run.ctx)
    assert QUEUE.read(run.ctx.round_folder(1)).equals(before)  # a queue once drawn is never drawn again
    with pytest.raises(WaitingForLabels):
        loop.run(options(run, seed=7, strategy__name="random"))
    assert QUEUE.read(run.ctx.round_folder(1)).equals(before)
    answer(run, 1, ids[30:])
    with pytest.raises(WaitingForLabels, match="round 2"):
        loop.run(run.ctx)


def test_cannot_tell_is_an_answer(run):
    with pytest.raises(WaitingForLabels):
        loop.run(run.ctx)
    train = [i for i in queue_ids(run, 1) if run.split[i] == "train"]
    answer(run, 1, **dict.fromkeys(train[:5]))
    with pytest.raises(WaitingForLabels, match="round 2"):
        loop.run(run.ctx)
    assert metrics(run)[0]["num_expert"] == 15
    assert not set(train[:5]) & set(queue_ids(run, 2))  # and it is not asked again


def test_a_filled_sheet_is_not_overwritten_while_waiting(run):
    with pytest.raises(WaitingForLabels):
        loop.run(run.ctx)
    path = run.ctx.round_folder(1) / "queue.csv"
    filled = path.read_text().replace(",,", ",normal,", 3)
    path.write_text(filled)
    (run.ctx.round_folder(1) / "queue.html").unlink()
    with pytest.raises(WaitingForLabels):
        loop.run(run.ctx)
    assert path.read_text() == filled
    assert (run.ctx.round_folder(1) / "queue.html").exists()


def test_a_correction_repeats_the_round_but_not_its_queue(run):
    for round_index in (1, 2):
        with pytest.raises(WaitingForLabels):
            loop.run(run.ctx)
        answer(run, round_index)
    loop.run(run.ctx)
    before, queue = metrics(run), queue_ids(run, 2)
    wrong = next(i for i in queue_ids(run, 1) if run.split[i] == "train")
    answer(run, 1, [wrong], **{wrong: "normal" if run.truth[wrong] == "pneumonia" else "pneumonia"})
    loop.run(run.ctx)
    assert [row["fingerprint"] for row in metrics(run)] != [row["fingerprint"] for row in before]
    assert queue_ids(run, 2) == queue
    unchanged = metrics(run)
    loop.run(run.ctx)
    assert metrics(run) == unchanged  # and with nothing new nothing is done


def test_labels_that_came_with_the_pool_count_as_experts(tmp_path):
    run = synthetic_run(tmp_path, num_scans=160, oracle=False, rounds__num=3, queue__budget=10)
    train = run.ids("train")
    run.table({i: run.truth[i] for i in train[:50] + run.ids("holdout")})
    with pytest.raises(WaitingForLabels, match="round 1 waits for 10 of 10 labels"):
        loop.run(run.ctx)
    assert not set(queue_ids(run, 1)) & set(train[:50])
    answer(run, 1)
    with pytest.raises(WaitingForLabels, match="round 2"):
        loop.run(run.ctx)
    assert metrics(run)[0]["num_expert"] == 60


def test_a_pool_that_is_labelled_throughout_needs_nobody(tmp_path):
    run = synthetic_run(tmp_path, num_scans=160, oracle=False, rounds__num=3, queue__budget=10)
    assert loop.run(run.ctx) == {"num_rounds": 1, "num_expert": 100, "num_pseudo": 0}


def test_the_loop_ends_when_nothing_is_left_to_ask(tmp_path, caplog):
    run = synthetic_run(tmp_path, num_scans=90, rounds__num=9, queue__budget=12)
    with caplog.at_level("INFO", logger="pipeline"):
        found = loop.run(run.ctx)
    assert (found["num_rounds"], found["num_expert"]) == (3, 30)
    assert "nothing is left to ask" in caplog.text
