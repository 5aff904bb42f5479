"""A batch beside its reference: what moved, its name, the verdict, and what is refused."""

import numpy as np
import pytest

from pipeline.contracts.options.evidence import MonitorConfig
from pipeline.monitor import judgement
from pipeline.monitor.judgement import Model
from pipeline.monitor.label_shift import Judged
from pipeline.monitor.streams import OutsideRule
from tests.support.monitored import FINDINGS, PRIOR_C, scans

CONFIG = MonitorConfig(num_permutations=999)
RULE = OutsideRule(num_held_out=300, false_alarm_rate=0.05)
JUDGED = Judged(0.93, 0.015, np.array([[195.0, 15.0], [6.0, 84.0]]))


@pytest.fixture(scope="module")
def reference():
    return scans(np.random.default_rng(0), 300)


def judge(reference, batch, *, side="holdout", judged=JUDGED, config=CONFIG, seed=0):
    model = Model(FINDINGS, False, {None: PRIOR_C}, {None: judged})
    return judgement.judge(reference, batch, side, model, RULE, config, seed)


def changed(**values):
    def change(scan):
        for name, value in values.items():
            scan[name] = value(scan[name])

    return scans(np.random.default_rng(5), 120, change=change, name="b")


def test_a_batch_like_the_reference_is_steady_and_its_estimates_hold(reference):
    batch = scans(np.random.default_rng(1), 120, name="b")
    result = judge(reference, batch)
    assert (result.verdict, result.cause, result.comparison.moved) == ("steady", None, [])
    accuracy, sick = result.accuracy["answer"], result.shares["answer"]["em"]["sick"]
    assert accuracy.low <= 0.93 <= accuracy.high and sick.low <= 0.3 <= sick.high
    streams = {reading.stream for reading in result.comparison.readings}
    assert streams == {"embeddings", "pictures", "metadata", "predictions", "outside", "slices"}
    assert result.comparison.not_compared["view"] == "the same in every scan (PA)"
    assert "known of 0%" in result.comparison.not_compared["manufacturer"]


def test_the_same_seed_gives_the_same_numbers(reference):
    batch = scans(np.random.default_rng(1), 60, name="b")
    config = MonitorConfig(num_permutations=99)
    assert judge(reference, batch, config=config) == judge(reference, batch, config=config)
    assert judge(reference, batch, config=config) != judge(reference, batch, config=config, seed=1)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"brightness": lambda x: x + 0.1}, "brightness"),
        ({"contrast": lambda x: x - 0.15}, "contrast"),
        ({"sharpness": lambda x: x - 0.5, "noise": lambda x: x - 0.3}, "blur"),
        ({"sharpness": lambda x: x + 0.3, "noise": lambda x: x + 0.5}, "noise"),
        ({"thumbnail": lambda x: [-v for v in x]}, "inverted"),
        ({"source": lambda x: "there"}, "source"),
        ({"age_years": lambda x: x + 40}, "age_years"),
        ({"features": lambda x: [*x[:3], x[3] + 3, *x[4:]]}, "other scans"),
    ],
)
def test_what_was_planted_is_named(reference, values, name):
    result = judge(reference, changed(**values))
    assert result.cause.name == name and result.verdict == "watch"
    is_of_the_scans = name not in ("source", "age_years")
    assert (result.accuracy["answer"].value is None) == is_of_the_scans


def test_slices_of_a_ct_are_called_other_scans_wherever_they_come_from(reference):
    rng = np.random.default_rng(10)
    batch = changed(
        thumbnail=lambda x: rng.permutation(x).tolist(),
        features=lambda x: [v + 6 for v in x],
        outside=lambda x: True,
        source=lambda x: "there",
        brightness=lambda x: x - 0.3,
    )
    result = judge(reference, batch)
    assert (result.verdict, result.cause.name) == ("retrain", "other scans")
    assert "slices of a CT" in result.cause.words and "do not retrain" in result.cause.fix


def test_another_mix_alone_is_prevalence_and_both_methods_say_how_much(reference):
    batch = scans(np.random.default_rng(2), 200, share=0.6, name="b")
    result = judge(reference, batch)
    assert result.cause.name == "prevalence" and result.verdict == "watch"
    assert "predictions" in {reading.stream for reading in result.comparison.moved}
    for method in ("em", "bbse"):
        estimate = result.shares["answer"][method]["sick"]
        assert estimate.low <= 0.6 <= estimate.high


def test_many_scans_outside_mean_retrain_and_no_estimate(reference):
    result = judge(reference, changed(outside=lambda x: True, features=lambda x: [v + 4 for v in x]))
    assert result.verdict == "retrain" and result.share_outside == 1.0
    assert result.accuracy["answer"].value is None and "100% of the scans" in result.accuracy["answer"].refused


def test_from_which_share_outside_on_is_an_option(reference):
    flags = iter(np.random.default_rng(8).random(120) < 0.4)
    batch = changed(outside=lambda _: bool(next(flags)))
    assert judge(reference, batch).verdict == "retrain"
    config = MonitorConfig(num_permutations=999, retrain_outside_share=0.6)
    result = judge(reference, batch, config=config)
    assert result.verdict == "watch" and result.accuracy["answer"].value is not None


def test_an_estimated_loss_of_accuracy_means_retrain(reference):
    def unsure(scan):  # its features are those of the others: only the answers are less sure
        sick = scan["prob_sick"]
        scan |= {"prob_sick": 0.3 + 0.4 * sick, "prob_normal": 0.7 - 0.4 * sick}

    batch = scans(np.random.default_rng(3), 120, change=unsure, name="b")
    result = judge(reference, batch)
    assert result.verdict == "retrain" and "accuracy of the answers is estimated" in result.why
    patient = MonitorConfig(num_permutations=999, retrain_accuracy_loss=1.0)
    assert judge(reference, batch, config=patient).verdict == "watch"


def test_nothing_is_estimated_where_probabilities_cannot_be_trusted(reference):
    batch = scans(np.random.default_rng(1), 60, name="b")
    config = MonitorConfig(num_permutations=99)
    for side, judged, why in (
        ("holdout", Judged(0.6, 0.02, np.eye(2)), "cannot be trusted"),
        ("holdout", None, "no labelled holdout"),
        ("training", JUDGED, "no labelled holdout"),
    ):
        result = judge(reference, batch, side=side, judged=judged, config=config)
        assert why in result.accuracy["answer"].refused
        assert result.shares["answer"]["em"]["sick"].value is None
    assert "learned from" in result.comparison.not_compared["predictions"]
    assert any("predictions are not compared" in line for line in result.cannot_tell)


def test_five_scans_say_what_they_cannot_say(reference):
    result = judge(reference, scans(np.random.default_rng(4), 5, name="b"))
    assert result.verdict == "unknown" and "a batch of 5 patients is too small" in result.cannot_tell[0]
    assert result.accuracy["answer"].refused == "fewer than 30 patients"


def test_batches_like_the_reference_seldom_raise_an_alarm_also_with_many_scans_a_patient():
    rng, alarms = np.random.default_rng(6), 0
    config = MonitorConfig(num_permutations=999, false_alarm_rate=0.2)  # a level that few batches can test
    for seed in range(12):
        reference = scans(rng, 120, scans_a_patient=4)
        alarms += bool(judge(reference, scans(rng, 80, scans_a_patient=4, name="b"), config=config, seed=seed).cause)
    assert alarms <= 5


def test_of_very_many_scans_whole_patients_are_drawn():
    many = scans(np.random.default_rng(7), 300, scans_a_patient=3)
    some = many.drawn(100, np.random.default_rng(0))
    assert 97 <= len(some) <= 100 and (np.unique(some.group_N, return_counts=True)[1] == 3).all()
    assert many.drawn(300, np.random.default_rng(0)) is many
