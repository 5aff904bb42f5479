"""The fits of forecasts are the same bits wherever they run, and so are the forecasts, which nothing else goes into."""

import numpy as np
import pytest

from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.stopping import subset_fits
from pipeline.learn.stopping.subset_fits import Labels
from pipeline.runtime.engine import SerialEngine


@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_same_bits(ray_session):
    rng = np.random.default_rng(0)
    class_E = np.arange(40) % 2
    x_EP = (rng.normal(size=(40, 8)) + class_E[:, None]).astype(np.float32)
    labels = Labels(x_EP, class_E, [f"p{i // 2}" for i in range(40)], 2)
    here, there = (
        subset_fits.fit_all(engine, labels, TrainConfig(), (0, 1)) for engine in (SerialEngine(), ray_session)
    )
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.prob_SEC, other.prob_SEC)
        np.testing.assert_array_equal(one.fold_E, other.fold_E)
        np.testing.assert_array_equal(one.size_S, other.size_S)
    assert (here[0].prob_SEC != here[1].prob_SEC).any()
