"""The rows of a prediction do not depend on where its shards ran, nor on which finished first."""

import pytest

from pipeline.predict import predict_pool
from tests.support.tiny import FAST, call, make_pool


@pytest.mark.ray
def test_ray_and_one_process_write_the_same_bytes(ray_session, tmp_path, monkeypatch):
    pool = make_pool(tmp_path / "pool", num=20)
    (pool / "s003.png").write_bytes(b"broken")
    plain = ("--rounds", 1, "--budget", 8, "--set", "calibrate.num_folds=2", "--set", "audit.num_bootstrap=0")
    options = (*FAST, *plain, "--set", "embed.shard_size=4")
    done = call("run", "--pool", pool, "--oracle", "--out", tmp_path / "run", *options)
    assert done.code == 0, done.err
    assert call("predict", tmp_path / "run", pool, "--out", tmp_path / "serial.csv").code == 0
    engines = []

    def of_session(config):
        engines.append(config.backend)
        return ray_session

    monkeypatch.setattr(ray_session, "close", lambda: None)
    monkeypatch.setattr(predict_pool, "make_engine", of_session)
    answer = call("predict", tmp_path / "run", pool, "--out", tmp_path / "ray.csv", "--set", "engine.backend=ray")
    assert answer.code == 0, answer.err
    assert engines == ["ray"]
    lines = (tmp_path / "ray.csv").read_text("utf-8").splitlines()
    assert lines == (tmp_path / "serial.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"s{i:03d}.png" for i in range(20)]
    assert lines[4].split(",")[3] == "unusable"
