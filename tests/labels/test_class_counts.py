"""Expert labels by class: who is counted, and which classes have too few."""

import numpy as np

from pipeline.contracts.answers import CANNOT_TELL, Answer
from pipeline.labels import class_counts, label_table
from tests.support.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia", "covid")


def test_every_class_is_counted_also_one_without_a_label():
    assert class_counts.count_by_class(np.array([0, 0, 2]), FINDINGS) == {"normal": 2, "pneumonia": 0, "covid": 1}
    assert class_counts.count_by_class(np.array([], np.int64), FINDINGS) == dict.fromkeys(FINDINGS, 0)


def test_four_are_few_and_five_are_not():
    assert class_counts.with_few_labels({"normal": 5, "covid": 4}) == {"covid": 4}


def test_a_warning_names_class_number_and_consequences():
    assert class_counts.warnings({"normal": 30, "covid": 3, "pneumonia": 1}) == [
        "class covid: 3 expert labels, fewer than 5; it has no say in roll-backs, its out-of-fold AUROC is not "
        "estimated, it wins no operating point",
        "class pneumonia: 1 expert label, fewer than 5; it has no say in roll-backs, its out-of-fold AUROC is not "
        "estimated, it wins no operating point",
    ]


def test_counted_are_scans_of_the_training_pool_with_a_class(tmp_path):
    run = synthetic_run(tmp_path / "run", num_classes=3, labelled=())
    train, sealed = run.ids("train"), run.ids("holdout")
    said = {train[0]: "covid", train[1]: "covid", train[2]: "normal", train[3]: CANNOT_TELL, sealed[0]: "normal"}
    label_table.add_answers(run.folder, [Answer(i, c, "Ann", 1) for i, c in said.items()], FINDINGS)
    counted = class_counts.count_in(run.folder, label_table.read(run.folder), FINDINGS)
    assert counted == {"normal": 1, "pneumonia": 0, "covid": 2}
