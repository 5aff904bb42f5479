import csv
import datetime as dt
import json
import re

import pytest
from PIL import Image

from pipeline import queues
from pipeline.annotators import sheets
from pipeline.contracts import MANIFEST, QUEUE
from pipeline.errors import InputError
from pipeline.queues import Proposals
from tests.pipeline.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia")
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
KNOWN = {"aaaa": 1, "bbbb": 2, "cccc": 2}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run with a queue of 6 scans as files."""
    run = synthetic_run(tmp_path_factory.mktemp("secretrun"), num_scans=60, num_holdout=20, queue__budget=6)
    folder = run.ctx.round_folder(1)
    proposals = Proposals(dict.fromkeys(run.ids("train"), "pneumonia"))
    queue = queues.draw(run.ctx, 1, set(), proposals, strategy="typiclust", holdout=run.ids("holdout")[:2])
    QUEUE.write(folder, queue)
    uris = {row["image_id"]: row["uri"] for row in MANIFEST.read(run.folder).to_pylist()}
    sheets.export(folder, queue, uris, FINDINGS, 10_000)
    return run, folder, queue


def read(path, known=KNOWN, findings=FINDINGS):
    return sheets.read_answers(path, known, findings, "ann", NOW)


def sheet(tmp_path, text, name="queue.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def given(answers):
    return {a.image_id: a.finding for a in answers}


class TestExport:
    def test_columns_and_order(self, exported):
        _, folder, queue = exported
        with (folder / "queue.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert list(rows[0]) == ["image_id", "rank", "file", "label", "choices"]
        assert [r["image_id"] for r in rows] == queue["image_id"].to_pylist()
        assert [int(r["rank"]) for r in rows] == list(range(1, 9))
        assert {r["label"] for r in rows} == {""}
        assert {r["choices"] for r in rows} == {"normal | pneumonia"}
        for row in rows:
            assert Image.open(folder / row["file"]).size == (32, 32)

    def test_no_file_tells_why_whose_or_where_from(self, exported):
        """Neither kind, nor proposal, nor path, nor patient, nor the scores of the queue."""
        run, folder, queue = exported
        secrets = ["representative", "uniform", "holdout", "proposed", "secretfolder", "score", "cluster", "scan.png"]
        secrets += [str(run.folder), str(run.folder.parent)]
        patients = [run.patient[i] for i in queue["image_id"].to_pylist()]
        for path in folder.glob("queue.*"):
            if path.suffix == ".parquet":
                continue
            text = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", path.read_text("utf-8"))
            text = re.sub(r"(?s)<style>.*?</style>", "", text)
            assert not [word for word in secrets + patients if re.search(rf"\b{re.escape(word)}\b", text)], path.name
        for path in (folder / "images").iterdir():
            assert Image.open(path).info == {}

    def test_label_studio_task_points_at_the_picture(self, exported):
        run, folder, queue = exported
        tasks = json.loads((folder / "queue.labelstudio.json").read_text())
        assert [t["data"]["image_id"] for t in tasks] == queue["image_id"].to_pylist()
        assert tasks[0]["data"]["image"] == (
            f"/data/local-files/?d={run.folder.name}/rounds/01/images/{tasks[0]['data']['image_id']}.png"
        )
        xml = (folder / "queue.labelstudio.xml").read_text()
        assert re.findall(r'<Choice value="([^"]+)"', xml) == ["normal", "pneumonia", "cannot tell"]

    def test_a_filled_sheet_survives_a_second_export_and_comes_back(self, exported):
        _, folder, queue = exported
        path = folder / "queue.csv"
        blank = path.read_text()
        ids = queue["image_id"].to_pylist()
        filled = blank.splitlines()
        for n, label in ((1, "normal"), (2, "Pneumonia "), (3, "cannot tell")):
            filled[n] = filled[n].replace(",,", f",{label},")
        path.write_text("\n".join(filled) + "\n")
        sheets.export(folder, queue, dict.fromkeys(ids, "never read again"), FINDINGS, 10_000)
        answers, num_blank = read(path, dict.fromkeys(ids, 1))
        path.write_text(blank)
        assert given(answers) == {ids[0]: "normal", ids[1]: "pneumonia", ids[2]: None}
        assert num_blank == 5
        assert {(a.annotator, a.round_index, a.time) for a in answers} == {("ann", 1, NOW)}


class TestCsv:
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_as_spreadsheets_save_it(self, tmp_path, end, encoding):
        lines = [
            "image_id,rank,file,label,choices",
            "aaaa,1,a.png,normal,x",
            "",
            ",,,,",
            'bbbb,2,b.png,"PNEUMONIA",x',
            "",
        ]
        answers, num_blank = read(sheet(tmp_path, end.join(lines), encoding=encoding))
        assert given(answers) == {"aaaa": "normal", "bbbb": "pneumonia"}
        assert [a.round_index for a in answers] == [1, 2]
        assert num_blank == 1

    @pytest.mark.parametrize("mark", [";", "\t"])
    def test_other_separators(self, tmp_path, mark):
        text = "image_id,rank,label\naaaa,1,normal\n".replace(",", mark)
        assert given(read(sheet(tmp_path, text))[0]) == {"aaaa": "normal"}

    @pytest.mark.parametrize("word", ["cannot tell", "Cannot Tell", "?", "unknown"])
    def test_cannot_tell(self, tmp_path, word):
        assert given(read(sheet(tmp_path, f"image_id,label\naaaa,{word}\n"))[0]) == {"aaaa": None}

    def test_every_mistake_with_its_line_and_nothing_taken(self, tmp_path):
        text = "image_id,label\naaaa,normal\nbbbb,pnuemonia\nzzzz,normal\ncccc,xyz\n"
        with pytest.raises(InputError) as caught:
            read(sheet(tmp_path, text))
        message = str(caught.value)
        assert "3 rows cannot be used, so nothing of the file was taken" in message
        assert "queue.csv:3: unknown finding 'pnuemonia'; did you mean 'pneumonia'?" in message
        assert "queue.csv:4: this run never asked for 'zzzz'" in message
        assert "queue.csv:5: unknown finding 'xyz'." in message
        assert "findings are normal, pneumonia, or 'cannot tell'" in message.casefold()

    def test_many_mistakes_are_counted_not_all_shown(self, tmp_path):
        rows = "".join(f"x{i},normal\n" for i in range(50))
        with pytest.raises(InputError, match="50 rows cannot be used") as caught:
            read(sheet(tmp_path, "image_id,label\n" + rows))
        assert "and 30 more" in str(caught.value)

    def test_two_different_answers_for_a_scan_are_a_mistake(self, tmp_path):
        with pytest.raises(InputError, match=r"queue.csv:4: 'aaaa' has another answer in queue.csv:2"):
            read(sheet(tmp_path, "image_id,label\naaaa,normal\nbbbb,normal\naaaa,pneumonia\n"))

    def test_the_same_answer_twice_counts_once(self, tmp_path):
        answers, _ = read(sheet(tmp_path, "image_id,label\naaaa,normal\naaaa,normal\n"))
        assert [a.image_id for a in answers] == ["aaaa"]

    @pytest.mark.parametrize("text", ["", "a b c\n", "image_id,finding\naaaa,normal\n"])
    def test_missing_columns(self, tmp_path, text):
        with pytest.raises(InputError, match="are missing"):
            read(sheet(tmp_path, text))

    def test_a_short_row_is_blank(self, tmp_path):
        assert read(sheet(tmp_path, "image_id,rank,label\naaaa\n")) == ([], 1)

    def test_not_utf8_and_not_there(self, tmp_path):
        with pytest.raises(InputError, match="UTF-8"):
            read(sheet(tmp_path, "image_id,label\naaaa,pneumonía\n", encoding="latin-1"))
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "absent.csv")


def choice(label, **more):
    return {"result": [{"type": "choices", "from_name": "finding", "value": {"choices": [label]}}], **more}


class TestLabelStudio:
    def test_json(self, tmp_path):
        tasks = [
            {"id": 1, "data": {"image_id": "aaaa", "rank": 1}, "annotations": [choice("pneumonia")]},
            {"id": 2, "data": {"image_id": "bbbb"}, "annotations": [choice("cannot tell", was_cancelled=False)]},
            {"id": 3, "data": {"image_id": "cccc"}, "annotations": []},
        ]
        answers, num_blank = read(sheet(tmp_path, json.dumps(tasks), "export.json"))
        assert given(answers) == {"aaaa": "pneumonia", "bbbb": None}
        assert num_blank == 1

    def test_a_skipped_task_is_blank(self, tmp_path):
        tasks = [{"data": {"image_id": "aaaa"}, "annotations": [choice("normal", was_cancelled=True)]}]
        assert read(sheet(tmp_path, json.dumps(tasks), "export.json")) == ([], 1)

    def test_json_min(self, tmp_path):
        tasks = [
            {"id": 1, "image_id": "aaaa", "finding": "normal"},
            {"id": 2, "image_id": "bbbb", "finding": None},
            {"id": 3, "image_id": "cccc"},
        ]
        answers, num_blank = read(sheet(tmp_path, json.dumps(tasks), "min.json"))
        assert (given(answers), num_blank) == ({"aaaa": "normal"}, 2)

    def test_mistakes_name_the_task(self, tmp_path):
        tasks = [{"image_id": "aaaa", "finding": "normal"}, {"image_id": "bbbb", "finding": "norml"}]
        with pytest.raises(InputError, match=r"min.json, task 2: unknown finding 'norml'; did you mean 'normal'\?"):
            read(sheet(tmp_path, json.dumps(tasks), "min.json"))

    def test_truncated(self, tmp_path):
        text = json.dumps([{"image_id": "aaaa", "finding": "normal"}] * 3)[:-20]
        with pytest.raises(InputError, match="not whole JSON"):
            read(sheet(tmp_path, text, "min.json"))

    @pytest.mark.parametrize(
        "tasks", [["aaaa"], [{"data": "aaaa"}], [{"data": {"image_id": "aaaa"}, "annotations": ["x"]}], [[1]]]
    )
    def test_other_json_is_refused(self, tmp_path, tasks):
        with pytest.raises(InputError, match="not a Label Studio export"):
            read(sheet(tmp_path, json.dumps(tasks), "other.json"))

    def test_finding_names_are_escaped(self):
        assert 'value="&quot;&lt;a&amp;b"' in sheets._labelling_config(['"<a&b']) or "value='\"&lt;a&amp;b'" in (
            sheets._labelling_config(['"<a&b'])
        )


def test_two_readers_of_a_label_studio_task_are_two_annotators(tmp_path):
    result = [{"type": "choices", "value": {"choices": ["normal"]}}]
    other = [{"type": "choices", "value": {"choices": ["pneumonia"]}}]
    image_id = next(iter(KNOWN))
    task = {
        "data": {"image_id": image_id},
        "annotations": [{"completed_by": 1, "result": result}, {"completed_by": {"id": 2}, "result": other}],
    }
    answers, _ = read(sheet(tmp_path, json.dumps([task]), "export.json"))
    assert {(a.annotator.rpartition("/")[2], a.finding) for a in answers} == {("1", "normal"), ("2", "pneumonia")}


def test_a_json_without_image_ids_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a Label Studio export"):
        read(sheet(tmp_path, json.dumps({"tasks": []}), "export.json"))
