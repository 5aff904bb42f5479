"""Releases of independent findings: one order of checks, a certificate each, and what holds of all at once."""

import itertools
import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv

from pipeline.commands import release as commands_release
from pipeline.commands import status
from pipeline.contracts import config_file, finding_line
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import MANIFEST, PREDICTIONS, QUEUE, RELEASE, write_parquet, write_text
from pipeline.learn.releases import freezing, frozen_release
from pipeline.learn.releases.frozen_release import SUREST, WHOLE
from pipeline.measures.plans import finite_plan, sequential_plan
from pipeline.per_finding import false_alarms, rounds
from pipeline.per_finding import releases as finding_releases
from pipeline.runtime import finding_folders, run_dir, run_files
from tests.learn.test_release import agreed, frozen
from tests.support import waiting_run as waiting
from tests.support.synthetic_run import synthetic_run
from tests.support.tiny import call

FINDINGS = ("effusion", "mass")
SHOWS = {"normal": (0.0, 0.0), "pneumonia": (1.0, 0.0), "covid": (1.0, 1.0)}
ROUNDS, FREEZES = 5, 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three clouds of scans: no finding, an effusion, both; an oracle answers, releases are frozen after round 2."""
    given = {"pool__findings": list(FINDINGS), "pool__findings_are": "independent", "release__freeze_round": FREEZES}
    run = synthetic_run(
        tmp_path_factory.mktemp("released") / "run",
        num_scans=420,
        num_classes=3,
        distance=4.0,
        rounds__num=ROUNDS,
        queue__budget=30,
        rounds__reference=False,
        **given,
    )
    values = {i: dict(zip(FINDINGS, SHOWS[c], strict=True)) for i, c in run.truth.items()}
    run.table({i: finding_line.write(of_scan, FINDINGS) for i, of_scan in values.items()})
    write_text(run.folder / run_files.RESOLVED, config_file.dump(run.ctx.config))
    rounds.run(run.ctx)
    run_dir.write_status(run.folder, "finished", "rounds", ROUNDS)
    manifest = MANIFEST.read(run.folder)
    write_parquet(run.folder / MANIFEST.file, manifest.set_column(1, "uri", pa.array(["phantom://x"] * len(manifest))))
    return run


@pytest.fixture
def run(finished, tmp_path):
    return waiting.moved(finished, waiting.copy_of(finished, tmp_path / "run"))


def rows_of(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def card_of(run, finding):
    return run_files.release_folder(finding_folders.parts_in(run.folder)[finding], 1) / run_files.RELEASE_CARD


def promised(run, finding, promise):
    card = json.loads(card_of(run, finding).read_text("utf-8"))
    write_text(card_of(run, finding), json.dumps(card | {"promise": promise}))


def test_every_finding_freezes_a_release_and_both_are_checked_in_one_order(run):
    loaded = finding_releases.frozen(run.folder)
    assert list(loaded) == list(FINDINGS)
    assert {release.card["round"] for release in loaded.values()} == {FREEZES}
    orders = [release.ids_of[WHOLE] for release in loaded.values()]
    shared = set(orders[0]) & set(orders[1])
    assert len(shared) > 50
    assert [i for i in orders[0] if i in shared] == [i for i in orders[1] if i in shared]
    assert loaded["effusion"].card["hash"] != loaded["mass"].card["hash"]


def test_one_queue_checks_the_releases_in_turn_and_a_scan_of_both_once(run):
    queue = QUEUE.read(run.ctx.round_folder(FREEZES + 1))
    kinds = dict(zip(queue["image_id"].to_pylist(), queue["kind"].to_pylist(), strict=True))
    checks = {i for i, kind in kinds.items() if kind == "release-check"}
    assert len(kinds) == len(queue) and len(checks) == 28  # .95 of 30
    uniform = {i for i, kind in kinds.items() if kind == "uniform"}
    turns = [
        [i for i in release.ids_of[release.tiers()[0]] if i not in uniform]
        for release in finding_releases.frozen(run.folder).values()
    ]
    expected = list(dict.fromkeys(i for turn in zip(*turns, strict=False) for i in turn))
    assert checks == set(expected[:28])
    assert len(checks & set(turns[0])) + len(checks & set(turns[1])) > 28  # some answer for both
    for part in finding_folders.parts_in(run.folder).values():
        own = QUEUE.read(run_files.round_folder(part, FREEZES + 1))
        assert set(own.filter(pc.equal(own["kind"], "release-check"))["image_id"].to_pylist()) == checks
    for earlier in range(1, FREEZES + 1):
        assert "release-check" not in QUEUE.read(run.ctx.round_folder(earlier))["kind"].to_pylist()


def test_what_is_released_holds_every_certified_finding_as_values(run, tmp_path):
    written = commands_release.write_release(run.folder, tmp_path / "labels.csv")
    table = csv.read_csv(written["out"]).to_pylist()
    certificate = json.loads((tmp_path / "labels.json").read_text("utf-8"))
    assert list(certificate["findings"]) == list(FINDINGS) and certificate["not_certified"] == {}
    assert certificate["num_released"] == len(table)
    for place, finding in enumerate(FINDINGS):
        own, of_finding = certificate["findings"][finding], [row for row in table if row["finding"] == finding]
        frozen_now = finding_releases.frozen(run.folder)[finding]
        assert own["hash"] == frozen_now.card["hash"] == of_finding[0]["release_hash"]
        assert len(of_finding) == own["num_released"] == len(frozen_now.ids_of[own["certified_tier"]])
        right = [SHOWS[run.truth[row["image_id"]]][place] == row["value"] for row in of_finding]
        assert {row["value"] for row in of_finding} <= {0, 1}
        assert sum(right) / len(right) >= own["bound"] >= 0.9
    assert "holds by itself" in certificate["scope"]


def test_the_joint_bounds_are_those_at_the_confidence_of_one_in_so_many(run, tmp_path):
    certificate = commands_release.write_release(run.folder, tmp_path / "labels.csv")["certificate"]
    joint = certificate["together"]
    assert (joint["method"], joint["num_releases"], joint["confidence"]) == ("Bonferroni", 2, 0.95)
    assert joint["confidence_each"] == pytest.approx(0.9875)  # two releases of two tiers
    assert rows_of(run)[-1]["releases_together"] == joint
    for finding, release in finding_releases.frozen(run.folder).items():
        errors = release.errors(SUREST, finding_releases.answers_of(run.folder, finding))
        if joint["findings"][finding]["certified_tier"] != WHOLE:
            num = len(release.ids_of[SUREST])
            bound = finite_plan.certified_precision(num, errors, joint["confidence_each"], 0.9)
            assert joint["findings"][finding]["bound"] == bound
            assert bound <= finite_plan.certified_precision(num, errors, 0.95, 0.9)


def test_clean_checks_enough_for_one_finding_are_not_enough_for_fourteen():
    release = frozen(400)
    names = [f"finding {n}" for n in range(14)]
    answers = dict.fromkeys(names, agreed(release.ids_of[SUREST][:42]))
    alone = finding_releases.joint_statement({"finding 0": release}, answers, 1)
    every = finding_releases.joint_statement(dict.fromkeys(names, release), answers, 14)
    assert alone["findings"]["finding 0"]["certified_tier"] == SUREST
    assert {row["certified_tier"] for row in every["findings"].values()} == {None}
    assert 0.8 < every["findings"]["finding 3"]["bound"] < 0.9 <= alone["findings"]["finding 0"]["bound"]
    failed = finding_releases.joint_statement({"finding 0": release}, answers, 3)  # two releases failed before
    assert failed["confidence_each"] == pytest.approx(1 - 0.05 / 6)


def test_more_clean_checks_are_needed_for_more_releases():
    needed = [sequential_plan.plan(0.9, 1 - 0.05 / m, 5) for m in (1, 2, 3, 5, 14)]
    for fewer, more in itertools.pairwise(needed):
        assert all(a <= b for a, b in zip(fewer, more, strict=True)) and fewer[0] < more[0]


def test_an_uncertified_finding_is_left_out_and_named(run, tmp_path):
    promised(run, "mass", 0.99)
    certificate = commands_release.write_release(run.folder, tmp_path / "labels.csv")["certificate"]
    assert list(certificate["findings"]) == ["effusion"]
    assert "the promise of 0.99 is not certified" in certificate["not_certified"]["mass"]
    assert set(csv.read_csv(tmp_path / "labels.csv")["finding"].to_pylist()) == {"effusion"}
    shown = call("release", str(run.folder), "--out", str(tmp_path / "again.csv"))
    assert "mass is left out: the promise of 0.99" in shown.out and "each certificate holds by itself" in shown.out


def test_nothing_is_written_where_no_finding_is_certified(run, tmp_path):
    for finding in FINDINGS:
        promised(run, finding, 0.99)
    with pytest.raises(InputError, match=r"no finding is certified: effusion: .*; mass: .*"):
        commands_release.write_release(run.folder, tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


def test_proposals_that_changed_are_refused_for_the_finding_they_are_of(run, tmp_path):
    place = card_of(run, "mass").parent
    rows = RELEASE.read(place).to_pylist()
    rows[0]["finding"] = "mass" if rows[0]["finding"] != "mass" else "no mass"
    RELEASE.write(place, pa.Table.from_pylist(rows, schema=RELEASE.schema))
    with pytest.raises(InputError, match="proposals changed") as refused:
        commands_release.write_release(run.folder, tmp_path / "labels.csv")
    assert "findings/mass" in str(refused.value)


def test_a_run_that_froze_nothing_says_why(run):
    for finding in FINDINGS:
        card_of(run, finding).unlink()
    with pytest.raises(RunDirError, match="no release was frozen of any finding"):
        commands_release.write_release(run.folder, None)
    assert status.status(run.folder)["release"]["together"] is None


def test_status_tells_every_finding_and_what_holds_together(run):
    found = status.status(run.folder)["release"]
    assert {finding: part["state"] for finding, part in found["findings"].items()}.keys() == set(FINDINGS)
    assert found["together"] == rows_of(run)[-1]["releases_together"]
    shown = call("status", str(run.folder)).out
    assert "effusion:\nrelease 1, frozen after round 2" in shown
    assert "all 2 at once with 95% confidence (Bonferroni) only these precisions: effusion 0." in shown


def test_a_scan_of_one_findings_release_is_not_doubted_for_another(finished, monkeypatch):
    ids = finding_releases.frozen(finished.folder)["mass"].ids_of[WHOLE]
    questions = {f: _Asked(finished.folder / "findings" / f, ids[0], "free") for f in FINDINGS}
    learning = rounds.Findings(finished.ctx, None, questions)
    monkeypatch.setattr(learning, "_project", lambda: None)
    assert learning.second_looks(4, 5) == [("free", "doubt"), (f"dispute-{ids[0]}", "dispute")]


class _Asked:
    """A question that doubts a scan of a release, and one that is free."""

    def __init__(self, folder, frozen_id, free_id):
        self.ctx = type("Context", (), {"folder": folder})
        self.looks = [(frozen_id, "doubt"), (free_id, "doubt"), (f"dispute-{frozen_id}", "dispute")]

    def second_looks(self, round_index, num):
        return self.looks


def test_releases_frozen_at_other_times_are_in_other_orders(finished):
    table = frozen_release.load(finished.folder / "findings" / "mass").table
    columns = ["image_id", "sha256", "finding", "probability"]
    first, again, later = (
        freezing._ordered(table.select(columns), 72, drawn_by)["image_id"].to_pylist() for drawn_by in ("a", "a", "b")
    )
    assert first == again != later and set(first) == set(later)


def test_healthy_scans_that_some_finding_calls_are_counted_once(finished):
    row, predicted = rows_of(finished)[-1]["healthy_scans"], {}
    for finding, part in finding_folders.parts_in(finished.folder).items():
        table = PREDICTIONS.read(run_files.round_folder(part, ROUNDS))
        for image_id, said in zip(table["image_id"].to_pylist(), table["predicted"].to_pylist(), strict=True):
            predicted.setdefault(image_id, set()).add(said == finding)
    healthy = [i for i in finished.ids("holdout") if finished.truth[i] == "normal"]
    alarmed = [i for i in healthy if True in predicted[i]]
    assert (row["num_scans"], row["num_alarmed"]) == (len(healthy), len(alarmed))
    assert row["share"] == pytest.approx(len(alarmed) / len(healthy)) and row["findings"] == list(FINDINGS)
    assert row["ci95"][0] <= row["share"] <= row["ci95"][1] < 1.0


def test_findings_are_counted_out_where_nothing_is_known(finished, tmp_path):
    assert false_alarms.of_healthy_scans(finished.ctx, {}, ROUNDS) is None
