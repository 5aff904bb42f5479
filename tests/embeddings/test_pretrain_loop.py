"""One worker's training: the same seed, the same weights, whatever interrupted it; and what stops it."""

import json
import math

import numpy as np
import pytest
import torch

from embeddings import backbones
from embeddings.pretrain import checkpoint, loop, methods, monitor
from embeddings.pretrain.task import Worker
from pipeline.contracts.errors import CxrSslError, InputError
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support.tiny_pretraining import NAME, options, shas, task

STATEFUL = ("simclr", "moco", "byol", "dino")


class Killed(Exception):  # noqa: N818
    """Stands for kill -9 between two epochs."""


def stop_after(epoch):
    def report(record):
        if record["epoch"] == epoch:
            raise Killed

    return Worker(report=report)


def weights(folder):
    return backbones.build(backbones.resolve(BackboneConfig(name=str(folder)))).state_dict()


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def history(folder):
    return [json.loads(line) for line in (folder / loop.HISTORY).read_text().splitlines()]


def test_the_same_seed_gives_the_same_weights(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        loop.train(task(tmp_path / name, seed=seed))
        torch.rand(7)  # what others draw in between has no part in it
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("method", STATEFUL)
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, method):
    given = {"method": method, "epochs": 3, "num": 16}
    loop.train(task(tmp_path / "whole", **given))
    for epoch in (1, 2):
        with pytest.raises(Killed):
            loop.train(task(tmp_path / "cut", **given), stop_after(epoch))
        assert (tmp_path / "cut" / checkpoint.FILE).exists()
    loop.train(task(tmp_path / "cut", **given))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    whole, cut = history(tmp_path / "whole"), history(tmp_path / "cut")
    assert [row["epoch"] for row in cut] == [0, 1, 2, 3]
    assert [row.get("loss") for row in whole] == [row.get("loss") for row in cut]
    assert not (tmp_path / "cut" / checkpoint.FILE).exists()


def test_with_rare_checkpoints_the_last_one_counts(tmp_path):
    given = {"epochs": 5, "checkpoint_every": 2}
    loop.train(task(tmp_path / "whole", **given))
    with pytest.raises(Killed):
        loop.train(task(tmp_path / "cut", **given), stop_after(3))
    again = []
    loop.train(task(tmp_path / "cut", **given), Worker(report=lambda record: again.append(record["epoch"])))
    assert again == [3, 4, 5]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def broken_from(epoch, monkeypatch, what):
    original = methods.build

    def build(*args):
        method = original(*args)
        loss, calls = method.loss, []

        def bad(*views):
            calls.append(1)
            found = loss(*views)
            if len(calls) <= 3 * (epoch - 1):
                return found
            return found * math.nan if what == "loss" else found + (0.0 * found).sqrt()

        method.loss = bad
        return method

    monkeypatch.setattr(loop.methods, "build", build)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_a_number_stops_and_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch, what):
    broken_from(2, monkeypatch, what)
    with pytest.raises(
        CxrSslError, match=r"the loss or its gradient is nan in epoch 2; the checkpoint .* is kept.*pretrain\.lr"
    ):
        loop.train(task(tmp_path / "a", epochs=3))
    monkeypatch.undo()
    state = checkpoint.load(tmp_path / "a", task(tmp_path / "a", epochs=3).settings)
    assert [row["epoch"] for row in state["history"]] == [0, 1]
    assert all(torch.isfinite(value).all() for value in state["networks"].values())
    assert not (tmp_path / "a" / backbones.CARD).exists()


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    with pytest.raises(Killed):
        loop.train(task(tmp_path / "a"), stop_after(1))
    before = (tmp_path / "a" / checkpoint.FILE).read_bytes()
    other = backbones.untrained(BackboneConfig(name="timm:test_convnext.r160_in1k"))
    for given, named in (
        ({"lr": 0.5}, "lr was 0.001"),
        ({"backbone": other}, "architecture was"),
        ({"num": 16}, "scans"),
    ):
        with pytest.raises(InputError, match=f"of another training: {named}"):
            loop.train(task(tmp_path / "a", **given))
    assert (tmp_path / "a" / checkpoint.FILE).read_bytes() == before
    loop.train(task(tmp_path / "a", probe_every=2, checkpoint_every=2))  # what has no part in the weights may change


def test_a_checkpoint_is_read_without_pickle(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"settings": {}, "x": Evil()}, tmp_path / checkpoint.FILE)
    with pytest.raises(InputError, match=r"cannot be read.*Delete it"):
        checkpoint.load(tmp_path, {})
    assert not (tmp_path / "pwned").exists()


def test_gradients_are_added_up_and_the_rate_rises_and_falls(tmp_path, monkeypatch):
    rates = []
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    loop.train(task(tmp_path / "a", num=40, epochs=4, accumulate=2, lr=0.1, warmup_share=0.25))
    assert len(rates) == 4 * 3  # five batches: two updates of two and one of one
    peak = 0.1 * 8 * 2 / 256
    assert max(rates) == pytest.approx(peak) and rates[0] == pytest.approx(peak / 3)
    assert rates[:3] == sorted(rates[:3]) and rates[3:] == sorted(rates[3:], reverse=True)


def test_every_scan_is_seen_at_most_once_an_epoch_and_workers_share_them(tmp_path, monkeypatch):
    job = task(tmp_path / "a", num=21, num_workers=2, batch_size=5)
    assert (job.num_batches, job.num_updates) == (2, 2)
    seen = []
    original = loop.pixel_matrix.take
    monkeypatch.setattr(
        loop.pixel_matrix, "take", lambda rows, found: (seen.extend(found.tolist()), original(rows, found))[1]
    )
    for rank in range(2):
        assert len(list(loop.Training(job, Worker(rank, 2))._batches(1))) == 2
    assert len(seen) == len(set(seen)) == 20


def test_the_pool_must_fill_a_step_of_all_workers(tmp_path):
    with pytest.raises(
        InputError, match=r"pretrain\.batch_size: the pool has 24 .* fewer than the 32 .*got 16"
    ) as caught:
        task(tmp_path / "a", batch_size=16, num_workers=2).check()
    assert caught.value.exit_code == 2
    task(tmp_path / "a", batch_size=12, num_workers=2).check()


def test_norms_are_held_with_pretrained_weights_and_learnt_from_scratch(tmp_path):
    loop.train(task(tmp_path / "first", epochs=1))
    first = weights(tmp_path / "first")
    fresh = backbones.build(backbones.untrained(BackboneConfig(name=NAME))).state_dict()
    statistics = [key for key in first if key.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(not torch.equal(first[key], fresh[key]) for key in statistics)
    begun = backbones.resolve(BackboneConfig(name=str(tmp_path / "first")))
    loop.train(task(tmp_path / "second", epochs=1, backbone=begun))
    second = weights(tmp_path / "second")
    assert all(torch.equal(first[key], second[key]) for key in statistics)
    filters = [key for key in first if first[key].ndim == 4 and key.startswith("body.")]
    assert filters and all(not torch.equal(first[key], second[key]) for key in filters)


def test_mixed_precision_on_request(tmp_path):
    loop.train(task(tmp_path / "half", precision="amp", epochs=1))
    loop.train(task(tmp_path / "full", epochs=1))
    half, full = weights(tmp_path / "half"), weights(tmp_path / "full")
    assert not same(half, full)
    assert all(value.dtype == full[key].dtype and torch.isfinite(value).all() for key, value in half.items())


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    from dataclasses import replace

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="a GPU is asked for and there is none"):
        loop.train(replace(task(tmp_path / "a"), use_gpu=True))


def test_looks_come_with_probes_at_the_epochs_asked_for(tmp_path):
    calls = []

    def probe(emb_ND):
        calls.append(emb_ND.shape)
        return {"knn15_auroc": 0.5}

    loop.train(task(tmp_path / "a", epochs=5, probe_every=2, look_at=tuple(range(12)), probe=probe))
    rows = history(tmp_path / "a")
    assert [row["epoch"] for row in rows if "spread" in row] == [0, 2, 4, 5]
    assert len(calls) == 4 and calls[0][0] == 12
    assert all(row["knn15_auroc"] == 0.5 for row in rows if "spread" in row)


def test_looking_does_not_change_what_is_learnt(tmp_path):
    loop.train(task(tmp_path / "a"))
    loop.train(task(tmp_path / "b", look_at=tuple(range(24)), probe=lambda emb_ND: {}))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_collapse_is_seen():
    rng = np.random.default_rng(0)
    wide = monitor.look(rng.normal(size=(2000, 16)))
    assert wide["spread"] == pytest.approx(1.0, abs=0.02) and wide["rank"] == pytest.approx(16, rel=0.02)
    assert monitor.warning(wide) is None
    one = np.ones((100, 16)) + 1e-4 * rng.normal(size=(100, 16))
    line = np.outer(rng.normal(size=100), np.ones(16))  # all scans on one axis, of either sign
    for emb_ND, sign in ((one, "spread"), (line, "rank"), (np.zeros((100, 16)), "spread")):
        found = monitor.look(emb_ND)
        assert found[sign] < {"spread": 0.01, "rank": 1.01}[sign]
        assert "collapse" in monitor.warning(found)


def test_a_training_that_collapses_says_so_in_its_history(tmp_path, monkeypatch):
    def embed(network, rows, position_N, device):
        return np.ones((len(position_N), 8), np.float32)

    monkeypatch.setattr(monitor, "embed", embed)
    loop.train(task(tmp_path / "a", epochs=1, look_at=(0, 1, 2)))
    assert "all scans look alike" in history(tmp_path / "a")[-1]["collapse"]


def test_the_settings_name_what_the_weights_depend_on(tmp_path):
    settings = task(tmp_path / "a").settings
    assert {"architecture", "initial_weights", "scans", "seed", "method", "lr", "epochs", "num_workers"} <= set(
        settings
    )
    assert settings == json.loads(json.dumps(settings))
    assert options().augment.model_dump() == settings["augment"]
    assert task(tmp_path / "a", num=23).settings["scans"] != settings["scans"]
    assert shas(2)[0] != shas(2)[1]


def test_a_worker_goes_on_with_the_mean_of_all(tmp_path):
    """Two workers of the same rank have the same gradients, and their mean changes nothing; the mean is asked for."""
    asked = []

    def mean_(tensor):
        asked.append(tensor.numel())
        return tensor

    given = {"num_workers": 2, "batch_size": 4, "epochs": 1}
    loop.train(task(tmp_path / "a", **given), Worker(0, 2, mean_=mean_))
    networks = loop.Training(task(tmp_path / "b", **given), Worker(0, 2)).method.networks
    num_weights = sum(p.numel() for p in networks.parameters() if p.requires_grad)
    assert asked.count(num_weights) == 3 and asked.count(1) >= 3  # gradients and loss of three updates
    loop.train(task(tmp_path / "c", **given), Worker(0, 2))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    loop.train(task(tmp_path / "d", **given), Worker(0, 2, mean_=lambda tensor: tensor.mul_(0.5)))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "d"))
