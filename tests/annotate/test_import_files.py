"""Files that came back: taken whole or not at all, every row that cannot be used told with its line."""

import datetime as dt
import errno
import io
import json
import os
import zipfile

import pytest

from pipeline.annotate import import_files
from pipeline.annotate.import_files import Scans, Who, harvest, refuse
from pipeline.annotate.label_studio import exports
from pipeline.commands import labels
from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, NOT_CXR, Answer
from pipeline.contracts.errors import InputError, RunBusy, RunDirError
from pipeline.labels import journal as journal_module
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from pipeline.runtime import run_dir, run_files
from tests.support import waiting_run as waiting
from tests.support.label_studio_server import ADMIN, EXPORTS, ROUND, RUN, SECOND
from tests.support.label_studio_server import FINDINGS as EXPORTED_FINDINGS
from tests.support.tiny import call
from tests.support.waiting_run import FINDINGS, WHEN, as_csv, reading, send

SCANS = Scans(
    asked={"aaaa": [1], "bbbb": [2], "cccc": [2], "hold": [1]},
    holdout=frozenset(["hold", "sealed"]),
    others=frozenset(["later"]),
    last_round=2,
    run="c0ffee",
)


def sheet(tmp_path, text, name="queue.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def read(*paths, annotator="ann", accounts=None, findings=FINDINGS):
    """The answers of files, or the refusal of all."""
    found = harvest(paths, SCANS, findings, Who(annotator, accounts or {}))
    refuse(found, "labels import", findings)
    return found


def choice(name, control="finding"):
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": [name]}}


def annotation(**changed):
    return {
        "id": 1,
        "completed_by": 1,
        "was_cancelled": False,
        "lead_time": 3.5,
        "updated_at": "2026-03-01T10:00:00Z",
        "result": [choice("normal")],
    } | changed


def task(*annotations, **changed):
    return {"id": 7, "data": {"image_id": "aaaa"}, "annotations": list(annotations)} | changed


def taken(folder, *paths, who=Who(), **options):  # noqa: B008 - frozen
    return labels.import_labels(folder, list(paths), who, **options)


def given(found):
    return {answer.image_id: answer.reply for answer in found.answers}


class TestRows:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_replies_and_blanks(self, tmp_path, encoding):
        text = "image_id,label\naaaa,Normal \nbbbb,\ncccc,?\n"
        found = read(sheet(tmp_path, text, encoding=encoding))
        assert given(found) == {"aaaa": "normal", "cccc": CANNOT_TELL}
        assert found.counts["blank"] == 1
        assert [(a.annotator, a.round_index, a.time) for a in found.answers] == [("ann", 1, None), ("ann", 2, None)]

    @pytest.mark.parametrize(
        ("word", "reply"),
        [("cannot tell", CANNOT_TELL), ("UNKNOWN", CANNOT_TELL), ("bad quality", BAD_QUALITY), ("not a CXR", NOT_CXR)],
    )
    def test_remarks_are_answers(self, tmp_path, word, reply):
        assert given(read(sheet(tmp_path, f"image_id,label\naaaa,{word}\n"))) == {"aaaa": reply}

    def test_an_answer_from_the_future_is_none(self, tmp_path):
        soon, later = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=m) for m in (5, 60))
        text = f"image_id,label,labelled_at\naaaa,normal,{soon.isoformat()}\n"
        assert given(read(sheet(tmp_path, text))) == {"aaaa": "normal"}, "two clocks differ by some minutes"
        with pytest.raises(InputError, match=r"queue\.csv:3: was answered in the future"):
            read(sheet(tmp_path, f"{text}bbbb,normal,{later.isoformat()}\n"))

    @pytest.mark.parametrize("twice", ["image_id", "label"])
    def test_two_columns_of_one_name_are_refused(self, tmp_path, twice):
        with pytest.raises(InputError, match=rf"columns \['{twice}'\] stand twice"):
            read(sheet(tmp_path, f"image_id,label,{twice}\naaaa,normal,pneumonia\n"))

    def test_every_mistake_with_its_line_and_nothing_taken(self, tmp_path):
        text = (
            "image_id,label,certainty,round\naaaa,normal,sure,1\nbbbb,pnuemonia,,\nzzzz,normal,,\ncccc,xyz,,\n"
            "sealed,normal,,\nlater,normal,,\naaaa,normal,maybe,\ncccc,normal,,1\ncccc,normal,,3\n"
        )
        with pytest.raises(InputError) as caught:
            read(sheet(tmp_path, text))
        assert str(caught.value).splitlines() == [
            "labels import: 8 rows cannot be used, so nothing of the file was taken:",
            "queue.csv:3: unknown finding 'pnuemonia'; did you mean 'pneumonia'?",
            "queue.csv:4: this run never asked for 'zzzz'",
            "queue.csv:5: unknown finding 'xyz'",
            "queue.csv:6: 'sealed' is of the sealed holdout and was not asked for; its labels are not taken so",
            "queue.csv:7: this run has not asked for 'later' yet",
            "queue.csv:8: unknown certainty 'maybe'; write sure or unsure, or nothing",
            "queue.csv:9: 'cccc' was not asked for in round 1",
            "queue.csv:10: 'cccc' was not asked for in round 3. Answers are normal, pneumonia, cannot tell, bad "
            "quality, not a chest X-ray; mend the rows and import the file again, or take the others alone with "
            "--skip-mistakes.",
        ]
        found = harvest([tmp_path / "queue.csv"], SCANS, FINDINGS, Who("ann"))
        assert (given(found), found.counts["mistake"]) == ({"aaaa": "normal"}, 8)

    def test_many_mistakes_are_counted_not_all_shown(self, tmp_path):
        rows = "".join(f"x{i},normal\n" for i in range(50))
        with pytest.raises(InputError, match="50 rows cannot be used") as caught:
            read(sheet(tmp_path, "image_id,label\n" + rows))
        assert "and 30 more" in str(caught.value) and "'x19'" in str(caught.value) and "'x20'" not in str(caught.value)

    def test_two_answers_of_one_annotator_for_a_scan_are_a_mistake_wherever_they_stand(self, tmp_path):
        one = sheet(tmp_path, "image_id,label\naaaa,normal\nbbbb,normal\naaaa,pneumonia\n")
        with pytest.raises(InputError, match=r"queue.csv:4: 'aaaa' has another answer by ann in queue.csv:2"):
            read(one)
        two = [sheet(tmp_path, f"image_id,label\naaaa,{x}\n", f"{x}.csv") for x in FINDINGS]
        with pytest.raises(InputError, match=r"pneumonia.csv:2: 'aaaa' has another answer by ann in normal.csv:2"):
            read(*two)

    def test_the_same_answer_twice_counts_once(self, tmp_path):
        path = sheet(tmp_path, "image_id,label\naaaa,normal\naaaa,normal\n")
        found = read(path, path)
        assert [a.image_id for a in found.answers] == ["aaaa"] and found.counts["repeated"] == 3

    def test_two_annotators_and_two_rounds_are_no_conflict(self, tmp_path):
        text = "image_id,label,annotator,round\naaaa,normal,A,1\naaaa,pneumonia,B,1\naaaa,pneumonia,A,2\n"
        found = read(sheet(tmp_path, text), annotator=None)
        assert [(a.annotator, a.round_index, a.reply) for a in found.answers] == [
            ("A", 1, "normal"),
            ("B", 1, "pneumonia"),
            ("A", 2, "pneumonia"),
        ]

    def test_markup_in_a_label_is_told_and_in_a_class_is_a_class(self, tmp_path):
        evil = "<script>alert(1)</script>"
        path = sheet(tmp_path, f"image_id,label\naaaa,{evil}\n")
        with pytest.raises(InputError, match="unknown finding '<script>alert"):
            read(path)
        assert given(read(path, findings=(evil, "normal"))) == {"aaaa": evil}

    def test_long_nonsense_is_shown_in_part(self, tmp_path):
        with pytest.raises(InputError) as caught:
            read(sheet(tmp_path, f"image_id,label\naaaa,{'x' * 9999}\n{'y' * 9999},normal\n"))
        assert len(str(caught.value)) < 600


class TestNames:
    def test_who_filled_a_table_nobody_is_named_in(self, tmp_path):
        path = sheet(tmp_path, "image_id,label\naaaa,normal\n")
        assert [read(path, annotator=name).answers[0].annotator for name in (None, "Ann")] == ["expert", "Ann"]

    def test_a_table_handed_to_one_is_not_taken_for_another(self, tmp_path):
        path = sheet(tmp_path, "image_id,label,annotator\naaaa,normal,Ann\n")
        assert (
            read(path, annotator=None).answers[0].annotator == read(path, annotator="Ann").answers[0].annotator == "Ann"
        )
        with pytest.raises(InputError, match=r"queue.csv: was handed out to Ann, not to Bob"):
            read(path, annotator="Bob")

    @pytest.mark.parametrize("name", ["pool", "ORACLE", "<b>x</b>", "=cmd", "../x", "@x", "a\x00b"])
    def test_a_name_that_is_none(self, tmp_path, name):
        with pytest.raises(InputError, match=r"queue\.csv, annotator: .*name"):
            read(sheet(tmp_path, f"image_id,label,annotator\naaaa,normal,{name}\n"), annotator=None)
        with pytest.raises(InputError, match=r"--annotator: .*name"):
            read(sheet(tmp_path, "image_id,label\naaaa,normal\n"), annotator=name)

    def export(self, tmp_path, *tasks):
        return sheet(tmp_path, json.dumps(tasks), "export.json")

    def names(self, tmp_path, *tasks, **who):
        return sorted(answer.annotator for answer in read(self.export(tmp_path, *tasks), **who).answers)

    def test_accounts_are_told_apart_and_named_from_outside(self, tmp_path):
        one, two = annotation(), annotation(id=2, completed_by=2)
        mail = annotation(id=3, completed_by={"id": 3, "email": "x@example.org"})
        said = {"annotator": None}
        assert self.names(tmp_path, task(one), **said) == ["label-studio/1"]
        assert self.names(tmp_path, task(one, two, mail), **said) == [
            "label-studio/1",
            "label-studio/2",
            "x@example.org",
        ]
        named = {"1": "Ann", "x@example.org": "Xi"}
        assert self.names(tmp_path, task(one, two, mail), accounts=named, **said) == ["Ann", "Xi", "label-studio/2"]
        assert self.names(tmp_path, task(one), annotator="Ann") == ["Ann"]
        assert self.names(tmp_path, task(one, two), annotator="Bob", accounts={"1": "Ann"}) == ["Ann", "Bob"]
        with pytest.raises(InputError, match=r"export.json: holds answers of 2 accounts \(1, 2\).*--account 1=dr-lee"):
            self.names(tmp_path, task(one, two), annotator="Ann")
        with pytest.raises(InputError, match="reserved"):
            self.names(tmp_path, task(one), accounts={"1": "model"}, **said)

    @pytest.mark.parametrize("account", [1, {"email": "x@example.org"}])
    @pytest.mark.parametrize("name", [None, "Ann"])
    def test_the_annotator_is_the_same_before_and_after_the_last_task_is_answered(self, tmp_path, account, name):
        """Else her answers would come in twice, under two names."""
        answered = task(annotation(completed_by=account))
        blank = annotation(result=[], completed_by=3)
        open_ = [task(data={"image_id": "bbbb"}, id=8), task(blank, data={"image_id": "cccc"}, id=9)]
        early = read(self.export(tmp_path, answered, *open_), annotator=name)
        late = read(self.export(tmp_path, answered), annotator=name)
        assert early.answers[0].annotator == late.answers[0].annotator
        assert (early.counts["blank"], late.counts["blank"]) == (2, 0)
        if name is None:  # and after somebody else has joined
            others = task(annotation(completed_by=5), data={"image_id": "bbbb"}, id=8)
            assert late.answers[0] in read(self.export(tmp_path, answered, others), annotator=None).answers


class TestFiles:
    def refused(self, path, message):
        with pytest.raises(InputError, match=message):
            read(path)

    def test_not_utf8(self, tmp_path):
        path = sheet(tmp_path, "image_id,label\naaaa,normal\naaaa,pneumonía\n", encoding="latin-1")
        self.refused(path, r"^queue\.csv:3: is not UTF-8 text \(byte 0xed\).*Save it as UTF-8")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_utf16(self, tmp_path, encoding):
        mark = "" if encoding == "utf-16" else "\ufeff"
        path = sheet(tmp_path, f"{mark}image_id,label\naaaa,normal\n", encoding=encoding)
        (answer,) = read(path).answers
        assert (answer.image_id, answer.reply) == ("aaaa", "normal")

    def test_absent_or_a_folder(self, tmp_path):
        self.refused(tmp_path / "absent.csv", "no such file")
        self.refused(tmp_path, "is a folder")

    def test_no_permission(self, tmp_path, monkeypatch):
        path = sheet(tmp_path, "image_id,label\naaaa,normal\n")

        def forbidden(self):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(type(path), "read_bytes", forbidden)
        self.refused(path, r"cannot be read \(Permission denied\)")

    def test_too_large_is_not_read(self, tmp_path, monkeypatch):
        path = tmp_path / "large.csv"
        path.touch()
        os.truncate(path, 300 * 2**20)
        monkeypatch.setattr(type(path), "read_bytes", lambda self: pytest.fail("was read"))
        self.refused(path, r"^large\.csv: is larger than any label file \(300 MiB\)")

    @pytest.mark.parametrize("cut", [1, 20, 60, 150])
    def test_truncated_json(self, tmp_path, cut):
        text = json.dumps([task(annotation(), data={"image_id": "aaaa"})])
        self.refused(sheet(tmp_path, text[:-cut], "e.json"), r"^e\.json: the JSON breaks off .* line 1, column \d+")

    def test_a_file_of_another_run(self, tmp_path):
        text = "image_id,label,run\naaaa,normal,c0ffee\nbbbb,normal,deadbeef\n"
        self.refused(
            sheet(tmp_path, text), r"queue\.csv: was handed out by another run \(got 'deadbeef'\).*carry c0ffee"
        )
        tasks = [task(annotation(), data={"image_id": "aaaa", "run": "deadbeef"})]
        self.refused(sheet(tmp_path, json.dumps(tasks), "e.json"), "was handed out by another run")

    def test_counts_of_label_studio(self, tmp_path):
        old = annotation(id=1, updated_at="2026-01-01T00:00:00Z", result=[choice("pneumonia")])
        tasks = [
            task(old, annotation(id=2), data={"image_id": "aaaa"}),
            task(annotation(was_cancelled=True), data={"image_id": "bbbb"}, id=8),
            task(data={"image_id": "cccc"}, id=9),
        ]
        found = read(sheet(tmp_path, json.dumps(tasks), "e.json"))
        assert given(found) == {"aaaa": "normal"}
        assert dict(found.counts) == {"superseded": 1, "skipped": 1, "blank": 1, "mistake": 0}


def bundle(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


class TestBundles:
    def test_answers_go_before_the_queue(self, tmp_path):
        members = {"x/queue.csv": "image_id,label\naaaa,pneumonia\n", "x/answers.csv": "image_id,label\naaaa,normal\n"}
        found = read(bundle(tmp_path / "b.zip", members))
        assert given(found) == {"aaaa": "normal"}
        only = read(bundle(tmp_path / "b.zip", {"queue.csv": members["x/queue.csv"]}))
        assert given(only) == {"aaaa": "pneumonia"}
        with pytest.raises(InputError, match=r"b\.zip/queue\.csv:2: unknown finding 'x'"):
            read(bundle(tmp_path / "b.zip", {"queue.csv": "image_id,label\naaaa,x\n"}))

    def test_two_annotators_in_one_file_are_both_heard(self, tmp_path):
        members = {f"{n}/answers.csv": f"image_id,label,annotator\naaaa,normal,{n}\n" for n in ("Ann", "Bob")}
        found = read(bundle(tmp_path / "b.zip", members), annotator=None)
        assert sorted(answer.annotator for answer in found.answers) == ["Ann", "Bob"]

    @pytest.mark.parametrize(
        "name", ["../answers.csv", "/etc/answers.csv", "..\\..\\answers.csv", "a/../../answers.csv"]
    )
    def test_nothing_is_extracted(self, tmp_path, name):
        inner = tmp_path / "in"
        inner.mkdir()
        path = bundle(
            inner / "b.zip", {name: "image_id,label\naaaa,normal\n", "../evil.txt": "x", "/absolute/evil": "x"}
        )
        before = sorted(tmp_path.rglob("*"))
        if "\\" in name and os.sep == "/":
            with pytest.raises(InputError, match=r"holds neither of answers\.csv, queue\.csv"):
                read(path)
        else:
            assert given(read(path)) == {"aaaa": "normal"}
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_bomb_is_not_unpacked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(import_files, "MAX_BYTES", 2**20)
        path = bundle(tmp_path / "b.zip", {"answers.csv": bytes(64 * 2**20)})
        assert path.stat().st_size < 2**17
        with pytest.raises(InputError, match=r"b\.zip/answers\.csv: the tables of this bundle are larger than \d+ MiB"):
            read(path)
        rows = "image_id,label\n" + "\n" * 2**18
        path = bundle(tmp_path / "b.zip", {f"{i}/answers.csv": rows for i in range(5)})  # all of them together
        with pytest.raises(
            InputError, match=r"b\.zip/3/answers\.csv: the tables of this bundle are larger than \d+ MiB"
        ):
            read(path)

    @pytest.mark.parametrize(
        "compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED]
    )
    def test_a_damaged_zip_is_refused(self, tmp_path, compression):
        rows = "".join(f"{i:016x},normal\n" for i in range(500))
        whole = bundle(tmp_path / "b.zip", {"answers.csv": "image_id,label\n" + rows}, compression).read_bytes()
        start = whole.index(b"answers.csv") + len(b"answers.csv")
        spoilt = [whole[:end] for end in range(4, len(whole), max(1, len(whole) // 30))]
        spoilt += [
            whole[:at] + bytes([whole[at] ^ 0xFF] * 8) + whole[at + 8 :]
            for at in range(start, len(whole) - 100, max(1, (len(whole) - start) // 30))
        ]
        for data in spoilt:
            (tmp_path / "b.zip").write_bytes(data)
            with pytest.raises(InputError, match=r"b\.zip"):
                read(tmp_path / "b.zip")

    def test_one_that_is_locked_or_holds_no_table(self, tmp_path):
        with pytest.raises(InputError, match=r"holds neither of answers\.csv, queue\.csv"):
            read(bundle(tmp_path / "b.zip", {"index.html": "x"}))
        path = bundle(tmp_path / "b.zip", {"answers.csv": "image_id,label\n"}, zipfile.ZIP_STORED)
        data = bytearray(path.read_bytes())
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"b\.zip: .*(password|encrypted)"):
            read(path)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return waiting.waiting_run(tmp_path_factory.mktemp("importing") / "run")


@pytest.fixture
def folder(template, tmp_path):
    return waiting.copy_of(template, tmp_path / "run")


@pytest.fixture
def ids(folder):
    return waiting.queue_ids(folder)


def table_bytes(folder):
    path = folder / "labels.parquet"
    return path.read_bytes() if path.exists() else None


class TestIntoARun:
    def test_an_import_twice_changes_nothing(self, folder, ids, tmp_path):
        path = send(tmp_path / "answers.csv", [reading(i, "normal") for i in ids[:3]], folder)
        first = taken(folder, path)
        assert {n: first[n] for n in ("num_new", "num_changed", "num_known", "batch")} == {
            "num_new": 3,
            "num_changed": 0,
            "num_known": 0,
            "batch": "1",
        }
        before = {p.name: p.read_bytes() for p in folder.glob("*") if p.is_file()}
        again = taken(folder, path, path)
        assert (again["num_new"], again["num_files_known"], again["batch"]) == (0, 2, None)
        copy = tmp_path / "another name.csv"
        copy.write_bytes(path.read_bytes() + b"\n")
        known = taken(folder, copy)
        assert (known["num_new"], known["num_known"]) == (0, 3)
        after = {p.name: p.read_bytes() for p in folder.glob("*") if p.is_file()}
        assert after.pop("answers.jsonl").startswith(before.pop("answers.jsonl"))
        assert after == before

    def test_nothing_is_taken_of_a_file_with_a_mistake_unless_told_so(self, folder, ids, tmp_path):
        good = send(tmp_path / "answers.csv", [reading(ids[0], "normal")], folder)
        bad = as_csv(tmp_path / "bad.csv", [reading(ids[1], "normal"), reading(ids[2], "nromal")], "")
        with pytest.raises(InputError, match=r"bad\.csv:3: unknown finding 'nromal'"):
            taken(folder, good, bad)
        assert table_bytes(folder) is None and Journal.open(folder).entries == {}
        found = taken(folder, good, bad, skip_mistakes=True)
        assert (found["num_new"], found["num_mistakes"]) == (2, 1)
        assert found["mistakes"] == ["bad.csv:3: unknown finding 'nromal'; did you mean 'normal'?"]
        as_csv(bad, [reading(ids[1], "normal"), reading(ids[2], "normal")], "")
        assert taken(folder, bad)["num_new"] == 1  # mended, it comes again

    @pytest.mark.parametrize("name", sorted(waiting.ROUTES))
    def test_an_export_from_before_a_correction_does_not_undo_it(self, folder, ids, tmp_path, name):
        late = WHEN.replace(hour=12)
        for label, time, counted in (("normal", WHEN, "num_new"), ("pneumonia", late, "num_changed")):
            found = taken(folder, send(tmp_path / name, [reading(ids[0], label, time=time)], folder))
            assert (found[counted], found["num_new"]) == (1, 1)
        stale = [reading(ids[0], "normal"), reading(ids[1], "normal")]
        found = taken(folder, send(tmp_path / name, stale, folder))
        assert (found["num_new"], found["num_older"], found["num_changed"]) == (1, 1, 0)
        assert verdicts.expert_classes(label_table.read(folder), FINDINGS) == {ids[0]: "pneumonia", ids[1]: "normal"}

    def test_every_file_that_came_in_is_kept_as_it_came(self, folder, ids, tmp_path):
        one = send(tmp_path / "answers.csv", [reading(ids[0], "normal")], folder)
        data = one.read_bytes()
        taken(folder, one)
        send(one, [reading(ids[1], "normal")], folder)
        taken(folder, one)
        kept = list((folder / run_files.IMPORTS).iterdir())
        assert sorted(path.read_bytes() for path in kept) == sorted([data, one.read_bytes()])
        assert all(path.name.endswith("-answers.csv") for path in kept)

    def test_a_full_disk_takes_nothing_and_the_next_try_takes_all(self, folder, ids, tmp_path, monkeypatch):
        path = send(tmp_path / "answers.csv", [reading(i, "normal") for i in ids], folder)

        def half(descriptor, data):
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "_write_all", half)
            answer = call("labels", "import", folder, path)
        assert (
            answer.code == 1 and "No space left on device" in answer.message and "make room" in answer.message.lower()
        )
        assert Journal.open(folder).entries == {} and table_bytes(folder) is None
        assert taken(folder, path)["num_new"] == len(ids)
        assert Journal.open(folder).imported(next(iter(Journal.open(folder).batches.values())).hashes[0])

    def test_a_full_disk_after_the_journal_loses_nothing(self, folder, ids, tmp_path, monkeypatch):
        path = send(tmp_path / "answers.csv", [reading(i, "normal") for i in ids], folder)

        def full(where, table):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where))

        with monkeypatch.context() as patch:
            patch.setattr(label_table.LABELS.__class__, "write", full)
            assert call("labels", "import", folder, path).code == 1
        assert len(Journal.open(folder).active()) == len(ids)
        assert taken(folder, path)["num_files_known"] == 1
        assert verdicts.human_answers(label_table.read(folder)) == len(ids)

    def test_while_a_run_is_at_work_nothing_is_taken_and_afterwards_all(self, folder, ids, tmp_path):
        path = send(tmp_path / "answers.csv", [reading(ids[0], "normal")], folder)
        with run_dir.locked(folder):
            with pytest.raises(RunBusy, match="another process is working in this run"):
                taken(folder, path)
            assert call("labels", "import", folder, path).code == 2
        assert Journal.open(folder).entries == {} and table_bytes(folder) is None
        assert taken(folder, path)["num_new"] == 1
        assert verdicts.latest(label_table.read(folder)) == {(ids[0], "Ann"): "normal"}

    def test_files_that_cannot_be_taken_are_told_by_the_command(self, folder, tmp_path):
        large = tmp_path / "large.csv"
        large.touch()
        os.truncate(large, 300 * 2**20)
        (tmp_path / "latin.csv").write_bytes(b"image_id,label\na,\xed\n")
        (tmp_path / "cut.json").write_text('[{"id": 1, "da')
        (tmp_path / "nul.csv").write_bytes(bytes(100))
        wrong = ("absent.csv", ".", "large.csv", "latin.csv", "cut.json", "nul.csv")
        for name in wrong:
            answer = call("labels", "import", folder, tmp_path / name)
            assert (answer.code, answer.out) == (2, ""), (name, answer.err)
            assert answer.message.startswith("error: ") and "internal" not in answer.err
        assert not (folder / "answers.jsonl").exists() and not (folder / run_files.IMPORTS).exists()

    def test_a_large_file_is_refused_before_it_is_hashed(self, folder, tmp_path, monkeypatch):
        large = tmp_path / "large.csv"
        large.touch()
        os.truncate(large, 300 * 2**20)
        monkeypatch.setattr(labels.run_dir, "file_hash", lambda path: pytest.fail("was read"))
        with pytest.raises(InputError, match="larger than any label file"):
            taken(folder, large)

    def test_not_a_run_or_not_begun(self, tmp_path):
        path = sheet(tmp_path, "image_id,label\n")
        for folder in (tmp_path, tmp_path / "absent"):
            with pytest.raises(RunDirError, match="is not a run"):
                taken(folder, path)

    def test_a_row_without_a_round_answers_the_round_that_asked_first(self, folder, ids, tmp_path):
        path = sheet(tmp_path, f"image_id,label\n{ids[0]},normal\n")
        taken(folder, path, who=Who("Ann"))
        (one,) = Journal.open(folder).active()
        assert one.answer == Answer(ids[0], "normal", "Ann", 1, key=one.key)
        assert run_files.asked(folder)[ids[0]] == 1

    def test_an_old_export_and_a_new_one_in_one_command(self, folder, ids, tmp_path):
        """The times in them tell which answer holds; without them neither is taken."""
        plain = [as_csv(tmp_path / f"{x}.csv", [reading(ids[0], x, time=None)], "") for x in FINDINGS]
        with pytest.raises(InputError, match="has another answer by Ann"):
            taken(folder, *plain)


def test_text_that_is_no_table_at_all(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w"):
        pass
    for data in (b"", b"%PDF-1.7 x", stream.getvalue(), b"{}", b"[1]", b"<html></html>", bytes(10)):
        path = tmp_path / "x.csv"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"x\.csv"):
            read(path)


@pytest.mark.parametrize("name", sorted(path.name for path in EXPORTS.iterdir()))
def test_what_a_real_server_wrote_gives_the_same_answers_in_every_format(name):
    """By number or by e-mail, in full or minimal: the same people said the same of the same scans."""

    def answers(file):
        path = EXPORTS / file
        ids = {row.image_id for row in exports.read_json("json.json", (EXPORTS / "json.json").read_text()).rows}
        scans = Scans({image_id: [ROUND] for image_id in ids}, frozenset(), frozenset(), ROUND, RUN)
        accounts = {"1": "First", "2": "Second", ADMIN: "First", SECOND: "Second"}
        found = harvest([path], scans, EXPORTED_FINDINGS, Who(None, accounts))
        assert found.mistakes == []
        return sorted(found.answers, key=lambda answer: (answer.image_id, answer.annotator))

    assert answers(name) == answers("json.json")
    assert len(answers(name)) == 13 and {a.annotator for a in answers(name)} == {"First", "Second"}


def test_an_answer_of_no_account_is_the_annotators_own(tmp_path):
    """Hand-made exports, and accounts that were deleted since, name nobody."""
    rows = [{"image_id": "aaaa", "finding": "normal"}, {"image_id": "bbbb", "finding": "normal", "annotator": 7}]
    path = tmp_path / "min.json"
    path.write_text(json.dumps(rows), "utf-8")
    assert {a.image_id: a.annotator for a in read(path, annotator="Lee").answers} == {"aaaa": "Lee", "bbbb": "Lee"}
    assert {a.image_id: a.annotator for a in read(path, annotator=None).answers} == {
        "aaaa": "expert",
        "bbbb": "label-studio/7",
    }
