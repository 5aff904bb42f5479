"""A release is frozen once, checked in an order drawn by chance, and claimed tier by tier."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.contracts.answers import CANNOT_TELL, Answer
from pipeline.contracts.config import Config
from pipeline.contracts.tables import MANIFEST, PSEUDO, QUEUE, RELEASE, write_parquet
from pipeline.labels import label_table, verdicts
from pipeline.labels.label_table import add_answers
from pipeline.learn.releases import check_planning, freezing, frozen_content, frozen_release
from pipeline.learn.releases.frozen_release import SUREST, WHOLE, Release
from pipeline.rounds import loop
from pipeline.runtime import run_files
from pipeline.selection.draw import Proposals
from tests.support.synthetic_run import options, synthetic_run

FINDINGS = ("normal", "pneumonia")


def frozen(num=100, begin_with=SUREST):
    """Proposals `normal` throughout, every second one among the surest."""
    columns = {
        "image_id": [f"s{i:03d}" for i in range(num)],
        "sha256": ["0"] * num,
        "finding": ["normal"] * num,
        "probability": np.full(num, 0.9, np.float32),
        "tier": [SUREST, "rest"] * (num // 2),
        "position": np.arange(1, num + 1, dtype=np.int32),
    }
    card = {"number": 1, "round": 2, "promise": 0.9, "confidence": 0.95, "begin_with": begin_with, "num_scans": num}
    return Release(pa.table(columns, schema=RELEASE.schema), card)


def agreed(ids, **others):
    return dict.fromkeys(ids, "normal") | others


def test_only_checks_up_to_the_first_open_scan_count():
    release = frozen(200)
    answers = agreed(["s000", "s001", "s002", "s006"], s002="pneumonia")
    assert release.errors(WHOLE, answers) == [False, False, True]
    assert release.errors(SUREST, answers) == [False, True]
    assert release.next_checks(answers)[:2] == ["s004", "s008"]  # surest, in order; s006 was answered for other reasons


@pytest.mark.parametrize("answer", [None, "pneumonia"])
def test_what_nobody_can_tell_is_an_error(answer):
    assert frozen().errors(WHOLE, {"s000": answer}) == [True]


def test_the_surest_tier_is_claimed_first_and_its_checks_count_for_the_whole():
    release = frozen(200)
    surest = list(release.ids_of[SUREST])
    state = release.state(agreed(surest[:36]))
    assert (state["state"], state["certified_tier"]) == ("checking", SUREST)
    assert state["bound"] >= 0.9
    assert state["checks_needed"] == 36 - 1  # of the whole the first scan is checked, the second is not
    more = release.next_checks(agreed(surest[:36]))[:18]
    done = release.state(agreed([*surest[:36], *more]))
    assert (done["state"], done["certified_tier"], done["checks_needed"]) == ("certified", WHOLE, None)
    assert release.next_checks(agreed([*surest[:36], *more])) == []


def test_the_whole_is_not_claimed_before_the_surest_tier():
    release = frozen(200)
    state = release.state(agreed(release.ids_of[WHOLE][:40]))
    whole = state["tiers"][1]
    assert (whole["tier"], whole["checks_needed"], whole["holds"]) == (WHOLE, 0, False)
    assert state["certified_tier"] is None
    turned = frozen(200, WHOLE).state(agreed(release.ids_of[WHOLE][:40]))
    assert turned["certified_tier"] == WHOLE


def test_a_release_too_small_or_too_wrong_is_used_up():
    assert frozen(60).state({})["state"] == "used-up"  # 30 surest scans are fewer than 36 checks
    wrong = frozen(200)
    answers = agreed(wrong.ids_of[SUREST]) | dict.fromkeys(wrong.ids_of[SUREST][:10], "pneumonia")
    assert wrong.state(answers)["state"] == "used-up"
    assert wrong.next_checks(answers) == []


def finite(num, begin_with=SUREST):
    release = frozen(num, begin_with)
    return replace(release, card=release.card | {"sampling": frozen_release.WITHOUT_REPLACEMENT})


def test_a_small_tier_takes_fewer_checks_and_an_old_release_keeps_its_plan():
    surest = finite(144).ids_of[SUREST]
    assert finite(144).state(agreed(surest[:26]))["certified_tier"] == SUREST
    assert frozen(144).state(agreed(surest[:26]))["certified_tier"] is None
    assert finite(60).state({})["checks_needed"] <= 30  # which an endless release would not be certified by
    with_an_error = agreed(surest[:37]) | {surest[3]: "pneumonia"}
    assert finite(144).state(with_an_error)["certified_tier"] == SUREST


def test_errors_found_anywhere_take_a_broken_certificate_back_and_leave_the_next_tier_its_own():
    release = finite(400)
    surest = release.ids_of[SUREST]
    answers = agreed(release.ids_of[WHOLE])
    assert release.state(answers)["certified_tier"] == WHOLE
    later = dict.fromkeys(surest[100:121], "pneumonia")  # more than a tenth of 200, and of the whole a twentieth
    broken = release.state(answers | later)
    first, second = broken["tiers"]
    assert (first["tier"], first["holds"], first["withdrawn"], first["checks_needed"]) == (SUREST, False, True, None)
    assert first["bound"] == pytest.approx(179 / 200)
    assert (second["holds"], broken["certified_tier"], broken["state"]) == (True, WHOLE, "certified")
    only_checks = release.state(agreed(surest[:60]) | later)  # known although no check has come to them
    assert only_checks["tiers"][0]["withdrawn"] and only_checks["tiers"][0]["bound"] <= 179 / 200
    assert release.next_checks(agreed(surest[:60]) | later)[0] not in surest[:60]  # the whole is checked on


def config(**changed):
    return Config().model_copy(update=changed)


def test_frozen_after_the_last_round_that_can_pay_for_the_checks():
    default = Config()  # 5 rounds of 20 labels
    assert (default.release.promise, default.release.check_share, default.release.begin_with) == (0.9, 0.95, "auto")
    assert check_planning.checks_planned(default) == 36  # .4 of 100 labels pay for no error
    assert [r for r in range(1, 6) if check_planning.is_due(default, r, 0)] == [3]
    assert [r for r in range(1, 6) if check_planning.is_due(default, r, 1)] == [1, 2, 3]  # after a release that failed
    short = config(rounds=default.rounds.model_copy(update={"num": 3}))
    assert not any(check_planning.is_due(short, r, 0) for r in (1, 2, 3))
    fixed = config(release=default.release.model_copy(update={"freeze_round": 3}))
    assert [r for r in range(1, 6) if check_planning.is_due(fixed, r, 0)] == [3, 4, 5]
    never = config(release=default.release.model_copy(update={"freeze_round": 0}))
    assert not any(check_planning.is_due(never, r, 0) for r in range(1, 6))


@pytest.mark.parametrize(("budget", "num"), [(5, 4), (8, 7), (9, 8), (10, 9), (20, 19), (39, 37), (50, 47), (60, 57)])
def test_a_queue_of_checks_leaves_room_for_another_question(budget, num):
    assert Config().release.checks_in(budget) == num
    assert Config().release.model_copy(update={"check_share": 1.0}).checks_in(budget) == budget


@pytest.mark.parametrize(
    ("num", "budget", "run_share", "planned", "due"),
    [
        (6, 39, 0.4, 73, 4),  # 93 of 234 labels pay for two errors; queues of 37 checks: two
        (10, 50, 0.4, 114, 7),
        (5, 20, 0.3, None, None),  # 30 labels pay for nothing
        (1, 500, 0.4, None, None),  # no queue comes after the first
        (2, 100, 0.4, 73, 1),
    ],
)
def test_checks_are_planned_for_as_many_errors_as_their_share_of_the_labels_pays_for(
    num, budget, run_share, planned, due
):
    default = Config()
    options = config(
        rounds=default.rounds.model_copy(update={"num": num}),
        queue=default.queue.model_copy(update={"budget": budget}),
        release=default.release.model_copy(update={"run_share": run_share}),
    )
    assert check_planning.checks_planned(options) == planned
    assert next((r for r in range(1, num + 1) if check_planning.is_due(options, r, 0)), None) == due


def test_planning_table_names_what_budgets_can_promise():
    clean = {row["num_labels"]: row["clean"] for row in check_planning.planning_table((100, 234, 500), 0.4, 0.95)}
    assert clean == {100: pytest.approx(0.9119), 234: pytest.approx(0.9615), 500: pytest.approx(0.9817)}
    assert check_planning.planning_table((1,), 0.0, 0.95)[0]["clean"] == 0.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = synthetic_run(
        tmp_path_factory.mktemp("release") / "run",
        num_scans=420,
        scans_per_patient=3,
        distance=4.0,
        rounds__num=5,
        queue__budget=20,
        rounds__reference=False,
        release__begin_with=SUREST,
    )
    loop.run(run.ctx)
    return run


def kinds(run, round_index):
    return QUEUE.read(run.ctx.round_folder(round_index))["kind"].to_pylist()


def answers_of(run):
    return verdicts.expert_classes(label_table.read(run.folder), FINDINGS)


def test_a_run_freezes_checks_and_certifies(run):
    release = frozen_release.load(run.folder)
    assert release.card["round"] == 3
    assert release.card["hash"] == frozen_content.release_hash(release.table)
    before = set()
    for round_index in (1, 2, 3):
        assert "release-check" not in kinds(run, round_index)
        before |= set(QUEUE.read(run.ctx.round_folder(round_index))["image_id"].to_pylist())
    assert not before & set(release.ids_of[WHOLE])  # what was answered before is no part of it
    assert kinds(run, 4).count("release-check") == 19
    assert kinds(run, 4).count("uniform") == 1  # what the checks leave
    row = run_files.finished_rows(run.folder, 5)[-1]
    assert row["release"]["certified_tier"] is not None
    assert row["pseudo_precision_certified"] == row["release"]["bound"] >= 0.9
    assert run_files.finished_rows(run.folder, 5)[0]["release"] is None


def test_the_surest_tier_is_the_surest_quarter_but_holds_its_checks_twice(run):
    table = frozen_release.load(run.folder).table
    sure, rest = (table.filter(pc.equal(table["tier"], tier))["probability"].to_pylist() for tier in (SUREST, "rest"))
    assert min(sure) >= max(rest) and max(sure) > min(rest)
    assert len(sure) == max(-(-len(table) // 4), 72) < len(table)


def with_release(ctx, **release):
    """The context of a run whose options of the release differ."""
    options = ctx.config.release.model_copy(update=release)
    return replace(ctx, config=ctx.config.model_copy(update={"release": options}))


def frozen_again(run, tmp_path, decisions=None, probability=None, **release):
    """The release that a copy of the run freezes after round 3; its proposals may be others."""
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    shutil.rmtree(run_files.release_folder(folder, 1).parent)
    for later in (4, 5):
        shutil.rmtree(folder / "rounds" / f"{later:02d}", ignore_errors=True)
    ctx = with_release(replace(run.ctx, folder=folder), **release)
    pseudo = PSEUDO.read(ctx.round_folder(3))
    for name, values in (("decision", decisions), ("probability", probability)):
        if values is not None:
            at, field = pseudo.schema.get_field_index(name), pseudo.schema.field(name)
            pseudo = pseudo.set_column(at, field, pa.array(values(len(pseudo)), field.type))
    PSEUDO.write(ctx.round_folder(3), pseudo)
    freezing.freeze_if_due(ctx, 3, {})
    return frozen_release.load(folder)


def test_where_training_admits_little_the_surest_open_scans_join(run, tmp_path):
    release = frozen_again(run, tmp_path, decisions=lambda num: ["leave"] * num)
    assert len(release.table) == 4 * 36
    assert release.card["num_not_admitted"] == 4 * 36
    assert release.card["num_surest"] == 72
    assert frozen_release.load(run.folder).card["num_not_admitted"] == 0


def test_the_surest_tier_is_of_the_share_that_is_asked_for(run, tmp_path):
    release = frozen_again(run, tmp_path, surest_share=0.5)
    assert release.card["num_surest"] == -(-release.card["num_scans"] // 2)


@pytest.mark.parametrize(
    ("wanted", "probability", "begins_with"),
    [("auto", 0.98, WHOLE), ("auto", 0.95, SUREST), ("surest", 0.98, SUREST), ("whole", 0.95, WHOLE)],
)
def test_begins_with_the_whole_where_hardly_an_error_is_expected(run, tmp_path, wanted, probability, begins_with):
    release = frozen_again(run, tmp_path, probability=lambda num: [probability] * num, begin_with=wanted)
    assert release.card["begin_with"] == begins_with
    assert release.card["expected"] == pytest.approx({SUREST: probability, WHOLE: probability})


def test_checks_are_in_the_order_of_the_release_and_told_by_nothing(run):
    queue = QUEUE.read(run.ctx.round_folder(4))
    checks = queue.filter(pc.equal(queue["kind"], "release-check"))
    release = frozen_release.load(run.folder)
    uniform = set(queue.filter(pc.equal(queue["kind"], "uniform"))["image_id"].to_pylist())
    expected = [i for i in release.ids_of[SUREST] if i not in uniform][:19]
    assert set(checks["image_id"].to_pylist()) == set(expected)
    assert checks.sort_by("rank")["rank"].to_pylist() != list(range(1, 20))  # mixed with the rest of the queue


def test_patients_come_as_often_as_chance_has_it(run):
    release = frozen_release.load(run.folder)
    patients = [run.patient[i] for i in release.ids_of[WHOLE][:60]]
    assert len(set(patients)) < len(patients)


def test_what_is_frozen_stays_whatever_is_learned_later(run):
    card = (run_files.release_folder(run.folder, 1) / run_files.RELEASE_CARD).read_bytes()
    freezing.freeze_if_due(run.ctx, 5, answers_of(run))
    assert run_files.releases(run.folder) == [1]
    assert (run_files.release_folder(run.folder, 1) / run_files.RELEASE_CARD).read_bytes() == card


def test_a_second_release_only_when_the_first_is_used_up(run, tmp_path):
    again = synthetic_run(tmp_path / "run", num_scans=300, distance=4.0, rounds__num=5)
    ctx = options(again, rounds__num=2, release__freeze_round=0)
    loop.run(ctx)
    ctx = options(again, release__freeze_round=2)
    answers = answers_of(replace(again, ctx=ctx))
    freezing.freeze_if_due(ctx, 2, answers)
    assert run_files.releases(ctx.folder) == [1]
    freezing.freeze_if_due(ctx, 2, answers)
    assert run_files.releases(ctx.folder) == [1]  # under check
    ids = frozen_release.load(ctx.folder).ids_of[WHOLE]
    unsure = [Answer(i, CANNOT_TELL, "oracle", 2) for i in ids[: len(ids) // 2 + 40]]
    add_answers(ctx.folder, unsure, FINDINGS)
    spent = answers_of(replace(again, ctx=ctx))
    assert frozen_release.state_of(ctx.folder, spent)["state"] == "used-up"
    freezing.freeze_if_due(ctx, 2, spent)
    assert run_files.releases(ctx.folder) == [1, 2]
    assert frozen_release.state_of(ctx.folder, spent)["num_releases"] == 2


def test_scans_that_changed_are_named(run):
    release = frozen_release.load(run.folder)
    manifest = MANIFEST.read(run.folder)
    plain = manifest.set_column(1, "uri", pa.array(["phantom://x"] * len(manifest)))
    try:
        write_parquet(run.folder / MANIFEST.file, plain)
        assert frozen_content.scans_changed(run.folder, release) == []
        gone = release.ids_of[WHOLE][0]
        write_parquet(run.folder / MANIFEST.file, plain.filter(pc.not_equal(plain["image_id"], gone)))
        assert frozen_content.scans_changed(run.folder, release) == [gone]
    finally:
        write_parquet(run.folder / MANIFEST.file, manifest)
    # Every scan's address holds a picture that is not the one the manifest knows.
    assert set(frozen_content.scans_changed(run.folder, release)) == set(release.ids_of[WHOLE])


def test_the_next_checks_begin_with_the_round_after(run):
    assert frozen_release.next_checks(run.folder, {}, 3) == ()
    assert frozen_release.next_checks(run.folder, {}, 4)[0] == frozen_release.load(run.folder).ids_of[SUREST][0]
    assert Proposals({}).checks == ()
