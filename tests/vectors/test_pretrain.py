"""The pretrain stage and its command: which scans are learnt from, what is refused, what the run then uses."""

import json
import types

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import save_file

from embeddings import backbones
from embeddings.pretrain import checkpoint, loop
from pipeline import stages
from pipeline.commands import pretrain as commands_pretrain
from pipeline.contracts import config_file
from pipeline.contracts.errors import CxrSslError, InputError
from pipeline.contracts.options.running import EngineConfig
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine, uses_gpu
from pipeline.runtime.ray_engine import RayEngine
from pipeline.vectors import embed, pretrain, pretrain_probe, pretrain_watch
from tests.support.tiny import CLASSES, call, make_pool, picture
from tests.support.tiny_pretraining import NAME

TINY = {
    "backbone.name": NAME,
    "pretrain.start": "random",
    "pretrain.epochs": 1,
    "pretrain.size_px": 32,
    "pretrain.batch_size": 4,
    "pretrain.hidden_dim": 32,
    "pretrain.projection_dim": 16,
    "preprocess.size_px": 64,
    "engine.backend": "serial",
}


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """One that nobody has put scans into."""
    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / "cache"))


def context(tmp_path, pool, names=("manifest", "duplicates", "splits"), **given):
    config = config_file.load(None, TINY | {"pool.uri": str(pool / "manifest.csv")} | given)
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    ctx = StageContext(config, folder, SerialEngine())
    stages.run_stages(ctx, names)
    return ctx


def official(i):
    """24 scans of 12 patients; the last three patients are the pool's test."""
    return CLASSES[i // 2 % 2], f"p{i // 2}", "test" if i >= 18 else "train"


def official_pool(folder, **given):
    return make_pool(folder, columns=("label", "patient_id", "official_split"), row=official, **given)


def flags(**given):
    return [part for key, value in (TINY | given).items() for part in ("--set", f"{key}={value}")]


def learnt(monkeypatch):
    """The tasks that would have been trained."""
    tasks = []
    original = loop.train

    def spy(task):
        tasks.append(task)
        return original(task)

    monkeypatch.setattr(loop, "train", spy)
    return tasks


def test_no_epochs_no_work(tmp_path, monkeypatch):
    tasks = learnt(monkeypatch)
    ctx = context(tmp_path, make_pool(tmp_path / "pool"), **{"pretrain.epochs": 0, "engine.use_gpu": True})
    assert pretrain.run(ctx) == {"epochs": 0}
    assert json.loads((ctx.folder / run_files.PRETRAINING).read_text()) == {"epochs": 0}
    assert tasks == [] and not (ctx.folder / "pretrain").exists()


def test_a_run_learns_from_its_training_pool_alone(tmp_path, monkeypatch):
    tasks = learnt(monkeypatch)
    ctx = context(tmp_path, make_pool(tmp_path / "pool", num=40))
    counts = pretrain.run(ctx)
    manifest, splits = MANIFEST.read(ctx.folder), SPLIT_TABLE.read(ctx.folder)["split"].to_pylist()
    side = dict(zip(manifest["sha256"].to_pylist(), splits, strict=True))
    assert {side[sha] for sha in tasks[0].sha256} == {"train"}
    assert len(tasks[0].sha256) == splits.count("train") == counts["num_scans"]
    assert counts["num_sealed"] == splits.count("holdout") > 0


def test_the_command_leaves_out_the_holdout_its_patients_and_its_copies(tmp_path, monkeypatch):
    tasks = learnt(monkeypatch)
    pool = official_pool(tmp_path / "pool")
    picture(90).save(pool / "extra.png")
    (pool / "copy.png").write_bytes((pool / "s018.png").read_bytes())
    with (pool / "manifest.csv").open("a") as stream:
        stream.write("extra.png,sick,p9,train\ncopy.png,sick,p50,train\n")
    answer = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", *flags())
    assert answer.code == 0, answer.err
    manifest = MANIFEST.read(tmp_path / "out").to_pylist()
    allowed = {row["sha256"] for row in manifest if row["path"] < "s018" and row["path"].startswith("s")}
    assert set(tasks[0].sha256) == allowed and len(allowed) == 18
    assert "8 scans of the holdout, its patients and its copies are left out" in answer.err
    assert f"--set backbone.name={tmp_path / 'out'}" in answer.out


def test_without_a_split_of_the_pool_the_command_seals_what_a_run_would_seal(tmp_path, monkeypatch):
    tasks = learnt(monkeypatch)
    pool = official_pool(tmp_path / "pool")
    given = {"splits.column": "none", "splits.holdout_fraction": 0.3}
    assert call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", *flags(**given)).code == 0
    ctx = context(tmp_path, pool, **given)
    split = dict(zip(*(SPLIT_TABLE.read(ctx.folder)[name].to_pylist() for name in ("image_id", "split")), strict=True))
    rows = MANIFEST.read(ctx.folder).to_pylist()
    assert set(tasks[0].sha256) == {row["sha256"] for row in rows if split[row["image_id"]] == "train"}
    assert 12 <= len(tasks[0].sha256) < 24


def test_broken_scans_are_left_out(tmp_path, empty_cache, monkeypatch):
    pool = make_pool(tmp_path / "pool")
    (pool / "s003.png").write_bytes((pool / "s003.png").read_bytes()[:70])
    ctx = context(tmp_path, pool, ("manifest",))
    (pool / "s005.png").unlink()  # gone between the manifest and the training
    tasks = learnt(monkeypatch)
    counts = pretrain.run(ctx)
    assert (counts["num_broken"], counts["num_scans"]) == (1, 22)
    assert len(tasks[0].sha256) == 22


def test_copies_are_learnt_from_once(tmp_path):
    pool = make_pool(tmp_path / "pool")
    (pool / "s001.png").write_bytes((pool / "s000.png").read_bytes())
    assert pretrain.run(context(tmp_path, pool, ("manifest",)))["num_scans"] == 23


def refused(tmp_path, pool, match, **given):
    """The command fails with code 2, says this, and has not decoded anything."""
    answer = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", *flags(**given), "--json")
    assert answer.code == 2, answer.err
    assert answer.json["state"] == "failed"
    assert not list((tmp_path / "cache").glob("scans/*/*.npy"))
    assert not (tmp_path / "out" / "pretrain" / backbones.CARD).exists()
    import re

    assert re.search(match, answer.message), answer.message


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"pretrain.batch_size": 32}, r"pretrain\.batch_size: the pool has 20 different scans .* fewer than the 32"),
        ({"pretrain.size_px": 96}, r"20 of 20 scans are smaller than the views \(got 96\)\. Set it to 64"),
        ({"engine.use_gpu": "true"}, r"engine\.use_gpu: a GPU is asked for and there is none"),
        ({"pretrain.num_workers": 2}, r"pretrain\.num_workers: several workers need Ray .*engine\.backend=ray"),
        ({"pretrain.method": "mae", "backbone.name": "torchvision:resnet18"}, "mae needs a network that shows"),
        (
            {"backbone.name": "timm:vit_tiny_patch16_224", "pretrain.size_px": 40},
            r"pretrain\.size_px: .* patches of 16 pixels",
        ),
        ({"backbone.name": "resnet18"}, "unknown backbone"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(tmp_path, empty_cache, given, match):
    if torch.cuda.is_available() and "engine.use_gpu" in given:
        pytest.skip("there is a GPU")
    refused(tmp_path, make_pool(tmp_path / "pool"), match, **given)


def test_a_few_small_scans_are_left_out(tmp_path, caplog):
    pool = make_pool(tmp_path / "pool", num=40)
    picture(99, size=24).save(pool / "s000.png")
    counts = pretrain.run(context(tmp_path, pool, ("manifest",)))
    assert (counts["num_small"], counts["num_scans"]) == (1, 39)
    assert "1 scans are smaller than the views of 32 pixels" in caplog.text


def test_weights_of_another_network_are_refused(tmp_path, empty_cache):
    save_file({"x": torch.zeros(2)}, tmp_path / "w.safetensors")
    given = {"pretrain.start": "pretrained", "backbone.weights": str(tmp_path / "w.safetensors")}
    refused(tmp_path, make_pool(tmp_path / "pool"), "belong to another network", **given)


def test_the_run_embeds_with_what_it_pretrained(tmp_path):
    ctx = context(tmp_path, make_pool(tmp_path / "pool"), ("manifest", "duplicates", "splits", "pretrain", "embed"))
    card = json.loads((ctx.folder / "pretrain" / backbones.CARD).read_text())
    used = json.loads((ctx.folder / "backbone.json").read_text())
    assert used["weights_hash"] == card["weights_hash"] and used["name"] == NAME
    record = json.loads((ctx.folder / run_files.PRETRAINING).read_text())
    assert record["card"] == card and [row["epoch"] for row in record["history"]] == [0, 1]


def test_other_pretraining_other_embeddings(tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool")
    names = ("manifest", "duplicates", "splits", "pretrain", "embed")
    ran = []
    monkeypatch.setattr(pretrain, "run", _counting(ran, "pretrain", pretrain.run))
    monkeypatch.setattr(embed, "run", _counting(ran, "embed", embed.run))
    first = context(tmp_path, pool, names)
    hashes = [json.loads((first.folder / "backbone.json").read_text())["weights_hash"]]
    context(tmp_path, pool, names)
    assert ran == ["pretrain", "embed"]  # nothing changed, nothing done
    context(tmp_path, pool, names, **{"pretrain.lr": 0.01})
    assert ran == ["pretrain", "embed"] * 2
    hashes.append(json.loads((first.folder / "backbone.json").read_text())["weights_hash"])
    assert hashes[0] != hashes[1]


def _counting(ran, name, function):
    def run(ctx):
        ran.append(name)
        return function(ctx)

    return run


def test_embedding_without_the_pretraining_it_asks_for_is_refused(tmp_path):
    ctx = context(tmp_path, make_pool(tmp_path / "pool"), ("manifest",))
    with pytest.raises(InputError, match=r"pretrain\.epochs: the backbone is to be pretrained, and has not been"):
        embed.run(ctx)


def test_the_folder_is_a_backbone_for_other_commands(tmp_path):
    pool = make_pool(tmp_path / "pool")
    found = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", *flags(), "--json").json
    assert found["state"] == "done" and found["card"]["method"] == "simclr"
    plain = ["--set", "engine.backend=serial", "--set", "preprocess.size_px=64"]
    for name in (tmp_path / "out", found["backbone"]):
        answer = call(
            "embed",
            pool / "manifest.csv",
            "--out",
            tmp_path / "emb",
            "--overwrite",
            *plain,
            "--set",
            f"backbone.name={name}",
        )
        assert answer.code == 0, answer.err
        used = json.loads((tmp_path / "emb" / "backbone.json").read_text())
        assert used["weights_hash"] == found["card"]["weights_hash"]


def test_a_backbone_that_has_seen_the_holdout_says_so(tmp_path, caplog):
    pool = official_pool(tmp_path / "pool")
    names = ("manifest", "duplicates", "splits", "embed")
    for column in ("auto", "none"):
        out = tmp_path / column
        call("pretrain", pool / "manifest.csv", "--out", out, *flags(**{"splits.column": column}))
        learnt_from = SPLIT_TABLE.read(out).filter(pc.equal(SPLIT_TABLE.read(out)["split"], "train"))["image_id"]
        caplog.clear()
        ctx = context(tmp_path, pool, names, **{"backbone.name": str(out), "pretrain.epochs": 0})
        splits = SPLIT_TABLE.read(ctx.folder)
        sealed = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"].to_pylist()
        num = len(set(sealed) & set(learnt_from.to_pylist()))
        assert (num > 0) == (column == "none")
        assert json.loads((ctx.folder / "backbone.json").read_text())["num_holdout_seen"] == num
        assert (f"on {num} of the 6 scans of this run's sealed holdout" in caplog.text) == (num > 0)
        assert "pretrained at 32 pixels and embeds at 64" in caplog.text


def test_a_replaced_backbone_is_noticed_on_resume(tmp_path):
    pool = make_pool(tmp_path / "pool")
    hashes = []
    for seed in (0, 1):
        answer = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", "--overwrite", *flags(seed=seed))
        assert answer.code == 0, answer.err
        arguments = ["--set", "engine.backend=serial", "--set", f"backbone.name={tmp_path / 'out'}"]
        assert call("embed", pool / "manifest.csv", "--out", tmp_path / "emb", "--resume", *arguments).code == 0
        hashes.append(json.loads((tmp_path / "emb" / "backbone.json").read_text())["weights_hash"])
    assert hashes[0] != hashes[1]


def test_an_interrupted_command_goes_on_with_resume_and_only_with_it(tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool")
    arguments = ["pretrain", pool / "manifest.csv", "--out", tmp_path / "cut", *flags(**{"pretrain.epochs": 3})]
    original = loop.Training.save

    def dies(self, history):
        original(self, history)
        if history[-1]["epoch"] == 2:
            raise CxrSslError("killed")

    monkeypatch.setattr(loop.Training, "save", dies)
    assert call(*arguments).code == 1
    assert (tmp_path / "cut" / "pretrain" / checkpoint.FILE).exists()
    monkeypatch.undo()
    answer = call(*arguments)
    assert answer.code == 2 and "--resume" in answer.message
    changed = call(*arguments, "--resume", "--set", "pretrain.lr=0.5")
    assert changed.code == 2 and "of another training: lr was 0.001" in changed.message
    epochs = []
    step = loop.Training.epoch
    monkeypatch.setattr(loop.Training, "epoch", lambda self, epoch: (epochs.append(epoch), step(self, epoch))[1])
    assert call("pretrain", pool / "manifest.csv", "--out", tmp_path / "cut", "--resume").code == 0
    assert epochs == [3]
    whole = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "whole", *flags(**{"pretrain.epochs": 3}))
    assert whole.code == 0
    one, other = ((tmp_path / name / "pretrain" / backbones.WEIGHTS).read_bytes() for name in ("cut", "whole"))
    assert one == other
    epochs.clear()
    assert call("pretrain", pool / "manifest.csv", "--out", tmp_path / "cut", "--resume").code == 0
    assert epochs == []  # finished is finished


def test_a_failed_training_is_one_message(tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool")
    original = loop.methods.build

    def build(*given):
        method = original(*given)
        method.loss = lambda *views: torch.tensor(float("nan"), requires_grad=True)
        return method

    monkeypatch.setattr(loop.methods, "build", build)
    answer = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", *flags())
    assert answer.code == 1
    assert "the loss or its gradient is nan in epoch 1" in answer.message and "pretrain.lr" in answer.message
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "failed"


def test_the_command_has_epochs_of_its_own(tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool")
    monkeypatch.setattr(commands_pretrain, "DEFAULT_EPOCHS", 2)
    given = {key: value for key, value in TINY.items() if key != "pretrain.epochs"}
    pairs = [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
    found = call("pretrain", pool / "manifest.csv", "--out", tmp_path / "out", *pairs, "--json").json
    assert found["card"]["epochs"] == 2


# --- probes -----------------------------------------------------------------------------------------------------------


def test_labels_make_probes_and_oracle_hides_them(tmp_path, monkeypatch):
    tasks = learnt(monkeypatch)
    pool = make_pool(tmp_path / "pool", num=48)
    counts = pretrain.run(context(tmp_path, pool, ("manifest",)))
    assert set(pretrain_probe.NAMES) <= set(counts) and len(tasks[0].look_at) == 48
    for name, given in (("hidden", {"oracle": True}), ("blank", {})):
        (tmp_path / name).mkdir()
        if name == "blank":
            text = (pool / "manifest.csv").read_text().replace("normal", "").replace("sick", "")
            (pool / "manifest.csv").write_text(text)
        counts = pretrain.run(context(tmp_path / name, pool, ("manifest",), **given))
        assert tasks[-1].probe is None and len(tasks[-1].look_at) == 48
        assert not set(pretrain_probe.NAMES) & set(counts) and counts["rank"] > 0


def test_a_probe_is_out_of_fold_by_patient():
    rng = np.random.default_rng(0)
    class_M = np.repeat([0, 1], 150)
    group_M = np.array([f"p{i // 3}" for i in range(300)])
    unique_M = rng.normal(size=(100, 8)).repeat(3, axis=0)  # a patient's scans are alike, and say nothing of the class
    found = pretrain_probe.Probe(class_M, group_M)(unique_M)
    assert all(abs(found[name] - 0.5) < 0.2 for name in pretrain_probe.NAMES)
    telling = pretrain_probe.Probe(class_M, group_M)(unique_M + 3.0 * class_M[:, None])
    assert all(telling[name] > 0.95 for name in pretrain_probe.NAMES)


def test_what_is_looked_at():
    rng = np.random.default_rng(0)
    groups = [f"p{i}" for i in range(200)]
    labels = [None] * 100 + ["a"] * 50 + ["b"] * 45 + ["rare"] * 5
    positions, probe = pretrain_probe.plan(labels, groups, 60, rng)
    assert len(positions) == 60 and positions == sorted(set(positions)) and min(positions) >= 100
    assert set(probe.class_M) == {0, 1} and max(positions) < 195
    positions, probe = pretrain_probe.plan([None] * 200, groups, 60, rng)
    assert len(positions) == 60 and probe is None
    assert pretrain_probe.plan(["a"] * 200, groups, 500, rng) == (list(range(200)), None)
    assert pretrain_probe.plan(["a"] * 100 + ["b"] * 100, ["one"] * 100 + groups[:100], 500, rng)[1] is None
    assert pretrain_probe.plan(["a"] * 10 + ["b"] * 10, groups[:20], 500, rng)[1] is None  # fewer than 15 neighbours


# --- what the user hears ----------------------------------------------------------------------------------------------


def test_the_watch_tells_epochs_progress_and_collapse(tmp_path, caplog):
    caplog.set_level("INFO")
    told = []
    rows = [
        {"epoch": 0, "spread": 0.5, "rank": 20.0, "collapse": None, "knn15_auroc": 0.8, "linear_auroc": 0.9},
        {"epoch": 1, "loss": 2.5, "scans_per_second": 33.3, "seconds_left": 60, "collapse": "the embeddings collapse"},
    ]
    with pretrain_watch.Watch(tmp_path, lambda *given: told.append(given), 2):
        (tmp_path / loop.HISTORY).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (tmp_path / loop.PROGRESS).write_text('{"done": 5, "total": 20}')
    assert told[-1] == ("pretrain", 5, 20)
    assert "before training, spread 0.50, rank 20, 15-NN AUROC 0.800, linear probe 0.900" in caplog.text
    assert "epoch 1 of 2, loss 2.5000, 33 scans/s, about 60 s left" in caplog.text
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["epoch 1: the embeddings collapse"]
    caplog.clear()
    with pretrain_watch.Watch(tmp_path, lambda *given: None, 2):
        pass
    assert "epoch 1" not in caplog.text  # a resumed training does not tell the old epochs again


def test_with_a_gpu_the_workers_get_one_each(monkeypatch):
    config = EngineConfig(backend="serial")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert uses_gpu(SerialEngine(), config, 1, "pretrain.num_workers") is True
    assert uses_gpu(SerialEngine(), config.model_copy(update={"use_gpu": False}), 1, "pretrain.num_workers") is False


def test_fewer_gpus_than_workers_is_told_as_that():
    """Not as no GPU at all."""

    class Cluster(RayEngine):
        def _ready(self):
            return types.SimpleNamespace(cluster_resources=lambda: {"GPU": 2.0})

    config = EngineConfig(use_gpu=True)
    assert uses_gpu(Cluster(config), config, 2, "pretrain.num_workers") is True
    with pytest.raises(InputError, match=r"pretrain\.num_workers: every worker .* and there are 2 \(got 4\)"):
        uses_gpu(Cluster(config), config, 4, "pretrain.num_workers")


def test_a_run_that_has_grown_keeps_its_backbone(tmp_path, monkeypatch):
    from pipeline.runtime.growth import record

    ctx = context(tmp_path, make_pool(tmp_path / "pool"), names=())
    told = {"epochs": 1, "num_scans": 20, "history": [], "card": {}}
    (ctx.folder / run_files.PRETRAINING).write_text(json.dumps(told))
    card = ctx.folder / run_files.PRETRAINED / backbones.CARD
    card.parent.mkdir()
    card.write_text("{}")
    record.join(ctx.folder, record.begin(ctx.folder, "other"))
    monkeypatch.setattr(pretrain, "_chosen", lambda _: pytest.fail("it is trained again"))
    assert pretrain.run(ctx) == {"epochs": 1, "num_scans": 20}
