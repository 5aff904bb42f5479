"""Labels by report teach the student: below an expert's, above a guess, and never of a patient held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from pipeline.contracts.config import Config
from pipeline.contracts.options.learning import PseudoConfig
from pipeline.learn.lesson import expert_lesson, pool_lesson, with_reports
from pipeline.learn.material import FeaturesOfRun, Material, SoftLabels
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.self_training import student_options

NUM, EXPERTS = 10, 4  # two scans a patient; the first four have an expert's label


@pytest.fixture
def material():
    scans_N = ScanRows.of(f"scan-{row}" for row in range(NUM))
    target_TC, weight_T = np.tile([0.1, 0.9], (NUM, 1)), np.full(NUM, 0.5)
    target_TC[8:], weight_T[8:] = 0.0, 0.0  # two without a report
    return Material(
        folder=Path("nowhere"),
        features=FeaturesOfRun(Path("nowhere")),
        scans_N=scans_N,
        pool_T=scans_N,
        expert_E=scans_N.keep(np.arange(NUM) < EXPERTS),
        class_E=np.array([0, 1, 0, 1]),
        group_E=["p0", "p1", "p2", "p3"],
        uniform_E=np.ones(EXPERTS, bool),
        judges_E=np.ones(EXPERTS, bool),
        graph_TT=sp.csr_matrix((NUM, NUM)),
        rejected_R=ScanRows.of(["scan-7"]),
        group_T=np.array(["p0", "p1", "p2", "p3", "p0", "p1", "p4", "p5", "p6", "p7"], object),
        reports=SoftLabels(target_TC, weight_T),
    )


def lesson_of(material, learn_E, admitted=()):
    soft_TC = with_reports(np.full((NUM, 2), 0.5), material, learn_E, lambda prob_NC: prob_NC)
    admitted_T = np.isin(np.arange(NUM), list(admitted))
    lesson = pool_lesson(material, learn_E, None, soft_TC, admitted_T, open_weight=0.0, max_scans=100, seed=0)
    rows = zip(
        lesson.scans.image_id.to_pylist(), lesson.target_LC.tolist(), lesson.weight_L, lesson.open_L, strict=True
    )
    return {image_id: (target, weight, is_open) for image_id, target, weight, is_open in rows}


def test_an_expert_beats_a_report_and_a_report_a_guess(material):
    lesson = lesson_of(material, np.ones(EXPERTS, bool), admitted=[6, 9])
    assert lesson["scan-0"] == ([1.0, 0.0], 1.0, False)
    assert lesson["scan-6"] == ([0.1, 0.9], 0.5, False)
    assert lesson["scan-9"] == ([0.5, 0.5], 1.0, False)  # a pseudo-label where there is no report
    assert "scan-7" not in lesson and "scan-8" not in lesson  # held to be no good; nothing is known


def test_a_fold_sees_no_report_of_a_patient_held_out(material):
    lesson = lesson_of(material, np.array([False, True, True, True]))
    assert "scan-0" not in lesson and "scan-4" not in lesson  # both of patient p0
    assert lesson["scan-5"] == ([0.1, 0.9], 0.5, False)


def test_the_teacher_learns_from_experts_alone(material):
    with_, without = (
        expert_lesson(own, np.ones(EXPERTS, bool), None, 2) for own in (material, replace(material, reports=None))
    )
    assert with_.scans.image_id == without.scans.image_id and (with_.weight_L == without.weight_L).all()


def test_the_name_of_what_was_learned_from_tells_of_reports():
    config = Config(pseudo=PseudoConfig(propagate=0.0))
    assert student_options(config, any_admitted=False, any_reports=True) == [("expert+reports", 0.0)]
    assert student_options(config, any_admitted=True, any_reports=True) == [("expert+reports+pseudo", 0.0)]
    assert student_options(config, any_admitted=False) == []
