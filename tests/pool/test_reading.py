"""From DICOM, PNG and TIFF of the same scans to one manifest: grey values, tags, reasons, groups."""

import io
import logging
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from embeddings.decode import load_square, open_scan
from embeddings.decoding import files
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig, SplitsConfig
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.pool import duplicates, manifest, splits
from pipeline.pool.reading import ReadingOptions, read_scan
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.embeddings.decoding.test_raster import png, tiff
from tests.support.dicom_files import chest, file_bytes

SIDE = 160


def eight_bit_png(values):
    stream = io.BytesIO()
    Image.fromarray(np.rint(values / values.max() * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def context(tmp_path, files_, **options):
    for name, data in files_.items():
        path = tmp_path / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "run").mkdir(exist_ok=True)
    config = config_file.load(None, {"pool.uri": str(tmp_path / "pool"), **options})
    return StageContext(config, tmp_path / "run", SerialEngine())


def read(tmp_path, files_, **options):
    ctx = context(tmp_path, files_, **options)
    record = manifest.run(ctx)
    return {row["path"]: row for row in MANIFEST.read(ctx.folder).to_pylist()}, record, ctx


def forms(seed):
    """One picture in every form of storage."""
    deep, twelve = chest(seed, SIDE, bits=16), chest(seed, SIDE, bits=12)
    return {
        "8.png": eight_bit_png(deep),
        "16.png": png(deep),
        "10in16.png": png(chest(seed, SIDE, bits=10)),
        "12in16.png": png(twelve),
        "14in16.tif": tiff(chest(seed, SIDE, bits=14)),
        "negative16.tif": tiff(65535 - deep, photometric=0),
        "negative12.tif": tiff(4095 - twelve, photometric=0),
        "negative12at_top.tif": tiff(65535 - twelve, photometric=0),
        "12.dcm": file_bytes(twelve, BitsStored=12, PatientID=f"P{seed}"),
        "12said16.dcm": file_bytes(twelve, PatientID=f"P{seed}"),
        "negative.dcm": file_bytes(4095 - twelve, BitsStored=12, PhotometricInterpretation="MONOCHROME1"),
    }


def test_every_form_of_a_picture_is_one_group(tmp_path):
    pool = {f"s{seed}_{name}": data for seed in range(3) for name, data in forms(seed).items()}
    rows, _, ctx = read(tmp_path, pool)
    assert {row["status"] for row in rows.values()} == {"ok"}
    duplicates.run(ctx)
    group = dict(
        zip(
            DUPLICATES.read(ctx.folder)["image_id"].to_pylist(),
            DUPLICATES.read(ctx.folder)["canonical_id"].to_pylist(),
            strict=True,
        )
    )
    for seed in range(3):
        assert len({group[rows[f"s{seed}_{name}"]["image_id"]] for name in forms(seed)}) == 1
    assert len(set(group.values())) == 3
    means = {
        name: float(open_scan(row["uri"], max_pixels=10**7).to_unit().mean())
        for name, row in rows.items()
        if "s0" in name
    }
    assert max(means.values()) - min(means.values()) < 0.01


def windowed_png(values, centre, width):
    grey = np.clip((values - (centre - width / 2)) / width, 0, 1)
    return eight_bit_png(np.rint(255 * grey))


# Window centre and width of the PNGs, of values up to 4095; the DICOM files' own is 2048, 3000.
@pytest.mark.parametrize("window", [(2048, 4096), (2048, 3000), (2048, 2000), (1500, 2400)])
def test_a_scan_as_dicom_and_as_png_is_one_group_on_one_side_of_the_split(tmp_path, window):
    pool = {}
    for i in range(4):
        values = chest(i, SIDE)
        pool[f"{i}.dcm"] = file_bytes(values, BitsStored=12, PatientID=f"P{i}", WindowCenter=2048, WindowWidth=3000)
        pool[f"{i}.png"] = windowed_png(values, *window)
    rows, _, ctx = read(tmp_path, pool)
    duplicates.run(ctx)
    table = DUPLICATES.read(ctx.folder)
    group = dict(zip(table["image_id"].to_pylist(), table["group_id"].to_pylist(), strict=True))
    group_of = {path: group[row["image_id"]] for path, row in rows.items()}
    assert [group_of[f"{i}.dcm"] for i in range(4)] == [group_of[f"{i}.png"] for i in range(4)]
    assert len(set(group.values())) == 4
    split = splits.by_hash(MANIFEST.read(ctx.folder), table, SplitsConfig(holdout_fraction=0.5))
    side = dict(zip(split["image_id"].to_pylist(), split["split"].to_pylist(), strict=True))
    assert all(side[rows[f"{i}.dcm"]["image_id"]] == side[rows[f"{i}.png"]["image_id"]] for i in range(4))


def test_the_pool_decides_once_what_white_is(tmp_path, caplog):
    pool = {f"s{i:02d}.png": png(chest(i, 64, bits=12)) for i in range(20)}
    pool["dark.png"] = png((chest(99, 64, bits=12) // 5).astype(np.uint16))
    with caplog.at_level(logging.WARNING):
        rows, record, _ = read(tmp_path, pool)
    assert {row["white"] for row in rows.values()} == {4095} and record["whites"] == {"4095": 21}
    assert "21 of 21 scans use only a part of the range" in caplog.text and "4095 in 21" in caplog.text
    assert "1 of 21 scans hold values of 10 bits and are read with white 4095" in caplog.text
    assert "say pool.white=[1023, 4095]" in caplog.text
    as_advised, _, _ = read(tmp_path, pool, **{"pool.white": [1023, 4095]})
    assert Counter(row["white"] for row in as_advised.values()) == {4095: 20, 1023: 1}
    dark = rows["dark.png"]
    assert files.white_of(dark["uri"]) == 4095 and files.white_of(rows["s00.png"]["uri"]) is None
    assert open_scan(dark["uri"], max_pixels=10**6).to_unit().max() == pytest.approx(0.2, abs=0.01)


def test_white_can_be_said(tmp_path, caplog):
    pool = {"a.png": png(chest(0, 64, bits=12)), "b.png": eight_bit_png(chest(1, 64))}
    rows, record, _ = read(tmp_path, pool, **{"pool.white": 16383})
    assert (rows["a.png"]["white"], rows["b.png"]["white"], record["whites"]) == (16383, None, {"16383": 1})
    assert open_scan(rows["a.png"]["uri"], max_pixels=10**6).to_unit().max() == pytest.approx(0.25, abs=0.01)
    with caplog.at_level(logging.WARNING):
        rows, _, _ = read(tmp_path, pool, **{"pool.white": 1023})
    assert rows["a.png"]["white"] == 1023 and "1 scans hold values above pool.white, 1023" in caplog.text
    assert PoolConfig(white="auto").white == "auto"


@pytest.mark.parametrize(
    ("bits", "dark", "whites", "white"),
    [(12, 1, (4095, 16383), 4095), (12, 5, (4095,), 4095), (12, 1, (1023,), 4095), (10, 1, (1023, 4095), 1023)],
)
def test_of_several_whites_the_smallest_that_holds_a_scan_counts(bits, dark, whites, white):
    data = png(chest(0, 64, bits=bits) // dark)
    read_as_run = read_scan(data, ReadingOptions(10**7, whites=whites, size_px=48))
    assert (read_as_run.facts["white"], read_as_run.small_SS) == (white, None)
    np.testing.assert_array_equal(read_as_run.square_SS, load_square(data, 48, 10**7, white)[0])
    assert read_scan(data, ReadingOptions(10**7, whites=whites)).facts["white"] == white


@pytest.mark.parametrize(
    ("values", "whites", "note"),
    [
        (chest(0, 64, bits=12), (65535,), "its values need 12 of 16 bits: read with white 4095"),
        (chest(0, 64, bits=12), (255, 1023), "its values need 12 of 16 bits: read with white 4095"),
        (chest(0, 64, bits=12), (4095,), None),
        (chest(0, 64, bits=12) // 5, (4095,), None),
        (chest(0, 64, bits=12), (), "its values need 12 of 16 bits: read with white 4095"),
        (chest(0, 64, bits=10), (), "its values need 10 of 16 bits: read with white 1023"),
        (chest(0, 64, bits=16), (4095,), None),
        (chest(0, 64, bits=16), (), None),
    ],
)
def test_a_white_that_is_decided_for_one_scan_alone_is_noted(values, whites, note):
    own = read_scan(png(values), ReadingOptions(10**7, whites=whites, size_px=48)).facts["note"]
    assert own is None if note is None else own.startswith("the file does not say what is white") and note in own


def test_files_are_kept_apart_by_the_whites_they_were_read_with(tmp_path):
    pool = {"a.png": png(chest(0, 64, bits=12) // 5), "b.png": png(chest(1, 64, bits=12) // 5)}
    assert read(tmp_path, pool)[0]["a.png"]["white"] == 1023
    rows, record, _ = read(tmp_path, pool, **{"pool.white": [4095, 16383]})
    assert rows["a.png"]["white"] == 4095 and rows["a.png"]["uri"].endswith("#white=4095")
    assert record["whites"] == {"4095": 2}


@pytest.mark.parametrize(
    "few",
    [
        lambda values: png((values + 32768).astype(np.uint16)),
        lambda values: eight_bit_png(np.append(values[:-1] >> 8, np.full((1, SIDE), 255), axis=0)),
        lambda values: file_bytes((values >> 4) + 100, BitsStored=12),
    ],
    ids=["a sign moved to the middle", "eight bits of twelve in sixteen", "a window left out"],
)
def test_a_scan_of_hardly_any_greys_is_said(tmp_path, caplog, few):
    values = chest(1, SIDE)
    manifest.run(context(tmp_path, {"few": few(values), "plain": eight_bit_png(values)}))
    assert "1 of 2 scans: its greys take up less than a twelfth" in caplog.text


def test_a_plain_pool_has_no_white_and_no_words(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        rows, record, _ = read(tmp_path, {f"{i}.png": eight_bit_png(chest(i, 64)) for i in range(3)})
    assert "whites" not in record and caplog.text == ""
    assert {(row["white"], row["note"], "#" in row["uri"]) for row in rows.values()} == {(None, None, False)}


def test_a_second_reading_reads_nothing_and_says_the_same(tmp_path, monkeypatch):
    pool = {"a.png": png(chest(0, 64, bits=12)), "b.dcm": file_bytes(chest(1, 64), PatientAge="044Y")}
    first, _, ctx = read(tmp_path, pool)
    asked = []
    monkeypatch.setattr(manifest, "read_scan", lambda *args: asked.append(args))
    manifest.run(ctx)
    assert asked == [] and {row["path"]: row for row in MANIFEST.read(ctx.folder).to_pylist()} == first


def test_tags_reach_the_manifest_and_ids_only_as_hashes(tmp_path):
    tags = {"PatientAge": "044Y", "PatientSex": "M", "Manufacturer": "Maker", "PixelSpacing": [0.2, 0.2]}
    pool = {f"{i}.dcm": file_bytes(chest(i, 64), PatientID=f"MRN-{i // 2}", **tags) for i in range(4)}
    rows, record, ctx = read(tmp_path, pool)
    row = rows["0.dcm"]
    assert (row["view"], row["age_years"], row["sex"], row["manufacturer"]) == ("PA", 44, "M", "Maker")
    assert row["pixel_spacing_mm"] == pytest.approx(0.2) and row["format"] == "DICOM"
    assert row["patient_id"] == rows["1.dcm"]["patient_id"] != rows["2.dcm"]["patient_id"]
    assert record["num_patients"] == 2 and len(row["study_id"]) == len(row["series_id"]) == 16
    for path in (path for path in ctx.folder.rglob("*") if path.is_file()):
        assert b"MRN-" not in path.read_bytes() and b"Doe" not in path.read_bytes()


def test_what_a_table_says_wins_over_the_tags(tmp_path):
    table = b"image_path,patient_id,view,age\na.dcm,T1,AP,30\nb.dcm,,,\n"
    pool = {"a.dcm": file_bytes(chest(0, 64), PatientAge="044Y"), "b.dcm": file_bytes(chest(1, 64), PatientAge="044Y")}
    rows, _, _ = read(tmp_path, pool | {"manifest.csv": table})
    assert (rows["a.dcm"]["view"], rows["a.dcm"]["age_years"]) == ("AP", 30)
    assert (rows["b.dcm"]["view"], rows["b.dcm"]["age_years"]) == ("PA", 44)
    assert rows["a.dcm"]["patient_id"] != rows["b.dcm"]["patient_id"] is not None


def test_what_is_set_aside_is_counted_by_reason(tmp_path, caplog):
    pool = {f"ok{i}.dcm": file_bytes(chest(i, 64)) for i in range(2)}
    pool |= {f"ct{i}.dcm": file_bytes(chest(i, 64), Modality="CT") for i in range(5)}
    pool |= {
        "hip.dcm": file_bytes(chest(9, 64), BodyPartExamined="HIP"),
        "lat.dcm": file_bytes(chest(8, 64), ViewPosition="LL"),
    }
    with caplog.at_level(logging.WARNING):
        rows, record, _ = read(tmp_path, pool)
    assert record["num_quarantined"] == 7 and "7 of 9 files are set aside" in caplog.text
    assert "5 x modality CT, no radiograph" in caplog.text and "1 x body part HIP" in caplog.text
    assert rows["lat.dcm"]["reason"] == "set aside: a lateral view" and rows["lat.dcm"]["view"] == "LL"
    kept, _, _ = read(tmp_path, pool, **{"pool.set_aside": ["other-modality"]})
    assert kept["lat.dcm"]["status"] == kept["hip.dcm"]["status"] == "ok"


def test_a_study_of_two_hundred_slices_is_no_pool(tmp_path):
    slice_ = file_bytes(chest(0, 32), Modality="CT")
    pool = {f"CT/SE1/IM{i:04d}": slice_ + bytes(2 * i) for i in range(200)}
    with pytest.raises(
        InputError, match=r"not one of the 200 scans can be used: 200 x set aside: modality CT"
    ) as caught:
        read(tmp_path, pool)
    assert "frontal chest X-rays" in str(caught.value)


def test_a_decoder_that_hangs_costs_one_scan(tmp_path):
    rows, _, _ = read(tmp_path, {"a.png": eight_bit_png(chest(0, 64))}, **{"pool.max_seconds": 30})
    assert rows["a.png"]["status"] == "ok"
    large = png(np.random.default_rng(0).integers(0, 65536, (4000, 4000), dtype=np.uint16))
    found = read_scan(large, ReadingOptions(10**8, max_seconds=0.01))
    assert found.small_SS is None and found.facts["reason"] == "it cannot be decoded: it took longer than 0.01 seconds"


def test_notes_say_how_a_file_was_read(tmp_path):
    several = file_bytes(chest(0, 64), BitsStored=12, WindowCenter=[2048, 1], WindowWidth=[4096, 2])
    rows, _, _ = read(tmp_path, {"a.dcm": several})
    assert rows["a.dcm"]["note"] == "window 1 of 2"
