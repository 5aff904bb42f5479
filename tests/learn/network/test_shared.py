"""One network for several questions: what each fold may see, and that one question alone learns as it did before."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn import self_training
from pipeline.learn.heads.head import Head
from pipeline.learn.network import shared
from pipeline.learn.network.design import Design, Trained
from pipeline.learn.network.fits import NetworkFit
from pipeline.learn.network.training_loop import Curves
from pipeline.learn.shared_folds import shared_folds, shared_stopping_masks
from pipeline.measures.folds import grouped_folds
from pipeline.rounds.run_scans import Dataset
from tests.support.synthetic_run import options, synthetic_run

BOTH = (True, True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("shared"), num_scans=240, scans_per_patient=2, distance=3.0)


@pytest.fixture(scope="module")
def data(run):
    return Dataset.open(run.ctx)


@pytest.fixture(scope="module")
def materials(run, data):
    """What the blobs are; and the same for other scans, with some answers the other way round."""
    train = run.ids("train")
    first = {i: run.truth[i] for i in train[:60]}
    names = data.findings
    second = {
        i: names[1 - names.index(run.truth[i]) if n % 5 == 0 else names.index(run.truth[i])]
        for n, i in enumerate(train[30:110])
    }
    return {
        name: data.material(ExpertLabels(answers, answers, {}), set(list(answers)[:20]))
        for name, answers in (("blob", first), ("mixed", second))
    }


def ids_of(scans):
    return scans.image_id.to_pylist()


class Pupil:
    """Stands for the adapter: keeps the lessons; its logits are those of the head that each fold started from."""

    def __init__(self, data, emb_ND, right=1.0):
        self.data, self.emb_ND, self.right, self.folds, self.num_predicted = data, emb_ND, right, [], 0

    def _logits(self, head, scans):
        return self.right * head.logits(self.emb_ND[self.data.scans_N.positions(scans)])

    def train(self, folds, seed):
        self.folds, self.seed = folds, seed
        curves = Curves((0.5,), ())
        return [
            NetworkFit(
                Trained(Design(None, 0, 0, fold.head), {f"head.0.{k[:-1]}": v for k, v in fold.head.arrays.items()}),
                self._logits(fold.head, fold.held_out),
                curves,
            )
            for fold in folds
        ]

    def predict(self, trained):
        self.num_predicted += 1
        return self._logits(trained.design.head, self.data.scans_N)


@pytest.fixture
def pupil(run, data):
    from pipeline.vectors.matrix import Vectors

    return Pupil(data, np.asarray(Vectors.open(run.folder).emb_ND, np.float32))


def learn_together(run, materials, pupil, admitted=BOTH, seed=0):
    return self_training.learn_together(
        materials,
        dict.fromkeys(materials, admitted),
        run.ctx.config,
        run.ctx.engine,
        np.random.default_rng(seed),
        pupil,
    )


# --- folds ------------------------------------------------------------------------------------------------------------


def test_a_patient_is_in_one_fold_for_all_questions(materials):
    fold_of_group = {}
    folds = shared_folds(list(materials.values()), 5, np.random.default_rng(0))
    for material, fold_E in zip(materials.values(), folds, strict=True):
        assert len(fold_E) == len(material.expert_E)
        for group, fold in zip(material.group_E, fold_E.tolist(), strict=True):
            assert fold_of_group.setdefault(group, fold) == fold
    assert len(set(fold_of_group.values())) == 5


def test_the_folds_of_one_question_are_those_it_has_alone(materials):
    material = materials["mixed"]
    own = grouped_folds(material.group_E, material.class_E, 5, np.random.default_rng(4))
    np.testing.assert_array_equal(shared_folds([material], 5, np.random.default_rng(4))[0], own)


def test_scans_to_stop_by_are_of_patients_that_teach_no_question(materials):
    of = list(materials.values())
    learn = [np.arange(len(material.expert_E)) % 7 != 0 for material in of]
    masks = shared_stopping_masks(of, learn, 0)
    stopping = {
        g for m, mask_E in zip(of, masks, strict=True) for g, stops in zip(m.group_E, mask_E, strict=True) if stops
    }
    for material, learn_E, stop_E in zip(of, learn, masks, strict=True):
        assert stop_E.any() and not (stop_E & ~learn_E).any()
        taught = {g for g, teaches in zip(material.group_E, learn_E & ~stop_E, strict=True) if teaches}
        assert not taught & stopping


def test_no_question_loses_a_class_to_the_scans_to_stop_by(run, data, materials):
    few = dict(zip(run.ids("train")[:40:20], data.findings, strict=True))  # a label of each class
    rare = data.material(ExpertLabels(few, few, {}), set())
    everything = [np.ones(len(material.expert_E), bool) for material in (materials["blob"], rare)]
    stop_E, stop_of_rare_E = shared_stopping_masks([materials["blob"], rare], everything, 0)
    assert stop_E.any() and not stop_of_rare_E.any()
    assert shared_stopping_masks([rare, rare], [everything[1]] * 2, 0) is None  # there is no other label to stop by


# --- lessons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"pseudo__gate": "off"}, {"network__patience": 2}])
def test_what_is_held_out_of_one_question_teaches_none(given, run, materials, pupil):
    ctx = options(run, **given)
    run = replace(run, ctx=ctx)
    learn_together(run, materials, pupil, admitted=(False, False) if "pseudo__gate" in given else BOTH)
    *folds, whole = pupil.folds
    judged = [image_id for fold in folds for image_id in ids_of(fold.held_out)]
    assert sorted(judged) == sorted({i for material in materials.values() for i in ids_of(material.expert_E)})
    assert len(whole.held_out) == 0
    for fold in pupil.folds:
        learned, stop = set(ids_of(fold.lesson.scans)), fold.lesson.stop
        stopping = set() if stop is None else set(ids_of(stop.scans))
        assert bool(stopping) == ("network__patience" in given)
        assert not learned & (set(ids_of(fold.held_out)) | stopping)
        assert fold.lesson.target_LC.shape == (len(learned), 2, 2) and fold.sure_C.shape == (2, 2)
        assert (fold.lesson.weight_L > 0.0).any(1).all()
        for question, material in enumerate(materials.values()):
            group = dict(zip(ids_of(material.expert_E), material.group_E, strict=True))
            known = fold.lesson.weight_L[:, question] > 0.0
            taught = {group[i] for i, k in zip(ids_of(fold.lesson.scans), known, strict=True) if k and i in group}
            assert not taught & {group[i] for i in ids_of(fold.held_out) if i in group}


def test_each_question_is_taught_its_own_answers(run, materials, pupil):
    learn_together(run, materials, pupil)
    lesson = pupil.folds[-1].lesson
    row = {image_id: n for n, image_id in enumerate(ids_of(lesson.scans))}
    for question, material in enumerate(materials.values()):
        for image_id, c in zip(ids_of(material.expert_E), material.class_E.tolist(), strict=True):
            np.testing.assert_array_equal(lesson.target_LC[row[image_id], question], np.eye(2)[c])
            assert not lesson.open_L[row[image_id], question]
    only_the_first = set(ids_of(materials["blob"].expert_E)) - set(ids_of(materials["mixed"].expert_E))
    soft = lesson.target_LC[[row[i] for i in only_the_first], 1]
    assert ((soft > 0.0) & (soft < 1.0)).all()  # what its own student says


def test_where_the_gate_lets_nothing_in_each_answer_teaches_its_question_alone(run, materials, pupil):
    closed = replace(run, ctx=options(run, pseudo__gate="off"))
    learn_together(closed, materials, pupil, admitted=(False, False))
    lesson = pupil.folds[-1].lesson
    for question, material in enumerate(materials.values()):
        known = lesson.weight_L[:, question] > 0.0
        taught = {i for i, k in zip(ids_of(lesson.scans), known, strict=True) if k}
        assert taught == set(ids_of(material.expert_E))


def test_a_large_pool_is_sampled_once_for_all_and_keeps_the_labels(run, materials, pupil):
    ctx = options(run, train__max_rows=100)
    learn_together(replace(run, ctx=ctx), materials, pupil)
    labelled = {i for material in materials.values() for i in ids_of(material.expert_E)}
    learned = set(ids_of(pupil.folds[-1].lesson.scans))
    assert labelled <= learned and 100 <= len(learned) < len(materials["blob"].pool_T)


# --- learning together ------------------------------------------------------------------------------------------------


def same_learning(one, other):
    assert one.learner == other.learner and one.learner.endswith("+network")
    np.testing.assert_allclose(one.student_logit_NC, other.student_logit_NC, atol=1e-4)
    np.testing.assert_allclose(one.oof_logit_EC, other.oof_logit_EC, atol=1e-4)
    assert one.network_gain == pytest.approx(other.network_gain) and one.temperature == pytest.approx(other.temperature)
    np.testing.assert_array_equal(one.decisions.class_N, other.decisions.class_N)


def test_one_question_learns_as_it_does_alone(run, materials, pupil):
    own = {"blob": materials["blob"]}
    together = learn_together(run, own, pupil)["blob"]
    shared_folds_of_it, seed = pupil.folds, pupil.seed
    alone = self_training.learn(own["blob"], run.ctx.config, run.ctx.engine, 2, BOTH, np.random.default_rng(0), pupil)
    same_learning(together, alone)
    assert together.network_questions == ("blob",) and alone.network_questions == ()
    assert seed == pupil.seed
    for one, other in zip(shared_folds_of_it, pupil.folds, strict=True):
        assert ids_of(one.lesson.scans) == ids_of(other.lesson.scans)
        assert ids_of(one.held_out) == ids_of(other.held_out)
        np.testing.assert_array_equal(one.lesson.target_LC[:, 0], other.lesson.target_LC)
        np.testing.assert_array_equal(one.lesson.weight_L[:, 0], other.lesson.weight_L)
        np.testing.assert_array_equal(one.lesson.open_L[:, 0], other.lesson.open_L)
        np.testing.assert_array_equal(one.sure_C[0], other.sure_C)
        for name, array in one.head.arrays.items():
            np.testing.assert_allclose(array, other.head.arrays[name], atol=1e-6, err_msg=name)


def test_each_question_gets_its_own_logits_and_decides_for_itself(run, data, materials, pupil):
    learned = learn_together(run, materials, pupil)
    assert [of.network_questions for of in learned.values()] == [("blob", "mixed")] * 2
    assert pupil.num_predicted == 1  # a scan goes through the network once
    emb_ND = pupil.emb_ND
    for question, (name, of) in enumerate(learned.items()):
        arrays, rows = of.student.arrays, slice(2 * question, 2 * question + 2)
        own_NC = emb_ND @ arrays["head.0.weight"].T + arrays["head.0.bias"]
        np.testing.assert_allclose(of.student_logit_NC, own_NC + of.student.frozen.head.logits(emb_ND), atol=2e-3)
        learned_CD = pupil.folds[-1].head.arrays["weight0"][rows]
        scale = np.linalg.norm(arrays["head.0.weight"]) / np.linalg.norm(learned_CD)
        np.testing.assert_allclose(arrays["head.0.weight"], scale * learned_CD, atol=1e-5)  # the rows of its question
        assert set(of.student.arrays) == {"head.0.weight", "head.0.bias"}
        assert of.student.arrays["head.0.weight"].shape == of.student.design.head.arrays["weight0"].shape == (2, 12)
        assert len(of.oof_logit_EC) == len(materials[name].expert_E)
    assert learned["blob"].temperature != learned["mixed"].temperature


def test_a_network_that_is_worse_for_a_question_is_left_out_of_that_one(run, data, materials, pupil):
    class Half(Pupil):
        """Right for the first question, wrong for the second, and sure of it."""

        def _logits(self, head, scans):
            return super()._logits(head, scans) * np.array([1.0, 1.0, -40.0, -40.0], np.float32)

    half = Half(data, pupil.emb_ND)
    learned = learn_together(run, materials, half)
    assert learned["blob"].learner.endswith("+network") and not learned["mixed"].learner.endswith("+network")
    assert isinstance(learned["mixed"].student, Head) and learned["mixed"].network_gain < -0.1
    assert half.num_predicted == 1


def test_a_question_that_no_shared_folds_serve_keeps_its_head(run, data, materials, pupil, caplog):
    """Three questions, three patients, two folds: each question knows two of the patients, and one has both in one."""
    group = {}
    for image_id in run.ids("train"):
        group.setdefault(run.patient[image_id], image_id)
    a, b, c = list(group.values())[:3]
    absent, present = data.findings
    triangle = {
        name: data.material(ExpertLabels(answers, answers, {}), set())
        for name, answers in (
            ("ab", {a: absent, b: present}),
            ("bc", {b: absent, c: present}),
            ("ca", {c: absent, a: present}),
        )
    }
    two_folds = replace(run, ctx=options(run, calibrate__num_folds=2))
    learned = learn_together(two_folds, triangle, pupil)
    shares = {name for name, of in learned.items() if of.network_questions}
    assert set(learned) == {"ab", "bc", "ca"} and len(shares) == 2
    [left_out] = set(learned) - shares
    assert not learned[left_out].learner.endswith("+network")
    assert f"{left_out}: no folds that all share" in caplog.text


def test_joined_lessons_mask_what_a_question_is_not_taught(materials, run, pupil):
    learn_together(run, {"blob": materials["blob"]}, pupil)
    alone = pupil.folds[0].lesson
    lesson = replace(alone, target_LC=alone.target_LC[:, 0], weight_L=alone.weight_L[:, 0], open_L=alone.open_L[:, 0])
    pool_T = materials["blob"].pool_T
    half = np.arange(len(lesson.scans)) % 2 == 0
    part = replace(
        lesson,
        scans=lesson.scans.keep(half),
        target_LC=lesson.target_LC[half],
        weight_L=lesson.weight_L[half],
        open_L=lesson.open_L[half],
    )
    nobody = np.zeros(len(pool_T), bool)
    both = shared.joined([lesson, part], pool_T, nobody, nobody, 10_000, 0)
    assert ids_of(both.scans) == ids_of(lesson.scans)
    np.testing.assert_array_equal(both.weight_L[:, 1] > 0.0, half)
    np.testing.assert_array_equal(both.target_LC[:, 0], lesson.target_LC)
    np.testing.assert_array_equal(both.target_LC[half, 1], part.target_LC)
