"""Checks of a release look easier than the pool: they set no numbers, and the student alone learns them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from pipeline.contracts.config import Config
from pipeline.contracts.options.learning import PseudoConfig
from pipeline.learn.acceptance import Acceptance
from pipeline.learn.candidate import Candidate
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import expert_lesson
from pipeline.learn.material import FeaturesOfRun, Material
from pipeline.learn.scan_rows import ScanRows
from tests.support.students import student_of

NUM, LABELLED, CHECKS = 60, 30, 12  # scans of the pool; of them chosen to learn from; and checks


@pytest.fixture
def material():
    """Thirty labels of two classes, and twelve checks that all confirm the first class."""
    rng = np.random.default_rng(0)
    scans_N = ScanRows.of(f"scan-{row}" for row in range(NUM))
    num = LABELLED + CHECKS
    class_E = np.concatenate([rng.integers(2, size=LABELLED), np.zeros(CHECKS, np.int64)])
    nowhere = Path("nowhere")
    return Material(
        folder=nowhere,
        features=FeaturesOfRun(nowhere),
        scans_N=scans_N,
        pool_T=scans_N,
        expert_E=scans_N.keep(np.arange(NUM) < num),
        class_E=class_E,
        group_E=[f"p{row}" for row in range(num)],
        uniform_E=np.arange(num) % 5 == 0,
        judges_E=np.arange(num) < LABELLED,
        graph_TT=sp.csr_matrix((NUM, NUM)),
        rejected_R=ScanRows.of([]),
        group_T=np.array([f"p{row}" for row in range(NUM)]),
    )


def without_checks(material):
    keep_E = material.judges_E
    return replace(
        material,
        expert_E=material.expert_E.keep(keep_E),
        class_E=material.class_E[keep_E],
        group_E=[group for group, kept in zip(material.group_E, keep_E, strict=True) if kept],
        uniform_E=material.uniform_E[keep_E],
        judges_E=keep_E[keep_E],
    )


def logits(material):
    """Right by about two thirds on the labels, and very sure on the checks."""
    rng = np.random.default_rng(1)
    logit_EC = np.eye(2)[material.class_E] * 1.5 + rng.normal(size=(len(material.class_E), 2))
    logit_EC[LABELLED:] = (6.0, -6.0)
    return logit_EC


def test_the_teacher_learns_no_check(material):
    everything_E = np.ones(len(material.class_E), bool)
    lesson = expert_lesson(material, everything_E, None, 2)
    alone = without_checks(material)
    expected = expert_lesson(alone, np.ones(LABELLED, bool), None, 2)
    assert lesson.scans.image_id.to_pylist() == expected.scans.image_id.to_pylist()
    np.testing.assert_array_equal(lesson.weight_L, expected.weight_L)


def test_checks_move_neither_thresholds_nor_temperature_nor_class_shares(material):
    # the prevalence does count a check that was also drawn uniformly, so that the slices are the same here
    material = replace(material, uniform_E=material.uniform_E & material.judges_E)
    logit_EC, alone = logits(material), without_checks(material)
    with_checks = Acceptance.fit(logit_EC, material, (True, True), PseudoConfig())
    expected = Acceptance.fit(logit_EC[:LABELLED], alone, (True, True), PseudoConfig())
    assert with_checks.temperature == expected.temperature
    np.testing.assert_array_equal(with_checks.learning_prior_C, expected.learning_prior_C)
    head = Head({"weight0": np.zeros((2, 1), np.float32), "bias0": np.zeros(2, np.float32)})
    candidates = [
        Candidate("any", head, np.zeros((NUM, 2), np.float32), oof_EC.astype(np.float32))
        for oof_EC in (logit_EC, logit_EC[:LABELLED])
    ]
    temperature, bias_C = candidates[0].calibration(material)
    assert temperature == candidates[1].calibration(alone)[0]
    np.testing.assert_array_equal(bias_C, candidates[1].calibration(alone)[1])


def test_the_student_learns_a_check_in_the_place_of_its_pseudo_label(material):
    acceptance = Acceptance.fit(logits(material), material, (True, True), PseudoConfig())
    prob_TC = np.tile([0.1, 0.9], (NUM, 1))  # the teacher is wrong on every check
    every_E = np.ones(len(material.class_E), bool)
    fit = student_of(material, Config(), every_E, prob_TC, acceptance, propagate_weight=0.0)
    target_of = dict(zip(fit.lesson.scans.image_id.to_pylist(), fit.lesson.target_LC, strict=True))
    for row in range(LABELLED, LABELLED + CHECKS):
        assert target_of[f"scan-{row}"][0] == pytest.approx(1.0)
