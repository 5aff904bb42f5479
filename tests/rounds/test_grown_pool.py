"""Rounds of a run that grows half-way: finished ones are frozen, the next asks about what is new, people and oracle."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.contracts.answers import Answer
from pipeline.contracts.errors import WaitingForLabels
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, PREDICTIONS, QUEUE, SPLIT_TABLE
from pipeline.evidence import growth_effect
from pipeline.labels.training_labels import ExpertLabels
from pipeline.rounds import grown_pool, loop, question
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.growth import record
from pipeline.selection import draw
from pipeline.selection.draw import Proposals
from pipeline.vectors import clusters
from pipeline.vectors.matrix import save_ids
from tests.support.people import say
from tests.support.synthetic_run import FINDINGS, synthetic_run

TABLES = (MANIFEST, DUPLICATES, SPLIT_TABLE, POOL_LABELS)
NEW = (*range(30, 50), *range(140, 200))  # 20 of the holdout, 60 of the training pool


def begun(folder, **options):
    """A run of 120 scans that knows nothing yet of 80 others; `grow` lets those join."""
    given = {
        "rounds__num": 3,
        "stop__advise": False,
        "queue__budget": 16,
        "queue__holdout_budget": 12,
        "num_holdout": 50,
    } | options
    run = synthetic_run(folder, num_scans=200, **given)
    emb_ND = np.load(folder / run_files.EMBEDDINGS)
    whole = {table: table.read(folder) for table in TABLES}
    own = [i for i in range(200) if i not in NEW]

    def keep(rows):
        for table, content in whole.items():
            table.write(folder, content.take(pa.array(rows)))
        np.save(folder / run_files.EMBEDDINGS, emb_ND[rows])
        save_ids(folder, whole[MANIFEST]["image_id"].take(pa.array(rows)))
        clusters.run(run.ctx)

    def grow():
        part = record.begin(folder, "other")
        ids = whole[MANIFEST]["image_id"].take(pa.array([*own, *NEW]))
        record.write_scans(folder, ids, np.repeat([0, 1], [len(own), len(NEW)]))
        record.join(folder, part)
        keep([*own, *NEW])
        return part

    keep(own)
    return SimpleNamespace(run=run, ctx=run.ctx, folder=folder, grow=grow)


def answer(one, round_index):
    ids = QUEUE.read(one.ctx.round_folder(round_index))["image_id"].to_pylist()
    say(one.folder, [Answer(i, one.run.truth[i], "ann", round_index) for i in ids], FINDINGS[:2])


def rows(one):
    return [json.loads(line) for line in (one.folder / run_files.METRICS).read_text().splitlines()]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parts_of(one, round_index, kind):
    queue = QUEUE.read(one.ctx.round_folder(round_index))
    chosen = queue.filter(pc.equal(queue["kind"], kind))
    return record.part_of(one.folder, chosen["image_id"]).tolist()


@pytest.fixture
def half_way(tmp_path):
    """Round 1 is finished, the queue of round 2 is with its annotators, and the run grows."""
    one = begun(tmp_path / "run", oracle=False, labelled=())
    with pytest.raises(WaitingForLabels):
        loop.run(one.ctx)
    answer(one, 1)
    with pytest.raises(WaitingForLabels, match="round 2"):
        loop.run(one.ctx)
    one.first, one.queue = files(one.ctx.round_folder(1)), files(one.ctx.round_folder(2))
    one.part = one.grow()
    return one


def test_a_half_way_run_keeps_its_queue_and_asks_about_the_new_scans_in_the_next(half_way):
    assert (half_way.part.after_round, half_way.part.first_queue) == (1, 3)
    with pytest.raises(WaitingForLabels, match="round 2 waits for 16 of 16"):
        loop.run(half_way.ctx)
    assert files(half_way.ctx.round_folder(2)) == half_way.queue
    answer(half_way, 2)
    with pytest.raises(WaitingForLabels, match="round 3 waits for 28 of 28"):  # 16, and 12 of the new holdout
        loop.run(half_way.ctx)
    assert files(half_way.ctx.round_folder(1)) == half_way.first
    assert parts_of(half_way, 3, "holdout") == [1] * 12
    told = json.loads((half_way.ctx.round_folder(3) / run_files.QUEUE_OPTIONS).read_text())["grown"]
    representatives = parts_of(half_way, 3, "representative")
    assert representatives.count(1) >= told[1]["num_least_alike"] > 0
    assert told[1]["num_missing"] == min(-(-(32 + 16) * 60 // 150), 60)
    answer(half_way, 3)
    loop.run(half_way.ctx)
    row = rows(half_way)[2]
    assert [one["part"] for one in row["holdout_parts"]] == [0, 1]
    assert [one["holdout"]["num_scans"] for one in row["holdout_parts"]] == [12, 12]
    assert row["holdout"]["num_scans"] == 24


def test_certificates_begin_anew_with_the_grown_pool(half_way):
    answer(half_way, 2)
    with pytest.raises(WaitingForLabels, match="round 3"):
        loop.run(half_way.ctx)
    row = rows(half_way)[1]
    assert row["certificates_from_round"] == 3
    assert row["certificates"]["pooled"]["num_checked"] == 0
    assert "certificates_from_round" not in rows(half_way)[0]


def test_the_model_before_is_asked_about_the_grown_pool(half_way):
    grown_pool.predict([(half_way.ctx, Dataset.open(half_way.ctx))])
    told = PREDICTIONS.read(record.part_folder(half_way.folder, 1))
    assert len(told) == 200
    before = PREDICTIONS.read(half_way.ctx.round_folder(1))
    place = pc.index_in(before["image_id"], value_set=told["image_id"].combine_chunks())
    np.testing.assert_allclose(
        told["prob_pneumonia"].take(place).to_numpy(), before["prob_pneumonia"].to_numpy(), atol=2e-3
    )
    assert record.folder_before(half_way.folder, 2) == record.part_folder(half_way.folder, 1)
    assert record.folder_before(half_way.folder, 3) == half_way.ctx.round_folder(2)


def test_a_finding_that_was_added_later_is_predicted_too_and_is_no_model_of_before(half_way):
    data, place = Dataset.open(half_way.ctx), record.part_folder(half_way.folder, 1)
    grown_pool.predict([(half_way.ctx, data)])
    assert grown_pool.has_predicted(place, data)
    assert not grown_pool.has_predicted(place, replace(data, findings=(*data.findings, "added")))
    told = growth_effect.compared(half_way.ctx, None)
    assert told["why_not"] == "no round has been finished since"
    PREDICTIONS.write(half_way.ctx.round_folder(1), PREDICTIONS.read(place))  # learned once more, on the grown pool
    assert "added later" in growth_effect.compared(half_way.ctx, None)["why_not"]


def grown_by_an_oracle(folder):
    one = begun(folder, rounds__num=2)
    loop.run(one.ctx)
    one.first = files(one.folder / run_files.ROUNDS)
    one.grow()
    config = one.ctx.config.model_copy(update={"rounds": one.ctx.config.rounds.model_copy(update={"num": 4})})
    return one, type(one.ctx)(config, one.folder, one.ctx.engine)


def test_an_interrupted_grow_comes_to_the_same_end(tmp_path, monkeypatch):
    whole, ctx = grown_by_an_oracle(tmp_path / "whole")
    loop.run(ctx)
    cut, ctx = grown_by_an_oracle(tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(question, "learn_round", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.run(ctx)
    loop.run(ctx)
    for one in (whole, cut):
        assert {path: data for path, data in files(one.folder / run_files.ROUNDS).items() if path in one.first} == (
            one.first
        )
    without_time = [[{**row, "seconds": None} for row in rows(one)] for one in (whole, cut)]
    assert without_time[0] == without_time[1]
    assert len(without_time[0]) == 4


def test_uniform_labels_count_by_the_size_of_their_part(half_way):
    data = Dataset.open(half_way.ctx)
    train = data.pool_T.image_id.to_pylist()
    part_T = record.part_of(half_way.folder, data.pool_T.image_id)
    own, new = ([i for i, part in zip(train, part_T, strict=True) if part == which] for which in (0, 1))
    answers = dict.fromkeys(own[:8], "normal") | dict.fromkeys(new[:2], "pneumonia")
    material = data.material(ExpertLabels(answers, answers, {}), set(answers))
    assert material.weight_E.sum() == pytest.approx(10)
    by_class = np.bincount(material.class_E, material.weight_E)
    assert by_class / 10 == pytest.approx([len(own) / len(train), len(new) / len(train)])


def test_checks_of_a_release_wait_while_the_new_scans_lack_labels(tmp_path):
    one, ctx = grown_by_an_oracle(tmp_path / "run")
    answered = {i for path in (1, 2) for i in QUEUE.read(one.ctx.round_folder(path))["image_id"].to_pylist()}
    train = Dataset.open(ctx).pool_T.image_id
    part_T = record.part_of(one.folder, train)
    open_ids = [i for i, part in zip(train.to_pylist(), part_T, strict=True) if part == 0 and i not in answered]
    checks = Proposals(dict.fromkeys(open_ids, "normal"), checks=tuple(open_ids))

    def kinds(labelled, proposals=checks):
        queue = draw.draw(ctx, 3, labelled, proposals, strategy=ctx.config.strategy.name)
        part_Q = record.part_of(one.folder, queue["image_id"])
        return queue["kind"].to_pylist().count("release-check"), int((part_Q == 1).sum())

    num_checks, num_new = kinds(answered)
    assert (num_checks, num_new >= 10) == (0, True)  # 20 are missing: more than the queue has room for
    of_new = [i for i, part in zip(train.to_pylist(), part_T, strict=True) if part == 1]
    assert kinds(answered | set(of_new[:40]))[0] > 0
    settled = Proposals(dict.fromkeys(train.to_pylist(), "normal"), checks=tuple(open_ids))
    assert kinds(answered, settled)[0] > 0  # nothing of the new pool is open: there is nothing to wait for
