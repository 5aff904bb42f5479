"""Queues leave as files: blind, shared out evenly, everybody's own."""

import csv
import html
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.annotate import assignments, handout_files, worklist
from pipeline.annotate.assignments import assign
from pipeline.annotate.handout_files import Wish
from pipeline.annotate.worklist import Ask, Worklist
from pipeline.commands import labels
from pipeline.contracts.answers import REMARKS, Answer
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import QUEUE
from pipeline.runtime import run_files
from tests.support import waiting_run as waiting
from tests.support.people import say
from tests.support.tiny import call
from tests.support.waiting_run import FINDINGS
from tests.support.written_on import say_written_on

NAMES = ("Ann", "Dr. Jörg O'Neill", "bob@example.org")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return waiting.waiting_run(tmp_path_factory.mktemp("secretrun") / "run")


@pytest.fixture
def folder(template, tmp_path):
    return waiting.copy_of(template, tmp_path / "run")


def export(folder, *names, **options):
    return labels.export_queue(folder, Wish(names, **options))


def table(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def answer(folder, ids, name="Ann", round_index=1):
    return say(folder, [Answer(i, "normal", name, round_index) for i in ids], FINDINGS)


class TestFiles:
    def test_columns_order_and_pictures(self, folder):
        place = folder / "rounds" / "01"
        rows = table(place / "queue.csv")
        assert list(rows[0])[:4] == ["image_id", "rank", "file", "label"]
        assert [row["image_id"] for row in rows] == waiting.queue_ids(folder)
        assert [int(row["rank"]) for row in rows] == list(range(1, 15))
        assert {(row["label"], row["annotator"], row["round"]) for row in rows} == {("", "", "1")}
        assert {row["choices"] for row in rows} == {" | ".join([*FINDINGS, *REMARKS])}
        assert {row["run"] for row in rows} == {run_files.run_code(folder)}
        for row in rows:
            assert Image.open(place / row["file"]).size == (32, 32)
            assert Image.open(place / row["file"]).info == {}

    def test_no_file_tells_why_whose_or_where_from(self, template, folder):
        """Neither kind, nor proposal, nor path, nor patient, nor score, nor who else reads what."""
        export(folder, *NAMES)
        rows = waiting.queue_rows(folder)
        kinds = {row["kind"] for row in rows}
        assert kinds == {"representative", "uniform", "holdout"}
        secrets = [*kinds, "recheck", "dispute", "doubt", "proposed", "cluster", "score", "secretfolder", "scan.png"]
        secrets += [str(folder), str(folder.parent), str(template.folder)]
        secrets += [template.patient[row["image_id"]] for row in rows]
        files = [p for p in (folder / "rounds" / "01").rglob("queue.*") if p.suffix not in (".parquet",)]
        files = [p for p in files if p.name != "queue.json"]  # the options it was drawn with: not handed out
        assert {p.name for p in files} == {"queue.csv", "queue.html", "queue.labelstudio.json", "queue.labelstudio.xml"}
        texts = {path: path.read_text("utf-8") for path in files}
        for path in (folder / "rounds" / "01").rglob("bundle.zip"):
            with zipfile.ZipFile(path) as bundle:
                inside = [name for name in bundle.namelist() if not name.endswith(".png")]
                texts |= {path / name: bundle.read(name).decode("utf-8") for name in inside}
        assert len(texts) == 4 * 4 + 3 * 3
        for path, text in texts.items():
            text = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", text)
            text = re.sub(r"(?s)<(style|script)\b[^>]*>.*?</\1>", "", text) if path.name != "queue.csv" else text
            found = [word for word in secrets if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)]
            assert found == [], path
            others = [name for name in NAMES if re.search(rf"\b{re.escape(name)}\b", html.unescape(text))]
            owner = [name for name in NAMES if handout_files.slug(name) in path.parts]
            assert set(others) <= set(owner), path

    def test_the_data_in_a_bundles_page_tells_no_more(self, folder):
        export(folder, "Ann", formats=("bundle",))
        (path,) = folder.rglob("bundle.zip")
        page = zipfile.ZipFile(path).read("index.html").decode()
        assert not {w for w in ("representative", "holdout", "secretfolder") if w in page}

    def test_label_studio_finds_the_pictures_below_the_runs_parent(self, folder):
        tasks = json.loads((folder / "rounds" / "01" / "queue.labelstudio.json").read_text())
        assert [task["data"]["image_id"] for task in tasks] == waiting.queue_ids(folder)
        image_id = tasks[0]["data"]["image_id"]
        assert tasks[0]["data"]["image"] == f"/data/local-files/?d=run/rounds/01/images/{image_id}.png"
        assert "predictions" not in tasks[0]
        export(folder, "Ann", formats=("labelstudio",))
        own = json.loads((folder / "rounds" / "01" / "annotators" / "Ann" / "queue.labelstudio.json").read_text())
        assert {task["data"]["asked"] for task in own} == {"Ann"}
        assert f"/data/local-files/?d=run/rounds/01/images/{image_id}.png" in {t["data"]["image"] for t in own}

    @pytest.mark.objectstore
    def test_pictures_by_their_address_or_copied_to_a_store(self, folder):
        export(folder, formats=("labelstudio",), images_url="https://example.org/scans/")
        path = folder / "rounds" / "01" / "queue.labelstudio.json"
        first = json.loads(path.read_text())[0]["data"]
        assert first["image"] == f"https://example.org/scans/{first['image_id']}.png"
        export(folder, formats=("labelstudio",), images_url="memory://bucket/scans")
        first = json.loads(path.read_text())[0]["data"]
        import fsspec

        store = fsspec.filesystem("memory")
        assert len(store.ls("/bucket/scans")) == 14
        assert first["image"] == f"memory://bucket/scans/{first['image_id']}.png"
        with pytest.raises(InputError, match="pictures cannot be copied there"):
            export(folder, formats=("labelstudio",), images_url="nonsense://bucket")

    def test_what_is_answered_is_not_asked_again(self, folder):
        ids = waiting.queue_ids(folder)
        answer(folder, ids[:5])
        found = export(folder)
        assert found["num_scans"] == {"": 9}
        assert [row["image_id"] for row in table(folder / "rounds" / "01" / "queue.csv")] == ids[5:]

    def test_a_label_the_pool_brings_later_is_not_asked_again(self, folder):
        from pipeline.contracts.answers import POOL
        from pipeline.labels.label_table import add_answers

        ids = waiting.queue_ids(folder)
        add_answers(folder, [Answer(ids[0], "normal", POOL, 0)], FINDINGS)
        assert export(folder)["num_scans"] == {"": 13}
        export(folder, "Ann", "Bob")
        assert {i for mine in lists_of(folder, ("Ann", "Bob")).values() for i in mine} == set(ids[1:])

    @pytest.mark.parametrize("names", [(), ("Ann",)])
    def test_a_filled_table_survives_another_export(self, folder, names):
        export(folder, *names, formats=("csv",))
        path = folder / "rounds" / "01" / ("annotators/Ann" if names else ".") / "queue.csv"
        filled = path.read_text().replace(".png,,", ".png,normal,", 1)
        for spoilt in (filled, "no table at all", filled + '"never closed'):
            path.write_text(spoilt)
            export(folder, *names)
            assert path.read_text() == spoilt
        path.write_text(filled.replace(",normal,", ",,"))
        export(folder, *names, formats=("csv",))
        assert len(table(path)) == 14

    def test_the_same_export_gives_the_same_bytes(self, folder):
        def contents():
            return {p: p.read_bytes() for p in (folder / "rounds" / "01").rglob("*") if p.is_file()}

        export(folder, *NAMES)
        before = contents()
        export(folder, *NAMES)
        assert contents() == before

    def test_a_format_that_is_none_and_a_run_without_a_queue(self, folder):
        with pytest.raises(InputError, match=r"pdf.*Choose of labelstudio, csv, html, bundle"):
            export(folder, formats=("csv", "pdf"))
        for path in folder.glob("rounds/*/queue.parquet"):
            path.unlink()
        with pytest.raises(InputError, match="has no queue yet"):
            export(folder)


def lists_of(folder, names, round_index=1):
    place = folder / "rounds" / f"{round_index:02d}" / "annotators"
    return {name: [row["image_id"] for row in table(place / handout_files.slug(name) / "queue.csv")] for name in names}


class TestShares:
    def test_even_shares_and_files_of_their_own(self, folder):
        found = export(folder, *NAMES)
        lists = lists_of(folder, NAMES)
        assert sorted(len(mine) for mine in lists.values()) == [4, 5, 5]
        assert sorted(i for mine in lists.values() for i in mine) == sorted(waiting.queue_ids(folder))
        assert found["num_scans"] == {name: len(lists[name]) for name in NAMES}
        for name in NAMES:
            place = folder / "rounds" / "01" / "annotators" / handout_files.slug(name)
            rows = table(place / "queue.csv")
            assert {row["annotator"] for row in rows} == {name}
            assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
            assert all((place / row["file"]).exists() for row in rows)
            assert {p.name for p in place.iterdir()} == {
                "queue.csv",
                "queue.html",
                "queue.labelstudio.json",
                "queue.labelstudio.xml",
                "bundle.zip",
            }
        assert assignments.holders(folder, 1) == {i: {name} for name in NAMES for i in lists[name]}

    def test_earlier_shares_do_not_change(self, folder):
        export(folder, "Ann", "Bob")
        before = lists_of(folder, ("Ann", "Bob"))
        answer(folder, before["Ann"][:2])
        export(folder, "Ann", "Bob")
        assert lists_of(folder, ("Ann", "Bob")) == before
        with pytest.raises(InputError, match=r"nothing is left for Cleo: all 12 open scans are handed out.*--reassign"):
            export(folder, "Cleo")
        assert assignments.assignments(folder, 1) == before

    def test_reassigned_is_what_is_not_answered(self, folder):
        export(folder, "Ann", "Bob")
        mine = lists_of(folder, ("Ann",))["Ann"]
        answer(folder, mine[:3])
        export(folder, "Bob", "Cleo", reassign=True)
        lists = lists_of(folder, ("Bob", "Cleo"))
        assert sorted(i for share in lists.values() for i in share) == sorted(
            set(waiting.queue_ids(folder)) - {*mine[:3]}
        )
        assert set(assignments.assignments(folder, 1)) == {"Bob", "Cleo"}

    def test_when_all_is_answered_there_is_nothing_to_hand_out(self, folder):
        answer(folder, waiting.queue_ids(folder))
        with pytest.raises(InputError, match=r"nothing is left for Ann\. Every scan of this queue is answered"):
            export(folder, "Ann")

    def test_the_command(self, folder):
        found = call(
            "queue", "export", folder, "--annotator", " Ann ", "--annotator", "Ann", "--format", "csv", "--json"
        ).json
        assert found["num_scans"] == {"Ann": 14} and found["run"] == run_files.run_code(folder)
        assert found["files"] == {"Ann": [str(folder / "rounds" / "01" / "annotators" / "Ann" / "queue.csv")]}
        wrong = call("queue", "export", folder, "--annotator", "=cmd")
        assert wrong.code == 2 and "is no annotator's name" in wrong.message
        assert call("queue", "export", folder, "--format", "exe").code == 2

    def test_slugs_are_safe_and_different(self):
        names = ("Ann", "ann/x", "ann-x", "ann x", "Jörg", "a..", "x@y.z", "李", "A" * 64, "a:b", "a+b", "a'b")
        slugs = [handout_files.slug(name) for name in names]
        assert len({s.casefold() for s in slugs}) == len(names)
        assert not [s for s in slugs if "/" in s or "\\" in s or ":" in s or s.startswith(".")]


def listed(readers, again=(), spoken=None):
    asks = tuple(Ask(f"s{i:03d}", i + 1, "dispute" if i in again else "uniform", num) for i, num in enumerate(readers))
    return Worklist(2, asks, {}, {f"s{i:03d}": set(names) for i, names in (spoken or {}).items()})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    readers=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    num_names=st.integers(1, 5),
    done=st.lists(st.tuples(st.integers(0, 29), st.sampled_from(["n0", "n1", "x"])), max_size=20),
)
def test_everybody_reads_a_scan_once_and_every_scan_has_its_readers(readers, num_names, done):
    found = listed(readers)
    for i, name in done:
        found.hear(Answer(f"s{i:03d}", "normal", name, 2))
    names = [f"n{k}" for k in range(num_names)]
    lists = assign(found, names, {}, lambda name: [], 0.0)
    for mine in lists.values():
        assert len(mine) == len(set(mine))
    for ask in found.asks:
        holders = [name for name in names if ask.image_id in lists[name]]
        read = found.readers.get(ask.image_id, set())
        assert not set(holders) & read
        assert len(holders) == min(found.missing(ask), len(set(names) - read))
    if not done and set(readers) == {1}:
        assert max(map(len, lists.values())) - min(map(len, lists.values())) <= 1
    assert assign(found, names, lists, lambda name: [], 0.0) == lists  # what is handed out stays so
    more = assign(found, [*names, "late"], lists, lambda name: [], 0.0)
    assert {name: more[name] for name in names} == lists


def test_a_dispute_goes_to_somebody_else_where_there_is_one():
    found = listed([1] * 10, again=range(10), spoken={i: ["n0", "n1"] for i in range(10)})
    assert list(map(len, assign(found, ["n0", "n1", "n2"], {}, lambda name: [], 0.0).values())) == [0, 0, 10]
    assert list(map(len, assign(found, ["n0", "n1"], {}, lambda name: [], 0.0).values())) == [5, 5]


def test_own_earlier_answers_come_again_among_the_new_never_twice():
    again = [f"r{i}" for i in range(20)]
    lists = assign(listed([1] * 40), ["n0"], {}, lambda name: again, 0.2)
    mine = lists["n0"]
    num = worklist.num_rereads("n0", 2, 39, 0.2)
    assert num > 2 and [i for i in mine if i in again] == again[:num]
    assert mine[-1] not in again and mine[0] not in again
    for count, image_id in enumerate(mine):
        if image_id in again:  # never earlier than its draw
            new = sum(i not in again for i in mine[:count])
            assert again.index(image_id) < worklist.num_rereads("n0", 2, new, 0.2)
    assert assign(listed([1] * 40), ["n0"], {}, lambda name: again, 0.0)["n0"] == [i for i in mine if i not in again]
    assert assign(listed([1] * 40), ["n0"], lists, lambda name: again, 0.2) == lists
    few = assign(listed([1] * 40), ["n0"], {}, lambda name: ["r0"], 0.5)["n0"]
    assert few.count("r0") == 1 and len(few) == 41


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Round 2: what Ann and Bob read in round 1 may come again, blind."""
    run = waiting.waiting_run(tmp_path_factory.mktemp("second") / "run", queue__reread_share=0.5)
    ids = waiting.queue_ids(run.folder)
    say(run.folder, [Answer(i, run.truth[i], ("Ann", "Bob")[n % 2], 1) for n, i in enumerate(ids)], FINDINGS)
    assert "round 2 waits for 10" in waiting.waits(run)
    return run


class TestLaterRounds:
    def test_rereads_in_files_look_like_all_others(self, second, tmp_path):
        folder = waiting.copy_of(second, tmp_path / "run")
        export(folder, "Ann", "Bob")
        old, new = set(waiting.queue_ids(folder)), set(waiting.queue_ids(folder, 2))
        sealed = {row["image_id"] for row in waiting.queue_rows(folder) if row["kind"] == "holdout"}
        for n, (name, mine) in enumerate(lists_of(folder, ("Ann", "Bob"), 2).items()):
            again = [i for i in mine if i in old]
            assert len(again) == min(worklist.num_rereads(name, 2, 4, 0.5), 9) and not sealed & {*again}
            assert set(again) <= set(waiting.queue_ids(folder)[n::2])  # her own
            assert len(set(mine) & new) == 5 and mine[-1] in new
            rows = table(folder / "rounds" / "02" / "annotators" / name / "queue.csv")
            assert {row["round"] for row in rows} == {"2"}
            assert all((folder / "rounds" / "02" / "annotators" / name / row["file"]).exists() for row in rows)

    def test_a_reread_that_came_in_is_an_answer_of_its_own_round(self, second, tmp_path):
        from pipeline.annotate.import_files import Who
        from pipeline.labels.journal import Journal

        folder = waiting.copy_of(second, tmp_path / "run")
        export(folder, "Ann", formats=("csv",))
        path = folder / "rounds" / "02" / "annotators" / "Ann" / "queue.csv"
        path.write_text(path.read_text("utf-8").replace(".png,,", ".png,pneumonia,"), "utf-8")
        found = labels.import_labels(folder, [path], Who())
        with path.open(newline="", encoding="utf-8-sig") as stream:
            num = sum(1 for _ in csv.DictReader(stream))
        assert 10 < num <= 10 + worklist.num_rereads("Ann", 2, 9, 0.5)  # no more than she has read before
        assert (found["num_new"], found["num_changed"]) == (num, 0)
        given = [one.answer for one in Journal.open(folder).active() if one.answer.annotator == "Ann"]
        assert [a.round_index for a in given] == [1] * 7 + [2] * num

    def test_the_models_answer_is_shown_on_request_and_only_where_nothing_is_measured(self, second, tmp_path):
        folder = waiting.copy_of(second, tmp_path / "run")
        kinds = {row["image_id"]: row["kind"] for row in QUEUE.read(folder / "rounds" / "02").to_pylist()}
        export(folder, formats=("labelstudio",))
        path = folder / "rounds" / "02" / "queue.labelstudio.json"
        assert not [task for task in json.loads(path.read_text()) if "predictions" in task]
        export(folder, formats=("labelstudio",), preannotate=True)
        tasks = {task["data"]["image_id"]: task.get("predictions") for task in json.loads(path.read_text())}
        assert {kind for i, kind in kinds.items() if tasks[i]} == {"representative"}
        assert all(tasks[i] for i, kind in kinds.items() if kind == "representative")
        shown = next(found for found in tasks.values() if found)[0]
        assert shown["model_version"] == f"{run_files.run_code(folder)}-round-1" and 0 < shown["score"] <= 1


class TestTextBurntIn:
    def test_such_scans_are_in_no_file_unless_it_is_allowed(self, template, folder):
        kept, *others = waiting.queue_ids(folder)
        say_written_on(folder, [kept])
        shutil.rmtree(folder / "rounds" / "01" / "images")
        handed = export(folder, "Ann")
        files = handed["files"]["Ann"]
        place = folder / "rounds" / "01"
        assert handed["num_scans"] == {"Ann": len(others)}  # nobody has the other one, who might still read it
        assert kept not in (place / "assignments.json").read_text()
        assert {path.stem for path in (place / "images").iterdir()} == set(others)
        assert not [path for path in files if kept in content_of(path)]
        assert all(others[0] in content_of(path) for path in files if not path.endswith(".xml"))
        sheet = next(Path(path) for path in files if path.endswith("queue.html"))
        assert "1 more scan of this list is left to the labelling page" in sheet.read_text("utf-8")
        config = template.ctx.config.pool.model_copy(update={"allow_burned_in_text": True})
        wish = Wish(("Bob",), reassign=True)
        handout_files.hand_out(folder, FINDINGS, [], wish, pool=config, reread_share=0.0)
        assert (place / "images" / f"{kept}.png").exists()


def content_of(path):
    if not path.endswith(".zip"):
        return Path(path).read_text("utf-8")
    with zipfile.ZipFile(path) as bundle:
        return " ".join(bundle.namelist()) + bundle.read("index.html").decode()
