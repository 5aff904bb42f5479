"""kill -9 of a worker or of the driver amid pretraining: it goes on from the last epoch, to the same end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from embeddings import backbones
from embeddings.pretrain import checkpoint, loop, ray_workers
from pipeline.contracts.errors import InputError
from tests.support.dying_run import run_until_killed
from tests.support.tiny import call, make_pool
from tests.support.tiny_pretraining import NAME, DiesOnce, task

EPOCHS = 3
SERIAL = ("--set", "engine.backend=serial")


def weights(folder):
    return (folder / backbones.WEIGHTS).read_bytes()


def history(folder):
    return [json.loads(line) for line in (folder / loop.HISTORY).read_text().splitlines()]


def dying(tmp_path, **given):
    marks = tmp_path / "marks"
    marks.mkdir()
    return task(tmp_path / "killed", epochs=EPOCHS, look_at=(0, 1, 2), probe=DiesOnce(marks), **given), marks


@pytest.mark.ray
@pytest.mark.slow  # each half has a fast test: Ray runs a killed task again, a training goes on from its last epoch
def test_a_killed_task_goes_on_from_its_last_epoch(ray_session, tmp_path):
    loop.train(task(tmp_path / "whole", epochs=EPOCHS))
    job, marks = dying(tmp_path)
    list(ray_session.map_shards(loop.train, [job]))
    assert len(list(marks.iterdir())) == 3 + 2  # epochs 0, 1, 2 and killed; then 2 and 3
    assert [row["epoch"] for row in history(job.folder)] == [0, 1, 2, 3]
    assert weights(job.folder) == weights(tmp_path / "whole")


@pytest.mark.ray
@pytest.mark.slow
def test_several_workers_go_on_when_one_is_killed(ray_session, tmp_path):
    given = {"num_workers": 2, "batch_size": 4, "method": "moco"}
    whole = task(tmp_path / "whole", epochs=EPOCHS, **given)
    ray_workers.train(whole)
    job, marks = dying(tmp_path, **given)
    ray_workers.train(job)
    assert len(list(marks.iterdir())) == 3 + 2
    assert [row["epoch"] for row in history(job.folder)] == [0, 1, 2, 3]
    assert weights(job.folder) == weights(whole.folder)  # the same seed and number of workers: the same weights
    alone = task(tmp_path / "alone", epochs=EPOCHS, method="moco")
    loop.train(alone)
    assert weights(alone.folder) != weights(whole.folder)
    losses = [[row["loss"] for row in history(folder)[1:]] for folder in (alone.folder, whole.folder)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)  # and one worker with the whole batch learns alike


@pytest.mark.ray
@pytest.mark.slow
def test_an_error_of_the_loop_is_heard_from_several_workers(ray_session, tmp_path):
    given = {"num_workers": 2, "batch_size": 4}
    other = task(tmp_path / "a", lr=0.5, **given)
    checkpoint.save(other.folder, other.settings, {"history": []})
    with pytest.raises(InputError, match=r"the checkpoint is of another training: lr was 0\.5"):
        ray_workers.train(task(tmp_path / "a", **given))


def argv(pool, out, epochs, *more):
    options = {
        "backbone.name": NAME,
        "pretrain.start": "random",
        "pretrain.epochs": epochs,
        "pretrain.size_px": 32,
        "pretrain.batch_size": 4,
        "pretrain.hidden_dim": 32,
        "pretrain.projection_dim": 16,
        "engine.num_cpus": 1,
    }
    pairs = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    return ["pretrain", str(pool / "manifest.csv"), "--out", str(out), *pairs, *more]


def mark(folder):
    """Put into the checkpoint what only a training that goes on from it can carry to its end."""
    path = folder / checkpoint.FILE
    state = torch.load(path, weights_only=True)
    state["history"][0]["mark"] = 123
    torch.save(state, path)
    return len(state["history"])


def goes_on(pool, cut, epochs, engine):
    """Resume a training that was killed; it ends as one that nobody disturbed."""
    assert not (cut / "pretrain" / backbones.CARD).exists()
    assert 0 < mark(cut / "pretrain") - 1 < epochs
    resumed = call(*argv(pool, cut, epochs, "--resume", *engine))
    assert resumed.code == 0, resumed.err
    assert "before training" not in resumed.err and f"epoch {epochs} of {epochs}" in resumed.err
    assert history(cut / "pretrain")[0]["mark"] == 123
    assert [row["epoch"] for row in history(cut / "pretrain")] == list(range(epochs + 1))
    whole = call(*argv(pool, cut.with_name("whole"), epochs, *SERIAL))
    assert whole.code == 0, whole.err
    assert weights(cut / "pretrain") == weights(cut.with_name("whole") / "pretrain")


@pytest.mark.cluster
def test_a_killed_driver_goes_on_with_resume(tmp_path):
    pool, cut = make_pool(tmp_path / "pool"), tmp_path / "cut"
    moment = f"2:pretrain/{checkpoint.FILE}"  # the first is on disk, the second all but
    run_until_killed(moment, argv(pool, cut, EPOCHS, *SERIAL), os.environ, tmp_path / "log")
    goes_on(pool, cut, EPOCHS, SERIAL)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_driver_that_is_killed_while_ray_trains_goes_on_with_resume(tmp_path):
    pool, cut, epochs, ray = make_pool(tmp_path / "pool"), tmp_path / "cut", 40, ("--set", "engine.backend=ray")
    command = [sys.executable, "-m", "pipeline", *argv(pool, cut, epochs, *ray)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while driver.poll() is None and not (cut / "pretrain" / checkpoint.FILE).exists():
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert driver.returncode == -signal.SIGKILL, driver.stderr.read()
    path, before = cut / "pretrain" / checkpoint.FILE, None
    while before != (before := path.read_bytes()):  # Ray's workers end with their driver, a moment later
        time.sleep(3.0)
    goes_on(pool, cut, epochs, ray)
