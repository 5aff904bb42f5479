import numpy as np
import pytest

from pipeline import distributed
from pipeline.config import TrainConfig
from pipeline.train import Problem, train_loop


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_of_ray_train_give_the_head_of_one(ray_session, tmp_path):
    rng = np.random.default_rng(0)
    class_N = rng.integers(3, size=101)
    x_NP = rng.normal(size=(101, 6)).astype(np.float32)
    x_NP[np.arange(101), class_N] += 1.5
    problem = Problem(x_NP, np.eye(3)[class_N], rng.uniform(0.2, 2.0, 101), 2.0)
    alone = train_loop(problem, TrainConfig(), 0)
    together = distributed.fit(problem, TrainConfig(num_workers=2), 0, tmp_path, "fit")
    np.testing.assert_allclose(together.arrays["weight0"], alone.arrays["weight0"], atol=1e-3)
    np.testing.assert_allclose(together.loss[-1], alone.loss[-1], rtol=1e-3)
    again = distributed.fit(problem, TrainConfig(num_workers=2), 0, tmp_path, "fit")  # the caller died after the fit
    np.testing.assert_array_equal(again.arrays["weight0"], together.arrays["weight0"])
