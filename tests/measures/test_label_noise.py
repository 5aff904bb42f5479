"""Wrong labels are told from hard cases by how they rank."""

import numpy as np
import pytest

from pipeline.measures.label_noise import wrong_shares


def ranks(num, apart, own, other, *, spread=1.0, seed=0):
    """Scores of two labelled classes of which these shares are wrong."""
    rng = np.random.default_rng(seed)
    scores = []
    for share, is_own in ((own, True), (other, False)):
        wrong = rng.random(num) < share
        true_own = wrong ^ is_own
        scores.append(np.where(true_own, rng.normal(apart, spread, num), rng.normal(0, 1, num)))
    return scores


@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("spread", [0.7, 1.0, 1.4])
def test_hard_cases_are_no_wrong_labels(apart, spread):
    """Of two hundred scans a class; classes that hardly differ leave it open in up to two of ten draws."""
    found = [wrong_shares(*ranks(200, apart, 0, 0, spread=spread, seed=seed)) for seed in range(10)]
    assert sum(f.all_low > 0.05 for f in found) <= 2


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_wrong_labels_are_counted(share):
    found = [wrong_shares(*ranks(300, 3.0, share, share, seed=seed)) for seed in range(10)]
    assert np.mean([(f.own + f.other) / 2 for f in found]) == pytest.approx(share, abs=0.04)


def test_a_fifth_of_wrong_labels_is_no_chance_among_three_hundred():
    found = [wrong_shares(*ranks(300, 3.0, 0.2, 0.2, seed=seed)) for seed in range(10)]
    assert sum(f.all_low > 0.05 for f in found) >= 9
    assert all((f.own_low + f.other_low) / 2 <= f.all_low + 1e-9 <= 0.251 for f in found)


def test_only_ranks_count_and_few_patients_know_less():
    own_K, other_J = ranks(300, 3.0, 0.15, 0.15)
    plain = wrong_shares(own_K, other_J)
    assert wrong_shares(np.exp(own_K), np.exp(other_J)) == plain
    fewer = wrong_shares(own_K, other_J, weight=0.2)
    assert fewer.own == plain.own and fewer.own_low < plain.own_low


def test_evidence_is_there_for_wrong_labels_and_not_for_hard_cases():
    noisy = [wrong_shares(*ranks(150, 2.5, 0.15, 0.15, seed=seed)).evidence for seed in range(10)]
    hard = [wrong_shares(*ranks(150, 2.5, 0, 0, seed=seed)).evidence for seed in range(10)]
    assert sum(evidence > 2 for evidence in noisy) >= 9 and sum(evidence > 2 for evidence in hard) <= 1
    assert min(noisy + hard) >= 0
