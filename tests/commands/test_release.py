"""`release` writes what is certified, with its certificate, and refuses the rest with the way out."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from pipeline.commands import release, status
from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import MANIFEST, RELEASE, write_parquet, write_text
from pipeline.learn.releases import check_planning, frozen_release
from pipeline.measures.plans import finite_plan
from pipeline.rounds import loop
from pipeline.runtime import run_dir, run_files
from tests.support import waiting_run as waiting
from tests.support.synthetic_run import synthetic_run
from tests.support.tiny import call
from tests.support.written_on import say_written_on


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = synthetic_run(
        tmp_path_factory.mktemp("released") / "run", num_scans=420, distance=4.0, rounds__num=5, rounds__reference=False
    )
    write_text(run.folder / run_files.RESOLVED, config_file.dump(run.ctx.config))
    loop.run(run.ctx)
    run_dir.write_status(run.folder, "finished", "rounds", 5)
    manifest = MANIFEST.read(run.folder)
    write_parquet(run.folder / MANIFEST.file, manifest.set_column(1, "uri", pa.array(["phantom://x"] * len(manifest))))
    return run


@pytest.fixture
def run(finished, tmp_path):
    return waiting.moved(finished, waiting.copy_of(finished, tmp_path / "run"))


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_writes_the_certified_tier(run, tmp_path, name):
    found = release.write_release(run.folder, tmp_path / name)
    read = csv.read_csv if name.endswith("csv") else pq.read_table
    table = read(found["out"]).to_pylist()
    certificate = json.loads((tmp_path / "labels.json").read_text("utf-8"))
    frozen = frozen_release.load(run.folder)
    assert certificate["hash"] == frozen.card["hash"] == table[0]["release_hash"]
    assert len(table) == certificate["num_released"] == len(frozen.ids_of[certificate["certified_tier"]])
    assert min(row["certified_precision"] for row in table) >= 0.9
    assert set(table[0]) == {
        *("image_id", "patient_id", "path", "finding", "probability", "tier"),
        *("certified_precision", "release_hash"),
    }
    right = [run.truth[row["image_id"]] == row["finding"] for row in table]
    assert sum(right) / len(right) >= certificate["bound"]
    first = frozen.ids_of[certificate["begin_with"]]
    assert certificate["sampling"] == "without-replacement" and len(first) < 1000
    assert tuple(certificate["plan"]) == finite_plan.plan(len(first), 0.9, 0.95) < (36, 54, 73, 94, 114)
    assert "this pool alone" in certificate["scope"]


def test_by_the_command_line(run):
    answer = call("release", str(run.folder), "--json")
    assert answer.code == 0, answer.err
    assert answer.json["out"].endswith("releases/01/release.csv")
    shown = call("release", str(run.folder))
    assert "precision at least" in shown.out


def test_refuses_what_is_not_certified_and_says_how_many_checks_are_missing(run):
    place = run_files.release_folder(run.folder, 1)
    card = json.loads((place / run_files.RELEASE_CARD).read_text("utf-8"))
    write_text(place / run_files.RELEASE_CARD, json.dumps(card | {"promise": 0.97}))
    with pytest.raises(InputError, match=r"not certified: .* further checks without an error") as refused:
        release.write_release(run.folder, None)
    assert refused.value.exit_code == 2
    assert not (place / "release.csv").exists()


def test_refuses_proposals_that_changed(run):
    place = run_files.release_folder(run.folder, 1)
    rows = RELEASE.read(place).to_pylist()
    rows[0]["finding"] = "normal" if rows[0]["finding"] != "normal" else "pneumonia"
    RELEASE.write(place, pa.Table.from_pylist(rows, schema=RELEASE.schema))
    with pytest.raises(InputError, match="proposals changed"):
        release.write_release(run.folder, None)


def test_refuses_scans_that_changed(run):
    manifest = MANIFEST.read(run.folder)
    write_parquet(run.folder / MANIFEST.file, manifest.set_column(3, "sha256", pa.array(["new"] * len(manifest))))
    with pytest.raises(InputError, match="scans of the release changed"):
        release.write_release(run.folder, None)


def test_refuses_a_file_that_exists_and_other_formats(run, tmp_path):
    (tmp_path / "labels.csv").write_text("precious", "utf-8")
    with pytest.raises(RunDirError, match="exists already"):
        release.write_release(run.folder, tmp_path / "labels.csv")
    with pytest.raises(InputError, match="no format"):
        release.write_release(run.folder, tmp_path / "labels.xlsx")


def test_a_run_without_a_release_says_why_and_what_budgets_can_promise(tmp_path):
    run = waiting.waiting_run(tmp_path / "run")
    run_dir.write_status(run.folder, "waiting", "rounds", 1, "labels")
    with pytest.raises(RunDirError, match=r"no release was frozen .*36 clean checks are more than 40%"):
        release.write_release(run.folder, None)
    found = status.status(run.folder)["release"]
    assert (found["state"], found["release"], found["checks_needed"]) == ("none", None, 36)
    assert [row["num_labels"] for row in found["can_promise"]] == [100, 234, 500]
    assert "can certify" in call("status", str(run.folder)).out


@pytest.mark.parametrize(
    ("num_accepted", "why"),
    [
        ([5], "round 3 freezes what it accepts, and is not finished"),
        ([5, 5, 0], "round 3 was to freeze what it accepts, and accepted nothing"),
        ([5, 5, 5], "round 3 of 5 is the one that freezes, and froze nothing"),
    ],
)
def test_a_release_that_was_due_and_is_not_there_has_its_own_reason(tmp_path, num_accepted, why):
    lines = [json.dumps({"round": i, "num_accepted": num}) for i, num in enumerate(num_accepted, 1)]
    write_text(tmp_path / run_files.METRICS, "\n".join(lines))
    config = Config()
    assert why in release.why_none(tmp_path, config, check_planning.freezing_round(config))
    asked = config.model_copy(update={"release": config.release.model_copy(update={"freeze_round": 1})})
    asked_why = release.why_none(tmp_path, asked, check_planning.freezing_round(asked))
    assert asked_why.startswith(f"the first round from {len(num_accepted) + 1} on")


def test_status_tells_the_tiers(run):
    found = status.status(run.folder)["release"]
    assert [tier["tier"] for tier in found["release"]["tiers"]] == list(frozen_release.load(run.folder).tiers())
    assert "errors in" in call("status", str(run.folder)).out


def test_scans_with_text_burnt_in_stay_and_the_certificate_allows_for_that(run, tmp_path):
    whole = pq.read_table(release.write_release(run.folder, tmp_path / "whole.parquet")["out"]).to_pylist()
    written = [row["image_id"] for row in whole[:5]]
    say_written_on(run.folder, written)
    left = pq.read_table(release.write_release(run.folder, tmp_path / "left.parquet")["out"]).to_pylist()
    assert [row["image_id"] for row in left] == [row["image_id"] for row in whole[5:]]
    precision = {row["image_id"]: row["certified_precision"] for row in whole}
    assert all(row["certified_precision"] < precision[row["image_id"]] for row in left)
    assert all(row["certified_precision"] > precision[row["image_id"]] - 0.02 for row in left)
