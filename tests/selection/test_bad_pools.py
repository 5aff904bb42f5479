"""Pools that no strategy may stumble over: too small, all copies, constant, not finite, a class never seen."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from pipeline.selection import draw as selection_draw
from pipeline.selection import strategies
from pipeline.selection.draw import Proposals
from pipeline.selection.pool import NAMED, quarantined
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import unit_rows
from tests.support.selection_pools import blobs, cloud, pool_of, positions, probabilities
from tests.support.synthetic_run import options, synthetic_run

ALL = pytest.mark.parametrize("name", list(strategies.STRATEGIES))


def choose(name, pool, num, seed=0):
    return strategies.get(name)(pool, num, np.random.default_rng(seed))


def informed(unit_ND, num_classes=2, labelled=range(10), **options):
    """A pool with all that a strategy may know: probabilities, classes of the labelled scans, slices."""
    num = len(unit_ND)
    class_N = np.where(np.isin(np.arange(num), list(labelled)), np.arange(num) % num_classes, -1)
    prob_NC = options.pop("prob_NC", probabilities(num, num_classes))
    slice_N = np.arange(num) % 3
    return pool_of(unit_ND, labelled=labelled, prob_NC=prob_NC, class_N=class_N, slice_N=slice_N, **options)


@ALL
@pytest.mark.parametrize("knows", [True, False])
def test_a_budget_larger_than_the_pool_gives_all_of_it_once(name, knows):
    pool = informed(cloud(40)) if knows else pool_of(cloud(40), labelled=range(10))
    assert sorted(positions(choose(name, pool, 100))) == list(range(10, 40))


@ALL
def test_nothing_to_choose_from_is_an_empty_queue(name):
    assert choose(name, informed(cloud(10)), 5) == []


@ALL
@pytest.mark.parametrize("row", [np.eye(6)[0], np.zeros(6)])
def test_copies_of_one_scan_are_drawn_without_harm(name, row):
    """Constant embeddings: centred they are zero, or rounding left one direction for all."""
    pool = informed(np.tile(row, (60, 1)), prob_NC=np.full((60, 2), 0.5))
    picks = [positions(choose(name, pool, 12, seed)) for seed in range(3)]
    for rows in picks:
        assert len(set(rows)) == 12 and min(rows) >= 10
    assert len({tuple(rows) for rows in picks}) > 1  # no order of the manifest decides, which may be that of classes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("run"), num_scans=60, num_holdout=10, queue__budget=50)


@ALL
def test_a_run_of_constant_embeddings_draws_its_queue(name, run, monkeypatch):
    zeros = np.zeros_like(principal_components.load_similarity(run.folder))
    monkeypatch.setattr(principal_components, "load_similarity", lambda folder: zeros)
    queue = selection_draw.draw(options(run, queue__budget=12), 1, set(), Proposals({}), strategy=name)
    assert len(set(queue["image_id"].to_pylist())) == 12


@ALL
def test_scans_whose_embedding_is_not_finite_are_named_and_never_asked_for(name, caplog):
    unit_ND = cloud(60)
    unit_ND[[20, 30], 2] = np.nan
    unit_ND[40] = np.inf
    with caplog.at_level(logging.WARNING):
        pool = quarantined(replace(informed(unit_ND), length_N=np.arange(60.0)))
    assert pool.length_N.astype(int).tolist() == [int(image_id[2:]) for image_id in pool.ids_N]
    assert "3 scans are not asked for" in caplog.text and "not finite" in caplog.text
    assert all(name in caplog.text for name in ("id0020", "id0030", "id0040"))
    assert sorted(positions(choose(name, pool, 100))) == sorted(set(range(10, 60)) - {20, 30, 40})


@pytest.mark.parametrize("length", [np.nan, np.inf])
def test_a_scan_whose_length_is_not_finite_is_named_and_never_asked_for(length, caplog):
    length_N = np.ones(60)
    length_N[30] = length
    pool = quarantined(replace(informed(cloud(60)), length_N=length_N))
    assert "1 scans are not asked for" in caplog.text and "id0030" in caplog.text
    assert sorted(positions(choose("rare_class_herding", pool, 100))) == sorted(set(range(10, 60)) - {30})


def test_many_broken_scans_are_counted_and_the_first_are_named(caplog):
    unit_ND = cloud(60)
    unit_ND[10:30] = np.nan
    quarantined(pool_of(unit_ND))
    assert "20 scans" in caplog.text and f"id{10 + NAMED - 1:04d}" in caplog.text
    assert f"id{10 + NAMED:04d}" not in caplog.text


def test_a_pool_of_finite_rows_stays_the_same():
    pool = informed(cloud(30))
    assert quarantined(pool) is pool


@ALL
def test_a_run_with_a_broken_vector_draws_its_queue_without_it(name, run, monkeypatch, caplog):
    features = np.array(principal_components.load_similarity(run.folder))
    features[-1] = np.nan
    monkeypatch.setattr(principal_components, "load_similarity", lambda folder: features)
    queue = selection_draw.draw(run.ctx, 1, set(), Proposals({}), strategy=name)
    broken = list(run.truth)[59]
    assert sorted(queue["image_id"].to_pylist()) == sorted(set(run.ids("train")) - {broken})
    assert broken in caplog.text


@ALL
@pytest.mark.parametrize("labelled_classes", [1, 2])
def test_a_class_never_seen_does_not_keep_a_strategy_from_choosing(name, labelled_classes):
    """Three classes, one of which nobody has met, or only one is known; the classifier gives the others nothing."""
    unit_ND, blob_N = blobs(num_blobs=6, size=10)
    prob_NC = np.tile([0.9, 0.1, 0.0] if labelled_classes == 2 else [1.0, 0.0, 0.0], (60, 1))
    class_N = np.where(np.arange(60) < 10, np.arange(60) % labelled_classes, -1)
    pool = pool_of(unit_ND, labelled=range(10), prob_NC=prob_NC, class_N=class_N)
    rows = positions(choose(name, pool, 12))
    assert len(set(rows)) == 12 and min(rows) >= 10
    assert np.isin(blob_N[rows], range(1, 6)).all()


@ALL
def test_findings_that_do_not_exclude_each_other_and_one_without_a_classifier(name):
    prob_NC = np.random.default_rng(0).uniform(size=(60, 3))
    prob_NC[:, 1] = np.nan
    pool = pool_of(cloud(60), labelled=range(10), prob_NC=prob_NC, exclusive=False)
    rows = positions(choose(name, pool, 12))
    assert len(set(rows)) == 12 and min(rows) >= 10


@ALL
def test_more_scans_than_are_compared_are_sampled(name):
    pool = informed(unit_rows(np.random.default_rng(0).normal(size=(1500, 6))), max_candidates=1000, max_reference=100)
    rows = positions(choose(name, pool, 20))
    assert len(set(rows)) == 20 and min(rows) >= 10
