from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from pipeline.contracts.tables import QUEUE
from pipeline.selection import draw as selection_draw
from pipeline.selection.draw import Proposals
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors
from tests.support.synthetic_run import options, synthetic_run

NOTHING = Proposals({})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """60 sealed, 180 train scans of 90 patients, 20 of them copies, and 15 quarantined ones."""
    return synthetic_run(
        tmp_path_factory.mktemp("queues"), scans_per_patient=2, num_quarantined=15, num_copies=20, queue__budget=30
    )


def draw(ctx, labelled=(), proposals=NOTHING, *, round_index=1, strategy="typiclust", holdout=()):
    return selection_draw.draw(ctx, round_index, set(labelled), proposals, strategy=strategy, holdout=list(holdout))


def of_kind(queue, kind):
    return [row["image_id"] for row in queue.to_pylist() if row["kind"] == kind]


@pytest.mark.parametrize("strategy", ["typiclust", "kmedoids", "random"])
def test_never_queues_what_must_not_be_asked(run, strategy):
    labelled = set(run.ids("train")[5:40])
    asked = draw(run.ctx, labelled, strategy=strategy)["image_id"].to_pylist()
    assert len(asked) == len(set(asked)) == 30
    assert {run.split[i] for i in asked} == {"train"}  # neither sealed nor quarantined
    assert not set(asked) & labelled
    assert not set(asked) & run.duplicates


def test_a_copy_of_a_labelled_scan_is_not_asked_for(run):
    """Whichever of the two was labelled."""
    copies = sorted(run.duplicates)
    pool = selection_draw.selection_pool(run.ctx, set(copies))
    originals = set(run.ids("train")[:20])
    assert not originals & set(pool.ids_N[pool.candidate_N])
    assert originals <= set(
        selection_draw.selection_pool(run.ctx, set()).ids_N[selection_draw.selection_pool(run.ctx, set()).candidate_N]
    )


def test_strategies_see_how_far_each_scan_is_from_the_middle(run):
    pool = selection_draw.selection_pool(run.ctx, set())
    vectors, similar_NP = Vectors.open(run.folder), principal_components.load_similarity(run.folder)
    own_NP = similar_NP[vectors.positions(pool.ids_N.tolist())]
    np.testing.assert_allclose(pool.unit_ND * pool.length_N[:, None], own_NP, rtol=1e-4, atol=1e-5)
    assert np.ptp(pool.length_N) > 0.0


def test_a_patient_is_asked_for_once(run):
    queue = draw(options(run, queue__budget=60))
    assert max(Counter(run.patient[i] for i in queue["image_id"].to_pylist()).values()) == 1


@pytest.mark.parametrize("strategy", ["typiclust"])
def test_patients_come_twice_when_the_pool_runs_out_of_them(run, strategy):
    queue = draw(options(run, queue__budget=120), strategy=strategy)
    asked = queue["image_id"].to_pylist()
    found = Counter(run.patient[i] for i in asked)
    assert len(set(asked)) == 120
    assert len(found) == len({run.patient[i] for i in run.ids("train")})
    assert set(found.values()) == {1, 2}


def test_the_budget_is_spent_though_few_patients_are_open(run):
    """Uniform takes two patients; every other one is answered: the rest comes from the patients already asked."""
    train = [i for i in run.ids("train") if i not in run.duplicates]
    open_ = set(train[-60:-54])  # three patients of two scans
    queue = draw(options(run, queue__budget=6, queue__uniform_share=0.34), set(train) - open_)
    assert set(queue["image_id"].to_pylist()) == open_


def test_all_that_is_left_is_asked_with_a_warning(run, caplog):
    train = [i for i in run.ids("train") if i not in run.duplicates]
    queue = draw(run.ctx, train[:-4])
    assert set(queue["image_id"].to_pylist()) == set(train[-4:])
    assert "4 scans are left to ask for, fewer than the budget of 30" in caplog.text
    assert len(draw(run.ctx, train)) == 0


def test_size_of_the_uniform_slice(run):
    for share, budget, expected in ((0.2, 30, 6), (0.0, 30, 0), (1.0, 30, 30), (0.5, 7, 4)):
        queue = draw(options(run, queue__budget=budget, queue__uniform_share=share))
        assert (len(of_kind(queue, "uniform")), len(queue)) == (expected, budget)
    assert len(of_kind(draw(run.ctx, strategy="random"), "uniform")) == 30


def test_the_uniform_slice_is_uniform(tmp_path):
    """Every open scan has the same chance, whatever its class, its cluster or its pseudo-label."""
    run = synthetic_run(tmp_path, num_scans=40, num_holdout=10, queue__budget=10, queue__uniform_share=0.5)
    train = run.ids("train")
    labelled, settled = set(train[:10]), Proposals(dict.fromkeys(train[10:20], "normal"))
    counts = Counter()
    for seed in range(200):
        counts.update(
            of_kind(
                draw(options(run, seed=seed, strategy__name="kmedoids"), labelled, settled, strategy="kmedoids"),
                "uniform",
            )
        )
    assert set(counts) == set(train[10:])
    assert chisquare([counts[i] for i in train[10:]]).pvalue > 1e-4
    with_proposal = sum(counts[i] for i in train[10:20]) / sum(counts.values())
    assert with_proposal == pytest.approx(0.5, abs=0.06)


def test_uniform_scans_do_not_stand_apart_in_the_order(run):
    """Ranks of the blind slice over many queues: neither first nor last."""
    ranks = []
    for seed in range(40):
        ctx = options(run, seed=seed, queue__budget=10, queue__uniform_share=0.5)
        ranks += [
            row["rank"]
            for row in draw(ctx, strategy="random", holdout=run.ids("holdout")[:10]).to_pylist()
            if row["kind"] == "uniform"
        ]
    assert np.mean(ranks) == pytest.approx(10.5, abs=1.5)


def test_ranks_count_from_one_and_the_table_keeps_its_contract(run):
    queue = draw(run.ctx, holdout=run.ids("holdout")[:3])
    assert queue["rank"].to_pylist() == list(range(1, 34))
    assert len(of_kind(queue, "holdout")) == 3
    QUEUE.check(queue)


def test_proposals_are_frozen_into_the_queue(run):
    proposals = Proposals({i: ("pneumonia" if n % 2 else "normal") for n, i in enumerate(run.ids("train")[:150])})
    queue = draw(run.ctx, proposals=proposals)
    for row in queue.to_pylist():
        assert row["proposed"] == proposals.finding.get(row["image_id"])
    assert any(row["proposed"] for row in queue.to_pylist() if row["kind"] == "uniform")


def test_representatives_avoid_what_the_model_answers(run):
    train = [i for i in run.ids("train") if i not in run.duplicates]
    settled = set(train[:100])
    queue = draw(run.ctx, proposals=Proposals(dict.fromkeys(settled, "normal")))
    assert len(of_kind(queue, "representative")) == 24
    assert not set(of_kind(queue, "representative")) & settled


def test_settled_scans_come_when_nothing_else_is_open(run):
    train = [i for i in run.ids("train") if i not in run.duplicates]
    queue = draw(run.ctx, proposals=Proposals(dict.fromkeys(train[:-8], "normal")))
    representatives = set(of_kind(queue, "representative"))
    asked = set(queue["image_id"].to_pylist())
    assert len(queue) == 30
    assert set(train[-8:]) <= asked
    assert representatives - set(train[-8:])


def test_the_same_seed_draws_the_same_queue(run):
    assert draw(run.ctx).equals(draw(run.ctx))
    assert not draw(run.ctx).equals(draw(options(run, seed=1)))
    assert not draw(run.ctx).equals(draw(run.ctx, round_index=2))


def test_an_oracle_is_asked_only_what_it_can_answer(tmp_path):
    run = synthetic_run(tmp_path, num_scans=80, num_holdout=20, queue__budget=60)
    known = run.ids("train")[::2]
    run.table({i: run.truth[i] for i in known})
    assert set(draw(run.ctx)["image_id"].to_pylist()) == set(known)
    assert len(draw(options(run, oracle=False))) == 60


class TestHoldoutRequest:
    @pytest.fixture
    def unlabelled(self, tmp_path):
        return synthetic_run(
            tmp_path, num_scans=100, scans_per_patient=3, num_holdout=30, labelled=("train",), queue__holdout_budget=8
        )

    def test_one_scan_of_each_of_the_patients_drawn(self, unlabelled):
        asked = selection_draw.holdout_request(unlabelled.ctx, set())
        assert len({unlabelled.patient[i] for i in asked}) == len(asked) == 8
        assert {unlabelled.split[i] for i in asked} == {"holdout"}

    def test_patients_with_a_label_count_and_are_not_asked_again(self, unlabelled):
        known = unlabelled.ids("holdout")[4]
        asked = selection_draw.holdout_request(unlabelled.ctx, {known})
        assert len(asked) == 7
        assert unlabelled.patient[known] not in {unlabelled.patient[i] for i in asked}

    def test_nothing_when_the_pool_labelled_the_holdout(self, unlabelled):
        unlabelled.table(unlabelled.truth)
        assert selection_draw.holdout_request(unlabelled.ctx, set()) == []

    def test_every_patient_has_the_same_chance(self, unlabelled):
        counts = Counter(
            unlabelled.patient[i]
            for seed in range(200)
            for i in selection_draw.holdout_request(options(unlabelled, seed=seed, queue__holdout_budget=3), set())
        )
        assert len(counts) == 10
        assert chisquare(list(counts.values())).pvalue > 1e-4

    def test_a_holdout_of_fewer_patients_than_the_budget_is_said(self, unlabelled, caplog):
        selection_draw.holdout_request(unlabelled.ctx, set())
        assert not caplog.messages
        assert len(selection_draw.holdout_request(options(unlabelled, queue__holdout_budget=40), set())) == 10
        (message,) = caplog.messages
        assert "scans of 10 patients" in message and "the 40 of queue.holdout_budget" in message

    def test_a_budget_of_zero_asks_for_none(self, unlabelled):
        assert selection_draw.holdout_request(options(unlabelled, queue__holdout_budget=0), set()) == []
