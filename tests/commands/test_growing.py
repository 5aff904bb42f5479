"""`run --grow`: another pool joins a run; what was there stays, what is new is read, asked about and scored."""

import json
import shutil
from types import SimpleNamespace

import pyarrow.compute as pc
import pytest

from pipeline.contracts.tables import CLUSTERS, DUPLICATES, MANIFEST, PREDICTIONS, QUEUE, SPLIT_TABLE
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.growth import record
from tests.support import picture_run
from tests.support.tiny import FAST, call

SET = [
    part
    for option in (
        "queue.budget=14",
        "oracle=true",
        "calibrate.num_folds=2",
        "preprocess.size_px=32",
        "splits.holdout_fraction=0.3",
    )
    for part in ("--set", option)
]
BEGIN, STEP, SEALED_COPY, TRAINED_COPY = 60, 24, "of-sealed.png", "copied.png"


def grown_pool(folder, begun):
    """24 scans of new patients, six files that the run has, a broken one, and scans that touch old patients."""
    picture_run.make_pool(folder, num=STEP + 6, first=BEGIN - 6)
    old = dict(zip(begun.splits["image_id"].to_pylist(), begun.splits["split"].to_pylist(), strict=True))
    rows = begun.manifest.select(["image_id", "uri", "patient_id"]).to_pylist()
    by_side = {side: [row for row in rows if old[row["image_id"]] == side] for side in ("train", "holdout")}
    shutil.copy(by_side["train"][0]["uri"], folder / TRAINED_COPY)
    shutil.copy(by_side["holdout"][0]["uri"], folder / SEALED_COPY)
    picture_run.scan(500, sick=True).save(folder / "sister.png")
    (folder / "broken.png").write_bytes(b"no picture")
    path = by_side["train"][3]["uri"].rpartition("/")[2]
    patient = f"p{int(path[1:4]) // 2}"
    with (folder / "manifest.csv").open("a") as stream:
        stream.write(f"{TRAINED_COPY},normal,strange-1\n{SEALED_COPY},normal,strange-2\n")
        stream.write(f"sister.png,sick,{patient}\nbroken.png,sick,strange-3\n")
    return folder


def state(folder):
    """The tables of a run."""
    return SimpleNamespace(
        folder=folder,
        manifest=MANIFEST.read(folder),
        duplicates=DUPLICATES.read(folder),
        splits=SPLIT_TABLE.read(folder),
        stages=run_dir.stage_records(folder),
    )


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run of one round, before and after another pool has joined it."""
    home = tmp_path_factory.mktemp("grown")
    pool, out = picture_run.make_pool(home / "pool", num=BEGIN), home / "run"
    first = call(
        "run", "--pool", pool, "--rounds", 1, "--out", out, *FAST, *SET, "--accept", "all", "--because", "made-up scans"
    )
    assert first.code == 0, first.err
    before = state(out)
    frozen = {p: p.read_bytes() for p in (out / "rounds" / "01").rglob("*") if p.is_file()}
    address = grown_pool(home / "other", before)
    answer = call("run", "--grow", address, "--out", out, "--resume", "--json")
    assert answer.code == 0, answer.err
    return SimpleNamespace(before=before, after=state(out), frozen=frozen, answer=answer, out=out, address=address)


def side_of(grown, name):
    """Side and reason of a scan by the name of its file."""
    place = grown.after.manifest["path"].to_pylist().index(name)
    return grown.after.splits.to_pylist()[place]


def test_what_was_there_stays_as_it_was(grown):
    num = len(grown.before.manifest)
    for name in ("manifest", "duplicates", "splits"):
        before, after = getattr(grown.before, name), getattr(grown.after, name)
        assert after.slice(0, num).equals(before), name
    assert {path: path.read_bytes() for path in grown.frozen} == grown.frozen  # round 1 was not learned again


def test_only_new_scans_are_embedded(grown):
    new = set(grown.after.manifest["sha256"].to_pylist()) - set(grown.before.manifest["sha256"].to_pylist())
    assert grown.after.stages["embed"]["counts"]["num_embedded"] == len(new - {None}) - 1 == STEP + 1  # one is broken


def test_each_scan_is_recorded_with_its_part(grown):
    part = record.parts(grown.out)[0]
    assert (part.part, part.after_round, part.first_queue) == (1, 1, 2)
    assert (part.num_new, part.num_already_there, part.num_unusable) == (STEP + 1, 6 + 2, 1)
    assert part.num_scans == STEP + 6 + 4
    part_N = record.part_of(grown.out, grown.after.manifest["image_id"])
    assert part_N.tolist() == [0] * len(grown.before.manifest) + [1] * (STEP + 4)


def test_no_patient_and_no_picture_is_on_two_sides(grown):
    assert side_of(grown, "sister.png")["split"] == "train"  # the patient was trained on
    assert side_of(grown, TRAINED_COPY)["split"] == "train"
    sealed = side_of(grown, SEALED_COPY)
    assert (sealed["split"], "holdout of before" in sealed["reason"]) == ("excluded", True)
    joined = grown.after.duplicates.to_pylist()[grown.after.manifest["path"].to_pylist().index(TRAINED_COPY)]
    assert joined["kind"] == "exact"
    assert joined["canonical_id"] in grown.before.manifest["image_id"].to_pylist()
    table = grown.after.splits.slice(len(grown.before.splits))
    sealed_groups = set(table.filter(pc.equal(table["split"], "holdout"))["group_id"].to_pylist())
    assert sealed_groups
    assert not sealed_groups & set(grown.before.splits["group_id"].to_pylist())  # only patients who are new


def test_the_new_scans_are_asked_about_first(grown):
    told = json.loads((run_files.round_folder(grown.out, 2) / run_files.QUEUE_OPTIONS).read_text())["grown"]
    queue = QUEUE.read(run_files.round_folder(grown.out, 2))
    part_Q = record.part_of(grown.out, queue["image_id"])
    assert told[1]["num_in_queue"] == (part_Q == 1).sum() >= told[1]["num_missing"] > 0
    assert told[0]["num_labels"] == 14 and told[1]["num_labels"] == 0
    assert told[0]["share_of_pool"] + told[1]["share_of_pool"] == pytest.approx(1)


def test_both_models_are_scored_on_both_holdouts(grown):
    evaluation = json.loads((grown.out / run_files.EVALUATION).read_text())
    growth = evaluation["growth"]
    assert (growth["parts"], growth["before_round"], growth["round"], growth["why_not"]) == ([1], 1, 2, None)
    num = {one["which"]: one["num_scans"] for one in growth["sets"]}
    assert num["old"] == grown.before.splits["split"].to_pylist().count("holdout")
    assert num["new"] > 0 and num["together"] == num["old"] + num["new"] == evaluation["scope"]["num_scans"]
    row = run_dir.read_metrics(grown.out)[-1]
    assert [one["part"] for one in row["holdout_parts"]] == [0, 1]
    assert [one["holdout"]["num_scans"] for one in row["holdout_parts"]] == [num["old"], num["new"]]
    old = growth["sets"][0]["comparison"]["metrics"][0]
    assert old["first"] == pytest.approx(run_dir.read_metrics(grown.out)[0]["holdout"]["auroc"], abs=1e-6)
    assert old["second"] == pytest.approx(row["holdout_parts"][0]["holdout"]["auroc"], abs=1e-6)


def test_page_and_status_say_what_growing_did(grown):
    page = (grown.out / run_files.REPORT).read_text()
    assert "What growing did" in page and "holdout of the new scans" in page
    answer = call("status", grown.out)
    assert f"part 1 joined after round 1: {STEP + 1} new scans" in answer.out
    assert "AUROC, new holdout" in answer.out and "AUROC, both holdouts together" in answer.out
    told = call("status", grown.out, "--json").json["growth"]
    assert [row["which"] for row in told["compared"]] == ["old", "new", "together"]
    assert told["parts"][0]["num_labels"] > 0


def test_the_papers_name_the_pool_that_joined_and_compare_on_the_same_scans(grown):
    card = (grown.out / run_files.REPORT).with_name("model_card.md").read_text("utf-8")
    assert f"/{grown.address.name}, {STEP + 1} new scans |" in card.split("| Joined after round 1 |")[1].split("\n")[0]
    assert "| holdout of the new scans (" in card.split("## What growing did")[1].split("\n## ")[0]
    plan = (grown.out / run_files.REPORT).with_name("data_governance.md").read_text("utf-8")
    assert f"some joined later: {STEP + 1} scans of " in plan and f"/{grown.address.name} after round 1" in plan


def test_resuming_and_naming_it_again_change_nothing(grown):
    tables = [table.file for table in (MANIFEST, DUPLICATES, SPLIT_TABLE, CLUSTERS, PREDICTIONS)]
    kept = {name: (grown.out / name).read_bytes() for name in (*tables, run_files.METRICS, run_files.GROWTH)}
    answer = call("run", "--grow", grown.address, "--out", grown.out, "--resume")
    assert answer.code == 0, answer.err
    rows = [line for line in answer.out.splitlines() if line.startswith("│")]
    assert ["†" in line for line in rows] == [
        False,
        True,
    ] and "† from here on of a holdout that has grown" in answer.out
    assert f"nothing of {grown.address} is new: of 34 scans the run has 33 already, 1 are unusable" in answer.err
    assert {name: (grown.out / name).read_bytes() for name in kept} == kept
    assert not record.part_folder(grown.out, 2).exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--out", "{nowhere}", "--resume"], "there is no run to grow"),
        (["--out", "{out}"], "goes on with a run that is there"),
        (["--out", "{out}", "--overwrite", "--resume"], "contradict each other"),
    ],
)
def test_what_cannot_grow_is_refused(grown, tmp_path, given, message):
    places = {"nowhere": tmp_path / "nowhere", "out": grown.out}
    answer = call("run", "--grow", grown.address, *(part.format(**places) for part in given))
    assert (answer.code, message in answer.message) == (2, True)
    assert not places["nowhere"].exists()


def test_a_pool_of_other_classes_is_refused_and_forgotten(grown, tmp_path):
    pool = picture_run.make_pool(tmp_path / "others", num=2, first=900)
    pool.write_text(pool.read_text().replace("sick", "unwell"))
    before, status = (grown.out / run_files.GROWTH).read_bytes(), run_dir.read_status(grown.out)
    answer = call("run", "--grow", pool, "--out", grown.out, "--resume")
    assert answer.code == 2
    assert "names classes that the run does not have (unwell); it has normal, sick" in answer.message
    assert (grown.out / run_files.GROWTH).read_bytes() == before
    assert (status["state"], run_dir.read_status(grown.out)) == ("done", status)
    assert MANIFEST.read(grown.out).equals(grown.after.manifest)


def test_a_run_in_use_is_not_grown(grown):
    with run_dir.locked(grown.out):
        answer = call("run", "--grow", grown.address, "--out", grown.out, "--resume")
    assert (answer.code, "another process is working in this run" in answer.message) == (2, True)


def test_a_dry_run_says_what_would_join(grown):
    plan = call("run", "--grow", grown.address, "--out", grown.out, "--resume", "--dry-run", "--json").json
    assert plan["grow"] == [{"pool": str(grown.address), "num_scans": STEP + 6 + 4}]
