"""Pools larger than a block: the same results as in a single piece, and no copy of the whole in memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from pipeline.contracts.tables import CLUSTERS
from pipeline.evidence import other_pool
from pipeline.learn.classifier import Classifier
from pipeline.learn.heads.head import Head
from pipeline.monitor import scans
from pipeline.runtime import run_files
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import clusters, neighbor_graph, row_blocks
from pipeline.vectors.matrix import UnitRows, Vectors, unit_rows, units_and_lengths
from tests.support.synthetic_run import options, synthetic_run

NUM, DIMS = 30_000, 64
BLOCK = 1_000
WHOLE_BYTES = NUM * DIMS * 4  # as float32


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("blocks"), num_scans=400, distance=1.0)


@pytest.fixture
def mapped_ND(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, np.random.default_rng(0).normal(size=(NUM, DIMS)).astype(np.float16))
    return np.load(path, mmap_mode="r")


@pytest.fixture
def model():
    rng = np.random.default_rng(1)
    head = Head({"weight0": rng.normal(size=(2, 8)).astype(np.float32), "bias0": np.array([0.5, -0.5], np.float32)})
    basis_DP = rng.normal(size=(DIMS, 8)).astype(np.float32)
    half_C, mean_D = np.ones(2) / 2, np.ones(DIMS, np.float32)
    return Classifier(head, ("normal", "sick"), 1.0, half_C, np.ones(2), half_C, mean_D, basis_DP)


def in_blocks_of(monkeypatch, num):
    monkeypatch.setattr(row_blocks, "ROWS_AT_ONCE", num)


class LastFirst(SerialEngine):
    """An engine whose tasks end in the order opposite to that of their shards."""

    def map_shards(self, function, shards, *, on_gpu=False):
        self.num_shards = len(shards)
        yield from reversed([(index, function(shard)) for index, shard in enumerate(shards)])


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("num", [134, 7])  # three blocks of 400 scans, and many with a last block of one row
def test_the_clusters_stage_leaves_the_same_in_blocks(run, monkeypatch, num):
    def left():
        clusters.run(options(run, cluster__num_clusters=12, pseudo__propagate=1.0, train__num_components=8))
        table = CLUSTERS.read(run.folder)
        graph_TT = neighbor_graph.load(run.folder / run_files.NEIGHBORS)
        places = np.stack([np.asarray(table[name]) for name in ("similarity", "x", "y")])
        return np.asarray(table["cluster"]), places, graph_TT.toarray()

    whole = left()
    in_blocks_of(monkeypatch, num)
    for in_blocks, at_once in zip(left(), whole, strict=True):
        np.testing.assert_allclose(in_blocks, at_once, atol=1e-5)


def test_the_clusters_stage_projects_a_large_pool_in_tasks(run, monkeypatch):
    def features():
        return [(run.folder / name).read_bytes() for name in (run_files.FEATURES, run_files.SIMILARITY)]

    ctx, engine = options(run, cluster__num_clusters=12, train__num_components=8), LastFirst()
    clusters.run(ctx)
    here = features()
    monkeypatch.setattr(row_blocks, "MIN_PRODUCTS", 0)
    monkeypatch.setattr(row_blocks, "ROWS_AT_ONCE", 134)
    clusters.run(replace(ctx, engine=engine))
    assert features() == here
    assert engine.num_shards == 3


def test_another_large_pool_is_predicted_in_tasks(run, monkeypatch):
    monkeypatch.setattr(row_blocks, "MIN_PRODUCTS", 0)
    vectors, half_C, engine = Vectors.open(run.folder), np.ones(2) / 2, LastFirst()
    width = vectors.emb_ND.shape[1]
    head = Head({"weight0": np.ones((2, 3), np.float32), "bias0": np.array([0.0, 1.0], np.float32)})
    basis = np.zeros(width, np.float32), np.ones((width, 3), np.float32)
    model = Classifier(head, ("normal", "sick"), 1.0, half_C, np.ones(2), half_C, *basis)
    ids = vectors.ids.to_pylist()[::-2]
    logit_NC = other_pool.logits(replace(run.ctx, engine=engine), model, ids)
    expected_N = 3 * vectors.emb_ND[vectors.positions(ids)].astype(np.float64).sum(1)
    np.testing.assert_allclose(logit_NC, np.stack([expected_N, expected_N + 1], 1), atol=1e-3)
    assert engine.num_shards == 1


def test_unit_rows_are_those_of_the_whole(mapped_ND):
    whole_ND, rows_M = unit_rows(mapped_ND), np.array([5, 29_999, 0, 5])
    lazy = UnitRows(mapped_ND)
    assert len(lazy) == NUM and lazy.shape == (NUM, DIMS)
    np.testing.assert_array_equal(lazy[100:2_000], whole_ND[100:2_000])
    np.testing.assert_array_equal(lazy[rows_M], whole_ND[rows_M])


def test_a_row_is_its_length_times_its_unit_row(mapped_ND):
    mean_D, rows_M = mapped_ND.mean(0, dtype=np.float32), np.array([5, 29_999, 0, 5])
    unit_MD, length_M = units_and_lengths(mapped_ND, mean_D, rows_M)
    np.testing.assert_allclose(
        length_M[:, None] * unit_MD, mapped_ND[rows_M].astype(np.float32) - mean_D, rtol=1e-4, atol=1e-5
    )
    assert units_and_lengths(np.zeros((3, 2)))[1].tolist() == [0.0, 0.0, 0.0]


def test_assignment_holds_a_block_and_not_the_pool(mapped_ND, monkeypatch):
    in_blocks_of(monkeypatch, BLOCK)
    centroid_KD = unit_rows(mapped_ND[:20])
    cluster_N, _ = clusters.assign(UnitRows(mapped_ND), centroid_KD)
    assert cluster_N[:20].tolist() == list(range(20))
    assert peak_bytes(lambda: clusters.assign(UnitRows(mapped_ND), centroid_KD)) < WHOLE_BYTES / 2


def test_a_model_of_before_answers_for_a_block_at_a_time(model, mapped_ND, monkeypatch):
    whole_NC = model.logits(np.asarray(mapped_ND, np.float32))
    in_blocks_of(monkeypatch, BLOCK)
    np.testing.assert_allclose(model.logits(mapped_ND), whole_NC, atol=1e-5)
    assert peak_bytes(lambda: model.logits(mapped_ND)) < WHOLE_BYTES / 2


def test_a_model_of_before_answers_for_the_rows_wanted_in_their_order(model, mapped_ND):
    rows_M = np.array([29_999, 3, 3, 17_000])
    np.testing.assert_allclose(model.logits(mapped_ND, rows_M), model.logits(mapped_ND)[rows_M], atol=1e-5)
    assert model.logits(mapped_ND, rows_M[:0]).shape == (0, 2)


def test_centres_of_slices_are_the_same_in_blocks(run, monkeypatch):
    clusters.run(options(run, cluster__num_clusters=12, train__num_components=8))
    whole_KQ = scans.slice_centres(run.folder, 8)
    in_blocks_of(monkeypatch, 7)
    assert whole_KQ.shape[0] == 12
    np.testing.assert_array_equal(scans.slice_centres(run.folder, 8), whole_KQ)


@pytest.mark.parametrize(("num", "width"), [(0, 5), (1, 5), (16_384, 5), (16_385, 5), (1_000, 5_696), (3, 10**8)])
def test_blocks_follow_each_other_and_hold_no_more_than_they_may(num, width):
    blocks = row_blocks.row_blocks(num, width)
    assert np.concatenate([np.arange(num)[rows] for rows in blocks]).tolist() == list(range(num))
    size = max(rows.stop - rows.start for rows in blocks)
    assert size <= 1 or size * width <= row_blocks.NUMBERS_AT_ONCE
    assert len(blocks) == max(1, -(-num // max(size, 1)))  # no more of them than that takes


def test_a_model_answers_in_order_though_tasks_end_in_another(model, mapped_ND, monkeypatch):
    rows_M = np.random.default_rng(2).permutation(NUM)[:5_000]
    here_NC, engine = model.logits(mapped_ND, rows_M), LastFirst()
    monkeypatch.setattr(row_blocks, "MIN_PRODUCTS", 5_000 * DIMS * 8)
    monkeypatch.setattr(row_blocks, "NUMBERS_AT_ONCE", BLOCK * DIMS)
    np.testing.assert_array_equal(model.logits(mapped_ND, rows_M, engine), here_NC)
    assert engine.num_shards == 5


def test_a_pool_that_is_not_large_goes_to_no_task(model, mapped_ND, monkeypatch):
    rows_M, engine = np.arange(4_999), LastFirst()
    monkeypatch.setattr(row_blocks, "MIN_PRODUCTS", 5_000 * DIMS * 8)
    model.logits(mapped_ND, rows_M, engine)
    assert not hasattr(engine, "num_shards")
