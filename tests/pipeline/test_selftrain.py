import numpy as np
import pytest

from pipeline import selftrain
from pipeline.dataset import Dataset
from pipeline.readings import Heard
from tests.pipeline.synthetic_run import options, synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("selftrain"), num_scans=300, scans_per_patient=2, distance=3.5)


def material_of(run, num=60, truth=None):
    data = Dataset.open(run.ctx)
    truth = truth or run.truth
    answers = {i: truth[i] for i in run.ids("train")[:num]}
    return data, *data.material(Heard(answers, answers, {}), set(list(answers)[: num // 3]))


def learn(run, ctx=None, num=60, admitted=(True, True), truth=None, seed=0):
    data, material, _ = material_of(run, num, truth)
    found = selftrain.learn(material, (ctx or run.ctx).config, run.ctx.engine, 2, admitted, np.random.default_rng(seed))
    return data, material, found


def accuracy(run, data, found, rows=None):
    rows = data.train_T if rows is None else rows
    truth_N = np.array([data.findings.index(run.truth[i]) for i in data.ids_N[rows]])
    return (found.student_logit_NC[rows].argmax(1) == truth_N).mean()


def test_learns_what_separates_the_classes(run):
    data, material, found = learn(run)
    assert accuracy(run, data, found) > 0.95
    assert found.student_logit_NC.shape == (300, 2) and found.oof_logit_EC.shape == (60, 2)
    np.testing.assert_allclose(found.student.logits(data.x_NP), found.student_logit_NC, atol=1e-4)
    assert (found.oof_logit_EC.argmax(1) == material.class_E).mean() > 0.9
    assert found.prevalence_C.sum() == pytest.approx(1.0)


def test_decisions_are_for_the_open_train_scans_alone(run):
    data, material, found = learn(run)
    assert set(found.open_T) == set(data.train_T) - set(material.expert_E)
    assert len(found.decisions.class_N) == len(found.open_T)
    assert found.decisions.accepted_N.sum() > 50
    truth = [data.findings.index(run.truth[i]) for i in data.ids_N[found.open_T]]
    right = (found.decisions.class_N == truth)[found.decisions.accepted_N].mean()
    assert right > 0.95
    assert 0.9 < found.precision_estimated <= 1.0


def test_out_of_fold_scores_never_saw_their_own_label(run):
    """With labels that mean nothing, honest scores are at chance; scores on training rows would not be."""
    rng = np.random.default_rng(0)
    noise = {i: str(rng.choice(["normal", "pneumonia"])) for i in run.truth}
    _, material, found = learn(run, options(run, train__teacher_l2=0.01, train__student_l2=0.01), num=24, truth=noise)
    assert 0.2 < (found.oof_logit_EC.argmax(1) == material.class_E).mean() < 0.75
    assert found.decisions.accepted_N.sum() == 0
    assert found.precision_estimated is None


def test_patients_are_not_split_over_folds(run, monkeypatch):
    _, material, _ = material_of(run)
    seen = []
    monkeypatch.setattr(selftrain, "_fit_all", lambda engine, fits, tag: seen.append(fits) or _stop())

    def _stop():
        raise StopIteration

    with pytest.raises(StopIteration):
        selftrain.learn(material, run.ctx.config, run.ctx.engine, 2, (True, True), np.random.default_rng(0))
    group = dict(zip(material.expert_E.tolist(), material.group_E, strict=True))
    for fit in seen[0][:-1]:
        inside = {group[row] for row in fit.rows_N.tolist()}
        outside = {group[row] for row in set(group) - set(fit.rows_N.tolist())}
        assert outside and not inside & outside
    assert set(seen[0][-1].rows_N.tolist()) == set(group)


def test_a_student_never_uses_the_label_of_a_fold_it_is_judged_on(run):
    """Neither as expert target nor as a guess."""
    _, material, _ = material_of(run)
    rows_E = np.arange(60) >= 12
    prob_NC = np.full((300, 2), 0.5)
    fit = selftrain._student_fit(material, run.ctx.config, rows_E, prob_NC, np.array([0.4, 0.4]), (True, True), 1.0, 0)
    assert not set(fit.rows_N.tolist()) & set(material.expert_E[~rows_E].tolist())
    assert not set(fit.rows_N.tolist()) - set(material.train_T.tolist())
    target = dict(zip(fit.rows_N.tolist(), fit.target_NC, strict=True))
    for row, c in zip(material.expert_E[rows_E].tolist(), material.class_E[rows_E], strict=True):
        assert target[row][c] == 1.0
    mass_C = (fit.target_NC * fit.weight_N[:, None]).sum(0)
    np.testing.assert_allclose(mass_C, rows_E.sum() / 2)  # balanced, and as heavy as the expert labels


def test_a_closed_gate_learns_from_experts_alone(run):
    _, _, found = learn(run, options(run, pseudo__gate="off"), admitted=(False, False))
    assert found.learner == "expert"
    assert found.decisions.admitted_N.sum() == 0
    assert found.decisions.accepted_N.sum() > 0
    for name, array in found.teacher.arrays.items():
        if name.startswith("weight"):
            np.testing.assert_array_equal(found.student.arrays[name], array)


def test_unlabelled_scans_help_when_labels_are_few(tmp_path):
    """Six labels in blobs that overlap: the student, which sees the pool, beats the head of experts alone."""
    gains = []
    for seed in range(3):
        run = synthetic_run(tmp_path / str(seed), num_scans=300, distance=2.0, seed=seed)
        data, _, student = learn(run, num=6, seed=seed)
        _, _, alone = learn(run, options(run, pseudo__gate="off"), num=6, admitted=(False, False), seed=seed)
        gains.append(accuracy(run, data, student) - accuracy(run, data, alone))
    assert np.mean(gains) > 0.03


def test_the_largest_number_of_rows_keeps_every_expert_label(run):
    _, material, _ = material_of(run)
    fit = selftrain._student_fit(
        material, options(run, train__max_rows=100).config, np.ones(60, bool), np.full((300, 2), 0.5),
        np.array([1.01, 1.01]), (True, True), 1.0, 0,
    )  # fmt: skip
    assert 100 <= len(fit.rows_N) <= 160
    assert set(material.expert_E.tolist()) <= set(fit.rows_N.tolist())


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_seed_decides(run, head):
    ctx = options(run, train__head=head, train__max_epochs=6)
    one, two = learn(run, ctx)[2], learn(run, ctx)[2]
    np.testing.assert_array_equal(one.student_logit_NC, two.student_logit_NC)
    assert accuracy(run, Dataset.open(run.ctx), one) > 0.9


def test_a_scan_that_experts_reject_gets_no_label_and_teaches_nothing(run):
    data, material, found = learn(run)
    rejected = [str(i) for i in data.ids_N[found.open_T[:5]]]
    answers = dict.fromkeys(rejected) | {
        str(i): data.findings[c] for i, c in zip(data.ids_N[material.expert_E], material.class_E, strict=True)
    }
    material, _ = data.material(Heard(answers, answers, dict.fromkeys(rejected, "bad quality")), set())
    assert sorted(data.ids_N[material.rejected_R]) == sorted(rejected)
    prob_NC = np.full((len(data.ids_N), 2), 0.5)
    rows_E = np.ones(len(material.expert_E), bool)
    fit = selftrain._student_fit(material, run.ctx.config, rows_E, prob_NC, np.array([0.4, 0.4]), (True, True), 1.0, 0)
    assert not set(fit.rows_N.tolist()) & set(material.rejected_R.tolist())
    config, engine, rng = run.ctx.config, run.ctx.engine, np.random.default_rng(0)
    assert not set(selftrain.learn(material, config, engine, 2, (True, True), rng).open_T) & set(material.rejected_R)
