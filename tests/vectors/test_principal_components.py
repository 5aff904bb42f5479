import numpy as np
import pytest
from sklearn.decomposition import PCA

from pipeline.vectors import principal_components


@pytest.fixture
def emb_ND():
    rng = np.random.default_rng(0)
    return (5.0 + rng.normal(size=(200, 8)) * np.linspace(4.0, 0.5, 8)).astype(np.float16)


def test_axes_are_the_principal_components(emb_ND):
    mean_D, axes_DP, variance = principal_components.principal_axes(emb_ND, 3)
    theirs = PCA(3).fit(emb_ND.astype(np.float64))
    np.testing.assert_allclose(mean_D, theirs.mean_, atol=1e-4)
    np.testing.assert_allclose(np.abs((axes_DP.T * theirs.components_).sum(1)), 1.0, atol=1e-5)
    assert variance == pytest.approx(emb_ND.astype(np.float64).var(0).sum(), rel=1e-4)
    assert (axes_DP[np.abs(axes_DP).argmax(0), np.arange(3)] > 0).all()


def test_scale_is_the_same_for_all_backbones(tmp_path, emb_ND):
    for scale in (1e-2, 1.0, 50.0):
        assert principal_components.write(tmp_path, (emb_ND.astype(np.float32) * scale), np.arange(200), 8) == 8
        x_NP = principal_components.load(tmp_path)
        assert np.sqrt((x_NP**2).sum(1).mean()) == pytest.approx(principal_components.RMS_NORM, rel=1e-3)
        assert x_NP.dtype == np.float32


def test_all_components_keep_the_distances(tmp_path, emb_ND):
    principal_components.write(tmp_path, emb_ND, np.arange(200), 500)
    x_NP, e_ND = principal_components.load(tmp_path), emb_ND.astype(np.float64)
    ratio = np.linalg.norm(x_NP[0] - x_NP[1:], axis=1) / np.linalg.norm(e_ND[0] - e_ND[1:], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_the_holdout_does_not_define_the_basis(tmp_path, emb_ND):
    train = np.arange(100)
    principal_components.write(tmp_path, emb_ND, train, 4)
    before = principal_components.load_basis(tmp_path)
    changed = emb_ND.copy()
    changed[100:] = 60.0
    principal_components.write(tmp_path, changed, train, 4)
    for a, b in zip(before, principal_components.load_basis(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_basis_remakes_the_features(tmp_path, emb_ND, monkeypatch):
    monkeypatch.setattr(principal_components, "ROWS_AT_ONCE", 33)
    principal_components.write(tmp_path, emb_ND, np.arange(0, 200, 2), 4)
    mean_D, basis_DP = principal_components.load_basis(tmp_path)
    np.testing.assert_allclose(
        principal_components.load(tmp_path), (emb_ND.astype(np.float32) - mean_D) @ basis_DP, atol=1e-4
    )
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_constant_embeddings_give_finite_features(tmp_path):
    principal_components.write(tmp_path, np.ones((20, 4), np.float16), np.arange(20), 2)
    np.testing.assert_array_equal(principal_components.load(tmp_path), 0.0)
