"""What the commands do with labels, and what the rounds make of several readers."""

import csv
import datetime as dt
import json
import os
from pathlib import Path

import pytest

from pipeline.annotate.handout_files import Wish
from pipeline.annotate.import_files import Who
from pipeline.commands import labels
from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, NOT_CXR, Answer
from pipeline.contracts.errors import InputError, RunBusy, RunDirError, WaitingForLabels
from pipeline.contracts.tables import PREDICTIONS, PSEUDO, QUEUE
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from pipeline.rounds import loop
from pipeline.runtime import run_dir, run_files
from pipeline.selection import draw
from pipeline.selection.draw import Proposals
from tests.support import waiting_run as waiting
from tests.support.people import say
from tests.support.synthetic_run import options
from tests.support.tiny import call, make_pool
from tests.support.waiting_run import FINDINGS, reading, send


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return waiting.waiting_run(tmp_path_factory.mktemp("labelling") / "run", rounds__num=2)


@pytest.fixture
def run(template, tmp_path):
    return waiting.moved(template, waiting.copy_of(template, tmp_path / "run"))


def answer(run, round_index=1, ids=None, name="Ann", **changed):
    """Somebody who knows the truth answers a queue, or a part of it."""
    ids = waiting.queue_ids(run.folder, round_index) if ids is None else ids
    given = [Answer(i, changed.get(i, run.truth[i]), name, round_index) for i in ids]
    return say(run.folder, given, FINDINGS)


def other(finding):
    return FINDINGS[1 - FINDINGS.index(finding)]


def train_ids(run, round_index=1):
    return [i for i in waiting.queue_ids(run.folder, round_index) if run.split[i] == "train"]


def kinds(run, round_index):
    return {row["image_id"]: row["kind"] for row in waiting.queue_rows(run.folder, round_index)}


class TestLogAndUndo:
    def test_through_the_commands(self, run, tmp_path):
        folder, queue = run.folder, waiting.queue_ids(run.folder)
        assert call("labels", "log", folder).out == "no labels have come in yet\n"
        assert call("labels", "log", folder, "--json").json == {"batches": []}
        for name, ids in (("full.json", queue[:4]), ("answers.csv", queue[4:10])):
            path = send(tmp_path / name, [reading(i, "normal", "ann@x.y") for i in ids], folder)
            found = call("labels", "import", folder, path, "--json").json
            assert found["num_new"] == len(ids) and found["mistakes"] == []
        first, second = call("labels", "log", folder, "--json").json["batches"]
        names = ("batch", "kind", "files", "annotators", "num_answers", "num_standing", "undone")
        assert {name: first[name] for name in names} == {
            "batch": "1",
            "kind": "import",
            "files": ["full.json"],
            "annotators": ["ann@x.y"],
            "num_answers": 4,
            "num_standing": 4,
            "undone": None,
        }
        assert (second["files"], second["num_standing"]) == (["answers.csv"], 6)

        found = call("labels", "undo", folder, "2", "--json").json
        assert found == {"batch": "2", "kind": "import", "files": ["answers.csv"], "num_undone": 6}
        assert verdicts.human_answers(label_table.read(folder)) == 4
        assert call("labels", "undo", folder, "1").out == "batch 1 (import): 4 answers taken back\n"
        assert verdicts.human_answers(label_table.read(folder)) == 0
        lines = call("labels", "log", folder).out.splitlines()
        assert "full.json; undone 20" in lines[0] and "ann@x.y" in lines[0] and "answers.csv; undone 20" in lines[1]
        for wrong, why in (("2", "was undone before"), ("9", "no such import"), ("x", "no such import")):
            refused = call("labels", "undo", folder, wrong)
            assert (refused.code, refused.out) == (2, "") and why in refused.message
        assert len(Journal.open(folder).entries) == 10  # on record, all of them

    def test_the_latest_is_undone_when_none_is_named(self, run, tmp_path):
        queue = waiting.queue_ids(run.folder)
        for n, name in enumerate(("full.json", "min.json")):
            taken(run.folder, send(tmp_path / name, [reading(queue[n], "normal")], run.folder))
        assert [labels.undo(run.folder)["batch"] for _ in range(2)] == ["2", "1"]
        with pytest.raises(InputError, match="no import stands that could be undone"):
            labels.undo(run.folder)

    def test_undoing_a_correction_brings_back_what_stood_before(self, run, tmp_path):
        (one,) = waiting.queue_ids(run.folder)[:1]
        for name, reply in (("answers.csv", "normal"), ("min.json", "pneumonia")):
            taken(run.folder, send(tmp_path / name, [reading(one, reply, "Ann")], run.folder), who=Who("Ann"))
        assert verdicts.latest(label_table.read(run.folder)) == {(one, "Ann"): "pneumonia"}
        labels.undo(run.folder, "2")
        assert verdicts.latest(label_table.read(run.folder)) == {(one, "Ann"): "normal"}

    def test_the_run_waits_again(self, run):
        answer(run)
        assert "round 2 waits" in waiting.waits(run)
        metrics = (run.folder / "metrics.jsonl").read_bytes()
        labels.undo(run.folder)
        assert "round 1 waits for 14 of 14 labels" in waiting.waits(run)
        answer(run)
        before = waiting.queue_ids(run.folder, 2)
        assert "round 2 waits" in waiting.waits(run)
        assert (run.folder / "metrics.jsonl").read_bytes() == metrics  # the same answers, the same round
        assert waiting.queue_ids(run.folder, 2) == before

    def test_while_a_run_is_at_work_nothing_is_undone(self, run):
        answer(run)
        with run_dir.locked(run.folder), pytest.raises(RunBusy, match="another process is working in this run"):
            labels.undo(run.folder)
        assert verdicts.human_answers(label_table.read(run.folder)) == len(Journal.open(run.folder).active()) == 14
        labels.undo(run.folder)
        assert verdicts.human_answers(label_table.read(run.folder)) == 0
        assert "14 of 14" in waiting.waits(run)

    def test_undo_after_the_classes_changed_is_loud(self, run):
        answer(run)
        with pytest.raises(InputError, match="outside the classes"):
            label_table.settle(run.folder, ("normal", "covid"))
        assert verdicts.human_answers(label_table.read(run.folder)) == 14

    @pytest.mark.parametrize("command", [("labels", "log"), ("labels", "undo"), ("queue", "export"), ("status",)])
    def test_not_a_run(self, tmp_path, command):
        found = call(*command, tmp_path / "absent")
        assert found.code == 2 and "is not a run directory" in found.message

    def test_a_run_that_has_not_begun(self, run):
        (run.folder / "splits.parquet").unlink()
        with pytest.raises(RunDirError, match="has not come to its queue yet"):
            labels.log_of(run.folder)


def taken(folder, *paths, who=Who()):  # noqa: B008 - frozen
    return labels.import_labels(folder, list(paths), who)


def test_the_import_command_tells_everything(run, tmp_path):
    queue = waiting.queue_ids(run.folder)
    sealed = next(i for i in run.ids("holdout") if i not in queue)
    rows = [
        (queue[0], "normal"),
        (queue[1], ""),
        (queue[2], "nromal"),
        (sealed, "normal"),
        (queue[3], "cannot tell"),
    ]
    path = tmp_path / "filled.csv"
    path.write_text("image_id,label\n" + "".join(f"{i},{reply}\n" for i, reply in rows))
    refused = call("labels", "import", run.folder, path, "--annotator", "Ann")
    assert (refused.code, refused.out) == (2, "")
    assert "2 rows cannot be used" in refused.message and "filled.csv:5" in refused.message
    found = call("labels", "import", run.folder, path, "--annotator", "Ann", "--skip-mistakes")
    assert "2 new answers, 0 known already, 1 rows blank, 2 rows left out, 0 scans in dispute" in found.out
    assert "left out: filled.csv:4: unknown finding 'nromal'" in found.err and "sealed holdout" in found.err
    assert sealed not in verdicts.votes(label_table.read(run.folder))
    wrong = call("labels", "import", run.folder, path, "--annotator", "=1+1")
    assert wrong.code == 2 and "is no annotator's name" in wrong.message


class TestSeveralReaders:
    @pytest.fixture
    def double(self, tmp_path):
        return waiting.waiting_run(
            tmp_path / "double", queue__readers_per_scan=2, queue__second_look_share=0.2, rounds__num=2
        )

    def test_the_run_waits_for_both(self, double):
        assert "round 1 waits for 28 of 28 labels" in waiting.waits(double)
        answer(double)
        answer(double)  # the same person again is no second reader
        assert "round 1 waits for 14 of 28 labels" in waiting.waits(double)
        answer(double, name="Bob", ids=waiting.queue_ids(double.folder)[:13])
        assert "round 1 waits for 1 of 28 labels" in waiting.waits(double)
        answer(double, name="Cleo", ids=waiting.queue_ids(double.folder)[13:])
        assert "round 2 waits for 20 of 20 labels" in waiting.waits(double)

    def test_a_dispute_comes_back_and_its_answer_settles_it(self, double):
        answer(double)
        (one,) = train_ids(double)[:1]
        answer(double, name="Bob", **{one: other(double.truth[one])})
        assert "round 2 waits for 19 of 19 labels" in waiting.waits(double)  # 9 new scans twice, the dispute once
        assert kinds(double, 2)[one] == "dispute" and len(kinds(double, 2)) == 10
        assert json.loads((double.folder / "rounds/01/metrics.json").read_text())["num_expert"] == 9
        new = [i for i, kind in kinds(double, 2).items() if kind != "dispute"]
        for name in ("Ann", "Bob"):
            answer(double, 2, new, name)
        answer(double, 1, [one], "Dan", **{one: CANNOT_TELL})  # an answer for round 1 is not asked for
        assert "round 2 waits for 1 of 19 labels" in waiting.waits(double)
        answer(double, 2, [one], "Cleo")
        assert waiting.waits(double) is None
        assert verdicts.disagreements(label_table.read(double.folder)) == []
        assert json.loads((double.folder / "rounds/02/metrics.json").read_text())["num_expert"] == 19

    def test_a_split_with_no_good_ones_is_a_dispute_and_most_decide(self, double):
        first, second = train_ids(double)[:2]
        answer(double, **{first: BAD_QUALITY, second: NOT_CXR})
        answer(double, name="Bob", **{second: NOT_CXR})
        waiting.waits(double)
        assert kinds(double, 2).get(first) == "dispute" and second not in kinds(double, 2)
        assert verdicts.rejections(label_table.read(double.folder)) == {second: NOT_CXR}


class TestBlindChecks:
    def test_rechecks_and_the_uniform_slice_certify_and_nothing_else(self, run):
        from pipeline.learn.pseudo_labels import blind_checks

        done = set(waiting.queue_ids(run.folder))
        proposals = Proposals({i: run.truth[i] for i in run.ids("train")[::2] if i not in done})
        drawn = draw.draw(options(run, queue__recheck_share=0.3), 2, done, proposals, strategy="typiclust")
        QUEUE.write(run.ctx.round_folder(2), drawn)
        rows = drawn.to_pylist()
        assert [row["kind"] for row in rows].count("recheck") == 3
        assert all(row["proposed"] for row in rows if row["kind"] == "recheck")
        blind = [row for row in rows if row["kind"] in ("uniform", "recheck") and row["proposed"]]
        answers = {row["image_id"]: run.truth[row["image_id"]] for row in rows}
        found, truth = blind_checks(run.folder, answers, FINDINGS, 2)
        assert found == truth == [row["proposed"] for row in blind]
        answers |= {blind[0]["image_id"]: None}  # who cannot tell counts against
        found, truth = blind_checks(run.folder, answers, FINDINGS, 2)
        assert [a == b for a, b in zip(found, truth, strict=True)] == [False] + [True] * (len(blind) - 1)


class TestNoGoodScans:
    def test_they_train_nothing_get_no_pseudo_label_and_are_not_asked_again(self, run):
        bad = train_ids(run)[:3]
        answer(run, **dict.fromkeys(bad, BAD_QUALITY))
        waiting.waits(run)
        folder = run.folder / "rounds" / "01"
        assert json.loads((folder / "metrics.json").read_text())["num_expert"] == 7
        assert not set(bad) & set(PSEUDO.read(folder)["image_id"].to_pylist())
        assert not set(bad) & set(waiting.queue_ids(run.folder, 2))
        assert PREDICTIONS.read(folder).num_rows == 70
        rows = [row for row in label_table.read(run.folder).to_pylist() if row["image_id"] in bad]
        assert {row["origin"] for row in rows} == {"expert"}

    @pytest.mark.parametrize("strategy", ["typiclust", "kmedoids"])
    def test_what_lies_nearest_to_one_is_no_representative(self, run, strategy):
        """Though the uniform slice, which measures, may draw it."""
        pool = draw.selection_pool(run.ctx, set())
        row = {image_id: n for n, image_id in enumerate(pool.ids_N.tolist())}
        good, bad = (next(i for i in row if run.truth[i] == finding) for finding in FINDINGS)

        def beside(image_id):
            near = pool.unit_ND[row[image_id]]
            return near @ pool.unit_ND[row[bad]] > near @ pool.unit_ND[row[good]]

        def chosen(**more):
            drawn = draw.draw(run.ctx, 2, {good, bad}, Proposals({}), strategy=strategy, **more).to_pylist()
            return [r["image_id"] for r in drawn if r["kind"] == "representative"]

        assert len(chosen(rejected={bad})) == 8 and not [i for i in chosen(rejected={bad}) if beside(i)]
        assert [i for i in chosen() if beside(i)]

    def test_when_nothing_else_is_left_they_are_asked_after_all(self, run):
        ids = train_ids(run)
        drawn = draw.draw(run.ctx, 2, set(ids), Proposals({}), strategy="typiclust", rejected=set(ids))
        assert len(drawn) == run.ctx.config.queue.budget


def test_a_run_of_two_rounds_through_files(run, tmp_path):
    """Export to two annotators, fill, import, resume: every label once, under its own name."""
    folder = run.folder
    for round_index in (1, 2):
        found = call(
            "queue", "export", folder, "--annotator", "Ann", "--annotator", "Bob", "--format", "csv", "--json"
        ).json
        for paths in found["files"].values():
            path = Path(paths[0])
            lines = path.read_text("utf-8").splitlines()
            filled = [line.replace(".png,,", f".png,{run.truth[line.split(',')[0]]},") for line in lines[1:]]
            path.write_text("\n".join([lines[0], *filled]) + "\n", "utf-8")
            assert call("labels", "import", folder, path).code == 0
        said = waiting.waits(run)
        assert (said is None) == (round_index == 2)
    given = [one.answer for one in Journal.open(folder).active()]
    assert len({(a.image_id, a.annotator, a.round_index) for a in given}) == len(given)
    queue = {i for r in (1, 2) for i in QUEUE.read(folder / "rounds" / f"{r:02d}")["image_id"].to_pylist()}
    assert {a.image_id for a in given} == queue == set(run_files.asked(folder))
    assert {a.annotator for a in given} == {"Ann", "Bob"}
    assert {a.image_id: a.reply for a in given} == {i: run.truth[i] for i in queue}
    with pytest.raises(WaitingForLabels):
        labels.undo(folder)
        loop.run(run.ctx)


def table(path, readings, folder):
    """A filled table of any name."""
    return waiting.as_csv(path, readings, run_files.run_code(folder))


def test_undo_frees_every_file_that_leaned_on_it(run, tmp_path):
    """The second file repeats the first; taking the first back must not leave its answers out for good."""
    queue = waiting.queue_ids(run.folder)
    one = table(tmp_path / "one.csv", [reading(i, "normal") for i in queue[:3]], run.folder)
    two = table(tmp_path / "two.csv", [reading(i, "normal") for i in queue[:5]], run.folder)
    assert [labels.import_labels(run.folder, [path], Who())["num_new"] for path in (one, two)] == [3, 2]
    assert labels.undo(run.folder, "1")["num_undone"] == 3
    assert labels.import_labels(run.folder, [two], Who())["num_new"] == 3
    assert {i for i, _ in verdicts.latest(label_table.read(run.folder))} == set(queue[:5])


def test_an_import_that_brought_nothing_is_not_what_undo_means(run, tmp_path):
    queue = waiting.queue_ids(run.folder)
    one = table(tmp_path / "one.csv", [reading(i, "normal") for i in queue[:3]], run.folder)
    less = table(tmp_path / "less.csv", [reading(i, "normal") for i in queue[:2]], run.folder)
    for path in (one, less):
        labels.import_labels(run.folder, [path], Who())
    assert labels.undo(run.folder)["num_undone"] == 3


def test_a_name_is_one_person_however_it_is_spelt(run, tmp_path):
    queue = waiting.queue_ids(run.folder)
    for name, ids in (("Ann Lee", queue[:2]), ("ann lee", queue[1:3])):
        path = table(tmp_path / f"{name}.csv", [reading(i, "normal", name) for i in ids], run.folder)
        labels.import_labels(run.folder, [path], Who())
    assert set(verdicts.latest(label_table.read(run.folder))) == {(i, "Ann Lee") for i in queue[:3]}


def test_of_an_older_and_a_newer_export_the_newer_counts(run, tmp_path):
    image_id = waiting.queue_ids(run.folder)[0]
    later = waiting.WHEN + dt.timedelta(hours=1)
    old = table(tmp_path / "old.csv", [reading(image_id, "normal")], run.folder)
    new = table(tmp_path / "new.csv", [reading(image_id, "pneumonia", time=later)], run.folder)
    for order in ((old, new), (new, old)):
        folder = waiting.copy_of(run, tmp_path / order[0].stem)
        found = labels.import_labels(folder, list(order), Who())
        assert (found["num_new"], found["num_older"]) == (1, 1)
        assert set(verdicts.latest(label_table.read(folder)).values()) == {"pneumonia"}


def test_a_list_that_grew_does_not_overwrite_a_filled_one(run):
    folder, queue = run.folder, waiting.queue_ids(run.folder)
    wish = Wish(("Ann", "Bob"), ("csv",))
    path = Path(labels.export_queue(folder, wish)["files"]["Ann"][0])
    filled = path.read_text("utf-8").replace(".png,,", ".png,normal,", 1)
    path.write_text(filled, "utf-8")
    (again,) = labels.export_queue(folder, Wish(("Ann",), ("csv",), reassign=True))["files"]["Ann"]
    assert path.read_text("utf-8") == filled and Path(again).name == "queue.new.csv"
    told = {
        r["image_id"] for sheet in (path, again) for r in csv.DictReader(Path(sheet).read_text("utf-8").splitlines())
    }
    assert told == set(queue)


def test_an_old_row_in_a_new_file_does_not_undo_a_correction(run, tmp_path):
    """She fills half a sheet, corrects one answer at the page, fills the rest of the same sheet."""
    queue = waiting.queue_ids(run.folder)
    half = [reading(i, "normal", time=None) for i in queue[:4]]
    labels.import_labels(run.folder, [table(tmp_path / "half.csv", half, run.folder)], Who())
    say(run.folder, [Answer(queue[0], "pneumonia", "Ann", 1)], FINDINGS)
    full = [reading(i, "normal", time=None) for i in queue[:8]]
    found = labels.import_labels(run.folder, [table(tmp_path / "full.csv", full, run.folder)], Who())
    assert (found["num_new"], found["num_known"], found["num_older"]) == (4, 3, 1)
    assert verdicts.latest(label_table.read(run.folder))[queue[0], "Ann"] == "pneumonia"


def test_two_readers_may_give_the_same_file(run, tmp_path):
    path = tmp_path / "queue.csv"
    path.write_text("image_id,label\n" + "".join(f"{i},normal\n" for i in waiting.queue_ids(run.folder)), "utf-8")
    for name in ("lee", "kim"):
        assert labels.import_labels(run.folder, [path], Who(name))["num_new"] == 14
    assert labels.import_labels(run.folder, [path], Who("kim"))["num_new"] == 0


def test_names_of_files_that_cannot_be_written_down(run, tmp_path):
    ids = waiting.queue_ids(run.folder)
    for n, name in enumerate((b"bad\xff.csv", b"x" * 245 + b".csv")):
        path = tmp_path / os.fsdecode(name)
        table(path, [reading(ids[n], "normal")], run.folder)
        assert labels.import_labels(run.folder, [path], Who())["num_new"] == 1
    assert len(list((run.folder / run_files.IMPORTS).iterdir())) == 2


def test_who_else_is_needed_is_said(tmp_path):
    double = waiting.waiting_run(tmp_path / "double", queue__readers_per_scan=2)
    folder = double.folder
    say(folder, [Answer(i, double.truth[i], "lee", 1) for i in waiting.queue_ids(folder)], FINDINGS)
    run_dir.write_status(folder, "waiting", "rounds", 1)
    assert "14 scans need another reader than lee" in call("status", folder).out
    refused = call("queue", "export", folder, "--annotator", "lee")
    assert refused.code == 2 and "the 14 open scans need another reader" in refused.err
    found = call("queue", "export", folder, "--annotator", "lee", "--annotator", "kim", "--json").json
    assert found["num_scans"] == {"kim": 14}


def test_a_class_may_not_be_called_as_an_answer_without_one(tmp_path):
    pool = make_pool(tmp_path / "pool", num=8)
    answered = call("run", "--pool", pool, "--out", tmp_path / "run", "--set", "pool.findings=[normal, Bad quality]")
    assert answered.code == 2
