"""Two workers that train together: what they compare scans with is gathered, and a killed one is no end."""

import json
import signal

import pytest

from embeddings import backbones
from embeddings.pretrain import loop
from tests.support.forked import SERVER
from tests.support.tiny_pretraining import DiesOnce, task, together


def run(folder, **given):
    """Exit codes of two workers."""
    task(folder)  # its scans
    meeting = folder / f"meeting-{len(list(folder.glob('meeting-*')))}"
    workers = [SERVER.Process(target=together, args=(rank, 2, folder, meeting, given)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=240)
    return [worker.exitcode for worker in workers]


def losses(folder):
    return [json.loads(line).get("loss") for line in (folder / loop.HISTORY).read_text().splitlines()]


def test_two_workers_learn_like_one_and_go_on_when_one_is_killed(tmp_path):
    given = {"epochs": 3, "batch_size": 4, "method": "simclr"}
    assert run(tmp_path / "whole", **given) == [0, 0]
    (tmp_path / "marks").mkdir()
    dying = given | {"look_at": (0, 1, 2), "probe": DiesOnce(tmp_path / "marks")}
    assert run(tmp_path / "killed", **dying)[0] == -signal.SIGKILL
    assert run(tmp_path / "killed", **dying) == [0, 0]
    assert len(list((tmp_path / "marks").iterdir())) == 3 + 2  # epochs 0, 1, 2 and killed; then 2 and 3
    one, other = ((tmp_path / name / backbones.WEIGHTS).read_bytes() for name in ("whole", "killed"))
    assert one == other
    together = losses(tmp_path / "whole")[1:]
    assert together == sorted(together, reverse=True)
    # 7 of 8 scans are negatives here as in one worker's batch of 8: without the gathering it would be 3 of 4.
    for name, batch_size in (("alone", 8), ("small", 4)):
        loop.train(task(tmp_path / name, epochs=1, batch_size=batch_size))
    assert together[0] == pytest.approx(losses(tmp_path / "alone")[1], rel=0.1)
    assert losses(tmp_path / "small")[1] < 0.85 * together[0]
