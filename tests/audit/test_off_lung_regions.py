"""Where a marker of one class lies."""

import numpy as np
import pytest

from pipeline.audit import off_lung_regions, picture_facts

SIDE = 96


def thumbnails(share, *, corner=(8, 8), grey=1.0, seed=0):
    """Eighty scans of either class; this share of the second carries a patch."""
    rng = np.random.default_rng(seed)
    own_R = np.arange(160) >= 80
    grids = []
    for i in range(160):
        square_SS = (0.5 + 0.05 * rng.normal(size=(SIDE, SIDE))).astype(np.float32)
        if own_R[i] and i - 80 < 80 * share:
            down, across = corner
            square_SS[down : down + 6, across : across + 10] = grey
        grids.append(picture_facts.grid(np.clip(square_SS, 0, 1)))
    return np.stack(grids), own_R


@pytest.mark.parametrize(
    ("corner", "grey", "words"),
    [((4, 4), 1.0, "bright at the top left"), ((90, 86), 0.0, "dark at the bottom right")],
)
def test_a_marker_on_part_of_a_class_is_seen_where_it_lies(corner, grey, words):
    grid_RX, own_R = thumbnails(0.4, corner=corner, grey=grey)
    told, share, order = off_lung_regions.strongest(grid_RX, own_R)
    assert told == words and share == pytest.approx(0.4, abs=0.11)
    assert set(order[:32]) == set(range(80, 112))


def test_without_a_marker_no_place_stands_out():
    for seed in range(5):
        assert off_lung_regions.strongest(*thumbnails(0.0, seed=seed)) is None


def test_too_few_scans_say_nothing():
    grid_RX, own_R = thumbnails(0.4)
    assert off_lung_regions.strongest(grid_RX[:81], own_R[:81]) is None
