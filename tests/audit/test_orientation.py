"""Turned scans are known by the pattern of their pool."""

import numpy as np
import pytest
from PIL import Image

from pipeline.audit.orientation import turned_degrees
from pipeline.pool.picture_hash import picture_hashes
from tests.pool.test_duplicates import scan


def hashes(degrees):
    """Pictures that share a shape and differ in detail, one turned by each angle, counter-clockwise."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    lobes = 60 * np.exp(-((x - 0.4) ** 2) * 6 - (y + 0.1) ** 2 * 2) - 70 * np.exp(-((x + 0.4) ** 2) * 6 - y**2)
    shape = 128 + lobes - 40 * y
    images = []
    for i, angle in enumerate(degrees):
        pixels = shape + (np.asarray(scan(i, 64)).astype(float) - 128) * 0.15
        images.append(np.asarray(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).rotate(angle)))
    return picture_hashes(np.stack(images))


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_scans_are_told(angle):
    degrees = [angle if i % 5 == 0 else 0 for i in range(30)]
    assert turned_degrees(hashes(degrees)).tolist() == degrees


def test_upright_scans_are_not_accused():
    assert not turned_degrees(hashes([0] * 25)).any()


def test_of_few_scans_nothing_is_said():
    assert not turned_degrees(hashes([90] * 3 + [0] * 10)).any()
