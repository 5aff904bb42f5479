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
    [
        "no effusion, mass ",
        "A",
        "dr. ",
        "heart ",
        " ",
        "!",
        "\n",
        ": no, ",
        "FINDINGS:",
        "<b>",
        "effusion,no,",
        "*: ",
        "mild ",
        ", mild edema or ",
    ],
)
def test_work_grows_no_faster_than_a_report(piece):
    def calls(length):
        text = f"No {piece * (length // len(piece))} effusion."
        return num_calls(lambda: read_report(text, EN))

    assert calls(6_000) < 2.5 * calls(3_000) + 1_000
    assert calls(6_000) < 6_000 * 60


ENGLISH_EFFUSION, ENGLISH_AIR, GERMAN_EFFUSION = "pleural effusion", "pneumothorax", "pleuraerguss"


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        (EN, "Cannot rule out pneumonia.", {"pneumonia": UNCERTAIN}),
        (EN, "Effusion cannot be entirely excluded.", {ENGLISH_EFFUSION: UNCERTAIN}),
        (EN, "Pneumothorax: None.", {ENGLISH_AIR: ABSENT}),
        (EN, "Pneumothorax: no", {ENGLISH_AIR: ABSENT}),
        (EN, "Pleural effusion: none\nPneumothorax: no", {ENGLISH_EFFUSION: ABSENT, ENGLISH_AIR: ABSENT}),
        (EN, "Pneumothorax: No.\nPleural effusion: Large", {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: PRESENT}),
        (EN, "Pleural effusion: large, pneumothorax: no", {ENGLISH_EFFUSION: PRESENT, ENGLISH_AIR: ABSENT}),
        (EN, "Pneumothorax: no, pleural effusion: large", {ENGLISH_EFFUSION: PRESENT, ENGLISH_AIR: ABSENT}),
        (EN, "Pleura: No effusion.", {ENGLISH_EFFUSION: ABSENT}),
        (EN, "Effusion: no change.", {ENGLISH_EFFUSION: PRESENT}),
        (EN, "The previously seen pneumothorax is no longer visualized.", {ENGLISH_AIR: ABSENT}),
        (EN, "The right effusion has not resolved.", {ENGLISH_EFFUSION: PRESENT}),
        (EN, "No relevant change in the large left pleural effusion.", {ENGLISH_EFFUSION: PRESENT}),
        (EN, "No appreciable change in moderate cardiomegaly.", {"cardiomegaly": PRESENT}),
        (EN, "No interval increase in the right pleural effusion.", {ENGLISH_EFFUSION: PRESENT}),
        (EN, "Not significantly changed right effusion.", {ENGLISH_EFFUSION: PRESENT}),
        (
            EN,
            "FINDINGS:\nNo pneumothorax\nModerate effusion\nCardiomegaly",
            {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: PRESENT, "cardiomegaly": PRESENT},
        ),
        (EN, "The lungs show no consolidation, no pneumothorax and no\nEffusion.", {ENGLISH_EFFUSION: ABSENT}),
        (EN, "Patient is not rotated, small left effusion.", {ENGLISH_EFFUSION: PRESENT}),
        (EN, "No focal consolidation, large effusion or pneumothorax.", {ENGLISH_EFFUSION: ABSENT}),
        (DE, "Ein Pneumothorax liegt nicht vor.", {"pneumothorax": ABSENT}),
        (DE, "Ein Pleuraerguss findet sich nicht.", {GERMAN_EFFUSION: ABSENT}),
        (DE, "Infiltrate lassen sich nicht abgrenzen.", {"infiltrat": ABSENT}),
        (DE, "Ein Infiltrat lässt sich nicht sicher ausschließen.", {"infiltrat": UNCERTAIN}),
        (DE, "Pleuraergüsse: keine.", {GERMAN_EFFUSION: ABSENT}),
        (
            DE,
            "Stauung, Infiltrate, Ergüsse: nein",
            {"stauung": ABSENT, "infiltrat": ABSENT, GERMAN_EFFUSION: ABSENT},
        ),
        (DE, "Zustand nach Bypass-OP, Pleuraerguss links.", {GERMAN_EFFUSION: PRESENT}),
        (DE, "Z.n. Sternotomie mit Kardiomegalie.", {"kardiomegalie": PRESENT}),
        (DE, "Zustand nach Pneumonie.", {"pneumonie": ABSENT}),
        (DE, "Keine wesentliche Befundaenderung des Ergusses.", {GERMAN_EFFUSION: PRESENT}),
        (DE, "Keine wesentliche Befundänderung des Pleuraergusses links.", {GERMAN_EFFUSION: PRESENT}),
        (DE, "Keine Rückbildung des Ergusses.", {GERMAN_EFFUSION: PRESENT}),
        (
            DE,
            "Kein Nachweis eines\nPleuraergusses\nKardiomegalie",
            {GERMAN_EFFUSION: ABSENT, "kardiomegalie": PRESENT},
        ),
    ],
)
def test_cues_that_are_easily_read_the_wrong_way_round(rules, text, expected):
    said = read_report(text, rules)
    assert {finding: said[finding].says for finding in expected} == expected


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        (EN, "No effusion, mild edema.", {ENGLISH_EFFUSION: ABSENT, "edema": PRESENT}),
        (EN, "No effusion mild edema", {ENGLISH_EFFUSION: ABSENT, "edema": PRESENT}),
        (EN, "No effusion but moderate edema.", {ENGLISH_EFFUSION: ABSENT, "edema": PRESENT}),
        (EN, "No effusion and mild cardiomegaly.", {ENGLISH_EFFUSION: ABSENT, "cardiomegaly": PRESENT}),
        (EN, "No pneumothorax with small left effusion.", {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: PRESENT}),
        (EN, "No pneumothorax (small effusion).", {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: PRESENT}),
        (EN, "No consolidation - minimal atelectasis.", {"consolidation": ABSENT, "atelectasis": PRESENT}),
        (EN, "No effusion, otherwise atelectasis at the base.", {ENGLISH_EFFUSION: ABSENT, "atelectasis": PRESENT}),
        (EN, "Without effusion, severe emphysema.", {ENGLISH_EFFUSION: ABSENT, "emphysema": PRESENT}),
        (EN, "No pneumothorax, large effusion on the left.", {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: PRESENT}),
        (EN, "No effusion, stable cardiomegaly, no edema.", {"cardiomegaly": PRESENT, "edema": ABSENT}),
        (EN, "No effusion, the heart is enlarged.", {ENGLISH_EFFUSION: ABSENT, "cardiomegaly": PRESENT}),
        (EN, "Clear of infiltrate, a healed rib fracture.", {"infiltrate": ABSENT, "fracture": PRESENT}),
        (EN, "No effusion, mild bibasilar atelectasis or scarring.", {"atelectasis": PRESENT}),
        (EN, "The heart is not enlarged, mild edema.", {"cardiomegaly": ABSENT, "edema": PRESENT}),
        (EN, "Possible pneumonia, mild edema.", {"pneumonia": UNCERTAIN, "edema": PRESENT}),
        (EN, "Opacities compatible with mild edema.", {"edema": UNCERTAIN}),
        (EN, "Mild edema, effusion not seen.", {"edema": PRESENT, ENGLISH_EFFUSION: ABSENT}),
        (EN, "Small effusion, pneumothorax has resolved.", {ENGLISH_EFFUSION: PRESENT, ENGLISH_AIR: ABSENT}),
        (
            EN,
            "No pneumothorax, small effusion unchanged, no consolidation or edema.",
            {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: PRESENT, "consolidation": ABSENT, "edema": ABSENT},
        ),
        (DE, "Kein Erguss, leichte Stauung.", {GERMAN_EFFUSION: ABSENT, "stauung": PRESENT}),
        (DE, "Kein Pneumothorax bei kleinem Erguss links.", {"pneumothorax": ABSENT, GERMAN_EFFUSION: PRESENT}),
        (DE, "Kein Pneumothorax und geringer Erguss.", {"pneumothorax": ABSENT, GERMAN_EFFUSION: PRESENT}),
        (DE, "Kein Infiltrat, mäßiggradige Kardiomegalie.", {"infiltrat": ABSENT, "kardiomegalie": PRESENT}),
        (DE, "Kein Erguss, das Herz ist vergrößert.", {GERMAN_EFFUSION: ABSENT, "kardiomegalie": PRESENT}),
        (DE, "Leichte Stauung, Erguss nicht nachweisbar.", {"stauung": PRESENT, GERMAN_EFFUSION: ABSENT}),
        (DE, "Verdacht auf Pneumonie, leichte Stauung.", {"pneumonie": UNCERTAIN, "stauung": PRESENT}),
    ],
)
def test_a_cue_ends_where_a_new_statement_begins(rules, text, expected):
    said = read_report(text, rules)
    assert {finding: said[finding].says for finding in expected} == expected


@pytest.mark.parametrize(
    ("rules", "text", "findings"),
    [
        (EN, "No effusion, pneumothorax or consolidation.", [ENGLISH_EFFUSION, ENGLISH_AIR, "consolidation"]),
        (EN, "No effusion, pneumothorax, consolidation.", [ENGLISH_EFFUSION, ENGLISH_AIR, "consolidation"]),
        (EN, "No pneumothorax, large effusion or mass.", [ENGLISH_AIR, ENGLISH_EFFUSION, "mass"]),
        (EN, "No consolidation, left effusion, or pneumothorax.", ["consolidation", ENGLISH_EFFUSION, ENGLISH_AIR]),
        (EN, "No effusion or mild edema.", [ENGLISH_EFFUSION, "edema"]),
        (EN, "No mild edema.", ["edema"]),
        (EN, "No consolidation, large effusion/pneumothorax.", ["consolidation", ENGLISH_EFFUSION, ENGLISH_AIR]),
        (EN, "No evidence of mild or moderate edema.", ["edema"]),
        (EN, "No effusion, heart failure or edema.", [ENGLISH_EFFUSION, "edema"]),
        (EN, "Effusion, pneumothorax and edema are not seen.", [ENGLISH_EFFUSION, ENGLISH_AIR, "edema"]),
        (EN, "Small left effusion, now resolved.", [ENGLISH_EFFUSION]),
        (DE, "Kein Erguss, Pneumothorax oder Infiltrat.", [GERMAN_EFFUSION, "pneumothorax", "infiltrat"]),
        (DE, "Kein Pneumothorax, großer Erguss oder Infiltrat.", ["pneumothorax", GERMAN_EFFUSION, "infiltrat"]),
        (DE, "Kein Infiltrat, Raumforderung, Fraktur.", ["infiltrat", "raumforderung", "fraktur"]),
        (DE, "Keine leichte Stauung.", ["stauung"]),
    ],
)
def test_a_cue_holds_over_its_whole_list(rules, text, findings):
    said = read_report(text, rules)
    assert {finding: said[finding].says for finding in findings} == dict.fromkeys(findings, ABSENT)


@pytest.mark.parametrize(
    ("rules", "text", "denied", "left_open"),
    [
        (EN, "No pneumothorax, small effusion, cardiomegaly.", ENGLISH_AIR, [ENGLISH_EFFUSION, "cardiomegaly"]),
        (
            EN,
            "No consolidation, large pleural effusion, pneumothorax.",
            "consolidation",
            [ENGLISH_EFFUSION, ENGLISH_AIR],
        ),
        (DE, "Kein Infiltrat, großer Erguss, Pneumothorax.", "infiltrat", [GERMAN_EFFUSION, "pneumothorax"]),
    ],
)
def test_what_may_be_a_new_statement_or_the_list_going_on_is_left_open(rules, text, denied, left_open):
    report = read_report(text, rules)
    assert report[denied].says == ABSENT
    assert {finding: report[finding].says for finding in left_open} == dict.fromkeys(left_open, UNCERTAIN)


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        (EN, "No left effusion, right pneumothorax.", {ENGLISH_AIR: ABSENT}),
        (EN, "No effusion, right lower lobe consolidation.", {"consolidation": PRESENT}),
        (EN, "No acute effusion, mild edema, or pneumothorax.", {"edema": ABSENT, ENGLISH_AIR: ABSENT}),
        (EN, "Negative for effusion, mild edema, pneumothorax.", {"edema": PRESENT, ENGLISH_AIR: ABSENT}),
        (EN, "No effusion, mild edema or focal consolidation.", {"edema": PRESENT, "consolidation": ABSENT}),
        (EN, "No effusion, mild edema, the heart is enlarged.", {"edema": PRESENT, "cardiomegaly": PRESENT}),
        (EN, "Pneumothorax, small effusion are not seen.", {ENGLISH_AIR: ABSENT, ENGLISH_EFFUSION: ABSENT}),
        (EN, "Cardiomegaly, mild edema, effusion not seen.", {"cardiomegaly": PRESENT, "edema": PRESENT}),
        (DE, "Kein linksseitiger Erguss, rechtsseitiger Pneumothorax.", {"pneumothorax": ABSENT}),
        (DE, "Kein Erguss, leichte Stauung, Pneumothorax.", {"stauung": PRESENT, "pneumothorax": ABSENT}),
    ],
)
def test_a_bare_name_goes_on_with_the_list_that_a_statement_breaks(rules, text, expected):
    said = read_report(text, rules)
    assert {finding: said[finding].says for finding in expected} == expected


HEADED = {ENGLISH_EFFUSION: PRESENT, ENGLISH_AIR: NOT_MENTIONED}


@pytest.mark.parametrize(
    "text",
    [
        "INDICATION: Pneumothorax? COMPARISON: None. FINDINGS: Large effusion.",
        "Indication: pneumothorax. Findings: Large effusion.",
        "INDICATION: pneumothorax FINDINGS: Large effusion",
        "EXAM: CHEST PA\nINDICATION: pneumothorax\n\nCHEST PA:\nLarge effusion",
        "FINDINGS:\rLarge effusion.\rINDICATION: pneumothorax\r",
        "INDICATION\r\nrule in pneumothorax\r\n\r\nFINDINGS\r\nLarge effusion.",
        "**FINDINGS:** Large effusion\n**INDICATION:** pneumothorax",
        "**INDICATION**: pneumothorax\n**FINDINGS**: Large effusion",
        "1. INDICATION: pneumothorax\n2. FINDINGS: effusion",
        "<html><b>INDICATION:</b> pneumothorax<br><b>FINDINGS:</b> Large effusion<br>No consolidation</html>",
        "INDICATION\nHistory of pneumothorax\nFINDINGS\nLarge effusion\n",
        "Large effusion.\nINDICATION: pneumothorax",
    ],
)
def test_headings_are_known_in_every_form_that_systems_export(text):
    said = read_report(text, EN)
    assert {finding: said[finding].says for finding in HEADED} == HEADED
    place = said[ENGLISH_EFFUSION]
    assert "effusion" in text[place.start : place.end].lower()


def test_german_headings_on_one_line_and_words_that_only_look_like_headings():
    assert read_report("Klinik: Dyspnoe. Befund: Pleuraerguss rechts.", DE)[GERMAN_EFFUSION].says == PRESENT
    assert read_report("Im Vergleich: neuer Pleuraerguss.", DE)[GERMAN_EFFUSION].says == PRESENT
    assert read_report("LIMITED EXAM: large effusion", EN)[ENGLISH_EFFUSION].says == PRESENT
