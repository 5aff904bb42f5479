"""The desk behind the page: every answer on disk, once, whoever else is at work."""

import errno
import os
import threading
import time
import uuid
from types import SimpleNamespace

import pytest

from pipeline.annotate import label_sync, worklist
from pipeline.annotate import page_session as module
from pipeline.annotate.import_files import Who
from pipeline.annotate.page import reservations
from pipeline.annotate.page_session import Desk
from pipeline.commands import labels
from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, POOL, Answer
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.labels import journal as journal_module
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from pipeline.runtime import run_dir, run_files
from tests.support import waiting_run as waiting
from tests.support.people import say
from tests.support.synthetic_run import options
from tests.support.waiting_run import FINDINGS, reading, send


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return waiting.waiting_run(
        tmp_path_factory.mktemp("desk") / "run", scans_per_patient=2, queue__reread_share=0.5, queue__budget=12
    )


@pytest.fixture(scope="module")
def later(template, tmp_path_factory):
    """The run in round 2; Ann answered the first one."""
    folder = waiting.copy_of(template, tmp_path_factory.mktemp("later") / "run")
    say(folder, [Answer(i, template.truth[i], "Ann", 1) for i in waiting.queue_ids(folder)], FINDINGS)
    run = waiting.moved(template, folder)
    waiting.waits(run)
    return run


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    return waiting.waiting_run(tmp_path_factory.mktemp("double") / "run", queue__readers_per_scan=2)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return waiting.waiting_run(tmp_path_factory.mktemp("two") / "run", queue__design="two_and_adjudicator")


@pytest.fixture
def clock(monkeypatch):
    found = SimpleNamespace(now=1000.0)
    found.time = lambda: found.now
    monkeypatch.setattr(reservations, "time", found)
    return found


@pytest.fixture
def sit(tmp_path, monkeypatch, clock):
    """Open a desk at a copy of a run; it is closed when the test ends."""
    monkeypatch.setattr(label_sync, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(label_sync, "LONGEST_REST_SECONDS", 0.0)
    desks = []

    def open_(run, folder=None, **more):
        folder = folder or waiting.copy_of(run, tmp_path / f"run{len(desks)}")
        desks.append(Desk(folder, run.ctx.config, FINDINGS, **more))
        return desks[-1]

    yield open_
    for desk in desks:
        desk.close()


@pytest.fixture
def desk(template, sit):
    return sit(template)


def ids(tasks):
    return [task.image_id for task in tasks]


def give(desk, name, image_id, reply="normal", key=None, **more):
    said = {"certainty": None, "seconds": 2.0} | more
    desk.answer(name, image_id, reply, said["certainty"], said["seconds"], key or f"{name}-{image_id}-{reply}")


def standing(desk):
    return [(one.answer.annotator, one.answer.image_id) for one in Journal.open(desk.folder).active()]


def work(desk, name, num=99, reply="normal"):
    """Answer up to `num` scans, one after the other; which."""
    done = []
    while len(done) < num and (tasks := desk.next(name, 1, [])):
        give(desk, name, tasks[0].image_id, reply, key=uuid.uuid4().hex)
        done.append(tasks[0].image_id)
    return done


def until(true):
    """Wait for what a thread does; fails when it never comes."""
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    pytest.fail("it never came")


class TestAnswers:
    def test_one_after_the_other_until_nothing_is_left(self, desk):
        queue = waiting.queue_ids(desk.folder)
        done = work(desk, "Ann")
        assert sorted(done) == sorted(queue) and desk.next("Ann", 5, []) == []
        found = desk.progress("Ann")
        assert (found.done, found.left, found.team_done, found.team_total) == (16, 0, 16, 16)
        assert found.seconds_per_scan == 2.0
        assert standing(desk) == [("Ann", image_id) for image_id in done]
        first = Journal.open(desk.folder).active()[0].answer
        assert (first.reply, first.round_index, first.seconds, first.certainty) == ("normal", 1, 2.0, None)

    def test_tasks_are_numbered_and_tell_nothing(self, desk):
        tasks = desk.next("Ann", 4, [])
        assert [task.number for task in tasks] == [1, 2, 3, 4]
        assert {task.reason for task in tasks} == {None}
        assert ids(desk.next("Ann", 4, ids(tasks[:2])))[:2] == ids(tasks[2:])
        assert [task.number for task in desk.next("Ann", 2, ids(tasks[:2]))] == [3, 4]

    def test_why_is_told_on_request_but_never_what_would_give_away_the_model(self, template, sit):
        desk = sit(template, blind=False)
        kinds = {row["image_id"]: row["kind"] for row in waiting.queue_rows(desk.folder)}
        reasons = {kinds[task.image_id]: task.reason for task in desk.next("Ann", 16, [])}
        assert reasons["holdout"] is None
        assert reasons["uniform"] == "drawn at random from the whole pool"
        assert reasons["representative"].startswith("stands for cluster ")

    def test_a_repeated_key_changes_nothing(self, desk):
        one, other = ids(desk.next("Ann", 2, []))
        give(desk, "Ann", one, key="key-1")
        before = (desk.folder / run_files.ANSWERS).read_bytes()
        give(desk, "Ann", one, key="key-1")
        for strange in ((other, "normal"), (one, "pneumonia")):
            with pytest.raises(InputError, match="another answer came under this key"):
                give(desk, "Ann", *strange, key="key-1")
        assert (desk.folder / run_files.ANSWERS).read_bytes() == before

    def test_a_changed_mind_is_a_correction(self, desk):
        (one,) = ids(desk.next("Ann", 1, []))
        give(desk, "Ann", one)
        give(desk, "Ann", one, BAD_QUALITY, certainty="unsure")
        desk.close()
        table = label_table.read(desk.folder)
        assert verdicts.latest(table) == {(one, "Ann"): BAD_QUALITY}
        assert desk.progress("Ann").done == 1

    @pytest.mark.parametrize("wrong", ["", "nromal", "<script>", "normal pneumonia", "pool"])
    def test_what_is_no_answer_is_refused(self, desk, wrong):
        (one,) = ids(desk.next("Ann", 1, []))
        with pytest.raises(InputError, match="is no answer"):
            give(desk, "Ann", one, wrong)
        with pytest.raises(InputError, match="is no answer"):
            give(desk, "Ann", one, certainty="quite")
        assert standing(desk) == [] and not (desk.folder / run_files.ANSWERS).exists()

    def test_a_scan_nobody_asked_for_is_refused(self, template, desk):
        queue = set(waiting.queue_ids(desk.folder))
        strange = [i for i in template.truth if i not in queue][:3]
        for image_id in [*strange, "0" * 16, "../scan.png", ""]:
            with pytest.raises(InputError, match="nobody asked for this scan") as refused:
                give(desk, "Ann", image_id)
            assert str(desk.folder) not in str(refused.value)
        assert standing(desk) == []

    def test_names(self, desk):
        assert desk.enter("  Dr.  Lee ") == "Dr. Lee"
        for name in ("", "pool", "<b>x</b>", "../x"):
            with pytest.raises(InputError):
                desk.enter(name)

    def test_a_full_disk_says_so_and_the_next_answer_works(self, desk, monkeypatch):
        one, other = ids(desk.next("Ann", 2, []))

        def full(descriptor, data):
            os.write(descriptor, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "_write_all", full)
            patch.setattr(journal_module, "now", lambda: waiting.WHEN)
            for name in ("Ann", "Bob"):
                with pytest.raises(OSError, match="No space left"):
                    give(desk, name, one)
        assert standing(desk) == [] and desk.progress("Ann").done == 0
        monkeypatch.setattr(journal_module, "now", lambda: waiting.WHEN)  # within a millisecond
        give(desk, "Bob", other)
        give(desk, "Ann", one)
        found = Journal.open(desk.folder)
        assert standing(desk) == [("Bob", other), ("Ann", one)]
        assert len({one.batch for one in found.active()}) == len(found.batches) == 2  # a sitting each

    def test_a_sitting_that_could_not_begin_is_not_mixed_with_an_import(self, desk, tmp_path, monkeypatch):
        """Undoing the import would take answers of the page with it."""
        one, other = ids(desk.next("Ann", 2, []))

        def full(descriptor, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(journal_module, "_write_all", full)
            give(desk, "Ann", one)
        labels.import_labels(
            desk.folder, [send(tmp_path / "full.json", [reading(other, "normal", "b@x.y")], desk.folder)], Who()
        )
        give(desk, "Ann", one)
        labels.undo(desk.folder, "1")
        assert standing(desk) == [("Ann", one)]

    def test_the_disk_cannot_be_written_at_all(self, desk, monkeypatch):
        (one,) = ids(desk.next("Ann", 1, []))

        def forbidden(*args, **options):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        with monkeypatch.context() as patch, pytest.raises(OSError, match="Permission denied"):
            patch.setattr(journal_module.os, "open", forbidden)
            give(desk, "Ann", one)
        give(desk, "Ann", one)
        assert standing(desk) == [("Ann", one)]


class TestUndo:
    def test_takes_back_her_latest_answer_and_shows_the_scan_again(self, desk):
        one, other = work(desk, "Ann", 2)
        give(desk, "Bob", ids(desk.next("Bob", 1, []))[0])
        task = desk.undo("Ann", "undo-1")
        assert (task.image_id, task.number) == (other, 2)
        assert ("Ann", other) not in standing(desk) and ("Ann", one) in standing(desk)
        assert desk.progress("Ann").done == 1
        give(desk, "Ann", other, "pneumonia")
        assert desk.progress("Ann").done == 2

    def test_a_repeated_request_undoes_once(self, desk):
        done = work(desk, "Ann", 3)
        assert [desk.undo("Ann", "undo-1").image_id for _ in range(3)] == [done[2]] * 3
        assert len(standing(desk)) == 2
        assert desk.undo("Ann", "undo-2").image_id == done[1]
        assert desk.undo("Ann", "undo-3").image_id == done[0]
        assert desk.undo("Ann", "undo-4") is None
        assert standing(desk) == []

    def test_a_late_copy_of_an_undone_answer_does_not_bring_it_back(self, desk):
        (one,) = ids(desk.next("Ann", 1, []))
        give(desk, "Ann", one, key="key-1")
        desk.undo("Ann", "undo-1")
        give(desk, "Ann", one, key="key-1")
        assert standing(desk) == []

    def test_nobody_elses_and_nothing_where_there_is_none(self, desk):
        work(desk, "Ann", 1)
        assert desk.undo("Bob", "undo-1") is None
        assert len(standing(desk)) == 1

    def test_the_scan_is_not_given_to_somebody_else_meanwhile(self, desk):
        (done,) = work(desk, "Ann", 1)
        desk.undo("Ann", "undo-1")
        assert done not in ids(desk.next("Bob", 99, []))

    def test_it_survives_a_restart(self, template, desk, sit):
        done = work(desk, "Ann", 3)
        desk.undo("Ann", "undo-1")
        again = sit(template, desk.folder)
        assert again.undo("Ann", "undo-1").image_id == done[2] and len(standing(again)) == 2
        give(again, "Ann", done[2], key="x")
        assert again.progress("Ann").done == 3 and work(again, "Ann", 1)[0] not in done


class TestTogether:
    def test_scans_on_somebodys_screen_are_not_given_to_others(self, desk):
        ann, bob = ids(desk.next("Ann", 5, [])), ids(desk.next("Bob", 5, []))
        assert not set(ann) & set(bob)
        assert set(ids(desk.next("Cleo", 99, []))) == set(waiting.queue_ids(desk.folder)) - {*ann, *bob}
        assert desk.next("Dan", 99, []) == []
        assert ids(desk.next("Ann", 5, [])) == ann

    def test_a_reservation_lapses_unless_renewed(self, desk, clock):
        ann = ids(desk.next("Ann", 3, []))
        clock.now += reservations.RESERVED_SECONDS - 1
        assert not set(ann) & set(ids(desk.next("Bob", 99, [])))
        desk.next("Ann", 1, ann)  # her page asks for more, with these on her screen
        clock.now += reservations.RESERVED_SECONDS - 1
        assert not set(ann) & set(ids(desk.next("Bob", 99, [])))
        clock.now += 2
        assert set(ann) <= set(ids(desk.next("Bob", 99, [])))
        give(desk, "Ann", ann[0])  # late, and kept all the same
        give(desk, "Bob", ann[0])
        assert len(standing(desk)) == 2

    def test_a_page_started_again_knows_whose_screen_a_scan_is_on(self, template, desk, sit, clock):
        ann = ids(desk.next("Ann", 5, []))
        again = sit(template, desk.folder)
        assert not set(ann) & set(ids(again.next("Bob", 99, [])))
        clock.now += reservations.RESERVED_SECONDS + 1
        assert set(ann) <= set(ids(again.next("Bob", 99, [])))

    @pytest.mark.parametrize("damaged", [b"", b"[1]", b'{"a": 1}', b'{"a": {"Ann": "x"}}', b"[" * 9999, b"\xff"])
    def test_a_damaged_list_of_screens_is_none(self, template, desk, sit, damaged):
        (desk.folder / run_files.ON_SCREEN).write_bytes(damaged)
        assert len(sit(template, desk.folder).next("Bob", 99, [])) == len(waiting.queue_ids(desk.folder))

    def test_two_readers_of_every_scan(self, double, sit):
        desk = sit(double)
        queue = set(waiting.queue_ids(desk.folder))
        assert set(work(desk, "Ann")) == queue and desk.next("Ann", 1, []) == []
        found = desk.progress("Ann")
        assert (found.left, found.team_done, found.team_total) == (0, 0, 14)
        assert set(work(desk, "Bob")) == queue
        assert desk.next("Cleo", 99, []) == []
        assert desk.progress("Cleo").team_done == 14

    def test_a_scan_on_as_many_screens_as_it_has_readers_is_given_to_nobody_else(self, double, sit, clock):
        desk = sit(double)
        assert len(desk.next("Ann", 14, [])) == len(desk.next("Bob", 14, [])) == 14
        assert desk.next("Cleo", 14, []) == []
        clock.now += reservations.RESERVED_SECONDS + 1
        assert len(desk.next("Cleo", 14, [])) == 14

    def test_the_last_reading_is_offered_to_one_at_a_time(self, double, sit):
        desk = sit(double)
        work(desk, "Ann")
        bob = set(ids(desk.next("Bob", 14, [])))  # at once: what Ann has answered is on her screen no longer
        assert len(bob) == 14 and desk.next("Cleo", 14, []) == []

    @pytest.mark.parametrize("readers", [1, 2])
    def test_threads_lose_and_double_nothing(self, template, double, sit, readers):
        desk = sit(template if readers == 1 else double)
        names, errors = [f"r{i}" for i in range(5)], []

        def sitting(name):
            try:
                work(desk, name)
            except Exception as error:  # noqa: BLE001 - told below
                errors.append(error)

        threads = [threading.Thread(target=sitting, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        given = standing(desk)
        assert len(given) == len(set(given))
        for image_id in waiting.queue_ids(desk.folder):
            assert sum(i == image_id for _, i in given) == readers
        desk.close()
        assert len(verdicts.latest(label_table.read(desk.folder))) == len(given)

    def test_what_was_handed_out_in_files_comes_first_and_others_last(self, template, sit):
        from pipeline.annotate.handout_files import Wish

        desk = sit(template)
        labels.export_queue(desk.folder, Wish(("Ann", "Bob"), ("csv",)))
        desk = sit(template, desk.folder)
        share = {
            name: {i for i, who in module.assignments.holders(desk.folder, 1).items() if name in who}
            for name in ("Ann", "Bob")
        }
        order = ids(desk.next("Ann", 16, []))
        assert set(order[:8]) == share["Ann"] and set(order[8:]) == share["Bob"]


class TestOtherProcesses:
    def test_an_import_and_its_undo_are_noticed(self, desk, tmp_path):
        queue = waiting.queue_ids(desk.folder)
        shown = ids(desk.next("b@x.y", 3, []))
        path = send(tmp_path / "full.json", [reading(i, "normal", "a@x.y") for i in queue[:10]], desk.folder)
        batch = labels.import_labels(desk.folder, [path], Who())["batch"]
        assert set(ids(desk.next("b@x.y", 99, []))) == set(queue[10:])
        assert desk.progress("a@x.y").done == desk.progress("b@x.y").team_done == 10
        labels.undo(desk.folder, batch)
        assert desk.progress("b@x.y").team_done == 0
        assert set(ids(desk.next("b@x.y", 99, []))) == set(queue) and set(shown) <= set(queue)

    def test_her_own_sitting_undone_begins_a_new_one(self, desk):
        work(desk, "Ann", 2)
        labels.undo(desk.folder, "1")
        assert desk.progress("Ann").done == 0
        (done,) = work(desk, "Ann", 1)
        assert standing(desk) == [("Ann", done)]
        assert {one.batch for one in Journal.open(desk.folder).active()} == {"2"}

    def test_two_desks_at_one_run(self, template, desk, sit):
        other = sit(template, desk.folder)
        done = work(desk, "Ann", 3)
        assert not set(done) & set(ids(other.next("Bob", 99, [])))
        give(other, "Ann", work(other, "Bob", 1)[0])
        assert desk.progress("Ann").done == 4
        assert desk.undo("Ann", "u").image_id == other.undo("Ann", "u").image_id

    def test_a_queue_drawn_meanwhile(self, template, desk):
        folder = desk.folder
        first = waiting.queue_ids(folder)
        shown = desk.next("Bob", 1, [])
        say(folder, [Answer(i, template.truth[i], "Ann", 1) for i in first], FINDINGS)
        assert desk.title == "Round 1" and desk.next("Bob", 9, []) == []
        assert "round 2 waits" in waiting.waits(waiting.moved(template, folder))
        second = waiting.queue_ids(folder, 2)
        assert set(ids(desk.next("Bob", 99, []))) == set(second)
        assert desk.title == "Round 2"
        found = desk.progress("Ann")
        assert (found.done, found.team_total) == (0, 12)
        give(desk, "Bob", shown[0].image_id)  # was on the screen when the round changed: kept, for the round that asked
        (late,) = [one.answer for one in Journal.open(folder).active() if one.answer.annotator == "Bob"]
        assert late.round_index == 1

    def test_a_label_the_pool_brings_later_is_an_answer_too(self, template, desk, sit):
        queue = waiting.queue_ids(desk.folder)
        label_table.add_answers(desk.folder, [Answer(queue[0], "normal", POOL, 0)], FINDINGS)
        again = sit(template, desk.folder)
        assert again.progress("Ann").team_done == 1
        assert set(ids(again.next("Ann", 99, []))) == set(queue[1:])


class TestRereads:
    @pytest.fixture
    def second(self, later, sit):
        """A desk of that round."""
        return sit(later)

    def test_her_own_come_again_among_the_new_and_nobody_elses(self, second):
        first, new = set(waiting.queue_ids(second.folder)), set(waiting.queue_ids(second.folder, 2))
        sealed = {row["image_id"] for row in waiting.queue_rows(second.folder) if row["kind"] == "holdout"}
        done = work(second, "Ann")
        again = [i for i in done if i in first]
        assert len(again) == worklist.num_rereads("Ann", 2, len(new) - 1, 0.5) > 1
        assert not set(again) & sealed
        assert done[0] in new and done[-1] in new
        assert set(work(second, "Bob")) <= new

    def test_the_progress_never_tells_which_scan_is_one(self, second):
        """Before and after every answer, the sum of done and left is the same."""
        found = second.progress("Ann")
        totals = {found.done + found.left}
        while tasks := second.next("Ann", 1, []):
            assert tasks[0].number == second.progress("Ann").done + 1
            give(second, "Ann", tasks[0].image_id)
            found = second.progress("Ann")
            totals.add(found.done + found.left)
        assert len(totals) == 1 and found.left == 0

    def test_they_are_answers_of_their_own_of_the_later_round(self, second):
        first = set(waiting.queue_ids(second.folder))
        done = work(second, "Ann", 99, "pneumonia")
        again = [i for i in done if i in first]
        rounds = {
            (one.answer.image_id, one.answer.round_index): one.answer.reply
            for one in Journal.open(second.folder).active()
            if one.answer.image_id in again
        }
        assert len(rounds) == 2 * len(again) > 2
        assert {rounds[i, 2] for i in again} == {"pneumonia"}
        found = second.progress("Ann")
        assert (found.done, found.team_done) == (len(done), len(done) - len(again))  # the team's queue lacks them

    def test_one_on_her_screen_is_not_shown_twice(self, second):
        tasks = ids(second.next("Ann", 8, []))
        assert len(set(tasks)) == 8
        more = ids(second.next("Ann", 8, tasks))
        assert not set(more) & set(tasks)

    def test_undo_takes_the_later_answer_alone(self, second):
        first = set(waiting.queue_ids(second.folder))
        done = []
        while not done or done[-1] not in first:
            done += work(second, "Ann", 1)
        assert second.undo("Ann", "u").image_id == done[-1]
        rounds = [o.answer.round_index for o in Journal.open(second.folder).active() if o.answer.image_id == done[-1]]
        assert rounds == [1]
        assert done[-1] in ids(second.next("Ann", 3, []))

    def test_undo_takes_back_what_it_is_told_to(self, second):
        """Not what an import, or another device, has brought in since."""
        one, other = work(second, "Ann", 2)
        keys = {o.answer.image_id: o.key for o in Journal.open(second.folder).active() if o.answer.round_index == 2}
        say(second.folder, [Answer(i, "normal", "Ann", 2) for i in ids(second.next("Bob", 2, []))], FINDINGS)
        assert second.undo("Ann", "first", keys[one]).image_id == one
        assert second.undo("Ann", "again", keys[one]).image_id == one  # asked twice, done once
        assert second.undo("Ann", "latest").image_id == other
        assert second.undo("Bob", "none", keys[other]) is None
        standing = [o.answer for o in Journal.open(second.folder).active() if o.answer.round_index == 2]
        assert len(standing) == 2 and not {one, other} & {answer.image_id for answer in standing}


class TestPictures:
    def test_of_the_queue_and_of_priors_alone(self, template, desk):
        from PIL import Image

        queue = waiting.queue_ids(desk.folder)
        assert Image.open(desk.picture(queue[0])).size == (32, 32)
        kin = {i: [o for o in template.truth if o != i and template.patient[o] == template.patient[i]] for i in queue}
        for image_id in queue:
            assert desk.priors("Ann", image_id) == kin[image_id]
        assert {task.num_priors for task in desk.next("Ann", 16, [])} == {1}
        prior = next(o for others in kin.values() for o in others if o not in queue)
        assert desk.picture(prior).parent == desk.folder / "priors"
        allowed = {*queue, *(o for others in kin.values() for o in others)}
        strangers = [i for i in template.truth if i not in allowed]
        assert strangers and {desk.picture(i) for i in strangers} == {None}
        for name in ("", "..", "../scan", "scan", f"{queue[0]}/../x", queue[0].upper() + "x", "\x00"):
            assert desk.picture(name) is None
            assert desk.priors("Ann", name) == []
        assert desk.priors("Ann", prior) == []

    def test_one_that_is_gone_is_made_again(self, desk):
        path = desk.picture(waiting.queue_ids(desk.folder)[0])
        before = path.read_bytes()
        path.unlink()
        assert desk.picture(path.stem).read_bytes() == before


class TestTable:
    def test_it_settles_by_itself(self, desk):
        done = work(desk, "Ann", 3)
        until(lambda: len(verdicts.latest(label_table.read(desk.folder))) == 3)
        assert set(verdicts.latest(label_table.read(desk.folder))) == {(i, "Ann") for i in done}
        desk.undo("Ann", "u")
        until(lambda: len(verdicts.latest(label_table.read(desk.folder))) == 2)

    def test_it_waits_while_a_run_is_at_work(self, desk):
        with run_dir.locked(desk.folder):
            work(desk, "Ann", 2)
            assert len(standing(desk)) == 2
            time.sleep(0.05)
            assert not (desk.folder / "labels.parquet").exists()
        until(lambda: len(verdicts.latest(label_table.read(desk.folder))) == 2)

    def test_closing_leaves_every_answer_in_the_table_or_says_nothing_when_a_run_is_at_work(self, template, sit):
        desk = sit(template)
        with run_dir.locked(desk.folder):
            work(desk, "Ann", 2)
            desk.close()
        label_table.settle(desk.folder, FINDINGS)
        assert len(verdicts.latest(label_table.read(desk.folder))) == 2

    def test_a_table_that_cannot_be_written_stops_nobody(self, desk, monkeypatch, caplog):
        def full(self, folder, table):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(type(label_table.LABELS), "write", full)
            work(desk, "Ann", 1)
            until(lambda: "the answers are safe in answers.jsonl" in caplog.text)
        work(desk, "Ann", 1)
        until(lambda: (desk.folder / "labels.parquet").exists())
        assert len(verdicts.latest(label_table.read(desk.folder))) == 2


def test_a_run_without_a_queue_has_no_desk(template, tmp_path):
    folder = waiting.copy_of(template, tmp_path / "run")
    (folder / "rounds" / "01" / "queue.parquet").unlink()
    with pytest.raises(InputError, match="has no queue yet"):
        Desk(folder, template.ctx.config, FINDINGS)


def test_a_spoilt_journal_is_loud(desk):
    work(desk, "Ann", 1)
    with (desk.folder / run_files.ANSWERS).open("ab") as stream:
        stream.write(b"garbage\n")
    for _ in range(2):
        with pytest.raises(RunDirError, match="is no event"):
            desk.next("Ann", 1, [])


def test_other_reread_shares(template, sit):
    run = options(template, queue__reread_share=0.0)
    desk = sit(template)
    desk.config = run.config
    first = waiting.queue_ids(desk.folder)
    say(desk.folder, [Answer(i, CANNOT_TELL, "Ann", 1) for i in first], FINDINGS)
    waiting.waits(waiting.moved(template, desk.folder))
    assert not set(work(desk, "Ann")) & set(first)
    assert run_files.latest_round(desk.folder) == 2


class TestAdjudication:
    def test_she_sees_the_differing_answers_and_decides(self, two, sit):
        desk = sit(two, adjudicators=("Dr Lee",))
        assert desk.next("Dr Lee", 9, []) == []  # nothing is in dispute
        scans = work(desk, "Ann")
        assert sorted(scans) == sorted(waiting.queue_ids(desk.folder)) and {*work(desk, "Bob", reply="pneumonia")} == {
            *scans
        }
        assert (desk.progress("Bob").left, desk.progress("Dr Lee").left) == (0, len(scans))
        first, *_ = tasks = desk.next("Dr Lee", 99, [])
        assert {task.differing for task in tasks} == {("normal", "pneumonia")} and len(tasks) == len(scans)
        assert desk.next("Ann", 9, []) == [] and desk.next("Cleo", 9, []) == []
        give(desk, "Dr Lee", first.image_id, "pneumonia", key="decision")
        progress = desk.progress("Dr Lee")
        assert (progress.done, progress.left, progress.team_done) == (1, len(scans) - 1, 1)
        assert Journal.open(desk.folder).active()[-1].answer.annotator == "Dr Lee (adjudicator)"
        desk.close()
        table = label_table.read(desk.folder)
        assert verdicts.expert_classes(table, FINDINGS)[first.image_id] == "pneumonia"
        assert desk.undo("Dr Lee", "undo-1").differing == ("normal", "pneumonia")
        assert desk.progress("Dr Lee").done == 0 and desk.undo("Dr Lee", "undo-2") is None  # never a reader's answer

    def test_a_reader_sees_nobody_elses_answer(self, two, sit):
        desk = sit(two)
        work(desk, "Ann", 3)
        assert {task.differing for task in desk.next("Bob", 99, [])} == {()}

    def test_a_file_may_break_a_tie(self, tmp_path):
        run = waiting.waiting_run(tmp_path / "run", queue__design="two_of_three")
        one = waiting.queue_ids(run.folder)[0]
        for name, reply in (("Ann", "normal"), ("Bob", "pneumonia"), ("Cleo", "normal")):
            file = send(tmp_path / "answers.csv", [reading(one, reply, name)], run.folder)
            labels.import_labels(run.folder, [file], Who())
        again = labels.import_labels(run.folder, [file], Who())
        assert (again["num_new"], again["num_known"]) == (0, 1)
        assert standing(SimpleNamespace(folder=run.folder))[-1] == ("Cleo (third reader)", one)
        assert verdicts.expert_classes(label_table.read(run.folder), FINDINGS)[one] == "normal"
