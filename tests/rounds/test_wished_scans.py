"""Scans that people wished for come with the next queue, as a kind of their own, and never as a sample of anything."""

import pytest

from pipeline.contracts.tables import QUEUE, WISHED
from pipeline.learn.releases import frozen_release
from pipeline.rounds import loop
from pipeline.selection.draw import Proposals, draw
from pipeline.selection.marks import Marks
from tests.support.synthetic_run import options
from tests.support.waiting_run import SMALL, queue_ids, queue_rows, waiting_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return waiting_run(tmp_path_factory.mktemp("wished") / "run", **SMALL)


def drawn(ctx, wished=(), strategy="typiclust"):
    table = draw(ctx, 2, set(), Proposals({}), strategy=strategy, wished=wished)
    return {kind: {row["image_id"] for row in table.to_pylist() if row["kind"] == kind} for kind in QUEUE.values[0][1]}


def others(run, num):
    """Scans of the training pool that the first queue does not hold."""
    return [image_id for image_id in run.ids("train") if image_id not in queue_ids(run.folder)][:num]


def test_wishes_take_the_place_of_representatives_and_leave_the_uniform_slice_as_it_is(run):
    before = drawn(run.ctx)
    wished = [i for i in run.ids("train") if i not in before["uniform"]][:3]
    after = drawn(run.ctx, [*run.ids("holdout")[:2], *wished])  # what is sealed is never drawn
    assert after[WISHED] == set(wished) and before[WISHED] == set()
    assert after["uniform"] == before["uniform"] and len(after["uniform"]) == 2
    assert len(after["representative"]) == len(before["representative"]) - 3


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_queue_wished_share_bounds_them_and_the_first_wishes_come_first(run, share, num):
    ctx = options(run, queue__wished_share=share)
    uniform = drawn(ctx)["uniform"]
    wished = [i for i in run.ids("train") if i not in uniform]
    assert drawn(ctx, wished)[WISHED] == set(wished[:num])


def test_a_wish_that_chance_draws_anyway_counts_as_drawn_by_chance(run):
    (lucky, *_) = sorted(drawn(run.ctx)["uniform"])
    after = drawn(run.ctx, [lucky])
    assert lucky in after["uniform"] and after[WISHED] == set()


def test_random_selection_makes_room_for_wishes(run):
    assert len(drawn(run.ctx, run.ids("train")[:3], "random")["uniform"]) == 7


def test_the_loop_draws_them_but_leaves_a_frozen_release_to_its_checks(run, monkeypatch):
    first, second, third = others(run, 3)
    Marks.open(run.folder).wish("Ann", [first, second, third])
    monkeypatch.setattr(frozen_release, "frozen_anywhere", lambda folder: frozenset({second}))
    assert loop._Loop(run.ctx, None, None)._wished() == [first, third]
    assert all(row["kind"] != WISHED for row in queue_rows(run.folder))  # what was drawn before stays
