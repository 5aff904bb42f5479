"""A rules file: what is built in can be used, and every mistake in one is named."""

import pytest

from pipeline.contracts.errors import InputError
from pipeline.radiology_reports import rules

SMALL = """
language: en
negation: {before: ["no"]}
uncertainty: {before: [possible]}
findings:
  effusion: {also: [pleural fluid], present: [effusion*]}
"""


def written(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, "utf-8")
    return str(path)


@pytest.mark.parametrize("name", rules.BUILT_IN)
def test_the_built_in_rules_know_the_common_findings_by_several_names(name):
    loaded = rules.load(name)
    assert loaded.name == name
    for pool_name in ("Cardiomegaly", "pleural_effusion", "Effusion", "PNEUMONIA", "pneumothorax", "Nodule"):
        assert loaded.for_class(pool_name) is not None
    assert loaded.for_class("pneumo") is None


def test_an_own_file_is_called_by_its_name(tmp_path):
    loaded = rules.load(written(tmp_path, SMALL))
    assert loaded.name == "own.yaml" and loaded.for_class("Pleural-Fluid").name == "effusion"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SMALL.replace("present: [effusion*]", "presnt: [effusion*]"), "findings.effusion.presnt"),
        (SMALL.replace("[effusion*]", "[]"), "findings.effusion.present"),
        (SMALL.replace("[effusion*]", '["..."]'), "findings.effusion.present"),
        (SMALL + "scope_words: many\n", "scope_words"),
        (SMALL + "  - [", "own.yaml:"),
        ("", "the rules cannot be used"),
    ],
)
def test_a_mistake_is_named_with_its_key_or_line(tmp_path, text, told):
    with pytest.raises(InputError, match=r"own\.yaml") as refused:
        rules.load(written(tmp_path, text))
    assert told in str(refused.value)


def test_a_missing_file_names_what_there_is():
    with pytest.raises(InputError, match=r"reports\.rules.*en, de"):
        rules.load("/nowhere/rules.yaml")


def test_lower_case_keeps_every_place():
    text = "İnfiltrat STRAẞE"
    assert len(rules.lower(text)) == len(text)
