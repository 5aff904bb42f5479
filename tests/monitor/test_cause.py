"""What a batch that moved owes it to, from the variables that moved alone."""

import pytest

from pipeline.monitor import cause
from pipeline.monitor.streams import EMBEDDINGS, METADATA, OUTSIDE, PICTURES, PREDICTIONS, Reading


def moved(stream, variable, *, effect=None, reference=0.0, batch=0.0):
    return Reading(stream, variable, "KS", 0.3, 0.001, 0.01, True, reference, batch, effect)


COMPONENT, OUT = moved(EMBEDDINGS, "component 3", effect=0.4), moved(OUTSIDE, "share outside", effect=0.3)
FORM = moved(METADATA, "format")
ELSEWHERE = moved(METADATA, "source")


def likeness(batch, effect, reference=0.8):
    return moved(PICTURES, "likeness", reference=reference, batch=batch, effect=effect)


def brightness(effect):
    return moved(PICTURES, "brightness", effect=effect)


@pytest.mark.parametrize(
    ("readings", "name", "is_learnable"),
    [
        ([COMPONENT, OUT, brightness(0.3)], "other scans", True),  # a new finding makes a film a little brighter
        ([brightness(0.3)], "brightness", True),
        ([likeness(0.7, -0.3)], "other scans", True),  # thumbnails alone, and only a little
        ([brightness(0.3), moved(PREDICTIONS, "answers")], "other scans", True),
        ([COMPONENT, OUT, brightness(-1.2)], "brightness", True),
        ([COMPONENT, moved(PREDICTIONS, "answers")], "other scans", True),
        ([ELSEWHERE, COMPONENT, OUT, brightness(-2.0), likeness(0.05, -6.0)], "other scans", False),  # CT slices
        ([COMPONENT, OUT, likeness(-0.7, -9.0)], "inverted", False),
        ([COMPONENT, OUT, likeness(0.45, -3.0)], "source", True),  # chests, but of adults
        ([ELSEWHERE, COMPONENT, likeness(0.45, -3.0)], "source", True),
        ([ELSEWHERE, COMPONENT, likeness(0.19, -0.1, reference=0.21)], "source", True),  # hardly moved at all
        ([FORM, COMPONENT, OUT, brightness(-1.2)], "brightness", True),  # mended where files are exported
        ([FORM, ELSEWHERE, brightness(-1.2)], "source", True),
        ([FORM, COMPONENT, likeness(0.45, -3.0)], "source", True),
        ([FORM, COMPONENT, moved(PREDICTIONS, "answers")], "export", True),
        ([FORM], "export", True),
    ],
)
def test_what_moved_names_the_cause_and_whether_a_model_should_learn_it(readings, name, is_learnable):
    named = cause.of(readings, None)
    assert (named.name, named.is_learnable) == (name, is_learnable)


def test_a_new_finding_and_slices_of_a_ct_are_told_apart_in_words():
    finding, slices = cause.of([COMPONENT], None), cause.of([COMPONENT, likeness(0.0, -6.0)], None)
    assert "a new finding" in finding.words and "labelled" in finding.fix
    assert "slices of a CT" in slices.words and "do not retrain" in slices.fix


def test_another_form_of_files_is_said_beside_every_cause():
    assert "nothing else moved" in cause.of([FORM], None).words
    assert "embeddings, outside moved with them" in cause.of([FORM, COMPONENT, OUT], None).words
    for others in ([brightness(-1.2)], [ELSEWHERE], [moved(METADATA, "age_years")]):
        alone, with_form = cause.of(others, None), cause.of([*others, FORM], None)
        assert with_form.words == f"{alone.words} The files have another form, too: format moved."


def test_what_the_mix_of_classes_explains_is_prevalence_and_nothing_is_nothing():
    assert cause.of([brightness(1.0), COMPONENT], []).name == "prevalence"
    assert cause.of([], None) is None
