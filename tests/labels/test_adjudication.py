"""What an adjudicator or a third reader decides is the label; what readers agree on by themselves stays as it was."""

import numpy as np
import pytest

from pipeline.contracts.answers import (
    ADJUDICATOR,
    BAD_QUALITY,
    CANNOT_TELL,
    POOL,
    THIRD_READER,
    Answer,
    annotator_name,
    person_of,
    role_of,
    signature,
)
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import Independent
from pipeline.labels import agreement_report, dispute_paths, label_table, training_labels, verdicts
from pipeline.learn import rollback
from pipeline.per_finding.parts import project_labels
from tests.support.people import say
from tests.support.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia")
LEE, THIRD = signature("Lee", ADJUDICATOR), signature("Cleo", THIRD_READER)


@pytest.fixture
def run(tmp_path):
    return synthetic_run(tmp_path / "run", num_scans=100, num_holdout=20, oracle=False, labelled=())


def two_read(run, ids, differing):
    """Ann says what is true; Bob says the opposite of the scans `differing`."""
    other = dict(zip(FINDINGS, FINDINGS[::-1], strict=True))
    given = [Answer(i, run.truth[i], "Ann", 1) for i in ids]
    given += [Answer(i, other[run.truth[i]] if i in differing else run.truth[i], "Bob", 1) for i in ids]
    say(run.folder, given, FINDINGS)
    return other


def table_of(run):
    return label_table.read(run.folder)


def test_a_role_is_part_of_who_signs_and_no_file_can_claim_it():
    assert (person_of(LEE), role_of(LEE), person_of("Lee"), role_of("Lee")) == ("Lee", ADJUDICATOR, "Lee", None)
    assert Answer("a", "normal", THIRD, 1).person == "Cleo" and Answer("a", "normal", THIRD, 1).role == THIRD_READER
    with pytest.raises(InputError, match="is no annotator's name"):
        annotator_name(LEE)


def test_the_decision_is_the_label_and_trains_against_a_model_that_knows_better(run):
    ids = run.ids("train")[:60]
    other = two_read(run, ids, ids[:8])
    folder = run.ctx.round_folder(1)
    folder.mkdir(parents=True)
    prob_NC = np.array([[0.95 if run.truth[i] == finding else 0.05 for finding in FINDINGS] for i in ids])
    rollback.save_oof(folder, ids, prob_NC, FINDINGS)
    heard = training_labels.expert_labels(run.folder, table_of(run), FINDINGS, 2)
    assert heard.answers[ids[0]] is None and heard.training[ids[0]] == run.truth[ids[0]]  # by CROWDLAB
    say(run.folder, [Answer(ids[0], other[run.truth[ids[0]]], LEE, 1)], FINDINGS)
    say(run.folder, [Answer(ids[1], other[run.truth[ids[1]]], THIRD, 1)], FINDINGS)
    heard = training_labels.expert_labels(run.folder, table_of(run), FINDINGS, 2)
    for image_id in ids[:2]:
        assert heard.answers[image_id] == heard.training[image_id] == other[run.truth[image_id]]
    assert heard.training[ids[2]] == run.truth[ids[2]]  # the others as before
    looks = training_labels.second_looks(run.folder, table_of(run), FINDINGS, 9, {})
    assert not {image_id for image_id, _ in looks} & set(ids[:2])


@pytest.mark.parametrize("decision", [CANNOT_TELL, BAD_QUALITY])
def test_an_adjudicator_may_hold_that_nobody_can_tell_or_that_the_scan_is_no_good(run, decision):
    (one,) = run.ids("holdout")[:1]
    two_read(run, [one], [one])
    say(run.folder, [Answer(one, decision, LEE, 1)], FINDINGS)
    assert verdicts.expert_classes(table_of(run), FINDINGS) == {one: None}
    assert verdicts.disagreements(table_of(run)) == []
    assert verdicts.rejections(table_of(run)) == ({one: BAD_QUALITY} if decision == BAD_QUALITY else {})


def test_a_decision_counts_only_where_readers_differ(run):
    one, two, three = run.ids("train")[:3]
    other = two_read(run, [one, two], [one])
    say(run.folder, [Answer(three, "normal", POOL, 0)], FINDINGS)
    say(run.folder, [Answer(i, other[run.truth[i]], LEE, 1) for i in (one, two, three)], FINDINGS)
    classes = verdicts.expert_classes(table_of(run), FINDINGS)
    assert (classes[one], classes[two]) == (other[run.truth[one]], run.truth[two])
    say(run.folder, [Answer(one, run.truth[one], "Bob", 1)], FINDINGS)  # she corrects herself: no dispute is left
    assert verdicts.expert_classes(table_of(run), FINDINGS)[one] == run.truth[one]


def test_of_independent_findings_it_decides_those_in_dispute_alone(tmp_path):
    findings = Independent(("effusion", "mass"))
    given = {"pool__findings": list(findings), "pool__findings_are": "independent"}
    run = synthetic_run(tmp_path / "run", num_scans=12, num_holdout=4, oracle=False, labelled=(), **given)
    (one,) = run.ids("train")[:1]
    lines = (("effusion=1|mass=0", "Ann"), ("effusion=0|mass=0", "Bob"), ("effusion=1|mass=1", LEE))
    say(run.folder, [Answer(one, line, who, 1) for line, who in lines], findings)
    for finding, label in (("effusion", "effusion"), ("mass", "no mass")):
        part = project_labels(table_of(run), finding)
        assert verdicts.expert_classes(part, (f"no {finding}", finding)) == {one: label}
    found = dispute_paths.disputes_of(run.folder, table_of(run), findings)
    assert found["ended_by"] == {dispute_paths.BY_ADJUDICATOR: 1}
    assert [step["reply"] for step in found["paths"][0]["steps"]] == ["effusion", "no finding", "effusion, mass"]


def test_readers_agree_with_each_other_as_before(run):
    ids = run.ids("train")[:40]
    other = two_read(run, ids, ids[:8])
    before = agreement_report.agreement_of(run.folder, table_of(run), FINDINGS, 20)
    say(run.folder, [Answer(i, run.truth[i], LEE, 1) for i in ids[:4]], FINDINGS)
    say(run.folder, [Answer(i, other[run.truth[i]], THIRD, 1) for i in ids[4:8]], FINDINGS)
    say(run.folder, [Answer(i, run.truth[i], THIRD, 2) for i in ids[4:6]], FINDINGS)  # her mind changed: no re-reading
    after = agreement_report.agreement_of(run.folder, table_of(run), FINDINGS, 20)
    overruled = {row["annotator"]: (row["share"], row["others"], row["num_scans"]) for row in after["overruled"]}
    assert after | {"overruled": []} == before
    assert overruled == {"Ann": (0.05, 0.15, 40), "Bob": (0.15, 0.05, 40)}  # two of eight went against Ann


def test_the_path_of_each_dispute_and_how_it_ended(run):
    ids = sorted(run.ids("train")[:5])
    other = two_read(run, ids, ids[:4])
    say(run.folder, [Answer(ids[0], run.truth[ids[0]], LEE, 1)], FINDINGS)
    say(run.folder, [Answer(ids[1], run.truth[ids[1]], THIRD, 1)], FINDINGS)
    say(run.folder, [Answer(ids[2], run.truth[ids[2]], "Bob", 1)], FINDINGS)
    found = dispute_paths.disputes_of(run.folder, table_of(run), FINDINGS)
    ends = [dispute_paths.BY_ADJUDICATOR, dispute_paths.BY_THIRD, dispute_paths.BY_READERS, dispute_paths.OPEN]
    assert [path["ended_by"] for path in found["paths"]] == ends and found["num"] == 4
    assert [path["label"] for path in found["paths"]] == [*(run.truth[i] for i in ids[:3]), None]
    said = [(step["annotator"], step["reply"]) for step in found["paths"][0]["steps"]]
    assert said == [("Ann", run.truth[ids[0]]), ("Bob", other[run.truth[ids[0]]]), (LEE, run.truth[ids[0]])]
