import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.options.learning import PseudoConfig
from pipeline.contracts.tables import PSEUDO, QUEUE
from pipeline.learn import pseudo_labels
from pipeline.learn.pseudo_labels import Screening
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures.certify import checks_needed

FINDINGS = ("normal", "pneumonia")
CONFIG = PseudoConfig(max_share=1.0, queue_below=0.7)


def binary(*normal):
    return np.array([[p, 1 - p] for p in normal])


def decide(prob_NC, thresholds=(0.9, 0.8), config=CONFIG, gate=(True, True), prevalence=(0.5, 0.5), **known):
    screening = Screening(**{name: np.array(values) for name, values in known.items()})
    return pseudo_labels.decide(prob_NC, np.array(thresholds), config, gate, np.array(prevalence), screening)


def test_accept_queue_leave_by_the_threshold_of_the_class():
    found = decide(binary(0.95, 0.85, 0.65, 0.1, 0.3))
    assert found.class_N.tolist() == [0, 0, 0, 1, 1]
    assert found.decision_N.tolist() == ["accept", "leave", "queue", "accept", "leave"]
    np.testing.assert_allclose(found.prob_N, [0.95, 0.85, 0.65, 0.9, 0.7])


def test_a_threshold_is_inclusive_and_one_above_one_accepts_nothing():
    assert decide(binary(0.9, 0.2), thresholds=(0.9, 1.01)).decision_N.tolist() == ["accept", "leave"]
    assert decide(binary(1.0, 0.0), thresholds=(1.01, 1.01)).accepted_N.tolist() == [False, False]


def test_the_gate_admits_by_class_and_leaves_the_decision():
    found = decide(binary(0.99, 0.01), gate=(False, True))
    assert found.decision_N.tolist() == ["accept", "accept"]
    assert found.admitted_N.tolist() == [False, True]


def test_no_more_than_the_largest_share_of_a_class_the_surest_first():
    prob = np.linspace(0.91, 0.99, 9)
    found = decide(binary(*prob, 0.75), config=PseudoConfig(max_share=0.5))
    assert found.accepted_N.sum() == 5  # half of the ten called normal, accepted or not
    assert found.prob_N[found.accepted_N].min() > found.prob_N[~found.accepted_N].max()
    assert found.left_out == {"second_opinion": 0, "max_share": 4, "cap_per_class": 0, "cap_per_cluster": 0}


def test_no_more_of_a_class_than_so_many_times_its_estimated_share():
    """Ten open scans, of which .2 should be normal: at a cap of 1.5 three may be accepted, the surest."""
    prob = np.linspace(0.91, 0.99, 6)
    capped = PseudoConfig(max_share=1.0, cap_per_class=1.5)
    found = decide(binary(*prob, 0.05, 0.05, 0.05, 0.05), config=capped, prevalence=(0.2, 0.8))
    assert found.prob_N[found.accepted_N & (found.class_N == 0)].tolist() == pytest.approx(prob[3:])
    assert (found.accepted_N & (found.class_N == 1)).sum() == 4  # twelve would be allowed
    assert found.left_out["cap_per_class"] == 3 and found.left_out["max_share"] == 0


def test_no_more_than_a_share_of_all_accepted_from_one_cluster():
    prob = np.linspace(0.91, 0.99, 8)
    clusters = [7, 7, 7, 7, 7, 7, 1, 2]
    found = decide(binary(*prob), config=PseudoConfig(max_share=1.0, cap_per_cluster=0.25), cluster_N=clusters)
    assert np.flatnonzero(found.accepted_N).tolist() == [4, 5, 6, 7]  # two of eight, the surest of cluster 7
    assert found.left_out["cap_per_cluster"] == 4
    assert decide(binary(*prob), config=PseudoConfig(max_share=1.0), cluster_N=clusters).accepted_N.all()


def test_what_the_second_opinion_does_not_confirm_is_not_accepted():
    """Also where nobody could be asked (-1)."""
    found = decide(binary(0.95, 0.95, 0.95, 0.05, 0.75), opinion_N=[0, 1, -1, 1, 1])
    assert found.accepted_N.tolist() == [True, False, False, True, False]
    assert found.left_out["second_opinion"] == 2  # the last one was below the threshold anyway
    assert found.decision_N.tolist() == ["accept", "leave", "leave", "accept", "leave"]


@pytest.mark.parametrize(("gate", "expected"), [("estimated", [True, True]), ("off", [False, False])])
def test_gates_without_certificates(gate, expected):
    assert pseudo_labels.open_classes(gate, FINDINGS, {}) == expected


def write_queue(folder, round_index, rows):
    columns = {
        "image_id": [r[0] for r in rows],
        "rank": np.arange(1, len(rows) + 1, dtype=np.int32),
        "kind": [r[1] for r in rows],
        "cluster": [None] * len(rows),
        "score": [None] * len(rows),
        "proposed": [r[2] for r in rows],
    }
    QUEUE.write(folder / "rounds" / f"{round_index:02d}", pa.table(columns, schema=QUEUE.schema))


def test_only_uniform_scans_with_a_proposal_and_an_answer_are_checks(tmp_path):
    write_queue(tmp_path, 1, [("first", "uniform", None)])
    write_queue(
        tmp_path,
        2,
        [
            ("chosen", "representative", "normal"),
            ("right", "uniform", "normal"),
            ("wrong", "uniform", "normal"),
            ("none", "uniform", None),
            ("open", "uniform", "pneumonia"),
            ("sealed", "holdout", None),
        ],
    )
    write_queue(tmp_path, 3, [("later", "uniform", "normal")])
    answers = dict.fromkeys(["first", "chosen", "right", "none", "sealed", "later"], "normal") | {"wrong": "pneumonia"}
    assert pseudo_labels.blind_checks(tmp_path, answers, FINDINGS, 2) == (["normal", "normal"], ["normal", "pneumonia"])
    assert pseudo_labels.blind_checks(tmp_path, answers, FINDINGS, 3)[0] == ["normal"] * 3
    assert pseudo_labels.blind_checks(tmp_path, answers, FINDINGS, 1) == ([], [])


def test_a_check_the_expert_could_not_tell_counts_against_the_proposal(tmp_path):
    write_queue(tmp_path, 1, [("open", "uniform", "normal")])
    proposed, truth = pseudo_labels.blind_checks(tmp_path, {"open": None}, FINDINGS, 1)
    assert proposed == ["normal"]
    assert truth[0] != "normal"


def test_the_certified_gate_opens_a_class_after_enough_checks(tmp_path):
    """Not before, and only the class that was checked."""
    config = PseudoConfig(gate="certified", precision=0.9, confidence=0.9)
    needed = checks_needed(0, 0, 0.9, 1 - 0.1 / len(FINDINGS))
    for num, opened in ((needed - 1, False), (needed, True)):
        write_queue(tmp_path, 1, [(f"id{i}", "uniform", "normal") for i in range(num)])
        answers = {f"id{i}": "normal" for i in range(num)}
        found = pseudo_labels.certificates(tmp_path, answers, FINDINGS, config, 1, 1)
        assert pseudo_labels.open_classes("certified", FINDINGS, found) == [opened, False]
    answers["id0"] = "pneumonia"
    found = pseudo_labels.certificates(tmp_path, answers, FINDINGS, config, 1, 1)
    assert pseudo_labels.open_classes("certified", FINDINGS, found) == [False, False]
    assert (found["normal"].num_correct, found["normal"].num_checked) == (needed - 1, needed)


def test_a_gate_that_looks_every_round_needs_more(tmp_path):
    config = PseudoConfig(gate="certified", precision=0.9, confidence=0.9)
    write_queue(tmp_path, 1, [(f"id{i}", "uniform", "normal") for i in range(40)])
    answers = {f"id{i}": "normal" for i in range(40)}
    bounds = [
        pseudo_labels.certificates(tmp_path, answers, FINDINGS, config, 1, rounds)["normal"].lower_bound
        for rounds in (1, 10)
    ]
    assert bounds[0] > bounds[1]


def test_what_is_saved(tmp_path):
    found = decide(binary(0.95, 0.65, 0.1), gate=(False, True))
    pseudo_labels.save(tmp_path, ScanRows.of(["a", "b", "c"]), found, np.array([0.9, 0.8]), FINDINGS)
    rows = PSEUDO.read(tmp_path).to_pylist()
    assert [(r["image_id"], r["finding"], r["decision"], r["admitted"]) for r in rows] == [
        ("a", "normal", "accept", False),
        ("b", "normal", "queue", False),
        ("c", "pneumonia", "accept", True),
    ]
    assert [r["threshold_prob"] for r in rows] == pytest.approx([0.9, 0.9, 0.8])
