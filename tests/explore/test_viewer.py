"""What the page is told of a run, how far it may have come, and what it is never told."""

import csv
import io
import json

import numpy as np
import pytest

from pipeline.contracts.errors import InputError, RunDirError
from pipeline.explore import open_page
from pipeline.explore.scan_filter import Choice, Clause, Order
from pipeline.explore.viewer import Viewer
from pipeline.labels import label_table
from pipeline.runtime import run_files
from pipeline.selection.marks import Marks
from tests.support.explored_run import explored_run
from tests.support.waiting_run import SMALL, copy_of, moved, queue_ids, queue_rows, waiting_run
from tests.support.written_on import say_written_on

TOLD = ("label", "predicted", "probability", "uncertainty", "out_of_fold", "mistake")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return explored_run(tmp_path_factory.mktemp("explored") / "run")


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    return waiting_run(tmp_path_factory.mktemp("waiting") / "run", **SMALL)


def viewer(run):
    return Viewer(run.folder, run.ctx.config)


def known(view, key):
    table = view.table()
    return set(table.ids(np.flatnonzero(table.columns[key].known_N))) if key in table.columns else set()


def test_no_label_and_no_prediction_of_the_holdout_leaves_the_server(run):
    view, sealed = viewer(run), set(run.ids("holdout"))
    for key in TOLD:
        assert known(view, key) and not known(view, key) & sealed, key
    assert not known(view, "audit.label-conflict") & sealed  # that two labels differ tells of both
    assert known(view, "audit.near-duplicates") >= sealed
    for image_id in list(sealed)[:5]:
        told = view.scan(image_id)
        assert told["sealed"] and not {fact["title"] for fact in told["said"]} & {"label", "predicted", "mistake"}
    rows = list(csv.DictReader(io.StringIO(view.export(Choice(), Order(), manifest=False))))
    assert len(rows) == 120
    of_sealed = [row for row in rows if row["image_id"] in sealed]
    assert len(of_sealed) == 40 and all(row["label"] == row["predicted"] == row["mistake"] == "" for row in of_sealed)
    manifest = list(csv.DictReader(io.StringIO(view.export(Choice(), Order(), manifest=True))))
    assert len(manifest) == 80  # an address may name a class


def test_mistakes_are_of_a_model_that_had_not_seen_the_label(run):
    view = viewer(run)
    table, wrong = view.table(), Choice(where=(Clause(column="mistake", values=("yes",)),))
    mistaken = [card["image_id"] for card in view.gallery(wrong, Order(), 0, 100)["scans"]]
    label, says = (table.columns[key] for key in ("label", "out_of_fold"))
    assert 0 < len(mistaken) < 30
    for image_id in mistaken:
        row = table.row_of[image_id]
        assert label.text(row) == run.truth[image_id] != says.text(row)


def test_copies_lie_side_by_side_and_name_each_other(run):
    view = viewer(run)
    copies = Choice(where=(Clause(column="copies", values=("exact",)),))
    page = view.gallery(copies, Order(by="copies"), 0, 20, ["copies"])
    pictures = [card["picture"] for card in page["scans"]]
    assert page["num"] == 8 and all(pictures[i] == pictures[i + 1] for i in range(0, 8, 2))
    first, second = page["scans"][:2]
    assert first["facts"] == ["copies exact"]
    assert [card["image_id"] for card in view.scan(first["image_id"])["copies"]] == [second["image_id"]]


def test_the_scans_most_like_one_are_shown_without_its_copies(run, tmp_path):
    own = moved(run, copy_of(run, tmp_path / "run"))
    view = viewer(own)
    table = view.table()
    angle_N = np.linspace(0.0, 1.5, len(table))
    np.save(own.folder / run_files.SIMILARITY, np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1).astype(np.float32))
    row = int(np.flatnonzero(table.picture_N == np.argmax(np.bincount(table.picture_N)))[0])  # one that has a copy
    others = np.flatnonzero(table.picture_N != table.picture_N[row])
    nearest = others[np.argsort(np.abs(angle_N[others] - angle_N[row]), kind="stable")[:8]]
    alike = [card["image_id"] for card in view.scan(table.ids(np.array([row]))[0])["alike"]]
    assert len(alike) == 8 and set(alike) == set(table.ids(nearest))


def test_a_scan_is_found_by_the_first_letters_of_its_name(run):
    view = viewer(run)
    ids = view.table().ids_N.to_pylist()
    assert view.beginning(ids[7].upper()) == [ids[7]]
    assert set(view.beginning(ids[7][:4])) == {image_id for image_id in ids if image_id.startswith(ids[7][:4])}
    assert view.beginning("ffffffffffffffff") == []


def test_why_a_scan_was_asked_for_is_said_in_words_and_what_was_not_asked_is_not_called_unknown(run):
    view = viewer(run)
    assert set(view.table().columns["asked_as"].names) == {"random", "typical"}
    unknown = {column["key"]: column["unknown"] for column in view.about()["columns"]}
    assert (unknown["asked"], unknown["label"], unknown["split"]) == ("not asked", "sealed or not known", "not known")


def test_examples_of_a_check_are_counted_beside_all_that_it_counts(run, tmp_path):
    own = moved(run, copy_of(run, tmp_path / "run"))
    path = own.folder / run_files.AUDIT
    audit = json.loads(path.read_text("utf-8"))
    audit["checks"][0]["count"] = 1_054
    path.write_text(json.dumps(audit), "utf-8")
    titles = {key: column.title for key, column in viewer(own).table().columns.items()}
    assert titles["audit.near-duplicates"] == "audit: near-duplicates (2 examples of 1,054)"


def test_scans_of_the_open_queue_are_not_told_what_to_answer(waiting):
    view = viewer(waiting)
    assert known(view, "asked") == set(queue_ids(waiting.folder))
    assert known(view, "asked_as") == set()  # why it was asked would tell which slice is blind
    assert "predicted" not in view.table().columns
    assert any("no predictions yet" in text for text in view.about()["missing"])


def test_a_wish_says_what_was_left_out_and_why(waiting, tmp_path):
    run = moved(waiting, copy_of(waiting, tmp_path / "run"))
    view = viewer(run)
    fresh = [i for i in run.ids("train") if i not in queue_ids(run.folder)][:3]
    asked = next(row["image_id"] for row in queue_rows(run.folder) if row["kind"] != "holdout")
    sealed = [i for i in run.ids("holdout") if i not in queue_ids(run.folder)][:2]
    done = view.wish("Ann", Choice(named=(*fresh, asked, *sealed)), give=True)
    assert (done.num, done.left_out) == (3, {"are of the sealed holdout": 2, "are in a queue": 1})
    assert list(Marks.open(run.folder).wishes) == sorted(fresh, key=view.table().row_of.get)
    assert view.gallery(Choice(where=(Clause(column="next_queue", values=("yes",)),)), Order(), 0, 10)["num"] == 3
    with pytest.raises(InputError, match="none of these scans can be asked for: 2 are of the sealed holdout"):
        view.wish("Ann", Choice(named=tuple(sealed)), give=True)
    view.wish("Ben", Choice(named=(fresh[0],)), give=False)
    assert set(Marks.open(run.folder).wishes) == set(fresh[1:])


def test_what_another_process_marks_or_the_run_learns_is_seen_at_the_next_look(waiting, tmp_path):
    run = moved(waiting, copy_of(waiting, tmp_path / "run"))
    view = viewer(run)
    Marks.open(run.folder).tag("Ben", "odd", run.ids("train")[:2])
    assert [column["key"] for column in view.about()["columns"]][-1] == "tag.odd"
    assert view.scan(run.ids("train")[0])["tags"] == ["odd"]
    (run.folder / run_files.AUDIT).write_text(json.dumps({"checks": []}), "utf-8")
    assert not any("audited" in text for text in view.about()["missing"])


def test_a_run_that_is_embedded_and_no_more_has_a_map(waiting, tmp_path):
    run = moved(waiting, copy_of(waiting, tmp_path / "run"))
    for name in ("splits", "clusters", "duplicates", "labels", "pool_labels"):
        (run.folder / f"{name}.parquet").unlink(missing_ok=True)
    for name in (run_files.SIMILARITY, run_files.FEATURES, run_files.BASIS):
        (run.folder / name).unlink()
    view = viewer(run)
    assert view.gallery(Choice(), Order(by="outlier"), 0, 5)["num"] == 70
    assert any("no split yet" in text for text in view.about()["missing"])
    with pytest.raises(InputError, match="no split yet"):
        view.wish("Ann", Choice(), give=True)


def test_a_run_without_vectors_and_a_folder_that_is_no_run_are_one_clear_error(waiting, tmp_path):
    run = moved(waiting, copy_of(waiting, tmp_path / "run"))
    (run.folder / run_files.EMBEDDED).unlink()
    with pytest.raises(RunDirError, match=r"has no vectors yet.*--resume"):
        viewer(run)
    with pytest.raises(RunDirError, match="is not a run directory"):
        open_page.explore(tmp_path, host="127.0.0.1", port=0, url=None, ready=print)


def test_the_map_is_worked_out_once_and_again_for_other_vectors(waiting, tmp_path, monkeypatch):
    from pipeline.explore import neighbor_map

    run = moved(waiting, copy_of(waiting, tmp_path / "run"))
    (run.folder / run_files.EXPLORE).unlink(missing_ok=True)
    calls, place = [], neighbor_map.place
    monkeypatch.setattr(neighbor_map, "place", lambda *given: calls.append(1) or place(*given))
    first = viewer(run).table().xy_N2
    assert (viewer(run).table().xy_N2 == first).all() and len(calls) == 1
    similar_NP = np.load(run.folder / run_files.SIMILARITY)
    np.save(run.folder / run_files.SIMILARITY, similar_NP[::-1])
    viewer(run)
    assert len(calls) == 2


def test_readers_who_disagree_are_seen(waiting, tmp_path):
    from pipeline.contracts.answers import Answer

    run = moved(waiting, copy_of(waiting, tmp_path / "run"))
    first, second = [i for i in run.ids("train") if i not in queue_ids(run.folder)][:2]
    said = [Answer(first, "normal", "Ann", 1), Answer(first, "pneumonia", "Ben", 1)]
    said += [Answer(second, "normal", who, 1) for who in ("Ann", "Ben")]
    label_table.add_answers(run.folder, said, ("normal", "pneumonia"))
    table = viewer(run).table()
    assert [table.columns["disagreement"].text(table.row_of[i]) for i in (first, second)] == ["yes", "no"]


def test_a_manifest_to_take_away_leaves_out_scans_with_text_burnt_in(run, tmp_path):
    own = moved(run, copy_of(run, tmp_path / "run"))
    written = list(own.ids("train"))[:3]
    say_written_on(own.folder, written)
    allowed = own.ctx.config.model_copy(
        update={"pool": own.ctx.config.pool.model_copy(update={"allow_burned_in_text": True})}
    )
    num = [
        len(Viewer(own.folder, config).export(Choice(), Order(), manifest=True).splitlines())
        for config in (own.ctx.config, allowed)
    ]
    assert num == [78, 81]
