"""The same answers give the same label table, byte for byte, whatever the way and the order in which they came."""

import shutil
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotate.import_files import Who
from pipeline.commands import labels
from pipeline.contracts.answers import REMARKS
from pipeline.labels import label_table
from pipeline.labels.journal import Journal
from pipeline.runtime import run_files
from tests.support import waiting_run as waiting
from tests.support.waiting_run import FINDINGS, ROUTES, WHEN, reading, send

quick = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ROUTE = st.sampled_from(sorted(ROUTES))
NAMES = ("ann@example.org", "Bob@example.org")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return waiting.waiting_run(tmp_path_factory.mktemp("routes") / "run").folder


@pytest.fixture(scope="module")
def place(template, tmp_path_factory):
    """Folders that are emptied of answers, so that no example has to make a run."""
    base = tmp_path_factory.mktemp("places")

    def fresh(name):
        folder = base / name
        if not folder.exists():
            shutil.copytree(template, folder)
        for path in (run_files.ANSWERS, "labels.parquet"):
            (folder / path).unlink(missing_ok=True)
        return folder

    return fresh


@st.composite
def sittings(draw):
    """Answers of one annotator or two to some of the queue's scans, in the order in which they were given."""
    numbers = draw(st.lists(st.integers(0, 13), min_size=1, max_size=14, unique=True))
    names = draw(st.sampled_from([NAMES[:1], NAMES]))
    found = []
    for minute, number in enumerate(numbers):
        for name in names:
            if name == names[0] or draw(st.booleans()):
                reply = draw(st.sampled_from([*FINDINGS, *REMARKS]))
                certainty = draw(st.sampled_from([None, "sure", "unsure"]))
                found.append((number, reply, name, certainty, WHEN.replace(minute=minute)))
    return found


def readings_of(folder, sitting):
    ids = waiting.queue_ids(folder)
    return [reading(ids[n], reply, name, certainty=c, time=time) for n, reply, name, c, time in sitting]


def take(folder, *paths):
    return labels.import_labels(folder, list(paths), Who())


def table(folder):
    return (folder / "labels.parquet").read_bytes()


@quick
@given(sitting=sittings())
def test_every_route_gives_the_same_bytes(place, tmp_path_factory, sitting):
    base, tables = tmp_path_factory.mktemp("files"), {}
    for name in ROUTES:
        folder = place(name)
        found = take(folder, send(base / name, readings_of(folder, sitting), folder))
        assert (found["num_new"], found["num_changed"], found["num_mistakes"]) == (len(sitting), 0, 0)
        tables[name] = table(folder)
    assert len(set(tables.values())) == 1
    rows = label_table.read(place("answers.csv"))
    assert len(rows) == 0  # `place` empties
    take(folder, send(base / name, readings_of(folder, sitting), folder))
    told = {
        (r["image_id"], r["annotator"], r["reply"], r["certainty"], r["time"])
        for r in label_table.read(folder).to_pylist()
    }
    ids = waiting.queue_ids(folder)
    assert told == {(ids[n], name, reply, c, time) for n, reply, name, c, time in sitting}


@quick
@given(sitting=sittings(), data=st.data())
def test_parts_in_any_order_by_any_route_and_again(place, tmp_path_factory, sitting, data):
    """Files cut into parts that overlap, shuffled, sent more than once, each by its own route."""
    base, whole, parts = tmp_path_factory.mktemp("files"), place("whole"), place("parts")
    take(whole, send(base / "answers.csv", readings_of(whole, sitting), whole))
    rows = data.draw(st.permutations(readings_of(parts, sitting)))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(rows)), max_size=3)))
    pieces = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True) if start < end]
    pieces += data.draw(st.lists(st.sampled_from(pieces), max_size=2))
    num_new = 0
    for number, piece in enumerate(data.draw(st.permutations(pieces))):
        (base / f"{number}").mkdir(exist_ok=True)
        num_new += take(parts, send(base / f"{number}" / data.draw(ROUTE), piece, parts))["num_new"]
    assert num_new == len(rows)
    assert table(parts) == table(whole)


@quick
@given(sitting=sittings(), data=st.data())
def test_an_import_undone_and_done_again(place, tmp_path_factory, sitting, data):
    base, whole, undone = tmp_path_factory.mktemp("files"), place("whole"), place("undone")
    take(whole, send(base / "answers.csv", readings_of(whole, sitting), whole))
    rows = readings_of(undone, sitting)
    cut = data.draw(st.integers(0, len(rows)))
    files = []
    for number, piece in enumerate((rows[:cut], rows[cut:])):
        if piece:
            (base / f"{number}").mkdir()
            files.append(send(base / f"{number}" / data.draw(ROUTE), piece, undone))
            take(undone, files[-1])
    name = str(data.draw(st.integers(1, len(files))))
    before = table(undone)
    found = labels.undo(undone, name)
    gone = len(rows[:cut] if name == "1" and cut else rows[cut:])
    assert found["num_undone"] == gone
    assert len(Journal.open(undone).active()) == len(rows) - gone
    assert take(undone, *files)["num_new"] == gone
    assert table(undone) == before == table(whole)


@quick
@given(sitting=sittings(), data=st.data())
def test_the_page_and_files_give_the_same_bytes(place, tmp_path_factory, sitting, data):
    """An answer given at the page counts as the same answer in a file: the page alone knows its time."""
    base, whole, mixed = tmp_path_factory.mktemp("files"), place("whole"), place("mixed")
    timeless = [row | {"labelled_at": None, "seconds": ""} for row in readings_of(whole, sitting)]
    take(whole, send(base / "answers.csv", timeless, whole))
    take(mixed, send(base / "answers.csv", data.draw(st.permutations(timeless)), mixed))
    (base / "again").mkdir()
    timed = take(mixed, send(base / "again" / data.draw(ROUTE), readings_of(mixed, sitting), mixed))
    assert (timed["num_new"], timed["num_known"]) == (0, len(sitting))
    assert table(mixed) == table(whole)


@quick
@given(sitting=sittings())
def test_two_annotators_interleaved_or_one_after_the_other(place, tmp_path_factory, sitting):
    base, whole, apart = tmp_path_factory.mktemp("files"), place("whole"), place("apart")
    rows = readings_of(whole, sitting)
    take(whole, send(base / "answers.csv", rows, whole))
    by_name = sorted(rows, key=lambda row: row["annotator"], reverse=True)
    for name, mine in groupby(by_name, key=lambda row: row["annotator"]):
        (base / name).mkdir()
        take(apart, send(base / name / "full.json", list(mine), apart))
    assert table(apart) == table(whole)
