"""What is said of a file that is no scan: its kind, and nothing of its content."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from embeddings.decode import open_grey
from embeddings.decoding.unusable import DecodeError
from tests.embeddings.decoding.test_raster import EIGHT_HW, tiff


def refusal(data):
    with pytest.raises(DecodeError) as caught:
        open_grey(data, max_pixels=10**7)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("AVIF", "a HEIC or AVIF"),
        ("BMP", "a BMP"),
        ("WEBP", "a WebP"),
        ("PPM", "a PGM"),
        ("GIF", "a GIF"),
        ("JPEG2000", "a JPEG 2000"),
    ],
)
def test_other_pictures_are_named(kind, words):
    stream = io.BytesIO()
    Image.fromarray(EIGHT_HW).save(stream, kind)
    assert f"its first bytes are those of {words} picture" in refusal(stream.getvalue()) or words == "a GIF"
    assert words in refusal(stream.getvalue())


def test_arrays_volumes_and_pointers_are_named():
    stream = io.BytesIO()
    np.save(stream, EIGHT_HW)
    assert "a NumPy array" in refusal(stream.getvalue())
    assert "a NIfTI volume" in refusal(b"\x5c\x01\0\0" + b"\0" * 340 + b"n+1\0" + b"\0" * 99)
    assert "Git LFS" in refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert "text in JSON" in refusal(b'{"error": "not here"}')


@pytest.mark.parametrize(
    ("marker", "words"), [(0xC3, "a lossless JPEG with 12 bits"), (0xC1, "a JPEG with 12 bits"), (0xF7, "a JPEG-LS")]
)
def test_a_jpeg_that_only_dicom_holds_says_which(marker, words):
    frame = bytes((0xFF, marker)) + struct.pack(">HBHHB", 11, 12, 8, 8, 1) + b"\x01\x11\x00"
    assert words in refusal(b"\xff\xd8\xff\xfe\x00\x04ab" + frame + b"\0" * 20)


@pytest.mark.parametrize("bits", [10, 14, 64])
def test_a_tiff_of_unusual_bits_says_how_many(bits):
    assert f"a TIFF with {bits} bits a value" in refusal(tiff(EIGHT_HW.astype(np.uint16), bits=bits))


def test_broken_heads_end():
    for head in (b"\xff\xd8\xff", b"\xff\xd8\xff\xff\xff\xff\xff", b"\xff\xd8\xff\xe0\x00\x00\xff\xe0", b"II*\0\x08"):
        assert refusal(head)
