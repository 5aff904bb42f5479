"""Flips and the second opinion of a round, counted again from its files; and the options that act on them."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.tables import CLUSTERS, PSEUDO
from pipeline.labels import label_table
from pipeline.rounds import loop, pseudo_checks
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors, unit_rows
from tests.support.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia")
ROUNDS = 3


def run_of(folder, **options):
    """Two clouds that overlap, two scans a patient; a wide acceptance, so that some pseudo-labels are wrong."""
    given = {"queue__budget": 24, "rounds__num": ROUNDS, "pseudo__precision": 0.75, "release__freeze_round": 0}
    run = synthetic_run(
        folder,
        num_scans=400,
        num_holdout=60,
        scans_per_patient=2,
        distance=1.2,
        rounds__reference=False,
        **given | options,
    )
    loop.run(run.ctx)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("checks") / "run")


def rows_of(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def proposals(run, round_index):
    """Class and decision of every open scan."""
    rows = PSEUDO.read(run.ctx.round_folder(round_index)).to_pylist()
    return {row["image_id"]: (row["finding"], row["decision"]) for row in rows}


def accepted(run, round_index):
    return {i: finding for i, (finding, decision) in proposals(run, round_index).items() if decision == "accept"}


def test_the_first_round_has_flipped_nothing(finished):
    first = rows_of(finished)[0]
    assert first["pseudo_flips"] is None and first["flip_rate_by_class"] is None


@pytest.mark.parametrize("round_index", [2, 3])
def test_flips_are_those_of_the_files(finished, round_index):
    before, now = proposals(finished, round_index - 1), accepted(finished, round_index)
    flips = rows_of(finished)[round_index - 1]["pseudo_flips"]
    both = [i for i in now if i in before]
    assert flips["num_compared"] == len(both) > 0
    assert flips["num_flipped"] == sum(before[i][0] != now[i] for i in both)
    assert flips["share"] == pytest.approx(flips["num_flipped"] / len(both))
    still_open = proposals(finished, round_index)
    withdrawn = [i for i in accepted(finished, round_index - 1) if i in still_open and i not in now]
    assert flips["num_withdrawn"] == len(withdrawn)
    for finding in FINDINGS:
        of_class = [i for i in both if now[i] == finding]
        counted = flips["by_class"][finding]
        assert counted["num_compared"] == len(of_class)
        assert counted["num_flipped"] == sum(before[i][0] != finding for i in of_class)


def test_a_flipped_and_a_withdrawn_pseudo_label_are_told_apart(tmp_path):
    def write(name, rows):
        columns = {"image_id": list(rows), "finding": [f for f, _ in rows.values()]}
        columns |= {"decision": [d for _, d in rows.values()], "admitted": [d == "accept" for _, d in rows.values()]}
        columns |= dict.fromkeys(("probability", "threshold_prob"), np.full(len(rows), 0.9, np.float32))
        ordered = {name: columns[name] for name in PSEUDO.schema.names}
        PSEUDO.write(tmp_path / name, pa.table(ordered, schema=PSEUDO.schema))

    was = {"kept": ("normal", "accept"), "turned": ("normal", "accept"), "gone": ("normal", "accept")}
    write("before", was | {"unsure": ("pneumonia", "leave"), "answered": ("normal", "accept")})
    now = {"kept": ("normal", "accept"), "turned": ("pneumonia", "accept"), "gone": ("normal", "leave")}
    write("now", now | {"unsure": ("normal", "accept")})
    flips = pseudo_checks.flips(tmp_path / "before", tmp_path / "now", FINDINGS)
    assert (flips["num_compared"], flips["num_flipped"], flips["num_withdrawn"]) == (3, 2, 1)
    assert flips["by_class"]["pneumonia"] == {"num_compared": 1, "num_flipped": 1, "share": 1.0}
    assert flips["by_class"]["normal"] == {"num_compared": 2, "num_flipped": 1, "share": 0.5}


def test_the_share_that_flipped_is_of_the_class_before():
    shares = pseudo_checks.flip_shares(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]), ("a", "b", "c"))
    assert shares == {"a": pytest.approx(2 / 3), "b": 0.0, "c": None}


def nearest_say(run, image_id, k):
    """By hand: most of the k nearest expert-labelled scans of other patients."""
    table = label_table.read(run.folder).to_pylist()
    expert = {r["image_id"]: r["finding"] for r in table if r["origin"] == "expert" and r["value"] == 1.0}
    vectors = Vectors.open(run.folder)
    unit_NP = unit_rows(principal_components.load(run.folder))
    own = unit_NP[vectors.positions([image_id])[0]]
    others = [i for i in expert if run.patient[i] != run.patient[image_id]]
    cosine = unit_NP[vectors.positions(others)] @ own
    near = [expert[others[j]] for j in np.argsort(-cosine)[:k]]
    return Counter(near).most_common(1)[0][0]


def test_the_second_opinion_agrees_as_often_as_counted_by_hand(finished):
    opinion, now = rows_of(finished)[-1]["second_opinion"], accepted(finished, ROUNDS)
    said = {i: nearest_say(finished, i, 5) for i in now}
    agreeing = [i for i in now if said[i] == now[i]]
    assert (opinion["num_neighbors"], opinion["num_compared"], opinion["num_agreeing"]) == (5, len(now), len(agreeing))
    assert 0 < len(agreeing) < len(now)
    right = {i: finished.truth[i] == now[i] for i in now}
    assert opinion["precision_agreeing"] == pytest.approx(np.mean([right[i] for i in agreeing]))
    assert opinion["precision_disagreeing"] == pytest.approx(np.mean([right[i] for i in now if i not in set(agreeing)]))
    for finding in FINDINGS:
        counted = opinion["by_class"][finding]
        assert counted["num_compared"] == sum(f == finding for f in now.values())
        assert counted["num_agreeing"] == sum(now[i] == finding for i in agreeing)


def test_labels_are_counted_by_class_in_every_row(finished):
    for row in rows_of(finished):
        assert sum(row["expert_by_class"].values()) == row["num_expert"] == 24 * row["round"]
        assert list(row["expert_by_class"]) == list(FINDINGS)


def test_what_the_second_opinion_must_confirm(tmp_path):
    run = run_of(tmp_path / "run", pseudo__second_opinion="require", pseudo__second_opinion_neighbors=3)
    last = rows_of(run)[-1]
    assert last["second_opinion"]["share"] == 1.0 and last["second_opinion"]["num_neighbors"] == 3
    assert last["pseudo_left_out"]["second_opinion"] > 0
    assert all(nearest_say(run, i, 3) == finding for i, finding in accepted(run, ROUNDS).items())


def test_caps_bind_and_say_how_many_they_left_out(tmp_path):
    run = run_of(tmp_path / "run", pseudo__cap_per_class=0.5, pseudo__cap_per_cluster=0.05)
    last, now = rows_of(run)[-1], accepted(run, ROUNDS)
    num_open = len(proposals(run, ROUNDS))
    of_class = Counter(now.values())
    assert all(num <= 0.5 * last["prevalence"][finding] * num_open for finding, num in of_class.items())
    clusters = CLUSTERS.read(run.folder)
    cluster_of = dict(zip(clusters["image_id"].to_pylist(), clusters["cluster"].to_pylist(), strict=True))
    left_out = last["pseudo_left_out"]
    before_the_cap = len(now) + left_out["cap_per_cluster"]
    assert max(Counter(cluster_of[i] for i in now).values()) <= 0.05 * before_the_cap
    assert left_out["cap_per_class"] > 0 and left_out["cap_per_cluster"] > 0
