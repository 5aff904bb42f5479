"""One ZIP file that opens without a server, and comes back as answers."""

import csv
import io
import json
import re
import zipfile

import pytest
from PIL import Image

from pipeline.annotate.import_files import Scans, Who, harvest
from pipeline.annotate.queue_csv import Origin, Row
from pipeline.annotate.zip_bundle import write_bundle
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.errors import InputError

FINDINGS = ("normal", "</script><script>alert(1)</script>")
ROWS = tuple(Row(f"{i:016x}", i + 1, f"../../images/{i:016x}.png") for i in range(3))
SCANS = Scans({row.image_id: [1] for row in ROWS}, frozenset(), frozenset(), 1, "c0ffee")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for row in ROWS:
        Image.new("L", (8, 8)).save(folder / f"{row.image_id}.png")
    return folder


def write(path, pictures, name="Ann"):
    write_bundle(path, ROWS, pictures, FINDINGS, Origin(name, 1, "c0ffee"))
    return zipfile.ZipFile(path)


def test_what_is_in_it(tmp_path, pictures):
    bundle = write(tmp_path / "b.zip", pictures)
    images = [f"images/{row.image_id}.png" for row in ROWS]
    assert bundle.namelist() == ["index.html", "queue.csv", "README.txt", *images]
    rows = list(csv.DictReader(io.StringIO(bundle.read("queue.csv").decode())))
    assert [row["file"] for row in rows] == images
    assert {row["annotator"] for row in rows} == {"Ann"}
    for name in images:
        assert bundle.read(name) == (pictures / name.split("/")[1]).read_bytes()
    assert not [info for info in bundle.infolist() if info.filename.startswith(("/", "..")) or "\\" in info.filename]


def test_the_same_scans_give_the_same_bytes(tmp_path, pictures):
    write(tmp_path / "1.zip", pictures)
    write(tmp_path / "2.zip", pictures)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_class(tmp_path, pictures):
    page = write(tmp_path / "b.zip", pictures).read("index.html").decode()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert "<script>alert(1)" not in page
    assert page.count("</script>") == len(re.findall(r"<script\b", page))
    assert all(row.image_id in page for row in ROWS)


def test_how_to_send_it_back_names_the_annotator_only_where_nobody_is_named(tmp_path, pictures):
    named = write(tmp_path / "1.zip", pictures).read("README.txt").decode()
    anybody = write(tmp_path / "2.zip", pictures, "").read("README.txt").decode()
    assert "labels import RUN answers.csv\n" in named
    assert "labels import RUN answers.csv --annotator NAME\n" in anybody
    assert "3 chest X-rays (run c0ffee, round 1)" in named


def test_a_filled_bundle_comes_back(tmp_path, pictures):
    """Unpacked, its table filled, packed again by another tool: every answer is there, nothing else is looked at."""
    first = write(tmp_path / "b.zip", pictures)
    filled = first.read("queue.csv").decode()
    for reply in (FINDINGS[1], REMARKS[0]):
        filled = filled.replace(".png,,", f".png,{reply},", 1)
    with zipfile.ZipFile(tmp_path / "back.zip", "w", zipfile.ZIP_DEFLATED) as back:
        back.writestr("__MACOSX/._queue.csv", b"\x00\x05\x16\x07")
        for name in first.namelist():
            back.writestr(f"Ann's bundle/{name}", filled if name == "queue.csv" else first.read(name))
    found = harvest([tmp_path / "back.zip"], SCANS, FINDINGS, Who())
    assert [(a.image_id, a.reply, a.annotator, a.round_index) for a in found.answers] == [
        (ROWS[0].image_id, FINDINGS[1], "Ann", 1),
        (ROWS[1].image_id, REMARKS[0], "Ann", 1),
    ]
    assert (found.counts["blank"], found.mistakes) == (1, [])
    blank = harvest([tmp_path / "b.zip"], SCANS, FINDINGS, Who())
    assert (blank.answers, blank.counts["blank"]) == ([], 3)
    with pytest.raises(InputError, match="handed out to Ann, not to Bob"):
        harvest([tmp_path / "b.zip"], SCANS, FINDINGS, Who("Bob"))


def test_the_columns_its_page_saves_are_those_that_are_read(tmp_path, pictures):
    page = write(tmp_path / "b.zip", pictures).read("index.html").decode()
    found = re.search(r'"columns":\s*(\[[^\]]*\])', page)
    columns = json.loads(found[1])
    cells = {
        "image_id": ROWS[0].image_id,
        "rank": "1",
        "file": "x",
        "label": "normal",
        "certainty": "unsure",
        "seconds": "2.5",
        "labelled_at": "2026-03-01T10:00:00.000Z",
        "annotator": "Ann",
        "round": "1",
        "run": "c0ffee",
    }
    assert set(columns) == set(cells)
    (tmp_path / "answers.csv").write_text(",".join(columns) + "\n" + ",".join(cells[name] for name in columns) + "\n")
    (answer,) = harvest([tmp_path / "answers.csv"], SCANS, FINDINGS, Who()).answers
    assert (answer.reply, answer.certainty, answer.seconds, answer.annotator) == ("normal", "unsure", 2.5, "Ann")
    assert answer.time.isoformat() == "2026-03-01T10:00:00+00:00"
