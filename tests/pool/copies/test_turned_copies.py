"""Copies that were turned, mirrored, moved, cropped or written upon are found, and what was done is told."""

import tempfile

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts.options.scans import DuplicatesConfig
from pipeline.pool.copies import block_likeness, changes, point_pairs, points, search, symmetry
from pipeline.pool.copies.thumbnails import ScanFile
from pipeline.runtime.engine import SerialEngine
from tests.bench import augmentations
from tests.pool.test_duplicates import run, scan

RNG = np.random.default_rng


def thumbnails(images):
    return np.stack([np.asarray(image.resize((128, 128), Image.Resampling.BILINEAR)) for image in images])


@pytest.fixture(scope="module")
def scans():
    return [scan(i, 224) for i in range(8)]


@pytest.fixture(scope="module")
def strangers(scans):
    return points.picture_points(thumbnails(scans))


CHANGES = [
    ("turned by degrees", 5, "turned by 5 degrees"),
    ("mirrored", 1, "mirrored"),
    ("turned by quarters, degrees", 90, "turned by 90 degrees"),
    ("turned by quarters, degrees", 270, "turned by 270 degrees"),
    ("shifted both ways by a share", 0.05, "shifted"),
    ("cropped on every side by a share", 0.08, "cropped"),
    ("cropped on one side by a share", 0.10, "cropped"),
    ("padded on every side by a share", 0.06, "padded"),
    ("captioned, lines", 2, "partly covered"),
    ("gamma", 0.5, "same frame"),
]


@pytest.mark.parametrize(("name", "strength", "word"), CHANGES)
def test_a_changed_copy_is_found_and_told(tmp_path, scans, name, strength, word):
    change = augmentations.AUGMENTATIONS[name][1]
    rows = [(f"{i}.png", image, "") for i, image in enumerate(scans[:4])]
    rows.append(("copy.png", change(scans[2], strength, RNG(1)), ""))
    counts, table = run(tmp_path, rows)
    assert table["copy.png"]["canonical"] == "2.png"
    assert (table["copy.png"]["kind"], table["2.png"]["change"]) == ("near", None)
    assert word in table["copy.png"]["change"]
    assert counts["num_near"] == 1


def test_without_the_search_a_mirrored_copy_is_another_picture(tmp_path, scans):
    mirrored = augmentations.mirrored(scans[0], 1, RNG(0))
    counts, _ = run(tmp_path, [("a.png", scans[0], ""), ("b.png", mirrored, "")], **{"duplicates.changed": False})
    assert (counts["num_near"], counts["num_point_pairs"]) == (0, 0)


def test_a_copy_of_a_copy_is_told_from_the_first(tmp_path, scans):
    mirrored = augmentations.mirrored(scans[0], 1, RNG(0))
    back = augmentations.padded(augmentations.mirrored(mirrored, 1, RNG(0)), 0.05, RNG(0))
    _, table = run(tmp_path, [("a.png", scans[0], ""), ("b.png", mirrored, ""), ("c.png", back, "")])
    assert [row["change"] for row in table.values()] == [None, "mirrored", "padded"]


def test_strict_options_find_less(tmp_path, scans):
    covered = augmentations.captioned(scans[1], 3, RNG(3))
    rows = [("a.png", scans[1], ""), ("b.png", augmentations.noisy(covered, 25, RNG(0)), "")]
    loose, _ = run(tmp_path / "loose", rows, **{"duplicates.max_bits": 0})
    strict, _ = run(tmp_path / "strict", rows, **{"duplicates.max_bits": 0, "duplicates.min_block_correlation": 1.0})
    assert (loose["num_changed_pairs"], strict["num_changed_pairs"]) == (1, 0)


@pytest.mark.parametrize("option", ["min_block_correlation=1.0", "max_block_shift_px=0.001", "min_kept_detail=2.0"])
def test_each_limit_can_refuse_a_pair(option, scans):
    name, value = option.split("=")
    turned = augmentations.recompressed(augmentations.turned(scans[0], 3, RNG(1)), 30, RNG(0))
    both = thumbnails([scans[0], turned])
    pairs = point_pairs.sharing_points(points.picture_points(both))
    seen = block_likeness.likeness(both[:1], both[1:], pairs.way_P, pairs.negative_P, pairs.warp_P33)
    assert search.is_same(seen, DuplicatesConfig()).tolist() == [True]
    assert search.is_same(seen, DuplicatesConfig(**{name: float(value)})).tolist() == [False]


def looked_at(left, right):
    still_133 = np.eye(3, dtype=np.float32)[None]
    return block_likeness.likeness(left[None], right[None], np.zeros(1, np.uint8), np.zeros(1, np.bool_), still_133)


def test_a_copy_of_which_more_than_half_is_covered_is_still_one(scans):
    left = thumbnails(scans[:1])[0]
    right = thumbnails([augmentations.recompressed(scans[0], 30, RNG(0))])[0]
    right[:78] = RNG(1).integers(0, 255, (78, 128))
    seen = looked_at(left, right)
    assert seen.correlation_P[0] < DuplicatesConfig().min_block_correlation <= seen.best_P[0]
    assert search.is_same(seen, DuplicatesConfig()).tolist() == [True]


def test_alike_blocks_that_moved_each_its_own_way_are_no_copy(scans):
    left = thumbnails(scans[:1])[0]
    right = left.copy()
    for rows, across in block_likeness._spans(128):
        down, beside = RNG([rows.start, across.start]).choice([-1, 1], 2)
        right[rows, across] = np.roll(left, (down, beside), (0, 1))[rows, across]
    seen = looked_at(left, right)
    assert seen.best_P[0] >= DuplicatesConfig().min_block_correlation
    assert search.is_same(seen, DuplicatesConfig()).tolist() == [False]


@pytest.mark.parametrize("share", [0.5, 1 / 3])
def test_what_a_share_of_the_blocks_reaches(share):
    value_PJ = RNG(0).random((5, 49), np.float32)
    value_PJ[2, :30] = np.nan
    value_PJ[3, :40] = np.nan  # too few say something
    reached_P = block_likeness._reached(value_PJ, share, -7.0)
    expected_P = np.nanquantile(value_PJ, 1 - share, axis=1)
    np.testing.assert_allclose(reached_P, np.where(np.arange(5) == 3, -7.0, expected_P), rtol=1e-5)


def test_what_is_nearly_sure_is_looked_at_without_a_budget(tmp_path, scans):
    rows = [("a.png", scans[3], ""), ("b.png", augmentations.mirrored(scans[3], 1, RNG(0)), "")]
    counts, _ = run(tmp_path, rows, **{"duplicates.looks_a_scan": 0.0})
    assert (counts["num_point_pairs"], counts["num_changed_pairs"]) == (1, 1)


@pytest.mark.parametrize("way", range(symmetry.NUM_WAYS))
@pytest.mark.parametrize("negative", [False, True])
def test_points_of_a_laid_picture_have_the_same_codes(scans, strangers, way, negative):
    images = thumbnails(scans[:2])
    laid = symmetry.laid(255 - images if negative else images, np.array([way, way], np.uint8))
    own, other = strangers[:2]["code"], points.picture_points(laid)["code"]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(own, other, strict=True)]
    assert min(shared) > 0.7 * points.NUM_POINTS


def test_points_depend_on_no_other_picture(scans, strangers):
    alone = np.concatenate([points.picture_points(thumbnails([image])) for image in scans])
    np.testing.assert_array_equal(alone, strangers)


def test_a_flat_picture_has_no_points():
    points_NK = points.picture_points(np.full((2, 128, 128), 90, np.uint8))
    assert (points_NK["laid"] == points.NONE).all()
    assert len(point_pairs.sharing_points(points_NK)) == 0


def test_pairs_depend_neither_on_threads_nor_on_parts(scans, strangers, monkeypatch):
    turned = [augmentations.turned(image, 3, RNG(i)) for i, image in enumerate(scans)]
    points_NK = np.concatenate([strangers, points.picture_points(thumbnails(turned))])
    one, two = (point_pairs.sharing_points(points_NK, num_threads=num) for num in (1, 2))
    monkeypatch.setattr(point_pairs, "_MATCHES_A_STEP", 2)  # the matches of one picture are more
    in_steps = point_pairs.sharing_points(points_NK)
    monkeypatch.setattr(point_pairs, "_PICTURES_A_PART", 3)
    monkeypatch.setattr(point_pairs, "_BYTES_IN_MEMORY", 1)  # in files at once
    in_parts = point_pairs.sharing_points(points_NK, num_threads=2)
    for name in one.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(in_steps, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(in_parts, name))
    sure = one.keep(one.score_P >= point_pairs.SURE_SCORE)
    assert list(zip(sure.left_P.tolist(), sure.right_P.tolist(), strict=True)) == [(i, i + 8) for i in range(8)]


def test_what_waits_in_memory_does_not_grow_with_the_pool(strangers, monkeypatch):
    limits = []

    def spooled(limit):
        limits.append(limit)
        return tempfile.TemporaryFile()

    monkeypatch.setattr(point_pairs.tempfile, "SpooledTemporaryFile", spooled)
    monkeypatch.setattr(point_pairs, "_PICTURES_A_PART", 1)
    point_pairs.sharing_points(strangers)
    assert len(limits) == len(strangers)
    assert 0 < sum(limits) <= point_pairs._BYTES_IN_MEMORY


def test_the_warp_of_a_pair_says_what_was_done(scans, strangers):
    cropped = points.picture_points(thumbnails([augmentations.cropped(scans[0], 0.1, RNG(0))]))
    pairs = point_pairs.sharing_points(np.concatenate([strangers[:1], cropped]))
    assert pairs.way_P.tolist() == [0]
    np.testing.assert_allclose(np.diag(pairs.warp_P33[0]), [1.25, 1.25, 1.0], atol=0.06)


def test_few_pairs_beside_the_sure_ones_are_looked_at():
    num = 3000
    score_P = np.where(np.arange(num) < 10, 80, 20)
    still_P33 = np.repeat(np.eye(3, dtype=np.float32)[None], num, axis=0)
    ways, left = np.zeros(num, np.uint8), np.arange(num)
    pairs = point_pairs.PointPairs(left, left + num, score_P, ways, ways > 0, still_P33)
    assert len(point_pairs.worth_a_look(pairs, 2 * num, 0.1)) == 610
    one = point_pairs.PointPairs(ways.astype(np.int64), left + 1, score_P, ways, ways > 0, still_P33)
    assert len(point_pairs.worth_a_look(one, num + 1, 1.0)) == num  # each is the best of its right picture


def test_two_that_share_most_with_each_other_come_before_many_that_share_with_one():
    num = 2000  # more than are looked at, all of picture 0 and of the last two
    left = np.append(np.zeros(num, np.int64), num + 1)
    right = np.append(1 + np.arange(num), num + 2)
    score_P = np.append(np.where(np.arange(num) == 0, 60, 30), 24)
    ways, still_P33 = np.zeros(num + 1, np.uint8), np.repeat(np.eye(3, dtype=np.float32)[None], num + 1, axis=0)
    chosen = point_pairs.worth_a_look(
        point_pairs.PointPairs(left, right, score_P, ways, ways > 0, still_P33), num + 3, 0.0
    )
    assert len(chosen) < num
    assert (num + 1, num + 2) in zip(chosen.left_P.tolist(), chosen.right_P.tolist(), strict=True)


def test_a_changed_copy_is_looked_at_though_its_original_has_a_better_one():
    num = 600  # originals; of each a sure copy and a changed one, and as many strangers that share more than that one
    original = np.arange(num)
    left = np.concatenate([original, original, original[:-1]])
    right = np.concatenate([original + num, original + 2 * num, original[:-1] + 1])
    score_P = np.concatenate([np.full(num, 300), np.full(num, 22), np.full(num - 1, 26)])
    ways, still_P33 = np.zeros(len(left), np.uint8), np.repeat(np.eye(3, dtype=np.float32)[None], len(left), axis=0)
    pairs = point_pairs.PointPairs(left, right, score_P, ways, ways > 0, still_P33)
    chosen = point_pairs.worth_a_look(pairs, 3 * num, 1 / 3)
    assert set(original + 2 * num) <= set(chosen.right_P.tolist())


@pytest.mark.parametrize(("num_same", "is_alike"), [(0, True), (4, True), (16, False), (20, False)])
def test_a_pool_is_too_alike_by_its_other_pictures_and_not_by_its_copies(num_same, is_alike):
    num = 20
    ones = np.ones(num, np.float32)
    seen = block_likeness.Likeness(
        0.8 * ones, ones, ones, ones, np.zeros((num, 3, 3), np.float32), np.zeros(num, np.int64)
    )
    assert search.fit_each_other(seen, np.arange(num) < num_same) is is_alike


def test_the_strongest_points_are_the_same_however_many_are_asked_for(scans, strangers):
    np.testing.assert_array_equal(points.picture_points(thumbnails(scans), 24), strangers[:, :24])


def test_large_pools_compare_fewer_points():
    assert point_pairs.num_points(1000) > point_pairs.num_points(100_000) > point_pairs.num_points(1_000_000)


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (np.diag([-1, 1, 1]), "mirrored"),
        (np.diag([1, -1, 1]), "mirrored, turned by 180 degrees"),
        (np.diag([-1, -1, 1]), "turned by 180 degrees"),
        (np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), "turned by 90 degrees"),
        (np.diag([1.2, 1.2, 1]), "cropped"),
        (np.diag([0.8, 0.8, 1]), "padded"),
        (np.array([[1, 0, 0.1], [0, 1, 0], [0, 0, 1]]), "shifted"),
        (np.eye(3), changes.GREYS),
    ],
)
def test_words_of_a_map(matrix, text):
    assert changes.words(matrix.astype(float)) == text


def test_between_pools_only_pairs_of_both_count(tmp_path, scans):
    files = []
    for i, image in enumerate([scans[0], augmentations.mirrored(scans[0], 1, RNG(0)), scans[1]]):
        files.append(ScanFile(str(tmp_path / f"{i}.png"), f"{i}"))
        image.save(files[-1].uri)
    both = np.arange(3)
    found, _ = search.find(files, both, SerialEngine(), DuplicatesConfig(), 10**6)
    assert (found.left_P.tolist(), found.right_P.tolist()) == ([0], [1])
    none, _ = search.find(
        files, both, SerialEngine(), DuplicatesConfig(), 10**6, may_pair=lambda left, right: (left < 2) & (right >= 2)
    )
    assert len(none) == 0
