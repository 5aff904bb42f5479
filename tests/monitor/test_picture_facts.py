"""What was done to a picture moves its own fact most."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.monitor import picture_facts


@pytest.fixture(scope="module")
def squares():
    rng = np.random.default_rng(0)
    out = []
    for _ in range(30):
        coarse = gaussian_filter(rng.normal(size=(96, 96)), rng.uniform(5, 8))
        fine = gaussian_filter(rng.normal(size=(96, 96)), 1.0)
        square = 0.45 + 0.12 * coarse / coarse.std() + 0.02 * fine / fine.std() + rng.normal(0, 0.03)
        out.append(np.clip(square, 0, 1).astype(np.float32))
    return out


def facts(squares):
    rows = [picture_facts.facts_of(square) for square in squares]
    return {name: np.array([row[name] for row in rows]) for name in picture_facts.FACTS}


@pytest.mark.parametrize(
    ("change", "fact", "sign"),
    [
        (lambda x: np.clip(x + 0.1, 0, 1), "brightness", 1),
        (lambda x: x.mean() + 0.6 * (x - x.mean()), "contrast", -1),
        (lambda x: gaussian_filter(x, 1.5), "sharpness", -1),
        (lambda x: x + np.random.default_rng(1).normal(0, 0.03, x.shape), "noise", 1),
    ],
)
def test_each_change_has_its_fact(squares, change, fact, sign):
    before, after = facts(squares), facts([change(square) for square in squares])
    effect = {name: (after[name].mean() - before[name].mean()) / before[name].std() for name in before}
    assert effect[fact] * sign > 1.0
    if fact in ("brightness", "contrast"):
        assert max(effect, key=lambda name: abs(effect[name])) == fact
    else:
        assert abs(effect["brightness"]) < 0.5


def test_an_inverted_picture_is_unlike_the_usual_one(squares):
    thumbnails = np.stack([picture_facts.thumbnail(squares[0] + 0.01 * i) for i in range(3)])
    usual_X = thumbnails.mean(0)
    upright = picture_facts.likeness(thumbnails, usual_X)
    inverted = picture_facts.likeness(picture_facts.thumbnail(1 - squares[0])[None], usual_X)
    assert (upright > 0.9).all() and inverted[0] < -0.9


def test_a_scan_does_not_look_usual_because_it_is_in_the_mean():
    thumbnails = np.random.default_rng(0).normal(size=(40, 50))
    group_N = np.arange(40) // 2
    thumbnails[1::2] = thumbnails[::2]  # two alike of each patient
    alone = picture_facts.likeness_among(thumbnails, group_N) / np.linalg.norm(thumbnails, axis=1)
    in_the_mean = picture_facts.likeness(thumbnails, thumbnails.mean(0)) / np.linalg.norm(thumbnails, axis=1)
    assert abs(alone.mean()) < 0.05 and in_the_mean.mean() > 0.15


def test_a_picture_of_one_grey_has_no_texture():
    assert picture_facts.facts_of(np.full((64, 64), 0.5, np.float32)) == {
        "brightness": pytest.approx(0.5),
        "contrast": 0.0,
        "sharpness": 0.0,
        "noise": 0.0,
    }
