"""What several readers said becomes one class for training, a second look, and numbers of agreement."""

import json

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, NOT_CXR, POOL, Answer
from pipeline.contracts.tables import PREDICTIONS, QUEUE
from pipeline.labels import agreement_report, label_table, reading_matrix, training_labels, verdicts
from pipeline.labels.training_labels import DISPUTE, DOUBT
from pipeline.learn import rollback
from tests.support.people import say
from tests.support.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia")
READERS = ("Ann", "Bob")


@pytest.fixture
def run(tmp_path):
    return synthetic_run(tmp_path / "run", num_scans=160, num_holdout=40, oracle=False, labelled=())


def other(finding):
    return FINDINGS[1 - FINDINGS.index(finding)]


def model(run, ids, prob_right=0.95, wrong=(), round_index=1):
    """Out-of-fold probabilities of a model that is right, but of the scans `wrong`."""
    prob_NC = np.full((len(ids), 2), 1 - prob_right)
    for row, image_id in enumerate(ids):
        named = other(run.truth[image_id]) if image_id in wrong else run.truth[image_id]
        prob_NC[row, FINDINGS.index(named)] = prob_right
    folder = run.ctx.round_folder(round_index)
    folder.mkdir(parents=True, exist_ok=True)
    rollback.save_oof(folder, ids, prob_NC, FINDINGS)


def training(run, round_index=2):
    table = label_table.read(run.folder)
    answers = verdicts.expert_classes(table, FINDINGS, round_index)
    return answers, training_labels.training_classes(run.folder, table, answers, FINDINGS, round_index)


def both_read(run, ids, wrong_bob=(), **changed):
    """Ann reads all rightly, Bob errs on some."""
    given = [Answer(i, run.truth[i], "Ann", 1) for i in ids]
    given += [Answer(i, changed.get(i, other(run.truth[i]) if i in wrong_bob else run.truth[i]), "Bob", 1) for i in ids]
    say(run.folder, given, FINDINGS)


def asked(run, round_index, ids, kind):
    """A queue of scans of one kind."""
    folder = run.ctx.round_folder(round_index)
    folder.mkdir(parents=True, exist_ok=True)
    blank = [None] * len(ids)
    rows = {"image_id": ids, "rank": range(1, len(ids) + 1), "kind": [kind] * len(ids)}
    QUEUE.write(folder, pa.table(rows | {"cluster": blank, "score": blank, "proposed": blank}, schema=QUEUE.schema))


class TestTraining:
    def test_where_readers_differ_the_model_helps_and_nowhere_else(self, run):
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        model(run, ids, wrong=ids[30:33])
        answers, found = training(run)
        assert [i for i in ids if answers[i] is None] == ids[:8]
        assert {i: found[i] for i in ids} == {i: run.truth[i] for i in ids}
        assert verdicts.expert_classes(label_table.read(run.folder), FINDINGS) == answers  # nothing is written

    def test_never_for_the_holdout(self, run):
        train, sealed = run.ids("train")[:40], run.ids("holdout")[:10]
        both_read(run, train + sealed, wrong_bob=[*train[:5], *sealed[:5]])
        model(run, train + sealed)  # even if there were probabilities for it
        answers, found = training(run)
        assert {i for i in answers if answers[i] != found[i]} == set(train[:5])
        assert all(found[i] is None for i in sealed[:5])

    def test_what_certifies_goes_on_with_the_majority(self, run):
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        model(run, ids)
        heard = training_labels.expert_labels(run.folder, label_table.read(run.folder), FINDINGS, 2)
        assert [heard.answers[i] for i in ids[:8]] == [None] * 8
        assert [heard.training[i] for i in ids[:8]] == [run.truth[i] for i in ids[:8]]

    @pytest.mark.parametrize("kind", ["uniform", "recheck"])
    def test_blind_checks_are_settled_by_people_alone(self, run, kind):
        """They say how often the model is right, and how common a class is."""
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        model(run, ids)
        asked(run, 1, ids[:4], kind)
        _, found = training(run)
        assert [found[i] for i in ids[:4]] == [None] * 4
        assert [found[i] for i in ids[4:8]] == [run.truth[i] for i in ids[4:8]]

    def test_a_scan_most_hold_to_be_no_good_trains_nothing(self, run):
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        say(run.folder, [Answer(ids[0], BAD_QUALITY, name, 1) for name in ("Cleo", "Dan", "Eve")], FINDINGS)
        model(run, ids)
        heard = training_labels.expert_labels(run.folder, label_table.read(run.folder), FINDINGS, 2)
        assert heard.rejected == {ids[0]: BAD_QUALITY}
        assert heard.answers[ids[0]] is None and heard.training[ids[0]] is None
        assert heard.training[ids[1]] == run.truth[ids[1]]

    def test_without_a_model_or_with_few_scans_read_twice_the_majority_stands(self, run):
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        answers, found = training(run)  # no round before
        assert found == answers
        model(run, ids[:15])
        answers, found = training(run)
        assert found == answers

    def test_one_reader_alone_needs_no_consensus(self, run):
        ids = run.ids("train")[:60]
        say(run.folder, [Answer(i, other(run.truth[i]), "Ann", 1) for i in ids], FINDINGS)
        model(run, ids)
        answers, found = training(run)
        assert found == answers and found[ids[0]] == other(run.truth[ids[0]])

    def test_scans_without_out_of_fold_probabilities_take_those_of_before_their_label(self, run):
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        folder = run.ctx.round_folder(1)
        columns = {name: [None] * 60 for name in PREDICTIONS.schema.names}
        columns |= {
            "image_id": ids,
            "predicted": [run.truth[i] for i in ids],
            "round": [1] * 60,
            "split": ["train"] * 60,
        }
        prob = [[0.95 if run.truth[i] == finding else 0.05 for i in ids] for finding in FINDINGS]
        schema = PREDICTIONS.schema
        columns = {name: columns[name] for name in schema.names}
        table = pa.table(columns, schema=schema)
        for finding, values in zip(FINDINGS, prob, strict=True):
            table = table.append_column(f"prob_{finding}", pa.array(values, pa.float32()))
        PREDICTIONS.write(folder, table)
        _, found = training(run)
        assert [found[i] for i in ids[:8]] == [run.truth[i] for i in ids[:8]]

    def test_later_answers_are_not_known_to_an_earlier_round(self, run):
        ids = run.ids("train")[:60]
        say(run.folder, [Answer(i, run.truth[i], "Ann", 1) for i in ids], FINDINGS)
        say(run.folder, [Answer(i, other(run.truth[i]), "Bob", 2) for i in ids[:30]], FINDINGS)
        model(run, ids)
        answers, found = training(run, 1)
        assert found == answers == {i: run.truth[i] for i in ids}

    def test_a_dispute_settled_or_a_scan_rejected_later_trains_as_it_stood(self, run):
        ids = run.ids("train")[:60]
        both_read(run, ids, wrong_bob=ids[:8])
        model(run, ids)
        say(run.folder, [Answer(ids[0], BAD_QUALITY, name, 3) for name in ("Cleo", "Dan", "Eve")], FINDINGS)
        say(run.folder, [Answer(ids[1], other(run.truth[ids[1]]), "Ann", 3)], FINDINGS)
        _, found = training(run, 2)
        assert [found[i] for i in ids[:8]] == [run.truth[i] for i in ids[:8]]
        _, found = training(run, 3)
        assert [found[i] for i in ids[:2]] == [None, other(run.truth[ids[1]])]


class TestSecondLooks:
    def looks(self, run, num=99, asked=None):
        return training_labels.second_looks(run.folder, label_table.read(run.folder), FINDINGS, num, asked or {})

    def test_disputes_come_first_those_of_the_holdout_before_others(self, run):
        train, sealed = run.ids("train")[:60], run.ids("holdout")[:4]
        both_read(run, train + sealed, wrong_bob=[*train[:3], *sealed[:2]])
        found = self.looks(run)
        assert found == [(i, DISPUTE) for i in [*sorted(sealed[:2]), *sorted(train[:3])]]
        assert self.looks(run, 2) == found[:2]
        assert self.looks(run, 0) == []

    def test_doubtful_labels_of_the_training_pool_each_once(self, run):
        train, sealed = run.ids("train")[:60], run.ids("holdout")[:20]
        wrong = [*train[:3], *sealed[:3]]
        say(
            run.folder,
            [Answer(i, other(run.truth[i]) if i in wrong else run.truth[i], "Ann", 1) for i in train + sealed],
            FINDINGS,
        )
        assert self.looks(run) == []  # no model yet
        model(run, train)
        assert {i for i, _ in self.looks(run)} == set(train[:3])
        assert {kind for _, kind in self.looks(run)} == {DOUBT}
        for kind in (DOUBT, "uniform", "recheck"):  # once is enough; a blind check is never doubted
            assert train[1] not in {i for i, _ in self.looks(run, asked={train[1]: [kind]})}
        assert train[1] in {i for i, _ in self.looks(run, asked={train[1]: ["representative"]})}
        assert len(self.looks(run, 1)) == 1

    def test_labels_of_the_pool_are_nobodys_to_look_at_again(self, run):
        train = run.ids("train")[:60]
        label_table.add_answers(run.folder, [Answer(i, other(run.truth[i]), POOL, 0) for i in train[:10]], FINDINGS)
        say(run.folder, [Answer(i, run.truth[i], "Ann", 1) for i in train[10:]], FINDINGS)
        model(run, train)
        assert self.looks(run) == []

    def test_a_dispute_settled_by_a_third_reader_is_none(self, run):
        ids = run.ids("train")[:3]
        both_read(run, ids, wrong_bob=ids)
        say(run.folder, [Answer(ids[0], run.truth[ids[0]], "Cleo", 2), Answer(ids[1], NOT_CXR, "Cleo", 2)], FINDINGS)
        assert {i for i, _ in self.looks(run)} == {ids[1], ids[2]}

    def test_a_dispute_that_nobody_settles_is_asked_twice_and_makes_room(self, run):
        train = run.ids("train")[:3]
        both_read(run, train, wrong_bob=train)
        asked = {train[0]: [DISPUTE, DISPUTE], train[1]: [DISPUTE]}
        assert self.looks(run, asked=asked) == [(train[2], DISPUTE), (train[1], DISPUTE)]

    def test_rejected_against_a_class_is_a_dispute(self, run):
        (one,) = run.ids("train")[:1]
        both_read(run, [one], **{one: BAD_QUALITY})
        assert self.looks(run) == [(one, DISPUTE)]


class TestAgreement:
    def agreement(self, run, num_bootstrap=0):
        return agreement_report.agreement_of(run.folder, label_table.read(run.folder), FINDINGS, num_bootstrap)

    def test_who_settles_disputes_is_not_judged_by_them(self, run):
        """Her readings are of the scans on which two others differ; they are no independent sample of her work."""
        ids = run.ids("train")[:80]
        both_read(run, ids, wrong_bob=ids[:16])
        alone = self.agreement(run)
        asked(run, 2, ids[:16], DISPUTE)
        say(run.folder, [Answer(i, run.truth[i], "Senior", 2) for i in ids[:16]], FINDINGS)
        say(run.folder, [Answer(i, run.truth[i], "Bob", 2) for i in ids[:4]], FINDINGS)
        found = self.agreement(run)
        assert found["share"] == alone["share"] and found["intra"] == [] and found["suspects"] == []
        assert [row["annotators"] for row in found["pairs"]] == [["Ann", "Bob"]]
        assert (
            verdicts.expert_classes(label_table.read(run.folder), FINDINGS)[ids[5]] == run.truth[ids[5]]
        )  # yet it settles

    def test_nobody_has_answered(self, run):
        assert self.agreement(run) is None
        label_table.add_answers(run.folder, [Answer(run.ids("train")[0], "normal", POOL, 0)], FINDINGS)
        assert self.agreement(run) is None

    def test_by_hand(self, run):
        """Ten scans read by both: 4 both normal, 3 both pneumonia, 2 normal against pneumonia, 1 the other way.

        Observed 0.7; Ann says normal 6 times, Bob 5: expected 0.6 * 0.5 + 0.4 * 0.5 = 0.5, Cohen's kappa 0.4.
        Normal is named 11 of 20 times: expected 0.55² + 0.45² = 0.505, Fleiss' kappa 0.195 / 0.495.
        Krippendorff's alpha: 1 - 0.3 / (2 * 11 * 9 / (20 * 19)) = 1 - 0.3 * 380 / 198.
        """
        pairs = [("normal", "normal")] * 4 + [("pneumonia", "pneumonia")] * 3
        pairs += [("normal", "pneumonia")] * 2 + [("pneumonia", "normal")]
        ids = run.ids("train")[: len(pairs) + 2]
        for name, column in zip(READERS, zip(*pairs, strict=True), strict=True):
            say(run.folder, [Answer(i, r, name, 1) for i, r in zip(ids, column, strict=False)], FINDINGS)
        say(run.folder, [Answer(ids[-1], "normal", "Ann", 1), Answer(ids[-2], "normal", "Ann", 1)], FINDINGS)
        say(run.folder, [Answer(ids[-2], CANNOT_TELL, "Bob", 1)], FINDINGS)  # no reading
        found = self.agreement(run)
        assert (found["num_annotators"], found["share"]["num_scans"], found["share"]["num_readings"]) == (2, 10, 20)
        assert found["share"]["value"] == pytest.approx(0.7)
        assert found["fleiss"]["value"] == pytest.approx(0.195 / 0.495)
        assert found["krippendorff"]["value"] == pytest.approx(1 - 0.3 * 380 / 198)
        ((pair),) = found["pairs"]
        assert pair["annotators"] == ["Ann", "Bob"]
        assert pair["share"]["value"] == pytest.approx(0.7) and pair["cohen"]["value"] == pytest.approx(0.4)
        assert found["intra"] == [] and found["suspects"] == []
        again = self.agreement(run, 200)
        low, high = again["share"]["ci95"]
        assert low < 0.7 < high and again == self.agreement(run, 200)
        json.dumps(again, allow_nan=False)

    def test_first_readings_count_not_what_an_adjudication_made_of_them(self, run):
        ids = run.ids("train")[:4]
        both_read(run, ids, wrong_bob=ids)
        say(run.folder, [Answer(i, run.truth[i], "Bob", 2) for i in ids], FINDINGS)  # in the dispute of round 2
        found = self.agreement(run)
        assert found["share"]["value"] == 0.0
        read = reading_matrix.of_people(run.folder, label_table.read(run.folder), FINDINGS)
        assert read.annotators == READERS
        assert (read.first_NM[:, 0] != read.first_NM[:, 1]).all() and (
            read.latest_NM[:, 0] == read.latest_NM[:, 1]
        ).all()

    def test_a_correction_within_the_round_is_the_first_reading(self, run):
        ids = run.ids("train")[:4]
        both_read(run, ids, wrong_bob=ids)
        say(run.folder, [Answer(i, run.truth[i], "Bob", 1) for i in ids], FINDINGS)
        assert self.agreement(run)["share"]["value"] == 1.0

    def test_with_oneself_by_what_was_read_again(self, run):
        ids = run.ids("train")[:8]
        say(run.folder, [Answer(i, "normal", "Ann", 1) for i in ids], FINDINGS)
        say(
            run.folder,
            [Answer(i, r, "Ann", 2) for i, r in zip(ids, ["normal"] * 5 + ["pneumonia"] * 2, strict=False)],
            FINDINGS,
        )
        say(run.folder, [Answer(ids[7], CANNOT_TELL, "Ann", 2)], FINDINGS)
        ((mine),) = self.agreement(run)["intra"]
        assert (mine["annotator"], mine["share"]["num_scans"]) == ("Ann", 7)
        assert mine["share"]["value"] == pytest.approx(5 / 7)

    def test_the_annotator_who_is_wrong_is_named(self, run):
        rng = np.random.default_rng(0)
        ids = run.ids("train")
        for name, error in (("Ann", 0.02), ("Bob", 0.02), ("Cleo", 0.4)):
            given = [Answer(i, other(run.truth[i]) if rng.random() < error else run.truth[i], name, 1) for i in ids]
            say(run.folder, given, FINDINGS)
        assert [row["annotator"] for row in self.agreement(run)["suspects"]] == ["Cleo"]
