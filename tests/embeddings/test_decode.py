import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from embeddings.decode import DecodeError, load_square, open_grey, read_bytes, resize
from embeddings.decoding import raster
from tests.support.decoded import decode

LIMIT = 10_000_000


def picture(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def file_bytes(image, kind, **options):
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_8_bit_grey_is_divided_by_255(kind):
    pixels = picture()
    got = decode(file_bytes(pixels, kind), max_pixels=LIMIT)
    np.testing.assert_array_equal(got.pixels_HW, pixels.astype(np.float32) / np.float32(255))
    assert (got.width_px, got.height_px, got.bit_depth, got.format) == (60, 40, 8, kind)
    assert got.pixels_HW.dtype == np.float32


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_depth(kind):
    pixels = np.random.default_rng(1).integers(0, 65536, (8, 9), dtype=np.uint16)
    got = decode(file_bytes(pixels, kind), max_pixels=LIMIT)
    np.testing.assert_allclose(got.pixels_HW, pixels / 65535, atol=1e-7)
    assert got.bit_depth == 16


def test_jpeg_is_close_to_its_source():
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    got = decode(file_bytes(smooth, "JPEG", quality=95), max_pixels=LIMIT)
    assert np.abs(got.pixels_HW - smooth / 255).max() < 0.03
    assert got.format == "JPEG"


def test_float_tiff_is_stretched_to_its_own_range():
    pixels = np.linspace(-1000, 3000, 48, dtype=np.float32).reshape(6, 8)
    got = decode(file_bytes(pixels, "TIFF"), max_pixels=LIMIT)
    np.testing.assert_allclose(got.pixels_HW, (pixels + 1000) / 4000, atol=1e-6)
    assert got.bit_depth == 32


def test_float_tiff_with_nan_is_refused():
    pixels = np.full((6, 8), np.nan, np.float32)
    with pytest.raises(DecodeError, match="not finite"):
        decode(file_bytes(pixels, "TIFF"), max_pixels=LIMIT)


def test_colour_becomes_luminance_and_alpha_is_dropped():
    colour = np.zeros((4, 4, 4), np.uint8)
    colour[..., 1], colour[0, ..., 0], colour[..., 3] = 200, 90, np.arange(16).reshape(4, 4)
    got = decode(file_bytes(colour, "PNG"), max_pixels=LIMIT)
    want = np.asarray(Image.fromarray(colour[..., :3]).convert("L")) / 255
    np.testing.assert_allclose(got.pixels_HW, want, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "CMYK"])
def test_every_mode_becomes_grey(mode):
    image = Image.fromarray(picture()).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    got = decode(file_bytes(image, kind), max_pixels=LIMIT)
    assert got.pixels_HW.shape == (40, 60)
    assert 0 <= got.pixels_HW.min() < got.pixels_HW.max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation_is_honoured(kind):
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :8] = 255
    if kind == "TIFF":
        data = file_bytes(pixels, kind, tiffinfo={274: 6})
    else:
        exif = Image.Exif()
        exif[274] = 6  # turn it clockwise to see it upright
        data = file_bytes(pixels, kind, exif=exif)
    got = decode(data, max_pixels=LIMIT)
    assert (got.width_px, got.height_px) == (16, 32)
    assert got.pixels_HW[:8].mean() > 0.9 > 0.1 > got.pixels_HW[8:].mean()


def test_first_frame_of_a_tiff_counts():
    frames = [Image.fromarray(picture(seed=seed)) for seed in (0, 1)]
    data = file_bytes(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(data, max_pixels=LIMIT).pixels_HW, picture(seed=0) / 255, atol=1e-6)


def test_too_many_pixels_are_refused_before_decoding():
    data = file_bytes(picture(), "PNG")
    broken = data[: len(data) // 2]  # decoding the pixels would fail with another reason
    with pytest.raises(DecodeError, match="60 x 40 = 2,400 pixels are over the limit of 2,399"):
        decode(broken, max_pixels=2399)


def test_decompression_bomb_is_refused_without_a_warning(monkeypatch):
    bomb = file_bytes(Image.new("1", (12_000, 12_000)), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("its pixels were read"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DecodeError, match="144,000,000 pixels"):
            decode(bomb, max_pixels=100_000_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_truncated_file_is_refused(kind):
    data = file_bytes(picture(200, 200), kind)
    with pytest.raises(DecodeError):
        decode(data[: len(data) // 2], max_pixels=LIMIT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"The archive could not export this.", r"first bytes are text\.?$"),
        (b"%PDF-1.7 Doe, Jane", r"those of a PDF\.?$"),
        (b"\x00\x01\x02\x03" * 9, r"those of no picture\.?$"),
        (b"\0" * 128 + b"DICM", "DICOM"),
        (b"\x89PNG\r\n\x1a\n", "."),
    ],
)
def test_what_is_no_image_is_named(data, reason):
    with pytest.raises(DecodeError, match=reason):
        decode(data, max_pixels=LIMIT)


def test_a_reason_quotes_nothing_of_a_file():
    quoted = (
        "invalid literal for int(): 'Miller'",
        "VR DA: b'19600102'",
        "value Doe^Jane of tag (0010,0010)",
        "MRN-9981234",
    )
    texts = [raster.short(ValueError(text)) for text in quoted]
    assert texts == ["invalid literal for int(): …", "VR DA: …", "value … of tag (0010,0010)", "…"]
    assert raster.short(ValueError("image file is truncated (3 bytes)")) == "image file is truncated (3 bytes)"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_blank_picture_is_refused(dtype):
    data = file_bytes(np.full((10, 12), 7, dtype), "TIFF")
    with pytest.raises(DecodeError, match="all 12 x 10 pixels have the same value"):
        decode(data, max_pixels=LIMIT)


def test_resize_squashes_the_whole_scan_with_antialiasing():
    stripes = np.zeros((64, 128), np.float32)
    stripes[:, ::2] = 1
    small = resize(stripes, 32)
    assert small.shape == (32, 32)
    assert small.dtype == np.float32
    assert np.abs(small - 0.5).max() < 0.1
    assert resize(small, 32) is small


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_load_square_agrees_with_decode_and_resize(dtype):
    pixels = picture(90, 70).astype(dtype) * (1 if dtype is np.uint8 else 257)
    data = file_bytes(pixels, "PNG")
    got = load_square(data, 32, LIMIT)
    assert got.shape == (1, 32, 32)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], resize(decode(data, max_pixels=LIMIT).pixels_HW, 32), atol=1.01 / 255)


def test_eight_bit_of_a_deep_scan():
    pixels = np.array([[0, 65535], [32768, 257]], np.uint16)
    grey = open_grey(file_bytes(pixels, "PNG"), max_pixels=LIMIT)
    np.testing.assert_array_equal(np.asarray(grey.eight_bit()), [[0, 255], [128, 1]])


@pytest.mark.objectstore
def test_read_bytes_local_and_remote(tmp_path):
    import fsspec

    (tmp_path / "a b.bin").write_bytes(b"123")
    assert read_bytes(str(tmp_path / "a b.bin")) == b"123"
    with fsspec.open("memory://decode/x.bin", "wb") as stream:
        stream.write(b"45")
    assert read_bytes("memory://decode/x.bin") == b"45"


def test_read_bytes_says_why_not(tmp_path):
    with pytest.raises(DecodeError, match="missing"):
        read_bytes(str(tmp_path / "none.png"))
    with pytest.raises(DecodeError, match="folder"):
        read_bytes(str(tmp_path))
