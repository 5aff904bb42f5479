"""kill -9 of a worker or of the driver amid pretraining: it goes on from the last epoch, to the same end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from embeddings import backbones
from embeddings.pretrain import checkpoint, loop, ray_workers
from pipeline.contracts.errors import InputError
from tests.support.tiny import make_pool
from tests.support.tiny_pretraining import NAME, DiesOnce, task

EPOCHS = 3


def weights(folder):
    return (folder / backbones.WEIGHTS).read_bytes()


def history(folder):
    return [json.loads(line) for line in (folder / loop.HISTORY).read_text().splitlines()]


def dying(tmp_path, **given):
    marks = tmp_path / "marks"
    marks.mkdir()
    return task(tmp_path / "killed", epochs=EPOCHS, look_at=(0, 1, 2), probe=DiesOnce(marks), **given), marks


@pytest.mark.ray
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


def command(pool, out, cache, *more):
    options = {
        "backbone.name": NAME,
        "pretrain.start": "random",
        "pretrain.epochs": 40,
        "pretrain.size_px": 32,
        "pretrain.batch_size": 4,
        "pretrain.hidden_dim": 32,
        "pretrain.projection_dim": 16,
        "engine.num_cpus": 1,
    }
    pairs = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "pretrain", str(pool / "manifest.csv"), "--out", str(out), *pairs, *more],
        env=os.environ | {"CXR_SSL_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.cluster
@pytest.mark.parametrize("backend", ["serial", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_killed_driver_goes_on_with_resume(tmp_path, backend):
    pool = make_pool(tmp_path / "pool")
    cut, engine = tmp_path / "cut", ("--set", f"engine.backend={backend}")
    driver = command(pool, cut, tmp_path / "cache", *engine)
    while driver.poll() is None and not (cut / "pretrain" / checkpoint.FILE).exists():
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert driver.returncode == -signal.SIGKILL, driver.stderr.read()
    assert not (cut / "pretrain" / backbones.CARD).exists()
    done = len(history(cut / "pretrain"))
    resumed = command(pool, cut, tmp_path / "cache", "--resume", *engine)
    said = resumed.communicate(timeout=300)[1]
    assert resumed.returncode == 0, said
    assert "before training" not in said and f"epoch {done + 3} of 40" in said
    whole = command(pool, tmp_path / "whole", tmp_path / "cache", "--set", "engine.backend=serial")
    assert whole.wait(timeout=300) == 0
    assert weights(cut / "pretrain") == weights(tmp_path / "whole" / "pretrain")
