"""Independent findings by every route: what annotators are offered, what they send, what is kept of it."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
import zipfile

import pyarrow as pa
import pytest

from pipeline.annotate import answer_choices, handout_files, worklist
from pipeline.annotate.handout_files import Wish
from pipeline.annotate.import_files import Scans, Who, harvest
from pipeline.annotate.label_studio import exports
from pipeline.annotate.label_studio import tasks as label_studio_tasks
from pipeline.annotate.page.api import AskedAnswer
from pipeline.annotate.page_session import Desk
from pipeline.annotate.queue_csv import Origin, Row, read_csv, write_csv
from pipeline.commands import labels
from pipeline.contracts import finding_line
from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, REMARKS, reply_of
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import NONE, Independent
from pipeline.contracts.tables import PREDICTIONS
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from tests.support import label_studio_server as server
from tests.support import waiting_run as waiting
from tests.support.independent_run import FINDINGS, NUM, draw, independent_run
from tests.support.waiting_run import reading, send

SAID = {
    "effusion|nodule": "effusion=1|mass=0|nodule=1",
    "?mass": "effusion=0|mass=?|nodule=0",
    "effusion|?mass": "effusion=1|mass=?|nodule=0",
    "mass": "effusion=0|mass=1|nodule=0",
    NONE: "effusion=0|mass=0|nodule=0",
    BAD_QUALITY: BAD_QUALITY,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return independent_run(tmp_path_factory.mktemp("independent") / "run")


@pytest.fixture
def folder(template, tmp_path):
    return waiting.copy_of(template, tmp_path / "run")


def kept(folder):
    return {one.answer.image_id: one.answer.reply for one in Journal.open(folder).active()}


def take(folder, *paths, **options):
    return labels.import_labels(folder, list(paths), Who(), **options)


class TestEveryRoute:
    @pytest.mark.parametrize("route", waiting.ROUTES)
    def test_what_is_sent_is_what_is_kept(self, folder, tmp_path, route):
        ids = waiting.queue_ids(folder)
        path = send(tmp_path / route, [reading(i, text) for i, text in zip(ids, SAID, strict=True)], folder)
        found = take(folder, path)
        assert (found["num_new"], found["num_mistakes"]) == (NUM, 0)
        assert kept(folder) == dict(zip(ids, SAID.values(), strict=True))
        assert take(folder, path)["num_known"] == NUM

    def test_the_label_table_holds_each_finding_of_it(self, folder, tmp_path):
        ids = waiting.queue_ids(folder)
        take(folder, send(tmp_path / "min.json", [reading(ids[0], "effusion|?mass")], folder))
        rows = verdicts.people_rows(label_table.read(folder)).to_pylist()
        assert [(row["finding"], str(row["value"])) for row in rows] == [
            ("effusion", "1.0"),
            ("mass", "nan"),
            ("nodule", "0.0"),
        ]

    def test_the_desk_keeps_the_line_and_gives_it_back_when_it_is_undone(self, template, folder):
        desk = Desk(folder, template.ctx.config, FINDINGS)
        try:
            (task,) = desk.next("Ann", 1, [])
            assert task.reply is None
            desk.answer("Ann", task.image_id, "Effusion; ?mass", "sure", 2.0, "key-of-one")
            assert kept(folder) == {task.image_id: "effusion=1|mass=?|nodule=0"}
            desk.answer("Ann", task.image_id, "effusion=1|mass=?|nodule=0", "sure", 2.0, "key-of-one")  # sent twice
            again = desk.undo("Ann", "key-of-undo")
            assert (again.image_id, again.reply) == (task.image_id, "effusion=1|mass=?|nodule=0")
            assert kept(folder) == {}
            with pytest.raises(InputError, match=r"Choose of any of effusion, .* \?nodule\), no finding, cannot tell"):
                desk.answer("Ann", task.image_id, "efusion", "sure", 2.0, "key-of-two")
        finally:
            desk.close()

    def test_a_line_of_many_long_names_is_no_longer_than_an_answer_may_be(self):
        line = finding_line.write({}, [f"a finding with a rather long name, number {i}" for i in range(100)])
        asked = AskedAnswer(
            annotator="Ann", image_id="a" * 16, reply=line, certainty=None, seconds=None, key="key-of-one"
        )
        assert asked.reply == line


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("efusion|mass", "unknown finding 'efusion'; did you mean 'effusion'?"),
            ("mass; ?nodul", "unknown finding 'nodul'; did you mean 'nodule'?"),
            ("pox", "unknown finding 'pox'"),
            ("no findng", "unknown finding 'no findng'; did you mean 'no finding'?"),
            ("no finding|mass", "'no finding' speaks of the whole scan, so nothing can stand beside it"),
            ("mass, cannot tell", "'cannot tell' speaks of the whole scan, so nothing can stand beside it"),
            ("effusion|?", "'?' speaks of the whole scan, so nothing can stand beside it"),
            ("mass|?Mass", "'mass' is named twice"),
            ("mass=1|mass=0", "'mass' is named twice"),
            ("mass=2|effusion=1", "'mass=2|effusion=1' is no answer"),
            ("mas=1|effusion=1", "unknown finding 'mas'; did you mean 'mass'?"),
            ("mass|", "a name is missing in 'mass|'"),
        ],
    )
    def test_the_one_part_that_is_wrong_is_named(self, text, what):
        assert answer_choices.wrong(text, FINDINGS) == what

    @pytest.mark.parametrize("text", [*SAID, *SAID.values(), *REMARKS, "Effusion; NODULE", "effusion, ? mass", "?"])
    def test_what_is_an_answer_has_nothing_wrong(self, text):
        assert answer_choices.wrong(text, FINDINGS) is None and reply_of(text, FINDINGS) is not None

    def test_classes_are_looked_at_as_a_whole(self):
        assert (
            answer_choices.wrong("normal", ("normal", "a|b")) is answer_choices.wrong("a|b", ("normal", "a|b")) is None
        )
        assert answer_choices.wrong("nomal", ("normal", "sick")) == "unknown finding 'nomal'; did you mean 'normal'?"

    def test_a_comma_in_a_finding_separates_nothing(self):
        findings = Independent(("edema, lung", "mass"))
        assert answer_choices.wrong("edema, lung|mass", findings) is None
        assert answer_choices.wrong("edema, lungs; mass", findings) == (
            "unknown finding 'edema, lungs'; did you mean 'edema, lung'?"
        )


class TestTables:
    def test_the_choices_tell_how_several_are_written(self):
        rows = list(csv.DictReader(io.StringIO(write_csv([Row("a" * 16, 1, "a.png")], FINDINGS, Origin("", 1, "r")))))
        assert rows[0]["choices"].split(" | ") == [
            "any of effusion, mass, nodule (several as effusion|mass, an unknown one as ?nodule)",
            NONE,
            *REMARKS,
        ]
        assert answer_choices.offered(Independent(["mass"])) == ["mass (an unknown one as ?mass)", NONE, *REMARKS]

    def test_a_spreadsheet_with_commas_semicolons_or_without_quotation_marks(self, folder, tmp_path):
        first, second, third, *_ = waiting.queue_ids(folder)
        (tmp_path / "a.csv").write_text(f'image_id,label\n{first},"effusion, nodule"\n')
        (tmp_path / "b.csv").write_text(f'image_id;label\n{second};"effusion; nodule"\n')
        (tmp_path / "c.csv").write_text(f"image_id,label\n{third},effusion, nodule\n")
        take(folder, tmp_path / "a.csv", tmp_path / "b.csv")
        assert kept(folder) == dict.fromkeys((first, second), "effusion=1|mass=0|nodule=1")
        with pytest.raises(InputError, match=r"c\.csv:2: more cells than columns \('nodule'\); put quotation marks"):
            take(folder, tmp_path / "c.csv")
        assert third not in kept(folder)
        assert read_csv("c.csv", f"image_id,label\n{third},effusion,,\n")[0].beyond == ""

    def test_mistakes_of_a_file_come_with_how_to_answer(self, folder, tmp_path):
        first, second, *_ = waiting.queue_ids(folder)
        (tmp_path / "q.csv").write_text(f"image_id,label\n{first},effusion|mas\n{second},mass\n")
        with pytest.raises(InputError) as caught:
            take(folder, tmp_path / "q.csv")
        assert "q.csv:2: unknown finding 'mas'; did you mean 'mass'?" in str(caught.value)
        assert "(several as effusion|mass, an unknown one as ?nodule), no finding, cannot tell" in str(caught.value)
        assert take(folder, tmp_path / "q.csv", skip_mistakes=True)["num_new"] == 1


def choice(*names, control="finding"):
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": list(names)}}


def task(*results, number=7):
    annotation = {
        "id": 1,
        "completed_by": 1,
        "was_cancelled": False,
        "lead_time": 1,
        "updated_at": "2026-03-01T10:00:00Z",
        "result": list(results),
    }
    return {"id": number, "data": {"image_id": "a" * 16}, "annotations": [annotation]}


class TestLabelStudio:
    def test_the_page_takes_several_and_asks_for_no_finding_in_words(self):
        finding, certainty = ElementTree.fromstring(label_studio_tasks.labelling_config(FINDINGS)).findall(".//Choices")
        assert (finding.get("choice"), finding.get("required")) == ("multiple", "true")
        assert certainty.get("choice") == "single"
        unknown = [f"?{name}" for name in FINDINGS]
        assert [one.get("value") for one in finding] == [*FINDINGS, NONE, *REMARKS, *unknown]
        assert [one.get("hotkey") for one in finding] == [*"1230cbn", None, None, None]
        alike = [one.get("style") for one in finding if one.get("value") in ("cannot tell", "?effusion")]
        assert alike[0] == alike[1] != [one.get("style") for one in finding][-1]

    @pytest.mark.parametrize(
        ("results", "reply"),
        [
            ([choice("nodule", "effusion")], "nodule|effusion"),
            ([choice("nodule"), choice("?mass")], "nodule|?mass"),
            ([choice(NONE), choice("sure", control="certainty")], NONE),
            ([], ""),
        ],
    )
    def test_several_choices_are_one_answer(self, results, reply):
        (row,) = exports.read_json("e.json", json.dumps([task(*results)]), several=True).rows
        assert row.reply == reply

    @pytest.mark.parametrize("alone", [NONE, *REMARKS])
    def test_what_speaks_of_the_whole_scan_stands_alone(self, alone):
        both = [task(choice("mass", alone), number=9), task(choice("mass"))]
        found = exports.read_json("e.json", json.dumps(both), several=True)
        told = f"e.json, task 9: finding has 2 choices, ['mass', {alone!r}]; {alone!r} stands alone"
        assert found.mistakes == (told,) and [row.reply for row in found.rows] == ["mass"]
        header = "annotation_id,annotator,image_id,lead_time,id,finding\n"
        cell = json.dumps({"choices": ["mass", alone]}).replace('"', '""')
        table = exports.read_csv("e.csv", f'{header}1,1,a,2.5,1,"{cell}"\n', several=True)
        assert [text.partition(":")[0] for text in table.mistakes] == ["e.csv, row 2"]

    @pytest.mark.parametrize("name", ["json.json", "json-min.json", "csv.csv", "tsv.tsv"])
    def test_every_file_of_a_server_tells_the_same_answers_and_mistakes(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes((server.EXPORTS_SEVERAL / name).read_bytes())
        ids = [server.scan_of(i) for i in range(len(server.CHOSEN))]
        asked = Scans(
            {image_id: [server.ROUND] for image_id in ids}, frozenset(), frozenset(ids), server.ROUND, server.RUN
        )
        found = harvest([path], asked, server.INDEPENDENT, Who())
        told = {image_id: text for image_id, text in zip(ids, server.CHOSEN.values(), strict=True) if text is not None}
        assert {a.image_id: a.reply for a in found.answers} == {
            image_id: reply_of(text, server.INDEPENDENT) for image_id, text in told.items()
        }
        assert [a.certainty for a in found.answers] == [None, "sure", "unsure"] * 2 + [None]
        assert [mistake.rpartition("; ")[2] for mistake in found.mistakes] == [
            "'no finding' stands alone",
            "'bad quality' stands alone",
        ]

    def test_one_certainty_only(self):
        wrong = task(choice("mass"), choice("sure", "unsure", control="certainty"))
        found = exports.read_json("e.json", json.dumps([wrong]), several=True)
        assert "certainty has 2 choices" in found.mistakes[0]

    def test_a_finding_chosen_as_present_and_as_unknown_is_told_with_its_task(self, folder, tmp_path):
        (first, *_) = waiting.queue_ids(folder)
        path = send(tmp_path / "full.json", [reading(first, "mass|?mass")], folder)
        with pytest.raises(InputError, match=r"full\.json, task 1: 'mass' is named twice"):
            take(folder, path)

    def test_proposals_show_all_that_is_said(self):
        shown = dict(zip("abc", [SAID["effusion|nodule"], SAID["mass"], SAID[NONE]], strict=True))
        made = label_studio_tasks.tasks(
            [(image_id, 1) for image_id in shown],
            str,
            run="r",
            round_index=2,
            findings=FINDINGS,
            predictions={image_id: (line, 0.5, "v") for image_id, line in shown.items()},
        )
        proposed = [one["predictions"][0]["result"] for one in made]
        assert proposed == [[choice("effusion", "nodule")], [choice("mass")], [choice(NONE)]]
        for wrong in ("pox", "effusion=1|pox=0", BAD_QUALITY, SAID["?mass"]):
            with pytest.raises(InputError, match="scan a: is no prediction"):
                label_studio_tasks.tasks(
                    [("a", 1)], str, run="r", round_index=2, findings=FINDINGS, predictions={"a": (wrong, 0.5, "v")}
                )


class TestHandouts:
    def test_every_file_offers_the_same(self, folder):
        labels.export_queue(folder, Wish())
        place = folder / "rounds" / "01"
        with zipfile.ZipFile(place / "bundle.zip") as bundle:
            page, table = bundle.read("index.html").decode(), bundle.read("queue.csv").decode()
        assert '"independent": true' in page and '"findings": ["effusion", "mass", "nodule"]' in page
        assert "effusion|mass, an unknown one as ?nodule" in table
        assert "effusion|mass, an unknown one as ?nodule" in (place / "queue.csv").read_text()
        assert 'choice="multiple"' in (place / "queue.labelstudio.xml").read_text()
        assert (place / "queue.html").read_text().count('name="unknown"') == NUM * len(FINDINGS)

    def test_the_model_of_the_round_before_speaks_of_every_finding_or_not_at_all(self, folder, template, caplog):
        ids = template.ids("train")[NUM : 2 * NUM]
        draw(folder, 2, ids)
        lines = [SAID["effusion|nodule"], SAID[NONE], SAID["?mass"], *[SAID["mass"]] * 3]
        probs = {
            "effusion": [0.9, 0.1, 0.2, *[0.3] * 3],
            "mass": [0.4, 0.3, 0.5, *[0.7] * 3],
            "nodule": [0.8] + [0.2] * 5,
        }
        table = {"image_id": ids, "split": ["train"] * NUM, "round": [1] * NUM, "predicted": lines}
        prob = {f"prob_{name}": pa.array(values, pa.float32()) for name, values in probs.items()}
        rounds = pa.array(table["round"], pa.int32())
        PREDICTIONS.write(folder / "rounds" / "01", pa.table({**table, "round": rounds, **prob}))
        found = worklist.open_worklist(folder, 2, [])
        said = handout_files.predictions(folder, found, "code", FINDINGS)
        assert list(said) == [*ids[:2], *ids[3:]]  # of the third it has nothing to say about the mass
        assert "no answer of the model is shown with 1 of 6 scans" in caplog.text
        assert [said[i][0] for i in said] == [*lines[:2], *lines[3:]]
        assert [round(said[i][1], 2) for i in said] == [0.6, 0.7, *[0.7] * 3]
        labels.export_queue(folder, Wish(formats=("labelstudio",), preannotate=True))
        tasks = json.loads((folder / "rounds" / "02" / "queue.labelstudio.json").read_text())
        assert tasks[0]["predictions"][0]["result"] == [choice("effusion", "nodule")]
        assert "predictions" not in tasks[2]


def test_a_remark_is_a_remark_whatever_the_findings():
    assert [answer_choices.says_all(text) for text in (*REMARKS, NONE, "None", "unknown", "mass", "?mass")] == [
        True
    ] * 6 + [
        False,
        False,
    ]
    assert reply_of(CANNOT_TELL, FINDINGS) == CANNOT_TELL and finding_line.meant(NONE, FINDINGS) == SAID[NONE]
