"""Networks that learn in a round: what they may see, what a stopped fit leaves, what a round does with them."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from embeddings import activations, decode
from embeddings.activations import Early
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.contracts.options.vectors import AugmentConfig
from pipeline.contracts.tables import MANIFEST, PREDICTIONS, SPLIT_TABLE
from pipeline.learn import rollback
from pipeline.learn.classifier import Classifier
from pipeline.learn.heads.head import Head, Worker
from pipeline.learn.lesson import Lesson, StoppingSet, pool_lesson
from pipeline.learn.material import FeaturesOfRun, Material
from pipeline.learn.network import adapter, fits, student
from pipeline.learn.network import design as network_design
from pipeline.learn.network.design import Design
from pipeline.learn.network.fits import Contents, Job
from pipeline.learn.scan_rows import ScanRows
from pipeline.rounds import learn_round, loop
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.support import tiny_backbone
from tests.support.picture_run import CLASSES, QUICK, SIZE_PX, make_pool, picture_run
from tests.support.synthetic_run import options as synthetic_options
from tests.support.tiny import call, picture

# --- what a fold may see ----------------------------------------------------------------------------------------------


def ids_of(scans):
    return scans.image_id.to_pylist()


@st.composite
def situations(draw):
    """Material, a fold, gates and pseudo-labels in any combination."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num, num_classes = draw(st.integers(12, 260)), draw(st.integers(2, 4))
    scans_N = ScanRows.of(f"scan-{row}" for row in range(num))
    pool = np.sort(rng.choice(num, rng.integers(10, num + 1), replace=False))
    num_expert = int(rng.integers(4, len(pool) // 2 + 3))
    expert, rejected, _ = np.split(rng.permutation(pool), [num_expert, num_expert + rng.integers(0, 4)])
    pool_T, expert_E, rejected_R = (ScanRows.of(f"scan-{row}" for row in rows) for rows in (pool, expert, rejected))
    class_E = rng.integers(num_classes, size=num_expert)
    groups = [f"p{i}" for i in range(num_expert)]
    uniform_E = np.zeros(num_expert, bool)
    features = FeaturesOfRun(Path("nowhere"))
    orders = (scans_N, pool_T, expert_E)
    along = (class_E, groups, uniform_E, np.ones(num_expert, bool), None, rejected_R, np.arange(len(pool)))
    material = Material(Path("nowhere"), features, *orders, *along)
    learn_E = rng.random(num_expert) < draw(st.sampled_from([0.5, 0.8, 1.0]))
    learn_E[:3] = True
    stop_E = learn_E & (np.arange(num_expert) % 3 == 1) if draw(st.booleans()) else None
    options = config_file.load(
        None,
        {
            "pseudo.gate": draw(st.sampled_from(["estimated", "certified", "off"])),
            "network.open_scans": draw(st.sampled_from([0.0, 0.5, 1.0])),
            "train.max_rows": 100,
        },
    )
    prob_TC = rng.dirichlet(np.ones(num_classes), len(pool_T))
    admitted_T = rng.random(len(pool_T)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return material, learn_E, stop_E, prob_TC, admitted_T, options


@settings(max_examples=200, deadline=None)
@given(situations())
def test_a_fold_never_sees_what_it_is_judged_on_nor_what_the_gate_keeps_out(situation):
    material, learn_E, stop_E, prob_TC, admitted_T, options = situation
    num_classes = prob_TC.shape[1]
    lesson = student.network_lesson(material, options, learn_E, stop_E, prob_TC, admitted_T, 0)
    stops_E = np.zeros_like(learn_E) if stop_E is None else stop_E
    learned, pool = ids_of(lesson.scans), ids_of(material.pool_T)
    held_out, stopping = (set(ids_of(material.expert_E.keep(mask_E))) for mask_E in (~learn_E, stops_E))
    taught, rejected = set(ids_of(material.expert_E.keep(learn_E & ~stops_E))), set(ids_of(material.rejected_R))
    assert len(set(learned)) == len(learned) and learned == [i for i in pool if i in set(learned)]
    assert not set(learned) & (held_out | rejected | stopping)
    open_weight = options.network.open_scans
    assert taught <= set(learned) and (lesson.weight_L == np.where(lesson.open_L, open_weight, 1.0)).all()
    of_scan = {
        image_id: (prob_C, admitted) for image_id, prob_C, admitted in zip(pool, prob_TC, admitted_T, strict=True)
    }
    class_of = dict(zip(ids_of(material.expert_E), material.class_E.tolist(), strict=True))
    for image_id, target_C, is_open in zip(learned, lesson.target_LC, lesson.open_L, strict=True):
        prob_C, admitted = of_scan[image_id]
        if image_id in taught:
            np.testing.assert_array_equal(target_C, np.eye(num_classes)[class_of[image_id]])
            assert not is_open
        else:
            np.testing.assert_array_equal(target_C, prob_C)
            assert is_open == (not admitted)
    everything = options.pseudo.gate == "estimated" and options.network.open_scans > 0
    let_in = set(ids_of(material.pool_T.keep(admitted_T | everything)))
    allowed = let_in - held_out - rejected - stopping | taught
    assert set(learned) <= allowed
    if len(allowed) <= 100:
        assert set(learned) == allowed
    else:
        assert 100 <= len(learned) <= 100 + len(taught)
    if stop_E is not None:
        assert set(ids_of(lesson.stop.scans)) == stopping
        np.testing.assert_array_equal(lesson.stop.target_VC.argmax(1), material.class_E[stop_E])
        assert (lesson.stop.weight_V > 0).all()


@settings(max_examples=100, deadline=None)
@given(situations())
def test_student_and_network_learn_from_the_same_scans(situation):
    """Where both take the open scans in, or both leave them out: whatever one of them may not see, neither sees."""
    material, learn_E, stop_E, prob_TC, admitted_T, options = situation
    whole_pool = options.pseudo.gate == "estimated" and options.network.open_scans > 0
    of_network = student.network_lesson(material, options, learn_E, stop_E, prob_TC, admitted_T, 0)
    of_student = pool_lesson(
        material,
        learn_E,
        stop_E,
        prob_TC[:, ::-1],
        admitted_T,
        open_weight=0.3 * whole_pool,
        max_scans=options.train.max_rows,
        seed=0,
    )
    assert ids_of(of_student.scans) == ids_of(of_network.scans)
    np.testing.assert_array_equal(of_student.open_L, of_network.open_L)
    np.testing.assert_array_equal(of_student.weight_L, np.where(of_student.open_L, 0.3, 1.0))


@pytest.mark.parametrize(("num_scans", "epochs", "expected"), [(320, 1, 4), (5120, 1, 1), (5120, 3, 3), (10, 1, 40)])
def test_a_small_pool_is_passed_over_more_often(num_scans, epochs, expected):
    options = NetworkConfig(batch_size=32, min_steps=40, epochs=epochs)
    assert adapter.long_enough(options, num_scans) == options.model_copy(update={"epochs": expected})


# --- one fit ----------------------------------------------------------------------------------------------------------


def job_in(folder: Path, num_early=4, **changed) -> Job:
    """Twelve scans, four of them held out, two to stop by; the cache is filled."""
    backbone = tiny_backbone.backbone(folder / "weights")
    early = Early(backbone, num_early, SIZE_PX, 2 if num_early else 1, AugmentConfig())
    (folder / "scans").mkdir(exist_ok=True)
    pool = []
    for i in range(12):
        path = folder / "scans" / f"{i}.png"
        picture(i, bright=60 * (i % 2)).save(path)
        pool.append((hashlib.sha256(path.read_bytes()).hexdigest(), str(path)))
    options = config_file.load(None, {"preprocess.size_px": SIZE_PX})
    for shard in activations.plan(options, early, None, folder / "cache", pool):
        activations.fill_shard(shard)
    rng = np.random.default_rng(0)
    head = Head({"weight0": rng.normal(size=(2, 256)).astype(np.float32) / 50, "bias0": np.zeros(2, np.float32)})
    target_NC = np.eye(2)[np.arange(12) % 2]
    contents = [Contents(pa.array([sha for sha, _ in pool[part]])) for part in (slice(6), slice(6, 8), slice(8, 12))]
    stop = StoppingSet(contents[1], target_NC[6:8], np.ones(2))
    config = NetworkConfig(epochs=4, batch_size=3, min_steps=1, num_views=2, ema=0.5, mixup=0.3)
    given = {
        "folder": folder / "fits",
        "name": "fold-0",
        "design": Design(backbone, num_early, SIZE_PX, head),
        "early": early,
        "root": folder / "cache",
        "lesson": Lesson(contents[0], target_NC[:6], np.ones(6), np.zeros(6, bool), stop),
        "sure_C": np.full(2, 0.9),
        "held_out": contents[2],
        "config": config,
        "seed": 3,
        "use_gpu": None,
        "num_threads": 1,
    }
    return Job(**given | changed)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return job_in(tmp_path_factory.mktemp("job"))


def fresh(job, folder):
    return replace(job, folder=folder)


def assert_same(one, other):
    assert one[0].arrays.keys() == other[0].arrays.keys()
    for name, array in one[0].arrays.items():
        np.testing.assert_array_equal(array, other[0].arrays[name], err_msg=name)
    np.testing.assert_array_equal(one[1], other[1])
    assert one[2] == other[2]


@pytest.mark.parametrize("num_early", [0, 4])
def test_a_fit_leaves_the_network_its_held_out_logits_and_its_curves(num_early, tmp_path):
    mine = job_in(tmp_path, num_early)
    assert not fits.finished(mine)
    fits.fit(mine)
    assert fits.finished(mine)
    trained, logit_HC, curves = fits.read(mine)
    assert sorted(path.name for path in mine.folder.iterdir()) == ["fold-0.json", "fold-0.safetensors"]
    assert len(curves.loss) == len(curves.val) == 4 and logit_HC.shape == (4, 2)
    scans = [
        decode.load_square((tmp_path / "scans" / f"{i}.png").read_bytes(), SIZE_PX, max_pixels=10**6)
        for i in range(8, 12)
    ]
    with torch.inference_mode():
        expected_HC = network_design.whole(trained)(torch.from_numpy(np.stack(scans))).numpy()
    np.testing.assert_allclose(logit_HC, expected_HC, atol=0.01)  # the cache holds half precision or 8 bits


def test_nothing_is_held_out_from_the_network_of_everything(job, tmp_path):
    whole = replace(job, folder=tmp_path, name="all", held_out=Contents(pa.array([], pa.string())))
    fits.fit(whole)
    assert fits.read(whole)[1].shape == (0, 2)


def test_a_fit_that_was_killed_goes_on_from_its_last_epoch(job, tmp_path, monkeypatch):
    undisturbed, killed = fresh(job, tmp_path / "one"), fresh(job, tmp_path / "other")
    fits.fit(undisturbed)
    save, saved = fits._save_state, []

    def dies_after_two_epochs(path, state):
        save(path, state)
        saved.append(len(state["loss"]))
        if saved == [1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(fits, "_save_state", dies_after_two_epochs)
    with pytest.raises(KeyboardInterrupt):
        fits.fit(killed)
    assert [path.name for path in killed.folder.iterdir()] == ["fold-0.pt"] and not fits.finished(killed)
    fits.fit(killed)
    assert saved == [1, 2, 3, 4]
    assert_same(fits.read(killed), fits.read(undisturbed))


def test_a_state_of_another_fit_is_not_gone_on_from(job, tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fits.fit(fresh(job, tmp_path))
    states = []
    monkeypatch.setattr(fits, "learn", lambda job, worker: states.append(worker.state) or (None, None))
    for other in (replace(job, folder=tmp_path), replace(job, folder=tmp_path, seed=4)):
        with pytest.raises(KeyboardInterrupt):
            fits.fit(other)
    assert states[0] is not None and states[1] is None


def test_whatever_decides_the_outcome_is_in_the_fingerprint(job, tmp_path):
    lesson, design = job.lesson, job.design
    other_head = Head({name: array + 0.1 for name, array in design.head.arrays.items()})
    other_scans = Contents(lesson.scans.sha256[::-1])
    variants = [
        job,
        replace(job, seed=9),
        replace(job, design=replace(design, backbone=tiny_backbone.backbone(tmp_path, seed=5))),
        replace(job, design=replace(design, num_early=3)),
        replace(job, design=replace(design, size_px=64)),
        replace(job, design=replace(design, head=other_head)),
        replace(job, config=job.config.model_copy(update={"lr": 1e-3})),
        replace(job, config=job.config.model_copy(update={"num_views": 3})),
        replace(job, lesson=replace(lesson, scans=other_scans)),
        replace(job, lesson=replace(lesson, target_LC=1 - lesson.target_LC)),
        replace(job, lesson=replace(lesson, weight_L=lesson.weight_L / 2)),
        replace(job, lesson=replace(lesson, open_L=~lesson.open_L)),
        replace(job, lesson=replace(lesson, stop=None)),
        replace(job, lesson=replace(lesson, stop=replace(lesson.stop, scans=job.held_out))),
        replace(job, sure_C=job.sure_C / 2),
        replace(job, held_out=Contents(job.held_out.sha256[:2])),
    ]
    assert len({fits.fingerprint(variant) for variant in variants}) == len(variants)
    same = replace(job, folder=tmp_path, num_threads=4)
    assert fits.fingerprint(same) == fits.fingerprint(job)


def test_a_loss_that_is_not_finite_says_what_to_do_and_keeps_the_last_good_epoch(job, tmp_path, monkeypatch):
    mine, late = fresh(job, tmp_path), network_design.late

    def breaks(design):
        module, calls = late(design), []
        module.register_forward_hook(lambda *args: calls.append(1) or (args[2] * np.nan if len(calls) > 5 else None))
        return module

    monkeypatch.setattr(network_design, "late", breaks)
    with pytest.raises(
        InputError, match=r"network\.lr: the network cannot be trained: the loss is nan in epoch 3"
    ) as e:
        fits.fit(
            replace(mine, lesson=replace(mine.lesson, stop=None), config=mine.config.model_copy(update={"mixup": 0.0}))
        )
    assert str(tmp_path) in str(e.value) and e.value.exit_code == 2
    state = torch.load(tmp_path / "fold-0.pt", weights_only=True)
    assert len(state["loss"]) == 2 and all(torch.isfinite(tensor).all() for tensor in state["net"].values())


def test_a_cache_that_was_emptied_is_an_error_that_counts(job, tmp_path):
    with pytest.raises(KeyError, match="6 of 6 scans are not in the cache"):
        fits.learn(replace(job, root=tmp_path), Worker())


# --- before hours of work ---------------------------------------------------------------------------------------------


def context(tmp_path, **changed):
    return StageContext(
        config_file.load(None, {key.replace("__", "."): v for key, v in changed.items()}), tmp_path, SerialEngine()
    )


@pytest.mark.parametrize("way", ["partial", "full"])
def test_a_backbone_that_is_no_chain_is_refused_without_its_weights(way, tmp_path):
    with pytest.raises(InputError, match="cannot be cut into stages"):
        adapter.check(context(tmp_path, train__adapt=way, backbone__name="torchvision:shufflenet_v2_x0_5"))
    adapter.check(context(tmp_path, train__adapt="head", backbone__name="torchvision:shufflenet_v2_x0_5"))


def test_more_last_stages_than_the_network_has_are_refused(tmp_path):
    given = {"backbone__name": tiny_backbone.NAME, "network__last_stages": 7}
    with pytest.raises(InputError, match="timm:test_efficientnet has 7 stages, so at most 6") as caught:
        adapter.check(context(tmp_path, train__adapt="partial", **given))
    assert caught.value.where == "network.last_stages"
    adapter.check(context(tmp_path, train__adapt="full", **given))
    adapter.check(context(tmp_path, train__adapt="partial", **given | {"network__last_stages": 6}))


# --- in a round -------------------------------------------------------------------------------------------------------


def metrics(ctx):
    return [json.loads(line) for line in (ctx.folder / "metrics.jsonl").read_text().splitlines()]


def untimed(row):
    return {key: value for key, value in row.items() if key != "seconds"}


def card(ctx, round_index):
    return json.loads((ctx.round_folder(round_index) / "model" / "card.json").read_text())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run that is ready for its rounds; copied for each test."""
    return picture_run(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def copy_of(prepared, tmp_path):
    def make(name="run", **changed):
        shutil.copytree(prepared.folder, tmp_path / name)
        return synthetic_options(replace_folder(prepared, tmp_path / name), **changed)

    return make


def replace_folder(ctx, folder):
    class Here:
        pass

    here = Here()
    here.ctx, here.folder = replace(ctx, folder=folder), folder
    return here


@pytest.fixture(scope="module")
def two_rounds(prepared, tmp_path_factory):
    """A head in the first round, a network in the second."""
    folder = tmp_path_factory.mktemp("rounds") / "run"
    shutil.copytree(prepared.folder, folder)
    ctx = synthetic_options(replace_folder(prepared, folder), rounds__num=2, network__min_steps=20)
    loop.run(ctx)
    return ctx


def test_the_last_round_has_a_network(two_rounds):
    first, second = metrics(two_rounds)
    assert not first["learner"].endswith("+network") and second["learner"].endswith("+network")
    assert second["holdout"]["auroc"] > 0.9 and second["calibration_auroc"] > 0.6
    assert 0.0 <= second["flip_rate"] < 0.5
    assert not (two_rounds.round_folder(2) / "network").exists()  # the fits; the round keeps its own model


def test_the_card_says_what_goes_in(two_rounds):
    assert [card(two_rounds, r)["input"] for r in (1, 2)] == ["embedding", "scan"]
    assert card(two_rounds, 2)["network"]["num_early"] == 4 and card(two_rounds, 2)["findings"] == list(CLASSES)


def test_the_curves_are_those_of_the_network(two_rounds):
    curves = json.loads((two_rounds.round_folder(2) / "model" / "training.json").read_text())
    assert len(curves["network"]["loss"]) >= 5 and curves["network"]["epoch_val_loss"] is None
    assert curves["teacher"]["loss"] and curves["student"] == {}


def test_the_exported_network_gives_the_predictions_from_scans(two_rounds):
    ctx = two_rounds
    table, manifest = PREDICTIONS.read(ctx.folder), MANIFEST.read(ctx.folder)
    uris = manifest["uri"].take(pc.index_in(table["image_id"], value_set=manifest["image_id"].combine_chunks()))
    scan = np.stack([decode.load_square(Path(u).read_bytes(), SIZE_PX, max_pixels=10**6) for u in uris.to_pylist()])
    path = ctx.round_folder(2) / "model" / "model.onnx"
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logit_NC, prob_NC = session.run(["logit", "probability"], {"scan": scan})
    model = Classifier.load(path.parent)
    assert model.model == path
    expected_NC = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in CLASSES])
    np.testing.assert_allclose(prob_NC, expected_NC, atol=1e-4)
    np.testing.assert_allclose(model.probabilities(logit_NC), expected_NC, atol=1e-4)
    named = [CLASSES[c] for c in model.classes(expected_NC)]
    assert named == table["predicted"].to_pylist()


def test_the_safetensors_hold_the_whole_network(two_rounds, tmp_path):
    from safetensors.numpy import load_file

    arrays = load_file(two_rounds.round_folder(2) / "model" / "model.safetensors")
    assert sum(array.size for array in arrays.values()) > 90_000
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_run_of_the_same_seed_gives_the_same_network(two_rounds, copy_of):
    again = copy_of(rounds__num=2, network__min_steps=20)
    loop.run(again)
    assert [untimed(row) for row in metrics(again)] == [untimed(row) for row in metrics(two_rounds)]
    one, other = (ctx.round_folder(2) / "model" / "model.safetensors" for ctx in (again, two_rounds))
    assert one.read_bytes() == other.read_bytes()


def test_a_finished_network_round_is_kept_on_resume(two_rounds, monkeypatch):
    monkeypatch.setattr(learn_round.self_training, "learn", lambda *_: pytest.fail("learned again"))
    before = metrics(two_rounds)
    loop.run(two_rounds)
    assert metrics(two_rounds) == before


def test_the_whole_network_learns_from_pixels(copy_of):
    ctx = copy_of(train__adapt="full", network__min_steps=20)
    loop.run(ctx)
    [row] = metrics(ctx)
    assert row["learner"].endswith("+network") and row["holdout"]["auroc"] > 0.8
    assert card(ctx, 1)["network"]["num_early"] == 0


def test_early_stopping_reaches_the_rounds(copy_of):
    ctx = copy_of(network__patience=1, network__epochs=3)
    loop.run(ctx)
    curves = json.loads((ctx.round_folder(1) / "model" / "training.json").read_text())["network"]
    assert 1 <= len(curves["epoch_val_loss"]) <= 3


def test_a_round_after_which_nothing_is_left_to_ask_is_the_last(copy_of):
    """All labels at once: the loop ends there, and its end must not be the frozen head."""
    ctx = copy_of(rounds__num=3, queue__budget=500)
    loop.run(ctx)
    [row] = metrics(ctx)
    assert row["num_expert"] == 62 and row["learner"].endswith("+network")


def test_finished_fits_are_kept_when_the_driver_dies_between_two(copy_of, monkeypatch):
    undisturbed, killed = copy_of("one"), copy_of("other")
    loop.run(undisturbed)
    fit, done = fits.fit, []

    def dies_at_the_third(job):
        if len(done) == 2 and "dead" not in done:
            done.append("dead")
            raise KeyboardInterrupt
        fit(job)
        done.append(job.name)

    monkeypatch.setattr(adapter, "fit", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        loop.run(killed)
    assert done == ["fold-0", "fold-1", "dead"]
    loop.run(killed)
    assert done == ["fold-0", "fold-1", "dead", "all"]
    assert [untimed(row) for row in metrics(killed)] == [untimed(row) for row in metrics(undisturbed)]


def test_activations_are_computed_once_for_all_rounds_and_runs(copy_of, monkeypatch):
    monkeypatch.setattr(adapter.activations, "fill_shard", lambda shard: pytest.fail("computed again"))
    with pytest.raises(pytest.fail.Exception, match="computed again"):  # of another number of views, to begin with
        loop.run(copy_of("views", network__num_views=3))
    loop.run(copy_of("same"))


@pytest.mark.parametrize("way", ["to", "from"])
def test_rolling_back_to_and_from_a_network(way, copy_of, monkeypatch):
    """`to`: the network of round 1 stays when round 2 is worse; `from`: the head of round 1 beats a worse network."""
    monkeypatch.setattr(rollback, "is_worse", lambda before, *_: (before / "metrics.json").exists())
    ctx = copy_of(rounds__num=2, train__adapt_rounds="all" if way == "to" else "last")
    loop.run(ctx)
    first, second = metrics(ctx)
    assert second["rolled_back"] and second["learner"] == first["learner"]
    assert second["holdout"]["auroc"] == first["holdout"]["auroc"] and second["flip_rate"] == 0.0
    assert first["learner"].endswith("+network") == (way == "to")
    folders = [ctx.round_folder(r) / "model" for r in (1, 2)]
    for name in ("model.onnx", "model.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert card(ctx, 2)["input"] == card(ctx, 1)["input"] == ("scan" if way == "to" else "embedding")
    assert card(ctx, 2)["rolled_back"] and card(ctx, 2)["round"] == 2
    assert isinstance(Classifier.load(folders[1]).model, Path) == (way == "to")


def test_a_scan_that_is_gone_is_named(copy_of):
    ctx = copy_of(network__num_views=3)  # whose activations are not in the cache
    splits, manifest = SPLIT_TABLE.read(ctx.folder), MANIFEST.read(ctx.folder)
    sealed = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"][0]  # no queue shows it
    gone = Path(manifest.filter(pc.equal(manifest["image_id"], sealed))["uri"][0].as_py())
    aside = gone.rename(gone.with_suffix(".aside"))  # other tests read the pool, too
    try:
        with pytest.raises(InputError, match=rf"{gone.name}: the scan could be read before and cannot be read now"):
            loop.run(ctx)
    finally:
        aside.rename(gone)


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """`cxr-ssl run` with a network in the last of two rounds and in that of the reference."""
    folder = tmp_path_factory.mktemp("commanded")
    weights = tiny_backbone.weights(folder / "weights")
    quick = {**QUICK, **weights, "rounds.num": 2, "queue.budget": 12, "audit.num_bootstrap": 0}
    given = [part for key, value in quick.items() for part in ("--set", f"{key}={str(value).lower()}")]
    given = [f"backbone.weights={weights['backbone.weights']}" if "weights=" in part else part for part in given]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_SSL_CACHE", str(folder / "cache"))
        pool = make_pool(folder / "pool", num=70)
        answer = call("run", "--pool", pool, "--out", folder / "run", "--accept", "all", "--because", "a test", *given)
        assert answer.code == 0, answer.err
        yield folder / "run"


def test_the_reference_is_adapted_like_the_run(commanded):
    rows = [json.loads(line) for line in (commanded / "reference.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [1, 2] and rows[-1]["holdout"]["auroc"] > 0.5
    assert not (commanded / "reference").exists()


def test_an_external_pool_is_scored_from_its_scans(commanded, tmp_path):
    pool = make_pool(tmp_path / "elsewhere", num=24, first=500)
    answer = call("evaluate", commanded, "--pool", pool, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["scope"]["kind"] == "external" and found["scope"]["num_scans"] == 24
    session = ort.InferenceSession(
        str(commanded / "rounds" / "02" / "model" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    scan = np.stack(
        [
            decode.load_square((pool.parent / f"s{i}.png").read_bytes(), SIZE_PX, max_pixels=10**6)
            for i in range(500, 524)
        ]
    )
    sick_N = session.run(["probability"], {"scan": scan})[0][:, CLASSES.index("sick")]
    expected = roc_auc_score(np.arange(500, 524) % 2, sick_N)
    assert found["overall"]["auroc"] == pytest.approx(expected)


def test_the_run_resumes_with_nothing_to_do(commanded):
    before = (commanded / "metrics.jsonl").read_bytes()
    answer = call("run", "--out", commanded, "--resume")
    assert answer.code == 0, answer.err
    assert (commanded / "metrics.jsonl").read_bytes() == before
