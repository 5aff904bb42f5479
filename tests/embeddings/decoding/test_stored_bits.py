"""Tags that contradict the stored values: the picture is the one that the values show, and it is said."""

import io

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from embeddings.decode import open_grey
from tests.support.decoded import decode
from tests.support.dicom_files import chest, dataset, file_bytes

LIMIT = 10**7
VALUES = chest(side=160, bits=12)
OTHERS = chest(seed=3, side=160, bits=12)
UNIT = VALUES / 4095


def unit(data):
    return decode(data, max_pixels=LIMIT).pixels_HW


def notes(data):
    return "; ".join(open_grey(data, max_pixels=LIMIT).notes)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("values", [VALUES, OTHERS])
def test_values_of_more_bits_than_are_said_do_not_wrap_around(values, bits):
    data = file_bytes(values, BitsStored=bits)
    np.testing.assert_allclose(unit(data), values / 4095, atol=1e-6)
    assert f"BitsStored, {bits}" in notes(data)
    window = file_bytes(values, BitsStored=bits, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(unit(window), values / 4095, atol=1e-3)


@pytest.mark.parametrize("values", [VALUES, OTHERS])
def test_values_at_the_top_of_their_container_are_all_read(values):
    data = file_bytes(values << 4, BitsStored=12, HighBit=15)
    np.testing.assert_allclose(unit(data), values / 4095, atol=1e-3)


@pytest.mark.parametrize("bit", [12, 15])
def test_an_overlay_in_the_upper_bits_is_no_part_of_the_picture(bit):
    overlay = np.zeros_like(VALUES)
    overlay[40:60, 30:90] = 1
    data = file_bytes(VALUES | overlay << bit, BitsStored=12)
    np.testing.assert_allclose(unit(data), UNIT, atol=1e-6)
    assert notes(data) == ""


def test_left_over_upper_bits_are_no_part_of_the_picture():
    data = file_bytes(VALUES | np.uint16(0xF000), BitsStored=12)
    np.testing.assert_allclose(unit(data), UNIT, atol=1e-6)


@pytest.mark.parametrize(("values", "bits"), [(VALUES, 12), (OTHERS << 4, 16)])
def test_a_sign_that_no_value_has_is_not_read(values, bits):
    data = file_bytes(values, BitsStored=bits, PixelRepresentation=1)
    np.testing.assert_allclose(unit(data), values / values.max(), atol=1e-3)
    assert "have a sign, and they have none" in notes(data)


@pytest.mark.parametrize("bits", [12, 13, 16])
@pytest.mark.parametrize("values", [VALUES, OTHERS])
def test_true_signs_are_read(values, bits):
    signed = (values.astype(np.int32) - 2048).astype(np.int16)
    data = file_bytes(signed, BitsStored=bits)
    np.testing.assert_allclose(unit(data), values / 4095, atol=1e-3)
    assert "sign" not in notes(data)


def test_a_sign_is_read_beside_sharp_marks_and_padding():
    signed = (VALUES.astype(np.int32) - 2048).astype(np.int16)
    signed[:, :20], signed[10:30, 50:90] = -2048, 2047
    data = file_bytes(signed, BitsStored=12, PixelPaddingValue=-2048)
    assert "sign" not in notes(data)
    assert unit(data)[20, 60] == 1 and unit(data)[20, 5] == 0


def compressed(syntax, **tags):
    """Values of 12 bits without a sign, packed as such, with other tags beside them."""
    made = dataset(VALUES, BitsStored=12)
    made.compress(syntax, generate_instance_uid=False)
    for name, value in tags.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"BitsStored": 8, "HighBit": 7},
        {"BitsStored": 10, "HighBit": 9},
        {"PixelRepresentation": 1},
        {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15},
    ],
)
def test_packed_values_are_what_they_were_whatever_the_tags_say(syntax, tags):
    np.testing.assert_allclose(unit(compressed(syntax, **tags)), UNIT, atol=1e-3)
