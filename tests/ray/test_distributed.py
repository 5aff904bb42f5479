from dataclasses import replace

import numpy as np
import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.learning import TrainConfig
from pipeline.contracts.options.running import EngineConfig
from pipeline.learn import ray_train
from pipeline.learn.heads.head import Problem
from pipeline.learn.heads.training import train_loop
from pipeline.learn.lesson import Lesson, StoppingSet
from pipeline.learn.network import fits
from pipeline.learn.network.design import side_by_side
from pipeline.runtime.threads import limited
from tests.learn.network.test_adapter import job_in


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_of_ray_train_give_the_head_of_one(ray_session, tmp_path):
    rng = np.random.default_rng(0)
    class_N = rng.integers(3, size=101)
    x_NP = rng.normal(size=(101, 6)).astype(np.float32)
    x_NP[np.arange(101), class_N] += 1.5
    problem = Problem(x_NP, np.eye(3)[class_N], rng.uniform(0.2, 2.0, 101), 2.0)
    alone = train_loop(problem, TrainConfig(), 0)
    together = ray_train.fit(problem, TrainConfig(num_workers=2), 0, tmp_path, "fit")
    np.testing.assert_allclose(together.arrays["weight0"], alone.arrays["weight0"], atol=1e-3)
    np.testing.assert_allclose(together.loss[-1], alone.loss[-1], rtol=1e-3)
    again = ray_train.fit(problem, TrainConfig(num_workers=2), 0, tmp_path, "fit")  # the caller died after the fit
    np.testing.assert_array_equal(again.arrays["weight0"], together.arrays["weight0"])


# --- networks ---------------------------------------------------------------------------------------------------------
# What breaks a worker is patched inside it: functions that are nested here are shipped by value.


def networks_agree(one, other):
    for name, array in fits.read(one)[0].arrays.items():
        np.testing.assert_allclose(array, fits.read(other)[0].arrays[name], atol=2e-4, err_msg=name)
    np.testing.assert_allclose(fits.read(one)[1], fits.read(other)[1], atol=2e-3)
    np.testing.assert_allclose(fits.read(one)[2].loss, fits.read(other)[2].loss, rtol=1e-3)


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_of_ray_train_give_the_network_of_one(ray_session, tmp_path):
    alone = job_in(tmp_path)
    together = replace(alone, folder=tmp_path / "together")
    fits.fit(alone)
    ray_train.fit_network(together, 2)
    assert fits.finished(together)
    networks_agree(together, alone)
    assert not list((together.folder / "ray_train").iterdir())  # checkpoints are for the killed


def of_two_questions(job):
    """A network that learns the job's question and its opposite, of which a scan is not known."""
    lesson, stop, head = job.lesson, job.lesson.stop, job.design.head
    weight = np.ones((len(lesson.scans), 2))
    weight[0, 1] = 0.0
    both = [np.stack([target, 1.0 - target], axis=1) for target in (lesson.target_LC, stop.target_VC)]
    return replace(
        job,
        name="shared",
        design=replace(job.design, head=side_by_side([head, head])),
        lesson=Lesson(
            lesson.scans,
            both[0],
            weight,
            np.zeros(weight.shape, bool),
            StoppingSet(stop.scans, both[1], np.ones(both[1].shape[:2])),
        ),
        sure_C=np.full((2, 2), 0.9),
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_network_of_several_questions_has_the_same_bytes_in_a_task_of_ray(ray_session, tmp_path):
    alone = of_two_questions(job_in(tmp_path))
    in_a_task = replace(alone, folder=tmp_path / "task")
    with limited(EngineConfig().threads_per_task):  # as every engine runs a task
        fits.fit(alone)
    assert len(list(ray_session.map_shards(fits.fit, [in_a_task]))) == 1
    weights = [job.folder / "shared.safetensors" for job in (alone, in_a_task)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert fits.read(alone)[1].shape == (4, 4)
    np.testing.assert_array_equal(fits.read(alone)[1], fits.read(in_a_task)[1])


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_of_ray_train_give_the_network_of_one_for_several_questions(ray_session, tmp_path):
    alone = of_two_questions(job_in(tmp_path))
    together = replace(alone, folder=tmp_path / "together")
    fits.fit(alone)
    ray_train.fit_network(together, 2)
    networks_agree(together, alone)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_of_ray_train_goes_on_from_the_last_epoch(ray_session, tmp_path, monkeypatch):
    undisturbed = job_in(tmp_path)
    killed = replace(undisturbed, folder=tmp_path / "killed")
    ray_train.fit_network(undisturbed, 2)
    notes = str(tmp_path / "epochs")

    def loop(settings):
        import os
        from pathlib import Path

        from pipeline.learn import ray_train
        from pipeline.learn.network import training_loop

        order = training_loop._Run._order

        def killed_in_the_third(self, rng):
            epoch = len(self.loss) + 1
            with Path(f"{notes}-{self.worker.rank}").open("a") as stream:
                stream.write(f"{epoch} ")
            if epoch == 3 and self.worker.rank == 1 and not Path(f"{notes}-killed").exists():
                Path(f"{notes}-killed").touch()
                os._exit(1)
            return order(self, rng)

        training_loop._Run._order = killed_in_the_third
        ray_train.network_loop(settings)

    monkeypatch.setattr(ray_train, "network_loop", loop)
    ray_train.fit_network(killed, 2)
    # Not from the beginning, but from the last epoch that was kept: the second where Ray Train had no time to keep it.
    assert (tmp_path / "epochs-1").read_text() in ("1 2 3 3 4 ", "1 2 3 2 3 4 ")
    for name, array in fits.read(killed)[0].arrays.items():
        np.testing.assert_array_equal(array, fits.read(undisturbed)[0].arrays[name], err_msg=name)
    assert fits.read(killed)[2] == fits.read(undisturbed)[2]


@pytest.mark.ray
@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_the_users_error_also_on_workers(ray_session, tmp_path, monkeypatch):
    job = job_in(tmp_path)
    attempts = str(tmp_path / "attempts")

    def loop(settings):
        from pathlib import Path

        from pipeline.learn import ray_train
        from pipeline.learn.network import training_loop

        with Path(attempts).open("a") as stream:
            stream.write("x")
        step = training_loop._Run._step
        training_loop._Run._step = lambda self, batch, rng: step(self, batch, rng) * float("nan")
        ray_train.network_loop(settings)

    monkeypatch.setattr(ray_train, "network_loop", loop)
    with pytest.raises(InputError, match=r"network\.lr: the network cannot be trained: the loss is nan in epoch 1"):
        ray_train.fit_network(job, 2)
    assert (tmp_path / "attempts").read_text() == "xx"  # a mistake is not retried


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_task_goes_on_from_the_last_epoch(ray_session, tmp_path):
    undisturbed = job_in(tmp_path)
    killed = replace(undisturbed, folder=tmp_path / "killed")
    fits.fit(undisturbed)
    notes = str(tmp_path / "saved")

    def dies_after_two_epochs(job):
        import os
        from pathlib import Path

        from pipeline.learn.network import fits

        save = fits._save_state

        def save_and_die(path, state):
            save(path, state)
            with Path(notes).open("a") as stream:
                stream.write(f"{len(state['loss'])} ")
            if Path(notes).read_text() == "1 2 ":
                os._exit(1)

        fits._save_state = save_and_die
        try:
            fits.fit(job)
        finally:
            fits._save_state = save

    list(ray_session.map_shards(dies_after_two_epochs, [killed]))
    assert (tmp_path / "saved").read_text() == "1 2 3 4 "
    for name, array in fits.read(killed)[0].arrays.items():
        # not to the bit: a task has one thread, this process may have more
        np.testing.assert_allclose(array, fits.read(undisturbed)[0].arrays[name], atol=2e-4, err_msg=name)
