import pyarrow as pa
import pytest

from pipeline.pool.listing import class_names
from pipeline.tables.notes import Notes


def spelt(labels, findings=None):
    notes = Notes("t.csv")
    column = pa.chunked_array([pa.array(labels, pa.string())])
    return class_names.one_spelling(column, findings, notes).to_pylist(), notes.lines


def test_case_blanks_and_letters_make_no_class():
    labels = ["Covid  19", "covid 19", "covid 19", "Pneumonía", "Pneumoni\u0301a", None]
    found, said = spelt(labels)
    assert found == ["covid 19"] * 3 + [found[3]] * 2 + [None] and len(set(found)) == 3
    assert said[0] == "one class, 'covid 19', is spelt 'covid 19' 2, 'Covid  19' 1"


def test_the_spelling_that_is_asked_for_wins():
    found, said = spelt(["EDEMA", "edema", "Normal"], ("Edema", "Normal"))
    assert found == ["Edema", "Edema", "Normal"]
    assert said == ["one class, 'Edema', is spelt 'EDEMA' 1, 'edema' 1"]
    assert spelt(["a", "b"], ("a", "b"))[1] == []


@pytest.mark.parametrize(
    "word", ["?", "unknown", "None", "todo", "#N/A", "-", "Not labelled", "unlabeled", "TBD", "[]"]
)
def test_placeholders_are_no_class_and_counted(word):
    found, said = spelt(["sick", word, "well", word])
    assert found == ["sick", None, "well", None]
    assert said[0].startswith(f"2 labels say that there is none, and count as blank: {word!r} 2")


def test_a_placeholder_that_is_asked_for_is_a_class():
    assert spelt(["none", "mass", "None"], ("none", "mass"))[0] == ["none", "mass", "none"]
    assert "name it in pool.findings" in spelt(["none", "mass", "effusion"])[1][0]


def test_a_word_for_nothing_beside_one_class_alone_is_the_healthy_class():
    found, said = spelt(["none", "mass", "none"])
    assert found == ["none", "mass", "none"] and "is read as a class, the healthy one" in said[0]
    assert spelt(["?", "mass"])[0] == [None, "mass"]  # this says that nobody knows


def test_numbers_that_pandas_made_floats_are_the_same_numbers():
    assert spelt(["0.0", "1.0", "0", "1"])[0] == ["0", "1", "0", "1"]
    assert spelt(["0.0", "1.00"], ("0", "1"))[0] == ["0", "1"]
    assert spelt(["1.5", "1"])[0] == ["1.5", "1"]


def test_lists_of_one_are_their_entry():
    found, said = spelt(["['sick']", '["well"]', "['sick', 'well']", "sick"])
    assert found == ["sick", "well", "['sick', 'well']", "sick"]
    assert "2 labels such as" in said[0]


def test_misspelt_classes_are_named_and_kept_apart():
    found, said = spelt(["pneumonia", "pnuemonia", "no_finding", "no finding"])
    assert len(set(found)) == 4
    assert "no finding / no_finding" in said[0] and "pneumonia / pnuemonia" in said[0]
    for apart in (["normal", "abnormal"], ["stage 1", "stage 2"], ["covid", "non-covid"], ["effusion", "fusion"]):
        assert spelt(apart)[1] == []


def test_a_column_in_which_nearly_every_scan_has_its_own_class_is_named():
    reports = [f"film {i}: no acute disease" for i in range(20)]
    found, said = spelt(reports)
    assert found == reports and said[0].startswith("20 labels name 20 classes: where the column")
    assert "pool.columns={label: diagnosis}" in said[0] and "film" not in said[0]  # it may be a report
    assert spelt(["mass", "normal"] * 15)[1] == spelt([f"class {i}" for i in range(19)])[1] == []
