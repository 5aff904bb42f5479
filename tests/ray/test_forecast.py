"""The fits of forecasts are the same bits wherever they run, and so are the forecasts, which nothing else goes into."""

import numpy as np
import pytest

from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.stopping import subset_fits
from pipeline.runtime.engine import SerialEngine
from tests.support.synthetic_run import FINDINGS, synthetic_run


@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_same_bits(tmp_path, ray_session):
    run = synthetic_run(tmp_path, distance=1.5, num_scans=90)
    ids = run.ids("train")[:40]
    class_E = np.array([FINDINGS.index(run.truth[image_id]) for image_id in ids])
    groups = [run.patient[image_id] for image_id in ids]
    tasks = [
        subset_fits.Task(run.folder, ScanRows.of(ids), class_E, groups, len(FINDINGS), run.ctx.config.train, seed)
        for seed in (0, 1)
    ]
    here, there = (subset_fits.fit_all(engine, tasks) for engine in (SerialEngine(), ray_session))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.prob_SEC, other.prob_SEC)
        np.testing.assert_array_equal(one.fold_E, other.fold_E)
        np.testing.assert_array_equal(one.size_S, other.size_S)
    assert (here[0].prob_SEC != here[1].prob_SEC).any()
