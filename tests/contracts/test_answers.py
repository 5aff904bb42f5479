import pytest

from pipeline.contracts.answers import (
    BAD_QUALITY,
    CANNOT_TELL,
    MAX_NAME,
    NOT_CXR,
    ORACLE,
    POOL,
    REMARKS,
    Answer,
    annotator_name,
    reply_of,
)
from pipeline.contracts.errors import InputError

FINDINGS = ("normal", "Atypical  pneumonia", "STRASSE")


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("normal", "normal"),
        (" NORMAL\t", "normal"),
        ("atypical pneumonia", "Atypical  pneumonia"),
        ("straße", "STRASSE"),
        ("Cannot Tell", CANNOT_TELL),
        ("cannot\u00a0 tell", CANNOT_TELL),
        ("?", CANNOT_TELL),
        ("unknown", CANNOT_TELL),
        ("BAD quality", BAD_QUALITY),
        ("poor quality", BAD_QUALITY),
        ("Not a chest x-ray", NOT_CXR),
        ("not a CXR", NOT_CXR),
        ("norml", None),
        ("", None),
        ("normal pneumonia", None),
    ],
)
def test_what_a_text_means(text, reply):
    assert reply_of(text, FINDINGS) == reply


@pytest.mark.parametrize(
    "text", ["atypical_pneumonia", "Atypical-Pneumonia.", "'atypical pneumonia'", "\u201eAtypical pneumonia\u201c"]
)
def test_signs_around_a_class_and_for_its_blanks_do_not_matter(text):
    assert reply_of(text, FINDINGS) == "Atypical  pneumonia"
    assert reply_of(f"{text}?", FINDINGS) is None, "a doubt is no answer"


def test_two_classes_that_signs_alone_tell_apart_are_not_guessed():
    assert reply_of("non_covid", ("non-covid", "non covid")) is None
    assert reply_of("Non-COVID", ("non-covid", "non covid")) == "non-covid"


def test_a_class_of_the_run_goes_before_a_synonym():
    assert reply_of("Unknown", ("normal", "unknown")) == "unknown"


def test_a_remark_names_no_class():
    assert [Answer("a", reply, "ann", 1).finding for reply in ("normal", *REMARKS)] == ["normal", None, None, None]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann", "Ann"),
        ("  Dr.  Jörg\tO'Neill ", "Dr. Jörg O'Neill"),
        ("Jo\u0308rg", "J\u00f6rg"),  # the same letters give the same annotator, however they were typed
        ("first@example.org", "first@example.org"),
        ("expert/12", "expert/12"),
        ("李 医生", "李 医生"),
        ("2nd reader", "2nd reader"),
        ("x" * MAX_NAME, "x" * MAX_NAME),
    ],
)
def test_names_as_they_are_kept(text, name):
    assert annotator_name(text) == name
    assert annotator_name(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "=cmd",
        "+Ann",
        "-Ann",
        "@Ann",
        "'Ann",
        "<b>Ann</b>",
        'Ann"',
        "Ann;DROP",
        "Ann,Bob",
        "../Ann",
        ".",
        "..",
        "a\\b",
        "a\x00b",
        "a\u202eb",
        "a\ud800b",
        "Ann|Bob",
        "a{{b}}",
        "x" * (MAX_NAME + 1),
        POOL,
        ORACLE,
        "Model",
        "POOL",
    ],
)
def test_names_that_are_refused(text):
    with pytest.raises(InputError, match=r"^--annotator: .*name"):
        annotator_name(text)
    with pytest.raises(InputError, match=r"^queue\.csv, annotator: "):
        annotator_name(text, "queue.csv, annotator")
