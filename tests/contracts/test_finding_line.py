import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.contracts import finding_line
from pipeline.contracts.answers import reply_of
from pipeline.contracts.healthy_class import is_negative

quick = settings(max_examples=150, deadline=None, derandomize=True)
VALUE = st.sampled_from([1.0, 0.0, finding_line.UNKNOWN])


def plain(text):
    return " ".join(text.split()).casefold()


def fit(name):
    """Whether a run accepts the name of a finding (`pipeline/labels/classes.py` refuses the others)."""
    free = not set(name) & set(finding_line.RESERVED) and not name.startswith("?") and name == " ".join(name.split())
    return free and not is_negative(name) and reply_of(name, ()) is None and bool(plain(name))


NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(fit)
NAMES = st.lists(NAME, min_size=1, max_size=6, unique_by=plain).map(finding_line.Independent)


@st.composite
def said(draw):
    """Findings and what is known of each."""
    findings = draw(NAMES)
    return findings, {finding: draw(VALUE) for finding in findings}


def same(one, other):
    return one.keys() == other.keys() and all(
        one[key] == other[key] or (math.isnan(one[key]) and math.isnan(other[key])) for key in one
    )


@quick
@given(said())
def test_what_is_written_is_read_in_the_order_of_the_findings(case):
    findings, values = case
    line = finding_line.write(dict(reversed(values.items())), findings)
    assert same(finding_line.read(line), values)
    assert tuple(finding_line.read(line)) == findings


@quick
@given(said())
def test_a_full_line_means_itself(case):
    findings, values = case
    line = finding_line.write(values, findings)
    assert finding_line.meant(line, findings) == line
    assert reply_of(line, findings) == line


@quick
@given(said(), st.randoms(use_true_random=False), st.sampled_from("|;"))
def test_people_write_it_shorter_in_any_order_case_and_spacing(case, random, separator):
    findings, values = case
    told = [f"?{name}" if math.isnan(value) else name for name, value in values.items() if value != 0.0]
    assume(all(plain(name.swapcase()) == plain(name) for name in told))  # not of every alphabet
    random.shuffle(told)
    text = f" {separator} ".join(f" {name.swapcase().replace(' ', '   ')}" for name in told) or " No   FINDING"
    assert finding_line.meant(text, findings) == finding_line.write(values, findings)


@quick
@given(said(), st.data())
def test_a_full_line_without_a_finding_leaves_it_unknown(case, data):
    findings, values = case
    named = data.draw(st.lists(st.sampled_from(findings), min_size=1, unique=True))
    line = finding_line.write(values, named)
    assert finding_line.meant(line, findings) == finding_line.write({name: values[name] for name in named}, findings)


@quick
@given(NAMES, NAME)
def test_a_name_that_is_none_of_them_is_not_understood(findings, stray):
    assume("," not in stray and plain(stray) not in map(plain, findings))
    for text in (stray, f"?{stray}", f"{stray}=1", f"{findings[0]}|{stray}", f"{findings[0]}=1|{stray}=0"):
        assert finding_line.meant(text, findings) is None


@quick
@given(said())
def test_one_finding_is_a_question_of_two_classes(case):
    findings, values = case
    line = finding_line.write(values, findings)
    for finding in findings:
        absent, there = finding_line.question(finding)
        expected = {1.0: there, 0.0: absent}.get(values[finding])
        assert finding_line.class_of(line, finding) == expected
        assert (absent, there) == (finding_line.absent(finding), finding)


@quick
@given(said())
def test_people_are_told_what_is_there_and_what_is_unknown(case):
    findings, values = case
    text = finding_line.in_words(finding_line.write(values, findings))
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    if not known:
        assert text == "unknown"
    elif len(known) == len(values):
        assert text == (", ".join(name for name, value in values.items() if value) or finding_line.NONE)
    else:
        assert text.endswith(", ".join(name for name in findings if name not in known) + " unknown")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"effusion": 1.0, "mass": 1.0, "nodule": 0.0}, "effusion, mass"),
        ({"effusion": 0.0, "mass": 0.0, "nodule": 0.0}, "no finding"),
        ({"effusion": 1.0, "mass": math.nan, "nodule": 0.0}, "effusion; mass unknown"),
        ({"effusion": 0.0, "mass": math.nan, "nodule": math.nan}, "nothing else; mass, nodule unknown"),
        ({}, "unknown"),
    ],
)
def test_a_line_for_people(values, text):
    assert finding_line.in_words(finding_line.write(values, ("effusion", "mass", "nodule"))) == text


@pytest.mark.parametrize("text", ["", "effusion", "effusion=2", "effusion=", "=1", "effusion=1|", "no finding"])
def test_what_is_no_line_is_refused(text):
    with pytest.raises(ValueError, match="not a line of findings"):
        finding_line.read(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|",
        "no finding|effusion",
        "effusion|?effusion",
        "effusion=1|effusion=0",
        "effusion=1|mass",
        "effusion=2",
        "?",
    ],
)
def test_what_people_cannot_have_meant(text):
    assert finding_line.meant(text, ("effusion", "mass")) is None


def test_a_comma_separates_unless_a_name_has_one():
    assert finding_line.meant("mass, effusion", ("effusion", "mass")) == "effusion=1|mass=1"
    names = ("mass, large", "effusion")
    assert finding_line.meant("Mass, large; effusion", names) == "mass, large=1|effusion=1"
    assert finding_line.meant("mass, effusion", names) is None


def test_a_finding_that_a_line_leaves_out_has_no_class():
    assert finding_line.class_of("effusion=1", "mass") is None


def test_only_findings_that_are_independent_make_lines_of_a_reply():
    assert reply_of("effusion", ("no effusion", "effusion")) == "effusion"
    assert reply_of("effusion", finding_line.Independent(("effusion", "mass"))) == "effusion=1|mass=0"
    assert reply_of("Cannot tell", finding_line.Independent(("effusion", "mass"))) == "cannot tell"
