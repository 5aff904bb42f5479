"""Recall of planted copies by hash and pixels, on made-up pictures and on real scans."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from embeddings.decode import open_grey
from embeddings.decoding.grey import Grey
from pipeline.contracts.options.scans import DuplicatesConfig
from pipeline.pool import hash_pairs, picture_hash, pixel_pairs
from tests.bench.duplicates import EDITS, cropped
from tests.pool.test_duplicates import scan

RULE = DuplicatesConfig()


def thumb(image, side):
    grey = open_grey(image, max_pixels=10**8) if isinstance(image, bytes) else Grey(image, 8, "PNG")
    return np.rint(grey.square(side) * 255).astype(np.uint8)


def thumbs(images, side):
    """Of each picture, which may stand there many times, made once."""
    by_id = {id(image): image for image in images}
    thumb_of = {number: thumb(image, side) for number, image in by_id.items()}
    return np.stack([thumb_of[id(image)] for image in images])


def bits(images, others):
    first, second = (picture_hash.picture_hashes(thumbs(side, picture_hash.SIDE_PX)) for side in (images, others))
    return hash_pairs.distances(first, second)


def correlations(images, others):
    first, second = (thumbs(side, pixel_pairs.SIDE_PX) for side in (images, others))
    return pixel_pairs.detail_correlation(first, second)


def test_the_hash_of_a_negative_is_the_complement():
    images = thumbs([scan(i) for i in range(5)], picture_hash.SIDE_PX)
    hash_NB, inverse_NB = picture_hash.picture_hashes(images), picture_hash.picture_hashes(255 - images)
    assert (hash_NB ^ inverse_NB)[:, 1:32].min() == 255
    assert not (hash_NB[:, [0, 32]] & 0x80).any()


def test_the_hash_depends_on_no_other_picture():
    images = thumbs([scan(i) for i in range(5)], picture_hash.SIDE_PX)
    alone = np.concatenate([picture_hash.picture_hashes(image[None]) for image in images])
    np.testing.assert_array_equal(picture_hash.picture_hashes(images), alone)


def test_a_flat_picture_has_a_hash_and_matches_nothing():
    flat = np.full((1, pixel_pairs.SIDE_PX, pixel_pairs.SIDE_PX), 7, np.uint8)
    assert picture_hash.picture_hashes(flat[:, ::2, ::2]).shape == (1, picture_hash.NUM_BYTES)
    assert not pixel_pairs.same_picture(flat, thumb(scan(1), 128)[None], RULE.min_correlation).any()
    assert not pixel_pairs.same_picture(flat, flat, RULE.min_correlation).any()


def test_detail_correlation_undoes_shift_and_zoom_either_way():
    images = [scan(i, 256) for i in range(6)]
    parts = [image.crop((3 + i, 8 - i, 250 - i, 245 + i)) for i, image in enumerate(images)]
    assert correlations(images, parts).min() > 0.8
    assert correlations(parts, images).min() > 0.8
    assert correlations(images, parts[::-1]).max() < 0.5


def test_pairs_of_a_block_do_not_depend_on_each_other():
    images = [scan(i) for i in range(40)]
    others = [cropped(image, 0.02) if i % 3 else scan(100 + i) for i, image in enumerate(images)]
    first, second = (thumbs(side, pixel_pairs.SIDE_PX) for side in (images, others))
    same_P = pixel_pairs.same_picture(first, second, RULE.min_correlation)
    assert same_P.tolist() == [bool(i % 3) for i in range(40)]
    alone = [
        pixel_pairs.same_picture(a[None], b[None], RULE.min_correlation)[0] for a, b in zip(first, second, strict=True)
    ]
    assert same_P.tolist() == alone


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_of_a_made_up_picture_is_found(edit):
    strengths, change = EDITS[edit]
    images = [image for image in (scan(seed, 224) for seed in range(4)) for _ in strengths]
    copies = [change(image, strength) for image, strength in zip(images, 4 * list(strengths), strict=True)]
    assert bits(images, copies).max() <= RULE.max_bits
    assert correlations(images, copies).min() >= RULE.min_correlation


def real_scans(name, num):
    root = os.environ["CXR_SSL_DATA"]
    paths = sorted(path for path in Path(root, name).rglob("*") if path.suffix in (".png", ".jpg", ".jpeg"))
    chosen = np.random.default_rng(3).choice(len(paths), num, replace=False)
    return [open_grey(paths[i].read_bytes(), max_pixels=10**8).eight_bit() for i in chosen]


@pytest.mark.real
@pytest.mark.parametrize("name", ["kermany", "covid3"])
def test_planted_copies_of_real_scans(name):
    originals = real_scans(name, 5)
    images, copies = [], []
    for strengths, change in EDITS.values():
        for strength in strengths:
            images += originals
            copies += [change(image, strength) for image in originals]
    first, second = (thumbs(side, pixel_pairs.SIDE_PX) for side in (images, copies))
    found = (bits(images, copies) <= RULE.max_bits) & pixel_pairs.same_picture(first, second, RULE.min_correlation)
    assert len(found) == 5 * 24
    assert found.mean() >= 0.99


@pytest.mark.real
def test_negatives_of_other_real_scans_are_no_copies():
    originals = real_scans("kermany", 20)
    others = [ImageOps.invert(image) for image in originals[1:]] + [originals[0].rotate(3)]
    assert correlations(originals, others).max() < RULE.min_correlation
    assert bits(originals, others).min() > RULE.max_bits
    assert isinstance(originals[0], Image.Image)
