import numpy as np
import pytest
from sklearn.decomposition import PCA

from pipeline.vectors import principal_components, row_blocks


@pytest.fixture
def emb_ND():
    rng = np.random.default_rng(0)
    return (5.0 + rng.normal(size=(200, 8)) * np.linspace(4.0, 0.5, 8)).astype(np.float16)


def side_by_side(emb_ND):
    """The embeddings as they are and the standardised ones, each of half the variance: what features come from."""
    centred_ND = emb_ND.astype(np.float64) - emb_ND.astype(np.float64).mean(0)
    both = centred_ND, centred_ND / centred_ND.std(0)
    return np.hstack([part / np.sqrt(2.0 * np.square(part).sum(1).mean()) for part in both])


def test_axes_are_those_of_the_embeddings_beside_the_standardised_ones(emb_ND):
    for scale in (1.0, np.geomspace(0.2, 5.0, 8)):
        scaled_ND = emb_ND.astype(np.float32) * np.float32(scale)
        mean_D, axes_DP, variance = principal_components.principal_axes(scaled_ND, 3)
        expected_N3 = PCA(3).fit_transform(side_by_side(scaled_ND))
        np.testing.assert_allclose(np.abs((scaled_ND - mean_D) @ axes_DP), np.abs(expected_N3), atol=1e-3)
        assert variance == pytest.approx(1.0, rel=1e-4)


def test_a_wide_dimension_keeps_half_of_its_say():
    """One of two decides alone as it is, and half standardised; a scale common to both does not matter."""
    x_ND = np.random.default_rng(0).normal(size=(50_000, 2)) * [3.0, 0.1]
    for scale in (1e-4, 1.0, 1e4):
        varied_D = (x_ND * scale * principal_components.dimension_factors(x_ND * scale)).var(0)
        np.testing.assert_allclose(varied_D, [0.75, 0.25], atol=2e-3)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (90, 90)])
def test_leading_axes_whatever_is_larger(monkeypatch, shape):
    """Few scans, few dimensions, or a sketch of many of both."""
    x_ND = np.random.default_rng(1).normal(size=shape) * np.geomspace(10.0, 0.1, shape[1])
    x_ND -= x_ND.mean(0)
    expected_5D = PCA(5).fit(x_ND).components_
    for most in (1_500, 10):
        monkeypatch.setattr(principal_components, "EXACT_UP_TO", most)
        axes_D5 = principal_components.leading_axes(x_ND, 5)
        np.testing.assert_allclose(np.abs((axes_D5.T * expected_5D).sum(1)), 1.0, atol=1e-3)
        assert (axes_D5[np.abs(axes_D5).argmax(0), np.arange(5)] > 0).all()
    assert principal_components.leading_axes(x_ND[:4], 9).shape == (shape[1], 3)  # four scans span no more


def test_scale_is_the_same_for_all_backbones(tmp_path, emb_ND):
    for scale in (1e-2, 1.0, 50.0):
        assert principal_components.write(tmp_path, (emb_ND.astype(np.float32) * scale), np.arange(200), 8) == 8
        x_NP = principal_components.load(tmp_path)
        assert np.sqrt((x_NP**2).sum(1).mean()) == pytest.approx(principal_components.RMS_NORM, rel=1e-3)
        assert x_NP.dtype == np.float32


def test_all_components_keep_the_distances(tmp_path, emb_ND):
    principal_components.write(tmp_path, emb_ND, np.arange(200), 500)
    x_NP, e_ND = principal_components.load(tmp_path), side_by_side(emb_ND)
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
    monkeypatch.setattr(row_blocks, "ROWS_AT_ONCE", 33)
    principal_components.write(tmp_path, emb_ND, np.arange(0, 200, 2), 4)
    mean_D, basis_DP = principal_components.load_basis(tmp_path)
    np.testing.assert_allclose(
        principal_components.load(tmp_path), (emb_ND.astype(np.float32) - mean_D) @ basis_DP, atol=1e-4
    )
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_constant_embeddings_give_finite_features(tmp_path):
    principal_components.write(tmp_path, np.ones((20, 4), np.float16), np.arange(20), 2)
    np.testing.assert_array_equal(principal_components.load(tmp_path), 0.0)
