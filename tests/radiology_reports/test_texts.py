"""Which report belongs to which scan; each that cannot be used is counted, and its text is never quoted."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sources import Pool, open_pool
from pipeline.radiology_reports import texts
from pipeline.radiology_reports.texts import (
    EMPTY,
    NO_SCAN,
    OTHER_LETTERS,
    REPEATED,
    SECOND,
    SEVERAL,
    TOO_LONG,
    ScanNames,
)

PATHS = ("p10/s1/frontal.png", "p10/s1/lateral.png", "p11/s1/frontal.png", "p12/s7/film.dcm")


def pool_at(root, reports=None):
    return Pool("pool", str(root), pa.table({"path": PATHS}), reports=reports)


def read(root, name, studies=lambda study: ()):
    return texts.read(pool_at(root), PoolConfig(reports=name), studies)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("p10/s1/frontal.png", ["p10/s1/frontal.png"]),
        ("p10/s1/frontal", ["p10/s1/frontal.png"]),
        ("p10/s1", ["p10/s1/frontal.png", "p10/s1/lateral.png"]),
        ("files\\p10\\s1", ["p10/s1/frontal.png", "p10/s1/lateral.png"]),
        ("film", ["p12/s7/film.dcm"]),
        ("s7", ["p12/s7/film.dcm"]),
        ("lateral.png", ["p10/s1/lateral.png"]),
        ("frontal", None),
        ("s1", None),
        ("ACC77", []),
        ("", []),
    ],
)
def test_a_report_is_called_like_its_scan_or_its_study(name, meant):
    assert ScanNames(PATHS).meant(name) == meant


def test_a_folder_of_reports(tmp_path):
    reports = tmp_path / "reports"
    for name in ("p10", "s1"):
        (reports / name).mkdir(parents=True)
    files = {
        "p10/s1.txt": "No effusion.".encode("utf-16"),
        "film.txt": "Kein Erguss, Herz vergrößert.".encode(),
        "s7.txt": b"Addendum: effusion.",
        "s1.txt": b"Of two studies.",
        "gone.txt": b"Effusion.",
        "frontal.png.txt": "Vergrößert".encode("cp1252"),
        "p12.txt": b"  \n",
        "s1/lateral.txt": b"No effusion.",
        "long.txt": b"a" * (texts.MAX_BYTES + 1),
    }
    for name, data in files.items():
        (reports / name).write_bytes(data)
    got = read(tmp_path, str(reports))
    assert got.num_reports == len(files)
    assert got.of_scan["p10/s1/lateral.png"] == ["No effusion."]
    assert got.of_scan["p12/s7/film.dcm"] == ["Kein Erguss, Herz vergrößert.", "Addendum: effusion."]
    expected = {SEVERAL: 1, NO_SCAN: 1, OTHER_LETTERS: 1, EMPTY: 1, SECOND: 1, TOO_LONG: 1, REPEATED: 1}
    assert +got.reasons == expected


def test_a_table_of_reports_by_study_with_sections(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text(
        'study_id,findings,impression\nACC77,"No effusion,\nheart normal.",\ns7,,Effusion.\n,Lost.,\n', "utf-8"
    )
    got = read(tmp_path, "reports.csv", {"ACC77": ["p11/s1/frontal.png"]}.get)  # by the id that DICOM tells
    assert got.of_scan == {
        "p11/s1/frontal.png": ["findings: No effusion,\nheart normal."],
        "p12/s7/film.dcm": ["impression: Effusion."],
    }
    assert +got.reasons == {NO_SCAN: 1}


def test_the_pools_own_column_with_two_reports_of_one_scan(tmp_path):
    manifest = tmp_path / "pool.csv"
    manifest.write_text("image_path,Report\na.png,No effusion.\na.png,Effusion.\nb.png,\nb.png,Mass.\n", "utf-8")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    config = PoolConfig(uri=str(manifest), reports="report")
    got = texts.read(open_pool(config, tmp_path), config)
    assert got.of_scan == {"a.png": ["No effusion.", "Effusion."], "b.png": ["Mass."]}
    assert +got.reasons == {SECOND: 1, EMPTY: 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("report\nNo effusion.\n", "no column of scan or study ids"),
        ("study_id,remark\ns7,No effusion.\n", "no column of the text"),
        ("study_id,report\ns7,Secret words, and more\n", "3 cells"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_without_a_word_of_its_reports(tmp_path, text, told):
    (tmp_path / "reports.csv").write_text(text, "utf-8")
    with pytest.raises(InputError, match=told) as refused:
        read(tmp_path, "reports.csv")
    assert "Secret" not in str(refused.value) and "and more" not in str(refused.value)


def test_a_report_in_a_cell_may_be_long_and_one_over_the_limit_is_counted(tmp_path):
    long, longer = "No effusion. " * 20_000, "x" * (texts.MAX_BYTES + 1)
    (tmp_path / "reports.csv").write_text(f'study_id,report\ns7,"{long}"\nfilm,"{longer}"\n', "utf-8")
    got = read(tmp_path, "reports.csv")
    assert got.of_scan == {"p12/s7/film.dcm": [long]} and +got.reasons == {TOO_LONG: 1}


def test_a_line_above_the_header_is_counted_and_not_quoted(tmp_path, caplog):
    (tmp_path / "reports.csv").write_text("Secret words\nstudy_id,report\ns7,No effusion.\n", "utf-8")
    with caplog.at_level("INFO"):
        assert read(tmp_path, "reports.csv").num_reports == 1
    assert "1 line above the header" in caplog.text and "Secret" not in caplog.text


@pytest.mark.parametrize("cell", ["Größe, Secret".encode("latin-1"), {"text": "Secret"}])
def test_a_column_of_parquet_that_is_no_text_is_refused_without_a_word_of_it(tmp_path, cell):
    pq.write_table(pa.table({"image_path": ["s7"], "report": [cell]}), tmp_path / "reports.parquet")
    with pytest.raises(InputError, match=r"holds no (UTF-8 )?text") as refused:
        read(tmp_path, "reports.parquet")
    assert "Secret" not in str(refused.value)


def test_what_is_neither_column_nor_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither a column"):
        read(tmp_path, "befund")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.txt files"):
        read(tmp_path, "empty")
    assert read(tmp_path, None) is None
