"""A run of independent findings grows: each finding keeps its rounds and releases, and is scored on both holdouts."""

import json
import shutil
from types import SimpleNamespace

import pyarrow.compute as pc
import pytest

from pipeline.contracts.tables import MANIFEST, PREDICTIONS, QUEUE, SPLIT_TABLE
from pipeline.runtime import run_files
from pipeline.runtime.growth import record
from tests.support.several_findings import FINDINGS, NUM, rows_of, scan, shows
from tests.support.tiny import call

STEP = 32  # scans of new patients


def write_pool(folder, first, num, header="effusion,mass"):
    """Further scans of the same kind, two a patient."""
    folder.mkdir()
    rows = [f"image_path,patient_id,{header}"]
    for i in range(first, first + num):
        scan(i).save(folder / f"s{i:03d}.png")
        rows.append(f"s{i:03d}.png,p{i // 2},{shows(i)['effusion']},{shows(i)['mass']}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def kept_files(run):
    """What the rounds and releases of before have left, of the run and of each finding."""
    folders = [place for name in ("rounds", "releases") for place in (run / name, *run.glob(f"findings/*/{name}"))]
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def grown(run, tmp_path_factory):
    home = tmp_path_factory.mktemp("grown")
    out = shutil.copytree(run, home / "run")
    before = SimpleNamespace(splits=SPLIT_TABLE.read(out), files=kept_files(out), rows=rows_of(out))
    address = write_pool(home / "other", NUM, STEP)
    answer = call("run", "--grow", address, "--out", out, "--resume", "--json")
    assert answer.code == 0, answer.err
    return SimpleNamespace(out=out, before=before, answer=answer, address=address)


def test_finished_rounds_and_sides_stay_as_they_were(grown):
    assert {path: path.read_bytes() for path in grown.before.files} == grown.before.files
    assert SPLIT_TABLE.read(grown.out).slice(0, NUM).equals(grown.before.splits)
    assert rows_of(grown.out)[:2] == grown.before.rows


def test_each_finding_learns_from_the_grown_pool_and_is_scored_on_both_holdouts(grown):
    assert run_files.last_round(grown.out) == 3
    part_Q = record.part_of(grown.out, QUEUE.read(grown.out / "rounds" / "03")["image_id"])
    assert (part_Q == 1).any()
    for finding in FINDINGS:
        part = grown.out / "findings" / finding
        growth = json.loads((part / run_files.EVALUATION).read_text())["growth"]
        assert (growth["before_round"], growth["round"], growth["why_not"]) == (2, 3, None)
        num = {one["which"]: one["num_scans"] for one in growth["sets"]}
        assert num["new"] > 0 and num["together"] == num["old"] + num["new"]
        old = growth["sets"][0]["comparison"]["metrics"][0]
        assert old["first"] == pytest.approx(rows_of(part)[1]["holdout"]["auroc"], abs=1e-6)
        row = rows_of(part)[-1]
        assert [one["holdout"]["num_scans"] for one in row["holdout_parts"]] == [num["old"], num["new"]]
        assert rows_of(grown.out)[-1]["findings"][finding] == row


def test_what_the_models_before_say_of_the_new_scans_stands_side_by_side(grown):
    table = PREDICTIONS.read(record.before_folder(grown.out, 1))
    assert table["image_id"].to_pylist() == PREDICTIONS.read(grown.out)["image_id"].to_pylist()
    old = PREDICTIONS.read(grown.out / "rounds" / "02")
    for finding in FINDINGS:
        own = PREDICTIONS.read(record.before_folder(grown.out / "findings" / finding, 1))
        assert own["image_id"].equals(table["image_id"])
        assert table[f"prob_{finding}"].equals(own[f"prob_{finding}"])
        row = pc.index_in(old["image_id"], value_set=table["image_id"].combine_chunks())
        before, again = old[f"prob_{finding}"].to_numpy(), table[f"prob_{finding}"].take(row).to_numpy()
        assert before == pytest.approx(again, abs=1e-6)


def test_page_and_status_name_each_finding(grown):
    page = (grown.out / run_files.REPORT).read_text()
    assert "What growing did" in page and "of the new scans" in page
    told = call("status", grown.out, "--json").json["growth"]
    assert {(row["finding"], row["which"]) for row in told["compared"]} == {
        (finding, which) for finding in FINDINGS for which in ("old", "new", "together")
    }
    assert told["parts"][0]["num_new"] == STEP and told["parts"][0]["num_labels"] > 0
    assert "AUROC of mass, new holdout" in call("status", grown.out).out


def test_resuming_changes_nothing(grown):
    names = ("metrics.jsonl", "predictions.parquet", "labels.parquet", "findings/mass/metrics.jsonl")
    before = {name: (grown.out / name).read_bytes() for name in names}
    again = call("run", "--out", grown.out, "--resume")
    assert again.code == 0, again.err
    assert ["†" in line for line in again.out.splitlines() if line.startswith("│")] == [False, False, True]
    assert "† from here on of a holdout that has grown" in again.out
    assert {name: (grown.out / name).read_bytes() for name in names} == before


@pytest.mark.parametrize(
    ("header", "message"), [("efusion,mass", "Did you mean pool.columns={effusion: efusion}"), ("effusion,x", "'mass'")]
)
def test_a_pool_that_lacks_a_finding_is_refused_and_forgotten(grown, tmp_path, header, message):
    before = MANIFEST.read(grown.out)
    answer = call("run", "--grow", write_pool(tmp_path / "p", 900, 4, header), "--out", grown.out, "--resume")
    assert (answer.code, message in answer.message) == (2, True), answer.message
    assert [part.part for part in record.asked(grown.out)] == [1]
    assert MANIFEST.read(grown.out).equals(before)
