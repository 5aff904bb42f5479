"""kill -9 of the driver while a round's networks are trained, then --resume: the last epoch, and the same end."""

import contextlib
import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch

from tests.support import tiny_backbone
from tests.support.picture_run import QUICK, make_pool

EPOCHS = 40


def command(folder, name):
    weights = tiny_backbone.weights(folder / "weights")
    options = {
        **QUICK,
        **weights,
        "engine.backend": "ray",
        "engine.num_cpus": 2,
        "engine.object_store_mb": 80,
        "network.epochs": EPOCHS,
        "splits.salt": "known",  # as patients are called in both runs
        "audit.num_bootstrap": 0,
        "rounds.reference": False,
    }
    given = [part for key, value in options.items() for part in ("--set", f"{key}={json.dumps(value).strip(chr(34))}")]
    return [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        "--pool",
        folder / "pool" / "manifest.csv",
        "--out",
        folder / name,
        "--resume",
        "--quiet",
        "--accept",
        "all",
        "--because",
        "a test",
        *given,
    ]


def killed_while_the_last_network_learns(folder, environment):
    process = subprocess.Popen(command(folder, "killed"), env=environment, start_new_session=True)
    state = folder / "killed" / "rounds" / "01" / "network" / "all.pt"
    try:
        while not state.exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        with_it = psutil.Process(process.pid).children(recursive=True)  # Ray's workers would learn on for a moment
        for each in (process, *with_it):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        psutil.wait_procs(with_it, timeout=60)
    return state


@pytest.mark.cluster
@pytest.mark.slow
def test_a_killed_driver_goes_on_from_the_last_epoch_of_each_network(tmp_path):
    make_pool(tmp_path / "pool", num=60)
    environment = os.environ | {"CXR_SSL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command(tmp_path, "whole"), env=environment, check=True)
    path = killed_while_the_last_network_learns(tmp_path, environment)
    state = torch.load(path, weights_only=True)
    assert 1 <= len(state["loss"]) < EPOCHS
    state["trace"][0] = 123.0  # a mark that only who resumes from this state can carry on
    torch.save(state, path)
    subprocess.run(command(tmp_path, "killed"), env=environment, check=True)
    models = [tmp_path / name / "rounds" / "01" / "model" for name in ("whole", "killed")]
    assert models[0].joinpath("model.safetensors").read_bytes() == models[1].joinpath("model.safetensors").read_bytes()
    curves = [json.loads((model / "training.json").read_text())["network"]["loss"] for model in models]
    assert curves[1][0] == 123.0 and curves[1][1:] == curves[0][1:]
    rows = [json.loads((model.parent / "metrics.json").read_text()) for model in models]
    for row in rows:
        del row["seconds"]
    assert rows[0] == rows[1]
    assert rows[0]["learner"].endswith("+network")
