"""`pool.where`: what is taken, and why the rest is not."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.conditions import parse
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import CONTRACTS, MANIFEST
from pipeline.pool import manifest
from pipeline.pool.sources import open_pool
from pipeline.report.counts import flow
from pipeline.report.flow_diagram import diagram
from pipeline.report.gather import RunData, _listing
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.support.dicom_files import chest, file_bytes

TABLE = (
    "image_path,View,age,sex,source,Modality,score\n"
    "a.png,PA,034Y,F,north,X-ray,1\nb.png,AP,70,M,North ,X-ray,2.5\nc.png,lateral,17,,south,X-ray,\n"
    "d.png,PA,?,F,south,CT,x\ne.png,,51,M,,x-RAY,10\nf.png,AP supine,6M,F,west,,3\n"
)


def opened(tmp_path, where, **options):
    (tmp_path / "t.csv").write_text(TABLE)
    written = {name: tuple(one) if isinstance(one, list) else one for name, one in where.items()}
    return open_pool(PoolConfig(uri=str(tmp_path / "t.csv"), where=written, **options), tmp_path / "cache")


def taken(tmp_path, where, **options):
    return "".join(path[0] for path in opened(tmp_path, where, **options).scans["path"].to_pylist())


@pytest.mark.parametrize(
    ("where", "paths"),
    [
        ({"view": ["PA"]}, "ad"),
        ({"view": "pa"}, "ad"),
        ({"view": ["AP", "Lateral"]}, "bcf"),
        ({"view": ["PA", "unknown"]}, "ade"),
        ({"view": "not PA"}, "bcef"),
        ({"view": None}, "e"),
        ({"age": ">= 18"}, "abe"),
        ({"age": ">=18 and <60"}, "ae"),
        ({"age": "< 18, > 1"}, "c"),
        ({"age": [17, 70]}, "bc"),
        ({"age": ["< 1", "unknown"]}, "df"),
        ({"age": "≤ 17"}, "cf"),
        ({"sex": "female"}, "adf"),
        ({"sex": ["M", None]}, "bce"),
        ({"source": ["north", "West"]}, "abf"),
        ({"source": "!= south"}, "abef"),
        ({"modality": "not CT"}, "abcef"),
        ({"Modality": "x-ray"}, "abce"),
        ({"score": "> 2"}, "bef"),
        ({"SCORE": 1}, "a"),
        ({"view": ["PA"], "age": ">= 18", "source": ["north"]}, "a"),
        ({}, "abcdef"),
    ],
)
def test_what_is_taken(tmp_path, where, paths):
    assert taken(tmp_path, where) == paths


def test_what_is_left_out_is_counted_by_the_first_reason(tmp_path):
    pool = opened(tmp_path, {"view": ["PA", "AP"], "age": ">= 18"})
    age, view = [("age is not >= 18", 1), ("age is not known", 1)], [("view is LL", 1), ("view is not known", 1)]
    assert sorted(pool.not_chosen) == [*age, *view]
    assert pool.notes.lines[-1].startswith("pool.where leaves out 4 of 6 scans: ")
    assert sum(count for _, count in pool.not_chosen) + len(pool.scans) == 6


def test_a_value_that_no_scan_has_is_named(tmp_path):
    assert (
        "pool.where: no scan has source 'nroth'; did you mean 'north'?"
        in opened(tmp_path, {"source": ["nroth", "west"]}).notes.lines
    )


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"modalty": "CT"}, r"no such column \(got 'modalty'\)\. Did you mean 'Modality'\?"),
        ({"population": "adult"}, r"no such column \(got 'population'\)"),
        ({"laterality": "L"}, r"no such column \(got 'laterality'\)"),
        ({"view": "Axial"}, "'Axial' is no view that is told apart; known are PA, AP"),
        ({"view": ">= PA"}, "no number"),
        ({"sex": "child"}, "'child' is no sex"),
        ({"age": "adult"}, "'adult' is no age in years; write for instance '>= 18'"),
        ({"age": "18-65"}, "'18-65' is no age"),
        ({"source": "east"}, r"leaves none of 6 scans: source is south 2"),
    ],
)
def test_what_cannot_be_asked_is_one_error(tmp_path, where, words):
    with pytest.raises((InputError, ValueError), match=words):
        opened(tmp_path, where)


@pytest.mark.parametrize("text", ["a < b", "x >= y", "and", "PA and AP", "10 %", "a, b"])
def test_text_that_begins_as_no_comparison_is_a_value(text):
    assert parse(text).operands == [text]


def context(tmp_path, **options):
    (tmp_path / "run").mkdir()
    return StageContext(config_file.load(None, options), tmp_path / "run", SerialEngine())


def test_tags_of_dicom_decide_once_they_are_read(tmp_path):
    for name, view, age in (("a", "PA", "040Y"), ("b", "LL", "050Y"), ("c", "PA", "010Y"), ("d", "PA", "")):
        (tmp_path / "pool").mkdir(exist_ok=True)
        data = file_bytes(chest(side=32, seed=ord(name)), ViewPosition=view, PatientAge=age)
        (tmp_path / "pool" / f"{name}.dcm").write_bytes(data)
    where = {"view": ["PA"], "age": ">= 18"}
    ctx = context(tmp_path, **{"pool.uri": str(tmp_path / "pool"), "pool.where": where, "pool.set_aside": []})
    assert manifest.run(ctx)["num_quarantined"] == 3
    reasons = MANIFEST.read(ctx.folder)["reason"].to_pylist()
    assert reasons == [
        None,
        "set aside: view is LL (pool.where)",
        "set aside: age is not >= 18 (pool.where)",
        "set aside: age is not known (pool.where)",
    ]


def test_the_run_keeps_and_draws_what_was_left_out(tmp_path):
    for name in "abcdef":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text(TABLE)
    ctx = context(tmp_path, **{"pool.uri": str(tmp_path / "t.csv"), "pool.where": {"view": ["PA", "AP"]}})
    counts = manifest.run(ctx)
    assert (counts["num_scans"], counts["num_not_chosen"]) == (4, 2)
    kept = json.loads((ctx.folder / run_files.POOL_NOTES).read_text("utf-8"))
    assert kept["not_chosen"] == [{"reason": "view is LL", "count": 1}, {"reason": "view is not known", "count": 1}]
    empty = {c.name: c.empty() for c in CONTRACTS}
    data = RunData(ctx.folder, flow=flow(empty | {"manifest": MANIFEST.read(ctx.folder)}, {}) | _listing(ctx.folder))
    boxes = {box.what: box for box in diagram(data).boxes}
    assert (boxes["scans listed"].value, boxes["not chosen"].value, boxes["files found"].value) == (6, 2, 4)
    assert "view is LL 1" in boxes["not chosen"].notes


def test_a_condition_on_the_reports_is_refused_and_free_text_is_never_told(tmp_path):
    report = "Secret words of a report that is a good deal longer than forty characters."
    (tmp_path / "t.csv").write_text(f"image_path,Report,remark\na.png,{report},{report}\nb.png,Clear.,x\n")

    def pool(where):
        return open_pool(PoolConfig(uri=str(tmp_path / "t.csv"), reports="report", where=where), tmp_path / "cache")

    with pytest.raises(InputError, match="the column of the reports") as refused:
        pool({"REPORT": "Clear."})
    assert "Secret" not in str(refused.value)
    told = pool({"remark": ("x", "y")})
    assert told.not_chosen == [("remark is another", 1)] and "Secret" not in "".join(told.notes.lines)
