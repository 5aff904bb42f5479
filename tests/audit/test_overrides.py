"""What an override must bring, and that a refusal states the rule it was refused by."""

import pytest

from pipeline.audit import overrides
from pipeline.contracts.errors import InputError
from tests.support.tiny import call


@pytest.mark.parametrize(
    ("because", "rule"),
    [
        ("test", r"--because: a reason needs at least 2 words .* and this has 1 \(got 'test'\)"),
        ("  covered-by-protocol-7 ", r"and this has 1 \(got '  covered-by-protocol-7 '\)"),
        ("既知の問題である", r"a blank between them, and this has 1"),
        ("", r"and this has 0 \(got ''\)"),
        (" \n\t", r"and this has 0"),
        (None, r"--accept: an override must be written down, and no reason is given\. Say why with --because"),
    ],
)
def test_a_reason_is_refused_by_the_rule_that_is_told(because, rule):
    with pytest.raises(InputError, match=rule):
        overrides.parse(["all"], because)


def test_two_words_are_a_reason_and_blanks_are_made_single():
    (one,) = overrides.parse(["label-conflict"], "  checked\n twice ")
    assert (one.check, one.because) == ("label-conflict", "checked twice")


@pytest.mark.parametrize("command", [("audit", "phantom:"), ("run", "--pool", "phantom:")])
def test_every_command_that_takes_a_reason_says_so(command, tmp_path):
    refused = call(*command, "--out", tmp_path / "out", "--accept", "all", "--because", "test")
    assert refused.code == 2 and "at least 2 words" in refused.message and "got 'test'" in refused.message
    lonely = call(*command, "--out", tmp_path / "out", "--because", "we know it")
    assert lonely.code == 2 and "no check that it is for" in lonely.message and "got 'we know it'" in lonely.message
    assert not (tmp_path / "out").exists()
