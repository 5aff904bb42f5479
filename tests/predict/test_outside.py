"""What tells scans that are unlike a run's training pool."""

import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.predict import outside
from pipeline.runtime import run_files
from pipeline.vectors import principal_components
from tests.support.synthetic_run import synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("run"), num_scans=260, num_holdout=80)


def test_scans_like_the_training_pool_are_inside_and_others_are_not(run):
    knows = outside.of_run(run.folder)
    assert knows.held_out == "holdout" and len(knows.held_out_H) == 80
    x = np.asarray(principal_components.load(run.folder))
    assert (knows.scores(x, 0.05) > 1.0).mean() < 0.12
    far = x[:50] + 30.0 * x.std(0) * np.sign(np.random.default_rng(0).normal(size=x.shape[1]))
    assert (knows.scores(far, 0.05) > 1.0).all()
    assert (knows.scores(x, 0.2) >= knows.scores(x, 0.05)).all()


def test_it_is_kept_until_the_run_changes(run, monkeypatch):
    first = outside.of_run(run.folder)
    assert stat.S_IMODE((run.folder / run_files.OUTSIDE).stat().st_mode) == 0o600  # as all files of a run
    monkeypatch.setattr(outside, "_measured", lambda folder: pytest.fail("it was worked out again"))
    np.testing.assert_array_equal(outside.of_run(run.folder).reference_RQ, first.reference_RQ)
    basis = run.folder / run_files.BASIS
    before = basis.read_bytes()
    try:
        mean_D, basis_DP = principal_components.load_basis(run.folder)
        save_file({"mean_D": mean_D + 1, "basis_DP": basis_DP}, basis)
        with pytest.raises(pytest.fail.Exception, match="worked out again"):
            outside.of_run(run.folder)
    finally:
        basis.write_bytes(before)


def test_a_small_holdout_is_replaced_by_other_patients_of_the_training_pool(tmp_path):
    run = synthetic_run(tmp_path, num_scans=120, num_holdout=10)
    knows = outside.of_run(run.folder)
    assert knows.held_out == "training" and len(knows.held_out_H) == len(knows.reference_RQ)
    assert knows.held_out_H.min() > 0.0  # not its own copy, nor another scan of its patient


def test_without_enough_scans_nothing_is_said(run):
    knows = outside.of_run(run.folder)
    x = np.asarray(principal_components.load(run.folder))[:4]
    assert np.isnan(knows.scores(x, 0.005)).all() and knows.threshold(0.005) is None
