import numpy as np
import pytest
from scipy.special import softmax

from pipeline.contracts.options.learning import PseudoConfig
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn import rollback, self_training
from pipeline.learn.acceptance import Acceptance
from pipeline.learn.candidate import Candidate, average
from pipeline.learn.head_fits import FittedHead
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import scan_weights
from pipeline.learn.network import student as network_student
from pipeline.learn.network.fits import NetworkFit
from pipeline.learn.network.training_loop import Curves
from pipeline.measures import calibrate
from pipeline.rounds.run_scans import Dataset
from pipeline.vectors.matrix import Vectors
from tests.support.students import student_of
from tests.support.synthetic_run import options, synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selftrain")
    return synthetic_run(folder, num_scans=300, scans_per_patient=2, distance=3.5, pseudo__propagate=1.0)


def material_of(run, num=60, truth=None):
    data = Dataset.open(run.ctx)
    truth = truth or run.truth
    answers = {i: truth[i] for i in run.ids("train")[:num]}
    return data, data.material(ExpertLabels(answers, answers, {}), set(list(answers)[: num // 3]))


def ids_of(scans):
    return scans.image_id.to_pylist()


def rows_of(data, scans):
    """Positions in the run's features, to look into arrays along them."""
    return data.scans_N.positions(scans)


def accepts(prevalence_C=(0.5, 0.5), threshold_C=(0.4, 0.4), admitted_C=(True, True), learning_prior_C=(0.5, 0.5)):
    """A teacher whose temperature is 1."""
    shares = (np.array(share_C) for share_C in (learning_prior_C, prevalence_C, threshold_C))
    return Acceptance(1.0, *shares, 1.0, admitted_C, PseudoConfig())


def learn(run, ctx=None, num=60, admitted=(True, True), truth=None, seed=0):
    data, material = material_of(run, num, truth)
    found = self_training.learn(
        material, (ctx or run.ctx).config, run.ctx.engine, 2, admitted, np.random.default_rng(seed)
    )
    return data, material, found


def accuracy(run, data, found):
    truth_T = np.array([data.findings.index(run.truth[i]) for i in ids_of(data.pool_T)])
    return (found.student_logit_NC[rows_of(data, data.pool_T)].argmax(1) == truth_T).mean()


def test_learns_what_separates_the_classes(run):
    data, material, found = learn(run)
    assert accuracy(run, data, found) > 0.95
    assert found.student_logit_NC.shape == (300, 2) and found.oof_logit_EC.shape == (60, 2)
    np.testing.assert_allclose(found.student.logits(data.x_NP), found.student_logit_NC, atol=1e-4)
    assert (found.oof_logit_EC.argmax(1) == material.class_E).mean() > 0.9
    assert found.acceptance.prevalence_C.sum() == pytest.approx(1.0)


def test_decisions_are_for_the_open_train_scans_alone(run):
    data, material, found = learn(run)
    assert set(ids_of(found.open_O)) == set(ids_of(data.pool_T)) - set(ids_of(material.expert_E))
    assert len(found.decisions.class_N) == len(found.open_O)
    assert found.decisions.accepted_N.sum() > 50
    truth = [data.findings.index(run.truth[i]) for i in ids_of(found.open_O)]
    right = (found.decisions.class_N == truth)[found.decisions.accepted_N].mean()
    assert right > 0.95
    assert 0.9 < found.acceptance.precision_estimated <= 1.0


def test_out_of_fold_scores_never_saw_their_own_label(run):
    """With labels that mean nothing, honest scores are at chance; scores on training rows would not be."""
    rng = np.random.default_rng(0)
    noise = {i: str(rng.choice(["normal", "pneumonia"])) for i in run.truth}
    _, material, found = learn(run, options(run, train__teacher_l2=0.01, train__student_l2=0.01), num=24, truth=noise)
    assert 0.2 < (found.oof_logit_EC.argmax(1) == material.class_E).mean() < 0.75
    assert found.decisions.accepted_N.sum() == 0
    assert found.acceptance.precision_estimated is None


def test_patients_are_not_split_over_folds(run, monkeypatch):
    _, material = material_of(run)
    seen = []
    monkeypatch.setattr(self_training, "fit_all", lambda engine, fits, folder, tag: seen.append(fits) or _stop())

    def _stop():
        raise StopIteration

    with pytest.raises(StopIteration):
        self_training.learn(material, run.ctx.config, run.ctx.engine, 2, (True, True), np.random.default_rng(0))
    group = dict(zip(ids_of(material.expert_E), material.group_E, strict=True))
    for fit in seen[0][:-1]:
        learned = set(ids_of(fit.lesson.scans))
        inside, outside = {group[i] for i in learned}, {group[i] for i in set(group) - learned}
        assert outside and not inside & outside
    assert set(ids_of(seen[0][-1].lesson.scans)) == set(group)


def test_a_student_never_uses_the_label_of_a_fold_it_is_judged_on(run):
    """Neither as expert target nor as a guess."""
    _, material = material_of(run)
    learn_E = np.arange(60) >= 12
    prob_TC = np.full((len(material.pool_T), 2), 0.5)
    lesson = student_of(material, run.ctx.config, learn_E, prob_TC, accepts()).lesson
    learned = ids_of(lesson.scans)
    assert not set(learned) & set(ids_of(material.expert_E.keep(~learn_E)))
    assert not set(learned) - set(ids_of(material.pool_T))
    target = dict(zip(learned, lesson.target_LC, strict=True))
    for image_id, c in zip(ids_of(material.expert_E.keep(learn_E)), material.class_E[learn_E], strict=True):
        assert target[image_id][c] == 1.0
    mass_C = (lesson.target_LC * lesson.weight_L[:, None]).sum(0)
    share_C = calibrate.learning_prior(material.class_E[learn_E], 2)
    np.testing.assert_allclose(mass_C, learn_E.sum() * share_C)  # as heavy as the expert labels, class by class


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
    for seed in range(4):
        run = synthetic_run(tmp_path / str(seed), num_scans=300, distance=2.0, seed=seed, pseudo__propagate=1.0)
        data, _, student = learn(run, num=6, seed=seed)
        _, _, alone = learn(run, options(run, pseudo__gate="off"), num=6, admitted=(False, False), seed=seed)
        gains.append(accuracy(run, data, student) - accuracy(run, data, alone))
    assert min(gains) >= 0.0 and np.mean(gains) > 0.02, gains


def test_without_spread_labels_a_student_learns_from_experts_and_admitted_scans_alone(run):
    _, _, found = learn(run, options(run, pseudo__propagate=0.0))
    assert found.learner == "expert+pseudo" and found.decisions.admitted_N.any()
    nothing = learn(run, options(run, pseudo__propagate=0.0), admitted=(False, False))[2]
    assert nothing.learner == "expert"
    assert learn(run)[2].learner == "expert+pseudo+neighbours"


def test_the_largest_number_of_rows_keeps_every_expert_label(run):
    _, material = material_of(run)
    config, learn_E = options(run, train__max_rows=100).config, np.ones(60, bool)
    prob_TC = np.full((len(material.pool_T), 2), 0.5)
    closed = accepts(threshold_C=(1.01, 1.01))
    learned = ids_of(student_of(material, config, learn_E, prob_TC, closed).lesson.scans)
    assert 100 <= len(learned) <= 160
    assert set(ids_of(material.expert_E)) <= set(learned)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_seed_decides(run, head):
    ctx = options(run, train__head=head, train__max_epochs=6)
    one, two = learn(run, ctx)[2], learn(run, ctx)[2]
    np.testing.assert_array_equal(one.student_logit_NC, two.student_logit_NC)
    assert accuracy(run, Dataset.open(run.ctx), one) > 0.9


def test_a_scan_that_experts_reject_gets_no_label_and_teaches_nothing(run):
    data, material, found = learn(run)
    rejected = ids_of(found.open_O)[:5]
    answers = dict.fromkeys(rejected) | {
        i: data.findings[c] for i, c in zip(ids_of(material.expert_E), material.class_E, strict=True)
    }
    material = data.material(ExpertLabels(answers, answers, dict.fromkeys(rejected, "bad quality")), set())
    assert sorted(ids_of(material.rejected_R)) == sorted(rejected)
    prob_TC = np.full((len(material.pool_T), 2), 0.5)
    learn_E = np.ones(len(material.expert_E), bool)
    fit = student_of(material, run.ctx.config, learn_E, prob_TC, accepts())
    assert not set(ids_of(fit.lesson.scans)) & set(rejected)
    config, engine, rng = run.ctx.config, run.ctx.engine, np.random.default_rng(0)
    learned = self_training.learn(material, config, engine, 2, (True, True), rng)
    assert not set(ids_of(learned.open_O)) & set(rejected)


# --- the network ------------------------------------------------------------------------------------------------------


class Network:
    """Stands for a trained network."""

    def __init__(self, bias_C=None, frozen=None):
        self.bias_C, self.frozen = bias_C, frozen

    def shifted(self, bias_C):
        return Network(bias_C, self.frozen)

    def with_head(self, scale, head, features):
        return Network(self.bias_C, (scale, head, features))


class Pupil:
    """Stands for the adapter: keeps the lessons, and knows the given logits."""

    def __init__(self, data, logit_NC):
        self.data, self.logit_NC, self.folds = data, logit_NC, []

    def train(self, folds, seed):
        self.folds = folds
        curves = Curves((0.5,), ())
        return [NetworkFit(Network(), self.logit_NC[rows_of(self.data, fold.held_out)], curves) for fold in folds]

    def predict(self, trained):
        return self.logit_NC


def adapted(run, right=1.0, ctx=None, admitted=(True, True), num=60, noise=0.0):
    """A round whose network has logits of +-`right` on the truth, and the same round without it."""
    data, material = material_of(run, num)
    truth_N = np.array([data.findings.index(run.truth[i]) for i in ids_of(data.scans_N)])
    logit_NC = right * (2.0 * np.eye(2)[truth_N] - 1.0)
    logit_NC += np.random.default_rng(1).normal(scale=noise, size=(len(truth_N), 1)) * np.array([1.0, -1.0])
    pupil = Pupil(data, logit_NC.astype(np.float32))
    config = (ctx or run.ctx).config
    found, plain = (
        self_training.learn(material, config, run.ctx.engine, 2, admitted, np.random.default_rng(0), *given)
        for given in ([pupil], [])
    )
    return data, material, pupil, found, plain


def test_the_mean_of_network_and_head_takes_the_place_of_the_head(run):
    _, _, pupil, found, plain = adapted(run)
    assert found.learner == f"{plain.learner}+network" and found.curves == Curves((0.5,), ())
    assert isinstance(found.student, Network)
    scale_of_network, head, features = found.student.frozen
    emb_ND = np.asarray(Vectors.open(run.ctx.folder).emb_ND, np.float32)
    expected_NC = scale_of_network * pupil.logit_NC + head.logits(emb_ND) + found.student.bias_C
    np.testing.assert_allclose(found.student_logit_NC, expected_NC, rtol=1e-3, atol=1e-3)
    assert features == run.ctx.config.embed.features
    margin_N, plain_N = (np.diff(of.student_logit_NC, axis=1)[:, 0] for of in (found, plain))
    rest_N = (
        margin_N - scale_of_network * np.diff(pupil.logit_NC, axis=1)[:, 0]
    )  # what is not the network's is the head's
    assert np.corrcoef(rest_N, plain_N)[0, 1] > 0.999
    for name in ("prevalence_C", "threshold_C"):  # the teacher's and the gate's
        np.testing.assert_array_equal(getattr(found.acceptance, name), getattr(plain.acceptance, name))
    assert ids_of(found.open_O) == ids_of(plain.open_O)


def test_a_network_that_is_wrong_and_sure_of_it_is_left_out_and_told(run, caplog):
    with caplog.at_level("INFO"):
        _, _, _, found, plain = adapted(run, right=-60.0)
    assert found.learner == plain.learner and found.network_gain < -0.1 and plain.network_gain is None
    np.testing.assert_array_equal(found.student_logit_NC, plain.student_logit_NC)
    np.testing.assert_array_equal(found.oof_logit_EC, plain.oof_logit_EC)
    assert found.temperature == plain.temperature
    assert "with the adapted network the classifier is worse out of fold (" in caplog.text


def test_a_network_that_knows_nothing_does_no_harm(run):
    _, _, _, found, plain = adapted(run, right=0.0, noise=4.0)
    called, plainly = (of.student_logit_NC.argmax(1) for of in (found, plain))
    assert (called == plainly).mean() > 0.95  # its temperature takes its weight away


@pytest.mark.parametrize("measure", ["AUROC", "accuracy", "Brier score"])
@pytest.mark.parametrize("beyond_chance", [False, True])
def test_only_what_is_beyond_chance_leaves_a_network_out(beyond_chance, measure, run, monkeypatch):
    judged = [rollback.Fall(measure, 0.04, beyond_chance)]
    monkeypatch.setattr(network_student, "falls", lambda *args: judged)
    _, _, _, found, plain = adapted(run)
    assert (found.learner == plain.learner) == beyond_chance
    assert found.network_gain == (-0.04 if measure == "AUROC" else 0.0)


def test_a_network_learns_in_the_folds_of_the_heads(run):
    _, material, pupil, _, _ = adapted(run)
    *folds, last = pupil.folds
    assert len(folds) == run.ctx.config.calibrate.num_folds and len(last.held_out) == 0
    held_out = [image_id for fold in folds for image_id in ids_of(fold.held_out)]
    assert sorted(held_out) == sorted(ids_of(material.expert_E))  # each scan is judged once
    group = dict(zip(ids_of(material.expert_E), material.group_E, strict=True))
    for fold in pupil.folds:
        learned, judged = set(ids_of(fold.lesson.scans)), set(ids_of(fold.held_out))
        assert not learned & judged
        assert not {group[i] for i in judged} & {group[i] for i in learned & set(group)}
        assert learned | judged == set(ids_of(material.pool_T))


def test_a_network_starts_from_what_its_targets_are(run):
    """The head it is given says of each scan's embedding what the scan's soft target says: its first step is small."""
    data, material, pupil, _, _ = adapted(run)
    emb_ND = Vectors.open(run.folder).emb_ND.astype(np.float32)
    for fold in pupil.folds:
        soft_L = ~fold.lesson.scans.among(material.expert_E)
        assert soft_L.sum() > 100
        prob_LC = softmax(fold.head.logits(emb_ND[rows_of(data, fold.lesson.scans)]), axis=1)
        np.testing.assert_allclose(prob_LC[soft_L], fold.lesson.target_LC[soft_L], atol=0.01)


@pytest.mark.parametrize("gate", ["certified", "off"])
def test_a_network_learns_from_no_scan_the_gate_keeps_out(run, gate):
    admitted = (True, False) if gate == "certified" else (False, False)
    _, material, pupil, found, _ = adapted(run, ctx=options(run, pseudo__gate=gate), admitted=admitted)
    for fold in pupil.folds:
        taught = set(ids_of(fold.lesson.scans)) - set(ids_of(material.expert_E))
        assert not fold.lesson.open_L.any()
        assert (len(taught) > 20) == (gate == "certified")
    proposed = found.open_O.keep(found.decisions.admitted_N)
    assert taught == set(ids_of(proposed))  # those of the last network are those of the round
    assert set(found.decisions.class_N[found.decisions.admitted_N].tolist()) <= {0}


def test_the_scans_a_network_stops_by_are_of_other_patients(run):
    _, material, pupil, _, _ = adapted(run, ctx=options(run, network__patience=2))
    group = dict(zip(ids_of(material.expert_E), material.group_E, strict=True))
    for fold in pupil.folds:
        stopping = {group[i] for i in ids_of(fold.lesson.stop.scans)}
        assert stopping and not stopping & {group[i] for i in ids_of(fold.lesson.scans) if i in group}
        assert not stopping & {group[i] for i in ids_of(fold.held_out)}
    assert all(fold.lesson.stop is None for fold in adapted(run)[2].folds)


def test_thresholds_at_the_prevalence_are_ones_at_the_learning_prior():
    prevalence_C, threshold_C = np.array([0.8, 0.15, 0.05]), np.array([0.9, 0.6, 1.01])
    prior_C = np.array([0.5, 0.4, 0.1])
    at_prior_C = accepts(prevalence_C, threshold_C, (True,) * 3, prior_C).learning_threshold_C
    assert at_prior_C[2] == 1.01  # a closed class stays closed
    for c in (0, 1):  # the class against the rest
        odds = at_prior_C[c] / (1 - at_prior_C[c]) * (1 - prior_C[c]) / prior_C[c]  # at even odds
        odds *= prevalence_C[c] / (1 - prevalence_C[c])
        assert odds / (1 + odds) == pytest.approx(threshold_C[c])


def test_the_mean_of_teacher_and_student_is_one_head(run):
    """Its log-probabilities are the mean of both, in every fold and on every scan."""
    _, material, _ = learn(run)
    rng = np.random.default_rng(3)

    def candidate(kind):
        heads = []
        for _ in range(3):
            arrays = {"weight0": rng.normal(size=(2, 4)), "bias0": rng.normal(size=2)}
            if kind == "mlp":
                arrays = {"weight0": rng.normal(size=(5, 4)), "bias0": rng.normal(size=5)}
                arrays |= {"weight1": rng.normal(size=(2, 5)), "bias1": rng.normal(size=2)}
            head = Head({name: array.astype(np.float32) for name, array in arrays.items()})
            heads.append(FittedHead(head, head.logits(x_NP)))
        oof_EC = rng.normal(size=(len(material.class_E), 2))
        return Candidate(kind, heads[-1].head, heads[-1].logit_NC, oof_EC, heads[:-1])

    x_NP = rng.normal(size=(7, 4)).astype(np.float32)
    for kind in ("linear", "mlp"):
        teacher, student = candidate(kind), candidate(kind)
        mean = average("both", teacher, student, material)
        scale_t, scale_s = (1 / c.calibration(material)[0] for c in (teacher, student))
        for one, a, b in zip(mean.heads, teacher.heads, student.heads, strict=True):
            expected_NC = (a.logit_NC * scale_t + b.logit_NC * scale_s) / 2
            np.testing.assert_allclose(one.logit_NC, expected_NC, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(one.head.logits(x_NP), expected_NC, rtol=1e-4, atol=1e-5)


def test_a_single_label_of_a_class_does_not_take_the_temperature_along():
    """With balanced weights the one scan, wrong out of fold, had a quarter of the loss and T ran to its clip."""
    rng = np.random.default_rng(0)
    class_E = np.array([0] * 30 + [1] * 30 + [2] * 19 + [3])
    logit_EC = 3.0 * np.eye(4)[class_E] + rng.normal(size=(80, 4))
    logit_EC[-1] = [4.0, 0.0, 0.0, -4.0]
    calm = calibrate.fit_temperature(logit_EC, class_E, scan_weights(class_E, 4))
    balanced_E = (20.0 / np.bincount(class_E))[class_E]
    assert calibrate.fit_temperature(logit_EC, class_E, balanced_E) > 2.0 * calm
