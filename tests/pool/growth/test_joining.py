"""Pools join a run: read once, counted, with the run's white; an interrupted try is finished; the split is kept."""

import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from pipeline import stages
from pipeline.commands.growth import growing
from pipeline.contracts import config_file, finding_line
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, QUEUE, SPLIT_TABLE
from pipeline.pool import duplicates
from pipeline.pool.growth import joining, keeping
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.growth import record
from tests.support import picture_run

LISTED = ("manifest", "duplicates", "splits")


def listed_run(folder, pool, **options):
    """A run up to its split."""
    given = {"pool.uri": str(pool), "duplicates.changed": False, "engine.backend": "serial", "rounds.num": 1}
    ctx = StageContext(config_file.load(None, given | options), folder, SerialEngine())
    folder.mkdir(parents=True)
    run_dir.write_config(folder, ctx.config)
    stages.run_stages(ctx, LISTED)
    return ctx


def grow(ctx, *pools):
    """Let pools join, and list the run again."""
    config = growing.grow(ctx, [str(pool) for pool in pools], rounds_are_given=False)
    stages.run_stages(ctx, LISTED)
    return config


@pytest.fixture
def run(tmp_path):
    return listed_run(tmp_path / "run", picture_run.make_pool(tmp_path / "pool", num=20))


def test_a_try_that_was_interrupted_while_reading_is_finished_by_the_next(run, tmp_path):
    pool = picture_run.make_pool(tmp_path / "other", num=8, first=20)
    record.begin(run.folder, str(pool))
    assert record.parts(run.folder) == []
    stages.run_stages(run, LISTED)
    assert len(MANIFEST.read(run.folder)) == 20  # half-read scans are none
    grow(run)
    assert [(part.part, part.num_new) for part in record.parts(run.folder)] == [(1, 8)]
    assert len(MANIFEST.read(run.folder)) == 28


def test_a_table_apart_from_its_files_is_read_below_the_root_that_the_run_has(tmp_path):
    own = picture_run.make_pool(tmp_path / "pool", num=20)
    more = picture_run.make_pool(tmp_path / "other", num=8, first=20)
    (tmp_path / "tables").mkdir()
    own, more = (
        shutil.move(table, tmp_path / "tables" / name) for table, name in ((own, "own.csv"), (more, "new.csv"))
    )
    shutil.copytree(tmp_path / "other", tmp_path / "pool", dirs_exist_ok=True)
    run = listed_run(tmp_path / "run", own, **{"pool.root": str(tmp_path / "pool")})
    grow(run, more)
    assert [(part.num_new, part.num_unusable) for part in record.parts(run.folder)] == [(8, 0)]
    for lost in (tmp_path / "pool").glob("*.png"):
        lost.unlink()
    with pytest.raises(InputError, match="the file is missing"):
        grow(run, shutil.copy(more, tmp_path / "tables" / "lost.csv"))


def test_a_part_is_read_once_and_further_files_join_by_growing_again(run, tmp_path):
    pool = picture_run.make_pool(tmp_path / "other", num=8, first=20)
    grow(run, pool)
    before = MANIFEST.read(run.folder)
    for path in (pool.parent).glob("s02[0-3].png"):
        path.unlink()
    with pool.open("a") as stream:
        stream.write("new.png,sick,pnew\n")
    picture_run.scan(600, sick=True).save(pool.parent / "new.png")
    grow(run)
    assert MANIFEST.read(run.folder).equals(before)
    (run.folder / "rounds" / "01").mkdir(parents=True)
    (run.folder / "rounds" / "01" / run_files.ROW).write_text("{}")  # a round has learned from part 1 by now
    grow(run, pool)
    parts = record.parts(run.folder)
    assert [(part.part, part.num_new, part.after_round) for part in parts] == [(1, 8, 0), (2, 1, 1)]
    assert record.part_of(run.folder, MANIFEST.read(run.folder)["image_id"])[-1] == 2
    assert record.frozen_rounds(run.folder) == 1


def test_one_round_is_added_where_all_queues_are_drawn_and_no_number_is_given(run, tmp_path):
    pool = picture_run.make_pool(tmp_path / "other", num=8, first=20)
    QUEUE.write(run_files.round_folder(run.folder, 1), QUEUE.empty())
    assert grow(run, pool).rounds.num == 2
    assert growing.grow(run, [], rounds_are_given=False).rounds.num == 2  # a resumed try asks for no further round
    assert growing.grow(run, [], rounds_are_given=True).rounds.num == 1


def test_nothing_new_leaves_the_run_as_it_is(run, tmp_path, caplog):
    copies = tmp_path / "copies"
    copies.mkdir()
    for number in range(4):
        picture_run.scan(number, sick=number % 2).save(copies / f"other-name-{number}.png")
    before = MANIFEST.read(run.folder)
    assert grow(run, copies) is run.config
    assert "of 4 scans the run has 4 already" in caplog.text
    assert not (run.folder / run_files.GROWTH).exists()
    assert MANIFEST.read(run.folder).equals(before)


def test_what_an_earlier_pool_of_the_same_command_brought_is_not_new(run, tmp_path, caplog):
    pool = picture_run.make_pool(tmp_path / "other", num=8, first=20)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in pool.parent.glob("*.png"):
        shutil.copy(path, copy / f"copy-{path.name}")
    growing.grow(run, [str(pool), str(copy)], rounds_are_given=False)
    assert [(part.part, part.num_new) for part in record.parts(run.folder)] == [(1, 8)]
    assert "of 8 scans the run has 8 already" in caplog.text


def test_a_pool_that_is_not_there_is_forgotten(run, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        grow(run, tmp_path / "nowhere")
    assert record.asked(run.folder) == []


def test_a_run_that_has_no_split_yet_cannot_grow(tmp_path):
    config = config_file.load(None, {"pool.uri": "x"})
    run_dir.write_config(tmp_path, config)
    with pytest.raises(InputError, match="has not read its own pool yet"):
        growing.check(tmp_path, ["y"], resume=True)


def deep_pool(folder, largest, first=0, num=6):
    """16-bit scans that do not say what white is."""
    folder.mkdir()
    for i in range(first, first + num):
        pixels = np.random.default_rng(i).integers(0, largest, (24, 24)).astype(np.uint16)
        pixels[0, 0] = largest
        Image.fromarray(pixels).save(folder / f"{i}.png")
    rows = "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(first, first + num))
    (folder / "manifest.csv").write_text("image_path,label\n" + rows)
    return folder


def test_the_white_of_the_run_holds_for_what_joins(tmp_path, caplog):
    run = listed_run(tmp_path / "run", deep_pool(tmp_path / "own", 4000))
    grow(run, deep_pool(tmp_path / "darker", 900, first=6), deep_pool(tmp_path / "deeper", 60_000, first=12))
    whites = MANIFEST.read(run.folder)["white"].to_pylist()
    assert whites == [4095] * 12 + [65535] * 6
    assert "6 scans of" in caplog.text and "hold values above the run's white (4095)" in caplog.text


def test_the_runs_own_column_names_are_used_where_they_fit(tmp_path):
    own = picture_run.make_pool(tmp_path / "pool", num=20)
    own.write_text(own.read_text().replace("label", "diagnosis"))
    run = listed_run(tmp_path / "run", own, **{"pool.columns": {"label": "diagnosis"}})
    other = picture_run.make_pool(tmp_path / "other", num=4, first=20)
    grow(run, other)
    assert POOL_LABELS.read(run.folder)["label"].null_count == 0


def tables(groups, sides, *, parts, patients=None, status=None):
    """A manifest and its groups; `sides` of the scans of before, None of those that are new."""
    ids = [f"{i:02d}" for i in range(len(groups))]
    manifest = {name: [None] * len(ids) for name in MANIFEST.schema.names}
    manifest |= {"image_id": ids, "uri": ids, "path": ids, "view": ["PA"] * len(ids)}
    manifest |= {"patient_id": patients or groups, "status": status or ["ok"] * len(ids)}
    copies = {"image_id": ids, "group_id": groups, "canonical_id": ids, "kind": ["unique"] * len(ids)}
    copies |= {"distance_bits": [None] * len(ids), "change": [None] * len(ids)}
    old = [i for i, side in enumerate(sides) if side is not None]
    before = {"image_id": [ids[i] for i in old], "group_id": [groups[i] for i in old]}
    before |= {"split": [sides[i] for i in old], "reason": [None] * len(old)}
    return (
        pa.table(manifest, schema=MANIFEST.schema),
        pa.table(copies, schema=DUPLICATES.schema),
        pa.table(before, schema=SPLIT_TABLE.schema),
        np.array(parts),
    )


def split(sealed, *given, **more):
    """Sides of a grown pool whose new groups are sealed by name."""
    manifest, duplicates, before, part_N = tables(*given, **more)
    asked = []

    def draw(rows):
        asked.append(rows.tolist())
        names = duplicates["group_id"].take(pa.array(rows)).to_pylist()
        sides = ["holdout" if name in sealed else "train" for name in names]
        columns = {"image_id": manifest["image_id"].take(pa.array(rows)), "group_id": names, "split": sides}
        return pa.table(columns | {"reason": [None] * len(rows)}, schema=SPLIT_TABLE.schema)

    return keeping.sides(manifest, duplicates, before, part_N, draw, "leaks")["split"].to_pylist(), asked


def test_new_scans_of_old_patients_never_change_the_holdout():
    groups = ["a", "b", "a", "b", "c", "d"]
    sides, asked = split({"c"}, groups, ["train", "holdout", None, None, None, None], parts=[0, 0, 1, 1, 1, 1])
    assert sides == ["train", "holdout", "train", "excluded", "holdout", "train"]
    assert asked == [[4, 5]]


def test_each_part_is_drawn_by_itself_and_a_later_one_respects_it():
    groups = ["a", "c", "c", "d"]
    sides, asked = split({"c", "d"}, groups, ["train", None, None, None], parts=[0, 1, 2, 2])
    assert sides == ["train", "holdout", "excluded", "holdout"]
    assert asked == [[1], [3]]


def test_an_old_training_scan_that_proves_to_be_of_a_sealed_patient_is_left_out(caplog):
    caplog.set_level(logging.WARNING)
    sides, _ = split(set(), ["a", "a", "a", "b"], ["train", "holdout", None, "train"], parts=[0, 0, 1, 0])
    assert sides == ["excluded", "holdout", "excluded", "train"]
    assert "1 scans are not trained on any more: leaks" in caplog.text


def test_an_old_scan_that_is_quarantined_now_is_left_out_and_its_patient_stays_on_its_side():
    status = ["quarantined", "quarantined", "ok", "ok"]
    manifest, *given = tables(["a", "b", "a", "b"], ["train", "holdout", None, None], parts=[0, 0, 1, 1], status=status)
    why = pa.array(["it cannot be decoded"] * 2 + [None] * 2, pa.string())
    manifest = manifest.set_column(manifest.column_names.index("reason"), "reason", why)
    rows = keeping.sides(manifest, *given, None, "leaks").to_pylist()
    assert [row["split"] for row in rows] == ["excluded", "excluded", "train", "excluded"]
    assert [row["reason"] for row in rows[:3]] == [
        "quarantined: it cannot be decoded; it was in the training pool",
        "quarantined: it cannot be decoded; it was in the holdout",
        None,
    ]


def test_an_old_scan_that_was_repaired_is_drawn_or_joins_its_patient(caplog):
    manifest, duplicates, before, part_N = tables(
        ["a", "a", "b", "c"], ["train", "excluded", "excluded", "holdout"], parts=[0, 0, 0, 0]
    )
    why = pa.array([None, "quarantined: it cannot be decoded", "quarantined: it is blank", None], pa.string())
    before = before.set_column(before.column_names.index("reason"), "reason", why)

    def draw(rows):
        assert rows.tolist() == [2]
        return pa.table({"split": ["train"], "reason": pa.nulls(1, pa.string())})

    table = keeping.sides(manifest, duplicates, before, part_N, draw, "leaks")
    assert table["split"].to_pylist() == ["train", "train", "train", "holdout"]
    assert table["reason"].null_count == 4
    assert "no patient for a holdout" not in caplog.text


def broken(manifest, *rows):
    """The manifest with unusable scans."""
    status = ["quarantined" if row in rows else "ok" for row in range(len(manifest))]
    why = ["it cannot be decoded" if row in rows else None for row in range(len(manifest))]
    for name, values in (("status", status), ("reason", why)):
        manifest = manifest.set_column(manifest.column_names.index(name), name, pa.array(values, pa.string()))
    return manifest


def test_a_scan_that_was_repaired_is_back_on_the_side_it_was_on_and_never_sealed_once_trained_on():
    def seal(rows):
        return pa.table({"split": ["holdout"] * len(rows), "reason": pa.nulls(len(rows), pa.string())})

    groups = ["a", "b", "c", "d", "e"]  # the fourth was never usable, the fifth has joined
    manifest, duplicates, before, part_N = tables(
        groups, ["train", "holdout", "train", "train", None], parts=[0, 0, 0, 0, 1]
    )
    unusable = pa.array([None, None, None, "quarantined: it is blank"], pa.string())
    before = before.set_column(3, "reason", unusable)
    before = before.set_column(2, "split", pa.array(["train", "holdout", "train", "excluded"]))
    for _ in range(2):  # two growths while they are broken: what is remembered stays
        before = keeping.with_former_sides(before, {})
        before = keeping.sides(broken(manifest, 0, 1, 3), duplicates, before, part_N, seal, "leaks")
        assert before["split"].to_pylist() == ["excluded", "excluded", "train", "excluded", "holdout"]
    before = keeping.with_former_sides(before, {})
    table = keeping.sides(manifest, duplicates, before, part_N, seal, "leaks")
    assert table["split"].to_pylist() == ["train", "holdout", "train", "holdout", "holdout"]
    assert table["reason"].null_count == 5


def test_a_broken_scan_is_on_the_side_that_people_were_asked_about_where_its_reason_is_silent():
    _, _, before, _ = tables(["a", "b", "c", "d"], ["excluded"] * 4, parts=[0] * 4)
    silent = "quarantined: it is blank"
    reasons = [silent, silent, silent, f"{silent}; it was in the holdout"]
    before = before.set_column(3, "reason", pa.array(reasons, pa.string()))
    asked_as = {"00": "train", "01": "holdout", "03": "train"}
    sides = keeping.with_former_sides(before, asked_as)["split"].to_pylist()
    assert sides == ["train", "holdout", "excluded", "holdout"]


def test_a_new_copy_of_a_broken_scan_that_was_trained_on_joins_the_training_pool():
    manifest, duplicates, before, part_N = tables(["a", "a", "b"], ["train", None, None], parts=[0, 1, 1])

    def seal(rows):
        assert rows.tolist() == [2]
        return pa.table({"split": ["holdout"], "reason": pa.nulls(1, pa.string())})

    silent = before.set_column(2, "split", pa.array(["excluded"]))  # broken when the run grew the last time
    silent = silent.set_column(3, "reason", pa.array(["quarantined: it is blank; it was in the training pool"]))
    before = keeping.with_former_sides(silent, {})
    table = keeping.sides(broken(manifest, 0), duplicates, before, part_N, seal, "leaks")
    assert table["split"].to_pylist() == ["excluded", "train", "holdout"]


def test_groups_keep_their_names_and_old_rows_their_words():
    _, table, _, _ = tables(["00", "01", "00", "00"], [None] * 4, parts=[0] * 4)
    before = table.slice(1, 2).set_column(1, "group_id", pa.array(["x", "y"]))
    before = before.set_column(3, "kind", pa.array(["near", "unique"]))
    kept = keeping.copies(keeping.named_as(table, before), before)
    assert kept["group_id"].to_pylist() == ["y", "x", "y", "y"]
    assert kept["kind"].to_pylist() == ["unique", "near", "unique", "unique"]


def test_a_group_that_falls_apart_leaves_its_name_to_the_scan_of_that_name():
    _, table, _, _ = tables(["00", "01", "02"], [None] * 3, parts=[0] * 3)
    before = table.set_column(1, "group_id", pa.array(["01", "01", "02"]))
    assert keeping.named_as(table, before)["group_id"].to_pylist() == ["00", "01", "02"]


def test_copies_that_are_looked_for_again_leave_the_groups_their_names(run, tmp_path):
    joined = tmp_path / "sisters"
    joined.mkdir()
    rows = []
    for number in range(20):  # of every old patient one more
        picture_run.scan(600 + number, sick=number % 2).save(joined / f"{number}.png")
        rows.append(f"{number}.png,p{number // 2}\n")
    (joined / "manifest.csv").write_text("image_path,patient_id\n" + "".join(rows))
    names = DUPLICATES.read(run.folder)["group_id"].to_pylist()
    grow(run, joined)
    duplicates.run(run)  # as after a kill between the table and the record that the stage has run
    assert DUPLICATES.read(run.folder)["group_id"].to_pylist()[:20] == names


def test_the_record_is_readable_json(run, tmp_path):
    grow(run, picture_run.make_pool(tmp_path / "other", num=8, first=20))
    told = json.loads((run.folder / run_files.GROWTH).read_text())["parts"][0]
    assert told["pool"] == str(tmp_path / "other" / "manifest.csv")
    assert pc.sum(pc.equal(MANIFEST.read(run.folder)["status"], "ok")).as_py() == 28


def test_conditions_and_patients_of_the_run_hold_for_what_joins(tmp_path, caplog):
    own = picture_run.make_pool(tmp_path / "pool", num=8)
    config = listed_run(tmp_path / "run", own).config
    config = config.model_copy(update={"pool": config.pool.model_copy(update={"where": {"label": "sick"}})})
    nobody = picture_run.make_pool(tmp_path / "nobody", num=4, first=20)
    nobody.write_text(nobody.read_text().replace("sick", "normal"))
    with pytest.raises(InputError, match="leaves none of 4 scans"):
        joining.paths_listed(config, str(nobody))
    asked = config.pool.model_copy(update={"where": {"hospital": "a", "label": "normal"}})
    config = config.model_copy(update={"pool": asked})
    assert (
        len(joining.paths_listed(config, str(nobody))) == 4
    )  # nobody knows of hospitals there; the label still counts
    assert "pool.where.hospital of the run is not applied" in caplog.text


def test_a_pattern_of_patients_that_matches_nothing_lets_nobody_join(tmp_path):
    config = listed_run(tmp_path / "run", picture_run.make_pool(tmp_path / "pool", num=8)).config
    config = config.model_copy(update={"pool": config.pool.model_copy(update={"patient_regex": r"(pat\d+)_"})})
    folder = tmp_path / "plain"
    shutil.copytree(picture_run.make_pool(tmp_path / "other", num=4, first=20).parent, folder)
    (folder / "manifest.csv").unlink()
    with pytest.raises(InputError, match="matches no path of"):
        joining.paths_listed(config, str(folder))


def test_a_pool_that_cannot_be_reached_does_not_keep_the_run_from_going_on(run, monkeypatch):
    def unreachable(*_):
        raise PermissionError("no credentials")

    monkeypatch.setattr(joining, "read", unreachable)
    with pytest.raises(PermissionError):
        growing.grow(run, ["s3://nobody/scans"], rounds_are_given=False)
    assert record.asked(run.folder) == []


def test_files_that_came_since_join_before_a_round_has_finished(run, tmp_path):
    other = picture_run.make_pool(tmp_path / "other", num=4, first=20)
    grow(run, other)
    grow(run, other)
    assert [part.num_new for part in record.parts(run.folder)] == [4]
    shutil.rmtree(other.parent)
    grow(run, picture_run.make_pool(tmp_path / "other", num=8, first=20))
    assert [part.num_new for part in record.parts(run.folder)] == [4, 4]


def test_findings_that_nobody_asks_for_are_named(caplog):
    findings = finding_line.Independent(("effusion", "mass"))
    label = pa.chunked_array([["effusion=1|mass=0", "effusion=0|efusion=1|nodule=0", None]])
    joining._refuse_other_classes(label, "the pool", findings)
    assert "are left out: efusion, nodule" in caplog.text
    caplog.clear()
    joining._refuse_other_classes(label.slice(0, 1), "the pool", findings)
    assert not caplog.text
    with pytest.raises(InputError, match="efusion"):
        joining._refuse_other_classes(pa.chunked_array([["efusion=1"]]), "the pool", findings)
