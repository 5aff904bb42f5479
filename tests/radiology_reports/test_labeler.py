"""What reports say of a finding: cues, their reach, sections, and the place of the sentence."""

import pytest

from pipeline.radiology_reports.labeler import (
    ABSENT,
    NOT_MENTIONED,
    PRESENT,
    UNCERTAIN,
    Statement,
    is_blank,
    joined,
    read_report,
)
from pipeline.radiology_reports.rules import load
from tests.support.call_count import num_calls

EN, DE = load("en"), load("de")


@pytest.mark.parametrize(
    ("text", "finding", "says"),
    [
        ("There is a small left pleural effusion.", "pleural effusion", PRESENT),
        ("No focal consolidation, pleural effusion, or pneumothorax.", "pneumothorax", ABSENT),
        ("No pneumothorax, but a large effusion on the left.", "pleural effusion", PRESENT),
        ("A small effusion cannot be excluded.", "pleural effusion", UNCERTAIN),
        ("Opacity, possibly early pneumonia.", "pneumonia", UNCERTAIN),
        ("The heart is not enlarged.", "cardiomegaly", ABSENT),
        ("The heart is mildly enlarged.", "cardiomegaly", PRESENT),
        ("The cardiac silhouette is borderline enlarged.", "cardiomegaly", UNCERTAIN),
        ("Heart size is within normal limits.", "cardiomegaly", ABSENT),
        ("No change in the right pleural effusion.", "pleural effusion", PRESENT),
        ("Pericardial effusion.", "pleural effusion", NOT_MENTIONED),
        ("Effusion has resolved.", "pleural effusion", ABSENT),
        ("CARDIOMEGALY.", "cardiomegaly", PRESENT),
        ("Lungs are unremarkable.", "pneumonia", NOT_MENTIONED),
    ],
)
def test_english(text, finding, says):
    assert read_report(text, EN)[finding].says == says


@pytest.mark.parametrize(
    ("text", "finding", "says"),
    [
        ("Kein Pleuraerguss, kein Pneumothorax.", "pneumothorax", ABSENT),
        ("V.a. Pneumonie im rechten Unterfeld.", "pneumonie", UNCERTAIN),
        ("Infiltrat nicht auszuschließen.", "infiltrat", UNCERTAIN),
        ("Pneumothorax nicht mehr nachweisbar.", "pneumothorax", ABSENT),
        ("Randwinkelerguss links, keine Stauung.", "pleuraerguss", PRESENT),
        ("Randwinkelerguss links, keine Stauung.", "stauung", ABSENT),
        ("Das Herz ist nicht vergrößert.", "kardiomegalie", ABSENT),
        ("Das Herz ist deutlich vergro\u0308\u00dfert.", "kardiomegalie", PRESENT),  # the umlaut in two signs
    ],
)
def test_german(text, finding, says):
    assert read_report(text, DE)[finding].says == says


def test_only_the_sections_that_tell_what_is_seen_are_read():
    text = (
        "INDICATION: rule out pneumonia, pneumothorax\nFINDINGS: Lungs: clear of infiltrate.\nHeart: enlarged heart.\n"
    )
    said = read_report(text, EN)
    assert said["pneumothorax"].says == NOT_MENTIONED and said["cardiomegaly"].says == PRESENT
    assert read_report("Pneumothorax on the left.", EN)["pneumothorax"].says == PRESENT  # no section: all of it


def test_the_stronger_of_two_sentences_counts_and_its_place_is_told():
    text = "No effusion on the right. There is an effusion on the left."
    said = read_report(text, EN)["pleural effusion"]
    assert text[said.start : said.end] == "There is an effusion on the left."


def test_two_reports_that_contradict_each_other_leave_it_open():
    assert joined([Statement(PRESENT, 1, 2), Statement(ABSENT, 3, 4)]) == Statement(UNCERTAIN, 1, 2)
    assert joined([Statement(NOT_MENTIONED), Statement(ABSENT, 3, 4)]) == Statement(ABSENT, 3, 4)


@pytest.mark.parametrize("text", [None, "", "  \n", "12.3 / --"])
def test_a_report_without_a_word_says_nothing(text):
    assert is_blank(text)


@pytest.mark.parametrize(
    "piece",
    ["no effusion, mass ", "A", "dr. ", "heart ", " ", "!", "\n", ": no, ", "FINDINGS:", "<b>", "effusion,no,", "*: "],
)
def test_work_grows_no_faster_than_a_report(piece):
    def calls(length):
        text = f"No {piece * (length // len(piece))} effusion."
        return num_calls(lambda: read_report(text, EN))

    assert calls(6_000) < 2.5 * calls(3_000) + 1_000
    assert calls(6_000) < 6_000 * 60
