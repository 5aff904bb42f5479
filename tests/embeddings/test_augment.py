"""Views of a scan: what they may change, and what they must not."""

import pytest
import torch

from embeddings import augment
from pipeline.contracts.options.vectors import AugmentConfig

STILL = {"crop": 0, "rotate_degrees": 0, "shift": 0, "stretch": 0, "gamma": 0, "window": 0, "level": 0, "noise": 0}
S = 32


def still(**changed):
    return AugmentConfig(**(STILL | {"flip": False} | changed))


def views(scan_N1SS, options, seed=0):
    return augment.views(scan_N1SS, options, torch.Generator().manual_seed(seed))


def across(num=64):
    """Scans that grow from left (0.1) to right (0.9)."""
    return torch.linspace(0.1, 0.9, S).expand(num, 1, S, S).contiguous()


def down(num=64):
    """Scans that grow from top to bottom."""
    return across(num).transpose(2, 3).contiguous()


def slope(view_N1SS, dim):
    """Mean change from one end to the other, (N,)."""
    half = S // 2
    low, high = view_N1SS.narrow(dim, 0, half), view_N1SS.narrow(dim, half, half)
    return (high.mean((1, 2, 3)) - low.mean((1, 2, 3))).numpy()


def test_with_everything_off_a_view_is_the_scan():
    scan = torch.rand(3, 1, S, S, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(views(scan, still()), scan)


def test_a_view_keeps_its_shape_and_range():
    wild = AugmentConfig(crop=0.9, rotate_degrees=45, shift=0.5, gamma=2, window=2, level=0.5, noise=0.5)
    scan = torch.rand(16, 1, S, S, generator=torch.Generator().manual_seed(0))
    view = views(scan, wild)
    assert view.shape == scan.shape and view.dtype == torch.float32
    assert torch.isfinite(view).all()
    assert float(view.min()) >= 0.0 and float(view.max()) <= 1.0
    assert scan.equal(torch.rand(16, 1, S, S, generator=torch.Generator().manual_seed(0)))  # the scan stays


def test_the_seed_decides():
    scan, options = across(8), AugmentConfig()
    torch.testing.assert_close(views(scan, options, 3), views(scan, options, 3), rtol=0, atol=0)
    assert not views(scan, options, 3).equal(views(scan, options, 4))
    first, second = views(scan, options)[:2]
    assert (first - second).abs().max() > 0.01  # scans of a batch have views of their own


def test_never_upside_down():
    options = AugmentConfig(rotate_degrees=45)
    assert (slope(views(down(256), options), 2) > 0).all()


@pytest.mark.parametrize("flip", [True, False])
def test_mirrored_only_where_allowed(flip):
    mirrored = (slope(views(across(256), still(flip=flip)), 3) < 0).mean()
    assert 0.4 < mirrored < 0.6 if flip else mirrored == 0.0


def test_a_crop_stays_inside_and_leaves_out_what_it_may():
    view = views(across(256), still(crop=0.5))
    steps = view[:, 0, 0, 1:] - view[:, 0, 0, :-1]
    # Of a ramp, a crop is a flatter ramp; padding would show as a flat end.
    assert (steps > 0).all()
    scale = (steps.mean(1) / (0.8 / (S - 1))).numpy()
    assert 0.49 < scale.min() < 0.6 and 0.9 < scale.max() < 1.01


def test_a_shift_moves_and_no_more():
    moved = views(across(256), still(shift=0.25)).mean((1, 2, 3)) - 0.5
    assert 0.15 < float(moved.abs().max()) <= 0.8 * 0.25 + 0.01
    assert abs(float(moved.mean())) < 0.03


@pytest.mark.parametrize(("name", "limit"), [("gamma", 0.6), ("window", 0.5), ("level", 0.2)])
def test_exposure_window_and_level_change_grey_alone(name, limit):
    grey = torch.full((128, 1, S, S), 0.3)
    view = views(grey, still(**{name: limit}))
    assert float(view.std((1, 2, 3)).max()) < 1e-6
    value = view[:, 0, 0, 0]
    low, high = _bounds(name)
    assert low - 1e-4 <= float(value.min()) and float(value.max()) <= high + 1e-4
    assert float(value.max() - value.min()) > 0.5 * (high - low)


def _bounds(name):
    grow = torch.tensor([-1.0, 1.0])
    if name == "gamma":
        ends = 0.3 ** (0.6 * grow).exp()
    elif name == "window":
        ends = 0.5 - 0.2 * (0.5 * grow).exp()
    else:
        ends = 0.3 + 0.2 * grow
    return float(ends.min()), float(ends.max())


def test_about_a_third_of_the_views_are_noisy():
    view = views(torch.full((300, 1, S, S), 0.5), still(noise=0.05))
    spread = view.std((1, 2, 3))
    noisy = spread > 0.01
    assert 0.25 < float(noisy.float().mean()) < 0.42
    assert float(spread[~noisy].max()) < 1e-6 and 0.04 < float(spread[noisy].mean()) < 0.06


def test_a_turn_is_as_large_as_allowed():
    def turned(degrees):
        return (views(across(64), still(rotate_degrees=degrees)) - across(64)).abs().amax((1, 2, 3))

    assert float(turned(2.0).max()) < float(turned(20.0).max())
    assert float(turned(0.0).max()) < 1e-6


def test_the_seed_of_a_view_depends_on_content_view_and_seed():
    seeds = {augment.seed_of(sha, view, seed) for sha in ("a", "b") for view in (1, 2) for seed in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert augment.seed_of("a", 1) == augment.seed_of("a", 1, 0)
    torch.Generator().manual_seed(max(seeds))  # torch takes it
