import io
import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image, ImageFilter, ImageOps

from pipeline.contracts import config_file
from pipeline.contracts.options.scans import DuplicatesConfig
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.pool import duplicates, manifest, phantoms
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

NEAR = {"duplicates.max_bits": 44, "duplicates.min_correlation": 0.75}


def scan(seed, size=160):
    """A soft picture with fine detail, as a film has."""
    rng = np.random.default_rng(seed)
    layers = 0
    for cells, weight in ((5, 90), (24, 40), (60, 20)):
        noise = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        layers = layers + weight * np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(128 + layers / 2, 0, 255).astype(np.uint8))


def cropped(image, share):
    cut = round(image.width * share)
    return image.crop((cut, cut, image.width - cut, image.height - cut))


def brighter(image):
    return image.point([min(255, int(1.1 * value)) for value in range(256)])


def write(folder, rows):
    """Rows of (name, image or bytes or None, patient)."""
    folder.mkdir()
    lines = ["image_path,patient_id"]
    for name, what, patient in rows:
        lines.append(f"{name},{patient}")
        if isinstance(what, bytes):
            (folder / name).write_bytes(what)
        elif what is not None:
            what.save(folder / name)
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def encoded(image, quality):
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return data.getvalue()


def context(folder, pool, **options):
    folder.mkdir()
    config = config_file.load(None, {"pool.uri": str(pool), "engine.backend": "serial", **NEAR, **options})
    return StageContext(config, folder, SerialEngine())


def run(tmp_path, rows, **options):
    tmp_path.mkdir(exist_ok=True)
    ctx = context(tmp_path / "run", write(tmp_path / "pool", rows), **options)
    manifest.run(ctx)
    counts = duplicates.run(ctx)
    paths = MANIFEST.read(ctx.folder)["path"].to_pylist()
    table = DUPLICATES.read(ctx.folder).to_pylist()
    names = {row["image_id"]: path for row, path in zip(table, paths, strict=True)}
    by_path = {path: row | {"canonical": names[row["canonical_id"]]} for row, path in zip(table, paths, strict=True)}
    return counts, by_path


def test_exact_and_near_copies_and_their_groups(tmp_path):
    one, two, three = scan(1), scan(2), scan(3)
    data = io.BytesIO()
    one.save(data, "PNG")
    stream = io.BytesIO()
    two.save(stream, "JPEG", quality=60)
    rows = [
        ("a.png", data.getvalue(), "P1"),
        ("b.png", two, "P2"),
        ("c.png", data.getvalue(), "P3"),
        ("d.jpg", stream.getvalue(), ""),
        ("e.png", three, "P3"),
        ("f.png", scan(4), ""),
        ("g.png", scan(5), ""),
    ]
    counts, table = run(tmp_path, rows)
    assert [row["kind"] for row in table.values()] == [
        "unique",
        "unique",
        "exact",
        "near",
        "unique",
        "unique",
        "unique",
    ]
    assert [row["canonical"] for row in table.values()] == [
        "a.png",
        "b.png",
        "a.png",
        "b.png",
        "e.png",
        "f.png",
        "g.png",
    ]
    groups = [row["group_id"] for row in table.values()]
    assert groups[0] == groups[2] == groups[4] == min(row["image_id"] for row in list(table.values())[0:5:2])
    assert groups[1] == groups[3]
    assert len(set(groups)) == counts["num_groups"] == 4
    assert (counts["num_exact"], counts["num_near"], counts["num_near_pairs"]) == (1, 1, 1)
    assert (table["c.png"]["distance_bits"], table["a.png"]["distance_bits"]) == (0, None)


@pytest.mark.parametrize(
    "edit",
    [
        lambda image: image.resize((100, 100)),
        brighter,
        lambda image: cropped(image, 0.02),
        lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
        ImageOps.invert,
        lambda image: cropped(ImageOps.invert(image), 0.04),
        lambda image: image.point([min(255, max(0, round(255 * (v - 60) / 135))) for v in range(256)]),
    ],
)
def test_edited_copies_are_near(tmp_path, edit):
    rows = [(f"{i}.png", scan(i), "") for i in range(3)] + [("copy.png", edit(scan(1)), "")]
    _, table = run(tmp_path, rows)
    assert (table["copy.png"]["kind"], table["copy.png"]["canonical"]) == ("near", "1.png")


def test_a_look_alike_is_not_a_copy(tmp_path):
    """The same soft shape with other detail: hashes agree, pixels do not."""
    soft = np.asarray(scan(1).resize((8, 8)).resize((160, 160), Image.Resampling.BICUBIC)).astype(np.float32)
    rows = [
        (
            f"{i}.png",
            Image.fromarray(np.clip(soft + np.asarray(scan(10 + i)) / 4 - 32, 0, 255).astype(np.uint8)),
            "",
        )
        for i in range(4)
    ]
    counts, _ = run(tmp_path, rows, **{"duplicates.max_bits": 100})
    assert counts["num_candidate_pairs"] > 0
    assert counts["num_near"] == 0


def test_a_chain_of_patients_joins_without_making_copies(tmp_path):
    rows = [
        ("a.png", scan(1), "P1"),
        ("b.jpg", scan(1), "P2"),
        ("c.png", scan(2), "P2"),
        ("d.png", scan(3), "P4"),
    ]
    _, table = run(tmp_path, rows)
    assert table["a.png"]["group_id"] == table["c.png"]["group_id"] != table["d.png"]["group_id"]
    assert table["c.png"]["kind"] == "unique"


def test_quarantined_scans_stand_alone_or_with_their_patient(tmp_path):
    rows = [
        ("a.png", scan(1), "P1"),
        ("b.png", b"broken", "P1"),
        ("c.png", b"broken", ""),
        ("d.png", None, ""),
    ]
    counts, table = run(tmp_path, rows)
    assert {row["kind"] for row in table.values()} == {"unique"}
    assert table["a.png"]["group_id"] == table["b.png"]["group_id"]
    assert counts["num_groups"] == 3


def test_a_copy_that_cannot_be_read_any_more_has_no_distance(tmp_path):
    run(tmp_path, [("a.png", scan(1), "P1"), ("b.png", scan(2), "P1")])
    manifest_table = MANIFEST.read(tmp_path / "run")
    place = manifest_table.column_names.index("picture_hash")
    hashes = pa.array([manifest_table["picture_hash"][0].as_py(), None], manifest_table.schema.field(place).type)
    gone = manifest_table.set_column(place, manifest_table.schema.field(place), hashes)
    table = duplicates._table(gone, np.array([0, 0]), np.array([0, 0]), [None, None]).to_pylist()
    assert [row["kind"] for row in table] == ["unique", "near"]
    assert [row["distance_bits"] for row in table] == [None, None]


def test_equal_scans_in_another_order_make_the_same_groups(tmp_path):
    rows = [(f"{i}.png", scan(i % 5), f"P{i % 7}") for i in range(5)]
    rows += [(f"{i}.png", cropped(scan(i % 5), 0.01 * (i % 4)), f"P{i % 7}") for i in range(5, 15)]
    _, table = run(tmp_path / "one", rows)
    random.Random(0).shuffle(rows)
    _, other = run(tmp_path / "two", rows)
    assert {name: row["group_id"] for name, row in table.items()} == {n: r["group_id"] for n, r in other.items()}
    assert len({row["group_id"] for row in table.values()}) < 15


def test_a_pool_of_one_picture_is_one_group(tmp_path):
    rows = [(f"{i:02d}.jpg", encoded(scan(1), 30 + i), "") for i in range(15)] + [("other.png", scan(2), "")]
    counts, table = run(tmp_path, rows)
    assert (counts["num_near"], counts["num_groups"]) == (14, 2)
    assert {row["canonical"] for name, row in table.items() if name != "other.png"} == {"00.jpg"}


def test_a_scan_that_is_gone_since_it_was_hashed_matches_nothing(tmp_path, caplog):
    folder = write(tmp_path / "pool", [("a.png", scan(1), ""), ("b.jpg", encoded(scan(1), 80), "")])
    ctx = context(tmp_path / "run", folder)
    manifest.run(ctx)
    (folder / "b.jpg").unlink()
    counts = duplicates.run(ctx)
    assert (counts["num_candidate_pairs"], counts["num_near_pairs"]) == (1, 0)
    assert "b.jpg could be read by the manifest stage and cannot now" in caplog.text


def test_copies_between_two_pools(tmp_path):
    ours = write(tmp_path / "ours", [(f"{i}.png", scan(i), "") for i in range(6)])
    theirs = [
        ("new.png", scan(10), ""),
        ("same.png", scan(3), ""),
        ("negative.jpg", encoded(ImageOps.invert(scan(4)), 60), ""),
        ("newer.png", scan(11), ""),
        ("inside.png", cropped(scan(2), 0.04), ""),
        ("broken.png", b"broken", ""),
    ]
    tables = []
    for name, folder in (("a", ours), ("b", write(tmp_path / "theirs", theirs))):
        ctx = context(tmp_path / name, folder)
        manifest.run(ctx)
        table = MANIFEST.read(ctx.folder)
        tables.append(table.filter(pc.equal(table["status"], "ok")))
    rows = duplicates.near_links_between(*tables, SerialEngine())
    assert [tables[1]["path"][int(row)].as_py() for row in rows] == ["same.png", "negative.jpg", "inside.png"]
    back = duplicates.near_links_between(tables[1], tables[0], SerialEngine())
    assert [tables[0]["path"][int(row)].as_py() for row in back] == ["2.png", "3.png", "4.png"]
    pairs, num_looked_at = duplicates.near_pairs_between(
        *((duplicates.hash_bytes(t["picture_hash"]), duplicates.scan_files(t)) for t in tables),
        SerialEngine(),
        DuplicatesConfig(),
        10**8,
    )
    assert list(zip(pairs.left_P.tolist(), pairs.right_P.tolist(), strict=True)) == [(2, 4), (3, 1), (4, 2)]
    assert num_looked_at >= 3


def test_a_pool_without_scans_has_no_copies(tmp_path):
    folder = write(tmp_path / "pool", [("a.png", scan(1), ""), ("b.png", scan(2), "")])
    ctx = context(tmp_path / "run", folder)
    manifest.run(ctx)
    table = MANIFEST.read(ctx.folder)
    assert len(duplicates.near_links_between(table.slice(0, 0), table, SerialEngine())) == 0
    assert len(duplicates.near_links_between(table, table.slice(0, 0), SerialEngine())) == 0


def test_follow_up_scans_of_phantoms_are_no_copies(tmp_path):
    spec = phantoms.PhantomSpec(num_patients=20, seed=1, scans_per_patient={4: 1.0}, near_duplicate_share=0.12)
    ctx = context(tmp_path / "run", phantoms.write_pool(spec, tmp_path / "pool"))
    manifest.run(ctx)
    counts = duplicates.run(ctx)
    planned = {scan.image_path: scan.duplicate_of or scan.image_path for scan in phantoms.plan(spec)}
    table, found = MANIFEST.read(ctx.folder), DUPLICATES.read(ctx.folder)
    path = dict(zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True))
    ids, firsts = found["image_id"].to_pylist(), found["canonical_id"].to_pylist()
    linked = {path[own]: path[first] for own, first in zip(ids, firsts, strict=True)}
    assert {linked[copy] == linked[original] for copy, original in planned.items()} == {True}
    assert len(set(linked.values())) == len(set(planned.values()))
    assert counts["num_near_pairs"] >= 8
    assert counts["num_candidate_pairs"] > 3 * counts["num_near_pairs"]


def pool_of(name):
    root = os.environ["CXR_SSL_DATA"]
    return Path(root, name)


@pytest.mark.real
def test_known_copies_of_real_scans(tmp_path):
    ctx = context(tmp_path / "run", pool_of("covid3"), **{"duplicates.changed": False})
    manifest.run(ctx)
    counts = duplicates.run(ctx)
    # One film stored twice under two names, one of them cut a little; looked at.
    assert (counts["num_exact"], counts["num_near"]) == (1, 1)
