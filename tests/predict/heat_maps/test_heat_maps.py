"""Heat maps: where they are hot, which are refused, and what their pictures say."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.predict.heat_maps import checks, occlusion, pictures
from pipeline.predict.heat_maps.planted import plant

SIDE = 48


@pytest.fixture(scope="module")
def squares():
    """Plain squares that brighten from left to right, with a little noise."""
    slope_SS = np.tile(np.linspace(0.2, 0.8, SIDE), (SIDE, 1))
    rng = np.random.default_rng(0)
    return [(slope_SS + rng.normal(0, 0.01, (SIDE, SIDE))).astype(np.float32) for _ in range(14)]


def bright_spot(scan_N1SS):
    """A model that looks for one spot that is brighter than what is around it."""
    spots_NSS = np.stack([gaussian_filter(scan[0], 2.0) - gaussian_filter(scan[0], 8.0) for scan in scan_N1SS])
    return {"opacity": 100.0 * spots_NSS[:, 8:40, 6:42].max((1, 2)).astype(np.float64)}


def brightness(scan_N1SS):
    """A model that looks at no place more than at another."""
    return {"opacity": 300.0 * np.asarray(scan_N1SS, np.float64).mean((1, 2, 3)), "darkness": -scan_N1SS.sum((1, 2, 3))}


def corner(scan_N1SS):
    """A model that looks at a corner, and changes its mind for the lungs."""
    lungs_N = scan_N1SS[:, 0, 12:32].mean((1, 2)).astype(np.float64)
    return {"opacity": 100.0 * lungs_N + 1e4 * np.abs(np.diff(scan_N1SS[:, 0, :8, :8], axis=1)).sum((1, 2))}


def measured(model, shuffled, squares):
    references = occlusion.references(squares[:6], model)
    return checks.measure(model, references, shuffled, squares, np.random.default_rng(0))


def test_a_map_is_hot_where_the_opacity_is(squares):
    references = occlusion.references(squares[:6], bright_spot)
    scan = plant(squares[7], np.random.default_rng(3))
    heat_SS = occlusion.heat_maps(scan.square_SS, bright_spot, references)["opacity"]
    assert heat_SS.shape == (SIDE, SIDE) and scan.mask_SS[occlusion.hottest(heat_SS)]
    again_SS = occlusion.heat_maps(scan.square_SS, bright_spot, references)["opacity"]
    np.testing.assert_array_equal(heat_SS, again_SS)


def test_patches_cover_the_whole_square_at_any_size():
    for size_px in (5, 48, 224):
        seen_SS = np.zeros((size_px, size_px), bool)
        for box in occlusion.patches(size_px):
            seen_SS[box] = True
        assert seen_SS.all()


def test_a_model_without_finite_answers_has_no_heat(squares):
    reference = occlusion.Reference.of(np.zeros((3, len(occlusion.patches(SIDE)))))

    def broken(scan_N1SS):
        return {"opacity": np.full(len(scan_N1SS), np.nan)}

    heat_SS = occlusion.heat_maps(squares[0], broken, {"opacity": reference})["opacity"]
    assert not heat_SS.any() and occlusion.hottest(heat_SS) is None


def test_maps_that_point_at_the_opacity_and_change_with_the_weights_are_shown(squares):
    check = measured(bright_spot, {"the head": corner}, squares)["opacity"]
    assert check.reason is None and check.num_planted >= checks.MIN_PLANTED
    assert check.inside_low > checks.MARGIN * check.chance and check.similarity["the head"] < checks.MAX_SIMILARITY


def test_maps_that_point_elsewhere_are_refused(squares):
    check = measured(corner, {}, squares)["opacity"]
    assert check.num_planted >= checks.MIN_PLANTED and check.reason.startswith("the hottest point lies in")


def test_maps_that_do_not_depend_on_the_weights_are_refused(squares):
    check = measured(bright_spot, {"all layers": bright_spot}, squares)["opacity"]
    assert (
        "with shuffled weights (all layers) the maps stay alike" in check.reason
        and check.similarity["all layers"] > 0.9
    )


def test_a_finding_that_no_opacity_raises_is_refused(squares):
    check = measured(brightness, {}, squares)["darkness"]
    assert check.num_planted == 0 and check.reason.startswith("a planted opacity raises it in 0 scans")


def test_chance_counts_a_habit_of_pointing(squares):
    planted = [plant(square_SS, np.random.default_rng(1)) for square_SS in squares[:12]]  # one place in all of them
    middle = tuple(int(axis.mean()) for axis in np.nonzero(planted[0].mask_SS))
    check = checks.judge([middle] * 12, planted, {})
    assert check.num_inside == 12 and check.chance == 1.0 and "chance alone gives 1.00" in check.reason


def test_a_picture_has_the_proportions_of_its_file_and_carries_the_caution():
    heat_SS = np.zeros((SIDE, SIDE))
    heat_SS[10:20, 30:40] = 5.0
    grey_SS = np.full((SIDE, SIDE), 0.5, np.float32)
    picture = pictures.overlay(grey_SS, heat_SS, 400, 800)
    assert picture.shape == (512, 256, 3)
    hot = picture[15 * 512 // SIDE, 35 * 256 // SIDE].astype(int)
    assert hot[0] > hot[2] + 50 and np.ptp(picture[-5, 5]) == 0
    heading = pictures.title("effusion", 0.25, heat_SS, is_outside=True)
    assert heading.startswith("effusion: probability 0.25") and "OUTSIDE" in heading
    worded = pictures.with_words(picture, heading)
    assert worded.shape[1] == 256 and worded.shape[0] > 512 + 60 and worded[-60:].max() == 255
    with Image.open(io.BytesIO(pictures.png(worded, heading))) as read:
        assert "worse than radiologists" in read.text["Warning"] and "Not for diagnostic use" in read.text["Warning"]
    assert pictures.png(worded, heading) == pictures.png(worded, heading)


def test_a_map_on_which_no_place_stands_out_is_not_coloured():
    picture = pictures.overlay(np.full((SIDE, SIDE), 0.5, np.float32), np.full((SIDE, SIDE), 0.05), 100, 100)
    assert np.ptp(picture) == 0
    assert "no place stands out" in pictures.title("mass", None, np.full((SIDE, SIDE), 0.05), is_outside=False)
