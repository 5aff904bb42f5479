"""One network for all findings: what each gets of it, resumed half-way, with findings that join or say nothing."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime as ort
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from embeddings import decode
from pipeline import stages
from pipeline.contracts import config_file
from pipeline.contracts.errors import AuditBlocked
from pipeline.contracts.tables import MANIFEST, PREDICTIONS, write_text
from pipeline.learn.network import adapter, predict_scans
from pipeline.learn.network import exported as networks
from pipeline.per_finding import one_network, random_reference, rounds
from pipeline.predict import predict_pool
from pipeline.rounds import grown_pool, question
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.growth import record
from tests.support.picture_run import BEFORE_ROUNDS, SIZE_PX, picture_run
from tests.support.several_findings import FINDINGS, NUM, scan, shows
from tests.support.synthetic_run import options as changed_options

FOLDS_AND_ALL = ["fold-0", "fold-1", "all"]


def make_pool(folder, columns=FINDINGS):
    """Two scans a patient; a column that is no finding of ours is left blank."""
    folder.mkdir(parents=True)
    lines = [",".join(["image_path", "patient_id", *columns])]
    for i in range(NUM):
        scan(i).resize((SIZE_PX, SIZE_PX)).save(folder / f"s{i:03d}.png")
        values = [str(shows(i)[name]) if name in shows(i) else "" for name in columns]
        lines.append(",".join([f"s{i:03d}.png", f"p{i // 2}", *values]))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "manifest.csv"


def independent(folder, columns, findings):
    given = {"pool__findings_are": "independent", "pool__findings": list(findings), "queue__budget": 30}
    return picture_run(folder, pool=make_pool(folder / "pool", columns), **given)


def stages_before(ctx):
    """Bring what the rounds need up to date with changed options."""
    with mock.patch.dict(os.environ, {"CXR_SSL_CACHE": ctx.config.embed.store}):
        stages.run_stages(ctx, BEFORE_ROUNDS)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run of two findings that is ready for its rounds; copied for each test. Of a third the pool says nothing."""
    return independent(tmp_path_factory.mktemp("prepared"), (*FINDINGS, "nodule"), FINDINGS)


@pytest.fixture
def copy_of(prepared, tmp_path):
    def make(name="run", of=prepared, **changed):
        shutil.copytree(of.folder, tmp_path / name)
        return with_options(replace(of, folder=tmp_path / name), **changed)

    return make


def with_options(ctx, **changed):
    class Here:
        pass

    here = Here()
    here.ctx, here.folder = ctx, ctx.folder
    return changed_options(here, **changed)


@pytest.fixture(scope="module")
def learned(prepared, tmp_path_factory):
    """The finished rounds of two findings, and the names of the networks that were trained."""
    folder, trained = tmp_path_factory.mktemp("rounds") / "run", []
    shutil.copytree(prepared.folder, folder)
    ctx = replace(prepared, folder=folder)
    with pytest.MonkeyPatch.context() as patch:
        count_fits(patch, trained)
        rounds.run(ctx)
    return ctx, trained


@pytest.fixture(scope="module")
def effusion_alone(prepared, tmp_path_factory):
    """The finished rounds of one finding of the two."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    shutil.copytree(prepared.folder, folder)
    ctx = with_options(replace(prepared, folder=folder), pool__findings=["effusion"])
    stages_before(ctx)
    rounds.run(ctx)
    return ctx


def count_fits(monkeypatch, trained):
    fit = adapter.fit
    monkeypatch.setattr(adapter, "fit", lambda job: (trained.append(job.name), fit(job))[1])


def no_fits(monkeypatch):
    monkeypatch.setattr(adapter, "fit", lambda job: pytest.fail(f"{job.name} was trained again"))


def part_of(ctx, finding, *names):
    return ctx.folder.joinpath("findings", finding, "rounds", "01", *names)


def row_of(ctx, finding):
    row = json.loads(part_of(ctx, finding, "metrics.json").read_text())
    return {key: value for key, value in row.items() if key not in ("seconds", "fingerprint")}


def weights_of(ctx, finding):
    return part_of(ctx, finding, "model", "model.safetensors").read_bytes()


def same_end(one, other, findings=FINDINGS):
    for finding in findings:
        assert row_of(one, finding) == row_of(other, finding)
        assert weights_of(one, finding) == weights_of(other, finding)
        names = [part_of(ctx, finding, PREDICTIONS.file) for ctx in (one, other)]
        assert names[0].read_bytes() == names[1].read_bytes()


# --- what each finding gets -------------------------------------------------------------------------------------------


def test_one_network_is_trained_for_all_findings(learned):
    ctx, trained = learned
    assert trained == FOLDS_AND_ALL
    for finding in FINDINGS:
        row = row_of(ctx, finding)
        assert row["learner"].endswith("+network") and row["network_findings"] == list(FINDINGS)
        assert row["holdout"]["auroc"] > 0.8 and row["network_gain"] is not None
        assert json.loads(part_of(ctx, finding, "model", "training.json").read_text())["network"]["loss"]
    assert row_of(ctx, "effusion")["temperature"] != row_of(ctx, "mass")["temperature"]
    assert not (ctx.folder / "rounds" / "01" / "network").exists()  # each finding has its model
    assert json.loads((ctx.folder / "rounds" / "01" / "metrics.json").read_text())["seconds"]["network"] > 0.0


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_model_of_a_finding_gives_its_predictions_from_scans(finding, learned):
    ctx, _ = learned
    table, manifest = PREDICTIONS.read(part_of(ctx, finding)), MANIFEST.read(ctx.folder)
    uris = manifest["uri"].take(pc.index_in(table["image_id"], value_set=manifest["image_id"].combine_chunks()))
    scans = [decode.load_square(Path(uri).read_bytes(), SIZE_PX, max_pixels=10**6) for uri in uris.to_pylist()]
    session = ort.InferenceSession(
        str(part_of(ctx, finding, "model", "model.onnx")), providers=["CPUExecutionProvider"]
    )
    [prob_NC] = session.run(["probability"], {"scan": np.stack(scans)})
    np.testing.assert_allclose(prob_NC[:, 1], table[f"prob_{finding}"].to_numpy(), atol=1e-4)
    card = json.loads(part_of(ctx, finding, "model", "card.json").read_text())
    assert card["input"] == "scan" and card["findings"] == [f"no {finding}", finding]
    assert {name: shape[0] for name, shape in card["network"]["head"].items()} == {"weight0": 2, "bias0": 2}


def test_apart_each_finding_has_networks_of_its_own(learned, copy_of, monkeypatch):
    ctx, trained = copy_of(train__findings="apart"), []
    count_fits(monkeypatch, trained)
    rounds.run(ctx)
    assert trained == 2 * FOLDS_AND_ALL
    for finding in FINDINGS:
        assert row_of(ctx, finding)["learner"].endswith("+network")
        assert row_of(ctx, finding)["network_findings"] is None
        assert weights_of(ctx, finding) != weights_of(learned[0], finding)


def test_one_finding_alone_learns_the_same_together_and_apart(effusion_alone, copy_of):
    apart = copy_of(pool__findings=["effusion"], train__findings="apart")
    stages_before(apart)
    rounds.run(apart)
    rows = [row_of(ctx, "effusion") for ctx in (effusion_alone, apart)]
    assert [row.pop("network_findings") for row in rows] == [["effusion"], None]
    assert rows[0]["learner"] == rows[1]["learner"] and rows[0]["learner"].endswith("+network")
    assert rows[0]["temperature"] == pytest.approx(rows[1]["temperature"], rel=1e-3)
    tables = [PREDICTIONS.read(part_of(ctx, "effusion")) for ctx in (effusion_alone, apart)]
    assert len(tables[0]) == NUM and tables[0]["image_id"].equals(tables[1]["image_id"])
    probs = [table["prob_effusion"].to_numpy() for table in tables]
    np.testing.assert_allclose(*probs, rtol=0, atol=1e-3)


def test_rounds_without_a_network_are_as_they_were(learned, copy_of):
    heads = []
    for way in ("together", "apart"):
        ctx = copy_of(way, train__adapt="head", train__findings=way)
        rounds.run(ctx)
        assert row_of(ctx, "mass")["network_findings"] is None
        heads.append(ctx)
    same_end(*heads)


def test_an_audit_that_blocks_does_so_before_the_network_is_trained(copy_of, monkeypatch):
    no_fits(monkeypatch)

    def blocks(part):
        if part.config.pool.finding == "mass":
            raise AuditBlocked("something is wrong")

    monkeypatch.setattr(one_network.stage, "recheck", blocks)
    with pytest.raises(AuditBlocked, match="mass: something is wrong"):
        rounds.run(copy_of())


# --- resumed ----------------------------------------------------------------------------------------------------------


def test_a_run_killed_while_the_network_learns_goes_on_with_the_fits_it_has(learned, copy_of, monkeypatch):
    killed, done, fit = copy_of(), [], adapter.fit

    def dies_at_the_second(job):
        if len(done) == 1 and "dead" not in done:
            done.append("dead")
            raise KeyboardInterrupt
        fit(job)
        done.append(job.name)

    monkeypatch.setattr(adapter, "fit", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        rounds.run(killed)
    assert sorted(path.name for path in (killed.folder / "rounds" / "01" / "network").glob("*.json")) == ["fold-0.json"]
    rounds.run(killed)
    assert done == ["fold-0", "dead", "fold-1", "all"]
    same_end(killed, learned[0])


def test_a_run_killed_between_two_findings_uses_the_network_it_has_trained(learned, copy_of, monkeypatch):
    killed, learn = copy_of(), question.learn_round

    def dies(ctx, *rest):
        if ctx.config.pool.finding == "mass":
            raise KeyboardInterrupt
        return learn(ctx, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(question, "learn_round", dies)
        with pytest.raises(KeyboardInterrupt):
            rounds.run(killed)
    assert part_of(killed, "effusion", "metrics.json").exists() and not part_of(killed, "mass", "metrics.json").exists()
    no_fits(monkeypatch)
    before = part_of(killed, "effusion", "metrics.json").read_bytes()
    rounds.run(killed)
    assert part_of(killed, "effusion", "metrics.json").read_bytes() == before
    assert not (killed.folder / "rounds" / "01" / "network").exists()
    same_end(killed, learned[0])


def test_a_finished_round_is_kept(learned, monkeypatch):
    ctx, _ = learned
    monkeypatch.setattr(one_network, "learn_all", lambda *_: pytest.fail("learned again"))
    before = (ctx.folder / "metrics.jsonl").read_bytes()
    rounds.run(ctx)
    assert (ctx.folder / "metrics.jsonl").read_bytes() == before


# --- findings that come and go ----------------------------------------------------------------------------------------


def test_a_finding_nobody_has_said_anything_of_does_no_harm(learned, copy_of, caplog):
    """Neither a crash, nor another network for the others."""
    without, _ = learned
    with_it = copy_of(pool__findings=[*FINDINGS, "nodule"])
    stages_before(with_it)
    rounds.run(with_it)
    assert "nodule has no part in the network, the 0 expert labels name fewer than two classes" in caplog.text
    row = row_of(with_it, "nodule")
    assert row["num_expert"] == 0 and row["temperature"] is None and row["network_findings"] is None
    assert row_of(with_it, "mass")["network_findings"] == list(FINDINGS)
    same_end(with_it, without)
    table = PREDICTIONS.read(with_it.folder)
    assert np.isnan(table["prob_nodule"].to_numpy()).all() and not np.isnan(table["prob_mass"].to_numpy()).any()


def test_of_findings_without_labels_alone_no_network_is_trained(tmp_path, monkeypatch):
    no_fits(monkeypatch)
    names = ("nodule", "hernia")
    ctx = independent(tmp_path, names, names)
    rounds.run(ctx)
    assert [row_of(ctx, finding)["network_findings"] for finding in names] == [None, None]


def test_a_finding_that_is_added_later_joins_the_network(effusion_alone, copy_of, monkeypatch):
    assert row_of(effusion_alone, "effusion")["network_findings"] == ["effusion"]
    trained = []
    count_fits(monkeypatch, trained)
    more = copy_of(of=effusion_alone, pool__findings=list(FINDINGS))
    stages_before(more)
    rounds.run(more)
    assert trained == FOLDS_AND_ALL
    for finding in FINDINGS:
        assert row_of(more, finding)["network_findings"] == list(FINDINGS)
        assert row_of(more, finding)["num_expert"] > 20 and row_of(more, finding)["network_gain"] is not None


def test_a_finding_without_labels_that_is_added_later_leaves_the_network_as_it_was(learned, copy_of):
    first, _ = learned
    before = [weights_of(first, finding) for finding in FINDINGS]
    more = copy_of(of=first, pool__findings=[*FINDINGS, "nodule"])
    stages_before(more)
    rounds.run(more)
    assert [weights_of(more, finding) for finding in FINDINGS] == before
    assert row_of(more, "nodule")["num_expert"] == 0


# --- the reference ----------------------------------------------------------------------------------------------------


def test_the_random_reference_shares_a_network_like_the_run(learned, monkeypatch, tmp_path):
    folder, trained = tmp_path / "run", []
    shutil.copytree(learned[0].folder, folder)
    ctx = replace(learned[0], folder=folder)
    count_fits(monkeypatch, trained)
    assert random_reference.run(ctx) == {"num_rounds": 1}
    assert trained == FOLDS_AND_ALL
    for finding in FINDINGS:
        [row] = [
            json.loads(line) for line in (folder / "findings" / finding / "reference.jsonl").read_text().splitlines()
        ]
        assert row["learner"].endswith("+network") and row["holdout"]["auroc"] > 0.5
    assert not (folder / "reference").exists()


def test_predict_runs_the_network_once_for_all_findings(learned, tmp_path, monkeypatch):
    ctx, _ = learned
    folder = shutil.copytree(ctx.folder, tmp_path / "run")
    write_text(folder / run_files.RESOLVED, config_file.dump(ctx.config))
    monkeypatch.setenv("CXR_SSL_CACHE", ctx.config.embed.store)
    ran = []
    session_of = networks.onnx_file.session
    monkeypatch.setattr(networks.onnx_file, "session", lambda *given: (ran.append(given), session_of(*given))[1])
    out = tmp_path / "rows.parquet"
    predict_pool.predict(folder, ctx.config.pool.uri, str(out), {}, lambda *_: None)
    assert sum(isinstance(model, bytes) for model, _ in ran) == 1
    assert not any(str(model).endswith("model.onnx") for model, _ in ran)
    rows, table = pq.read_table(out), PREDICTIONS.read(folder)
    place = pc.index_in(rows["image_id"], value_set=table["image_id"].combine_chunks())
    for finding in FINDINGS:
        expected = table[f"prob_{finding}"].take(place).to_numpy()
        np.testing.assert_allclose(rows[f"prob_{finding}"].to_numpy(), expected, rtol=0, atol=1e-6)


def test_growing_runs_the_network_once_for_all_findings(learned, tmp_path, monkeypatch):
    ctx, _ = learned
    folder = shutil.copytree(ctx.folder, tmp_path / "run")
    opened = []
    load = predict_scans.activations.load
    monkeypatch.setattr(
        predict_scans.activations, "load", lambda uri, *given: (opened.append(uri), load(uri, *given))[1]
    )
    parts = [replace(ctx, folder=folder / "findings" / finding) for finding in FINDINGS]
    record.join(folder, record.begin(folder, "other"))
    runs = [(part, Dataset.open(part)) for part in parts]
    grown_pool.predict(runs)
    assert len(opened) == len(set(opened)) == NUM
    for part, finding in zip(parts, FINDINGS, strict=True):
        again = PREDICTIONS.read(record.before_folder(part.folder, 1))
        table = PREDICTIONS.read(part.round_folder(run_files.last_round(part.folder)))
        np.testing.assert_allclose(again[f"prob_{finding}"], table[f"prob_{finding}"], rtol=0, atol=1e-6)
