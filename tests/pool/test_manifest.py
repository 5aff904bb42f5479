import io
import logging
import os
from dataclasses import asdict, replace
from pathlib import Path

import imagehash
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, POOL_LABELS
from pipeline.pool import manifest, reading
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine


class Backwards(SerialEngine):
    """Finishes the last shard first, as a cluster might."""

    def map_shards(self, function, shards):
        for index in reversed(range(len(shards))):
            yield index, function(shards[index])


def save(path, seed, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)


def context(tmp_path, uri, engine=None, **options):
    (tmp_path / "run").mkdir(parents=True, exist_ok=True)
    config = config_file.load(None, {"pool.uri": str(uri), **options})
    return StageContext(config, tmp_path / "run", engine or SerialEngine())


def pool(tmp_path, num=4):
    for i in range(num):
        save(tmp_path / "pool" / f"{i}.png", i)
    rows = "".join(f"{i}.png,{'ab'[i % 2]},P{i // 2},AP,33\n" for i in range(num))
    (tmp_path / "pool" / "manifest.csv").write_text("image_path,label,patient_id,view,age\n" + rows)
    return tmp_path / "pool"


def test_one_row_per_scan(tmp_path):
    ctx = context(tmp_path, pool(tmp_path))
    counts = manifest.run(ctx)
    assert counts == {"num_scans": 4, "num_quarantined": 0, "num_patients": 2, "num_labelled": 4}
    table, labels = MANIFEST.read(ctx.folder), POOL_LABELS.read(ctx.folder)
    row = table.to_pylist()[0]
    assert (row["path"], row["width_px"], row["height_px"], row["bit_depth"], row["format"]) == (
        "0.png",
        40,
        50,
        8,
        "PNG",
    )
    assert (row["view"], row["age_years"], row["status"], row["reason"]) == ("AP", 33, "ok", None)
    assert row["image_id"] == manifest.image_id("0.png", row["sha256"])
    assert labels["image_id"] == table["image_id"]
    assert labels["label"].to_pylist() == ["a", "b", "a", "b"]


def test_independent_findings_are_a_line_a_scan(tmp_path):
    folder = pool(tmp_path)
    rows = "0.png,1,0\n1.png,0,\n2.png,,\n3.png,-1,1\n"
    (folder / "manifest.csv").write_text("image_path,mass,edema\n" + rows)
    options = {"pool.findings_are": "independent", "pool.findings": ["mass", "edema"]}
    ctx = context(tmp_path, folder, **options)
    assert manifest.run(ctx)["num_labelled"] == 3
    lines = ["mass=1|edema=0", "mass=0|edema=?", None, "mass=?|edema=1"]
    assert POOL_LABELS.read(ctx.folder)["label"].to_pylist() == lines
    ctx = context(tmp_path, folder, **options | {"pool.finding": "mass"})
    assert manifest.run(ctx)["num_labelled"] == 2
    assert POOL_LABELS.read(ctx.folder)["label"].to_pylist() == ["mass", "no mass", None, None]


def test_patients_are_hidden_and_salted(tmp_path):
    folder = pool(tmp_path)
    ctx = context(tmp_path, folder)
    manifest.run(ctx)
    first = MANIFEST.read(ctx.folder)["patient_id"].to_pylist()
    assert first[0] == first[1] != first[2]
    assert all(len(patient) == 16 and "P" not in patient for patient in first)
    ctx = context(tmp_path, folder, **{"splits.salt": "other"})
    manifest.run(ctx)
    assert not set(first) & set(MANIFEST.read(ctx.folder)["patient_id"].to_pylist())


def test_two_runs_of_a_pool_hide_its_patients_differently_and_seal_the_same(tmp_path):
    folder = pool(tmp_path)
    patients, keys = [], []
    for name in ("one", "two"):
        ctx = context(tmp_path / name, folder)
        manifest.run(ctx)
        patients.append(set(MANIFEST.read(ctx.folder)["patient_id"].drop_null().to_pylist()))
        keys.append(pq.read_table(ctx.folder / run_files.SPLIT_KEYS)["split_key"].to_pylist())
    assert patients[0] and not patients[0] & patients[1]
    assert keys[0] == keys[1] and not set(keys[0]) & patients[0]


def test_broken_files_are_rows_with_a_reason(tmp_path, caplog):
    folder = pool(tmp_path)
    (folder / "1.png").write_text("The archive could not export this.")
    (folder / "2.png").unlink()
    ctx = context(tmp_path, folder, **{"pool.max_pixels": 4000})
    save(folder / "3.png", 3, (100, 90))
    with caplog.at_level(logging.WARNING):
        assert manifest.run(ctx)["num_quarantined"] == 3
    rows = MANIFEST.read(ctx.folder).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "quarantined", "quarantined", "quarantined"]
    assert "text" in rows[1]["reason"]
    assert rows[1]["sha256"] is not None
    assert rows[2]["reason"] == "the file is missing"
    assert (rows[2]["sha256"], rows[2]["image_id"]) == (None, manifest.image_id("2.png", None))
    assert "9,000 pixels are over the limit of 4,000" in rows[3]["reason"]
    assert [row["phash"] is None for row in rows] == [False, True, True, True]
    assert "3 of 4 scans are quarantined" in caplog.text


def test_an_unexpected_failure_does_not_end_the_run(tmp_path, monkeypatch):
    def fail(data, **_):
        raise MemoryError("no room") if data == first else RuntimeError("odd")

    folder = pool(tmp_path)
    first = (folder / "0.png").read_bytes()
    monkeypatch.setattr(reading, "open_like_pool", fail)
    here = lambda data, options: reading.Read(reading.answer(asdict(options), data)[0])  # noqa: E731
    monkeypatch.setattr(manifest, "read_scan", here)
    reasons = r"3 x unexpected RuntimeError: odd; 1 x it cannot be decoded: it needs more memory"
    with pytest.raises(InputError, match=f"not one of the 4 scans can be used: {reasons}"):
        manifest.run(context(tmp_path, folder))


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "m.csv").write_text("image_path\nx.png\ny.png\n")
    with pytest.raises(InputError, match="not one of the 2 scans can be used: 2 x the file is missing"):
        manifest.run(context(tmp_path, tmp_path / "m.csv"))


def test_the_order_of_the_shards_does_not_matter(tmp_path, monkeypatch):
    folder = pool(tmp_path, 7)
    monkeypatch.setattr(manifest, "SHARD_SIZE", 2)
    files = []
    for engine in (SerialEngine(), Backwards()):
        ctx = context(tmp_path, folder, engine)
        manifest.run(ctx)
        files.append((ctx.folder / "manifest.parquet").read_bytes())
    assert files[0] == files[1]


def test_progress_reaches_the_end(tmp_path):
    ctx, seen = context(tmp_path, pool(tmp_path)), []
    manifest.run(StageContext(ctx.config, ctx.folder, ctx.engine, lambda *what: seen.append(what)))
    assert seen[0] == ("manifest", 0, 4)
    assert seen[-1] == ("manifest", 4, 4)


def ours(images):
    size = (32, 32)
    small = [np.asarray(image.convert("L").resize(size, Image.Resampling.LANCZOS)) for image in images]
    return manifest.phashes(np.stack(small))


def test_phash_equals_imagehash():
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (70, 50), dtype=np.uint8)) for _ in range(50)]
    assert ours(images) == [str(imagehash.phash(image)) for image in images]


@pytest.mark.real
def test_phash_equals_imagehash_on_real_scans():
    root = os.environ["CXR_SSL_DATA"]
    files = sorted(Path(root, "covid3", "images").iterdir())[::20]
    images = [Image.open(io.BytesIO(file.read_bytes())) for file in files]
    assert ours(images) == [str(imagehash.phash(image)) for image in images]


def test_a_replaced_file_is_noticed_though_its_size_and_time_are_the_old_ones(tmp_path, caplog):
    folder = pool(tmp_path)
    ctx = context(tmp_path, folder)
    manifest.run(ctx)
    before = MANIFEST.read(ctx.folder)["sha256"].to_pylist()
    path = folder / "1.png"
    times, size = path.stat(), path.stat().st_size
    save(path, seed=77)
    data = path.read_bytes()
    path.write_bytes(data[:size] if len(data) >= size else data + bytes(size - len(data)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    manifest.run(ctx)
    after = MANIFEST.read(ctx.folder)["sha256"].to_pylist()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True, True]
    assert "1 files of the pool have changed since this run read them" in caplog.text
    assert "first 1.png" in caplog.text


@pytest.mark.parametrize("harm", [lambda data: data[:-9], lambda data: b"", lambda data: b"junk" * 50])
def test_a_damaged_list_of_what_was_read_is_set_aside_and_made_again(tmp_path, harm, caplog):
    ctx = context(tmp_path, pool(tmp_path))
    manifest.run(ctx)
    before, path = MANIFEST.read(ctx.folder), ctx.folder / run_files.SCANS_READ
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    manifest.run(ctx)
    assert MANIFEST.read(ctx.folder) == before
    assert path.read_bytes() == whole
    assert "is damaged" in caplog.text


class Dying(SerialEngine):
    """Dies after a number of shards."""

    def __init__(self, num):
        super().__init__()
        self.num, self.read = num, []

    def map_shards(self, function, shards, *, on_gpu=False):
        for index, shard in enumerate(shards):
            if index == self.num:
                raise KeyboardInterrupt
            self.read += shard.paths
            yield index, function(shard)


def test_what_was_read_before_a_crash_is_kept_in_parts_and_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "SHARD_SIZE", 1)
    monkeypatch.setattr(manifest, "_SAVE_EVERY_SHARDS", 2)
    folder = pool(tmp_path, num=9)
    with pytest.raises(KeyboardInterrupt):
        manifest.run(context(tmp_path, folder, Dying(5)))
    parts = tmp_path / "run" / run_files.SCANS_READ_SO_FAR
    assert [pq.read_table(part)["path"].to_pylist() for part in sorted(parts.glob("*"))] == [
        ["0.png", "1.png"],
        ["2.png", "3.png"],
    ]
    again = Dying(99)
    manifest.run(context(tmp_path, folder, again))
    assert again.read == [f"{i}.png" for i in range(4, 9)]
    assert len(pq.read_table(tmp_path / "run" / run_files.SCANS_READ)) == 9
    assert not list(parts.glob("*"))


def test_scans_that_fail_are_told_while_the_pool_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "SHARD_SIZE", 2)
    folder, told = pool(tmp_path, num=4), []
    for name in ("0.png", "3.png"):
        (folder / name).write_bytes(b"no picture")
    ctx = replace(context(tmp_path, folder), failed=lambda what, num: told.append((what, num)))
    manifest.run(ctx)
    assert told == [("manifest", 1), ("manifest", 2)]


@pytest.mark.parametrize("asked", [(), ("normal", "sick")])
def test_a_row_that_is_no_scan_makes_no_class(tmp_path, caplog, asked):
    for i, name in enumerate(("a", "b", "c")):
        save(tmp_path / f"{name}.png", i)
    rows = ["image_path,label", "a.png,normal", "b.png,sick", "c.png,sick", "Total,3", "d.png,sick"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    ctx = context(tmp_path, tmp_path, **({"pool.findings": list(asked)} if asked else {}))
    manifest.run(ctx)
    assert POOL_LABELS.read(ctx.folder)["label"].to_pylist() == ["normal", "sick", "sick", None, "sick"]
    assert "only scans that cannot be used have the labels '3'" in caplog.text


def test_a_class_that_is_asked_for_stays_though_no_file_of_it_can_be_used(tmp_path):
    for i, name in enumerate(("a", "b")):
        save(tmp_path / f"{name}.png", i)
    (tmp_path / "manifest.csv").write_text("image_path,label\na.png,normal\nb.png,sick\nc.png,rare\n")
    ctx = context(tmp_path, tmp_path, **{"pool.findings": ["normal", "sick", "rare"]})
    manifest.run(ctx)
    assert POOL_LABELS.read(ctx.folder)["label"].to_pylist() == ["normal", "sick", "rare"]


def deep_pool(tmp_path):
    """Scans that leave their white open, of two widths, and others; one is broken."""
    rng = np.random.default_rng(0)
    for i in range(9):
        most = (256, 4096, 1024)[i % 3]
        kind = np.uint8 if most == 256 else np.uint16
        (tmp_path / "pool").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, most, (40, 50)).astype(kind)).save(tmp_path / "pool" / f"{i}.png")
    (tmp_path / "pool" / "6.png").write_bytes(b"no picture")
    return tmp_path / "pool"


FILES = ("manifest.parquet", "pool_labels.parquet", run_files.SCANS_READ, run_files.SPLIT_KEYS)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_pool_that_is_read_in_two_tries_leaves_the_same_bytes(tmp_path, monkeypatch, num_shards):
    monkeypatch.setattr(manifest, "SHARD_SIZE", 2)
    monkeypatch.setattr(manifest, "_SAVE_EVERY_SHARDS", 1)
    monkeypatch.setattr(manifest, "_ROWS_AT_ONCE", 4)
    folder = deep_pool(tmp_path)
    options = {"splits.salt": "the same", "pool.white": "auto"}
    once = context(tmp_path / "once", folder, **options)
    counts = manifest.run(once)
    with pytest.raises(KeyboardInterrupt):
        manifest.run(context(tmp_path / "twice", folder, Dying(num_shards), **options))
    twice = context(tmp_path / "twice", folder, Backwards(), **options)
    assert manifest.run(twice) == counts
    assert counts["whites"] == {"1023": 3, "4095": 3}
    for name in FILES:
        assert (once.folder / name).read_bytes() == (twice.folder / name).read_bytes(), name


def test_a_white_that_the_whole_pool_decides_is_read_once_more_and_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "SHARD_SIZE", 4)
    folder = deep_pool(tmp_path)
    monkeypatch.setattr(manifest.whites.grey_range, "decide", lambda counts: dict.fromkeys(counts, 12))
    engine = Dying(99)
    ctx = context(tmp_path, folder, engine)
    manifest.run(ctx)
    assert engine.read == [*(f"{i}.png" for i in range(9)), "2.png", "5.png", "8.png"]
    rows = MANIFEST.read(ctx.folder).to_pylist()
    assert [row["path"] for row in rows] == [f"{i}.png" for i in range(9)]
    assert [row["white"] for row in rows] == [None, 4095, 4095] * 2 + [None, 4095, 4095]
    assert [row["uri"].endswith("#white=4095") for row in rows] == [False, False, True] * 3
