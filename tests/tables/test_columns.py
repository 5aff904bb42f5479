import pytest

from pipeline.contracts.errors import InputError
from pipeline.tables.columns import find, near
from pipeline.tables.placeholders import NO_LABEL, is_placeholder
from pipeline.tables.printed_lists import holds_objects, parts_of_list, signs_of_object


@pytest.mark.parametrize(
    "name",
    [
        "patient_id",
        " patient_id ",
        "Patient_ID",
        "PATIENT ID",
        "patient-id",
        "PatientID",
        "patient.id",
        "ｐatient_id",
        "Patient ID#",
    ],
)
def test_blanks_case_and_underscores_do_not_matter(name):
    assert find(["x", name, ""], "patient_id", "t") == 1


def test_the_very_name_wins_and_two_others_are_open():
    assert find(["Label", "label", "LABEL"], "label", "t") == 1
    assert find(["label ", "patient id"], "label", "t") == 0
    with pytest.raises(InputError, match=r"each of \['LABEL', 'Label'\] could be 'label'"):
        find(["Label", "LABEL"], "label", "t")
    with pytest.raises(InputError, match=r"columns \['label'\] stand twice in the header"):
        find(["label", "label"], "label", "t")
    assert find(["note", "note", "", "", "label"], "label", "t") == 4
    assert find(["labels"], "label", "t") is None


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("patient_id", "patient_idd"),
        ("patient_id", "MRN"),
        ("patient_id", "Pat-ID"),
        ("age", "Age (years)"),
        ("view", "AP/PA"),
        ("view", "View Position"),
        ("sex", "Patient Gender"),
        ("label", "Finding Labels"),
        ("image_path", "image_pth"),
        ("official_split", "fold"),
    ],
)
def test_what_looks_like_a_column_is_named(wanted, name):
    assert near(wanted, ["zzz", name]) == name


def test_what_does_not_look_like_it_is_not():
    assert near("view", ["review_date", "kvp"]) is None
    assert near("age", ["image", "stage"]) is None


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("['a', 'b c']", ["a", "b c"]),
        ('["a", "b, c"]', ["a", "b, c"]),
        ("[' a ', 'a', None, '']", ["a"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("['a' 'b']", ["a", "b"]),
        ("['a'\n 'b c']", ["a", "b c"]),
        ("[a, b c]", ["a", "b c"]),
        ("[a|b]", ["a", "b"]),
        ("['it''s']", ["its"]),
        ("[]", []),
        ("[ ]", []),
        ("set()", []),
        ("[nan]", []),
        ("['?']", []),
        ("[null]", []),
        ("a", None),
        ("a|b", None),
        ("(left)", None),
        ("[", None),
        ("{'a': 1}", None),
        ("", None),
    ],
)
def test_printed_lists(cell, parts):
    assert parts_of_list(cell) == parts


@pytest.mark.parametrize(
    "word", ["?", "??", "Unknown", "NONE", " n/a ", "#N/A", "-", "—", "TODO", "t.b.d.", "not_known"][:9]
)
def test_words_for_what_is_not_known(word):
    assert is_placeholder(word)


@pytest.mark.parametrize("word", ["0", "1", "-1", "normal", "negative", "no", "x1", "P-1", "unknown lesion", "nano"])
def test_words_that_say_something(word):
    assert not is_placeholder(word, NO_LABEL)


@pytest.mark.parametrize("cell", ["{['a']}", "{{1}}", "{[1]: 2}"])
def test_what_python_could_not_print_is_no_list(cell):
    assert parts_of_list(cell) is None and not holds_objects(cell) and signs_of_object(cell) is None
