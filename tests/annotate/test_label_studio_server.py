"""The whole way through a real Label Studio server: page, tasks and scans in, answers out.

`make label-studio` installs it once, into the cache folder; `CXR_SSL_LABEL_STUDIO` names another Python that has it.
"""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.annotate.import_files import Scans, Who, harvest
from pipeline.annotate.label_studio import exports
from pipeline.annotate.label_studio import tasks as label_studio_tasks
from pipeline.contracts.answers import REMARKS
from pipeline.labels import label_table, verdicts
from pipeline.pool.phantoms import PhantomSpec, plan, render
from tests.support import label_studio_server as ls
from tests.support.people import say

pytestmark = [pytest.mark.labelstudio, pytest.mark.timeout(1500)]  # pip may be slow
PERIOD = 5  # of the ways to answer
NUM_ANSWERS = len(ls.FINDINGS) + len(REMARKS)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ls.serve(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@pytest.fixture(scope="module", params=[NUM_ANSWERS, pytest.param(PERIOD * NUM_ANSWERS, marks=pytest.mark.slow)])
def num_scans(request):
    """Every answer is given once; or in every way, and every certainty with each of both."""
    return request.param


@pytest.fixture(scope="module")
def sitting(server, num_scans):
    return ls.sit(server, num_scans, PERIOD)


def read(kind, text):
    reader = exports.read_csv if kind[:3] in ("CSV", "TSV") else exports.read_json
    return reader(f"{kind}.export", text)


@pytest.mark.parametrize("kind", ls.KINDS)
def test_every_answer_comes_back(sitting, num_scans, kind):
    exported = read(kind, sitting.texts[kind])
    answered = [row for row in exported.rows if row.reply]
    num_twice = len(range(4, num_scans, PERIOD))  # read by the second annotator as well
    assert len(answered) == len(sitting.answers) == num_scans + num_twice
    assert len({row.image_id for row in answered}) == num_scans
    assert {(row.image_id, row.reader): row._replace(where="", time=None) for row in answered} == sitting.answers
    assert all(row.time is not None and row.where for row in answered)
    assert exported.num_superseded == len(range(3, num_scans, PERIOD))
    header = next(csv.reader(io.StringIO(sitting.texts[kind]), delimiter="\t" if kind == "TSV" else ","))
    assert exports.is_export(header) == (kind in ("CSV", "TSV"))


@pytest.mark.parametrize("kind", ls.KINDS)
def test_every_answer_reaches_the_label_store_once(sitting, num_scans, kind, tmp_path):
    path = tmp_path / f"export.{kind}"
    path.write_text(sitting.texts[kind], "utf-8")
    asked = {image_id: [ls.ROUND] for image_id, _ in sitting.answers}
    scans = Scans(asked, frozenset(), frozenset(asked), ls.ROUND, ls.RUN)
    who = Who(accounts={"1": ls.ADMIN, "2": ls.SECOND})
    for num_new in (len(sitting.answers), 0):
        found = harvest([path], scans, ls.FINDINGS, who)
        assert found.mistakes == []
        assert say(tmp_path, found.answers, ls.FINDINGS) == num_new
    replies = verdicts.latest(label_table.read(tmp_path))
    names = {"1": ls.ADMIN, "2": ls.SECOND}
    assert replies == {
        (image_id, names.get(reader, reader)): row.reply for (image_id, reader), row in sitting.answers.items()
    }
    assert len({image_id for image_id, _ in replies}) == num_scans


def test_what_is_no_answer_is_counted_where_the_export_tells(sitting):
    part, whole = read("JSON", sitting.texts["JSON"]), read("JSON", sitting.texts["JSON all"])
    assert (part.num_skipped, part.num_drafts) == (1, 0)  # Label Studio leaves tasks without a submission out
    assert (whole.num_skipped, whole.num_drafts) == (1, 1)
    assert [row.reply for row in whole.rows].count("") == 3  # begun, empty, never opened
    assert [row for row in whole.rows if row.reply] == [row._replace(where=row.where) for row in part.rows if row.reply]


@pytest.mark.parametrize("kind", ls.KINDS[:3])
def test_a_reader_is_an_e_mail_where_the_export_has_it(sitting, kind):
    plain, mailed = read(kind, sitting.texts[kind]), read(kind, sitting.texts[f"{kind} e-mails"])
    assert {row.reader for row in mailed.rows if row.reply} == {ls.ADMIN, ls.SECOND}
    without = [{row._replace(reader="", where="") for row in found.rows if row.reply} for found in (plain, mailed)]
    assert without[0] == without[1]


def test_the_server_knows_every_class_and_remark(server, sitting):
    page = server.call("GET", f"/api/projects/{sitting.project}")["parsed_label_config"]
    assert page["finding"]["labels"] == [*ls.FINDINGS, *REMARKS]
    assert page["certainty"]["labels"] == ["sure", "unsure"]
    assert page["finding"]["inputs"][0]["value"] == "image"


def test_a_task_tells_nothing_but_what_it_must(server, sitting):
    tasks = server.call("GET", f"/api/projects/{sitting.project}/tasks?page_size=3")
    assert [set(task["data"]) for task in tasks] == [{"image", "image_id", "rank", "round", "run", "asked"}] * 3
    assert [task["predictions"] for task in tasks] == [[]] * 3


def test_scans_are_served_from_local_files(server):
    folder = server.media / ls.FOLDER
    folder.mkdir(parents=True)
    spec = PhantomSpec(num_patients=8, size_px=64)
    project = server.project("Served")
    server.call("POST", "/api/storages/localfiles", {"project": project, "path": str(folder)})
    scans = plan(spec)[:2]
    for i, scan in enumerate(scans):
        Image.fromarray(render(scan, spec)).save(folder / f"{i}.png")
    urls = [label_studio_tasks.local_files_url(f"{ls.FOLDER}/{i}.png") for i in range(2)]
    rows = [("a" * 16, 1), ("b" * 16, 2)]
    address = dict(zip("ab", urls, strict=True))
    tasks = label_studio_tasks.tasks(
        rows, lambda image_id: address[image_id[0]], run="r", round_index=1, findings=ls.FINDINGS
    )
    for number, scan, file in zip(server.load(project, tasks), scans, sorted(folder.iterdir()), strict=True):
        served = server.fetch("GET", server.call("GET", f"/api/tasks/{number}")["data"]["image"])
        assert served == file.read_bytes()
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(served))), render(scan, spec))


def test_proposals_are_shown_only_where_they_are_given(server):
    project = server.project("Proposals")
    shown = {f"{i:016x}": (name, 0.5 + i / 32, "round-2") for i, name in enumerate(ls.FINDINGS)}
    rows = [(image_id, rank) for rank, image_id in enumerate([*shown, "f" * 16], 1)]
    tasks = label_studio_tasks.tasks(
        rows, lambda name: name, run="r", round_index=1, findings=ls.FINDINGS, predictions=shown
    )
    for (image_id, _), number in zip(rows, server.load(project, tasks), strict=True):
        found = server.call("GET", f"/api/tasks/{number}")["predictions"]
        told = [(one["result"][0]["value"]["choices"], one["score"], one["model_version"]) for one in found]
        finding, score, version = shown.get(image_id, (None, None, None))
        assert told == ([([finding], score, version)] if finding else [])
    assert read("JSON", server.export(project, "JSON", everything=True)).rows[0].reply == ""  # no proposal is an answer


def test_several_choices_come_back_as_one_answer(server):
    for kind, text in ls.sit_with_several(server).items():
        reader = exports.read_csv if kind in ("CSV", "TSV") else exports.read_json
        found = reader(kind, text, several=True)
        answers = {ls.scan_of(i): text for i, text in enumerate(ls.CHOSEN.values()) if text is not None}
        assert {row.image_id: row.reply for row in found.rows} == answers
        assert len(found.mistakes) == 2 and all("stands alone" in mistake for mistake in found.mistakes)
