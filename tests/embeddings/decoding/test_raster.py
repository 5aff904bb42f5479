"""One picture in the many forms that PNG, JPEG and TIFF come in: always the same grey values."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from embeddings.decode import DecodeError, open_grey
from tests.support.decoded import decode
from tests.support.dicom_files import chest

LIMIT = 10**7
EIGHT_HW = np.rint(chest(bits=16) / 257).astype(np.uint8)
UNIT_HW = EIGHT_HW / 255


def unit(data, white=None):
    return decode(data, max_pixels=LIMIT, white=white).pixels_HW


def png(values, *, kind=0, sbit=None):
    """A PNG of 16 bits a channel, written by hand: Pillow writes grey alone."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        chunk(b"sBIT", sbit) if sbit else b"",
        chunk(b"IDAT", zlib.compress(raw)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values, *, photometric=1, bits=16, order="<", compression=None):
    """A grey TIFF of 16 bits with the photometric interpretation asked for."""
    stream = io.BytesIO()
    if compression:
        image = Image.fromarray(values)
        image.save(stream, "TIFF", compression=compression, tiffinfo={262: photometric})
        return stream.getvalue()
    height, width = values.shape
    data = values.astype(f"{order}u2").tobytes()
    tags = [
        *((256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)),
        *((273, 4, 0), (277, 3, 1), (278, 3, height), (279, 4, len(data))),
    ]
    offset = 8 + 2 + 12 * len(tags) + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, value in tags:
        value = offset if tag == 273 else value
        head += struct.pack(f"{order}HHI", tag, kind, 1)
        head += struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    return head + struct.pack(f"{order}I", 0) + data


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("write", [png, tiff])
def test_few_bits_in_sixteen_are_as_bright_as_eight(write, bits):
    values = chest(bits=bits)
    np.testing.assert_allclose(unit(write(values)), UNIT_HW, atol=0.005)
    grey = open_grey(write(values), max_pixels=LIMIT)
    assert (grey.open_bits, grey.bit_depth) == (bits, 16)


def test_the_pools_white_wins_over_the_scans_own():
    values = chest(bits=10)
    np.testing.assert_allclose(unit(png(values), white=4095), values / 4095, atol=1e-6)


def test_values_above_the_white_are_white():
    got = unit(png(chest(bits=12)), white=1000)
    assert got.max() == 1.0


def test_png_says_its_bits():
    dark = (chest(bits=12) // 8).astype(np.uint16)
    np.testing.assert_allclose(unit(png(dark, sbit=b"\x0c"), white=65535), dark / 4095, atol=1e-6)
    assert open_grey(png(dark, sbit=b"\x0c"), max_pixels=LIMIT).open_bits is None


def test_png_that_scales_its_bits_up_as_the_standard_asks():
    values = (chest(bits=12) << 4).astype(np.uint16)
    np.testing.assert_allclose(unit(png(values, sbit=b"\x0c")), values / 65535, atol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_in_sixteen_bits(order):
    values = chest(bits=16)
    np.testing.assert_allclose(unit(tiff(65535 - values, photometric=0, order=order)), values / 65535, atol=1e-6)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_in_a_compressed_tiff(compression):
    values = chest(bits=16)
    data = tiff(65535 - values, photometric=0, compression=compression)
    np.testing.assert_allclose(unit(data), values / 65535, atol=1e-6)


@pytest.mark.parametrize("top", [4095, 65535])
def test_white_is_zero_of_twelve_bits_whichever_end_it_was_turned_at(top):
    values = chest(bits=12)
    np.testing.assert_allclose(unit(tiff(top - values, photometric=0)), values / 4095, atol=1e-6)


def test_white_is_zero_in_eight_bits_and_in_floating_point():
    unit_HW = UNIT_HW.astype(np.float32)
    for values in (EIGHT_HW, 1 - unit_HW):  # Pillow turns 8 bits around when it writes them so
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "TIFF", tiffinfo={262: 0})
        assert Image.open(io.BytesIO(stream.getvalue())).tag_v2[262] == 0
        np.testing.assert_allclose(unit(stream.getvalue()), UNIT_HW, atol=0.005)


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [12, 16])
def test_deep_colour_keeps_its_depth(kind, channels, bits):
    values = np.repeat(chest(bits=bits)[:, :, None], channels, axis=2)
    np.testing.assert_allclose(unit(png(values, kind=kind)), chest(bits=bits) / (2**bits - 1), atol=1e-5)


def test_deep_colour_is_luminance():
    values = np.zeros((8, 8, 3), np.uint16)
    values[:4, :, 1], values[:, :, 2] = 60000, 5000
    want = (0.587 * values[:, :, 1] + 0.114 * values[:, :, 2]) / 65535
    np.testing.assert_allclose(unit(png(values, kind=2)), want, atol=1e-4)


def test_a_deep_picture_shows_a_thousand_greys_and_more():
    grey = open_grey(png(chest(side=256, bits=12)), max_pixels=LIMIT)
    assert len(np.unique(np.asarray(grey.full_depth()))) >= 1000
    assert len(np.unique(np.asarray(grey.eight_bit()))) <= 256


def test_a_flat_picture_stays_flat():
    stream = io.BytesIO()
    Image.fromarray(EIGHT_HW).save(stream, "PNG")
    grey = open_grey(stream.getvalue(), max_pixels=LIMIT)
    assert grey.full_depth().mode == "L" and grey.open_bits is None


def pages(*kinds):
    """A TIFF of pages, each `(values, NewSubfileType)`."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number, (values, kind) in enumerate(kinds, 1):
        height, width = values.shape
        data = len(out) + 2 + 12 * 10 + 4
        tags = [
            *((254, 4, kind), (256, 4, width), (257, 4, height), (258, 4, 8), (259, 4, 1), (262, 4, 1)),
            *((273, 4, data), (277, 4, 1), (278, 4, height), (279, 4, values.size)),
        ]
        out += struct.pack("<H", 10) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        out += struct.pack("<I", data + values.size if number < len(kinds) else 0) + values.tobytes()
    return bytes(out)


@pytest.mark.parametrize("kind", [1, 4])
def test_a_small_copy_or_a_mask_before_the_scan_is_passed_by(kind):
    data = pages((EIGHT_HW[::4, ::4].copy(), kind), (EIGHT_HW, 0))
    np.testing.assert_allclose(unit(data), UNIT_HW, atol=1e-6)
    assert open_grey(data, max_pixels=LIMIT).notes == ("page 2 of 2",)


def test_of_several_pages_the_first_is_read_and_it_is_said():
    data = pages((EIGHT_HW, 2), (255 - EIGHT_HW, 2), (EIGHT_HW[::4, ::4].copy(), 1))
    np.testing.assert_allclose(unit(data), UNIT_HW, atol=1e-6)
    assert open_grey(data, max_pixels=LIMIT).notes == ("page 1 of 3",)


def test_a_blank_page_of_several_is_told_by_its_number():
    with pytest.raises(DecodeError, match=r"same value \(page 1 of 2\)"):
        open_grey(pages((np.full_like(EIGHT_HW, 7), 0), (EIGHT_HW, 0)), max_pixels=LIMIT)


def test_a_page_that_leads_nowhere_costs_nothing():
    data = bytearray(pages((EIGHT_HW, 0)))
    data[8 + 2 + 120 : 8 + 2 + 124] = struct.pack("<I", 2**31)
    np.testing.assert_allclose(unit(bytes(data)), UNIT_HW, atol=1e-6)


def plain_tiff(data, bits, sample_format):
    """A grey TIFF of the bytes of its values."""
    tags = [
        *((256, EIGHT_HW.shape[1]), (257, EIGHT_HW.shape[0]), (258, bits), (259, 1), (262, 1), (273, 8 + 2 + 120 + 4)),
        *((277, 1), (278, EIGHT_HW.shape[0]), (279, len(data)), (339, sample_format)),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags)
    return head + struct.pack("<I", 0) + data


def test_signed_bytes_and_unsigned_words_of_a_tiff_do_not_wrap_around():
    signed = (EIGHT_HW.astype(np.int16) - 128).astype(np.int8)
    np.testing.assert_allclose(unit(plain_tiff(signed.tobytes(), 8, 2)), UNIT_HW, atol=1e-6)
    words = EIGHT_HW.astype("<u4") * np.uint32(0x01010101)
    low, high = UNIT_HW.min(), UNIT_HW.max()
    want = (UNIT_HW - low) / (high - low)
    np.testing.assert_allclose(unit(plain_tiff(words.tobytes(), 32, 1)), want, atol=1e-3)


@pytest.mark.parametrize("bits", [4, 6])
def test_png_says_its_bits_of_eight_too(bits):
    stream = io.BytesIO()
    Image.fromarray(EIGHT_HW >> (8 - bits)).save(stream, "PNG")
    plain = stream.getvalue()
    said = struct.pack(">I", 1) + b"sBIT" + bytes([bits])
    said += struct.pack(">I", zlib.crc32(said[4:]))
    np.testing.assert_allclose(unit(plain[:33] + said + plain[33:]), UNIT_HW, atol=1.1 / (1 << bits))
    scaled = io.BytesIO()
    Image.fromarray(EIGHT_HW).save(scaled, "PNG")
    np.testing.assert_allclose(unit(scaled.getvalue()[:33] + said + scaled.getvalue()[33:]), UNIT_HW, atol=1e-6)


@pytest.mark.parametrize("write", [png, tiff])
@pytest.mark.parametrize("bits", [10, 12])
def test_a_mark_at_the_top_of_the_container_does_not_make_the_picture_black(write, bits):
    values = chest(bits=bits)
    values[5:9, 5:20] = 65535
    shown = open_grey(write(values), max_pixels=LIMIT)
    assert shown.open_bits == bits
    np.testing.assert_allclose(shown.to_unit(), np.clip(values / (2**bits - 1), 0, 1), atol=1e-6)
