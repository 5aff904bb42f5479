"""`queue.recheck_share` and `strategy.num_neighbors` change the queue as they say."""

from collections import Counter

import numpy as np
import pytest

from pipeline.selection import draw as selection_draw
from pipeline.selection.draw import Proposals
from pipeline.selection.strategies import typiclust
from tests.support.synthetic_run import options, synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("queue"), oracle=False, queue__budget=40, queue__uniform_share=0.2)


def kinds(ctx, proposals):
    queue = selection_draw.draw(ctx, 1, set(), proposals, strategy="typiclust", holdout=[])
    return Counter(queue["kind"].to_pylist())


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (0.05, 2), (0.25, 10), (1.0, 32)])
def test_queue_recheck_share_of_the_budget_are_blind_checks_of_accepted_labels(run, share, num):
    """The uniform slice comes first: no more than the rest of the budget goes to checks."""
    accepted = Proposals({i: run.truth[i] for i in run.ids("train")[:100]})
    found = kinds(options(run, queue__recheck_share=share), accepted)
    assert (found["uniform"], found["recheck"], found["representative"]) == (8, num, 32 - num)


def test_queue_recheck_share_asks_nothing_of_an_oracle_nor_where_nothing_is_accepted(run):
    accepted = Proposals({i: run.truth[i] for i in run.ids("train")[:100]})
    assert kinds(options(run, queue__recheck_share=0.5, oracle=True), accepted)["recheck"] == 0
    assert kinds(options(run, queue__recheck_share=0.5), Proposals({}))["recheck"] == 0


def test_strategy_num_neighbors_is_what_typicality_looks_at(run):
    """One pair lies closest, a group of five is denser at large: one neighbour sees the pair, four the group."""
    far = 10.0
    place_M2 = np.array([[0, 0], [0, 0.001], *[[far + 0.01 * i, far] for i in range(5)]])
    unit_M3 = np.column_stack([place_M2 / 30, np.zeros(7)])
    unit_M3[:, 2] = np.sqrt(1 - (unit_M3**2).sum(axis=1))
    unit_M3 = unit_M3.astype(np.float64)
    assert typiclust.typicality(unit_M3, 1).argmax() < 2 <= typiclust.typicality(unit_M3, 4).argmax()


def test_strategy_num_neighbors_reaches_the_queue(run, monkeypatch):
    seen = []
    monkeypatch.setattr(typiclust, "typicality", lambda unit_MD, num: (seen.append(num), np.ones(len(unit_MD)))[1])
    for num in (3, 40):
        kinds(options(run, strategy__num_neighbors=num), Proposals({}))
        assert set(seen) == {num}
        seen.clear()
