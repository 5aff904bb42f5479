"""What equalising takes out of a scan, and what it leaves."""

import numpy as np
import pytest

from embeddings.alterations import grey_levels
from embeddings.alterations.alteration import address, altered


@pytest.fixture
def picture():
    """A dark picture of 200 grey levels with a black border."""
    picture_SS = np.random.default_rng(0).integers(10, 210, (100, 100)).astype(np.float32) / 512
    picture_SS[:5] = 0
    return picture_SS


@pytest.mark.parametrize(
    "exposure",
    [lambda x: 0.5 * x + 0.3, lambda x: x**2.2, lambda x: np.tanh(3 * x)],
    ids=["brightness and contrast", "gamma", "window"],
)
def test_exposure_leaves_no_trace(picture, exposure):
    np.testing.assert_array_equal(
        grey_levels.equalise(exposure(picture).astype(np.float32)), grey_levels.equalise(picture)
    )


def test_a_negative_is_the_negative_of_the_equalised_scan(picture):
    np.testing.assert_allclose(grey_levels.equalise(1 - picture), 1 - grey_levels.equalise(picture), atol=1e-6)


def test_the_middle_holds_every_grey_equally_often_and_nothing_else_decides(picture):
    equalised = grey_levels.equalise(picture)
    middle = equalised[10:90, 10:90]
    np.testing.assert_allclose(np.quantile(middle, [0.1, 0.25, 0.5, 0.9]), [0.1, 0.25, 0.5, 0.9], atol=0.01)
    assert (equalised.min(), equalised[:5].max()) == (0, 0)  # darker than all of the middle
    framed = picture.copy()
    framed[:10], framed[90:], framed[:, :10], framed[:, 90:] = 1, 1, 0, 0.5
    np.testing.assert_array_equal(grey_levels.equalise(framed)[10:90, 10:90], middle)


def test_what_is_lighter_stays_lighter(picture):
    order = np.argsort(picture[10:90, 10:90], axis=None, kind="stable")
    assert (np.diff(grey_levels.equalise(picture)[10:90, 10:90].ravel()[order]) >= 0).all()


def test_a_flat_middle_is_grey():
    np.testing.assert_array_equal(grey_levels.equalise(np.full((50, 50), 0.7, np.float32)), np.float32(0.5))


def test_an_alteration_has_its_name_in_the_address_and_none_has_none(picture):
    assert [address(name) for name in ("none", "lungs-erased", "equalised")] == [
        "",
        "-lungs-erased-v1",
        "-equalised-v1",
    ]
    assert altered(picture, "none") is picture
    np.testing.assert_array_equal(altered(picture, "equalised"), grey_levels.equalise(picture))
    assert (altered(picture, "lungs-erased") == 0.5).mean() > 0.3
