import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.contracts.tables import PSEUDO
from pipeline.learn import rollback
from pipeline.runtime import run_files

FINDINGS = ("normal", "pneumonia")
ALLOWED = rollback.Allowed(auroc=0.005, accuracy=0.03, brier=0.02)


def scores(num, strength, seed=0):
    """Probabilities of two classes that tell them apart by `strength` standard deviations."""
    rng = np.random.default_rng(seed)
    class_E = np.arange(num) % 2
    p = 1 / (1 + np.exp(-(rng.normal(size=num) + strength * (2 * class_E - 1))))
    return np.column_stack([1 - p, p]), class_E


def groups(num):
    return [f"p{i}" for i in range(num)]


def drop(old, new, class_E, allowed=0.005, group_E=None):
    """How far AUROC falls, and whether beyond chance; (0, False) where nothing can be said of it."""
    most, rng = rollback.Allowed(allowed, 1.0, 2.0), np.random.default_rng(0)
    judged = rollback.falls(old, new, class_E, group_E or groups(len(class_E)), most, rng)
    return next(((fall.amount, fall.beyond_chance) for fall in judged if fall.measure == "AUROC"), (0.0, False))


def test_a_clearly_worse_round_is_beyond_chance():
    old, class_E = scores(60, 2.0)
    new, _ = scores(60, 0.0, seed=1)
    fell, beyond = drop(old, new, class_E)
    assert fell == pytest.approx(roc_auc_score(class_E, old[:, 1]) - roc_auc_score(class_E, new[:, 1]))
    assert fell > 0.2 and beyond


def test_noise_on_few_scans_is_kept():
    old, class_E = scores(40, 1.5)
    found = []
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(scale=0.1, size=(40, 1)) * [1, -1]
        found.append(drop(old, np.clip(old + noise, 0, 1), class_E, allowed=0.0))
    assert sum(fell > 0 for fell, _ in found) >= 3  # the point estimate alone would roll these back
    assert sum(beyond for _, beyond in found) <= 1


def test_better_or_within_the_allowance_is_kept():
    old, class_E = scores(60, 1.0)
    better, _ = scores(60, 3.0, seed=2)
    fell, beyond = drop(old, better, class_E)
    assert fell < 0 and not beyond
    worse, _ = scores(60, 0.0, seed=1)
    assert drop(old, worse, class_E)[1]
    assert not drop(old, worse, class_E, allowed=0.9)[1]


def test_a_drop_of_one_patient_with_many_scans_is_chance():
    """By scan it looks certain; by patient it is one accident."""
    old, class_E = scores(60, 3.0)
    new = old.copy()
    new[:20] = new[:20, ::-1]
    one_patient = ["p0"] * 20 + groups(60)[20:]
    assert drop(old, new, class_E)[1]
    assert drop(old, new, class_E, group_E=one_patient)[1] is False


def test_one_class_cannot_be_judged():
    prob_EC, _ = scores(10, 1.0)
    assert drop(prob_EC, prob_EC[::-1], np.zeros(10, int)) == (0.0, False)
    assert rollback.oof_auroc(prob_EC, np.zeros(10, int)) is None


def test_auroc_is_the_mean_over_classes():
    rng = np.random.default_rng(0)
    prob_EC, class_E = rng.dirichlet([1, 1, 1], 50), rng.integers(3, size=50)
    expected = roc_auc_score(class_E, prob_EC, multi_class="ovr", average="macro")
    assert rollback.oof_auroc(prob_EC, class_E) == pytest.approx(expected)


def is_worse(before, ids, prob_EC, class_E):
    return rollback.is_worse(
        before, ids, prob_EC, class_E, groups(len(ids)), FINDINGS, ALLOWED, np.random.default_rng(0)
    )


@pytest.mark.parametrize(
    ("num_before", "num_now", "rolled_back", "worse"),
    [
        (29, 29, False, False),  # too few to say anything
        (60, 60, False, True),
        (60, 200, False, True),  # the round before learned from all it judged
        (60, 120, True, True),
        (60, 121, True, False),  # it carries an early one over, which fewer than half of the labels know
    ],
)
def test_few_scans_or_an_early_round_carried_over_are_no_evidence(tmp_path, num_before, num_now, rolled_back, worse):
    old, class_E = scores(num_now, 2.0)
    ids = groups(num_now)
    rollback.save_oof(tmp_path, ids[:num_before], old[:num_before], FINDINGS)
    (tmp_path / run_files.ROW).write_text(json.dumps({"rolled_back": rolled_back}))
    blind, _ = scores(num_now, 0.0, seed=1)
    assert is_worse(tmp_path, ids, blind, class_E) is worse


def test_rounds_are_compared_on_the_same_scans_in_any_order(tmp_path, caplog):
    old, class_E = scores(60, 2.5)
    ids = [f"id{i}" for i in range(60)]
    rollback.save_oof(tmp_path, [*ids, "withdrawn"], np.vstack([old, [[0.5, 0.5]]]), FINDINGS)
    order = np.random.default_rng(1).permutation(60)
    new_ids = [ids[i] for i in order] + [f"new{i}" for i in range(20)]
    unsure = np.full((20, 2), 0.5)
    classes = np.concatenate([class_E[order], np.arange(20) % 2])
    assert not is_worse(tmp_path, new_ids, np.vstack([old[order], unsure]), classes)  # new scans do not count
    assert caplog.text == ""
    blind, _ = scores(60, 0.0, seed=4)
    assert is_worse(tmp_path, new_ids, np.vstack([blind, unsure]), classes)
    assert "on the same 60 scans: rolled back" in caplog.text


def test_the_gate_sees_calls_and_calibration_as_well(tmp_path, caplog):
    """A rare class's scan may take the temperature along: the ranking stays, calls or probabilities are lost."""
    old, class_E = scores(80, 2.5)
    ids = [f"id{i}" for i in range(80)]
    rollback.save_oof(tmp_path, ids, old, FINDINGS)
    odds = old[:, 1] / old[:, 0]
    many_alarms = np.column_stack([1 / (1 + 20 * odds), 20 * odds / (1 + 20 * odds)])  # same order, another cut
    flat = np.column_stack([0.5 - 0.02 * np.log(odds), 0.5 + 0.02 * np.log(odds)])  # same order and calls
    for worse, measure in ((many_alarms, "accuracy"), (flat, "Brier score")):
        caplog.clear()
        assert drop(old, worse, class_E, 0.0, ids)[0] == pytest.approx(0.0)
        assert is_worse(tmp_path, ids, worse, class_E)
        assert f"out-of-fold {measure} is worse" in caplog.text
    everything = rollback.Allowed(1.0, 1.0, 1.0)
    judged = rollback.falls(old, flat, class_E, ids, everything, np.random.default_rng(0))
    assert [fall.measure for fall in judged] == ["AUROC", "accuracy", "Brier score"]
    assert not any(fall.beyond_chance for fall in judged)


def test_a_class_of_fewer_than_five_labels_has_no_say_in_the_ranking():
    rng = np.random.default_rng(0)
    class_E = np.array([0] * 20 + [1] * 20 + [2] * 4)
    prob_EC = rng.dirichlet([1, 1, 1], 44)
    assert rollback.judged_classes(class_E, 3) == [0, 1]
    expected = np.mean([roc_auc_score(class_E == c, prob_EC[:, c]) for c in (0, 1)])
    assert rollback.oof_auroc(prob_EC, class_E) == pytest.approx(expected)
    assert rollback.oof_auroc(prob_EC[:8], np.array([0] * 4 + [1] * 4)) is None


def test_the_first_round_cannot_be_worse(tmp_path):
    prob_EC, class_E = scores(20, 0.0)
    assert is_worse(tmp_path / "00", [f"id{i}" for i in range(20)], prob_EC, class_E) is False


def test_carry_over_leaves_out_what_experts_answered(tmp_path):
    before, folder = tmp_path / "01", tmp_path / "02"
    columns = {
        "image_id": ["a", "b", "c"],
        "finding": ["normal"] * 3,
        "probability": [0.9] * 3,
        "threshold_prob": [0.8] * 3,
        "decision": ["accept"] * 3,
        "admitted": [True, True, False],
    }
    PSEUDO.write(before, pa.table(columns, schema=PSEUDO.schema))
    rollback.save_oof(before, ["x"], np.array([[0.3, 0.7]]), FINDINGS)
    rollback.carry_over(before, folder, ["b", "x"], list(FINDINGS))
    assert PSEUDO.read(folder)["image_id"].to_pylist() == ["a", "c"]
    assert (folder / run_files.OOF).read_bytes() == (before / run_files.OOF).read_bytes()


def test_a_class_whose_certificate_lapsed_is_not_carried_over(tmp_path):
    before, folder = tmp_path / "01", tmp_path / "02"
    columns = {
        "image_id": ["a", "b"],
        "finding": ["normal", "pneumonia"],
        "probability": [0.9] * 2,
        "threshold_prob": [0.8] * 2,
        "decision": ["accept"] * 2,
        "admitted": [True, True],
    }
    PSEUDO.write(before, pa.table(columns, schema=PSEUDO.schema))
    rollback.save_oof(before, ["x"], np.array([[0.3, 0.7]]), FINDINGS)
    rollback.carry_over(before, folder, [], ["pneumonia"])
    assert PSEUDO.read(folder)["admitted"].to_pylist() == [False, True]


def test_a_class_of_fewer_than_five_labels_has_no_say():
    """Its scans go wrong, all others stay as they are: nothing fell. A fifth label gives it a say."""
    prob_EC = np.repeat([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]], [20, 20], axis=0)
    for num_rare, fell in ((4, 0.0), (5, 5 / 45)):
        class_E = np.array([0] * 20 + [1] * 20 + [2] * num_rare)
        old = np.vstack([prob_EC, [[0.05, 0.05, 0.9]] * num_rare])
        new = np.vstack([prob_EC, [[0.9, 0.05, 0.05]] * num_rare])
        judged = rollback.falls(old, new, class_E, groups(len(class_E)), ALLOWED, np.random.default_rng(0))
        amounts = {fall.measure: fall.amount for fall in judged}
        assert amounts["accuracy"] == pytest.approx(fell)
        assert (amounts["Brier score"] > 0) == (num_rare == 5)


def test_where_every_class_has_few_labels_nothing_is_judged():
    class_E = np.array([0, 0, 0, 1, 1, 1])
    prob_EC = np.eye(2)[class_E]
    args = (prob_EC, prob_EC[::-1], class_E, groups(6), ALLOWED, np.random.default_rng(0))
    assert rollback.falls(*args) == []
